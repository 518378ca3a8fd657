//! Where many requests of one kind in one neighbourhood are one problem.

use jiff::Timestamp;
use samen_log::Aggregate;
use samen_proto::requests::{HotspotCooled, HotspotDetected};
use samen_server::time::to_proto;

samen_log::events! {
    /// What happens to a hotspot.
    pub enum HotspotEvent { HotspotDetected, HotspotCooled }
}

/// Whether it is one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hotspot {
    pub hot: bool,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub category: String,
    pub neighbourhood: String,
    pub requests: u32,
    /// Whether they are as many as the rule says.
    pub many: bool,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// There is nothing that is refused.
pub type Rejection = std::convert::Infallible;

impl Aggregate for Hotspot {
    type Event = HotspotEvent;
    const KIND: &'static str = "hotspot";

    fn evolve(self, event: &HotspotEvent) -> Self {
        Hotspot { hot: matches!(event, HotspotEvent::HotspotDetected(_)) }
    }
}

/// Said once when it becomes one, and not again until it has cooled down.
pub fn decide(hotspot: &Hotspot, seen: &Sighting) -> Result<Vec<HotspotEvent>, Rejection> {
    let Sighting { category, neighbourhood, requests, many, from, until } = seen.clone();
    Ok(match (hotspot.hot, many) {
        (false, true) => vec![
            HotspotDetected {
                category,
                neighbourhood,
                requests,
                from: Some(to_proto(from)),
                until: Some(to_proto(until)),
            }
            .into(),
        ],
        (true, false) => vec![HotspotCooled { category, neighbourhood }.into()],
        _ => Vec::new(),
    })
}
