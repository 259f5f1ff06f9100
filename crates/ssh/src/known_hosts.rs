//! The keys that servers are known by, as ssh keeps them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). Pure.

use base64::Engine as _;
use ring::hmac;

/// Lines of `known_hosts` files.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    /// Patterns between commas, or a name's hash.
    hosts: String,
    kind: String,
    key: Vec<u8>,
    revoked: bool,
}

/// What is known of a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the server's.
    Own,
    /// The server has another one, or this one is nobody's any more.
    Other,
    /// The server is not known.
    Unknown,
}

impl KnownHosts {
    /// Adds a file's lines. Those of authorities, and those that cannot be read, say nothing.
    pub fn add(&mut self, text: &str) {
        self.0.extend(text.lines().filter_map(line));
    }

    fn of(&self, host: &str, port: u16) -> impl Iterator<Item = &Line> {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        self.0.iter().filter(move |line| names(&line.hosts, &name))
    }

    /// The kinds of key that a server is known by.
    pub(crate) fn kinds(&self, host: &str, port: u16) -> Vec<String> {
        self.of(host, port).filter(|line| !line.revoked).map(|line| line.kind.clone()).collect()
    }

    pub(crate) fn verdict(&self, host: &str, port: u16, key: &[u8]) -> Verdict {
        let of_host = || self.of(host, port).filter(|line| !line.revoked);
        if self.of(host, port).any(|line| line.revoked && line.key == key) {
            return Verdict::Other;
        }
        match of_host().next() {
            None => Verdict::Unknown,
            Some(_) if of_host().any(|line| line.key == key) => Verdict::Own,
            Some(_) => Verdict::Other,
        }
    }
}

fn line(text: &str) -> Option<Line> {
    let mut words = text.split_whitespace();
    let mut hosts = words.next().filter(|first| !first.starts_with('#'))?;
    let mut revoked = false;
    match hosts {
        "@revoked" => (revoked, hosts) = (true, words.next()?),
        marker if marker.starts_with('@') => return None,
        _ => {}
    }
    let kind = words.next()?.to_owned();
    let key = base64::engine::general_purpose::STANDARD.decode(words.next()?).ok()?;
    Some(Line { hosts: hosts.to_owned(), kind, key, revoked })
}

/// Whether patterns mean a name. One with `!` before it that fits takes it out, whatever else fits.
fn names(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return hashed.split_once('|').is_some_and(|(salt, sum)| is_hash_of(salt, sum, name));
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= fits(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

fn is_hash_of(salt: &str, sum: &str, name: &str) -> bool {
    let decoded = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let (Some(salt), Some(sum)) = (decoded(salt), decoded(sum)) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    hmac::verify(&key, name.as_bytes(), &sum).is_ok()
}

/// `*` stands for any number of characters, `?` for one.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|from| fits(rest, &name[from..])),
        Some((first, rest)) => match name.split_first() {
            Some((own, after)) => (*first == b'?' || first.eq_ignore_ascii_case(own)) && fits(rest, after),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_name_pattern_port_and_hash() {
        let mut known = KnownHosts::default();
        known.add(
            "# a remark\n\
             git.example,10.0.0.? ssh-ed25519 AAAA\n\
             *.example.org,!bad.example.org ssh-rsa AAAB who@there\n\
             [git.example]:2222 ssh-ed25519 AAAC\n\
             |1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-rsa AAAD\n\
             @cert-authority * ssh-rsa AAAE\n\
             @revoked git.example ssh-ed25519 AAAF\n\
             broken line\n",
        );
        let key = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let of = |host: &str, port, text: &str| known.verdict(host, port, &key(text));
        assert_eq!(of("GIT.example", 22, "AAAA"), Verdict::Own);
        assert_eq!(of("git.example", 22, "AAAB"), Verdict::Other);
        assert_eq!(of("git.example", 22, "AAAF"), Verdict::Other);
        assert_eq!(of("10.0.0.7", 22, "AAAA"), Verdict::Own);
        assert_eq!(of("a.example.org", 22, "AAAB"), Verdict::Own);
        assert_eq!(of("bad.example.org", 22, "AAAB"), Verdict::Unknown);
        assert_eq!(of("git.example", 2222, "AAAC"), Verdict::Own);
        assert_eq!(of("git.example", 2223, "AAAC"), Verdict::Unknown);
        // From ssh's own manual: the hash of 192.168.1.61.
        assert_eq!(of("192.168.1.61", 22, "AAAD"), Verdict::Own);
        assert_eq!(known.kinds("192.168.1.61", 22), ["ssh-rsa"]);
        assert_eq!(of("192.168.1.62", 22, "AAAD"), Verdict::Unknown);
    }
}
