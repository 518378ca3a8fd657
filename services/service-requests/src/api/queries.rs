//! Queries: what is.

use prost::Message;
use samen_proto::options::Role;
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::calls::wait;
use samen_server::paging::{self, PageEnd};
use samen_server::reply::{self, Check, not_found};
use tonic::{Request, Status as Refusal};

use super::filter::filter;
use crate::Requests;
use crate::projection::queries::{self, Visible};

/// Employees see all requests, residents what they filed.
pub fn visible_to(caller: &Caller) -> Visible {
    if caller.has_any(&[Role::Handler, Role::Manager]) {
        Visible::All
    } else {
        Visible::FiledBy(caller.id.clone())
    }
}

pub async fn get(
    service: &Requests,
    request: Request<GetRequestRequest>,
) -> Result<GetRequestResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.id("id", &message.id);
    check.finish()?;
    wait(service, message.at_least.as_ref()).await?;
    let row = queries::get(&service.store.schema(), &visible_to(&caller), &message.id)
        .await
        .map_err(reply::unavailable)?;
    let row = row.ok_or_else(|| not_found("request", &message.id))?;
    Ok(GetRequestResponse { request: Some(row.body) })
}

pub async fn list(
    service: &Requests,
    request: Request<ListRequestsRequest>,
) -> Result<ListRequestsResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let visible = visible_to(&caller);
    // A token is good for this filter and these eyes only.
    let query = format!("ListRequests {visible:?} ").into_bytes();
    let asked = message.filter.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    let query = [query, asked].concat();
    let mut check = Check::default();
    let staff = matches!(visible, Visible::All);
    let filter = filter(&mut check, &service.words, message.filter, staff);
    check.finish()?;
    let size = paging::size(message.page_size)?;
    let pages = &service.deployment.pages;
    let from: Option<PageEnd> = pages.end(&query, &message.page_token)?;
    let at_least = message.at_least.as_ref();
    wait(service, at_least).await?;

    let from = from.unwrap_or_else(|| PageEnd::now(&service.store, service.log.id(), at_least));
    let page = queries::list(&service.store.schema(), &visible, &filter, &from, size)
        .await
        .map_err(reply::unavailable)?;
    let next_page_token = pages.next(&query, page.end.as_ref())?;
    Ok(ListRequestsResponse { requests: page.items, next_page_token })
}
