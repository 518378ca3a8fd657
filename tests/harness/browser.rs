//! A real browser: Chromium, driven over WebDriver.

use std::process::Command;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;

use crate::process::Process;
use crate::scratch::{folder, free_port};
use crate::wait::eventually;

/// How long the browser may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A browser with a fresh profile; gone when dropped.
pub struct Browser {
    pub page: Client,
    _profile: TempDir,
    _driver: Process,
}

impl Browser {
    /// Starts a browser that asks for pages in this language.
    pub async fn start(language: &str) -> Self {
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let mut driver = Process::start(command);
        let profile = folder("browser-");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &format!("--user-data-dir={}", profile.path().display()),
            &format!("--accept-lang={language}"),
        ];
        let capabilities = json!({"goog:chromeOptions": {"args": arguments}});
        let page = eventually(START, "a browser starts", async || {
            let ended = driver.status();
            assert!(ended.is_none(), "chromedriver ended:\n{}", driver.output());
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities.as_object().expect("an object").clone())
                .connect(&format!("http://127.0.0.1:{port}"))
                .await
                .ok()
        })
        .await;
        Browser { page, _profile: profile, _driver: driver }
    }

    /// Waits until the element shows this text.
    pub async fn shows(&self, within: Duration, selector: &str, text: &str) {
        let what = format!("{selector} shows {text:?}");
        eventually(within, &what, async || {
            let element = self.page.find(fantoccini::Locator::Css(selector)).await.ok()?;
            element.text().await.ok().filter(|shown| shown.contains(text))
        })
        .await;
    }
}
