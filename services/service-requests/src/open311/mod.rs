//! Open311 GeoReport v2 over HTTP: a door for apps and sites of others, in
//! front of the same commands and queries.
//!
//! | | |
//! | --- | --- |
//! | `GET discovery` | where this door is, and who answers for it |
//! | `GET services` | what can be reported |
//! | `GET services/{service_code}` | what is asked besides |
//! | `POST requests` | a report; with an API key |
//! | `GET requests` | what was reported, by filter |
//! | `GET requests/{service_request_id}` | one report, or some |
//! | `GET tokens/{token}` | the number of a report |
//!
//! Each under `/open311/v2/`, with `.xml` or `.json` behind it.
//!
//! What comes out is what everybody may see: that something was reported in a
//! public category, where and when, and how it stands. What people wrote, and
//! who they are, never does; so a description, an address and a photo stay
//! empty. A category that is not public is one that there is not.
//!
//! - [`settings`]: what an operator says of this door;
//! - [`keys`]: who may report through it, and how much;
//! - [`parameters`]: what was asked;
//! - [`document`]: what is answered, in both formats;
//! - [`refused`]: why not;
//! - [`services`], [`requests`], [`post`]: what it does.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::any;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::document::{Document, Format, Value};
use self::keys::Keys;
use self::parameters::Parameters;
use self::refused::Refused;
use crate::Requests;

mod document;
mod keys;
mod parameters;
mod post;
mod refused;
mod requests;
mod services;
mod settings;

pub use settings::{Settings, SettingsError};

/// Where it is.
const PATH: &str = "/open311/v2";

/// What the door knows besides the service.
pub struct Open311 {
    settings: Settings,
    keys: Keys,
    /// Since when it has been as it is.
    since: Timestamp,
    /// Bodies with photos that are in memory at the same time, of clients that
    /// are known and of others.
    bodies: Semaphore,
    strangers: Semaphore,
}

/// What an address means.
enum Resource<'a> {
    Discovery,
    Services,
    Service(&'a str),
    Requests,
    Request(&'a str),
    Token(&'a str),
}

/// What a handler answers.
type Answered = Result<Document, Refused>;

pub fn router(service: Requests) -> Router {
    Router::new()
        .route(&format!("{PATH}/{{*resource}}"), any(serve))
        .with_state(service)
        .layer(DefaultBodyLimit::max(post::MAX_BODY))
        .layer(map_response(open))
}

/// Pages of any origin may read it: it is for everybody.
async fn open(mut response: Response) -> Response {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn serve(State(service): State<Requests>, request: Request) -> Response {
    let uri = request.uri().clone();
    let path = uri.path().strip_prefix(PATH).unwrap_or_default();
    let (format, path) = Format::of(path.trim_start_matches('/'));
    // Whoever asks for no format, or another one, is answered in the one that
    // every client has.
    let answered = match format {
        Some(_) => answer(&service, path, request).await,
        None => Err(Refused::not_found("an address ends in .xml or .json")),
    };
    let format = format.unwrap_or(Format::Xml);
    match answered {
        Ok(document) => document.respond(format, StatusCode::OK),
        Err(refused) => refused.respond(format),
    }
}

async fn answer(service: &Requests, path: &str, request: Request) -> Answered {
    let path = parameters::decode(path);
    let resource = Resource::of(&path)
        .ok_or_else(|| Refused::not_found(&format!("there is no {path} here")))?;
    let query = Parameters::parse(request.uri().query().unwrap_or_default().as_bytes());
    match (request.method(), resource) {
        (&Method::POST, Resource::Requests) => post::requests(service, query, request).await,
        (&Method::GET | &Method::HEAD, resource) => {
            query.jurisdiction(service)?;
            if !matches!(resource, Resource::Discovery) {
                service.registered.known().await?;
            }
            match resource {
                Resource::Discovery => Ok(service.open311.discovery(request.headers())),
                Resource::Services => services::list(service).await,
                Resource::Service(code) => services::definition(service, code).await,
                Resource::Requests => requests::list(service, &query).await,
                Resource::Request(ids) => requests::get(service, ids, &query).await,
                Resource::Token(token) => requests::token(service, token).await,
            }
        }
        _ => Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "this is not done here")),
    }
}

impl<'a> Resource<'a> {
    fn of(path: &'a str) -> Option<Self> {
        match path.split_once('/') {
            None if path == "discovery" => Some(Resource::Discovery),
            None if path == "services" => Some(Resource::Services),
            None if path == "requests" => Some(Resource::Requests),
            Some(("services", code)) => Some(Resource::Service(code)),
            Some(("requests", ids)) => Some(Resource::Request(ids)),
            Some(("tokens", token)) => Some(Resource::Token(token)),
            _ => None,
        }
    }
}

impl Open311 {
    pub fn new(settings: Settings) -> Self {
        Open311 {
            keys: Keys::new(&settings.keys),
            settings,
            since: Timestamp::now(),
            bodies: Semaphore::new(post::BODIES),
            strangers: Semaphore::new(post::STRANGERS),
        }
    }

    /// Where it is and what it speaks.
    fn discovery(&self, headers: &HeaderMap) -> Document {
        let Settings { url, contact, key_service, kind, .. } = &self.settings;
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let here = || format!("http://{}{PATH}", host.unwrap_or("localhost"));
        let changeset = self.since.strftime("%Y-%m-%d %H:%M").to_string();
        let formats = [Format::Xml, Format::Json].map(|f| f.media_type().into()).into();
        let endpoint = Value::Object(vec![
            ("specification", "http://wiki.open311.org/GeoReport_v2".into()),
            ("url", url.clone().unwrap_or_else(here).into()),
            ("changeset", changeset.as_str().into()),
            ("type", kind.as_str().into()),
            ("formats", Value::List("format", formats)),
        ]);
        let of = Value::Object(vec![
            ("changeset", changeset.as_str().into()),
            ("contact", contact.as_str().into()),
            ("key_service", key_service.as_str().into()),
            ("endpoints", Value::List("endpoint", vec![endpoint])),
        ]);
        Document { root: "discovery", value: of }
    }
}
