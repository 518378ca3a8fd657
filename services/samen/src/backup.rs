//! `samen backup`: the logs, in files that belong to no database.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::anyhow;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use samen_log::back_up;
use samen_log::backup::Done;

use crate::logs::Logs;

/// Back the logs up into a folder
///
/// Works beside the running services: everything that was accepted before it
/// began is in it, with its keys. Projections and the exchange are not: they
/// are made from the logs again. The folder is a backup when it has a MANIFEST,
/// which is written last and signed with the deployment's key.
///
/// NOT in it, and to be kept apart from every backup: the master key, without
/// which it can be neither restored nor read, and the list of destroyed keys,
/// which a restore applies, so that nobody who was forgotten comes back. Nor the
/// issuer's keys and certificates.
#[derive(Args)]
pub struct Backup {
    /// The folder: new, or empty
    folder: PathBuf,
    #[command(flatten)]
    logs: Logs,
}

impl Backup {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let master = self.logs.master_key()?.ok_or_else(|| {
            anyhow!("the master key is needed to sign: name its file in SAMEN_MASTER_KEY")
        })?;
        let logs = self.logs.open().await?;
        let bar = Bar::default();
        let progress = |log: &str, done, of| bar.show(log, done, of);
        let backed_up = back_up(&self.folder, &master, &logs, &progress).await;
        bar.clear();
        let (manifest, done) = backed_up?;
        done.iter().for_each(|done| println!("{}", line(done)));
        println!("Backup of {} in {}", manifest.municipality, self.folder.display());
        println!(
            "Not in it, to be kept apart from it: the master key, the list of destroyed keys, \
             the issuer's keys, certificates"
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// What was done of a log, in a line.
pub fn line(done: &Done) -> String {
    let Done { log, records, bytes, took } = done;
    let megabytes = *bytes as f64 / 1e6;
    format!("{log}: {records} records, {megabytes:.1} MB, {:.1} s", took.as_secs_f64())
}

/// How far one log is, and then the next. Shown on a terminal only.
#[derive(Default)]
pub struct Bar(Mutex<Option<(String, ProgressBar)>>);

impl Bar {
    pub fn show(&self, log: &str, done: u64, of: u64) {
        let mut shown = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*shown {
            Some((id, bar)) if id == log => bar.set_position(done),
            _ => {
                if let Some((_, before)) = shown.take() {
                    before.finish_and_clear();
                }
                let template = "{msg} {bar:30} {pos}/{len} records, {per_sec}, {eta} left";
                let style = ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = ProgressBar::new(of).with_style(style).with_message(log.to_owned());
                bar.set_position(done);
                *shown = Some((log.to_owned(), bar));
            }
        }
    }

    pub fn clear(&self) {
        let mut shown = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, bar)) = shown.take() {
            bar.finish_and_clear();
        }
    }
}
