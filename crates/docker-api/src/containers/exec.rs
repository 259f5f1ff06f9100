//! `docker exec`: made, started, resized, looked at. Records live in memory, as dockerd's do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Exec, ExecSpec, TerminalSize, UserSpec};
use http::StatusCode;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::attach::{self, Wanted};
use super::record::Status;
use super::{MAIN, life, random_id};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Frames, Response, created, empty, hijack, json as json_answer};

/// The body of `POST /containers/NAME/exec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Request {
    user: String,
    privileged: bool,
    tty: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Vec<String>,
    console_size: Option<[u16; 2]>,
}

type Resize = Box<dyn Fn(TerminalSize) + Send + Sync>;

struct Entry {
    container: String,
    request: Request,
    state: Mutex<State>,
    /// A size that came before the process did.
    size: watch::Sender<Option<TerminalSize>>,
}

#[derive(Default)]
struct State {
    started: bool,
    running: bool,
    exit_code: Option<i32>,
    ended: Option<Instant>,
    pid: i32,
    resize: Option<Resize>,
}

/// How long an exec that is over can be asked about.
const REMEMBERED: Duration = Duration::from_secs(300);

/// All execs of runs that go on, and for a while those that are over.
#[derive(Default)]
pub(crate) struct Execs(Mutex<BTreeMap<String, Arc<Entry>>>);

impl Execs {
    fn find(&self, id: &str) -> Result<Arc<Entry>> {
        self.0.lock().get(id).cloned().ok_or_else(|| ApiError::not_found(format!("No such exec instance: {id}")))
    }

    /// Forgets those of a container.
    pub fn forget(&self, container: &str) {
        self.0.lock().retain(|_, entry| entry.container != container);
    }

    /// Forgets those of a run that is over which never began.
    pub fn run_is_over(&self, container: &str) {
        self.0.lock().retain(|_, entry| entry.container != container || entry.state.lock().started);
    }

    fn add(&self, id: String, entry: Entry) {
        let mut table = self.0.lock();
        let old = |entry: &Entry| entry.state.lock().ended.is_some_and(|ended| ended.elapsed() > REMEMBERED);
        table.retain(|_, entry| !old(entry));
        table.insert(id, Arc::new(entry));
    }

    /// The running ones of a container.
    pub fn of(&self, container: &str) -> Vec<String> {
        let table = self.0.lock();
        let running = |entry: &Entry| entry.container == container && entry.state.lock().running;
        table.iter().filter(|(_, entry)| running(entry)).map(|(id, _)| id.clone()).collect()
    }
}

/// Notes what is to be run.
pub(crate) async fn create(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let request: Request = call.json().await?;
    if request.cmd.is_empty() {
        return Err(ApiError::bad("No exec command specified"));
    }
    let container = daemon.containers.find(call.param("name"))?;
    runnable(container.status(), call.param("name"))?;
    if !request.user.is_empty() {
        let pid = container.record().state.pid;
        let (root, user) =
            (format!("/proc/{pid}/root"), UserSpec { user: request.user.clone(), ..UserSpec::default() });
        blocking(move || engine::find_user(Path::new(&root), &user).map_err(ApiError::bad)).await?;
    }
    attach::detach_keys(Some(request.detach_keys.as_str()).filter(|keys| !keys.is_empty()))
        .map_err(|_| ApiError::bad(format!("Invalid escape keys ({}) provided", request.detach_keys)))?;
    let id = random_id();
    let mut attributes = container.record().event_attributes();
    attributes.insert("execID".into(), id.clone());
    daemon.events.emit("container", format!("exec_create: {}", request.cmd.join(" ")), &container.id, attributes);
    let entry =
        Entry { container: container.id.clone(), request, state: Mutex::default(), size: watch::Sender::new(None) };
    daemon.execs.add(id.clone(), entry);
    Ok(created(&json!({"Id": id})))
}

fn runnable(status: Status, id: &str) -> Result<()> {
    match status {
        Status::Running => Ok(()),
        Status::Paused => {
            Err(ApiError::conflict(format!("Container {id} is paused, unpause the container before exec")))
        }
        Status::Restarting => {
            Err(ApiError::conflict(format!("Container {id} is restarting, wait until the container is running")))
        }
        _ => Err(ApiError::conflict(format!("container {id} is not running"))),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartRequest {
    detach: bool,
    tty: bool,
    console_size: Option<[u16; 2]>,
}

/// Runs it.
pub(crate) async fn start(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let request: StartRequest = call.json_or_default().await?;
    let id = call.param("id").to_owned();
    let entry = daemon.execs.find(&id)?;
    let container = daemon.containers.find(&entry.container)?;
    runnable(container.status(), &container.id)?;
    {
        let mut state = entry.state.lock();
        if state.started {
            return Err(ApiError::conflict(if state.running {
                format!("exec command {id} is already running")
            } else {
                format!("exec command {id} has already run")
            }));
        }
        state.started = true;
    }
    let size = request.console_size.or(entry.request.console_size);
    // As the client says it now, whatever the exec was made with: that is how it will read.
    let frames = Frames::of(request.tty);
    let mut attributes = container.record().event_attributes();
    attributes.insert("execID".into(), id.clone());
    daemon.events.emit("container", format!("exec_start: {}", entry.request.cmd.join(" ")), &container.id, attributes);
    if request.detach {
        let exec = begin(&daemon, &entry, size, true).await.map_err(|(error, _)| error)?;
        tokio::spawn(finish(daemon, entry, id, exec));
        return Ok(empty(StatusCode::OK));
    }
    let (response, pending) = hijack(&mut call, frames)?;
    tokio::spawn(async move {
        // The process begins once the client has the head of the answer: many read that through a buffer, in which
        // output that came at once would stay.
        let Ok(connection) = pending.established().await else { return };
        let mut exec = match begin(&daemon, &entry, size, false).await {
            Ok(exec) => exec,
            Err((error, _)) => {
                connection.finish_with(frames, &format!("{error}\r\n")).await;
                return;
            }
        };
        let streams = std::mem::take(&mut exec.streams);
        let wanted = Wanted {
            stdin: entry.request.attach_stdin,
            stdout: entry.request.attach_stdout || entry.request.tty,
            stderr: entry.request.attach_stderr,
        };
        let keys = Some(entry.request.detach_keys.as_str()).filter(|keys| !keys.is_empty());
        let keys = attach::detach_keys(keys).ok().filter(|_| entry.request.tty);
        // The client asks for the exit code as soon as its connection ends: keep that open until the code is known.
        let end = tokio::spawn(finish(daemon.clone(), entry.clone(), id, exec));
        attach::converse(connection, streams, wanted, frames, keys, async { drop(end.await) }).await;
    });
    Ok(response)
}

async fn begin(
    daemon: &Daemon,
    entry: &Entry,
    size: Option<[u16; 2]>,
    detached: bool,
) -> Result<Exec, (ApiError, i32)> {
    let failed = |error: ApiError| (error, 126);
    let container = daemon.containers.find(&entry.container).map_err(failed)?;
    let sandbox = life::sandbox(daemon, &container).map_err(failed)?;
    let request = &entry.request;
    let main = sandbox.container_spec(MAIN);
    let mut env = main.map(|spec| spec.env).unwrap_or_default();
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = request.env.iter().map(|entry| name(entry)).collect();
    env.retain(|entry| !given.contains(&name(entry)));
    // The container's terminal is not the exec's.
    let own = |entry: &String| name(entry) != "TERM";
    if !request.tty && container.record().options.env.iter().all(own) {
        env.retain(own);
    }
    env.extend(request.env.iter().filter(|entry| entry.contains('=')).cloned());
    if request.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    let spec = ExecSpec {
        container: MAIN.to_owned(),
        args: request.cmd.clone(),
        env: Some(env),
        cwd: Some(request.working_dir.clone()).filter(|cwd| !cwd.is_empty()),
        user: (!request.user.is_empty()).then(|| UserSpec {
            user: request.user.clone(),
            additional_gids: Vec::new(),
            image_groups: !request.user.contains(':'),
        }),
        privileged: request.privileged,
        tty: request.tty,
        size: size.map(|[height, width]| TerminalSize { width, height }).or(*entry.size.borrow()),
        stdin: request.attach_stdin && !detached,
        stdout: (request.attach_stdout || request.tty) && !detached,
        stderr: request.attach_stderr && !request.tty && !detached,
    };
    match sandbox.exec(spec).await {
        Ok(exec) => {
            let mut state = entry.state.lock();
            state.running = true;
            state.pid = exec.pid();
            state.resize = Some(Box::new(exec.resizer()));
            Ok(exec)
        }
        Err(error) => {
            let (text, code) = match &error {
                engine::Error::Start { message, exit_code } => (message.clone(), *exit_code),
                other => (other.to_string(), 126),
            };
            {
                let mut state = entry.state.lock();
                state.exit_code = Some(code);
                state.ended = Some(Instant::now());
            }
            let text = match error {
                // It ended at this very moment.
                engine::Error::State { .. } => "cannot exec in a stopped container".to_owned(),
                _ => format!("unable to start container process: {text}"),
            };
            Err((ApiError::bad(format!("OCI runtime exec failed: exec failed: {text}: unknown")), code))
        }
    }
}

async fn finish(daemon: Arc<Daemon>, entry: Arc<Entry>, id: String, mut exec: Exec) {
    let code = exec.wait().await.map_or(137, |exit| exit.exit_code);
    {
        let mut state = entry.state.lock();
        state.running = false;
        state.exit_code = Some(code);
        state.ended = Some(Instant::now());
        state.resize = None;
    }
    if let Ok(container) = daemon.containers.find(&entry.container) {
        let mut attributes = container.record().event_attributes();
        attributes.insert("execID".into(), id);
        attributes.insert("exitCode".into(), code.to_string());
        daemon.events.emit("container", "exec_die", &container.id, attributes);
    }
}

/// Sets the size of its terminal.
pub(crate) async fn resize(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let size = attach::size_of(&call)?;
    let entry = daemon.execs.find(call.param("id"))?;
    let container = daemon.containers.find(&entry.container)?;
    runnable(container.status(), &container.id)?;
    entry.size.send_replace(Some(size));
    if let Some(resize) = &entry.state.lock().resize {
        resize(size);
    }
    Ok(empty(StatusCode::OK))
}

/// What became of it.
pub(crate) async fn inspect(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let id = call.param("id");
    let entry = daemon.execs.find(id)?;
    let (request, state) = (&entry.request, entry.state.lock());
    let (program, arguments) = request.cmd.split_first().expect("an exec without a command is refused");
    Ok(json_answer(&json!({
        "ID": id,
        "Running": state.running,
        "ExitCode": state.exit_code.map_or(Value::Null, Value::from),
        "ProcessConfig": {
            "tty": request.tty, "entrypoint": program, "arguments": arguments, "privileged": request.privileged,
            "user": request.user,
        },
        "OpenStdin": request.attach_stdin,
        "OpenStderr": request.attach_stderr,
        "OpenStdout": request.attach_stdout,
        "CanRemove": false,
        "ContainerID": entry.container,
        "DetachKeys": "",
        "Pid": state.pid,
    })))
}
