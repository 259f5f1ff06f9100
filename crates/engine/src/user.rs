//! From a user's name to its ids, by the files of the container itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::spec::UserSpec;

/// Resolved ids, as the container itself counts them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All its groups, ascending: `gid` is among them.
    pub additional_gids: Vec<u32>,
    /// Its home directory, if `/etc/passwd` names one.
    pub home: Option<String>,
}

/// `/etc/passwd` and `/etc/group` of a root file system; empty where missing. No symbolic link leads out of it.
pub(crate) fn databases(root: &Path) -> (String, String) {
    let Ok(root) = File::open(root) else { return Default::default() };
    let read = |path: &str| {
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        let how = how.resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let mut text = Vec::new();
        if let Ok(fd) = openat2(&root, path, how) {
            let file = File::from(fd);
            // A container's file is not to be trusted to be a file, nor small.
            if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                let _ = file.take(4 << 20).read_to_end(&mut text);
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    (read("etc/passwd"), read("etc/group"))
}

/// The ids of a user and its group by the files of a root file system.
///
/// # Errors
/// Why there are none, in the runtime's words.
pub fn find_user(root: &Path, user: &UserSpec) -> Result<Ids, String> {
    let (passwd, group) = databases(root);
    resolve(user, &passwd, &group)
}

/// Resolves a specification against the text of `/etc/passwd` and `/etc/group`.
pub(crate) fn resolve(spec: &UserSpec, passwd: &str, group: &str) -> Result<Ids, String> {
    let (user, wanted_group) = match spec.user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec.user.as_str(), None),
    };
    let number = if user.is_empty() { Some(0) } else { user.parse::<u32>().ok() };
    let numeric = |text: &str| text.parse::<i64>().is_ok_and(|number| !(0..=i64::from(i32::MAX)).contains(&number));
    if numeric(user) || wanted_group.is_some_and(numeric) {
        return Err("uids and gids must be in range 0-2147483647".into());
    }
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        let (uid, gid) = (uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?);
        // A number that is also someone's name means the name, as in Docker.
        (name == user || number == Some(uid)).then(|| (name.to_owned(), uid, gid, home.to_owned()))
    });
    let (name, uid, own_gid, home) = match (entry, number) {
        (Some((name, uid, gid, home)), _) => (Some(name), uid, gid, Some(home)),
        (None, Some(uid)) => (None, uid, 0, None),
        (None, None) => return Err(format!("unable to find user {user}: no matching entries in passwd file")),
    };
    let groups = || {
        group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields[..] else { return None };
            Some((name.to_owned(), gid.parse::<u32>().ok()?, members.to_owned()))
        })
    };
    let gid = match wanted_group {
        None => own_gid,
        Some(wanted) => match groups().find(|(name, _, _)| name == wanted) {
            Some((_, gid, _)) => gid,
            None => wanted
                .parse()
                .map_err(|_| format!("unable to find group {wanted}: no matching entries in group file"))?,
        },
    };
    let mut additional_gids = spec.additional_gids.clone();
    if let (true, Some(name)) = (spec.image_groups, &name) {
        let member = |members: &str| members.split(',').any(|member| member == name);
        additional_gids.extend(groups().filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    // Its own group among them, or a file that denies the group would be open to its members (CVE-2022-36109).
    additional_gids.push(gid);
    additional_gids.sort_unstable();
    additional_gids.dedup();
    Ok(Ids { uid, gid, additional_gids, home: home.filter(|home| !home.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:50:web,root\nmore:x:51:web\n";

    fn ids(user: &str, image_groups: bool) -> Result<(u32, u32, Vec<u32>), String> {
        let spec = UserSpec { user: user.into(), additional_gids: vec![7], image_groups };
        resolve(&spec, PASSWD, GROUP).map(|ids| (ids.uid, ids.gid, ids.additional_gids))
    }

    #[test]
    fn names_and_numbers_are_found_in_the_containers_own_files() {
        assert_eq!(ids("", false), Ok((0, 0, vec![0, 7])));
        assert_eq!(ids("web", false), Ok((33, 34, vec![7, 34])));
        assert_eq!(ids("33", true), Ok((33, 34, vec![7, 34, 50, 51])));
        assert_eq!(ids("web:logs", false), Ok((33, 50, vec![7, 50])));
        assert_eq!(ids("1000", true), Ok((1000, 0, vec![0, 7])));
        assert_eq!(ids("1000:2000", false), Ok((1000, 2000, vec![7, 2000])));
    }

    #[test]
    fn unknown_names_are_refused_in_the_runtimes_words() {
        assert_eq!(ids("nobody", false), Err("unable to find user nobody: no matching entries in passwd file".into()));
        assert_eq!(ids("web:x", false), Err("unable to find group x: no matching entries in group file".into()));
    }
}
