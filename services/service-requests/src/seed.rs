//! What a deployment's catalogue begins with: a file, in protobuf's JSON form,
//! taken once, when there is none.

use samen_log::append::{Append, AppendError, CommandId, Expected, NewEvent};
use samen_log::{Aggregate, Log};
use samen_proto::contract;
use samen_proto::requests::*;
use samen_server::area::Area;
use samen_server::reply::Check;
use tonic_types::StatusExt;

use crate::api::catalogue::ALL;
use crate::domain::catalogue::*;

/// The catalogue that ships with Samen.
const SHIPPED: &str = include_str!("../../../deploy/reference/catalogue.json");

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("not a catalogue: {0}")]
    Malformed(String),
    #[error("{field}: {allowed}")]
    Field { field: String, allowed: String },
}

/// The catalogue that ships with Samen.
pub fn shipped(area: &Area) -> Result<Catalogue, CatalogueError> {
    parse(SHIPPED, area)
}

/// Reads a catalogue and checks it as the service would.
pub fn parse(json: &str, area: &Area) -> Result<Catalogue, CatalogueError> {
    let catalogue: Catalogue = contract::from_json(json).map_err(CatalogueError::Malformed)?;
    let organisation = catalogue.organisation.clone().unwrap_or_default();
    let mut check = Check::default();
    check_organisation(&mut check, &organisation);
    for category in &catalogue.categories {
        check_category(&mut check, category, &organisation);
    }
    let routing = catalogue.routing.clone().unwrap_or_default();
    check_routing(&mut check, &routing, &organisation, |_| false, area);
    let Err(refusal) = check.finish() else { return Ok(catalogue) };
    let found =
        refusal.get_details_bad_request().and_then(|bad| bad.field_violations.into_iter().next());
    let (field, allowed) = found.map(|first| (first.field, first.description)).unwrap_or_default();
    Err(CatalogueError::Field { field, allowed })
}

/// Defines it, unless anything was defined before.
pub async fn sow(log: &Log, catalogue: Catalogue) -> Result<(), AppendError> {
    let mut events = Vec::new();
    let mut define = |stream: String, event: NewEvent| events.push((stream, event));
    let stream = |kind: &str, id: &str| format!("{kind}/{id}");
    if let Some(organisation) = catalogue.organisation {
        let at = stream(OrganisationState::KIND, ALL);
        let defined = OrganisationDefined { organisation: Some(organisation) };
        define(at.clone(), NewEvent::of(&at, &OrganisationEvent::from(defined)));
    }
    if let Some(routing) = catalogue.routing {
        let at = stream(RoutingState::KIND, ALL);
        let defined = RoutingDefined { routing: Some(routing) };
        define(at.clone(), NewEvent::of(&at, &RoutingEvent::from(defined)));
    }
    for category in catalogue.categories {
        let at = stream(CategoryState::KIND, &category.code);
        let defined = CategoryDefined { category: Some(category) };
        define(at.clone(), NewEvent::of(&at, &CategoryEvent::from(defined)));
    }
    let append = Append {
        actor: crate::NAME.to_owned(),
        command: Some(CommandId {
            id: "catalogue".to_owned(),
            fingerprint: Vec::new(),
            key_id: None,
        }),
        expect: events
            .iter()
            .map(|(stream, _)| Expected { stream: stream.clone(), version: 0 })
            .collect(),
        events: events.into_iter().map(|(_, event)| event).collect(),
        ..Append::default()
    };
    match log.append(append).await {
        // Somebody defined something: what they have is theirs.
        Ok(_) | Err(AppendError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalogue_is_as_the_service_wants_it() {
        let area = Area::shipped("GM0384").expect("ours");
        let catalogue = shipped(&area).expect("ours");
        assert!(catalogue.categories.len() >= 60);
        let names = catalogue.categories.iter().filter_map(|category| category.name.as_ref());
        let names: std::collections::BTreeSet<_> = names.map(|name| &name.nl).collect();
        assert_eq!(names.len(), catalogue.categories.len(), "each has a name of its own");
    }

    #[test]
    fn what_is_wrong_with_a_catalogue_is_named() {
        let wrong = |json: &str| parse(json, &Area::none()).expect_err("wrong").to_string();
        assert!(wrong("[]").contains("not a catalogue"));
        assert!(wrong(r#"{"category": []}"#).contains("category"));
        let named = wrong(r#"{"categories": [{"code": "Afval", "name": {"nl": "a", "en": "b"}}]}"#);
        assert!(named.contains("category.code"), "{named}");
    }
}
