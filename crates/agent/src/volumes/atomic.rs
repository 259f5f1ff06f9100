//! Writes a volume's files so that a reader sees either all old or all new ones: a fresh directory holds the
//! files, `..data` points to it and is replaced by rename, and each name at the top points through `..data`.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

use jiff::Timestamp;

use super::content::Content;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `volume` contain exactly `content`; nothing is touched if it does already. `now` names the new directory.
pub fn write(volume: &Path, content: &Content, fs_group: Option<i64>, now: Timestamp) -> io::Result<bool> {
    let group = fs_group.and_then(|g| u32::try_from(g).ok());
    fs::create_dir_all(volume)?;
    give_directory(volume, group)?;
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && same(&volume.join(old), content, fs_group)
    {
        return Ok(false);
    }
    let name = format!("..{}.{:09}", now.strftime("%Y_%m_%d_%H_%M_%S"), now.subsec_nanosecond());
    let fresh = volume.join(&name);
    fs::create_dir(&fresh)?;
    give_directory(&fresh, group)?;
    for (path, file) in content {
        let target = fresh.join(path);
        if let Some(parent) = target.parent().filter(|p| *p != fresh) {
            make_directories(&fresh, parent, group)?;
        }
        fs::write(&target, &file.bytes)?;
        if file.owner.is_some() || group.is_some() {
            chown(&target, file.owner, group)?;
        }
        set_mode(&target, effective_mode(file.mode, file.owner, group))?;
    }
    let link = volume.join(NEW_DATA);
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, volume.join(DATA))?;
    link_names(volume, content)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(volume.join(old));
    }
    Ok(true)
}

/// A group given by fsGroup can read what the owner can.
fn effective_mode(mode: u32, _owner: Option<u32>, group: Option<u32>) -> u32 {
    if group.is_some() { mode | ((mode & 0o400) >> 3) | 0o040 } else { mode }
}

/// Directories are the group's as well, and so is what is made in them.
fn give_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        chown(path, None, group)?;
    }
    set_mode(path, if group.is_some() { 0o2755 } else { 0o755 })
}

fn make_directories(root: &Path, directory: &Path, group: Option<u32>) -> io::Result<()> {
    let mut missing: Vec<&Path> = directory.ancestors().take_while(|d| *d != root && !d.exists()).collect();
    while let Some(next) = missing.pop() {
        fs::create_dir(next)?;
        give_directory(next, group)?;
    }
    Ok(())
}

fn link_names(volume: &Path, content: &Content) -> io::Result<()> {
    let top = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = content.keys().map(top).collect();
    for name in &wanted {
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(format!("{DATA}/{name}"), &link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn same(directory: &Path, content: &Content, fs_group: Option<i64>) -> bool {
    let group = fs_group.and_then(|g| u32::try_from(g).ok());
    let unchanged = content.iter().all(|(path, file)| {
        let target = directory.join(path);
        fs::metadata(&target)
            .is_ok_and(|m| m.permissions().mode() & 0o7777 == effective_mode(file.mode, file.owner, group))
            && fs::read(&target).is_ok_and(|bytes| bytes == file.bytes)
    });
    unchanged && count_files(directory).is_ok_and(|count| count == content.len())
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::{super::content::File, *};

    fn content(files: &[(&str, &str)]) -> Content {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o640, owner: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn contents_are_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        assert!(write(&volume, &content(&[("a", "1"), ("x/y", "2")]), None, at(1)).expect("written"));
        assert_eq!(fs::read_to_string(volume.join("a")).expect("readable"), "1");
        assert_eq!(fs::read_to_string(volume.join("x/y")).expect("readable"), "2");
        assert_eq!(fs::read_link(volume.join("a")).expect("a link"), Path::new("..data/a"));
        assert!(
            !write(&volume, &content(&[("a", "1"), ("x/y", "2")]), None, at(2)).expect("written"),
            "nothing changed"
        );
        let held = fs::File::open(volume.join("a")).expect("open");
        assert!(write(&volume, &content(&[("a", "3"), ("b", "4")]), None, at(3)).expect("written"));
        assert_eq!(io::read_to_string(held).expect("readable"), "1", "an open file keeps its content");
        assert_eq!(fs::read_to_string(volume.join("a")).expect("readable"), "3");
        assert!(volume.join("x").symlink_metadata().is_err());
        let mut names: Vec<_> =
            fs::read_dir(&volume).expect("a directory").map(|e| e.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "..data, one directory, a, b: {names:?}");
        let mode = fs::metadata(volume.join("a")).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);
    }

    #[test]
    fn files_and_directories_are_the_pods_groups() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        write(&volume, &content(&[("a", "1"), ("x/y", "2")]), Some(1234), at(1)).expect("written");
        let seen = |path: &str| fs::metadata(volume.join(path)).map(|m| (m.gid(), m.mode() & 0o7777)).expect("there");
        for directory in ["", "..data", "x"] {
            assert_eq!(seen(directory), (1234, 0o2755), "{directory:?}");
        }
        assert_eq!(seen("x/y"), (1234, 0o640));
    }
}
