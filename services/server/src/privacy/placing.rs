//! Placing a hold on what is not being erased already.

use futures::TryStreamExt;
use jiff::Timestamp;
use prost::Name;
use samen_log::command::decode;
use samen_log::scan::Wanted;
use samen_log::{Aggregate, AppendError, Command, CommandError, Expected, Outcome};
use samen_proto::privacy::{HoldPlaced, PersonForgotten, TextRedacted};
use tonic::Status;

use super::asking::TRIES;
use super::content::{self, person_key};
use super::eraser::Intent;
use super::requests::{Redaction, Rejection};
use super::{Failure, Privacy, holds};
use crate::reply;

// === impl Privacy ===

impl Privacy {
    /// Places a hold, unless what it is on is being erased: nobody is told that
    /// something will be kept that will not.
    pub async fn hold(&self, command: Command, placed: &HoldPlaced) -> Result<Outcome, Status> {
        for _ in 0..TRIES {
            // Before what is asked is looked at: what comes after it is noticed
            // by these.
            let whose = match placed.stream.as_str() {
                "" => Some(placed.person.clone()),
                stream => content::beginner(&self.log, stream, self.spoke)
                    .await
                    .map_err(reply::unavailable)?,
            };
            let mut guards = Vec::new();
            let of_person = whose.iter().map(|person| person_key(person));
            let of_stream = format!("{}/{}", Redaction::KIND, placed.stream);
            let of_stream = Some(of_stream).filter(|_| !placed.stream.is_empty());
            for stream in of_person.chain(of_stream) {
                let last = self.log.last(&stream).await.map_err(reply::unavailable)?;
                let version = last.map_or(0, |last| last.version);
                guards.push(Expected { stream, version });
            }
            let pending = self.pending(placed, whose.as_deref()).await;
            let pending = pending.map_err(reply::unavailable)?;
            let now = Timestamp::now();
            let placed = self.holds.execute(command.clone(), &guards, |_| match pending {
                true => Err(holds::Rejection::BeingErased(Box::new(placed.clone()))),
                false => holds::place(placed.clone(), now),
            });
            match placed.await {
                Err(CommandError::Append(AppendError::Conflict { .. })) => {}
                placed => return placed.map_err(reply::command),
            }
        }
        Err(reply::command::<Rejection>(AppendError::Overloaded.into()))
    }

    /// Whether something was asked, and is not carried out yet, that erases what
    /// a hold is on; `whose` is the person that it is about, if any.
    async fn pending(&self, hold: &HoldPlaced, whose: Option<&str>) -> Result<bool, Failure> {
        let kinds = [PersonForgotten::full_name(), TextRedacted::full_name()];
        let head = self.log.newest().await?.map_or(0, |head| head.position);
        let pages = self.log.scan(Wanted::Kinds(kinds.into()), self.done.position(), head);
        let mut pages = std::pin::pin!(pages);
        while let Some(page) = pages.try_next().await? {
            for record in page.records {
                let intent = decode::<Intent>(&record).map_err(|_| content::unreadable(&record))?;
                let meant = match intent.ok_or_else(|| content::unreadable(&record))? {
                    Intent::PersonForgotten(forgotten) => whose == Some(&*forgotten.person),
                    Intent::TextRedacted(TextRedacted { stream, .. }) => {
                        let on_person = hold.stream.is_empty();
                        stream == hold.stream
                            || on_person
                                && content::beginner(&self.log, &stream, self.spoke)
                                    .await?
                                    .is_some_and(|beginner| beginner == hold.person)
                    }
                };
                if meant {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
