//! The keeper: an actor that keeps open exactly the groups that the shard map gives this node. A replica that halted
//! stays closed: opening it again would only meet the same doubt. One whose state is wrong or lost is rebuilt
//! ([`crate::rebuild`]) and opened again. What a shard does is in `data`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use reckoner_raft::error::Error;
use reckoner_raft::group::Role;
use reckoner_raft::types::{GroupId, NodeId};
use reckoner_shard::base::id::ShardId;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::condemned::Condemned;
use crate::context::Context;
use crate::data::cycle_clock::{self, CycleClock};
use crate::data::reach;
use crate::data::shard::{self, Shard};
use crate::meta::command::ReplicasRow;
use crate::meta::state::MetaState;
use crate::rebuild;

/// How often the groups are compared with the map when nothing changed: an open that failed is tried again.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(2);

/// How long handing a leader over may take at a stop; elections do it otherwise.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(700);

/// How long the leader of the meta group may take to say what the map is; it is asked again at the next look.
const MAP_TIMEOUT: Duration = Duration::from_secs(1);

pub enum Message {
    /// Compare what is open with the map.
    Reconcile,
    /// Hand leaders over and close every group.
    Stop { done: oneshot::Sender<()> },
}

pub struct Keeper;

pub struct Kept {
    context: Arc<Context>,
    open: BTreeMap<ShardId, Open>,
    /// Closed because their replicas are elsewhere, and still on disk.
    leaving: BTreeSet<ShardId>,
    /// Closed until they are rebuilt, or not opened since.
    rebuilt: BTreeSet<ShardId>,
}

/// A shard with the actors that belong to it.
struct Open {
    machine: ActorRef<shard::Message>,
    clock: ActorRef<cycle_clock::Message>,
}

impl Actor for Keeper {
    type Msg = Message;
    type State = Kept;
    type Arguments = Arc<Context>;

    async fn pre_start(&self, myself: ActorRef<Message>, context: Arc<Context>) -> Result<Kept, ActorProcessingErr> {
        // After a failure the groups are still open under actors that went with the keeper: begin anew.
        for shard in context.shards.all() {
            context.shards.remove(shard.id());
            context.host.close(GroupId(shard.id().0)).await?;
        }
        let (mut seen, told) = (context.meta.watch(), context.clone());
        tokio::spawn(async move {
            loop {
                if myself.send_message(Message::Reconcile).is_err() {
                    return;
                }
                tokio::select! {
                    changed = timeout(RECONCILE_INTERVAL, seen.changed()) => {
                        if matches!(changed, Ok(Err(_))) {
                            return;
                        }
                    }
                    () = told.rebuilds.told() => (),
                }
            }
        });
        Ok(Kept { context, open: BTreeMap::new(), leaving: BTreeSet::new(), rebuilt: BTreeSet::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        kept: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Reconcile => kept.reconcile(&myself).await,
            Message::Stop { done } => {
                kept.stop().await;
                // The asker may have run out of patience.
                let _ = done.send(());
                myself.stop(None);
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        kept: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => kept.failed(&myself, who.get_id(), &error.to_string()).await,
            _ => Ok(()),
        }
    }
}

impl Kept {
    async fn reconcile(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        let state = self.context.meta.state();
        self.seal_failed(&state);
        // Founders bring a new group into being, and whoever comes later is added by its leader.
        let wanted: BTreeMap<ShardId, Option<BTreeMap<NodeId, String>>> = state
            .replicas()
            .iter()
            .filter(|row| self.is_here(row))
            .map(|row| {
                let member = |id: &u64| (NodeId(*id), state.address(*id).unwrap_or_default().to_owned());
                let founders = row.held.is_empty().then(|| row.nodes.iter().map(member).collect());
                (ShardId(row.shard), founders)
            })
            .collect();
        let surplus: Vec<ShardId> = self.open.keys().filter(|shard| !wanted.contains_key(shard)).copied().collect();
        for shard in surplus {
            tracing::info!(%shard, "the shard's replicas are elsewhere, this one is dropped");
            self.close(shard).await;
            self.leaving.insert(shard);
        }
        self.rebuild().await;
        let rebuilds = &self.context.rebuilds;
        let is_left = |shard: &ShardId| !wanted.contains_key(shard) && !rebuilds.is_running(*shard);
        self.leaving.extend(self.rebuilt.extract_if(.., is_left));
        self.leaving.retain(|shard| !wanted.contains_key(shard));
        let is_missing = |shard: &ShardId| !self.open.contains_key(shard) && !rebuilds.is_running(*shard);
        let missing: Vec<_> = wanted.into_iter().filter(|(shard, _)| is_missing(shard)).collect();
        let mut started = Vec::new();
        for (shard, members) in missing {
            let (machine, parts) = shard::start(shard, &self.context, myself.get_cell()).await?;
            started.push((shard, members, machine, parts));
        }
        let host = &self.context.host;
        let opened = join_all(started.into_iter().map(|(shard, members, machine, parts)| async move {
            let group = host.open(GroupId(shard.0), members, shard::machine(&machine)).await;
            (shard, machine, group.map(|group| Shard::new(shard, group, parts)))
        }))
        .await;
        for (id, machine, result) in opened {
            match result {
                Ok(shard) => {
                    let clock = self.start_clock(shard.clone(), myself).await?;
                    self.context.shards.put(shard);
                    self.open.insert(id, Open { machine, clock });
                    if self.rebuilt.remove(&id) {
                        tokio::spawn(rebuild::check_again(self.context.clone(), id));
                    }
                }
                Err(error) => {
                    tracing::error!(shard = %id, %error, "a shard cannot be opened");
                    machine.stop(None);
                    self.context.shards.failed(id, error.to_string());
                    self.seal_if_alone(&state, id, &error.to_string());
                    if matches!(error, Error::StateLost { .. }) {
                        let reason = format!("shard {id} cannot be opened: {error}; it is rebuilt from its peers");
                        self.context.rebuilds.condemn(Condemned { shard: id, reason, sources: Vec::new() });
                    }
                }
            }
        }
        self.forget_left().await;
        Ok(())
    }

    /// Closes the replicas that must not go on, and begins to rebuild them.
    async fn rebuild(&mut self) {
        for condemned in self.context.rebuilds.begin() {
            self.close(condemned.shard).await;
            self.rebuilt.insert(condemned.shard);
            tokio::spawn(rebuild::run(self.context.clone(), condemned));
        }
    }

    /// A replica is open while it is wanted here or was last seen here.
    fn is_here(&self, row: &ReplicasRow) -> bool {
        row.nodes.contains(&self.context.node) || row.held.contains(&self.context.node)
    }

    /// Removes what replicas that moved away left on disk. What this node knows of the map may be old: the replica could be
    /// wanted here again, and its leader count on what it once answered. It is closed by now and answers nothing more, so
    /// the map of this moment decides; where nobody tells it, the files wait.
    async fn forget_left(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        match timeout(MAP_TIMEOUT, reach::latest_map(&self.context)).await {
            Ok(Ok(())) => (),
            Ok(Err(trouble)) => return tracing::debug!(error = %trouble.status(), "files of replicas elsewhere stay"),
            Err(_) => return tracing::debug!("files of replicas elsewhere stay: no answer"),
        }
        let state = self.context.meta.state();
        let here: BTreeSet<ShardId> =
            state.replicas().iter().filter(|row| self.is_here(row)).map(|row| ShardId(row.shard)).collect();
        for shard in std::mem::take(&mut self.leaving).difference(&here) {
            self.forget(*shard).await;
        }
    }

    /// A replica that cannot go on is rebuilt from its peers; one without any has nobody to be rebuilt from, and its
    /// node stops with the reason.
    fn seal_if_alone(&self, state: &MetaState, shard: ShardId, reason: &str) {
        let alone = state.replicas().iter().any(|row| row.shard == shard.0 && row.nodes.len() == 1);
        if alone {
            self.context
                .fate
                .seal(&format!("shard {shard} cannot be opened from the log in the data directory: {reason}"));
        }
    }

    /// The same for replicas that opened and failed later, such as on the first read of a damaged log entry.
    fn seal_failed(&self, state: &MetaState) {
        for id in self.open.keys() {
            let failure = self.context.shards.get(*id).and_then(|shard| shard.group().status().failure);
            if let Some(reason) = failure {
                self.seal_if_alone(state, *id, &reason);
            }
        }
    }

    async fn start_clock(
        &self,
        shard: Shard,
        myself: &ActorRef<Message>,
    ) -> Result<ActorRef<cycle_clock::Message>, ActorProcessingErr> {
        let arguments = (self.context.clone(), shard);
        let (clock, _) = Actor::spawn_linked(None, CycleClock, arguments, myself.get_cell()).await?;
        Ok(clock)
    }

    /// A cycle clock is started again; a shard's own actor takes its replica with it.
    async fn failed(
        &mut self,
        myself: &ActorRef<Message>,
        who: ActorId,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let clock = self.open.iter().find(|(_, open)| open.clock.get_id() == who).map(|(shard, _)| *shard);
        if let Some(id) = clock
            && let Some(shard) = self.context.shards.get(id)
        {
            tracing::error!(shard = %id, error, "a cycle clock failed and is started again");
            let clock = self.start_clock(shard, myself).await?;
            if let Some(open) = self.open.get_mut(&id) {
                open.clock = clock;
            }
            return Ok(());
        }
        if let Some((id, _)) = self.open.iter().find(|(_, open)| open.machine.get_id() == who) {
            // The group notices at its next entry; it stays closed here, and health says so.
            tracing::error!(shard = %id, error, "a shard's actor failed, its replica stops");
        }
        Ok(())
    }

    async fn close(&mut self, shard: ShardId) {
        if let Some(open) = self.open.remove(&shard) {
            open.clock.stop(None);
            self.context.shards.remove(shard);
            if let Err(error) = self.context.host.close(GroupId(shard.0)).await {
                tracing::warn!(%shard, %error, "a shard did not close cleanly");
            }
            open.machine.stop(None);
        }
    }

    /// Removes what a replica that moved away left on disk. A failure leaves it there, which only costs room.
    async fn forget(&self, shard: ShardId) {
        if let Err(error) = self.context.host.forget(GroupId(shard.0)).await {
            tracing::warn!(%shard, %error, "the replica's files stay");
        }
    }

    async fn stop(&mut self) {
        for open in self.open.values() {
            open.clock.stop(None);
        }
        hand_over(&self.context).await;
        let shards: Vec<ShardId> = self.open.keys().copied().collect();
        for shard in shards {
            self.close(shard).await;
        }
    }
}

/// Gives every group that this node leads to the follower that is furthest on, of those that answer.
pub async fn hand_over(context: &Context) {
    let led = context.host.groups().into_iter().filter_map(|group| {
        let status = group.status();
        let (others, answering) = (status.voters.iter().copied().filter(|id| id.0 != context.node), group.answering());
        let furthest = others.max_by_key(|id| (answering.contains(id), status.matched.get(id).copied().flatten()))?;
        (status.role == Role::Leader).then_some((group, furthest))
    });
    join_all(led.map(|(group, to)| async move {
        if let Err(error) = group.transfer_leader(to, HANDOVER_TIMEOUT).await {
            tracing::info!(group = %group.id(), %to, %error, "leadership not handed over, an election will");
        }
    }))
    .await;
}
