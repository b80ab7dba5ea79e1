//! The nodes' own door: read indexes, fold hashes, state hashes, ids for new nodes, leaders that hand over.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::Message as _;
use reckoner_raft::machine::Position;
use reckoner_raft::types::NodeId;
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::CycleId;
use tonic::{Request, Response, Status, async_trait};

use super::cluster;
use super::roster::{self, Asked};
use super::status::Trouble;
use crate::context::Context;
use crate::data::reach::{self, Freshness};
use crate::data::{billing, directory};
use crate::internal::internal_server::Internal;
use crate::internal::{
    ContentPart, ContentRequest, CutCycle, DescribeReply, DescribeRequest, DigestReply, DigestRequest, FoldedReply,
    FoldedRequest, HandOverReply, HandOverRequest, HelloReply, HelloRequest, JoinReply, JoinRequest, MembersReply,
    MembersRequest, ProposeReply, ProposeRequest, ReadIndexReply, ReadIndexRequest, RecogniseReply, RecogniseRequest,
    RootsPart, RootsRequest, SlotHash, StateHashReply, StateHashRequest,
};
use crate::meta::command::{self as meta, Command as MetaCommand, NodeState};
use crate::meta::survival::Former;
use crate::placer;
use crate::recognition;
use crate::workers;

/// How long the leader may look for its majority.
const BARRIER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// How long a new leader may take to be known.
const HANDOVER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Longest address of a node; a host name has 253 bytes at most.
const ADDRESS_BYTES_MAX: usize = 300;

/// Bytes of one part of a bill or an archive.
const CONTENT_PART_BYTES: usize = 1 << 20;

/// The door.
pub struct Door(pub Arc<Context>);

impl Door {
    async fn barrier(&self, shard: u32) -> Result<Position, Trouble> {
        let epoch = self.0.meta.state().epoch();
        let group = match shard {
            0 => self.0.meta.group().clone(),
            _ => reach::replica(&self.0, ShardId(shard))?.group().clone(),
        };
        group.read_barrier(BARRIER_TIMEOUT).await.map_err(|error| Trouble::of_group(error, shard, epoch))
    }
}

fn accounts_in(names: &[String]) -> Result<Vec<AccountId>, Trouble> {
    names.iter().map(|name| AccountId::new(name).map_err(|error| Trouble::invalid(error.to_string()))).collect()
}

fn cycles_in(asked: &[CutCycle]) -> Result<Vec<(AccountId, CycleId)>, Trouble> {
    let read = |asked: &CutCycle| {
        let root = AccountId::new(&asked.root).map_err(|error| Trouble::invalid(error.to_string()))?;
        let cycle = CycleId::from_ordinal(asked.cycle)
            .ok_or_else(|| Trouble::invalid(format!("cycle {} is out of range", asked.cycle)))?;
        Ok((root, cycle))
    };
    asked.iter().map(read).collect()
}

#[async_trait]
impl Internal for Door {
    async fn read_index(&self, request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        let position = self.barrier(request.into_inner().shard).await?;
        Ok(Response::new(ReadIndexReply { index: position.index, term: position.term }))
    }

    async fn folded(&self, request: Request<FoldedRequest>) -> Result<Response<FoldedReply>, Status> {
        let request = request.into_inner();
        let shard = reach::replica(&self.0, ShardId(request.shard))?;
        let read = shard.view(None).await.map_err(|error| Trouble::of_group(error, request.shard, 0))?;
        let mut hashes = Vec::with_capacity(request.cycles.len());
        for (root, cycle) in cycles_in(&request.cycles)? {
            let folded = shard.folds().so_far(&read.view, &root, cycle).and_then(Result::ok);
            hashes.push(folded.map(|billed| billing::digest(&billed).to_vec().into()).unwrap_or_default());
        }
        Ok(Response::new(FoldedReply { hashes }))
    }

    async fn archives(&self, request: Request<FoldedRequest>) -> Result<Response<FoldedReply>, Status> {
        let request = request.into_inner();
        let shard = reach::replica(&self.0, ShardId(request.shard))?;
        let read = shard.view(None).await.map_err(|error| Trouble::of_group(error, request.shard, 0))?;
        let cycles = cycles_in(&request.cycles)?;
        let is_issued = |(root, cycle): &(AccountId, CycleId)| {
            read.view.cycle_status(root, *cycle) == Ok(reckoner_shard::billing::cycle::Status::Issued)
        };
        let issued: Vec<_> = cycles.iter().filter(|asked| is_issued(asked)).cloned().collect();
        let made = shard.folds().archive(&read.view, issued).await.map_err(Trouble::unavailable)?;
        let hash = |(root, cycle): &(AccountId, CycleId)| {
            let own = made.iter().find(|(own, of, _)| (own, of) == (root, cycle));
            own.map(|(.., hash)| hash.to_vec().into()).unwrap_or_default()
        };
        Ok(Response::new(FoldedReply { hashes: cycles.iter().map(hash).collect() }))
    }

    async fn digest(&self, request: Request<DigestRequest>) -> Result<Response<DigestReply>, Status> {
        let DigestRequest { shard, index, places } = request.into_inner();
        let (id, checks) = (ShardId(shard), &self.0.checks);
        // In this order: what was coming a moment ago may be here now.
        let applied = self.0.shards.get(id).and_then(|shard| shard.group().status().applied);
        let is_coming = checks.is_coming(id, index);
        let Some(digest) = checks.digest(id, index) else {
            let passed = !is_coming && applied.is_some_and(|applied| applied.index >= index);
            return Ok(Response::new(DigestReply { passed, ..DigestReply::default() }));
        };
        let bytes = |hash: &Hash| bytes::Bytes::copy_from_slice(hash);
        let slot = |(slot, hash): (&u16, &Hash)| SlotHash { slot: (*slot).into(), hash: bytes(hash) };
        let slots = if places { digest.slots.iter().map(slot).collect() } else { Vec::new() };
        let rest = if places { bytes(&digest.rest) } else { bytes::Bytes::new() };
        Ok(Response::new(DigestReply { whole: bytes(&digest.whole()), passed: false, rest, slots }))
    }

    async fn hello(&self, _request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (node, now_ns, machine) = (self.0.node, self.0.clock.now().0, self.0.machine);
        let cluster = self.0.cluster.to_be_bytes().to_vec().into();
        Ok(Response::new(HelloReply { node, version, now_ns, cluster, run: self.0.run, machine }))
    }

    async fn recognise(&self, request: Request<RecogniseRequest>) -> Result<Response<RecogniseReply>, Status> {
        let RecogniseRequest { cluster, node } = request.into_inner();
        let asked = cluster.as_ref().try_into().map(u128::from_be_bytes);
        let asked = asked.map_err(|_| Trouble::invalid("a cluster's id has 16 bytes"))?;
        let state = self.0.meta.state();
        let own = state.cluster().map(|own| format!("{own:032x}")).unwrap_or_default();
        let mut reply = RecogniseReply { cluster: own, ..RecogniseReply::default() };
        if state.cluster() == Some(asked) {
            if let Some(row) = state.node(node) {
                let removed = row.state() == NodeState::Removed;
                reply.standing = if removed { recognition::REMOVED } else { recognition::MEMBER };
                (reply.address, reply.seen) = (row.address.clone(), row.seen);
            }
        } else {
            reply.standing = match state.former(asked) {
                Some(Former::Recovered) => recognition::RECOVERED,
                Some(Former::Restored) => recognition::RESTORED,
                None => recognition::UNKNOWN,
            };
        }
        Ok(Response::new(reply))
    }

    async fn state_hash(&self, request: Request<StateHashRequest>) -> Result<Response<StateHashReply>, Status> {
        let id = request.into_inner().shard;
        let shard = reach::replica(&self.0, ShardId(id))?;
        let (position, hash) = shard.hash().await.map_err(|error| Trouble::of_group(error, id, 0))?;
        Ok(Response::new(StateHashReply { index: position.index, hash: hash.to_vec().into() }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let JoinRequest { address, ticket } = request.into_inner();
        if ticket.len() != 16 || address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            let message = format!("a node joins with 16 random bytes and an address of 1 to {ADDRESS_BYTES_MAX} bytes");
            return Err(Trouble::invalid(message).into());
        }
        let state = self.0.meta.state();
        let Some(cluster) = state.cluster() else {
            return Err(Trouble::unavailable("the cluster is being founded; try again").into());
        };
        let outcome = placer::propose(&self.0, MetaCommand::Join(meta::Join { address, ticket })).await?;
        let cluster = cluster.to_be_bytes().to_vec().into();
        Ok(Response::new(JoinReply { cluster, node: outcome.node, shards: state.replicas().len() as u32 }))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeReply>, Status> {
        let entry = request.into_inner().entry;
        let entry = meta::Entry::decode(entry).map_err(|error| Trouble::invalid(error.to_string()))?;
        let command = entry.command.ok_or_else(|| Trouble::invalid("an entry without a command"))?;
        let outcome = self.0.meta.propose(command).await.map_err(|error| Trouble::of_group(error, 0, 0))?;
        Ok(Response::new(ProposeReply { outcome: outcome.encode_to_vec().into() }))
    }

    async fn members(&self, request: Request<MembersRequest>) -> Result<Response<MembersReply>, Status> {
        let MembersRequest { shard, fresh, accounts } = request.into_inner();
        let accounts = accounts_in(&accounts)?;
        let found = directory::here(&self.0, ShardId(shard), &accounts, fresh).await?;
        Ok(Response::new(MembersReply { accounts: found.into_iter().map(directory::members_out).collect() }))
    }

    async fn roots(&self, request: Request<RootsRequest>) -> Result<Response<RootsPart>, Status> {
        let request = request.into_inner();
        let (roots, cycle) = (accounts_in(&request.roots)?, CycleId::from_ordinal(request.cycle));
        let asked = Asked { roots, cycle: cycle.filter(|_| request.cycle > 0), details: request.details };
        let freshness = request.at_least.map_or(Freshness::Linearizable, Freshness::AtLeast);
        let part = roster::here(&self.0, ShardId(request.shard), &asked, freshness).await?;
        Ok(Response::new(roster::part_out(part)))
    }

    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        let shard = request.into_inner().shard;
        reach::replica(&self.0, ShardId(shard))?;
        let status = cluster::shard_here(&self.0, shard).await.unwrap_or_default();
        Ok(Response::new(DescribeReply { status: status.encode_to_vec().into() }))
    }

    type ContentStream = BoxStream<'static, Result<ContentPart, Status>>;

    async fn content(&self, request: Request<ContentRequest>) -> Result<Response<Self::ContentStream>, Status> {
        let hash = request.into_inner().hash;
        let hash: Hash = hash.as_ref().try_into().map_err(|_| Trouble::invalid("a hash has 32 bytes"))?;
        let bills = self.0.bills.clone();
        let found = workers::run(self.0.workers.as_ref(), move || bills.get(None, &hash)).await;
        let found = found.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
        let bytes = found.map_err(|error| Trouble::unavailable(error.to_string()))?;
        let Some(bytes) = bytes else {
            let detail = format!("nothing is here under {}", hex(&hash));
            return Err(Trouble::Refused(Refusal::new(Reason::NotFound, detail)).into());
        };
        let starts = (0..bytes.len()).step_by(CONTENT_PART_BYTES);
        let part =
            move |start: usize| ContentPart { bytes: bytes.slice(start..bytes.len().min(start + CONTENT_PART_BYTES)) };
        Ok(Response::new(stream::iter(starts.map(part).map(Ok)).boxed()))
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Result<Response<HandOverReply>, Status> {
        let HandOverRequest { shard, to } = request.into_inner();
        let group = reach::replica(&self.0, ShardId(shard))?.group().clone();
        let handed = group.transfer_leader(NodeId(to), HANDOVER_TIMEOUT).await;
        handed.map_err(|error| Trouble::of_group(error, shard, 0))?;
        Ok(Response::new(HandOverReply {}))
    }
}
