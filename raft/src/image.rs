//! A group's state at one entry as one stream of bytes, for whoever carries it elsewhere. It is a snapshot on this node's
//! disk and stays readable as long as it is held; how snapshots are taken and kept is in `group` and `store`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::applier::position;
use crate::machine::Position;
use crate::store::snapshot::{PageSource, StoredSnapshot};
use crate::wire;

/// A group's state at one entry: its chunks one behind the other, before each its section and its length (four bytes each,
/// little endian).
#[derive(Clone)]
pub struct Image(Arc<dyn StoredSnapshot>);

impl Image {
    pub(crate) fn new(stored: Arc<dyn StoredSnapshot>) -> Self {
        Self(stored)
    }

    /// The last entry that it contains.
    pub fn at(&self) -> Position {
        self.0.manifest().position.as_ref().map(|at| position(&wire::position_in(at))).unwrap_or_default()
    }

    /// Length of the stream.
    pub fn byte_count(&self) -> u64 {
        self.0.manifest().byte_count
    }

    /// blake3 of the stream.
    pub fn digest(&self) -> Bytes {
        self.0.manifest().digest.clone()
    }

    /// blake3 hashes of what it refers to and does not contain, 32 bytes each.
    pub fn attachments(&self) -> &[Bytes] {
        &self.0.manifest().attachments
    }

    /// The stream from its beginning, in pages; reading blocks on disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn pages(&self) -> io::Result<Box<dyn PageSource>> {
        self.0.pages()
    }
}
