//! Changing which nodes there are and who leads: plans, what they risk, and their word to the meta group. The calls arrive
//! in [`super::cluster`]; who follows a plan is [`crate::placer`].

use std::sync::Arc;

use futures::future::join_all;
use reckoner_client::proto::{PlanReply, PlannedMove, SetNodeRequest};
use reckoner_raft::types::{GroupId, NodeId};
use reckoner_shard::base::id::ShardId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use tokio::time::timeout;

use super::status::Trouble;
use crate::context::Context;
use crate::data::reach;
use crate::internal::HandOverRequest;
use crate::internal::internal_client::InternalClient;
use crate::meta::command::{Command, NodeRow, NodeState, ReplicasRow, SetNode, encode};
use crate::meta::plan;
use crate::meta::state::{MetaState, REPLICAS_MAX};
use crate::placer;

/// Sets what is wanted of a node, or tells what would come of it.
pub async fn set_node(context: &Arc<Context>, request: SetNodeRequest) -> Result<PlanReply, Trouble> {
    // A node that was started just now knows of none of the others.
    reach::latest_map(context).await?;
    let state = context.meta.state();
    if !state.is_founded() {
        return Err(Trouble::unavailable("this node has not heard of its cluster yet; try again"));
    }
    let wanted = match request.state.as_str() {
        "active" => NodeState::Active,
        "draining" => NodeState::Draining,
        "removed" => NodeState::Removed,
        other => return Err(Trouble::invalid(format!("'{other}' is no state of a node; active, draining or removed"))),
    };
    let node = named(&state, &request.name)?;
    let mut risks = Vec::new();
    if wanted == NodeState::Removed {
        let held = holds(&state, node.id);
        let answers = held > 0 && reach::hello(context, node).await.is_some();
        if answers {
            let detail = format!("node {} answers and holds {held} replicas; drain it first", node.id);
            return Err(Refusal::new(Reason::InUse, detail).into());
        }
    }
    if !request.replacement.is_empty() {
        let other = named(&state, &request.replacement)?;
        if other.id == node.id || other.state() != NodeState::Active {
            let detail = format!("node {} cannot replace node {}: it is the same one or not active", other.id, node.id);
            return Err(Trouble::invalid(detail));
        }
    }
    let command = Command::SetNode(SetNode { node: node.id, state: wanted as i32 });
    // The same command on a copy of the map: what it says, and where replicas go then.
    let mut after = MetaState::clone(&state);
    let outcome = after.apply(&encode(command.clone())).map_err(Trouble::invalid)?;
    if let Some(reason) = Reason::from_number(outcome.refusal as u8) {
        return Err(Refusal::new(reason, outcome.detail).into());
    }
    let planned = plan::placement(&after);
    let moves = moves(context, state.replicas(), &planned);
    for count in 0..REPLICAS_MAX {
        let few = planned.iter().filter(|row| row.nodes.len() == count).count();
        if few > 0 {
            risks.push(format!("{few} shards have {count} of {REPLICAS_MAX} replicas until another node joins"));
        }
    }
    let majority_lost = state.replicas().iter().filter(|row| {
        let left = row.held.iter().filter(|held| **held != node.id).count();
        wanted == NodeState::Removed && row.held.contains(&node.id) && left * 2 <= row.held.len()
    });
    for row in majority_lost {
        risks.push(format!("shard {} has no majority without node {}; it must come back first", row.shard, node.id));
    }
    let changes = !outcome.unchanged || moves.iter().any(|planned| !same(&planned.from, &planned.to));
    let id = node.id;
    if !request.plan {
        placer::propose(context, command).await?;
    }
    Ok(PlanReply { moves, risks, node: id, changes })
}

/// Gives shards to the nodes that should lead them, or tells which.
pub async fn balance_leaders(context: &Arc<Context>, plan_only: bool) -> Result<PlanReply, Trouble> {
    reach::latest_map(context).await?;
    let state = context.meta.state();
    let (mut moves, mut calls, mut risks) = (Vec::new(), Vec::new(), Vec::new());
    for row in state.replicas() {
        let Some(preferred) = row.nodes.first().copied() else { continue };
        let Some(leader) = leader_of(context, row) else {
            risks.push(format!("nobody is known here to lead shard {}", row.shard));
            continue;
        };
        if leader != preferred {
            let to = row.nodes.clone();
            let mut from = to.clone();
            from.sort_by_key(|node| *node != leader);
            moves.push(PlannedMove { shard: row.shard, from, to, bytes: None });
            calls.push(hand_over(context, &state, row.shard, leader, preferred));
        }
    }
    if !plan_only {
        risks.extend(join_all(calls).await.into_iter().flatten());
    }
    Ok(PlanReply { changes: !moves.is_empty(), moves, risks, node: 0 })
}

/// Who leads a shard as far as this node knows.
fn leader_of(context: &Context, row: &ReplicasRow) -> Option<u64> {
    let shard = context.shards.get(ShardId(row.shard))?;
    Some(shard.group().status().leader?.0.0)
}

/// Asks the leader to hand over; what went wrong, if something did.
async fn hand_over(context: &Arc<Context>, state: &MetaState, shard: u32, from: u64, to: u64) -> Option<String> {
    let failed = |why: String| Some(format!("shard {shard} stays with node {from}: {why}"));
    let address = state.address(from).unwrap_or_default();
    let channel = match reach::channel(context, address) {
        Ok(channel) => channel,
        Err(trouble) => return failed(trouble.status().message().to_owned()),
    };
    let mut client = InternalClient::new(channel);
    match timeout(reach::PATIENCE, client.hand_over(HandOverRequest { shard, to })).await {
        Ok(Ok(_)) => None,
        Ok(Err(status)) => failed(status.message().to_owned()),
        Err(_) => failed(format!("{address} does not answer")),
    }
}

fn named<'a>(state: &'a MetaState, name: &str) -> Result<&'a NodeRow, Trouble> {
    let is_it = |node: &&NodeRow| node.address == name || name.parse() == Ok(node.id);
    state.nodes().find(is_it).ok_or_else(|| {
        let known: Vec<String> = state.nodes().map(|node| format!("{} at {}", node.id, node.address)).collect();
        let detail = format!("there is no node '{name}'; the nodes are {}", known.join(", "));
        Refusal::new(Reason::NotFound, detail).into()
    })
}

/// Replicas that a node holds or should hold.
pub fn holds(state: &MetaState, node: u64) -> u32 {
    let own = state.replicas().iter().filter(|row| row.nodes.contains(&node) || row.held.contains(&node));
    own.count() as u32
}

/// The shards whose replicas would be elsewhere, or are not yet where they should be.
fn moves(context: &Context, now: &[ReplicasRow], then: &[ReplicasRow]) -> Vec<PlannedMove> {
    let differ = now.iter().zip(then).filter(|(now, then)| !same(&now.held, &then.nodes));
    let planned = differ.map(|(now, then)| {
        let bytes = context.host.find(GroupId(now.shard)).and_then(|group| group.snapshot_bytes());
        PlannedMove { shard: now.shard, from: now.held.clone(), to: then.nodes.clone(), bytes }
    });
    planned.collect()
}

fn same(a: &[u64], b: &[u64]) -> bool {
    let sorted = |nodes: &[u64]| {
        let mut nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
        nodes.sort_unstable();
        nodes
    };
    sorted(a) == sorted(b)
}
