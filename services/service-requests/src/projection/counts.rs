//! Open and closed requests by neighbourhood, moved by what a batch changed.

use std::collections::BTreeMap;

use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Schema, Sql};

use super::Rows;
use crate::domain::status;

pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    before: &Rows,
    after: &Rows,
) -> Result<(), ApplyError> {
    let mut changes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (rows, by) in [(before, -1), (after, 1)] {
        for row in rows.values() {
            let (open, closed) = changes.entry(&row.body.neighbourhood).or_default();
            let of = if status::is_closed(row.body.status()) { closed } else { open };
            *of += by;
        }
    }
    changes.retain(|_, change| *change != (0, 0));
    if changes.is_empty() {
        return Ok(());
    }
    let mut sql = Sql::new(
        schema,
        "INSERT INTO {s}.neighbourhood_count AS counted (neighbourhood, open, closed) ",
    );
    sql.values(changes.iter().map(|(neighbourhood, (open, closed))| {
        [(*neighbourhood).into(), (*open).into(), (*closed).into()]
    }));
    sql.push(
        " ON CONFLICT (neighbourhood) DO UPDATE
          SET open = counted.open + excluded.open, closed = counted.closed + excluded.closed",
    );
    sql.execute(tx).await?;
    Ok(())
}
