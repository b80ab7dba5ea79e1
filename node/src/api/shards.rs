//! Changing how many shards there are and which slots they have: plans, what they risk, and their word to the meta group;
//! and comparing the replicas of shards.
//! Who follows a plan is [`crate::mover`].

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use reckoner_client::proto::set_layout_request::Wish as Asked;
use reckoner_client::proto::{
    CheckDifference, CheckShardsReply, LayoutReply, PlannedSlots, SetLayoutRequest, ShardCheck, ShardChecking,
};
use reckoner_raft::types::GroupId;
use reckoner_shard::base::id::ShardId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::command as shard_command;

use super::status::Trouble;
use crate::context::Context;
use crate::data::check::{Check, End};
use crate::data::reach;
use crate::meta::command::{Command, SetLayout, encode};
use crate::meta::layout::{self, MOVE_SLOTS_MAX, Wish};
use crate::meta::state::MetaState;
use crate::placer;

/// How often a wish is planned anew when the map changed meanwhile.
const PLANS_MAX: usize = 4;

/// Replicas of one node beyond which its groups take a share of its time even when they are idle.
const REPLICAS_COMFORTABLE: usize = 64;

/// Sets which shards should have which slots, or tells what would come of it.
pub async fn set_layout(context: &Arc<Context>, request: SetLayoutRequest) -> Result<LayoutReply, Trouble> {
    for _ in 1..PLANS_MAX {
        match plan_layout(context, &request).await {
            // An earlier sending of the same wish, or another operator's, came between the plan and its word.
            Err(Unheard { trouble: Trouble::Refused(refusal), planned_on })
                if refusal.reason == Reason::InvalidValue =>
            {
                reach::latest_map(context).await?;
                if *context.meta.state() == *planned_on {
                    return Err(refusal.into());
                }
            }
            planned => return planned.map_err(Trouble::from),
        }
    }
    plan_layout(context, &request).await.map_err(Trouble::from)
}

async fn plan_layout(context: &Arc<Context>, request: &SetLayoutRequest) -> Result<LayoutReply, Unheard> {
    let unplanned = |trouble: Trouble| Unheard { trouble, planned_on: context.meta.state() };
    let wish = match request.wish {
        Some(Asked::Scale(count)) => Wish::Scale(count),
        Some(Asked::Split(shard)) => Wish::Split(shard),
        Some(Asked::Merge(merge)) => Wish::Merge { from: merge.from, into: merge.into },
        Some(Asked::Move(slots)) => Wish::Move { first: slots.first, last: slots.last, to: slots.to },
        Some(Asked::Stop(_)) => Wish::Stop,
        None => return Err(unplanned(Trouble::invalid("nothing is wished; scale, split, merge, move or stop"))),
    };
    // Ids follow the last one that anybody has heard of.
    reach::latest_map(context).await.map_err(unplanned)?;
    let state = context.meta.state();
    // An answer that was lost: the rest of what came of it is what there is to tell.
    let wish = if state.has_heard(&request.id) { None } else { Some(wish) };
    let planned = match wish {
        Some(wish) => layout::layout(&state, wish).map_err(|refusal| unplanned(refusal.into()))?,
        None => SetLayout { ranges: state.wanted().to_vec(), ..SetLayout::default() },
    };
    let command = Command::SetLayout(SetLayout { wish: request.id.clone(), ..planned });
    // The same command on a copy of the map: what it says, and where slots go then.
    let mut after = MetaState::clone(&state);
    let outcome = after.apply(&encode(command.clone())).map_err(|why| unplanned(Trouble::invalid(why)))?;
    if let Some(reason) = Reason::from_number(outcome.refusal as u8) {
        return Err(unplanned(Refusal::new(reason, outcome.detail).into()));
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
        match placer::propose(context, command).await {
            Ok(_) => (),
            Err(trouble) => return Err(Unheard { trouble, planned_on: state }),
        }
    }
    Ok(reply)
}

/// A wish that was not taken, with the map that it was planned on.
struct Unheard {
    trouble: Trouble,
    planned_on: Arc<MetaState>,
}

impl From<Unheard> for Trouble {
    fn from(unheard: Unheard) -> Trouble {
        unheard.trouble
    }
}

/// Begins to compare the replicas of shards, of all where none is named.
pub async fn check(context: &Arc<Context>, shards: &[u32]) -> Result<CheckShardsReply, Trouble> {
    reach::latest_map(context).await?;
    let state = context.meta.state();
    let known: Vec<u32> = state.replicas().iter().map(|row| row.shard).collect();
    if let Some(unknown) = shards.iter().find(|shard| !known.contains(shard)) {
        let detail = format!("there is no shard {unknown}; see cluster shards list");
        return Err(Refusal::new(Reason::NotFound, detail).into());
    }
    let wanted = if shards.is_empty() { known } else { shards.to_vec() };
    let begun = join_all(wanted.into_iter().map(|shard| async move {
        match reach::execute(context, ShardId(shard), &[shard_command::Command::Digest]).await {
            Ok((_, position)) => ShardChecking { shard, index: position.index, trouble: String::new() },
            Err(trouble) => ShardChecking { shard, index: 0, trouble: trouble.status().message().to_owned() },
        }
    }));
    Ok(CheckShardsReply { shards: begun.await })
}

/// A comparison of replicas as clients see it.
pub fn check_out(shard: ShardId, check: &Check) -> ShardCheck {
    let differ = check.differ.iter().map(|(node, places)| CheckDifference {
        node: *node,
        slots: places.slots.iter().map(|slot| slot.0.into()).collect(),
        rest: places.rest,
    });
    let result = match check.end {
        End::Running => "running",
        End::Equal if check.differ.is_empty() => "equal",
        End::Equal | End::Wrong => "different",
        End::Split => "split",
        End::Untold => "untold",
    };
    ShardCheck {
        index: check.index,
        at_ns: check.at.0,
        result: result.to_owned(),
        equal: check.equal.clone(),
        differ: differ.collect(),
        silent: check.silent.clone(),
        trouble: check.trouble(shard).unwrap_or_default(),
    }
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
