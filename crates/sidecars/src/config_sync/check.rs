//! Whether a new configuration may be used at all.

use std::{path::Path, process::Stdio, time::Duration};

use clap::ValueEnum;
use regex_lite::Regex;

use super::{source::Content, target};

/// A configuration that is refused; the old one goes on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be parsed.
    #[error("{0} is not {1}: {2}")]
    Format(String, &'static str, String),
    /// It does not contain what it must.
    #[error("{0} does not match {1:?}")]
    Regex(String, String),
    /// The command said no.
    #[error("the command refuses it ({0}): {1}")]
    Command(String, String),
}

/// How a file must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML, of one document or several.
    Yaml,
}

/// What a new configuration must pass.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// How each file must be written.
    pub format: Option<Format>,
    /// What each file must match.
    pub regex: Option<Regex>,
    /// A command and its arguments; `{}` stands for the file or directory that would be used. It must end with 0.
    pub command: Option<Vec<String>>,
    /// The most that the command may take.
    pub command_time: Duration,
}

impl Checks {
    /// Judges a configuration before anything of it is in its place.
    ///
    /// # Errors
    /// With the reason to refuse it.
    pub async fn judge(&self, content: &Content) -> Result<(), Refusal> {
        match content {
            Content::File(bytes) => self.judge_file("the configuration", bytes)?,
            Content::Files(files) => files.iter().try_for_each(|(name, bytes)| self.judge_file(name, bytes))?,
        }
        match &self.command {
            Some(command) => self.ask(command, content).await,
            None => Ok(()),
        }
    }

    fn judge_file(&self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let text = String::from_utf8_lossy(bytes);
        match self.format {
            Some(Format::Json) => {
                serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
                    .map_err(|error| Refusal::Format(name.to_owned(), "JSON", error.to_string()))?;
            }
            Some(Format::Yaml) => {
                for document in serde_yaml_ng::Deserializer::from_str(&text) {
                    <serde::de::IgnoredAny as serde::Deserialize>::deserialize(document)
                        .map_err(|error| Refusal::Format(name.to_owned(), "YAML", error.to_string()))?;
                }
            }
            None => {}
        }
        match &self.regex {
            Some(regex) if !regex.is_match(&text) => Err(Refusal::Regex(name.to_owned(), regex.as_str().to_owned())),
            _ => Ok(()),
        }
    }

    async fn ask(&self, command: &[String], content: &Content) -> Result<(), Refusal> {
        let shown = command.join(" ");
        let failed = |reason: String| Refusal::Command(shown.clone(), reason);
        let place = Place::new().map_err(|error| failed(error.to_string()))?;
        let path = place.0.join("new");
        let written = target::compare(&path, content).and_then(|change| target::apply(&path, content, &change));
        written.map_err(|error| failed(error.to_string()))?;
        let path = path.to_string_lossy();
        let words: Vec<String> = command.iter().map(|word| word.replace("{}", &path)).collect();
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let output =
            tokio::process::Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        match tokio::time::timeout(self.command_time, output).await {
            Err(_) => Err(failed(format!("it took longer than {:?}", self.command_time))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said: String = said.trim().chars().take(500).collect();
                Err(failed(format!("{}: {said}", output.status)))
            }
        }
    }
}

/// A directory that is gone when it is dropped.
struct Place(std::path::PathBuf);

impl Place {
    fn new() -> std::io::Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hythe-check-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap_or(Path::new("/")))?;
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
