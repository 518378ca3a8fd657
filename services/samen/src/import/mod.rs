//! The past, from a file.
//!
//! - [`requests`]: the command, and the run from the first row to the last;
//! - [`columns`]: which column says what;
//! - [`file`]: the file's rows, one at a time;
//! - [`row`]: a row as the message that records it;
//! - [`time`]: moments and days as files write them;
//! - [`channel`]: words for how a request arrived;
//! - [`send`]: one row over gRPC, until it is answered;
//! - [`report`]: what became of the rows.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod channel;
mod columns;
mod file;
mod report;
mod requests;
mod row;
mod send;
mod time;

/// Bring in the past from a file.
#[derive(Args)]
pub struct Import {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Requests(requests::Requests),
}

impl Import {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Requests(requests) => requests.run().await,
        }
    }
}
