//! A Raft group as its users see it: propose, read barrier, membership, snapshots, status, stop.
//!
//! Groups are opened by [`crate::host::Host`]; clones are the same group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::raft::{ClientWriteResponse, VoteRequest, VoteResponse};
use openraft::{ChangeMembers, Instant as _, ReadPolicy, ServerState};
use tokio::sync::watch;
use tokio::time::{Instant, timeout as within, timeout_at};

use crate::applier::{self, index_of, position};
use crate::error::Error;
use crate::image::Image;
use crate::machine::{Position, Workers, on_worker};
use crate::seeds::Seeds;
use crate::store::log::GroupLog;
use crate::store::snapshot::SnapshotStore;
use crate::types::{Data, GroupId, NodeId, Peer, Raft, Types, Vote};

/// How long openraft may take to note a snapshot that is already on disk.
const NOTE_TIMEOUT: Duration = Duration::from_secs(30);

/// openraft's answer to a write.
type Written = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

/// A proposal that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The machine's answer.
    pub outcome: Bytes,
    /// Where the entry stands.
    pub position: Position,
}

/// What a replica is at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Takes proposals.
    Leader,
    /// Asks for votes.
    Candidate,
    /// Follows, with a vote.
    #[default]
    Follower,
    /// Follows, without a vote.
    Learner,
    /// Stopped, or halted.
    Stopped,
}

/// A group as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Which group.
    pub group: GroupId,
    /// This node's part in it.
    pub role: Role,
    /// Who leads and where it is reached, as far as known here.
    pub leader: Option<(NodeId, String)>,
    /// The current term.
    pub term: u64,
    /// The last entry in the log here.
    pub last_log: Option<u64>,
    /// The last entry known to be committed.
    pub committed: Option<u64>,
    /// The last entry applied here.
    pub applied: Option<Position>,
    /// The entry of the current snapshot.
    pub snapshot: Option<Position>,
    /// The last entry dropped from the log.
    pub purged: Option<u64>,
    /// Members with a vote.
    pub voters: BTreeSet<NodeId>,
    /// Members without.
    pub learners: BTreeSet<NodeId>,
    /// Addresses of all members.
    pub addresses: BTreeMap<NodeId, String>,
    /// On the leader: how far each member's log is known to match. Empty elsewhere.
    pub matched: BTreeMap<NodeId, Option<u64>>,
    /// Why the group stopped, when it did.
    pub failure: Option<String>,
}

/// A Raft group on this node.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub id: GroupId,
    pub raft: Raft,
    pub log: GroupLog,
    pub shared: Arc<applier::Shared>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub workers: Arc<dyn Workers>,
    pub seeds: Arc<Seeds>,
    pub entry_bytes_max: usize,
    /// One snapshot of a group at a time.
    pub building: tokio::sync::Mutex<()>,
    pub status: watch::Sender<Status>,
    pub follower: parking_lot::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Group {
    /// Starts following openraft's own status.
    pub(crate) fn start(inner: Inner) -> Self {
        let group = Self { inner: Arc::new(inner) };
        let mut metrics = group.inner.raft.metrics();
        let (id, shared, status) = (group.inner.id, group.inner.shared.clone(), group.inner.status.clone());
        let (mut is_pledged, own) = (group.is_pledged(), Arc::downgrade(&group.inner));
        let task = tokio::spawn(async move {
            loop {
                let pledged = if is_pledged { own.upgrade() } else { None };
                if let Some(own) = pledged.filter(|own| own.log.pledged().is_none()) {
                    is_pledged = false;
                    own.raft.runtime_config().elect(true);
                }
                // Copied at once: openraft waits on its readers while they hold the value.
                let copy = metrics.borrow_watched().clone();
                let new = status_of(id, &copy, shared.halted.lock().clone());
                status.send_if_modified(|old| {
                    let changed = *old != new;
                    *old = new;
                    changed
                });
                if metrics.changed().await.is_err() {
                    break;
                }
            }
            status.send_modify(|status| status.role = Role::Stopped);
        });
        *group.inner.follower.lock() = Some(task);
        group
    }

    /// The answer to a candidate that has less than a replica here once had.
    pub(crate) fn withheld(&self, call: &VoteRequest<Types>) -> Option<VoteResponse<Types>> {
        let pledged = self.inner.log.pledged().filter(|pledged| call.last_log_id.as_ref() < Some(pledged))?;
        let vote = self.inner.log.vote().unwrap_or_else(|| Vote::new(0, NodeId(0)));
        Some(VoteResponse { vote, vote_granted: false, last_log_id: Some(pledged) })
    }

    /// Whether a replica that was here before had more than this one has yet.
    pub(crate) fn is_pledged(&self) -> bool {
        self.inner.log.pledged().is_some()
    }

    /// Which group this is.
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// Replicates `bytes` and returns the machine's answer once a majority has them on disk and this node has applied
    /// them. May be called concurrently; entries take their places in the order of the calls' arrival.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Unavailable`] and [`Error::TooLarge`] mean that nothing was appended.
    /// [`Error::Unknown`], as after `timeout`, means that it may have been, or still be.
    pub async fn propose(&self, bytes: Bytes, timeout: Duration) -> Result<Applied, Error> {
        if bytes.len() > self.inner.entry_bytes_max {
            return Err(Error::TooLarge { bytes: bytes.len(), bytes_max: self.inner.entry_bytes_max });
        }
        if let Some(error) = self.stopped() {
            return Err(error);
        }
        let write = self.inner.raft.client_write(Data(bytes));
        let result = within(timeout, self.inner.seeds.scope(write)).await;
        let response = self.written(result, timeout)?;
        Ok(Applied { outcome: response.data.0, position: position(&response.log_id) })
    }

    /// Returns once everything acknowledged before this call is applied here: the leader confirms with a majority that
    /// it still leads, without trusting clocks. A read of the machine after it is linearizable.
    pub async fn read_barrier(&self, timeout: Duration) -> Result<Position, Error> {
        if let Some(error) = self.stopped() {
            return Err(error);
        }
        let raft = &self.inner.raft;
        let barrier = self.inner.seeds.scope(raft.ensure_linearizable(ReadPolicy::ReadIndex));
        match within(timeout, barrier).await {
            Err(_) => Err(Error::unavailable(format!("no majority confirmed the leader within {timeout:?}"))),
            Ok(Ok(read)) => Ok(position(read.log_id())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => Err(forwarded(forward)),
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(missing)))) => {
                Err(Error::unavailable(missing.to_string()))
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(self.fatal(&fatal)),
        }
    }

    /// Waits until the entry at `index` is applied here.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), Error> {
        let mut applied = self.inner.shared.applied_next.subscribe();
        let reached = applied.wait_for(|next| *next > index);
        tokio::select! {
            biased;
            reached = within(timeout, reached) => match reached {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(Error::stopped("the group is closed")),
                Err(_) => Err(Error::unavailable(format!(
                    "entry {index} was not applied within {timeout:?}"
                ))),
            },
            failed = self.until_stopped() => Err(failed),
        }
    }

    /// The group as this node sees it now.
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let mut status = status_of(self.inner.id, &metrics, self.inner.shared.halted.lock().clone());
        // Metrics follow at openraft's pace; this is exact.
        if self.inner.status.borrow().role == Role::Stopped {
            status.role = Role::Stopped;
        }
        status
    }

    /// The status, again whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }

    /// Writes a snapshot of what is applied now, unless the current one is as new, and purges the log through the
    /// snapshot before it. Writers wait only while the machine is frozen.
    ///
    /// # Errors
    /// [`Error::Storage`] when the disk refuses: nothing changed, try again later.
    pub async fn snapshot_now(&self) -> Result<(), Error> {
        let _one = self.inner.building.lock().await;
        let applied = *self.inner.shared.applied_next.borrow();
        if applied <= self.current_index().map_or(0, |index| index + 1) {
            return Ok(());
        }
        let raft = &self.inner.raft;
        let frozen =
            raft.with_state_machine(|applier: &mut applier::Applier| Box::pin(async move { applier.freeze().await }));
        let view = match self.inner.seeds.scope(frozen).await {
            Ok(Ok(view)) => view,
            Ok(Err(halt)) => {
                *self.inner.shared.halted.lock() = Some(halt.reason.clone());
                self.stop().await;
                return Err(Error::stopped(halt.reason));
            }
            Err(fatal) => return Err(self.fatal(&fatal)),
        };
        let Some(index) = view.applied.map(|id| id.index) else {
            return Ok(());
        };
        let before = self.current_index();
        if before >= Some(index) {
            return Ok(());
        }
        let (group, store) = (self.inner.id, self.inner.snapshots.clone());
        let stored = on_worker(self.inner.workers.as_ref(), move || applier::write_view(group, store.as_ref(), view))
            .await
            .map_err(Error::storage)?;
        self.inner.shared.advance_current(stored);
        self.note_snapshot(index).await?;
        match before {
            Some(older) => self.purge(older).await,
            None => Ok(()),
        }
    }

    /// The state at an entry that is not before the last one applied now, from disk: a snapshot is written where the newest
    /// is older.
    ///
    /// # Errors
    /// As [`Group::snapshot_now`]; [`Error::Unavailable`] while nothing was applied yet.
    pub async fn image(&self) -> Result<Image, Error> {
        self.snapshot_now().await?;
        let current = self.inner.shared.current.lock().clone();
        current.map(Image::new).ok_or_else(|| Error::unavailable("nothing was applied yet"))
    }

    /// Asks `to` to take over; returns when it leads. Until it has everything that is here now, this node goes on leading:
    /// from the asking on it takes nothing more, and a peer that is behind would not win.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when `to` does not lead within `timeout`: where it is too far behind nothing has changed.
    pub async fn transfer_leader(&self, to: NodeId, timeout: Duration) -> Result<(), Error> {
        let begun = self.status();
        if begun.role != Role::Leader {
            return Err(Error::NotLeader { leader: begun.leader });
        }
        let (deadline, closed) = (Instant::now() + timeout, || Error::stopped("the group is closed"));
        let (own, raft) = (begun.leader.map(|(node, _)| node), &self.inner.raft);
        // A peer that was away is sent to again after a pause; it needs none now.
        let retried = async move { raft.trigger().reset_backoff([to]).await };
        self.inner.seeds.scope(retried).await.map_err(|fatal| self.fatal(&fatal))?;
        let mut status = self.watch();
        let is_close = |status: &Status| status.matched.get(&to).copied().flatten() >= begun.last_log;
        let close = status.wait_for(|status| status.role != Role::Leader || is_close(status));
        match timeout_at(deadline, close).await {
            Ok(Ok(status)) if status.role == Role::Leader => (),
            Ok(Ok(status)) => return Err(Error::NotLeader { leader: status.leader.clone() }),
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                return Err(Error::unavailable(format!("node {to} was too far behind to take over in {timeout:?}")));
            }
        }
        let transfer = async move { raft.trigger().transfer_leader(to).await };
        self.inner.seeds.scope(transfer).await.map_err(|fatal| self.fatal(&fatal))?;
        let is_over = |status: &Status| status.leader.as_ref().is_some_and(|(node, _)| Some(*node) != own);
        match timeout_at(deadline, status.wait_for(is_over)).await {
            Ok(Ok(status)) => match &status.leader {
                Some((next, _)) if *next != to => {
                    Err(Error::unavailable(format!("node {next} took over instead of node {to}")))
                }
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(Error::unavailable(format!("node {to} did not take over within {timeout:?}"))),
        }
    }

    /// Bytes of the current snapshot, which a new replica is sent; `None` before there is one.
    pub fn snapshot_bytes(&self) -> Option<u64> {
        self.inner.shared.current.lock().as_ref().map(|current| current.manifest().byte_count)
    }

    /// Adds a member without a vote; it is brought up to date from then on.
    pub async fn add_learner(
        &self,
        node: NodeId,
        address: impl Into<String>,
        timeout: Duration,
    ) -> Result<Position, Error> {
        let peer = Peer { address: address.into() };
        let change = self.inner.raft.add_learner(node, peer, false);
        let result = within(timeout, self.inner.seeds.scope(change)).await;
        Ok(position(&self.written(result, timeout)?.log_id))
    }

    /// On the leader: the members that answered it lately, within the longest wait before an election, itself included.
    /// Empty elsewhere.
    pub fn answering(&self) -> BTreeSet<NodeId> {
        let lately = Duration::from_millis(self.inner.raft.config().election_timeout_max);
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.iter().flatten();
        let answered = heard.filter(|(node, at)| **node == metrics.id || at.is_some_and(|at| at.elapsed() <= lately));
        answered.map(|(node, _)| *node).collect()
    }

    /// Makes `voters` the members with a vote, in two steps. All must be members already. Those no longer named become
    /// learners when `keep_as_learners`, else they leave.
    pub async fn change_membership(
        &self,
        voters: BTreeSet<NodeId>,
        keep_as_learners: bool,
        timeout: Duration,
    ) -> Result<Position, Error> {
        self.change(ChangeMembers::ReplaceAllVoters(voters), keep_as_learners, timeout).await
    }

    /// Removes members that have no vote.
    pub async fn remove_learners(&self, nodes: BTreeSet<NodeId>, timeout: Duration) -> Result<Position, Error> {
        self.change(ChangeMembers::RemoveNodes(nodes), true, timeout).await
    }

    /// Records that `node` is reached at `address` from now on.
    pub async fn set_address(
        &self,
        node: NodeId,
        address: impl Into<String>,
        timeout: Duration,
    ) -> Result<Position, Error> {
        let peer = Peer { address: address.into() };
        let nodes = BTreeMap::from([(node, peer)]);
        self.change(ChangeMembers::SetNodes(nodes), true, timeout).await
    }

    /// Stops this replica for a reason that its status tells from now on. Who finds the state wrong from outside does this.
    pub async fn halt(&self, reason: &str) {
        *self.inner.shared.halted.lock() = Some(reason.to_owned());
        self.stop().await;
        self.inner.status.send_modify(|status| status.failure = Some(reason.to_owned()));
    }

    /// Stops this replica after writing what can be written. The group goes on elsewhere. Safe to repeat.
    pub async fn stop(&self) {
        if let Err(error) = self.inner.log.flush_committed().await {
            tracing::debug!(group = %self.inner.id, %error, "the commit mark was not written");
        }
        let stopped = self.inner.seeds.scope(self.inner.raft.shutdown()).await;
        if let Err(error) = stopped {
            tracing::warn!(group = %self.inner.id, ?error, "the group did not stop cleanly");
        }
        self.inner.status.send_modify(|status| {
            status.role = Role::Stopped;
        });
        if let Some(task) = self.inner.follower.lock().take() {
            task.abort();
        }
    }

    async fn change(
        &self,
        change: ChangeMembers<NodeId, Peer>,
        retain: bool,
        timeout: Duration,
    ) -> Result<Position, Error> {
        let change = self.inner.raft.change_membership(change, retain);
        let result = within(timeout, self.inner.seeds.scope(change)).await;
        Ok(position(&self.written(result, timeout)?.log_id))
    }

    fn current_index(&self) -> Option<u64> {
        self.inner.shared.current.lock().as_ref().and_then(index_of)
    }

    /// Tells openraft of the snapshot on disk and waits until it has noted it.
    async fn note_snapshot(&self, index: u64) -> Result<(), Error> {
        let raft = &self.inner.raft;
        let trigger = async move { raft.trigger().snapshot().await };
        self.inner.seeds.scope(trigger).await.map_err(|fatal| self.fatal(&fatal))?;
        let mut status = self.watch();
        let noted = status
            .wait_for(|status| status.role == Role::Stopped || status.snapshot.is_some_and(|at| at.index >= index));
        match within(NOTE_TIMEOUT, noted).await {
            Ok(Ok(status)) if status.role != Role::Stopped => Ok(()),
            Ok(_) => Err(Error::stopped("the group stopped during a snapshot")),
            Err(_) => Err(Error::unavailable("the snapshot was not noted in time")),
        }
    }

    /// Drops entries through `index`. Only ever called with the older snapshot that is kept.
    async fn purge(&self, index: u64) -> Result<(), Error> {
        if self.inner.log.purged().is_some_and(|id| id.index >= index) {
            return Ok(());
        }
        let raft = &self.inner.raft;
        let purge = async move { raft.trigger().purge_log(index).await };
        self.inner.seeds.scope(purge).await.map_err(|fatal| self.fatal(&fatal))
    }

    fn written(
        &self,
        result: Result<Written, tokio::time::error::Elapsed>,
        timeout: Duration,
    ) -> Result<ClientWriteResponse<Types>, Error> {
        match result {
            Err(_) => Err(Error::Unknown { reason: format!("not applied within {timeout:?}") }),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(RaftError::APIError(error))) => Err(match error {
                ClientWriteError::ForwardToLeader(forward) => forwarded(forward),
                ClientWriteError::LogEntryDiscarded(_) => {
                    Error::Unknown { reason: "another leader took over before the entry was committed".to_owned() }
                }
                ClientWriteError::ChangeMembershipError(error) => Error::Membership { reason: error.to_string() },
                ClientWriteError::PreconditionFailed(error) => Error::Membership { reason: error.to_string() },
            }),
            // The entry may be in a log elsewhere by now.
            Ok(Err(RaftError::Fatal(fatal))) => Err(Error::Unknown { reason: self.fatal(&fatal).to_string() }),
        }
    }

    /// Why the group takes nothing, if it does not.
    fn stopped(&self) -> Option<Error> {
        if let Some(reason) = self.inner.shared.halted.lock().clone() {
            return Some(Error::stopped(reason));
        }
        let running = self.inner.raft.metrics().borrow_watched().running_state.clone();
        match running {
            Ok(()) => None,
            Err(fatal) => Some(self.fatal(&fatal)),
        }
    }

    async fn until_stopped(&self) -> Error {
        let mut status = self.watch();
        let stopped = status.wait_for(|status| status.role == Role::Stopped);
        // Either way it is over.
        let _ = stopped.await.map(|_| ());
        self.stopped().unwrap_or_else(|| Error::stopped("the group is closed"))
    }

    pub(crate) fn fatal(&self, fatal: &Fatal<Types>) -> Error {
        if let Some(reason) = self.inner.shared.halted.lock().clone() {
            return Error::stopped(reason);
        }
        match fatal {
            Fatal::StorageError(error) => Error::storage(error),
            Fatal::Panicked => Error::stopped("its task panicked"),
            Fatal::Stopped => Error::stopped("it was stopped"),
        }
    }
}

fn forwarded(forward: ForwardToLeader<Types>) -> Error {
    use openraft::errors::ForwardReason;
    let leader = forward.leader_id.zip(forward.leader_node).map(|(node, peer)| (node, peer.address));
    match (&leader, forward.reason) {
        (None, ForwardReason::LeaseExpired) => Error::unavailable("the leader has not heard from a majority lately"),
        // It names who is to lead, and that one does not yet.
        (_, ForwardReason::LeadershipTransfer) => Error::NotLeader { leader: None },
        _ => Error::NotLeader { leader },
    }
}

fn status_of(group: GroupId, metrics: &openraft::RaftMetrics<Types>, halted: Option<String>) -> Status {
    let members = metrics.membership_config.membership();
    let addresses: BTreeMap<NodeId, String> =
        members.nodes().map(|(node, peer)| (*node, peer.address.clone())).collect();
    let failure = match &metrics.running_state {
        Ok(()) | Err(Fatal::Stopped) => halted,
        Err(fatal) => halted.or_else(|| Some(fatal.to_string())),
    };
    let role = match (&metrics.running_state, metrics.state) {
        (Err(_), _) | (Ok(()), ServerState::Shutdown) => Role::Stopped,
        (Ok(()), ServerState::Leader) => Role::Leader,
        (Ok(()), ServerState::Candidate) => Role::Candidate,
        (Ok(()), ServerState::Follower) => Role::Follower,
        (Ok(()), ServerState::Learner) => Role::Learner,
    };
    Status {
        group,
        role,
        leader: metrics.current_leader.map(|node| (node, addresses.get(&node).cloned().unwrap_or_default())),
        term: metrics.current_term,
        last_log: metrics.last_log_index,
        committed: metrics.local_committed.as_ref().map(|id| id.index),
        applied: metrics.last_applied.as_ref().map(position),
        snapshot: metrics.snapshot.as_ref().map(position),
        purged: metrics.purged.as_ref().map(|id| id.index),
        voters: members.voter_ids().collect(),
        learners: members.learner_ids().collect(),
        addresses,
        matched: metrics
            .replication
            .iter()
            .flatten()
            .map(|(node, matched)| (*node, matched.as_ref().map(|id| id.index)))
            .collect(),
        failure,
    }
}
