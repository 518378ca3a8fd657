//! What calls have in common: commands that are done once, and waiting until
//! what was written can be read.

use std::time::Duration;

use prost::Message;
use samen_log::Command;
use samen_log::record::Position;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::core::Core;
use crate::identity::Caller;
use crate::reply::{self, status};

/// How long a call waits at most for what it wants to see, whatever its own
/// deadline: callers that set none do not pile up.
const WAIT: Duration = Duration::from_secs(20);

/// A command of this caller. Its `request_id`, which was checked, may be
/// spelled in any way that a UUID can be.
pub fn command(
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    message: &impl Message,
) -> Command {
    let id = Uuid::parse_str(request_id);
    Command {
        actor: caller.id.clone(),
        method,
        request_id: id.map_or_else(|_| request_id.to_owned(), |id| id.to_string()),
        content: content(request_id, message),
        keys: Vec::new(),
    }
}

/// A command's message without its `request_id`: what it asks, however the id
/// is spelled. The id is the first field of every command, and so the first
/// that is written.
fn content(request_id: &str, message: &impl Message) -> Vec<u8> {
    let mut content = message.encode_to_vec();
    if !request_id.is_empty() {
        let id = 1 + prost::length_delimiter_len(request_id.len()) + request_id.len();
        content.drain(..id);
    }
    content
}

/// Waits until the store has seen what the caller has written. Refuses while it
/// is built.
pub async fn wait(core: &Core, at_least: Option<&Position>) -> Result<(), Status> {
    core.check_built()?;
    // Before the first record there is nothing to see.
    let Some(at_least) = at_least.filter(|at| at.position > 0) else { return Ok(()) };
    let waited = tokio::time::timeout(WAIT, core.store.wait_for(at_least)).await;
    let Ok(seen) = waited else {
        let message = "this cannot be seen yet; try again";
        return Err(status(Code::DeadlineExceeded, "NOT_YET_VISIBLE", message));
    };
    seen.map_err(reply::wait)
}

#[cfg(test)]
mod tests {
    use samen_proto::contract;
    use samen_proto::requests::ChangeStatusRequest;

    use super::*;

    fn change(request_id: &str, explanation: &str) -> Command {
        let caller =
            Caller { id: "somebody".into(), roles: Vec::new(), certificate: None, expires: None };
        let message = ChangeStatusRequest {
            request_id: request_id.into(),
            explanation: explanation.into(),
            ..Default::default()
        };
        command(&caller, "ChangeStatus", request_id, &message)
    }

    #[test]
    fn however_an_id_is_spelled_it_is_the_same_command() {
        let first = change("0197f0a1-2b3c-7d4e-8f50-617283940a0b", "Gemaakt");
        for spelled in [
            "0197F0A1-2B3C-7D4E-8F50-617283940A0B",
            "0197f0a12b3c7d4e8f50617283940a0b",
            "{0197f0a1-2b3c-7d4e-8f50-617283940a0b}",
            "urn:uuid:0197f0a1-2b3c-7d4e-8f50-617283940a0b",
        ] {
            let again = change(spelled, "Gemaakt");
            assert_eq!(again.request_id, first.request_id);
            assert_eq!(again.content, first.content);
            assert_ne!(change(spelled, "Anders").content, first.content);
        }
    }

    #[test]
    fn every_command_begins_with_its_id() {
        let ids: Vec<_> = contract::pool()
            .all_messages()
            .filter_map(|message| message.get_field_by_name("request_id"))
            .collect();
        assert!(!ids.is_empty());
        for id in ids {
            assert_eq!(id.number(), 1, "{}", id.full_name());
        }
    }
}
