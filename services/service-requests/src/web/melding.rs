//! The reporter's page, for whoever has its secret:
//!
//! | | |
//! | --- | --- |
//! | `GET /melding/{secret}` | how it stands, and what was said |
//! | `POST /melding/{secret}/bericht` | a message to the municipality |
//! | `POST /melding/{secret}/waardering` | how satisfied they are |
//!
//! A wrong secret is a page that there is not, whatever is wrong with it. Each
//! form brings the id of its command with it: sent twice, it is done once.

use std::collections::HashSet;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Path, RawQuery, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use jiff::Timestamp;
use prost::Message;
use samen_log::record::Position;
use samen_log::{Aggregate, Command, CommandError};
use samen_proto::notices::{Notice, NoticeKind};
use samen_proto::requests::*;
use samen_server::calls::wait;
use samen_server::notices::{service, table};
use samen_server::reply::{self, Check};
use serde::Deserialize;
use tonic::{Code, Status as Refusal};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::html;
use super::text::Language;
use crate::Requests;
use crate::api::check;
use crate::domain::request::{Rejection, Request as Aggregated};
use crate::projection::history;
use crate::projection::queries::{self, Visible};

/// The longest body that a form may send: two texts of 5,000 characters, each
/// of four bytes, each written as three.
const MAX_FORM: usize = 128 << 10;
/// How long a page waits for what was written a moment ago, perhaps through
/// another process.
const WAIT: Duration = Duration::from_secs(5);

pub fn router(service: Requests) -> Router {
    Router::new()
        .route("/melding/{secret}", get(show))
        .route("/melding/{secret}/bericht", post(write))
        .route("/melding/{secret}/waardering", post(rate))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .with_state(service)
}

/// What the page shows of a request.
pub struct View {
    pub secret: String,
    pub request: ServiceRequest,
    /// Its category, in the language of the page.
    pub category: String,
    pub conversation: Vec<ConversationEntry>,
    /// What its reporter was told, newest first. Texts that stand in the
    /// conversation are left out.
    pub notices: Vec<Notice>,
    pub may_write: bool,
    /// Until when they can say how satisfied they are, while they are asked.
    pub rate_before: Option<Timestamp>,
    /// Whether they may then have it opened again.
    pub may_reopen: bool,
}

/// What somebody filled in, to be shown again with what was wrong.
#[derive(Default)]
pub struct Filled {
    pub message: String,
    pub words: String,
    pub problem: Option<Problem>,
}

/// Why a form was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    Message,
    Rating,
    /// The domain says no: it is too late, or was done before.
    TooLate,
    /// The same form came before with something else in it.
    SentBefore,
    Unavailable,
}

#[derive(Deserialize)]
struct Written {
    command: String,
    message: String,
}

#[derive(Deserialize)]
struct Rated {
    command: String,
    #[serde(default)]
    satisfaction: String,
    #[serde(default)]
    words: String,
    /// Present when it is ticked.
    reopen: Option<String>,
}

/// Whose page it is.
struct Holder {
    secret: String,
    /// The request's id.
    id: String,
    /// Under whose name they act: the reporter's own, so that what they say is
    /// exported and forgotten with them; for a reporter who is not known,
    /// `secret/<id>`.
    actor: String,
}

/// What a handler of a form is given.
type Sent<T> = Result<Form<T>, FormRejection>;

async fn show(
    State(service): State<Requests>,
    Path(secret): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let language = Language::of(query.as_deref());
    match holder(&service, &secret).await {
        Ok(holder) => page(&service, &holder, language, Filled::default()).await,
        Err(status) => html::notice(language, status),
    }
}

async fn write(
    State(service): State<Requests>,
    Path(secret): Path<String>,
    RawQuery(query): RawQuery,
    form: Sent<Written>,
) -> Response {
    let language = Language::of(query.as_deref());
    let holder = match holder(&service, &secret).await {
        Ok(holder) => holder,
        Err(status) => return html::notice(language, status),
    };
    let Ok(Form(Written { command, message })) = form else {
        let filled = Filled { problem: Some(Problem::Message), ..Filled::default() };
        return page(&service, &holder, language, filled).await;
    };
    let message = lines(&message);
    match send(&service, &holder, &command, &message).await {
        Ok(position) => done(&service, &holder, language, position).await,
        Err(problem) => {
            let filled = Filled { message, problem: Some(problem), ..Filled::default() };
            page(&service, &holder, language, filled).await
        }
    }
}

async fn rate(
    State(service): State<Requests>,
    Path(secret): Path<String>,
    RawQuery(query): RawQuery,
    form: Sent<Rated>,
) -> Response {
    let language = Language::of(query.as_deref());
    let holder = match holder(&service, &secret).await {
        Ok(holder) => holder,
        Err(status) => return html::notice(language, status),
    };
    let Ok(Form(mut rated)) = form else {
        let filled = Filled { problem: Some(Problem::Rating), ..Filled::default() };
        return page(&service, &holder, language, filled).await;
    };
    rated.words = lines(&rated.words);
    match say(&service, &holder, &rated).await {
        Ok(position) => done(&service, &holder, language, position).await,
        Err(problem) => {
            let (words, problem) = (rated.words, Some(problem));
            page(&service, &holder, language, Filled { words, problem, ..Filled::default() }).await
        }
    }
}

/// A message to the municipality.
async fn send(
    service: &Requests,
    holder: &Holder,
    command: &str,
    message: &str,
) -> Result<Position, Problem> {
    let mut check = Check::default();
    check.request_id(command);
    check.text("message", message, 1..=5_000);
    check.finish().map_err(|_| Problem::Message)?;
    let (id, message) = (holder.id.clone(), message.to_owned());
    let asked = WriteMessageRequest { id, message, ..Default::default() };
    let command = holder.command("WriteMessage", command, &asked);
    let written = service.write(command, &holder.id, &asked.message).await;
    written
        .map(|outcome| outcome.position)
        .map_err(|refusal| Problem::of(&refusal, Problem::Message))
}

/// How satisfied they are.
async fn say(service: &Requests, holder: &Holder, rated: &Rated) -> Result<Position, Problem> {
    let satisfaction = rated.satisfaction.parse().map_err(|_| Problem::Rating)?;
    let mut check = Check::default();
    check.request_id(&rated.command);
    check::rating(&mut check, satisfaction, &rated.words);
    check.finish().map_err(|_| Problem::Rating)?;
    let asked = RateRequestRequest {
        id: holder.id.clone(),
        satisfaction,
        words: rated.words.clone(),
        reopen: rated.reopen.is_some(),
        ..Default::default()
    };
    let command = holder.command("RateRequest", &rated.command, &asked);
    let done = service.rate(command, &holder.id, satisfaction, &asked.words, asked.reopen).await;
    done.map(|outcome| outcome.position).map_err(|refusal| Problem::of(&refusal, Problem::Rating))
}

/// Whose page it is; NOT_FOUND for a secret that is nobody's, and for what has
/// no reporter.
async fn holder(service: &Requests, secret: &str) -> Result<Holder, StatusCode> {
    let id = service.secrets.open(secret).ok_or(StatusCode::NOT_FOUND)?;
    service.check_built().map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let reporter = service.reporter(&id).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let actor = match reporter.ok_or(StatusCode::NOT_FOUND)? {
        nobody if nobody.is_empty() => format!("secret/{id}"),
        person => person,
    };
    Ok(Holder { secret: secret.to_owned(), id, actor })
}

/// The page as it is now, with what was filled in, and what was wrong with it.
async fn page(service: &Requests, holder: &Holder, language: Language, filled: Filled) -> Response {
    // The newest that there is, whichever process wrote it; or what is known.
    if let Ok(Some(newest)) = service.log.newest().await {
        let _: Result<_, _> = tokio::time::timeout(WAIT, service.see(&newest)).await;
    }
    match view(service, holder, language).await {
        Ok(view) => html::melding(language, &view, &filled),
        // The operator was told why.
        Err(_) => html::notice(language, StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn view(service: &Requests, holder: &Holder, language: Language) -> Result<View, Refusal> {
    let schema = service.store.schema();
    let id = &holder.id;
    let row = queries::get(&schema, &Visible::All, id).await.map_err(reply::storage)?;
    let request = row.ok_or_else(|| reply::not_found("request", id))?.body;
    let state = service.requests.get(id).await;
    let (state, _) = state.map_err(|error: CommandError<Rejection>| reply::command(error))?;
    let register = service.registered.now();
    let category = register.categories.get(&request.category);
    let name = category.and_then(|view| view.category.as_ref()?.name.as_ref());
    let category = name.map_or(&request.category, |name| language.of_two(&name.nl, &name.en));
    let now = Timestamp::now();
    Ok(View {
        secret: holder.secret.clone(),
        category: category.clone(),
        conversation: service.conversation(id).await?,
        notices: notices(service, id).await?,
        may_write: state.status != Status::Closed,
        rate_before: state.rate_before.filter(|before| now < *before),
        may_reopen: !state.reopened_by_reporter,
        request,
    })
}

/// What the reporter was told: of staff's own notices, nothing.
async fn notices(service: &Requests, id: &str) -> Result<Vec<Notice>, Refusal> {
    let schema = service.store.schema();
    let about = format!("{}/{id}", Aggregated::KIND);
    let mut rows = table::about(&schema, &about).await.map_err(reply::storage)?;
    rows.retain(|row| row.kind != NoticeKind::Escalation);
    rows.reverse();
    let own = history::of(&schema, id).await.map_err(reply::storage)?;
    let own: HashSet<u64> = own.iter().map(|row| row.body.position).collect();
    let mut notices = service::open(service, &schema, &rows).await?;
    for (row, notice) in rows.iter().zip(&mut notices) {
        if own.contains(&row.told_of) {
            notice.text.clear();
        }
    }
    Ok(notices)
}

/// Back to the page, which shows what was done: to load it again does nothing.
async fn done(
    service: &Requests,
    holder: &Holder,
    language: Language,
    position: Position,
) -> Response {
    // Where it is not seen in time, the page waits too.
    let _: Result<_, _> = wait(service, Some(&position)).await;
    let to = format!("/melding/{}?lang={}", holder.secret, language.code());
    Redirect::to(&to).into_response()
}

/// Browsers send two characters for each end of a line.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

impl Holder {
    fn command(&self, method: &'static str, id: &str, asked: &impl Message) -> Command {
        Command {
            actor: self.actor.clone(),
            method,
            request_id: Uuid::parse_str(id).map_or_else(|_| id.to_owned(), |id| id.to_string()),
            content: asked.encode_to_vec(),
            keys: Vec::new(),
        }
    }
}

impl Problem {
    /// What a refusal is to who filled in a form; `field` for what is wrong
    /// with the form.
    fn of(refusal: &Refusal, field: Problem) -> Self {
        let details = refusal.get_error_details();
        match refusal.code() {
            Code::InvalidArgument => {
                let reason = details.error_info().map(|info| info.reason.as_str());
                if reason == Some("REQUEST_ID_REUSED") { Problem::SentBefore } else { field }
            }
            Code::FailedPrecondition | Code::Aborted => Problem::TooLate,
            _ => Problem::Unavailable,
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Problem::Message | Problem::Rating => StatusCode::BAD_REQUEST,
            Problem::TooLate | Problem::SentBefore => StatusCode::CONFLICT,
            Problem::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
