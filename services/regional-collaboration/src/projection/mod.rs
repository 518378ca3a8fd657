//! The tables that queries and feeds read, and what each event does to them.
//!
//! The store follows this service's log ([`own`]) and those of the others
//! ([`sources`]). Rows of one never depend on the other's progress, so they
//! come out the same however the logs interleave.

use std::sync::Arc;

use futures::future::BoxFuture;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Projection, Record, Schema};

mod own;
pub mod queries;
mod sources;

/// Rows in one statement.
const CHUNK: usize = 1_000;

/// The store of this service.
pub struct RegionalProjection;

impl Projection for RegionalProjection {
    fn tables(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn version(&self) -> u32 {
        1
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(async move {
            sources::keep(tx, schema, records).await?;
            own::apply(tx, schema, records).await
        })
    }
}
