//! Requests as a file, page by page.

use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::paging::PageEnd;
use samen_server::reply::{self, Check};
use samen_server::streams::{Outgoing, outgoing};
use samen_server::time::from_proto;
use serde::Serialize;
use tonic::{Request, Status as Refusal};

use super::filter::filter;
use crate::Requests;
use crate::projection::queries;

/// Requests that are read at once.
const PAGE: usize = 500;
/// Bytes of one message.
const CHUNK: usize = 64 << 10;
/// What a spreadsheet may take a cell for a formula by, when it begins with it
/// (OWASP, CSV injection).
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// A request in a file. The names are the columns, in this order.
#[derive(Serialize)]
struct Exported {
    id: String,
    number: u64,
    category: String,
    status: String,
    urgency: String,
    channel: String,
    neighbourhood: String,
    latitude: Option<f64>,
    longitude: Option<f64>,
    created_at: Option<String>,
    updated_at: Option<String>,
    closed_at: Option<String>,
    due_at: Option<String>,
    norm_state: String,
    team: String,
    network: String,
    source: String,
    source_number: String,
    parent_id: String,
    merged_into_id: String,
    planned_date: String,
    external_party: String,
    transferred_to: String,
    photos: usize,
    satisfaction: Option<u32>,
}

pub async fn requests(
    service: &Requests,
    request: Request<ExportRequestsRequest>,
) -> Result<Outgoing<ExportRequestsResponse>, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    // The contract lets only staff ask.
    let filter = filter(&mut check, &service.words, message.filter, true);
    let format = check.choice::<ExportFormat>("format", message.format);
    check.finish()?;
    service.check_built()?;
    let format = format.unwrap_or_default();
    let store = service.store.clone();
    let begin = store.cursor(service.log.id()).to_position(service.log.id());
    let newest = PageEnd::now(&store, service.log.id(), None).newest;
    let items = async_stream::try_stream! {
        let mut file = header(format).map_err(reply::unavailable)?;
        let mut after = None;
        loop {
            let schema = store.schema();
            let page = queries::oldest_first(&schema, &filter, newest, after.as_ref(), PAGE);
            let (requests, end) = page.await.map_err(reply::storage)?;
            let requests = requests.into_iter().map(Exported::of);
            file.extend(lines(format, requests).map_err(reply::unavailable)?);
            while file.len() >= CHUNK {
                let rest = file.split_off(CHUNK);
                yield ExportRequestsResponse { chunk: std::mem::replace(&mut file, rest) };
            }
            after = end;
            if after.is_none() {
                break;
            }
        }
        if !file.is_empty() {
            yield ExportRequestsResponse { chunk: file };
        }
    };
    // Nothing is added to the file by a sign of life.
    let alive = |_| ExportRequestsResponse { chunk: Vec::new() };
    Ok(outgoing(items, move || begin.clone(), alive, &service.deployment, &caller))
}

/// What a file begins with.
fn header(format: ExportFormat) -> std::io::Result<Vec<u8>> {
    // The names stand in the type; it takes a row to have them written.
    match format {
        ExportFormat::Csv => {
            let mut rows = csv(true, [Exported::of(ServiceRequest::default())].into_iter())?;
            let end = rows.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            rows.truncate(end);
            Ok(rows)
        }
        _ => Ok(Vec::new()),
    }
}

fn lines(
    format: ExportFormat,
    requests: impl Iterator<Item = Exported>,
) -> std::io::Result<Vec<u8>> {
    if format == ExportFormat::Csv {
        return csv(false, requests.map(Exported::harmless));
    }
    let mut lines = Vec::new();
    for request in requests {
        serde_json::to_writer(&mut lines, &request)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn csv(header: bool, requests: impl Iterator<Item = Exported>) -> std::io::Result<Vec<u8>> {
    let mut builder = csv::WriterBuilder::new();
    let builder = builder.has_headers(header).terminator(csv::Terminator::CRLF);
    let mut writer = builder.from_writer(Vec::new());
    for request in requests {
        writer.serialize(request)?;
    }
    writer.into_inner().map_err(|error| error.into_error())
}

// === impl Exported ===

impl Exported {
    /// Without the pseudonym of who works on it.
    fn of(request: ServiceRequest) -> Self {
        let name = |name: &str, prefix: &str| match name.strip_prefix(prefix).unwrap_or(name) {
            "UNSPECIFIED" => String::new(),
            name => name.to_lowercase(),
        };
        let moment = |time: Option<_>| Some(from_proto(&time?)?.to_string());
        let handling = request.handling.clone().unwrap_or_default();
        Exported {
            status: name(request.status().as_str_name(), "STATUS_"),
            urgency: name(request.urgency().as_str_name(), "URGENCY_"),
            channel: name(request.channel().as_str_name(), "CHANNEL_"),
            norm_state: name(request.norm_state().as_str_name(), "NORM_STATE_"),
            id: request.id,
            number: request.number,
            category: request.category,
            neighbourhood: request.neighbourhood,
            latitude: request.location.map(|at| at.latitude),
            longitude: request.location.map(|at| at.longitude),
            created_at: moment(request.create_time),
            updated_at: moment(request.update_time),
            closed_at: moment(request.close_time),
            due_at: moment(request.due_time),
            team: handling.team,
            network: handling.network,
            source: request.source,
            source_number: request.source_number,
            parent_id: request.parent_id,
            merged_into_id: request.merged_into_id,
            planned_date: request.planned_date,
            external_party: request.external_party,
            transferred_to: request.transferred_to,
            photos: request.photo_ids.len(),
            satisfaction: Some(request.satisfaction).filter(|satisfaction| *satisfaction > 0),
        }
    }

    /// With a quote before each text that a spreadsheet would take for a
    /// formula. Numbers are ours and stay what they are.
    fn harmless(mut self) -> Self {
        for text in [
            &mut self.category,
            &mut self.neighbourhood,
            &mut self.team,
            &mut self.network,
            &mut self.source,
            &mut self.source_number,
            &mut self.external_party,
            &mut self.transferred_to,
        ] {
            if text.starts_with(FORMULA) {
                text.insert(0, '\'');
            }
        }
        self
    }
}
