//! `--chown` and `--chmod`.

use std::io;
use std::os::fd::OwnedFd;

use crate::error::Kind;
use crate::pattern::Ignore;
use crate::tree::Root;

/// User and group, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// Resolves `user[:group]` by the `/etc/passwd` and `/etc/group` of an image. A user without a group brings
    /// its number as group, as `COPY --chown` has it.
    pub fn resolve(text: &str, view: &OwnedFd) -> Result<Self, Kind> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let uid = match user.parse() {
            Ok(uid) => uid,
            Err(_) => lookup(view, "etc/passwd", user)?.ok_or_else(|| Kind::invalid(no_such("user", user)))?,
        };
        let gid = match group {
            None | Some("") => match user.parse::<u32>() {
                Ok(uid) => uid,
                Err(_) => lookup(view, "etc/group", user)?.or(primary_group(view, user)?).unwrap_or(uid),
            },
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => lookup(view, "etc/group", group)?.ok_or_else(|| Kind::invalid(no_such("group", group)))?,
            },
        };
        Ok(Self { uid, gid })
    }
}

fn no_such(kind: &str, name: &str) -> String {
    match kind {
        "user" => format!("can't find uid for user {name}: no such user: {name}"),
        _ => format!("can't find gid for group {name}: no such group: {name}"),
    }
}

fn read(view: &OwnedFd, file: &str) -> Result<String, Kind> {
    let fail = |error: io::Error| Kind::io("read", file.as_ref(), error);
    let root = Root::new(view.try_clone().map_err(fail)?, Ignore::default());
    let bytes = root.read(file, 16 << 20).map_err(fail)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number behind a name: the third field of a line.
fn lookup(view: &OwnedFd, file: &str, name: &str) -> Result<Option<u32>, Kind> {
    Ok(read(view, file)?.lines().find_map(|line| field(line, name, 2)))
}

fn primary_group(view: &OwnedFd, user: &str) -> Result<Option<u32>, Kind> {
    Ok(read(view, "etc/passwd")?.lines().find_map(|line| field(line, user, 3)))
}

fn field(line: &str, name: &str, index: usize) -> Option<u32> {
    let fields: Vec<&str> = line.split(':').collect();
    (fields.first() == Some(&name)).then(|| fields.get(index)?.trim().parse().ok())?
}

/// A mode: octal, or changes as chmod(1) writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    Octal(u32),
    Changes(Vec<Change>),
}

/// `ug+rX`: who, what is done, and the permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    who: u32,
    operation: char,
    permissions: String,
}

impl Chmod {
    pub fn parse(text: &str) -> Result<Self, Kind> {
        let bad = || {
            Kind::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(bad);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let at = clause.find(['+', '-', '=']).ok_or_else(bad)?;
            let mut who = 0;
            for c in clause[..at].chars() {
                who |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(bad()),
                };
            }
            let permissions = clause[at + 1..].to_owned();
            if permissions.chars().any(|c| !"rwxXst".contains(c)) {
                return Err(bad());
            }
            let operation = clause[at..].chars().next().ok_or_else(bad)?;
            changes.push(Change { who: if who == 0 { 0o7777 } else { who }, operation, permissions });
        }
        Ok(Self::Changes(changes))
    }

    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Changes(changes) => changes.iter().fold(mode, |mode, change| {
                let mut bits = 0;
                for c in change.permissions.chars() {
                    bits |= match c {
                        'r' => 0o444,
                        'w' => 0o222,
                        'x' => 0o111,
                        'X' if directory || mode & 0o111 != 0 => 0o111,
                        's' => 0o6000,
                        't' => 0o1000,
                        _ => 0,
                    };
                }
                let bits = bits & change.who;
                match change.operation {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !(change.who & 0o777)) | bits,
                }
            }),
        }
    }
}
