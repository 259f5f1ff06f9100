//! Container logs: files in the CRI format, read with all of `kubectl logs`' options and followed by inotify.

pub mod line;
