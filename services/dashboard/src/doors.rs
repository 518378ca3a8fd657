//! The doors that a visitor comes through: the page, login and logout.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use crate::session::{NoToken, Token, clear_cookie, set_cookie, token};
use crate::text::Language;
use crate::{Refused, Shared, page};

/// What the login form sends.
#[derive(Deserialize)]
pub(crate) struct Login {
    token: String,
}

/// `GET /`: the counts for who is logged in, the login form for who is not.
pub(crate) async fn home(
    State(state): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let language = page::language(query.as_deref(), &headers);
    let text = language.text();
    let Some(token) = token(&headers, state.secure_cookies) else {
        return page::login(language, StatusCode::OK, None);
    };
    let refused = |status, message| {
        let cookie = clear_cookie(state.secure_cookies);
        ([(SET_COOKIE, cookie)], page::login(language, status, Some(message))).into_response()
    };
    match state.counts(&token).await {
        // A service that is away says nothing about the visitor: the page shows
        // that it tries to connect.
        Ok(_) | Err(Refused::Unavailable) => page::counts(language),
        Err(Refused::Unauthenticated) => refused(StatusCode::UNAUTHORIZED, text.expired),
        Err(Refused::Forbidden) => refused(StatusCode::FORBIDDEN, text.forbidden),
    }
}

/// `POST /login`: checks the token at the service, and keeps it.
pub(crate) async fn login(
    State(state): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    form: Result<Form<Login>, FormRejection>,
) -> Response {
    let language = page::language(query.as_deref(), &headers);
    let text = language.text();
    let again = |status, message| page::login(language, status, Some(message));

    // Otherwise another site could log a visitor in as somebody else.
    if !same_origin(&headers) {
        return again(StatusCode::FORBIDDEN, text.elsewhere);
    }
    let token = match form {
        Ok(Form(form)) => Token::parse(&form.token),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return again(StatusCode::PAYLOAD_TOO_LARGE, text.too_long);
        }
        Err(rejection) => return again(rejection.status(), text.unauthenticated),
    };
    let token = match token {
        Ok(token) => token,
        Err(NoToken::TooLong) => return again(StatusCode::PAYLOAD_TOO_LARGE, text.too_long),
        Err(NoToken::Malformed) => return again(StatusCode::UNAUTHORIZED, text.unauthenticated),
    };
    match state.counts(&token).await {
        Ok(_) => see_home(language, set_cookie(&token, state.secure_cookies)),
        Err(Refused::Unauthenticated) => again(StatusCode::UNAUTHORIZED, text.unauthenticated),
        Err(Refused::Forbidden) => again(StatusCode::FORBIDDEN, text.forbidden),
        Err(Refused::Unavailable) => again(StatusCode::SERVICE_UNAVAILABLE, text.unavailable),
    }
}

/// `POST /logout`: forgets the token.
pub(crate) async fn logout(
    State(state): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let language = page::language(query.as_deref(), &headers);
    if !same_origin(&headers) {
        return page::login(language, StatusCode::FORBIDDEN, Some(language.text().elsewhere));
    }
    see_home(language, clear_cookie(state.secure_cookies))
}

/// 303, so that reloading the page does not send the form again.
fn see_home(language: Language, cookie: HeaderValue) -> Response {
    let home = format!("/?lang={}", language.code());
    (StatusCode::SEE_OTHER, [(LOCATION, home)], [(SET_COOKIE, cookie)]).into_response()
}

/// Whether a form was sent from our own page, as far as the browser says. One
/// that says nothing (older, or over plain http) has the cookie's SameSite.
fn same_origin(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_from_elsewhere_is_seen() {
        let from = |site| [("sec-fetch-site".parse().unwrap(), HeaderValue::from_static(site))];
        let from = |site| same_origin(&from(site).into_iter().collect());
        assert!(same_origin(&HeaderMap::new()));
        assert!(from("same-origin") && from("none"));
        assert!(!from("cross-site") && !from("same-site"));
    }
}
