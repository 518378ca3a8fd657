//! Text that the deployment signs, and that anybody can check who has its
//! public key: signed notes as <https://c2sp.org/signed-note> has them.
//!
//! ```text
//! the text, one or more lines
//!
//! — samen-gm0384 base64(key id, signature)
//! ```

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::seal::MasterKey;

/// The specification's number for Ed25519.
const ALGORITHM: u8 = 0x01;
const KEY_ID_BYTES: usize = 4;
const PUBLIC_KEY_BYTES: usize = 32;
/// What stands between a text's last line and the first signature, after the
/// text's own newline.
const BLANK_LINE: &str = "\n";
/// How a signature line begins: an em dash and a space.
const MARK: &str = "\u{2014} ";
/// Signature lines that are looked at; a note with more is refused unread.
const MAX_SIGNATURES: usize = 100;

/// The deployment's key for signed notes.
pub struct Signer {
    verifier: Verifier,
    key: Ed25519KeyPair,
}

/// The public half of a [`Signer`]: not a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; KEY_ID_BYTES],
    public: [u8; PUBLIC_KEY_BYTES],
}

/// Why a text cannot be signed or a note not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    #[error("not a verifier key: {0}")]
    Key(&'static str),
    #[error("not signed by {name}")]
    Unsigned { name: String },
    #[error("the signature by {name} does not hold: the text or the signature was altered")]
    Altered { name: String },
}

// === impl Signer ===

impl Signer {
    /// The deployment's key, from its master key. The name says whose it is,
    /// such as `samen-gm0384`, and is part of what is signed by.
    pub fn new(master: &MasterKey, name: &str) -> Result<Self, NoteError> {
        Self::from_seed(&master.derive("signed notes"), name)
    }

    fn from_seed(seed: &[u8; 32], name: &str) -> Result<Self, NoteError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| NoteError::Key("the seed is no Ed25519 key"))?;
        let public = key.public_key().as_ref();
        let public =
            public.try_into().map_err(|_| NoteError::Key("its length is not Ed25519's"))?;
        Ok(Signer { verifier: Verifier::new(name, public)?, key })
    }

    /// The whole note. The text ends in a newline and has no other control
    /// characters.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_form(text)?;
        let signature = self.key.sign(text.as_bytes());
        let signature = [self.verifier.id.as_slice(), signature.as_ref()].concat();
        let signature = BASE64_STANDARD.encode(signature);
        Ok(format!("{text}{BLANK_LINE}{MARK}{} {signature}\n", self.verifier.name))
    }

    /// By which others check what this key signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

// === impl Verifier ===

impl Verifier {
    /// Reads a verifier key: `name+key id+public key`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        // The key may contain a plus, the name may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it is not name+id+key"));
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| NoteError::Key("it is not base64"))?;
        let Some((&ALGORITHM, public)) = key.split_first() else {
            return Err(NoteError::Key("it is of another kind than Ed25519"));
        };
        let public =
            public.try_into().map_err(|_| NoteError::Key("its length is not Ed25519's"))?;
        let verifier = Verifier::new(name, public)?;
        if hex(&verifier.id) != id {
            return Err(NoteError::Key("its id belongs to another name or key"));
        }
        Ok(verifier)
    }

    fn new(name: &str, public: [u8; PUBLIC_KEY_BYTES]) -> Result<Self, NoteError> {
        check_name(name).map_err(NoteError::Key)?;
        let mut sha = Sha256::new();
        sha.update(name.as_bytes());
        sha.update([b'\n', ALGORITHM]);
        sha.update(public);
        let digest: [u8; 32] = sha.finalize().into();
        let [a, b, c, d, ..] = digest;
        Ok(Verifier { name: name.to_owned(), id: [a, b, c, d], public })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note that this key signed. Others' signatures under it
    /// are ignored.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        check_form(note)?;
        let Some(end) = note.rfind("\n\n") else {
            return Err(NoteError::Malformed("there is no blank line before signatures"));
        };
        let (text, signatures) = (&note[..=end], &note[end + 2..]);
        if signatures.is_empty() {
            return Err(NoteError::Malformed("there is no signature"));
        }
        if signatures.lines().count() > MAX_SIGNATURES {
            return Err(NoteError::Malformed("there are too many signatures"));
        }
        let mut signed = false;
        for line in signatures.lines() {
            let (name, signature) = signature(line)?;
            let (id, signature) = signature.split_at(KEY_ID_BYTES);
            if name != self.name || id != self.id {
                continue;
            }
            UnparsedPublicKey::new(&ED25519, self.public)
                .verify(text.as_bytes(), signature)
                .map_err(|_| NoteError::Altered { name: name.to_owned() })?;
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::Unsigned { name: self.name.clone() }) }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [[ALGORITHM].as_slice(), &self.public].concat();
        write!(f, "{}+{}+{}", self.name, hex(&self.id), BASE64_STANDARD.encode(key))
    }
}

/// A signature line's name, and its key id with the signature.
fn signature(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let malformed = NoteError::Malformed("a signature line is not dash, name, signature");
    let Some((name, signature)) = line.strip_prefix(MARK).and_then(|l| l.split_once(' ')) else {
        return Err(malformed);
    };
    check_name(name).map_err(NoteError::Malformed)?;
    match BASE64_STANDARD.decode(signature) {
        Ok(signature) if signature.len() > KEY_ID_BYTES => Ok((name, signature)),
        _ => Err(malformed),
    }
}

fn check_form(text: &str) -> Result<(), NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("it does not end in a newline"));
    }
    if text.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
        return Err("its name is empty or has a space or a plus in it");
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example in the documentation of Go's `sumdb/note`, which the
    /// specification took its format from.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZ\
                             InNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn peter() -> Signer {
        let skey = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let seed = BASE64_STANDARD.decode(skey).unwrap();
        Signer::from_seed(&seed[1..].try_into().unwrap(), "PeterNeumann").unwrap()
    }

    fn ours() -> Signer {
        Signer::new(&MasterKey::generate(false), "samen-gm0384").unwrap()
    }

    #[test]
    fn a_note_is_the_one_that_others_make_with_the_same_key() {
        let note = peter().sign(TEXT).unwrap();
        assert_eq!(note, format!("{TEXT}\n{SIGNATURE}"));
        assert_eq!(peter().verifier().to_string(), KEY);
        let verifier = Verifier::parse(KEY).unwrap();
        assert_eq!(&verifier, peter().verifier());
        assert_eq!(verifier.open(&note), Ok(TEXT));
    }

    #[test]
    fn the_same_master_key_gives_the_same_key_and_another_gives_another() {
        let master = MasterKey::generate(false);
        let signer = Signer::new(&master, "samen-gm0384").unwrap();
        let again = Signer::new(&master, "samen-gm0384").unwrap();
        assert_eq!(signer.verifier(), again.verifier());
        assert_ne!(signer.verifier(), ours().verifier());
        let note = ours().sign("said\n").unwrap();
        let unsigned = NoteError::Unsigned { name: "samen-gm0384".to_owned() };
        assert_eq!(signer.verifier().open(&note), Err(unsigned));
    }

    #[test]
    fn others_signatures_are_ignored_beside_ours() {
        let signer = ours();
        let ours = signer.sign(TEXT).unwrap();
        for note in
            [format!("{ours}{SIGNATURE}"), ours.replacen("\n\n", &format!("\n\n{SIGNATURE}"), 1)]
        {
            assert_eq!(signer.verifier().open(&note), Ok(TEXT));
            assert_eq!(Verifier::parse(KEY).unwrap().open(&note), Ok(TEXT));
        }
    }

    #[test]
    fn a_text_may_have_empty_lines() {
        let signer = ours();
        for text in ["\n", "a\n\nb\n", "a\n\n", "\n\n\n"] {
            assert_eq!(signer.verifier().open(&signer.sign(text).unwrap()), Ok(text));
        }
    }

    #[test]
    fn what_is_not_a_note_is_refused_with_the_reason() {
        let signer = ours();
        for text in ["", "no newline", "a\ttab\n", "a\r\n", "a\0\n"] {
            assert!(matches!(signer.sign(text), Err(NoteError::Malformed(_))), "{text:?}");
        }
        let many = SIGNATURE.repeat(MAX_SIGNATURES + 1);
        for note in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n\u{2014} name\n",
            "text\n\n\u{2014} name AAAA\n",
            "text\n\n\u{2014}  AAAAAAAA\n",
            "text\n\n- name AAAAAAAA\n",
            "text\n\n\u{2014} name AAAAAAAA",
            &format!("{TEXT}\n{many}"),
        ] {
            let refused = Verifier::parse(KEY).unwrap().open(note);
            assert!(matches!(refused, Err(NoteError::Malformed(_))), "{note:?}: {refused:?}");
        }
        for name in ["", "two words", "a+b", "line\nbreak"] {
            let refused = Signer::new(&MasterKey::generate(false), name);
            assert!(matches!(refused, Err(NoteError::Key(_))), "{name:?}");
        }
    }

    #[test]
    fn a_verifier_key_with_any_character_altered_or_left_out_is_refused() {
        for at in 0..KEY.len() {
            assert!(Verifier::parse(&KEY[..at]).is_err());
            assert!(Verifier::parse(&[&KEY[..at], &KEY[at + 1..]].concat()).is_err());
            let mut altered = KEY.as_bytes().to_vec();
            altered[at] += 1;
            assert!(Verifier::parse(&String::from_utf8(altered).unwrap()).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_text_that_was_signed_opens(lines in prop::collection::vec("[^\\p{Cc}]{0,40}", 1..6)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let signer = ours();
            let note = signer.sign(&text).unwrap();
            prop_assert_eq!(signer.verifier().open(&note), Ok(text.as_str()));
        }

        #[test]
        fn any_altered_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut note = format!("{TEXT}\n{SIGNATURE}").into_bytes();
            let at = at.index(note.len());
            note[at] ^= flip;
            if let Ok(note) = String::from_utf8(note) {
                prop_assert!(peter().verifier().open(&note).is_err());
            }
        }

        #[test]
        fn any_byte_left_out_or_put_in_is_refused(at in any::<prop::sample::Index>(), put in 0_u8..128) {
            let note = format!("{TEXT}\n{SIGNATURE}").into_bytes();
            let at = at.index(note.len());
            let less = [&note[..at], &note[at + 1..]].concat();
            let more = [&note[..at], &[put], &note[at..]].concat();
            for altered in [less, more] {
                if let Ok(altered) = String::from_utf8(altered) {
                    prop_assert!(peter().verifier().open(&altered).is_err());
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(note in "(?s).{0,200}") {
            prop_assert!(ours().verifier().open(&note).is_err());
            let _ = Verifier::parse(&note);
        }
    }
}
