//! `samen`: the one binary.
//!
//! - [`up`]: the whole suite in one process, on embedded defaults;
//! - [`serve`]: one service as a process of its own;
//! - [`data`]: the all-in-one's data directory and its trial keys;
//! - [`import`]: the past, from a file;
//! - [`token`], [`keygen`], [`pki`]: what operators hand out;
//! - [`verify`] and [`checkpoint`]: whether the logs are whole, and signing for
//!   where they stand; [`logs`]: how they are found;
//! - [`person`]: all that is held about somebody, and having it forgotten;
//! - [`backup`] and [`restore`]: the logs in files, and back from them;
//! - [`health`]: whether a server answers;
//! - [`operate`]: what its tasks do, and its projection stores; [`doors`]: where
//!   services are asked, and by whom;
//! - [`bench`]: how fast this machine is;
//! - [`usage`]: mistakes in flags and variables, in one line.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod backup;
mod bench;
mod checkpoint;
mod data;
mod doors;
mod health;
mod import;
mod keygen;
mod logs;
mod operate;
mod person;
mod pki;
mod restore;
mod serve;
mod service_requests;
mod services;
mod token;
mod up;
mod usage;
mod verify;

/// Samen: participation, service requests and regional collaboration for a
/// municipality.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)]
enum Command {
    /// Run the whole suite in one process, on SQLite and generated keys
    /// (the default)
    Up(up::Up),
    /// Run one service, on PostgreSQL and NATS JetStream
    Serve(serve::Serve),
    /// Bring in the past from a file
    Import(import::Import),
    Backup(backup::Backup),
    Restore(restore::Restore),
    /// Make a token for a person or a machine
    Token(token::Token),
    /// Make a master key, or an issuer of tokens
    Keygen(keygen::Keygen),
    /// Make trial certificates: a root, servers, partners
    Pki(pki::Pki),
    /// Check that the logs are whole
    Verify(verify::Verify),
    /// Sign for where the logs stand
    Checkpoint(checkpoint::MakeCheckpoint),
    /// Show what the services' background tasks do
    Status(operate::Status),
    /// See the projection stores, or build one anew
    Projections(operate::Projections),
    Person(person::Person),
    /// Ask a server whether it serves
    Health(health::Health),
    /// Measure this machine
    Bench(bench::Bench),
}

/// How long work that cannot be cut off, such as writing a file, may keep the
/// process at its end. What it was about is carried out by the next one.
const LINGER: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return usage::fail(&error.into()),
    };
    let code = runtime.block_on(run());
    runtime.shutdown_timeout(LINGER);
    code
}

async fn run() -> ExitCode {
    // One provider of cryptography for TLS, said before anybody asks.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, &Cli::command()),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage::explain(&error, &Cli::command()),
    };
    let done = match cli.command.unwrap_or_else(|| Command::Up(up::Up::default())) {
        Command::Up(command) => command.run().await,
        Command::Serve(command) => command.run().await,
        Command::Import(command) => command.run().await,
        Command::Backup(command) => command.run().await,
        Command::Restore(command) => command.run().await,
        Command::Token(command) => command.run(),
        Command::Keygen(command) => command.run(),
        Command::Pki(command) => command.run(),
        Command::Verify(command) => command.run().await,
        Command::Checkpoint(command) => command.run().await,
        Command::Status(command) => command.run().await,
        Command::Projections(command) => command.run().await,
        Command::Person(command) => command.run().await,
        Command::Health(command) => command.run().await,
        Command::Bench(command) => command.run().await,
    };
    match done {
        Ok(code) => code,
        Err(error) => usage::fail(&error),
    }
}
