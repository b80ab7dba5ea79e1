//! Connections: what is accepted, and channels to other nodes. Behind a listener and a connector, so that a simulation
//! brings its own network. What is said over them is in `api`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

/// Connections at once; each costs buffers of some hundred KiB when busy. More wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 4_096;

/// A node that does not take a connection within this is called unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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
}

impl Accepted {
    pub fn new(io: impl Io) -> Self {
        Self { io: Box::new(io), _place: None }
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
                Ok(Accepted { io: Box::new(stream), _place: place })
            });
            Some((accepted, (listener, places)))
        });
        Ok(Listener { address, incoming: incoming.boxed() })
    }
}

/// Makes channels to other nodes. A channel connects when it is first used, and again after it broke.
pub trait Connector: Send + Sync + 'static {
    /// A channel to `address`, host:port.
    ///
    /// # Errors
    /// What is wrong with the address.
    fn channel(&self, address: &str) -> Result<Channel, String>;
}

/// Over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

/// The settings that every channel to a node shares.
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| format!("'{address}' is no address: {error}"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

impl Connector for TcpConnector {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        Ok(endpoint(address)?.connect_lazy())
    }
}

/// One channel to each node, made when first asked for.
#[derive(Clone)]
pub struct Channels {
    connector: Arc<dyn Connector>,
    open: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Channels {
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, open: Arc::default() }
    }

    /// The channel to `address`.
    pub fn to(&self, address: &str) -> Result<Channel, String> {
        let mut open = self.open.lock();
        if let Some(channel) = open.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.connector.channel(address)?;
        open.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}
