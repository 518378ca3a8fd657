//! Which requests match a filter: in a query, and of a request that was read
//! for all.
//!
//! Both go by the same columns: moments in whole microseconds, places in ten
//! millionths of a degree.

use samen_log::{Schema, Sql};
use samen_proto::requests::{BoundingBox, Handling, RequestFilter};
use samen_server::time::micros;

use super::queries::Visible;
use super::row::{NONE, RequestRow, moment, place, units};

/// What is read of a request beside the moment at which it was reported, which
/// its words have too.
const BESIDE: &str = "id, number, category, status, neighbourhood, channel, urgency, norm_state,
    team, assignee, network, source, parent, satisfaction, photos, latitude, longitude,
    updated_at, closed_at, due_at, filed_by, body, week";
/// Requests of which it does not matter how many more have a word.
const MANY: i64 = 10_000;

/// A filter that was checked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    asked: RequestFilter,
    /// What the words of its text are in the store.
    words: Vec<i64>,
}

/// A half-open window on one moment of a request.
struct Window {
    column: &'static str,
    from: Option<i64>,
    before: Option<i64>,
}

/// Latitudes and longitudes, least and greatest.
struct Region {
    latitudes: [i64; 2],
    longitudes: [i64; 2],
}

// === impl Filter ===

impl Filter {
    /// `words` are those of its text: at least one, where it has a text.
    pub fn new(asked: RequestFilter, words: Vec<i64>) -> Self {
        Filter { asked, words }
    }

    /// Reads these columns of the requests that match, as far as somebody may
    /// see them: a statement to which conditions can be added.
    pub fn select(&self, schema: &Schema, columns: &str, visible: &Visible) -> Sql {
        let mut sql = Sql::new(schema, "");
        self.add(&mut sql, schema, columns, visible);
        sql
    }

    /// The same, as a part of a larger statement.
    ///
    /// A word leads: its table is in the order of lists, so that a common word
    /// is read until a page is full, and a rare one to its end. Other words are
    /// looked up one request at a time, in a form that planners leave as it is:
    /// of a join they expect next to nothing, and read all of it first.
    pub fn add(&self, sql: &mut Sql, schema: &Schema, columns: &str, visible: &Visible) {
        let from = match self.words.is_empty() {
            true => "{s}.request".to_owned(),
            false => format!(
                "{{s}}.search AS word JOIN (SELECT {BESIDE} FROM {{s}}.request) AS request
                 USING (id)"
            ),
        };
        let text = format!("SELECT {columns} FROM {from} WHERE 1 = 1");
        sql.push(&schema.sql(&text).0);
        let mut words = self.words.iter();
        if let Some(first) = words.next() {
            sql.push(" AND token = ").bind(*first);
        }
        let look = schema.sql(
            " AND 0 < (SELECT COUNT(*) FROM {s}.search AS other
                                 WHERE other.created_at = word.created_at AND other.id = word.id
                                 AND other.token = ",
        );
        for word in words {
            sql.push(&look.0).bind(*word).push(")");
        }
        visible.restrict(sql);
        self.narrow(sql);
    }

    /// The same filter, led by the word that the fewest requests have.
    pub async fn rarest_first(&self, schema: &Schema) -> sqlx::Result<Self> {
        let mut words = Vec::new();
        for word in &self.words {
            let text = "SELECT COUNT(*) FROM (SELECT 1 FROM {s}.search WHERE token = ";
            let mut sql = Sql::new(schema, text);
            sql.bind(*word).push(" LIMIT ").bind(MANY).push(") AS counted");
            let rows = sql.fetch(&schema.db).await?;
            words.push((rows.first().map_or(0, |row| row.int(0)), *word));
        }
        words.sort_unstable();
        let words = words.into_iter().map(|(_, word)| word).collect();
        Ok(Filter { words, ..self.clone() })
    }

    fn narrow(&self, sql: &mut Sql) {
        let asked = &self.asked;
        for (column, values) in [
            (" AND status", &asked.statuses),
            (" AND channel", &asked.channels),
            (" AND urgency", &asked.urgencies),
            (" AND norm_state", &asked.norm_states),
        ] {
            if !values.is_empty() {
                sql.push(column).any_of(values.iter().copied());
            }
        }
        for (column, values) in [
            (" AND category", &asked.categories),
            (" AND neighbourhood", &asked.neighbourhoods),
            (" AND team", &asked.teams),
            (" AND assignee", &asked.assignees),
            (" AND network", &asked.networks),
            (" AND source", &asked.sources),
        ] {
            if !values.is_empty() {
                sql.push(column).any_of(values.iter().map(String::as_str));
            }
        }
        if !asked.satisfactions.is_empty() {
            sql.push(" AND satisfaction").any_of(asked.satisfactions.iter().map(|s| u64::from(*s)));
        }
        if !asked.numbers.is_empty() {
            sql.push(" AND number").any_of(asked.numbers.iter().copied());
        }
        if asked.with_photo {
            sql.push(" AND photos > ").bind(0_i64);
        }
        if !asked.parent_id.is_empty() {
            // As the index says it that has only parts.
            sql.push(" AND parent <> '' AND parent = ").bind(asked.parent_id.as_str());
        }
        for window in self.windows() {
            window.narrow(sql);
        }
        if let Some(region) = self.region() {
            let Region { latitudes: [south, north], longitudes: [west, east] } = region;
            sql.push(" AND latitude BETWEEN ").bind(south).push(" AND ").bind(north);
            sql.push(" AND longitude BETWEEN ").bind(west).push(" AND ").bind(east);
        }
    }

    /// What [`Filter::select`] does in a query, of a request that was read for
    /// all.
    pub fn matches(&self, row: &RequestRow) -> bool {
        let (asked, body) = (&self.asked, &row.body);
        let nobody = Handling::default();
        let handling = body.handling.as_ref().unwrap_or(&nobody);
        let numbers = [
            (&asked.statuses, body.status),
            (&asked.channels, body.channel),
            (&asked.urgencies, body.urgency),
            (&asked.norm_states, body.norm_state),
        ];
        let texts = [
            (&asked.categories, &body.category),
            (&asked.neighbourhoods, &body.neighbourhood),
            (&asked.teams, &handling.team),
            (&asked.assignees, &handling.assignee),
            (&asked.networks, &handling.network),
            (&asked.sources, &body.source),
        ];
        let moments = [&body.create_time, &body.update_time, &body.close_time, &body.due_time];
        let (latitude, longitude) = place(body.location.as_ref());
        numbers.iter().all(|(wanted, is)| one_of(wanted, is))
            && texts.iter().all(|(wanted, is)| one_of(wanted, is))
            && one_of(&asked.satisfactions, &body.satisfaction)
            && one_of(&asked.numbers, &body.number)
            && (!asked.with_photo || !body.photo_ids.is_empty())
            && (asked.parent_id.is_empty() || asked.parent_id == body.parent_id)
            && self.windows().iter().zip(moments).all(|(w, at)| w.holds(moment(at.as_ref())))
            && self.region().is_none_or(|region| region.holds(latitude, longitude))
            && self.words.iter().all(|word| row.words.contains(word))
    }

    fn windows(&self) -> [Window; 4] {
        let asked = &self.asked;
        let window = |column, from: &Option<_>, before: &Option<_>| Window {
            column,
            from: from.as_ref().map(micros),
            before: before.as_ref().map(micros),
        };
        [
            window("created_at", &asked.created_from, &asked.created_before),
            window("updated_at", &asked.updated_from, &asked.updated_before),
            window("closed_at", &asked.closed_from, &asked.closed_before),
            window("due_at", &asked.due_from, &asked.due_before),
        ]
    }

    fn region(&self) -> Option<Region> {
        let BoundingBox { south_west, north_east } = self.asked.r#box.as_ref()?;
        let (low, high) = (south_west.as_ref()?, north_east.as_ref()?);
        Some(Region {
            latitudes: [low, high].map(|at| units(at.latitude)),
            longitudes: [low, high].map(|at| units(at.longitude)),
        })
    }
}

/// Nothing asked is anything.
fn one_of<T: PartialEq>(wanted: &[T], is: &T) -> bool {
    wanted.is_empty() || wanted.contains(is)
}

// === impl Window ===

impl Window {
    /// Before when: a request without such a moment has the largest number,
    /// and is in no window.
    fn end(&self) -> Option<i64> {
        self.before.or(self.from.map(|_| NONE))
    }

    fn narrow(&self, sql: &mut Sql) {
        for (comparison, bound) in [(" >= ", self.from), (" < ", self.end())] {
            if let Some(bound) = bound {
                sql.push(" AND ").push(self.column).push(comparison).bind(bound);
            }
        }
    }

    fn holds(&self, moment: i64) -> bool {
        self.from.is_none_or(|from| moment >= from) && self.end().is_none_or(|end| moment < end)
    }
}

// === impl Region ===

impl Region {
    fn holds(&self, latitude: i64, longitude: i64) -> bool {
        let within = |[least, greatest]: [i64; 2], at| (least..=greatest).contains(&at);
        within(self.latitudes, latitude) && within(self.longitudes, longitude)
    }
}
