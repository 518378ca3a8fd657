//! What is printed: a table that reads well in a terminal and is Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::load::Measured;

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
}

/// What each round measured.
#[derive(Default)]
pub struct Table {
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
        }
    }
}

impl Table {
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
            ["", "per second", "lowest-highest", "p50 ms", "p99 ms", "x pgbench"]
                .map(str::to_owned),
        ];
        let Some(first) = self.rounds.first() else { return String::new() };
        rows.extend(first.keys().map(|measure| self.row(*measure)));
        format!("{conditions}\n\n{}", align(&rows))
    }

    fn row(&self, measure: Measure) -> [String; 6] {
        let of = |round: &BTreeMap<Measure, Measured>| round.get(&measure).copied();
        let rates: Vec<f64> = self.each(|r| of(r).map(|m| m.per_second));
        let millis = |took: Duration| took.as_secs_f64() * 1e3;
        let p50 = self.each(|r| of(r)?.latency.map(|l| millis(l.p50)));
        let p99 = self.each(|r| of(r)?.latency.map(|l| millis(l.p99)));
        let ratio = self.each(|r| {
            let yardstick = r.get(&Measure::Pgbench)?.per_second;
            let comparable = !matches!(measure, Measure::Rebuild(_));
            comparable.then_some(of(r)?.per_second / yardstick)
        });
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
fn align<const N: usize>(rows: &[[String; N]]) -> String {
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
        let mut table = Table::default();
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
