//! `/exec` and `/attach`: a process and a client, over WebSocket channels or SPDY streams.

use std::{collections::HashMap, time::Duration};

use engine::{ExecSpec, TerminalSize};
use http::{Request, Response};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{
    channels::{Channels, Encoding},
    query::Query,
    remote::{self, Remote},
    respond::{Body, Refusal},
    upgrade::{self, Kind, Upgrade},
};
use crate::{agent::Agent, runtime::Process, spdy::Connection};

const PROTOCOLS: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// A SPDY client has to open its streams within this time.
const OPEN: Duration = Duration::from_secs(30);

/// Which streams the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Where the process is, or is to be.
struct Target {
    sandbox: String,
    container: String,
}

pub(super) async fn exec(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let wanted = wanted(query)?;
    let target = target(agent, namespace, pod, container)?;
    let upgrade = upgrade::choose(request.headers(), PROTOCOLS)?;
    let (agent, chosen) = (agent.clone(), upgrade.clone());
    upgrade::accept(&upgrade, request, move |io| async move {
        let Some(remote) = open(io, &chosen, wanted).await else { return };
        let spec = ExecSpec {
            container: target.container,
            args: command.clone(),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
            ..ExecSpec::default()
        };
        match agent.context.runtime.exec(&target.sandbox, spec).await {
            Ok(process) => remote::connect(process, remote, Some(&command)).await,
            Err(error) => {
                let message = format!(
                    "error executing command in container: failed to exec in container: failed to start exec: \
                     OCI runtime exec failed: exec failed: unable to start container process: {error}: unknown"
                );
                remote::refuse(remote, &message).await;
            }
        }
    })
}

pub(super) async fn attach(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let wanted = wanted(query)?;
    let target = target(agent, namespace, pod, container)?;
    let upgrade = upgrade::choose(request.headers(), PROTOCOLS)?;
    let (agent, chosen) = (agent.clone(), upgrade.clone());
    upgrade::accept(&upgrade, request, move |io| async move {
        let Some(remote) = open(io, &chosen, wanted).await else { return };
        let attached = agent
            .context
            .runtime
            .attach(&target.sandbox, &target.container, wanted.stdin, wanted.stdout, wanted.stderr)
            .await;
        match attached {
            Ok(process) => remote::connect(without_stderr(process, wanted), remote, None).await,
            Err(error) => remote::refuse(remote, &format!("error attaching to container: {error}")).await,
        }
    })
}

fn without_stderr(mut process: Process, wanted: Wanted) -> Process {
    if wanted.tty {
        process.stderr = None;
    }
    process
}

fn wanted(query: &Query) -> Result<Wanted, Refusal> {
    let wanted = Wanted {
        stdin: query.flag(&["input", "stdin"]),
        stdout: query.flag(&["output", "stdout"]),
        stderr: query.flag(&["error", "stderr"]),
        tty: query.flag(&["tty"]),
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(wanted)
}

fn target(agent: &Agent, namespace: &str, pod: &str, container: &str) -> Result<Target, Refusal> {
    let view =
        agent.pods.named(namespace, pod).ok_or_else(|| Refusal::not_found(format!("pod does not exist: {pod}")))?;
    let missing = || Refusal::internal(format!("container not found (\"{container}\")"));
    let record = view.containers.iter().find(|c| c.name == container && c.running()).ok_or_else(missing)?;
    Ok(Target {
        sandbox: view.sandbox.clone().ok_or_else(missing)?,
        container: crate::pods::runtime_id(&record.name, record.restart_count),
    })
}

async fn open(io: TokioIo<Upgraded>, upgrade: &Upgrade, wanted: Wanted) -> Option<Remote> {
    match upgrade.kind {
        Kind::WebSocket => Some(open_channels(upgrade::socket(io).await, &upgrade.protocol, wanted).await),
        Kind::Spdy => open_streams(Connection::serve(io), &upgrade.protocol, wanted).await,
    }
}

async fn open_channels(socket: upgrade::Socket, protocol: &str, wanted: Wanted) -> Remote {
    let mut channels = Channels::serve(socket, &[STDIN, RESIZE], Encoding::of(protocol));
    let writer = |channel: u8| Box::new(channels.writer(channel)) as Box<dyn AsyncWrite + Send + Unpin>;
    let (mut stdout, stderr) =
        (wanted.stdout.then(|| writer(STDOUT)), (wanted.stderr && !wanted.tty).then(|| writer(STDERR)));
    let mut error = writer(ERROR);
    // An empty message tells the client that the session stands.
    let _ = stdout.as_mut().unwrap_or(&mut error).write(&[]).await;
    let resize = channels.reader(RESIZE).map(|r| sizes(Box::new(r)));
    let stdin = channels.reader(STDIN).map(|r| Box::new(r) as Box<dyn AsyncRead + Send + Unpin>);
    Remote {
        stdin: stdin.filter(|_| wanted.stdin),
        stdout,
        stderr,
        error,
        resize: resize.unwrap_or_else(|| mpsc::channel(1).1),
        json_status: matches!(protocol, "v4.channel.k8s.io" | "v4.base64.channel.k8s.io" | "v5.channel.k8s.io"),
    }
}

async fn open_streams(mut connection: Connection, protocol: &str, wanted: Wanted) -> Option<Remote> {
    let json_status = matches!(protocol, "v4.channel.k8s.io" | "v5.channel.k8s.io");
    let sized = wanted.tty && !matches!(protocol, "" | "channel.k8s.io" | "v2.channel.k8s.io");
    let expected = 1
        + usize::from(wanted.stdin)
        + usize::from(wanted.stdout)
        + usize::from(wanted.stderr && !wanted.tty)
        + usize::from(sized);
    let mut streams = HashMap::new();
    let all = async {
        while streams.len() < expected {
            let stream = connection.accept().await?;
            streams.insert(stream.header("streamtype").unwrap_or_default().to_owned(), stream);
        }
        Some(())
    };
    tokio::time::timeout(OPEN, all).await.ok()??;
    let error = streams.remove("error")?;
    let mut writer = |name: &str| {
        let stream = streams.remove(name)?;
        Some(Box::new(stream.writer) as Box<dyn AsyncWrite + Send + Unpin>)
    };
    let (stdout, stderr) = (writer("stdout"), writer("stderr"));
    // Clients stop sending as soon as this side closes its half of the stream, so that half lives as long as the
    // reader does.
    let stdin = streams
        .remove("stdin")
        .map(|s| Box::new(tokio::io::join(s.reader, s.writer)) as Box<dyn AsyncRead + Send + Unpin>);
    let resize = streams.remove("resize").map_or_else(|| mpsc::channel(1).1, |s| sizes(Box::new(s.reader)));
    // The connection ends with its streams; further ones are refused by dropping its end here.
    Some(Remote { stdin, stdout, stderr, error: Box::new(error.writer), resize, json_status })
}

/// `{"Width":80,"Height":24}` documents, one after another.
fn sizes(mut source: Box<dyn AsyncRead + Send + Unpin>) -> mpsc::Receiver<TerminalSize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut pending = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            pending.extend_from_slice(&buffer[..count]);
            let mut documents = serde_json::Deserializer::from_slice(&pending).into_iter::<Size>();
            let mut read = 0;
            while let Some(Ok(size)) = documents.next() {
                read = documents.byte_offset();
                if sender.send(TerminalSize { width: size.width, height: size.height }).await.is_err() {
                    return;
                }
            }
            pending.drain(..read);
            // Nonsense is not kept for ever.
            if pending.len() > 4096 {
                return;
            }
        }
    });
    receiver
}
