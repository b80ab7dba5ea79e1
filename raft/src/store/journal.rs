//! The node's one log for all its groups, as a trait: appends, votes and marks of every group merge into one flush.
//!
//! Knows groups, indexes and bytes; openraft's view of one group's log is in `log`. [`crate::store::engine`] keeps it
//! on disk, [`crate::store::memory`] is its twin for simulations.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::types::GroupId;

/// One entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the group's log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What the payload is; see `EntryKind` of the protocol.
    pub kind: u8,
    /// The bytes.
    pub payload: Bytes,
}

/// What to write for a group. Changes of one group take effect in the order in which they were submitted.
#[derive(Debug, Clone)]
pub enum Change {
    /// The group's vote, encoded.
    Vote(Bytes),
    /// How far the group is known to be committed, encoded. May lag: it goes with the next flush.
    Committed(Bytes),
    /// Entries, in order and without a gap behind the last one kept.
    Append(Vec<Record>),
    /// Drops every entry from this index on.
    TruncateFrom(u64),
    /// Drops every entry through this index and keeps the mark, encoded.
    Purge {
        /// Last index to drop; may lie beyond the last entry, when a snapshot replaced the log.
        through: u64,
        /// The position of that entry, encoded.
        mark: Bytes,
    },
    /// Drops everything known of the group: its replica was removed from this node.
    Forget,
    /// The last entry that a replica which was removed from here once had, encoded.
    Pledged(Bytes),
}

/// What is on disk for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The vote.
    pub vote: Option<Bytes>,
    /// The last known commit, which may lag.
    pub committed: Option<Bytes>,
    /// The mark of the last purge.
    pub purged: Option<Bytes>,
    /// The last entry of a replica that was here before and was removed.
    pub pledged: Option<Bytes>,
    /// The entries kept: from the first to one past the last; empty when there are none.
    pub entries: Range<u64>,
}

/// Called once when a submission is on disk, or was refused.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Called once, with the reason, when a flush was refused: nothing can be acknowledged any more. In service it ends the
/// process, since after a failed flush the system may claim success for bytes that are lost.
pub type Fatal = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

/// The log that all groups of a node share.
pub trait Journal: Send + Sync + 'static {
    /// What is on disk for `group`. Asked before its first submission.
    ///
    /// # Errors
    /// Bytes that fail their checksum, naming group and entry.
    fn load(&self, group: GroupId) -> io::Result<Stored>;

    /// Queues `changes`, all of one group, as one step; `done` is called after the flush that carries them, from
    /// whichever thread flushed. Never blocks on disk. After a refused flush every `done` gets an error.
    fn submit(&self, group: GroupId, changes: Vec<Change>, done: Done);

    /// Flushed entries of `range`, at most as many as fit `bytes_max`, at least one where there is one.
    ///
    /// # Errors
    /// An entry that fails its checksum or cannot be read.
    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Record>>;

    /// Groups that have anything stored.
    fn groups(&self) -> Vec<GroupId>;

    /// Groups whose old entries keep the oldest file alive, since the last call: each wants a snapshot and a purge.
    fn pinned(&self) -> Vec<GroupId>;

    /// Flushes what is queued and stops. Later submissions are refused.
    fn close(&self);
}

/// Submits changes and waits for their flush.
pub(crate) async fn write(journal: &dyn Journal, group: GroupId, changes: Vec<Change>) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    journal.submit(
        group,
        changes,
        Box::new(move |result| {
            // The asker may be gone: then nobody acts on the result.
            let _ = sender.send(result);
        }),
    );
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the journal closed before its flush")))
}
