//! A container's log file, in the CRI format.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::spec::LogSpec;

/// A longer line is written in parts of this many bytes, tagged `P` but for the last.
pub const MAX_LINE: usize = 16 * 1024;

/// The tag of a last line that had no newline.
pub const UNENDED: &str = "E";

/// The open log of a container.
#[derive(Debug)]
pub struct Log {
    spec: LogSpec,
    file: Option<File>,
    size: u64,
    /// Bytes of output lost to write errors.
    pub dropped: u64,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub struct Line(Vec<u8>);

impl Log {
    /// Opens (or continues) the log.
    pub fn open(spec: LogSpec) -> io::Result<Self> {
        let mut log = Self { spec, file: None, size: 0, dropped: 0 };
        if let Some(parent) = log.spec.path.parent() {
            fs::create_dir_all(parent)?;
        }
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path anew.
    pub fn reopen(&mut self) -> io::Result<()> {
        let file = File::options().create(true).append(true).mode(0o640).open(&self.spec.path)?;
        self.size = file.metadata()?.size();
        self.file = Some(file);
        Ok(())
    }

    /// Writes what a stream produced, keeping an unfinished line back in `line`.
    pub fn output(&mut self, stream: &str, line: &mut Line, mut bytes: &[u8], now: SystemTime) {
        let prefix = format!("{} {stream} ", timestamp(now));
        let mut text = Vec::with_capacity(bytes.len() + prefix.len() + 8);
        let mut payload = 0;
        let mut entry = |line: &mut Line, tail: &[u8], tag: u8| {
            text.extend_from_slice(prefix.as_bytes());
            text.extend_from_slice(&[tag, b' ']);
            text.extend_from_slice(&line.0);
            text.extend_from_slice(tail);
            text.push(b'\n');
            payload += line.0.len() + tail.len();
            line.0 = Vec::new();
        };
        while !bytes.is_empty() {
            let room = MAX_LINE - line.0.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            if let Some(end) = end {
                entry(line, &bytes[..end], b'F');
                bytes = &bytes[end + 1..];
            } else if bytes.len() > room {
                // At least one more byte follows, so that this is not the line's last part.
                entry(line, &bytes[..room], b'P');
                bytes = &bytes[room..];
            } else {
                line.0.extend_from_slice(bytes);
                break;
            }
        }
        self.append(&text, payload as u64);
    }

    /// Writes an unfinished line at the end of a stream.
    pub fn finish(&mut self, stream: &str, line: &mut Line, now: SystemTime) {
        if !line.0.is_empty() {
            // As containerd does, a last line without a newline counts as whole. A second tag (the format has room for
            // some, after colons) tells who wants to show it as it was.
            let text = [format!("{} {stream} F:{UNENDED} ", timestamp(now)).as_bytes(), &line.0, b"\n"].concat();
            self.append(&text, line.0.len() as u64);
            line.0 = Vec::new();
        }
    }

    /// Appends whole lines. A burst that would take the file beyond its size goes in parts.
    fn append(&mut self, mut text: &[u8], payload: u64) {
        let (whole, max) = (text.len().max(1) as u64, self.spec.max_size);
        while !text.is_empty() {
            let room = max.saturating_sub(self.size).min(text.len() as u64) as usize;
            let part = match text[..room].iter().rposition(|byte| *byte == b'\n') {
                _ if max == 0 => text.len(),
                Some(end) => end + 1,
                // A line longer than a file has one of its own.
                None if self.size == 0 => text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1),
                None => 0,
            };
            if part > 0 && !self.write(&text[..part]) {
                self.dropped += payload * part as u64 / whole;
            }
            text = &text[part..];
            // Going on in the old file is better than losing the line.
            if !text.is_empty() && self.rotate().is_err() {
                if !self.write(text) {
                    self.dropped += payload * text.len() as u64 / whole;
                }
                return;
            }
        }
    }

    fn write(&mut self, text: &[u8]) -> bool {
        if self.file.is_none() && self.reopen().is_err() {
            return false;
        }
        let Some(file) = &mut self.file else { return false };
        match file.write_all(text) {
            Ok(()) => self.size += text.len() as u64,
            Err(_) => {
                // Disk full: take back what was written of it, so that the file holds whole lines only.
                let _ = file.set_len(self.size);
                return false;
            }
        }
        true
    }

    fn rotate(&mut self) -> io::Result<()> {
        let kept = self.spec.max_files.max(1);
        let numbered = |number: u32| numbered(&self.spec.path, number);
        if kept == 1 {
            if let Some(file) = &self.file {
                file.set_len(0)?;
                self.size = 0;
            }
            return Ok(());
        }
        let _ = fs::remove_file(numbered(kept - 1));
        for number in (1..kept - 1).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&self.spec.path, numbered(1))?;
        self.reopen()
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// RFC 3339 in UTC with nine decimals.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_nanos()
    )
}

/// Date of a day counted from 1970-01-01, in eras of 400 years (H. Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn log(directory: &Path, max_size: u64, max_files: u32) -> Log {
        Log::open(LogSpec { path: directory.join("0.log"), max_size, max_files }).expect("opens")
    }

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::new(1_709_210_096, 7)
    }

    #[test]
    fn times_are_written_with_nine_decimals_in_utc() {
        assert_eq!(timestamp(at()), "2024-02-29T12:34:56.000000007Z");
        assert_eq!(timestamp(UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(4_107_542_399)), "2100-02-28T23:59:59.000000000Z");
    }

    #[test]
    fn lines_split_over_reads_are_joined_and_the_last_needs_no_newline() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut log = log(directory.path(), 0, 1);
        let mut line = Line::default();
        log.output("stdout", &mut line, b"a\nb", at());
        log.output("stdout", &mut line, b"c\n\nd", at());
        log.finish("stdout", &mut line, at());
        let text = fs::read_to_string(directory.path().join("0.log")).expect("reads");
        let stamp = timestamp(at());
        let expected: String =
            ["F a", "F bc", "F ", "F:E d"].iter().map(|entry| format!("{stamp} stdout {entry}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole_and_a_longer_one_comes_in_parts() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut log = log(directory.path(), 0, 1);
        let mut line = Line::default();
        let exact = [vec![b'x'; MAX_LINE], b"\n".to_vec()].concat();
        let longer = [vec![b'y'; MAX_LINE + 1], b"\n".to_vec()].concat();
        for byte in exact.chunks(1000).chain(longer.chunks(1000)) {
            log.output("stderr", &mut line, byte, at());
        }
        let text = fs::read_to_string(directory.path().join("0.log")).expect("reads");
        let shape: Vec<(&str, usize)> = text
            .lines()
            .map(|line| {
                let rest = line.split_once(" stderr ").expect("a stream").1;
                (&rest[..1], rest.len() - 2)
            })
            .collect();
        assert_eq!(shape, [("F", MAX_LINE), ("P", MAX_LINE), ("F", 1)]);
    }

    #[test]
    fn rotation_keeps_the_number_of_files_and_loses_no_line_of_them() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut log = log(directory.path(), 100, 3);
        let mut line = Line::default();
        for number in 0..10 {
            log.output("stdout", &mut line, format!("line {number}\n").as_bytes(), at());
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("reads");
        let all = [read("0.log.2"), read("0.log.1"), read("0.log")].concat();
        let numbers: Vec<&str> = all.lines().map(|line| line.rsplit(' ').next().expect("a word")).collect();
        assert_eq!(numbers, ["4", "5", "6", "7", "8", "9"]);
        assert!(!directory.path().join("0.log.3").exists());
    }

    #[test]
    fn a_full_disk_leaves_whole_lines_and_a_count() {
        let mut log = Log { spec: LogSpec::default(), file: None, size: 0, dropped: 0 };
        log.file = Some(File::options().append(true).open("/dev/full").expect("opens"));
        let mut line = Line::default();
        log.output("stdout", &mut line, b"hello\n", at());
        assert_eq!(log.dropped, 5);
    }
}
