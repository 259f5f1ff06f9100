//! Links to containers' logs under one flat directory, as the kubelet makes them in `/var/log/containers`: what collects
//! logs reads of pod, namespace and container in the links' names.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Where the logs of pods lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlaces {
    /// Holds a directory a pod.
    pub pods: PathBuf,
    /// Holds a link a container; `None` for none.
    pub links: Option<PathBuf>,
}

impl LogPlaces {
    /// The directory of one pod's logs.
    pub fn of_pod(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pods.join(format!("{namespace}_{name}_{uid}"))
    }
}

/// The name of a container's link. Collectors want an id of 64 hexadecimal digits at its end.
pub fn name(namespace: &str, pod: &str, container: &str, id: &str) -> String {
    let id = hex::encode(Sha256::digest(id.as_bytes()));
    format!("{pod}_{namespace}_{container}-{id}.log")
}

/// Makes a link in `directory` that leads to `log`.
pub fn link(directory: &Path, name: &str, log: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    match symlink(log, directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Removes the links in `directory`, if there is one, to logs below `logs` that are no longer there. Links of others stay.
pub fn drop_dead(directory: Option<&Path>, logs: &Path) {
    let Some(directory) = directory else { return };
    for link in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let dead = fs::read_link(&link).is_ok_and(|log| log.starts_with(logs) && !log.exists());
        if dead && let Err(error) = fs::remove_file(&link) {
            tracing::warn!(%error, link = %link.display(), "a link to a log that is gone could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_tell_whose_log_it_is_and_go_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (links, logs) = (dir.path().join("containers"), dir.path().join("pods"));
        fs::create_dir(&logs).expect("made");
        let name = name("ns", "web-0", "c", "hythe://uid.0.c.0");
        let id = name.strip_prefix("web-0_ns_c-").and_then(|rest| rest.strip_suffix(".log")).expect("upstream's form");
        assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        let log = logs.join("0.log");
        fs::write(&log, "line").expect("written");
        for _ in 0..2 {
            link(&links, &name, &log).expect("linked");
        }
        symlink("/of/another", links.join("other.log")).expect("linked");
        drop_dead(Some(&links), &logs);
        assert_eq!(fs::read_to_string(links.join(&name)).expect("readable"), "line");
        fs::remove_file(&log).expect("removed");
        drop_dead(Some(&links), &logs);
        let left: Vec<_> = fs::read_dir(&links).expect("there").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["other.log"]);
    }
}
