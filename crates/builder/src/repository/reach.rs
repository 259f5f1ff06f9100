//! How a repository is reached: over HTTP with what the user says of who asks, over ssh with a key of the user's agent, or
//! by git's own protocol.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use git::{Connect, Connecting, Connection, Remote, without_password};
use http_ends::{Client, Names, Trust};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use crate::request::{Agents, Secrets};

/// No honest repository takes longer.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// A server that does not answer at all.
const CONNECTING: Duration = Duration::from_secs(30);
/// The agent that repositories are fetched with, as for BuildKit.
const AGENT: &str = "default";
const SSH_PORT: u16 = 22;
const GIT_PORT: u16 = 9418;

/// What a user lends for repositories that not everybody may have.
#[derive(Clone, Default)]
pub struct Access {
    /// Who has SSH agents; the one of the id `default` is asked.
    pub agents: Option<Arc<dyn Agents>>,
    /// Who knows `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER`, of all hosts or with a host's name behind a dot.
    pub secrets: Option<Arc<dyn Secrets>>,
}

/// Who asks at one server of HTTP: the server, as `https://host`, and the value of an `Authorization`.
pub(super) type Asking = Option<(String, String)>;

impl Access {
    /// What secrets say of the server of `url`.
    pub(super) async fn asking(&self, url: &str) -> Result<Asking, String> {
        let Some((secrets, server)) = self.secrets.as_ref().zip(server_of(url)) else { return Ok(None) };
        let host = server.split_once("://").map_or(server.as_str(), |(_, host)| host);
        for (name, is_token) in [
            (format!("GIT_AUTH_HEADER.{host}"), false),
            (format!("GIT_AUTH_TOKEN.{host}"), true),
            ("GIT_AUTH_HEADER".to_owned(), false),
            ("GIT_AUTH_TOKEN".to_owned(), true),
        ] {
            let Some(secret) = secrets.secret(&name).await? else { continue };
            let text = String::from_utf8_lossy(&secret).trim().to_owned();
            let value = if is_token { basic(&format!("x-access-token:{text}")) } else { text };
            return Ok(Some((server, value)));
        }
        Ok(None)
    }

    /// The same for what is fetched because a repository names it: one of ssh alone may ask for signatures, as for
    /// BuildKit.
    pub(super) fn within(&self, url: &str) -> Self {
        let agents = self.agents.clone().filter(|_| Place::of_ssh(url).is_some());
        Self { agents, secrets: self.secrets.clone() }
    }

    /// The repository at an address. Errors are words for the user.
    pub(super) fn remote(&self, url: &str, asking: &Asking) -> Result<Remote, String> {
        if let Some(at) = Place::of_ssh(url) {
            let ssh = Ssh { at, agents: self.agents.clone() };
            return Ok(Remote::over(Arc::new(ssh), &without_password(url), PATIENCE));
        }
        if let Some(at) = url.strip_prefix("git://").and_then(|rest| Place::of(rest, GIT_PORT)) {
            return Ok(Remote::over(Arc::new(Plain(at)), url, PATIENCE));
        }
        // Nobody but the user of this machine names a repository on its disk.
        if !crate::fetch::is_url(url) {
            return Err(format!("{:?} is no address of a repository", without_password(url)));
        }
        let client = Client::new(Names::default(), Trust::System);
        let remote = Remote::new(client, url, None, PATIENCE).map_err(|error| error.to_string())?;
        let own_login = url.split('/').nth(2).is_some_and(|authority| authority.contains('@'));
        Ok(match asking {
            Some((server, value)) if !own_login && server_of(url).as_ref() == Some(server) => remote.authorized(value),
            _ => remote,
        })
    }
}

/// `https://host:port` of an address.
fn server_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").filter(|_| crate::fetch::is_url(url))?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(format!("{scheme}://{host}"))
}

fn basic(login: &str) -> String {
    use base64::Engine as _;
    format!("basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// Where a repository is, at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    user: Option<String>,
    host: String,
    port: u16,
    path: String,
}

impl Place {
    /// `ssh://[user@]host[:port]/path`, or `user@host:path` as scp writes it.
    fn of_ssh(url: &str) -> Option<Self> {
        if let Some((scheme, rest)) = url.split_once("://") {
            return Self::of(rest, SSH_PORT).filter(|_| matches!(scheme, "ssh" | "git+ssh" | "ssh+git"));
        }
        let (server, path) = url.split_once(':')?;
        let (user, host) = server.split_once('@').filter(|_| !server.contains('/') && !path.is_empty())?;
        Some(Self { user: Some(user.to_owned()), host: host.to_owned(), port: SSH_PORT, path: path.to_owned() })
    }

    /// `[user@]host[:port]/path`; a path from the user's own directory begins with `~`.
    fn of(rest: &str, port: u16) -> Option<Self> {
        let (authority, path) = rest.split_once('/').filter(|(_, path)| !path.is_empty())?;
        let (user, server) = match authority.rsplit_once('@') {
            Some((login, server)) => (login.split(':').next().map(str::to_owned), server),
            None => (None, authority),
        };
        let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, port),
            Some((host, rest)) => (host, rest.strip_prefix(':')?.parse().ok()?),
            None => match server.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (server, port),
            },
        };
        let path = if path.starts_with('~') { path.to_owned() } else { format!("/{path}") };
        Some(Self { user, host: host.to_owned(), port, path }).filter(|place| !place.host.is_empty())
    }

    /// One word of a shell.
    fn quoted(&self) -> String {
        format!("'{}'", self.path.replace('\'', "'\\''"))
    }

    async fn dial(&self) -> Result<TcpStream, String> {
        let addresses = Names::default().addresses(&self.host).await.map_err(|error| error.to_string())?;
        let mut last = format!("{} has no address", self.host);
        for address in addresses {
            match tokio::time::timeout(CONNECTING, TcpStream::connect((address, self.port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = format!("connect to {} port {}: {error}", self.host, self.port),
                Err(_) => last = format!("connect to {} port {}: no answer", self.host, self.port),
            }
        }
        Err(last)
    }
}

/// By ssh.
struct Ssh {
    at: Place,
    agents: Option<Arc<dyn Agents>>,
}

impl Connect for Ssh {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let none = || format!("no SSH key {AGENT:?} forwarded from the client");
            let agents = self.agents.as_ref().ok_or_else(none)?;
            agents.check(AGENT).await?;
            let stream = self.at.dial().await?;
            let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
            let carrying = tokio::spawn(agents.carry(AGENT.to_owned(), theirs));
            let known = known_hosts();
            let user = self.at.user.as_deref().unwrap_or("root");
            let login = ssh::Login { host: &self.at.host, port: self.at.port, user, known: &known };
            let command = format!("git-upload-pack {}", self.at.quoted());
            let session = ssh::run(stream, login, ours, &command);
            let session = tokio::time::timeout(CONNECTING * 2, session).await;
            carrying.abort();
            let shown = format!("{user}@{}", self.at.host);
            match session {
                Ok(Ok(session)) => {
                    let reason = Box::new(session.reason());
                    Ok(Connection { stream: Box::new(session), reason })
                }
                Ok(Err(error)) => Err(format!("{shown}: {error}")),
                Err(_) => Err(format!("{shown}: no answer")),
            }
        })
    }
}

/// The servers that this machine and its own user know.
fn known_hosts() -> ssh::KnownHosts {
    let mut known = ssh::KnownHosts::default();
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    for path in [Path::new("/etc/ssh/ssh_known_hosts"), &Path::new(&home).join(".ssh/known_hosts")] {
        known.add(&std::fs::read_to_string(path).unwrap_or_default());
    }
    known
}

/// By git's own protocol, which knows of no users.
struct Plain(Place);

impl Connect for Plain {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let mut stream = self.0.dial().await?;
            let request = format!("git-upload-pack {}\0host={}\0", self.0.path, self.0.host);
            let packet = format!("{:04x}{request}", request.len() + 4);
            stream.write_all(packet.as_bytes()).await.map_err(|error| error.to_string())?;
            Ok(Connection { stream: Box::new(stream), reason: Box::new(|| None) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ssh_are_read_as_git_reads_them() {
        let of = |url: &str| {
            Place::of_ssh(url).map(|at| (at.user.clone().unwrap_or_default(), at.host.clone(), at.port, at.quoted()))
        };
        let is = |user: &str, host: &str, port: u16, path: &str| {
            Some((user.to_owned(), host.to_owned(), port, path.to_owned()))
        };
        assert_eq!(of("git@host:a/b.git"), is("git", "host", 22, "'a/b.git'"));
        assert_eq!(of("ssh://me:word@host:2222/a/b"), is("me", "host", 2222, "'/a/b'"));
        assert_eq!(of("ssh://host/~me/it's"), is("", "host", 22, "'~me/it'\\''s'"));
        assert_eq!(of("ssh://git@[::1]:22/a"), is("git", "::1", 22, "'/a'"));
        for url in ["https://host/a", "ssh://host", "git@host:", "host:a", "./a@b:c"] {
            assert_eq!(of(url), None, "{url}");
        }
    }

    #[test]
    fn servers_are_told_apart() {
        assert_eq!(server_of("https://me:secret@host:8443/a").as_deref(), Some("https://host:8443"));
        assert_eq!(server_of("git@host:a"), None);
    }
}
