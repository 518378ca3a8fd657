//! `samen verify`: whether the logs are whole.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use samen_log::checkpoint::key_name;
use samen_log::note::{Signer, Verifier};
use samen_log::verify::{Progress, Verified, VerifyError, verify};
use samen_log::{Checkpoint, MasterKey, Schema};

use crate::logs::Logs;
use crate::usage::wrong;

/// Check that the logs are whole
///
/// Reads every record beside the running services and checks positions, the
/// chain of hashes, the versions of each stream, times, that each event can be
/// decoded and has its keys, and the head. Prints a line for each log, and for
/// one that is not in order the first record that is wrong, and how.
///
/// With a checkpoint (`samen checkpoint`), also proves that the log still
/// contains the record that the checkpoint was signed for, and so that nothing
/// up to there was rewritten.
///
/// Ends with exit code 0 when all is in order, 1 when it is not, 2 for a
/// mistake in a flag.
#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    logs: Logs,
    /// Begin at this position, and take what is before it as it is
    #[arg(long, default_value = "1", value_name = "POSITION",
          value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// Checkpoints to hold the logs against; only their logs are checked
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "from")]
    checkpoint: Vec<PathBuf>,
    /// The key that the checkpoints are signed with (`samen checkpoint
    /// --print-key`), where the master key is not at hand
    #[arg(long, value_name = "KEY", requires = "checkpoint")]
    key: Option<String>,
}

impl Verify {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let checkpoints = self.checkpoints()?;
        let mut done = Vec::new();
        let mut whole = true;
        for schema in self.logs.open().await? {
            let id = match samen_log::verify::log_id(&schema).await {
                Ok(id) => id,
                Err(error) => {
                    eprintln!("samen: {error}");
                    whole = false;
                    continue;
                }
            };
            let mut held: Vec<_> = checkpoints.iter().filter(|c| c.log == id).collect();
            if held.is_empty() && !checkpoints.is_empty() {
                continue;
            }
            held.sort_by_key(|checkpoint| checkpoint.position);
            match walk(&schema, self.from, &held).await {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    eprintln!("samen: {error}");
                    whole = false;
                }
            }
            done.push(id);
        }
        if let Some(checkpoint) = checkpoints.iter().find(|c| !done.contains(&c.log)) {
            bail!("the checkpoint's log {} is not here", checkpoint.log);
        }
        Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What the files say, if it was signed by the deployment.
    fn checkpoints(&self) -> anyhow::Result<Vec<Checkpoint>> {
        if self.checkpoint.is_empty() {
            return Ok(Vec::new());
        }
        let given = self.key.as_deref().map(Verifier::parse).transpose().map_err(wrong("--key"))?;
        let master = if given.is_some() { None } else { self.logs.master_key()? };
        if given.is_none() && master.is_none() {
            bail!(
                "there is no master key here to check a signature by: give the verifier's key \
                 with --key"
            );
        }
        let open = |path| {
            open(path, given.as_ref(), master.as_ref())
                .with_context(|| format!("{}", Path::display(path)))
        };
        self.checkpoint.iter().map(|path| open(path)).collect()
    }
}

/// A signed checkpoint, from its file.
fn open(
    path: &Path,
    given: Option<&Verifier>,
    master: Option<&MasterKey>,
) -> anyhow::Result<Checkpoint> {
    let note = std::fs::read_to_string(path)?;
    let text = match (given, master) {
        (Some(verifier), _) => verifier.open(&note)?,
        (None, Some(master)) => {
            // Whose it says it is, to know which name to look for.
            let said = note.split("\n\n").next().unwrap_or_default();
            let name = key_name(&Checkpoint::parse(said)?.log);
            Signer::new(master, &name)?.verifier().open(&note)?
        }
        (None, None) => bail!("there is no key to check it by"),
    };
    let checkpoint = Checkpoint::parse(text)?;
    Ok(checkpoint)
}

/// Walks one log, and says in a line what was found in order.
async fn walk(
    schema: &Schema,
    from: u64,
    checkpoints: &[&Checkpoint],
) -> Result<String, VerifyError> {
    let bar = progress_bar();
    let began = Instant::now();
    let verified = verify(schema, from, checkpoints, |Progress { done, of }| {
        bar.set_length(of);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    Ok(line(&verified?, began.elapsed(), checkpoints))
}

fn line(verified: &Verified, took: Duration, checkpoints: &[&Checkpoint]) -> String {
    let Verified { log, records, last } = verified;
    let seconds = took.as_secs_f64();
    let rate = *records as f64 / seconds.max(0.001);
    let hash: String = last.hash.iter().flatten().map(|byte| format!("{byte:02x}")).collect();
    let mut line = format!(
        "{log}: {records} records in {seconds:.1} s ({rate:.0}/s), head {} of epoch {}, {hash}",
        last.position, last.epoch
    );
    for checkpoint in checkpoints {
        line += &format!(", as signed for at {} on {}", checkpoint.position, checkpoint.time);
    }
    line
}

/// Shown on a terminal only.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} records, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
