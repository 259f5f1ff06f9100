//! Images: unpacking, importing, pulling, removing.

mod hostile;
mod import;
mod pull;
mod registry;

use engine::content::Digest;
use serde_json::json;

/// A tar archive from (header edit, path, body) entries. Paths go in as they are, however bad.
pub fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, body) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if link {
            header.as_gnu_mut().unwrap().linkname[..body.len()].copy_from_slice(body.as_bytes());
        }
        let data = if link { "" } else { *body };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A configuration with these layers (uncompressed).
pub fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    serde_json::to_vec(&json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux",
        "config": {"Cmd": ["/bin/run"], "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}, "Entrypoint": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))
    .unwrap()
}
