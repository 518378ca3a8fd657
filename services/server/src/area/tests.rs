//! Points, borders and files that are not as they should be.

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
    assert!(corners.iter().any(|(_, line)| owners(&area, line.start.y, line.start.x).len() > 2));
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
        square(r#"{"code":"BU2","name":"Van de buren","municipality_code":"GM0437"}"#, 4.0, 52.0),
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
