//! Prometheus' text format.

use std::fmt::Write;

/// Metrics in the making.
#[derive(Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { out: &mut self.0, name }
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// The samples of one name.
pub(super) struct Family<'e> {
    out: &'e mut String,
    name: &'static str,
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.at(labels, value, None)
    }

    /// With the moment of the measurement, in milliseconds since 1970.
    pub fn at(&mut self, labels: &[(&str, &str)], value: f64, time: Option<i64>) -> &mut Self {
        self.out.push_str(self.name);
        for (at, (name, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{}{name}=\"{text}\"", if at == 0 { "{" } else { "," });
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = write!(self.out, " {value}");
        if let Some(time) = time {
            let _ = write!(self.out, " {time}");
        }
        self.out.push('\n');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_type_and_samples() {
        let mut out = Exposition::default();
        out.family("a_total", "counter", "What is counted.").sample(&[("pod", "x\"y"), ("n", "")], 1.5).at(
            &[],
            12_884_901_888.0,
            Some(7),
        );
        assert_eq!(
            out.into_text(),
            "# HELP a_total What is counted.\n# TYPE a_total counter\na_total{pod=\"x\\\"y\",n=\"\"} 1.5\na_total 12884901888 7\n"
        );
    }
}
