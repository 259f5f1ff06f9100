//! What a client says to the frontend (`dockerfile.v0`): attributes in, a description of the build out. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cache::LocalCache;
use crate::wire::FrontendRequest;

/// One build, as far as its attributes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// The Dockerfile's path in its directory.
    pub filename: String,
    /// The client's name for the directory of the Dockerfile.
    pub dockerfile_directory: String,
    /// The Dockerfile is the client's even where the context is not.
    pub own_dockerfile: bool,
    /// The client's name for the directory of the context.
    pub context_directory: String,
    /// A context that is none of the client's directories: a URL.
    pub remote: Option<String>,
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub no_cache: bool,
    pub no_cache_stages: Vec<String>,
    pub pull: bool,
    pub platform: Option<String>,
    /// `default`, `host` or `none`.
    pub network: String,
    pub extra_hosts: Vec<(String, String)>,
    pub shm_size: Option<u64>,
    /// Name, soft and hard limit.
    pub ulimits: Vec<(String, i64, i64)>,
    pub resources: engine::Resources,
    /// Images that steps may be taken from.
    pub cache_from: Vec<String>,
    /// Directories of the client's with caches.
    pub local_caches: Vec<LocalCache>,
    /// Remarks on what is asked for and not done.
    pub remarks: Vec<String>,
    /// `--build-context`: names and what they stand for.
    pub contexts: BTreeMap<String, Named>,
    /// The context is this archive.
    pub archive: Option<std::path::PathBuf>,
    /// Other sessions that have a directory, by its name.
    pub sessions: BTreeMap<String, String>,
    /// A question about the Dockerfile in place of a build.
    pub question: Option<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Image(String),
    /// The client's directory of that name.
    Local(String),
    /// A repository of git, by its address.
    Repository(String),
    /// The result of another build, by the reference that was handed out for it.
    Input(String),
}

/// What Go's `strconv.ParseBool` takes for true.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True")
}

/// Reads them. Errors are words for the user.
pub(crate) fn describe(request: &FrontendRequest) -> Result<Description, String> {
    if request.has_definition {
        return Err("this builder takes Dockerfiles: build graphs of a client's own making are not supported".into());
    }
    let attributes = &request.attributes;
    let get = |key: &str| attributes.get(key).map(String::as_str).filter(|value| !value.is_empty());
    frontend(&request.frontend, get("source"))?;
    let mut description = Description {
        filename: get("filename").unwrap_or("Dockerfile").to_owned(),
        dockerfile_directory: get("dockerfilekey").unwrap_or("dockerfile").to_owned(),
        own_dockerfile: attributes.contains_key("dockerfilekey"),
        context_directory: "context".into(),
        remote: get(get("contextkey").unwrap_or("context")).map(str::to_owned),
        target: get("target").map(str::to_owned),
        args: below(attributes, "build-arg:"),
        labels: below(attributes, "label:"),
        pull: match get("image-resolve-mode") {
            None | Some("default" | "local") => false,
            Some("pull") => true,
            Some(other) => return Err(format!("invalid image-resolve-mode: {other}")),
        },
        network: match get("force-network-mode") {
            None | Some("sandbox") => "default".into(),
            Some(mode @ ("host" | "none")) => mode.to_owned(),
            Some(other) => return Err(format!("invalid netmode {other}")),
        },
        shm_size: get("shm-size").map(number).transpose()?.filter(|size| *size > 0),
        resources: resources(&get)?,
        question: get("requestid").map(str::to_owned),
        sessions: below(attributes, "local-sessionid:"),
        archive: request.archive.clone(),
        ..Description::default()
    };
    match attributes.get("no-cache").map(String::as_str) {
        None => {}
        Some("") => description.no_cache = true,
        Some(stages) => description.no_cache_stages = stages.split(',').map(str::to_owned).collect(),
    }
    platform(&mut description, &get)?;
    for field in fields(get("add-hosts").unwrap_or_default()) {
        let (name, address) = field.split_once('=').ok_or_else(|| format!("invalid key-value pair {field}"))?;
        if address != "host-gateway" {
            address.parse::<std::net::IpAddr>().map_err(|_| format!("failed to parse IP {address}"))?;
        }
        description.extra_hosts.push((name.to_ascii_lowercase(), address.to_owned()));
    }
    for field in fields(get("ulimit").unwrap_or_default()) {
        description.ulimits.push(ulimit(field)?);
    }
    cache_imports(&mut description, &get)?;
    for (name, value) in below(attributes, "context:") {
        // A context for a foreign platform is of no use here; one for ours is its name's.
        let name = name.split("::").next().unwrap_or_default().to_owned();
        description.contexts.insert(name.clone(), named(&name, &value)?);
    }
    for key in attributes.keys().filter(|key| key.starts_with("attest:")) {
        let off = attributes[key].split(',').any(|part| matches!(part, "disabled=true" | "inline-only=true"));
        if !off {
            return Err(format!(
                "attestations are not supported by this builder: {}",
                key.trim_start_matches("attest:")
            ));
        }
    }
    Ok(description)
}

/// This builder is the frontend, whichever version of it a Dockerfile or an argument asks for.
fn frontend(name: &str, source: Option<&str>) -> Result<(), String> {
    let of_docker = |image: &str| {
        let image = image.strip_prefix("docker.io/").unwrap_or(image);
        image.starts_with("docker/dockerfile")
    };
    match (name, source) {
        ("dockerfile.v0", _) => Ok(()),
        ("gateway.v0", Some(image)) if of_docker(image) => Ok(()),
        ("gateway.v0", image) => Err(format!(
            "frontend image {} is not supported: this builder takes Dockerfiles",
            image.unwrap_or_default()
        )),
        (other, _) => Err(format!("invalid frontend: {other}")),
    }
}

fn platform<'a>(description: &mut Description, get: &impl Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    let Some(platforms) = get("platform") else { return Ok(()) };
    let all: Vec<&str> = platforms.split(',').collect();
    match all.as_slice() {
        [one] => description.platform = Some((*one).to_owned()),
        _ => return Err(format!("images for several platforms ({platforms}) can't be built by this builder")),
    }
    Ok(())
}

fn named(name: &str, value: &str) -> Result<Named, String> {
    let (kind, rest) = value.split_once(':').ok_or_else(|| format!("invalid context specifier {value} for {name}"))?;
    match kind {
        "docker-image" => Ok(Named::Image(rest.trim_start_matches('/').to_owned())),
        "local" => Ok(Named::Local(rest.to_owned())),
        "input" => Ok(Named::Input(rest.to_owned())),
        "git" | "ssh" | "http" | "https" if builder::Repository::parse(value).is_some() => {
            Ok(Named::Repository(value.to_owned()))
        }
        "git" | "http" | "https" | "oci-layout" => {
            Err(format!("the context {name}={value} is not supported by this builder: use a directory or an image"))
        }
        _ => Err(format!("unsupported context source {kind} for {name}")),
    }
}

/// What `cache-imports` holds, in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Import {
    r#type: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

fn cache_imports<'a>(description: &mut Description, get: &impl Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    let imports = get("cache-imports").unwrap_or("[]");
    let imports: Vec<Import> =
        serde_json::from_str(imports).map_err(|error| format!("failed to unmarshal cache-imports: {error}"))?;
    for import in imports {
        let get = |key: &str| import.attrs.get(key).cloned();
        match (import.r#type.as_str(), get("ref"), get("src"), get("digest")) {
            ("registry", Some(image), ..) => description.cache_from.push(image),
            ("local", _, Some(path), Some(digest)) => description.local_caches.push(LocalCache { path, digest }),
            (kind, ..) => description.remarks.push(format!(
                "nothing is taken from a cache of type {kind}: this builder takes those of types registry and local"
            )),
        }
    }
    description
        .cache_from
        .extend(get("cache-from").unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned));
    Ok(())
}

fn resources<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<engine::Resources, String> {
    let signed = |key: &str| get(key).map(number::<i64>).transpose();
    let unsigned = |key: &str| get(key).map(number::<u64>).transpose();
    Ok(engine::Resources {
        memory_limit: signed("memory")?,
        memory_swap: signed("memswap")?,
        cpu_shares: unsigned("cpushares")?,
        cpu_period: unsigned("cpuperiod")?,
        cpu_quota: signed("cpuquota")?,
        cpuset_cpus: get("cpusetcpus").map(str::to_owned),
        cpuset_mems: get("cpusetmems").map(str::to_owned),
        ..engine::Resources::default()
    })
}

/// `nofile=1024:2048`
fn ulimit(text: &str) -> Result<(String, i64, i64), String> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| text.parse::<i64>().map_err(|_| invalid());
    Ok((name.to_owned(), limit(soft)?, limit(hard)?))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("invalid number: {text}"))
}

/// Fields between commas; a quoted one may hold some.
fn fields(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(|part| part.trim_matches('"')).filter(|part| !part.is_empty()).collect()
}

fn below(attributes: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    let own = attributes.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())));
    own.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&str, &str)]) -> FrontendRequest {
        let attributes = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        FrontendRequest { frontend: "dockerfile.v0".into(), attributes, ..FrontendRequest::default() }
    }

    #[test]
    fn attributes_describe_a_build() {
        let found = describe(&request(&[
            ("filename", "sub/D"),
            ("build-arg:A", "1"),
            ("label:l", ""),
            ("no-cache", "x,y"),
            ("image-resolve-mode", "pull"),
            ("platform", "linux/amd64"),
            ("add-hosts", "Db=10.0.0.1,\"six=::1\""),
            ("ulimit", "nofile=10:20,core=-1"),
            ("memory", "1000"),
            (
                "cache-imports",
                r#"[{"Type":"registry","Attrs":{"ref":"a/b"}},{"Type":"gha"},{"Type":"local","Attrs":{"src":"/c","digest":"d"}}]"#,
            ),
            ("context:base", "docker-image://alpine"),
            ("context:files::linux/amd64", "local:files"),
            ("force-network-mode", "none"),
        ]))
        .unwrap();
        assert_eq!((found.filename.as_str(), found.args["A"].as_str(), found.labels["l"].as_str()), ("sub/D", "1", ""));
        assert_eq!((found.no_cache, found.no_cache_stages.len(), found.pull), (false, 2, true));
        assert_eq!(found.extra_hosts, [("db".into(), "10.0.0.1".into()), ("six".into(), "::1".into())]);
        assert_eq!(found.ulimits, [("nofile".into(), 10, 20), ("core".into(), -1, -1)]);
        assert_eq!((found.cache_from, found.remarks.len()), (vec!["a/b".to_owned()], 1));
        assert_eq!(found.local_caches, [LocalCache { path: "/c".into(), digest: "d".into() }]);
        assert_eq!(found.contexts["base"], Named::Image("alpine".into()));
        assert_eq!(found.contexts["files"], Named::Local("files".into()));
        assert_eq!((found.network.as_str(), found.resources.memory_limit), ("none", Some(1000)));
        assert!(describe(&request(&[("no-cache", "")])).unwrap().no_cache);
    }

    #[test]
    fn what_this_builder_does_not_do_is_said() {
        let said = |pairs: &[(&str, &str)]| describe(&request(pairs)).unwrap_err();
        assert!(said(&[("platform", "linux/amd64,linux/arm64")]).contains("several platforms"));
        assert!(said(&[("attest:sbom", "")]).contains("attestations"));
        assert!(said(&[("context:x", "git:y")]).contains("is not supported"));
        assert_eq!(said(&[("context:x", "y")]), "invalid context specifier y for x");
        assert_eq!(said(&[("image-resolve-mode", "x")]), "invalid image-resolve-mode: x");
        assert_eq!(said(&[("add-hosts", "x=y")]), "failed to parse IP y");
        assert_eq!(said(&[("memory", "x")]), "invalid number: x");
        let frontend = |frontend: &str, source: &str| {
            describe(&FrontendRequest { frontend: frontend.into(), ..request(&[("source", source)]) }).map(drop)
        };
        assert_eq!(frontend("gateway.v0", "docker/dockerfile:1.7"), Ok(()));
        assert!(frontend("gateway.v0", "other/frontend").unwrap_err().contains("other/frontend"));
        assert_eq!(frontend("x", ""), Err("invalid frontend: x".to_owned()));
    }
}
