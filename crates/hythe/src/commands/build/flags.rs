//! What `hythe build` is told, as Docker's own client would be.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use builder::{Access, Agents, BuildRequest, Context, Output, Repository, RunNetwork, Source};
use clap::Args;
use tempfile::TempDir;

use super::agents::Sockets;
use crate::cli::RegistryAccess;

/// Bytes of a repository.
const MAX_REPOSITORY: u64 = 64 << 30;

/// What to build.
#[derive(Args)]
pub struct BuildFlags {
    /// The directory that the Dockerfile's files come from, or a repository (https://HOST/NAME.git#REF:DIRECTORY, or one
    /// of ssh); "-" reads an archive of it from standard input.
    context: PathBuf,
    /// The Dockerfile, anywhere; "-" reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Names for the image.
    #[arg(short, long)]
    tag: Vec<String>,
    #[command(flatten)]
    registries: RegistryAccess,
    /// The stage to stop at.
    #[arg(long)]
    target: Option<String>,
    /// NAME=value, or NAME to take it from the environment.
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// NAME=value.
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Do every step anew.
    #[arg(long)]
    no_cache: bool,
    /// Ask the registry for base images that are here.
    #[arg(long)]
    pull: bool,
    /// NAME of an image, or type=local,src=DIR that --cache-to wrote: steps done there need not be done here.
    #[arg(long, value_name = "NAME|type=local,src=DIR")]
    cache_from: Vec<String>,
    /// Write what the steps of all stages made, for --cache-from elsewhere.
    #[arg(long, value_name = "type=local,dest=DIR")]
    cache_to: Option<String>,
    /// Seen only by RUN --mount=type=secret.
    #[arg(long, value_name = "id=NAME[,src=FILE|,env=VARIABLE]")]
    secret: Vec<String>,
    /// Let RUN --mount=type=ssh, and repositories of ssh, use the keys of an agent: "default" is that of SSH_AUTH_SOCK.
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Also write the result; a bare DIR is type=local, "-" type=tar to standard output.
    #[arg(short, long, value_name = "type=oci|tar|local,dest=PATH")]
    output: Option<String>,
    /// host or none.
    #[arg(long, default_value = "host")]
    network: String,
    /// A line for /etc/hosts of RUN.
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// linux/amd64 and the like; only this machine's own can be built.
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Write the image's ID there.
    #[arg(long, value_name = "FILE")]
    pub(super) iidfile: Option<PathBuf>,
    /// Print the image's ID only.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl BuildFlags {
    /// Fetches the repository that the context is, if it is one, into a directory that goes with the build, and makes
    /// that the context.
    pub(super) async fn fetch(&mut self, scratch: &Path) -> Result<Option<TempDir>> {
        let Some(repository) = self.context.to_str().and_then(Repository::parse) else { return Ok(None) };
        let place = tempfile::tempdir_in(scratch).context("make a directory for the repository")?;
        let secrets: BTreeMap<_, _> = self.secrets()?;
        let access = Access { agents: self.agents()?, secrets: Some(Arc::new(secrets)) };
        let keep_git = self.build_arg.iter().any(|arg| arg == "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1");
        let fetched = repository.check_out(&place.path().join("repository"), MAX_REPOSITORY, keep_git, &access).await;
        self.context = fetched.map_err(anyhow::Error::msg)?.directory;
        Ok(Some(place))
    }

    fn agents(&self) -> Result<Option<Arc<dyn Agents>>> {
        let environment = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
        let sockets = || Sockets::parse(&self.ssh, environment).map(|sockets| Arc::new(sockets) as Arc<dyn Agents>);
        if self.ssh.is_empty() { Ok(None) } else { sockets().map(Some) }
    }

    fn secrets(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        self.secret.iter().map(|text| secret(text)).collect()
    }

    /// What the builder is asked for.
    pub(super) fn request(self) -> Result<BuildRequest> {
        let (secrets, agents) = (self.secrets()?, self.agents()?);
        let (context, dockerfile) = sources(&self.context, self.file.as_deref())?;
        let mut args = BTreeMap::new();
        for pair in &self.build_arg {
            match pair.split_once('=') {
                Some((name, value)) => drop(args.insert(name.to_owned(), value.to_owned())),
                // As Docker: without a value it comes from the environment, and is left out if it is not there.
                None => args.extend(std::env::var(pair).ok().map(|value| (pair.clone(), value))),
            }
        }
        let (mut cache_from, mut cache_directories) = (Vec::new(), Vec::new());
        for text in &self.cache_from {
            match cache_source(text)? {
                CacheSource::Image(name) => cache_from.push(name),
                CacheSource::Directory(path) => cache_directories.push(path),
            }
        }
        let split = |flag: &str, text: &String, by: &[char]| match text.split_once(by) {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => bail!("--{flag} {text:?}: it has no {:?}", by[0]),
        };
        let labels = self.label.iter().map(|text| split("label", text, &['='])).collect::<Result<_>>()?;
        let extra_hosts =
            self.add_host.iter().map(|text| split("add-host", text, &[':', '='])).collect::<Result<_>>()?;
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => Some(text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text:?} is no number"))?),
            Err(_) => None,
        };
        Ok(BuildRequest {
            context,
            dockerfile,
            args,
            target: self.target,
            tags: self.tag,
            labels,
            no_cache: self.no_cache,
            pull: self.pull,
            cache_from,
            cache_directories,
            cache_to: self.cache_to.as_deref().map(cache_target).transpose()?,
            secrets,
            agents,
            output: self.output.as_deref().map_or(Ok(Output::Image), output)?,
            network: match self.network.as_str() {
                "host" | "default" => RunNetwork::Host,
                "none" => RunNetwork::None,
                other => bail!("--network {other:?}: host or none"),
            },
            extra_hosts,
            platform: self.platform,
            source_date_epoch: epoch,
            pull_options: self.registries.options(),
            ..Default::default()
        })
    }
}

/// Where the files and the Dockerfile are. A Dockerfile outside the context is read here.
fn sources(context: &Path, file: Option<&Path>) -> Result<(Context, Source)> {
    let from_input = |path: &Path| path.as_os_str() == "-";
    if from_input(context) {
        if file.is_some_and(from_input) {
            bail!("the context and the Dockerfile can't both come from standard input");
        }
        let name = file.map_or("Dockerfile".into(), |file| file.display().to_string());
        return Ok((Context::Tar(Box::new(std::io::stdin())), Source::Path(name)));
    }
    if !context.is_dir() {
        bail!("path {:?} not found: the context is a directory", context.display());
    }
    let directory = Context::Directory(context.to_owned());
    let Some(file) = file else { return Ok((directory, Source::default())) };
    if from_input(file) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read the Dockerfile")?;
        return Ok((directory, Source::Text(text)));
    }
    let within = || Some(fs::canonicalize(file).ok()?.strip_prefix(fs::canonicalize(context).ok()?).ok()?.to_owned());
    if let Some(path) = within() {
        return Ok((directory, Source::Path(path.display().to_string())));
    }
    if !file.exists() && context.join(file).exists() {
        return Ok((directory, Source::Path(file.display().to_string())));
    }
    let text = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    Ok((directory, Source::Text(text)))
}

/// `key=value,…`; a field without a value stands for itself.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.split(',').map(|field| field.split_once('=').unwrap_or((field, ""))).collect()
}

enum CacheSource {
    Image(String),
    Directory(PathBuf),
}

fn cache_source(text: &str) -> Result<CacheSource> {
    if !text.contains('=') {
        return Ok(CacheSource::Image(text.to_owned()));
    }
    let fields = fields(text);
    match (fields.get("type").copied(), fields.get("src"), fields.get("ref")) {
        (Some("local"), Some(path), _) => Ok(CacheSource::Directory(path.into())),
        (Some("registry"), _, Some(name)) => Ok(CacheSource::Image((*name).to_owned())),
        _ => bail!("--cache-from {text:?}: type=local,src=DIR or type=registry,ref=NAME"),
    }
}

fn cache_target(text: &str) -> Result<PathBuf> {
    let fields = fields(text);
    match (fields.get("type").copied(), fields.get("dest")) {
        (Some("local"), Some(path)) => Ok(path.into()),
        _ => bail!("--cache-to {text:?}: type=local,dest=DIR"),
    }
}

fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let fields = fields(text);
    let id = *fields.get("id").with_context(|| format!("--secret {text:?}: id is missing"))?;
    let file = fields.get("src").or(fields.get("source"));
    let value = match (file, fields.get("env")) {
        (Some(file), _) => fs::read(file).with_context(|| format!("--secret {text}"))?,
        (None, name) => {
            let name = *name.unwrap_or(&id);
            std::env::var(name).with_context(|| format!("--secret {text}: {name} in the environment"))?.into_bytes()
        }
    };
    Ok((id.to_owned(), value))
}

fn output(text: &str) -> Result<Output> {
    if text == "-" {
        return Ok(Output::Tar(Box::new(std::io::stdout())));
    }
    if !text.contains('=') {
        return Ok(Output::Local(text.into()));
    }
    let fields = fields(text);
    let kind = fields.get("type").copied().unwrap_or_default();
    let dest = match (kind, fields.get("dest")) {
        (_, Some(dest)) => *dest,
        ("oci" | "tar", None) => "-",
        (_, None) => bail!("--output {text:?}: dest is missing"),
    };
    let writer = || -> Result<Box<dyn Write + Send>> {
        match dest {
            "-" => Ok(Box::new(std::io::stdout())),
            path => Ok(Box::new(File::create(path).with_context(|| format!("--output {text}"))?)),
        }
    };
    match kind {
        "oci" => Ok(Output::Oci(writer()?)),
        "tar" => Ok(Output::Tar(writer()?)),
        "local" => Ok(Output::Local(dest.into())),
        _ => bail!("--output {text:?}: type is oci, tar or local"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_a_type_and_a_place() {
        assert!(matches!(output("type=local,dest=/x"), Ok(Output::Local(path)) if path == Path::new("/x")));
        assert!(matches!(output("out"), Ok(Output::Local(_))));
        assert!(matches!(output("type=oci"), Ok(Output::Oci(_))));
        assert!(output("type=image,dest=/x").is_err() && output("type=local").is_err());
    }

    #[test]
    fn caches_are_images_or_directories() {
        assert!(matches!(cache_source("a:1"), Ok(CacheSource::Image(name)) if name == "a:1"));
        assert!(matches!(cache_source("type=local,src=/c"), Ok(CacheSource::Directory(_))));
        assert!(cache_source("type=gha,src=/c").is_err() && cache_target("type=inline").is_err());
    }

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        assert!(secret("src=/etc/hostname").is_err());
        assert!(secret("id=no_such_variable_here").is_err());
        assert_eq!(secret("id=p,env=PATH").unwrap().0, "p");
    }
}
