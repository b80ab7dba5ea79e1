//! openraft's network over a [`Transport`]: binds a group to one target, bounds the bytes of a message, ships snapshots
//! with what they refer to.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::applier::SnapshotData;
use crate::machine::{Attachments, Workers, on_worker};
use crate::net::transport::{Lane, Transport, TransportError};
use crate::store::log::READ_BYTES_MAX;
use crate::store::snapshot::PageSource;
use crate::timings::Timings;
use crate::types::{ClusterId, Entry, GroupId, NodeId, Peer, Snapshot, Types, Vote};
use crate::wire::proto::peer_reply::Answer;
use crate::wire::proto::peer_request::Call;
use crate::wire::{self, FORMAT, proto};

/// Pages in one snapshot message: 1 MiB at 32 KiB a page.
const SNAPSHOT_PAGES: usize = 32;

/// Time for one snapshot message: the receiver writes, and at the first one may clear an old transfer.
const SNAPSHOT_MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for the last one: the receiver verifies, makes it durable and restores its machine from it.
const SNAPSHOT_INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Largest attachment that fits a message.
const ATTACHMENT_BYTES_MAX: usize = 15 << 20;

/// Who calls, and through what: the same for all groups of a node.
pub(crate) struct Caller {
    pub node: NodeId,
    pub cluster: ClusterId,
    pub transport: Arc<dyn Transport>,
    pub timings: Timings,
    pub attachments: Arc<dyn Attachments>,
    pub workers: Arc<dyn Workers>,
}

/// A call that was answered by something else than its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("node {node} refused: {message}")]
    Refused { node: NodeId, message: String },
    #[error("node {node} gave an answer that does not fit: {message}")]
    Misfit { node: NodeId, message: String },
    #[error("local storage: {0}")]
    Local(#[from] io::Error),
}

impl From<CallError> for RPCError<Types> {
    fn from(error: CallError) -> Self {
        match error {
            // It has waited already: no further delay.
            CallError::Transport(TransportError::TimedOut { .. }) => RPCError::Network(NetworkError::new(&error)),
            CallError::Transport(TransportError::Unreachable { .. })
            | CallError::Refused { .. }
            | CallError::Misfit { .. }
            | CallError::Local(_) => RPCError::Unreachable(Unreachable::new(&error)),
        }
    }
}

impl Caller {
    pub(crate) async fn call(
        &self,
        to: NodeId,
        address: &str,
        group: GroupId,
        lane: Lane,
        call: Call,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let request = proto::PeerRequest {
            format: FORMAT,
            cluster: Bytes::copy_from_slice(&self.cluster.0.to_be_bytes()),
            from: self.node.0,
            to: to.0,
            group: group.0,
            call: Some(call),
        };
        let reply = self.transport.call(to, address, lane, request, timeout).await?;
        match reply.answer {
            Some(Answer::Refusal(refusal)) => Err(CallError::Refused { node: to, message: refusal.message }),
            Some(answer) if reply.format == FORMAT => Ok(answer),
            _ => Err(CallError::Misfit { node: to, message: format!("format {}", reply.format) }),
        }
    }
}

/// Makes a group's links to its peers.
pub(crate) struct Network {
    pub group: GroupId,
    pub caller: Arc<Caller>,
}

impl Network {
    pub(crate) fn link(&self, target: NodeId, peer: &Peer, lane: Lane) -> Link {
        Link { group: self.group, caller: self.caller.clone(), target, address: peer.address.clone(), lane }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, peer: &Peer) -> Link {
        self.link(target, peer, Lane::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, peer: &Peer) -> Link {
        self.link(target, peer, Lane::Liveness)
    }
}

/// One group's way to one peer.
pub(crate) struct Link {
    group: GroupId,
    caller: Arc<Caller>,
    target: NodeId,
    address: String,
    /// Which lane carries its appends.
    lane: Lane,
}

fn misfit(node: NodeId, what: &str) -> CallError {
    CallError::Misfit { node, message: format!("not an answer to {what}") }
}

impl Link {
    async fn call(&self, lane: Lane, call: Call, timeout: Duration) -> Result<Answer, CallError> {
        self.caller.call(self.target, &self.address, self.group, lane, call, timeout).await
    }

    fn read_answer<T>(&self, read: Result<T, wire::Malformed>) -> Result<T, CallError> {
        read.map_err(|error| CallError::Misfit { node: self.target, message: error.to_string() })
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<Types>,
        pre: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let call = wire::vote_call_out(&request);
        let call = if pre { Call::PreVote(call) } else { Call::Vote(call) };
        match self.call(Lane::Liveness, call, option.soft_ttl()).await? {
            Answer::Vote(answer) => Ok(self.read_answer(wire::vote_answer_in(answer))?),
            _ => Err(misfit(self.target, "a vote").into()),
        }
    }

    /// Sends everything the receiver needs, one bounded message at a time.
    pub(crate) async fn ship(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<Types>, CallError> {
        let stored = snapshot.snapshot.0;
        let begin = Call::SnapshotBegin(proto::SnapshotBegin {
            vote: Some(wire::vote_out(&vote)),
            manifest: Some(stored.manifest().clone()),
        });
        let ready = match self.call(Lane::Bulk, begin, SNAPSHOT_MESSAGE_TIMEOUT).await? {
            Answer::SnapshotReady(ready) => ready,
            _ => return Err(misfit(self.target, "the beginning of a snapshot")),
        };
        let transfer = ready.transfer;
        for hash in ready.missing {
            let body = self.read_attachment(&hash).await?;
            let part = Call::SnapshotAttachment(proto::SnapshotAttachment { transfer, hash, body });
            self.taken(part).await?;
        }
        let mut pages = on_worker(self.caller.workers.as_ref(), move || stored.pages()).await?;
        let mut first = 0;
        loop {
            let (back, batch) = on_worker(self.caller.workers.as_ref(), move || {
                let batch = next_pages(pages.as_mut())?;
                Ok((pages, batch))
            })
            .await?;
            pages = back;
            if batch.is_empty() {
                break;
            }
            let count = batch.len() as u64;
            let part = Call::SnapshotPages(proto::SnapshotPages {
                transfer,
                first,
                checksums: batch.iter().map(|page| crc32c::crc32c(page)).collect(),
                pages: batch,
            });
            self.taken(part).await?;
            first += count;
        }
        let end = Call::SnapshotEnd(proto::SnapshotEnd { transfer });
        match self.call(Lane::Bulk, end, SNAPSHOT_INSTALL_TIMEOUT).await? {
            Answer::SnapshotInstalled(installed) => match installed.vote {
                Some(vote) => Ok(SnapshotResponse::new(wire::vote_in(&vote))),
                None => Err(misfit(self.target, "the end of a snapshot")),
            },
            _ => Err(misfit(self.target, "the end of a snapshot")),
        }
    }

    async fn taken(&self, part: Call) -> Result<(), CallError> {
        match self.call(Lane::Bulk, part, SNAPSHOT_MESSAGE_TIMEOUT).await? {
            Answer::SnapshotTaken(_) => Ok(()),
            _ => Err(misfit(self.target, "a part of a snapshot")),
        }
    }

    async fn read_attachment(&self, hash: &Bytes) -> io::Result<Bytes> {
        let key: [u8; 32] = hash[..].try_into().map_err(|_| io::Error::other("an attachment hash has not 32 bytes"))?;
        let attachments = self.caller.attachments.clone();
        let body = on_worker(self.caller.workers.as_ref(), move || attachments.read(&key)).await?;
        match body {
            Some(body) if body.len() <= ATTACHMENT_BYTES_MAX => Ok(body),
            Some(body) => {
                Err(io::Error::other(format!("an attachment of {} bytes exceeds {ATTACHMENT_BYTES_MAX}", body.len())))
            }
            None => Err(io::Error::other("an attachment that the snapshot names is missing here")),
        }
    }
}

fn next_pages(pages: &mut dyn PageSource) -> io::Result<Vec<Bytes>> {
    let mut batch = Vec::with_capacity(SNAPSHOT_PAGES);
    while batch.len() < SNAPSHOT_PAGES {
        match pages.next()? {
            Some(page) => batch.push(page),
            None => break,
        }
    }
    Ok(batch)
}

/// How many of `entries` fit one message; at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    for (count, entry) in entries.iter().enumerate() {
        if let openraft::EntryPayload::Normal(data) = &entry.payload {
            bytes += data.0.len();
        }
        if bytes > READ_BYTES_MAX && count > 0 {
            return count;
        }
    }
    entries.len()
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let timeout = match self.lane {
            Lane::Liveness => option.soft_ttl(),
            Lane::Bulk => self.caller.timings.bulk_timeout(),
        };
        // The log reader already bounds what it hands out; this holds whoever made the request.
        let count = fitting(&request.entries);
        let call = Call::Append(wire::append_out(&request, count));
        let answer = match self.call(self.lane, call, timeout).await? {
            Answer::Append(answer) => self.read_answer(wire::append_answer_in(answer))?,
            _ => return Err(misfit(self.target, "an append").into()),
        };
        Ok(match answer {
            AppendEntriesResponse::Success if count < request.entries.len() => {
                AppendEntriesResponse::PartialSuccess(Some(request.entries[count - 1].log_id))
            }
            other => other,
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(request, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            shipped = self.ship(vote, snapshot) => shipped.map_err(|error| {
                tracing::warn!(group = %self.group, to = %self.target, %error, "snapshot not shipped");
                match error {
                    CallError::Transport(TransportError::TimedOut { .. }) => {
                        StreamingError::Network(NetworkError::new(&error))
                    }
                    _ => StreamingError::Unreachable(Unreachable::new(&error)),
                }
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let call = Call::Transfer(wire::transfer_out(&request));
        match self.call(Lane::Liveness, call, option.soft_ttl()).await? {
            Answer::Transfer(answer) => Ok(self.read_answer(wire::transfer_answer_in(answer))?),
            _ => Err(misfit(self.target, "a hand-over").into()),
        }
    }
}
