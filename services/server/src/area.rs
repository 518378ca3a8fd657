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

/// What CBS calls a neighbourhood among the levels of its map.
const LEVEL: &str = "buurt";

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

        let mut neighbourhoods = Vec::new();
        let mut codes = BTreeSet::new();
        for (index, value) in collection.features.into_iter().enumerate() {
            let label = label(index, &value);
            let feature: Feature = serde_json::from_value(value)
                .map_err(|source| AreaError::NotAFeature { feature: label.clone(), source })?;
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
        Ok(Area::new(neighbourhoods))
    }

    /// The outlines that ship with Samen: Diemen (`GM0384`), Ouder-Amstel
    /// (`GM0437`) and Uithoorn (`GM0451`).
    pub fn shipped(municipality: &str) -> Result<Area, AreaError> {
        Area::parse(SHIPPED, municipality)
    }

    /// No outlines: every point lies outside.
    pub fn none() -> Area {
        Area::new(Vec::new())
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

    fn new(mut neighbourhoods: Vec<Neighbourhood>) -> Area {
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
        Area { inner: Arc::new(Inner { neighbourhoods, boxes: RTree::bulk_load(boxes) }) }
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
    if level.is_some_and(|level| level != LEVEL) {
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
mod tests {
    use geo::LinesIter;
    use proptest::prelude::*;

    use super::*;

    const DIEMEN: &str = "GM0384";

    fn diemen() -> Area {
        Area::shipped(DIEMEN).unwrap()
    }

    fn code(area: &Area, latitude: f64, longitude: f64) -> Option<&str> {
        area.locate(latitude, longitude).map(|found| found.code.as_str())
    }

    /// The slow way: all outlines that have this point, inside or on a border.
    fn owners(area: &Area, latitude: f64, longitude: f64) -> Vec<&str> {
        let point = Coord { x: longitude, y: latitude };
        let touches = |it: &&Neighbourhood| it.outline.intersects(&point);
        area.iter().filter(touches).map(|it| it.code.as_str()).collect()
    }

    /// Every stretch of border, in both directions where two neighbourhoods
    /// share it.
    fn borders(area: &Area) -> Vec<(&str, geo::Line)> {
        let lines = |it: &Neighbourhood| it.outline.lines_iter().collect::<Vec<_>>();
        area.iter().flat_map(|it| lines(it).into_iter().map(|l| (it.code.as_str(), l))).collect()
    }

    fn shared(area: &Area) -> Vec<(&str, &str, geo::Line)> {
        let borders = borders(area);
        let mut shared = Vec::new();
        for (index, (one, line)) in borders.iter().enumerate() {
            let back = geo::Line::new(line.end, line.start);
            for (other, candidate) in &borders[index + 1..] {
                if one != other && (*candidate == back || candidate == line) {
                    shared.push((*one, *other, *line));
                }
            }
        }
        shared
    }

    /// A square of one degree, with its south-west corner there.
    fn square(properties: &str, x: f64, y: f64) -> String {
        let (east, north) = (x + 1.0, y + 1.0);
        format!(
            r#"{{"type":"Feature","properties":{properties},"geometry":{{"type":"Polygon",
            "coordinates":[[[{x},{y}],[{east},{y}],[{east},{north}],[{x},{north}],[{x},{y}]]]}}}}"#
        )
    }

    fn collection(features: &[String]) -> String {
        format!(r#"{{"type":"FeatureCollection","features":[{}]}}"#, features.join(","))
    }

    fn parse(features: &[String]) -> Result<Area, AreaError> {
        Area::parse(&collection(features), DIEMEN)
    }

    fn error(features: &[String]) -> String {
        parse(features).unwrap_err().to_string()
    }

    const GOOD: &str = r#"{"code":"BU1","name":"Een"}"#;

    #[test]
    fn the_three_municipalities_ship() {
        for (municipality, count) in [(DIEMEN, 37), ("GM0437", 7), ("GM0451", 11)] {
            let area = Area::shipped(municipality).unwrap();
            assert_eq!(area.iter().count(), count, "{municipality}");
            assert!(area.iter().all(|it| it.code[2..6] == municipality[2..]));
        }
        let error = Area::shipped("GM0363").unwrap_err().to_string();
        assert_eq!(error, "none of the 78 features is a neighbourhood of GM0363");
    }

    #[test]
    fn a_point_inside_is_found() {
        let area = diemen();
        let found = area.locate(52.352, 4.970).unwrap();
        assert_eq!((found.code.as_str(), found.name.as_str()), ("BU03840101", "Buytenstee"));
        assert_eq!(area.get("BU03840101").unwrap().name, "Buytenstee");
        assert!(area.get("BU0384").is_none());
    }

    #[test]
    fn a_point_outside_is_not() {
        let area = diemen();
        // Amsterdam, the equator, the same place with its degrees swapped.
        for (latitude, longitude) in [(52.373, 4.893), (0.0, 0.0), (4.970, 52.352)] {
            assert_eq!(code(&area, latitude, longitude), None);
        }
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert_eq!(code(&area, odd, 4.970), None);
            assert_eq!(code(&area, 52.352, odd), None);
        }
        assert_eq!(code(&Area::none(), 52.352, 4.970), None);
    }

    #[test]
    fn a_point_on_a_border_belongs_to_the_lowest_code() {
        let area = diemen();
        let corners = borders(&area);
        assert!(
            corners.iter().any(|(_, line)| owners(&area, line.start.y, line.start.x).len() > 2)
        );
        for (_, line) in corners {
            let Coord { x, y } = line.start;
            assert_eq!(code(&area, y, x), Some(owners(&area, y, x)[0]));
        }
        // Between corners, where the border runs along a meridian, so that the
        // point in the middle is exactly on it.
        let area = parse(&[
            square(r#"{"code":"BU2","name":"Twee"}"#, 4.0, 52.0),
            square(r#"{"code":"BU1","name":"Een"}"#, 5.0, 52.0),
        ])
        .unwrap();
        assert_eq!(code(&area, 52.5, 5.0), Some("BU1"));
        assert_eq!(code(&area, 52.5, 4.0), Some("BU2"));
    }

    #[test]
    fn a_metre_across_a_border_is_the_neighbour() {
        let area = diemen();
        let shared = shared(&area);
        assert!(shared.len() > 50);
        for (one, other, line) in shared {
            let (latitude, longitude) =
                ((line.start.y + line.end.y) / 2.0, (line.start.x + line.end.x) / 2.0);
            // In metres, near enough: a degree is 111,320 m, and less of it to
            // the east.
            let (north, east) = (111_320.0, 111_320.0 * latitude.to_radians().cos());
            let (dx, dy) = (line.dx() * east, line.dy() * north);
            let length = dx.hypot(dy);
            let step = |side: f64| {
                let (dx, dy) = (side * dy / length, -side * dx / length);
                code(&area, latitude + dy / north, longitude + dx / east)
            };
            let mut found = [step(1.0), step(-1.0)];
            found.sort();
            assert_eq!(found, [Some(one), Some(other)], "at {latitude}, {longitude}");
        }
    }

    #[test]
    fn outlines_from_elsewhere_are_read() {
        let label = r#"{"type":"Feature","properties":{"code":"BU9","name":"Label"},
            "geometry":{"type":"Point","coordinates":[4.5,52.5]}}"#;
        let parts = r#"{"type":"Feature","properties":{"code":"BU7","name":"Twee delen"},
            "geometry":{"type":"MultiPolygon","coordinates":[
                [[[6,52],[7,52],[7,53],[6,52]],[[6.6,52.2],[6.8,52.2],[6.8,52.4],[6.6,52.2]]],
                [[[8,52],[9,52],[9,53],[8,52]]]]}}"#;
        let area = parse(&[
            square(r#"{"code":"BU1","name":"Een","municipality_code":"GM0384"}"#, 4.0, 52.0),
            square(
                r#"{"code":"BU2","name":"Van de buren","municipality_code":"GM0437"}"#,
                4.0,
                52.0,
            ),
            square(r#"{"code":"WK1","name":"Wijk","level":"wijk"}"#, 4.0, 52.0),
            square(r#"{"road":"A9"}"#, 4.0, 52.0),
            label.to_owned(),
            parts.to_owned(),
        ])
        .unwrap();
        assert_eq!(area.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), ["BU1", "BU7"]);
        assert_eq!(code(&area, 52.1, 6.9), Some("BU7"));
        assert_eq!(code(&area, 52.1, 8.9), Some("BU7"));
        assert_eq!(code(&area, 52.25, 6.7), None, "in the hole");
        assert_eq!(code(&area, 52.1, 7.5), None, "between the parts");
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        let with = |properties: &str| square(properties, 4.0, 52.0);
        let shape = |geometry: &str| {
            format!(
                r#"{{"type":"Feature","properties":{{"level":"buurt","code":"BU1","name":"Een"}},
                "geometry":{geometry}}}"#
            )
        };
        for (feature, expected) in [
            (with(r#"{"code":"BU1"}"#), "feature 1 (BU1) has no property `name`"),
            (with(r#"{"code":"BU1","name":""}"#), "feature 1 (BU1) has no property `name`"),
            (with(r#"{"name":"Een"}"#), "feature 1 has no property `code`"),
            (with(r#"{"code":null,"name":"Een"}"#), "feature 1 has no property `code`"),
            (with(r#"{"level":"buurt"}"#), "feature 1 has no property `code`"),
            (
                with(r#"{"code":384,"name":"Een"}"#),
                "feature 1 has a property `code` that is not a text",
            ),
            (
                with(r#"{"code":"BU1","name":"Een","municipality_code":384}"#),
                "feature 1 (BU1) has a property `municipality_code` that is not a text",
            ),
            (
                with(r#"{"code":"BU1","name":"Een","level":3}"#),
                "feature 1 (BU1) has a property `level` that is not a text",
            ),
            (shape("null"), "feature 1 (BU1) has no geometry"),
            (shape(r#"{"type":"Polygon","coordinates":[]}"#), "feature 1 (BU1) has no geometry"),
            (
                shape(r#"{"type":"Point","coordinates":[4,52]}"#),
                "feature 1 (BU1) has a geometry that is a Point, not a Polygon or a MultiPolygon",
            ),
            (
                shape(r#"{"type":"Polygon","coordinates":[[[4,52],[5,52],[5,53]]]}"#),
                "feature 1 (BU1) has a geometry with a ring that is not closed or has under four \
                 positions",
            ),
            (
                shape(r#"{"type":"Polygon","coordinates":[[[4,52],[5,52],[5,53],[4]]]}"#),
                "feature 1 (BU1) has a geometry with position [4.0], which is not a longitude and \
                 a latitude in degrees (WGS 84)",
            ),
            (
                square(r#"{"code":"BU1","name":"Een"}"#, 126_500.0, 483_000.0),
                "feature 1 (BU1) has a geometry with position [126500.0, 483000.0], which is not a \
                 longitude and a latitude in degrees (WGS 84)",
            ),
        ] {
            assert_eq!(error(&[feature]), expected);
        }
        assert_eq!(
            error(&[with(GOOD), with(GOOD)]),
            "feature 2 (BU1) has a property `code` that an earlier feature has too"
        );
        assert_eq!(error(&[]), "none of the 0 features is a neighbourhood of GM0384");
    }

    #[test]
    fn what_is_no_geojson_is_refused() {
        for text in ["", "null", "{}", r#"{"type":"Feature","features":[]}"#, "[1"] {
            let error = Area::parse(text, DIEMEN).unwrap_err().to_string();
            assert!(error.starts_with("not a GeoJSON FeatureCollection: "), "{error}");
        }
        let bad = r#"{"type":"Feature","properties":{"code":"BU1"},
            "geometry":{"type":"Polygon","coordinates":"here"}}"#;
        let error = error(&[square(GOOD, 4.0, 52.0), bad.to_owned()]);
        assert!(error.starts_with("feature 2 (BU1) is not a GeoJSON feature: "), "{error}");
    }

    proptest! {
        /// The tree finds what looking at each outline finds, in and around the
        /// municipality and on its borders.
        #[test]
        fn the_tree_agrees_with_looking_everywhere(
            latitude in 52.30..52.37_f64,
            longitude in 4.93..5.05_f64,
            (line, along) in (0..10_000_usize, 0.0..1.0_f64),
        ) {
            let area = diemen();
            prop_assert_eq!(
                code(&area, latitude, longitude),
                owners(&area, latitude, longitude).first().copied()
            );
            let borders = borders(&area);
            let (_, line) = borders[line % borders.len()];
            let Coord { x, y } = line.start + line.delta() * along;
            prop_assert_eq!(code(&area, y, x), owners(&area, y, x).first().copied());
        }
    }
}
