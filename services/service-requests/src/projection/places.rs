//! What networks know about places.

use geo::{Contains, Coord, Distance, Haversine, LineString, Point, Polygon};
use prost::Message;
use samen_log::command::decode;
use samen_log::db::Tx;
use samen_log::record::recorded_at;
use samen_log::store::ApplyError;
use samen_log::{Record, Schema, Sql};
use samen_proto::privacy::ContentErased;
use samen_proto::requests::{Location, PlaceNote, PlaceNoteAdded, PlaceNoteRemoved};
use samen_server::time::to_proto;
use std::sync::Arc;

use super::row::{PER_DEGREE, encoded};

samen_log::events! {
    /// What the notes follow.
    pub enum PlaceEvent { PlaceNoteAdded, PlaceNoteRemoved, ContentErased }
}

/// Of a meridian.
const METRES_PER_DEGREE: f64 = 111_195.0;

/// A note with its text still sealed.
pub struct PlaceRow {
    /// Without the text.
    pub note: PlaceNote,
    /// An encoded `Sealed`.
    pub sealed: Vec<u8>,
}

pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    for record in records {
        let event: Option<PlaceEvent> =
            decode(record).map_err(|error| ApplyError::of(record, error))?;
        match event {
            None => {}
            Some(PlaceEvent::PlaceNoteAdded(added)) => add(tx, schema, record, added).await?,
            Some(PlaceEvent::PlaceNoteRemoved(removed)) => remove(tx, schema, &removed.id).await?,
            // A note without its text says nothing.
            Some(PlaceEvent::ContentErased(erased)) => {
                if let Some(id) = erased.stream.strip_prefix("place-note/") {
                    remove(tx, schema, id).await?;
                }
            }
        }
    }
    Ok(())
}

async fn add(
    tx: &mut Tx,
    schema: &Schema,
    record: &Record,
    added: PlaceNoteAdded,
) -> Result<(), ApplyError> {
    let box_of = |degrees: fn(&Location) -> f64| {
        let all = || added.outline.iter().map(degrees);
        let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
        [(least * PER_DEGREE).floor() as i64, (most * PER_DEGREE).ceil() as i64]
    };
    let [south, north] = box_of(|at| at.latitude);
    let [west, east] = box_of(|at| at.longitude);
    let sealed = encoded(added.note.as_ref());
    let note = PlaceNote {
        id: added.id,
        network_id: added.network_id,
        outline: added.outline,
        create_time: Some(to_proto(recorded_at(record))),
        ..PlaceNote::default()
    };
    let mut sql = Sql::new(
        schema,
        "INSERT INTO {s}.place_note (id, network, south, north, west, east, body, sealed) ",
    );
    let body = note.encode_to_vec();
    sql.values([[
        note.id.into(),
        note.network_id.into(),
        south.into(),
        north.into(),
        west.into(),
        east.into(),
        body.into(),
        sealed.into(),
    ]]);
    sql.execute(tx).await?;
    Ok(())
}

async fn remove(tx: &mut Tx, schema: &Schema, id: &str) -> Result<(), ApplyError> {
    let mut sql = Sql::new(schema, "DELETE FROM {s}.place_note WHERE id = ");
    sql.bind(id);
    sql.execute(tx).await?;
    Ok(())
}

/// Notes within so many metres of a point, nearest first, at most `limit`.
pub async fn near(
    schema: &Schema,
    at: &Location,
    within: f64,
    limit: usize,
) -> sqlx::Result<Vec<PlaceRow>> {
    let up = within / METRES_PER_DEGREE;
    let aside = up / at.latitude.to_radians().cos().abs().max(0.01);
    let units = |degrees: f64| (degrees * PER_DEGREE) as i64;
    let mut sql = Sql::new(schema, "SELECT body, sealed FROM {s}.place_note WHERE south <= ");
    sql.bind(units(at.latitude + up)).push(" AND north >= ").bind(units(at.latitude - up));
    sql.push(" AND west <= ").bind(units(at.longitude + aside));
    sql.push(" AND east >= ").bind(units(at.longitude - aside)).push(" ORDER BY id");
    let mut found = read(sql, schema).await?;
    for row in &mut found {
        row.note.distance = distance(at, &row.note.outline);
    }
    found.retain(|row| row.note.distance <= within);
    found.sort_by(|a, b| a.note.distance.total_cmp(&b.note.distance));
    found.truncate(limit);
    Ok(found)
}

/// Notes of these networks, newest first.
pub async fn of_networks(
    schema: &Schema,
    networks: impl Iterator<Item = &str>,
    limit: usize,
) -> sqlx::Result<Vec<PlaceRow>> {
    let mut sql = Sql::new(schema, "SELECT body, sealed FROM {s}.place_note WHERE network");
    sql.any_of(networks).push(" ORDER BY id DESC LIMIT ").bind(limit as u64);
    read(sql, schema).await
}

async fn read(sql: Sql, schema: &Schema) -> sqlx::Result<Vec<PlaceRow>> {
    let rows = sql.fetch(&schema.db).await?;
    let row = |row: &samen_log::Row| {
        let note = PlaceNote::decode(row.bytes(0).as_slice())?;
        Ok(PlaceRow { note, sealed: row.bytes(1) })
    };
    let rows = rows.iter().map(row).collect::<Result<_, prost::DecodeError>>();
    rows.map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Metres from a point to an outline: 0 inside it.
fn distance(at: &Location, outline: &[Location]) -> f64 {
    let coord = |at: &Location| Coord { x: at.longitude, y: at.latitude };
    let here = Point::from(coord(at));
    let line: LineString = outline.iter().map(coord).collect();
    if outline.len() > 3 && Polygon::new(line.clone(), Vec::new()).contains(&here) {
        return 0.0;
    }
    let nearest = |segment: geo::Line| {
        // So small that the earth is flat: the nearest point of the segment.
        let (d, to) = (segment.delta(), here.0 - segment.start);
        let scale = here.y().to_radians().cos();
        let length = (d.x * scale).powi(2) + d.y.powi(2);
        let along = (d.x * scale * to.x * scale + d.y * to.y) / length.max(f64::MIN_POSITIVE);
        let point = segment.start + d * along.clamp(0.0, 1.0);
        Haversine.distance(here, Point::from(point))
    };
    match outline {
        [one] => Haversine.distance(here, Point::from(coord(one))),
        _ => line.lines().map(nearest).fold(f64::MAX, f64::min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_as_far_as_it_is_from_the_border() {
        let at = |latitude, longitude| Location { latitude, longitude };
        let square =
            [at(52.34, 4.96), at(52.34, 4.97), at(52.35, 4.97), at(52.35, 4.96), at(52.34, 4.96)];
        assert!(distance(&at(52.345, 4.965), &square) == 0.0);
        // A thousandth of a degree north of it: 111 metres.
        let north = distance(&at(52.351, 4.965), &square);
        assert!((north - 111.2).abs() < 0.5, "{north}");
        let east = distance(&at(52.345, 4.971), &square);
        assert!((east - 67.9).abs() < 0.5, "{east}");
        let one = distance(&at(52.351, 4.96), &[at(52.35, 4.96)]);
        assert!((one - 111.2).abs() < 0.5, "{one}");
    }
}
