//! What becomes of the result beside the image in the store.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use engine::content::{Digest, Image, Packing, Reference, pack};
use rustix::fs::{self as rfs, Mode, OFlags};
use serde_json::json;

use crate::error::Kind;
use crate::pattern::Ignore;
use crate::place::{self, Placing};
use crate::request::Output;
use crate::tree::Root;
use crate::work::{Built, Work};

/// Writes it.
pub(crate) fn write(work: &Work, image: &Image, built: &Built, output: Output, tags: &[Reference]) -> Result<(), Kind> {
    let fail = |e: io::Error| Kind::io("write", Path::new("the output"), e);
    match output {
        Output::Image => Ok(()),
        Output::Oci(mut writer) => {
            oci(work, image, built, tags, false, &mut writer).and_then(|()| writer.flush()).map_err(fail)
        }
        Output::Docker(mut writer) => {
            oci(work, image, built, tags, true, &mut writer).and_then(|()| writer.flush()).map_err(fail)
        }
        Output::Tar(mut writer) => {
            let view = work.view(&built.layers)?;
            let packing = Packing { upper: false, clamp: work.settings.clamp };
            pack(&view, &mut writer, packing).and_then(|()| writer.flush()).map_err(fail)
        }
        Output::Local(path) => {
            let fail = |e: io::Error| Kind::io("write", &path, e);
            std::fs::create_dir_all(&path).map_err(fail)?;
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            let target = rfs::open(&path, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
            let root = Root::new(work.view(&built.layers)?, Ignore::default());
            let tree = root.tree("", &Ignore::default()).map_err(fail)?;
            place::contents(&tree, &target, false, &Placing::default()).map_err(fail)
        }
    }
}

/// An OCI layout (image-layout.md of the OCI image specification) as an archive; with `manifest.json`, what older
/// versions of `docker load` read.
fn oci(
    work: &Work,
    image: &Image,
    built: &Built,
    tags: &[Reference],
    docker: bool,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    let mut add = |name: &str, size: u64, reader: &mut dyn io::Read| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, name, reader)
    };
    let text = json!({"imageLayoutVersion": "1.0.0"}).to_string();
    add("oci-layout", text.len() as u64, &mut text.as_bytes())?;
    let manifest = std::fs::read(work.content.blob_path(&image.manifest))?;
    let entry = |name: Option<String>| {
        let mut entry = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": image.manifest,
            "size": manifest.len(),
            "platform": {"os": built.config.os, "architecture": built.config.architecture},
        });
        if let Some(name) = name {
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag).to_owned();
            entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        }
        entry
    };
    let entries: Vec<_> = match tags.is_empty() {
        true => vec![entry(None)],
        false => tags.iter().map(|tag| entry(Some(tag.to_string()))).collect(),
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    })
    .to_string();
    add("index.json", index.len() as u64, &mut index.as_bytes())?;
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    if docker {
        let layers: Vec<String> = built.layers.iter().map(|layer| blob(&layer.blob)).collect();
        let names: Vec<String> = tags.iter().map(Reference::familiar).collect();
        let text = json!([{"Config": blob(&image.id), "RepoTags": names, "Layers": layers}]).to_string();
        add("manifest.json", text.len() as u64, &mut text.as_bytes())?;
    }
    add(&blob(&image.manifest), manifest.len() as u64, &mut manifest.as_slice())?;
    let config = std::fs::read(work.content.blob_path(&image.id))?;
    add(&blob(&image.id), config.len() as u64, &mut config.as_slice())?;
    let mut written = Vec::new();
    for layer in &built.layers {
        if !written.contains(&&layer.blob) {
            let mut file = File::open(work.content.blob_path(&layer.blob))?;
            add(&blob(&layer.blob), layer.size, &mut file)?;
            written.push(&layer.blob);
        }
    }
    archive.finish()
}
