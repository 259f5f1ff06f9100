//! Against OpenSSH's own server and agent.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ssh::{KnownHosts, Login, SshError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A server's configuration and an agent with one key that it takes.
struct World {
    place: tempfile::TempDir,
    agent: Child,
}

impl World {
    fn new(host_key: &str, own_key: &str, options: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        generate(&path("host"), host_key);
        generate(&path("own"), own_key);
        std::fs::copy(path("own.pub"), path("authorized")).unwrap();
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM yes\nPasswordAuthentication no\n{options}\n",
            path("host").display(),
            path("authorized").display()
        );
        std::fs::write(path("config"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        std::fs::set_permissions("/run/sshd", PermissionsExt::from_mode(0o755)).unwrap();
        let socket = path("agent");
        let agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        let added = Command::new("ssh-add").arg("-q").arg(path("own")).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(added.success());
        Self { place, agent }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn known(&self, key: &str) -> KnownHosts {
        let key = std::fs::read_to_string(self.path(key)).unwrap();
        let mut known = KnownHosts::default();
        known.add(&format!("[here]:2222 {key}"));
        known
    }

    async fn run(&self, known: &KnownHosts, command: &str) -> Result<ssh::Session, SshError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let stdin: std::os::fd::OwnedFd = theirs.try_clone().unwrap().into();
        let stdout: std::os::fd::OwnedFd = theirs.into();
        // As for each connection of a server: it ends with it.
        let mut server = Command::new("/usr/sbin/sshd");
        let server = server.arg("-i").arg("-e").arg("-f").arg(self.path("config"));
        let mut server = server.stdin(stdin).stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        std::thread::spawn(move || server.wait());
        ours.set_nonblocking(true).unwrap();
        let agent = UnixStream::connect(self.path("agent")).await.unwrap();
        let login = Login { host: "here", port: 2222, user: "root", known };
        ssh::run(UnixStream::from_std(ours).unwrap(), login, agent, command).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn generate(path: &Path, kind: &str) {
    let (kind, bits) = kind.split_once(' ').unwrap_or((kind, "0"));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-t", kind, "-f"]).arg(path);
    if bits != "0" {
        command.args(["-b", bits]);
    }
    assert!(command.status().unwrap().success());
}

async fn said(mut session: ssh::Session) -> (Vec<u8>, Option<String>) {
    let mut text = Vec::new();
    session.read_to_end(&mut text).await.unwrap();
    (text, session.reason()())
}

#[tokio::test]
async fn a_command_speaks_and_is_spoken_to_whatever_keys_and_ciphers_the_server_has() {
    for (host, own, options) in [
        ("ed25519", "ed25519", ""),
        ("ecdsa 256", "ecdsa 384", "Ciphers aes256-gcm@openssh.com\nKexAlgorithms ecdh-sha2-nistp256"),
        ("ecdsa 384", "rsa 2048", "Ciphers aes128-gcm@openssh.com"),
        ("rsa 2048", "ecdsa 256", "HostKeyAlgorithms rsa-sha2-256"),
    ] {
        let world = World::new(host, own, options);
        let mut session = world.run(&world.known("host.pub"), "cat; echo and so on >&2").await.unwrap();
        session.write_all(b"there and back").await.unwrap();
        session.shutdown().await.unwrap();
        assert_eq!(said(session).await, (b"there and back".to_vec(), Some("and so on".to_owned())), "{host}");
    }
}

#[tokio::test]
async fn what_is_long_arrives_whole_with_other_keys_every_so_often() {
    for cipher in ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"] {
        let world = World::new("ed25519", "ed25519", &format!("Ciphers {cipher}\nRekeyLimit 256K"));
        let mut session = world.run(&KnownHosts::default(), "head -c 9000000 /dev/zero | tr '\\0' x").await.unwrap();
        let (mut buffer, mut count) = (vec![0; 1 << 16], 0);
        loop {
            let read = session.read(&mut buffer).await.unwrap();
            assert!(buffer[..read].iter().all(|byte| *byte == b'x'));
            count += read;
            if read == 0 {
                break;
            }
        }
        assert_eq!((count, session.reason()()), (9_000_000, None), "{cipher}");
    }
}

#[tokio::test]
async fn a_server_with_another_key_and_an_agent_without_the_right_one_are_refused() {
    let world = World::new("ed25519", "ed25519", "");
    let refused = world.run(&world.known("own.pub"), "true").await.err().unwrap();
    assert_eq!(refused.to_string(), "here has another host key than the one it is known by");
    generate(&world.path("other"), "ed25519");
    std::fs::copy(world.path("other.pub"), world.path("authorized")).unwrap();
    let refused = world.run(&world.known("host.pub"), "true").await.err().unwrap();
    assert!(matches!(&refused, SshError::Denied { methods, tried: 1 } if methods.contains("publickey")), "{refused}");
}

#[tokio::test]
async fn what_a_command_says_of_its_failure_is_told() {
    let world = World::new("ed25519", "ed25519", "");
    let session = world.run(&KnownHosts::default(), "echo no such repository >&2; exit 128").await.unwrap();
    assert_eq!(said(session).await, (Vec::new(), Some("no such repository".to_owned())));
    // A server that is no server of SSH.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    drop(theirs);
    let login = Login { host: "here", port: 22, user: "root", known: &KnownHosts::default() };
    let agent = UnixStream::connect(world.path("agent")).await.unwrap();
    assert!(ssh::run(ours, login, agent, "true").await.is_err());
}
