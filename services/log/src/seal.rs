//! Personal content and its keys.
//!
//! Content is sealed under a data key that belongs to a person or to one
//! text; data keys are kept beside the log, wrapped by a key that is made
//! from the deployment's master key. Who destroys a data key makes its content
//! unreadable everywhere at once: a key is read from the database whenever
//! something is opened, in every process, and never from memory.
//!
//! This protects against everybody who has the database, its files, an old
//! backup or the exchange, but not the master key. Against one who has the
//! master key *and* old bytes of the database (a backup from before, archived
//! write-ahead logs, the sectors of a disk) nothing protects: keep the two in
//! different hands, and let backups expire.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use moka::sync::Cache;
use prost::{Message, Name};
use samen_proto::log::Sealed;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::append::NewKey;
use crate::db::Schema;
use crate::sql::Sql;
use crate::{destroyed, on_db};

const NONCE_BYTES: usize = 24;
/// Sealed content is padded to a multiple of this, so that its length tells
/// little.
const PAD: usize = 64;
/// People's keys kept in memory, for those who seal.
const CACHED_KEYS: u64 = 50_000;
/// How long at most, should nobody tell that one was destroyed.
const CACHED_FOR: Duration = Duration::from_secs(300);
/// Keys asked for in one statement.
const BATCH: usize = 500;

/// The deployment's master key, from which every other secret is made.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Arc<Zeroizing<[u8; 32]>>,
    trial: bool,
}

/// The keys of one service's sealed content.
#[derive(Clone)]
pub struct Keyring {
    schema: Schema,
    wrapping: XChaCha20Poly1305,
    fingerprint: DataKey,
    people: Cache<String, DataKey>,
    /// Raised before keys leave the cache: who read one before that does not
    /// put it back.
    evictions: Arc<AtomicU64>,
}

/// A key for one person's content, or for one text.
#[derive(Clone)]
pub struct DataKey {
    id: Arc<str>,
    bytes: Arc<Zeroizing<[u8; 32]>>,
}

/// Why a master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("{} is not a Samen master key; `samen keygen FILE` makes one", path.display())]
    Malformed { path: PathBuf },
}

/// Why sealed content cannot be read. Content whose key was destroyed is not
/// an error but `None`.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the keys cannot be read: {0}")]
    Storage(#[from] sqlx::Error),
    #[error("content or key {id} was altered, or the master key is another")]
    Altered { id: String },
}

// === impl MasterKey ===

impl MasterKey {
    /// A key from randomness. A trial key is one that nobody was asked to keep
    /// safe; production refuses it.
    pub fn generate(trial: bool) -> Self {
        MasterKey { bytes: Arc::new(Zeroizing::new(rand::random())), trial }
    }

    /// Reads a key file.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let file = |cause| MasterKeyError::File { path: path.to_owned(), cause };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(file)?);
        Self::parse(&text).ok_or_else(|| MasterKeyError::Malformed { path: path.to_owned() })
    }

    /// Writes a key file that only its owner can read. Never overwrites one.
    pub fn save(&self, path: &Path) -> Result<(), MasterKeyError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let file = |cause| MasterKeyError::File { path: path.to_owned(), cause };
        let mut open = std::fs::OpenOptions::new();
        let mut to = open.write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
        let kind = if self.trial { "trial" } else { "1" };
        let text = Zeroizing::new(format!(
            "samen-master-key:{kind}:{}\n",
            BASE64_STANDARD.encode(self.bytes.as_slice())
        ));
        to.write_all(text.as_bytes()).and_then(|()| to.sync_all()).map_err(file)
    }

    /// The same key, as one that somebody keeps safe from now on.
    pub fn kept(self) -> Self {
        MasterKey { trial: false, ..self }
    }

    /// Whether the key was made without anybody asking for it.
    pub fn is_trial(&self) -> bool {
        self.trial
    }

    /// A secret for one use. Another label gives an unrelated secret.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        derive(self.bytes.as_slice(), label)
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, key) = text.trim().strip_prefix("samen-master-key:")?.split_once(':')?;
        let trial = match kind {
            "1" => false,
            "trial" => true,
            _ => return None,
        };
        let bytes: [u8; 32] = BASE64_STANDARD.decode(key).ok()?.try_into().ok()?;
        Some(MasterKey { bytes: Arc::new(Zeroizing::new(bytes)), trial })
    }
}

// === impl Keyring ===

impl Keyring {
    /// The keys that stand beside the log with this id.
    pub fn new(schema: Schema, master: &MasterKey, log: &str) -> Self {
        let wrapping = master.derive(&format!("wrap {log}"));
        let fingerprint = master.derive(&format!("fingerprint {log}"));
        Keyring {
            schema,
            wrapping: XChaCha20Poly1305::new((&*wrapping).into()),
            fingerprint: DataKey { id: "".into(), bytes: Arc::new(fingerprint) },
            people: Cache::builder().max_capacity(CACHED_KEYS).time_to_live(CACHED_FOR).build(),
            evictions: Arc::default(),
        }
    }

    /// A new key, and what to append together with the event that needs it.
    pub fn create(&self, id: &str) -> (DataKey, NewKey) {
        let key = DataKey { id: id.into(), bytes: Arc::new(Zeroizing::new(rand::random())) };
        let wrapped = encrypt(&self.wrapping, key.bytes.as_slice(), id.as_bytes());
        (key, NewKey { id: id.to_owned(), wrapped })
    }

    /// A person's key, to seal with: made where there is none yet, durable
    /// before the event that needs it. `None` when it was destroyed.
    pub async fn of_person(&self, person: &str) -> Result<Option<DataKey>, SealError> {
        let id = format!("person/{person}");
        if let Some(key) = self.people.get(&id) {
            return Ok(Some(key));
        }
        let evictions = self.evictions.load(Ordering::SeqCst);
        let (_, new) = self.create(&id);
        let sql = "INSERT INTO {s}.sealing_key (id, wrapped) VALUES ($1, $2)
                   ON CONFLICT (id) DO NOTHING";
        on_db!(&self.schema.db, pool => {
            sqlx::query(self.schema.sql(sql)).bind(&new.id).bind(new.wrapped).execute(pool).await?;
        });
        let key = self.get(&id).await?;
        if let Some(key) = &key {
            self.people.insert(id.clone(), key.clone());
            if self.evictions.load(Ordering::SeqCst) != evictions {
                self.people.invalidate(&id);
            }
        }
        Ok(key)
    }

    /// A key by its id. `None` when it was destroyed or never was.
    pub async fn get(&self, id: &str) -> Result<Option<DataKey>, SealError> {
        Ok(self.find([id]).await?.remove(id))
    }

    /// These keys, by id, without those that were destroyed.
    pub async fn find<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashMap<String, DataKey>, SealError> {
        let mut keys = HashMap::new();
        let ids: Vec<&str> = ids.into_iter().collect();
        for ids in ids.chunks(BATCH) {
            let text = "SELECT id, wrapped FROM {s}.sealing_key WHERE wrapped IS NOT NULL AND id";
            let mut sql = Sql::new(&self.schema, text);
            sql.any_of(ids.iter().copied());
            for row in sql.fetch(&self.schema.db).await? {
                let id = row.text(0);
                let key = self.unwrap(&id, &row.bytes(1));
                let key = key.ok_or_else(|| SealError::Altered { id: id.clone() })?;
                keys.insert(id, key);
            }
        }
        Ok(keys)
    }

    /// Which of these keys are there, not destroyed.
    pub async fn alive<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashSet<String>, SealError> {
        self.which("wrapped IS NOT NULL", ids).await
    }

    /// Which of these keys were destroyed, and not those that never were.
    pub async fn destroyed<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashSet<String>, SealError> {
        self.which("wrapped IS NULL", ids).await
    }

    /// Destroys keys, for good: their ids are never used again. Whoever calls
    /// this has put them on the list that is kept apart from backups
    /// ([`destroyed`]). Done twice, nothing more happens.
    pub async fn destroy<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), SealError> {
        let ids: Vec<&str> = ids.into_iter().collect();
        destroyed::apply(&self.schema, ids.iter().copied()).await?;
        self.evict(ids);
        self.schema.scrub("sealing_key").await?;
        Ok(())
    }

    /// Forgets what this process remembers of keys that were destroyed, here
    /// or in another process.
    pub fn evict<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        self.evictions.fetch_add(1, Ordering::SeqCst);
        for id in ids {
            self.people.invalidate(id);
        }
    }

    /// Opens sealed content. `None` when its key was destroyed.
    pub async fn unseal<M: Message + Name + Default>(
        &self,
        sealed: &Sealed,
    ) -> Result<Option<M>, SealError> {
        let Some(key) = self.get(&sealed.key_id).await? else { return Ok(None) };
        let message = key.open(sealed);
        message.map(Some).ok_or_else(|| SealError::Altered { id: sealed.key_id.clone() })
    }

    async fn which<'a>(
        &self,
        state: &str,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashSet<String>, SealError> {
        let mut found = HashSet::new();
        let text = format!("SELECT id FROM {{s}}.sealing_key WHERE {state} AND id");
        let ids: Vec<&str> = ids.into_iter().collect();
        for ids in ids.chunks(BATCH) {
            let mut sql = Sql::new(&self.schema, &text);
            sql.any_of(ids.iter().copied());
            found.extend(sql.fetch(&self.schema.db).await?.iter().map(|row| row.text(0)));
        }
        Ok(found)
    }

    fn unwrap(&self, id: &str, wrapped: &[u8]) -> Option<DataKey> {
        let bytes = decrypt(&self.wrapping, wrapped, id.as_bytes())?;
        let bytes: [u8; 32] = bytes.as_slice().try_into().ok()?;
        Some(DataKey { id: id.into(), bytes: Arc::new(Zeroizing::new(bytes)) })
    }

    /// What a command's content is compared by, under the key named, or the
    /// deployment's own. `None` when the key was destroyed.
    pub(crate) async fn fingerprint(
        &self,
        key_id: Option<&str>,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, SealError> {
        let key = match key_id {
            None => Some(self.fingerprint.clone()),
            Some(id) => self.get(id).await?,
        };
        Ok(key.map(|key| key.fingerprint(content)))
    }
}

// === impl DataKey ===

impl DataKey {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Encrypts a message, padded, and bound to its key and type.
    pub fn seal<M: Message + Name>(&self, message: &M) -> Sealed {
        let mut plain = Zeroizing::new(message.encode_length_delimited_to_vec());
        let padded = plain.len().next_multiple_of(PAD);
        plain.resize(padded, 0);
        let ciphertext = encrypt(&self.cipher(), &plain, self.bound_to(&M::full_name()).as_bytes());
        Sealed { key_id: self.id.to_string(), ciphertext }
    }

    /// Opens what was sealed with this key. `None` when it was altered, or is
    /// no such message.
    pub fn open<M: Message + Name + Default>(&self, sealed: &Sealed) -> Option<M> {
        M::decode(self.open_as(sealed, &M::full_name())?.as_slice()).ok()
    }

    /// The same for a type that is known by its full name: the message, encoded.
    pub fn open_as(&self, sealed: &Sealed, kind: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bound = self.bound_to(kind);
        let mut plain = decrypt(&self.cipher(), &sealed.ciphertext, bound.as_bytes())?;
        let mut rest = plain.as_slice();
        let length = prost::decode_length_delimiter(&mut rest).ok()?;
        let begin = plain.len() - rest.len();
        if rest.len() < length {
            return None;
        }
        plain.truncate(begin + length);
        plain.drain(..begin);
        Some(plain)
    }

    /// Encrypts a file, not padded, and bound to its key and to what it is.
    pub fn seal_bytes(&self, kind: &str, plain: &[u8]) -> Vec<u8> {
        encrypt(&self.cipher(), plain, self.bound_to(kind).as_bytes())
    }

    /// Opens it. `None` when it was altered, or is something else.
    pub fn open_bytes(&self, kind: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        decrypt(&self.cipher(), sealed, self.bound_to(kind).as_bytes())
            .map(|mut plain| std::mem::take(&mut *plain))
    }

    pub(crate) fn fingerprint(&self, content: &[u8]) -> Vec<u8> {
        let key = derive(self.bytes.as_slice(), "fingerprint");
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(content);
        mac.finalize().into_bytes().to_vec()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&**self.bytes).into())
    }

    fn bound_to(&self, kind: &str) -> String {
        format!("{}\0{kind}", self.id)
    }
}

fn derive(secret: &[u8], label: &str) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(label.as_bytes(), out.as_mut_slice())
        .expect("32 bytes are fewer than HKDF can give");
    out
}

fn encrypt(cipher: &XChaCha20Poly1305, plain: &[u8], bound_to: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let payload = Payload { msg: plain, aad: bound_to };
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), payload)
        .expect("less than 256 gigabytes is within the cipher's limit");
    [nonce.as_slice(), &sealed].concat()
}

fn decrypt(cipher: &XChaCha20Poly1305, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload { msg: sealed, aad };
    cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}
