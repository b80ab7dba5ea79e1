//! The mover: an actor on every node that carries slots between shards. The meta group's leader begins the moves that the
//! wanted layout asks for; the leader of the shard that slots leave freezes them, carries them over and asks for the
//! decision; then each shard's leader makes its shard settle by it. Every step is safe to repeat, so whoever leads next
//! goes on. What moves is decided in [`crate::meta::layout`], what a step does in `machine/moves.rs` of the shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use reckoner_shard::base::id::ShardId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::machine::command::{Command, CommandOutcome};
use reckoner_shard::placement::SlotRange;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::api::status::Trouble;
use crate::context::Context;
use crate::data::reach::{self, Freshness};
use crate::data::shard::Shard;
use crate::meta::command::{self as meta, Decide, MoveRow, MoveState, Retire, Settled};
use crate::meta::layout;
use crate::meta::state::MetaState;
use crate::placer;
use crate::workers;

/// How often a node looks when nothing changed: a step that failed is tried again.
const INTERVAL: Duration = Duration::from_millis(500);

/// Slots that were not carried over by then stay, and are tried again: usage of them waits meanwhile.
const CARRY_MAX: Duration = Duration::from_secs(10);

pub enum Message {
    /// Look what there is to do.
    Look,
}

pub struct Mover;

pub struct Moving {
    context: Arc<Context>,
    wake: Arc<Notify>,
    /// Steps under way here: move and shard.
    running: Arc<Mutex<BTreeSet<(u64, u32)>>>,
    /// Since when this node carries a move.
    since: BTreeMap<u64, Instant>,
}

impl Actor for Mover {
    type Msg = Message;
    type State = Moving;
    type Arguments = Arc<Context>;

    async fn pre_start(&self, myself: ActorRef<Message>, context: Arc<Context>) -> Result<Moving, ActorProcessingErr> {
        let wake = Arc::new(Notify::new());
        let (mut seen, woken) = (context.meta.watch(), wake.clone());
        tokio::spawn(async move {
            while myself.send_message(Message::Look).is_ok() {
                let changed = async {
                    tokio::select! {
                        changed = seen.changed() => changed.is_ok(),
                        () = woken.notified() => true,
                    }
                };
                if timeout(INTERVAL, changed).await == Ok(false) {
                    return;
                }
            }
        });
        Ok(Moving { context, wake, running: Arc::default(), since: BTreeMap::new() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        moving: &mut Moving,
    ) -> Result<(), ActorProcessingErr> {
        let Message::Look = message;
        moving.look().await;
        Ok(())
    }
}

impl Moving {
    async fn look(&mut self) {
        let state = self.context.meta.state();
        if !state.is_founded() || self.context.stopping.is_cancelled() {
            return;
        }
        if self.context.meta.leads() {
            self.follow_layout(&state).await;
        }
        let moves = state.moves();
        self.since.retain(|id, _| moves.iter().any(|row| row.id == *id && row.state() == MoveState::Carrying));
        for row in moves {
            match row.state() {
                MoveState::Carrying => self.carry(row),
                MoveState::Committed | MoveState::Cancelled => {
                    for shard in [row.from, row.to].into_iter().filter(|shard| !row.settled.contains(shard)) {
                        self.settle(row, shard);
                    }
                }
            }
        }
    }

    /// Begins the next moves, and gives up shards without slots.
    async fn follow_layout(&self, state: &MetaState) {
        // Documents go first: they are few, and slots can wait.
        let next = if self.context.turns.is_awaited() { Vec::new() } else { layout::next_moves(state) };
        let starts = next.into_iter().map(meta::Command::StartMove);
        let retired = layout::next_retired(state).into_iter().map(|shard| meta::Command::Retire(Retire { shard }));
        for command in starts.chain(retired) {
            if let Err(error) = self.context.meta.propose(command).await {
                tracing::debug!(%error, "a step towards the wanted layout is not recorded yet");
                return;
            }
        }
    }

    /// The shard where this node leads it, unless a step of the move is under way for it.
    fn led(&self, id: u64, shard: u32) -> Option<Shard> {
        let own = self.context.shards.get(ShardId(shard)).filter(Shard::leads)?;
        self.running.lock().insert((id, shard)).then_some(own)
    }

    fn carry(&mut self, row: &MoveRow) {
        let Some(shard) = self.led(row.id, row.from) else { return };
        let late = self.since.entry(row.id).or_insert_with(Instant::now).elapsed() >= CARRY_MAX;
        let (context, row) = (self.context.clone(), row.clone());
        self.spawn(row.id, row.from, async move {
            let decide = |commit, halt| meta::Command::Decide(Decide { id: row.id, commit, halt });
            let decision = match late {
                true => decide(false, String::new()),
                false => match carry(&context, &shard, &row).await {
                    Ok(()) => decide(true, String::new()),
                    Err(Trouble::Refused(refusal)) if !refusal.reason.heals() => decide(false, refusal.detail),
                    Err(trouble) => return Err(trouble),
                },
            };
            placer::propose(&context, decision).await.map(|_| ())
        });
    }

    fn settle(&self, row: &MoveRow, id: u32) {
        let Some(shard) = self.led(row.id, id) else { return };
        let (context, row) = (self.context.clone(), row.clone());
        self.spawn(row.id, id, async move {
            let is_owner = (id == row.to) == (row.state() == MoveState::Committed);
            let epoch = is_owner.then_some(row.epoch);
            let settle = Command::SettleSlots { id: row.id, slots: slots_of(&row), epoch };
            let applied = shard.command(&[settle]).await;
            let (outcomes, _) = applied.map_err(|error| Trouble::of_group(error, id, row.epoch))?;
            refused(outcomes)?;
            let settled = meta::Command::Settled(Settled { id: row.id, shard: id });
            placer::propose(&context, settled).await.map(|_| ())
        });
    }

    /// Runs a step beside the actor, and looks again when it is over.
    fn spawn(&self, id: u64, shard: u32, step: impl Future<Output = Result<(), Trouble>> + Send + 'static) {
        let (running, wake) = (self.running.clone(), self.wake.clone());
        tokio::spawn(async move {
            let done = step.await;
            running.lock().remove(&(id, shard));
            match done {
                Ok(()) => wake.notify_one(),
                // The next look tries again.
                Err(trouble) => {
                    let why = trouble.status();
                    tracing::info!(slot_move = id, shard, why = why.message(), "a step of a slot move waits");
                }
            }
        });
    }
}

fn slots_of(row: &MoveRow) -> SlotRange {
    let slot = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
    SlotRange { first: slot(row.first), last: slot(row.last) }
}

/// Freezes slots and carries them to the other shard, until only the decision is missing.
async fn carry(context: &Arc<Context>, shard: &Shard, row: &MoveRow) -> Result<(), Trouble> {
    let (from, to, slots, id) = (shard.id(), ShardId(row.to), slots_of(row), row.id);
    let read = reach::read(context, from, None, Freshness::Linearizable).await?;
    // A shard that never had a hierarchy of a catalogue may not know it.
    for (name, versions) in read.view.catalogues_of(slots) {
        let activate = versions.into_iter().map(|known| Command::ActivateCatalogue {
            name: name.clone(),
            version: known.version,
            hash: known.hash,
            effective: known.effective,
        });
        let commands: Vec<Command> = activate.collect();
        refused(reach::execute(context, to, &commands).await?.0)?;
    }
    let frozen = shard.command(&[Command::FreezeSlots { id, slots }]).await;
    let (outcomes, _) = frozen.map_err(|error| Trouble::of_group(error, from.0, 0))?;
    // Over already, as this node will learn.
    refused(outcomes).map_err(|refusal| match refusal.reason {
        Reason::VersionConflict => Trouble::unavailable(refusal.detail),
        _ => Trouble::Refused(refusal),
    })?;
    let view = shard.view(None).await.map_err(|error| Trouble::of_group(error, from.0, 0))?.view;
    let packed = workers::run(context.workers.as_ref(), move || view.pack_slots(slots)).await;
    let (chunks, seal) = packed.map_err(|lost| Trouble::unavailable(lost.to_string()))??;
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    for (at, chunk) in (0..).zip(chunks) {
        let stage = Command::StageSlots { id, slots, at, chunk };
        refused(reach::execute(context, to, &[stage]).await?.0)?;
    }
    refused(reach::execute(context, to, &[Command::SealSlots { id, slots, seal }]).await?.0)?;
    tracing::info!(slot_move = id, %slots, %from, %to, bytes, "slots are carried over and wait for the decision");
    Ok(())
}

/// The first refusal among outcomes.
fn refused(outcomes: Vec<CommandOutcome>) -> Result<(), Refusal> {
    outcomes.into_iter().try_for_each(|outcome| match outcome {
        CommandOutcome::Done(_) => Ok(()),
        CommandOutcome::Refused(refusal) => Err(refusal),
    })
}
