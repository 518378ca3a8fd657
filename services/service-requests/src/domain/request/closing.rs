//! Since when a request is closed: from when on it is kept no longer than its
//! term. A part and a duplicate have a closing of their own: they are requests.

use jiff::Timestamp;
use samen_log::command::decode;
use samen_log::record::recorded_at;
use samen_log::{Aggregate, Record};
use samen_server::privacy::Closing;

use super::super::status;
use super::{Request, RequestEvent, instant};

/// Requests, as those who erase by terms know them.
pub const CLOSING: Closing = Closing { kind: Request::KIND, since: closed_since };

/// After one more record. That an answer becomes final does not move it; an
/// opening ends it, and the next closing begins anew. One of the past is closed
/// since its source closed it.
fn closed_since(before: Option<Timestamp>, record: &Record) -> Option<Timestamp> {
    match decode(record) {
        Ok(Some(RequestEvent::RequestImported(imported))) => instant(imported.close_time.as_ref()),
        Ok(Some(RequestEvent::StatusChanged(changed))) => match status::is_closed(changed.to()) {
            true => before.or_else(|| Some(recorded_at(record))),
            false => None,
        },
        Ok(Some(_)) => before,
        // What a newer release wrote may have opened it.
        Ok(None) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use samen_log::command::Event;
    use samen_log::record::timestamp;
    use samen_proto::requests::*;

    use super::*;

    fn record(second: i64, event: impl Into<RequestEvent>) -> Arc<Record> {
        let event: RequestEvent = event.into();
        let record = Record {
            r#type: event.kind(),
            data: event.encode(),
            recorded_at: Some(timestamp(second * 1_000_000)),
            ..Record::default()
        };
        Arc::new(record)
    }

    fn changed(to: Status) -> StatusChanged {
        StatusChanged { to: to.into(), ..StatusChanged::default() }
    }

    fn since(records: &[Arc<Record>]) -> Option<i64> {
        CLOSING.closed_since(records.iter().map(Arc::as_ref)).map(Timestamp::as_second)
    }

    /// Wherever it goes, and whatever else happens: it is closed since the
    /// first of the unbroken row of closed statuses that it ends with.
    fn slow(row: &[(i64, Status)]) -> Option<i64> {
        let open = row.iter().rposition(|(_, status)| !status::is_closed(*status));
        row.get(open.map_or(0, |open| open + 1)).map(|(at, _)| *at)
    }

    proptest! {
        #[test]
        fn it_is_closed_since_it_was_not_opened_again(
            steps in prop::collection::vec((0usize..12, 1i64..100), 0..30),
            imported in prop::option::of(prop::option::of(-1_000i64..0)),
        ) {
            let mut row = Vec::new();
            let mut records = vec![match imported {
                None => record(0, RequestFiled::default()),
                Some(closed) => record(0, RequestImported {
                    close_time: closed.map(|at| timestamp(at * 1_000_000)),
                    ..RequestImported::default()
                }),
            }];
            row.push(match imported.flatten() {
                None => (0, Status::Received),
                Some(closed) => (closed, Status::Resolved),
            });
            let (mut now, mut from) = (0, row[0].1);
            for (choice, later) in steps {
                now += later;
                match status::next(from).get(choice) {
                    Some(to) => {
                        from = *to;
                        row.push((now, from));
                        records.push(record(now, changed(from)));
                    }
                    None => records.push(record(now, NoteAdded::default())),
                }
                prop_assert_eq!(since(&records), slow(&row));
            }
        }
    }

    #[test]
    fn what_is_not_known_closes_nothing() {
        let mut records =
            vec![record(0, RequestFiled::default()), record(5, changed(Status::Resolved))];
        assert_eq!(since(&records), Some(5));
        let newer = Record { r#type: "samen.requests.v9.Newer".into(), ..Record::default() };
        records.push(Arc::new(newer));
        assert_eq!(since(&records), None);
    }
}
