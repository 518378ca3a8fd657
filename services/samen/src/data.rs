//! The all-in-one's data directory: one process at a time, and keys that are
//! made on the first start.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use samen_log::{Location, MasterKey};
use samen_server::identity::Issuer;
use samen_server::pki::Root;

/// What the all-in-one's own issuer of tokens is called.
pub const TRIAL_ISSUER: &str = "samen-trial";

/// A data directory that this process holds.
pub struct Data {
    root: PathBuf,
    /// Given up when the process ends, however it ends.
    _lock: File,
}

/// Paths in a data directory that others may read while it is in use.
pub struct Paths<'a>(pub &'a Path);

impl Paths<'_> {
    pub fn master_key(&self) -> PathBuf {
        self.0.join("keys/master.key")
    }

    /// The keys that were destroyed: apart from every backup of the logs.
    pub fn destroyed_keys(&self) -> PathBuf {
        self.0.join("keys/destroyed")
    }

    pub fn issuer_key(&self) -> PathBuf {
        self.0.join("keys/issuer.pem")
    }

    pub fn issuer_key_set(&self) -> PathBuf {
        self.0.join("keys/issuer.jwks.json")
    }

    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    pub fn photos(&self) -> PathBuf {
        self.0.join("photos")
    }
}

impl Data {
    /// Takes the directory; makes it where it is new.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        make_dir(root)?;
        let path = root.join("lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => Ok(Data { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another samen process: stop that first", root.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| path.display().to_string())
            }
        }
    }

    pub fn paths(&self) -> Paths<'_> {
        Paths(&self.root)
    }

    /// The folder of one service's databases.
    pub fn location(&self, service: &str) -> anyhow::Result<Location> {
        let folder = self.root.join(service);
        make_dir(&folder)?;
        Ok(Location::Folder(folder))
    }

    /// The master key; made where there is none, unless there is data that
    /// another key must have sealed.
    pub fn master_key(&self) -> anyhow::Result<MasterKey> {
        let path = self.paths().master_key();
        if path.exists() {
            return Ok(MasterKey::load(&path)?);
        }
        if self.root.join(samen_requests::NAME).join("log.db").exists() {
            bail!(
                "{} is missing, and without it nothing sealed in {} can be read: \
                 put it back from your backup",
                path.display(),
                self.root.display()
            );
        }
        make_dir(&self.root.join("keys"))?;
        let key = MasterKey::generate(true);
        key.save(&path)?;
        Ok(key)
    }

    /// The key set of the all-in-one's issuer; its key is made where there is
    /// none.
    pub fn issuer_key_set(&self) -> anyhow::Result<PathBuf> {
        let paths = self.paths();
        let issuer = if paths.issuer_key().exists() {
            load_issuer(&self.root)?
        } else {
            let issuer = Issuer::generate(TRIAL_ISSUER, true)?;
            write_private(&paths.issuer_key(), &issuer.pem())?;
            issuer
        };
        std::fs::write(paths.issuer_key_set(), issuer.key_set())?;
        Ok(paths.issuer_key_set())
    }

    /// The root of trial certificates and this machine's server certificate
    /// and key, all PEM.
    pub fn trial_tls(&self) -> anyhow::Result<(String, (String, String))> {
        let folder = self.paths().pki();
        let root = trial_root(&folder)?;
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        if !certificate.exists() {
            let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            let issued = root.server(&names)?;
            write_private(&key, &issued.key)?;
            std::fs::write(&certificate, issued.certificate)?;
        }
        let server = (std::fs::read_to_string(certificate)?, std::fs::read_to_string(key)?);
        Ok((root.certificate().to_owned(), server))
    }
}

/// The issuer of an all-in-one, from its data directory.
pub fn load_issuer(data: &Path) -> anyhow::Result<Issuer> {
    let path = Paths(data).issuer_key();
    let pem = std::fs::read_to_string(&path).with_context(|| {
        format!("{}: there is no issuer yet; `samen up` makes one", path.display())
    })?;
    Ok(Issuer::from_pem(TRIAL_ISSUER, &pem, true)?)
}

/// The root of trial certificates in this folder; made where there is none.
pub fn trial_root(folder: &Path) -> anyhow::Result<Root> {
    make_dir(folder)?;
    let (certificate, key) = (folder.join("root.pem"), folder.join("root.key"));
    if certificate.exists() {
        let certificate = std::fs::read_to_string(certificate)?;
        return Ok(Root::from_pem(&certificate, &std::fs::read_to_string(key)?)?);
    }
    let root = Root::generate()?;
    write_private(&key, root.key())?;
    std::fs::write(&certificate, root.certificate())?;
    Ok(root)
}

/// Writes a file that only its owner can read. Never overwrites one.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// Makes a folder that only its owner can enter.
fn make_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| path.display().to_string())
}
