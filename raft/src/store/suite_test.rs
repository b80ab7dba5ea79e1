//! openraft's own storage suite, over both journals.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::applier::Applier;
use crate::machine::{ChunkSink, ChunkSource, Committed, Frozen, Halt, InPlaceWorkers, Machine};
use crate::store::engine::EngineJournal;
use crate::store::journal::Journal;
use crate::store::log::{CacheBudget, GroupLog};
use crate::store::memory::MemoryDisk;
use crate::types::{GroupId, Runtime, Types};

/// A machine without a state.
struct Void;

impl Machine for Void {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, Result<Vec<Bytes>, Halt>> {
        Box::pin(async move { Ok(vec![Bytes::new(); entries.len()]) })
    }
    fn freeze(&mut self) -> BoxFuture<'_, Result<Box<dyn Frozen>, Halt>> {
        Box::pin(async { Ok(Box::new(Void) as Box<dyn Frozen>) })
    }
    fn restore(&mut self, _: Box<dyn ChunkSource>) -> BoxFuture<'_, Result<(), Halt>> {
        Box::pin(async { Ok(()) })
    }
}

impl Frozen for Void {
    fn attachments(&self) -> Vec<[u8; 32]> {
        Vec::new()
    }
    fn write(self: Box<Self>, _: &mut dyn ChunkSink) -> std::io::Result<()> {
        Ok(())
    }
}

fn build(journal: Arc<dyn Journal>) -> (GroupLog, Applier) {
    let workers = Arc::new(InPlaceWorkers);
    let budget = Arc::new(CacheBudget { bytes: 0, groups: AtomicUsize::new(1) });
    let group = GroupId(5);
    let log = GroupLog::open(group, journal, workers.clone(), budget).expect("opened");
    let snapshots = Arc::new(MemoryDisk::new().snapshots());
    let (applier, _) = Applier::new(group, Box::new(Void), None, snapshots, workers);
    (log, applier)
}

struct Memory;

impl StoreBuilder<Types, GroupLog, Applier> for Memory {
    async fn build(&self) -> Result<((), GroupLog, Applier), StorageError<Types>> {
        let journal = MemoryDisk::new().journal(Arc::new(|_| {}));
        let (log, applier) = build(Arc::new(journal));
        Ok(((), log, applier))
    }
}

struct Engine;

impl StoreBuilder<Types, GroupLog, Applier, tempfile::TempDir> for Engine {
    async fn build(&self) -> Result<(tempfile::TempDir, GroupLog, Applier), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = EngineJournal::open(dir.path(), Arc::new(|_| {})).expect("opened");
        let (log, applier) = build(Arc::new(journal));
        Ok((dir, log, applier))
    }
}

#[tokio::test]
async fn openraft_suite_over_memory() {
    let suite = Runtime::scope(1, Suite::test_all(Memory));
    suite.await.expect("the suite passes");
}

#[tokio::test]
async fn openraft_suite_over_the_engine() {
    let suite = Runtime::scope(1, Suite::test_all(Engine));
    suite.await.expect("the suite passes");
}
