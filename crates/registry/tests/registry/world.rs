//! A registry on loopback, and a client of a few lines.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use engine::content::{Content, Digest};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use registry::{Config, Registry};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub struct World {
    pub dir: tempfile::TempDir,
    pub content: Content,
    pub registry: Registry,
    pub client: Client,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry with an empty store.
pub async fn world() -> World {
    world_with(|_| ()).await
}

pub async fn world_with(change: impl FnOnce(&mut Config)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let mut config = Config::new(content.clone());
    change(&mut config);
    let registry = Registry::open(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client { address: listener.local_addr().unwrap(), headers: HeaderMap::new() };
    let serving = registry.clone();
    let task = tokio::spawn(async move { serving.serve(listener, None).await.unwrap() });
    World { dir, content, registry, client, task }
}

impl World {
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.content.blob_path(digest)
    }
}

#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub headers: HeaderMap,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?}", self);
        self
    }

    /// It is an error with this code, and its body has the specification's shape.
    #[track_caller]
    pub fn fails(self, status: u16, code: &str) -> Self {
        let reply = self.is(status);
        assert_eq!(reply.header("content-type"), "application/json");
        let body = reply.json();
        assert_eq!(body["errors"][0]["code"], code, "{body}");
        assert!(body["errors"][0]["message"].is_string(), "{body}");
        reply
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} is missing in {:?}", self.headers)).to_str().unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
}

impl Client {
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let reply = self.try_send(method, path, headers, body);
        tokio::time::timeout(Duration::from_secs(60), reply).await.expect("an answer").unwrap()
    }

    /// One request on a connection of its own.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body.into())).unwrap();
        request.headers_mut().extend(self.headers.clone());
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn head(&self, path: &str) -> Reply {
        let reply = self.send(Method::HEAD, path, &[], "").await;
        assert!(reply.body.is_empty());
        reply
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub async fn post(&self, path: &str) -> Reply {
        self.send(Method::POST, path, &[], "").await
    }

    pub async fn put(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::PUT, path, &[("content-type", kind)], body).await
    }

    /// Begins an upload; returns its location.
    pub async fn begin(&self, repository: &str) -> String {
        self.post(&format!("/v2/{repository}/blobs/uploads/")).await.is(202).header("location").to_owned()
    }

    pub async fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let location = self.begin(repository).await;
        self.put(&format!("{location}?digest={digest}"), "application/octet-stream", bytes.to_vec()).await.is(201);
        digest
    }

    /// Pushes a whole image of one layer, whose content is `text`; again if a registry that promises nothing has
    /// collected the blobs before the manifest came.
    pub async fn image(&self, repository: &str, tag: &str, text: &str) -> Pushed {
        let (config, layer) = (config_of(text), layer_of(text));
        let manifest = manifest_of(text);
        let digest = Digest::of(&manifest);
        let mut tries = 0..20;
        let reply = loop {
            self.blob(repository, &config).await;
            self.blob(repository, &layer).await;
            let path = format!("/v2/{repository}/manifests/{tag}");
            let reply = self.put(&path, OCI_MANIFEST, manifest.clone()).await;
            if reply.status != 400 || tries.next().is_none() {
                break reply.is(201);
            }
        };
        assert_eq!(reply.header("docker-content-digest"), digest.as_str());
        Pushed { digest, manifest, config: Digest::of(&config), layer: Digest::of(&layer) }
    }
}

pub struct Pushed {
    pub digest: Digest,
    pub manifest: Vec<u8>,
    pub config: Digest,
    pub layer: Digest,
}

fn tar_of(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, "text", text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

pub fn layer_of(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&tar_of(text)).unwrap();
    encoder.finish().unwrap()
}

pub fn config_of(text: &str) -> Vec<u8> {
    let diff_id = Digest::of(&tar_of(text));
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/text"]},
           "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
    .to_string()
    .into_bytes()
}

pub fn manifest_of(text: &str) -> Vec<u8> {
    let (config, layer) = (config_of(text), layer_of(text));
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
           "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest::of(&layer), "size": layer.len()}]})
    .to_string()
    .into_bytes()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Asks until the answer is yes; the deadline is for a broken program only.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
