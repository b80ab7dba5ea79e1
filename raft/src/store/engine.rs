//! The [`Journal`] on raft-engine, with its thread: it drains what all groups have to write, merges it into one batch,
//! flushes once, then calls everybody back.
//!
//! This file owns two threads: the one that writes and the one that drops files that nobody needs.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use raft_engine::env::{DefaultFileSystem, FileSystem};
use raft_engine::internals::FilePipeLog;
use raft_engine::{Command, Config, Engine, LogBatch, ReadableSize, RecoveryMode};

use crate::store::files;
use crate::store::journal::{Change, Done, Fatal, Journal, Record, Stored};
use crate::store::record::{Records, StoredRecord};
use crate::store::tail;
use crate::types::GroupId;
use crate::wire;
use crate::wire::proto::LogPosition;

/// Bytes merged into one flush. More would only make the first of them wait longer.
const FLUSH_BYTES_MAX: usize = 16 << 20;

/// Files that nobody needs are looked for each time this much was written.
const SWEEP_BYTES: u64 = 64 << 20;

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PLEDGED: &[u8] = b"pledged";
const PURGED: &[u8] = b"purged";
/// Where the log ends, when older entries of the file lie behind it: raft-engine cannot cut a tail off.
const TAIL: &[u8] = b"tail";

/// Sizes of the journal's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Size of one file; files are reused.
    pub file_bytes: u64,
    /// Beyond this the oldest files go; what is still needed of them is written again. Keep it above what all groups
    /// hold between two snapshots: two times groups times snapshot bytes.
    pub keep_bytes: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, keep_bytes: 2 << 30 }
    }
}

type Log<F> = Engine<F, FilePipeLog<F>>;

/// A [`Journal`] in a directory.
pub struct EngineJournal<F: FileSystem + 'static = DefaultFileSystem> {
    shared: Arc<Shared<F>>,
    sender: Mutex<Option<Sender<Submission>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared<F: FileSystem> {
    /// Gone once closed: the directory is free then, whoever still holds the journal.
    engine: RwLock<Option<Arc<Log<F>>>>,
    dir: PathBuf,
    /// Why nothing is acknowledged any more.
    refused: Mutex<Option<String>>,
    pinned: Mutex<Vec<GroupId>>,
    fatal: Fatal,
}

struct Submission {
    group: GroupId,
    changes: Vec<Change>,
    done: Done,
}

/// What the writing thread knows of a group's entries on disk.
#[derive(Default)]
struct Extent {
    /// The first entry of the log, as far as there is one.
    first: u64,
    /// One past the last entry of the log.
    next: u64,
    /// One past the last entry in the engine; beyond `next` lie entries that were cut off.
    engine_next: u64,
    /// Whether the engine holds a [`TAIL`] for the group.
    tailed: bool,
}

impl EngineJournal<DefaultFileSystem> {
    /// Opens the journal in `dir`, making it if needed. A second process on the same directory is refused.
    ///
    /// # Errors
    /// The disk's; damage anywhere but in a torn tail, naming the file.
    pub fn open(dir: impl AsRef<Path>, fatal: Fatal) -> io::Result<Self> {
        Self::open_with(dir, EngineOptions::default(), DefaultFileSystem, fatal)
    }
}

impl<F: FileSystem + 'static> EngineJournal<F> {
    /// As [`EngineJournal::open`], with sizes and a file system of choice.
    pub fn open_with(dir: impl AsRef<Path>, options: EngineOptions, file_system: F, fatal: Fatal) -> io::Result<Self> {
        let dir = dir.as_ref();
        files::create_dir(dir)?;
        tail::check(dir)?;
        let config = Config {
            dir: dir.display().to_string(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            // In order: merging parts that were read side by side meets gaps where a snapshot replaced a log.
            recovery_threads: 1,
            // Entries are packed already.
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(options.file_bytes),
            purge_threshold: ReadableSize(options.keep_bytes),
            ..Config::default()
        };
        let engine = catch_unwind(AssertUnwindSafe(|| Engine::open_with_file_system(config, Arc::new(file_system))))
            .unwrap_or_else(|_| Err(raft_engine::Error::Corruption("replay panicked".into())))
            .map_err(|error| name_error(dir, error))?;
        // What was read may be in the system's cache only, when the process before was killed between write and flush.
        files::sync_all(dir)?;
        let shared = Arc::new(Shared {
            engine: RwLock::new(Some(Arc::new(engine))),
            dir: dir.to_owned(),
            refused: Mutex::new(None),
            pinned: Mutex::new(Vec::new()),
            fatal,
        });
        let (sender, receiver) = channel();
        let (sweep_sender, sweep_receiver) = channel();
        let (writing, sweeping) = (shared.clone(), shared.clone());
        let threads = vec![
            std::thread::Builder::new()
                .name("journal".into())
                .spawn(move || Writer::new(writing, sweep_sender).run(&receiver))?,
            std::thread::Builder::new()
                .name("journal-sweep".into())
                .spawn(move || sweeping.sweep_on(&sweep_receiver))?,
        ];
        Ok(Self { shared, sender: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }
}

impl<F: FileSystem + 'static> Journal for EngineJournal<F> {
    fn load(&self, group: GroupId) -> io::Result<Stored> {
        self.shared.load(group).map(|(stored, _)| stored)
    }

    fn submit(&self, group: GroupId, changes: Vec<Change>, done: Done) {
        let submission = Submission { group, changes, done };
        let rejected = match self.sender.lock().as_ref() {
            Some(sender) => sender.send(submission).err().map(|error| error.0),
            None => Some(submission),
        };
        if let Some(submission) = rejected {
            (submission.done)(Err(self.shared.refusal()));
        }
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        let engine = self.shared.engine()?;
        let region = region(group);
        // The log may have been purged since the reader looked.
        let first = engine.first_index(region).unwrap_or(range.start);
        let last = engine.last_index(region).map_or(range.start, |last| last + 1);
        let range = range.start.max(first)..range.end.min(last);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let context = |error: &dyn std::fmt::Display| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "entries {} to {} of group {group} in {}: {error}",
                    range.start,
                    range.end - 1,
                    self.shared.dir.display()
                ),
            )
        };
        let size = Some(bytes_max.max(1));
        engine
            .fetch_entries_to::<Records>(region, range.start, range.end, size, &mut found)
            .map_err(|error| context(&error))?;
        found.into_iter().map(|stored| stored.into_record().map_err(|error| context(&error))).collect()
    }

    fn groups(&self) -> Vec<GroupId> {
        let Ok(engine) = self.shared.engine() else {
            return Vec::new();
        };
        let mut groups: Vec<GroupId> = engine
            .raft_groups()
            .into_iter()
            .filter_map(|region| u32::try_from(region).ok().map(GroupId))
            .filter(|group| {
                let stored = self.shared.load(*group);
                stored.is_ok_and(|(stored, _)| stored != Stored::default())
            })
            .collect();
        groups.sort_unstable();
        groups
    }

    fn pinned(&self) -> Vec<GroupId> {
        std::mem::take(&mut self.shared.pinned.lock())
    }

    fn close(&self) {
        drop(self.sender.lock().take());
        let here = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            // The last holder may be a callback, which runs on the thread that writes: it ends by itself.
            if thread.thread().id() == here {
                continue;
            }
            if thread.join().is_err() {
                tracing::error!("a journal thread panicked");
            }
        }
        drop(self.shared.engine.write().take());
    }
}

impl<F: FileSystem + 'static> Drop for EngineJournal<F> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<F: FileSystem> Shared<F> {
    fn refusal(&self) -> io::Error {
        let refused = self.refused.lock().clone();
        io::Error::other(refused.unwrap_or_else(|| "the journal is closed".to_owned()))
    }

    fn engine(&self) -> io::Result<Arc<Log<F>>> {
        self.engine.read().clone().ok_or_else(|| self.refusal())
    }

    fn load(&self, group: GroupId) -> io::Result<(Stored, Extent)> {
        let region = region(group);
        let engine = self.engine()?;
        let value = |key| engine.get(region, key).map(Bytes::from);
        let purged = value(PURGED);
        let purged_next = match &purged {
            Some(mark) => wire::record_in::<LogPosition>(mark, "purge mark")?.index + 1,
            None => 0,
        };
        let first = engine.first_index(region).unwrap_or(purged_next);
        let engine_next = engine.last_index(region).map_or(purged_next, |i| i + 1);
        let tail = match value(TAIL) {
            Some(bytes) => {
                let bytes: [u8; 8] = bytes[..].try_into().map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("the end mark of group {group} is damaged"))
                })?;
                Some(u64::from_le_bytes(bytes))
            }
            None => None,
        };
        let next = tail.unwrap_or(engine_next).max(purged_next);
        if purged.is_some() && first > purged_next && next > first {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("group {group} in {}: entries {purged_next} to {} are missing", self.dir.display(), first - 1),
            ));
        }
        let first = first.max(purged_next).min(next);
        let (vote, committed, pledged) = (value(VOTE), value(COMMITTED), value(PLEDGED));
        let stored = Stored { vote, committed, purged, pledged, entries: first..next };
        let extent = Extent { first, next, engine_next: engine_next.max(next), tailed: tail.is_some() };
        Ok((stored, extent))
    }

    /// Drops files that nobody needs, whenever told to look.
    fn sweep_on(&self, told: &Receiver<()>) {
        while told.recv().is_ok() {
            let Ok(engine) = self.engine() else {
                return;
            };
            match catch_unwind(AssertUnwindSafe(|| engine.purge_expired_files())) {
                Ok(Ok(regions)) => {
                    let groups = regions.into_iter().filter_map(|r| u32::try_from(r).ok());
                    self.pinned.lock().extend(groups.map(GroupId));
                }
                Ok(Err(error)) => tracing::warn!(%error, "old journal files stay"),
                Err(_) => self.latch("dropping old journal files panicked"),
            }
        }
    }

    fn latch(&self, reason: &str) {
        let first = {
            let mut refused = self.refused.lock();
            let first = refused.is_none();
            refused.get_or_insert_with(|| reason.to_owned());
            first
        };
        if first {
            tracing::error!(reason, dir = %self.dir.display(), "the journal refuses everything from now on");
            (self.fatal)(reason);
        }
    }
}

/// The thread that writes.
struct Writer<F: FileSystem> {
    shared: Arc<Shared<F>>,
    extents: BTreeMap<GroupId, Extent>,
    sweep: Sender<()>,
    unswept: u64,
}

impl<F: FileSystem> Writer<F> {
    fn new(shared: Arc<Shared<F>>, sweep: Sender<()>) -> Self {
        Self { shared, extents: BTreeMap::new(), sweep, unswept: 0 }
    }

    fn run(mut self, receiver: &Receiver<Submission>) {
        while let Ok(first) = receiver.recv() {
            let mut bytes = submission_bytes(&first);
            let mut submissions = vec![first];
            while bytes < FLUSH_BYTES_MAX {
                let Ok(next) = receiver.try_recv() else {
                    break;
                };
                bytes += submission_bytes(&next);
                submissions.push(next);
            }
            let result = self.flush(&submissions);
            for submission in submissions {
                (submission.done)(match &result {
                    Ok(()) => Ok(()),
                    Err(_) => Err(self.shared.refusal()),
                });
            }
            self.unswept += bytes as u64;
            if self.unswept >= SWEEP_BYTES {
                self.unswept = 0;
                // Its thread is gone only when the journal has latched.
                let _ = self.sweep.send(());
            }
        }
    }

    /// Writes all submissions in one batch and one flush. A refusal is final.
    fn flush(&mut self, submissions: &[Submission]) -> io::Result<()> {
        if self.shared.refused.lock().is_some() {
            return Err(self.shared.refusal());
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut batch = LogBatch::with_capacity(submissions.len() * 2);
            for submission in submissions {
                self.add(&mut batch, submission)?;
            }
            self.shared.engine()?.write(&mut batch, true).map_err(|error| name_error(&self.shared.dir, error))
        }));
        let reason = match result {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            // raft-engine panics when a flush fails.
            Err(_) => format!("a flush failed in {}", self.shared.dir.display()),
        };
        self.shared.latch(&reason);
        Err(io::Error::other(reason))
    }

    fn add(&mut self, batch: &mut LogBatch, submission: &Submission) -> io::Result<()> {
        let group = submission.group;
        let region = region(group);
        if !self.extents.contains_key(&group) {
            let (_, extent) = self.shared.load(group)?;
            self.extents.insert(group, extent);
        }
        let Some(extent) = self.extents.get_mut(&group) else {
            return Ok(());
        };
        let full = |error: raft_engine::Error| io::Error::other(error.to_string());
        for change in &submission.changes {
            match change {
                Change::Vote(vote) => {
                    batch.put(region, VOTE.to_vec(), vote.to_vec()).map_err(full)?;
                }
                Change::Committed(mark) => {
                    batch.put(region, COMMITTED.to_vec(), mark.to_vec()).map_err(full)?;
                }
                Change::Append(records) => {
                    let Some(first) = records.first() else {
                        continue;
                    };
                    if extent.first >= extent.next && first.index > extent.next {
                        // Nothing is kept: a log may begin anywhere.
                        extent.first = first.index;
                        extent.next = first.index;
                    }
                    if first.index != extent.next {
                        return Err(io::Error::other(format!(
                            "entry {} of group {group} does not follow entry {}",
                            first.index,
                            extent.next.wrapping_sub(1)
                        )));
                    }
                    let stored: Vec<StoredRecord> = records.iter().cloned().map(StoredRecord::new).collect();
                    batch.add_entries::<Records>(region, &stored).map_err(full)?;
                    extent.next += records.len() as u64;
                    extent.engine_next = extent.next;
                    extent.mark_tail(batch, region)?;
                }
                Change::TruncateFrom(from) => {
                    extent.next = extent.next.min(*from);
                    extent.mark_tail(batch, region)?;
                }
                Change::Purge { through, mark } => {
                    batch.put(region, PURGED.to_vec(), mark.to_vec()).map_err(full)?;
                    batch.add_command(region, Command::Compact { index: through + 1 });
                    extent.first = extent.first.max(through + 1);
                    extent.next = extent.next.max(through + 1);
                    extent.engine_next = extent.engine_next.max(extent.next);
                    extent.mark_tail(batch, region)?;
                }
                Change::Forget => {
                    batch.add_command(region, Command::Clean);
                    *extent = Extent::default();
                }
                Change::Pledged(mark) => {
                    batch.put(region, PLEDGED.to_vec(), mark.to_vec()).map_err(full)?;
                }
            }
        }
        Ok(())
    }
}

impl Extent {
    /// Keeps the end mark where entries lie behind the end, and only there.
    fn mark_tail(&mut self, batch: &mut LogBatch, region: u64) -> io::Result<()> {
        if self.engine_next > self.next {
            self.tailed = true;
            batch
                .put(region, TAIL.to_vec(), self.next.to_le_bytes().to_vec())
                .map_err(|error| io::Error::other(error.to_string()))?;
        } else if self.tailed {
            self.tailed = false;
            batch.delete(region, TAIL.to_vec());
        }
        Ok(())
    }
}

fn region(group: GroupId) -> u64 {
    u64::from(group.0)
}

fn submission_bytes(submission: &Submission) -> usize {
    let bytes = |change: &Change| match change {
        Change::Append(records) => records.iter().map(|r| r.payload.len() + 64).sum(),
        _ => 64,
    };
    submission.changes.iter().map(bytes).sum()
}

fn name_error(dir: &Path, error: raft_engine::Error) -> io::Error {
    let kind = match &error {
        raft_engine::Error::Corruption(_) => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("journal in {}: {error}", dir.display()))
}
