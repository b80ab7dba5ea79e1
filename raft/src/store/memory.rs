//! The twins in memory: a disk that a test holds across a simulated crash, with a journal and a snapshot store on it.
//!
//! What was not flushed is lost in a crash, or torn when asked for. No threads and no real time: flushes wait on tokio's
//! clock, so they run inside a simulation.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::journal::{Change, Done, Fatal, Journal, Record, Stored};
use crate::store::pages::{self, Tally};
use crate::store::snapshot::{Found, PageSource, SnapshotStore, SnapshotWriter, StoredSnapshot};
use crate::types::GroupId;
use crate::wire::proto::Manifest;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    /// What survives a crash.
    groups: BTreeMap<GroupId, GroupDisk>,
    snapshots: BTreeMap<GroupId, Vec<Generation>>,
    /// Submitted and not flushed, in order.
    queue: VecDeque<Submission>,
    /// Goes up at each crash; handles opened before it are dead.
    boot: u64,
    flush_delay: Duration,
    refusing: bool,
    torn: bool,
    flushes: u64,
}

struct Submission {
    group: GroupId,
    changes: Vec<Change>,
    done: Done,
}

#[derive(Default)]
struct GroupDisk {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<Bytes>,
    purged_next: u64,
    pledged: Option<Bytes>,
    entries: BTreeMap<u64, Record>,
}

struct Generation {
    manifest: Manifest,
    pages: Arc<Vec<Bytes>>,
    corrupt: bool,
}

impl GroupDisk {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(vote.clone()),
            Change::Committed(mark) => self.committed = Some(mark.clone()),
            Change::Append(records) => {
                for record in records {
                    self.entries.insert(record.index, record.clone());
                }
            }
            Change::TruncateFrom(from) => drop(self.entries.split_off(from)),
            Change::Purge { through, mark } => {
                self.entries = self.entries.split_off(&(through + 1));
                self.purged = Some(mark.clone());
                self.purged_next = through + 1;
            }
            Change::Forget => *self = GroupDisk::default(),
            Change::Pledged(mark) => self.pledged = Some(mark.clone()),
        }
    }
}

impl MemoryDisk {
    /// An empty disk that flushes at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a flush takes, on tokio's clock. Zero flushes within the submission.
    pub fn set_flush_delay(&self, delay: Duration) {
        self.state.lock().flush_delay = delay;
    }

    /// Refuses every flush from now on, or accepts them again for journals opened later.
    pub fn set_refusing(&self, refusing: bool) {
        self.state.lock().refusing = refusing;
    }

    /// Whether a crash keeps a part of what was not flushed: half of the queue, and half of the entries of the
    /// submission at the cut. A torn record itself fails its checksum and counts as absent.
    pub fn set_torn(&self, torn: bool) {
        self.state.lock().torn = torn;
    }

    /// The power goes: what was not flushed is lost, and journals opened before are dead.
    pub fn crash(&self) {
        let queue = {
            let mut disk = self.state.lock();
            disk.boot += 1;
            let queue = std::mem::take(&mut disk.queue);
            if disk.torn {
                let kept = queue.len() / 2;
                for submission in queue.iter().take(kept) {
                    disk.persist(submission);
                }
                if let Some(submission) = queue.get(kept) {
                    disk.persist_half(submission);
                }
            }
            queue
        };
        // Callbacks are dropped outside the lock: nobody is answered.
        drop(queue);
    }

    /// Spoils a byte of the newest snapshot of `group`; false when there is none.
    pub fn corrupt_snapshot(&self, group: GroupId) -> bool {
        let mut disk = self.state.lock();
        match disk.snapshots.get_mut(&group).and_then(|generations| generations.first_mut()) {
            Some(generation) => {
                generation.corrupt = true;
                true
            }
            None => false,
        }
    }

    /// Number of flushes done.
    pub fn flushes(&self) -> u64 {
        self.state.lock().flushes
    }

    /// Indexes of the entries on disk for `group`.
    pub fn entries(&self, group: GroupId) -> Range<u64> {
        self.state.lock().stored(group).entries
    }

    /// A journal on this disk: the process starts again, see [`MemoryDisk::crash`]. `fatal` hears of the first refused
    /// flush.
    pub fn journal(&self, fatal: Fatal) -> MemoryJournal {
        self.crash();
        let boot = self.state.lock().boot;
        MemoryJournal {
            disk: self.clone(),
            boot,
            latch: Arc::new(Mutex::new(Latch { refused: None, flushing: false })),
            fatal,
        }
    }

    /// A snapshot store on this disk.
    pub fn snapshots(&self) -> MemorySnapshots {
        MemorySnapshots { disk: self.clone() }
    }
}

impl Disk {
    fn persist(&mut self, submission: &Submission) {
        let group = self.groups.entry(submission.group).or_default();
        for change in &submission.changes {
            group.apply(change);
        }
    }

    fn persist_half(&mut self, submission: &Submission) {
        let group = self.groups.entry(submission.group).or_default();
        for change in &submission.changes {
            if let Change::Append(records) = change {
                let half = Change::Append(records[..records.len() / 2].to_vec());
                group.apply(&half);
            }
        }
    }

    fn stored(&self, group: GroupId) -> Stored {
        let Some(group) = self.groups.get(&group) else {
            return Stored::default();
        };
        let entries = match (group.entries.first_key_value(), group.entries.last_key_value()) {
            (Some((first, _)), Some((last, _))) => *first..last + 1,
            _ => group.purged_next..group.purged_next,
        };
        Stored {
            vote: group.vote.clone(),
            committed: group.committed.clone(),
            purged: group.purged.clone(),
            pledged: group.pledged.clone(),
            entries,
        }
    }
}

struct Latch {
    refused: Option<String>,
    flushing: bool,
}

/// A [`Journal`] on a [`MemoryDisk`].
#[derive(Clone)]
pub struct MemoryJournal {
    disk: MemoryDisk,
    boot: u64,
    latch: Arc<Mutex<Latch>>,
    fatal: Fatal,
}

impl MemoryJournal {
    fn refusal(&self) -> Option<io::Error> {
        if self.disk.state.lock().boot != self.boot {
            return Some(io::Error::other("the disk lost power"));
        }
        let latch = self.latch.lock();
        latch.refused.as_ref().map(|reason| io::Error::other(reason.clone()))
    }

    /// Flushes everything queued, as one step, and calls back.
    fn flush(&self) {
        let (done, result) = {
            let mut disk = self.disk.state.lock();
            if disk.boot != self.boot {
                return;
            }
            let queue = std::mem::take(&mut disk.queue);
            if disk.refusing {
                (queue, Err("flush refused by the disk"))
            } else {
                for submission in &queue {
                    disk.persist(submission);
                }
                disk.flushes += 1;
                (queue, Ok(()))
            }
        };
        if let Err(reason) = result {
            let first = self.latch.lock().refused.replace(reason.to_owned()).is_none();
            if first {
                (self.fatal)(reason);
            }
        }
        for submission in done {
            (submission.done)(result.map_err(io::Error::other));
        }
    }
}

impl Journal for MemoryJournal {
    fn load(&self, group: GroupId) -> io::Result<Stored> {
        Ok(self.disk.state.lock().stored(group))
    }

    fn submit(&self, group: GroupId, changes: Vec<Change>, done: Done) {
        if let Some(error) = self.refusal() {
            done(Err(error));
            return;
        }
        let delay = {
            let mut disk = self.disk.state.lock();
            disk.queue.push_back(Submission { group, changes, done });
            disk.flush_delay
        };
        if delay.is_zero() {
            self.flush();
            return;
        }
        {
            let mut latch = self.latch.lock();
            if latch.flushing {
                return;
            }
            latch.flushing = true;
        }
        let journal = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            journal.latch.lock().flushing = false;
            journal.flush();
        });
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Record>> {
        let disk = self.disk.state.lock();
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        if let Some(group) = disk.groups.get(&group) {
            for record in group.entries.range(range).map(|(_, record)| record) {
                bytes += record.payload.len();
                if !records.is_empty() && bytes > bytes_max {
                    break;
                }
                records.push(record.clone());
            }
        }
        Ok(records)
    }

    fn groups(&self) -> Vec<GroupId> {
        self.disk.state.lock().groups.keys().copied().collect()
    }

    fn pinned(&self) -> Vec<GroupId> {
        Vec::new()
    }

    fn close(&self) {
        if self.refusal().is_none() {
            self.flush();
            self.latch.lock().refused = Some("the journal is closed".to_owned());
        }
    }
}

/// A [`SnapshotStore`] on a [`MemoryDisk`].
#[derive(Clone)]
pub struct MemorySnapshots {
    disk: MemoryDisk,
}

struct MemoryWriter {
    pages: Vec<Bytes>,
    tally: Tally,
}

impl SnapshotWriter for MemoryWriter {
    fn page(&mut self, page: &[u8]) -> io::Result<()> {
        self.tally.add(page);
        self.pages.push(Bytes::copy_from_slice(page));
        Ok(())
    }

    fn seal(self: Box<Self>, manifest: Manifest) -> io::Result<Arc<dyn StoredSnapshot>> {
        self.tally.check(&manifest)?;
        Ok(Arc::new(MemorySnapshot { manifest, pages: Arc::new(self.pages), corrupt: false }))
    }
}

struct MemorySnapshot {
    manifest: Manifest,
    pages: Arc<Vec<Bytes>>,
    corrupt: bool,
}

impl StoredSnapshot for MemorySnapshot {
    fn name(&self) -> &str {
        "memory"
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn pages(&self) -> io::Result<Box<dyn PageSource>> {
        Ok(Box::new(MemoryPages { pages: self.pages.clone(), next: 0, corrupt: self.corrupt }))
    }
}

struct MemoryPages {
    pages: Arc<Vec<Bytes>>,
    next: usize,
    corrupt: bool,
}

impl PageSource for MemoryPages {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.corrupt {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a page fails its checksum"));
        }
        let page = self.pages.get(self.next).cloned();
        self.next += 1;
        Ok(page)
    }
}

impl SnapshotStore for MemorySnapshots {
    fn load(&self, group: GroupId) -> io::Result<Found> {
        let mut found = Found::default();
        let mut disk = self.disk.state.lock();
        let Some(generations) = disk.snapshots.get_mut(&group) else {
            return Ok(found);
        };
        for generation in generations.iter() {
            let snapshot = MemorySnapshot {
                manifest: generation.manifest.clone(),
                pages: generation.pages.clone(),
                corrupt: generation.corrupt,
            };
            match pages::verify(&generation.manifest, snapshot.pages()?) {
                Ok(()) => found.good.push(Arc::new(snapshot)),
                Err(error) => found.bad.push(error.to_string()),
            }
        }
        if !found.good.is_empty() {
            generations.retain(|generation| !generation.corrupt);
        }
        Ok(found)
    }

    fn begin(&self, _group: GroupId) -> io::Result<Box<dyn SnapshotWriter>> {
        Ok(Box::new(MemoryWriter { pages: Vec::new(), tally: Tally::default() }))
    }

    fn adopt(&self, group: GroupId, snapshot: &Arc<dyn StoredSnapshot>) -> io::Result<()> {
        let mut pages = Vec::new();
        let mut source = snapshot.pages()?;
        while let Some(page) = source.next()? {
            pages.push(page);
        }
        let mut disk = self.disk.state.lock();
        let generations = disk.snapshots.entry(group).or_default();
        let newest = generations.first().map(|g| index_of(&g.manifest));
        if newest >= Some(index_of(snapshot.manifest())) {
            return Ok(());
        }
        generations
            .insert(0, Generation { manifest: snapshot.manifest().clone(), pages: Arc::new(pages), corrupt: false });
        generations.truncate(2);
        Ok(())
    }

    fn forget(&self, group: GroupId) -> io::Result<()> {
        self.disk.state.lock().snapshots.remove(&group);
        Ok(())
    }
}

fn index_of(manifest: &Manifest) -> Option<u64> {
    manifest.position.as_ref().map(|position| position.index)
}
