//! A git server over HTTP on loopback: git's own upload-pack behind a few lines, as `git http-backend` does it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use http::{StatusCode, header};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A repository with a working copy, and its server, until the test ends.
pub struct GitServer {
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
    _end: DropGuard,
}

impl GitServer {
    /// `login`, if given, must come as basic authorization.
    pub async fn start(login: Option<&'static str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        git(directory.path(), &["init", "-q", "-b", "main", "."]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let repository = directory.path().to_owned();
        tokio::spawn(http_ends::serve(listener, stop.clone(), move |request, _| {
            let repository = repository.clone();
            async move {
                let authorized = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                if authorized != login {
                    return http_ends::answer(StatusCode::UNAUTHORIZED, "text/plain", "who are you?");
                }
                let (head, body) = request.into_parts();
                let body = http_ends::whole(body, 1 << 20).await.unwrap();
                let mode = match head.uri.path() {
                    "/app.git/info/refs" => "--http-backend-info-refs",
                    "/app.git/git-upload-pack" => "--stateless-rpc",
                    _ => return http_ends::answer(StatusCode::NOT_FOUND, "text/plain", "no such repository"),
                };
                let mut child = tokio::process::Command::new("git")
                    .args(["-c", "uploadpack.allowAnySHA1InWant=true", "upload-pack", mode])
                    .arg(&repository)
                    .env("GIT_PROTOCOL", head.headers["git-protocol"].to_str().unwrap())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()
                    .unwrap();
                let mut input = child.stdin.take().unwrap();
                input.write_all(&body).await.unwrap();
                drop(input);
                let output = child.wait_with_output().await.unwrap();
                http_ends::answer(StatusCode::OK, "application/x-git-upload-pack-result", output.stdout)
            }
        }));
        Self { directory, address, _end: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("http://{}/app.git", self.address)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes files and commits them. Returns the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        git(self.path(), &["add", "-A"]);
        git(self.path(), &["commit", "-q", "--allow-empty", "-m", "a change"]);
        git(self.path(), &["rev-parse", "HEAD"])
    }
}

/// Runs git without anyone's configuration.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Someone", "-c", "user.email=someone@example.com"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All files below a directory but `.git`: name, kind and mode, content.
pub fn listing(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == ".git" {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_symlink() {
                std::fs::read_link(&path).unwrap().to_str().unwrap().into()
            } else if metadata.is_dir() {
                waiting.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            // Who may write beside the owner is the matter of the one who wrote: git tells of execution alone.
            found.push((path.strip_prefix(directory).unwrap().to_owned(), metadata.mode() & 0o170_100, content));
        }
    }
    found.sort();
    found
}
