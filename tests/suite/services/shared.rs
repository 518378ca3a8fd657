//! What the tests of the services have in common.

use std::time::Duration;

use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Partner};
use tonic::{Code, Status as Refusal};
use tonic_types::StatusExt;
use uuid::Uuid;

use samen_proto::regional::{
    ConcludeAgreementRequest, Layer, ListAgreementsRequest, RegisterPartnerRequest,
};
use samen_proto::requests::request_service_client::RequestServiceClient;

/// For conditions that a busy machine reaches late.
pub const SOON: Duration = Duration::from_secs(60);
/// A point in Buytenstee, Diemen (BU03840101).
pub const BUYTENSTEE: Location = Location { latitude: 52.352, longitude: 4.971 };

/// A new command's id.
pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// A report that is as it must be, by a resident.
pub fn report(description: &str) -> FileRequestRequest {
    FileRequestRequest {
        request_id: new_id(),
        category: "verlichting/lamp".to_owned(),
        description: description.to_owned(),
        location: Some(BUYTENSTEE),
        channel: Channel::Web.into(),
        reporter: Some(Reporter {
            name: "Zoë van 't Hof".to_owned(),
            email: "zoe@example.org".to_owned(),
            phone: String::new(),
        }),
        ..FileRequestRequest::default()
    }
}

/// Checks a refusal's code and its reason, and gives the fields it names.
pub fn refused<T: std::fmt::Debug>(
    answer: Result<T, Refusal>,
    code: Code,
    reason: &str,
) -> Vec<String> {
    let refusal = answer.expect_err("it is refused");
    assert_eq!(refusal.code(), code, "{refusal:?}");
    let details = refusal.get_error_details();
    let found = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    assert_eq!(found, reason, "{refusal:?}");
    let fields = details.bad_request().map(|bad| bad.field_violations.clone());
    fields.unwrap_or_default().into_iter().map(|violation| violation.field).collect()
}

/// How many requests there are.
pub async fn count(requests: &mut RequestServiceClient<Authorised>) -> usize {
    all(requests, RequestFilter::default()).await.len()
}

/// All requests that match, page by page.
pub async fn all(
    requests: &mut RequestServiceClient<Authorised>,
    filter: RequestFilter,
) -> Vec<ServiceRequest> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let filter = Some(filter.clone());
        let ask = ListRequestsRequest { filter, page_size: 1000, page_token, at_least: None };
        let page = requests.list_requests(ask).await.expect("a page").into_inner();
        found.extend(page.requests);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Registers a partner and agrees which events it gets; gives the agreement's
/// id, once it is visible.
pub async fn agree(deployment: &Deployment, partner: &Partner, event_types: &[&str]) -> String {
    let mut regional = deployment.regional("m").await;
    let register = RegisterPartnerRequest {
        request_id: new_id(),
        code: partner.code.clone(),
        name: "Ouder-Amstel".to_owned(),
        oin: partner.oin.clone(),
        layer: Layer::DuoPlus.into(),
        certificate_thumbprints: vec![partner.thumbprint.clone()],
    };
    regional.register_partner(register).await.expect("it is registered");
    let conclude = ConcludeAgreementRequest {
        request_id: new_id(),
        partner: partner.code.clone(),
        event_types: event_types.iter().map(|kind| (*kind).to_owned()).collect(),
        purpose: "afstemming van beheer".to_owned(),
        legal_basis: "AVG art. 6 lid 1 e".to_owned(),
    };
    let concluded = regional.conclude_agreement(conclude).await.expect("agreed").into_inner();
    let see = ListAgreementsRequest { at_least: concluded.position, ..Default::default() };
    regional.list_agreements(see).await.expect("it is visible");
    concluded.id
}
