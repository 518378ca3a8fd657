//! Sealed content: readable with its key, and with nothing else.

use prost::{Message, Name};
use samen_log::seal::SealError;
use samen_log::{Append, Keyring, MasterKey, NewEvent, on_db};
use samen_proto::requests::{Reporter, RequestFiled, Text};
use samen_tests::{Place, on_both_databases};

use super::shared::{LOG, read_all};

on_both_databases!(
    content_opens_with_its_key_and_as_its_type_only,
    nothing_of_the_text_is_stored,
    a_destroyed_key_leaves_nothing,
    a_persons_key_is_made_once,
);

const SECRET: &str = "Mevrouw De Vries, Dorpsstraat 12, belt over de lantaarn";

fn text() -> Text {
    Text { text: SECRET.to_owned() }
}

async fn content_opens_with_its_key_and_as_its_type_only(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let keys = Keyring::new(log.schema().clone(), &master, LOG);
    let key = keys.of_person("one").await.expect("stored").expect("not destroyed");
    let other = keys.of_person("two").await.expect("stored").expect("not destroyed");
    let sealed = key.seal(&text());
    assert_ne!(sealed.ciphertext, key.seal(&text()).ciphertext, "the same text looks different");

    let again = Keyring::new(log.schema().clone(), &master, LOG);
    assert_eq!(again.unseal::<Text>(&sealed).await.expect("its key"), Some(text()));

    let mut moved = sealed.clone();
    moved.key_id = other.id().to_owned();
    assert!(matches!(keys.unseal::<Text>(&moved).await, Err(SealError::Altered { .. })));
    assert!(matches!(keys.unseal::<Reporter>(&sealed).await, Err(SealError::Altered { .. })));
    let mut altered = sealed.clone();
    altered.ciphertext[30] ^= 1;
    assert!(matches!(keys.unseal::<Text>(&altered).await, Err(SealError::Altered { .. })));

    // Neither with another master key, nor as another log's.
    for keys in [
        Keyring::new(log.schema().clone(), &MasterKey::generate(false), LOG),
        Keyring::new(log.schema().clone(), &master, "gm0437.requests"),
    ] {
        assert!(matches!(keys.unseal::<Text>(&sealed).await, Err(SealError::Altered { .. })));
    }
}

async fn nothing_of_the_text_is_stored(place: Place) {
    let log = place.log(LOG).await;
    let keys = Keyring::new(log.schema().clone(), &MasterKey::generate(false), LOG);
    let (key, new) = keys.create("text/1");
    let short = key.seal(&Text { text: "x".to_owned() });
    let sealed = key.seal(&text());
    assert_eq!(short.ciphertext.len(), sealed.ciphertext.len(), "the length tells nothing");
    let filed = RequestFiled { description: Some(sealed), ..RequestFiled::default() };
    let event = NewEvent {
        stream: "request/1".to_owned(),
        kind: RequestFiled::full_name(),
        data: filed.encode_to_vec(),
    };
    log.append(Append {
        actor: "test".to_owned(),
        events: vec![event],
        keys: vec![new],
        ..Append::default()
    })
    .await
    .expect("it is new");

    let stored = read_all(&log).await[0].encode_to_vec();
    for part in ["Vries", "Dorpsstraat", "lantaarn"] {
        assert!(!stored.windows(part.len()).any(|window| window == part.as_bytes()));
    }
    let filed = RequestFiled::decode(read_all(&log).await[0].data.as_slice()).expect("an event");
    let opened = keys.unseal::<Text>(&filed.description.expect("it was sealed")).await;
    assert_eq!(opened.expect("its key came with the event"), Some(text()));
}

async fn a_destroyed_key_leaves_nothing(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let keys = Keyring::new(log.schema().clone(), &master, LOG);
    let key = keys.of_person("one").await.expect("stored").expect("not destroyed");
    let sealed = key.seal(&text());
    let destroy = log.schema().sql("UPDATE {s}.sealing_key SET wrapped = NULL WHERE id = $1");
    on_db!(&log.schema().db, pool => {
        sqlx::query(destroy).bind(key.id()).execute(pool).await.expect("it exists");
    });

    let keys = Keyring::new(log.schema().clone(), &master, LOG);
    assert_eq!(keys.unseal::<Text>(&sealed).await.expect("not an error"), None);
    // And is never made again.
    assert!(keys.of_person("one").await.expect("not an error").is_none());
}

async fn a_persons_key_is_made_once(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let keyrings: Vec<_> =
        (0..16).map(|_| Keyring::new(log.schema().clone(), &master, LOG)).collect();
    let made = keyrings.iter().map(|keys| keys.of_person("one"));
    for key in futures::future::join_all(made).await {
        let sealed = key.expect("stored").expect("not destroyed").seal(&text());
        for keys in &keyrings {
            assert_eq!(keys.unseal::<Text>(&sealed).await.expect("one key"), Some(text()));
        }
    }
}
