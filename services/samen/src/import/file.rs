//! The file's rows, one at a time: a file may be larger than memory.

use std::io::Read;

use anyhow::Context;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use samen_proto::requests::Channel;

use super::columns::Names;
use super::report::Refused;
use super::row::{Mapped, Mapping};

/// How the file is written, beside its columns.
pub struct Format {
    pub delimiter: u8,
    pub source: String,
    pub channel: Channel,
    pub zone: TimeZone,
}

/// What a row is to the import.
#[derive(Debug, PartialEq)]
pub enum Entry {
    /// Can be sent.
    Row { line: u64, mapped: Mapped },
    /// Cannot be used.
    Refused(Refused),
    /// Was not asked for.
    LeftOut,
}

/// The rows of a file. An error ends them: the file cannot be read any more.
pub struct Rows<R> {
    reader: Reader<R>,
    mapping: Mapping,
    /// Used again for each row.
    record: StringRecord,
}

impl<R: Read> Rows<R> {
    /// Reads the first line, and finds the columns in it. A byte-order mark is
    /// skipped by the reader.
    pub fn new(from: R, names: &Names, format: Format) -> anyhow::Result<Self> {
        let mut reader = ReaderBuilder::new().delimiter(format.delimiter).from_reader(from);
        let header = reader.headers().context("the file's first line")?;
        let mapping = Mapping {
            columns: names.find(header)?,
            source: format.source,
            channel: format.channel,
            zone: format.zone,
            now: Timestamp::now(),
        };
        Ok(Rows { reader, mapping, record: StringRecord::new() })
    }

    /// Bytes of the file that were read.
    pub fn bytes(&self) -> u64 {
        self.reader.position().byte()
    }

    fn entry(&self) -> Entry {
        let row = &self.record;
        if !self.mapping.wants(row) {
            return Entry::LeftOut;
        }
        let line = row.position().map_or(0, csv::Position::line);
        match self.mapping.map(row) {
            Ok(mapped) => Entry::Row { line, mapped },
            Err(fault) => Entry::Refused(Refused {
                line,
                number: self.mapping.number(row).to_owned(),
                reason: fault.to_string(),
            }),
        }
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = anyhow::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.reader.position().line();
        match self.reader.read_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => Some(Ok(self.entry())),
            Err(error) if error.is_io_error() => Some(Err(error.into())),
            Err(error) => {
                let reason = malformed(&error, before, self.reader.position().line());
                let line = error.position().map_or(before, csv::Position::line);
                Some(Ok(Entry::Refused(Refused { line, number: String::new(), reason })))
            }
        }
    }
}

/// What is wrong with a record, between these lines, that is not CSV.
fn malformed(error: &csv::Error, from: u64, to: u64) -> String {
    let reason = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} fields where the first line has {expected_len}")
        }
        ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    // An opening quote without its end takes what follows it along.
    if to > from + 1 {
        format!("{reason}; it runs to line {}: is a quote missing?", to - 1)
    } else {
        reason
    }
}

#[cfg(test)]
mod tests;
