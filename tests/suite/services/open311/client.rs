//! Read by a client that is not ours: `georeport`, from PyPI.

use samen_tests::servers;

use super::super::in_both_setups;
use super::*;

in_both_setups!(a_client_of_others_reads_all_of_it);

/// Everything that the client can ask, as one JSON object.
const PROGRAM: &str = r#"
import json, sys
from georeport import GeoReport
address, number = sys.argv[1:]
said = {}
for form in ("json", "xml"):
    client = GeoReport(address, jurisdiction="GM0384", output_format=form)
    said[form] = {
        "services": client.get_service_list(),
        "definition": client.get_service_definition("verlichting/lamp"),
        "open": client.get_service_requests(service_code="verlichting/lamp", status="open"),
        "all": client.get_service_requests(
            start_date="2026-03-01T00:00:00+01:00", end_date="2026-04-01T00:00:00+02:00"),
        "one": client.get_service_request(number),
        "ids": client.get_service_requests(service_request_id=number),
    }
print(json.dumps(said))
"#;

async fn a_client_of_others_reads_all_of_it(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let closed = Some("2026-03-30T09:00:00Z");
    for (code, minute) in [("verlichting/lamp", 10), ("groen-en-water/boom", 11)] {
        import(&deployment, code, &format!("2026-03-29T10:{minute}:00Z"), closed).await;
    }
    let now = jiff::Timestamp::now().to_string();
    let open = [0, 1].map(|_| import(&deployment, "verlichting/lamp", &now, None));
    let mut numbers = Vec::new();
    for number in open {
        numbers.push(number.await);
    }
    let address = format!("http://{}/open311/v2", deployment.reports_address());
    let number = numbers[0].clone();
    let asked = tokio::task::spawn_blocking(move || {
        servers::python().args(["-c", PROGRAM, &address, &number]).output()
    });
    let output = asked.await.expect("it ended").expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for format in ["json", "xml"] {
        let said = &said[format];
        let count = |name: &str| said[name].as_array().map_or(0, Vec::len);
        assert_eq!((count("services"), count("open"), count("all")), (2, 2, 2), "{said}");
        assert_eq!(said["services"][1]["service_name"], "Lamp & <mast>");
        assert_eq!(said["definition"]["service_code"], "verlichting/lamp");
        assert_eq!(said["one"]["service_request_id"], numbers[0].as_str());
        assert_eq!(said["one"]["status"], "open");
        assert_eq!(said["all"][1]["requested_datetime"], "2026-03-29T12:10:00+02:00");
    }
    let attributes = &said["xml"]["definition"]["attributes"]["attribute"];
    assert_eq!(attributes[1]["values"]["value"][0]["key"], "een");
    assert_eq!(said["xml"]["ids"], said["xml"]["one"]);
    assert_eq!(said["json"]["ids"][0], said["json"]["one"]);
}
