//! Metrics as text: Prometheus' format 0.0.4 and OpenMetrics 1.0. Pure.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    #[default]
    Gauge,
    /// Nobody knows.
    Unknown,
}

/// One metric with all of its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, as Prometheus' own exporters name it.
    pub name: String,
    /// What it tells.
    pub help: String,
    /// What it is.
    pub kind: Kind,
    /// Labels and value of each sample.
    pub samples: Vec<(Vec<(String, String)>, f64)>,
}

/// Metrics in the order in which they were first told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<Family>);

impl Metrics {
    /// Adds a sample.
    pub fn add(&mut self, name: &str, help: &str, kind: Kind, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push((labels, value)),
            None => self.0.push(Family {
                name: name.to_owned(),
                help: help.to_owned(),
                kind,
                samples: vec![(labels, value)],
            }),
        }
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, help, Kind::Gauge, labels, value);
    }

    /// Adds a counter.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, help, Kind::Counter, labels, value);
    }

    /// All metrics.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.0
    }

    /// The value of a sample, by all of its labels.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = self.0.iter().find(|family| family.name == name)?;
        let same = |have: &[(String, String)]| {
            have.len() == labels.len()
                && labels.iter().all(|(name, value)| have.iter().any(|(n, v)| n == name && v == value))
        };
        family.samples.iter().find(|(have, _)| same(have)).map(|(_, value)| *value)
    }

    /// Prometheus' text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Unknown => "untyped",
            };
            let _ = writeln!(text, "# HELP {} {}", family.name, escape(&family.help, false));
            let _ = writeln!(text, "# TYPE {} {kind}", family.name);
            samples(&mut text, family);
        }
        text
    }

    /// OpenMetrics 1.0. A counter must end in `_total` there; one that does not, as some exporters have it, is unknown.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        for family in &self.0 {
            let (name, kind) = match (family.kind, family.name.strip_suffix("_total")) {
                (Kind::Counter, Some(name)) => (name, "counter"),
                (Kind::Gauge, _) => (family.name.as_str(), "gauge"),
                _ => (family.name.as_str(), "unknown"),
            };
            let _ = writeln!(text, "# TYPE {name} {kind}");
            let _ = writeln!(text, "# HELP {name} {}", escape(&family.help, true));
            samples(&mut text, family);
        }
        text.push_str("# EOF\n");
        text
    }
}

fn samples(text: &mut String, family: &Family) {
    for (labels, value) in &family.samples {
        text.push_str(&family.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            let _ = write!(text, "{}{name}=\"{}\"", if at == 0 { '{' } else { ',' }, escape(value, true));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = match *value {
            value if value.is_nan() => writeln!(text, " NaN"),
            f64::INFINITY => writeln!(text, " +Inf"),
            f64::NEG_INFINITY => writeln!(text, " -Inf"),
            value => writeln!(text, " {value}"),
        };
    }
}

fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

/// Makes a legal name of any text.
#[must_use]
pub fn legal_name(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' };
    let name: String = text.chars().map(legal).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_tell_the_same_metrics_in_their_own_way() {
        let mut metrics = Metrics::default();
        metrics.gauge("app_up", "Whether it is \"up\"", &[], 1.0);
        metrics.counter("app_calls_total", "Calls\nand more", &[("path", "a\"b\\c\nd"), ("code", "2")], 1e9);
        metrics.counter("app_hits", "Hits", &[], f64::INFINITY);
        let text = "# HELP app_up Whether it is \"up\"\n# TYPE app_up gauge\napp_up 1\n\
            # HELP app_calls_total Calls\\nand more\n# TYPE app_calls_total counter\n\
            app_calls_total{path=\"a\\\"b\\\\c\\nd\",code=\"2\"} 1000000000\n\
            # HELP app_hits Hits\n# TYPE app_hits counter\napp_hits +Inf\n";
        assert_eq!(metrics.text(), text);
        let open = metrics.open_metrics();
        assert!(open.contains("# TYPE app_calls counter\n") && open.contains("\napp_calls_total{"), "{open}");
        assert!(open.contains("# TYPE app_hits unknown\n") && open.ends_with("# EOF\n"), "{open}");
        assert_eq!(legal_name("9 lives-a.b"), "_9_lives_a_b");
    }
}
