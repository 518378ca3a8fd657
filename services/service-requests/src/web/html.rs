//! The pages as HTML. Whatever anybody typed is escaped where it is put in.

use std::fmt::Display;

use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_LANGUAGE;
use jiff::Timestamp;
use samen_server::time::from_proto;
use uuid::Uuid;

use super::melding::{Filled, Problem, View};
use super::text::Language;

/// A text as HTML, in an element or in a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// A page that only says why there is no other.
pub fn notice(language: Language, status: StatusCode) -> Response {
    let (title, sentence) = language.unavailable(status);
    let main = format!("<h1>{}</h1>\n<p>{}</p>", Escaped(title), Escaped(sentence));
    page(language, status, title, "", &main)
}

/// The reporter's page.
pub fn melding(language: Language, view: &View, filled: &Filled) -> Response {
    let text = language.text();
    let request = &view.request;
    let mut main = format!("<h1>{} {}</h1>\n", Escaped(text.title), request.number);
    if let Some(problem) = filled.problem {
        main += &format!(
            "<p class=\"error\" role=\"alert\"><strong>{}.</strong> {}</p>\n",
            Escaped(text.error),
            Escaped(language.problem(problem))
        );
    }
    main += &format!("<p>{}</p>\n{}", Escaped(text.intro), facts(language, view));
    if let Some(before) = view.rate_before {
        main += &rating(language, view, filled, before);
    }
    main += &conversation(language, view);
    if view.may_write {
        main += &writing(language, view, filled);
    }
    main += &notices(language, view);
    let title = format!("{} {}", text.title, request.number);
    let status = filled.problem.map_or(StatusCode::OK, Problem::status);
    page(language, status, &title, &view.secret, &main)
}

fn facts(language: Language, view: &View) -> String {
    let (text, request) = (language.text(), &view.request);
    let moment = |time: Option<&prost_types::Timestamp>| {
        time.and_then(from_proto).map(|at| language.moment(at))
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let rows = [
        (text.about, Some(view.category.clone())),
        (text.status, Some(language.status(request.status()).to_owned())),
        (text.reported, moment(request.create_time.as_ref())),
        (text.due, moment(request.due_time.as_ref())),
        (text.planned, given(&request.planned_date).map(|date| language.day(&date))),
        (text.external, given(&request.external_party)),
        (text.rated, (request.satisfaction > 0).then(|| request.satisfaction.to_string())),
    ];
    let mut html = "<dl>\n".to_owned();
    for (name, value) in rows {
        if let Some(value) = value {
            html += &format!("<div><dt>{}</dt><dd>{}</dd></div>\n", Escaped(name), Escaped(&value));
        }
    }
    html + "</dl>\n"
}

fn conversation(language: Language, view: &View) -> String {
    let text = language.text();
    let mut html = format!("<h2 id=\"gesprek\">{}</h2>\n", Escaped(text.conversation));
    if view.conversation.is_empty() {
        return html + &format!("<p>{}</p>\n", Escaped(text.no_conversation));
    }
    html += "<ol class=\"conversation\">\n";
    for entry in &view.conversation {
        let (class, who) = match entry.own {
            true => ("own", text.you),
            false => ("theirs", text.municipality),
        };
        let when = entry.time.as_ref().and_then(from_proto);
        let when = when.map(|at| language.moment(at)).unwrap_or_default();
        html += &format!("<li class=\"{class}\"><h3>{}, {when}</h3>\n", Escaped(who));
        html += &words(language, &entry.text);
        if let Some(before) = entry.react_before.as_ref().and_then(from_proto) {
            let before = language.moment(before);
            html += &format!("<p><strong>{} {before}.</strong></p>\n", Escaped(text.react_before));
        }
        html += "</li>\n";
    }
    html + "</ol>\n"
}

fn notices(language: Language, view: &View) -> String {
    let text = language.text();
    let mut html = format!("<h2>{}</h2>\n", Escaped(text.notices));
    if view.notices.is_empty() {
        return html + &format!("<p>{}</p>\n", Escaped(text.no_notices));
    }
    html += "<ul class=\"notices\">\n";
    for notice in &view.notices {
        let when = notice.create_time.as_ref().and_then(from_proto);
        let when = when.map(|at| language.moment(at)).unwrap_or_default();
        let says = Escaped(language.notice(notice.kind()));
        html += &format!("<li>{when}: {says}\n");
        if !notice.text.is_empty() {
            html += &words(language, &notice.text);
        }
        html += "</li>\n";
    }
    html + "</ul>\n"
}

/// What somebody wrote; or that it was erased.
fn words(language: Language, words: &str) -> String {
    match words {
        "" => format!("<p class=\"gone\">{}</p>\n", Escaped(language.text().forgotten)),
        words => format!("<p class=\"words\">{}</p>\n", Escaped(words)),
    }
}

fn writing(language: Language, view: &View, filled: &Filled) -> String {
    let text = language.text();
    format!(
        r#"<h2>{title}</h2>
<p id="write-intro">{intro}</p>
<form method="post" action="/melding/{secret}/bericht?lang={code}">
<input type="hidden" name="command" value="{command}">
<label for="message">{label}</label>
<textarea id="message" name="message" rows="6" maxlength="5000" required aria-describedby="write-intro">
{message}</textarea>
<button type="submit">{send}</button>
</form>
"#,
        title = Escaped(text.write),
        intro = Escaped(text.write_intro),
        secret = Escaped(&view.secret),
        code = language.code(),
        command = Uuid::now_v7(),
        label = Escaped(text.message),
        message = Escaped(&filled.message),
        send = Escaped(text.send),
    )
}

fn rating(language: Language, view: &View, filled: &Filled, before: Timestamp) -> String {
    let text = language.text();
    let mut choices = String::new();
    for (number, choice) in (1..).zip(text.satisfactions) {
        choices += &format!(
            r#"<label><input type="radio" name="satisfaction" value="{number}" required> {}</label>
"#,
            Escaped(choice)
        );
    }
    let reopen = match view.may_reopen {
        true => format!(
            r#"<label><input type="checkbox" name="reopen" value="yes"> {}</label>
"#,
            Escaped(text.reopen)
        ),
        false => String::new(),
    };
    format!(
        r#"<h2>{title}</h2>
<p>{until} {before}.</p>
<form method="post" action="/melding/{secret}/waardering?lang={code}">
<input type="hidden" name="command" value="{command}">
<fieldset>
<legend>{satisfaction}</legend>
{choices}</fieldset>
<label for="words">{label}</label>
<textarea id="words" name="words" rows="4" maxlength="5000">
{words}</textarea>
{reopen}<button type="submit">{send}</button>
</form>
"#,
        title = Escaped(text.rate),
        until = Escaped(text.rate_before),
        before = language.moment(before),
        secret = Escaped(&view.secret),
        code = language.code(),
        command = Uuid::now_v7(),
        satisfaction = Escaped(text.satisfaction),
        label = Escaped(text.words),
        words = Escaped(&filled.words),
        send = Escaped(text.rate_send),
    )
}

/// What all pages share. All but the title is HTML already. The other language
/// is offered where there is a page of a secret to offer it for.
fn page(language: Language, status: StatusCode, title: &str, secret: &str, main: &str) -> Response {
    let (code, other) = (language.code(), language.other());
    let switch = match secret {
        "" => String::new(),
        secret => format!(
            r#"<a href="/melding/{}?lang={code}" lang="{code}" hreflang="{code}">{}</a>"#,
            Escaped(secret),
            other.name(),
            code = other.code(),
        ),
    };
    let html = format!(
        r#"<!doctype html>
<html lang="{code}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="stylesheet" href="/assets/melding.css">
</head>
<body>
<header>
<span class="brand">Samen</span>
{switch}
</header>
<main>
{main}</main>
</body>
</html>
"#,
        title = Escaped(title),
    );
    (status, [(CONTENT_LANGUAGE, code)], Html(html)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        let text = r#"<script>alert("x")</script> & 't Hof €"#;
        let html = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;t Hof €";
        assert_eq!(Escaped(text).to_string(), html);
        assert_eq!(Escaped("").to_string(), "");
    }
}
