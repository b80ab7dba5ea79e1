//! How a call reaches another node, as a trait. gRPC in service (see [`crate::net::peer`]); tests put faults around
//! whatever implements it.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::types::NodeId;
pub use crate::wire::proto::{PeerReply, PeerRequest};

/// Which of the two streams to a peer carries a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, leader hand-over: small, never behind a large message.
    Liveness,
    /// Entries and snapshots.
    Bulk,
}

/// A call that got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer cannot be reached, or the stream broke; the call may have arrived.
    #[error("node {to} is unreachable: {reason}")]
    Unreachable {
        /// Who was called.
        to: NodeId,
        /// What the connection said.
        reason: String,
    },
    /// No answer came in time; the call may have arrived.
    #[error("node {to} did not answer within {after:?}")]
    TimedOut {
        /// Who was called.
        to: NodeId,
        /// The time allowed.
        after: Duration,
    },
}

/// Carries calls to other nodes.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` to node `to` at `address` and waits for its reply, at most `timeout`. Calls may overtake each
    /// other. An implementation drops a connection that let a call time out and gave no other sign of life.
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, TransportError>>;
}
