//! The gRPC probe: `grpc.health.v1.Health/Check` over HTTP/2 without TLS.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{port, state::Outcome};

/// Asks for the health of `service` (empty for the server as a whole).
pub async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = port::address(host, port);
    // The gRPC client goes on dialling what refuses it, so that this, too, reads as a timeout.
    let unreachable = || {
        let seconds = timeout.as_secs();
        Outcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {seconds}s: context deadline exceeded"
        ))
    };
    let Ok(stream) = port::connect(&address, timeout).await else { return unreachable() };
    match tokio::time::timeout(timeout, check(stream, &address, service)).await {
        Ok(Ok(1)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", name(status))),
        Ok(Err(error)) => Outcome::Failure(error),
        Err(_) => unreachable(),
    }
}

async fn check(stream: TcpStream, address: &str, service: &str) -> Result<u64, String> {
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let result = async {
        let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.36")
            .body(Full::new(message(service)))
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let early = status(response.headers());
        let body = Limited::new(response.into_body(), 64 << 10).collect().await.map_err(|e| e.to_string())?;
        let code = early.or_else(|| body.trailers().and_then(status));
        match code.as_deref() {
            Some("0") => Ok(serving_status(&body.to_bytes())),
            Some("12") => {
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
            }
            Some("5") => {
                Err(format!("error: health rpc failed: rpc error: code = NotFound desc = unknown service {service}"))
            }
            Some(code) => Err(format!("error: health rpc failed: rpc error: code = Code({code})")),
            None => Err("error: health rpc failed: the answer is not a gRPC one".to_owned()),
        }
    }
    .await;
    connection.abort();
    result
}

fn status(headers: &http::HeaderMap) -> Option<String> {
    headers.get("grpc-status").and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// `HealthCheckRequest { string service = 1; }` in gRPC's framing.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        put_varint(&mut body, service.len() as u64);
        body.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(body.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put(body);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// `HealthCheckResponse { ServingStatus status = 1; }`: 0 unknown, 1 serving, 2 not serving.
fn serving_status(frame: &[u8]) -> u64 {
    match frame.get(5..) {
        Some([0x08, value, ..]) => u64::from(*value),
        _ => 0,
    }
}

fn name(status: u64) -> &'static str {
    match status {
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that gives each service the status of its name, as a number, and knows no other.
    async fn serve() -> u16 {
        use http_body_util::StreamBody;
        use hyper::body::Frame;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let answer = |request: Request<hyper::body::Incoming>| async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let service = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
            let status = if service.is_empty() { Ok(1) } else { service.parse::<u8>() };
            let code = match (path.as_str(), &status) {
                ("/grpc.health.v1.Health/Check", Ok(_)) => "0",
                ("/grpc.health.v1.Health/Check", Err(_)) => "5",
                _ => "12",
            };
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static(code));
            let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status.unwrap_or(0)]);
            let frames = [Ok::<_, std::convert::Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
            Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(futures::stream::iter(frames))))
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)));
            }
        });
        port
    }

    #[tokio::test]
    async fn a_servers_own_word_on_its_health_decides() {
        let port = serve().await;
        let ask = async |service: &str| probe("127.0.0.1", port, service, Duration::from_secs(5)).await;
        assert_eq!(ask("").await, Outcome::Success);
        assert_eq!(ask("1").await, Outcome::Success);
        let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
        assert_eq!(ask("2").await, Outcome::Failure(unhealthy.into()));
        let unknown = "error: health rpc failed: rpc error: code = NotFound desc = unknown service other";
        assert_eq!(ask("other").await, Outcome::Failure(unknown.into()));
    }

    #[test]
    fn messages_are_framed_by_the_specification() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), 0);
    }
}
