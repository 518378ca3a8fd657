//! A wire that can fail: everything to a server goes through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

/// A listener on this machine that passes everything on to a server, until it
/// is told otherwise. Ends when dropped.
pub struct Proxy {
    url: String,
    wire: Arc<Wire>,
    _end: DropGuard,
}

/// What the other side never gets, of something that a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The server does not hear of it.
    Request,
    /// The server has done it, and the client does not hear of that.
    Answer,
    /// The server does not hear of it, and nobody is told: the connection stays
    /// open, and is never heard again.
    Word,
}

struct Wire {
    server: SocketAddr,
    /// Whether the connections that were made under it are silent.
    silent: Mutex<Arc<watch::Sender<bool>>>,
    /// Gates of connections that are never heard again.
    gone: Mutex<Vec<Arc<watch::Sender<bool>>>>,
    /// Ends the connections that were made under it.
    open: Mutex<CancellationToken>,
    /// Which bytes of a client are the last ones on their connection.
    watched: Mutex<Option<(Vec<u8>, Lost)>>,
    cuts: AtomicUsize,
}

/// One connection.
struct Line {
    wire: Arc<Wire>,
    silent: watch::Receiver<bool>,
    open: CancellationToken,
    /// Set when the answer that comes next is to be lost.
    deaf: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy before the server in this URL, which names a port of this
    /// machine.
    pub async fn before(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host.rsplit_once(':').expect("a port");
        let server = (Ipv4Addr::LOCALHOST, port.parse().expect("a port")).into();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let url = format!("{scheme}://{host}:{port}/{path}");
        let wire = Arc::new(Wire {
            server,
            silent: Mutex::new(Arc::new(watch::Sender::new(false))),
            gone: Mutex::default(),
            open: Mutex::default(),
            watched: Mutex::default(),
            cuts: AtomicUsize::new(0),
        });
        let end = CancellationToken::new();
        let accepting = end.clone().run_until_cancelled_owned(accept(listener, wire.clone()));
        tokio::spawn(accepting);
        Proxy { url, wire, _end: end.drop_guard() }
    }

    /// The server's URL by way of this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Nothing passes any more, either way, and nobody is told; connections can
    /// be made and stay open.
    pub fn freeze(&self) {
        lock(&self.wire.silent).send_replace(true);
    }

    /// What was held back passes, and all that follows.
    pub fn thaw(&self) {
        lock(&self.wire.silent).send_replace(false);
    }

    /// The connections that are open are never heard again, as when a host is
    /// gone; new ones pass.
    pub fn lose_open(&self) {
        let now = Arc::new(watch::Sender::new(false));
        let before = std::mem::replace(&mut *lock(&self.wire.silent), now);
        before.send_replace(true);
        lock(&self.wire.gone).push(before);
    }

    /// Cuts the connections that are open.
    pub fn cut(&self) {
        std::mem::take(&mut *lock(&self.wire.open)).cancel();
    }

    /// Cuts the first connection on which a client sends these bytes: before
    /// they, or before the answer to them, are passed on. Once.
    pub fn cut_at(&self, bytes: &[u8], lost: Lost) {
        *lock(&self.wire.watched) = Some((bytes.to_vec(), lost));
    }

    /// How often that was done.
    pub fn cuts(&self) -> usize {
        self.wire.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    while let Ok((client, _)) = listener.accept().await {
        let line = Line {
            silent: lock(&wire.silent).subscribe(),
            open: lock(&wire.open).clone(),
            deaf: watch::Sender::new(false),
            wire: wire.clone(),
        };
        tokio::spawn(async move {
            let open = line.open.clone();
            open.run_until_cancelled(line.connect(client)).await;
        });
    }
}

impl Line {
    /// Ends when both sides have, or when it is cut; then both are closed.
    async fn connect(self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.wire.server).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let there = self.pass(from_client, to_server, true);
        let back = self.pass(from_server, to_client, false);
        // One that is cut takes the other with it.
        let _ = tokio::try_join!(there, back);
    }

    /// Passes bytes on in one direction, until its end (`Ok`) or a cut.
    async fn pass(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        asks: bool,
    ) -> Result<(), ()> {
        let mut silent = self.silent.clone();
        let mut chunk = vec![0; CHUNK];
        // The end of what was passed on: what is looked for may come in parts.
        let mut seen = Vec::new();
        loop {
            let read = from.read(&mut chunk).await.map_err(drop)?;
            if silent.wait_for(|silent| !silent).await.is_err() {
                std::future::pending::<()>().await;
            }
            if read == 0 {
                return to.shutdown().await.map_err(drop);
            }
            let bytes = &chunk[..read];
            if asks {
                seen.extend_from_slice(bytes);
                match self.found(&seen) {
                    Some(Lost::Request) => return Err(()),
                    Some(Lost::Answer) => drop(self.deaf.send_replace(true)),
                    Some(Lost::Word) => std::future::pending().await,
                    None => {}
                }
                // What went by before it was looked for does not count.
                seen.drain(..seen.len().saturating_sub(self.part()));
            } else if *self.deaf.borrow() {
                return Err(());
            }
            to.write_all(bytes).await.map_err(drop)?;
        }
    }

    /// Bytes that may be the beginning of what is looked for.
    fn part(&self) -> usize {
        lock(&self.wire.watched).as_ref().map_or(0, |(bytes, _)| bytes.len().saturating_sub(1))
    }

    /// Whether these bytes hold what is looked for.
    fn found(&self, seen: &[u8]) -> Option<Lost> {
        let mut watched = lock(&self.wire.watched);
        let (bytes, lost) = watched.as_ref()?;
        let lost = seen.windows(bytes.len()).any(|window| window == bytes).then_some(*lost)?;
        *watched = None;
        self.wire.cuts.fetch_add(1, Ordering::Relaxed);
        Some(lost)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
