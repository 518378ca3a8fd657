//! `samen import requests`: the command, and the run from the first row to
//! the last.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use futures::StreamExt;
use http::Uri;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use samen_proto::requests::Channel;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::channel;
use super::columns::Names;
use super::file::{Entry, Format, Rows};
use super::report::{Refused, Report};
use super::send::{Answer, Sender};
use crate::services;

/// The exit code when all was read and some rows were refused.
const SOME_REFUSED: u8 = 3;
/// What to do after a run that did not get to the end.
const AGAIN: &str = "Run it again: it goes on where it was, and records nothing twice.";

/// Bring in service requests of the past from a CSV file
///
/// Each row is recorded with a command whose id is made from the row, so that
/// the same file can be brought in again, or further after an interruption,
/// and nothing is recorded twice. That holds for the same flags and a token of
/// the same subject: otherwise it is another command, and a request that is
/// there already is refused.
///
/// Times without an offset from UTC are read in the time zone. Of a day alone,
/// a request was reported at its start and closed at its end; one that was
/// closed today is refused until the day is over. Rows that cannot be used are
/// refused, and the rest goes through.
///
/// Ends with exit code 0 when every row went through, 3 when some were refused,
/// 1 when the run did not get to the end, 2 for a mistake in a flag.
#[derive(Args)]
pub struct Requests {
    /// The file: CSV in UTF-8, with the columns' names in its first line
    file: PathBuf,
    /// What separates its columns
    #[arg(long, default_value = ",", value_name = "CHARACTER", value_parser = parse_delimiter)]
    delimiter: u8,
    /// What the source system is called; with a number there, it identifies a
    /// request
    #[arg(long, value_name = "NAME", required_unless_present = "source_column",
          value_parser = parse_source)]
    source: Option<String>,
    #[command(flatten)]
    names: Names,
    /// The channel of rows that do not say theirs in a known word
    #[arg(long, default_value = "web", value_name = "CHANNEL", value_parser = channel::parse)]
    channel: Channel,
    /// The time zone of times without an offset, and of days (IANA name)
    #[arg(long, default_value = "Europe/Amsterdam", value_name = "ZONE",
          value_parser = parse_zone)]
    time_zone: TimeZone,
    /// Write refused rows to this file (CSV: line, number, reason), instead of
    /// the first 20 to the terminal
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Where service requests are
    #[arg(
        long,
        env = "SAMEN_REQUESTS_URL",
        default_value = "http://127.0.0.1:50052",
        value_name = "URL"
    )]
    url: Uri,
    /// A token with the role importer
    #[arg(long, env = "SAMEN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: String,
    /// Roots of the server's certificate, PEM
    #[arg(long, env = "SAMEN_ROOTS", value_name = "FILE")]
    roots: Option<PathBuf>,
    /// Rows on their way at a time
    #[arg(long, default_value = "32", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// Seconds that a row is tried while the service cannot take it
    #[arg(long, default_value = "60", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    retry_for: u64,
}

/// A row as it comes from the file, and how many bytes were read with it.
type Read = (u64, anyhow::Result<Entry>);

impl Requests {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let roots = self.roots.as_deref().map(|p| services::read("SAMEN_ROOTS", p)).transpose()?;
        let channel = services::channel("SAMEN_REQUESTS_URL", &self.url, roots)?;
        let sender = Sender::new(channel, &self.token, Duration::from_secs(self.retry_for))?;
        let (rows, size) = open(&self.file).and_then(|(file, size)| {
            let format = Format {
                delimiter: self.delimiter,
                source: self.source.clone().unwrap_or_default(),
                channel: self.channel,
                zone: self.time_zone.clone(),
            };
            Ok((Rows::new(file, &self.names, format)?, size))
        })?;
        let mut report = Report::new(self.rejects.as_deref())?;
        let bar = progress_bar(size);
        let ran = self.send_all(rows, sender, &mut report, &bar).await;
        bar.finish_and_clear();
        report.finish(self.channel)?;
        ran.map_err(|error| anyhow!("{error:#}. {AGAIN}"))?;
        Ok(if report.has_refused() { ExitCode::from(SOME_REFUSED) } else { ExitCode::SUCCESS })
    }

    /// Sends every row. Never more than `concurrency` wait for an answer, and
    /// as many for their turn.
    async fn send_all(
        &self,
        rows: Rows<File>,
        sender: Sender,
        report: &mut Report,
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        let stop = services::shutdown_on_signal()?;
        let concurrency = usize::from(self.concurrency);
        let (tx, rx) = mpsc::channel(concurrency);
        // Reading blocks. It ends with the file, or when nobody listens.
        tokio::task::spawn_blocking(move || read(rows, &tx));
        let mut answers = ReceiverStream::new(rx)
            .map(|(bytes, entry)| answer(sender.clone(), bytes, entry))
            .buffer_unordered(concurrency);
        loop {
            let answered = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(anyhow!("interrupted")),
                answered = answers.next() => answered,
            };
            let Some(answered) = answered else { return Ok(()) };
            let (bytes, outcome) = answered?;
            match outcome {
                Outcome::Through { fell_back } => report.through(fell_back),
                Outcome::Refused(refused) => report.refused(refused)?,
                Outcome::LeftOut => report.left_out(),
            }
            // Answers come out of order; the bar only goes forward.
            bar.set_position(bar.position().max(bytes));
            bar.set_message(report.progress());
        }
    }
}

enum Outcome {
    Through { fell_back: bool },
    Refused(Refused),
    LeftOut,
}

async fn answer(
    sender: Sender,
    bytes: u64,
    entry: anyhow::Result<Entry>,
) -> anyhow::Result<(u64, Outcome)> {
    let outcome = match entry? {
        Entry::LeftOut => Outcome::LeftOut,
        Entry::Refused(refused) => Outcome::Refused(refused),
        Entry::Row { line, mapped } => {
            let number = mapped.message.source_number.clone();
            match sender.send(mapped.message).await.with_context(|| format!("line {line}"))? {
                Answer::Recorded => Outcome::Through { fell_back: mapped.fell_back },
                Answer::Refused(reason) => Outcome::Refused(Refused { line, number, reason }),
            }
        }
    };
    Ok((bytes, outcome))
}

fn read(mut rows: Rows<File>, to: &mpsc::Sender<Read>) {
    while let Some(entry) = rows.next() {
        let ends = entry.is_err();
        if to.blocking_send((rows.bytes(), entry)).is_err() || ends {
            return;
        }
    }
}

fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let size = file.metadata().with_context(|| path.display().to_string())?.len();
    Ok((file, size))
}

/// By bytes of the file: how many rows it has is not known before the end.
/// Hidden where standard error is not a terminal.
fn progress_bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent}%  {msg}  {eta} to go")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [one] if *one != b'"' && *one != b'\n' => Ok(*one),
        b"\\t" => Ok(b'\t'),
        _ => Err("must be one ASCII character, or \\t".to_owned()),
    }
}

fn parse_source(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() { Err("must not be empty".to_owned()) } else { Ok(name.to_owned()) }
}

fn parse_zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|error| error.to_string())
}
