//! The last records of a log, in memory, shared by everybody who follows it
//! live: a thousand followers cost the database nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::record::Record;

/// Records kept; a follower further behind reads from the database.
const MAX_RECORDS: usize = 8_192;
/// Bytes of data kept, whatever the number of records.
const MAX_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Tail {
    /// In which the log was opened.
    epoch: u64,
    recent: RwLock<Recent>,
    head: watch::Sender<u64>,
    replaced: AtomicBool,
}

#[derive(Debug, Default)]
struct Recent {
    /// Consecutive positions that end at or before the head.
    records: VecDeque<Arc<Record>>,
    bytes: usize,
}

impl Tail {
    pub fn new(epoch: u64, head: u64) -> Self {
        Tail {
            epoch,
            recent: RwLock::default(),
            head: watch::Sender::new(head),
            replaced: AtomicBool::new(false),
        }
    }

    /// The newest position that is known to be committed.
    pub fn head(&self) -> u64 {
        *self.head.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Adds records that were just committed here.
    pub fn push(&self, records: &[Arc<Record>]) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let last = last.position;
        {
            let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
            let next = recent.records.back().map(|r| r.position + 1);
            if next.is_some_and(|next| next != first.position) {
                // Another process wrote in between: these no longer connect.
                *recent = Recent::default();
            }
            for record in records {
                recent.bytes += record.data.len();
                recent.records.push_back(record.clone());
            }
            while recent.records.len() > MAX_RECORDS || recent.bytes > MAX_BYTES {
                let Some(oldest) = recent.records.pop_front() else { break };
                recent.bytes -= oldest.data.len();
            }
        }
        self.advance(last);
    }

    /// Learns that another process has committed up to here.
    pub fn advance(&self, head: u64) {
        self.head.send_if_modified(|known| {
            let newer = head > *known;
            *known = head.max(*known);
            newer
        });
    }

    /// Learns what the database says now. Another epoch than the one in which
    /// the log was opened: a backup was restored in its place.
    pub fn found(&self, epoch: u64, head: u64) {
        if epoch == self.epoch {
            self.advance(head);
        } else if !self.replaced.swap(true, Ordering::AcqRel) {
            // Those who wait look up, and see it.
            self.head.send_modify(|_| {});
        }
    }

    /// Whether what this process knows is of a log that is not there any more.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Records after a position, where they are in memory.
    pub fn after(&self, position: u64, limit: usize) -> Vec<Arc<Record>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = recent.records.front() else { return Vec::new() };
        let Some(skip) = (position + 1).checked_sub(first.position) else { return Vec::new() };
        recent.records.iter().skip(skip as usize).take(limit).cloned().collect()
    }
}
