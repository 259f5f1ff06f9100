//! Opens a log's files at the line from which it is to be read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The files to read, oldest first, each at its place. Missing files are left out.
pub fn open(path: &Path, tail: Option<u64>) -> io::Result<Vec<File>> {
    let mut newest_first = Vec::new();
    let mut left = tail;
    for file in files(path) {
        let mut file = file?;
        if let Some(lines) = &mut left {
            let found = seek_lines(&mut file, *lines)?;
            *lines -= found;
            newest_first.push(file);
            if *lines == 0 {
                break;
            }
        } else {
            newest_first.push(file);
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// The files that came after the one with inode `known` (all, if that is `None` or gone), oldest first.
pub fn after(path: &Path, known: Option<u64>) -> io::Result<Vec<File>> {
    let mut newest_first = Vec::new();
    for file in files(path) {
        let file = file?;
        if Some(inode(&file)) == known {
            break;
        }
        newest_first.push(file);
    }
    newest_first.reverse();
    Ok(newest_first)
}

/// 0 for a file that can't be asked, which no file has.
pub fn inode(file: &File) -> u64 {
    file.metadata().map_or(0, |m| m.ino())
}

/// All files of a log, newest first. One that is rotated meanwhile is met again under its next name: it counts once.
fn files(path: &Path) -> impl Iterator<Item = io::Result<File>> {
    let mut seen = Vec::new();
    let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    (0..)
        .map(move |index| File::open(if index == 0 { path.to_path_buf() } else { rotated(path, index) }))
        .enumerate()
        // Between two steps of a rotation there is no current file.
        .filter(move |(index, file)| *index > 0 || !file.as_ref().is_err_and(missing))
        .map(|(_, file)| file)
        .take_while(move |file| !file.as_ref().is_err_and(missing))
        .filter(move |file| {
            let Ok(file) = file else { return true };
            let inode = inode(file);
            let new = !seen.contains(&inode);
            seen.push(inode);
            new
        })
}

/// `PATH.N`
fn rotated(path: &Path, index: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

/// Places the file before its last `lines` lines; returns how many it has of them.
fn seek_lines(file: &mut File, lines: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let length = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(0);
    }
    let mut end = length;
    let mut found = 0;
    let mut buffer = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        (&mut *file).take(end - start).read_to_end(&mut buffer)?;
        for (index, byte) in buffer.iter().enumerate().rev() {
            let at = start + index as u64;
            // A line's end counts for the line that begins after it.
            if *byte == b'\n' && at + 1 < length {
                found += 1;
                if found == lines {
                    file.seek(SeekFrom::Start(at + 1))?;
                    return Ok(found);
                }
            }
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(if length > 0 { found + 1 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_over_rotated_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, "5\n6\n").expect("written");
        std::fs::write(rotated(&path, 1), "3\n4\n").expect("written");
        std::fs::write(rotated(&path, 2), "1\n2\n").expect("written");
        let text = |tail: Option<u64>| {
            let files = open(&path, tail).expect("opened");
            files.into_iter().map(|f| io::read_to_string(f).expect("read")).collect::<String>()
        };
        assert_eq!(text(None), "1\n2\n3\n4\n5\n6\n");
        for (tail, expected) in [
            (0, ""),
            (1, "6\n"),
            (2, "5\n6\n"),
            (3, "4\n5\n6\n"),
            (6, "1\n2\n3\n4\n5\n6\n"),
            (99, "1\n2\n3\n4\n5\n6\n"),
        ] {
            assert_eq!(text(Some(tail)), expected, "{tail}");
        }
        assert!(open(&dir.path().join("none"), Some(3)).expect("nothing").is_empty());
    }
}
