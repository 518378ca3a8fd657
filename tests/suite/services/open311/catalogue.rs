//! Where the door is, and what can be reported.

use serde_json::json;

use super::super::in_both_setups;
use super::*;

in_both_setups!(
    what_can_be_reported_is_told_in_both_formats,
    what_is_not_there_is_told_in_the_format_that_was_asked,
);

async fn what_can_be_reported_is_told_in_both_formats(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let discovery = get(&deployment, "discovery.json").await.json();
    assert_eq!(discovery["contact"], "open311@example.nl");
    assert_eq!(discovery["key_service"], "https://example.nl/sleutel");
    let endpoint = &discovery["endpoints"][0];
    assert_eq!(endpoint["specification"], "http://wiki.open311.org/GeoReport_v2");
    assert_eq!(endpoint["url"], "https://meldingen.example.nl/open311/v2");
    assert_eq!(endpoint["type"], "test");
    assert_eq!(endpoint["formats"], json!(["text/xml", "application/json"]));
    let discovery = get(&deployment, "discovery.xml").await;
    assert!(discovery.xml().starts_with("<discovery><changeset>"), "{}", discovery.body);
    assert!(discovery.xml().contains("<formats><format>text/xml</format>"), "{}", discovery.body);

    let services = get(&deployment, "services.json").await;
    let lamp = json!({
        "service_code": "verlichting/lamp", "service_name": "Lamp & <mast>",
        "description": "Een lamp is stuk", "metadata": true, "type": "realtime",
        "keywords": "lantaarn,donker", "group": "Verlichting",
    });
    let tree = json!({
        "service_code": "groen-en-water/boom", "service_name": "Boom", "description": null,
        "metadata": false, "type": "realtime", "keywords": null, "group": "Groen en water",
    });
    assert_eq!(services.json(), json!([tree, lamp]));
    assert!(services.head.contains("access-control-allow-origin: *"), "{}", services.head);
    let services = get(&deployment, "services.xml?jurisdiction_id=gm0384").await;
    let lamp = "<service><service_code>verlichting/lamp</service_code>\
                <service_name>Lamp &amp; &lt;mast&gt;</service_name>\
                <description>Een lamp is stuk</description><metadata>true</metadata>\
                <type>realtime</type><keywords>lantaarn,donker</keywords>\
                <group>Verlichting</group></service></services>";
    assert!(services.xml().starts_with("<services><service>"), "{}", services.body);
    assert!(services.xml().ends_with(lamp), "{}", services.body);

    let definition = get(&deployment, "services/verlichting/lamp.json").await.json();
    assert_eq!(definition["service_code"], "verlichting/lamp");
    let attributes = definition["attributes"].as_array().expect("attributes");
    let kinds: Vec<_> = attributes.iter().map(|a| (&a["code"], &a["datatype"])).collect();
    let expected = [
        ("mast", "text"),
        ("aantal", "singlevaluelist"),
        ("wanneer", "multivaluelist"),
        ("hoog", "number"),
        ("sinds", "datetime"),
    ]
    .map(|(code, kind)| (json!(code), json!(kind)));
    assert_eq!(kinds, expected.each_ref().map(|(code, kind)| (code, kind)));
    let asked = json!({
        "variable": true, "code": "aantal", "datatype": "singlevaluelist", "required": true,
        "datatype_description": null, "order": 2, "description": "Hoeveel?",
        "values": [{"key": "een", "name": "Een"}, {"key": "meer", "name": "Meer"}],
    });
    assert_eq!(attributes[1], asked);
    assert_eq!(attributes[0].get("values"), None);
    let escaped = get(&deployment, "services/verlichting%2Flamp.xml").await;
    let beginning = "<service_definition><service_code>verlichting/lamp</service_code>\
                     <attributes><attribute><variable>true</variable><code>mast</code>";
    assert!(escaped.xml().starts_with(beginning), "{}", escaped.body);
    let value = "<values><value><key>een</key><name>Een</name></value>";
    assert!(escaped.xml().contains(value), "{}", escaped.body);
    let plain = get(&deployment, "services/groen-en-water/boom.json").await.json();
    assert_eq!(plain["attributes"], json!([]));
}

async fn what_is_not_there_is_told_in_the_format_that_was_asked(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    for code in ["zorg/iemand", "verlichting", "x/y"] {
        let answer = get(&deployment, &format!("services/{code}.json")).await;
        answer.refused(404, &[&format!("service_code: {code} was not found")]);
    }
    get(&deployment, "services.json?jurisdiction_id=boston.gov")
        .await
        .refused(404, &["jurisdiction_id: "]);
    get(&deployment, "requests/1.json?jurisdiction_id=x").await.refused(404, &["jurisdiction_id"]);
    get(&deployment, "nothing.json").await.refused(404, &["there is no nothing here"]);
    get(&deployment, "requests/1.json").await.refused(404, &["service_request_id: 1 was not"]);
    get(&deployment, "requests/x.json").await.refused(404, &["service_request_id: x was not"]);
    get(&deployment, "tokens/x.json").await.refused(404, &["token: x was not found"]);
    post(&deployment, "services.json", &[]).await.refused(405, &["this is not done here"]);
    let answer = get(&deployment, "services/x%20%3Cy.xml").await;
    assert_eq!(answer.status, 404);
    let expected = "<errors><error><code>404</code><description>service_code: x &lt;y was not \
                    found</description></error></errors>";
    assert_eq!(answer.xml(), expected);
    for path in ["services", "services.html", "requests.csv", "."] {
        let answer = get(&deployment, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.xml().starts_with("<errors><error><code>404</code>"), "{}", answer.body);
    }
}
