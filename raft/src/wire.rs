//! openraft's types to and from the messages of `proto/raft.proto`, for peers and for the small records on disk.
//!
//! The one place where the two meet. Entry payloads are `Bytes` on both sides: encoding a call copies them once, into
//! the socket's buffer, and decoding takes a slice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use prost::Message;

use crate::types::{Data, Entry, LeaderId, LeaderTerm, LogId, Members, NodeId, Peer, StoredMembers, Types, Vote};

/// Generated messages and service.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("reckoner.raft.v1");
}

/// Format of peer messages and of the records that this module writes to disk.
pub const FORMAT: u32 = 1;

/// A message that cannot be read: what was wrong with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub String);

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, malformed.to_string())
    }
}

fn part<T>(value: Option<T>, name: &str) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed(format!("{name} is missing")))
}

pub(crate) fn position_out(id: &LogId) -> proto::LogPosition {
    proto::LogPosition { term: id.leader_id.term, index: id.index }
}

pub(crate) fn position_in(position: &proto::LogPosition) -> LogId {
    LogId { leader_id: LeaderTerm { term: position.term }, index: position.index }
}

fn position_maybe(position: &Option<proto::LogPosition>) -> Option<LogId> {
    position.as_ref().map(position_in)
}

pub(crate) fn vote_out(vote: &Vote) -> proto::Vote {
    proto::Vote { term: vote.leader_id.term, node: vote.leader_id.voted_for.0, committed: vote.committed }
}

pub(crate) fn vote_in(vote: &proto::Vote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, voted_for: NodeId(vote.node) }, committed: vote.committed }
}

pub(crate) fn members_out(members: &Members) -> proto::Membership {
    proto::Membership {
        configs: members
            .get_joint_config()
            .iter()
            .map(|config| proto::Voters { nodes: config.iter().map(|node| node.0).collect() })
            .collect(),
        members: members
            .nodes()
            .map(|(node, peer)| proto::Member { node: node.0, address: peer.address.clone() })
            .collect(),
    }
}

pub(crate) fn members_in(membership: &proto::Membership) -> Result<Members, Malformed> {
    let configs: Vec<BTreeSet<NodeId>> =
        membership.configs.iter().map(|config| config.nodes.iter().copied().map(NodeId).collect()).collect();
    let nodes: BTreeMap<NodeId, Peer> = membership
        .members
        .iter()
        .map(|member| (NodeId(member.node), Peer { address: member.address.clone() }))
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Members::default());
    }
    Members::new(configs, nodes).map_err(|error| Malformed(format!("membership: {error}")))
}

/// Kind and payload of an entry, as they travel and as they are stored.
pub(crate) fn payload_out(entry: &Entry) -> (proto::EntryKind, Bytes) {
    match &entry.payload {
        EntryPayload::Blank => (proto::EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(data) => (proto::EntryKind::Normal, data.0.clone()),
        EntryPayload::Membership(members) => {
            (proto::EntryKind::Membership, members_out(members).encode_to_vec().into())
        }
    }
}

pub(crate) fn entry_in(term: u64, index: u64, kind: i32, payload: Bytes) -> Result<Entry, Malformed> {
    let payload = match proto::EntryKind::try_from(kind) {
        Ok(proto::EntryKind::Blank) => EntryPayload::Blank,
        Ok(proto::EntryKind::Normal) => EntryPayload::Normal(Data(payload)),
        Ok(proto::EntryKind::Membership) => {
            let membership = proto::Membership::decode(payload)
                .map_err(|error| Malformed(format!("membership of entry {index}: {error}")))?;
            EntryPayload::Membership(members_in(&membership)?)
        }
        Err(_) => return Err(Malformed(format!("entry {index} has unknown kind {kind}"))),
    };
    Ok(Entry { log_id: LogId { leader_id: LeaderTerm { term }, index }, payload })
}

pub(crate) fn append_out(request: &AppendEntriesRequest<Types>, count: usize) -> proto::AppendCall {
    proto::AppendCall {
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(position_out),
        entries: request.entries[..count]
            .iter()
            .map(|entry| {
                let (kind, payload) = payload_out(entry);
                proto::Entry {
                    term: entry.log_id.leader_id.term,
                    index: entry.log_id.index,
                    kind: kind.into(),
                    payload,
                }
            })
            .collect(),
        committed: request.leader_commit.as_ref().map(position_out),
    }
}

pub(crate) fn append_in(call: proto::AppendCall) -> Result<AppendEntriesRequest<Types>, Malformed> {
    let mut entries = Vec::with_capacity(call.entries.len());
    for entry in call.entries {
        entries.push(entry_in(entry.term, entry.index, entry.kind, entry.payload)?);
    }
    Ok(AppendEntriesRequest {
        vote: vote_in(&part(call.vote, "vote")?),
        prev_log_id: position_maybe(&call.previous),
        entries,
        leader_commit: position_maybe(&call.committed),
    })
}

pub(crate) fn append_answer_out(answer: AppendEntriesResponse<Types>) -> proto::AppendAnswer {
    use proto::append_answer::Result as Answer;
    let result = match answer {
        AppendEntriesResponse::Success => Answer::Success(true),
        AppendEntriesResponse::PartialSuccess(through) => {
            Answer::Partial(proto::Partial { through: through.as_ref().map(position_out) })
        }
        AppendEntriesResponse::Conflict => Answer::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(vote_out(&vote)),
    };
    proto::AppendAnswer { result: Some(result) }
}

pub(crate) fn append_answer_in(answer: proto::AppendAnswer) -> Result<AppendEntriesResponse<Types>, Malformed> {
    use proto::append_answer::Result as Answer;
    Ok(match part(answer.result, "result of an append")? {
        Answer::Success(_) => AppendEntriesResponse::Success,
        Answer::Partial(partial) => AppendEntriesResponse::PartialSuccess(position_maybe(&partial.through)),
        Answer::Conflict(_) => AppendEntriesResponse::Conflict,
        Answer::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_in(&vote)),
    })
}

pub(crate) fn vote_call_out(request: &VoteRequest<Types>) -> proto::VoteCall {
    proto::VoteCall {
        vote: Some(vote_out(&request.vote)),
        last: request.last_log_id.as_ref().map(position_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_call_in(call: proto::VoteCall) -> Result<VoteRequest<Types>, Malformed> {
    let mut request = VoteRequest::new(vote_in(&part(call.vote, "vote")?), position_maybe(&call.last));
    request.leadership_transfer = call.leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_answer_out(answer: &VoteResponse<Types>) -> proto::VoteAnswer {
    proto::VoteAnswer {
        vote: Some(vote_out(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(position_out),
    }
}

pub(crate) fn vote_answer_in(answer: proto::VoteAnswer) -> Result<VoteResponse<Types>, Malformed> {
    Ok(VoteResponse {
        vote: vote_in(&part(answer.vote, "vote of an answer")?),
        vote_granted: answer.granted,
        last_log_id: position_maybe(&answer.last),
    })
}

pub(crate) fn transfer_out(request: &TransferLeaderRequest<Types>) -> proto::TransferCall {
    proto::TransferCall {
        from_leader: Some(vote_out(request.from_leader())),
        to_node: request.to_node_id().0,
        last: request.last_log_id().map(position_out),
    }
}

pub(crate) fn transfer_in(call: proto::TransferCall) -> Result<TransferLeaderRequest<Types>, Malformed> {
    Ok(TransferLeaderRequest::new(
        vote_in(&part(call.from_leader, "vote of the leader")?),
        NodeId(call.to_node),
        position_maybe(&call.last),
    ))
}

pub(crate) fn transfer_answer_out(answer: openraft::raft::TransferLeaderResponse<Types>) -> proto::TransferAnswer {
    use openraft::raft::TransferLeaderError as Refused;
    use proto::transfer_answer::Result as Answer;
    let result = match answer {
        Ok(()) => Answer::Accepted(true),
        Err(Refused::VoteChanged { expected, actual }) => Answer::VoteChanged(proto::VoteChanged {
            expected: Some(vote_out(&expected)),
            actual: Some(vote_out(&actual)),
        }),
        Err(Refused::LogNotFlushed { expected, actual }) => Answer::LogNotFlushed(proto::LogNotFlushed {
            expected: expected.as_ref().map(position_out),
            actual: actual.as_ref().map(position_out),
        }),
    };
    proto::TransferAnswer { result: Some(result) }
}

pub(crate) fn transfer_answer_in(
    answer: proto::TransferAnswer,
) -> Result<openraft::raft::TransferLeaderResponse<Types>, Malformed> {
    use openraft::raft::TransferLeaderError as Refused;
    use proto::transfer_answer::Result as Answer;
    Ok(match part(answer.result, "result of a hand-over")? {
        Answer::Accepted(_) => Ok(()),
        Answer::VoteChanged(changed) => Err(Refused::VoteChanged {
            expected: vote_in(&part(changed.expected, "expected vote")?),
            actual: vote_in(&part(changed.actual, "actual vote")?),
        }),
        Answer::LogNotFlushed(behind) => Err(Refused::LogNotFlushed {
            expected: position_maybe(&behind.expected),
            actual: position_maybe(&behind.actual),
        }),
    })
}

pub(crate) fn stored_members_in(manifest: &proto::Manifest) -> Result<StoredMembers, Malformed> {
    let members = match &manifest.membership {
        Some(membership) => members_in(membership)?,
        None => Members::default(),
    };
    Ok(StoredMembers::new(position_maybe(&manifest.membership_position), members))
}

/// A small record on disk: a message with a format byte before it and a crc32c behind it.
pub(crate) fn record_out(message: &impl Message) -> Bytes {
    let mut bytes = vec![FORMAT as u8];
    message.encode(&mut bytes).expect("a vector takes any message");
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

pub(crate) fn record_in<M: Message + Default>(bytes: &[u8], name: &str) -> Result<M, Malformed> {
    let Some(split) = bytes.len().checked_sub(4) else {
        return Err(Malformed(format!("{name} has {} bytes, too few for a record", bytes.len())));
    };
    let (body, checksum) = bytes.split_at(split);
    let stored = u32::from_le_bytes(checksum.try_into().expect("split at four bytes"));
    let found = crc32c::crc32c(body);
    if stored != found {
        return Err(Malformed(format!("{name} has checksum {found:08x}, {stored:08x} was stored")));
    }
    match body.split_first() {
        Some((format, message)) if u32::from(*format) == FORMAT => {
            M::decode(message).map_err(|error| Malformed(format!("{name}: {error}")))
        }
        Some((format, _)) => Err(Malformed(format!("{name} has format {format}, this version reads {FORMAT}"))),
        None => Err(Malformed(format!("{name} is empty"))),
    }
}
