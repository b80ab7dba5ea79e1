//! A snapshot store in which what was written is read as something else, once: a node that starts from it has another
//! state than its peers, as after a bug of its machine or of its memory. For clusters of real nodes; the simulation's own
//! stores are in [`crate::seams`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use reckoner_raft::machine::{ChunkSink as _, ChunkSource as _};
use reckoner_raft::store::pages::{ChunkReader, PageWriter};
use reckoner_raft::store::snapshot::{Found, PageSource, SnapshotStore, SnapshotWriter, StoredSnapshot};
use reckoner_raft::types::GroupId;
use reckoner_raft::wire::proto::Manifest;

use crate::planted::Planted;
use crate::stripped::strip;

/// A store around another one.
pub struct TwistedSnapshots {
    /// What keeps the snapshots.
    pub inner: Arc<dyn SnapshotStore>,
    /// Whether the next load of `group` twists what it finds.
    pub next: Arc<AtomicBool>,
    /// Whether its snapshots cannot be removed, so that it stays as it is found.
    pub kept: Arc<AtomicBool>,
    /// Whose snapshots are twisted.
    pub group: GroupId,
    /// How.
    pub planted: Planted,
}

impl TwistedSnapshots {
    fn twist(&self, stored: &dyn StoredSnapshot) -> io::Result<Vec<Bytes>> {
        let mut chunks = ChunkReader::new(stored.pages()?);
        let pages: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let mut writer = PageWriter::new(Box::new(Collected(pages.clone())));
        while let Some((section, chunk)) = chunks.next()? {
            writer.put(section, &strip(self.planted, section, &chunk))?;
        }
        drop(writer.finish()?);
        let pages = std::mem::take(&mut *pages.lock());
        Ok(pages)
    }
}

impl SnapshotStore for TwistedSnapshots {
    fn load(&self, group: GroupId) -> io::Result<Found> {
        let mut found = self.inner.load(group)?;
        if group == self.group && !found.good.is_empty() && self.next.swap(false, Ordering::SeqCst) {
            for stored in &mut found.good {
                let pages = self.twist(stored.as_ref())?;
                *stored = Arc::new(Twisted { inner: stored.clone(), pages });
            }
        }
        Ok(found)
    }

    fn begin(&self, group: GroupId) -> io::Result<Box<dyn SnapshotWriter>> {
        self.inner.begin(group)
    }

    fn adopt(&self, group: GroupId, snapshot: &Arc<dyn StoredSnapshot>) -> io::Result<()> {
        self.inner.adopt(group, snapshot)
    }

    fn forget(&self, group: GroupId) -> io::Result<()> {
        if group == self.group && self.kept.load(Ordering::SeqCst) {
            return Err(io::Error::other("kept by the test"));
        }
        self.inner.forget(group)
    }
}

struct Twisted {
    inner: Arc<dyn StoredSnapshot>,
    pages: Vec<Bytes>,
}

impl StoredSnapshot for Twisted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn manifest(&self) -> &Manifest {
        self.inner.manifest()
    }

    fn pages(&self) -> io::Result<Box<dyn PageSource>> {
        Ok(Box::new(Pages(self.pages.clone().into_iter())))
    }
}

struct Pages(std::vec::IntoIter<Bytes>);

impl PageSource for Pages {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.next())
    }
}

struct Collected(Arc<Mutex<Vec<Bytes>>>);

impl SnapshotWriter for Collected {
    fn page(&mut self, page: &[u8]) -> io::Result<()> {
        self.0.lock().push(Bytes::copy_from_slice(page));
        Ok(())
    }

    fn seal(self: Box<Self>, _manifest: Manifest) -> io::Result<Arc<dyn StoredSnapshot>> {
        Err(io::Error::other("pages are only collected"))
    }
}
