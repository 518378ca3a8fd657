//! Who is told of what happens to a request.
//!
//! Its reporter, and where it stands: also the reporters of all requests that
//! go on in it, however many steps away, each about the request that they
//! reported. What is written to one reporter, and what only they can do, is
//! theirs alone. Norms are told to those who lead.
//!
//! All of it is worked out from the log as it was at the event, so that who
//! looks again finds the same; but for who leads, which is who does now.

use std::collections::{BTreeSet, VecDeque};

use prost::Name;
use samen_log::command::decode;
use samen_log::follow::PAGE;
use samen_log::{Aggregate, Log, Record};
use samen_proto::notices::NoticeKind;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_server::notices::{Failure, Tells, Told};

use crate::Requests;
use crate::domain::request::{Request, RequestEvent, own_channel, reporter_of};
use crate::register::Registered;

/// What decides who is told.
#[derive(Clone)]
pub struct Telling {
    log: Log,
    registered: Registered,
}

/// A request as it was at one position of the log.
#[derive(Default)]
struct Then {
    /// As [`reporter_of`] says.
    reporter: Option<String>,
    request: Request,
}

impl Tells for Telling {
    fn kinds() -> Vec<String> {
        vec![
            RequestFiled::full_name(),
            StatusChanged::full_name(),
            MessageSent::full_name(),
            RequestMerged::full_name(),
            FeedbackAsked::full_name(),
            NormApproached::full_name(),
            NormBreached::full_name(),
        ]
    }

    async fn told(&self, record: &Record) -> Result<Vec<Told>, Failure> {
        let event = decode::<RequestEvent>(record).map_err(|_| Failure::unreadable(record))?;
        let id = record.stream.split_once('/').map_or("", |(_, id)| id);
        let (event, at) = match event {
            Some(event) => (event, record.position),
            None => return Ok(Vec::new()),
        };
        match event {
            RequestEvent::RequestFiled(filed) => {
                let reached = filed.contact_consent && filed.reporter.is_some();
                match own_channel(filed.channel()) || reached {
                    true => self.reporter(id, at, NoticeKind::Received).await,
                    false => Ok(Vec::new()),
                }
            }
            RequestEvent::StatusChanged(changed) => match concerns_reporters(&changed) {
                true => self.reporters(id, at, NoticeKind::Status).await,
                false => Ok(Vec::new()),
            },
            RequestEvent::MessageSent(sent) => {
                let kind = match sent.react_before {
                    Some(_) => NoticeKind::ReactionAsked,
                    None => NoticeKind::Message,
                };
                self.reporter(id, at, kind).await
            }
            RequestEvent::RequestMerged(_) => self.reporters(id, at, NoticeKind::Merged).await,
            RequestEvent::FeedbackAsked(_) => {
                self.reporter(id, at, NoticeKind::FeedbackAsked).await
            }
            RequestEvent::NormApproached(told) => self.leads(id, at, told.escalated_to()).await,
            RequestEvent::NormBreached(told) => self.leads(id, at, told.escalated_to()).await,
            _ => Ok(Vec::new()),
        }
    }
}

/// Whether reporters are told of a change: where it says something to them, or
/// goes somewhere that matters to them. Of what they are waited for, of what
/// it goes on in, and of their own reaction they are told by another notice,
/// or know.
fn concerns_reporters(changed: &StatusChanged) -> bool {
    let matters = match changed.to() {
        Status::InProgress => changed.from() != Status::Waiting,
        Status::Planned | Status::External => true,
        Status::Resolved | Status::Rejected | Status::Transferred | Status::Reopened => true,
        Status::Unspecified
        | Status::Received
        | Status::Waiting
        | Status::Merged
        | Status::Closed => false,
    };
    matters || changed.explanation.is_some()
}

impl Telling {
    pub fn new(service: &Requests) -> Self {
        Telling { log: service.log.clone(), registered: service.registered.clone() }
    }

    /// The reporter of one request.
    async fn reporter(&self, id: &str, at: u64, kind: NoticeKind) -> Result<Vec<Told>, Failure> {
        let then = self.then(id, at).await?;
        Ok(then.reporter.into_iter().map(|recipient| told(recipient, id, kind)).collect())
    }

    /// The reporters of a request, and of all that go on in it: each person
    /// once, and once for each request whose reporter is not known.
    async fn reporters(&self, id: &str, at: u64, kind: NoticeKind) -> Result<Vec<Told>, Failure> {
        let (mut found, mut people) = (Vec::new(), BTreeSet::new());
        let mut seen = BTreeSet::from([id.to_owned()]);
        let mut next = VecDeque::from([(id.to_owned(), self.then(id, at).await?)]);
        while let Some((id, then)) = next.pop_front() {
            if let Some(recipient) = then.reporter
                && (recipient.is_empty() || people.insert(recipient.clone()))
            {
                found.push(told(recipient, &id, kind));
            }
            for other in then.request.linked {
                if !seen.insert(other.clone()) {
                    continue;
                }
                let then = self.then(&other, at).await?;
                if then.request.merged_into == id {
                    next.push_back((other, then));
                } else {
                    // It may go on in another one of these.
                    seen.remove(&other);
                }
            }
        }
        Ok(found)
    }

    /// Who leads the request's team, or heads the department of its category;
    /// the heads too where no team has it, or nobody leads that.
    async fn leads(&self, id: &str, at: u64, role: EscalationRole) -> Result<Vec<Told>, Failure> {
        let then = self.then(id, at).await?;
        let register = self.registered.newest().await;
        let register = register.map_err(|no| Failure::Unavailable(no.message().to_owned()))?;
        let team = match &then.request.target {
            Some(To::Team(team)) => register.team(team),
            _ => None,
        };
        let leads = team.map(|team| &team.leads).filter(|leads| !leads.is_empty());
        let category = register.categories.get(&then.request.category);
        let category = category.and_then(|view| view.category.as_ref());
        let department = category.and_then(|category| register.department(&category.department));
        let heads = department.map(|department| &department.heads);
        let told_to = match role {
            EscalationRole::DepartmentHead => heads,
            EscalationRole::TeamLead | EscalationRole::Unspecified => leads.or(heads),
        };
        let told_to: BTreeSet<_> = told_to.into_iter().flatten().cloned().collect();
        Ok(told_to.into_iter().map(|lead| told(lead, id, NoticeKind::Escalation)).collect())
    }

    /// A request as it was with the record at this position.
    async fn then(&self, id: &str, at: u64) -> Result<Then, Failure> {
        let stream = format!("{}/{id}", Request::KIND);
        let (mut then, mut version) = (Then::default(), 0);
        loop {
            let records = self.log.read_stream(&stream, version, PAGE).await?;
            for record in &records {
                if record.position > at {
                    return Ok(then);
                }
                if record.version == 1 {
                    then.reporter = reporter_of(record);
                }
                let event = decode(record).map_err(|_| Failure::unreadable(record))?;
                let event: RequestEvent = event.ok_or_else(|| Failure::unreadable(record))?;
                then.request = then.request.evolve(&event);
                version = record.version;
            }
            if records.len() < PAGE {
                return Ok(then);
            }
        }
    }
}

fn told(recipient: String, id: &str, kind: NoticeKind) -> Told {
    Told { recipient, about: format!("{}/{id}", Request::KIND), kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::{ALL, next};

    #[test]
    fn of_each_change_reporters_are_told_once() {
        use Status::{Closed, InProgress, Merged, Received, Waiting};
        let told = |from: Status, to: Status| {
            let changed = StatusChanged { from: from.into(), to: to.into(), ..Default::default() };
            concerns_reporters(&changed)
        };
        for (from, to) in ALL.iter().flat_map(|from| next(*from).iter().map(|to| (*from, *to))) {
            let silent =
                matches!(to, Waiting | Merged | Closed) || (from, to) == (Waiting, InProgress);
            assert_eq!(told(from, to), !silent, "{from:?} {to:?}");
        }
        let explained = StatusChanged {
            from: Waiting.into(),
            to: InProgress.into(),
            explanation: Some(samen_proto::log::Sealed::default()),
            ..Default::default()
        };
        assert!(concerns_reporters(&explained));
        assert!(!told(Received, Waiting));
    }
}
