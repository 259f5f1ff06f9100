//! A watch of the API that goes on whatever the server says: the one way in which all roles follow objects.
//!
//! [`kube::runtime::watcher`] lists anew when the server tells within a watch that it has forgotten the version. Told the
//! same as the status of the answer (HTTP 410), it would ask for that version for ever: [`watch`] begins again instead.

mod held;

use std::{fmt::Debug, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config},
    },
};
use serde::de::DeserializeOwned;

pub use held::Held;

/// Between the refusal of a version and the next list: a server that forgets all versions at once would otherwise be
/// asked again and again.
const AGAIN: Duration = Duration::from_millis(500);

/// What a watch yields: events as [`watcher`] gives them, and errors, after which it goes on by itself.
pub type Events<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// Lists the objects of `api` that `config` selects and follows them. Never ends; what fails is tried again after
/// kube's own backoff.
pub fn watch<K>(api: Api<K>, config: Config) -> Events<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let start = move || watcher::watcher(api.clone(), config.clone()).default_backoff().boxed();
    let first = start();
    stream::unfold((first, start, false), |(mut events, start, forgotten)| async move {
        if forgotten {
            tokio::time::sleep(AGAIN).await;
            events = start();
        }
        let event = events.next().await?;
        let forgotten = event.as_ref().is_err_and(is_forgotten);
        Some((event, (events, start, forgotten)))
    })
    .boxed()
}

/// The same of the one object of that name.
pub fn one<K>(api: Api<K>, name: &str) -> Events<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch(api, Config::default().fields(&format!("metadata.name={name}")))
}

/// Whether a watch can't begin since its version is too old.
fn is_forgotten(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Client, ResourceExt, client::Body};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

    fn whole(code: u16, body: &Value) -> Answer {
        let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
        Response::builder().status(code).body(body).expect("an answer")
    }

    fn object(name: &str, version: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "n", "resourceVersion": version}})
    }

    fn list(version: &str, item: &Value) -> Answer {
        let metadata = json!({"resourceVersion": version});
        whole(200, &json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": [item]}))
    }

    /// A server that has forgotten the version of its first list when a watch is to begin there; notes what it is asked.
    fn forgetful(asked: Arc<Mutex<Vec<String>>>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
            let what = if query.contains("watch=true") { from.unwrap_or("any") } else { "list" };
            let mut asked = asked.lock();
            asked.push(what.to_owned());
            let answer = match (what, asked.len()) {
                ("list", 1) => list("5", &object("gone", "4")),
                ("list", _) => list("9", &object("missed", "8")),
                ("5", _) => whole(
                    410,
                    &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired",
                        "code": 410, "message": "too old resource version: 5 (9)"}),
                ),
                _ => {
                    let event = json!({"type": "ADDED", "object": object("new", "10")});
                    let told = stream::iter([Ok(Frame::data(Bytes::from(format!("{event}\n"))))]);
                    Response::new(StreamBody::new(told.chain(stream::pending())).boxed_unsync())
                }
            };
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_may_not_begin_at_its_version_begins_with_a_new_list() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let api: Api<ConfigMap> = Api::namespaced(forgetful(asked.clone()), "n");
        let mut events = watch(api, Config::default());
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "applied new") {
            told.push(match events.next().await.expect("it never ends") {
                Ok(watcher::Event::Init) => "list".to_owned(),
                Ok(watcher::Event::InitApply(object)) => format!("listed {}", object.name_any()),
                Ok(watcher::Event::InitDone) => "done".to_owned(),
                Ok(watcher::Event::Apply(object)) => format!("applied {}", object.name_any()),
                Ok(watcher::Event::Delete(object)) => format!("deleted {}", object.name_any()),
                Err(error) => {
                    assert!(is_forgotten(&error), "{error}");
                    "forgotten".to_owned()
                }
            });
        }
        let expected = ["list", "listed gone", "done", "forgotten", "list", "listed missed", "done", "applied new"];
        assert_eq!(told, expected);
        assert_eq!(*asked.lock(), ["list", "5", "list", "9"]);
    }
}
