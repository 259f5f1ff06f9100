//! The socket by which a step's programs reach an SSH agent of the user's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::error::Kind;
use crate::request::Agents;

/// Connections at a time; programs that open more wait.
const CONNECTIONS: usize = 64;

/// Listens at `path` for as long as its task among `sockets` lives.
pub(crate) fn serve(
    agents: Arc<dyn Agents>,
    id: String,
    path: &Path,
    mode: u32,
    (uid, gid): (u32, u32),
    sockets: &mut JoinSet<()>,
) -> Result<(), Kind> {
    let fail = |e: std::io::Error| Kind::io("listen on", path, e);
    let listener = listen(path).map_err(fail)?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o777)).map_err(fail)?;
    sockets.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => drop(open.spawn(agents.carry(id.clone(), stream))),
                    Err(_) => return,
                },
                Some(_) = open.join_next() => {}
            }
        }
    });
    Ok(())
}

/// A path may be longer than a socket's address: the directory stands in for itself.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    /// Says its id and what it hears.
    struct Echo;

    impl Agents for Echo {
        fn check<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), String>> {
            Box::pin(async { Ok(()) })
        }

        fn carry(&self, id: String, mut program: UnixStream) -> BoxFuture<'static, ()> {
            Box::pin(async move {
                let mut heard = [0; 5];
                program.read_exact(&mut heard).await.unwrap();
                program.write_all(&[id.as_bytes(), &heard].concat()).await.unwrap();
            })
        }
    }

    #[tokio::test]
    async fn a_program_reaches_its_agent_as_long_as_the_command_runs() {
        let place = tempfile::tempdir().unwrap();
        // Longer than a socket's address may be.
        let directory = place.path().join("x".repeat(120));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("ssh-0");
        let mut sockets = JoinSet::new();
        serve(Arc::new(Echo), "key ".into(), &path, 0o600, (0, 0), &mut sockets).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        use std::os::fd::AsRawFd;
        let held = std::fs::File::open(&directory).unwrap();
        let address = format!("/proc/self/fd/{}/ssh-0", held.as_raw_fd());
        for _ in 0..2 {
            let mut program = UnixStream::connect(&address).await.unwrap();
            program.write_all(b"hello").await.unwrap();
            let mut said = String::new();
            program.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "key hello");
        }
        sockets.shutdown().await;
        assert!(UnixStream::connect(&address).await.is_err());
    }
}
