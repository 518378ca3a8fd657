//! NATS, and who follows through it: the stream is the log, and so is what
//! regional collaboration holds of it, whatever happens between them.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{Context, stream};
use futures::TryStreamExt;
use prost::Message;
use samen_log::jetstream::stream_name;
use samen_log::{Log, Record};
use samen_proto::contract;
use samen_proto::operations::{GetStatusRequest, Task, TaskState};
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::{CATALOGUE_RECORDS, FILING_RECORDS, eventually, place};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::{Client, Clients, LOG, SOON, Told, report};
use crate::log::relay::{assert_is_the_log_from, context, published, state};
use crate::log::shared::read_all;

const REQUESTS: &str = "service-requests";
const REGIONAL: &str = "regional-collaboration";
/// How long the exchange stands still.
const FROZEN: Duration = Duration::from_secs(30);
/// How long a report may take: less than the exchange stands still.
const ANSWER: Duration = Duration::from_secs(10);

/// A suite, and what an independent reader looks at.
struct Suite {
    deployment: Deployment,
    resident: Client,
    log: Log,
    context: Context,
}

impl Suite {
    async fn start() -> Self {
        let mut deployment = Deployment::start(Setup::Separate).await;
        let resident = deployment.requests("r", &["resident"]).await;
        let location = place::location_of(&deployment.log_place("requests")).await;
        let log = Log::open(&location, LOG, CancellationToken::new()).await.expect("the log");
        let context = context(deployment.nats()).await;
        Suite { deployment, resident, log, context }
    }

    /// Files so many, and waits until their reporters were told.
    async fn file(&mut self, reports: usize) {
        file(&mut self.resident, reports).await;
        self.told_all().await;
    }

    /// Waits until all reporters were told: the log is still then.
    async fn told_all(&self) {
        eventually(SOON, "all reporters are told", async || {
            let records = read_all(&self.log).await;
            let of = |kind| records.iter().filter(|record| record.r#type.ends_with(kind)).count();
            (of(".RequestFiled") == of(".NoticeSent")).then_some(())
        })
        .await;
    }

    /// Waits until regional collaboration has seen all of the log, and compares
    /// the stream, which begins at this position, and its rows with the log.
    async fn compare(&self, first: u64) {
        self.told_all().await;
        assert_is_the_log_from(&self.context, &self.log, first).await;
        let records = read_all(&self.log).await;
        let last = records.last().expect("a record");
        let database = self.deployment.database().expect("PostgreSQL");
        let mut database = PgConnection::connect(database).await.expect("the database");
        // Of its stores the newest serves, where there is more than one.
        let sql = "SELECT max(nspname)::text FROM pg_namespace
                   WHERE nspname LIKE 'regional\\_projection\\_%'";
        let store: String = sqlx::query_scalar(sql).fetch_one(&mut database).await.expect("one");
        let select = |what: &str| {
            let sql = format!("SELECT {what} WHERE log = $1 ORDER BY position");
            sqlx::AssertSqlSafe(sql.replace("{s}", &store))
        };
        eventually(SOON, "regional has seen all of it", async || {
            let found: (i64, i64, Vec<u8>) =
                sqlx::query_as(select("epoch, position, hash FROM {s}.checkpoint"))
                    .bind(LOG)
                    .fetch_optional(&mut database)
                    .await
                    .expect("a row")?;
            let at = (last.epoch as i64, last.position as i64, last.hash.clone());
            (found == at).then_some(())
        })
        .await;
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(select("position, body FROM {s}.source_record"))
                .bind(LOG)
                .fetch_all(&mut database)
                .await
                .expect("its rows");
        let shared = records.iter().filter(|record| contract::is_exchanged(&record.r#type));
        let shared: Vec<&Record> = shared.map(AsRef::as_ref).collect();
        assert_eq!(rows.len(), shared.len());
        for ((position, body), record) in rows.iter().zip(shared) {
            assert_eq!(*position as u64, record.position);
            assert_eq!(Record::decode(body.as_slice()).expect("a record"), *record);
        }
    }

    /// The first task of a service whose name begins so.
    async fn task(&self, service: &str, name: &str) -> Option<Task> {
        let mut operations = self.deployment.operations(service).await;
        task(&mut operations, name).await
    }

    /// Waits until a task fails, and `samen status` says why in these words.
    async fn told(&self, service: &str, name: &str, why: &str) {
        eventually(SOON, &format!("{name} of {service} fails: {why}"), async || {
            let task = self.task(service, name).await?;
            let error = task.error.as_ref().filter(|error| error.message.contains(why))?;
            let (status, output) = self.deployment.try_operate(&["status"]).await;
            let shown = !status.success() && output.contains(&error.message);
            (task.state() == TaskState::Failing && shown).then_some(())
        })
        .await;
    }

    /// Waits until a task has failed, although it may have gone on since.
    async fn has_failed(&self, service: &str, name: &str, why: &str) {
        eventually(SOON, &format!("{name} of {service} has failed: {why}"), async || {
            let error = self.task(service, name).await?.error?;
            let (_, output) = self.deployment.try_operate(&["status"]).await;
            (error.message.contains(why) && output.contains(&error.message)).then_some(())
        })
        .await;
    }

    /// Waits until nothing fails any more.
    async fn well(&self) {
        eventually(SOON, "nothing fails", async || {
            let (status, _) = self.deployment.try_operate(&["status"]).await;
            status.success().then_some(())
        })
        .await;
    }

    /// Stops regional collaboration and takes its rows away.
    async fn forget_regional(&mut self) {
        self.deployment.kill_service(REGIONAL);
        let database = self.deployment.database().expect("PostgreSQL");
        let mut database = PgConnection::connect(database).await.expect("the database");
        let sql = "SELECT nspname::text FROM pg_namespace
                   WHERE nspname LIKE 'regional\\_projection\\_%'";
        let stores: Vec<String> =
            sqlx::query_scalar(sql).fetch_all(&mut database).await.expect("names");
        assert!(!stores.is_empty());
        for store in stores {
            let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA {store} CASCADE"));
            sqlx::query(drop).execute(&mut database).await.expect("dropped");
        }
    }

    /// The stream, once it is there.
    async fn exists(&self) -> stream::Stream {
        eventually(SOON, "the stream is made", async || {
            self.context.get_stream(stream_name(LOG)).await.ok()
        })
        .await
    }

    /// Everything that is in the stream now leaves it by its age.
    async fn outlive(&self) {
        let stream = self.context.get_stream(stream_name(LOG)).await.expect("the stream");
        let stream::Info { config, state: before, .. } = stream.cached_info().clone();
        let second = Duration::from_secs(1);
        let short = Config { max_age: second, duplicate_window: second, ..config.clone() };
        self.context.update_stream(short).await.expect("updated");
        eventually(SOON, "the records have left the stream", async || {
            (state(&self.context).await?.first_sequence > before.last_sequence).then_some(())
        })
        .await;
        self.context.update_stream(config).await.expect("updated");
    }
}

async fn file(resident: &mut Client, reports: usize) {
    for number in 0..reports {
        let mut report = Request::new(report(&number.to_string()));
        report.set_timeout(ANSWER);
        resident.file_request(report).await.expect("filed in time");
    }
}

type Operations = samen_proto::operations::operations_service_client::OperationsServiceClient<
    samen_tests::deployment::Authorised,
>;

async fn task(operations: &mut Operations, name: &str) -> Option<Task> {
    let status = operations.get_status(GetStatusRequest {}).await.ok()?.into_inner();
    status.tasks.into_iter().find(|task| task.name.starts_with(name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_exchange_delays_followers_and_nothing_else() {
    let mut suite = Suite::start().await;
    suite.file(20).await;
    suite.compare(1).await;

    suite.deployment.nats().freeze();
    let stop = CancellationToken::new();
    let filing = tokio::spawn({
        let (mut resident, stop) = (suite.resident.clone(), stop.clone());
        async move {
            let mut filed = 0;
            while !stop.is_cancelled() {
                file(&mut resident, 1).await;
                filed += 1;
            }
            filed
        }
    });
    let told = async {
        suite.told(REQUESTS, "relay", "").await;
        // It reads from the owner meanwhile.
        suite.has_failed(REGIONAL, "projector", LOG).await;
    };
    tokio::join!(tokio::time::sleep(FROZEN), told);
    stop.cancel();
    let filed = filing.await.expect("each was filed while it stood still");
    println!("{filed} filed meanwhile");
    let published = state(&suite.context);
    assert!(tokio::time::timeout(ANSWER, published).await.ok().flatten().is_none(), "it answers");
    suite.deployment.nats().thaw();

    suite.file(20).await;
    suite.compare(1).await;
    suite.well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_end_equal_to_the_log_whatever_becomes_of_the_exchange() {
    let mut suite = Suite::start().await;
    let told = Told::default();
    let clients = Clients::start(vec![suite.resident.clone(); 4], &told);
    for _ in 0..2 {
        some_more(&told).await;
        suite.deployment.nats().kill();
        some_more(&told).await;
        suite.deployment.nats().restart().await;
        some_more(&told).await;
        suite.deployment.nats().restart_empty().await;
        some_more(&told).await;
        suite.exists().await;
        suite.context.delete_stream(stream_name(LOG)).await.expect("it exists");
        some_more(&told).await;
        let stream = suite.exists().await;
        let consumers: Vec<String> =
            stream.consumer_names().try_collect().await.expect("their names");
        for consumer in consumers {
            // Whoever had it may have given it up.
            let _ = stream.delete_consumer(&consumer).await;
        }
    }
    clients.stop().await;
    suite.compare(1).await;
    told.check(&suite.deployment.log_place("requests")).await;
    suite.well().await;
}

/// Waits until some more reports were filed.
async fn some_more(told: &Told) {
    let before = told.filed();
    eventually(SOON, "reports are filed", async || (told.filed() > before + 50).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_left_the_exchange_comes_from_its_owner() {
    let mut suite = Suite::start().await;
    suite.file(50).await;
    suite.compare(1).await;
    suite.forget_regional().await;
    suite.outlive().await;
    let left = CATALOGUE_RECORDS + 50 * FILING_RECORDS;
    suite.file(5).await;
    published(&suite.context, left + 5 * FILING_RECORDS).await;

    // The owner is not there: somebody has to know what is waited for.
    suite.deployment.kill_service(REQUESTS);
    suite.deployment.start_service(REGIONAL, &[]).await;
    suite.told(REGIONAL, "projector", "must come from its owner: ").await;
    // Nor does it give its log to one of another deployment.
    suite.deployment.kill_service(REGIONAL);
    suite.deployment.start_service(REQUESTS, &[]).await;
    let other = suite.deployment.path("other.key");
    let keygen = samen_tests::samen::samen(["keygen", "master", &other]);
    assert!(samen_tests::process::run(keygen, SOON).await.0.success());
    suite.deployment.start_service(REGIONAL, &[("SAMEN_MASTER_KEY", &other)]).await;
    suite.told(REGIONAL, "projector", "is not given to this service by its owner").await;

    suite.forget_regional().await;
    suite.deployment.kill_service(REQUESTS);
    suite.deployment.start_service(REGIONAL, &[]).await;
    suite.told(REGIONAL, "projector", "must come from its owner: ").await;
    suite.deployment.start_service(REQUESTS, &[]).await;
    suite.compare(left + 1).await;
    suite.well().await;

    // It is back on the stream: the door that it knows is closed, and what
    // another process publishes comes through.
    let replica = suite.deployment.replica(REQUESTS).await;
    suite.deployment.kill_service(REQUESTS);
    suite.resident = suite.deployment.requests_at(replica, "r", &["resident"]).await;
    suite.file(20).await;
    suite.compare(left + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stood_still_while_another_took_over_does_no_harm() {
    let mut suite = Suite::start().await;
    let replica = suite.deployment.replica(REQUESTS).await;
    let resident = suite.deployment.requests_at(replica, "r", &["resident"]).await;
    let mut here = suite.deployment.operations(REQUESTS).await;
    let mut there = suite.deployment.operations_at(replica, "o", &["operator"]).await;
    let told = Told::default();
    let clients = Clients::start(vec![resident; 8], &told);
    let made = suite.exists().await.cached_info().created;

    for round in 0..2 {
        let (frozen, other) = (&mut here, &mut there);
        eventually(SOON, "the first has the work", async || {
            (task(frozen, "relay").await?.state() == TaskState::Running).then_some(())
        })
        .await;
        let at = eventually(SOON, "it publishes", async || {
            state(&suite.context).await.map(|state| state.last_sequence)
        })
        .await;
        eventually(SOON, "it publishes on", async || {
            (state(&suite.context).await?.last_sequence > at + 20).then_some(())
        })
        .await;
        suite.deployment.service_process(REQUESTS).freeze();
        eventually(SOON, "the other has the work", async || {
            (task(other, "relay").await?.state() == TaskState::Running).then_some(())
        })
        .await;
        let at = state(&suite.context).await.expect("the stream").last_sequence;
        eventually(SOON, "the other publishes on", async || {
            (state(&suite.context).await?.last_sequence > at + 100).then_some(())
        })
        .await;
        suite.deployment.service_process(REQUESTS).thaw();
        eventually(SOON, "the first sees that it lost it", async || {
            (task(frozen, "relay").await?.state() == TaskState::Standby).then_some(())
        })
        .await;
        if round == 0 {
            // Then the other stands still, and the first has it again.
            let other = suite.deployment.processes.last_mut().expect("the replica");
            other.freeze();
            eventually(SOON, "the first has the work again", async || {
                (task(frozen, "relay").await?.state() == TaskState::Running).then_some(())
            })
            .await;
            suite.deployment.processes.last_mut().expect("the replica").thaw();
        }
    }
    clients.stop().await;
    suite.compare(1).await;
    // Nor did anything get into it that had to be put right.
    assert_eq!(suite.exists().await.cached_info().created, made, "it was made anew");
    told.check(&suite.deployment.log_place("requests")).await;
    suite.well().await;
}
