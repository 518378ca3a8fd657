//! Mistakes in flags and variables, in one line that names the variable.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};
use samen_server::privacy::Failure;

/// The exit code for wrong or missing configuration.
const MISCONFIGURED: u8 = 2;

/// Configuration that is there and wrong: found after flags were read.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct Misconfigured {
    pub variable: &'static str,
    pub reason: String,
}

/// For `map_err`: this variable is why.
pub fn wrong<E: std::fmt::Display>(variable: &'static str) -> impl FnOnce(E) -> Misconfigured {
    move |error| Misconfigured { variable, reason: error.to_string() }
}

/// Says what went wrong, and how the process ends.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(Failure::Stopped) = error.downcast_ref() {
        println!("Stopped before anything was served.");
        return ExitCode::SUCCESS;
    }
    eprintln!("samen: {error:#}");
    match error.downcast_ref::<Misconfigured>() {
        Some(_) => ExitCode::from(MISCONFIGURED),
        None => ExitCode::FAILURE,
    }
}

/// Says what clap found: help as it is, mistakes in one line.
pub fn explain(error: &Error, command: &Command) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<_> = shown(error, ContextKind::InvalidArg)
                .iter()
                .map(|flag| named(flag, command))
                .collect();
            eprintln!("samen: missing: {}", missing.join(", "));
            ExitCode::from(MISCONFIGURED)
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.trim_start_matches("error: ");
            let flag = shown(error, ContextKind::InvalidArg).into_iter().next();
            match flag.map(|flag| named(&flag, command)) {
                Some(name) => eprintln!("samen: {name}: {first}"),
                None => eprintln!("samen: {first}"),
            }
            ExitCode::from(MISCONFIGURED)
        }
    }
}

fn shown(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(many)) => many.clone(),
        _ => Vec::new(),
    }
}

/// A flag as clap shows it (`--listen <ADDRESS>`) with its variable before it,
/// where it has one.
fn named(flag: &str, command: &Command) -> String {
    let long = flag.split_whitespace().next().unwrap_or(flag);
    let long = long.trim_start_matches(['<', '-']);
    match variable(long, command) {
        Some(variable) => format!("{variable} (--{long})"),
        None => flag.to_owned(),
    }
}

fn variable(long: &str, command: &Command) -> Option<String> {
    let here = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    here.and_then(Arg::get_env)
        .map(|variable| variable.to_string_lossy().into_owned())
        .or_else(|| command.get_subcommands().find_map(|sub| variable(long, sub)))
}
