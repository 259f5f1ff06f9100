//! Every path of the API and who answers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response};
use crate::{buildkit as b, containers as c, images as i, networks as n, system as s, volumes as v};

/// One path with one method.
pub(crate) struct Route {
    method: Method,
    /// Segments; `{name}` takes one, `{name*}` one or more.
    pattern: &'static str,
    pub handler: fn(Arc<Daemon>, Call) -> BoxFuture<'static, Result<Response>>,
}

macro_rules! routes {
    ($($method:ident $pattern:literal => $handler:path,)*) => {
        &[$(Route {
            method: Method::$method,
            pattern: $pattern,
            handler: |daemon, call| Box::pin($handler(daemon, call)),
        }),*]
    };
}

/// Any path may be asked for its options.
static OPTIONS: Route =
    Route { method: Method::OPTIONS, pattern: "/{any*}", handler: |daemon, call| Box::pin(s::options(daemon, call)) };

/// The table. The first that fits answers.
pub(crate) static ROUTES: &[Route] = routes! {
    GET "/_ping" => s::ping,
    HEAD "/_ping" => s::ping,
    GET "/version" => s::version,
    GET "/info" => s::info,
    GET "/events" => s::events,
    GET "/system/df" => s::disk_usage,
    POST "/auth" => s::auth,

    GET "/containers/json" => c::list,
    POST "/containers/create" => c::create,
    POST "/containers/prune" => c::prune,
    GET "/containers/{name*}/json" => c::inspect,
    GET "/containers/{name}/top" => c::top,
    GET "/containers/{name}/logs" => c::logs,
    GET "/containers/{name}/changes" => c::changes,
    GET "/containers/{name}/export" => c::export,
    GET "/containers/{name}/stats" => c::stats,
    POST "/containers/{name}/resize" => c::resize,
    POST "/containers/{name}/start" => c::start,
    POST "/containers/{name}/stop" => c::stop,
    POST "/containers/{name}/restart" => c::restart,
    POST "/containers/{name}/kill" => c::kill,
    POST "/containers/{name}/update" => c::update,
    POST "/containers/{name}/rename" => c::rename,
    POST "/containers/{name}/pause" => c::pause,
    POST "/containers/{name}/unpause" => c::unpause,
    POST "/containers/{name}/attach" => c::attach,
    GET "/containers/{name}/attach/ws" => c::attach_websocket,
    POST "/containers/{name}/wait" => c::wait,
    DELETE "/containers/{name}" => c::remove,
    DELETE "/containers/{name}/{alias}" => c::remove_link,
    HEAD "/containers/{name}/archive" => c::archive_stat,
    GET "/containers/{name}/archive" => c::archive_get,
    PUT "/containers/{name}/archive" => c::archive_put,
    POST "/containers/{name}/exec" => c::exec_create,
    POST "/exec/{id}/start" => c::exec_start,
    POST "/exec/{id}/resize" => c::exec_resize,
    GET "/exec/{id}/json" => c::exec_inspect,
    POST "/commit" => c::commit,

    GET "/images/json" => i::list,
    POST "/images/create" => i::create,
    GET "/images/search" => i::search,
    POST "/images/prune" => i::prune,
    GET "/images/get" => i::save,
    POST "/images/load" => i::load,
    GET "/images/{name*}/get" => i::save,
    GET "/images/{name*}/json" => i::inspect,
    GET "/images/{name*}/history" => i::history,
    POST "/images/{name*}/push" => i::push,
    POST "/images/{name*}/tag" => i::tag,
    DELETE "/images/{name*}" => i::remove,
    POST "/build" => i::build,
    POST "/build/prune" => i::build_prune,
    POST "/session" => b::session,
    POST "/grpc" => b::control,
    GET "/distribution/{name*}/json" => i::distribution,

    GET "/volumes" => v::list,
    POST "/volumes/create" => v::create,
    POST "/volumes/prune" => v::prune,
    GET "/volumes/{name}" => v::inspect,
    DELETE "/volumes/{name}" => v::remove,

    GET "/networks" => n::list,
    POST "/networks/create" => n::create,
    POST "/networks/prune" => n::prune,
    GET "/networks/{id}" => n::inspect,
    DELETE "/networks/{id}" => n::remove,
    POST "/networks/{id}/connect" => n::connect,
    POST "/networks/{id}/disconnect" => n::disconnect,
};

/// What this engine does not do, and says so.
pub(crate) static OUT_OF_SCOPE: &[Route] = routes! {
    POST "/swarm/init" => s::no_swarm,
    POST "/swarm/join" => s::no_swarm,
    POST "/swarm/{any*}" => s::not_in_swarm,
    GET "/swarm" => s::not_in_swarm,
    GET "/swarm/{any*}" => s::not_in_swarm,
    GET "/nodes" => s::not_in_swarm,
    GET "/nodes/{any*}" => s::not_in_swarm,
    POST "/nodes/{any*}" => s::not_in_swarm,
    DELETE "/nodes/{any*}" => s::not_in_swarm,
    GET "/services" => s::not_in_swarm,
    GET "/services/{any*}" => s::not_in_swarm,
    POST "/services/{any*}" => s::not_in_swarm,
    DELETE "/services/{any*}" => s::not_in_swarm,
    GET "/tasks" => s::not_in_swarm,
    GET "/tasks/{any*}" => s::not_in_swarm,
    GET "/secrets" => s::not_in_swarm,
    GET "/secrets/{any*}" => s::not_in_swarm,
    POST "/secrets/{any*}" => s::not_in_swarm,
    DELETE "/secrets/{any*}" => s::not_in_swarm,
    GET "/configs" => s::not_in_swarm,
    GET "/configs/{any*}" => s::not_in_swarm,
    POST "/configs/{any*}" => s::not_in_swarm,
    DELETE "/configs/{any*}" => s::not_in_swarm,
    PUT "/volumes/{name}" => s::not_in_swarm,
    GET "/plugins" => s::plugins,
    GET "/plugins/{any*}" => s::no_plugins,
    POST "/plugins/{any*}" => s::no_plugins,
    DELETE "/plugins/{any*}" => s::no_plugins,
    GET "/containers/{name}/checkpoints" => s::no_checkpoints,
    POST "/containers/{name}/checkpoints" => s::no_checkpoints,
    DELETE "/containers/{name}/checkpoints/{any}" => s::no_checkpoints,
};

/// An endpoint of the API, for documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `GET`…
    pub method: &'static str,
    /// Without its version.
    pub path: &'static str,
    /// Whether it does what Docker's does; else it refuses in Docker's words.
    pub served: bool,
}

/// Every endpoint, in the order of the tables.
pub fn endpoints() -> impl Iterator<Item = Endpoint> {
    let of = |served: bool| {
        move |route: &'static Route| Endpoint { method: route.method.as_str(), path: route.pattern, served }
    };
    ROUTES.iter().map(of(true)).chain(OUT_OF_SCOPE.iter().map(of(false)))
}

/// The handler of a path (without its version) and the values in it.
pub(crate) fn find(method: &Method, path: &str) -> Result<(&'static Route, BTreeMap<&'static str, String>)> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut other_method = false;
    for route in ROUTES.iter().chain(OUT_OF_SCOPE) {
        let Some(params) = matches(route.pattern, &segments) else { continue };
        if route.method == *method {
            return Ok((route, params));
        }
        // Whatever stands behind a container's name is no page for that alone.
        other_method |= !route.pattern.ends_with("/{alias}");
    }
    if *method == Method::OPTIONS {
        return Ok((&OPTIONS, BTreeMap::new()));
    }
    // A path that exists only for other methods is told apart by dockerd too.
    if other_method {
        return Err(ApiError::new(http::StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    Err(ApiError::not_found("page not found"))
}

fn matches(pattern: &'static str, segments: &[&str]) -> Option<BTreeMap<&'static str, String>> {
    let parts: Vec<&'static str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut params = BTreeMap::new();
    let mut at = 0;
    for (index, part) in parts.iter().enumerate() {
        let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        match name {
            Some(name) if name.ends_with('*') => {
                let after = parts.len() - index - 1;
                let end = segments.len().checked_sub(after).filter(|end| *end > at)?;
                params.insert(name.trim_end_matches('*'), decode(&segments[at..end].join("/")));
                at = end;
            }
            Some(name) => {
                params.insert(name, decode(segments.get(at)?));
                at += 1;
            }
            None if segments.get(at) == Some(part) => at += 1,
            None => return None,
        }
    }
    (at == segments.len()).then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_may_hold_slashes() {
        let (_, params) = find(&Method::GET, "/images/localhost:5000/a/b/json").unwrap();
        assert_eq!(params["name"], "localhost:5000/a/b");
        let (_, params) = find(&Method::DELETE, "/images/a%2Fb:1").unwrap();
        assert_eq!(params["name"], "a/b:1");
    }

    #[test]
    fn what_is_no_page_says_so() {
        assert_eq!(find(&Method::GET, "/nowhere").err().unwrap().message, "page not found");
        assert_eq!(find(&Method::DELETE, "/version").err().unwrap().status, 405);
    }
}
