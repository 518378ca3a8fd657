//! Lists, page by page (AIP-158): newest first, as they were when the first
//! page was read. A token says where the page before ended, sealed against
//! tampering and bound to the query that gave it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use prost::DecodeError;
use samen_log::record::Position;
use samen_log::{Db, MasterKey, Row, Sql, Store};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tonic::Status;

use crate::reply::invalid;

/// Items on a page when the caller does not say.
const DEFAULT_SIZE: usize = 100;
/// Items on a page at most; asking for more gives this.
pub const MAX_SIZE: usize = 1_000;
/// Bytes on a page: a gRPC client takes 4 MiB unless it is told otherwise. A
/// page that would be larger ends earlier.
pub const PAGE_BYTES: usize = 3 << 20;
/// Rows read at once, so that what one call holds is bounded: a page of the
/// usual size, and the row that tells whether more follow.
const ROWS: usize = DEFAULT_SIZE + 1;
const TAG_BYTES: usize = 16;

/// Where a page ended, and what was there when the list began: what came since
/// is not on later pages, whatever its moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageEnd {
    /// Microseconds since 1970.
    pub created_at: i64,
    /// The position of the newest record that the list knows.
    pub newest: u64,
    pub id: String,
}

/// A page, and where it ended if more follow.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub end: Option<PageEnd>,
}

/// Makes and checks page tokens.
#[derive(Clone)]
pub struct Pages(Hmac<Sha256>);

// === impl PageEnd ===

impl PageEnd {
    /// Before the first item of a list of what there is up to `newest`.
    pub fn before_all(newest: u64) -> Self {
        PageEnd { created_at: i64::MAX, newest, id: String::new() }
    }

    /// Before the first item of a list that begins now: it holds all that its
    /// reader has waited for, even when the store's own mark has not moved yet.
    pub fn now(store: &Store, log: &str, at_least: Option<&Position>) -> Self {
        let waited = at_least.filter(|at| at.log == log).map_or(0, |at| at.position);
        PageEnd::before_all(store.cursor(log).position.max(waited))
    }
}

// === impl Page ===

impl<T> Page<T> {
    /// The page with other items in the place of these.
    pub fn map<U>(self, of: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(of).collect(), end: self.end }
    }
}

// === impl Pages ===

impl Pages {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive("page tokens");
        Pages(Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length"))
    }

    /// A token for the page after `end`, of the query that `query` names with
    /// all of its filters.
    pub fn token(&self, query: &[u8], end: &impl Serialize) -> Result<String, Status> {
        let mut token = serde_json::to_vec(end).map_err(|e| Status::internal(e.to_string()))?;
        let tag = self.tag(query, &token);
        token.extend_from_slice(&tag);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// The token for the page after this one; empty on the last.
    pub fn next(&self, query: &[u8], end: Option<&PageEnd>) -> Result<String, Status> {
        end.map_or_else(|| Ok(String::new()), |end| self.token(query, end))
    }

    /// Where the page before ended; `None` for the first page.
    pub fn end<T: DeserializeOwned>(&self, query: &[u8], token: &str) -> Result<Option<T>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let refusal = || {
            invalid(
                "page_token",
                "must be empty, or the next_page_token of a page with the same filter",
            )
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| refusal())?;
        let (end, tag) =
            bytes.len().checked_sub(TAG_BYTES).map(|at| bytes.split_at(at)).ok_or_else(refusal)?;
        let mut mac = self.0.clone();
        absorb(&mut mac, query, end);
        mac.verify_truncated_left(tag).map_err(|_| refusal())?;
        serde_json::from_slice(end).map(Some).map_err(|_| refusal())
    }

    fn tag(&self, query: &[u8], end: &[u8]) -> [u8; TAG_BYTES] {
        let mut mac = self.0.clone();
        absorb(&mut mac, query, end);
        let full = mac.finalize().into_bytes();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&full[..TAG_BYTES]);
        tag
    }
}

fn absorb(mac: &mut Hmac<Sha256>, query: &[u8], end: &[u8]) {
    mac.update(&(query.len() as u64).to_be_bytes());
    mac.update(query);
    mac.update(end);
}

/// How many items a page has.
pub fn size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err(invalid("page_size", "must be 0 (for 100) to 1000")),
    }
}

/// The page after `from`: so many items, and no more bytes than a client
/// takes, but at least one.
///
/// `select` gives the statement `SELECT created_at, id, … WHERE …`, without
/// what comes after `from.newest`; `item` reads one of its rows.
pub async fn read<T>(
    db: &Db,
    from: &PageEnd,
    size: usize,
    select: impl Fn() -> Sql,
    item: impl Fn(&Row) -> Result<T, DecodeError>,
    bytes: impl Fn(&T) -> usize,
) -> sqlx::Result<Page<T>> {
    let mut items = Vec::new();
    let mut total = 0;
    let mut end = from.clone();
    loop {
        let limit = (size + 1 - items.len()).min(ROWS);
        let mut sql = select();
        sql.push(" AND (created_at, id) < ");
        sql.row([end.created_at.into(), end.id.as_str().into()]);
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(limit as i64);
        let rows = sql.fetch(db).await?;
        for row in &rows {
            let found = item(row).map_err(|error| sqlx::Error::Decode(error.into()))?;
            total += bytes(&found);
            if items.len() == size || (total > PAGE_BYTES && !items.is_empty()) {
                return Ok(Page { items, end: Some(end) });
            }
            items.push(found);
            end = PageEnd { created_at: row.int(0), id: row.text(1), ..end };
        }
        if rows.len() < limit {
            return Ok(Page { items, end: None });
        }
    }
}
