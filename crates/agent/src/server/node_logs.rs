//! `/logs/…`: the files below `/var/log` of the machine, listed and shown as Go's file server does.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio::sync::mpsc;

use super::respond::{Body, Refusal, streamed, text, with_type};

const ROOT: &str = "/var/log";
/// A file is read in pieces of so many bytes.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a slow client.
const PIECES: usize = 4;

/// What is escaped in a link, beside what may not stand in one.
const IN_PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'%').add(b'`').add(b'{').add(b'}');

/// The answer for the segments behind `/logs/`, still escaped.
pub(super) async fn answer(segments: &[&str]) -> Result<Response<Body>, Refusal> {
    let decoded: Option<Vec<String>> =
        segments.iter().map(|s| percent_decode_str(s).decode_utf8().ok().map(|s| s.into_owned())).collect();
    let segments = decoded.unwrap_or_default();
    tokio::task::spawn_blocking(move || shown(Path::new(ROOT), &segments))
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?
}

/// To where the path has its proper form: folders end with a slash, files do not.
fn moved(to: &str) -> Response<Body> {
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn shown(root: &Path, segments: &[String]) -> Result<Response<Body>, Refusal> {
    let missing = || Refusal::not_found("404 page not found\n");
    if segments.iter().any(|s| s == ".." || s.contains(['/', '\0'])) {
        return Err(Refusal::bad_request("invalid URL path\n"));
    }
    let ends_with_slash = segments.last().is_none_or(String::is_empty);
    let path: PathBuf =
        segments.iter().filter(|s| !s.is_empty()).fold(root.to_path_buf(), |path, segment| path.join(segment));
    let found = fs::metadata(&path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal { status: StatusCode::FORBIDDEN, message: "403 Forbidden\n".into() },
        _ => missing(),
    })?;
    let last = segments.iter().rfind(|s| !s.is_empty()).map_or("logs", String::as_str);
    let last = utf8_percent_encode(last, IN_PATH).to_string();
    match (found.is_dir(), ends_with_slash) {
        (true, true) => Ok(listing(&path)?),
        (true, false) => Ok(moved(&format!("{last}/"))),
        (false, true) => Ok(moved(&format!("../{last}"))),
        (false, false) if found.is_file() => file(&path, &found),
        (false, false) => Err(missing()),
    }
}

fn listing(path: &Path) -> Result<Response<Body>, Refusal> {
    let entries = fs::read_dir(path).map_err(|_| Refusal::internal("Error reading directory\n"))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            format!("{}{}", entry.file_name().to_string_lossy(), if is_dir { "/" } else { "" })
        })
        .collect();
    names.sort();
    let mut page = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        page.push_str(&format!("<a href=\"{}\">{shown}</a>\n", utf8_percent_encode(&name, IN_PATH)));
    }
    page.push_str("</pre>\n");
    Ok(with_type(StatusCode::OK, "text/html; charset=utf-8", page.into()))
}

/// As long as it was when it was asked for, whatever is written meanwhile.
fn file(path: &Path, found: &Metadata) -> Result<Response<Body>, Refusal> {
    let file = fs::File::open(path).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut head = [0; 512];
    let read = file.read_at(&mut head, 0).map_err(|error| Refusal::internal(error.to_string()))?;
    let kind = if head[..read].contains(&0) { "application/octet-stream" } else { "text/plain; charset=utf-8" };
    let length = found.len();
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut at = 0;
        while at < length {
            let mut piece = vec![0; PIECE.min(usize::try_from(length - at).unwrap_or(PIECE))];
            match file.read_at(&mut piece, at) {
                Ok(read) if read > 0 => {
                    piece.truncate(read);
                    at += read as u64;
                    if sender.blocking_send(Bytes::from(piece)).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    Ok(streamed(kind, pieces))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(root: &Path, path: &str) -> (u16, String, String) {
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let response = shown(root, &segments).unwrap_or_else(Refusal::into_response);
        let header = |name| response.headers().get(name).map(|v| v.to_str().expect("it is text").to_owned());
        let told = header(header::LOCATION).or(header(header::CONTENT_TYPE)).unwrap_or_default();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("it can't fail").to_bytes();
        (code, told, String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn folders_are_listed_and_files_are_shown() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("apt")).expect("made");
        fs::write(root.path().join("a<b.log"), "one line\n".repeat(20_000)).expect("written");
        fs::write(root.path().join("apt/data"), [0, 1, 2]).expect("written");
        let (code, kind, page) = get(root.path(), "").await;
        assert_eq!((code, kind.as_str()), (200, "text/html; charset=utf-8"));
        assert!(
            page.contains("<pre>\n<a href=\"a%3Cb.log\">a&lt;b.log</a>\n<a href=\"apt/\">apt/</a>\n</pre>"),
            "{page}"
        );
        let (code, kind, content) = get(root.path(), "a<b.log").await;
        assert_eq!((code, kind.as_str(), content.len()), (200, "text/plain; charset=utf-8", 180_000));
        assert_eq!(get(root.path(), "apt/data").await.1, "application/octet-stream");
        assert_eq!(get(root.path(), "apt").await.1, "apt/");
        assert_eq!(get(root.path(), "apt/data/").await.1, "../data");
        assert_eq!(get(root.path(), "none").await.0, 404);
        assert_eq!(get(root.path(), "../etc/passwd").await.0, 400);
    }
}
