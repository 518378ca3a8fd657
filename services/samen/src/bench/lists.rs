//! How long a page of a list takes, by each filter, and figures, while there
//! are more and more requests.

use std::time::Duration;

use anyhow::Context;
use prost_types::Timestamp;
use samen_proto::log::Position;
use samen_proto::options::Role;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::statistics_service_client::StatisticsServiceClient;
use samen_proto::requests::*;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel as Connection;
use tonic::{Code, Request};

use super::place::Place;
use super::service::Service;
use super::table::align;

mod fill;

/// Calls of each kind at each size; fewer where they take long.
const CALLS: usize = 21;
const LONG: Duration = Duration::from_secs(5);

/// What was measured: a line for each question, with what its middle call took
/// at each size.
pub struct Grown {
    sizes: Vec<u64>,
    lines: Vec<(String, Vec<Duration>)>,
}

/// What is asked.
enum Question {
    List(RequestFilter),
    Figures(RequestFilter, GroupBy),
}

/// A client with its token.
struct Asking {
    requests: RequestServiceClient<Connection>,
    statistics: StatisticsServiceClient<Connection>,
    authorization: MetadataValue<Ascii>,
}

/// Measures at a hundredth, a tenth and all of so many requests.
pub async fn measure(place: &Place, most: u64) -> anyhow::Result<Grown> {
    let service = Service::start(place).await?;
    let connection = service.channel()?;
    let mut asking = Asking {
        requests: RequestServiceClient::new(connection.clone()),
        statistics: StatisticsServiceClient::new(connection),
        authorization: service.authorization("bench", Role::Handler)?,
    };
    let questions = questions();
    let sizes = vec![most / 100, most / 10, most];
    let mut lines: Vec<_> = questions.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
    let mut there = 0;
    for size in &sizes {
        let began = Instant::now();
        let last = fill::fill(service.log(), service.master(), there..*size).await?;
        let written = began.elapsed();
        asking.see(last).await?;
        let (written, seen) = (written.as_secs(), began.elapsed().as_secs());
        eprintln!(
            "{}: {size} requests, written in {written} s, seen in {seen} s",
            place.database()
        );
        there = *size;
        for ((name, question), (_, took)) in questions.iter().zip(&mut lines) {
            took.push(asking.middle(question).await.with_context(|| name.clone())?);
        }
    }
    service.end().await?;
    Ok(Grown { sizes, lines })
}

// === impl Asking ===

impl Asking {
    /// Waits until this can be seen.
    async fn see(&mut self, at_least: Position) -> anyhow::Result<()> {
        loop {
            let at_least = Some(at_least.clone());
            let list = ListRequestsRequest { page_size: 1, at_least, ..Default::default() };
            match self.requests.list_requests(self.with_token(list)).await {
                Err(refusal) if refusal.code() == Code::DeadlineExceeded => {}
                answer => return Ok(answer.map(drop)?),
            }
        }
    }

    /// What the middle one of some calls takes.
    async fn middle(&mut self, question: &Question) -> anyhow::Result<Duration> {
        let mut took = Vec::new();
        let all = Instant::now();
        while took.len() < CALLS && (took.is_empty() || all.elapsed() < LONG) {
            let began = Instant::now();
            self.ask(question).await?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }

    async fn ask(&mut self, question: &Question) -> Result<(), tonic::Status> {
        match question {
            Question::List(filter) => {
                let filter = Some(filter.clone());
                let list = ListRequestsRequest { filter, ..Default::default() };
                self.requests.list_requests(self.with_token(list)).await.map(drop)
            }
            Question::Figures(filter, by) => {
                let (filter, group_by) = (Some(filter.clone()), (*by).into());
                let get = GetStatisticsRequest { filter, group_by, at_least: None };
                self.statistics.get_statistics(self.with_token(get)).await.map(drop)
            }
        }
    }

    fn with_token<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }
}

// === impl Grown ===

impl Grown {
    pub fn render(&self, conditions: &str) -> String {
        let millis = |took: &Duration| format!("{:.1}", took.as_secs_f64() * 1e3);
        let mut rows = vec![[
            "a page of 100, ms".to_owned(),
            self.sizes[0].to_string(),
            self.sizes[1].to_string(),
            self.sizes[2].to_string(),
            "x".to_owned(),
        ]];
        rows.extend(self.lines.iter().map(|(name, took)| {
            let growth = took[2].as_secs_f64() / took[0].as_secs_f64();
            let [few, more, most] = [0, 1, 2].map(|size| millis(&took[size]));
            [name.clone(), few, more, most, format!("{growth:.1}")]
        }));
        format!("{conditions}\n\n{}", align(&rows))
    }
}

/// Every property that lists can be narrowed by, alone, and some together.
fn questions() -> Vec<(String, Question)> {
    let none = RequestFilter::default;
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let days = |days: i64| Some(Timestamp { seconds: fill::BEGIN + days * 86_400, nanos: 0 });
    let region = |size: f64| {
        let corner = |by: f64| Location { latitude: 52.33 + by, longitude: 4.95 + by };
        let [south_west, north_east] = [corner(0.0), corner(size)].map(Some);
        Some(BoundingBox { south_west, north_east })
    };
    let open = [Status::Received, Status::InProgress, Status::Waiting, Status::Planned];
    let text = |text: &str| RequestFilter { text: text.to_owned(), ..none() };
    let lists = [
        ("all", none()),
        ("one status", RequestFilter { statuses: vec![Status::Resolved.into()], ..none() }),
        ("open", RequestFilter { statuses: open.map(i32::from).to_vec(), ..none() }),
        ("a category", RequestFilter { categories: texts(&["groen/7"]), ..none() }),
        ("two categories", RequestFilter { categories: texts(&["groen/7", "afval/8"]), ..none() }),
        ("a neighbourhood", RequestFilter { neighbourhoods: texts(&["BU03840103"]), ..none() }),
        (
            "created in a month",
            RequestFilter { created_from: days(1_000), created_before: days(1_030), ..none() },
        ),
        ("changed since then", RequestFilter { updated_from: days(0), ..none() }),
        (
            "closed in a week",
            RequestFilter { closed_from: days(1_000), closed_before: days(1_007), ..none() },
        ),
        (
            "due in a week",
            RequestFilter { due_from: days(4_100), due_before: days(4_107), ..none() },
        ),
        ("two channels", RequestFilter { channels: vec![3, 4], ..none() }),
        ("urgent", RequestFilter { urgencies: vec![Urgency::High.into()], ..none() }),
        (
            "norm breached",
            RequestFilter { norm_states: vec![NormState::Breached.into()], ..none() },
        ),
        ("a team", RequestFilter { teams: texts(&["team-3"]), ..none() }),
        ("a handler", RequestFilter { assignees: texts(&["handler-17"]), ..none() }),
        ("a box of 100 m", RequestFilter { r#box: region(0.001), ..none() }),
        ("a box of 1 km", RequestFilter { r#box: region(0.01), ..none() }),
        ("a box around all", RequestFilter { r#box: region(1.0), ..none() }),
        ("a common word", text("lamp")),
        ("a rare word", text("zeldzaam")),
        ("two common words", text("lampen tegels")),
        ("a common and a rare word", text("lamp zeldzaam")),
        ("a source", RequestFilter { sources: texts(&["oud"]), ..none() }),
        ("rated 1", RequestFilter { satisfactions: vec![1], ..none() }),
        ("a number", RequestFilter { numbers: vec![500], ..none() }),
        ("with a photo", RequestFilter { with_photo: true, ..none() }),
        ("parts of one", RequestFilter { parent_id: fill::PARENT.to_owned(), ..none() }),
        (
            "open, of a team, in a category",
            RequestFilter {
                statuses: open.map(i32::from).to_vec(),
                teams: texts(&["team-3"]),
                categories: texts(&["groen/7"]),
                ..none()
            },
        ),
    ];
    let lists = lists.map(|(name, filter)| (name.to_owned(), Question::List(filter)));
    let one = RequestFilter { neighbourhoods: texts(&["BU03840103"]), ..none() };
    let figures = [
        ("figures of all", none(), GroupBy::Unspecified),
        ("figures by category", none(), GroupBy::Category),
        ("figures by week", none(), GroupBy::Week),
        ("figures of a neighbourhood, by week", one, GroupBy::Week),
    ];
    let figures =
        figures.map(|(name, filter, by)| (name.to_owned(), Question::Figures(filter, by)));
    lists.into_iter().chain(figures).collect()
}
