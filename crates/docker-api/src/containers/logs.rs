//! `GET /containers/NAME/logs`: what a container wrote, and what it goes on to write.

mod follow;
mod line;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use self::line::{Line, Lines};
use super::record::Record;
use super::table::Container;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Frames, Response, streamed};
use crate::time;

/// What of a log is wanted, and how.
#[derive(Clone)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    /// What `--details` shows before each line.
    details: String,
    frames: Frames,
}

impl Wanted {
    fn passes(&self, line: &Line) -> bool {
        (if line.stream == 1 { self.stdout } else { self.stderr })
            && self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at <= until)
    }

    fn render(&self, line: &Line) -> Bytes {
        let mut text = Vec::with_capacity(line.text.len() + 40);
        if self.timestamps {
            text.extend(time::text(line.at).as_bytes());
            text.push(b' ');
        }
        text.extend(self.details.as_bytes());
        text.extend(&line.text);
        self.frames.frame(line.stream, &text)
    }
}

/// Streams the log.
pub(crate) async fn logs(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let record = container.snapshot();
    let (stdout, stderr) = (call.flag("stdout"), call.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad("Bad parameters: you must choose at least one stream"));
    }
    if record.host.log_config.kind == "none" {
        return Err(ApiError::new(
            http::StatusCode::NOT_IMPLEMENTED,
            "configured logging driver does not support reading",
        ));
    }
    let moment = |name: &str| match call.query(name) {
        None | Some("0") => Ok(None),
        Some(text) => {
            time::query(text).map(Some).ok_or_else(|| ApiError::bad(format!("invalid value for \"{name}\": {text}")))
        }
    };
    let wanted = Wanted {
        stdout,
        stderr,
        since: moment("since")?,
        until: moment("until")?,
        timestamps: call.flag("timestamps"),
        details: if call.flag("details") { details(&record) } else { String::new() },
        frames: Frames::of(record.options.tty),
    };
    let tail = match call.query("tail") {
        None | Some("all") => None,
        Some(text) => text.parse::<usize>().ok(),
    };
    let follow = call.flag("follow");
    let media_type = wanted.frames.media_type(call.version);
    let (sender, receiver) = mpsc::channel(32);
    tokio::task::spawn_blocking(move || {
        // The client left: nobody is interested in how far it got.
        let _ = read(&container, &wanted, tail, follow, &sender);
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Ok(streamed(media_type, stream))
}

/// The labels and variables that the log's options name, and its tag, as `a=1,b=2 `.
fn details(record: &Record) -> String {
    let option = |name: &str| record.host.log_config.config.get(name).map(String::as_str).unwrap_or_default();
    let listed = |list: &str, name: &str| option(list).split(',').any(|listed| listed == name);
    let matching = |pattern: &str| {
        let pattern = option(pattern);
        (!pattern.is_empty()).then(|| regex_lite::Regex::new(pattern).ok()).flatten()
    };
    let (labels, variables) = (matching("labels-regex"), matching("env-regex"));
    let mut found = BTreeMap::new();
    for (name, value) in &record.options.labels {
        if listed("labels", name) || labels.as_ref().is_some_and(|labels| labels.is_match(name)) {
            found.insert(name.as_str(), value.clone());
        }
    }
    for (name, value) in record.options.env.iter().filter_map(|entry| entry.split_once('=')) {
        if listed("env", name) || variables.as_ref().is_some_and(|variables| variables.is_match(name)) {
            found.insert(name, value.to_owned());
        }
    }
    if !option("tag").is_empty() {
        found.insert("tag", tag(option("tag"), record));
    }
    let escaped = |text: &str| percent_encoding::utf8_percent_encode(text, DETAIL).to_string().replace("%20", "+");
    let pairs: Vec<String> =
        found.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    format!("{} ", pairs.join(","))
}

/// `--log-opt tag`, with what it may name in its places.
fn tag(template: &str, record: &Record) -> String {
    let image = record.image_id.rsplit(':').next().unwrap_or_default();
    let known = [
        ("ID", record.short_id()),
        ("FullID", record.id.as_str()),
        ("Name", record.name.as_str()),
        ("ImageID", image.get(..12).unwrap_or(image)),
        ("ImageFullID", record.image_id.as_str()),
        ("ImageName", record.options.image.as_str()),
        ("DaemonName", "docker"),
    ];
    let mut text = template.to_owned();
    for (name, value) in known {
        for written in [format!("{{{{.{name}}}}}"), format!("{{{{ .{name} }}}}")] {
            text = text.replace(&written, value);
        }
    }
    text
}

/// What a query may hold as it is.
const DETAIL: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Sends the log so far to an attached client.
pub(super) async fn copy(
    container: &Arc<Container>,
    frames: Frames,
    stdout: bool,
    stderr: bool,
    writer: &mut (impl AsyncWrite + Unpin),
) {
    let wanted = Wanted { stdout, stderr, since: None, until: None, timestamps: false, details: String::new(), frames };
    let (sender, mut receiver) = mpsc::channel(32);
    let of = container.clone();
    tokio::task::spawn_blocking(move || read(&of, &wanted, None, false, &sender));
    while let Some(Ok(bytes)) = receiver.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// The client is gone.
struct Left;

fn read(container: &Container, wanted: &Wanted, tail: Option<usize>, follow: bool, to: &Sender) -> Result<(), Left> {
    let path = container.log_path();
    let send = |line: &Line| to.blocking_send(Ok(wanted.render(line))).map_err(|_| Left);
    let mut watcher = follow.then(|| follow::Watcher::new(&container.directory)).and_then(io::Result::ok);
    let mut current = File::open(&path).ok().map(|file| Lines::new(BufReader::new(file)));
    let mut last: VecDeque<Line> = VecDeque::new();
    let mut deliver = |line: Line| -> Result<(), Left> {
        if !wanted.passes(&line) {
            return Ok(());
        }
        match tail {
            None => send(&line),
            Some(tail) => {
                last.push_back(line);
                if last.len() > tail {
                    last.pop_front();
                }
                Ok(())
            }
        }
    };
    for rotated in rotated(&path) {
        if let Ok(file) = File::open(rotated) {
            let mut lines = Lines::new(BufReader::new(file));
            while let Some(line) = lines.next() {
                deliver(line)?;
            }
        }
    }
    if let Some(lines) = &mut current {
        while let Some(line) = lines.next() {
            deliver(line)?;
        }
    }
    for line in &last {
        send(line)?;
    }
    let Some(watcher) = &mut watcher else { return Ok(()) };
    loop {
        // Looked at before reading: what was written before the end is read after it was seen.
        let running = container.moments.borrow().running;
        if current.is_none() {
            current = File::open(&path).ok().map(|file| Lines::new(BufReader::new(file)));
        }
        if let Some(lines) = &mut current {
            while let Some(line) = lines.next() {
                if wanted.until.is_some_and(|until| line.at > until) {
                    return Ok(());
                }
                if wanted.passes(&line) {
                    send(&line)?;
                }
            }
            if lines.is_rotated(&path) {
                current = None;
                continue;
            }
        }
        let over = wanted.until.is_some_and(|until| Timestamp::now() >= until);
        if !running || over || to.is_closed() {
            return Ok(());
        }
        watcher.wait(container, to, wanted.until);
    }
}

/// Older parts of a log, the oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let mut found: Vec<PathBuf> = (1..).map(numbered).take_while(|path| path.exists()).collect();
    found.reverse();
    found
}
