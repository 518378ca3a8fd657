//! What the service serves over HTTP, each under its own paths:
//!
//! - [`melding`]: the reporter's page, by its secret;
//! - [`photos::http`]: a photo, by its link, where photos are kept;
//! - [`open311`]: the door for apps and sites of others;
//! - [`html`] and [`text`]: what pages are made of.
//!
//! Here the routers are merged, and every answer gets the headers that keep it
//! safe; a door that needs others of them says so itself.

use axum::Router;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{self, HeaderName, HeaderValue};
use http::{StatusCode, Uri};

use crate::{Requests, open311, photos};

mod html;
mod melding;
mod text;

pub(crate) use text::Language;

/// No scripts, and only what this origin serves itself: were a text ever taken
/// for markup, it would still not run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// All that it serves.
pub fn router(service: Requests) -> Router {
    let photos = service.photos.clone().map(photos::http::router).unwrap_or_default();
    Router::new()
        .merge(melding::router(service.clone()))
        .merge(open311::router(service))
        .merge(photos)
        .route("/assets/melding.css", get(stylesheet))
        .route("/healthz", get(healthz))
        .fallback(nothing)
        .layer(map_response(harden))
}

async fn stylesheet() -> impl IntoResponse {
    let kind = "text/css; charset=utf-8";
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (headers, include_str!("../../assets/melding.css"))
}

/// Whether this server answers.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn nothing(uri: Uri) -> Response {
    html::notice(text::Language::of(uri.query()), StatusCode::NOT_FOUND)
}

/// The headers that every answer has.
async fn harden(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // An address holds a secret.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
