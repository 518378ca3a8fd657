//! What operators see and do from a terminal: `samen status` and
//! `samen projections`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Uri;
use jiff::Timestamp;
use samen_proto::operations::operations_service_client::OperationsServiceClient;
use samen_proto::operations::{
    GetStatusRequest, GetStatusResponse, ListProjectionsRequest, Projection, ProjectionState,
    RebuildProjectionRequest, Task, TaskState,
};
use samen_proto::options::Role;
use samen_server::time::from_proto;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::doors::{Bearer, Doors};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a store that is being built is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Show what the services' background tasks do
///
/// Needs the role operator. Ends with exit code 0 when every service answers and no task has stopped or
/// is failing, 1 otherwise.
#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    doors: AllDoors,
}

/// See the projection stores, or build one anew
///
/// Needs the role operator.
#[derive(Args)]
pub struct Projections {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the stores, how far they are, and when they will be done
    List {
        #[command(flatten)]
        doors: AllDoors,
    },
    /// Build a service's store anew beside the one that serves; that one goes
    /// on serving until the new one has caught up
    Rebuild {
        /// The service: participation, requests or regional
        #[arg(value_parser = ["participation", "requests", "regional"])]
        service: String,
        /// Return at once, and not when the new store serves
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        doors: AllDoors,
    },
}

/// Where all services are, and who asks.
#[derive(Args)]
struct AllDoors {
    #[command(flatten)]
    doors: Doors,
    /// Where regional collaboration is
    #[arg(
        long,
        env = "SAMEN_REGIONAL_URL",
        default_value = "http://127.0.0.1:50053",
        value_name = "URL"
    )]
    regional_url: Uri,
}

type Door = OperationsServiceClient<InterceptedService<Channel, Bearer>>;

impl AllDoors {
    /// The operators' doors, with the services' names.
    fn open(&self) -> anyhow::Result<Vec<(&'static str, Door)>> {
        let regional = (samen_regional::NAME, "SAMEN_REGIONAL_URL", &self.regional_url);
        let channels = self.doors.open("operator", Role::Operator, &[regional])?;
        let door = |(name, channel)| (name, OperationsServiceClient::new(channel));
        Ok(channels.into_iter().map(door).collect())
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

// === impl Status ===

impl Status {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut well = true;
        for (name, mut door) in self.doors.open()? {
            match door.get_status(within(GetStatusRequest {})).await {
                Ok(answer) => well &= show(&answer.into_inner()),
                Err(refusal) => {
                    println!("{name}: {}: {}", refusal.code(), refusal.message());
                    well = false;
                }
            }
        }
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Prints a service's status; false when a task does not go on.
fn show(status: &GetStatusResponse) -> bool {
    println!(
        "{}: epoch {}, position {}, answered by {}",
        status.log, status.epoch, status.head, status.process
    );
    let now = Timestamp::now();
    for task in &status.tasks {
        println!("  {:<44} {}", task.name, state(task, &status.process));
        for progress in &task.progress {
            let lag = progress.head.saturating_sub(progress.position);
            println!("    {:<42} position {}, lag {lag}", progress.log, progress.position);
        }
        if let Some(error) = &task.error {
            let ago = error.time.as_ref().and_then(from_proto).map(|time| since(time, now));
            let over = if error.over { ", over" } else { "" };
            let record = match error.position {
                0 => String::new(),
                position => format!("{} {position} ({}): ", error.log, error.r#type),
            };
            let ago = ago.unwrap_or_default();
            println!("    last error {ago} ago{over}: {record}{}", error.message);
        }
        if !task.note.is_empty() {
            let ago = task.note_time.as_ref().and_then(from_proto).map(|time| since(time, now));
            println!("    note {} ago: {}", ago.unwrap_or_default(), task.note);
        }
    }
    let bad = |task: &Task| matches!(task.state(), TaskState::Failing | TaskState::Stopped);
    !status.tasks.iter().any(bad)
}

fn state(task: &Task, process: &str) -> String {
    let state = task.state().as_str_name().trim_start_matches("TASK_STATE_").to_lowercase();
    if task.holder.is_empty() || task.holder == process {
        state
    } else {
        format!("{state}, held by {}", task.holder)
    }
}

/// A duration in whole seconds, minutes or hours, whichever says enough.
fn since(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs().max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

// === impl Projections ===

impl Projections {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::List { doors } => {
                for (name, mut door) in doors.open()? {
                    println!("{name}");
                    list(&mut door).await?.iter().for_each(print);
                }
            }
            What::Rebuild { service, no_wait, doors } => {
                let door = doors.open()?.into_iter().find(|(name, _)| *name == service);
                let Some((_, mut door)) = door else { return Ok(ExitCode::FAILURE) };
                let begun = door.rebuild_projection(within(RebuildProjectionRequest {})).await?;
                let store = begun.into_inner().name;
                println!("{store} is being built");
                if !no_wait {
                    until_it_serves(&mut door, &store).await?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(door: &mut Door) -> anyhow::Result<Vec<Projection>> {
    Ok(door.list_projections(within(ListProjectionsRequest {})).await?.into_inner().projections)
}

async fn until_it_serves(door: &mut Door, store: &str) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::new(0);
    loop {
        let stores = list(door).await?;
        let Some(store) = stores.into_iter().find(|found| found.name == store) else {
            anyhow::bail!("{store} is gone: another one was begun after it");
        };
        let (done, all) = reach(&store);
        bar.set_length(all);
        bar.set_position(done);
        if store.state() == ProjectionState::Serving {
            bar.finish_and_clear();
            println!("{} serves", store.name);
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn reach(store: &Projection) -> (u64, u64) {
    let sum =
        |of: fn(&samen_proto::operations::Progress) -> u64| store.progress.iter().map(of).sum();
    (sum(|progress| progress.position), sum(|progress| progress.head))
}

fn print(store: &Projection) {
    let state = store.state().as_str_name().trim_start_matches("PROJECTION_STATE_").to_lowercase();
    let (done, all) = reach(store);
    let left = store.estimated_time.as_ref().and_then(from_proto);
    let left = left.map(|end| format!(", done in {}", since(Timestamp::now(), end)));
    println!("  {:<36} {state}: {done} of {all}{}", store.name, left.unwrap_or_default());
    for progress in &store.progress {
        println!("    {:<34} position {}", progress.log, progress.position);
    }
}
