//! Bills as attachments of snapshots: a snapshot names them by hash, and replication ships those that a replica lacks.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use reckoner_raft::machine::Attachments;

use super::bills::BillStore;
use super::content::Hash;

/// The BillStore as replication sees it.
pub struct BillAttachments(pub Arc<dyn BillStore>);

impl Attachments for BillAttachments {
    fn missing(&self, wanted: &[Hash]) -> Vec<Hash> {
        // One that cannot be read counts as missing: a peer's copy replaces nothing that is good.
        wanted.iter().filter(|hash| !self.0.has(None, hash).unwrap_or(false)).copied().collect()
    }

    fn read(&self, hash: &Hash) -> io::Result<Option<Bytes>> {
        self.0.get(None, hash)
    }

    fn write(&self, hash: &Hash, body: Bytes) -> io::Result<()> {
        self.0.put(None, hash, body)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}
