//! Where snapshots are kept, as traits: a generation is written page by page, sealed by its manifest, adopted as the
//! current one, and two generations are kept.
//!
//! [`crate::store::generation`] keeps them in sled, [`crate::store::memory`] is its twin. How a machine's chunks become
//! pages is in [`crate::store::pages`].

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::GroupId;
use crate::wire::proto::Manifest;

/// A snapshot being written. Dropped without [`SnapshotWriter::seal`], it leaves nothing behind.
pub trait SnapshotWriter: Send {
    /// Adds the next page.
    fn page(&mut self, page: &[u8]) -> io::Result<()>;

    /// Writes the manifest and makes all of it durable. The snapshot is complete and not yet current.
    ///
    /// # Errors
    /// The disk's, or a count or digest in `manifest` that is not what was written.
    fn seal(self: Box<Self>, manifest: Manifest) -> io::Result<Arc<dyn StoredSnapshot>>;
}

/// A complete snapshot. It stays readable as long as it is held, even when newer ones replace it.
pub trait StoredSnapshot: Send + Sync {
    /// Tells it from every other snapshot of its group in its store.
    fn name(&self) -> &str;

    /// What it holds.
    fn manifest(&self) -> &Manifest;

    /// Its pages in order. Each is checked against its own checksum as it is read.
    fn pages(&self) -> io::Result<Box<dyn PageSource>>;
}

/// Gives the pages of a snapshot back.
pub trait PageSource: Send {
    /// The next page, or `None` at the end, however often it is asked for there.
    fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// What was found for a group at start-up.
#[derive(Clone, Default)]
pub struct Found {
    /// Generations that passed every check, newest first; at most two.
    pub good: Vec<Arc<dyn StoredSnapshot>>,
    /// What was wrong with those that did not.
    pub bad: Vec<String>,
}

/// The snapshots of a node. Methods may block on disk; they are called on workers.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Opens, verifies and returns what is kept for `group`. Removes what was left half-written.
    ///
    /// # Errors
    /// Only when the store itself cannot be read; a bad generation is reported in [`Found::bad`].
    fn load(&self, group: GroupId) -> io::Result<Found>;

    /// Begins a new generation.
    fn begin(&self, group: GroupId) -> io::Result<Box<dyn SnapshotWriter>>;

    /// Makes a sealed snapshot the current generation and keeps the one before it; older ones go.
    fn adopt(&self, group: GroupId, snapshot: &Arc<dyn StoredSnapshot>) -> io::Result<()>;

    /// Removes everything kept for `group`.
    fn forget(&self, group: GroupId) -> io::Result<()>;
}
