//! Figures are those that somebody gets who counts by hand.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use samen_proto::requests::*;
use samen_requests::projection::figures::figures;
use samen_requests::projection::queries::Visible;
use samen_tests::seed::seeded;
use samen_tests::{Place, on_both_databases};

use super::*;

on_both_databases!(figures_are_what_is_counted_by_hand, weeks_begin_on_monday_in_amsterdam);

const ALL: [GroupBy; 5] =
    [GroupBy::Unspecified, GroupBy::Category, GroupBy::Neighbourhood, GroupBy::Team, GroupBy::Week];

async fn figures_are_what_is_counted_by_hand(place: Place) {
    let mut chance = seeded("figures");
    let projected = Projected::on(&place).await;
    let all = projected.filter(RequestFilter::default());
    let nothing = figures(&projected.store.schema(), &all, GroupBy::Unspecified).await;
    assert_eq!(nothing.expect("figures"), [Figures::default()]);
    projected.fill(&mut chance, 400).await;
    for asked in [
        RequestFilter::default(),
        RequestFilter { sources: vec!["oud".into()], ..Default::default() },
        RequestFilter { text: "lamp".into(), ..Default::default() },
        RequestFilter { closed_from: at(MIDNIGHT + 432_000), ..Default::default() },
        RequestFilter { numbers: vec![1], norm_states: vec![2], ..Default::default() },
    ] {
        let filter = projected.filter(asked.clone());
        let listed = projected.list(&Visible::All, &filter).await;
        for by in ALL {
            let found = figures(&projected.store.schema(), &filter, by).await.expect("figures");
            assert_eq!(found, by_hand(&listed, by), "{asked:?} by {by:?}");
        }
    }
}

fn by_hand(requests: &[ServiceRequest], by: GroupBy) -> Vec<Figures> {
    let mut groups: BTreeMap<String, Vec<&ServiceRequest>> = BTreeMap::new();
    if by == GroupBy::Unspecified {
        groups.insert(String::new(), Vec::new());
    }
    for request in requests {
        let group = match by {
            GroupBy::Unspecified => String::new(),
            GroupBy::Category => request.category.clone(),
            GroupBy::Neighbourhood => request.neighbourhood.clone(),
            GroupBy::Team => request.handling.clone().unwrap_or_default().team,
            GroupBy::Week => week(request),
        };
        groups.entry(group).or_default().push(request);
    }
    groups.into_iter().map(|(group, requests)| counted(group, &requests)).collect()
}

fn counted(group: String, requests: &[&ServiceRequest]) -> Figures {
    let mut figures = Figures { group, ..Figures::default() };
    let mut lasted = Vec::new();
    for request in requests {
        figures.rated += u64::from(request.satisfaction > 0);
        figures.satisfaction_sum += u64::from(request.satisfaction);
        let Some(closed) = &request.close_time else {
            figures.open += 1;
            figures.breached_open += u64::from(request.norm_state() == NormState::Breached);
            continue;
        };
        figures.closed += 1;
        figures.with_norm += u64::from(request.norm_state() != NormState::Unspecified);
        figures.within_norm += u64::from(request.norm_state() == NormState::Within);
        let created = request.create_time.as_ref().expect("a moment");
        let micros =
            |t: &prost_types::Timestamp| t.seconds * 1_000_000 + i64::from(t.nanos) / 1_000;
        lasted.push(((micros(closed) - micros(created)) / 1_000_000) as u64);
    }
    lasted.sort_unstable();
    let rank = |part: f64| {
        let place = (part * lasted.len() as f64).ceil() as usize;
        place.checked_sub(1).map_or(0, |place| lasted[place])
    };
    (figures.median_seconds, figures.p90_seconds) = (rank(0.5), rank(0.9));
    figures
}

fn week(request: &ServiceRequest) -> String {
    let created = Timestamp::from_second(request.create_time.expect("a moment").seconds);
    let zone = TimeZone::get("Europe/Amsterdam").expect("it is compiled in");
    let date = zone.to_datetime(created.expect("a moment")).date().iso_week_date();
    format!("{}-W{:02}", date.year(), date.week())
}

async fn weeks_begin_on_monday_in_amsterdam(place: Place) {
    let projected = Projected::on(&place).await;
    for (number, (created, _)) in WEEKS.iter().enumerate() {
        let created: Timestamp = created.parse().expect("a moment");
        let id = Uuid::now_v7().to_string();
        let imported = RequestImported {
            id: id.clone(),
            source: "oud".into(),
            source_number: number.to_string(),
            category: "a".into(),
            create_time: at(created.as_second()),
            ..RequestImported::default()
        };
        projected.append(&id, "x", "", vec![imported.into()]).await;
    }
    projected.wait(&projected.store).await;
    let all = projected.filter(RequestFilter::default());
    let found = figures(&projected.store.schema(), &all, GroupBy::Week).await.expect("figures");
    let found: Vec<_> = found.iter().map(|f| (f.group.as_str(), f.open)).collect();
    assert_eq!(
        found,
        [("2020-W53", 1), ("2025-W52", 1), ("2026-W01", 2), ("2026-W13", 1), ("2026-W14", 1)]
    );
}

/// Moments, and the weeks that they lie in.
const WEEKS: [(&str, &str); 6] = [
    ("2021-01-03T22:59:59Z", "2020-W53"),
    ("2025-12-28T22:59:59Z", "2025-W52"),
    ("2025-12-28T23:00:00Z", "2026-W01"),
    ("2026-01-01T12:00:00Z", "2026-W01"),
    // The clock went forward that night.
    ("2026-03-29T21:59:59Z", "2026-W13"),
    ("2026-03-29T22:00:00Z", "2026-W14"),
];
