//! Changing how many shards there are and which slots they have: plans, what they risk, and their word to the meta group.
//! Who follows a plan is [`crate::mover`].

use std::collections::BTreeSet;
use std::sync::Arc;

use reckoner_client::proto::set_layout_request::Wish as Asked;
use reckoner_client::proto::{LayoutReply, PlannedSlots, SetLayoutRequest};
use reckoner_raft::types::GroupId;
use reckoner_shard::base::refusal::{Reason, Refusal};

use super::status::Trouble;
use crate::context::Context;
use crate::meta::command::{Command, encode};
use crate::meta::layout::{self, MOVE_SLOTS_MAX, Wish};
use crate::meta::state::MetaState;
use crate::placer;

/// Replicas of one node beyond which its groups take a share of its time even when they are idle.
const REPLICAS_COMFORTABLE: usize = 64;

/// Sets which shards should have which slots, or tells what would come of it.
pub async fn set_layout(context: &Arc<Context>, request: SetLayoutRequest) -> Result<LayoutReply, Trouble> {
    let wish = match request.wish {
        Some(Asked::Scale(count)) => Wish::Scale(count),
        Some(Asked::Split(shard)) => Wish::Split(shard),
        Some(Asked::Merge(merge)) => Wish::Merge { from: merge.from, into: merge.into },
        Some(Asked::Move(slots)) => Wish::Move { first: slots.first, last: slots.last, to: slots.to },
        Some(Asked::Stop(_)) => Wish::Stop,
        None => return Err(Trouble::invalid("nothing is wished; scale, split, merge, move or stop")),
    };
    let state = context.meta.state();
    let command = Command::SetLayout(layout::layout(&state, wish)?);
    // The same command on a copy of the map: what it says, and where slots go then.
    let mut after = MetaState::clone(&state);
    let outcome = after.apply(&encode(command.clone())).map_err(Trouble::invalid)?;
    if let Some(reason) = Reason::from_number(outcome.refusal as u8) {
        return Err(Refusal::new(reason, outcome.detail).into());
    }
    let known = |shard: u32| context.host.find(GroupId(shard)).and_then(|group| group.snapshot_bytes());
    let moves = layout::planned(&after).into_iter().map(|slots| PlannedSlots {
        first: slots.first,
        last: slots.last,
        from: slots.from,
        to: slots.to,
        bytes: known(slots.from).map(|bytes| share(&state, slots.from, slots.last - slots.first + 1, bytes)),
    });
    let moves: Vec<PlannedSlots> = moves.collect();
    let has = |shard: &u32| after.wanted().iter().any(|range| range.shard == *shard);
    let shards = |state: &MetaState| state.replicas().iter().map(|row| row.shard).collect::<BTreeSet<u32>>();
    let retired: Vec<u32> = shards(&after).into_iter().filter(|shard| !has(shard)).collect();
    let reply = LayoutReply {
        created: shards(&after).difference(&shards(&state)).copied().collect(),
        risks: risks(&after, &moves),
        changes: !outcome.unchanged || !moves.is_empty() || !retired.is_empty(),
        retired,
        moves,
    };
    if !request.plan {
        placer::propose(context, command).await?;
    }
    Ok(reply)
}

/// The share that some slots have of what a shard holds.
fn share(state: &MetaState, shard: u32, slots: u32, bytes: u64) -> u64 {
    let own = state.ranges().iter().filter(|range| range.shard == shard);
    let all: u32 = own.map(|range| range.last - range.first + 1).sum();
    bytes * u64::from(slots) / u64::from(all.max(1))
}

fn risks(after: &MetaState, moves: &[PlannedSlots]) -> Vec<String> {
    let mut risks = Vec::new();
    if !moves.is_empty() {
        risks.push(format!(
            "usage and reads of up to {MOVE_SLOTS_MAX} slots at a time wait while these are carried; clients retry, and \
             documents are applied in between"
        ));
    }
    for node in after.nodes() {
        let held = after.replicas().iter().filter(|row| row.nodes.contains(&node.id)).count();
        if held > REPLICAS_COMFORTABLE {
            risks.push(format!(
                "node {} would hold {held} replicas, beyond {REPLICAS_COMFORTABLE} they slow it",
                node.id
            ));
        }
    }
    risks
}
