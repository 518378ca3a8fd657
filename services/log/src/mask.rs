//! What leaves the house: the one place that decides it.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use samen_proto::contract;

use crate::follow::{Cursor, Follow, FollowError, Item};
use crate::record::Record;

/// A record as others may see it: whole where the contract marks its type as
/// exchanged, else a placeholder that keeps the numbers gapless.
pub fn mask(record: Arc<Record>) -> Arc<Record> {
    if contract::is_exchanged(&record.r#type) {
        return record;
    }
    Arc::new(Record {
        log: record.log.clone(),
        epoch: record.epoch,
        position: record.position,
        hash: record.hash.clone(),
        ..Record::default()
    })
}

/// A log as the other services see it. The only way from a log in SQL to
/// anybody outside its service.
pub struct Exchanged<F>(pub F);

impl<F: Follow> Follow for Exchanged<F> {
    fn log(&self) -> &str {
        self.0.log()
    }

    fn newest(&self) -> Option<u64> {
        self.0.newest()
    }

    fn knows<'a>(&'a self, cursor: &'a Cursor) -> BoxFuture<'a, Result<bool, FollowError>> {
        self.0.knows(cursor)
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let masked = self.0.follow(after).map(|item| match item {
            Ok(Item::Record(record)) => Ok(Item::Record(mask(record))),
            other => other,
        });
        masked.boxed()
    }
}
