//! What is printed: a table that reads well in a terminal and is Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::load::Measured;
use super::subscribers::{STEADY, SUBSCRIBERS};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    Postgres,
    Sqlite,
}

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Pgbench,
    Append(Database),
    File(Database),
    Rebuild(Database),
    /// Commands while somebody watches, or nobody.
    Watched(Database, Pace, Watching),
    /// What those who watch all were told.
    Delivered(Database, Pace),
}

/// How fast commands come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    Full,
    Steady,
}

/// Who watches meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watching {
    Nobody,
    /// Residents, each of whom sees nothing of it.
    Own,
    /// Staff, each of whom sees all of it.
    All,
}

/// What each round measured.
pub struct Table {
    yardstick: &'static str,
    rounds: Vec<BTreeMap<Measure, Measured>>,
    /// The round that is under way.
    current: BTreeMap<Measure, Measured>,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Database::Postgres => "PostgreSQL",
            Database::Sqlite => "SQLite",
        })
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::Pgbench => write!(f, "pgbench, inserts of one row"),
            Measure::Append(database) => write!(f, "log, appends, {database}"),
            Measure::File(database) => write!(f, "FileRequest over gRPC, {database}"),
            Measure::Rebuild(database) => write!(f, "rebuild, records, {database}"),
            Measure::Watched(database, pace, Watching::Nobody) => {
                write!(f, "{database}{pace}, nobody watches")
            }
            Measure::Watched(database, pace, Watching::Own) => {
                write!(f, "{database}{pace}, {SUBSCRIBERS} watch what is theirs")
            }
            Measure::Watched(database, pace, Watching::All) => {
                write!(f, "{database}{pace}, {SUBSCRIBERS} watch all")
            }
            Measure::Delivered(database, pace) => write!(f, "{database}{pace}, deliveries"),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Full => Ok(()),
            Pace::Steady => write!(f, ", {STEADY} a second"),
        }
    }
}

impl Measure {
    /// What it is compared with, in the same round.
    fn yardstick(self) -> Option<Measure> {
        match self {
            Measure::Pgbench | Measure::Append(_) | Measure::File(_) => Some(Measure::Pgbench),
            Measure::Watched(database, Pace::Full, _) => {
                Some(Measure::Watched(database, Pace::Full, Watching::Nobody))
            }
            Measure::Rebuild(_)
            | Measure::Watched(_, Pace::Steady, _)
            | Measure::Delivered(_, _) => None,
        }
    }
}

impl Table {
    /// A table whose last column has this name: what a figure is a multiple of.
    pub fn new(yardstick: &'static str) -> Self {
        Table { yardstick, rounds: Vec::new(), current: BTreeMap::new() }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.rounds.iter().all(BTreeMap::is_empty)
    }

    pub fn add(&mut self, measure: Measure, measured: Measured) {
        self.current.insert(measure, measured);
    }

    pub fn end_round(&mut self) {
        self.rounds.push(std::mem::take(&mut self.current));
    }

    /// The whole text. Each figure is the middle one of its rounds; a ratio is
    /// taken within each round first.
    pub fn render(&self, conditions: &str) -> String {
        let mut rows = vec![
            ["", "per second", "lowest-highest", "p50 ms", "p99 ms", self.yardstick]
                .map(str::to_owned),
        ];
        let measures = self.rounds.first().into_iter().flat_map(BTreeMap::keys);
        rows.extend(measures.map(|measure| self.row(*measure)));
        format!("{conditions}\n\n{}", align(&rows))
    }

    fn row(&self, measure: Measure) -> [String; 6] {
        let of = |round: &BTreeMap<Measure, Measured>| round.get(&measure).copied();
        let rates: Vec<f64> = self.each(|r| of(r).map(|m| m.per_second));
        let millis = |took: Duration| took.as_secs_f64() * 1e3;
        let p50 = self.each(|r| of(r)?.latency.map(|l| millis(l.p50)));
        let p99 = self.each(|r| of(r)?.latency.map(|l| millis(l.p99)));
        let ratio =
            self.each(|r| Some(of(r)?.per_second / r.get(&measure.yardstick()?)?.per_second));
        let range = match (rates.first(), rates.last()) {
            (Some(lowest), Some(highest)) => format!("{lowest:.0}-{highest:.0}"),
            _ => String::new(),
        };
        let shown = |values: &[f64], digits: usize| {
            middle(values).map_or(String::new(), |value| format!("{value:.digits$}"))
        };
        [
            measure.to_string(),
            shown(&rates, 0),
            range,
            shown(&p50, 2),
            shown(&p99, 2),
            shown(&ratio, 2),
        ]
    }

    /// A figure of each round, lowest first.
    fn each(&self, of: impl Fn(&BTreeMap<Measure, Measured>) -> Option<f64>) -> Vec<f64> {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    }
}

/// The median of sorted values.
fn middle(values: &[f64]) -> Option<f64> {
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// Columns of equal width: the first to the left, numbers to the right.
pub fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            text += &if column == 0 {
                format!("| {cell:<width$} ")
            } else {
                format!("| {cell:>width$} ")
            };
        }
        text += "|\n";
        if index == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                let line = "-".repeat(width);
                text += &if column == 0 { format!("| {line} ") } else { format!("| {line}:") };
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> Measured {
        Measured { per_second, latency: None }
    }

    #[test]
    fn the_middle_of_the_rounds_and_ratios_within_each() {
        let mut table = Table::new("x pgbench");
        for (yardstick, rate_here) in [(100.0, 300.0), (50.0, 100.0), (200.0, 200.0)] {
            table.add(Measure::Pgbench, rate(yardstick));
            table.add(Measure::Append(Database::Sqlite), rate(rate_here));
            table.end_round();
        }
        let text = table.render("here");
        let cells: Vec<_> = text.lines().last().unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "log, appends, SQLite", "200", "100-300", "", "", "2.00", ""]);
        assert!(text.starts_with("here\n\n|"), "{text}");
        let widths: Vec<_> = text.lines().skip(2).map(str::len).collect();
        assert!(widths.windows(2).all(|w| w[0] == w[1]), "{text}");
    }

    #[test]
    fn medians() {
        assert_eq!(middle(&[]), None);
        assert_eq!(middle(&[1.0]), Some(1.0));
        assert_eq!(middle(&[1.0, 3.0]), Some(2.0));
        assert_eq!(middle(&[1.0, 2.0, 9.0]), Some(2.0));
    }
}
