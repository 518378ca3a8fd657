//! Queries: what is.

use prost::Message;
use samen_proto::log::Sealed;
use samen_proto::options::Role;
use samen_proto::participation::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::calls::wait;
use samen_server::paging::{self, PageEnd};
use samen_server::reply::{self, Check, not_found};
use tonic::{Request, Status as Refusal};

use crate::Participation;
use crate::projection::queries::{self, Visible};
use crate::projection::row::ContributionRow;

/// Process leads see all processes, others what is published.
fn visible_to(caller: &Caller) -> Visible {
    if caller.has(Role::ProcessLead) { Visible::All } else { Visible::Published }
}

pub async fn get(
    service: &Participation,
    request: Request<GetProcessRequest>,
) -> Result<GetProcessResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.id("id", &message.id);
    check.finish()?;
    wait(service, message.at_least.as_ref()).await?;
    let process = queries::get(&service.store.schema(), visible_to(&caller), &message.id)
        .await
        .map_err(reply::unavailable)?;
    let process = process.ok_or_else(|| not_found("process", &message.id))?;
    Ok(GetProcessResponse { process: Some(process) })
}

pub async fn list(
    service: &Participation,
    request: Request<ListProcessesRequest>,
) -> Result<ListProcessesResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let size = paging::size(message.page_size)?;
    let visible = visible_to(&caller);
    // A token is good for these eyes only.
    let query = format!("ListProcesses {visible:?}");
    let pages = &service.deployment.pages;
    let from: Option<PageEnd> = pages.end(query.as_bytes(), &message.page_token)?;
    let at_least = message.at_least.as_ref();
    wait(service, at_least).await?;

    let from = from.unwrap_or_else(|| PageEnd::now(&service.store, service.log.id(), at_least));
    let page = queries::list(&service.store.schema(), visible, &from, size)
        .await
        .map_err(reply::unavailable)?;
    let next_page_token = pages.next(query.as_bytes(), page.end.as_ref())?;
    Ok(ListProcessesResponse { processes: page.items, next_page_token })
}

pub async fn contributions(
    service: &Participation,
    request: Request<ListContributionsRequest>,
) -> Result<ListContributionsResponse, Refusal> {
    let message = request.into_inner();
    let mut check = Check::default();
    check.id("process_id", &message.process_id);
    check.finish()?;
    let size = paging::size(message.page_size)?;
    let query = format!("ListContributions {}", message.process_id);
    let pages = &service.deployment.pages;
    let from: Option<PageEnd> = pages.end(query.as_bytes(), &message.page_token)?;
    let at_least = message.at_least.as_ref();
    wait(service, at_least).await?;

    let schema = &service.store.schema();
    let id = &message.process_id;
    // A draft takes no contributions, so that nobody sees any of it here.
    let process = queries::get(schema, Visible::Published, id).await;
    process.map_err(reply::unavailable)?.ok_or_else(|| not_found("process", id))?;
    let from = from.unwrap_or_else(|| PageEnd::now(&service.store, service.log.id(), at_least));
    let page = queries::contributions(schema, id, &from, size).await.map_err(reply::unavailable)?;
    let next_page_token = pages.next(query.as_bytes(), page.end.as_ref())?;
    let contributions = unsealed(service, page.items).await?;
    Ok(ListContributionsResponse { contributions, next_page_token })
}

/// Contributions with their texts; without, where the text's key was
/// destroyed.
async fn unsealed(
    service: &Participation,
    rows: Vec<ContributionRow>,
) -> Result<Vec<Contribution>, Refusal> {
    let mut sealed = Vec::new();
    for row in rows {
        let text = Sealed::decode(row.text.as_slice()).map_err(reply::unavailable)?;
        sealed.push((row.body, text));
    }
    let ids = sealed.iter().map(|(_, text)| text.key_id.as_str());
    let keys = service.keyring.find(ids).await.map_err(reply::unavailable)?;
    let opened = sealed.into_iter().map(|(mut body, text)| {
        if let Some(key) = keys.get(&text.key_id) {
            let altered = || reply::unavailable(format!("the text {} was altered", text.key_id));
            body.text = key.open::<Text>(&text).ok_or_else(altered)?.text;
        }
        Ok(body)
    });
    opened.collect()
}
