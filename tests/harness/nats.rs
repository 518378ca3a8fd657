//! A NATS server with JetStream on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_nats::Client;
use tempfile::TempDir;

use crate::process::Process;
use crate::scratch::{self, free_port};
use crate::servers::{environment, existing};
use crate::wait::eventually;

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A server with a store of its own; gone when dropped.
pub struct Nats {
    folder: TempDir,
    port: u16,
    process: Process,
}

impl Nats {
    /// Starts a server.
    pub async fn start() -> Self {
        let folder = scratch::folder("nats-");
        let port = free_port();
        let process = serve(&folder, port);
        let mut server = Nats { folder, port, process };
        server.ready().await;
        server
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The folder of its store.
    pub fn store(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// A connection, which comes back by itself after a restart.
    pub async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.expect("the server runs")
    }

    /// Kills it, as a power failure would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port and store.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = serve(&self.folder, self.port);
        self.ready().await;
    }

    /// Starts it again without anything that it had stored.
    pub async fn restart_empty(&mut self) {
        self.process.kill();
        std::fs::remove_dir_all(self.folder.path().join("jetstream")).expect("its own store");
        self.restart().await;
    }

    /// Stops it from doing anything, as a machine does that hangs: connections
    /// stay open.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.process.thaw();
    }

    /// A copy of its store as it is now, of one moment.
    pub fn copy(&mut self) -> TempDir {
        self.freeze();
        let copy = scratch::folder("nats-copy-");
        copy_folder(self.folder.path(), copy.path());
        self.thaw();
        copy
    }

    /// Starts it again with the store that was copied.
    pub async fn restart_from(&mut self, copy: &TempDir) {
        self.process.kill();
        std::fs::remove_dir_all(self.folder.path().join("jetstream")).expect("its own store");
        copy_folder(copy.path(), self.folder.path());
        self.restart().await;
    }

    async fn ready(&mut self) {
        eventually(START, "NATS answers", async || {
            let ended = self.process.status();
            assert!(ended.is_none(), "nats-server ended:\n{}", self.process.output());
            async_nats::connect(self.url()).await.ok()
        })
        .await;
    }
}

fn serve(folder: &TempDir, port: u16) -> Process {
    let mut nats = Command::new(existing(environment().join("bin/nats-server")));
    nats.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]);
    nats.arg(folder.path());
    Process::start(nats)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("its type").is_dir() {
            true => copy_folder(&from, &to),
            false => std::fs::copy(&from, &to).map(drop).expect("copied"),
        }
    }
}
