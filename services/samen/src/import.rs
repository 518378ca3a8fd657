//! The past, from a file.

use std::process::ExitCode;

/// Bring in the past from a file.
#[derive(clap::Args)]
pub struct Import {}

impl Import {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
