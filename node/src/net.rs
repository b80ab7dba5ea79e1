//! Connections that are accepted, behind a listener, so that a simulation brings its own network. What is said over them
//! is in `api`; connections to other nodes are made by the client library and the peer transport.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Connections at once; each costs buffers of some hundred KiB when busy. More wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 4_096;

/// A silent connection is asked for a sign of life this often, and dropped when none comes in as long again.
pub const KEEPALIVE: Duration = Duration::from_secs(10);

/// Flow control of a stream and of a connection: a few batches of 4 MiB in flight.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Reads and writes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// An accepted connection.
pub struct Accepted {
    io: Box<dyn Io>,
    /// Its place among the connections; given back when it ends.
    _place: Option<OwnedSemaphorePermit>,
    /// Ends the connection at once, whatever is under way on it.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Accepted {
    pub fn new(io: impl Io) -> Self {
        Self { io: Box::new(io), _place: None, cut: None }
    }

    /// The same connection, ended when `cut` is cancelled.
    pub fn until(mut self, cut: CancellationToken) -> Self {
        self.cut = Some(Box::pin(cut.cancelled_owned()));
        self
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready())
    }
}

fn cut_off() -> Poll<io::Result<()>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl Connected for Accepted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return cut_off();
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Where connections arrive.
pub struct Listener {
    /// The address that was bound.
    pub address: SocketAddr,
    pub incoming: BoxStream<'static, io::Result<Accepted>>,
}

impl Listener {
    /// Listens on TCP; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Listener> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let incoming = futures::stream::unfold((listener, places), |(listener, places)| async move {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.ok();
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(Accepted { _place: place, ..Accepted::new(stream) })
            });
            Some((accepted, (listener, places)))
        });
        Ok(Listener { address, incoming: incoming.boxed() })
    }
}
