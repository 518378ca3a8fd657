//! A port's connections: how many there are at a time, and when one is given
//! up, so that a flood, or peers that went without a word, cost what was
//! decided and no more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::metrics::Count;

/// How long to rest when the system has no more files for connections.
const REST: Duration = Duration::from_secs(1);

/// Takes a port's connections.
pub struct Connections {
    listener: TcpListener,
    places: Arc<Semaphore>,
    idle: Duration,
    open: Count,
}

/// A connection, and its place. It ends with an error when nothing came or
/// went for too long: longer than live peers, in whatever protocol, are silent.
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    idle: Duration,
    /// When something last came or went.
    moved: Instant,
    due: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
    _open: Open,
}

/// One of the connections that are counted.
struct Open(Count);

// === impl Connections ===

impl Connections {
    /// At most so many at a time: others wait in the system's own queue, which
    /// is short, or are refused by it. One on which nothing moves for `idle` is
    /// closed. `open` counts those that were taken and are not closed yet.
    pub fn new(listener: TcpListener, most: usize, idle: Duration, open: Count) -> Self {
        Connections { listener, places: Arc::new(Semaphore::new(most)), idle, open }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, when there is a place for it.
    pub async fn accept(&self) -> Connection {
        if self.places.available_permits() == 0 {
            tracing::warn!("there are as many connections as may be: others wait");
        }
        let place = self.places.clone().acquire_owned().await.expect("it is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // It only makes answers slower where it fails.
                    let _ = stream.set_nodelay(true);
                    return Connection {
                        stream,
                        peer,
                        idle: self.idle,
                        moved: Instant::now(),
                        due: Box::pin(sleep(self.idle)),
                        _place: place,
                        _open: Open::new(&self.open),
                    };
                }
                // This one went before it was taken.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    sleep(REST).await;
                }
            }
        }
    }

    /// All connections, one after another.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        futures::stream::unfold(self, async |connections| {
            Some((Ok(connections.accept().await), connections))
        })
    }
}

// === impl Open ===

impl Open {
    fn new(count: &Count) -> Self {
        count.inc();
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl Connection ===

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends when nothing has moved for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.due.as_mut().poll(cx));
            // Not set anew with each byte: that would cost more than the byte.
            let due = self.moved + self.idle;
            if due <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.due.as_mut().reset(due);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                self.moved = Instant::now();
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_idle(cx).map(Err),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.moved = Instant::now();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.moved = Instant::now();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const IDLE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn there_are_so_many_and_silent_ones_make_room() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = Count::default();
        let connections = Connections::new(listener, 1, IDLE, open.clone());
        let address = connections.local_addr().unwrap();
        let mut first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();
        let mut taken = connections.accept().await;
        assert!(tokio::time::timeout(IDLE, connections.accept()).await.is_err());
        assert_eq!(open.get(), 1);

        // It is kept while something goes in either direction.
        for _ in 0..4 {
            sleep(IDLE / 2).await;
            first.write_all(b"x").await.unwrap();
            assert_eq!(taken.read_u8().await.unwrap(), b'x');
            taken.write_all(b"y").await.unwrap();
        }
        let ended = taken.read_u8().await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(taken);
        assert_eq!(open.get(), 0);
        let _next = connections.accept().await;
        assert_eq!(open.get(), 1);
    }
}
