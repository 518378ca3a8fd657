//! A request is routed, assigned, and written about and to.

use samen_proto::log::Sealed;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_server::time::to_proto;

use super::change::days_after;
use super::{Of, Rejection, Request, RequestEvent, TaskRun, own_channel};

/// Days within which a reporter can react.
pub const REACT_WITHIN_DAYS: i64 = 5;

/// Something to the reporter.
#[derive(Clone, Debug)]
pub struct Message {
    pub message: Sealed,
    /// Whether they are asked to react, and waited for.
    pub ask_reaction: bool,
}

impl Of<'_> {
    pub(super) fn route(&self, target: Target) -> Result<Vec<RequestEvent>, Rejection> {
        self.open()?;
        if target.target == self.request.target {
            return Ok(Vec::new());
        }
        if self.request.task.as_ref().is_some_and(|task| task.state == TaskState::Done) {
            return Err(Rejection::Not("a network says that it is done: confirm or return that"));
        }
        let target = Some(target);
        Ok(vec![RequestRouted { id: self.id(), target, rule: String::new() }.into()])
    }

    pub(super) fn assign(&self, assignee: String) -> Result<Vec<RequestEvent>, Rejection> {
        self.open()?;
        if assignee == self.request.assignee {
            return Ok(Vec::new());
        }
        if !assignee.is_empty() && !matches!(self.request.target, Some(To::Team(_))) {
            return Err(Rejection::Not("it is no team's: route it to one first"));
        }
        Ok(vec![RequestAssigned { id: self.id(), assignee }.into()])
    }

    pub(super) fn note(&self, note: Sealed) -> Result<Vec<RequestEvent>, Rejection> {
        Ok(vec![NoteAdded { id: self.id(), note: Some(note) }.into()])
    }

    pub(super) fn send(&self, message: Message) -> Result<Vec<RequestEvent>, Rejection> {
        let Message { message, ask_reaction } = message;
        if !self.request.contact_consent {
            return Err(Rejection::NoContact);
        }
        let mut events = Vec::new();
        let mut react_before = None;
        if ask_reaction {
            self.open()?;
            react_before = Some(to_proto(days_after(self.now.time, REACT_WITHIN_DAYS)));
            if self.request.status != Status::Waiting {
                self.can_go(Status::Waiting)?;
                events = self.goes_to(Status::Waiting, None);
            }
        }
        events
            .insert(0, MessageSent { id: self.id(), message: Some(message), react_before }.into());
        Ok(events)
    }

    /// What the reporter says; while a reaction is waited for this is it, and
    /// the handler's turn comes again.
    pub(super) fn receive(
        &self,
        message: Sealed,
        channel: Channel,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        if own_channel(channel) && self.request.status == Status::Closed {
            return Err(Rejection::Closed { status: self.request.status });
        }
        let (message, channel) = (Some(message), channel.into());
        let mut events =
            vec![RequestEvent::from(MessageReceived { id: self.id(), message, channel })];
        if self.request.status == Status::Waiting {
            events.extend(self.goes_to(Status::InProgress, None));
        }
        Ok(events)
    }

    pub(super) fn expire_reaction(&self) -> Result<Vec<RequestEvent>, Rejection> {
        let over = self.request.react_before.filter(|before| self.now.time >= *before);
        let Some(before) = over else { return Ok(Vec::new()) };
        let react_before = Some(to_proto(before));
        let mut events = vec![RequestEvent::from(ReactionExpired { id: self.id(), react_before })];
        if self.request.status == Status::Waiting {
            events.extend(self.goes_to(Status::InProgress, None));
        }
        Ok(events)
    }
}

impl Request {
    /// Another team's member does not handle it, and another network starts
    /// anew.
    pub(super) fn routed(&mut self, routed: &RequestRouted) {
        self.target = routed.target.as_ref().and_then(|target| target.target.clone());
        self.assignee.clear();
        self.task = match &self.target {
            Some(To::Network(network)) => Some(TaskRun {
                network: network.clone(),
                state: TaskState::Open,
                member: String::new(),
            }),
            _ => None,
        };
    }
}
