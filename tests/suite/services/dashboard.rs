//! The web page, in a real browser: what staff see, and what others do not.

use fantoccini::Locator;
use samen_tests::browser::Browser;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::eventually;

use super::in_both_setups;
use super::shared::{SOON, report};

in_both_setups!(counts_come_without_a_reload, nothing_is_shown_without_a_right);

const BUYTENSTEE: &str = "#counts tr[data-neighbourhood=BU03840101]";

async fn counts_come_without_a_reload(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    resident.file_request(report("een")).await.expect("filed");
    let browser = Browser::start("nl").await;
    browser.page.goto(&deployment.dashboard_url()).await.expect("a page");
    log_in(&browser, &deployment.token("m", &["manager"]).await).await;

    browser.shows(SOON, "#total-open", "1").await;
    browser.shows(SOON, &format!("{BUYTENSTEE} th"), "Buytenstee").await;
    resident.file_request(report("twee")).await.expect("filed");
    browser.shows(SOON, "#total-open", "2").await;
    browser.shows(SOON, &format!("{BUYTENSTEE} .number"), "2").await;

    // It says when it is cut off, and comes back by itself.
    deployment.stop().await;
    let connection = |state: &str| format!("#connection[data-state={state}]");
    wait_for(&browser, &connection("disconnected")).await;
    deployment.restart().await;
    wait_for(&browser, &connection("connected")).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    resident.file_request(report("drie")).await.expect("filed");
    browser.shows(SOON, "#total-open", "3").await;
}

async fn nothing_is_shown_without_a_right(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let browser = Browser::start("en").await;
    browser.page.goto(&deployment.dashboard_url()).await.expect("a page");
    for token in ["rubbish".to_owned(), deployment.token("r", &["resident"]).await] {
        log_in(&browser, &token).await;
        wait_for(&browser, ".error[role=alert]").await;
        assert!(browser.page.find(Locator::Css("#counts")).await.is_err());
    }
    let language = browser.page.execute("return document.documentElement.lang", Vec::new()).await;
    assert_eq!(language.expect("a language").as_str(), Some("en"));
    log_in(&browser, &deployment.token("h", &["handler"]).await).await;
    wait_for(&browser, "#counts").await;
    // Scripts cannot read the token.
    let cookies = browser.page.execute("return document.cookie", Vec::new()).await;
    assert_eq!(cookies.expect("a string").as_str(), Some(""));
}

async fn log_in(browser: &Browser, token: &str) {
    wait_for(browser, "#token").await;
    let field = browser.page.find(Locator::Css("#token")).await.expect("a form");
    field.send_keys(token).await.expect("typed");
    // The page that is there now is not the one that is waited for.
    browser.page.execute("window.before = true", Vec::new()).await.expect("marked");
    let button = browser.page.find(Locator::Css("main button")).await.expect("a button");
    button.click().await.expect("pressed");
    eventually(SOON, "the next page is there", async || {
        let script = "return !window.before && document.readyState == 'complete'";
        let there = browser.page.execute(script, Vec::new()).await.ok()?;
        (there.as_bool() == Some(true)).then_some(())
    })
    .await;
}

async fn wait_for(browser: &Browser, selector: &str) {
    let found = browser.page.wait().at_most(SOON).for_element(Locator::Css(selector)).await;
    found.unwrap_or_else(|error| panic!("{selector}: {error}"));
}
