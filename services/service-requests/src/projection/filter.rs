//! Which requests match a filter: in a query, and of a request that was read
//! for all.
//!
//! Both go by the same columns: moments in whole microseconds, places in ten
//! millionths of a degree.

use samen_log::{Schema, Sql};
use samen_proto::requests::{BoundingBox, Handling, RequestFilter};
use samen_server::time::micros;

use super::condition::{Condition, Is};
use super::queries::Visible;
use super::row::{NONE, RequestRow, moment, place, units};

/// What is read of a request beside the moment at which it was reported, which
/// its words have too.
const BESIDE: &str = "id, number, category, status, neighbourhood, channel, urgency, norm_state,
    team, assignee, network, source, parent, satisfaction, photos, latitude, longitude,
    updated_at, closed_at, due_at, filed_by, body, week";
/// Requests that are read and put in order rather than looked for in the order
/// of lists: a page of what more of them fulfil is found soon there.
const FEW: i64 = 10_000;

/// A filter that was checked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    asked: RequestFilter,
    /// What the words of its text are in the store.
    words: Vec<i64>,
    /// The condition that few requests fulfil, if there is one.
    lead: Option<usize>,
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
        Filter { asked, words, lead: None }
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
    /// What few requests fulfil leads, where that is known ([`Filter::led`]):
    /// they are read first, by its index. Else a word does: its table is in
    /// the order of lists, so that a common word is read until a page is full.
    /// Other words are looked up one request at a time, in a form that planners
    /// leave as it is: of a join they expect next to nothing, and would read
    /// all of it first.
    pub fn add(&self, sql: &mut Sql, schema: &Schema, columns: &str, visible: &Visible) {
        let conditions = self.conditions();
        let mut words = self.words.iter();
        let mut from = "request";
        sql.push(&format!("SELECT {columns} FROM "));
        if let Some(lead) = self.lead.and_then(|lead| conditions.get(lead)) {
            sql.push(&schema.sql("(SELECT * FROM {s}.request WHERE 1 = 1").0);
            lead.add(sql);
            // Without an end, it would be one statement with the rest of it.
            sql.push(" LIMIT ").bind(i64::MAX).push(") AS request WHERE 1 = 1");
        } else if let Some(first) = words.next() {
            from = "word";
            let join = format!(
                "{{s}}.search AS word JOIN (SELECT {BESIDE} FROM {{s}}.request) AS request
                 USING (id) WHERE token = "
            );
            sql.push(&schema.sql(&join).0).bind(*first);
        } else {
            sql.push(&schema.sql("{s}.request WHERE 1 = 1").0);
        }
        let look = schema.sql(&format!(
            " AND 0 < (SELECT COUNT(*) FROM {{s}}.search AS other
                       WHERE other.created_at = {from}.created_at AND other.id = {from}.id
                       AND other.token = "
        ));
        for word in words {
            sql.push(&look.0).bind(*word).push(")");
        }
        visible.restrict(sql, schema);
        let alone = !visible.is_few() && self.words.is_empty();
        for (place, condition) in conditions.iter().enumerate() {
            if self.lead != Some(place) {
                condition.check(sql, schema, alone);
            }
        }
    }

    /// The same filter, led by what the fewest requests fulfil: a condition,
    /// or a word.
    pub async fn led(&self, schema: &Schema, visible: &Visible) -> sqlx::Result<Self> {
        let mut words = Vec::new();
        for word in &self.words {
            let text = "SELECT COUNT(*) FROM (SELECT 1 FROM {s}.search WHERE token = ";
            let mut sql = Sql::new(schema, text);
            sql.bind(*word);
            words.push((count(sql, schema).await?, *word));
        }
        words.sort_unstable();
        let rarest = words.first().map_or(FEW, |(count, _)| *count);
        let words = words.into_iter().map(|(_, word)| word).collect();
        let mut lead = (rarest, None);
        // What somebody filed has an index of its own.
        if !visible.is_few() {
            for (place, condition) in self.conditions().iter().enumerate() {
                let text = "SELECT COUNT(*) FROM (SELECT 1 FROM {s}.request WHERE 1 = 1";
                let mut sql = Sql::new(schema, text);
                condition.add(&mut sql);
                let count = count(sql, schema).await?;
                if count < lead.0 {
                    lead = (count, Some(place));
                }
            }
        }
        Ok(Filter { asked: self.asked.clone(), words, lead: lead.1 })
    }

    /// All that is asked, but for the words.
    fn conditions(&self) -> Vec<Condition> {
        let asked = &self.asked;
        let numbers = |column, values: &[i32]| {
            Condition::new(column, Is::Numbers(values.iter().map(|v| i64::from(*v)).collect()))
        };
        let texts = |column, values: &[String]| {
            Condition::new(column, Is::Texts(values.to_vec())).ordered()
        };
        let rated = asked.satisfactions.iter().map(|value| i64::from(*value)).collect();
        let known = asked.numbers.iter().map(|value| *value as i64).collect();
        let parent = Some(asked.parent_id.clone()).filter(|parent| !parent.is_empty());
        let mut all = vec![
            numbers("status", &asked.statuses).ordered(),
            numbers("channel", &asked.channels).ordered(),
            numbers("urgency", &asked.urgencies).ordered(),
            numbers("norm_state", &asked.norm_states).ordered(),
            texts("category", &asked.categories),
            texts("neighbourhood", &asked.neighbourhoods),
            texts("team", &asked.teams),
            texts("assignee", &asked.assignees),
            texts("network", &asked.networks),
            texts("source", &asked.sources),
            Condition::new("satisfaction", Is::Numbers(rated)).guarded(" AND satisfaction > 0"),
            Condition::new("number", Is::Numbers(known)),
            Condition::new("parent", Is::Texts(parent.into_iter().collect()))
                .guarded(" AND parent <> ''"),
        ];
        if asked.with_photo {
            all.push(Condition::new("photos", Is::Guarded));
        }
        all.extend(self.windows().map(|window| {
            let condition = Condition::new(window.column, Is::Within(window.from, window.before));
            if window.column == "created_at" { condition.ordered() } else { condition }
        }));
        if let Some(Region { latitudes, longitudes }) = self.region() {
            all.push(Condition::new("latitude", Is::Box(latitudes, longitudes)));
        }
        all.retain(|condition| !condition.is_empty());
        all
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

/// How many rows there are, up to [`FEW`]: of a statement that is counted.
async fn count(mut sql: Sql, schema: &Schema) -> sqlx::Result<i64> {
    sql.push(" LIMIT ").bind(FEW).push(") AS counted");
    let rows = sql.fetch(&schema.db).await?;
    Ok(rows.first().map_or(0, |row| row.int(0)))
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
