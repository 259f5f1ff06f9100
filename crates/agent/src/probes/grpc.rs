//! The gRPC probe: `grpc.health.v1.Health/Check` over HTTP/2 without TLS.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{port, state::Outcome};
use grpc::{CallError, Fields, Message, Status, Target};

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
    let target = Target { authority: address, method: "grpc.health.v1.Health/Check", user_agent: "kube-probe/1.36" };
    // `HealthCheckRequest { string service = 1; }`, `HealthCheckResponse { ServingStatus status = 1; }`
    let request = Message::default().text(1, service);
    let answer = grpc::call(stream, target, &request).await.map_err(|error| match error {
        CallError::Refused(Status { code: Status::UNIMPLEMENTED, .. }) => {
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()
        }
        CallError::Refused(Status { code: Status::NOT_FOUND, .. }) => {
            format!(
                "error: health rpc failed: {}",
                Status::new(Status::NOT_FOUND, format!("unknown service {service}"))
            )
        }
        CallError::Transport(text) => text,
        other => format!("error: health rpc failed: {other}"),
    })?;
    Ok(Fields::read(&answer).number(1))
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
    use bytes::Bytes;
    use http::Request;
    use http_body_util::BodyExt;
    use hyper_util::rt::{TokioExecutor, TokioIo};

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
}
