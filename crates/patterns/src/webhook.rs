//! The mutating webhook that injects Sidecars on clusters other than Hythe's own: HTTPS with a certificate that signs
//! itself, kept in a Secret so that all operators of a cluster show the same.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use controllers::{
    Error,
    informer::{Informer, untouched},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use pattern_kinds::patterns::Sidecar;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::apply;

/// The Secret with the certificate, the Service before the operators, and the webhook's configuration.
pub const NAME: &str = "hythe-operator";
const PATH: &str = "/inject";
/// The largest review that is read: more than any pod may be.
const LARGEST: usize = 8 << 20;

/// How API servers reach the webhook.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The namespace of the operator's Service and Secret.
    pub namespace: String,
    /// `https://host:port` for an operator outside of the cluster; otherwise its Service is asked.
    pub url: Option<String>,
}

/// Between two tries to tell the cluster.
const RETRY: Duration = Duration::from_secs(5);

/// Serves the webhook and tells the cluster of it, until it is dropped. While the cluster does not answer, nothing is
/// served yet.
pub async fn run(listener: TcpListener, client: Client, reached: Reached, image: String) {
    let mut tasks = JoinSet::new();
    let sidecars: Informer<Sidecar> = Informer::start(client.clone(), untouched, &mut tasks);
    sidecars.synced().await;
    let acceptor = loop {
        match announce(&client, &reached).await {
            Ok(acceptor) => break acceptor,
            Err(error) => tracing::warn!(%error, "the webhook is not served yet"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, sidecars, image) = (acceptor.clone(), sidecars.clone(), image.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(move |request| answer(request, sidecars.clone(), image.clone()));
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Has a certificate, and has the cluster know it.
async fn announce(client: &Client, reached: &Reached) -> Result<TlsAcceptor, Error> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Error::Object(format!("webhook: {what}: {error}"));
    let (certificate, key) = certificate(client, reached).await?;
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|e| failed("certificate", &e))?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| failed("key", &e))?;
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| failed("TLS", &e))?;
    apply::force(client, &configuration(reached, &certificate)).await?;
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

async fn answer(
    request: Request<Incoming>,
    sidecars: Informer<Sidecar>,
    image: String,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status: StatusCode, text: &str| {
        let mut response = Response::new(Full::from(text.to_owned()));
        *response.status_mut() = status;
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::POST, PATH) => {}
        (&Method::GET, "/healthz" | "/readyz") => return Ok(plain(StatusCode::OK, "ok")),
        _ => return Ok(plain(StatusCode::NOT_FOUND, "only POST /inject is answered")),
    }
    let Ok(body) = Limited::new(request.into_body(), LARGEST).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large"));
    };
    let Ok(review) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return Ok(plain(StatusCode::BAD_REQUEST, "the review is no JSON"));
    };
    let namespace = review["request"]["namespace"].as_str().unwrap_or_default();
    let all: Vec<Value> = sidecars.in_namespace(namespace).iter().map(|sidecar| json!(**sidecar)).collect();
    let text = respond(&review, &all, &image).to_string();
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The answer to an `AdmissionReview`: always allowed, with a patch if something is added.
fn respond(review: &Value, sidecars: &[Value], image: &str) -> Value {
    let request = &review["request"];
    let mut response = json!({"uid": request["uid"], "allowed": true});
    let mut pod = request["object"].clone();
    if ::api::injection::inject(&mut pod, sidecars.iter(), image) {
        let patch = json!([
            {"op": "add", "path": "/spec", "value": pod["spec"]},
            {"op": "add", "path": "/metadata/annotations", "value": pod["metadata"]["annotations"]},
        ]);
        response["patchType"] = "JSONPatch".into();
        response["patch"] = STANDARD.encode(patch.to_string()).into();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

fn configuration(reached: &Reached, certificate: &str) -> Value {
    let mut how = json!({"caBundle": STANDARD.encode(certificate)});
    match &reached.url {
        Some(url) => how["url"] = format!("{}{PATH}", url.trim_end_matches('/')).into(),
        None => how["service"] = json!({"namespace": reached.namespace, "name": NAME, "path": PATH, "port": 443}),
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [{
            "name": "sidecars.patterns.hythe.dev",
            "admissionReviewVersions": ["v1"],
            "clientConfig": how,
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                "scope": "Namespaced",
            }],
            // A cluster whose operator is away still starts pods.
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "reinvocationPolicy": "IfNeeded",
            "namespaceSelector": {"matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", reached.namespace],
            }]},
        }],
    })
}

/// The certificate and key of all operators: made by the first one.
async fn certificate(client: &Client, reached: &Reached) -> Result<(String, String), Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &reached.namespace);
    let hosts = hosts(reached);
    loop {
        if let Some(secret) = api.get_opt(NAME).await? {
            let part = |key: &str| {
                let bytes = secret.data.as_ref().and_then(|data| data.get(key))?;
                String::from_utf8(bytes.0.clone()).ok()
            };
            let its_hosts = secret.metadata.annotations.as_ref().and_then(|a| a.get(HOSTS)).map(String::as_str);
            if let (Some(certificate), Some(key), true) =
                (part("tls.crt"), part("tls.key"), its_hosts == Some(&hosts.join(",")))
            {
                return Ok((certificate, key));
            }
            apply::remove(client, &reached.namespace, "v1", "Secret", NAME).await?;
        }
        let made = rcgen::generate_simple_self_signed(hosts.clone()).map_err(|e| Error::Object(e.to_string()))?;
        let bytes = |text: String| ByteString(text.into_bytes());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                annotations: Some([(HOSTS.to_owned(), hosts.join(","))].into()),
                ..Default::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(
                [
                    ("tls.crt".to_owned(), bytes(made.cert.pem())),
                    ("tls.key".to_owned(), bytes(made.signing_key.serialize_pem())),
                ]
                .into(),
            ),
            ..Default::default()
        };
        match api.create(&PostParams::default(), &secret).await.map_err(Error::from) {
            // Another operator was faster: its certificate is everybody's.
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => {}
        }
    }
}

const HOSTS: &str = "patterns.hythe.dev/hosts";

/// The names that the certificate is for.
fn hosts(reached: &Reached) -> Vec<String> {
    let mut hosts =
        vec![format!("{NAME}.{}.svc", reached.namespace), format!("{NAME}.{}.svc.cluster.local", reached.namespace)];
    let authority = reached.url.as_deref().and_then(|url| url.parse::<http::Uri>().ok());
    if let Some(host) = authority.as_ref().and_then(http::Uri::host) {
        hosts.push(host.trim_matches(['[', ']']).to_owned());
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_answered_with_what_has_to_be_added() {
        let review = json!({"request": {"uid": "u", "namespace": "n", "object": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app"}]},
        }}});
        let sidecar = json!({
            "metadata": {"name": "topz"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "containers": [{"name": "topz"}]},
        });
        let answer = respond(&review, &[sidecar], "patterns:1");
        assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!("u"), &json!(true)));
        let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        assert_eq!(
            patch[0]["value"]["containers"][1],
            json!({
                "name": "topz", "image": "patterns:1", "imagePullPolicy": "IfNotPresent",
            })
        );
        assert_eq!(patch[1]["value"]["patterns.hythe.dev/sidecars"], "topz");
        let nothing = respond(&review, &[], "patterns:1");
        assert_eq!(nothing["response"], json!({"uid": "u", "allowed": true}));
    }
}
