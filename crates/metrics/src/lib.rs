//! What a role counts, under upstream's names and in Prometheus' text format, for `/metrics` of its process
//! (`k8s.io/component-base/metrics`). A family is a `static` of the role that counts; [`register`] makes it seen.

mod exposition;
mod page;

use std::collections::BTreeMap;

use parking_lot::Mutex;

pub use exposition::{Exposition, Samples};
pub use page::{Making, Served, page, serve};

/// Upper bounds where upstream gives none (`prometheus.DefBuckets`), in seconds.
pub const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What no label's value has in it.
const BETWEEN: &str = "\u{1f}";

/// The families of this process that are shown.
static SHOWN: Mutex<Vec<&'static Family>> = Mutex::new(Vec::new());

/// All samples of one name.
pub struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: Kind,
    /// By the labels' values, with [`BETWEEN`] between them.
    cells: Mutex<BTreeMap<String, Cell>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// By the upper bounds of its buckets, of which the last, that of everything, is left out.
    Histogram(&'static [f64]),
}

enum Cell {
    Number(f64),
    Spread(Spread),
}

/// How many values were no greater than each of some bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many values were no greater than the bound of this place, and greater than the one before.
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Spread {
    /// Takes in a value; `bounds` are the same each time.
    pub fn observe(&mut self, bounds: &[f64], value: f64) {
        self.buckets.resize(bounds.len(), 0);
        if let Some(bucket) = self.buckets.get_mut(bounds.partition_point(|bound| *bound < value)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

impl Family {
    /// A number that only grows. `help` starts with upstream's stability, for instance `[STABLE] `.
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, Kind::Counter)
    }

    /// A number that comes and goes.
    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, Kind::Gauge)
    }

    /// How often values were within each of the bounds, which ascend.
    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Self {
        Self::new(name, help, labels, Kind::Histogram(bounds))
    }

    const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str], kind: Kind) -> Self {
        Self { name, help, labels, kind, cells: Mutex::new(BTreeMap::new()) }
    }

    /// One more. The labels' values stand in the order of their names, here and below.
    pub fn count(&self, labels: &[&str]) {
        self.add(labels, 1.0);
    }

    /// So much more, or less of a gauge.
    pub fn add(&self, labels: &[&str], by: f64) {
        self.change(labels, |cell| match cell {
            Cell::Number(number) => *number += by,
            Cell::Spread(_) => {}
        });
    }

    /// It is so much now.
    pub fn set(&self, labels: &[&str], value: f64) {
        self.change(labels, |cell| *cell = Cell::Number(value));
    }

    /// A value of a histogram.
    pub fn observe(&self, labels: &[&str], value: f64) {
        let Kind::Histogram(bounds) = self.kind else { return };
        self.change(labels, |cell| match cell {
            Cell::Spread(spread) => spread.observe(bounds, value),
            Cell::Number(_) => {}
        });
    }

    /// What a gauge said of something that is gone is not said any more.
    pub fn forget(&self, labels: &[&str]) {
        self.cells.lock().remove(&labels.join(BETWEEN));
    }

    fn change(&self, labels: &[&str], change: impl FnOnce(&mut Cell)) {
        debug_assert_eq!(labels.len(), self.labels.len(), "{} has the labels {:?}", self.name, self.labels);
        let mut cells = self.cells.lock();
        let fresh = || match self.kind {
            Kind::Counter | Kind::Gauge => Cell::Number(0.0),
            Kind::Histogram(_) => Cell::Spread(Spread::default()),
        };
        change(cells.entry(labels.join(BETWEEN)).or_insert_with(fresh));
    }

    /// Adds its text. A family without labels is there before anything was counted, as upstream has it.
    pub fn write(&self, out: &mut Exposition) {
        let cells = self.cells.lock();
        if cells.is_empty() && !self.labels.is_empty() {
            return;
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let mut samples = out.family(self.name, kind, self.help);
        for (values, cell) in cells.iter() {
            let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(values.split(BETWEEN)).collect();
            match (cell, self.kind) {
                (Cell::Number(number), _) => drop(samples.sample(&labels, *number)),
                (Cell::Spread(spread), Kind::Histogram(bounds)) => drop(samples.spread(&labels, bounds, spread)),
                (Cell::Spread(_), _) => {}
            }
        }
        match self.kind {
            _ if !cells.is_empty() => {}
            Kind::Histogram(bounds) => drop(samples.spread(&[], bounds, &Spread::default())),
            Kind::Counter | Kind::Gauge => drop(samples.sample(&[], 0.0)),
        }
    }
}

/// Shows these families from now on; once is enough.
pub fn register(families: &[&'static Family]) {
    let mut shown = SHOWN.lock();
    for family in families {
        if !shown.iter().any(|known| std::ptr::eq(*known, *family)) {
            shown.push(family);
        }
    }
    shown.sort_by_key(|family| family.name);
}

/// Adds the text of all families that are shown.
pub fn write(out: &mut Exposition) {
    for family in SHOWN.lock().iter() {
        family.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(family: &Family) -> String {
        let mut out = Exposition::default();
        family.write(&mut out);
        out.into_text()
    }

    #[test]
    fn numbers_are_kept_by_their_labels() {
        static TRIES: Family = Family::counter("tries_total", "[STABLE] Tries.", &["result"]);
        assert_eq!(text(&TRIES), "", "nothing to say yet");
        TRIES.count(&["good"]);
        TRIES.add(&["bad"], 2.0);
        TRIES.count(&["good"]);
        assert_eq!(
            text(&TRIES),
            "# HELP tries_total [STABLE] Tries.\n# TYPE tries_total counter\ntries_total{result=\"bad\"} 2\ntries_total{result=\"good\"} 2\n"
        );
        static SIZE: Family = Family::gauge("size", "Size.", &[]);
        assert!(text(&SIZE).ends_with("\nsize 0\n"), "no label is wanted for it");
        SIZE.set(&[], 1.5);
        assert!(text(&SIZE).ends_with("\nsize 1.5\n"));
        SIZE.forget(&[]);
        assert!(text(&SIZE).ends_with("\nsize 0\n"));
    }

    #[test]
    fn a_histogram_counts_what_is_no_greater_than_its_bounds() {
        static TOOK: Family = Family::histogram("took_seconds", "Took.", &["verb"], &[0.5, 1.0]);
        for value in [0.25, 0.5, 1.0, 7.0] {
            TOOK.observe(&["GET"], value);
        }
        let text = text(&TOOK);
        let samples: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            samples,
            [
                "took_seconds_bucket{verb=\"GET\",le=\"0.5\"} 2",
                "took_seconds_bucket{verb=\"GET\",le=\"1\"} 3",
                "took_seconds_bucket{verb=\"GET\",le=\"+Inf\"} 4",
                "took_seconds_sum{verb=\"GET\"} 8.75",
                "took_seconds_count{verb=\"GET\"} 4",
            ]
        );
    }

    #[test]
    fn what_is_registered_is_shown_once() {
        static ONE: Family = Family::gauge("one_shown", "One.", &[]);
        register(&[&ONE]);
        register(&[&ONE]);
        let mut out = Exposition::default();
        write(&mut out);
        assert_eq!(out.into_text().matches("\none_shown 0\n").count(), 1);
    }
}
