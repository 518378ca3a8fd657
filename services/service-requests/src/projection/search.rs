//! Words of descriptions, by which they are found without being stored in the
//! open.
//!
//! Of each word stands here what an HMAC makes of its stem, under a key from
//! the deployment's master key. Whoever has the database but not that key
//! learns which descriptions share a word, and how often, but not which word.
//! When a text is erased its words go with it; a store that is built later
//! never had them, since the text cannot be opened any more.

use std::collections::HashMap;

use hmac::{Hmac, KeyInit, Mac};
use rust_stemmers::{Algorithm, Stemmer};
use samen_log::db::Tx;
use samen_log::seal::{DataKey, SealError};
use samen_log::store::ApplyError;
use samen_log::{Keyring, MasterKey, Schema, Sql};
use samen_proto::log::Sealed;
use samen_proto::requests::Text;
use sha2::Sha256;

use super::row::{ProjectedEvent, RequestRow};
use super::{Events, Rows};
use crate::domain::request::RequestEvent;

/// Rows in one statement: three parameters each, of the 32,766 that SQLite
/// takes.
const CHUNK: usize = 5_000;
/// Bytes of a word that count: there are no longer ones that somebody looks
/// for.
const MAX_WORD_BYTES: usize = 100;

/// Words that are in any text, and say nothing about it.
const STOP_WORDS: &[&str] = &[
    "aan", "al", "alle", "als", "bij", "bent", "ben", "daar", "dan", "dat", "de", "den", "der",
    "deze", "die", "dit", "doen", "doet", "door", "dus", "een", "één", "en", "er", "ga", "gaan",
    "gaat", "geen", "geweest", "had", "heb", "hebben", "hebt", "heeft", "heel", "hem", "hen",
    "het", "hier", "hij", "hoe", "hun", "iemand", "iets", "ik", "in", "is", "ja", "je", "jij",
    "jou", "jouw", "jullie", "kan", "kon", "kunnen", "kunt", "maar", "me", "meer", "men", "met",
    "mij", "mijn", "moet", "moeten", "mogen", "na", "naar", "nee", "niet", "niets", "nog", "nu",
    "of", "om", "omdat", "onder", "ons", "onze", "ook", "op", "over", "reeds", "te", "tegen",
    "tot", "tussen", "uit", "uw", "van", "veel", "voor", "waar", "was", "wat", "we", "wel", "werd",
    "wie", "wij", "wil", "willen", "wordt", "worden", "ze", "zich", "zij", "zijn", "zo", "zou",
    "zonder", "zullen",
];

/// Makes tokens of words. Cheap to clone.
#[derive(Clone)]
pub struct Words(Hmac<Sha256>);

// === impl Words ===

impl Words {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive("words of descriptions");
        Words(Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length"))
    }

    /// A token for each different word that says something, in whatever form
    /// of it, lowest first.
    pub fn of(&self, text: &str) -> Vec<i64> {
        let stemmer = Stemmer::create(Algorithm::Dutch);
        // Some keyboards send a letter and its accent apart.
        let text: String =
            text.to_lowercase().chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).collect();
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| says_something(word));
        let mut tokens: Vec<i64> = words.map(|word| self.token(&stemmer.stem(word))).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn token(&self, stem: &str) -> i64 {
        let mut mac = self.0.clone();
        mac.update(stem.as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut first = [0; 8];
        first.copy_from_slice(&tag[..8]);
        i64::from_be_bytes(first)
    }
}

/// Numbers do, single letters and words of every text do not.
fn says_something(word: &str) -> bool {
    let letters = word.chars().take(2).count();
    let number = word.starts_with(|c: char| c.is_numeric());
    (letters > 1 || number) && word.len() <= MAX_WORD_BYTES && !STOP_WORDS.contains(&word)
}

/// The words of the descriptions that come with these events, by request: of
/// those that can still be opened.
pub async fn read(
    keyring: &Keyring,
    words: &Words,
    events: &Events<'_>,
) -> Result<HashMap<String, Vec<i64>>, ApplyError> {
    let described = || {
        events.iter().filter_map(|(record, event)| Some((event.id(record), description(event)?)))
    };
    let ids: Vec<&str> = described().map(|(_, sealed)| sealed.key_id.as_str()).collect();
    let keys = keys(keyring, &ids).await?;
    let found = described().filter_map(|(id, sealed)| {
        let text: Text = keys.get(&sealed.key_id)?.open(sealed)?;
        Some((id.to_owned(), words.of(&text.text)))
    });
    Ok(found.collect())
}

/// These keys, as far as they are there. One that was altered costs its own
/// text no more than its words.
async fn keys(keyring: &Keyring, ids: &[&str]) -> Result<HashMap<String, DataKey>, ApplyError> {
    match keyring.find(ids.iter().copied()).await {
        Ok(keys) => return Ok(keys),
        Err(SealError::Storage(error)) => return Err(error.into()),
        Err(error @ SealError::Altered { .. }) => {
            tracing::warn!(%error, "a description cannot be searched");
        }
    }
    let mut keys = HashMap::new();
    for id in ids {
        match keyring.get(id).await {
            Ok(key) => keys.extend(key.map(|key| ((*id).to_owned(), key))),
            Err(SealError::Storage(error)) => return Err(error.into()),
            Err(SealError::Altered { .. }) => {}
        }
    }
    Ok(keys)
}

fn description(event: &ProjectedEvent) -> Option<&Sealed> {
    let ProjectedEvent::Own(event) = event else { return None };
    match &**event {
        RequestEvent::RequestFiled(filed) => filed.description.as_ref(),
        RequestEvent::RequestImported(imported) => imported.description.as_ref(),
        _ => None,
    }
}

/// Writes the words that rows have now and had not before, and takes out the
/// others.
pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    before: &Rows,
    after: &Rows,
) -> Result<(), ApplyError> {
    let mut new: Vec<(i64, &RequestRow)> = Vec::new();
    for (id, row) in after {
        let had = before.get(id).map_or(&[][..], |row| &row.words);
        if had == row.words {
            continue;
        }
        let gone: Vec<i64> = had.iter().copied().filter(|w| !row.words.contains(w)).collect();
        for gone in gone.chunks(CHUNK) {
            let mut sql = Sql::new(schema, "DELETE FROM {s}.search WHERE id = ");
            sql.bind(id.as_str()).push(" AND created_at = ").bind(row.created_at());
            sql.push(" AND token").any_of(gone.iter().copied());
            sql.execute(tx).await?;
        }
        new.extend(row.words.iter().filter(|word| !had.contains(word)).map(|word| (*word, row)));
    }
    // In the order of the index.
    new.sort_unstable_by_key(|(word, row)| (*word, row.created_at()));
    for new in new.chunks(CHUNK) {
        let mut sql = Sql::new(schema, "INSERT INTO {s}.search (token, created_at, id) ");
        sql.values(new.iter().map(|(word, row)| {
            [(*word).into(), row.created_at().into(), row.body.id.as_str().into()]
        }));
        sql.execute(tx).await?;
    }
    Ok(())
}

/// Words as a row keeps them.
pub fn encode(words: &[i64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// What [`encode`] made.
pub fn decode(bytes: &[u8]) -> Vec<i64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| i64::from_be_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words() -> Words {
        Words::new(&MasterKey::generate(true))
    }

    #[test]
    fn a_word_is_found_in_any_form_that_dutch_has_of_it() {
        let words = words();
        for (one, other) in [
            ("lamp", "Lampen"),
            ("stoeptegel", "STOEPTEGELS"),
            ("boom", "bomen"),
            ("losse tegels", "de tegel is los"),
            ("café", "cafe\u{301}"),
            ("geïrriteerd", "gei\u{308}rriteerd"),
        ] {
            assert_eq!(words.of(one), words.of(other), "{one}, {other}");
        }
        assert_ne!(words.of("lamp"), words.of("ramp"));
    }

    #[test]
    fn what_says_nothing_is_no_word() {
        let words = words();
        assert_eq!(words.of("Het is er niet, en dat één - . !").len(), 0);
        assert_eq!(words.of("").len(), 0);
        assert_eq!(words.of("a b").len(), 0);
        assert_eq!(words.of("nr 7, nr. 7").len(), 2);
    }

    #[test]
    fn tokens_are_of_one_deployment() {
        assert_ne!(words().of("lamp"), words().of("lamp"));
    }

    proptest! {
        #[test]
        fn any_text_has_words_and_they_are_kept(text in "\\PC{0,200}") {
            let tokens = words().of(&text);
            prop_assert!(tokens.is_sorted());
            prop_assert_eq!(decode(&encode(&tokens)), tokens);
        }
    }
}
