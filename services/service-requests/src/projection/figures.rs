//! Figures over the requests that match a filter, by one property of theirs.

use samen_log::{Row, Schema, Sql};
use samen_proto::requests::{Figures, GroupBy, NormState};

use super::filter::Filter;
use super::queries::Visible;
use super::row::NONE;

/// By group, in their order. All in one is one group, also of nothing.
///
/// One statement, so that all figures are of one moment. Open requests come
/// last in each group's order, so that a closed one's place is its place among
/// the closed ones; the nearest rank of a part p of n is the first place that
/// is at least p times n.
pub async fn figures(schema: &Schema, filter: &Filter, by: GroupBy) -> sqlx::Result<Vec<Figures>> {
    let group = match by {
        GroupBy::Unspecified => "''",
        GroupBy::Category => "category",
        GroupBy::Neighbourhood => "neighbourhood",
        GroupBy::Team => "team",
        GroupBy::Week => "CAST(week AS text)",
    };
    let filter = filter.led(schema, &Visible::All).await?;
    let mut sql = Sql::new(
        schema,
        "SELECT kind,
                COUNT(*) FILTER (WHERE closed = 0),
                COUNT(*) FILTER (WHERE closed = 1),
                COUNT(*) FILTER (WHERE closed = 1 AND norm_state > 0),
                COUNT(*) FILTER (WHERE closed = 1 AND norm_state = ",
    );
    sql.bind(i32::from(NormState::Within));
    sql.push(
        "),
                COALESCE(MIN(CASE WHEN closed = 1 AND place * 2 >= total THEN lasted END), 0),
                COALESCE(MIN(CASE WHEN closed = 1 AND place * 10 >= total * 9 THEN lasted END), 0),
                COUNT(*) FILTER (WHERE satisfaction > 0),
                CAST(SUM(satisfaction) AS bigint),
                COUNT(*) FILTER (WHERE closed = 0 AND norm_state = ",
    );
    sql.bind(i32::from(NormState::Breached));
    sql.push(
        ")
         FROM (SELECT kind, closed, norm_state, satisfaction, lasted,
                      ROW_NUMBER() OVER (PARTITION BY kind ORDER BY closed DESC, lasted) AS place,
                      SUM(closed) OVER (PARTITION BY kind) AS total
               FROM (",
    );
    let columns = format!(
        "{group} AS kind, norm_state, satisfaction,
         CASE WHEN closed_at = {NONE} THEN 0 ELSE 1 END AS closed,
         CASE WHEN closed_at = {NONE} THEN 0 ELSE (closed_at - created_at) / 1000000 END AS lasted"
    );
    filter.add(&mut sql, schema, &columns, &Visible::All);
    sql.push(") AS each_one) AS in_order GROUP BY kind");
    let mut found: Vec<_> = sql.fetch(&schema.db).await?.iter().map(|row| read(row, by)).collect();
    if by == GroupBy::Unspecified && found.is_empty() {
        found.push(Figures::default());
    }
    found.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(found)
}

fn read(row: &Row, by: GroupBy) -> Figures {
    let group = row.text(0);
    let number = |column: usize| row.int(column) as u64;
    Figures {
        group: match (by, group.split_at_checked(4)) {
            (GroupBy::Week, Some((year, week))) => format!("{year}-W{week}"),
            _ => group,
        },
        open: number(1),
        closed: number(2),
        with_norm: number(3),
        within_norm: number(4),
        median_seconds: number(5),
        p90_seconds: number(6),
        rated: number(7),
        satisfaction_sum: number(8),
        breached_open: number(9),
    }
}
