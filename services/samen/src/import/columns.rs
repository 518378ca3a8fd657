//! Which column says what: by name, from the file's first line.

use clap::Args;
use csv::StringRecord;

use crate::usage::Misconfigured;

/// Names of columns. Case does not matter. One that was named must be there;
/// one that is only a default may be missing where the contract can do
/// without.
#[derive(Args)]
pub struct Names {
    /// The column with the request's number in the source system
    #[arg(long, default_value = "id", value_name = "COLUMN")]
    pub number_column: String,
    /// Columns that make the category, `main/sub`; comma separated, or given
    /// more than once [default: category, and subcategory where there is one]
    #[arg(long = "category-column", value_delimiter = ',', value_name = "COLUMN")]
    pub category_columns: Vec<String>,
    /// The column with the time at which it was reported
    #[arg(long, default_value = "created_at", value_name = "COLUMN")]
    pub created_column: String,
    /// The column with the time, or the day, on which it was closed; empty
    /// while it is open [default: closed_at or resolved_date, where there is
    /// one]
    #[arg(long, value_name = "COLUMN")]
    pub closed_column: Option<String>,
    /// The column with the latitude, in degrees (WGS 84) [default: lat, where
    /// there is one]
    #[arg(long, value_name = "COLUMN")]
    pub latitude_column: Option<String>,
    /// The column with the longitude [default: lon, where there is one]
    #[arg(long, value_name = "COLUMN")]
    pub longitude_column: Option<String>,
    /// The column with the word for how it arrived [default: channel, where
    /// there is one]
    #[arg(long, value_name = "COLUMN")]
    pub channel_column: Option<String>,
    /// The column with the reporter's text; it is sealed [default: none]
    #[arg(long, value_name = "COLUMN")]
    pub description_column: Option<String>,
    /// The column with the name of the source system, where one file holds
    /// several
    #[arg(long, value_name = "COLUMN", conflicts_with = "source")]
    pub source_column: Option<String>,
    /// Take only rows whose column has this value; given more than once, all
    /// must hold
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = parse_condition)]
    pub conditions: Vec<(String, String)>,
}

/// A column of this file.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    index: usize,
}

/// The columns of this file that are used.
#[derive(Debug)]
pub struct Columns {
    pub number: Column,
    /// At least one.
    pub category: Vec<Column>,
    pub created: Column,
    pub closed: Option<Column>,
    pub latitude: Option<Column>,
    pub longitude: Option<Column>,
    pub channel: Option<Column>,
    pub description: Option<Column>,
    pub source: Option<Column>,
    pub conditions: Vec<(Column, String)>,
}

fn parse_condition(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or("must be a column, = and a value")?;
    Ok((column.trim().to_owned(), value.trim().to_owned()))
}

// === impl Column ===

impl Column {
    /// The cell in this row, without blanks around it.
    pub fn of<'a>(&self, row: &'a StringRecord) -> &'a str {
        row.get(self.index).unwrap_or_default().trim()
    }
}

// === impl Names ===

impl Names {
    /// The columns of a file with this first line.
    pub fn find(&self, header: &StringRecord) -> Result<Columns, Misconfigured> {
        let find = |name: &str| {
            let index = header.iter().position(|h| h.trim().eq_ignore_ascii_case(name.trim()))?;
            Some(Column { name: header[index].trim().to_owned(), index })
        };
        let needed = |flag: &'static str, name: &str| {
            find(name).ok_or_else(|| {
                let has: Vec<_> = header.iter().map(str::trim).collect();
                let reason =
                    format!("the file has no column {name}; its columns are {}", has.join(", "));
                Misconfigured { variable: flag, reason }
            })
        };
        let optional = |flag, name: &Option<String>, defaults: &[&str]| match name {
            Some(name) => needed(flag, name).map(Some),
            None => Ok(defaults.iter().find_map(|name| find(name))),
        };
        let category = if self.category_columns.is_empty() {
            let main = needed("--category-column", "category")?;
            [Some(main), find("subcategory")].into_iter().flatten().collect()
        } else {
            let named = self.category_columns.iter();
            named.map(|name| needed("--category-column", name)).collect::<Result<_, _>>()?
        };
        let conditions = self
            .conditions
            .iter()
            .map(|(name, value)| needed("--where", name).map(|column| (column, value.clone())));
        Ok(Columns {
            number: needed("--number-column", &self.number_column)?,
            category,
            created: needed("--created-column", &self.created_column)?,
            closed: optional(
                "--closed-column",
                &self.closed_column,
                &["closed_at", "resolved_date"],
            )?,
            latitude: optional("--latitude-column", &self.latitude_column, &["lat"])?,
            longitude: optional("--longitude-column", &self.longitude_column, &["lon"])?,
            channel: optional("--channel-column", &self.channel_column, &["channel"])?,
            description: optional("--description-column", &self.description_column, &[])?,
            source: optional("--source-column", &self.source_column, &[])?,
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }
}
