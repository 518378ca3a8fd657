//! The two pages: the counts and the login form.
//!
//! The HTML has the words and an empty table; the script fills it. So nothing
//! that anybody typed passes through here; what is put in is escaped all the
//! same.

use axum::response::{Html, IntoResponse, Response};
use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY};
use http::{HeaderMap, StatusCode};

use crate::text::{Language, Text};

/// The login form, with what went wrong before.
pub(crate) fn login(language: Language, status: StatusCode, message: Option<&str>) -> Response {
    let Text { login_title, login_intro, token, log_in, error, .. } = language.text();
    let code = language.code();
    let title = match message {
        Some(_) => format!("{error}: {login_title}"),
        None => (*login_title).to_owned(),
    };
    let (message, invalid) = match message {
        Some(message) => (
            format!(r#"<p class="error" id="error" role="alert">{}</p>"#, escape(message)),
            r#" aria-invalid="true" aria-describedby="error""#,
        ),
        None => (String::new(), ""),
    };
    let main = format!(
        r#"<main class="login">
<h1>{login_title}</h1>
<p>{login_intro}</p>
{message}
<form method="post" action="/login?lang={code}">
<label for="token">{token}</label>
<input id="token" name="token" type="password" autocomplete="current-password" autocapitalize="none" spellcheck="false" required autofocus{invalid}>
<button type="submit">{log_in}</button>
</form>
</main>"#,
        login_title = escape(login_title),
        login_intro = escape(login_intro),
        token = escape(token),
        log_in = escape(log_in),
    );
    page(language, status, &title, "", "", &main)
}

/// The counts. What the script says stands in the page, so that the script
/// knows no language.
pub(crate) fn counts(language: Language) -> Response {
    let text = language.text();
    let code = language.code();
    let log_out = format!(
        r#"<form method="post" action="/logout?lang={code}"><button type="submit">{}</button></form>"#,
        escape(text.log_out)
    );
    let main = format!(
        r#"<main>
<h1>{title}</h1>
<p>{intro}</p>
<p id="connection" class="connection" role="status" aria-live="polite" data-state="connecting" data-connected="{connected}" data-disconnected="{disconnected}">{connecting}</p>
<noscript><p class="error">{needs_script}</p></noscript>
<dl class="totals">
<div><dt>{total_open}</dt><dd id="total-open">–</dd></div>
<div><dt>{total_closed}</dt><dd id="total-closed">–</dd></div>
</dl>
<table>
<caption>{caption}</caption>
<thead><tr><th scope="col">{neighbourhood}</th><th scope="col" class="open">{open}</th><th scope="col" class="closed">{closed}</th></tr></thead>
<tbody id="counts" data-outside="{outside}"></tbody>
</table>
<p id="none" hidden>{none}</p>
</main>"#,
        title = escape(text.title),
        intro = escape(text.intro),
        connected = escape(text.connected),
        disconnected = escape(text.disconnected),
        connecting = escape(text.connecting),
        needs_script = escape(text.needs_script),
        total_open = escape(text.total_open),
        total_closed = escape(text.total_closed),
        caption = escape(text.caption),
        neighbourhood = escape(text.neighbourhood),
        open = escape(text.open),
        closed = escape(text.closed),
        outside = escape(text.outside),
        none = escape(text.none),
    );
    let script = r#"<script src="/assets/dashboard.js" defer></script>"#;
    page(language, StatusCode::OK, text.title, script, &log_out, &main)
}

/// What both pages share. All but the title is HTML already.
fn page(
    language: Language,
    status: StatusCode,
    title: &str,
    script: &str,
    actions: &str,
    main: &str,
) -> Response {
    let (code, other) = (language.code(), language.other());
    let html = format!(
        r#"<!doctype html>
<html lang="{code}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} – Samen</title>
<link rel="stylesheet" href="/assets/dashboard.css">
{script}
</head>
<body>
<header>
<span class="brand">Samen</span>
<a href="/?lang={other_code}" lang="{other_code}" hreflang="{other_code}">{other_name}</a>
{actions}
</header>
{main}
</body>
</html>
"#,
        title = escape(title),
        other_code = other.code(),
        other_name = escape(other.name()),
    );
    let about = [(CONTENT_LANGUAGE, code), (VARY, "accept-language, cookie")];
    (status, about, Html(html)).into_response()
}

/// The language of a request.
pub(crate) fn language(query: Option<&str>, headers: &HeaderMap) -> Language {
    let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Language::choose(query, accepted)
}

/// A text as HTML, in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        assert_eq!(
            escape(r#"<b title="x" id='y'>Jan & Piet's €</b>"#),
            "&lt;b title=&quot;x&quot; id=&#39;y&#39;&gt;Jan &amp; Piet&#39;s €&lt;/b&gt;"
        );
    }
}
