//! Neighbourhood networks, and what they know about places.

use samen_log::Aggregate;
use samen_proto::log::Sealed;
use samen_proto::requests::*;
use samen_server::area::Area;
use samen_server::reply::Check;

use super::catalogue::{self, Rejection, is_category, is_word, seen};
use super::location;

/// Points around an area.
const MAX_POINTS: usize = 200;

samen_log::events! {
    /// What happens to a network.
    pub enum NetworkEvent { NetworkDefined, NetworkRetired }
}
samen_log::events! {
    /// What happens to a note about a place.
    pub enum PlaceNoteEvent { PlaceNoteAdded, PlaceNoteRemoved }
}

/// A network's state; `None`: there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkState {
    pub network: Option<Network>,
    pub retired: bool,
}

/// A note's state; empty: there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaceNoteState {
    pub network: String,
    pub removed: bool,
}

impl Aggregate for NetworkState {
    type Event = NetworkEvent;
    const KIND: &'static str = "network";

    fn evolve(mut self, event: &NetworkEvent) -> Self {
        match event {
            NetworkEvent::NetworkDefined(defined) => {
                self.network.clone_from(&defined.network);
                self.retired = false;
            }
            NetworkEvent::NetworkRetired(_) => self.retired = true,
        }
        self
    }
}

impl Aggregate for PlaceNoteState {
    type Event = PlaceNoteEvent;
    const KIND: &'static str = "place-note";

    fn evolve(mut self, event: &PlaceNoteEvent) -> Self {
        match event {
            PlaceNoteEvent::PlaceNoteAdded(added) => self.network.clone_from(&added.network_id),
            PlaceNoteEvent::PlaceNoteRemoved(_) => self.removed = true,
        }
        self
    }
}

/// A network says this from now on.
pub fn define(
    state: &NetworkState,
    version: u64,
    expected: u64,
    network: Network,
) -> Result<Vec<NetworkEvent>, Rejection> {
    seen(expected, version)?;
    if state.network.as_ref() == Some(&network) && !state.retired {
        return Ok(Vec::new());
    }
    Ok(vec![NetworkDefined { network: Some(network) }.into()])
}

/// It takes part no more.
pub fn retire(
    state: &NetworkState,
    version: u64,
    expected: u64,
    id: &str,
) -> Result<Vec<NetworkEvent>, Rejection> {
    let id = id.to_owned();
    if state.network.is_none() {
        return Err(Rejection::Missing { kind: "network", id });
    }
    seen(expected, version)?;
    Ok(if state.retired { Vec::new() } else { vec![NetworkRetired { id }.into()] })
}

/// A network tells what it knows about a place.
pub fn add_note(
    id: &str,
    network: &str,
    outline: Vec<Location>,
    note: Sealed,
) -> Vec<PlaceNoteEvent> {
    let (id, network_id) = (id.to_owned(), network.to_owned());
    vec![PlaceNoteAdded { id, network_id, outline, note: Some(note) }.into()]
}

/// It takes that back: a network's member its own, a handler any.
pub fn remove_note(
    state: &PlaceNoteState,
    id: &str,
    may: impl Fn(&str) -> bool,
) -> Result<Vec<PlaceNoteEvent>, Rejection> {
    let id = id.to_owned();
    if state.network.is_empty() || !may(&state.network) {
        return Err(Rejection::Missing { kind: "place note", id });
    }
    Ok(if state.removed { Vec::new() } else { vec![PlaceNoteRemoved { id }.into()] })
}

/// What a network may say.
pub fn check_network(check: &mut Check, network: &Network, area: &Area) {
    check.id("network.id", &network.id);
    check.text("network.name", &network.name, 1..=200);
    check.choice::<NetworkKind>("network.kind", network.kind);
    for neighbourhood in network.neighbourhoods.iter().take(1_000) {
        catalogue::neighbourhood_of(check, area, "network.neighbourhoods", neighbourhood);
    }
    let patterns = network.categories.iter().all(|code| is_category(code) || is_word(code));
    check.require(patterns, "network.categories", "must be main/sub, or main");
    let few = network.neighbourhoods.len().max(network.categories.len()) <= 1_000;
    check.require(few, "network", "must have at most 1000 neighbourhoods and categories");
    catalogue::people(check, "network.members", &network.members);
}

/// A point, or points around an area, the last like the first.
pub fn check_outline(check: &mut Check, outline: &[Location]) {
    let closed =
        outline.len() >= 4 && outline.len() <= MAX_POINTS && outline.first() == outline.last();
    let allowed = "must be one point, or 4 to 200 points of which the last is like the first";
    check.require(outline.len() == 1 || closed, "outline", allowed);
    for at in outline.iter().take(MAX_POINTS) {
        if let Some((_, allowed)) = location::fault(at) {
            check.fail("outline", allowed);
        }
    }
}
