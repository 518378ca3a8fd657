//! The page that a secret link opens, as a browser sees it.

use samen_tests::deployment::Setup;
use samen_tests::web;

use super::super::in_both_setups;
use super::*;

in_both_setups!(
    by_the_secret_link_a_reporter_reads_and_writes_once,
    however_often_it_is_clicked_one_opinion_counts,
    a_wrong_secret_is_a_page_that_there_is_not,
);

/// The page of a secret, whole.
pub async fn get(deployment: &Deployment, secret: &str) -> String {
    let path = format!("/melding/{secret}");
    web::get(&deployment.reports_address(), &path).await.expect("a page")
}

/// What one of its forms answers.
pub async fn post(
    deployment: &Deployment,
    secret: &str,
    form: &str,
    fields: &[(&str, &str)],
) -> String {
    let path = format!("/melding/{secret}/{form}");
    web::post(&deployment.reports_address(), &path, fields).await.expect("an answer")
}

/// The id that a form's command has.
fn command(page: &str, form: &str) -> String {
    let form = format!("/{form}?");
    let form = page.split(&form).nth(1).unwrap_or_else(|| panic!("no {form} in {page}"));
    let id = form.split("name=\"command\" value=\"").nth(1).expect("a hidden field");
    id.split('"').next().expect("its value").to_owned()
}

async fn by_the_secret_link_a_reporter_reads_and_writes_once(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let filed = file(&deployment, "zoe", "Lamp").await;
    let page = get(&deployment, &filed.secret).await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains(&format!("Uw melding {}", filed.number)), "{page}");
    assert!(page.contains("Ontvangen") && page.contains("lang=\"nl\""), "{page}");
    let headers = page.to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'; style-src 'self'",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-robots-tag: noindex",
    ] {
        assert!(headers.contains(header), "{header}: {page}");
    }
    assert!(!page.contains("<script"), "{page}");
    let english = get(&deployment, &format!("{}?lang=en", filed.secret)).await;
    assert!(english.contains(&format!("Your report {}", filed.number)), "{english}");

    // Clicked twice.
    let id = command(&page, "bericht");
    let words = "Het is <b>donker</b> & 't regent";
    for _ in 0..2 {
        let fields = [("command", id.as_str()), ("message", words)];
        let answer = post(&deployment, &filed.secret, "bericht", &fields).await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        assert!(answer.contains(&format!("location: /melding/{}?lang=nl", filed.secret)));
    }
    let page = get(&deployment, &filed.secret).await;
    let shown = "Het is &lt;b&gt;donker&lt;/b&gt; &amp; &#39;t regent";
    assert_eq!(page.matches(shown).count(), 1, "{page}");
    // The same form with other words is asked about, and they are kept.
    let fields = [("command", id.as_str()), ("message", "Iets anders")];
    let answer = post(&deployment, &filed.secret, "bericht", &fields).await;
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("Iets anders"), "{answer}");
    assert_ne!(command(&answer, "bericht"), id);
    for wrong in [" ", &"x".repeat(5_001)] {
        let fields = [("command", id.as_str()), ("message", wrong)];
        let answer = post(&deployment, &filed.secret, "bericht", &fields).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let answer = post(&deployment, &filed.secret, "bericht", &[("other", "x")]).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let page = get(&deployment, &filed.secret).await;
    assert_eq!(page.matches("class=\"own\"").count(), 1, "{page}");

    // It is hers, as if she had signed in.
    let mut handler = deployment.requests("h", &["handler"]).await;
    let reveal = RevealRequestRequest { id: filed.id, purpose: Purpose::Handling.into() };
    let revealed = handler.reveal_request(reveal).await.expect("revealed").into_inner();
    let texts: Vec<_> = revealed.texts.into_iter().filter_map(|text| text.text).collect();
    assert_eq!(texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), [words]);
}

async fn however_often_it_is_clicked_one_opinion_counts(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let filed = file(&deployment, "zoe", "Lamp").await;
    let early = [("command", new_id()), ("satisfaction", "5".to_owned())];
    let early = early.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = post(&deployment, &filed.secret, "waardering", &early).await;
    assert!(answer.starts_with("HTTP/1.1 409"), "nobody was asked: {answer}");
    resolve(&deployment, &filed.id, "Gemaakt").await;

    let page = get(&deployment, &filed.secret).await;
    let id = command(&page, "waardering");
    let unfit = [("command", id.as_str()), ("satisfaction", "6")];
    let answer = post(&deployment, &filed.secret, "waardering", &unfit).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let fields = [
        ("command", id.as_str()),
        ("satisfaction", "1"),
        ("words", "Hij is weer stuk"),
        ("reopen", "yes"),
    ];
    for _ in 0..3 {
        let answer = post(&deployment, &filed.secret, "waardering", &fields).await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    }
    // From another window.
    let other = new_id();
    let mut again = fields;
    again[0].1 = &other;
    let answer = post(&deployment, &filed.secret, "waardering", &again).await;
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");

    let page = get(&deployment, &filed.secret).await;
    assert_eq!(page.matches("Hij is weer stuk").count(), 1, "{page}");
    assert!(!page.contains("/waardering"), "{page}");
    assert!(page.contains("Wij kijken er opnieuw naar"), "{page}");
    let mut handler = deployment.requests("h", &["handler"]).await;
    let ask = GetRequestRequest { id: filed.id, at_least: None };
    let now = handler.get_request(ask).await.expect("seen").into_inner().request.expect("one");
    assert_eq!((now.status(), now.satisfaction), (Status::Reopened, 1));
    let told = all_told(&deployment).await;
    let asked = told.iter().filter_map(|told| told.notice.as_ref());
    assert_eq!(asked.filter(|n| n.kind() == NoticeKind::FeedbackAsked).count(), 1);
}

async fn a_wrong_secret_is_a_page_that_there_is_not(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let filed = file(&deployment, "zoe", "Lamp").await;
    let other = file(&deployment, "adam", "Lamp").await;
    let forged = format!("{}{}", &filed.secret[..22], &other.secret[22..]);
    let longer = format!("{}A", filed.secret);
    let without_date = |page: String| {
        let lines = page.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let nothing = without_date(get(&deployment, "x").await);
    assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    for secret in [forged.as_str(), &longer, &filed.id, "%00", "..", &filed.secret[..42]] {
        assert_eq!(without_date(get(&deployment, secret).await), nothing, "{secret}");
        for form in ["bericht", "waardering"] {
            let fields = [("command", filed.id.as_str()), ("message", "x"), ("satisfaction", "1")];
            let answer = post(&deployment, secret, form, &fields).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{secret}: {answer}");
        }
    }
    let page = get(&deployment, &filed.secret).await;
    assert!(!page.contains("class=\"own\""), "{page}");
}
