//! The disks of a simulated node as the node sees them: twins of journal, snapshot store, bill store and blob store, with
//! crash points at every call and, where one is asked for, a planted bug. What the twins themselves keep and lose is in
//! the product (`raft/src/store/memory.rs`) and in [`crate::cluster`].

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use reckoner_node::meta::command as meta;
use reckoner_node::meta::group::GROUP as META;
use reckoner_node::store::bills::BillStore;
use reckoner_node::store::blobs::{BlobStore, MemoryBlobs};
use reckoner_raft::machine::{ChunkSink as _, ChunkSource as _};
use reckoner_raft::store::journal::{Change, Done, Fatal, Journal, Record, Stored};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::store::pages::{ChunkReader, PageWriter};
use reckoner_raft::store::snapshot::{Found, PageSource, SnapshotStore, SnapshotWriter, StoredSnapshot};
use reckoner_raft::types::GroupId;
use reckoner_raft::wire::proto::Manifest;
use reckoner_shard::base::time::CycleId;
use reckoner_shard::machine::codec::{Entry, decode_entry};
use reckoner_shard::machine::command::{Command, MoveStep};

use crate::crash::Life;
use crate::planted::Planted;
use crate::stripped::{strip, stripped_fields};

/// An unsynced snapshot reaches the disk after so long: two of them may be lost together, else the older one helps.
const SYNCED_LATE: Duration = Duration::from_secs(20);

/// How many entries too many a purge drops that goes too far.
const PURGED_TOO_MANY: u64 = 50;

/// The journal's twin.
pub struct FaultyJournal {
    inner: Arc<dyn Journal>,
    life: Life,
    planted: Option<Planted>,
    /// What really belongs in places that are written in two steps.
    true_records: Arc<Mutex<BTreeMap<(GroupId, u64), Record>>>,
    /// A payload that was written before, of each group.
    before: Mutex<BTreeMap<GroupId, Bytes>>,
}

impl FaultyJournal {
    /// Opens the journal of `disk`: the process starts again.
    pub fn open(disk: &MemoryDisk, fatal: Fatal, life: Life, planted: Option<Planted>) -> Self {
        let fatal = if planted == Some(Planted::IgnoredRefusal) { Arc::new(|_: &str| ()) } else { fatal };
        let inner: Arc<dyn Journal> = Arc::new(disk.journal(fatal));
        Self { inner, life, planted, true_records: Arc::default(), before: Mutex::default() }
    }

    /// The steps that these changes are: before them, and after their flush.
    fn steps(group: GroupId, changes: &[Change]) -> Vec<(&'static str, &'static str)> {
        let mut steps = Vec::new();
        for change in changes {
            match change {
                Change::Vote(_) => steps.push(("vote", "vote-flushed")),
                Change::Committed(_) => (),
                Change::Append(records) => {
                    steps.push(("append", "append-flushed"));
                    steps.extend(records.iter().filter_map(|record| entry_step(group, &record.payload)));
                }
                Change::TruncateFrom(_) => steps.push(("truncate", "truncate-flushed")),
                Change::Purge { .. } => steps.push(("purge", "purge-flushed")),
                Change::Forget => steps.push(("forget", "forget-flushed")),
                Change::Pledged(_) => (),
            }
        }
        steps
    }

    /// Writes appends twice: first with what was in the last record's place before, then as they should be.
    fn submit_torn(&self, group: GroupId, changes: Vec<Change>, done: Done) {
        let mut spoilt = changes.clone();
        let mut places = Vec::new();
        for change in &mut spoilt {
            let Change::Append(records) = change else { continue };
            let Some(last) = records.last_mut() else { continue };
            let mut before = self.before.lock();
            let known = before.get(&group).cloned();
            before.insert(group, last.payload.clone());
            if let Some(payload) = known.filter(|_| last.kind == NORMAL) {
                places.push((group, last.index));
                self.true_records.lock().insert((group, last.index), last.clone());
                last.payload = payload;
            }
        }
        if places.is_empty() {
            return self.inner.submit(group, changes, done);
        }
        let (inner, true_records) = (self.inner.clone(), self.true_records.clone());
        let second = Box::new(move |written: io::Result<()>| {
            if written.is_err() {
                return done(written);
            }
            let settled = Box::new(move |written: io::Result<()>| {
                let mut true_records = true_records.lock();
                places.iter().for_each(|place| drop(true_records.remove(place)));
                drop(true_records);
                done(written);
            });
            inner.submit(group, changes, settled);
        });
        self.inner.submit(group, spoilt, second);
    }
}

/// The kind of a record that carries a command.
const NORMAL: u8 = 1;

/// The step of a cycle's close, of a slot move or of an account's that an entry is.
fn entry_step(group: GroupId, payload: &[u8]) -> Option<(&'static str, &'static str)> {
    if group == META {
        let command = meta::Entry::decode(payload).ok()?.command?;
        return matches!(command, meta::Command::Decide(_)).then_some(("decide", "decide-flushed"));
    }
    let Ok(Entry::Commands { commands, .. }) = decode_entry(payload) else { return None };
    commands.iter().find_map(|command| match command {
        Command::Cut { .. } => Some(("cut", "cut-flushed")),
        Command::Billed { .. } => Some(("billed", "billed-flushed")),
        Command::Issue { .. } => Some(("issue", "issue-flushed")),
        Command::Archived { .. } => Some(("archived", "archived-flushed")),
        Command::FreezeSlots { .. } => Some(("freeze", "freeze-flushed")),
        Command::StageSlots { .. } => Some(("stage", "stage-flushed")),
        Command::SealSlots { .. } => Some(("seal", "seal-flushed")),
        Command::SettleSlots { .. } => Some(("settle", "settle-flushed")),
        Command::MoveAccount { step, .. } => Some(match step {
            MoveStep::End => ("account-end", "account-end-flushed"),
            MoveStep::Begin => ("account-begin", "account-begin-flushed"),
            MoveStep::Learn => ("account-learn", "account-learn-flushed"),
            MoveStep::Settle => ("account-settle", "account-settle-flushed"),
            MoveStep::Cancel => ("account-cancel", "account-cancel-flushed"),
        }),
        _ => None,
    })
}

impl Journal for FaultyJournal {
    fn load(&self, group: GroupId) -> io::Result<Stored> {
        self.inner.load(group)
    }

    fn submit(&self, group: GroupId, mut changes: Vec<Change>, done: Done) {
        let steps = FaultyJournal::steps(group, &changes);
        if steps.iter().any(|(before, _)| self.life.step(before).is_err()) {
            // Nobody is answered any more, not even by the callback's end.
            return std::mem::forget(done);
        }
        let life = self.life.clone();
        let done: Done = Box::new(move |written| {
            if steps.iter().any(|(_, after)| life.step(after).is_err()) {
                return std::mem::forget(done);
            }
            done(written);
        });
        match self.planted {
            Some(Planted::EarlyAcknowledgement) => {
                done(Ok(()));
                return self.inner.submit(group, changes, Box::new(|_| ()));
            }
            Some(Planted::IgnoredRefusal) => {
                return self.inner.submit(group, changes, Box::new(move |_| done(Ok(()))));
            }
            Some(Planted::LostVote) => changes.retain(|change| !matches!(change, Change::Vote(_))),
            Some(Planted::LostTruncation) => changes.retain(|change| !matches!(change, Change::TruncateFrom(_))),
            Some(Planted::PurgedTooFar) => {
                for change in &mut changes {
                    if let Change::Purge { through, .. } = change {
                        let last = self.inner.load(group).map_or(0, |stored| stored.entries.end.saturating_sub(1));
                        *through = (*through + PURGED_TOO_MANY).min(last.max(*through));
                    }
                }
            }
            Some(Planted::TornTail) => return self.submit_torn(group, changes, done),
            _ => (),
        }
        self.inner.submit(group, changes, done);
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Record>> {
        let mut records = self.inner.read(group, range, bytes_max)?;
        let true_records = self.true_records.lock();
        for record in &mut records {
            if let Some(own) = true_records.get(&(group, record.index)) {
                *record = own.clone();
            }
        }
        Ok(records)
    }

    fn groups(&self) -> Vec<GroupId> {
        self.inner.groups()
    }

    fn pinned(&self) -> Vec<GroupId> {
        self.inner.pinned()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// The snapshot store's twin.
#[derive(Clone)]
pub struct FaultySnapshots {
    inner: Arc<dyn SnapshotStore>,
    life: Life,
    planted: Option<Planted>,
    /// Current ones that are not synced: gone with the process.
    unsynced: Arc<Mutex<BTreeMap<GroupId, Arc<dyn StoredSnapshot>>>>,
}

impl FaultySnapshots {
    /// Opens the store of `disk`.
    pub fn open(disk: &MemoryDisk, life: Life, planted: Option<Planted>) -> Self {
        Self { inner: Arc::new(disk.snapshots()), life, planted, unsynced: Arc::default() }
    }
}

impl SnapshotStore for FaultySnapshots {
    fn load(&self, group: GroupId) -> io::Result<Found> {
        let mut found = self.inner.load(group)?;
        if let Some(unsynced) = self.unsynced.lock().get(&group) {
            found.good.insert(0, unsynced.clone());
        }
        Ok(found)
    }

    fn begin(&self, group: GroupId) -> io::Result<Box<dyn SnapshotWriter>> {
        self.life.step("snapshot-begin")?;
        let inner = self.inner.begin(group)?;
        Ok(Box::new(FaultyWriter { inner, life: self.life.clone(), planted: self.planted, pages: Vec::new() }))
    }

    fn adopt(&self, group: GroupId, snapshot: &Arc<dyn StoredSnapshot>) -> io::Result<()> {
        self.life.step("snapshot-adopt")?;
        if self.planted == Some(Planted::UnsyncedSnapshot) {
            self.unsynced.lock().insert(group, snapshot.clone());
            let (inner, snapshot) = (self.inner.clone(), snapshot.clone());
            tokio::spawn(async move {
                tokio::time::sleep(SYNCED_LATE).await;
                // A disk that fails here is the same bug.
                let _ = inner.adopt(group, &snapshot);
            });
        } else {
            self.inner.adopt(group, snapshot)?;
        }
        self.life.step("snapshot-adopted")
    }

    fn forget(&self, group: GroupId) -> io::Result<()> {
        self.life.step("snapshot-forget")?;
        self.unsynced.lock().remove(&group);
        self.inner.forget(group)
    }
}

struct FaultyWriter {
    inner: Box<dyn SnapshotWriter>,
    life: Life,
    planted: Option<Planted>,
    /// Kept back where something is to be left out.
    pages: Vec<Bytes>,
}

impl FaultyWriter {
    fn strips(&self) -> bool {
        self.planted.is_some_and(|planted| stripped_fields(planted).is_some())
    }
}

impl SnapshotWriter for FaultyWriter {
    fn page(&mut self, page: &[u8]) -> io::Result<()> {
        self.life.step("snapshot-page")?;
        if self.strips() {
            self.pages.push(Bytes::copy_from_slice(page));
            return Ok(());
        }
        self.inner.page(page)
    }

    fn seal(self: Box<Self>, manifest: Manifest) -> io::Result<Arc<dyn StoredSnapshot>> {
        self.life.step("snapshot-seal")?;
        let strips = self.strips();
        let FaultyWriter { inner, life, planted, pages } = *self;
        let sealed = if let Some(planted) = planted.filter(|_| strips) {
            let mut chunks = ChunkReader::new(Box::new(Pages(pages.into_iter())));
            let mut writer = PageWriter::new(inner);
            while let Some((section, chunk)) = chunks.next()? {
                writer.put(section, &strip(planted, section, &chunk))?;
            }
            let (inner, counts) = writer.finish()?;
            let Manifest { page_count, byte_count, digest, .. } = counts;
            inner.seal(Manifest { page_count, byte_count, digest, ..manifest })?
        } else {
            inner.seal(manifest)?
        };
        life.step("snapshot-sealed")?;
        Ok(sealed)
    }
}

struct Pages(std::vec::IntoIter<Bytes>);

impl PageSource for Pages {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.next())
    }
}

/// What a bill store holds that loses in a crash what was not flushed. Clones are the same disk.
#[derive(Clone, Default)]
pub struct BillDisk(Arc<Mutex<BillFiles>>);

#[derive(Default)]
struct BillFiles {
    flushed: BTreeMap<[u8; 32], Bytes>,
    written: BTreeMap<[u8; 32], Bytes>,
}

impl BillDisk {
    /// The power goes.
    pub fn crash(&self) {
        self.0.lock().written.clear();
    }

    /// What is held under a hash.
    pub fn read(&self, hash: &[u8; 32]) -> Option<Bytes> {
        let files = self.0.lock();
        files.written.get(hash).or_else(|| files.flushed.get(hash)).cloned()
    }
}

/// The bill store's twin.
pub struct FaultyBills {
    /// The disk.
    pub disk: BillDisk,
    /// Of the node that opened it.
    pub life: Life,
    /// A bug put in on purpose.
    pub planted: Option<Planted>,
}

impl BillStore for FaultyBills {
    fn put(&self, _cycle: Option<CycleId>, hash: &[u8; 32], bytes: Bytes) -> io::Result<()> {
        self.life.step("bill-put")?;
        self.disk.0.lock().written.insert(*hash, bytes);
        Ok(())
    }

    fn get(&self, _cycle: Option<CycleId>, hash: &[u8; 32]) -> io::Result<Option<Bytes>> {
        Ok(self.disk.read(hash))
    }

    fn has(&self, cycle: Option<CycleId>, hash: &[u8; 32]) -> io::Result<bool> {
        Ok(self.get(cycle, hash)?.is_some())
    }

    fn flush(&self) -> io::Result<()> {
        self.life.step("bill-flush")?;
        if self.planted != Some(Planted::BillsNotFlushed) {
            let mut files = self.disk.0.lock();
            let written = std::mem::take(&mut files.written);
            files.flushed.extend(written);
        }
        self.life.step("bill-flushed")
    }
}

/// The blob store's twin: a disk, and what a node with a planted bug has of it only in memory.
pub struct FaultyBlobs {
    disk: Arc<MemoryBlobs>,
    life: Life,
    planted: Option<Planted>,
    misreads: bool,
    unsynced: MemoryBlobs,
}

impl FaultyBlobs {
    /// Opens the store of `disk`; one that `misreads` shows a planted bug that not every node has.
    pub fn open(disk: Arc<MemoryBlobs>, life: Life, planted: Option<Planted>, misreads: bool) -> Self {
        Self { disk, life, planted, misreads, unsynced: MemoryBlobs::default() }
    }
}

impl BlobStore for FaultyBlobs {
    fn put(&self, hash: &[u8; 32], bytes: Bytes) -> io::Result<()> {
        self.life.step("blob-put")?;
        match self.planted {
            Some(Planted::BlobsNotKept) => self.unsynced.put(hash, bytes)?,
            _ => self.disk.put(hash, bytes)?,
        }
        self.life.step("blob-kept")
    }

    fn get(&self, hash: &[u8; 32]) -> io::Result<Option<Bytes>> {
        let found = match self.disk.get(hash)? {
            None => self.unsynced.get(hash)?,
            found => found,
        };
        if self.planted == Some(Planted::WrongPrices) && self.misreads {
            let text = found.map(|bytes| String::from_utf8_lossy(&bytes).replace("0.05", "0.06"));
            return Ok(text.map(Bytes::from));
        }
        Ok(found)
    }
}
