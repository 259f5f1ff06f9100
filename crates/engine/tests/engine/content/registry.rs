//! A registry of a few lines, with faults on order.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use engine::content::Digest;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

/// What goes wrong.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    /// The first answer with each layer breaks off in the middle.
    BreaksOff,
    /// Layers are not what they are called.
    Corrupt,
    /// Only `user:secret` may pull.
    WantsPassword,
}

pub struct Registry {
    pub address: String,
    /// For blobs.
    pub requests: Arc<AtomicUsize>,
    pub resumed: Arc<AtomicUsize>,
    pub manifest: Digest,
}

/// Serves `app:1` with these layers until the process ends.
pub fn serve(layers: &[Vec<u8>], fault: Fault) -> Registry {
    let mut blobs: HashMap<String, Vec<u8>> = HashMap::new();
    let mut descriptor = |bytes: Vec<u8>, kind: &str| {
        let digest = Digest::of(&bytes);
        let value = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
        blobs.insert(digest.to_string(), bytes);
        value
    };
    let packed = layers.iter().map(|layer| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(layer).unwrap();
        encoder.finish().unwrap()
    });
    let layer_list: Vec<_> =
        packed.map(|p| descriptor(p, "application/vnd.docker.image.rootfs.diff.tar.gzip")).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor(super::config(layers), "application/vnd.docker.container.image.v1+json"),
        "layers": layer_list,
    })
    .to_string()
    .into_bytes();
    let digest = Digest::of(&manifest);
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": Digest::of(b"other"), "size": 1,
             "platform": {"architecture": "s390x", "os": "linux"}},
            {"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": manifest.len(),
             "platform": {"architecture": arch, "os": "linux"}},
        ],
    })
    .to_string()
    .into_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = Registry {
        address: listener.local_addr().unwrap().to_string(),
        requests: Arc::default(),
        resumed: Arc::default(),
        manifest: digest.clone(),
    };
    let (requests, resumed) = (registry.requests.clone(), registry.resumed.clone());
    let state =
        Arc::new(State { blobs, manifest, digest, index, fault, requests, resumed, broken: Default::default() });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = state.clone();
            std::thread::spawn(move || state.connection(stream));
        }
    });
    registry
}

struct State {
    blobs: HashMap<String, Vec<u8>>,
    manifest: Vec<u8>,
    digest: Digest,
    index: Vec<u8>,
    fault: Fault,
    requests: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    broken: std::sync::Mutex<std::collections::HashSet<String>>,
}

impl State {
    fn connection(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let (mut offset, mut authorized) = (0, self.fault != Fault::WantsPassword);
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                let lower = header.to_lowercase();
                if let Some(range) = lower.strip_prefix("range: bytes=") {
                    offset = range.split('-').next().unwrap().trim().parse().unwrap();
                }
                // user:secret
                authorized |= header.contains("Basic dXNlcjpzZWNyZXQ=");
                if header.trim().is_empty() {
                    break;
                }
            }
            if path.contains("/blobs/") {
                self.requests.fetch_add(1, Ordering::SeqCst);
            }
            if !authorized {
                let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#;
                write!(stream, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
                continue;
            }
            if !self.answer(&mut stream, &path, offset) {
                return;
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, path: &str, offset: usize) -> bool {
        let path = &path.replace("/library/", "/");
        let name = path.rsplit('/').next().unwrap_or_default();
        let (kind, body) = match path.as_str() {
            "/v2/" => ("application/json", b"{}".to_vec()),
            "/v2/app/manifests/1" => ("application/vnd.oci.image.index.v1+json", self.index.clone()),
            _ if *path == format!("/v2/app/manifests/{}", self.digest) => {
                ("application/vnd.docker.distribution.manifest.v2+json", self.manifest.clone())
            }
            _ if path.starts_with("/v2/app/blobs/") && self.blobs.contains_key(name) => {
                ("application/octet-stream", self.blobs[name].clone())
            }
            _ => {
                let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                return write!(
                    stream,
                    "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .is_ok();
            }
        };
        let mut body = body;
        let is_layer = kind == "application/octet-stream" && body.starts_with(&[0x1f, 0x8b]);
        if is_layer && self.fault == Fault::Corrupt {
            let last = body.len() - 1;
            body[last] ^= 1;
        }
        if offset > 0 {
            self.resumed.fetch_add(1, Ordering::SeqCst);
            let part = &body[offset..];
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {offset}-{}/{}\r\nContent-Length: {}\r\n\r\n",
                body.len() - 1,
                body.len(),
                part.len()
            );
            return stream.write_all(head.as_bytes()).is_ok() && stream.write_all(part).is_ok();
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        if is_layer && self.fault == Fault::BreaksOff && self.broken.lock().unwrap().insert(name.to_owned()) {
            stream.write_all(&body[..body.len() / 2]).unwrap();
            let _ = stream.flush();
            return false;
        }
        stream.write_all(&body).is_ok()
    }
}
