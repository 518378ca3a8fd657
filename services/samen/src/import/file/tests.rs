use samen_proto::requests::{ImportRequestRequest, Location};
use samen_server::time::from_proto;

use super::*;

/// Flags as on the command line.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    names: Names,
    #[arg(long)]
    source: Option<String>,
}

fn read_with(text: &[u8], delimiter: u8, flags: &[&str]) -> anyhow::Result<Vec<Entry>> {
    let arguments = ["test"].iter().chain(flags);
    let flags = <Flags as clap::Parser>::try_parse_from(arguments)?;
    let format = Format {
        delimiter,
        source: "old".to_owned(),
        channel: Channel::Web,
        zone: TimeZone::get("Europe/Amsterdam")?,
    };
    Rows::new(text, &flags.names, format)?.collect()
}

fn read(text: &str) -> Vec<Entry> {
    read_with(text.as_bytes(), b',', &[]).unwrap()
}

fn message(entry: &Entry) -> &ImportRequestRequest {
    match entry {
        Entry::Row { mapped, .. } => &mapped.message,
        other => panic!("not a row that can be sent: {other:?}"),
    }
}

fn refusal(entry: &Entry) -> (u64, &str) {
    match entry {
        Entry::Refused(refused) => (refused.line, &refused.reason),
        other => panic!("not refused: {other:?}"),
    }
}

fn instant(proto: &Option<prost_types::Timestamp>) -> Option<String> {
    proto.as_ref().and_then(from_proto).map(|t| t.to_string())
}

const HEADER: &str = "id,category,subcategory,created_at,closed_at,lat,lon,channel";

#[test]
fn a_row_becomes_a_message() {
    let rows = read(&format!(
        "{HEADER}\n7,Afval,Dumping,2025-04-30T11:56:09+00:00,2025-05-02,52.34,4.96,phone\n"
    ));
    let message = message(&rows[0]);
    assert_eq!((&*message.source, &*message.source_number), ("old", "7"));
    assert_eq!(message.category, "Afval/Dumping");
    assert_eq!(message.location, Some(Location { latitude: 52.34, longitude: 4.96 }));
    assert_eq!(message.channel(), Channel::Phone);
    assert_eq!(instant(&message.create_time).unwrap(), "2025-04-30T11:56:09Z");
    assert_eq!(instant(&message.close_time).unwrap(), "2025-05-02T21:59:59.999999Z");
    assert_eq!(message.description, "");
}

#[test]
fn the_id_follows_from_the_row_and_from_nothing_else() {
    let row = "7,Afval,Dumping,2025-04-30T11:56:09+00:00,,52.34,4.96,phone";
    let id = |text: &str| message(&read(text)[0]).request_id.clone();
    let first = id(&format!("{HEADER}\n{row}\n"));
    assert_eq!(first, id(&format!("{HEADER}\n{row}\n")));
    assert_ne!(first, id(&format!("{HEADER}\n{}\n", row.replace("Dumping", "Papier"))));
    // Where columns stand does not matter, nor do those that are not used.
    let turned = "lon,lat,extra,channel,created_at,closed_at,subcategory,category,id\n\
                  4.96,52.34,x,phone,2025-04-30T11:56:09+00:00,,Dumping,Afval,7\n";
    assert_eq!(first, id(turned));
}

#[test]
fn quoted_and_empty_cells() {
    let rows = read(&format!(
        "{HEADER}\n8,\"Wegen, verkeer\",,2025-04-30T11:56:09Z,,,,\n\
         9,\"Een \"\"put\"\"\",\"twee\nregels\",2025-04-30T11:56:09Z,,,,other\n\
         10,Afval,,2025-04-30T11:56:09Z,,,,\n"
    ));
    assert_eq!(message(&rows[0]).category, "Wegen, verkeer");
    assert_eq!(message(&rows[0]).location, None);
    assert_eq!(message(&rows[0]).close_time, None);
    assert_eq!(message(&rows[1]).category, "Een \"put\"/twee\nregels");
    assert_eq!(message(&rows[1]).channel(), Channel::Web);
    let Entry::Row { line, mapped } = &rows[2] else { panic!("a row") };
    assert_eq!((*line, mapped.fell_back), (5, true));
}

#[test]
fn a_byte_order_mark_semicolons_and_decimal_commas() {
    let text = "\u{feff}id;category;lat;lon;created_at\r\n\
                1;Afval;52,34;4,96;30-4-2025 11:56\r\n\
                2;Afval;;;soon\r\n\
                \r\n";
    let rows = read_with(text.as_bytes(), b';', &[]).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(refusal(&rows[1]), (3, "created_at is not a time: soon"));
    let message = message(&rows[0]);
    assert_eq!(message.source_number, "1");
    assert_eq!(message.location, Some(Location { latitude: 52.34, longitude: 4.96 }));
    assert_eq!(instant(&message.create_time).unwrap(), "2025-04-30T09:56:00Z");
}

#[test]
fn columns_by_other_names() {
    let text = "Zaak,Soort,Gemeld,Toelichting,Systeem\n1,Afval,2025-04-30,Er ligt afval.,GIS\n";
    let flags = [
        "--number-column=zaak",
        "--category-column=Soort",
        "--created-column=Gemeld",
        "--description-column=Toelichting",
        "--source-column=Systeem",
    ];
    let rows = read_with(text.as_bytes(), b',', &flags).unwrap();
    let message = message(&rows[0]);
    assert_eq!((&*message.source, &*message.source_number), ("GIS", "1"));
    assert_eq!(message.description, "Er ligt afval.");

    let missing = read_with(text.as_bytes(), b',', &flags[1..]).unwrap_err().to_string();
    assert!(missing.starts_with("--number-column: the file has no column id;"), "{missing}");
}

#[test]
fn only_rows_that_were_asked_for() {
    let text = "source,id,category,created_at\nsf,1,a,2025-04-30\nstl,2,a,2025-04-30\n";
    let rows = read_with(text.as_bytes(), b',', &["--where=source=stl"]).unwrap();
    assert_eq!(rows[0], Entry::LeftOut);
    assert_eq!(message(&rows[1]).source_number, "2");
}

#[test]
fn rows_that_cannot_be_used_are_named() {
    let now = Timestamp::now();
    let today = now.to_zoned_datetime(TimeZone::get("Europe/Amsterdam").unwrap()).date();
    let rows = read(&format!(
        "{HEADER}\n\
         ,Afval,,2025-04-30,,,,\n\
         1,,Dumping,2025-04-30,,,,\n\
         1,Afval,,soon,,,,\n\
         1,Afval,,2025-04-30,2025-04-29,,,\n\
         1,Afval,,2025-04-30,,fifty,4.96,\n\
         1,Afval,,2025-04-30,,52.34,,\n\
         1,Afval,,2025-04-30,{today},,,\n\
         1,Afval,,2025-04-30,2925-04-30,,,\n"
    ));
    let reasons: Vec<_> = rows.iter().map(refusal).collect();
    assert_eq!(
        reasons,
        [
            (2, "id is empty"),
            (3, "category is empty"),
            (4, "created_at is not a time: soon"),
            (5, "closed before it was created"),
            (6, "lat is not a number: fifty"),
            (7, "lon is empty and lat is not"),
            (8, &*format!("closed on {today}, a day that is not over: import it again tomorrow")),
            (9, "closed in the future"),
        ]
    );
}

#[test]
fn after_a_malformed_record_the_file_goes_on() {
    let mut text =
        b"id,category,created_at\n1,a,2025-04-30,too,many\n2,\"a,2025-04-30\n3,b,".to_vec();
    text.extend(b"2025-04-30\n\",c,d\n4,\xff,2025-04-30\n5,d,2025-04-30\n");
    let rows = read_with(&text, b',', &[]).unwrap();
    assert_eq!(refusal(&rows[0]), (2, "has 5 cells where the first line has 3"));
    let quote = "has 4 cells where the first line has 3; it runs to line 5: is a quote missing?";
    assert_eq!(refusal(&rows[1]), (3, quote));
    assert_eq!(refusal(&rows[2]), (6, "is not UTF-8"));
    assert_eq!(message(&rows[3]).source_number, "5");
}
