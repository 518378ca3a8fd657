//! What a process remembers of keys, forgotten when they are destroyed.

use futures::StreamExt;
use prost::Message;
use samen_log::command::is;
use samen_log::{Cursor, Follow, Item, Keyring, Log};
use samen_proto::privacy::ContentErased;
use tokio_util::sync::CancellationToken;

use super::eraser::BACK_OFF;
use super::{Failure, content};

/// Forgets keys that this process remembers, when the log says that they were
/// destroyed, wherever that was.
pub async fn evict(log: Log, keyring: Keyring, shutdown: CancellationToken) {
    let mut seen = Cursor::START;
    while !shutdown.is_cancelled() {
        let follow = async {
            if seen == Cursor::START {
                // Nothing was sealed or remembered here before this moment.
                seen = log.newest().await?.unwrap_or_default();
            }
            let mut items = log.follow(seen.clone());
            while let Some(item) = items.next().await {
                let Item::Record(record) = item? else { continue };
                if is::<ContentErased>(&record.r#type) {
                    let erased = ContentErased::decode(record.data.as_slice())
                        .map_err(|_| content::unreadable(&record))?;
                    keyring.evict(erased.key_ids.iter().map(String::as_str));
                }
                seen = Cursor::at(&record);
            }
            Ok::<_, Failure>(())
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            followed = follow => if let Err(error) = followed {
                tracing::warn!(log = log.id(), %error, "destroyed keys are not followed; again");
            }
        }
        tokio::time::sleep(BACK_OFF[0]).await;
    }
}
