//! How fast this machine is.

use std::process::ExitCode;

/// Measure this machine.
#[derive(clap::Args)]
pub struct Bench {}

impl Bench {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
