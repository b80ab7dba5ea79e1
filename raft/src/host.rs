//! The groups of this node: open, close, find by id; and the one task that keeps their snapshots and logs in bounds.
//!
//! Which groups a node should have is not decided here. Peer calls arrive through [`Host::handle`], see `receive`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::applier::Applier;
use crate::awaited::Awaited;
use crate::error::Error;
use crate::group::{Group, Inner as GroupInner, Role, Status};
use crate::machine::{Attachments, Machine, Workers, on_worker};
use crate::net::network::{Caller, Network};
use crate::net::transport::{Lane, Transport};
use crate::receive::Transfers;
use crate::seeds::Seeds;
use crate::store::journal::{self, Journal};
use crate::store::log::{CacheBudget, GroupLog};
use crate::store::snapshot::{SnapshotStore, StoredSnapshot};
use crate::timings::{Limits, Timings};
use crate::types::{ClusterId, GroupId, NodeId, Peer, Raft};
use crate::wire::proto::peer_reply::Answer;
use crate::wire::proto::peer_request::Call;
use crate::wire::{self, proto};

/// How often the host looks whether a group wants a snapshot.
const KEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Between two rounds of asking peers for attachments.
const ATTACHMENT_RETRY: Duration = Duration::from_millis(200);

/// Time for one attachment to arrive.
const ATTACHMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a host is made of.
pub struct HostConfig {
    /// This node. Its directory remembers the id; a node without its directory needs a new one.
    pub node: NodeId,
    /// The cluster. Peers of another one are refused.
    pub cluster: ClusterId,
    /// Heartbeats and elections.
    pub timings: Timings,
    /// What the node allows.
    pub limits: Limits,
    /// The log of all groups.
    pub journal: Arc<dyn Journal>,
    /// Snapshots of all groups.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// What snapshots refer to.
    pub attachments: Arc<dyn Attachments>,
    /// Where blocking work runs.
    pub workers: Arc<dyn Workers>,
    /// Seed of every random choice, for simulations; drawn from the system when absent.
    pub seed: Option<u64>,
}

/// The groups of one node. Clones are the same host.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: HostConfig,
    pub seeds: Arc<Seeds>,
    pub caller: Arc<Caller>,
    pub transfers: Transfers,
    /// Closed groups whose state a peer is sending.
    pub awaited: Awaited,
    budget: Arc<CacheBudget>,
    groups: Mutex<Groups>,
    stopped: watch::Sender<bool>,
    keeper: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

#[derive(Default)]
struct Groups {
    open: BTreeMap<GroupId, Group>,
    /// Being opened or closed; no other call may touch them.
    busy: BTreeSet<GroupId>,
}

/// Frees the id of a group that is being opened or closed, also when that is given up halfway.
pub(crate) struct Busy {
    host: Host,
    group: GroupId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.host.inner.groups.lock().busy.remove(&self.group);
    }
}

impl Host {
    /// A host without groups. Opening the first one starts its keeper, on the runtime of that call.
    pub fn new(config: HostConfig) -> Self {
        let seed = config.seed.unwrap_or_else(rand::random);
        let caller = Arc::new(Caller {
            node: config.node,
            cluster: config.cluster,
            transport: config.transport.clone(),
            timings: config.timings,
            attachments: config.attachments.clone(),
            workers: config.workers.clone(),
        });
        let budget = Arc::new(CacheBudget { bytes: config.limits.cache_bytes, groups: AtomicUsize::new(0) });
        Self {
            inner: Arc::new(Inner {
                config,
                seeds: Arc::new(Seeds::new(seed)),
                caller,
                transfers: Transfers::default(),
                awaited: Awaited::default(),
                budget,
                groups: Mutex::default(),
                stopped: watch::Sender::new(false),
                keeper: Mutex::new(None),
            }),
        }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.config.node
    }

    /// Opens `group`: restores `machine` from the newest good snapshot, applies the log that is known to be committed,
    /// and takes part from then on. `bootstrap` names the founding members of a new group, the same on each of them;
    /// it does nothing once the group exists. A node that joins later opens without it and is added as a learner.
    ///
    /// # Errors
    /// [`Error::Storage`] when the disk fails or holds damaged bytes. [`Error::StateLost`] when no snapshot is good and the
    /// log does not reach back: [`Host::fetch_state`] gets one from a peer.
    /// [`Error::Unavailable`] when the group is open already, or attachments are missing that no peer gave in time.
    pub async fn open(
        &self,
        group: GroupId,
        bootstrap: Option<BTreeMap<NodeId, String>>,
        machine: Box<dyn Machine>,
    ) -> Result<Group, Error> {
        let busy = self.reserve(group, false)?;
        self.start_keeper();
        let opened = self.inner.seeds.scope(self.open_reserved(group, bootstrap, machine)).await?;
        let mut groups = self.inner.groups.lock();
        groups.open.insert(group, opened.clone());
        self.inner.budget.groups.store(groups.open.len(), Ordering::Relaxed);
        drop(groups);
        drop(busy);
        Ok(opened)
    }

    /// Stops `group` here and lets go of it; its data stays. Nothing happens when it is not open.
    pub async fn close(&self, group: GroupId) -> Result<(), Error> {
        let busy = self.reserve(group, true)?;
        let open = {
            let mut groups = self.inner.groups.lock();
            let open = groups.open.remove(&group);
            self.inner.budget.groups.store(groups.open.len(), Ordering::Relaxed);
            open
        };
        if let Some(open) = open {
            open.stop().await;
        }
        drop(busy);
        Ok(())
    }

    /// Closes `group` and removes its log and snapshots. Only for a replica that is no longer a member. Its vote stays, and
    /// where its log ended: should it be a member again, it votes for nobody who has less than it once acknowledged.
    pub async fn forget(&self, group: GroupId) -> Result<(), Error> {
        self.close(group).await?;
        let busy = self.reserve(group, false)?;
        self.forget_closed(group).await.map_err(Error::storage)?;
        drop(busy);
        Ok(())
    }

    async fn forget_closed(&self, id: GroupId) -> io::Result<()> {
        let config = &self.inner.config;
        // Behind whatever was submitted before the group was closed.
        journal::write(config.journal.as_ref(), id, Vec::new()).await?;
        let (snapshots, journal) = (config.snapshots.clone(), config.journal.clone());
        let (workers, budget) = (config.workers.clone(), self.inner.budget.clone());
        let (found, log) = on_worker(config.workers.as_ref(), move || {
            Ok((snapshots.load(id)?, GroupLog::open(id, journal, workers, budget)?))
        })
        .await?;
        let newest = found.good.first().and_then(|stored| stored.manifest().position.as_ref().map(wire::position_in));
        drop(found);
        log.forget(newest).await?;
        let snapshots = config.snapshots.clone();
        on_worker(config.workers.as_ref(), move || snapshots.forget(id)).await
    }

    /// The group with this id, where it is open.
    pub fn find(&self, group: GroupId) -> Option<Group> {
        self.inner.groups.lock().open.get(&group).cloned()
    }

    /// All open groups.
    pub fn groups(&self) -> Vec<Group> {
        self.inner.groups.lock().open.values().cloned().collect()
    }

    /// Groups with data on this node, open or not.
    pub fn stored_groups(&self) -> Vec<GroupId> {
        self.inner.config.journal.groups()
    }

    /// Stops every group, then the journal. Safe to repeat.
    pub async fn stop(&self) {
        self.inner.stopped.send_replace(true);
        if let Some(keeper) = self.inner.keeper.lock().take() {
            keeper.abort();
        }
        let open = std::mem::take(&mut self.inner.groups.lock().open);
        for group in open.values() {
            group.stop().await;
        }
        self.inner.transfers.clear();
        let journal = self.inner.config.journal.clone();
        let closed = on_worker(self.inner.config.workers.as_ref(), move || {
            journal.close();
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the journal did not close");
        }
    }

    /// Returns once [`Host::stop`] was called: then nobody here answers peers any more.
    pub async fn until_stopped(&self) {
        // The sender lives as long as this host.
        let _ = self.inner.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    pub(crate) fn reserve(&self, group: GroupId, closing: bool) -> Result<Busy, Error> {
        if *self.inner.stopped.borrow() {
            return Err(Error::stopped("the node is stopping"));
        }
        let mut groups = self.inner.groups.lock();
        if !closing && groups.open.contains_key(&group) {
            return Err(Error::unavailable(format!("group {group} is open already")));
        }
        if !groups.busy.insert(group) {
            return Err(Error::unavailable(format!("group {group} is being opened or closed")));
        }
        Ok(Busy { host: self.clone(), group })
    }

    async fn open_reserved(
        &self,
        id: GroupId,
        bootstrap: Option<BTreeMap<NodeId, String>>,
        machine: Box<dyn Machine>,
    ) -> Result<Group, Error> {
        let config = &self.inner.config;
        let (snapshots, journal) = (config.snapshots.clone(), config.journal.clone());
        let (workers, budget) = (config.workers.clone(), self.inner.budget.clone());
        let (found, log) = on_worker(config.workers.as_ref(), move || {
            let found = snapshots.load(id)?;
            let log = GroupLog::open(id, journal, workers, budget)?;
            Ok((found, log))
        })
        .await
        .map_err(Error::storage)?;
        for reason in &found.bad {
            tracing::error!(group = %id, %reason, "a snapshot is damaged, falling back");
        }
        let current = usable(id, &log, found.good, &found.bad)?;
        if let Some(current) = &current {
            if let Some(position) = &current.manifest().position {
                log.settle(wire::position_in(position)).await.map_err(Error::storage)?;
            }
            self.complete_attachments(id, current.manifest()).await?;
        }
        let (applier, shared) = Applier::new(id, machine, current, config.snapshots.clone(), config.workers.clone());
        let mut settings = config.timings.config(format!("group {id}")).map_err(Error::storage)?;
        settings.enable_elect = log.pledged().is_none();
        let network = Network { group: id, caller: self.inner.caller.clone() };
        let pristine = log.is_pristine();
        let raft =
            Raft::new(config.node, Arc::new(settings), network, log.clone(), applier).await.map_err(|fatal| {
                match shared.halted.lock().clone() {
                    Some(reason) => Error::stopped(reason),
                    None => Error::storage(fatal),
                }
            })?;
        let group = Group::start(GroupInner {
            id,
            raft,
            log,
            shared,
            snapshots: config.snapshots.clone(),
            workers: config.workers.clone(),
            seeds: self.inner.seeds.clone(),
            entry_bytes_max: config.limits.entry_bytes_max,
            building: tokio::sync::Mutex::new(()),
            status: watch::Sender::new(Status { group: id, ..Status::default() }),
            follower: Mutex::new(None),
        });
        if let Some(members) = bootstrap.filter(|_| pristine) {
            self.found(&group, members);
        }
        Ok(group)
    }

    /// Founds a new group. One member does it at once, a different one for each group, so that leaders spread; the
    /// others wait whether they hear of it, and else do the same: founding twice with the same members is harmless.
    fn found(&self, group: &Group, members: BTreeMap<NodeId, String>) {
        let nodes: Vec<NodeId> = members.keys().copied().collect();
        let first = nodes[group.id().0 as usize % nodes.len().max(1)];
        let patience =
            if first == self.inner.config.node { Duration::ZERO } else { self.inner.config.timings.election_max * 2 };
        let peers: BTreeMap<NodeId, Peer> =
            members.into_iter().map(|(node, address)| (node, Peer { address })).collect();
        let (group, seeds) = (group.clone(), self.inner.seeds.clone());
        let founding = async move {
            tokio::time::sleep(patience).await;
            if !group.inner.log.is_pristine() {
                return;
            }
            if let Err(error) = group.inner.raft.initialize(peers).await {
                tracing::info!(group = %group.id(), %error, "not founded from here");
            }
        };
        tokio::spawn(seeds.scope(founding));
    }

    /// Fetches what the snapshot refers to and this node lacks, before the group serves.
    async fn complete_attachments(&self, group: GroupId, manifest: &proto::Manifest) -> Result<(), Error> {
        let config = &self.inner.config;
        let wanted = crate::receive::hashes(&manifest.attachments).map_err(Error::storage)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let members = manifest.membership.clone().unwrap_or_default().members;
        let deadline = Instant::now() + config.limits.attachments_wait;
        loop {
            let (attachments, asked) = (config.attachments.clone(), wanted.clone());
            let missing = on_worker(config.workers.as_ref(), move || Ok(attachments.missing(&asked)))
                .await
                .map_err(Error::storage)?;
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "{} attachments of group {group}'s snapshot are missing and no peer gave them",
                    missing.len()
                )));
            }
            let mut fetched = 0;
            for hash in &missing {
                for member in &members {
                    if member.node != config.node.0 && self.fetch(group, member, hash).await {
                        fetched += 1;
                        break;
                    }
                }
            }
            if fetched > 0 {
                let attachments = config.attachments.clone();
                on_worker(config.workers.as_ref(), move || attachments.flush()).await.map_err(Error::storage)?;
            } else {
                tokio::time::sleep(ATTACHMENT_RETRY).await;
            }
        }
    }

    async fn fetch(&self, group: GroupId, from: &proto::Member, hash: &[u8; 32]) -> bool {
        let call = Call::AttachmentRead(proto::AttachmentRead { hash: bytes::Bytes::copy_from_slice(hash) });
        let answer =
            self.inner.caller.call(NodeId(from.node), &from.address, group, Lane::Bulk, call, ATTACHMENT_TIMEOUT).await;
        let body = match answer {
            Ok(Answer::AttachmentBody(proto::AttachmentBody { body: Some(body) })) => body,
            Ok(_) => return false,
            Err(error) => {
                tracing::debug!(%error, "attachment not fetched");
                return false;
            }
        };
        match crate::receive::store_attachment(&self.inner.config, *hash, body).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "attachment not stored");
                false
            }
        }
    }

    fn start_keeper(&self) {
        let mut keeper = self.inner.keeper.lock();
        if keeper.is_none() {
            let host = Arc::downgrade(&self.inner);
            *keeper = Some(tokio::spawn(keep(host)));
        }
    }
}

/// The newest good snapshot, if the log goes on from it.
fn usable(
    id: GroupId,
    log: &GroupLog,
    good: Vec<Arc<dyn StoredSnapshot>>,
    bad: &[String],
) -> Result<Option<Arc<dyn StoredSnapshot>>, Error> {
    let purged = log.purged().map(|id| id.index);
    let newest = good.into_iter().next();
    let reach = newest.as_ref().and_then(|stored| stored.manifest().position.as_ref()).map(|at| at.index);
    if purged > reach {
        return Err(Error::StateLost {
            reason: format!(
                "the log of group {id} begins behind entry {}, the newest good snapshot is {}{}",
                purged.unwrap_or_default(),
                reach.map_or("none".to_owned(), |index| format!("at entry {index}")),
                if bad.is_empty() { String::new() } else { format!(" (damaged: {})", bad.join("; ")) }
            ),
        });
    }
    Ok(newest)
}

/// What the keeper remembers of a group between two looks.
struct Kept {
    /// Bytes appended when the last snapshot was taken.
    bytes: u64,
    since: Instant,
}

/// Takes snapshots that are due, one at a time on the node, and so lets logs be purged.
async fn keep(host: std::sync::Weak<Inner>) {
    let mut kept: BTreeMap<GroupId, Kept> = BTreeMap::new();
    loop {
        tokio::time::sleep(KEEPING_INTERVAL).await;
        let Some(inner) = host.upgrade() else {
            return;
        };
        let host = Host { inner };
        let pinned = host.inner.config.journal.pinned();
        let limits = host.inner.config.limits;
        let groups = host.groups();
        kept.retain(|id, _| groups.iter().any(|group| group.id() == *id));
        for group in groups {
            let bytes = group.inner.log.appended_bytes();
            let record = kept.entry(group.id()).or_insert(Kept { bytes: 0, since: Instant::now() });
            let due = bytes.saturating_sub(record.bytes) >= limits.snapshot_log_bytes
                || record.since.elapsed() >= limits.snapshot_interval
                || pinned.contains(&group.id());
            if !due || group.status().role == Role::Stopped {
                continue;
            }
            match group.snapshot_now().await {
                Ok(()) => {
                    record.bytes = bytes;
                    record.since = Instant::now();
                }
                Err(error) => {
                    tracing::warn!(group = %group.id(), %error, "snapshot not taken, trying again");
                }
            }
        }
    }
}
