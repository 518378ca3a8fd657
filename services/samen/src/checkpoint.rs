//! `samen checkpoint`: where the logs stand, signed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;
use samen_log::Checkpoint;
use samen_log::note::Signer;

use crate::logs::Logs;

/// Sign for where the logs stand
///
/// Writes a signed note (C2SP) for each log with its position and hash. Keep
/// them where nobody who may change the database can reach them: held against
/// the log later (`samen verify --checkpoint`), one proves that nothing before
/// it was rewritten.
#[derive(Args)]
pub struct MakeCheckpoint {
    #[command(flatten)]
    logs: Logs,
    /// Write each to a file in this folder instead of the standard output
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print the public key by which others check the signatures, and nothing
    /// else
    #[arg(long, conflicts_with = "out")]
    print_key: bool,
}

impl MakeCheckpoint {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let master = self.logs.master_key()?.ok_or_else(|| {
            anyhow!("the master key is needed to sign: name its file in SAMEN_MASTER_KEY")
        })?;
        let mut checkpoints = Vec::new();
        for schema in self.logs.open().await? {
            checkpoints.push(Checkpoint::take(&schema).await?);
        }
        if self.print_key {
            let names: BTreeSet<_> = checkpoints.iter().map(Checkpoint::signed_by).collect();
            for name in names {
                println!("{}", Signer::new(&master, &name)?.verifier());
            }
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        for (number, checkpoint) in checkpoints.iter().enumerate() {
            let signer = Signer::new(&master, &checkpoint.signed_by())?;
            let note = signer.sign(&checkpoint.to_string())?;
            match &self.out {
                None => {
                    // One by itself is the file that `samen verify` reads.
                    let between = if number > 0 { "\n" } else { "" };
                    print!("{between}{note}");
                }
                Some(folder) => {
                    let name = format!("{}.{}.checkpoint", checkpoint.log, checkpoint.position);
                    let path = folder.join(name);
                    std::fs::write(&path, note).with_context(|| path.display().to_string())?;
                    println!("{}", path.display());
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
