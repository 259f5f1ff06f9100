//! Which mount a path is on, and whether that one has peers (proc(5), `mountinfo`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether mounts that are made later at or below `path` could show elsewhere: it lies on a mount that is shared, or the
/// slave of one.
///
/// # Errors
/// The path does not exist, or the mounts of this process can't be read.
pub fn receives_mounts(path: &Path) -> io::Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let (_, peers) = governing(&table, &fs::canonicalize(path)?);
    Ok(has_source(&peers))
}

/// Whether the optional fields of a mount name peers from which it hears of mounts.
pub(crate) fn has_source(peers: &str) -> bool {
    peers.contains("shared:") || peers.contains("master:")
}

/// The mount that a path is on, and the optional fields of its line (proc(5), `mountinfo`): `shared:N`, `master:N`.
pub(crate) fn governing(table: &str, path: &Path) -> (PathBuf, String) {
    let mut found = (PathBuf::from("/"), String::new());
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(place) = fields.nth(4) else { continue };
        let place = PathBuf::from(place.replace("\\040", " "));
        // A later mount at the same place covers the earlier one.
        if path.starts_with(&place) && place.as_os_str().len() >= found.0.as_os_str().len() {
            let peers: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
            found = (place, peers.join(" "));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:30 / /srv rw shared:5 - tmpfs t rw
31 30 0:31 / /srv/in\\040side rw master:7 propagate_from:2 - tmpfs t rw
32 27 0:32 / /srv2 rw - tmpfs t rw";

    #[test]
    fn the_mount_that_a_path_is_on_is_the_longest_whole_prefix_and_the_last_of_equals() {
        let on = |path: &str| governing(TABLE, Path::new(path));
        assert_eq!(on("/etc/x"), ("/".into(), String::new()));
        assert_eq!(on("/srv/a"), ("/srv".into(), "shared:5".into()));
        assert_eq!(on("/srv/in side"), ("/srv/in side".into(), "master:7 propagate_from:2".into()));
        assert_eq!(on("/srv2/a").0, Path::new("/srv2"));
        let twice = TABLE.to_owned() + "\n40 30 0:40 / /srv rw - tmpfs t rw";
        assert_eq!(governing(&twice, Path::new("/srv/a")).1, "");
    }
}
