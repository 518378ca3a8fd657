//! Which status may follow which: the whole table.

use samen_proto::requests::Status::{self, *};

/// All statuses that a request can have.
pub const ALL: [Status; 11] = [
    Received,
    InProgress,
    Waiting,
    Planned,
    External,
    Resolved,
    Rejected,
    Merged,
    Transferred,
    Reopened,
    Closed,
];

/// The statuses that a request may go to from here, by whatever command.
pub fn next(from: Status) -> &'static [Status] {
    match from {
        Unspecified => &[],
        Received | Reopened => {
            &[InProgress, Waiting, Planned, External, Resolved, Rejected, Merged, Transferred]
        }
        InProgress => &[Waiting, Planned, External, Resolved, Rejected, Merged, Transferred],
        Waiting => &[InProgress, Planned, External, Resolved, Rejected, Merged, Transferred],
        // Planned anew, or with another party.
        Planned => {
            &[InProgress, Waiting, Planned, External, Resolved, Rejected, Merged, Transferred]
        }
        External => {
            &[InProgress, Waiting, Planned, External, Resolved, Rejected, Merged, Transferred]
        }
        Resolved | Rejected => &[Reopened, Closed],
        // What it went on in was another matter; who took it over gives it back.
        Merged | Transferred | Closed => &[Reopened],
    }
}

/// Whether nobody works on it any more.
pub fn is_closed(status: Status) -> bool {
    matches!(status, Resolved | Rejected | Merged | Transferred | Closed)
}

/// Whether the reporter reads why: then there must be a text.
pub fn needs_explanation(to: Status) -> bool {
    matches!(to, Resolved | Rejected | Reopened | Transferred)
}

/// Whether a handler goes there by `ChangeStatus`. To the others lead commands
/// of their own, which say more.
pub fn by_change(to: Status) -> bool {
    !matches!(to, Unspecified | Received | Waiting | Merged | Transferred)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row for each status, a column for each that may follow.
    const MATRIX: &str = "\
from        Rec InP Wai Pla Ext Res Rej Mer Tra Reo Clo
Received     .   x   x   x   x   x   x   x   x   .   .
InProgress   .   .   x   x   x   x   x   x   x   .   .
Waiting      .   x   .   x   x   x   x   x   x   .   .
Planned      .   x   x   x   x   x   x   x   x   .   .
External     .   x   x   x   x   x   x   x   x   .   .
Resolved     .   .   .   .   .   .   .   .   .   x   x
Rejected     .   .   .   .   .   .   .   .   .   x   x
Merged       .   .   .   .   .   .   .   .   .   x   .
Transferred  .   .   .   .   .   .   .   .   .   x   .
Reopened     .   x   x   x   x   x   x   x   x   .   .
Closed       .   .   .   .   .   .   .   .   .   x   .
";

    #[test]
    fn the_whole_table_is_as_it_was_agreed() {
        let mut table = "from       ".to_owned();
        for to in ALL {
            table += &format!(" {:.3}", format!("{to:?}"));
        }
        table += "\n";
        for from in ALL {
            table += &format!("{:12}", format!("{from:?}"));
            let cells = ALL.map(|to| if next(from).contains(&to) { " x " } else { " . " });
            table += cells.join(" ").trim_end();
            table += "\n";
        }
        println!("{table}");
        assert_eq!(table, MATRIX);
        assert_eq!(next(Unspecified), []);
    }

    #[test]
    fn what_is_open_can_be_closed_and_what_is_closed_opened() {
        for from in ALL {
            let closes = next(from).iter().any(|to| is_closed(*to));
            assert!(closes || next(from).contains(&Reopened), "{from:?}");
            assert_eq!(is_closed(from), next(from).contains(&Reopened), "{from:?}");
        }
    }
}
