//! The placer: an actor on every node that makes the members of its groups those that the map names. Every node drives
//! the groups that it leads; the meta group's leader follows the plan. Each step is safe to repeat, so whoever leads next
//! goes on. Where replicas should be is decided in [`crate::meta::plan`]; opening and closing them is the keeper's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use prost::Message as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use reckoner_raft::error::Error;
use reckoner_raft::group::{Group, Role, Status};
use reckoner_raft::types::NodeId;
use reckoner_shard::base::id::ShardId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::api::status::Trouble;
use crate::context::Context;
use crate::data::reach;
use crate::internal::ProposeRequest;
use crate::internal::internal_client::InternalClient;
use crate::meta::command::{self, Command, Held, NodeState, Outcome, Place, ReplicasRow, Seen};
use crate::meta::plan;
use crate::meta::state::MetaState;

/// How often a node looks at its groups when the map did not change: a learner catches up meanwhile.
const INTERVAL: Duration = Duration::from_millis(500);

/// One change of members; it is tried again at the next look.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A leader that leaves hands over first.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(1);

/// A learner this many entries behind gets its vote, where a majority of the voters is closer: it is there within a moment.
const LAG_MAX: u64 = 1_000;

/// A voter this many entries behind what is committed is close: what it lacks is on its way.
const CLOSE: u64 = 64;

/// A shard is led by another node than the map's first this long before it is handed over: a node that comes and goes
/// takes no leader along each time.
const BALANCE_AFTER: Duration = Duration::from_secs(10);

pub enum Message {
    /// Look what there is to do.
    Look,
}

pub struct Placer;

pub struct Placing {
    context: Arc<Context>,
    looked: Arc<Notify>,
    /// Since when this node leads shards that others should lead.
    leads_for_others: Mutex<BTreeMap<u32, Instant>>,
}

impl Actor for Placer {
    type Msg = Message;
    type State = Placing;
    type Arguments = Arc<Context>;

    async fn pre_start(&self, myself: ActorRef<Message>, context: Arc<Context>) -> Result<Placing, ActorProcessingErr> {
        let looked = Arc::new(Notify::new());
        let (mut seen, over) = (context.meta.watch(), looked.clone());
        tokio::spawn(async move {
            while myself.send_message(Message::Look).is_ok() {
                over.notified().await;
                let changed = timeout(INTERVAL, seen.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
            }
        });
        Ok(Placing { context, looked, leads_for_others: Mutex::default() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        placing: &mut Placing,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Look = message;
        placing.look().await;
        placing.looked.notify_one();
        Ok(())
    }
}

impl Placing {
    async fn look(&self) {
        let state = self.context.meta.state();
        if !state.is_founded() || self.context.stopping.is_cancelled() {
            return;
        }
        if self.context.meta.leads() {
            self.follow_plan(&state).await;
            self.drive_meta(&state).await;
            self.note_seen(&state).await;
        }
        join_all(state.replicas().iter().map(|row| self.drive_shard(&state, row))).await;
    }

    /// Records where replicas should be next.
    async fn follow_plan(&self, state: &MetaState) {
        let rows = plan::next_rows(state, &plan::placement(state));
        if rows.is_empty() {
            return;
        }
        for row in &rows {
            tracing::info!(shard = row.shard, nodes = ?row.nodes, "the shard's replicas should be there");
        }
        if let Err(error) = self.context.meta.propose(Command::Place(Place { rows })).await {
            tracing::debug!(%error, "a placement is not recorded yet");
        }
    }

    /// Every node hears of the map; an odd number of them decides.
    async fn drive_meta(&self, state: &MetaState) {
        let group = self.context.meta.group();
        let status = group.status();
        let voting: Vec<u64> = status.voters.iter().map(|node| node.0).collect();
        let voters = plan::meta_voters(state, &voting).into_iter().map(NodeId).collect();
        let members = state.nodes().map(|node| NodeId(node.id)).collect();
        if let Err(error) = self.drive(state, group, &status, &voters, &members).await {
            tracing::info!(%error, "the members of the meta group change later");
        }
    }

    /// Records which nodes follow the meta group: from then on their empty directories are lost ones.
    async fn note_seen(&self, state: &MetaState) {
        let matched = self.context.meta.group().status().matched;
        let follows = |id: u64| matched.get(&NodeId(id)).is_some_and(Option::is_some) || id == self.context.node;
        for node in state.nodes().filter(|node| !node.seen && follows(node.id)) {
            if let Err(error) = self.context.meta.propose(Command::Seen(Seen { node: node.id })).await {
                return tracing::debug!(%error, node = node.id, "it is not recorded yet that the node follows");
            }
        }
    }

    async fn drive_shard(&self, state: &MetaState, row: &ReplicasRow) {
        let Some(shard) = self.context.shards.get(ShardId(row.shard)) else { return };
        let status = shard.group().status();
        if status.role != Role::Leader {
            self.leads_for_others.lock().remove(&row.shard);
            return;
        }
        let wanted: BTreeSet<NodeId> = row.nodes.iter().copied().map(NodeId).collect();
        match self.drive(state, shard.group(), &status, &wanted, &wanted).await {
            // Only a leader that has its vote confirmed by others may say who the members are.
            Ok(true) if !row.is_settled() && shard.group().read_barrier(CHANGE_TIMEOUT).await.is_ok() => {
                let held = Command::Held(Held { shard: row.shard, nodes: row.nodes.clone(), changes: row.changes });
                if let Err(trouble) = propose(&self.context, held).await {
                    tracing::debug!(shard = row.shard, error = %trouble.status(), "where replicas are is not recorded yet");
                }
            }
            Ok(true) if row.is_settled() => self.balance(row, shard.group(), &status).await,
            Ok(_) => (),
            Err(error) => tracing::info!(shard = row.shard, %error, "the members of a shard change later"),
        }
    }

    /// Hands a shard over to the node that should lead it, once that has followed closely for a while.
    async fn balance(&self, row: &ReplicasRow, group: &Group, status: &Status) {
        let preferred = row.nodes.first().copied().map(NodeId).filter(|node| node.0 != self.context.node);
        let matched = preferred.and_then(|node| status.matched.get(&node).copied().flatten());
        let follows = matched.is_some_and(|matched| Some(matched) >= status.committed);
        let Some(preferred) = preferred.filter(|_| follows) else {
            self.leads_for_others.lock().remove(&row.shard);
            return;
        };
        let now = Instant::now();
        let is_time = {
            let mut since = self.leads_for_others.lock();
            let since = since.entry(row.shard).or_insert(now);
            let is_time = now.duration_since(*since) >= BALANCE_AFTER;
            if is_time {
                *since = now;
            }
            is_time
        };
        if is_time && let Err(error) = group.transfer_leader(preferred, HANDOVER_TIMEOUT).await {
            tracing::info!(shard = row.shard, %error, "the shard is not handed over");
        }
    }

    /// Takes the next step towards these voters, and members without a vote; whether there is none left.
    async fn drive(
        &self,
        state: &MetaState,
        group: &Group,
        status: &Status,
        voters: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
    ) -> Result<bool, Error> {
        let present: BTreeSet<NodeId> = status.voters.union(&status.learners).copied().collect();
        for (node, address) in &status.addresses {
            let current = state.address(node.0).filter(|current| !current.is_empty() && current != address);
            if let Some(current) = current.filter(|_| members.contains(node)) {
                group.set_address(*node, current, CHANGE_TIMEOUT).await?;
                return Ok(false);
            }
        }
        if let Some(node) = members.difference(&present).next() {
            let address = state.address(node.0).unwrap_or_default();
            group.add_learner(*node, address, CHANGE_TIMEOUT).await?;
            return Ok(false);
        }
        if status.voters != *voters {
            let last = status.last_log.unwrap_or(0);
            let is_near = |node: &&NodeId| {
                let matched = status.matched.get(node).copied().flatten();
                status.voters.contains(node) || matched.is_some_and(|matched| matched + LAG_MAX >= last)
            };
            if !voters.iter().all(|node| is_near(&node)) {
                return Ok(false);
            }
            let own = NodeId(self.context.node);
            // The new ones take over before this one leaves.
            let mut next = voters.clone();
            next.insert(own);
            if status.voters != next {
                if is_carried(own, &next, status, &group.answering()) {
                    group.change_membership(next, true, CHANGE_TIMEOUT).await?;
                }
                return Ok(false);
            }
            let reached = |node: &&NodeId| state.node(node.0).is_some_and(|row| row.state() == NodeState::Active);
            let furthest = voters.iter().filter(reached).max_by_key(|node| status.matched.get(node).copied().flatten());
            if let Some(to) = furthest {
                group.transfer_leader(*to, HANDOVER_TIMEOUT).await?;
            }
            return Ok(false);
        }
        let surplus: BTreeSet<NodeId> = status.learners.difference(members).copied().collect();
        if !surplus.is_empty() {
            group.remove_learners(surplus, CHANGE_TIMEOUT).await?;
            return Ok(false);
        }
        Ok(true)
    }
}

/// Whether a majority of these voters answers and is close. Otherwise their group would acknowledge nothing from the
/// change on until enough of them are: a lost node and one that is only being filled make no majority.
fn is_carried(leader: NodeId, voters: &BTreeSet<NodeId>, status: &Status, answering: &BTreeSet<NodeId>) -> bool {
    let close_from = status.committed.unwrap_or(0).saturating_sub(CLOSE);
    let is_close = |node: &&NodeId| {
        let matched = status.matched.get(node).copied().flatten();
        **node == leader || (answering.contains(node) && matched >= Some(close_from))
    };
    voters.iter().filter(is_close).count() * 2 > voters.len()
}

/// Proposes a command to the meta group, wherever it is led.
///
/// # Errors
/// What the domain refused, or what a retry can heal.
pub async fn propose(context: &Arc<Context>, command: Command) -> Result<Outcome, Trouble> {
    let epoch = context.meta.state().epoch();
    let outcome = if context.meta.leads() {
        context.meta.propose(command).await.map_err(|error| Trouble::of_group(error, 0, epoch))?
    } else {
        let leader = context.meta.leader().filter(|(node, _)| *node != context.node);
        let (_, address) = leader.ok_or_else(|| Trouble::unavailable("nobody leads the meta group now; try again"))?;
        let mut client = InternalClient::new(reach::channel(context, &address)?);
        let call = client.propose(ProposeRequest { entry: command::encode(command) });
        let reply = match timeout(CHANGE_TIMEOUT, call).await {
            Err(_) => return Err(Trouble::unavailable(format!("{address} did not answer in {CHANGE_TIMEOUT:?}"))),
            Ok(Err(status)) => return Err(Trouble::unavailable(format!("{address}: {}", status.message()))),
            Ok(Ok(reply)) => reply.into_inner(),
        };
        let unreadable = |error| Trouble::unavailable(format!("the answer of {address} cannot be read: {error}"));
        Outcome::decode(reply.outcome).map_err(unreadable)?
    };
    match Reason::from_number(outcome.refusal as u8) {
        Some(reason) => Err(Refusal::new(reason, outcome.detail).into()),
        None => Ok(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_node_and_one_that_is_being_filled_carry_no_group() {
        let nodes = |all: &[u64]| all.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let matched = [(1, Some(5_000)), (2, Some(5_000)), (3, Some(4_990)), (4, Some(4_100))];
        let mut status = Status {
            committed: Some(5_000),
            matched: matched.map(|(node, matched)| (NodeId(node), matched)).into(),
            ..Status::default()
        };
        // Node 3 is lost, 4 comes in the place of 1: only 2 is there.
        assert!(!is_carried(NodeId(2), &nodes(&[2, 3, 4]), &status, &nodes(&[1, 2, 4])));
        assert!(is_carried(NodeId(2), &nodes(&[2, 3, 4]), &status, &nodes(&[1, 2, 3, 4])), "3 came back");
        assert!(is_carried(NodeId(2), &nodes(&[1, 2, 4]), &status, &nodes(&[1, 2, 4])), "4 comes in the place of 3");
        assert!(!is_carried(NodeId(2), &nodes(&[1, 2, 3, 4]), &status, &nodes(&[1, 2, 4])), "of four, three");
        status.matched.insert(NodeId(4), Some(4_936));
        assert!(is_carried(NodeId(2), &nodes(&[2, 3, 4]), &status, &nodes(&[1, 2, 4])), "4 is close");
        status.matched.insert(NodeId(4), None);
        assert!(!is_carried(NodeId(2), &nodes(&[2, 4]), &status, &nodes(&[2, 4])), "nothing came to 4 yet");
    }
}
