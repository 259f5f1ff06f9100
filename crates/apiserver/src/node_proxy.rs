//! Hands a request on over another HTTP/1.1 stream. An upgrade (WebSocket, SPDY) becomes a plain copy of bytes
//! both ways: what is spoken within is between the client and the agent.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, BodyStream, combinators::UnsyncBoxBody};
use hyper::{client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use tokio::{io, net::TcpStream};
use tokio_rustls::TlsConnector;

use api::status::Status;

use crate::{
    body::{Body, BoxError, RequestBody},
    config::NodeStream,
    failure::Outcome,
    impersonation,
    server::ApiServer,
};

/// Headers that are between the client and this server alone.
const PRIVATE: [header::HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::HOST];
/// What agents are called.
const NODE: &str = "node";

/// To the agent of a node.
pub(crate) async fn to_node(
    server: &ApiServer,
    node: &str,
    target: &str,
    parts: Parts,
    body: RequestBody,
) -> Outcome<Response<Body>> {
    let stream = server.config.nodes.connect(node).await.map_err(|error| {
        Status::internal_error(format!("error dialing backend: the agent of node {node} can't be reached: {error}"))
    })?;
    forward(stream, NODE, target, parts, body).await
}

/// To an address within the cluster, as `host`; over TLS without asking who answers, since pods have no names that an
/// authority would vouch for (as upstream).
pub(crate) async fn to_address(
    address: &str,
    tls: bool,
    host: &str,
    target: &str,
    parts: Parts,
    body: RequestBody,
) -> Outcome<Response<Body>> {
    let unreachable = |why: String| Status::service_unavailable(format!("error trying to reach service: {why}"));
    let stream =
        TcpStream::connect(address).await.map_err(|e| unreachable(format!("dial tcp {address}: {}", dialing(&e))))?;
    if !tls {
        return forward(Box::new(stream), host, target, parts, body).await;
    }
    let ip = stream.peer_addr().map_err(|e| unreachable(e.to_string()))?.ip();
    let connector = TlsConnector::from(Arc::new(trust::encryption_only()));
    let stream = connector.connect(ip.into(), stream).await.map_err(|e| unreachable(e.to_string()))?;
    forward(Box::new(stream), host, target, parts, body).await
}

/// Why an address could not be reached, as upstream words it.
fn dialing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// A node's answer, its complaints in plain text turned into errors as upstream words them.
pub(crate) async fn checked(response: Response<Body>) -> Outcome<Response<Body>> {
    if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let mut text = Vec::new();
    if let Body::Stream(mut chunks) = body {
        while let Some(Ok(chunk)) = chunks.next().await {
            text.extend_from_slice(&chunk);
            if text.len() > COMPLAINT {
                text.truncate(COMPLAINT);
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    Err(match parts.status {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            Status::new(404, "NotFound", format!("the server could not find the requested resource ({text})"))
        }
        _ => Status::internal_error(text),
    })
}

/// Bytes of a node's complaint that are passed on.
const COMPLAINT: usize = 10_000;

async fn forward(
    stream: Box<dyn NodeStream>,
    host: &str,
    target: &str,
    parts: Parts,
    body: RequestBody,
) -> Outcome<Response<Body>> {
    let fault = |error: hyper::Error| Status::internal_error(format!("error dialing backend: {error}"));
    let mut request = Request::from_parts(parts, ());
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let client = upgrades.then(|| upgrade::on(&mut request));
    let (mut parts, ()) = request.into_parts();
    parts.uri = target.parse().map_err(|_| Status::bad_request(format!("{target:?} is no path")))?;
    parts.version = http::Version::HTTP_11;
    PRIVATE.iter().for_each(|name| drop(parts.headers.remove(name)));
    impersonation::forget(&mut parts.headers);
    parts.headers.insert(header::HOST, HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static(NODE)));
    parts.extensions.clear();
    let body: UnsyncBoxBody<Bytes, BoxError> = match body {
        RequestBody::Wire(body) => body.map_err(|e| Box::new(e) as BoxError).boxed_unsync(),
        RequestBody::Local(body) => body,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(fault)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the stream to a node ended early");
        }
    });
    let mut response = sender.send_request(Request::from_parts(parts, body)).await.map_err(fault)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let client =
            client.ok_or_else(|| Status::internal_error("the node upgraded a request that asked for no upgrade"))?;
        let node = upgrade::on(&mut response);
        tokio::spawn(async move {
            let (client, node) = match tokio::try_join!(client, node) {
                Ok(both) => both,
                Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
            };
            if let Err(error) = io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await {
                tracing::debug!(%error, "an upgraded stream ended early");
            }
        });
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, Body::Empty));
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::TRANSFER_ENCODING);
    parts.headers.remove(header::CONNECTION);
    let frames = BodyStream::new(body).filter_map(|frame| async {
        // Trailers mean nothing to clients of these endpoints. The sender stays until the end of the body.
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(Box::new(error) as BoxError)),
        }
    });
    Ok(Response::from_parts(parts, Body::Stream(frames.boxed())))
}
