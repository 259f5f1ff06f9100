//! What becomes of a result: an image with names, an archive or a directory at the client, a push.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use builder::{BuildOutput, Output};
use engine::content::{Content, Digest};
use grpc::CallError;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::attributes::is_true;
use super::failed::Failed;
use crate::session::{PieceWriter, Session, send_file};
use crate::wire::Export;

/// What a client wants, sorted.
#[derive(Default)]
pub(crate) struct Exports {
    /// The image stays in the store.
    pub image: bool,
    /// Under these names.
    pub names: Vec<String>,
    /// And goes to the registries of its names.
    pub push: bool,
    /// For the builder.
    pub outputs: Vec<Output>,
    /// In archives.
    pub archive_names: Vec<String>,
    /// Directories that go to the client when they are filled: the exporter's number and the place.
    pub directories: Vec<(usize, PathBuf)>,
    /// Files on their way to the client.
    pub files: Vec<Transfer>,
    /// What the step of exporting is called.
    pub titles: Vec<String>,
}

/// A file that is being sent, once its writing has begun.
pub(crate) type Transfer = Arc<Mutex<Option<JoinHandle<Result<(), CallError>>>>>;

/// Sorts them.
pub(crate) fn sort(exports: &[Export], session: &Session, place: &TempDir) -> Result<Exports, Failed> {
    let mut sorted = Exports::default();
    for (number, export) in exports.iter().enumerate() {
        let get = |key: &str| export.attributes.get(key).map(String::as_str).unwrap_or_default();
        let names = || get("name").split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
        let flag = |key: &str| is_true(get(key));
        let file = |sorted: &mut Exports| -> Box<dyn Write + Send> {
            let transfer = Transfer::default();
            sorted.files.push(transfer.clone());
            let session = session.clone();
            Box::new(LazyFile { session, exporter: number, handle: Handle::current(), transfer, writer: None })
        };
        match export.kind.as_str() {
            "moby" | "image" => {
                if flag("push-by-digest") {
                    return Err(Failed::words("push-by-digest is not supported by this builder"));
                }
                sorted.image = true;
                sorted.names.extend(names());
                sorted.push |= flag("push");
                sorted.titles.push("exporting to image".into());
            }
            "docker" | "oci" if get("tar") == "false" => {
                return Err(Failed::words(format!(
                    "tar=false is not supported by the {} exporter of this builder",
                    export.kind
                )));
            }
            kind @ ("docker" | "oci") => {
                let writer = file(&mut sorted);
                sorted.archive_names.extend(names());
                sorted.outputs.push(if kind == "oci" { Output::Oci(writer) } else { Output::Docker(writer) });
                sorted.titles.push(format!("exporting to {kind} image format"));
            }
            "tar" => {
                let writer = file(&mut sorted);
                sorted.outputs.push(Output::Tar(writer));
                sorted.titles.push("exporting to client tarball".into());
            }
            "local" => {
                let directory = place.path().join(format!("export-{number}"));
                sorted.outputs.push(Output::Local(directory.clone()));
                sorted.directories.push((number, directory));
                sorted.titles.push("exporting to client directory".into());
            }
            "cacheonly" => {}
            other => return Err(Failed::words(format!("exporter {other:?} could not be found"))),
        }
    }
    Ok(sorted)
}

/// What programs are told of a result; `platform` is `os/architecture`.
pub(crate) fn results(content: &Content, built: &BuildOutput, platform: &str) -> BTreeMap<String, String> {
    let (os, architecture) = platform.split_once('/').unwrap_or((platform, ""));
    let size = Digest::parse(&built.manifest).and_then(|manifest| content.blob_size(&manifest));
    let descriptor = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": built.manifest,
        "size": size.unwrap_or(0),
        "annotations": {"config.digest": built.image},
        "platform": {"architecture": architecture, "os": os},
    });
    let descriptor = base64::engine::general_purpose::STANDARD.encode(descriptor.to_string());
    let mut results = BTreeMap::from([
        ("containerimage.digest".to_owned(), built.manifest.clone()),
        ("containerimage.config.digest".to_owned(), built.image.clone()),
        ("containerimage.descriptor".to_owned(), descriptor),
    ]);
    if !built.tags.is_empty() {
        results.insert("image.name".into(), built.tags.join(","));
    }
    results
}

/// A file at the client that is made when the first byte is written: a build that fails leaves none.
struct LazyFile {
    session: Session,
    exporter: usize,
    handle: Handle,
    transfer: Transfer,
    writer: Option<PieceWriter>,
}

impl Write for LazyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let (writer, transfer) = send_file(&self.session, self.exporter, &[]).map_err(io::Error::other)?;
                *self.transfer.lock() = Some(self.handle.spawn(transfer));
                none.insert(writer)
            }
        };
        writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), PieceWriter::flush)
    }
}
