//! A network takes care of a request.

use samen_proto::log::Sealed;
use samen_proto::requests::*;

use super::{Of, Rejection, Request, RequestEvent, TaskRun};

impl Of<'_> {
    pub(super) fn claim(
        &self,
        network: &str,
        member: String,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        let task = self.task()?;
        match task.state {
            TaskState::Open if task.network == network => {
                let (id, network_id) = (self.id(), network.to_owned());
                Ok(vec![TaskClaimed { id, network_id, member }.into()])
            }
            TaskState::Claimed if task.member == member => Ok(Vec::new()),
            _ => Err(Rejection::Taken),
        }
    }

    pub(super) fn release(&self, member: &str) -> Result<Vec<RequestEvent>, Rejection> {
        self.claimed_by(member)?;
        Ok(vec![TaskReleased { id: self.id() }.into()])
    }

    pub(super) fn report(
        &self,
        member: &str,
        report: Sealed,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        self.claimed_by(member)?;
        Ok(vec![TaskDone { id: self.id(), report: Some(report) }.into()])
    }

    pub(super) fn confirm(&self, explanation: Sealed) -> Result<Vec<RequestEvent>, Rejection> {
        self.done()?;
        self.can_go(Status::Resolved)?;
        let mut events = vec![RequestEvent::from(TaskConfirmed { id: self.id() })];
        events.extend(self.goes_to(Status::Resolved, Some(explanation)));
        Ok(events)
    }

    pub(super) fn give_back(&self, reason: Sealed) -> Result<Vec<RequestEvent>, Rejection> {
        self.done()?;
        Ok(vec![TaskReturned { id: self.id(), reason: Some(reason) }.into()])
    }

    /// The task of a request that is open.
    fn task(&self) -> Result<&TaskRun, Rejection> {
        self.open()?;
        let task = self.request.task.as_ref();
        task.ok_or(Rejection::Not("no network was asked to take care of it"))
    }

    fn claimed_by(&self, member: &str) -> Result<(), Rejection> {
        let task = self.task()?;
        match task.state {
            TaskState::Claimed if task.member == member => Ok(()),
            TaskState::Claimed => Err(Rejection::Taken),
            _ => Err(Rejection::Not("nobody took care of it: claim it first")),
        }
    }

    fn done(&self) -> Result<(), Rejection> {
        match self.task()?.state {
            TaskState::Done => Ok(()),
            _ => Err(Rejection::Not("the network does not say that it is done")),
        }
    }
}

impl Request {
    pub(super) fn task_is(&mut self, state: TaskState, member: &str) {
        if let Some(task) = &mut self.task {
            task.state = state;
            member.clone_into(&mut task.member);
        }
    }

    pub(super) fn task_goes(&mut self, state: TaskState) {
        if let Some(task) = &mut self.task {
            task.state = state;
        }
    }
}
