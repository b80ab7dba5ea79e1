//! The way out of a lost majority: what one stopped node holds of every group, and making its replicas the only voters of a
//! cluster with a new identity. What the lost nodes had acknowledged and this one never got is lost for good; so telling comes
//! first, and doing wants to be asked for in words. How a log is changed is in `reckoner_raft::offline`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use reckoner_raft::offline::{self, Standing};
use reckoner_raft::store::engine::EngineJournal;
use reckoner_raft::store::generation::SledSnapshots;
use reckoner_raft::store::journal::Journal as _;
use reckoner_raft::types::{GroupId, NodeId};
use serde::Serialize;

use crate::datadir::{DataDir, DataDirError, Identity, RECOVERY};
use crate::meta::command::{Command, NodeState, Recover, encode};
use crate::meta::group::GROUP;
use crate::meta::state::MetaState;

/// What one node holds of its cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub cluster: String,
    pub node: u64,
    /// Where the cluster's tables say that it is reached.
    pub address: String,
    /// Other nodes of the cluster: what only they have is lost, and they are struck off.
    pub others: Vec<u64>,
    /// The meta group first, then the shards.
    pub groups: Vec<GroupReport>,
    /// Shards without a replica here: this node cannot go on without them.
    pub missing: Vec<u32>,
    /// Whether anything would change.
    pub changes: bool,
}

/// What one node holds of a group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// The shard; 0 is the meta group.
    pub shard: u32,
    /// The last entry here: among the surviving nodes the one with the highest (term, index) has all that was acknowledged
    /// and survived.
    pub last_term: u64,
    pub last_index: u64,
    /// The last entry that this node knew to be on a majority; absent where none is.
    pub committed_index: Option<u64>,
    /// Entries here that are not known to be on a majority: they count after a recovery, whether they were acknowledged or not.
    pub uncertain: u64,
    pub voters: Vec<u64>,
    /// Whether this node's replica has a vote; one without may still be behind.
    pub votes: bool,
    /// Snapshots that cannot be used.
    pub damaged: Vec<String>,
}

/// What a recovery came to.
#[derive(Clone, Debug, Serialize)]
pub struct Recovered {
    /// The new identity.
    pub cluster: String,
    /// The old one.
    pub from: String,
    pub node: u64,
    /// Nodes that were struck off.
    pub lost: Vec<u64>,
    pub shards: usize,
}

/// Why a directory was not looked at or not recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("--data-dir: {path} is not of a node; name the directory that it served from")]
    Nobody { path: PathBuf },
    #[error("--data-dir: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the cluster's tables here cannot be read: {why}; recover on another node")]
    Tables { why: String },
    #[error("node {node} was removed from its cluster; recover on another node")]
    Removed { node: u64 },
    #[error(
        "there is no replica of shards {shards:?} here; recover on a node that has all shards, or restore a backup"
    )]
    Missing { shards: Vec<u32> },
}

/// The open parts of a stopped node's directory.
struct Opened {
    data: DataDir,
    identity: Identity,
    journal: EngineJournal,
    snapshots: SledSnapshots,
    state: MetaState,
}

/// Says what the node in `data_dir` holds; nothing is changed.
///
/// # Errors
/// A directory that is in use, not a node's, or damaged.
pub fn examine(data_dir: &Path) -> Result<Report, RecoverError> {
    let opened = open(data_dir)?;
    let report = opened.report();
    opened.journal.close();
    report
}

/// Makes the node's replicas the only voters of their groups, under a new identity of the cluster. It may be run again where
/// it did not end.
///
/// # Errors
/// As [`examine`]; shards without a replica here.
pub fn recover(data_dir: &Path) -> Result<Recovered, RecoverError> {
    let opened = open(data_dir)?;
    let report = opened.report()?;
    if !report.missing.is_empty() {
        return Err(RecoverError::Missing { shards: report.missing });
    }
    let cluster: u128 = rand::random();
    let node = NodeId(report.node);
    let unfinished = opened.data.begin_work(RECOVERY)?;
    // The meta group first: with it the node knows that it is alone.
    for group in &report.groups {
        let commands = match GroupId(group.shard) {
            GROUP => {
                let cluster = Bytes::copy_from_slice(&cluster.to_be_bytes());
                vec![encode(Command::Recover(Recover { cluster, node: report.node }))]
            }
            _ => Vec::new(),
        };
        let (journal, snapshots) = (&opened.journal, &opened.snapshots);
        offline::make_only_voter(GroupId(group.shard), journal, snapshots, node, &report.address, commands)
            .map_err(|source| opened.failed(source))?;
    }
    opened.journal.close();
    let identity = Identity::new(cluster, report.node, opened.identity.shards, Vec::new());
    opened.data.write_identity(&identity)?;
    opened.data.end_work(unfinished)?;
    Ok(Recovered {
        cluster: identity.cluster,
        from: report.cluster,
        node: report.node,
        lost: report.others,
        shards: report.groups.len() - 1,
    })
}

fn open(data_dir: &Path) -> Result<Opened, RecoverError> {
    // A name that was mistyped must not become a directory.
    if !data_dir.join("identity.json").exists() {
        return Err(RecoverError::Nobody { path: data_dir.to_owned() });
    }
    let data = DataDir::open(data_dir)?;
    if data.unfinished().is_some_and(|what| what != RECOVERY) {
        data.identity()?;
    }
    let identity = data.known()?.ok_or_else(|| RecoverError::Nobody { path: data_dir.to_owned() })?;
    let failed = |name: &str| {
        let path = data.folder(name);
        move |source| RecoverError::Io { path, source }
    };
    let journal = EngineJournal::open(data.folder("log"), Arc::new(|_| ())).map_err(failed("log"))?;
    let snapshots = SledSnapshots::open(data.folder("snapshots")).map_err(failed("snapshots"))?;
    let kept = offline::kept(GROUP, &journal, &snapshots).map_err(failed("log"))?;
    let state = tables(kept).map_err(|why| RecoverError::Tables { why })?;
    Ok(Opened { data, identity, journal, snapshots, state })
}

/// The cluster's tables after everything that is here.
fn tables((snapshot, entries): offline::Kept) -> Result<MetaState, String> {
    let mut state = MetaState::default();
    if let Some(mut snapshot) = snapshot {
        let chunk = snapshot.next().map_err(|error| error.to_string())?;
        let (_, bytes) = chunk.ok_or("their snapshot is empty")?;
        state = MetaState::decode(&bytes)?;
    }
    for entry in entries {
        state.apply(&entry.bytes)?;
    }
    match state.is_founded() {
        true => Ok(state),
        false => Err("the cluster was never founded".to_owned()),
    }
}

impl Opened {
    fn failed(&self, source: io::Error) -> RecoverError {
        RecoverError::Io { path: self.data.path().to_owned(), source }
    }

    fn report(&self) -> Result<Report, RecoverError> {
        let node = self.identity.node_id;
        let own = self.state.node(node).filter(|row| row.state() != NodeState::Removed);
        let own = own.ok_or(RecoverError::Removed { node })?;
        let standing =
            |group| offline::standing(group, &self.journal, &self.snapshots).map_err(|source| self.failed(source));
        let mut groups = vec![group_report(standing(GROUP)?, node)];
        let mut missing = Vec::new();
        for row in self.state.replicas() {
            let found = standing(GroupId(row.shard))?;
            // Files of a replica that went elsewhere may lie here still.
            let is_own = row.nodes.contains(&node) || row.held.contains(&node);
            if is_own && found.is_there() {
                groups.push(group_report(found, node));
            } else {
                missing.push(row.shard);
            }
        }
        let others: Vec<u64> = self.state.nodes().map(|row| row.id).filter(|id| *id != node).collect();
        let is_begun = self.data.unfinished().is_some();
        let changes = is_begun || groups.iter().any(|group| group.voters != [node]);
        Ok(Report {
            cluster: self.identity.cluster.clone(),
            node,
            address: own.address.clone(),
            others,
            groups,
            missing,
            changes,
        })
    }
}

fn group_report(standing: Standing, node: u64) -> GroupReport {
    let voters: BTreeSet<u64> = standing.voters.iter().map(|voter| voter.0).collect();
    let uncertain = standing.uncertain();
    let last = standing.last.unwrap_or_default();
    GroupReport {
        shard: standing.group.0,
        last_term: last.term,
        last_index: last.index,
        committed_index: standing.committed.map(|at| at.index),
        uncertain,
        votes: voters.contains(&node),
        voters: voters.into_iter().collect(),
        damaged: standing.damaged,
    }
}
