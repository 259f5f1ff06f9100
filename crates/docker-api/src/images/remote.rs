//! A build's context that is somewhere else: `remote=http://…`, an archive or a Dockerfile.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use builder::{Access, BuildRequest, Context, Repository, Source};

use crate::error::{ApiError, Result};

/// More than this is no context.
const LIMIT: u64 = 16 << 30;
/// A Dockerfile is smaller.
const DOCKERFILE: u64 = 1 << 20;

/// What a request's context lasts as long as.
#[allow(dead_code, reason = "held for their drop")]
pub(super) enum Held {
    File(tempfile::NamedTempFile),
    Directory(tempfile::TempDir),
}

/// Fetches what a URL names and makes it a request's context.
pub(super) async fn fetch(url: &str, scratch: &Path, request: &mut BuildRequest) -> Result<Held> {
    if let Some(repository) = Repository::parse(url) {
        let place = tempfile::tempdir_in(scratch)?;
        // dockerd's context is the clone as it is.
        let target = place.path().join("repository");
        let files = repository.check_out(&target, LIMIT, true, &Access::default()).await;
        let files = files.map_err(|error| ApiError::internal(format!("error fetching: {error}")))?;
        request.context = Context::Directory(files.directory);
        return Ok(Held::Directory(place));
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(ApiError::bad(format!(
            "remote context {url}: only repositories, http:// and https:// are fetched by this engine"
        )));
    }
    let file = tempfile::NamedTempFile::new_in(scratch)?;
    builder::download(url, file.path(), LIMIT)
        .await
        .map_err(|error| ApiError::bad(format!("error downloading remote context {url}: {error}")))?;
    if is_archive(file.path())? {
        request.context = Context::Tar(Box::new(File::open(file.path())?));
        return Ok(Held::File(file));
    }
    let text = match fs::metadata(file.path())?.len() {
        ..=DOCKERFILE => fs::read_to_string(file.path()).ok(),
        _ => None,
    };
    let text =
        text.ok_or_else(|| ApiError::bad(format!("remote context {url} is neither an archive nor a Dockerfile")))?;
    request.dockerfile = Source::Text(text);
    Ok(Held::File(file))
}

/// Whether a file is an archive, compressed or not, by how it begins.
fn is_archive(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(512).read_to_end(&mut head)?;
    let compressed: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let plain = head.get(257..262) == Some(b"ustar") || head.len() == 512 && head.iter().all(|byte| *byte == 0);
    Ok(plain || compressed.iter().any(|magic| head.starts_with(magic)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let is = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            is_archive(file.path()).unwrap()
        };
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_cksum();
        archive.append_data(&mut header, "Dockerfile", std::io::empty()).unwrap();
        assert!(is(&archive.into_inner().unwrap()));
        assert!(is(b"\x1f\x8b\x08rest"));
        assert!(!is(b"FROM scratch\n"));
        assert!(!is(b""));
    }
}
