//! What became of the rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use samen_proto::requests::Channel;

use super::channel;

/// Refused rows that are listed on the terminal; `--rejects` has them all.
const LISTED: usize = 20;

/// A row that was not recorded, and why.
#[derive(Debug, PartialEq)]
pub struct Refused {
    pub line: u64,
    /// Its number in the source system, where it has one.
    pub number: String,
    pub reason: String,
}

/// Counts rows, and keeps the refused ones.
pub struct Report {
    began: Instant,
    through: u64,
    refused: u64,
    left_out: u64,
    fell_back: u64,
    listed: Vec<Refused>,
    rejects: Option<(PathBuf, csv::Writer<File>)>,
}

impl Report {
    /// Opens the file for refused rows, where there is to be one.
    pub fn new(rejects: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| -> anyhow::Result<_> {
            let mut writer =
                csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
            writer.write_record(["line", "number", "reason"])?;
            Ok((path.to_owned(), writer))
        };
        Ok(Report {
            began: Instant::now(),
            through: 0,
            refused: 0,
            left_out: 0,
            fell_back: 0,
            listed: Vec::new(),
            rejects: rejects.map(open).transpose()?,
        })
    }

    /// The row is recorded: now, or by an earlier run.
    pub fn through(&mut self, fell_back: bool) {
        self.through += 1;
        self.fell_back += u64::from(fell_back);
    }

    /// The row was not asked for.
    pub fn left_out(&mut self) {
        self.left_out += 1;
    }

    /// The row is not recorded.
    pub fn refused(&mut self, refused: Refused) -> anyhow::Result<()> {
        self.refused += 1;
        match &mut self.rejects {
            Some((path, writer)) => {
                let Refused { line, number, reason } = refused;
                writer
                    .write_record([&line.to_string(), &number, &reason])
                    .with_context(|| path.display().to_string())?;
            }
            None if self.listed.len() < LISTED => self.listed.push(refused),
            None => {}
        }
        Ok(())
    }

    pub fn has_refused(&self) -> bool {
        self.refused > 0
    }

    /// In one line, while it runs.
    pub fn progress(&self) -> String {
        let answered = self.through + self.refused;
        format!("{answered} rows, {:.0}/s", self.rate(self.began.elapsed()))
    }

    /// Says it all, and closes the file of refused rows.
    pub fn finish(&mut self, default: Channel) -> anyhow::Result<()> {
        let took = self.began.elapsed();
        self.listed.sort_by_key(|refused| refused.line);
        for Refused { line, number, reason } in &self.listed {
            let number = if number.is_empty() { String::new() } else { format!(" ({number})") };
            eprintln!("line {line}{number}: {reason}");
        }
        match &mut self.rejects {
            Some((path, writer)) => {
                writer.flush().with_context(|| path.display().to_string())?;
                if self.refused > 0 {
                    eprintln!("refused rows are in {}", path.display());
                }
            }
            None => {
                let more = self.refused - self.listed.len() as u64;
                if more > 0 {
                    eprintln!("… and {more} more; --rejects FILE keeps them all");
                }
            }
        }
        println!("read         {} rows", self.through + self.refused + self.left_out);
        if self.left_out > 0 {
            println!("left out     {} by --where", self.left_out);
        }
        // The service answers a repeated command like the first one, so that
        // nobody can tell the two apart, and neither can this.
        println!("recorded     {}, now or by an earlier run", self.through);
        println!("refused      {}", self.refused);
        if self.fell_back > 0 {
            println!(
                "channel      {} rows name none that is known: taken as {}",
                self.fell_back,
                channel::name(default)
            );
        }
        println!("took         {:.1} s, {:.0} rows/s", took.as_secs_f64(), self.rate(took));
        Ok(())
    }

    /// Answered rows a second.
    fn rate(&self, took: Duration) -> f64 {
        (self.through + self.refused) as f64 / took.as_secs_f64().max(f64::EPSILON)
    }
}
