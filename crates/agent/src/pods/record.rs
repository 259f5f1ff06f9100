//! What of a pod survives the agent: a small file beside its volumes.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use engine::SandboxStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::container::{ContainerRecord, Current};
use crate::json_file;

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodRecord {
    /// For the directory of logs after the pod's object is gone.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The sandbox it has, if any.
    pub sandbox: Option<String>,
    /// How many sandboxes it has had.
    pub sandbox_attempt: u32,
    /// Its addresses.
    pub pod_ips: Vec<String>,
    /// When the agent first saw it.
    pub start_time: Option<Timestamp>,
    /// The init containers have done their work in this sandbox.
    pub initialized: bool,
    /// All of its containers are being ended to start anew.
    pub restarting: bool,
    /// What it has as a whole (`spec.resources`); `None` in a record of an agent that did not resize that: the declared.
    pub whole: Option<Whole>,
    /// Its containers.
    pub containers: Vec<ContainerRecord>,
    /// Why it failed as a whole: (reason, message).
    pub failure: Option<(String, String)>,
    /// Seconds that its containers have to end by themselves, if not the pod's own.
    pub failure_grace: Option<u64>,
    /// Why something other than its own doing ended it: the message of its `DisruptionTarget` condition.
    pub disruption: Option<String>,
}

/// The resources of a pod as a whole (KEP-2837, KEP-5419).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    /// What the node has granted.
    pub allocated: ResourceRequirements,
    /// What is in force in its sandbox.
    pub applied: ResourceRequirements,
}

impl PodRecord {
    /// Whether the node did not take the pod: it failed before it had anything here.
    pub fn refused(&self) -> bool {
        let untouched = |c: &ContainerRecord| c.last.is_none() && matches!(c.current, Current::Waiting { .. });
        self.failure.is_some()
            && self.sandbox.is_none()
            && self.sandbox_attempt == 0
            && self.containers.iter().all(untouched)
    }

    /// Reads the newest whole version; `None` if there is none (then the runtime's knowledge has to do).
    pub fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let mut versions = bytes.rsplit(|b| *b == b'\n').filter(|line| !line.is_empty());
        let found = versions.find_map(|line| serde_json::from_slice(line).ok());
        if found.is_none() {
            tracing::warn!(path = %path.display(), "a pod's record can't be read and is ignored");
        }
        found
    }
}

/// What an earlier agent left of a pod.
pub struct Left {
    /// The last sandbox it had.
    pub sandbox: Option<SandboxStatus>,
    /// What was noted of it.
    pub record: Option<PodRecord>,
}

impl Left {
    /// The pod has never been here.
    pub fn is_nothing(&self) -> bool {
        self.sandbox.is_none() && self.record.is_none()
    }
}

/// So many versions follow each other in the file before it is written anew.
const VERSIONS: usize = 64;

/// The file of one pod's record: a version a line, of which the last whole one counts. To add a line costs a third of
/// what a new file does, which matters where pods come by the hundred. None of it need survive a power loss: then nothing
/// runs that it could tell of.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    /// The version that the file has, and how many this agent has added.
    saved: Option<PodRecord>,
    added: usize,
}

impl RecordFile {
    /// The record at `path`, which may not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, saved: None, added: 0 }
    }

    /// Makes `record` what [`PodRecord::load`] finds. On an error that is what it was before.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&mut self, record: &PodRecord) -> io::Result<()> {
        if self.saved.as_ref() == Some(record) {
            return Ok(());
        }
        // What an earlier writer left behind as it was ended has no end of its own.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, record).map_err(io::Error::other)?;
        if self.added < VERSIONS {
            append(&self.path, &line)?;
            self.added += 1;
        } else {
            json_file::replace(&self.path, &line)?;
            self.added = 1;
        }
        self.saved = Some(record.clone());
        Ok(())
    }
}

fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            open()?
        }
        other => other?,
    };
    file.write_all(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(attempt: u32) -> PodRecord {
        PodRecord { uid: "u".to_owned(), sandbox_attempt: attempt, ..PodRecord::default() }
    }

    #[test]
    fn the_last_whole_version_counts_and_the_file_stays_small() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pod/record.json");
        assert_eq!(PodRecord::load(&path), None);
        let mut file = RecordFile::new(path.clone());
        for attempt in 0..1000 {
            file.save(&record(attempt)).expect("saved");
            file.save(&record(attempt)).expect("nothing to do");
            assert_eq!(PodRecord::load(&path), Some(record(attempt)));
        }
        let size = std::fs::metadata(&path).expect("it is there").len();
        let line = serde_json::to_vec(&record(999)).expect("it is JSON").len() as u64 + 1;
        assert!(size <= VERSIONS as u64 * line, "{size} bytes");
    }

    #[test]
    fn what_a_kill_left_unfinished_does_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("record.json");
        // As agents wrote it once: one version, no line's end.
        std::fs::write(&path, serde_json::to_vec(&record(1)).expect("it is JSON")).expect("written");
        assert_eq!(PodRecord::load(&path), Some(record(1)));
        append(
            &path,
            br#"
{"uid":"u","sandbox_att"#,
        )
        .expect("written");
        assert_eq!(PodRecord::load(&path), Some(record(1)));
        RecordFile::new(path.clone()).save(&record(2)).expect("saved");
        assert_eq!(PodRecord::load(&path), Some(record(2)));
        std::fs::write(&path, "{").expect("written");
        assert_eq!(PodRecord::load(&path), None);
    }
}
