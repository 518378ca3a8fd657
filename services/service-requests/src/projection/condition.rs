//! One condition of a filter: in a query, with what a planner needs to know.

use samen_log::{Db, Schema, Sql};

use super::row::NONE;

/// What a column must be.
pub struct Condition {
    column: &'static str,
    is: Is,
    /// Whether an index has the requests with one value in the order of lists.
    ordered: bool,
    /// What else is so where this is, as a partial index says it.
    guard: &'static str,
}

pub enum Is {
    /// One of these.
    Numbers(Vec<i64>),
    Texts(Vec<String>),
    /// In a half-open window. What has no such moment has the largest number,
    /// and is in no window.
    Within(Option<i64>, Option<i64>),
    /// Between these, both included: of the column, and of the longitude.
    Box([i64; 2], [i64; 2]),
    /// Nothing but what the guard says.
    Guarded,
}

impl Condition {
    pub fn new(column: &'static str, is: Is) -> Self {
        Condition { column, is, ordered: false, guard: "" }
    }

    /// An index has each value's requests in the order of lists.
    pub fn ordered(self) -> Self {
        Condition { ordered: true, ..self }
    }

    pub fn guarded(self, guard: &'static str) -> Self {
        Condition { guard, ..self }
    }

    /// Whether everything fulfils it.
    pub fn is_empty(&self) -> bool {
        match &self.is {
            Is::Numbers(values) => values.is_empty(),
            Is::Texts(values) => values.is_empty(),
            Is::Within(from, before) => from.is_none() && before.is_none(),
            Is::Box(..) | Is::Guarded => false,
        }
    }

    /// Whether lists can be read in their order while it holds, by an index.
    fn keeps_order(&self) -> bool {
        match &self.is {
            Is::Numbers(values) => self.ordered && values.len() == 1,
            Is::Texts(values) => self.ordered && values.len() == 1,
            Is::Within(..) => self.ordered,
            Is::Box(..) | Is::Guarded => false,
        }
    }

    /// Adds it, as what an index may be looked up by.
    pub fn add(&self, sql: &mut Sql) {
        self.write(sql, "");
    }

    /// Adds it as what is only checked. SQLite, which keeps no statistics,
    /// would take any index for better than the order of lists; the plus tells
    /// it not to.
    pub fn check(&self, sql: &mut Sql, schema: &Schema, alone: bool) {
        let free = matches!(schema.db, Db::Postgres(_)) || (alone && self.keeps_order());
        self.write(sql, if free { "" } else { "+" });
    }

    fn write(&self, sql: &mut Sql, plus: &str) {
        sql.push(" AND ").push(plus).push(self.column);
        match &self.is {
            Is::Numbers(values) => {
                sql.any_of(values.iter().copied());
            }
            Is::Texts(values) => {
                sql.any_of(values.iter().map(String::as_str));
            }
            Is::Within(from, before) => {
                let end = before.unwrap_or(NONE);
                sql.push(" < ").bind(end);
                if let Some(from) = from {
                    sql.push(" AND ").push(plus).push(self.column).push(" >= ").bind(*from);
                }
            }
            Is::Box([south, north], [west, east]) => {
                sql.push(" BETWEEN ").bind(*south).push(" AND ").bind(*north);
                sql.push(" AND longitude BETWEEN ").bind(*west).push(" AND ").bind(*east);
            }
            Is::Guarded => {
                sql.push(" > 0");
            }
        }
        sql.push(self.guard);
    }
}
