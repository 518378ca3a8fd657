//! A process that appends as fast as it can until it is killed, and says what
//! was accepted: `appender <place> <log> <run>` prints a line with position and
//! command id for each reply.

use samen_log::{Append, CommandId, Log, NewEvent};
use samen_tests::place;
use tokio_util::sync::CancellationToken;

/// Commands that wait for a reply at the same time.
const TASKS: u64 = 16;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [place, log, run] = arguments.as_slice() else {
        panic!("appender <place> <log> <run>");
    };
    let location = place::location(place).await;
    let log = Log::open(&location, log, CancellationToken::new()).await.expect("the log");
    let tasks = (0..TASKS).map(|task| append(log.clone(), format!("{run}-{task}")));
    futures::future::join_all(tasks).await;
}

/// Appends commands of two events one after the other to a stream of its own.
async fn append(log: Log, name: String) {
    for number in 0.. {
        let id = format!("{name}-{number}");
        let event = NewEvent {
            stream: format!("request/{name}"),
            kind: "samen.requests.v1.RequestFiled".to_owned(),
            data: id.clone().into_bytes(),
        };
        let command = CommandId { id: id.clone(), fingerprint: Vec::new(), key_id: None };
        let appended = log
            .append(Append {
                actor: "appender".to_owned(),
                command: Some(command),
                events: vec![event.clone(), event],
                ..Append::default()
            })
            .await
            .expect("the database is there");
        // Goes out at the end of the line, so that what is read was accepted.
        println!("{} {id}", appended.first);
    }
}
