//! Prometheus' text format.

use std::fmt::Write;

use crate::Spread;

/// Metrics in the making.
#[derive(Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Samples<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Samples { out: &mut self.0, name }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// The samples of one name.
pub struct Samples<'e> {
    out: &'e mut String,
    name: &'static str,
}

impl Samples<'_> {
    /// One, by the names and values of its labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.at(labels, value, None)
    }

    /// With the moment of the measurement, in milliseconds since 1970.
    pub fn at(&mut self, labels: &[(&str, &str)], value: f64, time: Option<i64>) -> &mut Self {
        self.line("", labels, None, value, time);
        self
    }

    /// A histogram's: its buckets, their sum and their number.
    pub fn spread(&mut self, labels: &[(&str, &str)], bounds: &[f64], spread: &Spread) -> &mut Self {
        let mut below = 0;
        for (place, bound) in bounds.iter().enumerate() {
            below += spread.buckets.get(place).copied().unwrap_or(0);
            self.line("_bucket", labels, Some(&go_float(*bound)), below as f64, None);
        }
        self.line("_bucket", labels, Some("+Inf"), spread.count as f64, None);
        self.line("_sum", labels, None, spread.sum, None);
        self.line("_count", labels, None, spread.count as f64, None);
        self
    }

    fn line(&mut self, part: &str, labels: &[(&str, &str)], le: Option<&str>, value: f64, time: Option<i64>) {
        let _ = write!(self.out, "{}{part}", self.name);
        let bound = le.map(|le| ("le", le));
        for (at, (name, text)) in labels.iter().copied().chain(bound).enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{}{name}=\"{text}\"", if at == 0 { "{" } else { "," });
        }
        if !labels.is_empty() || le.is_some() {
            self.out.push('}');
        }
        let _ = write!(self.out, " {value}");
        if let Some(time) = time {
            let _ = write!(self.out, " {time}");
        }
        self.out.push('\n');
    }
}

/// As Go's `strconv.FormatFloat(value, 'g', -1, 64)`: large and small ones with an exponent of two digits at least.
fn go_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=5 => value.to_string(),
        exponent => format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_writes_numbers() {
        for (value, text) in [
            (0.005, "0.005"),
            (1.0, "1"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1.5e21, "1.5e+21"),
            (0.0001, "0.0001"),
            (1e-8, "1e-08"),
            (5242.88, "5242.88"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

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
