//! Reaching a shard from any node: commands to whoever leads it, reads as fresh as asked, documents from whoever has
//! them. Every command here is safe to repeat, so what is unknown is simply sent again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reckoner_client::proto::catalogue_client::CatalogueClient;
use reckoner_client::proto::cluster_client::ClusterClient;
use reckoner_client::proto::execute_request::Target;
use reckoner_client::proto::{BlobRequest, ExecuteRequest, Redirect};
use reckoner_raft::error::Error;
use reckoner_raft::machine::Position;
use reckoner_shard::base::id::{ShardId, Slot};
use reckoner_shard::base::refusal::Reason;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::codec;
use reckoner_shard::machine::command::{Command, CommandOutcome};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::shard::{Read, Shard, outcomes_of};
use crate::api::status::Trouble;
use crate::context::Context;
use crate::internal::internal_client::InternalClient;
use crate::internal::{HelloReply, HelloRequest, ReadIndexRequest};
use crate::meta::command::NodeRow;
use crate::store::content::Hash;
use crate::workers;

/// How long a command may look for its leader: an election and its retry.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a read may wait for its leader or its position.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// One call between nodes.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// Largest message between nodes, in either direction.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Largest answer of another node about all hierarchies of a shard: about a hundred bytes each.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// How long a node may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_millis(500);

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It sees everything acknowledged before it began.
    Linearizable,
    /// It sees at least this index of the shard's log.
    AtLeast(u64),
}

/// The shard that owns `slot`.
pub fn shard_of(context: &Context, slot: Slot) -> Result<ShardId, Trouble> {
    let map = context.meta.map().ok_or_else(|| Trouble::unavailable("the cluster is being founded; try again"))?;
    Ok(map.shard_of(slot))
}

/// The shard's replica here.
pub fn replica(context: &Context, shard: ShardId) -> Result<Shard, Trouble> {
    if let Some(found) = context.shards.get(shard) {
        return Ok(found);
    }
    let state = context.meta.state();
    let Some(row) = state.replicas().iter().find(|row| row.shard == shard.0) else {
        return Err(match state.is_founded() {
            // It was given up, or this node has not heard of it yet.
            true => {
                let epoch = state.epoch();
                let redirect =
                    Redirect { shard: shard.0, leader_node: 0, leader_address: String::new(), map_epoch: epoch };
                Trouble::wrong_shard(format!("node {} knows no shard {shard}", context.node), redirect)
            }
            false => Trouble::unavailable("the cluster is being founded; try again"),
        });
    };
    if row.nodes.contains(&context.node) {
        return Err(Trouble::unavailable(format!("shard {shard} is not open on this node yet; try again")));
    }
    let other = row.nodes.first().copied().unwrap_or_default();
    let redirect = Redirect {
        shard: shard.0,
        leader_node: other,
        leader_address: state.address(other).unwrap_or_default().to_owned(),
        map_epoch: state.epoch(),
    };
    Err(Trouble::wrong_shard(format!("node {} has no replica of shard {shard}", context.node), redirect))
}

/// Carries out `commands` in `shard`, wherever it is led.
pub async fn execute(
    context: &Arc<Context>,
    shard: ShardId,
    commands: &[Command],
) -> Result<(Vec<CommandOutcome>, Position), Trouble> {
    let deadline = Instant::now() + PATIENCE;
    for attempt in 0.. {
        let trouble = match execute_once(context, shard, commands, attempt).await {
            Ok(done) => return Ok(done),
            Err(trouble @ (Trouble::Refused(_) | Trouble::Invalid { .. })) => return Err(trouble),
            Err(trouble) => trouble,
        };
        let over = context.stopping.is_cancelled() || context.fate.sealed().is_some();
        if Instant::now() + RETRY >= deadline || over {
            return Err(trouble);
        }
        sleep(RETRY).await;
    }
    unreachable!("it ends with an answer or at its deadline")
}

/// The same in the shard that owns `slot`, wherever it goes meanwhile.
pub async fn execute_in(
    context: &Arc<Context>,
    slot: Slot,
    commands: &[Command],
) -> Result<(ShardId, Vec<CommandOutcome>, Position), Trouble> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shard = shard_of(context, slot)?;
        let (outcomes, position) = execute(context, shard, commands).await?;
        let moved = outcomes.iter().any(|outcome| match outcome {
            CommandOutcome::Refused(refusal) => matches!(refusal.reason, Reason::SlotMoving | Reason::WrongShard),
            CommandOutcome::Done(_) => false,
        });
        if !moved || Instant::now() + RETRY >= deadline || context.stopping.is_cancelled() {
            return Ok((shard, outcomes, position));
        }
        sleep(RETRY).await;
    }
}

async fn execute_once(
    context: &Arc<Context>,
    id: ShardId,
    commands: &[Command],
    attempt: usize,
) -> Result<(Vec<CommandOutcome>, Position), Trouble> {
    let epoch = context.meta.state().epoch();
    let of_group = |error| Trouble::of_group(error, id.0, epoch);
    let leader = match context.shards.get(id) {
        Some(shard) if shard.leads() => return shard.command(commands).await.map_err(of_group),
        Some(shard) => shard.leader().map(|(_, address)| address),
        None => {
            let state = context.meta.state();
            let row = state.replicas().iter().find(|row| row.shard == id.0);
            // Nobody says here who leads: each of its nodes in turn.
            row.and_then(|row| state.address(*row.nodes.get(attempt % row.nodes.len().max(1))?)).map(str::to_owned)
        }
    };
    let Some(address) = leader else {
        return Err(Trouble::unavailable(format!("nobody leads shard {id} now; try again")));
    };
    let mut client = ClusterClient::new(channel(context, &address)?)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let request = ExecuteRequest {
        target: Some(Target::Shard(id.0)),
        commands: codec::encode_commands(Timestamp(0), 0, commands).into(),
        map_epoch: epoch,
    };
    let reply = match timeout(CALL_TIMEOUT, client.execute(request)).await {
        Err(_) => return Err(Trouble::Unknown { message: format!("{address} did not answer in {CALL_TIMEOUT:?}") }),
        Ok(Err(status)) => return Err(Trouble::Unknown { message: format!("{address}: {}", status.message()) }),
        Ok(Ok(reply)) => reply.into_inner(),
    };
    let position = reply.position.unwrap_or_default();
    let outcomes = outcomes_of(&reply.outcome).map_err(of_group)?;
    Ok((outcomes, Position { index: position.index, term: position.term }))
}

/// A view of a shard, or of one slot of it, that is as fresh as asked. Any replica can serve it: one that does not lead asks the leader how far
/// a linearizable read must see, and waits until it is there.
pub async fn read(
    context: &Arc<Context>,
    id: ShardId,
    slot: Option<Slot>,
    freshness: Freshness,
) -> Result<Read, Trouble> {
    let shard = replica(context, id)?;
    let epoch = context.meta.state().epoch();
    let of_group = |error| Trouble::of_group(error, id.0, epoch);
    let seen = match freshness {
        Freshness::AtLeast(index) => {
            shard.group().wait_applied(index, READ_PATIENCE).await.map_err(of_group)?;
            None
        }
        Freshness::Linearizable => Some(read_index(context, &shard).await?),
    };
    let mut read = shard.view(slot).await.map_err(of_group)?;
    if let Some(slot) = slot {
        // What left this shard may be older here than where it went.
        read.view.check_owned(slot)?;
    }
    // After a restore or a blank entry the machine's own last entry lies before what it contains.
    read.position = read.position.max(seen.unwrap_or_default());
    Ok(read)
}

/// Asks a node that should have a replica of a shard, one after the other until one answers.
pub async fn ask_holder<T, Fut>(
    context: &Arc<Context>,
    shard: ShardId,
    ask: impl Fn(InternalClient<Channel>) -> Fut,
) -> Result<T, Trouble>
where
    Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let state = context.meta.state();
    let row = state.replicas().iter().find(|row| row.shard == shard.0);
    let mut last = Trouble::unavailable(format!("no node has a replica of shard {shard}; try again"));
    for node in row.map_or(&[][..], |row| &row.nodes) {
        let Some(address) = state.address(*node).filter(|_| *node != context.node) else { continue };
        let client = InternalClient::new(channel(context, address)?)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        last = match timeout(READ_PATIENCE, ask(client)).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) => Trouble::unavailable(format!("{address}: {}", status.message())),
            Err(_) => Trouble::unavailable(format!("{address} did not answer in {READ_PATIENCE:?}")),
        };
    }
    Err(last)
}

/// How far a linearizable read must see; the replica here has seen it once this returns.
pub async fn read_index(context: &Arc<Context>, shard: &Shard) -> Result<Position, Trouble> {
    let deadline = Instant::now() + READ_PATIENCE;
    let epoch = context.meta.state().epoch();
    loop {
        let trouble = if shard.leads() {
            match shard.group().read_barrier(READ_PATIENCE).await {
                Ok(position) => return Ok(position),
                Err(error @ (Error::NotLeader { .. } | Error::Unavailable { .. })) => {
                    Trouble::of_group(error, shard.id().0, epoch)
                }
                Err(error) => return Err(Trouble::of_group(error, shard.id().0, epoch)),
            }
        } else {
            match ask_read_index(context, shard).await {
                Ok(position) => return Ok(position),
                Err(trouble) => trouble,
            }
        };
        if Instant::now() + RETRY >= deadline {
            return Err(trouble);
        }
        sleep(RETRY).await;
    }
}

async fn ask_read_index(context: &Arc<Context>, shard: &Shard) -> Result<Position, Trouble> {
    let id = shard.id();
    let Some((_, address)) = shard.leader() else {
        return Err(Trouble::unavailable(format!("nobody leads shard {id} now; try again")));
    };
    let mut client = InternalClient::new(channel(context, &address)?);
    let call = client.read_index(ReadIndexRequest { shard: id.0 });
    let reply = match timeout(CALL_TIMEOUT, call).await {
        Err(_) => return Err(Trouble::unavailable(format!("{address} did not answer in {CALL_TIMEOUT:?}"))),
        Ok(Err(status)) => return Err(Trouble::unavailable(format!("{address}: {}", status.message()))),
        Ok(Ok(reply)) => reply.into_inner(),
    };
    let position = Position { index: reply.index, term: reply.term };
    let epoch = context.meta.state().epoch();
    let waited = shard.group().wait_applied(position.index, READ_PATIENCE).await;
    waited.map_err(|error| Trouble::of_group(error, id.0, epoch))?;
    Ok(position)
}

/// Returns once this node knows the map as it was when this was called, or later.
pub async fn latest_map(context: &Arc<Context>) -> Result<(), Trouble> {
    let (meta, epoch) = (&context.meta, context.meta.state().epoch());
    let of_group = |error| Trouble::of_group(error, 0, epoch);
    if meta.leads() {
        return meta.group().read_barrier(READ_PATIENCE).await.map(drop).map_err(of_group);
    }
    let Some((_, address)) = meta.leader() else {
        return Err(Trouble::unavailable("nobody leads the meta group now; try again"));
    };
    let mut client = InternalClient::new(channel(context, &address)?);
    let reply = match timeout(CALL_TIMEOUT, client.read_index(ReadIndexRequest { shard: 0 })).await {
        Err(_) => return Err(Trouble::unavailable(format!("{address} did not answer in {CALL_TIMEOUT:?}"))),
        Ok(Err(status)) => return Err(Trouble::unavailable(format!("{address}: {}", status.message()))),
        Ok(Ok(reply)) => reply.into_inner(),
    };
    meta.group().wait_applied(reply.index, READ_PATIENCE).await.map_err(of_group)
}

/// What a node says of itself, and its clock against this one's in milliseconds, half the way taken off; `None` where it
/// does not answer.
pub async fn hello(context: &Context, node: &NodeRow) -> Option<(String, i64)> {
    if node.id == context.node {
        return Some((env!("CARGO_PKG_VERSION").to_owned(), 0));
    }
    let before = context.clock.now().0;
    let reply = greet(context, node).await?;
    let middle = before + (context.clock.now().0 - before) / 2;
    Some((reply.version, (reply.now_ns - middle) / 1_000_000))
}

/// The answer of another node to a greeting.
pub async fn greet(context: &Context, node: &NodeRow) -> Option<HelloReply> {
    let mut client = InternalClient::new(channel(context, &node.address).ok()?);
    let reply = timeout(HELLO_TIMEOUT, client.hello(HelloRequest {})).await.ok()?.ok()?.into_inner();
    // Another node under this address is not the one that was asked for.
    (reply.node == node.id).then_some(reply)
}

/// A channel to another node.
pub fn channel(context: &Context, address: &str) -> Result<Channel, Trouble> {
    context.client.routes().channel(address).map_err(|error| Trouble::unavailable(error.to_string()))
}

/// Makes sure that the catalogue under `hash` is compiled here, from this node's disk or a peer's.
pub async fn catalogue(context: &Arc<Context>, hash: &Hash) -> Result<(), String> {
    blob(context, hash).await?;
    let (catalogues, hash) = (context.catalogues.clone(), *hash);
    let loaded = workers::run(context.workers.as_ref(), move || catalogues.load(&hash)).await;
    match loaded.map_err(|error| error.to_string())?.map_err(|error| error.to_string())? {
        Some(_) => Ok(()),
        None => Err("its document is not here".to_owned()),
    }
}

/// The document under `hash`, from this node's disk or else from a peer's, and then kept here.
pub async fn blob(context: &Arc<Context>, hash: &Hash) -> Result<Bytes, String> {
    let (blobs, wanted) = (context.blobs.clone(), *hash);
    let here = workers::run(context.workers.as_ref(), move || blobs.get(&wanted)).await;
    if let Some(bytes) = here.map_err(|error| error.to_string())?.map_err(|error| error.to_string())? {
        return Ok(bytes);
    }
    let state = context.meta.state();
    for node in state.nodes().filter(|node| node.id != context.node) {
        let Ok(channel) = context.client.routes().channel(&node.address) else { continue };
        let mut client = CatalogueClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let call = client.blob(BlobRequest { hash: Bytes::copy_from_slice(hash) });
        let Ok(Ok(reply)) = timeout(CALL_TIMEOUT, call).await else { continue };
        let (blobs, wanted, bytes) = (context.blobs.clone(), *hash, reply.into_inner().json);
        let kept = bytes.clone();
        let put = workers::run(context.workers.as_ref(), move || blobs.put(&wanted, kept)).await;
        if let Ok(Ok(())) = put {
            return Ok(bytes);
        }
    }
    Err("no node that answers has its document".to_owned())
}
