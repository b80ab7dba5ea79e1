//! The gRPC [`Transport`]: two long-lived streams to each peer, shared by all groups; one for bulk, one for liveness.
//!
//! A stream is opened by the first call, and again by the first one after it broke. How bytes reach an address is behind
//! [`Connector`]: plain TCP here, TLS in the node, a simulated network in tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Endpoint, Uri};

use crate::net::transport::{Lane, PeerReply, PeerRequest, Transport, TransportError};
use crate::service::MESSAGE_BYTES_MAX;
use crate::types::NodeId;
use crate::wire::proto::CallFrame;
use crate::wire::proto::peers_client::PeersClient;

/// Calls that wait for a stream, beyond those under way.
const WAITING_MAX: usize = 256;

/// Frames handed to HTTP/2 and not yet taken.
const FRAMES_MAX: usize = 8;

/// Time to reach a peer. Elections go on meanwhile, calls wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection on which a call timed out is dropped when it was silent for this long. Shorter, and a busy machine
/// would lose its connections when it can least afford new ones.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Receive windows: several messages may be under way before the receiver has read one.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A two-way byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens byte streams to addresses.
pub trait Connector: Send + Sync + 'static {
    /// A stream to `address`, in whatever form the members' addresses have.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// Plain TCP, for `host:port`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Calls to peers over gRPC.
pub struct GrpcTransport {
    connector: Arc<dyn Connector>,
    streams: Mutex<BTreeMap<(NodeId, Lane), Arc<Stream>>>,
}

/// One lane to one peer, as its callers see it. Dropped, it ends its task.
struct Stream {
    address: String,
    calls: mpsc::Sender<Waiting>,
    health: Arc<Health>,
}

struct Health {
    /// When the connection last gave a sign of life: was opened, or carried a reply.
    alive: Mutex<Instant>,
    /// A call timed out on a silent connection, which is to be dropped.
    stuck: Notify,
}

impl Health {
    fn new() -> Self {
        Self { alive: Mutex::new(Instant::now()), stuck: Notify::new() }
    }

    fn sign_of_life(&self) {
        *self.alive.lock() = Instant::now();
    }

    /// A call of `after` was not answered in time. Slow calls are no reason to drop a connection, silence is.
    fn timed_out(&self, after: Duration) {
        if self.alive.lock().elapsed() >= after.max(SILENCE_MAX) {
            self.stuck.notify_one();
        }
    }
}

struct Waiting {
    request: PeerRequest,
    answer: oneshot::Sender<Result<PeerReply, String>>,
}

impl GrpcTransport {
    /// Reaches peers through `connector`.
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, streams: Mutex::default() }
    }

    fn stream(&self, to: NodeId, address: &str, lane: Lane) -> Arc<Stream> {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(&(to, lane))
            && stream.address == address
            && !stream.calls.is_closed()
        {
            return stream.clone();
        }
        let (calls, waiting) = mpsc::channel(WAITING_MAX);
        let health = Arc::new(Health::new());
        tokio::spawn(run(address.to_owned(), self.connector.clone(), waiting, health.clone()));
        let stream = Arc::new(Stream { address: address.to_owned(), calls, health });
        streams.insert((to, lane), stream.clone());
        stream
    }
}

impl Transport for GrpcTransport {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, TransportError>> {
        let stream = self.stream(to, address, lane);
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let asked = async {
                let waiting = Waiting { request, answer };
                if stream.calls.send(waiting).await.is_err() {
                    return Err("its stream ended".to_owned());
                }
                answered.await.unwrap_or_else(|_| Err("the connection was dropped".to_owned()))
            };
            match tokio::time::timeout(timeout, asked).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(reason)) => Err(TransportError::Unreachable { to, reason }),
                Err(_) => {
                    stream.health.timed_out(timeout);
                    Err(TransportError::TimedOut { to, after: timeout })
                }
            }
        })
    }
}

/// Serves one lane until nobody can call any more.
async fn run(
    address: String,
    connector: Arc<dyn Connector>,
    mut waiting: mpsc::Receiver<Waiting>,
    health: Arc<Health>,
) {
    while let Some(first) = waiting.recv().await {
        let reason = match exchange(&address, &connector, first, &mut waiting, &health).await {
            Ok(()) => return,
            Err(reason) => reason,
        };
        tracing::debug!(%address, %reason, "stream to a peer ended");
        // Whoever queued up behind it waited for this same connection.
        while let Ok(call) = waiting.try_recv() {
            let _ = call.answer.send(Err(reason.clone()));
        }
    }
}

/// Connects, sends `first` and what follows, and hands answers out until the stream breaks. `Ok` when no caller is left.
async fn exchange(
    address: &str,
    connector: &Arc<dyn Connector>,
    first: Waiting,
    waiting: &mut mpsc::Receiver<Waiting>,
    health: &Health,
) -> Result<(), String> {
    let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
    let opened = async {
        let channel = connect(address, connector.clone()).await?;
        let mut client = PeersClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        client.exchange(ReceiverStream::new(outgoing)).await.map_err(|status| status.to_string())
    };
    let opened = match tokio::time::timeout(CONNECT_TIMEOUT, opened).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err(format!("not connected within {CONNECT_TIMEOUT:?}")),
    };
    let mut replies = match opened {
        Ok(replies) => replies,
        Err(reason) => {
            let _ = first.answer.send(Err(reason.clone()));
            return Err(reason);
        }
    };
    // Under way, by number. Dropped with the stream, which tells their callers.
    // In order, so that a simulation repeats itself.
    let mut under_way = BTreeMap::new();
    let mut number = 0_u64;
    let mut next = Some(first);
    health.sign_of_life();
    loop {
        tokio::select! {
            biased;
            reply = replies.message() => match reply {
                Ok(Some(frame)) => {
                    health.sign_of_life();
                    let asker: Option<oneshot::Sender<_>> = under_way.remove(&frame.number);
                    if let (Some(asker), Some(reply)) = (asker, frame.reply) {
                        // It may have given up.
                        let _ = asker.send(Ok(reply));
                    }
                }
                Ok(None) => return Err("the peer closed the stream".to_owned()),
                Err(status) => return Err(status.to_string()),
            },
            () = health.stuck.notified() => {
                return Err("a call timed out and nothing was answered for a while".to_owned());
            }
            room = frames.reserve(), if next.is_some() => {
                let Ok(room) = room else {
                    return Err("the stream takes nothing more".to_owned());
                };
                if let Some(call) = next.take() {
                    number += 1;
                    under_way.insert(number, call.answer);
                    room.send(CallFrame { number, request: Some(call.request) });
                }
            }
            call = waiting.recv(), if next.is_none() => match call {
                Some(call) if call.answer.is_closed() => {}
                Some(call) => next = Some(call),
                None => return Ok(()),
            },
        }
    }
}

async fn connect(address: &str, connector: Arc<dyn Connector>) -> Result<tonic::transport::Channel, String> {
    let address = address.to_owned();
    // The uri only fills HTTP/2's authority; the connector gets the address as it is.
    let uri = format!("http://{address}");
    let endpoint = Endpoint::from_shared(uri.clone())
        .map_err(|error| format!("{uri} is no address: {error}"))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connect = tower::service_fn(move |_: Uri| {
        let opening = connector.connect(&address);
        async move { opening.await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connect).await.map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}
