//! A registry with one image (`app:1`, busybox in one layer) that can be told to misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

/// What it does when asked for the layer, or sent one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Honest,
    /// Ends in the middle.
    Truncates,
    /// Sends other bytes of the same length.
    Lies,
    /// Sends (or takes) a part and then nothing until the connection ends.
    Stalls,
    /// Answers 500.
    Fails,
}

pub struct FakeRegistry {
    pub address: String,
    mood: Arc<Mutex<Mood>>,
    /// Told when somebody is kept waiting.
    pub stalled: Receiver<()>,
}

struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl FakeRegistry {
    /// With that root file system as its only layer.
    pub fn serve(root: &Path) -> Self {
        let layer = std::fs::read(root).expect("the root file system");
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["echo", "served"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len()}]});
        let image = Arc::new(Image { manifest: manifest.to_string().into_bytes(), config, layer });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mood = Arc::new(Mutex::new(Mood::Honest));
        let (sender, stalled) = channel();
        let current = mood.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (image, mood, sender) = (image.clone(), current.clone(), sender.clone());
                std::thread::spawn(move || drop(converse(stream, &image, &mood, &sender)));
            }
        });
        Self { address, mood, stalled }
    }

    pub fn becomes(&self, mood: Mood) {
        *self.mood.lock().expect("nobody panics with it") = mood;
    }

    pub fn name(&self) -> String {
        format!("{}/app:1", self.address)
    }
}

/// Requests of one connection, until it ends.
fn converse(stream: TcpStream, image: &Image, mood: &Mutex<Mood>, stalled: &Sender<()>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (mut length, mut chunked) = (0_u64, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= header == "transfer-encoding: chunked";
        }
        let mood = *mood.lock().expect("nobody panics with it");
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        if method == "POST" || method == "PATCH" || method == "PUT" {
            if mood == Mood::Stalls && (length > 0 || chunked) {
                let _ = stalled.send(());
                std::io::copy(&mut reader, &mut std::io::sink())?;
                return Ok(());
            }
            std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
            let status = if mood == Mood::Fails { "500 Internal Server Error" } else { "202 Accepted" };
            let location = "Location: /v2/app/blobs/uploads/1\r\nDocker-Upload-UUID: 1\r\nRange: 0-0\r\n";
            write!(writer, "HTTP/1.1 {status}\r\n{location}Content-Length: 0\r\n\r\n")?;
            continue;
        }
        let (kind, body): (&str, &[u8]) = match path.as_str() {
            "/v2/" => ("application/json", b"{}"),
            path if path.contains("/manifests/") => ("application/vnd.oci.image.manifest.v1+json", &image.manifest),
            path if path.ends_with(&digest(&image.config)) => ("application/octet-stream", &image.config),
            path if path.ends_with(&digest(&image.layer)) && method == "GET" => {
                ("application/octet-stream", &image.layer)
            }
            _ => {
                write!(writer, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
        };
        let is_layer = body.len() == image.layer.len();
        if is_layer && mood == Mood::Fails {
            write!(writer, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let named = digest(body);
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {named}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        if method == "HEAD" {
            continue;
        }
        match mood {
            Mood::Truncates if is_layer => return writer.write_all(&body[..body.len() / 2]),
            Mood::Lies if is_layer => writer.write_all(&body.iter().map(|byte| !byte).collect::<Vec<u8>>())?,
            Mood::Stalls if is_layer => {
                writer.write_all(&body[..body.len() / 2])?;
                let _ = stalled.send(());
                // Until the other side gives up.
                std::io::copy(&mut reader, &mut std::io::sink())?;
                return Ok(());
            }
            _ => writer.write_all(body)?,
        }
    }
}
