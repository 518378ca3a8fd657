//! What is in a store, read by nothing but SQL.

use std::collections::BTreeMap;

use samen_tests::Place;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

/// Every row of every table, with every byte of every column.
pub type Dump = BTreeMap<String, Vec<String>>;

/// Tells of the store itself, such as when it was made, and not of records.
const OF_THE_STORE: &str = "generation";

/// Dumps the only store that a place has.
pub async fn dump(place: &Place) -> Dump {
    let mut dump = Dump::new();
    match place {
        Place::Postgres { url } => {
            let mut database = PgConnection::connect(url).await.expect("the database");
            let tables: Vec<(String, String)> = sqlx::query_as(
                "SELECT schemaname::text, tablename::text FROM pg_tables
                 WHERE schemaname LIKE 'test\\_projection\\_%' AND tablename <> $1",
            )
            .bind(OF_THE_STORE)
            .fetch_all(&mut database)
            .await
            .expect("the tables");
            for (schema, table) in tables {
                let rows = format!(
                    r#"SELECT t::text FROM {schema}.{table} AS t ORDER BY t::text COLLATE "C""#
                );
                let rows = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut database).await;
                let before = dump.insert(table, rows.expect("the rows"));
                assert_eq!(before, None, "there is one store");
            }
        }
        Place::Sqlite { .. } => {
            let mut database = sqlite(place).await;
            let tables: Vec<String> = sqlx::query_scalar(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> $1",
            )
            .bind(OF_THE_STORE)
            .fetch_all(&mut database)
            .await
            .expect("the tables");
            for table in tables {
                let columns: Vec<String> =
                    sqlx::query_scalar("SELECT 'quote(' || name || ')' FROM pragma_table_info($1)")
                        .bind(&table)
                        .fetch_all(&mut database)
                        .await
                        .expect("the columns");
                let row = columns.join(" || ',' || ");
                let rows = AssertSqlSafe(format!("SELECT {row} FROM {table} ORDER BY 1"));
                let rows = sqlx::query_scalar(rows).fetch_all(&mut database).await;
                dump.insert(table, rows.expect("the rows"));
            }
        }
    }
    dump
}

/// How far the only store of a place has followed a log, when whoever was
/// moving it is gone: a server goes on for a moment for one that was killed.
pub async fn checkpoint(place: &Place, log: &str) -> u64 {
    let position: i64 = match place {
        Place::Postgres { url } => {
            let mut database = PgConnection::connect(url).await.expect("the database");
            let schema: String = sqlx::query_scalar(
                "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'test\\_projection\\_%'",
            )
            .fetch_one(&mut database)
            .await
            .expect("there is one store");
            let sql = format!("SELECT position FROM {schema}.checkpoint WHERE log = $1 FOR UPDATE");
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(log).fetch_one(&mut database).await
        }
        Place::Sqlite { .. } => {
            let sql = "SELECT position FROM checkpoint WHERE log = $1";
            sqlx::query_scalar(sql).bind(log).fetch_one(&mut sqlite(place).await).await
        }
    }
    .expect("the checkpoint");
    position as u64
}

/// The file of the only store.
async fn sqlite(place: &Place) -> SqliteConnection {
    let stores = place.location().await.stores("projection_").await.expect("the folder");
    let [store] = stores.as_slice() else { panic!("there is one store: {stores:?}") };
    let file = format!("sqlite://{}/{store}.db", place.name());
    SqliteConnection::connect(&file).await.expect("the store")
}
