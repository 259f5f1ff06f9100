//! Logins at a server that is written down here: Debian has MariaDB, whose servers log nobody in by `caching_sha2_password`.

use http_ends::Names;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, UnixListener};

use super::*;

const LONG: Duration = Duration::from_secs(30);
const PASSWORD: &str = "se'cret of more letters than a nonce";
const NONCE: &[u8; 20] = b"0123456789abcdefghij";
const OTHER_NONCE: &[u8; 20] = b"ABCDEFGHIJabcdefghij";

/// A key of 1024 bits that is only for these tests: the public half as servers show it, modulus and private exponent.
const KEY: (&str, &str, &str) = (
    "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCqcRPBB5oLqahFDQjnyZtnvUwX\n\
+0WaGhIuWL7Qw16TzigeA+M1AmS/u5Eqm77Q33RHZYXVHv9WkfAEMtveXd6CSjvp\n\
BGZJgTKcVGG8JiQfUVp0N84IPj/jKnUpqWpN9EflPGkn+4tSphGxdxN21lOOH0Jp\n\
kv2laDi5Tp1S9QZ9BQIDAQAB\n\
-----END PUBLIC KEY-----\n\
",
    "aa7113c1079a0ba9a8450d08e7c99b67bd4c17fb459a1a122e58bed0c35e93ce281e03e3350264bfbb912a9bbed0df74\
476585d51eff5691f00432dbde5dde824a3be904664981329c5461bc26241f515a7437ce083e3fe32a7529a96a4df447\
e53c6927fb8b52a611b1771376d6538e1f426992fda56838b94e9d52f5067d05",
    "3e62ad4c562ff85cdd0e893add3c59f99abc237b017aea580546ce71335186e04aa6d1dd7425b022cdd0d0bbb91852f2\
08c00c4079dc141fceae7abf27a14c33e375a7f9bf2193cdc548af0dc489225a28ce0eed4deb4c15f33b350a3ed67716\
7e1a48f127886b427f7a687216e2f9f0b417c89fc3c5b62cab4b03f6dbf2bd01",
);

/// What the server knows of the password, and how it begins.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// It has the password in its cache.
    Cached,
    /// It wants to see it.
    Full,
    /// It begins with the old way, and then wants to see it.
    Switched,
}

/// The server's end of a connection.
struct Server {
    stream: Box<dyn Stream>,
    sequence: u8,
    is_private: bool,
}

impl Server {
    async fn hear(&mut self) -> Vec<u8> {
        let head = exactly(self.stream.as_mut(), 4).await.unwrap();
        assert_eq!(head[3], self.sequence, "packets are counted");
        self.sequence += 1;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8;
        exactly(self.stream.as_mut(), length).await.unwrap()
    }

    async fn say(&mut self, body: &[u8]) {
        let head = [body.len() as u8, (body.len() >> 8) as u8, 0, self.sequence];
        self.sequence += 1;
        self.stream.write_all(&[&head[..], body].concat()).await.unwrap();
    }

    async fn greet(&mut self, plugin: &str) {
        let capabilities = CAPABILITIES | CONNECT_WITH_DB | SSL;
        let mut hello = b"\x0a9.7.4\0\x07\0\0\0".to_vec();
        hello.extend(&NONCE[..8]);
        hello.push(0);
        hello.extend((capabilities as u16).to_le_bytes());
        hello.extend([CHARACTERS, 2, 0]);
        hello.extend(((capabilities >> 16) as u16).to_le_bytes());
        hello.push(21);
        hello.extend([0; 10]);
        hello.extend(&NONCE[8..]);
        hello.extend([b"\0", plugin.as_bytes(), b"\0"].concat());
        self.say(&hello).await;
    }

    /// Whom the client says it is: user, proof, database, plugin. Goes over to TLS if the client wants that.
    async fn who(&mut self, tls: &tokio_rustls::TlsAcceptor) -> (String, Vec<u8>, String, String) {
        let mut answer = self.hear().await;
        if answer.len() == 32 {
            assert_ne!(u32::from_le_bytes(answer[..4].try_into().unwrap()) & SSL, 0);
            let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
            self.stream = Box::new(tls.accept(plain).await.unwrap());
            self.is_private = true;
            answer = self.hear().await;
        }
        let mut rest = &answer[32..];
        let word = |rest: &mut &[u8]| {
            let end = rest.iter().position(|byte| *byte == 0).unwrap();
            let word = String::from_utf8(rest[..end].to_vec()).unwrap();
            *rest = &rest[end + 1..];
            word
        };
        let user = word(&mut rest);
        let (proof, mut rest) = rest[1..].split_at(usize::from(rest[0]));
        let database = word(&mut rest);
        (user, proof.to_vec(), database, word(&mut rest))
    }

    /// Has the client show its password, as the manual of `caching_sha2_password` has it.
    async fn password(&mut self, nonce: &[u8]) -> Vec<u8> {
        self.say(&[1, 4]).await;
        let shown = self.hear().await;
        if self.is_private {
            return shown;
        }
        assert_eq!(shown, [2], "over a plain connection it asks for the key first");
        self.say(&[b"\x01", KEY.0.as_bytes()].concat()).await;
        let sealed = self.hear().await;
        let bytes = |text: &str| hex::decode(text).unwrap();
        let masked = rsa::decrypt(&sealed, &bytes(KEY.2), &bytes(KEY.1)).expect("it is sealed as OAEP has it");
        masked.iter().zip(nonce.iter().cycle()).map(|(left, right)| left ^ right).collect()
    }

    async fn serve(mut self, way: Way, tls: tokio_rustls::TlsAcceptor) {
        self.greet(if way == Way::Switched { "mysql_native_password" } else { "caching_sha2_password" }).await;
        let (user, mut proof, database, plugin) = self.who(&tls).await;
        assert_eq!((user.as_str(), database.as_str()), ("me", "shop"));
        let mut nonce = NONCE;
        if way == Way::Switched {
            assert_eq!((plugin.as_str(), proof), ("mysql_native_password", login::mysql_native(PASSWORD, NONCE)));
            nonce = OTHER_NONCE;
            self.say(&[b"\xfecaching_sha2_password\0", &nonce[..], b"\0"].concat()).await;
            proof = self.hear().await;
        }
        let mut known = proof == login::mysql_sha2(PASSWORD, nonce);
        if way == Way::Cached && known {
            self.say(&[1, 3]).await;
        } else if way != Way::Cached {
            known = self.password(nonce).await == format!("{PASSWORD}\0").as_bytes();
        }
        if !known {
            return self.say(b"\xff\x15\x04#28000Access denied for user 'me'").await;
        }
        self.say(b"\0\0\0\x02\0\0\0").await;
        self.sequence = 0;
        assert_eq!(self.hear().await, b"\x03SELECT 1");
        for packet in
            [&b"\x01"[..], b"\x03def\0\0\0\x011\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0", b"\xfe\0\0\x02\0", b"\x011"]
        {
            self.say(packet).await;
        }
        self.say(b"\xfe\0\0\x02\0").await;
    }
}

/// A login and a question, at a server that deals with passwords in a way; over TLS, or a socket of the machine.
async fn ask(way: Way, password: &str, over: &str) -> Result<Rows, WireError> {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![CertificateDer::from(made.cert.der().to_vec())], key).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let socket = directory.path().join("mysql.sock");
    let (server, at) = if over == "socket" {
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let stream: Box<dyn Stream> = Box::new(listener.accept().await.unwrap().0);
            Server { stream, sequence: 0, is_private: true }.serve(way, tls).await;
        });
        (server, socket.display().to_string().replace('/', "%2F"))
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let stream: Box<dyn Stream> = Box::new(listener.accept().await.unwrap().0);
            Server { stream, sequence: 0, is_private: false }.serve(way, tls).await;
        });
        (server, at)
    };
    let more = if over == "tls" { format!("?tls&ca={}", ca.display()) } else { String::new() };
    let mut address: Address = format!("mysql://me@{at}/shop{more}").parse().unwrap();
    address.password = Some(password.to_owned());
    let asked = match MySql::connect(&Names::default(), &address, LONG).await {
        Ok(mut mysql) => mysql.ask("SELECT 1", LONG).await,
        Err(error) => Err(error),
    };
    server.await.expect("the client keeps to the protocol");
    asked
}

#[tokio::test]
async fn a_login_by_caching_sha2_is_whole_whether_the_server_has_the_password_or_wants_to_see_it() {
    for way in [Way::Cached, Way::Full, Way::Switched] {
        for over in ["plain", "tls", "socket"] {
            let rows = ask(way, PASSWORD, over).await.unwrap();
            assert_eq!((rows.columns, rows.rows), (vec!["1".to_owned()], vec![vec![Some("1".to_owned())]]), "{over}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_in_the_servers_words() {
    for (way, over) in [(Way::Cached, "plain"), (Way::Full, "plain"), (Way::Full, "tls")] {
        let refused = ask(way, "wrong", over).await.unwrap_err();
        assert_eq!(refused.to_string(), "Access denied for user 'me' (1045)");
    }
}
