//! `samen restore`: from a backup into an empty place.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::Args;
use samen_log::{Backup, DestroyedKeys};

use crate::backup::{Bar, line};
use crate::logs::Logs;
use crate::services;
use crate::usage::{Misconfigured, wrong};

/// Restore a backup into an empty data folder or database
///
/// Needs the master key of the deployment that was backed up, in the data
/// folder (keys/master.key) or named by SAMEN_MASTER_KEY. The backup may be of
/// the other kind: this is how data moves from SQLite to PostgreSQL, or back.
///
/// Everything is checked before anything is written. A restore that is
/// interrupted leaves logs that no service opens; do it again. Refused while a
/// process of the services runs; afterwards they start as usual, in a new
/// epoch, and make their projections and the exchange again.
///
/// The list of destroyed keys is applied: what was forgotten after the backup
/// stays forgotten.
///
/// Ends with exit code 0 when all is restored, 1 when it is not, 2 for a mistake
/// in a flag.
#[derive(Args)]
pub struct Restore {
    /// The backup's folder
    folder: PathBuf,
    #[command(flatten)]
    logs: Logs,
    /// The municipality that the backup must be of (its CBS code)
    #[arg(long, env = "SAMEN_MUNICIPALITY", value_name = "CODE",
          value_parser = services::parse_municipality)]
    municipality: Option<String>,
    /// The list of destroyed keys; the data folder's own (keys/destroyed) where
    /// it is not said
    #[arg(long, env = "SAMEN_DESTROYED_KEYS", value_name = "FILE")]
    destroyed_keys: Option<PathBuf>,
    /// Say so where there is no list because nothing was ever destroyed
    #[arg(long, conflicts_with = "destroyed_keys")]
    no_destroyed_keys: bool,
}

impl Restore {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let master = self.logs.master_key()?.ok_or_else(|| {
            anyhow!(
                "the master key of the backup's deployment is needed: put it in its place \
                     or name its file in SAMEN_MASTER_KEY"
            )
        })?;
        if self.logs.in_postgres() && master.is_trial() {
            let reason = "it was generated for a trial by `samen up`, and `samen serve` refuses \
                          it; `samen keygen master FILE --from` takes it over as one to keep";
            let reason = reason.to_owned();
            return Err(Misconfigured { variable: "SAMEN_MASTER_KEY", reason }.into());
        }
        let destroyed = self.destroyed()?;
        let backup = Backup::open(&self.folder, &master).await?;
        let manifest = backup.manifest();
        let municipality = &manifest.municipality;
        if let Some(expected) = self.municipality.as_ref().filter(|code| *code != municipality) {
            bail!("{} is a backup of {municipality}, not of {expected}", self.folder.display());
        }
        let target = self.logs.make(municipality).await?;
        let known = |id: &str| target.logs.iter().any(|log| log.id == id);
        if let Some(log) = manifest.logs.iter().find(|log| !known(&log.id))
            && !self.logs.is_selected()
        {
            bail!("the backup holds {}, a log that this release does not know", log.id);
        }
        let bar = Bar::default();
        let progress = |log: &str, done, of| bar.show(log, done, of);
        let restored = backup.restore(&target.logs, &destroyed, &progress).await;
        bar.clear();
        restored?.iter().for_each(|done| println!("{}", line(done)));
        println!("Restored what {municipality} had on {}", manifest.taken);
        Ok(ExitCode::SUCCESS)
    }

    /// The list of destroyed keys. That there is none must be said.
    fn destroyed(&self) -> anyhow::Result<DestroyedKeys> {
        let path = match &self.destroyed_keys {
            _ if self.no_destroyed_keys => return Ok(DestroyedKeys::default()),
            Some(path) => path.clone(),
            None if self.logs.in_postgres() => {
                let reason = "missing, and neither is --no-destroyed-keys said".to_owned();
                return Err(Misconfigured { variable: "SAMEN_DESTROYED_KEYS", reason }.into());
            }
            None => match self.logs.destroyed_keys() {
                path if path.exists() => path,
                path => {
                    let path = path.display();
                    let reason =
                        format!("missing, as is {path}, and --no-destroyed-keys is not said");
                    return Err(Misconfigured { variable: "SAMEN_DESTROYED_KEYS", reason }.into());
                }
            },
        };
        Ok(DestroyedKeys::load(&path).map_err(wrong("SAMEN_DESTROYED_KEYS"))?)
    }
}
