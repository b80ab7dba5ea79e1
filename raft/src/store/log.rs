//! openraft's log of one group over the node's [`Journal`]. Acknowledged only once flushed.
//!
//! Recent entries stay in memory, so that replication and apply rarely read the disk; what was not flushed yet is
//! always among them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;

use crate::machine::{Workers, on_worker};
use crate::store::journal::{self, Change, Journal, Record};
use crate::types::{Entry, GroupId, LogId, Types, Vote};
use crate::wire::{self, proto};

/// Bytes of entries in one append message, and in one step of applying. Large enough to amortise a round trip, small
/// enough that a slow peer or a long catch-up never holds much memory. One entry may exceed it alone.
pub(crate) const READ_BYTES_MAX: usize = 2 << 20;

/// A group keeps at least this much of its recent log in memory, however many groups share the node's budget.
const CACHE_SHARE_MIN: usize = 512 << 10;

/// What an entry costs in memory beside its payload.
const ENTRY_OVERHEAD: usize = 96;

/// Memory for recent entries, shared evenly by the node's groups.
pub(crate) struct CacheBudget {
    pub bytes: usize,
    pub groups: AtomicUsize,
}

impl CacheBudget {
    fn share(&self) -> usize {
        (self.bytes / self.groups.load(Ordering::Relaxed).max(1)).max(CACHE_SHARE_MIN)
    }
}

struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The last entry of a replica that was here before and was removed.
    pledged: Option<LogId>,
    /// The first entry kept; where the next one will be when there is none.
    first: u64,
    /// The last entry, or the purge mark when there is none.
    last: Option<LogId>,
    /// The newest entries, without a gap, up to `last`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// One past the last flushed index; entries from here on exist only in `recent`.
    flushed_next: u64,
    /// A flush that was submitted before a truncation says nothing about entries that were appended after it.
    truncations: u64,
    /// Bytes appended, ever; the host takes differences.
    appended_bytes: u64,
}

impl State {
    fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn is_empty(&self) -> bool {
        self.first >= self.next()
    }

    fn recent_first(&self) -> u64 {
        self.next() - self.recent.len() as u64
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.recent.pop_front() {
            self.recent_bytes -= entry_bytes(&entry);
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            openraft::EntryPayload::Normal(data) => data.0.len(),
            _ => 0,
        }
}

/// The log of one group.
#[derive(Clone)]
pub struct GroupLog {
    inner: Arc<Inner>,
}

struct Inner {
    group: GroupId,
    journal: Arc<dyn Journal>,
    workers: Arc<dyn Workers>,
    budget: Arc<CacheBudget>,
    state: Mutex<State>,
}

impl GroupLog {
    /// Loads what the journal holds for `group`.
    pub(crate) fn open(
        group: GroupId,
        journal: Arc<dyn Journal>,
        workers: Arc<dyn Workers>,
        budget: Arc<CacheBudget>,
    ) -> io::Result<Self> {
        let stored = journal.load(group)?;
        let name = |what: &str| format!("{what} of group {group}");
        let vote = match &stored.vote {
            Some(bytes) => Some(wire::vote_in(&wire::record_in::<proto::Vote>(bytes, &name("vote"))?)),
            None => None,
        };
        let mark = |bytes: &Option<bytes::Bytes>, what: &str| -> io::Result<Option<LogId>> {
            match bytes {
                Some(bytes) => Ok(Some(wire::position_in(&wire::record_in::<proto::LogPosition>(bytes, &name(what))?))),
                None => Ok(None),
            }
        };
        let committed = mark(&stored.committed, "commit mark")?;
        let purged = mark(&stored.purged, "purge mark")?;
        let pledged = mark(&stored.pledged, "pledge")?;
        let last = if stored.entries.is_empty() {
            purged
        } else {
            let index = stored.entries.end - 1;
            let records = journal.read(group, index..index + 1, 0)?;
            let record = records.first().ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} of group {group} is missing"))
            })?;
            Some(entry_of(record)?.log_id)
        };
        let state = State {
            vote,
            committed,
            purged,
            pledged,
            first: stored.entries.start,
            last,
            recent: VecDeque::new(),
            recent_bytes: 0,
            flushed_next: last.map_or(0, |id| id.index + 1),
            truncations: 0,
            appended_bytes: 0,
        };
        Ok(Self { inner: Arc::new(Inner { group, journal, workers, budget, state: Mutex::new(state) }) })
    }

    /// Bytes appended since this process opened the log.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.inner.state.lock().appended_bytes
    }

    /// Whether anything was ever written for this group.
    pub(crate) fn is_pristine(&self) -> bool {
        let state = self.inner.state.lock();
        state.vote.is_none() && state.last.is_none()
    }

    /// What a replica that was here before had, while this one has less: as long as that is so, this one must neither vote
    /// for a log that ends before it nor stand itself. What it had may be committed because it had it, and a voter who
    /// has not heard of the membership that let it go counts on it still.
    pub(crate) fn pledged(&self) -> Option<LogId> {
        let state = self.inner.state.lock();
        state.pledged.filter(|pledged| Some(*pledged) > state.last)
    }

    /// What this node last promised.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.inner.state.lock().vote
    }

    /// Drops everything but what keeps this node's word: its vote, and where its log and its snapshot, at `snapshot`, ended.
    pub(crate) async fn forget(&self, snapshot: Option<LogId>) -> io::Result<()> {
        let (vote, ended) = {
            let state = self.inner.state.lock();
            (state.vote, state.last.max(state.pledged).max(snapshot))
        };
        let mut changes = vec![Change::Forget];
        changes.extend(vote.map(|vote| Change::Vote(wire::record_out(&wire::vote_out(&vote)))));
        changes.extend(ended.map(|ended| Change::Pledged(wire::record_out(&wire::position_out(&ended)))));
        self.write(changes).await
    }

    /// The position up to which entries are gone.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.inner.state.lock().purged
    }

    /// Writes the commit mark that otherwise travels with the next append; for an orderly stop.
    pub(crate) async fn flush_committed(&self) -> io::Result<()> {
        let committed = self.inner.state.lock().committed;
        match committed {
            Some(committed) => self.write(vec![committed_change(&committed)]).await,
            None => Ok(()),
        }
    }

    /// Submits changes and waits for their flush.
    /// Drops the entries that a snapshot contradicts: what it holds is committed, so they never were, nor what follows them.
    pub(crate) async fn settle(&self, snapshot: LogId) -> io::Result<()> {
        let found = self.read(snapshot.index..snapshot.index + 1, 0).await?;
        match found.first().filter(|entry| entry.log_id != snapshot) {
            None => Ok(()),
            Some(_) => {
                let before = match snapshot.index.checked_sub(1) {
                    Some(index) => self.read(index..index + 1, 0).await?.first().map(|entry| entry.log_id),
                    None => None,
                };
                let before = before.or(self.purged());
                self.clone().truncate_after(before).await
            }
        }
    }

    async fn write(&self, changes: Vec<Change>) -> io::Result<()> {
        journal::write(self.inner.journal.as_ref(), self.inner.group, changes).await
    }

    /// Entries of `range` up to `bytes_max`, at least one where there is one; from memory, else from the journal.
    async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (recent_first, range) = {
            let state = self.inner.state.lock();
            let range = range.start.max(state.first)..range.end.min(state.next());
            if range.is_empty() {
                return Ok(Vec::new());
            }
            let recent_first = state.recent_first();
            if range.start >= recent_first {
                let from = (range.start - recent_first) as usize;
                let to = (range.end - recent_first) as usize;
                let mut bytes = 0;
                let mut entries = Vec::with_capacity((to - from).min(256));
                for entry in state.recent.range(from..to) {
                    bytes += entry_bytes(entry);
                    if !entries.is_empty() && bytes > bytes_max {
                        break;
                    }
                    entries.push(entry.clone());
                }
                return Ok(entries);
            }
            (recent_first, range)
        };
        let (journal, group) = (self.inner.journal.clone(), self.inner.group);
        let on_disk = range.start..range.end.min(recent_first);
        let records = on_worker(self.inner.workers.as_ref(), move || journal.read(group, on_disk, bytes_max)).await?;
        records.iter().map(entry_of).collect()
    }
}

fn committed_change(committed: &LogId) -> Change {
    Change::Committed(wire::record_out(&wire::position_out(committed)))
}

fn record_of(entry: &Entry) -> Record {
    let (kind, payload) = wire::payload_out(entry);
    Record { index: entry.log_id.index, term: entry.log_id.leader_id.term, kind: kind as u8, payload }
}

fn entry_of(record: &Record) -> io::Result<Entry> {
    Ok(wire::entry_in(record.term, record.index, i32::from(record.kind), record.payload.clone())?)
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index + 1,
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<Types> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut range = bounds(&range);
        let mut entries = Vec::new();
        loop {
            let part = self.read(range.clone(), READ_BYTES_MAX).await?;
            let Some(last) = part.last() else {
                return Ok(entries);
            };
            range.start = last.log_id.index + 1;
            entries.extend(part);
        }
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.inner.state.lock().vote)
    }

    /// Bounded by bytes as well: this is what an append message is made of.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_BYTES_MAX).await
    }

    /// In steps, so that a long catch-up is never in memory as a whole.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.clone();
        let steps = futures::stream::try_unfold((log, bounds(&range)), |(log, mut range)| async {
            let part = log.read(range.clone(), READ_BYTES_MAX).await?;
            let Some(last) = part.last() else {
                return Ok(None);
            };
            range.start = last.log_id.index + 1;
            Ok::<_, io::Error>(Some((part, (log, range))))
        });
        steps.flat_map(|step| {
            futures::stream::iter(match step {
                Ok(part) => part.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            })
        })
    }
}

impl RaftLogStorage<Types> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.inner.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = wire::record_out(&wire::vote_out(vote));
        self.write(vec![Change::Vote(bytes)]).await?;
        self.inner.state.lock().vote = Some(*vote);
        Ok(())
    }

    /// Kept in memory; it goes to disk with the next append.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.inner.state.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.inner.state.lock();
        // A flush may keep the mark and, after a crash, not the entries behind it.
        Ok(state.committed.min(state.last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let inner = self.inner.clone();
        let mut changes = Vec::with_capacity(2);
        let (next, truncations);
        {
            let mut state = self.inner.state.lock();
            if let Some(committed) = &state.committed {
                changes.push(committed_change(committed));
            }
            let mut records = Vec::new();
            for entry in entries {
                if state.is_empty() {
                    state.first = entry.log_id.index;
                }
                records.push(record_of(&entry));
                let bytes = entry_bytes(&entry);
                state.appended_bytes += bytes as u64;
                state.recent_bytes += bytes;
                state.last = Some(entry.log_id);
                state.recent.push_back(entry);
            }
            (next, truncations) = (state.next(), state.truncations);
            changes.push(Change::Append(records));
            let share = self.inner.budget.share();
            while state.recent_bytes > share && state.recent.len() > 1 && state.recent_first() < state.flushed_next {
                state.pop_front();
            }
        }
        self.inner.journal.submit(
            self.inner.group,
            changes,
            Box::new(move |result| {
                if result.is_ok() {
                    let mut state = inner.state.lock();
                    if state.truncations == truncations {
                        state.flushed_next = state.flushed_next.max(next);
                    }
                }
                callback.io_completed(result);
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        {
            let mut state = self.inner.state.lock();
            let gone = state.next().saturating_sub(from);
            for _ in 0..gone.min(state.recent.len() as u64) {
                if let Some(entry) = state.recent.pop_back() {
                    state.recent_bytes -= entry_bytes(&entry);
                }
            }
            if gone > 0 {
                state.last = last.max(state.purged);
            }
            state.truncations += 1;
            state.flushed_next = state.flushed_next.min(from);
        }
        self.write(vec![Change::TruncateFrom(from)]).await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        {
            let mut state = self.inner.state.lock();
            while state.recent_first() <= through.index && !state.recent.is_empty() {
                state.pop_front();
            }
            state.purged = Some(through).max(state.purged);
            state.first = state.first.max(through.index + 1);
            if state.last.is_none_or(|last| last.index < through.index) {
                state.last = Some(through);
                state.flushed_next = through.index + 1;
            }
        }
        self.write(vec![Change::Purge {
            through: through.index,
            mark: wire::record_out(&wire::position_out(&through)),
        }])
        .await
    }
}
