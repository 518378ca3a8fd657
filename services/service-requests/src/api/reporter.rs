//! What a reporter does with a request of their own: signed in, or by its
//! secret.

use samen_log::{Aggregate, Outcome};
use samen_proto::requests::reporter_service_server::ReporterService;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::calls::{self, wait};
use samen_server::notices::table;
use samen_server::reply::{self, Check, not_found};
use tonic::{Request, Response, Status as Refusal};

use super::does::{self, Along};
use super::{Answer, check, history};
use crate::Requests;
use crate::domain::request::{Rating, Request as Aggregated, RequestCommand, reporter_of};
use crate::projection::history as rows;

#[tonic::async_trait]
impl ReporterService for Requests {
    async fn get_conversation(
        &self,
        r: Request<GetConversationRequest>,
    ) -> Answer<GetConversationResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.id("id", &m.id);
        check.finish()?;
        wait(self, m.at_least.as_ref()).await?;
        self.own(&caller.id, &m.id).await?;
        let entries = self.conversation(&m.id).await?;
        Ok(Response::new(GetConversationResponse { entries }))
    }

    async fn write_message(&self, r: Request<WriteMessageRequest>) -> Answer<WriteMessageResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check.id("id", &m.id);
        check.text("message", &m.message, 1..=5_000);
        check.finish()?;
        self.own(&caller.id, &m.id).await?;
        let command = calls::command(&caller, "WriteMessage", &m.request_id, &m);
        let Outcome { version, position, .. } = self.write(command, &m.id, &m.message).await?;
        Ok(Response::new(WriteMessageResponse { version, position: Some(position) }))
    }

    async fn rate_request(&self, r: Request<RateRequestRequest>) -> Answer<RateRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check.id("id", &m.id);
        check::rating(&mut check, m.satisfaction, &m.words);
        check.finish()?;
        self.own(&caller.id, &m.id).await?;
        let command = calls::command(&caller, "RateRequest", &m.request_id, &m);
        let rated = self.rate(command, &m.id, m.satisfaction, &m.words, m.reopen).await?;
        let Outcome { version, position, .. } = rated;
        Ok(Response::new(RateRequestResponse { version, position: Some(position) }))
    }
}

impl Requests {
    /// Refuses whose own it is not, as if there were none: by the log itself,
    /// which knows it at once.
    pub async fn own(&self, person: &str, id: &str) -> Result<(), Refusal> {
        match self.reporter(id).await? {
            Some(reporter) if reporter == person => Ok(()),
            _ => Err(not_found("request", id)),
        }
    }

    /// Whose request it is, as [`reporter_of`] says; `None` also where there
    /// is no such request.
    pub async fn reporter(&self, id: &str) -> Result<Option<String>, Refusal> {
        let stream = format!("{}/{id}", Aggregated::KIND);
        let first = self.log.read_stream(&stream, 0, 1).await.map_err(reply::storage)?;
        Ok(first.first().and_then(|record| reporter_of(record)))
    }

    /// What the reporter says of a request that is theirs.
    pub async fn write(
        &self,
        mut command: samen_log::Command,
        id: &str,
        message: &str,
    ) -> Result<Outcome, Refusal> {
        let message = self.seal_words(&mut command, message);
        let what = RequestCommand::Receive { message, channel: Channel::Web };
        does::command(self, command, id, None, what, Along::default()).await
    }

    /// How satisfied the reporter is with a request that is theirs.
    pub async fn rate(
        &self,
        mut command: samen_log::Command,
        id: &str,
        satisfaction: u32,
        words: &str,
        reopen: bool,
    ) -> Result<Outcome, Refusal> {
        let words = (!words.trim().is_empty()).then(|| self.seal_words(&mut command, words));
        let what = RequestCommand::Rate(Rating { satisfaction, words, reopen });
        does::command(self, command, id, None, what, Along::default()).await
    }

    /// What was said to and fro about a request, oldest first. What was said
    /// before its reporter was forgotten, is forgotten.
    pub async fn conversation(&self, id: &str) -> Result<Vec<ConversationEntry>, Refusal> {
        let said = ["StatusChanged", "MessageSent", "MessageReceived", "FeedbackGiven"];
        let schema = self.store.schema();
        let reporter = self.reporter(id).await?;
        let forgotten = table::forgotten(&schema, reporter.as_deref().into_iter()).await;
        let forgotten = forgotten.map_err(reply::storage)?.into_values().max().unwrap_or(0);
        let found = rows::of(&schema, id).await.map_err(reply::storage)?;
        let found: Vec<_> = found
            .into_iter()
            .filter(|row| row.body.has_text && said.contains(&row.body.kind.as_str()))
            .collect();
        let texts = history::texts(self, &found).await?;
        Ok(found
            .into_iter()
            .zip(texts)
            .map(|(row, text)| ConversationEntry {
                time: row.body.time,
                own: matches!(row.body.kind.as_str(), "MessageReceived" | "FeedbackGiven"),
                text: text
                    .text
                    .filter(|_| row.body.position > forgotten)
                    .map(|text| text.text)
                    .unwrap_or_default(),
                react_before: row.body.details.get("react_before").and_then(|t| t.parse().ok()),
                status: match row.body.kind.as_str() {
                    "StatusChanged" => row.body.status,
                    _ => Status::Unspecified.into(),
                },
            })
            .collect())
    }
}
