//! How fast this machine is.
//!
//! - [`place`]: where a measure writes, and how that is removed again;
//! - [`load`]: clients in a closed loop, and how long each call took;
//! - [`pgbench`]: PostgreSQL by itself, as the yardstick;
//! - [`append`]: the log;
//! - [`file_request`]: a whole command, over a real connection;
//! - [`service`]: that service;
//! - [`subscribers`]: what those who watch cost those who write;
//! - [`lists`]: pages and figures, while there are more and more requests;
//! - [`rebuild`]: records into a fresh projection store;
//! - [`table`]: what is printed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use samen_server::telemetry;
use tokio::time::timeout;

use self::lists::Grown;
use self::load::{Load, Measured};
use self::place::{Places, Postgres};
use self::table::{Database, Measure, Table};
use crate::services;

mod append;
mod file_request;
mod lists;
mod load;
mod pgbench;
mod place;
mod rebuild;
mod service;
mod subscribers;
mod table;

/// How long one measure may take beyond its seconds, for making and removing
/// what it needs and for what is still on its way.
const SLACK: Duration = Duration::from_secs(60);
/// How long lists may take, with all that is written first.
const LISTS: Duration = Duration::from_secs(3 * 3600);

/// What the figures are, for whoever reads the help.
const NOTES: &str = "\
Prints how many commands a second the log and a service take here and how long each takes, on \
SQLite, and on PostgreSQL where a server is given. There the yardstick is pgbench with single-row \
inserts on the same server in the same round: figures of a busy machine differ from minute to \
minute, their ratios less.

A second table tells what 1,000 subscribers on 50 connections cost: the same requests are filed with \
nobody watching, with residents who watch what is theirs and are told nothing, and with staff who \
are told of every request; as fast as it goes (then each delivery takes from the same cores, and the \
ratio is to nobody watching in the same round), and at 100 a second.

`--only lists` writes up to a million requests, which takes some minutes and gigabytes, and prints how \
long a page takes by each filter, and figures, at a hundredth, a tenth and all of them.

Clients, servers and (where it runs here) the database share this machine's cores. Whatever is \
made in the database or the folder is removed again.";

/// Measure this machine.
#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Bench {
    /// The PostgreSQL server to measure on [default: only SQLite is measured]
    #[arg(long, env = "SAMEN_BENCH_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The program pgbench; skipped where it is not found
    #[arg(long, default_value = "pgbench", value_name = "PROGRAM")]
    pgbench: PathBuf,
    /// Where SQLite files are made [default: the system's temporary folder,
    /// which may be in memory]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How long each measure lasts
    #[arg(long, default_value = "5", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Clients that each wait for an answer before they ask again
    #[arg(long, default_value = "64", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=512))]
    clients: u16,
    /// Connections that the clients of a service share
    #[arg(long, default_value = "8", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// How often all of it is measured; the median of the figures counts
    #[arg(long, default_value = "3", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=9))]
    rounds: u16,
    /// Requests that lists are measured on at most
    #[arg(long, default_value = "1000000", value_name = "N",
          value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    requests: u64,
    /// Measure only a part
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The log, whole commands, rebuilds
    Commands,
    /// Commands while others watch
    Subscribers,
    /// Pages and figures; not measured unless it is asked for
    Lists,
}

/// What is printed.
struct Tables {
    commands: Table,
    subscribers: Table,
    lists: Vec<(Database, Grown)>,
}

impl Bench {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        // As a service has it: what is logged costs time too.
        let _telemetry = telemetry::init("bench", telemetry::Format::Text);
        if cfg!(debug_assertions) {
            eprintln!("This program was built without optimisation: its figures say little.");
        }
        let stop = services::shutdown_on_signal()?;
        let places = Places::open(self.database_url.as_deref(), self.folder.as_deref()).await?;
        let mut tables = Tables {
            commands: Table::new("x pgbench"),
            subscribers: Table::new("x nobody"),
            lists: Vec::new(),
        };
        let measured = tokio::select! {
            measured = self.measure(&places, &mut tables) => measured,
            () = stop.cancelled() => Err(anyhow!("interrupted")),
        };
        let conditions = self.conditions(&places);
        places.remove().await?;
        measured?;
        for table in [tables.commands, tables.subscribers] {
            if !table.is_empty() {
                println!("{}", table.render(&conditions));
            }
        }
        for (database, grown) in tables.lists {
            println!("{}", grown.render(&format!("{conditions}, {database}")));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn measure(&self, places: &Places, tables: &mut Tables) -> anyhow::Result<()> {
        if self.only != Some(Part::Lists) {
            return self.rounds(places, tables).await;
        }
        // Once: it measures each call often.
        for place in places.fresh()? {
            let measured = timeout(LISTS, lists::measure(&place, self.requests)).await;
            let grown = measured.with_context(|| format!("not done after {LISTS:?}"))??;
            tables.lists.push((place.database(), grown));
            places.clear(place).await?;
        }
        Ok(())
    }

    /// Each round measures everything once, so that what slows the machine
    /// down for a while slows all of it.
    async fn rounds(&self, places: &Places, tables: &mut Tables) -> anyhow::Result<()> {
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            if self.only != Some(Part::Subscribers) {
                self.commands(places, &mut tables.commands).await?;
            }
            if self.only != Some(Part::Commands) {
                self.subscribers(places, &mut tables.subscribers).await?;
            }
        }
        Ok(())
    }

    async fn commands(&self, places: &Places, table: &mut Table) -> anyhow::Result<()> {
        if let Some(postgres) = places.postgres() {
            self.pgbench(postgres, table).await?;
        }
        for place in places.fresh()? {
            let on = place.database();
            let append = append::measure(&place, self.load());
            let append = self.bounded(append).await.context(Measure::Append(on))?;
            table.add(Measure::Append(on), append);
            let service = file_request::measure(&place, self.load(), self.connections);
            let (filed, rebuilt) = self.bounded(service).await.context(Measure::File(on))?;
            table.add(Measure::File(on), filed);
            table.add(Measure::Rebuild(on), rebuilt);
            places.clear(place).await?;
        }
        table.end_round();
        Ok(())
    }

    async fn subscribers(&self, places: &Places, table: &mut Table) -> anyhow::Result<()> {
        for place in places.fresh()? {
            let measure = subscribers::measure(&place, self.load(), self.connections);
            for (measure, measured) in self.bounded(measure).await.context("subscribers")? {
                table.add(measure, measured);
            }
            places.clear(place).await?;
        }
        table.end_round();
        Ok(())
    }

    async fn pgbench(&self, postgres: &Postgres, table: &mut Table) -> anyhow::Result<()> {
        let measure = pgbench::measure(postgres, &self.pgbench, self.load());
        match self.bounded(measure).await.context(Measure::Pgbench)? {
            Some(measured) => table.add(Measure::Pgbench, measured),
            None => eprintln!("{} was not found: no ratios", self.pgbench.display()),
        }
        Ok(())
    }

    fn load(&self) -> Load {
        let span = Duration::from_secs(self.seconds);
        Load { clients: self.clients.into(), span, per_second: None }
    }

    /// Nothing that hangs may hold an operator up.
    async fn bounded<T>(
        &self,
        measure: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        // The longest measures six times, one after another; a rebuild may take
        // about as long as writing did.
        let limit = Duration::from_secs(self.seconds) * 6 + SLACK;
        timeout(limit, measure).await.with_context(|| format!("not done after {limit:?}"))?
    }

    /// What the figures depend on.
    fn conditions(&self, places: &Places) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let postgres =
            places.postgres().map_or(String::new(), |p| format!(", PostgreSQL {}", p.version()));
        format!(
            "samen {}, {cores} cores{postgres}, {} clients, {} s each, median of rounds: {}",
            env!("CARGO_PKG_VERSION"),
            self.clients,
            self.seconds,
            self.rounds,
        )
    }
}

/// Calls that were not made by clients, such as a rebuild's records.
fn counted(count: u64, took: Duration) -> Measured {
    Measured { per_second: count as f64 / took.as_secs_f64(), latency: None }
}
