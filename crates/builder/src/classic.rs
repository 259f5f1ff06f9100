//! Progress as Docker's classic builder prints it.

use std::collections::BTreeMap;

use crate::event::Event;

/// Renders events as the text of `POST /build`'s `stream` messages. Stages that work at the same time appear one after
/// the other, in the order of the Dockerfile: what a later one says is held back until the earlier ones are done.
#[derive(Debug, Default)]
pub struct Classic {
    /// Stages not yet done, in order; the first one speaks.
    order: Vec<usize>,
    held: BTreeMap<usize, Vec<Event>>,
    /// Steps are numbered as they are shown.
    number: usize,
    total: usize,
}

/// A piece of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// It came from a program's stderr.
    pub error: bool,
    /// The text, with its newlines.
    pub text: String,
}

impl Classic {
    /// A renderer for one build.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is to be printed now.
    pub fn render(&mut self, event: Event) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match event.stage() {
            None => {
                if let Event::Planned { stages, steps } = &event {
                    self.order = stages.iter().map(|(stage, ..)| *stage).collect();
                    self.total = *steps;
                }
                self.say(&event, &mut pieces);
            }
            Some(stage) if self.order.first() == Some(&stage) => {
                self.say(&event, &mut pieces);
                if event == (Event::StageDone { stage }) {
                    self.advance(&mut pieces);
                }
            }
            Some(stage) => self.held.entry(stage).or_default().push(event),
        }
        pieces
    }

    /// What a failed build still owes: everything that was held back.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (_, events) in std::mem::take(&mut self.held) {
            for event in events {
                self.say(&event, &mut pieces);
            }
        }
        pieces
    }

    fn advance(&mut self, pieces: &mut Vec<Piece>) {
        while !self.order.is_empty() {
            self.order.remove(0);
            let Some(next) = self.order.first().copied() else { return };
            let events = self.held.remove(&next).unwrap_or_default();
            let done = events.contains(&Event::StageDone { stage: next });
            for event in events {
                self.say(&event, pieces);
            }
            if !done {
                return;
            }
        }
    }

    fn say(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        let mut line = |text: String| pieces.push(Piece { error: false, text });
        match event {
            Event::Planned { .. } | Event::Failed { .. } | Event::StageDone { .. } => {}
            Event::Warning(text) => line(format!("[Warning] {text}\n")),
            Event::Pulling { line: text, .. } => line(format!("{text}\n")),
            Event::Step { text, total, .. } => {
                self.number += 1;
                line(format!("Step {}/{} : {text}\n", self.number, (*total).max(self.total)));
            }
            Event::Triggers { count: 1, .. } => line("# Executing 1 build trigger\n".into()),
            Event::Triggers { count, .. } => line(format!("# Executing {count} build triggers\n")),
            Event::Cached { .. } => line(" ---> Using cache\n".into()),
            Event::Running { container, .. } => line(format!(" ---> Running in {container}\n")),
            Event::Output { error, bytes, .. } => {
                pieces.push(Piece { error: *error, text: String::from_utf8_lossy(bytes).into_owned() });
            }
            Event::Removed { container, .. } => line(format!(" ---> Removed intermediate container {container}\n")),
            Event::Done { image: Some(image), .. } => line(format!(" ---> {}\n", short(image))),
            Event::Done { image: None, .. } => line(" ---> \n".into()),
            Event::Built { image } => line(format!("Successfully built {}\n", short(image))),
            Event::Tagged { name } => line(format!("Successfully tagged {name}\n")),
        }
    }
}

/// The first 12 digits of an id.
pub fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}
