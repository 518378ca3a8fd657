//! The words on the pages, in Dutch and English, and which of the two a visitor
//! gets.

/// A language that the pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Dutch,
    English,
}

/// Everything that a page says.
pub(crate) struct Text {
    pub title: &'static str,
    pub intro: &'static str,
    /// The table's caption, for who cannot see what surrounds it.
    pub caption: &'static str,
    pub neighbourhood: &'static str,
    pub open: &'static str,
    pub closed: &'static str,
    pub total_open: &'static str,
    pub total_closed: &'static str,
    /// Instead of a name, for requests in no neighbourhood that is known.
    pub outside: &'static str,
    pub none: &'static str,
    pub connecting: &'static str,
    pub connected: &'static str,
    pub disconnected: &'static str,
    pub needs_script: &'static str,
    pub log_out: &'static str,
    pub log_in: &'static str,
    pub login_title: &'static str,
    pub login_intro: &'static str,
    pub token: &'static str,
    /// Before the title of a page with an error.
    pub error: &'static str,
    pub unauthenticated: &'static str,
    pub expired: &'static str,
    pub forbidden: &'static str,
    pub unavailable: &'static str,
    pub too_long: &'static str,
    pub elsewhere: &'static str,
}

const DUTCH: Text = Text {
    title: "Meldingen per buurt",
    intro: "De aantallen veranderen vanzelf.",
    caption: "Open en gesloten meldingen per buurt, de meeste open meldingen bovenaan",
    neighbourhood: "Buurt",
    open: "Open",
    closed: "Gesloten",
    total_open: "Open meldingen",
    total_closed: "Gesloten meldingen",
    outside: "Buiten de bekende buurten",
    none: "Er zijn nog geen meldingen.",
    connecting: "Verbinden…",
    connected: "Verbonden",
    disconnected: "Verbinding verbroken, opnieuw verbinden…",
    needs_script: "Zet JavaScript aan om de aantallen te zien.",
    log_out: "Uitloggen",
    log_in: "Inloggen",
    login_title: "Inloggen",
    login_intro: "Log in met uw eigen toegangscode. Die krijgt u van de beheerder.",
    token: "Toegangscode",
    error: "Fout",
    unauthenticated: "Deze toegangscode klopt niet of is verlopen. Vraag de beheerder om een nieuwe.",
    expired: "U bent uitgelogd. Log opnieuw in.",
    forbidden: "U mag deze pagina niet bekijken. Vraag de beheerder om toegang.",
    unavailable: "We kunnen uw toegangscode nu niet controleren. Probeer het over een paar minuten \
                  opnieuw.",
    too_long: "Deze toegangscode is te lang. Controleer of u precies de code hebt geplakt.",
    elsewhere: "Log in via het formulier op deze pagina.",
};

const ENGLISH: Text = Text {
    title: "Service requests by neighbourhood",
    intro: "The numbers update by themselves.",
    caption: "Open and closed service requests by neighbourhood, most open requests first",
    neighbourhood: "Neighbourhood",
    open: "Open",
    closed: "Closed",
    total_open: "Open requests",
    total_closed: "Closed requests",
    outside: "Outside the known neighbourhoods",
    none: "There are no service requests yet.",
    connecting: "Connecting…",
    connected: "Connected",
    disconnected: "Connection lost, reconnecting…",
    needs_script: "Turn on JavaScript to see the numbers.",
    log_out: "Log out",
    log_in: "Log in",
    login_title: "Log in",
    login_intro: "Log in with your own access code. You get it from the administrator.",
    token: "Access code",
    error: "Error",
    unauthenticated: "This access code is wrong or has expired. Ask the administrator for a new one.",
    expired: "You were logged out. Log in again.",
    forbidden: "You may not see this page. Ask the administrator for access.",
    unavailable: "We cannot check your access code now. Try again in a few minutes.",
    too_long: "This access code is too long. Check that you pasted exactly the code.",
    elsewhere: "Log in with the form on this page.",
};

// === impl Language ===

impl Language {
    /// The language of a request: what its address asks for (`?lang=en`), or
    /// else what its browser likes best, or else Dutch.
    pub(crate) fn choose(query: Option<&str>, accept_language: Option<&str>) -> Language {
        let asked = query.unwrap_or_default().split('&').find_map(|pair| match pair {
            "lang=nl" => Some(Language::Dutch),
            "lang=en" => Some(Language::English),
            _ => None,
        });
        asked.unwrap_or_else(|| {
            let accepted = accept_language.unwrap_or_default();
            match liking(accepted, "en") > liking(accepted, "nl") {
                true => Language::English,
                false => Language::Dutch,
            }
        })
    }

    /// As HTML and HTTP name it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Language::Dutch => "nl",
            Language::English => "en",
        }
    }

    /// What it calls itself.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Language::Dutch => "Nederlands",
            Language::English => "English",
        }
    }

    pub(crate) fn other(self) -> Language {
        match self {
            Language::Dutch => Language::English,
            Language::English => Language::Dutch,
        }
    }

    pub(crate) fn text(self) -> &'static Text {
        match self {
            Language::Dutch => &DUTCH,
            Language::English => &ENGLISH,
        }
    }
}

/// How much an Accept-Language header likes a language, from 0 to 1. A `*`
/// likes all alike, so it does not choose.
fn liking(accept_language: &str, language: &str) -> f32 {
    let mut best = 0.0_f32;
    for range in accept_language.split(',') {
        let mut parts = range.split(';');
        let tag = parts.next().unwrap_or_default().trim();
        let primary = tag.split('-').next().unwrap_or_default();
        if !primary.eq_ignore_ascii_case(language) {
            continue;
        }
        let quality = parts
            .find_map(|part| part.trim().strip_prefix("q="))
            .map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0));
        best = best.max(quality);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dutch_unless_english_is_liked_better() {
        for (accepted, expected) in [
            (None, Language::Dutch),
            (Some(""), Language::Dutch),
            (Some("nl"), Language::Dutch),
            (Some("*"), Language::Dutch),
            (Some("de-DE, fr;q=0.8"), Language::Dutch),
            (Some("en"), Language::English),
            (Some("EN-gb"), Language::English),
            (Some("en-US,en;q=0.9"), Language::English),
            (Some("en-US,en;q=0.9,nl;q=0.8"), Language::English),
            (Some("nl-NL,nl;q=0.9,en-US;q=0.8,en;q=0.7"), Language::Dutch),
            (Some("nl;q=0.5, en;q=0.5"), Language::Dutch),
            (Some("de, en ; q=0.3"), Language::English),
            (Some("en;q=0"), Language::Dutch),
            (Some("en;q=much"), Language::Dutch),
            (Some("en;q=NaN"), Language::Dutch),
            (Some("enx, english"), Language::Dutch),
            (Some(";;,,;q"), Language::Dutch),
        ] {
            assert_eq!(Language::choose(None, accepted), expected, "{accepted:?}");
        }
    }

    #[test]
    fn the_address_wins() {
        assert_eq!(Language::choose(Some("lang=en"), Some("nl")), Language::English);
        assert_eq!(Language::choose(Some("a=b&lang=nl"), Some("en")), Language::Dutch);
        assert_eq!(Language::choose(Some("lang=fr"), Some("en")), Language::English);
        assert_eq!(Language::choose(Some("xlang=en"), None), Language::Dutch);
    }
}
