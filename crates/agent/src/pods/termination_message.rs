//! A container's last words: what it wrote to its termination message file, or the end of its log.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use k8s_openapi::api::core::v1::Container;

use crate::logs::line::parse;

/// Bytes of a message from the file.
const FILE_LIMIT: u64 = 4096;
/// Bytes and lines of one from the log.
const LOG_LIMIT: u64 = 2048;
const LOG_LINES: usize = 80;

/// The message for a container that ended with `exit_code`.
pub fn read(container: &Container, file: &Path, log: &Path, exit_code: i32) -> Option<String> {
    let own = head(file, FILE_LIMIT).unwrap_or_default();
    let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    let text = if own.is_empty() && fall_back && exit_code != 0 { log_tail(log).unwrap_or_default() } else { own };
    (!text.is_empty()).then_some(text)
}

fn head(path: &Path, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn log_tail(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    // Each line carries its time and stream in front.
    let start = length.saturating_sub(LOG_LIMIT + 64 * LOG_LINES as u64);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    let whole = if start > 0 { lines.get(1..).unwrap_or_default() } else { &lines[..] };
    let mut text = Vec::new();
    for line in &whole[whole.len().saturating_sub(LOG_LINES)..] {
        if let Some(parsed) = parse(line) {
            text.extend_from_slice(parsed.text);
            if !parsed.partial {
                text.push(b'\n');
            }
        }
    }
    let cut = text.len().saturating_sub(usize::try_from(LOG_LIMIT).unwrap_or(usize::MAX));
    Some(String::from_utf8_lossy(&text[cut..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_speaks_for_a_failed_container_that_left_no_message() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, log) = (dir.path().join("m"), dir.path().join("0.log"));
        fs::write(&file, "").expect("written");
        fs::write(&log, "2024-01-01T00:00:00.0Z stdout F one\n2024-01-01T00:00:00.0Z stderr F two\n").expect("written");
        let mut container = Container::default();
        assert_eq!(read(&container, &file, &log, 1), None);
        container.termination_message_policy = Some("FallbackToLogsOnError".into());
        assert_eq!(read(&container, &file, &log, 0), None);
        assert_eq!(read(&container, &file, &log, 1).as_deref(), Some("one\ntwo\n"));
        fs::write(&log, "2024-01-01T00:00:00.0Z stdout F one\n2024-01-01T00:00:00.0Z stdout F:E two\n")
            .expect("written");
        assert_eq!(read(&container, &file, &log, 1).as_deref(), Some("one\ntwo"), "a last line without end stays so");
        fs::write(&file, "own words").expect("written");
        assert_eq!(read(&container, &file, &log, 1).as_deref(), Some("own words"));
    }
}
