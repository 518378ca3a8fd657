//! Where a source goes on that was restored from a backup.
//!
//! Its present history shares its first records with the one that was
//! followed. The hash of a record stands for all records before it, and this
//! service's log keeps one from time to time: a mark. The newest mark that is
//! still in the history is found first; from there the history is compared
//! record by record. A record is known by its log, epoch and position: no two
//! histories give the same ones to different records.

use async_stream::try_stream;
use futures::{Stream, StreamExt};
use samen_log::follow::PAGE;
use samen_log::{Aggregate, Cursor, Follow, FollowError, Item, Record};

use super::ReactError;
use super::own::Own;

/// The marks of a source, as the stream of an aggregate has them, which is at
/// this version: pages from the newest backwards, each in order. Those that a
/// later one took back are left out. `mark` says what a record marks.
pub fn marks<'a, A: Aggregate>(
    own: &'a impl Own<A>,
    version: u64,
    mark: impl Fn(&Record) -> Result<Option<Cursor>, ReactError> + Send + 'a,
) -> impl Stream<Item = Result<Vec<Cursor>, ReactError>> + Send + 'a {
    try_stream! {
        let mut before = version;
        let mut bound = u64::MAX;
        while before > 0 {
            let after = before.saturating_sub(PAGE as u64);
            let records = own.records(after, (before - after) as usize).await?;
            let mut page = Vec::new();
            for record in records {
                page.extend(mark(&record)?);
            }
            yield standing(page, &mut bound);
            before = after;
        }
    }
}

/// Those of the marks, in the order they were made, that lie before `bound`,
/// and were not taken back by one after them.
pub fn standing(marks: Vec<Cursor>, bound: &mut u64) -> Vec<Cursor> {
    let mut page: Vec<_> = marks
        .into_iter()
        .rev()
        .filter(|mark| {
            let stands = mark.position < *bound;
            *bound = mark.position.min(*bound);
            stands
        })
        .collect();
    page.reverse();
    page
}

/// The newest mark that stands in the source's history, and the one after it,
/// which does not.
pub async fn newest_mark(
    source: &dyn Follow,
    marks: impl Stream<Item = Result<Vec<Cursor>, ReactError>>,
) -> Result<(Cursor, Option<Cursor>), ReactError> {
    let mut marks = std::pin::pin!(marks);
    let mut lost = None;
    while let Some(page) = marks.next().await {
        let page = page?;
        let known = known(source, &page).await?;
        lost = page.get(known).cloned().or(lost);
        if let Some(newest) = known.checked_sub(1) {
            return Ok((page[newest].clone(), lost));
        }
    }
    Ok((Cursor::START, lost))
}

/// The last record that the history shares with the one that the marks are of,
/// where there is an epoch's records between one mark and the next. `None`
/// where all of that is history.
pub async fn last_shared(
    source: &dyn Follow,
    marks: impl Stream<Item = Result<Vec<Cursor>, ReactError>>,
) -> Result<Option<Cursor>, ReactError> {
    Ok(match newest_mark(source, marks).await? {
        (_, None) => None,
        (newest, Some(lost)) => Some(shared(source, newest, &lost).await?),
    })
}

/// The last record that the history shares with the one in which all records
/// from `from` to `lost` were of one epoch.
async fn shared(source: &dyn Follow, from: Cursor, lost: &Cursor) -> Result<Cursor, FollowError> {
    let mut shared = from;
    let mut items = source.follow(shared.clone());
    while shared.position + 1 < lost.position {
        match items.next().await {
            Some(Ok(Item::Record(record))) if record.epoch == lost.epoch => {
                shared = Cursor::at(&record);
            }
            Some(Ok(_)) => break,
            Some(Err(error)) => return Err(error),
            None => return Err(ended(source)),
        }
    }
    Ok(shared)
}

/// How many of these, from the first, stand in the history: one that does
/// brings all before it.
async fn known(source: &dyn Follow, marks: &[Cursor]) -> Result<usize, FollowError> {
    let (mut known, mut unknown) = (0, marks.len());
    while known < unknown {
        let middle = (known + unknown) / 2;
        match source.follow(marks[middle].clone()).next().await {
            Some(Ok(_)) => known = middle + 1,
            Some(Err(FollowError::NotInHistory { .. })) => unknown = middle,
            Some(Err(error)) => return Err(error),
            None => return Err(ended(source)),
        }
    }
    Ok(known)
}

/// A stream that should not end, did.
fn ended(source: &dyn Follow) -> FollowError {
    let reason = "its stream ended".to_owned();
    FollowError::Unavailable { log: source.log().to_owned(), reason }
}
