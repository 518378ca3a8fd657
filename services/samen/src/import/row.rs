//! A row as the message that records it.

use csv::StringRecord;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use prost::Message;
use samen_proto::requests::{Channel, ImportRequestRequest, Location};
use samen_server::time::to_proto;
use uuid::Uuid;

use super::channel;
use super::columns::{Column, Columns};
use super::time::{self, When};

/// Under which rows get their commands' ids, so that the same row is the same
/// command in every run.
const ROWS: Uuid = Uuid::from_u128(0x4d1b_90cc_2a57_5f0e_9b1a_5a6d_656e_0002);
/// Characters of a cell in a reason: enough to recognise it.
const SHOWN: usize = 40;

/// How rows of this file are read.
pub struct Mapping {
    pub columns: Columns,
    /// The source system, where no column names it.
    pub source: String,
    /// The channel of rows that do not say theirs.
    pub channel: Channel,
    /// Where the file's clocks hung.
    pub zone: TimeZone,
    /// What counts as the future.
    pub now: Timestamp,
}

/// A row that can be sent.
#[derive(Debug, PartialEq)]
pub struct Mapped {
    pub message: ImportRequestRequest,
    /// Whether the row did not say its channel in a word that is known.
    pub fell_back: bool,
}

/// Why a row cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("{column} is empty")]
    Empty { column: String },
    #[error("{column} is not a time: {text}")]
    NotATime { column: String, text: String },
    #[error("{column} is not a number: {text}")]
    NotANumber { column: String, text: String },
    #[error("{column} is empty and {other} is not")]
    HalfALocation { column: String, other: String },
    #[error("closed before it was created")]
    ClosedBeforeCreated,
    #[error("closed in the future")]
    ClosedInTheFuture,
    #[error("closed on {0}, a day that is not over: import it again tomorrow")]
    DayNotOver(Date),
}

impl Mapping {
    /// Whether the row is one of those that were asked for.
    pub fn wants(&self, row: &StringRecord) -> bool {
        self.columns.conditions.iter().all(|(column, value)| column.of(row) == value)
    }

    /// The row's number in the source system, to name it by.
    pub fn number<'a>(&self, row: &'a StringRecord) -> &'a str {
        self.columns.number.of(row)
    }

    /// The message that records the row. The same row gives the same message,
    /// whenever it is read.
    pub fn map(&self, row: &StringRecord) -> Result<Mapped, Fault> {
        let columns = &self.columns;
        let create_time = self.created(row)?;
        let said = columns.channel.as_ref().and_then(|c| channel::recognise(c.of(row)));
        let source = match &columns.source {
            Some(column) => filled(column, row)?,
            None => &self.source,
        };
        let mut message = ImportRequestRequest {
            request_id: String::new(),
            source: source.to_owned(),
            source_number: filled(&columns.number, row)?.to_owned(),
            category: self.category(row)?,
            location: self.location(row)?,
            channel: said.unwrap_or(self.channel).into(),
            create_time: Some(to_proto(create_time)),
            close_time: self.closed(row, create_time)?.map(to_proto),
            description: columns
                .description
                .as_ref()
                .map_or(String::new(), |column| column.of(row).to_owned()),
        };
        message.request_id = Uuid::new_v5(&ROWS, &message.encode_to_vec()).to_string();
        Ok(Mapped { message, fell_back: said.is_none() })
    }

    /// `main/sub`. Without the first part the others would say something else.
    fn category(&self, row: &StringRecord) -> Result<String, Fault> {
        let mut parts = Vec::new();
        for (place, column) in self.columns.category.iter().enumerate() {
            match column.of(row) {
                "" if place == 0 => return Err(Fault::Empty { column: column.name.clone() }),
                "" => {}
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }

    fn created(&self, row: &StringRecord) -> Result<Timestamp, Fault> {
        let column = &self.columns.created;
        let text = filled(column, row)?;
        let when = time::read(text).and_then(|when| when.began(&self.zone).ok());
        when.ok_or_else(|| not_a_time(column, text))
    }

    /// What lies in the future is refused rather than moved to the present:
    /// the present is another in the next run, and so would the command be.
    fn closed(&self, row: &StringRecord, created: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let Some(column) = &self.columns.closed else { return Ok(None) };
        let text = column.of(row);
        if text.is_empty() {
            return Ok(None);
        }
        let when = time::read(text).ok_or_else(|| not_a_time(column, text))?;
        let closed = when.ended(created, &self.zone).map_err(|_| not_a_time(column, text))?;
        if closed < created {
            return Err(Fault::ClosedBeforeCreated);
        }
        if closed > self.now {
            let today = self.now.to_zoned_datetime(self.zone.clone()).date();
            return Err(match when {
                When::Day(day) if day == today => Fault::DayNotOver(day),
                _ => Fault::ClosedInTheFuture,
            });
        }
        Ok(Some(closed))
    }

    fn location(&self, row: &StringRecord) -> Result<Option<Location>, Fault> {
        let (Some(latitude), Some(longitude)) = (&self.columns.latitude, &self.columns.longitude)
        else {
            return Ok(None);
        };
        match (degrees(latitude, row)?, degrees(longitude, row)?) {
            (None, None) => Ok(None),
            (Some(latitude), Some(longitude)) => Ok(Some(Location { latitude, longitude })),
            (None, Some(_)) => Err(half(latitude, longitude)),
            (Some(_), None) => Err(half(longitude, latitude)),
        }
    }
}

fn filled<'a>(column: &Column, row: &'a StringRecord) -> Result<&'a str, Fault> {
    match column.of(row) {
        "" => Err(Fault::Empty { column: column.name.clone() }),
        text => Ok(text),
    }
}

/// A coordinate, with a decimal point, or the comma of Dutch spreadsheets.
fn degrees(column: &Column, row: &StringRecord) -> Result<Option<f64>, Fault> {
    let text = column.of(row);
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.replace(',', ".").parse().ok().filter(|n: &f64| n.is_finite());
    let fault = || Fault::NotANumber { column: column.name.clone(), text: shortened(text) };
    number.ok_or_else(fault).map(Some)
}

fn half(empty: &Column, other: &Column) -> Fault {
    Fault::HalfALocation { column: empty.name.clone(), other: other.name.clone() }
}

fn not_a_time(column: &Column, text: &str) -> Fault {
    Fault::NotATime { column: column.name.clone(), text: shortened(text) }
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
