//! From a URL path to what it names.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path below `/api/v1` or `/apis/{group}/{version}` that names a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// Empty for core.
    pub group: String,
    /// For instance `v1`.
    pub version: String,
    /// Empty for cluster scope and for lists over all namespaces.
    pub namespace: String,
    /// Plural, for instance `pods`.
    pub resource: String,
    /// Empty for collections.
    pub name: String,
    /// Empty for the resource itself.
    pub subresource: String,
    /// What follows the subresource (only `proxy` takes more).
    pub rest: String,
    /// The deprecated `/watch/` form.
    pub watch: bool,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A resource, its collection or its subresource.
    Resource(ResourcePath),
    /// Discovery, health, metrics and so on: the path without a trailing slash.
    Other,
}

/// Splits a path. Anything that is not a resource path is [`Route::Other`].
pub fn parse(path: &str) -> Route {
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    let (group, version) = match segments.next() {
        Some("api") => ("", segments.next()),
        Some("apis") => match segments.next() {
            Some(group) => (group, segments.next()),
            None => return Route::Other,
        },
        _ => return Route::Other,
    };
    let Some(version) = version else { return Route::Other };
    let mut rest: Vec<Cow<'_, str>> = segments.map(|s| percent_decode_str(s).decode_utf8_lossy()).collect();
    let mut out = ResourcePath { group: group.into(), version: version.into(), ..ResourcePath::default() };
    if rest.first().is_some_and(|s| s == "watch") {
        out.watch = true;
        rest.remove(0);
    }
    if rest.is_empty() {
        return Route::Other;
    }
    if rest[0] == "namespaces" && rest.len() > 2 && !(rest.len() == 3 && matches!(&*rest[2], "status" | "finalize")) {
        out.namespace = rest[1].to_string();
        rest.drain(..2);
    }
    let mut rest = rest.into_iter();
    let mut take = || rest.next().map(Cow::into_owned).unwrap_or_default();
    out.resource = take();
    out.name = take();
    out.subresource = take();
    out.rest = rest.collect::<Vec<_>>().join("/");
    Route::Resource(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match parse(path) {
            Route::Resource(r) => r,
            Route::Other => panic!("{path} is a resource path"),
        }
    }

    #[test]
    fn a_namespaced_subresource_is_taken_apart() {
        let r = resource("/apis/apps/v1/namespaces/shop/deployments/web/scale");
        assert_eq!(
            (&*r.group, &*r.version, &*r.namespace, &*r.resource, &*r.name, &*r.subresource),
            ("apps", "v1", "shop", "deployments", "web", "scale")
        );
    }

    #[test]
    fn a_namespace_and_its_subresources_are_cluster_scoped() {
        let r = resource("/api/v1/namespaces/shop");
        assert_eq!((&*r.namespace, &*r.resource, &*r.name), ("", "namespaces", "shop"));
        let r = resource("/api/v1/namespaces/shop/finalize");
        assert_eq!((&*r.namespace, &*r.resource, &*r.name, &*r.subresource), ("", "namespaces", "shop", "finalize"));
        let r = resource("/api/v1/namespaces/shop/pods");
        assert_eq!((&*r.namespace, &*r.resource, &*r.name), ("shop", "pods", ""));
    }

    #[test]
    fn escaped_names_are_decoded() {
        assert_eq!(resource("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode").name, "system:node");
    }

    #[test]
    fn group_and_version_alone_are_discovery() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz"] {
            assert_eq!(parse(path), Route::Other, "{path}");
        }
    }
}
