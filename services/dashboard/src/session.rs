//! The visitor's session: their own token, in a cookie that scripts cannot read
//! and other sites cannot send.
//!
//! The dashboard keeps nothing itself: whoever has the token has what the
//! service gives for it, until it expires.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use tonic::metadata::{Ascii, MetadataValue};

/// The cookie where the page comes over TLS. With this prefix a browser takes
/// it only from this host itself, secure, for all of its paths.
const SECURE_COOKIE: &str = "__Host-samen-session";

/// The cookie over plain http.
const PLAIN_COOKIE: &str = "samen-session";

/// The longest token: a browser drops a cookie of over 4,096 bytes, name and
/// attributes included, without a word.
const MAX_TOKEN: usize = 3_900;

/// A token (JWT) as the visitor gave it. Only its form is known to be right.
/// Without `Debug`, so that no log line shows it.
pub(crate) struct Token(String);

/// Why a text is not a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    TooLong,
    Malformed,
}

/// The token in a request's cookies.
pub(crate) fn token(headers: &HeaderMap, secure: bool) -> Option<Token> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == cookie_name(secure))
        .and_then(|(_, value)| Token::parse(value).ok())
}

/// The header that makes a browser forget the token.
pub(crate) fn clear_cookie(secure: bool) -> HeaderValue {
    cookie("", "; Max-Age=0", secure)
}

/// The header that makes a browser keep the token.
pub(crate) fn set_cookie(token: &Token, secure: bool) -> HeaderValue {
    let mut cookie = cookie(&token.0, "", secure);
    cookie.set_sensitive(true);
    cookie
}

/// Without an end of its own: the browser forgets it when it closes, and the
/// service refuses it when it has expired.
fn cookie(value: &str, end: &str, secure: bool) -> HeaderValue {
    let name = cookie_name(secure);
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}");
    HeaderValue::try_from(cookie).expect("a token has only characters that a header may have")
}

fn cookie_name(secure: bool) -> &'static str {
    if secure { SECURE_COOKIE } else { PLAIN_COOKIE }
}

// === impl Token ===

impl Token {
    /// A token from a form or a cookie. Whoever pastes one often pastes a
    /// `Bearer` or a line's end with it.
    pub(crate) fn parse(text: &str) -> Result<Token, NoToken> {
        let text = text.trim();
        let text = text.strip_prefix("Bearer ").unwrap_or(text).trim_start();
        if text.len() > MAX_TOKEN {
            return Err(NoToken::TooLong);
        }
        // Three parts in base64url (RFC 7515): nothing that could end a cookie
        // or a header.
        let part = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !part.is_empty() && part.bytes().all(known)
        };
        if text.split('.').count() != 3 || !text.split('.').all(part) {
            return Err(NoToken::Malformed);
        }
        Ok(Token(text.to_owned()))
    }

    /// What goes with each call to the service.
    pub(crate) fn to_metadata(&self) -> MetadataValue<Ascii> {
        let mut value = MetadataValue::try_from(format!("Bearer {}", self.0))
            .expect("a token has only characters that metadata may have");
        value.set_sensitive(true);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnLW5f";

    fn cookies(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    fn found(lines: &[&str], secure: bool) -> Option<String> {
        token(&cookies(lines), secure).map(|token| token.0)
    }

    #[test]
    fn a_token_is_three_parts_of_base64url() {
        let parse = |text: &str| Token::parse(text).map(|token| token.0);
        for text in [JWT, &format!("  {JWT}\r\n"), &format!("Bearer {JWT}")] {
            assert_eq!(parse(text).unwrap(), JWT);
        }
        for text in ["", "a", "a.b", "a..c", "a.b.c.d", "a.b.c;d", "a.b.c d", "a.b.é", "a.b.c\r\nx"]
        {
            assert_eq!(parse(text), Err(NoToken::Malformed), "{text:?}");
        }
        assert_eq!(parse(&format!("a.b.{}", "c".repeat(MAX_TOKEN))), Err(NoToken::TooLong));
    }

    #[test]
    fn the_token_is_found_among_cookies() {
        let mine = format!("samen-session={JWT}");
        let secure = format!("__Host-samen-session={JWT}");
        assert_eq!(found(&[&mine], false).as_deref(), Some(JWT));
        assert_eq!(found(&[&format!("a=b; {mine};c=d")], false).as_deref(), Some(JWT));
        assert_eq!(found(&["a=b", &mine], false).as_deref(), Some(JWT));
        assert_eq!(found(&[&secure], true).as_deref(), Some(JWT));
    }

    #[test]
    fn no_other_cookie_is_taken_for_it() {
        let mine = format!("samen-session={JWT}");
        assert_eq!(found(&[], false), None);
        assert_eq!(found(&["samen-session", "samen-session=", ";;=;"], false), None);
        assert_eq!(found(&[&format!("x{mine}")], false), None);
        assert_eq!(found(&["samen-session=not a token"], false), None);
        // Over TLS, the cookie that anybody on the network could have set does
        // not count.
        assert_eq!(found(&[&mine], true), None);
    }

    #[test]
    fn the_cookie_is_strict() {
        let token = Token::parse(JWT).unwrap();
        assert_eq!(
            set_cookie(&token, true),
            format!("__Host-samen-session={JWT}; Path=/; HttpOnly; SameSite=Strict; Secure")
        );
        assert_eq!(
            set_cookie(&token, false),
            format!("samen-session={JWT}; Path=/; HttpOnly; SameSite=Strict")
        );
        assert_eq!(
            clear_cookie(true),
            "__Host-samen-session=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0"
        );
    }
}
