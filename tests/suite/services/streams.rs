//! Streams end well: whatever ends one says where to resume, and who resumes
//! there misses nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use samen_proto::log::Position;
use samen_proto::privacy::export_person_response::Item as Exported;
use samen_proto::privacy::{ExportPersonRequest, ExportPersonResponse};
use samen_proto::regional::feed_service_client::FeedServiceClient;
use samen_proto::regional::subscribe_response::Item as Shared;
use samen_proto::regional::{SubscribeRequest, SubscribeResponse};
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::watch_requests_response::Item;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use samen_tests::web::grpc_web;
use samen_tests::{Process, Proxy, Signal, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel as Connection, Endpoint};
use tonic::{Code, Status as Refusal, Streaming};
use tonic_types::StatusExt;

use super::in_both_setups;
use super::shared::{SOON, agree, new_id, report};

in_both_setups!(
    a_reader_that_stalls_is_ended_and_costs_others_nothing,
    a_partner_that_stalls_is_ended_likewise,
    a_connection_that_died_is_free_again,
    whoever_resumes_at_any_end_gets_every_change,
    a_partner_who_resumes_at_any_end_gets_the_feed_exactly,
    every_stream_is_told_of_a_shutdown_and_the_process_is_gone,
    watchers_and_lists_agree_on_what_matches,
    a_page_does_not_notice_that_streams_end,
);

const FILED: &str = "samen.requests.v1.RequestFiled";
/// What a client takes at most that does not read: HTTP/2's least window.
const NARROW: u32 = 65_535;
/// Changes that are more than a client takes that does not read.
const MANY: usize = 3_000;
/// Calls at the same time.
const AT_ONCE: usize = 64;

/// Files so many requests; gives their ids in the order of the log, the first
/// one's position being the first after those that were there.
async fn file(requests: &RequestServiceClient<Authorised>, count: usize) -> Vec<(u64, String)> {
    let calls = (0..count).map(|n| {
        let mut requests = requests.clone();
        async move {
            let filed = requests.file_request(report(&n.to_string())).await;
            let filed = filed.expect("filed").into_inner();
            (filed.number, filed.id)
        }
    });
    let mut filed: Vec<_> = futures::stream::iter(calls).buffer_unordered(AT_ONCE).collect().await;
    filed.sort_unstable();
    filed
}

/// A connection on which streams take little that is not read.
fn narrow(url: String) -> Connection {
    Endpoint::from_shared(url)
        .expect("a URL")
        .initial_stream_window_size(NARROW)
        .initial_connection_window_size(NARROW * 32)
        .connect_lazy()
}

/// Where an end says to resume, and why it came.
fn end(refusal: &Refusal) -> (String, HashMap<String, String>) {
    let details = refusal.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{refusal:?}"));
    (info.reason.clone(), info.metadata.clone())
}

fn position(metadata: &HashMap<String, String>) -> Position {
    Position {
        log: metadata["log"].clone(),
        epoch: metadata["epoch"].parse().expect("a number"),
        position: metadata["position"].parse().expect("a number"),
    }
}

async fn watch(
    requests: &mut RequestServiceClient<Authorised>,
    resume_after: Option<Position>,
) -> Streaming<WatchRequestsResponse> {
    let ask = WatchRequestsRequest { filter: None, resume_after };
    requests.watch_requests(ask).await.expect("a stream").into_inner()
}

/// Reads until the caught-up mark; gives what came and the mark.
async fn catch_up(stream: &mut Streaming<WatchRequestsResponse>) -> (Vec<u64>, Position) {
    let mut numbers = Vec::new();
    let reading = async {
        loop {
            match stream.next().await.expect("it goes on").expect("an item").item {
                Some(Item::Request(request)) => numbers.push(request.number),
                Some(Item::CaughtUp(mark)) => return mark.position.expect("a position"),
                _ => {}
            }
        }
    };
    let mark = timeout(SOON, reading).await.expect("it catches up");
    (numbers, mark)
}

/// Reads to the end; gives what came and how it ended.
async fn to_the_end(stream: &mut Streaming<WatchRequestsResponse>) -> (Vec<u64>, Refusal) {
    let mut numbers = Vec::new();
    let reading = async {
        loop {
            match stream.next().await.expect("it ends with a reason") {
                Ok(WatchRequestsResponse { item: Some(Item::Request(request)) }) => {
                    numbers.push(request.number);
                }
                Ok(_) => {}
                Err(refusal) => return refusal,
            }
        }
    };
    let refusal = timeout(SOON, reading).await.expect("it ends");
    (numbers, refusal)
}

/// How many watchers of requests there are, as machines are told.
async fn open(deployment: &Deployment) -> usize {
    let page = deployment.page("service-requests", "/metrics").await;
    let of = r#"{service="samen.requests.v1.RequestService",method="WatchRequests"} "#;
    let line =
        page.lines().find_map(|line| line.strip_prefix("samen_open_streams")?.strip_prefix(of));
    line.map_or(0, |count| count.parse().expect("a number"))
}

async fn a_reader_that_stalls_is_ended_and_costs_others_nothing(setup: Setup) {
    let variables = [("SAMEN_STREAM_STALL", "2")];
    let mut deployment = Deployment::start_with(setup, &variables).await;
    let resident = deployment.requests("r", &["resident"]).await;
    let connection = narrow(deployment.requests_url());
    let mut handler = deployment.requests_on(connection, "h", &["handler"]).await;
    let mut stalled = watch(&mut handler, None).await;
    catch_up(&mut stalled).await;
    let mut live = watch(&mut handler, None).await;
    catch_up(&mut live).await;
    assert_eq!(open(&deployment).await, 2);

    // One of two on the same connection reads.
    let reading = tokio::spawn(async move {
        let mut numbers = Vec::new();
        while numbers.len() < MANY {
            if let Some(Item::Request(request)) =
                live.next().await.expect("it goes on").expect("an item").item
            {
                numbers.push(request.number);
            }
        }
        (numbers, live)
    });
    let filed = file(&resident, MANY).await;
    let all: Vec<u64> = filed.iter().map(|(number, _)| *number).collect();
    let (numbers, mut live) = timeout(SOON, reading).await.expect("it gets all").expect("it reads");
    assert_eq!(numbers, all);

    eventually(SOON, "the stalled stream is dropped", async || {
        (open(&deployment).await == 1).then_some(())
    })
    .await;
    assert!(deployment.requests_process().output().contains("a reader stalled"));
    // The connection, and the other stream on it, go on.
    let later = file(&resident, 1).await;
    let next = async {
        loop {
            if let Some(Item::Request(request)) =
                live.next().await.expect("it goes on").expect("an item").item
            {
                return request.number;
            }
        }
    };
    assert_eq!(timeout(SOON, next).await.expect("it comes"), later[0].0);

    let (taken, refusal) = to_the_end(&mut stalled).await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    let (reason, metadata) = end(&refusal);
    assert_eq!(reason, "STALLED");
    assert!(taken.len() < MANY);
    assert_eq!(taken, all[..taken.len()]);
    let from = position(&metadata);
    // Nothing before it is missing, and little after it was sent already.
    assert!(from.position <= taken.last().copied().unwrap_or_default(), "{from:?}");
    let mut resumed = watch(&mut handler, Some(from.clone())).await;
    let (rest, _) = catch_up(&mut resumed).await;
    let expected: Vec<u64> = all.iter().copied().chain([later[0].0]).collect();
    let expected: Vec<u64> = expected.into_iter().filter(|n| *n > from.position).collect();
    assert_eq!(rest, expected);

    // An export is a stream like any other.
    let connection = narrow(deployment.requests_url());
    let mut mine = deployment.requests_privacy_on(connection, "r", &["resident"]).await;
    let before = deployment.requests_process().output().matches("a reader stalled").count();
    let ask = ExportPersonRequest { person: None };
    let mut export = mine.export_person(ask).await.expect("a stream").into_inner();
    let process = deployment.requests_process();
    eventually(SOON, "the stalled export is dropped", async || {
        (process.output().matches("a reader stalled").count() > before).then_some(())
    })
    .await;
    let refusal = export_to_the_end(&mut export).await;
    assert_eq!(end(&refusal).0, "STALLED");
}

/// Reads an export that is ended before its end.
async fn export_to_the_end(export: &mut Streaming<ExportPersonResponse>) -> Refusal {
    let reading = async {
        loop {
            match export.next().await.expect("it ends with a reason") {
                Ok(item) => assert!(!matches!(item.item, Some(Exported::End(_))), "it is complete"),
                Err(refusal) => return refusal,
            }
        }
    };
    timeout(SOON, reading).await.expect("it ends")
}

async fn a_partner_that_stalls_is_ended_likewise(setup: Setup) {
    let variables = [("SAMEN_STREAM_STALL", "2")];
    let mut deployment = Deployment::start_with(setup, &variables).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let endpoint = deployment.feed_endpoint(&partner, true).initial_stream_window_size(NARROW);
    let mut feed = FeedServiceClient::new(endpoint.connect_lazy());
    let ask = |after, epoch| SubscribeRequest { agreement_id: agreement.clone(), after, epoch };
    let mut stalled = feed.subscribe(ask(0, 0)).await.expect("a feed").into_inner();
    let resident = deployment.requests("r", &["resident"]).await;
    file(&resident, MANY).await;
    let process = deployment.regional_process();
    eventually(SOON, "the stalled stream is dropped", async || {
        process.output().contains("a reader stalled").then_some(())
    })
    .await;

    let mut taken = 0;
    let refusal = loop {
        match stalled.next().await.expect("it ends with a reason") {
            Ok(item) if event(&item) => {
                taken += 1;
                assert_eq!(item.position, taken);
            }
            Ok(_) => {}
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    let (reason, metadata) = end(&refusal);
    assert_eq!(reason, "STALLED");
    assert!(!metadata.contains_key("log"));
    assert!(taken < MANY as u64);
    assert_eq!(metadata["position"], taken.to_string());
    let epoch = metadata["epoch"].parse().expect("a number");
    let mut resumed = feed.subscribe(ask(taken, epoch)).await.expect("a feed").into_inner();
    let reading = async {
        while taken < MANY as u64 {
            let item = resumed.next().await.expect("it goes on").expect("an item");
            if event(&item) {
                taken += 1;
                assert_eq!(item.position, taken);
            }
        }
    };
    timeout(SOON, reading).await.expect("all of it comes");
}

fn event(item: &SubscribeResponse) -> bool {
    matches!(item.item, Some(Shared::Event(_)))
}

async fn a_connection_that_died_is_free_again(setup: Setup) {
    let variables = [("SAMEN_KEEPALIVE", "2")];
    let deployment = Deployment::start_with(setup, &variables).await;
    let address = deployment.requests_url().replace("http://", "");
    let proxy = Proxy::before(&format!("http://{address}")).await;
    let mut direct = deployment.requests("h", &["handler"]).await;
    let mut live = watch(&mut direct, None).await;
    catch_up(&mut live).await;
    assert_eq!(open(&deployment).await, 1);

    let through = Endpoint::from_shared(proxy.url().to_owned()).expect("a URL");
    let mut through = deployment.requests_on(through.connect_lazy(), "h", &["handler"]).await;
    let mut lost = Vec::new();
    for _ in 0..20 {
        let mut stream = watch(&mut through, None).await;
        catch_up(&mut stream).await;
        lost.push(stream);
    }
    assert_eq!(open(&deployment).await, 21);
    proxy.freeze();
    let frozen = Instant::now();
    eventually(SOON, "its streams are dropped", async || {
        (open(&deployment).await == 1).then_some(())
    })
    .await;
    // Two seconds of silence and one for the answer, and time for a busy
    // machine; nothing else would have ended them in less than a minute.
    assert!(frozen.elapsed() < Duration::from_secs(20), "{:?}", frozen.elapsed());
    let resident = deployment.requests("r", &["resident"]).await;
    let filed = file(&resident, 1).await;
    let reading = async {
        loop {
            if let Some(Item::Request(request)) =
                live.next().await.expect("it goes on").expect("an item").item
            {
                return request.number;
            }
        }
    };
    assert_eq!(timeout(SOON, reading).await.expect("it comes"), filed[0].0);
}

/// Numbers that differ from run to run; the seed is printed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = uuid::Uuid::new_v4().as_u128() as u64 | 1;
        println!("seed {seed}");
        Dice(seed)
    }

    /// A number below `sides` (xorshift).
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Files requests in bursts until it is told to stop; gives their numbers.
fn filing(
    resident: RequestServiceClient<Authorised>,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> tokio::task::JoinHandle<Vec<u64>> {
    tokio::spawn(async move {
        let mut numbers = Vec::new();
        while stop.try_recv().is_err() {
            numbers.extend(file(&resident, 20).await.into_iter().map(|(number, _)| number));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        numbers
    })
}

async fn whoever_resumes_at_any_end_gets_every_change(setup: Setup) {
    let variables = [("SAMEN_STREAM_AGE", "1"), ("SAMEN_STREAM_STALL", "1")];
    let deployment = Deployment::start_with(setup, &variables).await;
    let resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut filing = Some((filing(resident, stopped), stop));
    let mut dice = Dice::new();
    let mut ends = HashMap::new();
    // Of each stream, what it was resumed after and what it sent.
    let mut sent: Vec<(u64, Vec<u64>)> = Vec::new();
    let mut filed = Vec::new();
    let mut from = Position::default();
    let following = async {
        for round in 0.. {
            if round == 20 {
                let (filing, stop) = filing.take().expect("once");
                stop.send(()).expect("it listens");
                filed = filing.await.expect("all were filed");
            }
            if filed.last().is_some_and(|last| from.position >= *last) {
                return;
            }
            let (after, mut numbers) = (from.position, Vec::new());
            let mut stream = watch(&mut handler, Some(from.clone())).await;
            let drop_after = (dice.roll(2) == 0).then(|| dice.roll(300));
            loop {
                if drop_after.is_some_and(|after| numbers.len() as u64 > after) {
                    *ends.entry("dropped".to_owned()).or_insert(0) += 1;
                    break;
                }
                match stream.next().await.expect("it ends with a reason") {
                    Ok(WatchRequestsResponse { item }) => match item {
                        Some(Item::Request(request)) => numbers.push(request.number),
                        Some(Item::CaughtUp(mark)) => from = mark.position.expect("a position"),
                        Some(Item::Heartbeat(beat)) => from = beat.position.expect("a position"),
                        other => panic!("{other:?}"),
                    },
                    Err(refusal) => {
                        assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
                        let (reason, metadata) = end(&refusal);
                        assert_eq!(reason, "STREAM_AGE");
                        from = position(&metadata);
                        *ends.entry(reason).or_insert(0) += 1;
                        break;
                    }
                }
            }
            sent.push((after, numbers));
        }
    };
    timeout(SOON * 2, following).await.expect("it gets to the end");
    for (after, numbers) in &sent {
        let follow = filed.iter().skip_while(|number| *number <= after).take(numbers.len());
        assert!(follow.eq(numbers), "nothing left out, nothing twice after {after}: {numbers:?}");
    }
    let seen: BTreeSet<u64> = sent.into_iter().flat_map(|(_, numbers)| numbers).collect();
    assert!(seen.iter().eq(&filed), "{seen:?}");
    assert!(ends.len() == 2, "{ends:?}");
}

async fn a_partner_who_resumes_at_any_end_gets_the_feed_exactly(setup: Setup) {
    let deployment = Deployment::start_with(setup, &[("SAMEN_STREAM_AGE", "1")]).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let resident = deployment.requests("r", &["resident"]).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut filing = Some((filing(resident, stopped), stop));
    let mut dice = Dice::new();
    let mut feed = deployment.feed(&partner, true);
    let (mut after, mut epoch) = (0, 0);
    let mut total = None;
    let mut aged = 0;
    let following = async {
        for round in 0.. {
            if round == 15 {
                let (filing, stop) = filing.take().expect("once");
                stop.send(()).expect("it listens");
                total = Some(filing.await.expect("all were filed").len() as u64);
            }
            if total == Some(after) {
                return;
            }
            let ask = SubscribeRequest { agreement_id: agreement.clone(), after, epoch };
            let mut stream = feed.subscribe(ask).await.expect("a feed").into_inner();
            let drop_after = (dice.roll(2) == 0).then(|| dice.roll(200));
            let mut read = 0;
            while drop_after.is_none_or(|after| read <= after) && total != Some(after) {
                match stream.next().await.expect("it ends with a reason") {
                    Ok(item) if event(&item) => {
                        read += 1;
                        assert_eq!(item.position, after + 1);
                        (after, epoch) = (item.position, item.epoch);
                    }
                    Ok(_) => {}
                    Err(refusal) => {
                        let (reason, metadata) = end(&refusal);
                        assert_eq!((refusal.code(), &*reason), (Code::Unavailable, "STREAM_AGE"));
                        assert_eq!(metadata["position"], after.to_string());
                        aged += 1;
                        break;
                    }
                }
            }
        }
    };
    timeout(SOON * 2, following).await.expect("it gets to the end");
    assert!(aged > 0);
}

async fn every_stream_is_told_of_a_shutdown_and_the_process_is_gone(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let resident = deployment.requests("r", &["resident"]).await;

    // Fifty that do not read.
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let connection = narrow(deployment.requests_url());
        let mut handler = deployment.requests_on(connection, "h", &["handler"]).await;
        for _ in 0..10 {
            stalled.push(watch(&mut handler, None).await);
        }
    }
    // Two hundred that do, on the web and on the dashboard too, and a partner.
    let mut reading = Vec::new();
    for _ in 0..5 {
        let mut handler = deployment.requests("h", &["handler"]).await;
        for _ in 0..40 {
            let mut stream = watch(&mut handler, None).await;
            catch_up(&mut stream).await;
            reading.push(tokio::spawn(async move { to_the_end(&mut stream).await.1 }));
        }
    }
    let token = deployment.token("h", &["handler"]).await;
    let method = "samen.requests.v1.RequestService/WatchRequests";
    let url = format!("{}/{method}", deployment.requests_url());
    let bearer = token.clone();
    let web = tokio::spawn(async move { grpc_web(&url, Some(&bearer), &[]).await });
    let events = tokio::spawn(events(deployment.dashboard_url(), token));
    let ask = SubscribeRequest { agreement_id: agreement, after: 0, epoch: 0 };
    let mut feed = deployment.feed(&partner, true).subscribe(ask).await.expect("a feed");
    // And some that are not even heard of again.
    let proxy = Proxy::before(&deployment.requests_url()).await;
    let through = Endpoint::from_shared(proxy.url().to_owned()).expect("a URL");
    let mut lost = deployment.requests_on(through.connect_lazy(), "h", &["handler"]).await;
    let mut lost = watch(&mut lost, None).await;
    catch_up(&mut lost).await;
    proxy.freeze();
    let ports = [deployment.requests_url(), deployment.dashboard_url()];
    let ports = ports.map(|url| url.replace("http://", ""));
    let ports = ports.into_iter().chain([deployment.partners_address()]);
    let silent = join_all(ports.map(TcpStream::connect)).await;
    let filed = file(&resident, MANY / 3).await;
    let last = filed.last().expect("some").0;
    // And somebody who takes what is held about them, slowly.
    let connection = narrow(deployment.requests_url());
    let mut mine = deployment.requests_privacy_on(connection, "r", &["resident"]).await;
    let ask = ExportPersonRequest { person: None };
    let mut export = mine.export_person(ask).await.expect("a stream").into_inner();
    let partners = async {
        loop {
            match feed.get_mut().next().await.expect("it ends with a reason") {
                Ok(_) => {}
                Err(refusal) => return refusal,
            }
        }
    };

    let asked = Instant::now();
    deployment.processes.iter_mut().for_each(|process| process.signal(Signal::TERM));
    let stops = |line: &str| line.contains("stopping");
    eventually(SOON, "it stops", async || {
        deployment.requests_process().output().lines().any(stops).then_some(())
    })
    .await;
    let export = export_to_the_end(&mut export);
    let (told, partners, web, events, export) =
        timeout(SOON, async { tokio::join!(join_all(reading), partners, web, events, export) })
            .await
            .expect("they are told");
    assert_eq!((export.code(), &*end(&export).0), (Code::Unavailable, "SHUTTING_DOWN"));
    for process in &mut deployment.processes {
        assert!(process.ended(SOON).await.success(), "{}", process.output());
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop((silent, stalled, lost));
    for refusal in told {
        let refusal = refusal.expect("it was read");
        assert_eq!(refusal.code(), Code::Unavailable);
        let (reason, metadata) = end(&refusal);
        assert_eq!(reason, "SHUTTING_DOWN");
        // That somebody exported is recorded too, and that reporters were told.
        assert!(position(&metadata).position <= last + filed.len() as u64 + 1);
    }
    let (reason, metadata) = end(&partners);
    assert_eq!((partners.code(), &*reason), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(metadata.contains_key("position") && metadata.contains_key("epoch"));
    assert_eq!(web.expect("an answer").grpc_status, Some(Code::Unavailable as i32));
    let events = events.expect("it was read");
    assert!(events.contains("event: caught-up"), "{events}");
}

async fn a_page_does_not_notice_that_streams_end(setup: Setup) {
    let variables = [
        ("RUST_LOG", "info,samen_server::streams=debug"),
        ("SAMEN_LOG_FORMAT", "text"),
        ("SAMEN_STREAM_AGE", "1"),
    ];
    let mut deployment = Deployment::start_with(setup, &variables).await;
    let token = deployment.token("h", &["handler"]).await;
    let mut page = look(deployment.dashboard_url(), token).await;
    let mut seen = String::new();
    let mut until = async |wanted: &str| {
        let mut buffer = [0; 4096];
        while !seen.contains(wanted) {
            let read = timeout(SOON, page.read(&mut buffer)).await.expect("it comes");
            let read = read.expect("it is read");
            assert!(read > 0, "it ended without {wanted}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    until("event: caught-up").await;
    let resident = deployment.requests("r", &["resident"]).await;
    for n in 1..=3 {
        let ended = |process: &Process| process.output().matches("a stream ended").count();
        let process = deployment.requests_process();
        let before = ended(process);
        eventually(SOON, "a stream has ended", async || (ended(process) > before).then_some(()))
            .await;
        file(&resident, 1).await;
        until(&format!("\"open\":{n},")).await;
    }
}

/// Reads the dashboard's events to their end.
async fn events(dashboard: String, token: String) -> String {
    let mut answer = String::new();
    let mut stream = look(dashboard, token).await;
    stream.read_to_string(&mut answer).await.expect("it ends");
    answer
}

/// Asks for the dashboard's events.
async fn look(dashboard: String, token: String) -> TcpStream {
    let address = dashboard.replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.expect("it listens");
    let ask = format!(
        "GET /events HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         cookie: samen-session={token}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).await.expect("sent");
    stream
}

async fn watchers_and_lists_agree_on_what_matches(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut people = Vec::new();
    for name in ["zoe", "other"] {
        people.push(deployment.requests(name, &["resident"]).await);
    }
    let first = file(&people[0], 1).await[0].1.clone();
    let get = GetRequestRequest { id: first.clone(), at_least: None };
    let moment = eventually(SOON, "it is visible", async || {
        handler.get_request(get.clone()).await.ok()?.into_inner().request
    })
    .await
    .create_time;
    let category = |name: &str| vec![format!("proef/{name}")];
    let filters = [
        RequestFilter::default(),
        RequestFilter { categories: category("a"), ..Default::default() },
        RequestFilter { statuses: vec![Status::InProgress.into()], ..Default::default() },
        RequestFilter { neighbourhoods: vec!["BU03840101".into()], ..Default::default() },
        RequestFilter { neighbourhoods: vec!["BU03840102".into()], ..Default::default() },
        RequestFilter { created_from: moment, ..Default::default() },
        RequestFilter { created_before: moment, ..Default::default() },
        RequestFilter {
            categories: [category("a"), category("b")].concat(),
            statuses: vec![Status::Received.into()],
            created_from: moment,
            ..Default::default()
        },
    ];
    let mut watchers = Vec::new();
    for filter in &filters {
        for client in people.iter().chain([&handler]) {
            let mut client = client.clone();
            let ask = WatchRequestsRequest { filter: Some(filter.clone()), resume_after: None };
            let stream = client.watch_requests(ask).await.expect("a stream").into_inner();
            watchers.push((filter, client, stream));
        }
    }
    let mut last = 0;
    for n in 0..30 {
        let mut person = people[n % 2].clone();
        let category = category(["a", "b", "c"][n % 3]).remove(0);
        let filed = person.file_request(FileRequestRequest { category, ..report("x") }).await;
        let filed = filed.expect("filed").into_inner();
        last = filed.number;
        if n % 4 == 0 {
            let change = ChangeStatusRequest {
                request_id: new_id(),
                id: filed.id,
                expected_version: 1,
                status: Status::InProgress.into(),
                explanation: String::new(),
                ..ChangeStatusRequest::default()
            };
            let changed = handler.change_status(change).await.expect("changed").into_inner();
            last = changed.position.expect("a position").position;
        }
    }
    for (filter, mut client, mut stream) in watchers {
        let mut there = std::collections::BTreeSet::new();
        let reading = async {
            loop {
                match stream.next().await.expect("it goes on").expect("an item").item {
                    Some(Item::Request(request)) => drop(there.insert(request.id)),
                    Some(Item::LeftId(id)) => drop(there.remove(&id)),
                    Some(Item::Heartbeat(beat))
                        if beat.position.as_ref().is_some_and(|at| at.position >= last) =>
                    {
                        return;
                    }
                    _ => {}
                }
            }
        };
        timeout(SOON, reading).await.expect("it sees all");
        let listed = super::shared::all(&mut client, filter.clone()).await;
        assert_eq!(there, listed.into_iter().map(|request| request.id).collect(), "{filter:?}");
    }
}
