//! The files of variables that an environment refers to (`fileKeyRef`), read from a pod's volumes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Container;
use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{SFlag, fstat},
};

use super::PodVolumes;
use crate::context::Context;

/// More than anyone needs for variables: an environment is no larger.
const LONGEST: u64 = 2 << 20;

/// What they say, by volume and path; `None` for one that can't be read, and nothing for those of unknown volumes.
pub type EnvFiles = BTreeMap<(String, String), Option<String>>;

/// Reads those of a container.
pub async fn read(context: &Arc<Context>, sandbox: &str, container: &Container, volumes: &PodVolumes) -> EnvFiles {
    let sources = container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()?.file_key_ref.as_ref());
    let mut out = EnvFiles::new();
    for wanted in sources {
        let Some(source) = volumes.sources.get(&wanted.volume_name) else { continue };
        let key = (wanted.volume_name.clone(), wanted.path.clone());
        if out.contains_key(&key) {
            continue;
        }
        let root =
            if source.memory { context.runtime.host_path(sandbox, &source.path).await } else { source.path.clone() };
        let path = PathBuf::from(&wanted.path);
        let text = tokio::task::spawn_blocking(move || read_beneath(&root, &path)).await;
        let text = text.unwrap_or_else(|error| Err(io::Error::other(error)));
        let text = text.inspect_err(|error| {
            tracing::debug!(%error, volume = wanted.volume_name, path = wanted.path, "a file of variables can't be read");
        });
        out.insert(key, text.ok());
    }
    out
}

/// Reads a file of a volume that a container may change at any moment: links are followed as if the volume were all
/// there is.
fn read_beneath(root: &Path, path: &Path) -> io::Result<String> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat2(AT_FDCWD, root, OpenHow::new().flags(directory))?;
    // Nobody may be waited for who never writes into a pipe.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let file = openat2(&root, path, OpenHow::new().flags(flags).resolve(resolve))?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut text = String::new();
    File::from(file).take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_file_is_read_and_no_link_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("etc")).expect("made");
        fs::write(dir.path().join("outside"), "outside").expect("written");
        fs::write(volume.join("etc/passwd"), "inside").expect("written");
        symlink("/etc/passwd", volume.join("absolute")).expect("linked");
        symlink("../../outside", volume.join("up")).expect("linked");
        nix::unistd::mkfifo(&volume.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let read = |path: &str| read_beneath(&volume, Path::new(path)).map_err(|e| e.kind());
        assert_eq!(read("etc/passwd").as_deref(), Ok("inside"));
        assert_eq!(read("absolute").as_deref(), Ok("inside"));
        assert_eq!(read("up"), Err(io::ErrorKind::NotFound));
        assert_eq!((read("pipe"), read("etc")), (Err(io::ErrorKind::InvalidInput), Err(io::ErrorKind::InvalidInput)));
    }
}
