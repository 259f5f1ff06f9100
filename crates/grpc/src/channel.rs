//! The calling end of a connection that stays: many calls at a time, with messages both ways.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::body::{Piece, Pieces};
use crate::frame::Messages;
use crate::{CallError, Message, Status};

/// Messages that wait to be sent on one call.
const WAITING: usize = 16;
/// Bytes that may be on their way to us on one call, and on all together.
const CALL_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A connection to a server. Cheap to clone; it closes with the last of its clones and calls.
#[derive(Clone)]
pub struct Channel {
    sender: SendRequest<Pieces>,
    authority: Arc<str>,
    closed: watch::Receiver<bool>,
    _connection: Arc<AbortOnDropHandle<()>>,
}

/// Ends when the connection does.
pub struct Closing(watch::Receiver<bool>);

/// A call under way.
pub struct Duplex {
    /// What goes there.
    pub sending: Sending,
    /// What comes from there.
    pub receiving: Receiving,
}

/// The sending half of a call.
pub struct Sending(mpsc::Sender<Piece>);

/// The receiving half of a call.
pub struct Receiving {
    answer: Answer,
    messages: Messages,
    ready: std::collections::VecDeque<Bytes>,
    status: Option<Status>,
    _channel: Channel,
}

type Answering = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

enum Answer {
    Awaited(Answering),
    Coming(Incoming),
    Over,
}

impl Channel {
    /// Speaks HTTP/2 over an open connection; `authority` is whom requests name as their host.
    ///
    /// # Errors
    /// [`CallError::Transport`] if the other side does not.
    pub async fn over<T>(io: T, authority: &str) -> Result<Self, CallError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(CALL_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(CallError::transport)?;
        let (over, closed) = watch::channel(false);
        let connection = tokio::spawn(async move {
            let _ = connection.await;
            let _ = over.send(true);
        });
        let connection = Arc::new(AbortOnDropHandle::new(connection));
        Ok(Self { sender, authority: authority.into(), closed, _connection: connection })
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// What ends when the connection does; it does not keep it open.
    pub fn closing(&self) -> Closing {
        Closing(self.closed.clone())
    }

    /// One message there, one back.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn unary(&self, method: &str, message: &Message) -> Result<Bytes, CallError> {
        let Duplex { sending, mut receiving } = self.open(method, &[])?;
        sending.send(message).await?;
        drop(sending);
        let answer = receiving.next().await?.unwrap_or_default();
        // The status comes behind it.
        while receiving.next().await?.is_some() {}
        Ok(answer)
    }

    /// Begins a call with messages both ways; `metadata` are further headers, whose names may repeat.
    ///
    /// # Errors
    /// [`CallError::Transport`] for headers that HTTP can't carry.
    pub fn open(&self, method: &str, metadata: &[(&str, String)]) -> Result<Duplex, CallError> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut request = Request::post(format!("http://{}/{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Pieces(receiver))
            .map_err(CallError::transport)?;
        for (name, value) in metadata {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(CallError::transport)?;
            let value = HeaderValue::from_str(value).map_err(CallError::transport)?;
            request.headers_mut().append(name, value);
        }
        // Servers answer when they have something to say, which may be after the last message.
        let answering = Box::pin(self.sender.clone().send_request(request));
        let receiving = Receiving {
            answer: Answer::Awaited(answering),
            messages: Messages::default(),
            ready: std::collections::VecDeque::new(),
            status: None,
            _channel: self.clone(),
        };
        Ok(Duplex { sending: Sending(sender), receiving })
    }
}

impl Closing {
    /// Waits for it.
    pub async fn wait(mut self) {
        // A sender that is gone has closed as well.
        let _ = self.0.wait_for(|closed| *closed).await;
    }
}

impl Sending {
    /// Sends a message, as soon as the other side takes it.
    ///
    /// # Errors
    /// The call is over; [`Receiving::next`] says why.
    pub async fn send(&self, message: &Message) -> Result<(), CallError> {
        self.send_bytes(Bytes::copy_from_slice(&message.0)).await
    }

    /// The same with an encoded message.
    ///
    /// # Errors
    /// As [`Sending::send`].
    pub async fn send_bytes(&self, message: Bytes) -> Result<(), CallError> {
        let over = |_| CallError::Transport("the call is over".to_owned());
        self.0.send(Piece::Message(message)).await.map_err(over)
    }
}

impl Receiving {
    /// The next message; `None` when the call ended well.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            match &mut self.answer {
                Answer::Awaited(answering) => {
                    let response = answering.await.map_err(CallError::transport)?;
                    self.status = Status::of(response.headers());
                    self.answer = Answer::Coming(response.into_body());
                }
                Answer::Coming(body) => match body.frame().await {
                    Some(part) => {
                        let part = part.map_err(CallError::transport)?;
                        if let Some(trailers) = part.trailers_ref() {
                            self.status = self.status.take().or_else(|| Status::of(trailers));
                        } else if let Ok(data) = part.into_data() {
                            self.ready.extend(self.messages.take(&data)?);
                        }
                    }
                    None => self.answer = Answer::Over,
                },
                Answer::Over => {
                    return match self.status.clone() {
                        Some(status) if status.code == Status::OK => Ok(None),
                        Some(status) => Err(status.into()),
                        None => Err(CallError::NoStatus),
                    };
                }
            }
        }
    }
}
