//! Queries: what is.

use prost::Message;
use samen_proto::options::Role;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::paging;
use samen_server::reply::{self, Check};
use samen_server::time::micros;
use samen_server::{Caller, reply::not_found};
use tonic::{Request, Status as Refusal};

use super::check;
use crate::Requests;
use crate::projection::queries::{self, PageEnd, Visible};

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
    let row = queries::get(service.store.schema(), &visible_to(&caller), &message.id)
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
    let filter = message.filter.unwrap_or_default();
    let mut check = Check::default();
    check::filter(&mut check, &filter);
    check.finish()?;
    let size = paging::size(message.page_size)?;
    let visible = visible_to(&caller);
    // A token is good for this filter and these eyes only.
    let query = format!("ListRequests {visible:?} ").into_bytes();
    let query = [query, filter.encode_to_vec()].concat();
    let pages = &service.deployment.pages;
    let end: Option<PageEnd> = pages.end(&query, &message.page_token)?;
    wait(service, message.at_least.as_ref()).await?;

    let newest = match &end {
        Some(end) => end.newest,
        None => service.store.cursor(service.log.id()).position,
    };
    let schema = service.store.schema();
    let mut requests = queries::list(schema, &visible, &filter, newest, end.as_ref(), size + 1)
        .await
        .map_err(reply::unavailable)?;
    let more = requests.len() > size;
    requests.truncate(size);
    let next_page_token = match requests.last() {
        Some(last) if more => {
            let created_at = last.create_time.as_ref().map_or(0, micros);
            pages.token(&query, &PageEnd { created_at, newest, id: last.id.clone() })?
        }
        _ => String::new(),
    };
    Ok(ListRequestsResponse { requests, next_page_token })
}

/// Waits until the store has seen what the caller has written.
pub async fn wait(
    service: &Requests,
    at_least: Option<&samen_proto::log::Position>,
) -> Result<(), Refusal> {
    let Some(at_least) = at_least else { return Ok(()) };
    service.store.wait_for(at_least).await.map_err(reply::wait)
}
