//! openraft's state machine over a [`Machine`]: hands it committed entries, remembers the last applied one and the
//! membership, installs snapshots.
//!
//! Snapshots are built beside openraft (see `group`): a build that fails for want of disk is tried again, it must not
//! stop the group. openraft is only told of the finished one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::machine::{Committed, Frozen, Halt, Machine, Position, Workers, on_worker};
use crate::store::pages::{ChunkReader, PageWriter};
use crate::store::snapshot::{SnapshotStore, StoredSnapshot};
use crate::types::{GroupId, LogId, Outcome, Snapshot, SnapshotMeta, StoredMembers, Types};
use crate::wire;

/// Entries handed to the machine in one call: enough to amortise the call, few enough that answers flow.
const APPLY_ENTRIES_MAX: usize = 256;

/// What openraft carries as a snapshot: the stored one, by reference.
#[derive(Clone)]
pub struct SnapshotData(pub(crate) Arc<dyn StoredSnapshot>);

/// The part of the applier that the group looks at.
pub(crate) struct Shared {
    /// One past the last applied index.
    pub applied_next: watch::Sender<u64>,
    /// The current snapshot, verified or just written.
    pub current: Mutex<Option<Arc<dyn StoredSnapshot>>>,
    /// Why the machine halted, if it did.
    pub halted: Mutex<Option<String>>,
}

impl Shared {
    /// Makes `stored` the current snapshot unless a newer one came meanwhile.
    pub fn advance_current(&self, stored: Arc<dyn StoredSnapshot>) {
        let mut current = self.current.lock();
        if current.as_ref().map(index_of) < Some(index_of(&stored)) {
            *current = Some(stored);
        }
    }
}

/// The state at one entry, to be written as a snapshot.
pub(crate) struct View {
    pub frozen: Box<dyn Frozen>,
    /// The last applied entry; none before the first.
    pub applied: Option<LogId>,
    pub members: StoredMembers,
}

pub struct Applier {
    group: GroupId,
    /// Never contended: openraft wants its state machine to be `Sync`, a machine need not be.
    machine: Mutex<Box<dyn Machine>>,
    shared: Arc<Shared>,
    store: Arc<dyn SnapshotStore>,
    workers: Arc<dyn Workers>,
    applied: Option<LogId>,
    members: StoredMembers,
}

impl Applier {
    pub(crate) fn new(
        group: GroupId,
        machine: Box<dyn Machine>,
        current: Option<Arc<dyn StoredSnapshot>>,
        store: Arc<dyn SnapshotStore>,
        workers: Arc<dyn Workers>,
    ) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared {
            applied_next: watch::Sender::new(0),
            current: Mutex::new(current),
            halted: Mutex::new(None),
        });
        let applier = Self {
            group,
            machine: Mutex::new(machine),
            shared: shared.clone(),
            store,
            workers,
            applied: None,
            members: StoredMembers::default(),
        };
        (applier, shared)
    }

    /// A view of the machine at its last applied entry.
    pub(crate) async fn freeze(&mut self) -> Result<View, Halt> {
        let frozen = self.machine.get_mut().freeze().await?;
        Ok(View { frozen, applied: self.applied, members: self.members.clone() })
    }

    fn halt(&self, halt: Halt) -> io::Error {
        tracing::error!(group = %self.group, reason = %halt.reason, "machine halted, group stops on this replica");
        *self.shared.halted.lock() = Some(halt.reason.clone());
        io::Error::other(halt)
    }

    fn advance(&mut self, to: LogId) {
        self.applied = Some(to);
        self.shared.applied_next.send_replace(to.index + 1);
    }

    /// Applies what was gathered and answers.
    async fn apply_gathered(&mut self, gathered: &mut Gathered) -> io::Result<()> {
        let Some(last) = gathered.last.take() else {
            return Ok(());
        };
        let entries = std::mem::take(&mut gathered.entries);
        let count = entries.len();
        let outcomes = match self.machine.get_mut().apply(entries).await {
            Ok(outcomes) if outcomes.len() == count => outcomes,
            Ok(outcomes) => {
                return Err(self.halt(Halt::new(format!("{} outcomes for {count} entries", outcomes.len()))));
            }
            Err(halt) => return Err(self.halt(halt)),
        };
        self.advance(last);
        for (responder, outcome) in gathered.responders.drain(..).zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(Outcome(outcome));
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Gathered {
    entries: Vec<Committed>,
    responders: Vec<Option<ApplyResponder<Types>>>,
    last: Option<LogId>,
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembers), io::Error> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut gathered = Gathered::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            match entry.payload {
                EntryPayload::Normal(data) => {
                    gathered.entries.push(Committed { position: position(&entry.log_id), bytes: data.0 });
                    gathered.responders.push(responder);
                    gathered.last = Some(entry.log_id);
                    if gathered.entries.len() >= APPLY_ENTRIES_MAX {
                        self.apply_gathered(&mut gathered).await?;
                    }
                }
                other => {
                    self.apply_gathered(&mut gathered).await?;
                    if let EntryPayload::Membership(members) = other {
                        self.members = StoredMembers::new(Some(entry.log_id), members);
                    }
                    self.advance(entry.log_id);
                    if let Some(responder) = responder {
                        responder.send(Outcome(Bytes::new()));
                    }
                }
            }
        }
        self.apply_gathered(&mut gathered).await
    }

    /// Unless forced, the snapshot that the group has just written: openraft only has to note it.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let current = self.shared.current.lock().clone();
        if !force && current.is_none() {
            return None;
        }
        let fresh = current.as_ref().is_some_and(|stored| index_of(stored) >= self.applied.map(|id| id.index));
        let view = if force && !fresh { self.freeze().await.ok() } else { None };
        Some(Builder {
            group: self.group,
            current,
            view: Mutex::new(view),
            shared: self.shared.clone(),
            store: self.store.clone(),
            workers: self.workers.clone(),
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            group: self.group,
            current: self.shared.current.lock().clone(),
            view: Mutex::new(None),
            shared: self.shared.clone(),
            store: self.store.clone(),
            workers: self.workers.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let stored = snapshot.0;
        let (group, store, adopted) = (self.group, self.store.clone(), stored.clone());
        let pages = on_worker(self.workers.as_ref(), move || {
            store.adopt(group, &adopted)?;
            adopted.pages()
        })
        .await?;
        let reader = ChunkReader::new(pages);
        if let Err(halt) = self.machine.get_mut().restore(Box::new(reader)).await {
            return Err(self.halt(halt));
        }
        *self.shared.current.lock() = Some(stored);
        self.members = meta.last_membership.clone();
        self.applied = meta.last_log_id;
        self.shared.applied_next.send_replace(meta.last_log_id.map_or(0, |id| id.index + 1));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.shared.current.lock().clone();
        current.map(snapshot_of).transpose()
    }
}

/// Hands openraft a snapshot that is already on disk, or writes one first where openraft cannot go on without.
pub struct Builder {
    group: GroupId,
    current: Option<Arc<dyn StoredSnapshot>>,
    view: Mutex<Option<View>>,
    shared: Arc<Shared>,
    store: Arc<dyn SnapshotStore>,
    workers: Arc<dyn Workers>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (group, store) = (self.group, self.store.clone());
        if let Some(view) = self.view.get_mut().take() {
            let stored = on_worker(self.workers.as_ref(), move || write_view(group, store.as_ref(), view)).await?;
            self.shared.advance_current(stored.clone());
            return snapshot_of(stored);
        }
        match self.current.take() {
            Some(stored) => snapshot_of(stored),
            None => Err(io::Error::other("there is nothing to take a snapshot of")),
        }
    }
}

/// Writes a frozen machine as the new current snapshot. Runs on a worker.
pub(crate) fn write_view(group: GroupId, store: &dyn SnapshotStore, view: View) -> io::Result<Arc<dyn StoredSnapshot>> {
    let attachments = view.frozen.attachments();
    let mut writer = PageWriter::new(store.begin(group)?);
    view.frozen.write(&mut writer)?;
    let (writer, mut manifest) = writer.finish()?;
    manifest.position = view.applied.as_ref().map(wire::position_out);
    manifest.membership_position = view.members.log_id().as_ref().map(wire::position_out);
    manifest.membership = Some(wire::members_out(view.members.membership()));
    manifest.attachments = attachments.iter().map(|hash| Bytes::copy_from_slice(hash)).collect();
    let stored = writer.seal(manifest)?;
    store.adopt(group, &stored)?;
    Ok(stored)
}

/// The entry at which a snapshot stands.
pub(crate) fn index_of(stored: &Arc<dyn StoredSnapshot>) -> Option<u64> {
    stored.manifest().position.as_ref().map(|at| at.index)
}

/// openraft's words for a stored snapshot.
pub(crate) fn snapshot_of(stored: Arc<dyn StoredSnapshot>) -> io::Result<Snapshot> {
    let manifest = stored.manifest();
    let meta = SnapshotMeta {
        last_log_id: manifest.position.as_ref().map(wire::position_in),
        last_membership: wire::stored_members_in(manifest)?,
    };
    Ok(Snapshot { meta, snapshot: SnapshotData(stored) })
}

pub(crate) fn position(id: &LogId) -> Position {
    Position { index: id.index, term: id.leader_id.term }
}
