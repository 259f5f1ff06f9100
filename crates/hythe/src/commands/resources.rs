//! From what people type (`po`, `deploy`, `pods.v1`, a kind) to the API's paths, by the server's discovery.

use anyhow::{Result, bail};
use http::Method;
use serde_json::Value;

use super::session::Session;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One resource that the server serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// Empty for the core group.
    pub group: String,
    /// The preferred one comes first.
    pub version: String,
    /// For instance `Pod`.
    pub kind: String,
    /// For instance `pods`.
    pub plural: String,
    singular: String,
    short: Vec<String>,
    categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    listable: bool,
}

/// All that the server serves.
pub struct Resources(Vec<Served>);

impl Resources {
    /// Asks the server.
    pub async fn discover(session: &Session) -> Result<Self> {
        let mut all = Vec::new();
        for path in ["/api", "/apis"] {
            let document = session.call(Method::GET, path, AGGREGATED, "application/json", Vec::new()).await?;
            for group in list(&document, "items") {
                for version in list(group, "versions") {
                    for resource in list(version, "resources") {
                        all.push(Served {
                            group: text(&group["metadata"], "name"),
                            version: text(version, "version"),
                            kind: text(&resource["responseKind"], "kind"),
                            plural: text(resource, "resource"),
                            singular: text(resource, "singularResource"),
                            short: strings(resource, "shortNames"),
                            categories: strings(resource, "categories"),
                            namespaced: resource["scope"] == "Namespaced",
                            listable: strings(resource, "verbs").iter().any(|v| v == "list"),
                        });
                    }
                }
            }
        }
        Ok(Self(all))
    }

    /// By any of its names, or several by category (`all`), comma-separated.
    pub fn named(&self, names: &str) -> Result<Vec<&Served>> {
        let mut found = Vec::new();
        for name in names.split(',') {
            let lower = name.to_ascii_lowercase();
            let (word, group) = match lower.split_once('.') {
                Some((word, group)) => (word, Some(group)),
                None => (lower.as_str(), None),
            };
            let one = self.0.iter().find(|r| {
                let called = r.plural == word
                    || r.singular == word
                    || r.kind.eq_ignore_ascii_case(word)
                    || r.short.iter().any(|s| s == word);
                called
                    && group.is_none_or(|g| g == r.group || g == r.version || g == format!("{}.{}", r.version, r.group))
            });
            let before = found.len();
            match one {
                Some(one) => found.push(one),
                None => found.extend(self.0.iter().filter(|r| r.listable && r.categories.contains(&lower))),
            }
            if found.len() == before {
                bail!("the server doesn't have a resource type {name:?}");
            }
        }
        Ok(found)
    }

    /// By the `apiVersion` and `kind` of an object.
    pub fn of_object(&self, object: &Value) -> Result<&Served> {
        let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        match self.0.iter().find(|r| r.group == group && r.version == version && r.kind == kind) {
            Some(found) => Ok(found),
            None => bail!("no matches for kind {kind:?} in version {api_version:?}"),
        }
    }
}

impl Served {
    /// The path of one object, or of the collection without a name.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if let Some(name) = name {
            path += &format!("/{name}");
        }
        path
    }

    /// `pod/web`, `deployment.apps/web`: as kubectl names objects.
    pub fn display(&self, name: &str) -> String {
        match self.group.as_str() {
            "" => format!("{}/{name}", self.singular),
            group => format!("{}.{group}/{name}", self.singular),
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    list(value, key).filter_map(|v| v.as_str()).map(str::to_owned).collect()
}
