//! The file's rows, one at a time: a file may be larger than memory.

use std::io::Read;

use anyhow::Context;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Terminator};
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
    /// Cells of the first line.
    width: usize,
    /// Used again for each row.
    record: StringRecord,
}

impl<R: Read> Rows<R> {
    /// Reads the first line, and finds the columns in it. A byte-order mark is
    /// skipped by the reader.
    pub fn new(from: R, names: &Names, format: Format) -> anyhow::Result<Self> {
        let mut reader = ReaderBuilder::new()
            .delimiter(format.delimiter)
            // With its own notion of a line's end the reader's line numbers are
            // one less in files from Windows. The `\r` goes with the blanks
            // around a cell.
            .terminator(Terminator::Any(b'\n'))
            .flexible(true)
            .from_reader(from);
        let header = reader.headers().context("the file's first line")?;
        let width = header.len();
        let mapping = Mapping {
            columns: names.find(header)?,
            source: format.source,
            channel: format.channel,
            zone: format.zone,
            now: Timestamp::now(),
        };
        Ok(Rows { reader, mapping, width, record: StringRecord::new() })
    }

    /// Bytes of the file that were read.
    pub fn bytes(&self) -> u64 {
        self.reader.position().byte()
    }

    fn entry(&self, line: u64) -> Entry {
        let row = &self.record;
        if row.len() != self.width {
            let reason = format!("has {} cells where the first line has {}", row.len(), self.width);
            return self.malformed(line, &reason);
        }
        if !self.mapping.wants(row) {
            return Entry::LeftOut;
        }
        match self.mapping.map(row) {
            Ok(mapped) => Entry::Row { line, mapped },
            Err(fault) => Entry::Refused(Refused {
                line,
                number: self.mapping.number(row).to_owned(),
                reason: fault.to_string(),
            }),
        }
    }

    /// A record that is not CSV like the others.
    fn malformed(&self, line: u64, reason: &str) -> Entry {
        let last = self.reader.position().line() - 1;
        // An opening quote without its end takes what follows it along.
        let reason = if last > line {
            format!("{reason}; it runs to line {last}: is a quote missing?")
        } else {
            reason.to_owned()
        };
        Entry::Refused(Refused { line, number: String::new(), reason })
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = anyhow::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.reader.position().line();
            match self.reader.read_record(&mut self.record) {
                Ok(false) => return None,
                // An empty line, of a file from Windows.
                Ok(true) if self.record.len() == 1 && self.record[0].trim().is_empty() => {}
                Ok(true) => return Some(Ok(self.entry(line))),
                Err(error) if error.is_io_error() => return Some(Err(error.into())),
                Err(error) => {
                    let reason = match error.kind() {
                        ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
                        _ => error.to_string(),
                    };
                    return Some(Ok(self.malformed(line, &reason)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
