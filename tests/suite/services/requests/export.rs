//! Requests as files.

use futures::StreamExt;
use samen_proto::log::Position;
use samen_proto::requests::statistics_service_client::StatisticsServiceClient;
use samen_proto::requests::*;
use samen_tests::deployment::{Deployment, Setup};
use tokio::time::timeout;
use tonic::Code;

use super::super::in_both_setups;
use super::super::shared::{SOON, all, new_id, refused, report};
use super::lists::{import, past};

in_both_setups!(a_file_has_every_request_as_it_is, nothing_in_a_file_is_a_formula_or_personal);

/// 10 March 2026, 10:00 UTC.
const TEN: i64 = 1_773_136_800;

async fn export(deployment: &Deployment, format: ExportFormat, filter: RequestFilter) -> Vec<u8> {
    let client = deployment.at_requests("m", &["manager"]).await;
    let mut statistics = StatisticsServiceClient::new(client);
    let ask = ExportRequestsRequest { filter: Some(filter), format: format.into() };
    let mut stream = statistics.export_requests(ask).await.expect("a stream").into_inner();
    let mut file = Vec::new();
    let reading = async {
        while let Some(piece) = stream.next().await {
            let piece = piece.expect("a piece").chunk;
            assert!(piece.len() <= 64 << 10);
            file.extend(piece);
        }
    };
    timeout(SOON, reading).await.expect("it ends");
    file
}

async fn see(deployment: &Deployment, at_least: Option<Position>) {
    let mut handler = deployment.requests("h", &["handler"]).await;
    let list = ListRequestsRequest { at_least, page_size: 1, ..Default::default() };
    handler.list_requests(list).await.expect("a page");
}

async fn a_file_has_every_request_as_it_is(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let importer = deployment.requests("i", &["importer"]).await;
    // Many of one moment, more than a page, more than a piece.
    let many = (0..1_200).map(|n| ImportRequestRequest {
        location: (n % 3 == 0).then_some(Location { latitude: 37.79, longitude: -122.4 }),
        ..past(n, TEN + n / 700)
    });
    let newest = import(&importer, many).await;
    see(&deployment, newest).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut listed = all(&mut handler, RequestFilter::default()).await;
    listed.reverse();
    let none = RequestFilter::default();
    let file = export(&deployment, ExportFormat::Csv, none.clone()).await;
    let mut rows = csv::Reader::from_reader(file.as_slice());
    assert_eq!(&rows.headers().expect("a header")[0], "id");
    let rows: Vec<_> = rows.records().map(|row| row.expect("a row")).collect();
    let ids: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(ids, listed.iter().map(|request| request.id.clone()).collect::<Vec<_>>());
    let first = rows.iter().find(|row| &row[17] == "0").expect("the first");
    let first: Vec<_> = first.iter().skip(2).take(10).collect();
    let expected = ["Groen/Boom", "received", "normal", "phone", "", "37.79", "-122.4"];
    assert_eq!(first[..7], expected);
    assert_eq!(first[7], "2026-03-10T10:00:00Z");
    assert_eq!(first[9], "");

    let file = export(&deployment, ExportFormat::Json, none).await;
    let file = String::from_utf8(file).expect("UTF-8");
    let lines: Vec<serde_json::Value> =
        file.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|line| line["id"].clone()).collect::<Vec<_>>(), ids);
    assert_eq!(lines[0]["closed_at"], serde_json::Value::Null);

    let nothing = RequestFilter { sources: vec!["elders".into()], ..Default::default() };
    let file = export(&deployment, ExportFormat::Csv, nothing.clone()).await;
    assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(export(&deployment, ExportFormat::Json, nothing).await, b"");
    let client = deployment.at_requests("h", &["handler"]).await;
    let unsaid = StatisticsServiceClient::new(client)
        .export_requests(ExportRequestsRequest::default())
        .await;
    assert_eq!(refused(unsaid, Code::InvalidArgument, "INVALID_FIELD"), ["format"]);
}

async fn nothing_in_a_file_is_a_formula_or_personal(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let importer = deployment.requests("i", &["importer"]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let cells = [
        ("Groen/afval – café; \"x\"", "Groen/afval – café; \"x\""),
        ("=HYPERLINK(\"http://example.org\")", "'=HYPERLINK(\"http://example.org\")"),
        ("+31", "'+31"),
        ("-1, twee", "'-1, twee"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\ttab", "'\ttab"),
        ("\rregel\nbreuk", "'\rregel\nbreuk"),
        ("a=b", "a=b"),
        ("'", "'"),
    ];
    let dangerous = cells.iter().zip(0..).map(|((category, _), n)| ImportRequestRequest {
        category: (*category).to_owned(),
        source_number: (*category).to_owned(),
        description: "Geheim woord".to_owned(),
        ..past(n, TEN + n)
    });
    import(&importer, dangerous).await;
    let filed = FileRequestRequest {
        request_id: new_id(),
        address: "Geheime weg 1".into(),
        ..report("Geheim woord")
    };
    let filed = resident.file_request(filed).await.expect("filed").into_inner();
    see(&deployment, filed.position).await;
    let none = RequestFilter::default();
    let file = export(&deployment, ExportFormat::Csv, none.clone()).await;
    let mut rows = csv::Reader::from_reader(file.as_slice());
    let rows: Vec<_> = rows.records().map(|row| row.expect("a row")).collect();
    let found: Vec<_> = rows.iter().take(cells.len()).map(|row| (&row[2], &row[17])).collect();
    assert_eq!(found, cells.map(|(_, safe)| (safe, safe)));
    let json = export(&deployment, ExportFormat::Json, none).await;
    let json = String::from_utf8(json).expect("UTF-8");
    let found: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line["category"].as_str().expect("a text").to_owned())
        .take(cells.len())
        .collect();
    assert_eq!(found, cells.map(|(category, _)| category));
    let csv = String::from_utf8(file).expect("UTF-8");
    for personal in ["Geheim", "Zoë", "zoe@"] {
        assert!(!csv.contains(personal) && !json.contains(personal), "{personal}");
    }
}
