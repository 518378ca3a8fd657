//! Figures, once and live.

use std::collections::BTreeMap;

use futures::StreamExt;
use samen_proto::requests::statistics_service_client::StatisticsServiceClient;
use samen_proto::requests::watch_figures_response::Item;
use samen_proto::requests::*;
use samen_tests::deployment::{Deployment, Setup};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::super::in_both_setups;
use super::super::shared::{SOON, new_id, refused, report};
use super::lists::{at, import, past};

in_both_setups!(figures_are_told_by_group, figures_are_kept_up_for_all_who_watch);

/// Monday 9 March 2026, 00:00 in Amsterdam.
const MONDAY: i64 = 1_773_010_800;

async fn figures_are_told_by_group(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let importer = deployment.requests("i", &["importer"]).await;
    let lasted = [30, 10, 20, 50, 40, 60, 80, 70, 90, 100, 110];
    let closed = lasted.iter().enumerate().map(|(number, lasted)| ImportRequestRequest {
        close_time: at(MONDAY + lasted),
        ..past(number, MONDAY)
    });
    import(&importer, closed).await;
    let open = ImportRequestRequest { category: "b".into(), ..past("open", MONDAY - 1) };
    let at_least = import(&importer, [open]).await;
    for role in ["handler", "process_lead", "manager"] {
        let client = deployment.at_requests("s", &[role]).await;
        let mut statistics = StatisticsServiceClient::new(client);
        let mut get = async |filter: Option<RequestFilter>, by: GroupBy| {
            let at_least = at_least.clone();
            let ask = GetStatisticsRequest { filter, group_by: by.into(), at_least };
            statistics.get_statistics(ask).await.expect("figures").into_inner().figures
        };
        // The sixth and the tenth of eleven.
        let eleven =
            Figures { closed: 11, median_seconds: 60, p90_seconds: 100, ..Figures::default() };
        let one = Figures { open: 1, ..Figures::default() };
        let named = |group: &str, of: &Figures| Figures { group: group.into(), ..of.clone() };
        let both = Figures { open: 1, ..eleven.clone() };
        assert_eq!(get(None, GroupBy::Unspecified).await, [both]);
        let by_category = [named("Groen/Boom", &eleven), named("b", &one)];
        assert_eq!(get(None, GroupBy::Category).await, by_category);
        let weeks = [named("2026-W10", &one), named("2026-W11", &eleven)];
        assert_eq!(get(None, GroupBy::Week).await, weeks);
        let b = RequestFilter { categories: vec!["b".into()], ..Default::default() };
        assert_eq!(get(Some(b), GroupBy::Neighbourhood).await, [one]);
    }
    let resident = deployment.at_requests("r", &["resident"]).await;
    let mut resident = StatisticsServiceClient::new(resident);
    let ask = GetStatisticsRequest::default();
    refused(resident.get_statistics(ask).await, Code::PermissionDenied, "ROLE_MISSING");
}

/// Reads until a group is told like this; gives all that was told.
async fn until(
    stream: &mut Streaming<WatchFiguresResponse>,
    group: &str,
    open: u64,
) -> BTreeMap<String, u64> {
    let mut told = BTreeMap::new();
    let reading = async {
        loop {
            let item = stream.next().await.expect("it goes on").expect("an item").item;
            if let Some(Item::Figures(figures)) = item {
                told.insert(figures.group.clone(), figures.open);
                if (figures.group.as_str(), figures.open) == (group, open) {
                    return;
                }
            }
        }
    };
    timeout(SOON, reading).await.expect("it is told");
    told
}

async fn figures_are_kept_up_for_all_who_watch(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let of = |category: &str| FileRequestRequest { category: category.into(), ..report("Kapot") };
    resident.file_request(of("proef/a")).await.expect("filed");
    let filed = resident.file_request(of("proef/b")).await.expect("filed").into_inner();
    let at_least = filed.position.clone();
    handler
        .get_request(GetRequestRequest { id: filed.id.clone(), at_least })
        .await
        .expect("visible");

    let client = deployment.at_requests("s", &["manager"]).await;
    let statistics = StatisticsServiceClient::new(client);
    let received = RequestFilter { statuses: vec![Status::Received.into()], ..Default::default() };
    let ask = WatchFiguresRequest { filter: Some(received), group_by: GroupBy::Category.into() };
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut statistics = statistics.clone();
        let stream = statistics.watch_figures(ask.clone()).await.expect("a stream").into_inner();
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut groups = BTreeMap::new();
        let snapshot = async {
            loop {
                match stream.next().await.expect("it goes on").expect("an item").item {
                    Some(Item::Figures(f)) => drop(groups.insert(f.group, f.open)),
                    Some(Item::CaughtUp(mark)) => return mark.position.expect("a position"),
                    _ => {}
                }
            }
        };
        let mark = timeout(SOON, snapshot).await.expect("it catches up");
        assert!(mark.position >= filed.number);
        assert_eq!(groups, BTreeMap::from([("proef/a".into(), 1), ("proef/b".into(), 1)]));
    }
    resident.file_request(of("proef/a")).await.expect("filed");
    for stream in &mut streams {
        // What did not change is not told again.
        assert_eq!(until(stream, "proef/a", 2).await.len(), 1);
    }
    let change = ChangeStatusRequest {
        request_id: new_id(),
        id: filed.id,
        expected_version: 1,
        status: Status::InProgress.into(),
        ..ChangeStatusRequest::default()
    };
    handler.change_status(change).await.expect("changed");
    for stream in &mut streams {
        assert_eq!(until(stream, "proef/b", 0).await.len(), 1);
    }
}
