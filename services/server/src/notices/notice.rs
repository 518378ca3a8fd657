//! One notice: its id, and what may happen to it. Pure.

use std::collections::BTreeMap;

use samen_log::{Aggregate, Record};
use samen_proto::notices::{DeliveryState, NoticeDelivered, NoticeSent};
use tonic::Status as Refusal;
use uuid::Uuid;

use super::INBOX;
use super::teller::Told;
use crate::reply;

/// Under which notices get ids from what they are about and whom they are for.
const NOTICES: Uuid = Uuid::from_u128(0x2a7c_1d0e_5b43_5f8a_9c61_6e6f_7469_6365);

samen_log::events! {
    /// What happens to a notice.
    pub enum NoticeEvent { NoticeSent, NoticeDelivered }
}

/// A notice's state, as far as rules look at it.
#[derive(Clone, Debug, Default)]
pub struct Notice {
    /// `None`: there is none.
    recipient: Option<String>,
    by_channel: BTreeMap<String, DeliveryState>,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is no such notice")]
    Missing { id: String },
}

/// The event by which somebody is told of a record. The same recipient of the
/// same record gives the same id.
pub fn of(record: &Record, told: Told) -> NoticeSent {
    let Told { recipient, about, kind } = told;
    let whom = match recipient.as_str() {
        "" => format!("whoever has the secret of {about}"),
        person => format!("person {person}"),
    };
    let Record { log, epoch, position, .. } = record;
    let name = format!("{log} {epoch} {position} {whom}");
    NoticeSent {
        id: Uuid::new_v5(&NOTICES, name.as_bytes()).to_string(),
        recipient,
        about,
        kind: kind.into(),
        position: *position,
    }
}

/// The recipient read it. Somebody else's is none, to who asks.
pub fn read(notice: &Notice, id: &str, reader: &str) -> Result<Vec<NoticeEvent>, Rejection> {
    match notice.recipient.as_deref() {
        Some(recipient) if recipient == reader => {
            Ok(notice.reported(id, INBOX, DeliveryState::Read))
        }
        _ => Err(Rejection::Missing { id: id.to_owned() }),
    }
}

/// A channel said how far it is.
pub fn report(
    notice: &Notice,
    id: &str,
    channel: &str,
    state: DeliveryState,
) -> Result<Vec<NoticeEvent>, Rejection> {
    match notice.recipient {
        Some(_) => Ok(notice.reported(id, channel, state)),
        None => Err(Rejection::Missing { id: id.to_owned() }),
    }
}

impl Notice {
    /// Nothing where that is known, or known to be behind: what was delivered
    /// had been sent.
    fn reported(&self, id: &str, channel: &str, state: DeliveryState) -> Vec<NoticeEvent> {
        let known = self.by_channel.get(channel).copied();
        let behind = known == Some(DeliveryState::Delivered) && state == DeliveryState::Sent;
        if known == Some(state) || behind {
            return Vec::new();
        }
        let (id, channel) = (id.to_owned(), channel.to_owned());
        vec![NoticeDelivered { id, channel, state: state.into() }.into()]
    }
}

impl Aggregate for Notice {
    type Event = NoticeEvent;
    const KIND: &'static str = "notice";

    fn evolve(mut self, event: &NoticeEvent) -> Self {
        match event {
            NoticeEvent::NoticeSent(sent) => self.recipient = Some(sent.recipient.clone()),
            NoticeEvent::NoticeDelivered(delivered) => {
                self.by_channel.insert(delivered.channel.clone(), delivered.state());
            }
        }
        self
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let Rejection::Missing { id } = rejection;
        reply::not_found("notice", &id)
    }
}

#[cfg(test)]
mod tests {
    use samen_proto::notices::NoticeKind;

    use super::*;

    fn told(recipient: &str, about: &str) -> Told {
        Told { recipient: recipient.into(), about: about.into(), kind: NoticeKind::Status }
    }

    #[test]
    fn an_id_is_of_one_event_and_one_recipient() {
        let at = |position| Record { log: "l".into(), epoch: 1, position, ..Record::default() };
        let id = |record: &Record, recipient, about| of(record, told(recipient, about)).id;
        let first = id(&at(1), "p", "request/a");
        // A person is told once, through whichever of their requests.
        assert_eq!(id(&at(1), "p", "request/b"), first);
        assert_ne!(id(&at(2), "p", "request/a"), first);
        assert_ne!(id(&at(1), "q", "request/a"), first);
        // Whoever is not known is told about each.
        let nobody = id(&at(1), "", "request/a");
        assert_ne!(nobody, first);
        assert_ne!(id(&at(1), "", "request/b"), nobody);
    }

    #[test]
    fn what_is_reported_twice_happens_once() {
        use DeliveryState::{Delivered, Failed, Read, Sent};
        let sent = of(&Record::default(), told("p", "request/a"));
        let id = sent.id.clone();
        let mut notice = Notice::default().evolve(&sent.into());
        let mut report = |channel: &str, state| {
            let events = match state {
                Read => read(&notice, &id, "p"),
                state => report(&notice, &id, channel, state),
            };
            let events = events.expect("there is one");
            notice = events.iter().fold(notice.clone(), |notice, event| notice.evolve(event));
            events.len()
        };
        let reported = [
            ("email", Sent, 1),
            ("email", Sent, 0),
            ("email", Failed, 1),
            ("email", Delivered, 1),
            ("email", Sent, 0),
            ("letter", Sent, 1),
            ("inbox", Read, 1),
            ("inbox", Read, 0),
        ];
        for (channel, state, events) in reported {
            assert_eq!(report(channel, state), events, "{channel} {state:?}");
        }
    }

    #[test]
    fn there_is_none_for_who_it_is_not_for() {
        let sent = of(&Record::default(), told("p", "request/a"));
        let notice = Notice::default().evolve(&sent.into());
        let missing = Err(Rejection::Missing { id: "i".into() });
        assert_eq!(read(&notice, "i", "q"), missing);
        assert_eq!(read(&Notice::default(), "i", ""), missing);
        assert_eq!(report(&Notice::default(), "i", "email", DeliveryState::Sent), missing);
    }
}
