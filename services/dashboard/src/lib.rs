//! The web page for staff: service requests (meldingen) by neighbourhood,
//! live.
//!
//! It is an ordinary client of `samen.requests.v1.RequestService` and has no
//! rights of its own. Visitors log in with their own token; every call to the
//! service is made with it, so the service decides who sees what.
//!
//! - [`Dashboard`] and [`router`]: what it needs, and its doors;
//! - `doors`: the page, login and logout;
//! - `page`: the two pages, counts and login form, as HTML;
//! - `session`: the visitor's token, in a cookie;
//! - `events`: the counts as Server-Sent Events;
//! - `text`: the words, in Dutch and English;
//! - `assets/`: the style sheet and the script. The page works with these two
//!   files and nothing from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{self, HeaderName, HeaderValue};
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::{WatchStatisticsRequest, WatchStatisticsResponse};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

mod doors;
mod events;
mod page;
mod session;
mod text;

use session::Token;

/// How many pages may follow the counts at once. Each is a stream to the
/// service, so this bounds what the dashboard can ask of it.
const MAX_READERS: usize = 1_000;

/// The longest body that a form may send.
const MAX_FORM: usize = 8 * 1024;

/// How long the service may take to begin its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Only what this origin serves itself, and nothing inline: were a text ever
/// taken for markup, it would still not run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What the dashboard needs.
pub struct Dashboard {
    /// Where service-requests is.
    pub requests: Channel,
    /// Whether the visitor's browser reaches this page over TLS. `false` only
    /// where the page is served over plain http: a browser does not keep a
    /// secure cookie then.
    pub secure_cookies: bool,
    /// Ends the event streams, so that the server can drain.
    pub shutdown: CancellationToken,
}

/// The dashboard's doors:
///
/// | | |
/// | --- | --- |
/// | `GET /` | the counts, or the login form |
/// | `POST /login`, `POST /logout` | begin and end a session |
/// | `GET /events` | the counts as Server-Sent Events |
/// | `GET /assets/…` | style sheet and script |
/// | `GET /healthz` | whether this server answers |
pub fn router(dashboard: Dashboard) -> Router {
    let state = Arc::new(Shared {
        requests: RequestServiceClient::new(dashboard.requests),
        secure_cookies: dashboard.secure_cookies,
        shutdown: dashboard.shutdown,
        readers: Arc::new(Semaphore::new(MAX_READERS)),
    });
    Router::new()
        .route("/", get(doors::home))
        .route("/login", post(doors::login).layer(DefaultBodyLimit::max(MAX_FORM)))
        .route("/logout", post(doors::logout))
        .route("/events", get(events::events))
        .route("/assets/dashboard.css", get(stylesheet))
        .route("/assets/dashboard.js", get(script))
        .route("/healthz", get(healthz))
        .with_state(state)
        .layer(map_response(harden))
}

/// What every request shares.
struct Shared {
    requests: RequestServiceClient<Channel>,
    secure_cookies: bool,
    shutdown: CancellationToken,
    readers: Arc<Semaphore>,
}

/// The service's answer to a visitor who may see the counts.
struct Counts {
    first: Option<WatchStatisticsResponse>,
    rest: Streaming<WatchStatisticsResponse>,
}

/// Why a visitor gets no counts.
enum Refused {
    /// The service does not know this token, or no longer.
    Unauthenticated,
    /// The service knows who it is, and does not show them the counts.
    Forbidden,
    /// The service gave no answer; it says nothing about the visitor.
    Unavailable,
}

// === impl Shared ===

impl Shared {
    /// Follows the counts with the visitor's rights. Returns once the service
    /// has begun to send, so a refusal is an error here and not later.
    async fn counts(&self, token: &Token) -> Result<Counts, Refused> {
        let mut request = Request::new(WatchStatisticsRequest {});
        request.metadata_mut().insert("authorization", token.to_metadata());
        let mut client = self.requests.clone();
        // Not the call's own deadline: that would end the stream as well.
        let answer = timeout(ANSWER_WITHIN, async {
            let mut rest = client.watch_statistics(request).await?.into_inner();
            Ok::<_, Status>(Counts { first: rest.message().await?, rest })
        });
        answer
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
            .map_err(Refused::from)
    }

    /// What comes next: where the service has ended its stream, with its age or
    /// because a visitor did not read it, from a new one.
    async fn next(
        &self,
        token: &Token,
        rest: &mut Streaming<WatchStatisticsResponse>,
    ) -> Result<Option<WatchStatisticsResponse>, Refused> {
        match rest.message().await {
            Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => {
                let counts = self.counts(token).await?;
                *rest = counts.rest;
                Ok(counts.first)
            }
            message => Ok(message?),
        }
    }
}

// === impl Refused ===

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Refused::Unauthenticated,
            Code::PermissionDenied => Refused::Forbidden,
            // The cause is for the operator; the visitor hears that it is down.
            code => {
                tracing::warn!(%code, message = status.message(), "no counts from the service");
                Refused::Unavailable
            }
        }
    }
}

async fn stylesheet() -> impl IntoResponse {
    asset("text/css; charset=utf-8", include_str!("../assets/dashboard.css"))
}

async fn script() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", include_str!("../assets/dashboard.js"))
}

/// A few kilobytes that must match the page, also right after an upgrade: asked
/// for each time.
fn asset(content_type: &'static str, body: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], body)
}

/// Whether this server answers. It does not ask the service: a dashboard that
/// is started anew does not help a service that is down.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The headers that every answer has.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Counts are for who asked, not for a cache on the way.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
