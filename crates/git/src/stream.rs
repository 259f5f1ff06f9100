//! A repository behind a connection: a server of ssh, or git's own. Version 0 of the protocol (gitprotocol-pack), which
//! all of them speak: a server of ssh passes a wish for another one on only where it is told to.

use std::{fs::File, future::Future, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Mutex,
};

use super::{
    object::Oid,
    packet::{Packet, Packets, write},
    receiving::Receiving,
    remote::{Found, REFERENCES, RemoteError, wanted},
};

/// What is read and written.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection to `git-upload-pack`, wherever it runs.
pub struct Connection {
    /// The connection.
    pub stream: Box<dyn Duplex>,
    /// Its own words, asked for once it says no more.
    pub reason: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// A connection that is being made.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Connection, String>> + Send + 'a>>;

/// Somebody who makes connections to one repository.
pub trait Connect: Send + Sync {
    /// Makes one. Errors are words for the user.
    fn connect(&self) -> Connecting<'_>;
}

/// The repository.
#[derive(Clone)]
pub(crate) struct Stream {
    connect: Arc<dyn Connect>,
    /// A conversation whose references were read, and that goes on when the commit is fetched: an agent is asked once.
    begun: Arc<Mutex<Option<Conversation>>>,
}

impl Stream {
    pub(crate) fn new(connect: Arc<dyn Connect>) -> Self {
        Self { connect, begun: Arc::default() }
    }

    async fn begin(&self) -> Result<Conversation, RemoteError> {
        let connection = self.connect.connect().await.map_err(RemoteError::Connect)?;
        Conversation::begin(connection).await
    }

    /// What a name stands for.
    pub(crate) async fn find(&self, reference: &str) -> Result<Found, RemoteError> {
        let conversation = self.begin().await?;
        let found = conversation.find(reference);
        *self.begun.lock().await = Some(conversation);
        found.ok_or_else(|| RemoteError::NoReference(reference.to_owned()))
    }

    /// Receives a commit without its history.
    pub(crate) async fn fetch(&self, commit: &Oid, receiving: Receiving) -> Result<File, RemoteError> {
        let begun = self.begun.lock().await.take();
        let conversation = match begun {
            Some(conversation) => conversation,
            None => self.begin().await?,
        };
        conversation.fetch(commit, receiving).await
    }
}

/// A connection whose server has told its references.
struct Conversation {
    connection: Connection,
    packets: Packets,
    references: Vec<(Oid, String)>,
    capabilities: String,
}

impl Conversation {
    async fn begin(connection: Connection) -> Result<Self, RemoteError> {
        let (packets, references, capabilities) = (Packets::default(), Vec::new(), String::new());
        let mut conversation = Self { connection, packets, references, capabilities };
        let mut told = 0;
        while let Some(line) = conversation.line().await? {
            told += line.len();
            if told > REFERENCES {
                return Err(RemoteError::Said("more references than can be".to_owned()));
            }
            let (line, capabilities) = line.split_once('\0').unwrap_or((&line, ""));
            if !capabilities.is_empty() {
                capabilities.trim_end().clone_into(&mut conversation.capabilities);
            }
            // An empty repository names its abilities alone; `shallow` and `version` are no references either.
            let Some((oid, name)) = line.trim_end().split_once(' ') else { continue };
            if let (Ok(oid), false) = (oid.parse(), name == "capabilities^{}") {
                conversation.references.push((oid, name.to_owned()));
            }
        }
        Ok(conversation)
    }

    /// Reads more of what the server says.
    async fn more(&mut self) -> Result<(), RemoteError> {
        let mut buffer = vec![0; 32 << 10];
        let count = self.connection.stream.read(&mut buffer).await?;
        if count == 0 {
            let cut = || super::packet::PacketError::CutOff.into();
            return Err((self.connection.reason)().map_or_else(cut, RemoteError::Said));
        }
        self.packets.add(&buffer[..count]);
        Ok(())
    }

    /// The next line; none at a message's end.
    async fn line(&mut self) -> Result<Option<String>, RemoteError> {
        loop {
            let line = match self.packets.take()? {
                Some(Packet::Data(line)) => Some(String::from_utf8_lossy(line).into_owned()),
                Some(Packet::Flush) => return Ok(None),
                Some(Packet::Delimiter) => continue,
                None => None,
            };
            match line {
                Some(line) => match line.strip_prefix("ERR ") {
                    Some(said) => return Err(RemoteError::Said(said.trim_end().to_owned())),
                    None => return Ok(Some(line)),
                },
                None => self.more().await?,
            }
        }
    }

    fn can(&self, ability: &str) -> bool {
        self.capabilities.split(' ').any(|own| own == ability)
    }

    fn find(&self, reference: &str) -> Option<Found> {
        let of = |name: &str| self.references.iter().find(|(_, own)| own == name).map(|(oid, _)| *oid);
        let (name, oid) = wanted(reference).into_iter().find_map(|name| of(&name).map(|oid| (name, oid)))?;
        // An annotated tag stands for the commit that it was put on.
        let peeled = of(&format!("{name}^{{}}"));
        let target = self.capabilities.split(' ').find_map(|own| own.strip_prefix(&format!("symref={name}:")));
        let name = target.map_or(name, str::to_owned);
        Some(Found { commit: peeled.unwrap_or(oid), name: Some(name), tag: peeled.map(|_| oid) })
    }

    async fn fetch(mut self, commit: &Oid, mut receiving: Receiving) -> Result<File, RemoteError> {
        if !self.can("side-band-64k") {
            return Err(RemoteError::Said("it cannot tell a pack from its words (side-band-64k)".to_owned()));
        }
        let shallow = self.can("shallow");
        let own: Vec<&str> = ["ofs-delta", "no-progress"].into_iter().filter(|ability| self.can(ability)).collect();
        let mut lines = vec![Some(format!("want {commit} side-band-64k {}", own.join(" ")))];
        lines.extend(shallow.then(|| Some("deepen 1".to_owned())));
        self.connection.stream.write_all(&write(&lines)).await?;
        if shallow {
            self.connection.stream.flush().await?;
            // Where history ends: at the commit itself.
            while self.line().await?.is_some() {}
        }
        self.connection.stream.write_all(b"0009done\n").await?;
        self.connection.stream.flush().await?;
        loop {
            while let Some(packet) = self.packets.take()? {
                receiving.take(packet)?;
            }
            if receiving.ended() {
                return receiving.finish();
            }
            self.more().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Once(Mutex<Option<tokio::io::DuplexStream>>);

    impl Connect for Once {
        fn connect(&self) -> Connecting<'_> {
            Box::pin(async {
                let stream = self.0.lock().await.take().ok_or_else(|| "a second connection".to_owned())?;
                Ok(Connection { stream: Box::new(stream), reason: Box::new(|| None) })
            })
        }
    }

    fn told(lines: &[&str]) -> Vec<u8> {
        write(&lines.iter().map(|line| Some((*line).to_owned())).collect::<Vec<_>>())
    }

    async fn find(said: Vec<u8>, reference: &str) -> Result<Found, RemoteError> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&said).await.unwrap();
        drop(theirs);
        Stream::new(Arc::new(Once(Mutex::new(Some(ours))))).find(reference).await
    }

    #[tokio::test]
    async fn references_are_found_as_they_are_told() {
        let oid = |digit: &str| digit.repeat(40);
        let (a, b, c) = (oid("a"), oid("b"), oid("c"));
        let lines = [
            format!("{a} HEAD\0shallow side-band-64k symref=HEAD:refs/heads/main"),
            format!("{a} refs/heads/main"),
            format!("{b} refs/tags/v1"),
            format!("{c} refs/tags/v1^{{}}"),
        ];
        let said = told(&lines.each_ref().map(String::as_str));
        let found = find(said.clone(), "HEAD").await.unwrap();
        assert_eq!((found.commit.to_string(), found.name.as_deref()), (a.clone(), Some("refs/heads/main")));
        let found = find(said.clone(), "v1").await.unwrap();
        assert_eq!((found.commit.to_string(), found.tag.map(|tag| tag.to_string())), (c, Some(b)));
        assert!(matches!(find(said, "v2").await, Err(RemoteError::NoReference(_))));
        let empty = told(&[&format!("{} capabilities^{{}}\0shallow", oid("0"))]);
        assert!(matches!(find(empty, "HEAD").await, Err(RemoteError::NoReference(_))));
        assert!(matches!(find(told(&["ERR no"]), "HEAD").await, Err(RemoteError::Said(said)) if said == "no"));
        assert!(matches!(find(Vec::new(), "HEAD").await, Err(RemoteError::Packet(_))));
    }
}
