//! The door at which a link shows its photo: `GET /photos/{token}`.
//!
//! The link is the whole of the authorisation. Whatever does not show a photo
//! (a link that was never made, one that ended, a photo that was forgotten) is
//! answered alike: 404.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

use super::Photos;

/// On every answer: a browser shows the picture as what it is, runs nothing in
/// it, and tells nobody the address.
const HARDENING: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_DISPOSITION, HeaderValue::from_static("inline")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'"),
    ),
    // A page of another origin shows it, to whoever it was given the link for.
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// Shows photos to whoever has a link.
pub fn router(photos: Photos) -> Router {
    Router::new().route("/photos/{token}", get(show)).with_state(photos).layer(map_response(harden))
}

async fn show(State(photos): State<Photos>, Path(token): Path<String>) -> Response {
    let now = Timestamp::now();
    let Ok(link) = photos.links.check(&token, now) else { return nothing() };
    match photos.read(link.photo).await {
        Ok(Some(photo)) => {
            // As long as the link, and no longer: what is forgotten meanwhile
            // is not shown from a cache for ever.
            let left = link.until.duration_since(now).as_secs().max(0);
            let headers = [
                (header::CONTENT_TYPE, photo.media().content_type().to_owned()),
                (header::CACHE_CONTROL, format!("private, max-age={left}")),
            ];
            (headers, photo.into_bytes()).into_response()
        }
        Ok(None) => nothing(),
        Err(error) => {
            tracing::error!(photo = %link.photo, %error, "a photo cannot be shown");
            (StatusCode::SERVICE_UNAVAILABLE, NO_STORE).into_response()
        }
    }
}

const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

fn nothing() -> Response {
    (StatusCode::NOT_FOUND, NO_STORE).into_response()
}

async fn harden(mut response: Response) -> Response {
    response.headers_mut().extend(HeaderMap::from_iter(HARDENING));
    response
}

#[cfg(test)]
mod tests;
