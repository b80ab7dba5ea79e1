//! The actor that owns one shard's state: it applies committed entries, a message for a batch of them, and hands out
//! views; and [`Shard`], through which the rest of the node proposes and reads. With `meta::group` the only place that
//! joins a machine to a group.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use reckoner_raft::error::Error;
use reckoner_raft::group::{Applied, Group, Role, Status};
use reckoner_raft::machine::{ChunkSink, ChunkSource, Committed, Frozen, Halt, Machine, Position};
use reckoner_shard::base::hash::{Hash, hex};
use reckoner_shard::base::id::{ShardId, Slot};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::codec::{self, Entry};
use reckoner_shard::machine::command::{self, Command, CommandOutcome, Effect, Outcome};
use reckoner_shard::machine::query::View;
use reckoner_shard::machine::state::State;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;

use super::billing::{Doubt, Folds};
use super::checks::Checks;
use super::contents;
use super::reach;
use crate::clocks::Reading;
use crate::condemned::Condemned;
use crate::context::Context;
use crate::timekeeping;
use crate::workers;

/// How long a proposal may take: a few elections. After it the outcome is unknown and the sender repeats.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two rounds of asking peers for a blob that an entry names.
const BLOB_RETRY: Duration = Duration::from_millis(200);

/// What the actor is asked.
pub enum Message {
    /// Apply committed entries and answer one outcome each.
    Apply { entries: Vec<Committed>, reply: oneshot::Sender<Result<Vec<Bytes>, Halt>> },
    /// A view at the last applied entry: of one slot, or of all.
    View { slot: Option<Slot>, reply: oneshot::Sender<Read> },
    /// Replace the state by a snapshot.
    Restore { source: Box<dyn ChunkSource>, reply: oneshot::Sender<Result<(), Halt>> },
    /// The hash of the state.
    Hash { reply: oneshot::Sender<(Position, Hash)> },
}

/// A view with the place in the log that it contains.
#[derive(Clone)]
pub struct Read {
    pub view: Arc<View>,
    pub position: Position,
}

struct ShardActor;

struct Owned {
    id: ShardId,
    state: State,
    position: Position,
    parts: Parts,
}

/// What the actor and its handle share.
#[derive(Clone)]
pub struct Parts {
    context: Arc<Context>,
    actor: Option<ActorRef<Message>>,
    folds: Folds,
    checks: Checks,
    /// Told when a cycle took a step, for the cycle clock.
    wake: Arc<Notify>,
    /// Whether the shard was seen to know its slots.
    begun: Arc<AtomicBool>,
}

impl Actor for ShardActor {
    type Msg = Message;
    type State = Owned;
    type Arguments = (ShardId, Parts);

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (id, parts): (ShardId, Parts),
    ) -> Result<Owned, ActorProcessingErr> {
        Ok(Owned { id, state: State::new(id).supporting(parts.context.machine), position: Position::default(), parts })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        owned: &mut Owned,
    ) -> Result<(), ActorProcessingErr> {
        // Whoever asked may have gone; then the answer is nobody's.
        match message {
            Message::Apply { entries, reply } => drop(reply.send(owned.apply(entries).await)),
            Message::View { slot, reply } => drop(reply.send(owned.read(slot))),
            Message::Restore { source, reply } => drop(reply.send(owned.restore(source).await)),
            Message::Hash { reply } => drop(reply.send((owned.position, owned.state.hash()))),
        }
        Ok(())
    }
}

impl Owned {
    async fn apply(&mut self, entries: Vec<Committed>) -> Result<Vec<Bytes>, Halt> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(self.apply_one(&entry).await?);
        }
        Ok(outcomes)
    }

    async fn apply_one(&mut self, entry: &Committed) -> Result<Bytes, Halt> {
        self.prepare(&entry.bytes).await?;
        let catalogues = self.parts.context.catalogues.clone();
        let applied = loop {
            match self.state.apply(entry.position.index, &entry.bytes, catalogues.as_ref()) {
                Ok(applied) => break applied,
                Err(command::Halt::BlobMissing { hash }) => self.wait_for_blob(&hash).await,
                Err(halt) => return Err(Halt::new(halt.to_string())),
            }
        };
        self.position = entry.position;
        for effect in applied.effects {
            self.act(effect);
        }
        Ok(applied.outcome.into())
    }

    /// Before bills or an archive are recorded, this replica's own must have given the same and be on disk; one that
    /// differs stops rather than record what it cannot answer for. Before slots are taken in, their bills must be here.
    async fn prepare(&mut self, entry: &[u8]) -> Result<(), Halt> {
        let Ok(Entry::Commands { commands, .. }) = codec::decode_entry(entry) else {
            // Usage records nothing of this kind, and the machine itself says what it cannot read.
            return Ok(());
        };
        let mut archived = Vec::new();
        for command in commands {
            match command {
                Command::Billed { slot, roots } => {
                    let view = self.read(Some(slot)).view;
                    for agreed in roots {
                        self.parts.folds.compare(&view, &agreed).await.map_err(|doubt| self.doubt(doubt))?;
                    }
                }
                Command::Archived { root, cycle, hash } => archived.push((root, cycle, hash)),
                Command::SettleSlots { id, epoch: Some(_), .. } => self.wait_for_contents(id).await,
                _ => (),
            }
        }
        if !archived.is_empty() {
            let view = self.read(None).view;
            self.parts.folds.compare_archives(&view, archived).await.map_err(|doubt| self.doubt(doubt))?;
        }
        Ok(())
    }

    /// What a majority agreed on is not so here: the replica stops, and is rebuilt where that is for its state.
    fn doubt(&self, doubt: Doubt) -> Halt {
        match doubt {
            Doubt::Failed(reason) => Halt::new(reason),
            Doubt::Differs(reason) => {
                let context = &self.parts.context;
                context.shards.remove(self.id);
                context.counts.differences.fetch_add(1, Ordering::Relaxed);
                context.rebuilds.condemn(Condemned { shard: self.id, reason: reason.clone(), sources: Vec::new() });
                Halt::new(reason)
            }
        }
    }

    /// Compiles the catalogue under `hash`, from this node's disk or a peer's. An entry that names it is never skipped:
    /// the group waits here, and says so.
    async fn wait_for_blob(&self, hash: &Hash) {
        loop {
            match reach::catalogue(&self.parts.context, hash).await {
                Ok(()) => return,
                Err(reason) => {
                    let name = hex(hash);
                    tracing::warn!(shard = %self.id, hash = name, reason, "an entry waits for a catalogue");
                    tokio::time::sleep(BLOB_RETRY).await;
                }
            }
        }
    }

    /// Waits until everything is here that slots name which have come.
    async fn wait_for_contents(&self, id: u64) {
        let Some(view) = self.state.arrived(id) else { return };
        let wanted = view.contents();
        while let Err(reason) = contents::ensure(&self.parts.context, wanted.clone()).await {
            tracing::warn!(shard = %self.id, slot_move = id, reason, "slots wait for their bills");
            tokio::time::sleep(BLOB_RETRY).await;
        }
    }

    fn act(&mut self, effect: Effect) {
        self.parts.wake.notify_one();
        match effect {
            Effect::CycleCut { slot, root, cycle } => {
                let view = self.read(Some(slot)).view;
                drop(self.parts.folds.ensure(&view, &root, cycle));
            }
            Effect::CycleIssued { root, cycle, .. } => self.parts.folds.forget(&root, cycle),
            Effect::SlotsSealed { id } => {
                // Ahead of the decision, so that nothing waits for them then.
                if let Some(view) = self.state.arrived(id) {
                    let context = self.parts.context.clone();
                    tokio::spawn(async move { contents::ensure(&context, view.contents()).await });
                }
            }
            Effect::CycleBilled { .. } | Effect::CycleArchived { .. } | Effect::CatalogueActivated { .. } => (),
            Effect::Digest { .. } => {
                let read = self.read(None);
                self.parts.checks.begin(read.view, read.position.index);
            }
        }
    }

    fn read(&mut self, slot: Option<Slot>) -> Read {
        let view = match slot {
            Some(slot) => self.state.view_of(slot),
            None => self.state.view(),
        };
        Read { view: Arc::new(view), position: self.position }
    }

    /// On a worker: a large state takes a second, in which this thread serves others.
    async fn restore(&mut self, source: Box<dyn ChunkSource>) -> Result<(), Halt> {
        let context = &self.parts.context;
        let newest = context.machine;
        let restored = workers::run(context.workers.as_ref(), move || restored(newest, source)).await;
        self.state = restored.map_err(|lost| Halt::new(format!("the snapshot cannot be restored: {lost}")))??;
        Ok(())
    }
}

/// The state that a snapshot holds, for a program that supports versions of the machine up to `newest`.
fn restored(newest: u32, mut source: Box<dyn ChunkSource>) -> Result<State, Halt> {
    let mut failed: Option<io::Error> = None;
    let parts = std::iter::from_fn(|| match source.next() {
        Ok(part) => part.map(|(section, bytes)| (section, bytes.to_vec())),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let restored = State::restore_supporting(newest, parts);
    if let Some(error) = failed {
        return Err(Halt::new(format!("the snapshot cannot be read: {error}")));
    }
    restored.map_err(|error| Halt::new(format!("the snapshot cannot be restored: {error}")))
}

/// Starts the actor of a shard, with an empty state, linked to `supervisor`.
pub async fn start(
    id: ShardId,
    context: &Arc<Context>,
    supervisor: ActorCell,
) -> Result<(ActorRef<Message>, Parts), ActorProcessingErr> {
    let folds = Folds::new(id, context);
    let checks = Checks::new(id, context);
    let (wake, begun) = (Arc::default(), Arc::default());
    let mut parts = Parts { context: context.clone(), actor: None, folds, checks, wake, begun };
    let (actor, _) = Actor::spawn_linked(None, ShardActor, (id, parts.clone()), supervisor).await?;
    parts.actor = Some(actor.clone());
    Ok((actor, parts))
}

/// The actor as a machine of replication.
pub fn machine(actor: &ActorRef<Message>) -> Box<dyn Machine> {
    Box::new(ShardMachine(actor.clone()))
}

struct ShardMachine(ActorRef<Message>);

impl ShardMachine {
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Halt> {
        let gone = || Halt::new("the shard's actor is gone");
        let (reply, answer) = oneshot::channel();
        self.0.send_message(message(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl Machine for ShardMachine {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, Result<Vec<Bytes>, Halt>> {
        Box::pin(async move { self.ask(|reply| Message::Apply { entries, reply }).await? })
    }

    fn freeze(&mut self) -> BoxFuture<'_, Result<Box<dyn Frozen>, Halt>> {
        Box::pin(async move {
            let read = self.ask(|reply| Message::View { slot: None, reply }).await?;
            let frozen: Box<dyn Frozen> = Box::new(FrozenShard(read.view));
            Ok(frozen)
        })
    }

    fn restore(&mut self, source: Box<dyn ChunkSource>) -> BoxFuture<'_, Result<(), Halt>> {
        Box::pin(async move { self.ask(|reply| Message::Restore { source, reply }).await? })
    }
}

struct FrozenShard(Arc<View>);

impl Frozen for FrozenShard {
    fn attachments(&self) -> Vec<Hash> {
        self.0.contents()
    }

    fn write(self: Box<Self>, sink: &mut dyn ChunkSink) -> io::Result<()> {
        let mut result = Ok(());
        self.0.write(&mut |section, bytes| {
            if result.is_ok() {
                result = sink.put(section, bytes);
            }
        });
        result
    }
}

/// A shard on this node. Clones are the same shard.
#[derive(Clone)]
pub struct Shard {
    id: ShardId,
    group: Group,
    /// The group's status as it was last published: asked for with every batch, so it must cost nothing.
    status: watch::Receiver<Status>,
    parts: Parts,
    /// The last stamp that was given here, so that a clock that goes back does not show in the log.
    stamped: Arc<AtomicI64>,
}

impl Shard {
    pub fn new(id: ShardId, group: Group, parts: Parts) -> Self {
        Self { id, status: group.watch(), group, parts, stamped: Arc::new(AtomicI64::new(i64::MIN)) }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What this replica folds for cycles that are cut.
    pub fn folds(&self) -> &Folds {
        &self.parts.folds
    }

    /// Whether this replica is equal to the others.
    pub fn checks(&self) -> &Checks {
        &self.parts.checks
    }

    /// Told when a cycle took a step here.
    pub fn wake(&self) -> &Arc<Notify> {
        &self.parts.wake
    }

    /// Whether the shard was seen here to know its slots; before it refuses everything.
    pub fn has_begun(&self) -> bool {
        self.parts.begun.load(Ordering::Relaxed)
    }

    /// Remembers that the shard knows its slots.
    pub fn note_begun(&self) {
        self.parts.begun.store(true, Ordering::Relaxed);
    }

    pub fn leads(&self) -> bool {
        self.status.borrow().role == Role::Leader
    }

    /// Who leads, with the address.
    pub fn leader(&self) -> Option<(u64, String)> {
        self.status.borrow().leader.as_ref().map(|(node, address)| (node.0, address.clone()))
    }

    /// Who leads once this replica, which took no proposal, knows it: after a hand-over, an election, or a moment in which it
    /// was not sure that it leads itself, as when it begins to. `None` where that is not known within `patience`, or the
    /// node stops.
    pub async fn next_leader(&self, patience: Duration) -> Option<(u64, String)> {
        let (context, mut status) = (&self.parts.context, self.status.clone());
        let begun = status.borrow().clone();
        // While it hands over, this node is still named as the leader, in the term that ends.
        let is_known = |now: &Status| {
            let leader = now.leader.as_ref().map(|(node, _)| node.0);
            leader.is_some_and(|leader| leader != context.node || now.term > begun.term || begun.leader.is_none())
        };
        tokio::select! {
            biased;
            known = timeout(patience, status.wait_for(is_known)) => {
                known.ok()?.ok()?.leader.as_ref().map(|(node, address)| (node.0, address.clone()))
            }
            Ok(_) = self.group.read_barrier(patience) => self.leader(),
            () = context.stopping.cancelled() => None,
        }
    }

    /// Proposes a batch of usage as it came. Only the leader can.
    pub async fn push(&self, batch: &[u8]) -> Result<Applied, Error> {
        let reading = match self.reading() {
            // A clock jumped: usage waits no longer than it takes to ask.
            None if self.leads() => self.reading_closely().await,
            reading => reading,
        };
        let stamp = self.stamp(reading)?;
        let entry = codec::encode_usage_entry(stamp, self.parts.context.draws.generation(), batch);
        self.group.propose(entry.into(), PROPOSE_TIMEOUT).await
    }

    /// Proposes encoded commands as they came from another node, under this node's stamp.
    pub async fn propose(&self, commands: &[Command]) -> Result<Applied, Error> {
        let reading = self.reading_closely().await;
        let cuts = commands.iter().any(|command| matches!(command, Command::Cut { .. }));
        if let Some(reason) = reading.as_ref().filter(|_| cuts).and_then(Reading::doubt) {
            return Err(Error::Unavailable { reason });
        }
        let entry = codec::encode_commands(self.stamp(reading)?, self.parts.context.draws.generation(), commands);
        self.group.propose(entry.into(), PROPOSE_TIMEOUT).await
    }

    /// Proposes commands and reads what came of each. Only the leader can.
    pub async fn command(&self, commands: &[Command]) -> Result<(Vec<CommandOutcome>, Position), Error> {
        let applied = self.propose(commands).await?;
        Ok((outcomes_of(&applied.outcome)?, applied.position))
    }

    /// A view at the last entry applied here, however old that is: of one slot, which is cheap, or of all.
    pub async fn view(&self, slot: Option<Slot>) -> Result<Read, Error> {
        self.ask(|reply| Message::View { slot, reply }).await
    }

    /// The hash of this replica's state, with the entry that it contains.
    pub async fn hash(&self) -> Result<(Position, Hash), Error> {
        self.ask(|reply| Message::Hash { reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Error> {
        let gone = || Error::Stopped { reason: "the shard's actor is gone".to_owned() };
        let actor = self.parts.actor.as_ref().ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        actor.send_message(message(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Who votes here.
    pub fn voters(&self) -> BTreeSet<u64> {
        self.status.borrow().voters.iter().map(|node| node.0).collect()
    }

    /// The time by the clocks of those who vote; `None` while those of no majority are known.
    pub fn reading(&self) -> Option<Reading> {
        timekeeping::read(&self.parts.context, &self.voters())
    }

    /// The same, asking the others again where this node's clock is in doubt.
    pub async fn reading_closely(&self) -> Option<Reading> {
        timekeeping::read_closely(&self.parts.context, &self.voters()).await
    }

    /// max(last stamp, median of the clocks). The machine takes the maximum with the log's last stamp as well, so a new
    /// leader with a slow clock cannot turn time back. Only a leader's stamp goes anywhere.
    fn stamp(&self, reading: Option<Reading>) -> Result<Timestamp, Error> {
        let now = match reading {
            Some(reading) => reading.now.0,
            None if !self.leads() => i64::MIN,
            None => {
                let reason = "the clocks of a majority of the shard's nodes are not known yet".to_owned();
                return Err(Error::Unavailable { reason });
            }
        };
        Ok(Timestamp(self.stamped.fetch_max(now, Ordering::SeqCst).max(now)))
    }
}

/// Reads the answer to commands.
pub fn outcomes_of(outcome: &[u8]) -> Result<Vec<CommandOutcome>, Error> {
    let unreadable = |why: String| Error::Unknown { reason: format!("the shard's answer cannot be read: {why}") };
    match codec::decode_outcome(outcome).map_err(|error| unreadable(error.to_string()))? {
        Outcome::Commands(outcomes) => Ok(outcomes),
        Outcome::Usage(_) => Err(unreadable("it answers usage".to_owned())),
    }
}
