//! The one seam towards whatever is replicated: a machine that takes committed bytes in log order, can be frozen
//! cheaply, and can be restored from chunks.
//!
//! Nothing here knows what the bytes mean, how they were agreed on, or where snapshots are kept.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Where an entry stands in a group's log. One leader a term: index and term name one entry for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Place in the log, without gaps. Blank and membership entries take places too.
    pub index: u64,
    /// The term of the leader that proposed the entry.
    pub term: u64,
}

/// An entry that a majority has on disk.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its place in the log.
    pub position: Position,
    /// The bytes as proposed.
    pub bytes: Bytes,
}

/// The machine doubts its state. The group stops on this replica rather than diverge; other groups go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("machine halted: {reason}")]
pub struct Halt {
    /// What was found, with values.
    pub reason: String,
}

impl Halt {
    /// A halt for `reason`.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What is replicated. One machine a group; its methods are never called concurrently.
pub trait Machine: Send + 'static {
    /// Applies `entries` in their order and returns exactly one outcome for each, in the same order.
    ///
    /// The same entries in any batching must give the same state and outcomes. On `Err` the group stops on this
    /// replica and answers nobody.
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, Result<Vec<Bytes>, Halt>>;

    /// A cheap immutable view at the last applied entry. Entries wait while this runs, not while the view is written.
    fn freeze(&mut self) -> BoxFuture<'_, Result<Box<dyn Frozen>, Halt>>;

    /// Replaces the whole state by what `source` holds. Called before the first entry when a snapshot exists on disk,
    /// and when a lagging replica receives one. The source may block on disk reads: hand it to a worker if that hurts.
    fn restore(&mut self, source: Box<dyn ChunkSource>) -> BoxFuture<'_, Result<(), Halt>>;
}

/// A machine's state at one entry, to be written while the machine goes on.
pub trait Frozen: Send {
    /// blake3 hashes of what the state refers to but does not contain; listed in the manifest, shipped with the
    /// snapshot where they are missing. Asked before [`Frozen::write`].
    fn attachments(&self) -> Vec<[u8; 32]>;

    /// Writes the state, in an order that depends on the state alone. Runs on a worker, see [`Workers`].
    fn write(self: Box<Self>, sink: &mut dyn ChunkSink) -> io::Result<()>;
}

/// Takes a snapshot's chunks.
pub trait ChunkSink {
    /// Adds a chunk. Chunks come back with their section, their boundaries and in the order in which they were put;
    /// how they are cut into pages on disk is the store's matter. A chunk has at most 1 GiB.
    fn put(&mut self, section: u32, chunk: &[u8]) -> io::Result<()>;
}

/// Gives a snapshot's chunks back.
pub trait ChunkSource: Send {
    /// The next chunk with its section, or `None` at the end. Bytes were verified before the first one is handed out.
    fn next(&mut self) -> io::Result<Option<(u32, Bytes)>>;
}

/// What snapshots refer to by hash and do not contain: kept by the node, shipped with a snapshot, and fetched from
/// peers at start-up where missing. Methods may block; they are called on workers.
pub trait Attachments: Send + Sync + 'static {
    /// Those of `wanted` that are not held here.
    fn missing(&self, wanted: &[[u8; 32]]) -> Vec<[u8; 32]>;
    /// The body with this blake3 hash, or `None`.
    fn read(&self, hash: &[u8; 32]) -> io::Result<Option<Bytes>>;
    /// Stores a body whose hash was verified by the caller.
    fn write(&self, hash: &[u8; 32], body: Bytes) -> io::Result<()>;
    /// Makes everything written durable.
    fn flush(&self) -> io::Result<()>;
}

/// For machines whose snapshots refer to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAttachments;

impl Attachments for NoAttachments {
    fn missing(&self, wanted: &[[u8; 32]]) -> Vec<[u8; 32]> {
        wanted.to_vec()
    }
    fn read(&self, _hash: &[u8; 32]) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
    fn write(&self, _hash: &[u8; 32], _body: Bytes) -> io::Result<()> {
        Err(io::Error::other("this node keeps no attachments"))
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs blocking work: snapshot writes, verification, reads of attachments.
pub trait Workers: Send + Sync + 'static {
    /// Runs `job` once, elsewhere or in place.
    fn run(&self, job: Box<dyn FnOnce() + Send>);
}

/// Tokio's blocking threads: for service.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockingWorkers;

impl Workers for BlockingWorkers {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(job);
    }
}

/// Runs each job where it is asked for: for simulations, which have one thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct InPlaceWorkers;

impl Workers for InPlaceWorkers {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

/// Runs `job` on `workers` and waits for its result.
pub(crate) async fn on_worker<T: Send + 'static>(
    workers: &dyn Workers,
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    workers.run(Box::new(move || {
        // The asker may have given up; its answer is then nobody's.
        let _ = sender.send(job());
    }));
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("a worker ended without a result")))
}
