//! An instance: one data directory, and what is derived from it.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::up;

/// The directories and names of one instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Absolute.
    pub data_dir: PathBuf,
    /// `hythe` for the default directory, else `hythe-` and 8 digits made from its path: the name that its
    /// cgroups, links, rules and run directory bear.
    pub name: String,
}

/// How the instance was started last; `instance.json`. The flags of the next `up` may differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Port of the API.
    pub port: u16,
    /// Name of the node.
    pub node_name: String,
    /// Address of the node.
    pub node_ip: std::net::Ipv4Addr,
    /// Addresses of pods.
    pub pod_cidr: String,
    /// Addresses of Services.
    pub service_cidr: String,
}

/// Held by the one daemon of an instance for as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the open file")] File);

/// See [`Instance::visit`].
#[derive(Debug)]
pub struct Visit<'a> {
    instance: &'a Instance,
    lock: File,
}

impl Instance {
    /// The instance of a data directory, which need not exist yet.
    pub fn at(data_dir: &Path) -> Result<Self> {
        let data_dir = std::path::absolute(data_dir).context("--data-dir")?;
        let name = if data_dir == Path::new("/var/lib/hythe") {
            "hythe".to_owned()
        } else {
            format!("hythe-{:08x}", fnv1a(data_dir.as_os_str().as_encoded_bytes()))
        };
        Ok(Self { data_dir, name })
    }

    /// Whether it is the one that commands speak to unless told otherwise.
    pub fn is_default(&self) -> bool {
        self.name == "hythe"
    }

    /// A path below the data directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.data_dir.join(relative)
    }

    /// State that a reboot may forget: sockets, namespaces.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/hythe").join(&self.name)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// Makes the data directory, readable by root alone: all that a command without containers needs.
    pub fn create_data(&self) -> Result<()> {
        make(&self.data_dir, 0o700)
    }

    /// Makes the data directory and the run directory.
    pub fn create(&self) -> Result<()> {
        self.create_data()?;
        // Containers with ids of their own, which are nobody on the host, pass through the run directory to their root;
        // what it holds has modes of its own.
        make(&self.run_dir(), 0o711)?;
        for dir in [Path::new("/run/hythe"), &self.run_dir()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711))
                .with_context(|| format!("can't set the mode of {}", dir.display()))?;
        }
        Ok(())
    }

    /// Makes both directories for a command that has containers for a while. What it leaves empty in the run directory
    /// goes with the last such command, unless a daemon runs.
    pub fn visit(&self) -> Result<Visit<'_>> {
        self.create_data()?;
        let path = self.path("visitors.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("can't open {}", path.display()))?;
        lock.lock_shared().with_context(|| format!("can't lock {}", path.display()))?;
        self.create()?;
        Ok(Visit { instance: self, lock })
    }

    /// Becomes the one daemon of this instance.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path("hythe.pid");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("can't open {}", path.display()))?;
        let begin = Instant::now();
        while file.try_lock().is_err() {
            let pid = read_pid(&mut file)?;
            if is_alive(pid) || begin.elapsed() > DYING {
                bail!("hythe already runs on {} (process {pid})", self.data_dir.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock(file))
    }

    /// The process ID of the running daemon.
    pub fn daemon(&self) -> Option<i32> {
        let mut file = File::options().read(true).write(true).open(self.path("hythe.pid")).ok()?;
        if file.try_lock().is_ok() {
            return None;
        }
        read_pid(&mut file).ok().filter(|pid| is_alive(*pid))
    }

    /// How it was started last.
    pub fn settings(&self) -> Result<Settings> {
        let path = self.path("instance.json");
        let bytes = fs::read(&path)
            .with_context(|| format!("no hythe was started on {}: run `hythe up` first", self.data_dir.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Remembers how it was started.
    pub fn save_settings(&self, settings: &Settings) -> Result<()> {
        write_private(&self.path("instance.json"), &serde_json::to_vec_pretty(settings)?)
    }
}

/// A daemon that was killed may leave a child that holds its lock for a moment: one that had been forked and had
/// not become a shim yet.
const DYING: Duration = Duration::from_secs(5);

fn read_pid(file: &mut File) -> Result<i32> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().parse().unwrap_or(0))
}

/// Whether that process runs (a zombie does not).
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let staging = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&staging);
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&staging)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&staging, path)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

fn make(dir: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .with_context(|| format!("can't make the directory {}", dir.display()))
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // Others who come meanwhile wait for the lock, and make what is missing then; so does a daemon that starts.
        let daemon = File::options().write(true).open(self.instance.path("hythe.pid"));
        let no_daemon = daemon.as_ref().map_or(true, |daemon| daemon.try_lock().is_ok());
        if no_daemon && self.lock.unlock().is_ok() && self.lock.try_lock().is_ok() {
            // The filters that builds have compiled are compiled again.
            let _ = fs::remove_dir_all(up::build_engine_config(self.instance).run_dir.join("filters"));
            remove_empty(&self.instance.run_dir());
            // Empty only if no other instance lives there.
            let _ = fs::remove_dir("/run/hythe");
        }
    }
}

/// Removes a directory tree as far as it holds nothing but directories.
fn remove_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// FNV-1a, 32 bits: short, stable names from long paths.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_has_the_plain_name_and_others_have_stable_ones() {
        assert_eq!(Instance::at(Path::new("/var/lib/hythe")).unwrap().name, "hythe");
        let (one, two) = (Instance::at(Path::new("/a")).unwrap(), Instance::at(Path::new("/b")).unwrap());
        assert_ne!(one.name, two.name);
        assert_eq!(one.name, Instance::at(Path::new("/a")).unwrap().name);
    }

    #[test]
    fn a_second_daemon_on_one_directory_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance { data_dir: dir.path().to_path_buf(), name: "t".into() };
        assert_eq!(instance.daemon(), None);
        let lock = instance.lock().unwrap();
        assert_eq!(instance.daemon(), Some(std::process::id() as i32));
        let error = instance.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        assert_eq!(instance.daemon(), None);
        instance.lock().unwrap();
    }

    #[test]
    fn private_files_are_readable_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
