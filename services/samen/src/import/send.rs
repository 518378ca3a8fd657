//! One row over gRPC, until it is answered.

use std::time::Duration;

use anyhow::{Context, anyhow};
use samen_proto::requests::ImportRequestRequest;
use samen_proto::requests::request_service_client::RequestServiceClient;
use tokio::time::{Instant, sleep};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::doors::Bearer;
use crate::usage::Misconfigured;

/// How long one attempt may take; a little more than the server allows itself.
const ATTEMPT: Duration = Duration::from_secs(35);
/// How long to rest before the next attempt: at first, and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// Sends rows. Clones share one connection.
#[derive(Clone)]
pub struct Sender {
    client: RequestServiceClient<InterceptedService<Channel, Bearer>>,
    retry_for: Duration,
}

/// What the service says to a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded, by this call or by an earlier one with the same id.
    Recorded,
    /// Not as it is.
    Refused(String),
}

/// What to do about an answer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Only this row is affected.
    Refuse,
    /// Ask again, with the same id.
    Retry,
    /// No row will fare better.
    End,
}

impl Sender {
    pub fn new(channel: Channel, token: &str, retry_for: Duration) -> Result<Self, Misconfigured> {
        let service = InterceptedService::new(channel, Bearer::new(token)?);
        Ok(Sender { client: RequestServiceClient::new(service), retry_for })
    }

    /// Sends a row, again and again while the service cannot be reached or has
    /// too much to do. An error ends the import.
    pub async fn send(mut self, message: ImportRequestRequest) -> anyhow::Result<Answer> {
        let began = Instant::now();
        let [mut rest, longest] = BACK_OFF;
        loop {
            let attempt = self.client.import_request(message.clone());
            let status = match tokio::time::timeout(ATTEMPT, attempt).await {
                Ok(Ok(_)) => return Ok(Answer::Recorded),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("there was no answer"),
            };
            match judge(&status) {
                Verdict::Refuse => return Ok(Answer::Refused(status.message().to_owned())),
                Verdict::End => return Err(said(&status)),
                Verdict::Retry => {
                    let left = self.retry_for.saturating_sub(began.elapsed());
                    if left.is_zero() {
                        let tried = self.retry_for.as_secs();
                        return Err(said(&status))
                            .with_context(|| format!("gave up after {tried} s"));
                    }
                    // Rows that were refused together must not come back
                    // together.
                    sleep(rest.mul_f64(rand::random_range(0.5..1.0)).min(left)).await;
                    rest = (rest * 2).min(longest);
                }
            }
        }
    }
}

fn judge(status: &Status) -> Verdict {
    match status.code() {
        Code::InvalidArgument | Code::AlreadyExists => Verdict::Refuse,
        // Its text was erased before.
        Code::FailedPrecondition if stands_in_the_way(status, "FORGOTTEN") => Verdict::Refuse,
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        // What a server says that ended the call at its own deadline.
        | Code::Cancelled => Verdict::Retry,
        // Not an answer of the service: the connection broke on the way.
        _ if std::error::Error::source(status).is_some() => Verdict::Retry,
        _ => Verdict::End,
    }
}

/// Whether this is among the preconditions that fail.
fn stands_in_the_way(status: &Status, kind: &str) -> bool {
    let details = status.get_error_details();
    let failure = details.precondition_failure();
    failure.is_some_and(|failure| failure.violations.iter().any(|v| v.r#type == kind))
}

fn said(status: &Status) -> anyhow::Error {
    // The cause of a broken connection stands behind "transport error".
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let deeper = error.to_string();
        if !text.contains(&deeper) {
            text = format!("{text}: {deeper}");
        }
        cause = error.source();
    }
    anyhow!("{:?}: {text}", status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_refused_the_service_is_waited_for_the_rest_ends_the_run() {
        assert_eq!(judge(&Status::invalid_argument("")), Verdict::Refuse);
        assert_eq!(judge(&Status::already_exists("")), Verdict::Refuse);
        assert_eq!(judge(&Status::unavailable("")), Verdict::Retry);
        assert_eq!(judge(&Status::resource_exhausted("")), Verdict::Retry);
        assert_eq!(judge(&Status::from_error("broken pipe".into())), Verdict::Retry);
        assert_eq!(judge(&Status::unauthenticated("")), Verdict::End);
        assert_eq!(judge(&Status::permission_denied("")), Verdict::End);
        assert_eq!(judge(&Status::internal("")), Verdict::End);
        assert_eq!(judge(&Status::failed_precondition("")), Verdict::End);
        let erased = samen_server::reply::precondition("FORGOTTEN", "text/1", "");
        assert_eq!(judge(&erased), Verdict::Refuse);
    }
}
