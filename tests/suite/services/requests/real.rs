//! Real requests of the past give the figures that somebody else computes from
//! the same files.

use std::process::Command;

use samen_proto::requests::statistics_service_client::StatisticsServiceClient;
use samen_proto::requests::*;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::eventually;
use samen_tests::process::run;
use samen_tests::samen::samen;
use serde_json::{Value, json};

use super::super::in_both_setups;
use super::super::shared::{SOON, count};

in_both_setups!(figures_of_real_requests_are_those_of_another_program);

/// Names a folder with real requests; without it there is nothing to compare.
const DATA: &str = "SAMEN_TEST_DATA";
/// Files, their time zones, and how many requests they hold that were not
/// closed before they were created.
const FILES: [(&str, &str, usize); 2] =
    [("requests-nl.csv", "Europe/Amsterdam", 3_024), ("requests-us.csv", "America/Chicago", 4_994)];

async fn figures_of_real_requests_are_those_of_another_program(setup: Setup) {
    let Ok(folder) = std::env::var(DATA) else {
        println!("{DATA} is not set: skipped");
        return;
    };
    for (name, zone, rows) in FILES {
        let file = format!("{folder}/{name}");
        let deployment = Deployment::start_with_area(setup, "none").await;
        let token = deployment.token("importer", &["importer"]).await;
        let mut import = samen(["import", "requests", "--source", "echt", "--time-zone", zone]);
        import.arg(&file).env("SAMEN_TOKEN", token);
        import.env("SAMEN_REQUESTS_URL", deployment.requests_url());
        let (status, output) = run(import, SOON * 5).await;
        assert!(matches!(status.code(), Some(0 | 3)), "{status}\n{output}");
        let mut handler = deployment.requests("h", &["handler"]).await;
        eventually(SOON, "all are there", async || {
            (count(&mut handler).await == rows).then_some(())
        })
        .await;
        let client = deployment.at_requests("m", &["manager"]).await;
        let mut statistics = StatisticsServiceClient::new(client);
        for (by, name) in [
            (GroupBy::Unspecified, "all"),
            (GroupBy::Category, "category"),
            (GroupBy::Week, "week"),
        ] {
            let ask = GetStatisticsRequest { group_by: by.into(), ..Default::default() };
            let found = statistics.get_statistics(ask).await.expect("figures").into_inner();
            let found: Vec<Value> = found.figures.iter().map(shown).collect();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/figures.py");
            let mut python = Command::new("python3");
            let (status, output) = run(
                {
                    python.args([script, &file, zone, name]);
                    python
                },
                SOON,
            )
            .await;
            assert!(status.success(), "{status}\n{output}");
            let expected: Vec<Value> = serde_json::from_str(&output).expect("JSON");
            assert_eq!(found, expected, "{file} by {name}");
        }
    }
}

fn shown(figures: &Figures) -> Value {
    let Figures { group, open, closed, median_seconds, p90_seconds, .. } = figures;
    json!([group, open, closed, median_seconds, p90_seconds])
}
