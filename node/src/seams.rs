//! Everything of a node that touches disk, network, time or threads, in one struct: on disk and TCP in service, twins in
//! a simulation. Nothing else in this crate makes one of these.

use std::io;
use std::path::Path;
use std::sync::Arc;

use reckoner_client::routes::Connector;
use reckoner_raft::machine::BlockingWorkers;
use reckoner_raft::net::peer::{GrpcTransport, TcpConnector};
use reckoner_raft::net::transport::Transport;
use reckoner_raft::store::engine::EngineJournal;
use reckoner_raft::store::generation::SledSnapshots;
use reckoner_raft::store::journal::Journal;
use reckoner_raft::store::snapshot::SnapshotStore;
use reckoner_raft::timings::Limits;
use reckoner_shard::machine::state::MACHINE_VERSION;

use crate::clock::{Clock, SystemClock};
use crate::context::Fate;
use crate::datadir::DataDirError;
use crate::net::Listener;
use crate::store::bills::{BillStore, SledBills};
use crate::store::blobs::{BlobStore, SledBlobs};
use crate::workers::{ThreadWorkers, Workers};

/// The seams of a node.
pub struct Seams {
    /// The log of all groups. A flush that it refuses must seal `fate`.
    pub journal: Arc<dyn Journal>,
    pub snapshots: Arc<dyn SnapshotStore>,
    /// The way of replication to peers.
    pub transport: Arc<dyn Transport>,
    /// The way of everything else to other nodes; TCP when absent.
    pub connector: Option<Connector>,
    pub bills: Arc<dyn BillStore>,
    pub blobs: Arc<dyn BlobStore>,
    pub clock: Arc<dyn Clock>,
    /// Never in service: this node stamps by its own clock, whatever those of the others say.
    pub trusts_own_clock: bool,
    /// The newest version of the shards' machine that is supported; another than this code's only where a test pretends.
    pub machine: u32,
    /// For folds and documents.
    pub workers: Arc<dyn Workers>,
    /// For replication's own disk work, which must not wait behind folds.
    pub replication_workers: Arc<dyn reckoner_raft::machine::Workers>,
    /// When replication takes snapshots: a simulation has not the time to fill a log.
    pub limits: Limits,
    pub listener: Listener,
    /// Whether the node can go on.
    pub fate: Fate,
    /// Makes every random choice the same again; drawn from the system when absent.
    pub seed: Option<u64>,
}

impl Seams {
    /// What serves: files under `folder`, TCP, the system's clock, threads.
    pub fn on_disk(folder: &Path, listener: Listener) -> Result<Seams, DataDirError> {
        let open = |name: &str| folder.join(name);
        let failed = |name: &str| {
            let path = folder.join(name);
            move |source: io::Error| DataDirError::Io { path, source }
        };
        let fate = Fate::default();
        let journal = {
            let fate = fate.clone();
            let fatal = Arc::new(move |reason: &str| fate.seal(&format!("the log cannot be written: {reason}")));
            EngineJournal::open(open("log"), fatal).map_err(failed("log"))?
        };
        Ok(Seams {
            journal: Arc::new(journal),
            snapshots: Arc::new(SledSnapshots::open(open("snapshots")).map_err(failed("snapshots"))?),
            transport: Arc::new(GrpcTransport::new(Arc::new(TcpConnector))),
            connector: None,
            bills: Arc::new(SledBills::open(&open("bills")).map_err(failed("bills"))?),
            blobs: Arc::new(SledBlobs::open(&open("blobs")).map_err(failed("blobs"))?),
            clock: Arc::new(SystemClock),
            trusts_own_clock: false,
            machine: MACHINE_VERSION,
            workers: Arc::new(ThreadWorkers::per_processor()),
            replication_workers: Arc::new(BlockingWorkers),
            limits: Limits::default(),
            listener,
            fate,
            seed: None,
        })
    }
}
