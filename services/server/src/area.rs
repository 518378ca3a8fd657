//! The municipality's neighbourhoods (buurten), and which of them a point lies
//! in.
//!
//! A point on a border belongs to one neighbourhood only, always the same: the
//! one with the lowest code. Otherwise a rebuild could count it elsewhere than
//! the first time.

use std::collections::BTreeSet;
use std::sync::Arc;

use geo::{BoundingRect, Coord, Intersects, LineString, MultiPolygon, Polygon};
use geojson::{Feature, GeometryValue, JsonObject};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use serde::Deserialize;

/// The outlines that ship with Samen.
const SHIPPED: &str = include_str!("../../../deploy/reference/neighbourhoods.geojson");

/// What CBS calls a neighbourhood and a municipality among the levels of its
/// map.
const NEIGHBOURHOOD: &str = "buurt";
const MUNICIPALITY: &str = "gemeente";

/// A municipality's neighbourhoods, found by point. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Area {
    inner: Arc<Inner>,
}

/// A neighbourhood (buurt).
#[derive(Clone, Debug)]
pub struct Neighbourhood {
    /// CBS code, such as `BU03840101`.
    pub code: String,
    /// What people call it.
    pub name: String,
    outline: MultiPolygon,
}

/// Why outlines cannot be used. Names the feature, by its place in the file and
/// its code where it has one, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    #[error("not a GeoJSON FeatureCollection: {0}")]
    NotACollection(#[source] serde_json::Error),
    #[error("{feature} is not a GeoJSON feature: {source}")]
    NotAFeature { feature: String, source: serde_json::Error },
    #[error("{feature} has no property `{property}`")]
    Missing { feature: String, property: &'static str },
    #[error("{feature} has a property `{property}` that is not a text")]
    NotAText { feature: String, property: &'static str },
    #[error("{feature} has no geometry")]
    NoGeometry { feature: String },
    #[error("{feature} has a geometry that is a {found}, not a Polygon or a MultiPolygon")]
    NotAPolygon { feature: String, found: &'static str },
    #[error("{feature} has a geometry with a ring that is not closed or has under four positions")]
    Ring { feature: String },
    #[error(
        "{feature} has a geometry with position {found:?}, which is not a longitude and a latitude in \
         degrees (WGS 84)"
    )]
    NotDegrees { feature: String, found: Vec<f64> },
    #[error("{feature} has a property `code` that an earlier feature has too")]
    Duplicate { feature: String },
    #[error("none of the {features} features is a neighbourhood of {municipality}")]
    NoNeighbourhood { municipality: String, features: usize },
}

#[derive(Debug)]
struct Inner {
    /// By code.
    neighbourhoods: Vec<Neighbourhood>,
    /// Other municipalities that the file has an outline of, by code.
    others: Vec<Neighbourhood>,
    /// Bounding boxes, each with its index in `neighbourhoods`.
    boxes: RTree<GeomWithData<Rectangle<[f64; 2]>, usize>>,
}

/// The features are read one by one, so that an error can name its feature.
#[derive(Deserialize)]
struct Collection {
    #[serde(rename = "type")]
    _type: CollectionType,
    features: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
enum CollectionType {
    FeatureCollection,
}

// === impl Area ===

impl Area {
    /// The neighbourhoods of one municipality (CBS code, such as `GM0384`) from
    /// a GeoJSON FeatureCollection in WGS 84.
    ///
    /// A feature that names its `level` counts when that is `buurt`; one that
    /// does not counts when it is a polygon or multipolygon with `code` and
    /// `name`. Where `municipality_code` is present, it must be this one.
    pub fn parse(geojson: &str, municipality: &str) -> Result<Area, AreaError> {
        let collection: Collection =
            serde_json::from_str(geojson).map_err(AreaError::NotACollection)?;
        let features = collection.features.len();

        let (mut neighbourhoods, mut others) = (Vec::new(), Vec::new());
        let mut codes = BTreeSet::new();
        for (index, value) in collection.features.into_iter().enumerate() {
            let label = label(index, &value);
            let feature: Feature = serde_json::from_value(value)
                .map_err(|source| AreaError::NotAFeature { feature: label.clone(), source })?;
            let level = feature.property("level").and_then(serde_json::Value::as_str);
            if level == Some(MUNICIPALITY) {
                others.extend(other_municipality(feature, &label, municipality)?);
                continue;
            }
            let Some(neighbourhood) = neighbourhood(feature, &label, municipality)? else {
                continue;
            };
            if !codes.insert(neighbourhood.code.clone()) {
                return Err(AreaError::Duplicate { feature: label });
            }
            neighbourhoods.push(neighbourhood);
        }
        if neighbourhoods.is_empty() {
            let municipality = municipality.to_owned();
            return Err(AreaError::NoNeighbourhood { municipality, features });
        }
        others.sort_by(|a, b| a.code.cmp(&b.code));
        Ok(Area::new(neighbourhoods, others))
    }

    /// The outlines that ship with Samen: Diemen (`GM0384`), Ouder-Amstel
    /// (`GM0437`) and Uithoorn (`GM0451`).
    pub fn shipped(municipality: &str) -> Result<Area, AreaError> {
        Area::parse(SHIPPED, municipality)
    }

    /// No outlines: every point lies outside.
    pub fn none() -> Area {
        Area::new(Vec::new(), Vec::new())
    }

    /// The neighbourhood that a point lies in. On a border: the lowest code,
    /// always the same.
    pub fn locate(&self, latitude: f64, longitude: f64) -> Option<&Neighbourhood> {
        if !(latitude.is_finite() && longitude.is_finite()) {
            return None;
        }
        let point = Coord { x: longitude, y: latitude };
        self.inner
            .boxes
            .locate_in_envelope_intersecting(AABB::from_point([longitude, latitude]))
            .map(|boxed| boxed.data)
            .filter(|index| self.inner.neighbourhoods[*index].outline.intersects(&point))
            .min()
            .map(|index| &self.inner.neighbourhoods[index])
    }

    /// The code of the other municipality that a point lies in, where the
    /// outlines of others are known. On a border: the lowest code.
    pub fn other_municipality(&self, latitude: f64, longitude: f64) -> Option<&str> {
        let point = Coord { x: longitude, y: latitude };
        let mut others = self.inner.others.iter();
        others.find(|other| other.outline.intersects(&point)).map(|other| other.code.as_str())
    }

    /// The neighbourhood with this CBS code.
    pub fn get(&self, code: &str) -> Option<&Neighbourhood> {
        let neighbourhoods = &self.inner.neighbourhoods;
        let index = neighbourhoods.binary_search_by(|other| other.code.as_str().cmp(code)).ok()?;
        Some(&neighbourhoods[index])
    }

    /// All neighbourhoods, by code.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbourhood> {
        self.inner.neighbourhoods.iter()
    }

    fn new(mut neighbourhoods: Vec<Neighbourhood>, others: Vec<Neighbourhood>) -> Area {
        neighbourhoods.sort_by(|a, b| a.code.cmp(&b.code));
        let boxes = neighbourhoods
            .iter()
            .enumerate()
            .filter_map(|(index, neighbourhood)| {
                let bounds = neighbourhood.outline.bounding_rect()?;
                let corners = [bounds.min(), bounds.max()].map(|corner| [corner.x, corner.y]);
                let rectangle = Rectangle::from_corners(corners[0], corners[1]);
                Some(GeomWithData::new(rectangle, index))
            })
            .collect();
        Area { inner: Arc::new(Inner { neighbourhoods, others, boxes: RTree::bulk_load(boxes) }) }
    }
}

/// How an error names a feature: `feature 3 (BU03840103)`.
fn label(index: usize, feature: &serde_json::Value) -> String {
    let number = index + 1;
    match feature["properties"]["code"].as_str().or(feature["id"].as_str()) {
        Some(code) => format!("feature {number} ({code})"),
        None => format!("feature {number}"),
    }
}

/// What a feature says, or nothing when it is not a neighbourhood of this
/// municipality.
fn neighbourhood(
    feature: Feature,
    label: &str,
    municipality: &str,
) -> Result<Option<Neighbourhood>, AreaError> {
    let properties = feature.properties.unwrap_or_default();
    let level = text(&properties, "level", label)?;
    if level.is_some_and(|level| level != NEIGHBOURHOOD) {
        return Ok(None);
    }
    if text(&properties, "municipality_code", label)?.is_some_and(|code| code != municipality) {
        return Ok(None);
    }

    let geometry = feature.geometry.map(|geometry| geometry.value);
    let polygon = matches!(
        geometry,
        None | Some(GeometryValue::Polygon { .. } | GeometryValue::MultiPolygon { .. })
    );
    // A feature that says nothing of a level may be anything: a label, a road,
    // a lake. One that has half of what a neighbourhood has is a mistake.
    if level.is_none() && !polygon {
        return Ok(None);
    }
    let (code, name) = (text(&properties, "code", label)?, text(&properties, "name", label)?);
    if level.is_none() && code.is_none() && name.is_none() {
        return Ok(None);
    }
    let missing = |property| AreaError::Missing { feature: label.to_owned(), property };
    Ok(Some(Neighbourhood {
        code: code.ok_or_else(|| missing("code"))?.to_owned(),
        name: name.ok_or_else(|| missing("name"))?.to_owned(),
        outline: outline(geometry, label)?,
    }))
}

/// The outline of another municipality; nothing for this one.
fn other_municipality(
    feature: Feature,
    label: &str,
    municipality: &str,
) -> Result<Option<Neighbourhood>, AreaError> {
    let properties = feature.properties.unwrap_or_default();
    let Some(code) = text(&properties, "code", label)?.filter(|code| *code != municipality) else {
        return Ok(None);
    };
    let name = text(&properties, "name", label)?.unwrap_or(code).to_owned();
    let outline = outline(feature.geometry.map(|geometry| geometry.value), label)?;
    Ok(Some(Neighbourhood { code: code.to_owned(), name, outline }))
}

/// A property that is absent, null or empty is not there: an empty code would
/// mean "outside every neighbourhood".
fn text<'a>(
    properties: &'a JsonObject,
    property: &'static str,
    label: &str,
) -> Result<Option<&'a str>, AreaError> {
    match properties.get(property) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.as_str()).filter(|t| !t.is_empty())),
        Some(_) => Err(AreaError::NotAText { feature: label.to_owned(), property }),
    }
}

fn outline(geometry: Option<GeometryValue>, label: &str) -> Result<MultiPolygon, AreaError> {
    let feature = || label.to_owned();
    let polygons = match geometry {
        Some(GeometryValue::Polygon { coordinates }) => vec![coordinates],
        Some(GeometryValue::MultiPolygon { coordinates }) => coordinates,
        Some(other) => {
            return Err(AreaError::NotAPolygon { feature: feature(), found: other.type_name() });
        }
        None => return Err(AreaError::NoGeometry { feature: feature() }),
    };

    let position = |position: &geojson::Position| match *position.as_slice() {
        // Dutch maps often come in metres (RD New, EPSG:28992): then every
        // point would lie outside, and nobody would know why.
        [x, y, ..] if x.abs() <= 180.0 && y.abs() <= 90.0 => Ok(Coord { x, y }),
        ref other => Err(AreaError::NotDegrees { feature: feature(), found: other.to_vec() }),
    };
    let ring = |positions: Vec<geojson::Position>| {
        let ring: LineString = positions.iter().map(position).collect::<Result<_, _>>()?;
        if ring.0.len() < 4 || !ring.is_closed() {
            return Err(AreaError::Ring { feature: feature() });
        }
        Ok(ring)
    };
    let polygon = |rings: Vec<Vec<geojson::Position>>| {
        let mut rings = rings.into_iter().map(ring);
        let exterior =
            rings.next().unwrap_or_else(|| Err(AreaError::NoGeometry { feature: feature() }))?;
        Ok(Polygon::new(exterior, rings.collect::<Result<_, _>>()?))
    };
    if polygons.is_empty() {
        return Err(AreaError::NoGeometry { feature: feature() });
    }
    polygons.into_iter().map(polygon).collect()
}

#[cfg(test)]
mod tests;
