//! The data directory: who holds it, and whose it is. `LOCK` keeps a second process out; `identity.json` says which node
//! of which cluster wrote here; `address` names where the running node listens. What the folders inside hold is known
//! to the stores.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Member;
use crate::store::durable;

/// Layout of the directory that this version writes.
const FORMAT: u32 = 1;

/// Says what was begun on the directory; while it is there, nobody serves from it.
const UNFINISHED: &str = "unfinished";

/// Work that may be begun again where it did not end.
pub const RECOVERY: &str = "a recovery";

/// A directory that is being worked on.
#[must_use]
pub struct Unfinished;

/// Whose directory it is; written once, at the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub format: u32,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    pub node_id: u64,
    /// Shards of the cluster at its founding.
    pub shards: u32,
    /// Who founded the cluster; empty where this node joined later.
    pub members: Vec<Member>,
}

impl Identity {
    /// An identity for a first start.
    pub fn new(cluster: u128, node_id: u64, shards: u32, members: Vec<Member>) -> Self {
        Self { format: FORMAT, cluster: format!("{cluster:032x}"), node_id, shards, members }
    }

    /// The cluster's id as a number.
    pub fn cluster_id(&self) -> Result<u128, DataDirError> {
        u128::from_str_radix(&self.cluster, 16)
            .map_err(|_| DataDirError::Damaged { what: format!("cluster id '{}' is not hexadecimal", self.cluster) })
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("--data-dir: {path} is in use by another process; stop it or name another directory")]
    InUse { path: PathBuf },
    #[error("--data-dir: {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("--data-dir: identity.json is damaged: {what}; restore it from a backup")]
    Damaged { what: String },
    #[error("--data-dir: {path} was left by {what} that did not end; {next}")]
    Unfinished { path: PathBuf, what: String, next: &'static str },
    #[error("--data-dir: it has format {found}, this version reads {FORMAT}; use the version that wrote it")]
    Format { found: u32 },
}

/// The directory, held until dropped.
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory where needed and takes its lock.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let name = path.join("LOCK");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(name).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The identity written at the first start, if there was one.
    ///
    /// # Errors
    /// One that cannot be read, or work on the directory that did not end.
    pub fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        if let Some(what) = self.unfinished() {
            let next = match what.as_str() {
                RECOVERY => "run it again with the same --data-dir",
                _ => "remove the directory and begin again",
            };
            return Err(DataDirError::Unfinished { path: self.path.clone(), what, next });
        }
        self.known()
    }

    /// What was begun on the directory and did not end.
    pub fn unfinished(&self) -> Option<String> {
        std::fs::read_to_string(self.path.join(UNFINISHED)).ok()
    }

    /// The same whatever work on the directory did not end.
    pub fn known(&self) -> Result<Option<Identity>, DataDirError> {
        let bytes = match std::fs::read(self.path.join("identity.json")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataDirError::Io { path: self.path.clone(), source }),
        };
        let identity: Identity =
            serde_json::from_slice(&bytes).map_err(|error| DataDirError::Damaged { what: error.to_string() })?;
        if identity.format != FORMAT {
            return Err(DataDirError::Format { found: identity.format });
        }
        identity.cluster_id()?;
        Ok(Some(identity))
    }

    /// Marks the directory as one that must not be served from until `what` has ended.
    pub fn begin_work(&self, what: &str) -> Result<Unfinished, DataDirError> {
        self.replace(UNFINISHED, what.as_bytes())?;
        Ok(Unfinished)
    }

    /// It has ended.
    pub fn end_work(&self, _begun: Unfinished) -> Result<(), DataDirError> {
        let path = self.path.join(UNFINISHED);
        let removed = std::fs::remove_file(&path).and_then(|()| durable::sync_folder(&self.path));
        removed.map_err(|source| DataDirError::Io { path, source })
    }

    /// Writes the identity, durably, before anything else is written.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), DataDirError> {
        let bytes = serde_json::to_vec_pretty(identity).expect("an identity is plain data");
        self.replace("identity.json", &bytes)
    }

    /// The random number under which this node asks to join a cluster: kept before it is first shown, so that an answer that
    /// was lost is given again.
    pub fn ticket(&self) -> Result<[u8; 16], DataDirError> {
        let io = |source| DataDirError::Io { path: self.path.join("ticket"), source };
        match std::fs::read(self.path.join("ticket")) {
            Ok(bytes) => bytes.try_into().map_err(|_| io(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let ticket: [u8; 16] = rand::random();
                self.replace("ticket", &ticket)?;
                Ok(ticket)
            }
            Err(source) => Err(io(source)),
        }
    }

    /// Says where the running node listens; scripts and tests wait for this file.
    pub fn write_address(&self, address: &str) -> Result<(), DataDirError> {
        self.replace("address", format!("{address}\n").as_bytes())
    }

    /// Where the node said last that it listens: it still does, or it crashed.
    pub fn last_address(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.path.join("address")).ok()?;
        Some(text.trim().to_owned()).filter(|address| !address.is_empty())
    }

    /// Takes the address away: the node listens no more.
    pub fn clear_address(&self) {
        // It is a hint; whoever finds it stale gets no connection.
        let _ = std::fs::remove_file(self.path.join("address"));
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let write = || -> io::Result<()> {
            let temporary = self.path.join(format!("{name}.new"));
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, self.path.join(name))?;
            durable::sync_folder(&self.path)
        };
        write().map_err(|source| DataDirError::Io { path: self.path.join(name), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_an_identity_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let held = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        assert_eq!(held.identity().unwrap(), None);
        let identity = Identity::new(7, 1, 8, vec![Member { id: 1, address: "127.0.0.1:1".into() }]);
        held.write_identity(&identity).unwrap();
        drop(held);
        let held = DataDir::open(&path).unwrap();
        assert_eq!(held.identity().unwrap(), Some(identity.clone()));
        assert_eq!(identity.cluster_id().unwrap(), 7);
        std::fs::write(path.join("identity.json"), "{").unwrap();
        assert!(matches!(held.identity(), Err(DataDirError::Damaged { .. })));
    }
}
