//! The words of the pages, in Dutch and English: short, as people speak (B1).

use http::StatusCode;
use jiff::Timestamp;
use samen_proto::notices::NoticeKind;
use samen_proto::requests::Status;
use samen_server::calendar::wall;

use super::melding::Problem;

/// A language that the pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Dutch,
    English,
}

/// What the reporter's page says.
pub struct Text {
    pub title: &'static str,
    pub intro: &'static str,
    pub about: &'static str,
    pub status: &'static str,
    pub reported: &'static str,
    pub due: &'static str,
    pub planned: &'static str,
    pub external: &'static str,
    pub conversation: &'static str,
    pub no_conversation: &'static str,
    pub you: &'static str,
    pub municipality: &'static str,
    /// Instead of a text.
    pub forgotten: &'static str,
    pub react_before: &'static str,
    pub notices: &'static str,
    pub no_notices: &'static str,
    pub write: &'static str,
    pub write_intro: &'static str,
    pub message: &'static str,
    pub send: &'static str,
    pub rate: &'static str,
    pub rate_before: &'static str,
    pub satisfaction: &'static str,
    /// From 1 to 5.
    pub satisfactions: [&'static str; 5],
    pub words: &'static str,
    pub reopen: &'static str,
    pub rate_send: &'static str,
    pub rated: &'static str,
    pub error: &'static str,
}

const DUTCH: Text = Text {
    title: "Uw melding",
    intro: "Bewaar het adres van deze pagina. Wie het adres heeft, kan uw melding lezen. Geef het \
            dus niet zomaar door.",
    about: "Onderwerp",
    status: "Stand van zaken",
    reported: "Gemeld op",
    due: "Wij willen klaar zijn voor",
    planned: "Wij doen dit op",
    external: "Uitgevoerd door",
    conversation: "Wat u en wij schreven",
    no_conversation: "Er zijn nog geen berichten.",
    you: "U",
    municipality: "Gemeente",
    forgotten: "Deze tekst is gewist.",
    react_before: "Reageer voor",
    notices: "Wat wij u lieten weten",
    no_notices: "Nog niets.",
    write: "Schrijf ons",
    write_intro: "Weet u meer over uw melding? Of heeft u een vraag? Schrijf het hier.",
    message: "Uw bericht",
    send: "Verstuur",
    rate: "Bent u tevreden?",
    rate_before: "U kunt dit invullen tot",
    satisfaction: "Hoe tevreden bent u?",
    satisfactions: [
        "1: heel ontevreden",
        "2: ontevreden",
        "3: niet tevreden, niet ontevreden",
        "4: tevreden",
        "5: heel tevreden",
    ],
    words: "Wat ging goed? Wat kan beter?",
    reopen: "Het is niet opgelost. Kijk er opnieuw naar. (Kies dan 1 of 2, en schrijf hierboven \
             waarom.)",
    rate_send: "Verstuur uw mening",
    rated: "U gaf een",
    error: "Dit ging niet goed",
};

const ENGLISH: Text = Text {
    title: "Your report",
    intro: "Keep the address of this page. Anybody who has the address can read your report, so \
            take care whom you give it to.",
    about: "Subject",
    status: "Where it stands",
    reported: "Reported on",
    due: "We want to be done before",
    planned: "We will do this on",
    external: "Done by",
    conversation: "What you and we wrote",
    no_conversation: "There are no messages yet.",
    you: "You",
    municipality: "Municipality",
    forgotten: "This text was erased.",
    react_before: "Please answer before",
    notices: "What we told you",
    no_notices: "Nothing yet.",
    write: "Write to us",
    write_intro: "Do you know more about your report? Or do you have a question? Write it here.",
    message: "Your message",
    send: "Send",
    rate: "Are you satisfied?",
    rate_before: "You can tell us until",
    satisfaction: "How satisfied are you?",
    satisfactions: [
        "1: very dissatisfied",
        "2: dissatisfied",
        "3: neither satisfied nor dissatisfied",
        "4: satisfied",
        "5: very satisfied",
    ],
    words: "What went well? What can be better?",
    reopen: "It is not solved. Look at it again. (Then choose 1 or 2, and write above why.)",
    rate_send: "Send your opinion",
    rated: "You gave a",
    error: "This did not go well",
};

const MONTHS: [(&str, &str); 12] = [
    ("januari", "January"),
    ("februari", "February"),
    ("maart", "March"),
    ("april", "April"),
    ("mei", "May"),
    ("juni", "June"),
    ("juli", "July"),
    ("augustus", "August"),
    ("september", "September"),
    ("oktober", "October"),
    ("november", "November"),
    ("december", "December"),
];

impl Language {
    /// What an address asks for with `?lang=en`; Dutch otherwise.
    pub fn of(query: Option<&str>) -> Self {
        let asked = query.unwrap_or_default().split('&').any(|pair| pair == "lang=en");
        if asked { Language::English } else { Language::Dutch }
    }

    /// As HTML and HTTP name it.
    pub fn code(self) -> &'static str {
        self.of_two("nl", "en")
    }

    /// What it calls itself.
    pub fn name(self) -> &'static str {
        self.of_two("Nederlands", "English")
    }

    pub fn other(self) -> Self {
        match self {
            Language::Dutch => Language::English,
            Language::English => Language::Dutch,
        }
    }

    pub fn text(self) -> &'static Text {
        match self {
            Language::Dutch => &DUTCH,
            Language::English => &ENGLISH,
        }
    }

    pub fn of_two<'a, T: ?Sized>(self, dutch: &'a T, english: &'a T) -> &'a T {
        match self {
            Language::Dutch => dutch,
            Language::English => english,
        }
    }

    /// A moment as the clock on the wall shows it to people there.
    pub fn moment(self, at: Timestamp) -> String {
        let at = wall::zone().to_datetime(at);
        let (dutch, english) = MONTHS[usize::from(at.month().unsigned_abs()) - 1];
        let (day, month, year) = (at.day(), self.of_two(dutch, english), at.year());
        format!("{day} {month} {year}, {:02}:{:02}", at.hour(), at.minute())
    }

    /// A day, as events have it (2026-03-27).
    pub fn day(self, date: &str) -> String {
        let Ok(date) = date.parse::<jiff::civil::Date>() else { return date.to_owned() };
        let (dutch, english) = MONTHS[usize::from(date.month().unsigned_abs()) - 1];
        format!("{} {} {}", date.day(), self.of_two(dutch, english), date.year())
    }

    pub fn status(self, status: Status) -> &'static str {
        let (dutch, english) = match status {
            Status::Unspecified => ("Onbekend", "Unknown"),
            Status::Received => ("Ontvangen", "Received"),
            Status::InProgress => ("Wij zijn ermee bezig", "We are working on it"),
            Status::Waiting => ("Wij wachten op uw antwoord", "We wait for your answer"),
            Status::Planned => ("Ingepland", "Planned"),
            Status::External => ("Een ander werkt eraan", "Somebody else is working on it"),
            Status::Resolved => ("Opgelost", "Solved"),
            Status::Rejected => ("Wij doen dit niet", "We will not do this"),
            Status::Reopened => ("Wij kijken er opnieuw naar", "We are looking at it again"),
            Status::Merged => ("Samengevoegd met een andere melding", "Joined with another report"),
            Status::Transferred => {
                ("Een andere gemeente neemt het over", "Another municipality takes it over")
            }
            Status::Closed => ("Afgesloten", "Closed"),
        };
        self.of_two(dutch, english)
    }

    /// What a notice says by itself.
    pub fn notice(self, kind: NoticeKind) -> &'static str {
        let (dutch, english) = match kind {
            NoticeKind::Unspecified | NoticeKind::Escalation => ("Bericht", "Message"),
            NoticeKind::Received => {
                ("Wij hebben uw melding ontvangen.", "We received your report.")
            }
            NoticeKind::Status => {
                ("Er is iets veranderd aan uw melding.", "Something about your report has changed.")
            }
            NoticeKind::Message => ("Wij schreven u een bericht.", "We wrote you a message."),
            NoticeKind::ReactionAsked => ("Wij stelden u een vraag.", "We asked you a question."),
            NoticeKind::Merged => (
                "Iemand anders meldde hetzelfde. Wij gaan verder met die melding. U hoort hier hoe \
                 het afloopt.",
                "Somebody else reported the same. We go on with that report. Here you will hear \
                 how it ends.",
            ),
            NoticeKind::FeedbackAsked => {
                ("Wij vroegen u of u tevreden bent.", "We asked you whether you are satisfied.")
            }
        };
        self.of_two(dutch, english)
    }

    pub fn problem(self, problem: Problem) -> &'static str {
        let (dutch, english) = match problem {
            Problem::Message => (
                "Schrijf een bericht van 1 tot 5.000 tekens.",
                "Write a message of 1 to 5,000 characters.",
            ),
            Problem::Rating => (
                "Kies een cijfer van 1 tot 5. Wilt u dat wij opnieuw kijken? Kies dan 1 of 2, en \
                 schrijf waarom.",
                "Choose a number from 1 to 5. Do you want us to look again? Then choose 1 or 2, \
                 and write why.",
            ),
            Problem::TooLate => (
                "Dit kan niet meer. Kijk hieronder hoe het met uw melding staat.",
                "This cannot be done any more. See below where your report stands.",
            ),
            Problem::SentBefore => (
                "Dit formulier was al verstuurd, met iets anders erin. Wilt u dit ook versturen? \
                 Klik dan nog een keer.",
                "This form was sent before, with something else in it. Do you want to send this \
                 too? Then click once more.",
            ),
            Problem::Unavailable => (
                "Dit lukt nu niet. Probeer het over een paar minuten opnieuw.",
                "This does not work now. Try again in a few minutes.",
            ),
        };
        self.of_two(dutch, english)
    }

    /// A title and a sentence for a page that cannot be shown.
    pub fn unavailable(self, status: StatusCode) -> (&'static str, &'static str) {
        match (status, self) {
            (StatusCode::NOT_FOUND, Language::Dutch) => {
                ("Deze pagina is er niet", "Kijk of u het hele adres heeft overgenomen.")
            }
            (StatusCode::NOT_FOUND, Language::English) => {
                ("There is no such page", "Check that you copied the whole address.")
            }
            (_, Language::Dutch) => {
                ("Dit lukt nu niet", "Probeer het over een paar minuten opnieuw.")
            }
            (_, Language::English) => ("This does not work now", "Try again in a few minutes."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dutch_unless_english_is_asked_for() {
        for (query, language) in [
            (None, Language::Dutch),
            (Some("lang=en"), Language::English),
            (Some("a=b&lang=en"), Language::English),
            (Some("lang=english"), Language::Dutch),
            (Some("xlang=en"), Language::Dutch),
        ] {
            assert_eq!(Language::of(query), language, "{query:?}");
        }
    }

    #[test]
    fn moments_are_those_of_the_clock_on_the_wall() {
        let at: Timestamp = "2026-04-07T14:00:00Z".parse().expect("an instant");
        assert_eq!(Language::Dutch.moment(at), "7 april 2026, 16:00");
        assert_eq!(Language::English.moment(at), "7 April 2026, 16:00");
        assert_eq!(Language::Dutch.day("2026-03-27"), "27 maart 2026");
    }
}
