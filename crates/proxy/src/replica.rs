//! A question to another replica of this proxy, and its whole answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http1::{Framing, Response, parse_response};

/// Answers of replicas are a line.
const LARGEST: u64 = 4096;

/// What a replica said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Sends a request of HTTP/1.1 and reads the answer, which has a length. The connection can be used again then.
pub(crate) async fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request).await?;
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut response = Response::default();
    loop {
        if stream.read_buf(&mut response.text).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(head) = parse_response(&mut response, false, LARGEST as usize).map_err(|_| broken())? else {
            continue;
        };
        let length = match response.framing {
            Framing::Length(length) if length <= LARGEST => length as usize,
            Framing::None => 0,
            _ => return Err(broken()),
        };
        if response.text.len() >= head + length {
            return Ok(Answer { status: response.status, body: response.text[head..head + length].to_vec() });
        }
    }
}
