//! Sealed content: readable with its key, and with nothing else.

use std::collections::HashSet;

use prost::{Message, Name};
use rand::seq::SliceRandom;
use samen_log::seal::SealError;
use samen_log::{Append, Keyring, MasterKey, NewEvent, on_db};
use samen_proto::requests::{Reporter, RequestFiled, Text};
use samen_tests::{Place, on_both_databases};

use super::shared::{LOG, SOON, read_all};

on_both_databases!(
    content_opens_with_its_key_and_as_its_type_only,
    nothing_of_the_text_is_stored,
    a_destroyed_key_leaves_nothing,
    a_persons_key_is_made_once,
    a_destroyed_key_is_never_remembered,
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

async fn a_destroyed_key_is_never_remembered(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let here = Keyring::new(log.schema().clone(), &master, LOG);
    let there = Keyring::new(log.schema().clone(), &master, LOG);
    for person in 0..60 {
        let person = format!("{person}");
        let id = format!("person/{person}");
        let asking = |keys: &Keyring| {
            let (keys, person) = (keys.clone(), person.clone());
            tokio::spawn(async move {
                // Until it is gone: whoever read it before that does not put it
                // back.
                while keys.of_person(&person).await.expect("no error").is_some() {
                    tokio::task::yield_now().await;
                }
            })
        };
        let sealed = here.of_person(&person).await.expect("stored").expect("new").seal(&text());
        let asked: Vec<_> =
            (0..4).map(|n| asking(if n % 2 == 0 { &here } else { &there })).collect();
        here.destroy([id.as_str()]).await.expect("destroyed");
        assert!(here.of_person(&person).await.expect("no error").is_none());
        // Another process hears of it, and reads nothing with it before that.
        assert_eq!(there.unseal::<Text>(&sealed).await.expect("not an error"), None);
        there.evict([id.as_str()]);
        assert!(there.of_person(&person).await.expect("no error").is_none());
        for asked in asked {
            tokio::time::timeout(SOON, asked).await.expect("it sees it gone").expect("no panic");
        }
        assert!(here.of_person(&person).await.expect("no error").is_none());
        assert!(there.of_person(&person).await.expect("no error").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_destroyed_key_no_byte_is_left_in_sqlites_files() {
    const KEYS: usize = 3_000;
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let keys = Keyring::new(log.schema().clone(), &MasterKey::generate(false), LOG);
    let mut made = Vec::new();
    for number in 0..KEYS {
        let (_, new) = keys.create(&format!("text/{number}"));
        made.push((new.id.clone(), new.wrapped.clone()));
        let event = NewEvent {
            stream: format!("request/{number}"),
            kind: RequestFiled::full_name(),
            data: vec![number as u8; 300],
        };
        let actor = "test".to_owned();
        let append = Append { actor, events: vec![event], keys: vec![new], ..Append::default() };
        log.append(append).await.expect("it is new");
    }
    // In any order, so that pages fill, empty and are joined.
    let mut order: Vec<usize> = (0..KEYS).collect();
    order.shuffle(&mut rand::rng());
    let mut left = order.split_off(KEYS * 9 / 10);
    for some in order.chunks(300) {
        keys.destroy(some.iter().map(|number| made[*number].0.as_str())).await.expect("destroyed");
    }
    let folder = std::fs::read_dir(place.name()).expect("its folder").flatten();
    let bytes: Vec<u8> =
        folder.flat_map(|file| std::fs::read(file.path()).expect("a file")).collect();
    let part = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    let parts: HashSet<u64> = bytes.windows(8).map(part).collect();
    // Eight random bytes stand nowhere else: those that begin a key, or end it.
    let stored = |number: &usize| {
        let wrapped = &made[*number].1;
        parts.contains(&part(&wrapped[..8])) || parts.contains(&part(&wrapped[wrapped.len() - 8..]))
    };
    let found = order.iter().filter(|number| stored(number)).count();
    assert_eq!(found, 0, "of {} destroyed keys", order.len());
    left.retain(|number| !stored(number));
    assert_eq!(left, Vec::<usize>::new(), "the others are there");
}
