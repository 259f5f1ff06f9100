//! The image of the pattern containers: one file, `/hythe`, with a configuration that tells how to use it.
//!
//! It is made of the small binary that a release embeds, or else of the program that runs, and written as an archive
//! that is both an OCI layout and what `docker save` writes, so that every engine takes it.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    loaded::loaded_part,
    manuals::{self, ADMIN_PORT},
};

/// The repository of the image; its tag is the version.
pub const REPOSITORY: &str = "hythe.dev/patterns";

/// The version of the image, that of Hythe.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The image's name with its tag.
pub const NAME: &str = concat!("hythe.dev/patterns:", env!("CARGO_PKG_VERSION"));

/// The operator's image with its tag: the whole program.
pub const OPERATOR: &str = concat!("hythe.dev/operator:", env!("CARGO_PKG_VERSION"));

/// Where the one file comes from.
#[derive(Clone, Debug)]
pub enum Binary {
    /// The small binary, compressed with zstd.
    Embedded(&'static [u8]),
    /// A program on this machine. What only a debugger reads of it is left out.
    Program(PathBuf),
}

impl Binary {
    /// The embedded one if there is one, else the running program.
    pub fn of(embedded: &'static [u8]) -> Self {
        if embedded.is_empty() { Self::Program("/proc/self/exe".into()) } else { Self::Embedded(embedded) }
    }

    /// Its bytes with their number.
    fn open(&self) -> io::Result<(u64, Box<dyn Read>)> {
        match self {
            Self::Embedded(compressed) => {
                let size = zstd::zstd_safe::get_frame_content_size(compressed)
                    .ok()
                    .flatten()
                    .ok_or_else(|| io::Error::other("the embedded binary does not say its size"))?;
                Ok((size, Box::new(zstd::stream::read::Decoder::new(*compressed)?)))
            }
            Self::Program(path) => {
                let (size, bytes) = loaded_part(File::open(path)?)?;
                Ok((size, Box::new(bytes)))
            }
        }
    }
}

/// How the image's one layer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// As it is: for an engine that unpacks it at once.
    Plain,
    /// With gzip, which every engine and registry takes: for archives that travel.
    Compressed,
}

/// Writes the image as an archive.
///
/// # Errors
/// The disk's.
pub fn write(binary: &Binary, layer: Layer, archive: &Path) -> io::Result<()> {
    write_as(NAME, configuration, binary, layer, archive)
}

/// Writes the operator's image as an archive, of the running program.
///
/// # Errors
/// The disk's.
pub fn write_operator(archive: &Path) -> io::Result<()> {
    write_as(OPERATOR, operator, &Binary::Program("/proc/self/exe".into()), Layer::Plain, archive)
}

fn write_as(
    name: &str,
    configuration: fn(&str) -> Value,
    binary: &Binary,
    how: Layer,
    archive: &Path,
) -> io::Result<()> {
    let scratch = archive.parent().unwrap_or(Path::new("."));
    let (size, bytes) = binary.open()?;
    let mut layer = tar::Builder::new(Hashed::new(BufWriter::new(tempfile::tempfile_in(scratch)?)));
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    layer.append_data(&mut header, "hythe", bytes)?;
    let mut layer = Blob::of(layer.into_inner()?)?;
    let config = configuration(&layer.digest).to_string();
    if how == Layer::Compressed {
        let out = Hashed::new(BufWriter::new(tempfile::tempfile_in(scratch)?));
        let mut compressed = GzEncoder::new(out, Compression::best());
        io::copy(&mut layer.file, &mut compressed)?;
        layer = Blob::of(compressed.finish()?)?;
    }
    let config_digest = hex::encode(Sha256::digest(&config));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_digest}"),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": match how {
                Layer::Plain => "application/vnd.oci.image.layer.v1.tar",
                Layer::Compressed => "application/vnd.oci.image.layer.v1.tar+gzip",
            },
            "digest": format!("sha256:{}", layer.digest),
            "size": layer.size,
        }],
    })
    .to_string();
    let manifest_digest = hex::encode(Sha256::digest(&manifest));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest_digest}"),
            "size": manifest.len(),
            "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": VERSION},
        }],
    });
    let docker = json!([{
        "Config": format!("blobs/sha256/{config_digest}"),
        "RepoTags": [name],
        "Layers": [format!("blobs/sha256/{}", layer.digest)],
    }]);

    let mut out = tar::Builder::new(BufWriter::new(File::create(archive)?));
    let mut add = |path: &str, size: u64, bytes: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        out.append_data(&mut header, path, bytes)
    };
    for (path, text) in [
        ("oci-layout".to_owned(), json!({"imageLayoutVersion": "1.0.0"}).to_string()),
        ("index.json".to_owned(), index.to_string()),
        ("manifest.json".to_owned(), docker.to_string()),
        (format!("blobs/sha256/{manifest_digest}"), manifest),
        (format!("blobs/sha256/{config_digest}"), config),
    ] {
        add(&path, text.len() as u64, &mut text.as_bytes())?;
    }
    add(&format!("blobs/sha256/{}", layer.digest), layer.size, &mut layer.file)?;
    out.into_inner()?.flush()
}

/// How the operator's image is run.
fn operator(diff_id: &str) -> Value {
    let mut config = bare(diff_id, "hythe image operator");
    config["config"] = json!({
        "Entrypoint": ["/hythe"],
        "Cmd": ["operator"],
        "Env": ["PATH=/"],
        "ExposedPorts": {"9443/tcp": {}},
        "Labels": {"org.opencontainers.image.title": "Hythe's operator", "org.opencontainers.image.version": VERSION},
        "User": "65532:65532",
        "WorkingDir": "/",
    });
    config
}

/// A configuration that does not say yet how the image is run.
fn bare(diff_id: &str, made_by: &str) -> Value {
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": made_by}],
    })
}

/// How the image is run, and what its containers can be told.
fn configuration(diff_id: &str) -> Value {
    let mut ports = serde_json::Map::from_iter([(format!("{ADMIN_PORT}/tcp"), json!({}))]);
    let mut environment = vec!["PATH=/".to_owned()];
    let mut labels = serde_json::Map::from_iter([
        ("org.opencontainers.image.title".into(), "Hythe's pattern containers".into()),
        ("org.opencontainers.image.version".into(), VERSION.into()),
        ("org.opencontainers.image.licenses".into(), "Apache-2.0".into()),
    ]);
    for manual in manuals::all() {
        for port in manual.ports {
            ports.insert(format!("{}/{}", port.number, port.protocol), json!({}));
        }
        let label = |part: &str| format!("dev.hythe.patterns.{}.{part}", manual.name.replace(' ', "."));
        let join = |lines: Vec<String>| Value::from(lines.join("\n"));
        labels.insert(label("about"), manual.about.into());
        labels.insert(label("version"), manual.version.into());
        let lines = manual.ports.iter().map(|p| format!("{}/{} {}", p.number, p.protocol, p.about));
        labels.insert(label("ports"), join(lines.collect()));
        let lines = manual.all_endpoints().map(|e| format!("{} {} {}", e.method, e.path, e.about));
        labels.insert(label("endpoints"), join(lines.collect()));
        let lines = manual.all_variables().map(|v| format!("{}={} {}", v.name, v.default, v.about));
        labels.insert(label("environment"), join(lines.collect()));
        // Variables of one container would speak against the configuration files of others.
        for variable in manual.all_variables().filter(|v| v.name.starts_with("HYTHE_") && !v.default.is_empty()) {
            let default = format!("{}={}", variable.name, variable.default);
            if !environment.contains(&default) {
                environment.push(default);
            }
        }
    }
    let mut config = bare(diff_id, "hythe image patterns");
    config["config"] = json!({
        "Entrypoint": ["/hythe"],
        "Cmd": ["--help"],
        "Env": environment,
        "ExposedPorts": ports,
        "Labels": labels,
        "User": "65532:65532",
        "WorkingDir": "/",
    });
    config
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A layer in a file without a name, read from its beginning.
struct Blob {
    file: File,
    digest: String,
    size: u64,
}

impl Blob {
    fn of(written: Hashed<BufWriter<File>>) -> io::Result<Self> {
        let (file, digest, size) = written.finish()?;
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { file, digest, size })
    }
}

/// A writer that hashes and counts.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0 }
    }

    fn finish(mut self) -> io::Result<(W, String, u64)> {
        self.inner.flush()?;
        Ok((self.inner, hex::encode(self.hasher.finalize()), self.size))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(archive: &Path) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(File::open(archive).unwrap());
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().display().to_string(), bytes)
            })
            .collect()
    }

    #[test]
    fn the_image_holds_one_file_that_runs_without_the_rest_of_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("patterns.tar");
        write(&Binary::Program("/proc/self/exe".into()), Layer::Plain, &archive).unwrap();
        let members = members(&archive);
        let manifest: Value = serde_json::from_slice(&members[2].1).unwrap();
        let layer = manifest[0]["Layers"][0].as_str().unwrap();
        let layer = &members.iter().find(|(name, _)| name == layer).unwrap().1;
        let mut entries = tar::Archive::new(&layer[..]);
        let mut entries = entries.entries().unwrap();
        let mut file = entries.next().unwrap().unwrap();
        assert_eq!(file.path().unwrap().to_str(), Some("hythe"));
        let program = directory.path().join("program");
        file.unpack(&program).unwrap();
        assert!(entries.next().is_none());
        let whole = std::fs::metadata("/proc/self/exe").unwrap().len();
        assert!(std::fs::metadata(&program).unwrap().len() < whole, "symbols are left out");
        // It is this test program: it can say what tests it has.
        let said = std::process::Command::new(&program).arg("--list").output().unwrap();
        assert!(String::from_utf8_lossy(&said.stdout).contains("the_image_holds_one_file"));
    }

    #[test]
    fn the_same_binary_makes_the_same_image() {
        let directory = tempfile::tempdir().unwrap();
        let compressed = {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.set_pledged_src_size(Some(5)).unwrap();
            encoder.include_contentsize(true).unwrap();
            encoder.write_all(b"hello").unwrap();
            encoder.finish().unwrap().leak()
        };
        let binary = Binary::of(compressed);
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        let mut digests = Vec::new();
        for how in [Layer::Plain, Layer::Compressed] {
            write(&binary, how, &one).unwrap();
            write(&binary, how, &two).unwrap();
            assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
            // However it is written, it is the same file and the same image to whoever unpacks it.
            let members = members(&one);
            let manifest: Value = serde_json::from_slice(&members[2].1).unwrap();
            let find = |name: &Value| &members.iter().find(|(path, _)| path == name.as_str().unwrap()).unwrap().1;
            let layer = find(&manifest[0]["Layers"][0]);
            let mut plain = Vec::new();
            match how {
                Layer::Plain => plain.extend_from_slice(layer),
                Layer::Compressed => drop(flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut plain).unwrap()),
            }
            let mut archive = tar::Archive::new(&plain[..]);
            let mut said = String::new();
            archive.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, "hello");
            let config: Value = serde_json::from_slice(find(&manifest[0]["Config"])).unwrap();
            digests.push(config["rootfs"]["diff_ids"][0].as_str().unwrap().to_owned());
            assert_eq!(digests.last(), Some(&format!("sha256:{}", hex::encode(Sha256::digest(&plain)))));
        }
        assert_eq!(digests[0], digests[1]);
        let index: Value = serde_json::from_slice(&members(&one)[1].1).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], NAME);
    }

    #[test]
    fn the_configuration_documents_every_container() {
        let config = configuration("00");
        for manual in manuals::all() {
            let label = |part: &str| format!("dev.hythe.patterns.{}.{part}", manual.name.replace(' ', "."));
            for part in ["about", "version", "ports", "endpoints", "environment"] {
                assert!(config["config"]["Labels"][label(part)].is_string(), "{} {part}", manual.name);
            }
        }
        assert_eq!(config["config"]["Entrypoint"], json!(["/hythe"]));
    }
}
