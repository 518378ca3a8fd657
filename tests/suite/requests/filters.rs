//! Lists and watchers go by the same filter.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use samen_proto::requests::*;
use samen_requests::projection::queries::{self, Visible};
use samen_requests::projection::row::RequestRow;
use samen_tests::seed::seeded;
use samen_tests::{Place, on_both_databases};

use super::*;

on_both_databases!(a_filter_is_the_same_in_a_query_and_in_memory);

const REQUESTS: usize = 300;
const FILTERS: usize = 400;

async fn a_filter_is_the_same_in_a_query_and_in_memory(place: Place) {
    let mut chance = seeded("filters");
    let projected = Projected::on(&place).await;
    let ids: BTreeSet<String> = projected.fill(&mut chance, REQUESTS).await.into_iter().collect();
    let rows = queries::get_all(&projected.store.schema(), &ids).await.expect("rows");
    assert_eq!(rows.len(), REQUESTS);
    let (mut some, mut none, mut all) = (0, 0, 0);
    for _ in 0..FILTERS {
        let asked = random(&mut chance, &rows);
        let filter = projected.filter(asked.clone());
        let visible = match chance.random_bool(0.7) {
            true => Visible::All,
            false => Visible::FiledBy((*PEOPLE.choose(&mut chance).expect("some")).to_owned()),
        };
        let listed = projected.list(&visible, &filter).await;
        // Whether few requests fulfil something of it or not, it is the same.
        let sql = filter.select(&projected.store.schema(), "id", &visible);
        let unled = sql.fetch(&projected.store.schema().db).await.expect("rows");
        let unled: BTreeSet<_> = unled.iter().map(|row| row.text(0)).collect();
        let matching = rows.iter().filter(|row| visible.sees(row) && filter.matches(row));
        let expected: BTreeSet<_> = matching.map(|row| row.body.id.clone()).collect();
        let found: BTreeSet<_> = listed.iter().map(|request| request.id.clone()).collect();
        assert_eq!(found.len(), listed.len(), "something comes twice: {asked:?}");
        assert_eq!(found, expected, "{asked:?} for {visible:?}");
        assert_eq!(unled, expected, "{asked:?} for {visible:?}");
        let staff = matches!(visible, Visible::All);
        assert!(listed.iter().all(|request| request.handling.is_some() == staff));
        match found.len() {
            0 => none += 1,
            REQUESTS => all += 1,
            _ => some += 1,
        }
    }
    // Otherwise this shows little.
    assert!(some > FILTERS / 2, "{some} some, {none} none, {all} all");
}

/// A filter with a few conditions, on values that requests have.
fn random(chance: &mut StdRng, rows: &[RequestRow]) -> RequestFilter {
    let mut asked = RequestFilter::default();
    for _ in 0..chance.random_range(0..3) {
        let of = &rows.choose(chance).expect("some").body;
        let more = &rows.choose(chance).expect("some").body;
        let handling = of.handling.clone().unwrap_or_default();
        match chance.random_range(0..20) {
            0 => asked.statuses = vec![of.status, more.status],
            1 => asked.categories = vec![of.category.clone()],
            2 => asked.neighbourhoods = vec![of.neighbourhood.clone(), "BU1".into()],
            3 => asked.channels = vec![of.channel, more.channel],
            4 => asked.urgencies = vec![of.urgency],
            5 => asked.norm_states = vec![1, 3],
            6 => asked.teams = vec![handling.team],
            7 => asked.assignees = vec![handling.assignee, "anna".into()],
            8 => asked.networks = vec![network()],
            9 => asked.sources = vec!["oud".into()],
            10 => asked.satisfactions = vec![1, 5],
            11 => asked.numbers = vec![of.number, more.number, 1],
            12 => asked.with_photo = true,
            13 => asked.parent_id = parent(),
            14 => asked.text = (*words(chance)).to_owned(),
            15 => {
                let (a, b) = (grid(chance), grid(chance));
                let corner = |of: fn(f64, f64) -> f64| {
                    let latitude = of(a.latitude, b.latitude);
                    Some(Location { latitude, longitude: of(a.longitude, b.longitude) })
                };
                let south_west = corner(f64::min);
                asked.r#box = Some(BoundingBox { south_west, north_east: corner(f64::max) });
            }
            window => {
                let (one, other) = (of.clone(), more.clone());
                let ends = match window {
                    16 => [one.create_time, other.create_time],
                    17 => [one.update_time, other.update_time],
                    18 => [one.close_time, other.close_time],
                    _ => [one.due_time, other.due_time],
                };
                let [from, before] = ends;
                let (from, before) = match chance.random_range(0..3) {
                    0 => (from, None),
                    1 => (None, before),
                    _ => (from, before),
                };
                let (to_from, to_before) = match window {
                    16 => (&mut asked.created_from, &mut asked.created_before),
                    17 => (&mut asked.updated_from, &mut asked.updated_before),
                    18 => (&mut asked.closed_from, &mut asked.closed_before),
                    _ => (&mut asked.due_from, &mut asked.due_before),
                };
                (*to_from, *to_before) = (from, before);
            }
        }
    }
    asked
}

fn words(chance: &mut StdRng) -> &'static str {
    ["lamp", "LAMPEN", "tegel", "de losse tegels", "boom lamp", "nr 7", "fiets"]
        .choose(chance)
        .expect("some")
}
