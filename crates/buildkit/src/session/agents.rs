//! `moby.sshforward.v1.SSH`: the user's SSH agents, reached through the session.

use builder::Agents;
use futures::future::BoxFuture;
use grpc::{CallError, Duplex, Fields, Message, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Session;

/// Those of one session.
pub(crate) struct SessionAgents(pub Session);

impl Agents for SessionAgents {
    fn check<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            const METHOD: &str = "moby.sshforward.v1.SSH/CheckAgent";
            let none = || format!("no SSH key {id:?} forwarded from the client");
            if !self.0.answers(METHOD) {
                return Err(none());
            }
            match self.0.channel.unary(METHOD, &Message::default().text(1, id)).await {
                Ok(_) => Ok(()),
                Err(CallError::Refused(status)) if status.code == Status::UNIMPLEMENTED => Err(none()),
                Err(CallError::Refused(status)) => Err(status.message),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn carry(&self, id: String, program: UnixStream) -> BoxFuture<'static, ()> {
        let session = self.0.clone();
        Box::pin(async move {
            let call = session.channel.open("moby.sshforward.v1.SSH/ForwardAgent", &[("buildkit.ssh.id", id)]);
            if let Ok(call) = call {
                // A program or an agent that goes away in the middle is no news.
                let _ = pass(call, program).await;
            }
        })
    }
}

async fn pass(call: Duplex, program: UnixStream) -> Result<(), CallError> {
    let Duplex { sending, mut receiving } = call;
    let (mut reader, mut writer) = program.into_split();
    let there = async move {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok::<_, CallError>(()),
                Ok(count) => sending.send(&Message::default().data(1, &buffer[..count])).await?,
            }
        }
    };
    let back = async move {
        while let Some(message) = receiving.next().await? {
            if writer.write_all(Fields::read(&message).data(1)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::try_join!(there, back).map(|_| ())
}
