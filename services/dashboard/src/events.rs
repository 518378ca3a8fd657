//! The counts as Server-Sent Events, from the service's stream to the browser.
//!
//! | event | data |
//! | --- | --- |
//! | `count` | `{"neighbourhood", "name", "open", "closed"}`: what a neighbourhood has now |
//! | `caught-up` | every neighbourhood was sent; what comes next are changes |
//! | `alive` | nothing else to send; a comment stands with it |
//! | `logged-out` | the token is not accepted (any more); the stream ends |
//!
//! Nothing is kept for a reader: the service is read only as fast as the
//! browser takes, and what waits in between is bounded by HTTP/2's window. A
//! reader that comes back gets the counts anew, so nothing has to be resumed.
//! Neither has a stream of the service, which ends from time to time: another
//! takes its place, and the browser need not know.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use http::header::{CACHE_CONTROL, HeaderName, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use samen_proto::requests::watch_statistics_response::Item;
use samen_proto::requests::{NeighbourhoodCount, WatchStatisticsResponse};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::session::{self, Token};
use crate::{Counts, Refused, Shared};

/// How often a quiet stream says that it is alive. The script gives a
/// connection up that was silent for three times as long.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How long a stream may live. Then the browser connects anew, and the
/// visitor's token is looked at again.
const MAX_LIFE: Duration = Duration::from_secs(60 * 60);

/// Seconds before somebody who was turned away may try again.
const RETRY: &str = "10";

/// Asks a proxy (nginx) not to hold events back.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// `GET /events`: the counts, for as long as the reader, the service and this
/// server are there.
pub(crate) async fn events(State(state): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Some(token) = session::token(&headers, state.secure_cookies) else {
        return logged_out(&state);
    };
    let Ok(place) = state.readers.clone().try_acquire_owned() else {
        tracing::warn!("as many readers as may be; one more is turned away");
        return unavailable();
    };
    let counts = match state.counts(&token).await {
        Ok(counts) => counts,
        Err(Refused::Unauthenticated | Refused::Forbidden) => return logged_out(&state),
        Err(Refused::Unavailable) => return unavailable(),
    };
    let events = forward(place, state.clone(), token, counts);
    // Both, so that a person with curl and the script see the same sign.
    let alive = sign("alive").comment("alive");
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY).event(alive));
    ([(CACHE_CONTROL, "no-store")], [UNBUFFERED], events).into_response()
}

/// What the service sends, as events, until either side ends. Holds the
/// reader's place.
fn forward(
    place: OwnedSemaphorePermit,
    state: Arc<Shared>,
    token: Token,
    Counts { first, mut rest }: Counts,
) -> impl Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        let _place = place;
        let end = sleep(MAX_LIFE);
        tokio::pin!(end);
        let mut next = first;
        while let Some(WatchStatisticsResponse { item }) = next {
            if let Some(event) = item.and_then(event) {
                yield Ok(event);
            }
            let message = tokio::select! {
                () = state.shutdown.cancelled() => break,
                () = &mut end => break,
                message = state.next(&token, &mut rest) => message,
            };
            next = match message {
                Ok(message) => message,
                Err(Refused::Unauthenticated | Refused::Forbidden) => {
                    yield Ok(logged_out_event());
                    break;
                }
                // The browser connects anew, and finds out.
                Err(Refused::Unavailable) => break,
            };
        }
    }
}

/// A count as the script reads it.
#[derive(Serialize)]
struct Count {
    neighbourhood: String,
    name: String,
    open: u64,
    closed: u64,
}

/// A heartbeat is between the service and us; the browser gets our own.
fn event(item: Item) -> Option<Event> {
    match item {
        Item::Count(count) => Some(Event::default().event("count").data(json(count))),
        Item::CaughtUp(_) => Some(sign("caught-up")),
        Item::Heartbeat(_) => None,
    }
}

fn json(NeighbourhoodCount { neighbourhood, name, open, closed }: NeighbourhoodCount) -> String {
    serde_json::to_string(&Count { neighbourhood, name, open, closed })
        .expect("texts and numbers are JSON")
}

fn logged_out_event() -> Event {
    sign("logged-out")
}

/// An event that is its name. A browser drops an event without data.
fn sign(name: &str) -> Event {
    Event::default().event(name).data("{}")
}

/// A stream that says so and ends. Not 401: an EventSource would not tell the
/// script why it failed.
fn logged_out(state: &Shared) -> Response {
    let cookie = session::clear_cookie(state.secure_cookies);
    let events = futures::stream::iter([Ok::<_, Infallible>(logged_out_event())]);
    ([(CACHE_CONTROL, "no-store")], [(SET_COOKIE, cookie)], Sse::new(events)).into_response()
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_event() {
        let count = NeighbourhoodCount {
            neighbourhood: "BU03840101".into(),
            name: "Buyten\"stee\r\n\r\nevent: logged-out".into(),
            open: 3,
            closed: 14,
        };
        assert_eq!(
            json(count),
            r#"{"neighbourhood":"BU03840101","name":"Buyten\"stee\r\n\r\nevent: logged-out","open":3,"closed":14}"#
        );
    }
}
