//! The Dockerfile: text in, stages of instructions out. No I/O.
//!
//! Grammar and messages follow the Dockerfile reference (frontend 1.x) as Docker's own parser has them.

mod commands;
mod expand;
mod flags;
mod lines;
mod mounts;
mod values;
mod words;

pub use commands::{Checks, Command, Copying, Form, Health, Inline, Variable};
pub use expand::{ExpandError, Expander};
pub use lines::Heredoc;
pub use mounts::{CacheSharing, Mount, MountKind};
pub use values::{check_signal, port_range};

use self::lines::{Line, Lines};

/// A mistake in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dockerfile parse error on line {line}: {message}")]
pub struct ParseError {
    /// Where it is, from 1.
    pub line: usize,
    /// What it is, in Docker's words.
    pub message: String,
}

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// The escape character: `\` unless a directive says `` ` ``.
    pub escape: char,
    /// The `# syntax=` directive. Kept, never fetched: this builder is the frontend.
    pub syntax: Option<String>,
    /// `ARG` instructions before the first `FROM`.
    pub global: Vec<Instruction>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
    /// Remarks for the user.
    pub warnings: Vec<String>,
}

/// `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The `FROM` instruction itself.
    pub from: Instruction,
    /// Its image, or an earlier stage; variables not yet expanded.
    pub base: String,
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// `--platform`, not yet expanded.
    pub platform: Option<String>,
    /// What comes next.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// Its first line, from 1.
    pub line: usize,
    /// Its last line.
    pub end: usize,
    /// The text with continuation lines joined, as progress shows it.
    pub original: String,
    /// What it says.
    pub command: Command,
}

impl Dockerfile {
    /// Parses a Dockerfile.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::read(text)?;
        let mut dockerfile = Self {
            escape: lines.escape,
            syntax: lines.syntax,
            global: Vec::new(),
            stages: Vec::new(),
            warnings: lines.warnings,
        };
        let mut last = 1;
        for line in lines.lines {
            last = line.start;
            let instruction = Instruction::parse(&line, lines.escape)?;
            dockerfile.add(instruction)?;
        }
        if dockerfile.stages.is_empty() {
            let message = match dockerfile.global.is_empty() {
                true => "file with no instructions",
                false => "no build stage in current context",
            };
            return Err(ParseError { line: last, message: message.into() });
        }
        Ok(dockerfile)
    }

    fn add(&mut self, instruction: Instruction) -> Result<(), ParseError> {
        if let Command::From { image, name, platform } = &instruction.command {
            self.stages.push(Stage {
                base: image.clone(),
                name: name.clone(),
                platform: platform.clone(),
                from: instruction,
                instructions: Vec::new(),
            });
            return Ok(());
        }
        match (self.stages.last_mut(), &instruction.command) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Command::Arg(_)) => self.global.push(instruction),
            (None, _) => {
                return Err(ParseError { line: instruction.line, message: "no build stage in current context".into() });
            }
        }
        Ok(())
    }
}

impl Instruction {
    /// Parses one instruction that stands alone: an `ONBUILD` trigger, or a `--change` of a commit or import.
    ///
    /// # Errors
    /// Its mistake, on line 1.
    pub fn parse_one(text: &str) -> Result<Self, ParseError> {
        let lines = Lines::read(text)?;
        match lines.lines.as_slice() {
            [line] => Self::parse(line, lines.escape),
            _ => Err(ParseError { line: 1, message: "file with no instructions".into() }),
        }
    }

    fn parse(line: &Line, escape: char) -> Result<Self, ParseError> {
        let command = commands::parse(line, escape).map_err(|message| ParseError { line: line.start, message })?;
        Ok(Self { line: line.start, end: line.end, original: line.text.trim().to_owned(), command })
    }
}

/// The lines around a mistake, with a mark, as Docker shows them:
///
/// ```text
/// Dockerfile:3
/// --------------------
///    1 |     FROM busybox
///    2 |
///    3 | >>> FOO
/// --------------------
/// ```
pub fn excerpt(text: &str, name: &str, first: usize, last: usize) -> String {
    use std::fmt::Write as _;
    let rule = "--------------------";
    let mut shown = format!("{name}:{first}\n{rule}\n");
    for (index, line) in text.lines().enumerate().skip(first.saturating_sub(3)) {
        let number = index + 1;
        if number > last + 2 {
            break;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let row = format!("{number:4} | {mark} {line}");
        let _ = writeln!(shown, "{}", row.trim_end());
    }
    shown + rule
}
