//! PostgreSQL by itself, as the yardstick: pgbench, one row an insert, with as
//! many clients.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::sleep;

use super::append::EVENT_BYTES;
use super::load::{Latency, Load, Measured};
use super::place::Postgres;

/// How much of its transactions pgbench writes down. Enough for a 99th
/// percentile, and no burden for what is measured.
const SAMPLED: &str = "--sampling-rate=0.1";
/// How often it is looked whether pgbench has ended.
const POLL: Duration = Duration::from_millis(20);

/// A process that does not outlive its measure.
struct Running(Child);

/// `None` where there is no pgbench.
pub async fn measure(
    postgres: &Postgres,
    program: &Path,
    load: Load,
) -> anyhow::Result<Option<Measured>> {
    let schema = postgres.schema();
    postgres
        .execute(&format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE {schema}.event (
                 position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 data     text NOT NULL
             )"
        ))
        .await?;
    let folder = tempfile::tempdir()?;
    let data = "x".repeat(EVENT_BYTES);
    let insert = format!("INSERT INTO {schema}.event (data) VALUES ('{data}');\n");
    std::fs::write(folder.path().join("insert.sql"), insert)?;

    let Some(mut running) = start(postgres, program, load, folder.path())? else {
        return Ok(None);
    };
    let status = running.ended().await?;
    let output = std::fs::read_to_string(folder.path().join("output"))?;
    if !status.success() {
        bail!("{} ended with {status}: {}", program.display(), output.trim());
    }
    let per_second = per_second(&output)
        .with_context(|| format!("{} says no tps: {output}", program.display()))?;
    let latency = Latency::of(logged(folder.path())?);
    postgres.drop(&schema).await?;
    Ok(Some(Measured { per_second, latency }))
}

fn start(
    postgres: &Postgres,
    program: &Path,
    load: Load,
    folder: &Path,
) -> anyhow::Result<Option<Running>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(load.clients);
    let output = File::create(folder.join("output"))?;
    let started = Command::new(program)
        .current_dir(folder)
        // Not as an argument: everybody on the machine can read those.
        .env("PGDATABASE", postgres.url())
        .args(["--no-vacuum", "--protocol=prepared", "--file=insert.sql", "--log", SAMPLED])
        .arg(format!("--client={}", load.clients))
        .arg(format!("--jobs={threads}"))
        .arg(format!("--time={}", load.span.as_secs()))
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn();
    match started {
        Ok(child) => Ok(Some(Running(child))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| program.display().to_string()),
    }
}

/// The rate, from what pgbench says at its end.
fn per_second(output: &str) -> Option<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How long transactions took, from the files that pgbench wrote them down in:
/// one for each thread, the third field in microseconds.
fn logged(folder: &Path) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("pgbench_log.") {
            continue;
        }
        for line in std::fs::read_to_string(entry.path())?.lines() {
            let micros = line.split(' ').nth(2).and_then(|field| field.parse().ok());
            took.extend(micros.map(Duration::from_micros));
        }
    }
    Ok(took)
}

impl Running {
    async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            sleep(POLL).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says() {
        let output = "latency average = 4.9 ms\n\
                      tps = 12987.316741 (without initial connection time)\n";
        assert_eq!(per_second(output), Some(12987.316741));
        assert_eq!(per_second("pgbench: error: connection failed"), None);
    }
}
