//! A repository: its references, and one commit's objects, by gitprotocol-v2 over gitprotocol-http, over a connection of
//! somebody else's making, or from the disk.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use http_ends::Client;

use super::{
    address::without_password,
    local::Local,
    object::{Kind, Oid},
    pack::{Objects, Pack, PackError},
    packet::{Packet, PacketError, Packets, write},
    receiving::Receiving,
    stream::{Connect, Stream},
};

/// References take so many bytes at most.
pub(crate) const REFERENCES: usize = 64 << 20;

/// A repository that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The server could not be asked. A retry may help.
    #[error(transparent)]
    Http(#[from] http_ends::Error),
    /// The server refuses.
    #[error("{0}: status {1}")]
    Status(Uri, StatusCode),
    /// The answer is not of the protocol.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The server does not speak version 2 of the protocol, which git does since 2.18.
    #[error("the server does not speak version 2 of git's protocol")]
    Version,
    /// The server's own words.
    #[error("the server says: {0}")]
    Said(String),
    /// No branch, tag or reference has this name.
    #[error("the repository has no reference {0:?}")]
    NoReference(String),
    /// The pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The pack cannot be written.
    #[error("the pack cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// The pack is larger than is allowed.
    #[error("the pack is larger than {0} bytes")]
    TooLarge(u64),
    /// A repository on the disk cannot be used.
    #[error("{0}: {1}")]
    Local(PathBuf, String),
    /// The address is none.
    #[error("{0:?} is not an http, https or file address")]
    Address(String),
    /// The address is one of ssh, which this client does not speak.
    #[error(
        "{0:?} is an address of ssh, which is not spoken here: use the repository's https address, with a token as password"
    )]
    Ssh(String),
    /// There is no connection, in words for the user. A retry may help.
    #[error("{0}")]
    Connect(String),
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The commit.
    pub commit: Oid,
    /// The whole reference, as `refs/heads/main`; `None` for an identity.
    pub name: Option<String>,
    /// The annotated tag, where the reference is one.
    pub tag: Option<Oid>,
}

/// The references that a name may mean, the likeliest first.
pub(crate) fn wanted(reference: &str) -> [String; 4] {
    [
        reference.to_owned(),
        format!("refs/tags/{reference}"),
        format!("refs/heads/{reference}"),
        format!("refs/{reference}"),
    ]
}

/// `ssh://HOST/PATH`, and `USER@HOST:PATH` as scp writes it.
fn is_ssh(url: &str) -> bool {
    match url.split_once("://") {
        Some((scheme, _)) => matches!(scheme, "ssh" | "git+ssh" | "ssh+git"),
        None => url.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/')),
    }
}

/// A repository on a server, or on the disk.
#[derive(Clone)]
pub struct Remote {
    way: Way,
    url: String,
    deadline: Duration,
}

/// How a repository is reached.
#[derive(Clone)]
enum Way {
    Local(PathBuf),
    Web { client: Client, authorization: Option<HeaderValue> },
    Stream(Stream),
}

impl Remote {
    /// A repository by its address; a user and a password in the address count as `login`.
    ///
    /// # Errors
    /// If the address is none.
    pub fn new(
        client: Client,
        url: &str,
        login: Option<(String, String)>,
        deadline: Duration,
    ) -> Result<Self, RemoteError> {
        let wrong = || RemoteError::Address(without_password(url));
        if is_ssh(url) {
            return Err(RemoteError::Ssh(without_password(url)));
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        if scheme == "file" {
            // `file:///srv/x` and `file://localhost/srv/x`.
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            let path = percent_decode(path).filter(|path| path.starts_with('/')).ok_or_else(wrong)?;
            let url = format!("file://{}", path.trim_end_matches('/'));
            return Ok(Self { way: Way::Local(path.into()), url, deadline });
        }
        if scheme != "http" && scheme != "https" {
            return Err(wrong());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (in_url, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login.split_once(':').unwrap_or((login, ""))), host),
            None => (None, authority),
        };
        let login = login.or_else(|| in_url.map(|(user, password)| (user.to_owned(), password.to_owned())));
        let url = format!("{scheme}://{host}/{}", path.trim_end_matches('/'));
        url.parse::<Uri>().map_err(|_| wrong())?;
        let authorization = login.and_then(|(user, password)| {
            let text = base64(format!("{user}:{password}").as_bytes());
            let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self { way: Way::Web { client, authorization }, url, deadline })
    }

    /// A repository behind connections that somebody makes; `url` is for people.
    #[must_use]
    pub fn over(connect: Arc<dyn Connect>, url: &str, deadline: Duration) -> Self {
        Self { way: Way::Stream(Stream::new(connect)), url: url.to_owned(), deadline }
    }

    /// The same with other words of who asks than a user and a password: the value of an `Authorization`.
    #[must_use]
    pub fn authorized(mut self, value: &str) -> Self {
        if let Way::Web { authorization, .. } = &mut self.way
            && let Ok(mut value) = HeaderValue::from_str(value)
        {
            value.set_sensitive(true);
            *authorization = Some(value);
        }
        self
    }

    /// The address without user and password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The commit that a branch, a tag, a whole reference, `HEAD` or an identity stands for.
    ///
    /// # Errors
    /// If the server does not know it.
    pub async fn resolve(&self, reference: &str) -> Result<Oid, RemoteError> {
        Ok(self.find(reference).await?.commit)
    }

    /// What a branch, a tag, a whole reference, `HEAD` or an identity stands for.
    ///
    /// # Errors
    /// If the server does not know it.
    pub async fn find(&self, reference: &str) -> Result<Found, RemoteError> {
        if let Way::Local(path) = self.way.clone() {
            let reference = reference.to_owned();
            return blocking(move || Local::open(&path)?.find(&reference)).await;
        }
        if let Ok(commit) = reference.parse() {
            return Ok(Found { commit, name: None, tag: None });
        }
        if let Way::Stream(stream) = &self.way {
            return self.timed(stream.find(reference)).await;
        }
        self.greet().await?;
        let wanted = wanted(reference);
        let mut lines = vec![Some("command=ls-refs".to_owned()), Some("object-format=sha1".to_owned()), None];
        lines.extend(["peel", "symrefs"].map(|option| Some(option.to_owned())));
        lines.extend(wanted.iter().map(|name| Some(format!("ref-prefix {name}"))));
        let answer = self.client()?.send(self.post(&lines)?, REFERENCES, self.deadline).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer.status()));
        }
        let mut packets = Packets::default();
        packets.add(answer.body());
        let mut found: [Option<Found>; 4] = [const { None }; 4];
        while let Some(Packet::Data(line)) = packets.take()? {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end();
            if let Some(said) = line.strip_prefix("ERR ") {
                return Err(RemoteError::Said(said.to_owned()));
            }
            let mut words = line.split(' ');
            let (Some(oid), Some(name)) = (words.next(), words.next()) else { continue };
            let Some(at) = wanted.iter().position(|wanted| wanted == name) else { continue };
            let (mut peeled, mut target) = (None, name);
            for word in words {
                // An annotated tag stands for the commit that it was put on.
                peeled = word.strip_prefix("peeled:").or(peeled);
                target = word.strip_prefix("symref-target:").unwrap_or(target);
            }
            let (Ok(oid), Ok(commit)) = (oid.parse(), peeled.unwrap_or(oid).parse()) else { continue };
            found[at] = Some(Found { commit, name: Some(target.to_owned()), tag: peeled.map(|_| oid) });
        }
        found.into_iter().flatten().next().ok_or_else(|| RemoteError::NoReference(reference.to_owned()))
    }

    /// A commit's objects, or those of an annotated tag, without the history before. The pack lies in a file without a
    /// name in `directory`.
    ///
    /// # Errors
    /// If the server does not have it, or the pack is damaged.
    pub async fn fetch(
        &self,
        commit: &Oid,
        directory: &Path,
        most: u64,
    ) -> Result<Box<dyn Objects + Send>, RemoteError> {
        if let Way::Local(path) = self.way.clone() {
            let commit = *commit;
            return blocking(move || {
                let mut objects = Local::open(&path)?.objects()?;
                objects.object(&commit, Kind::Commit).or_else(|_| objects.object(&commit, Kind::Tag))?;
                Ok(Box::new(objects) as Box<dyn Objects + Send>)
            })
            .await;
        }
        let lines = [
            Some("command=fetch".to_owned()),
            Some("object-format=sha1".to_owned()),
            None,
            Some("no-progress".to_owned()),
            Some("ofs-delta".to_owned()),
            Some("deepen 1".to_owned()),
            Some(format!("want {commit}")),
            Some("done".to_owned()),
        ];
        let receiving = Receiving::new(directory, most)?;
        let mut file = match &self.way {
            Way::Stream(stream) => self.timed(stream.fetch(commit, receiving)).await?,
            _ => self.timed(self.receive(self.post(&lines)?, receiving)).await?,
        };
        blocking(move || {
            file.seek(SeekFrom::Start(0))?;
            Ok(Box::new(Pack::read(file)?) as Box<dyn Objects + Send>)
        })
        .await
    }

    async fn timed<T>(&self, work: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        let late = |_| RemoteError::Http(http_ends::Error::Deadline(self.url.clone(), self.deadline));
        tokio::time::timeout(self.deadline, work).await.map_err(late)?
    }

    fn client(&self) -> Result<&Client, RemoteError> {
        match &self.way {
            Way::Web { client, .. } => Ok(client),
            _ => Err(RemoteError::Address(self.url.clone())),
        }
    }

    async fn receive(&self, request: Request<Bytes>, mut receiving: Receiving) -> Result<File, RemoteError> {
        let answer = self.client()?.open(request).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer.status()));
        }
        let (mut body, mut packets) = (answer.into_body(), Packets::default());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| http_ends::Error::Exchange(self.url.clone(), error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            packets.add(&data);
            while let Some(packet) = packets.take()? {
                receiving.take(packet)?;
            }
        }
        receiving.finish()
    }

    /// Asks what the server speaks.
    async fn greet(&self) -> Result<(), RemoteError> {
        let mut request = Request::get(format!("{}/info/refs?service=git-upload-pack", self.url))
            .body(Bytes::new())
            .map_err(|_| RemoteError::Address(self.url.clone()))?;
        self.authorize(&mut request);
        let answer = self.client()?.send(request, REFERENCES, self.deadline).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer.status()));
        }
        let mut packets = Packets::default();
        packets.add(answer.body());
        while let Some(packet) = packets.take().map_err(|_| RemoteError::Version)? {
            if let Packet::Data(line) = packet
                && line.trim_ascii_end() == b"version 2"
            {
                return Ok(());
            }
        }
        Err(RemoteError::Version)
    }

    fn post(&self, lines: &[Option<String>]) -> Result<Request<Bytes>, RemoteError> {
        let mut request = Request::post(format!("{}/git-upload-pack", self.url))
            .header(header::CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(header::ACCEPT, "application/x-git-upload-pack-result")
            .body(Bytes::from(write(lines)))
            .map_err(|_| RemoteError::Address(self.url.clone()))?;
        self.authorize(&mut request);
        Ok(request)
    }

    fn authorize(&self, request: &mut Request<Bytes>) {
        // Servers tell git from browsers by its name.
        let agent = HeaderValue::from_static(concat!("git/2.0 (hythe/", env!("CARGO_PKG_VERSION"), ")"));
        request.headers_mut().insert(header::USER_AGENT, agent);
        request.headers_mut().insert("git-protocol", HeaderValue::from_static("version=2"));
        if let Way::Web { authorization: Some(authorization), .. } = &self.way {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
    }

    fn refused(&self, status: StatusCode) -> RemoteError {
        RemoteError::Status(self.url.parse().unwrap_or_default(), status)
    }
}

/// Where waiting for a disk hurts nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    let done = tokio::task::spawn_blocking(work).await;
    // The work does not panic, and is not aborted.
    done.map_err(|error| std::io::Error::other(error.to_string()))?
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| hex::decode(digits).ok());
        match (first, digits) {
            (b'%', Some(byte)) => {
                bytes.extend(byte);
                rest = &after[2..];
            }
            (b'%', None) => return None,
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
