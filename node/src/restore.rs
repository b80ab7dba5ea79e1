//! A new cluster from a backup: one node's data directory with the images, bills, archives and catalogues of all shards, under a
//! new identity. The node serves alone when it is started; others join it, and the placer spreads replicas. Nothing of it
//! needs a server; what a backup holds and how it is checked is the client's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reckoner_client::backup::check::Backup;
use reckoner_client::backup::layout::Reading;
use reckoner_client::error::Error;
use reckoner_raft::machine::Position;
use reckoner_raft::offline::{Image, found_from};
use reckoner_raft::store::engine::EngineJournal;
use reckoner_raft::store::generation::SledSnapshots;
use reckoner_raft::store::journal::Journal;
use reckoner_raft::types::{GroupId, NodeId};
use serde::Serialize;

use crate::datadir::{DataDir, DataDirError, Identity};
use crate::meta::group::GROUP;
use crate::meta::state::MetaState;
use crate::store::bills::{BillStore as _, SledBills};
use crate::store::blobs::{BlobStore as _, SledBlobs};

/// Where the meta group of a restored cluster begins: behind nothing.
const META_BEGINS: Position = Position { index: 1, term: 1 };

/// What came of a restore.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The new cluster's id.
    pub cluster: String,
    /// That of the backup.
    pub from: String,
    pub node: u64,
    pub shards: usize,
    pub hierarchies: u64,
    /// Bills and archives.
    pub contents: u64,
    pub catalogues: u64,
}

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Backup(#[from] Error),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("--data-dir: {path} is not empty, it has {found}; a backup is restored into a new directory")]
    NotEmpty { path: PathBuf, found: String },
    #[error("--data-dir: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Restores the backup in `from` into `data_dir`, for a node that others reach at `address`; `told` hears of bytes that were
/// checked. The whole backup is checked first, and the directory is usable only once everything is in it.
///
/// # Errors
/// A damaged backup, a directory that holds anything, a disk that fails.
pub fn restore(
    from: &Path,
    data_dir: &Path,
    address: &str,
    told: &mut dyn FnMut(u64),
) -> Result<Restored, RestoreError> {
    check_empty(data_dir)?;
    let backup = Backup::open(from)?;
    let checked = backup.check(told)?;
    let old = u128::from_str_radix(&backup.manifest.cluster, 16)
        .map_err(|_| Error::invalid(format!("cluster id '{}' is not hexadecimal", backup.manifest.cluster)))?;
    let cluster: u128 = rand::random();
    let (state, node) = MetaState::restored(cluster, &backup.cluster, old, address);
    let data = DataDir::open(data_dir)?;
    let unfinished = data.begin_work("a restore")?;

    let failed = |name: &str| {
        let path = data.folder(name);
        move |source| RestoreError::Io { path, source }
    };
    let blobs = SledBlobs::open(&data.folder("blobs")).map_err(failed("blobs"))?;
    let broken = |error: io::Error| Error::invalid(error.to_string());
    backup.catalogues(&mut |hash, json| blobs.put(&hash, json).map_err(broken))?;
    let bills = SledBills::open(&data.folder("bills")).map_err(failed("bills"))?;
    backup.contents(&mut |hash, bytes| bills.put(None, &hash, bytes).map_err(broken))?;
    bills.flush().map_err(failed("bills"))?;

    let journal = EngineJournal::open(data.folder("log"), Arc::new(|_| ())).map_err(failed("log"))?;
    let snapshots = SledSnapshots::open(data.folder("snapshots")).map_err(failed("snapshots"))?;
    let found = |group, image: Image<'_>| {
        found_from(group, &journal, &snapshots, NodeId(node), address, image).map_err(failed("snapshots"))
    };
    for shard in &checked {
        let at = Position { index: shard.shard.index, term: shard.shard.term };
        let mut file = Reading::begin(from, &shard.shard.file)?;
        let image = Image { at, attachments: shard.contents.clone(), bytes: file.stream() };
        found(GroupId(shard.shard.shard), image)?;
    }
    let tables = state.encode();
    let mut chunk = Vec::with_capacity(tables.len() + 8);
    chunk.extend_from_slice(&0_u32.to_le_bytes());
    chunk.extend_from_slice(&(tables.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&tables);
    found(GROUP, Image { at: META_BEGINS, attachments: Vec::new(), bytes: &mut &chunk[..] })?;
    journal.close();

    let identity = Identity::new(cluster, node, backup.cluster.shards.len() as u32, Vec::new());
    data.write_identity(&identity)?;
    data.end_work(unfinished)?;
    Ok(Restored {
        cluster: identity.cluster,
        from: backup.manifest.cluster,
        node,
        shards: checked.len(),
        hierarchies: checked.iter().map(|shard| shard.hierarchies).sum(),
        contents: backup.manifest.contents,
        catalogues: backup.manifest.catalogues,
    })
}

/// Refuses a directory that holds anything, and says so when another process has it.
fn check_empty(path: &Path) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Io { path: path.to_owned(), source };
    let mut names = match std::fs::read_dir(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let Some(first) = names.next().transpose().map_err(failed)? else { return Ok(()) };
    // Who holds it is the better answer.
    if path.join("LOCK").exists() {
        drop(DataDir::open(path)?);
    }
    let found = first.file_name().to_string_lossy().into_owned();
    Err(RestoreError::NotEmpty { path: path.to_owned(), found })
}
