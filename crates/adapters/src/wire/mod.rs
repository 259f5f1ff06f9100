//! As much of each protocol as it takes to ask one question: no pools, no types, every answer bounded.

mod address;
mod login;
pub mod memcached;
pub mod mysql;
pub mod postgres;
pub mod redis;
mod rsa;
mod tls;

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpStream, UnixStream},
};

pub use address::{Address, AddressError};

/// An answer may have so many bytes.
pub(crate) const MOST: usize = 16 << 20;

/// A question that brought no answer. A retry may help.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nobody listens there.
    #[error("{0}: {1}")]
    Connect(String, std::io::Error),
    /// TLS could not begin; a certificate that does not fit is said.
    #[error("TLS with {0}: {1}")]
    Tls(String, String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// What came is not the protocol.
    #[error("the answer is not {0}: {1}")]
    Protocol(&'static str, &'static str),
    /// The other side's own words.
    #[error("{0}")]
    Said(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// A way to log in that is not known here.
    #[error("the server wants a login by {0}, which is not supported")]
    Login(String),
    /// The name has no address.
    #[error(transparent)]
    Name(#[from] http_ends::NameError),
    /// HTTP.
    #[error(transparent)]
    Http(#[from] http_ends::Error),
}

/// What is spoken over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects over TCP, or to a socket if the host is a path.
pub(crate) async fn connect(names: &http_ends::Names, host: &str, port: u16) -> Result<Box<dyn Stream>, WireError> {
    if host.starts_with('/') {
        let stream = UnixStream::connect(host).await.map_err(|error| WireError::Connect(host.to_owned(), error))?;
        return Ok(Box::new(stream));
    }
    let mut last = None;
    for address in names.addresses(host).await? {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Box::new(stream));
            }
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(WireError::Connect(format!("{host}:{port}"), error))
}

/// The same, and over TLS at once if the address wants that.
pub(crate) async fn connect_to(
    names: &http_ends::Names,
    address: &Address,
    port: u16,
) -> Result<Box<dyn Stream>, WireError> {
    let stream = connect(names, &address.host, address.port.unwrap_or(port)).await?;
    if address.wants_tls() { tls::begin(stream, address).await } else { Ok(stream) }
}

/// Within so much time, or not at all.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(WireError::Deadline(deadline)))
}

/// Rows of an SQL answer; what is NULL is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, as long as the columns.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// A column's number.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Exactly so many bytes.
pub(crate) async fn exactly(stream: &mut (dyn Stream + '_), length: usize) -> Result<Vec<u8>, WireError> {
    // What the other side says is not believed before it is there.
    let mut bytes = Vec::with_capacity(length.min(64 << 10));
    let read = stream.take(length as u64).read_to_end(&mut bytes).await?;
    if read == length { Ok(bytes) } else { Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()) }
}
