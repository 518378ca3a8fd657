//! Which points on the earth a report can be about.

use samen_proto::requests::Location;

/// The Netherlands, generously: latitude and longitude from and to.
const NETHERLANDS: ([f64; 2], [f64; 2]) = ([50.7, 53.7], [3.2, 7.3]);

/// What is wrong with a location: the field, and what is allowed.
pub fn fault(location: &Location) -> Option<(&'static str, &'static str)> {
    let Location { latitude, longitude } = *location;
    if !latitude.is_finite() || !(-90.0..=90.0).contains(&latitude) {
        return Some(("location.latitude", "must be -90 to 90 degrees"));
    }
    if !longitude.is_finite() || !(-180.0..=180.0).contains(&longitude) {
        return Some(("location.longitude", "must be -180 to 180 degrees"));
    }
    if latitude == 0.0 && longitude == 0.0 {
        return Some(("location", "must be a real point; 0, 0 is what a device without one sends"));
    }
    if in_netherlands(longitude, latitude) && !in_netherlands(latitude, longitude) {
        return Some(("location", "has latitude and longitude swapped"));
    }
    None
}

/// Metres between two points, over a sphere as large as the earth.
pub fn distance(a: &Location, b: &Location) -> f64 {
    const RADIUS: f64 = 6_371_008.8;
    let [lat_a, lat_b] = [a.latitude, b.latitude].map(f64::to_radians);
    let across = (b.longitude - a.longitude).to_radians() / 2.0;
    let up = (lat_b - lat_a) / 2.0;
    let half = up.sin().powi(2) + lat_a.cos() * lat_b.cos() * across.sin().powi(2);
    2.0 * RADIUS * half.sqrt().min(1.0).asin()
}

fn in_netherlands(latitude: f64, longitude: f64) -> bool {
    let ([south, north], [west, east]) = NETHERLANDS;
    (south..=north).contains(&latitude) && (west..=east).contains(&longitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_and_swapped_points_are_named() {
        let field = |latitude, longitude| fault(&Location { latitude, longitude }).map(|f| f.0);
        assert_eq!(field(52.34, 4.96), None);
        assert_eq!(field(37.79, -122.4), None);
        assert_eq!(field(4.96, 52.34), Some("location"));
        assert_eq!(field(0.0, 0.0), Some("location"));
        assert_eq!(field(-122.4, 37.79), Some("location.latitude"));
        assert_eq!(field(37.79, 181.0), Some("location.longitude"));
        assert_eq!(field(f64::NAN, 4.96), Some("location.latitude"));
    }
}
