//! Incoming peer calls: the gRPC service that reads the two streams of each peer and hands every call to the [`Host`].
//!
//! What a call means is in `host` and `receive`; encryption and who may connect are the node's.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::host::Host;
use crate::wire::proto::peers_server::{Peers, PeersServer};
use crate::wire::proto::{CallFrame, ReplyFrame};

/// Largest message in either direction. tonic's own default is 4 MiB in and unlimited out.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Calls of one stream that are carried out at a time: one append a group at most, and at most 256 groups a node.
const CALLS_MAX: usize = 256;

/// Replies that wait for the stream.
const REPLIES_MAX: usize = 64;

/// Receive windows: several messages may be under way before one was read.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A tonic server with the windows and socket options that peers count on. Add [`PeerService`] to it.
pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// The service of one node.
#[derive(Clone)]
pub struct PeerService {
    host: Host,
}

impl PeerService {
    /// Hands calls to `host`.
    pub fn new(host: Host) -> Self {
        Self { host }
    }

    /// As a tonic server, with its message limits set.
    pub fn into_server(self) -> PeersServer<Self> {
        PeersServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl Peers for PeerService {
    type ExchangeStream = ReceiverStream<Result<ReplyFrame, Status>>;

    fn exchange<'a, 'async_trait>(
        &'a self,
        request: Request<Streaming<CallFrame>>,
    ) -> BoxFuture<'async_trait, Result<Response<Self::ExchangeStream>, Status>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        let (replies, stream) = mpsc::channel(REPLIES_MAX);
        tokio::spawn(serve(self.host.clone(), request.into_inner(), replies));
        Box::pin(async move { Ok(Response::new(ReceiverStream::new(stream))) })
    }
}

/// Reads calls until the peer is gone; each is carried out beside the others.
async fn serve(host: Host, mut calls: Streaming<CallFrame>, replies: mpsc::Sender<Result<ReplyFrame, Status>>) {
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let call = tokio::select! {
            biased;
            () = host.until_stopped() => return,
            call = calls.message() => call,
        };
        let frame = match call {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "a peer's stream ended");
                return;
            }
        };
        let Some(request) = frame.request else {
            continue;
        };
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let (host, replies) = (host.clone(), replies.clone());
        tokio::spawn(async move {
            let reply = host.handle(request).await;
            // A peer that is gone wants no answer.
            let _ = replies.send(Ok(ReplyFrame { number: frame.number, reply: Some(reply) })).await;
            drop(permit);
        });
    }
}
