//! Killed in the middle of a batch, again and again: each record is in the rows
//! once, as if they had been built in one go.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;
use samen_log::{Follow, Keyring, Leases, Log, MasterKey, Projection, Store, Tasks};
use samen_participation::projection::ParticipationProjection;
use samen_requests::projection::RequestProjection;
use samen_tests::{Place, Process, Signal, eventually, on_both_databases, seeded};
use tokio_util::sync::CancellationToken;

use super::dump::{Dump, checkpoint, dump};
use super::history;
use super::{LOG, SOON};

on_both_databases!(
    requests_that_are_projected_by_one_that_is_killed_50_times,
    participation_that_is_projected_by_one_that_is_killed_50_times,
    requests_that_are_projected_by_two_at_once_that_are_killed,
);

const PARTICIPATION: &str = "gm0384.participation";
/// Processes that are killed in one test.
const KILLS: usize = 50;
/// Records of a batch, at most.
const PIECE: usize = 30;
/// In which of its batches a process is killed: there is one before it.
const BATCHES: std::ops::RangeInclusive<usize> = 2..=5;
/// More than are in reach of all that are killed.
const RECORDS: usize = KILLS * 5 * PIECE + 1;

async fn requests_that_are_projected_by_one_that_is_killed_50_times(place: Place) {
    let mut chance = seeded("requests, one projector");
    write(&place, LOG, &mut chance).await;
    let Killed { unfinished, .. } = kill(&place, LOG, 1, &mut chance).await;
    compare(&place, LOG, requests).await;
    assert!(unfinished >= KILLS / 3, "of {KILLS} batches {unfinished} were not committed");
}

async fn participation_that_is_projected_by_one_that_is_killed_50_times(place: Place) {
    let mut chance = seeded("participation, one projector");
    write(&place, PARTICIPATION, &mut chance).await;
    let Killed { unfinished, .. } = kill(&place, PARTICIPATION, 1, &mut chance).await;
    compare(&place, PARTICIPATION, |_| ParticipationProjection).await;
    assert!(unfinished >= KILLS / 3, "of {KILLS} batches {unfinished} were not committed");
}

/// Each believes that it holds the lease.
async fn requests_that_are_projected_by_two_at_once_that_are_killed(place: Place) {
    let mut chance = seeded("requests, two projectors");
    write(&place, LOG, &mut chance).await;
    let Killed { fenced, .. } = kill(&place, LOG, 2, &mut chance).await;
    compare(&place, LOG, requests).await;
    assert!(fenced > 0, "they were never in each other's way");
}

fn requests(log: &Log) -> RequestProjection {
    // Of texts that nobody can open there is nothing to find.
    let master = MasterKey::generate(true);
    RequestProjection::new(Keyring::new(log.schema().clone(), &master, log.id()), &master)
}

async fn write(place: &Place, log: &str, chance: &mut StdRng) {
    let shutdown = CancellationToken::new();
    let _shutdown = shutdown.clone().drop_guard();
    let log = Log::open(&place.location().await, log, shutdown).await.expect("the log");
    history::write(&log, chance, RECORDS).await;
}

/// What became of processes that were killed.
#[derive(Debug, Default)]
struct Killed {
    /// Rounds in which the checkpoint moved.
    moved: usize,
    /// Batches that were begun and are not there; not counted where somebody
    /// else may have done them.
    unfinished: usize,
    /// How often one had to begin again from the checkpoint, since another was
    /// faster.
    fenced: usize,
}

/// Has the log projected by so many processes at once until they are killed,
/// and again, from where they left it; longer, if those at once were never in
/// each other's way so far.
async fn kill(place: &Place, log: &str, at_once: usize, chance: &mut StdRng) -> Killed {
    let mut killed = Killed::default();
    let mut before = 0;
    let rounds = KILLS / at_once;
    for round in 0..2 * rounds {
        if round >= rounds && (at_once == 1 || killed.fenced > 0) {
            break;
        }
        let run = |number| format!("run_{round}_{number}");
        let mut processes: Vec<_> =
            (0..at_once).map(|number| projector(place, log, &run(number), chance)).collect();
        let mut begun = 0;
        for process in &mut processes {
            let status = process.ended(SOON).await;
            assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{}", process.output());
            let lines = process.lines();
            let positions = |of: &str| -> Vec<u64> {
                let said = lines.iter().filter_map(|line| line.strip_prefix(of));
                said.map(|position| position.trim().parse().expect("a position")).collect()
            };
            killed.fenced += positions("follows").len() - 1;
            begun = begun.max(*positions("applies").last().expect("it was killed in one"));
        }
        let at = checkpoint(place, log).await;
        assert!(before <= at && at < RECORDS as u64, "from {before} to {at}");
        killed.moved += usize::from(before < at);
        killed.unfinished += usize::from(at < begun);
        before = at;
    }
    println!("{killed:?}, at {before} of {RECORDS}");
    // Unless the machine was so slow that a batch had to be tried again.
    assert!(killed.moved * at_once > KILLS / 2, "it hardly moved: {killed:?}");
    killed
}

fn projector(place: &Place, log: &str, run: &str, chance: &mut StdRng) -> Process {
    let mut projector = Command::new(env!("CARGO_BIN_EXE_projector"));
    let piece = chance.random_range(1..=PIECE);
    let batch = chance.random_range(BATCHES);
    // A little more than all of the last batch: also while it is committed.
    let share = chance.random_range(0.0..1.2);
    projector.args([&place.name(), log, run]);
    projector.args([piece.to_string(), batch.to_string(), format!("{share:.3}")]);
    Process::start(projector)
}

/// Lets it be finished, and compares it with one that was built in one go.
async fn compare<P: Projection>(place: &Place, log: &str, projection: impl Fn(&Log) -> P) {
    let log = place.log(log).await;
    let elsewhere = place.another().await;
    let finished = project(place, &log, projection(&log)).await;
    let fresh = project(&elsewhere, &log, projection(&log)).await;
    let rows: usize = fresh.values().map(Vec::len).sum();
    assert!(rows > RECORDS / 3, "{rows} rows of {RECORDS} records");
    for (table, rows) in &fresh {
        let others = &finished[table];
        for (row, other) in rows.iter().zip(others) {
            assert_eq!(other, row, "of {table}");
        }
        assert_eq!(others.len(), rows.len(), "rows of {table}");
    }
    assert_eq!(finished.len(), fresh.len(), "tables");
}

/// Projects all of a log into a place.
async fn project(place: &Place, log: &Log, projection: impl Projection) -> Dump {
    let location = place.location().await;
    let leases = Leases::open(&location).await.expect("the leases");
    let tasks = Tasks::default();
    let store = Store::open(&location, &leases, &tasks, projection).await.expect("the store");
    let logs: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
    let projecting = tokio::spawn(store.clone().run(logs, CancellationToken::new()));
    eventually(SOON, "all is projected", async || {
        (store.cursor(log.id()).position == log.head()).then_some(())
    })
    .await;
    projecting.abort();
    dump(place).await
}
