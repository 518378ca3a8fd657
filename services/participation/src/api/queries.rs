//! Queries: what is.

use futures::{StreamExt, TryStreamExt};
use prost::Message;
use samen_proto::log::{Position, Sealed};
use samen_proto::options::Role;
use samen_proto::participation::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::paging::{self, Pages};
use samen_server::reply::{self, Check, not_found};
use samen_server::time::micros;
use tonic::{Request, Status as Refusal};

use crate::Participation;
use crate::projection::queries::{self, PageEnd, Visible};
use crate::projection::row::ContributionRow;

/// Bytes on a page: a gRPC client takes 4 MiB unless it is told otherwise. A
/// page that would be larger ends earlier.
const PAGE_BYTES: usize = 3 << 20;
/// Texts of one page that are opened at the same time.
const UNSEALING: usize = 4;

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
    let process = queries::get(service.store.schema(), visible_to(&caller), &message.id)
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
    let end: Option<PageEnd> = pages.end(query.as_bytes(), &message.page_token)?;
    wait(service, message.at_least.as_ref()).await?;

    let newest = newest(service, end.as_ref());
    let schema = service.store.schema();
    let mut processes = queries::list(schema, visible, newest, end.as_ref(), size + 1)
        .await
        .map_err(reply::unavailable)?;
    let more = cut(&mut processes, size, Message::encoded_len);
    let last = processes.last().filter(|_| more);
    let last = last.map(|process| (&process.id, &process.create_time));
    let next_page_token = next(pages, &query, newest, last)?;
    Ok(ListProcessesResponse { processes, next_page_token })
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
    let end: Option<PageEnd> = pages.end(query.as_bytes(), &message.page_token)?;
    wait(service, message.at_least.as_ref()).await?;

    let schema = service.store.schema();
    let id = &message.process_id;
    // A draft takes no contributions, so that nobody sees any of it here.
    let process = queries::get(schema, Visible::Published, id).await;
    process.map_err(reply::unavailable)?.ok_or_else(|| not_found("process", id))?;
    let newest = newest(service, end.as_ref());
    let mut rows = queries::contributions(schema, id, newest, end.as_ref(), size + 1)
        .await
        .map_err(reply::unavailable)?;
    let more = cut(&mut rows, size, |row| row.body.encoded_len() + row.text.len());
    let last = rows.last().filter(|_| more).map(|row| (&row.body.id, &row.body.create_time));
    let next_page_token = next(pages, &query, newest, last)?;
    let contributions = futures::stream::iter(rows)
        .map(|row| unsealed(service, row))
        .buffered(UNSEALING)
        .try_collect()
        .await?;
    Ok(ListContributionsResponse { contributions, next_page_token })
}

/// The contribution with its text; without, where the text's key was
/// destroyed.
async fn unsealed(service: &Participation, row: ContributionRow) -> Result<Contribution, Refusal> {
    let ContributionRow { mut body, text, .. } = row;
    let sealed = Sealed::decode(text.as_slice()).map_err(reply::unavailable)?;
    let text: Option<Text> = service.keyring.unseal(&sealed).await.map_err(reply::unavailable)?;
    body.text = text.unwrap_or_default().text;
    Ok(body)
}

/// Up to where a list goes: what there was when its first page was read.
fn newest(service: &Participation, end: Option<&PageEnd>) -> u64 {
    end.map_or_else(|| service.store.cursor(service.log.id()).position, |end| end.newest)
}

/// Cuts what was read to a page: so many items, and no more bytes than a
/// client takes, but at least one. Whether more follow.
fn cut<T>(items: &mut Vec<T>, size: usize, bytes: impl Fn(&T) -> usize) -> bool {
    let read = items.len();
    let mut total = 0;
    let fitting = items.iter().take_while(|item| {
        total += bytes(item);
        total <= PAGE_BYTES
    });
    let fitting = fitting.count().max(1);
    items.truncate(size.min(fitting));
    items.len() < read
}

/// The token for the page after this item, where there is one.
fn next(
    pages: &Pages,
    query: &str,
    newest: u64,
    last: Option<(&String, &Option<prost_types::Timestamp>)>,
) -> Result<String, Refusal> {
    let Some((id, created)) = last else { return Ok(String::new()) };
    let created_at = created.as_ref().map_or(0, micros);
    pages.token(query.as_bytes(), &PageEnd { created_at, newest, id: id.clone() })
}

/// Waits until the store has seen what the caller has written.
async fn wait(service: &Participation, at_least: Option<&Position>) -> Result<(), Refusal> {
    let Some(at_least) = at_least else { return Ok(()) };
    service.store.wait_for(at_least).await.map_err(reply::wait)
}
