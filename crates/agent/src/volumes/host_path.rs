//! `hostPath` and its type checks, with upstream's messages.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::Path,
};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Checks the path, and makes it for the `OrCreate` types. Without a type, nothing is checked, and what is not there
/// becomes a directory: upstream leaves it to container runtimes, which all do so.
pub fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    if source.path.split('/').any(|part| part == "..") {
        return Err(format!("path {} must not contain '..'", source.path));
    }
    let kind = source.type_.as_deref().unwrap_or_default();
    let mode = fs::metadata(path).map(|m| m.file_type());
    let expect = |is: bool, what: &str| {
        if is { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {what}", source.path)) }
    };
    match kind {
        "" => match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| made_not(path, &e))
            }
            _ => Ok(()),
        },
        "DirectoryOrCreate" => match mode {
            Ok(found) => expect(found.is_dir(), "a directory"),
            Err(_) => make_directory(path).map_err(|e| made_not(path, &e)),
        },
        "FileOrCreate" => match mode {
            Ok(found) => expect(found.is_file(), "a file"),
            Err(_) => make_file(path).map_err(|e| format!("open {}: {}", source.path, words(&e))),
        },
        "Directory" => expect(mode.is_ok_and(|m| m.is_dir()), "a directory"),
        "File" => expect(mode.is_ok_and(|m| m.is_file()), "a file"),
        "Socket" => expect(mode.is_ok_and(|m| m.is_socket()), "a socket file"),
        "CharDevice" => expect(mode.is_ok_and(|m| m.is_char_device()), "a character device"),
        "BlockDevice" => expect(mode.is_ok_and(|m| m.is_block_device()), "a block device"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

/// Why a directory was not made, with the part of its path that was in the way.
fn made_not(path: &Path, error: &io::Error) -> String {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let obstacle = ancestors.into_iter().find(|part| !part.is_dir()).unwrap_or(path);
    format!("mkdir {}: {}", obstacle.display(), words(error))
}

/// An error of the system in Go's words.
fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| nix::Error::from_raw(number).desc().to_lowercase())
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn make_file(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().create(true).append(true).open(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_with_upstreams_messages() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |name: &str, kind: &str| {
            let path = dir.path().join(name).to_string_lossy().into_owned();
            check(&HostPathVolumeSource { path: path.clone(), type_: Some(kind.into()) })
                .map_err(|e| e.replace(&path, "P"))
        };
        assert_eq!(check("none", "Directory"), Err("hostPath type check failed: P is not a directory".into()));
        assert_eq!(check("none", "File"), Err("hostPath type check failed: P is not a file".into()));
        assert_eq!(check("none", "Socket"), Err("hostPath type check failed: P is not a socket file".into()));
        assert_eq!(check("d/e", "DirectoryOrCreate"), Ok(()));
        assert_eq!(check("d/e", "Directory"), Ok(()));
        assert_eq!(check("d/f", "FileOrCreate"), Ok(()));
        assert_eq!(check("d/f", "File"), Ok(()));
        assert_eq!(check("d/f", "DirectoryOrCreate"), Err("hostPath type check failed: P is not a directory".into()));
        assert_eq!(check("d/f", ""), Ok(()));
    }

    #[test]
    fn what_can_not_be_made_is_told_of_in_gos_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let check = |name: &str, kind: &str| check(&HostPathVolumeSource { path: at(name), type_: Some(kind.into()) });
        let missing = format!("open {}: no such file or directory", at("none/f"));
        assert_eq!(check("none/f", "FileOrCreate"), Err(missing));
        fs::write(at("f"), "").expect("written");
        assert_eq!(check("f/g/h", "DirectoryOrCreate"), Err(format!("mkdir {}: not a directory", at("f"))));
        assert_eq!(check("f/g", "FileOrCreate"), Err(format!("open {}: not a directory", at("f/g"))));
    }

    #[test]
    fn a_path_without_type_that_is_not_there_becomes_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let source = HostPathVolumeSource { path: path.to_string_lossy().into_owned(), type_: None };
        assert_eq!(check(&source), Ok(()));
        assert!(path.is_dir());
        fs::write(path.join("kept"), "").expect("written");
        assert_eq!(check(&source), Ok(()));
        assert!(path.join("kept").exists());
    }
}
