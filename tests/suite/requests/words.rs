//! Words of descriptions: found in any form, in no form in the open, and gone
//! with the text.

use samen_log::{Db, Schema, Sql};
use samen_proto::requests::*;
use samen_requests::projection::queries::Visible;
use samen_tests::seed::seeded;
use samen_tests::{Place, on_both_databases};

use super::*;

on_both_databases!(words_go_with_their_text_in_whatever_store, a_word_is_looked_up_in_its_index,);

/// All words of a store: token, moment, id.
async fn all(schema: &Schema) -> Vec<(i64, i64, String)> {
    let text = "SELECT token, created_at, id FROM {s}.search ORDER BY token, created_at, id";
    let rows = Sql::new(schema, text).fetch(&schema.db).await.expect("rows");
    let mut rows: Vec<_> = rows.iter().map(|r| (r.int(0), r.int(1), r.text(2))).collect();
    rows.sort_unstable();
    rows
}

async fn words_go_with_their_text_in_whatever_store(place: Place) {
    let mut chance = seeded("words");
    let projected = Projected::on(&place).await;
    let ids = projected.fill(&mut chance, 200).await;
    let lamp = projected.filter(RequestFilter { text: "lamp".into(), ..Default::default() });
    let found = projected.list(&Visible::All, &lamp).await;
    assert!(found.len() > 3, "{}", found.len());
    let before = all(&projected.store.schema()).await;
    assert!(before.iter().filter(|row| row.2 == found[0].id).count() > 0);
    // Every second of all, so that some have no such key.
    for id in ids.iter().step_by(2) {
        projected.erase(id, true).await;
    }
    projected.wait(&projected.store).await;
    let left: Vec<_> = before.into_iter().filter(|row| !erased(&ids, &row.2)).collect();
    assert_eq!(all(&projected.store.schema()).await, left);
    let found = projected.list(&Visible::All, &lamp).await;
    assert!(!found.is_empty() && found.iter().all(|request| !erased(&ids, &request.id)));
    let apart = place.another().await;
    let another = projected.built_anew(&apart).await;
    assert_eq!(all(&another.schema()).await, left);

    // A key that was destroyed before anybody is told.
    let untold = left.last().expect("some").2.clone();
    projected.erase(&untold, false).await;
    let apart = place.another().await;
    let another = projected.built_anew(&apart).await;
    assert!(all(&another.schema()).await.iter().all(|row| row.2 != untold));
}

fn erased(ids: &[String], id: &str) -> bool {
    ids.iter().position(|other| other == id).is_some_and(|place| place % 2 == 0)
}

async fn a_word_is_looked_up_in_its_index(place: Place) {
    let projected = Projected::on(&place).await;
    let appends = (0..3_000).map(|number| {
        let id = Uuid::now_v7().to_string();
        let imported = RequestImported {
            id: id.clone(),
            source: "oud".into(),
            source_number: number.to_string(),
            category: "a".into(),
            create_time: at(MIDNIGHT + number),
            ..RequestImported::default()
        };
        let text = format!("Lamp {number} bij mast {}", number % 10);
        let projected = &projected;
        async move { projected.append(&id, "x", &text, vec![imported.into()]).await }
    });
    join_all(appends).await;
    projected.wait(&projected.store).await;
    let schema = projected.store.schema();
    let explain = match &schema.db {
        Db::Postgres(pool) => {
            let analyze = schema.sql("ANALYZE {s}.search, {s}.request");
            sqlx::query(analyze).execute(pool).await.expect("analyzed");
            "EXPLAIN "
        }
        Db::Sqlite(_) => "EXPLAIN QUERY PLAN ",
    };
    for text in ["lamp", "lamp 77", "mast 1234"] {
        let filter = projected.filter(RequestFilter { text: text.into(), ..Default::default() });
        let filter = filter.led(&schema, &Visible::All).await.expect("counted");
        let mut sql = Sql::new(&schema, explain);
        filter.add(&mut sql, &schema, "created_at, id, body", &Visible::All);
        sql.push(" AND (created_at, id) < ").row([i64::MAX.into(), "".into()]);
        sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(101_i64);
        let rows = sql.fetch(&schema.db).await.expect("a plan");
        let line = |row: &samen_log::Row| match &schema.db {
            Db::Postgres(_) => row.text(0),
            Db::Sqlite(_) => row.text(3),
        };
        let plan: Vec<_> = rows.iter().map(line).collect();
        println!("{text}: {plan:#?}");
        let by_index = |line: &String| match &schema.db {
            Db::Postgres(_) => line.contains("using search_pkey"),
            Db::Sqlite(_) => line.starts_with("SEARCH word") && line.contains("(token=?"),
        };
        assert!(plan.iter().any(by_index), "{text}: {plan:#?}");
        let whole = |line: &String| {
            ["Seq Scan", "SCAN request", "SCAN word", "Sort", "TEMP B-TREE"]
                .iter()
                .any(|bad| line.contains(bad))
        };
        assert!(!plan.iter().any(whole), "{text}: {plan:#?}");
        let expected = if text == "lamp" { 3_000 } else { 1 };
        assert_eq!(projected.list(&Visible::All, &filter).await.len(), expected);
    }
}
