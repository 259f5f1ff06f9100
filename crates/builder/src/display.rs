//! Progress of our own, for `hythe build`: a line a step with what it took, and output where it tells something.
//!
//! ```text
//! [make 2/3] RUN make                               cached
//! [1/2] COPY --from=make /out /app                  0.1s
//! image 5d8c6b1b6f0c  todo:latest  7 steps, 5 cached, 0.3s
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::classic::short;
use crate::event::Event;

/// Columns of a step before its remark.
const WIDTH: usize = 64;

/// Renders events as lines; a pure function of events and the time since the build began.
#[derive(Debug, Default)]
pub struct Display {
    stages: BTreeMap<usize, Stage>,
    several: bool,
    steps: usize,
    cached: usize,
    tags: Vec<String>,
    image: Option<String>,
}

#[derive(Debug, Default)]
struct Stage {
    name: String,
    steps: usize,
    at: usize,
    text: String,
    since: Duration,
    cached: bool,
    open: bool,
    /// Output of the step under way that has no newline yet.
    partial: Vec<u8>,
}

impl Display {
    /// For one build.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lines to print for an event, each with its newline.
    pub fn render(&mut self, event: &Event, elapsed: Duration) -> String {
        match event {
            Event::Planned { stages, steps } => {
                self.several = stages.len() > 1;
                self.steps = *steps;
                for (stage, name, steps) in stages {
                    let state = Stage { name: name.clone(), steps: *steps, ..Stage::default() };
                    self.stages.insert(*stage, state);
                }
                String::new()
            }
            Event::Warning(text) => format!("warning: {text}\n"),
            Event::Pulling { stage, line } => format!("{}{line}\n", self.prefix(*stage)),
            Event::Step { stage, text, .. } => {
                let is_global = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("ARG "))
                    && self.stages.get(stage).is_none_or(|own| own.at == 0);
                if is_global {
                    return String::new();
                }
                let own = self.stages.entry(*stage).or_default();
                own.at += 1;
                own.text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                (own.since, own.cached, own.open) = (elapsed, false, true);
                String::new()
            }
            Event::Triggers { stage, count } => format!("{}{count} triggers of the base image\n", self.prefix(*stage)),
            Event::Cached { stage } => {
                self.cached += 1;
                self.stages.entry(*stage).or_default().cached = true;
                String::new()
            }
            Event::Output { stage, bytes, .. } => self.output(*stage, bytes),
            Event::Done { stage, .. } => self.done(*stage, elapsed),
            Event::Built { image } => {
                self.image = Some(short(image).to_owned());
                String::new()
            }
            Event::Tagged { name } => {
                self.tags.push(name.clone());
                String::new()
            }
            Event::Running { .. } | Event::Removed { .. } | Event::Failed { .. } | Event::StageDone { .. } => {
                String::new()
            }
        }
    }

    /// The last line.
    pub fn finish(&self, elapsed: Duration) -> String {
        let Some(image) = &self.image else { return String::new() };
        let tags = self.tags.iter().map(|tag| format!("  {tag}")).collect::<String>();
        format!("image {image}{tags}  {} steps, {} cached, {:.1}s\n", self.steps, self.cached, elapsed.as_secs_f64())
    }

    fn prefix(&self, stage: usize) -> String {
        let Some(own) = self.stages.get(&stage) else { return String::new() };
        let name = if self.several { format!("{} ", own.name) } else { String::new() };
        format!("[{name}{}/{}] ", own.at, own.steps)
    }

    fn output(&mut self, stage: usize, bytes: &[u8]) -> String {
        let prefix = self.prefix(stage);
        let own = self.stages.entry(stage).or_default();
        own.partial.extend_from_slice(bytes);
        let Some(end) = own.partial.iter().rposition(|byte| *byte == b'\n') else { return String::new() };
        let whole: Vec<u8> = own.partial.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(|line| format!("{prefix}  {line}\n")).collect()
    }

    fn done(&mut self, stage: usize, elapsed: Duration) -> String {
        let rest = self.stages.get(&stage).is_some_and(|own| !own.partial.is_empty());
        let mut lines = if rest { self.output(stage, b"\n") } else { String::new() };
        let prefix = self.prefix(stage);
        let Some(own) = self.stages.get_mut(&stage).filter(|own| own.open) else { return lines };
        own.open = false;
        let remark = match own.cached {
            true => "cached".to_owned(),
            false => format!("{:.1}s", elapsed.saturating_sub(own.since).as_secs_f64()),
        };
        let mut step = format!("{prefix}{}", own.text);
        if step.chars().count() > WIDTH {
            step = step.chars().take(WIDTH - 1).collect::<String>() + "…";
        }
        lines.push_str(&format!("{step:WIDTH$}  {remark}\n"));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_a_line_a_step() {
        let mut display = Display::new();
        let mut shown = String::new();
        let at = Duration::from_millis;
        let step = |number: usize, text: &str| Event::Step { stage: 0, number, total: 3, text: text.into() };
        let done = || Event::Done { stage: 0, image: None };
        for (event, time) in [
            (Event::Planned { stages: vec![(0, "0".into(), 3)], steps: 3 }, 0),
            (step(1, "FROM base"), 0),
            (done(), 100),
            (step(2, "COPY a  b"), 100),
            (Event::Cached { stage: 0 }, 100),
            (done(), 100),
            (step(3, &format!("RUN {}", "x".repeat(80))), 100),
            (Event::Output { stage: 0, error: false, bytes: b"one\ntw".to_vec() }, 200),
            (Event::Output { stage: 0, error: false, bytes: b"o".to_vec() }, 200),
            (done(), 1600),
            (Event::Built { image: format!("sha256:{}", "ab".repeat(32)) }, 1600),
            (Event::Tagged { name: "todo:latest".into() }, 1600),
        ] {
            shown += &display.render(&event, at(time));
        }
        shown += &display.finish(at(1600));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], format!("{:64}  0.1s", "[1/3] FROM base"));
        assert_eq!(lines[1], format!("{:64}  cached", "[2/3] COPY a b"));
        assert_eq!(lines[2..4], ["[3/3]   one", "[3/3]   two"]);
        assert_eq!(lines[4], format!("[3/3] RUN {}…  1.5s", "x".repeat(53)));
        assert_eq!(lines[5], "image abababababab  todo:latest  3 steps, 1 cached, 1.6s");
    }
}
