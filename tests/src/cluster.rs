//! Whole nodes in virtual time: what each is made of (twins of disk, clock and network), and how one starts, fails and
//! starts again. The faults are in [`crate::faults`], what clients do in [`crate::simulation`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use reckoner_client::routes;
use reckoner_node::clock::Clock;
use reckoner_node::config::{Config, Member};
use reckoner_node::context::{Context, Fate};
use reckoner_node::datadir::Identity;
use reckoner_node::net::{Accepted, Listener};
use reckoner_node::node::Node;
use reckoner_node::seams::Seams;
use reckoner_node::store::bills::BillStore;
use reckoner_node::store::blobs::MemoryBlobs;
use reckoner_node::workers::InPlaceWorkers;
use reckoner_raft::machine::InPlaceWorkers as InPlaceDiskWorkers;
use reckoner_raft::net::peer::{Connector, GrpcTransport, Io};
use reckoner_raft::timings::Limits;
use reckoner_shard::base::time::{CycleId, Timestamp};
use turmoil::net::{TcpListener, TcpStream};

use crate::faults::{FaultyJournal, FaultyTransport, Planted, Victim, Wire};

/// Port of every node.
const PORT: u16 = 7_400;

/// Name of a node's machine.
pub fn name(node: u64) -> String {
    format!("node{node}")
}

/// Address of a node.
pub fn address(node: u64) -> String {
    format!("{}:{PORT}", name(node))
}

/// The way of clients and nodes through the simulated network.
pub fn connector() -> routes::Connector {
    routes::Connector::new(|address: String| async move {
        let stream = TcpStream::connect(host_and_port(&address)?).await?;
        Ok(Box::new(stream) as Box<dyn routes::Io>)
    })
}

fn host_and_port(address: &str) -> io::Result<(String, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("'{address}' is not host:port")))
}

/// The way of replication through the simulated network.
struct PeerConnector;

impl Connector for PeerConnector {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(host_and_port(&address)?).await?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Virtual time, some way off on each node.
pub struct SkewedClock {
    /// When the simulation began, on a clock that is right.
    pub base: Timestamp,
    /// How far this clock is ahead, nanoseconds.
    pub ahead: i64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        Timestamp(self.base.0 + elapsed.as_nanos() as i64 + self.ahead)
    }
}

/// A bill store's twin that loses in a crash what was not flushed. Clones are the same disk.
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
}

impl BillStore for BillDisk {
    fn put(&self, _cycle: Option<CycleId>, hash: &[u8; 32], bytes: Bytes) -> io::Result<()> {
        self.0.lock().written.insert(*hash, bytes);
        Ok(())
    }

    fn get(&self, _cycle: Option<CycleId>, hash: &[u8; 32]) -> io::Result<Option<Bytes>> {
        let files = self.0.lock();
        Ok(files.written.get(hash).or_else(|| files.flushed.get(hash)).cloned())
    }

    fn has(&self, cycle: Option<CycleId>, hash: &[u8; 32]) -> io::Result<bool> {
        Ok(self.get(cycle, hash)?.is_some())
    }

    fn flush(&self) -> io::Result<()> {
        let mut files = self.0.lock();
        let written = std::mem::take(&mut files.written);
        files.flushed.extend(written);
        Ok(())
    }
}

/// What all nodes of a simulated cluster have in common.
#[derive(Clone)]
pub struct Settings {
    /// Of the run.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many shards.
    pub shards: u32,
    /// When the simulation began.
    pub base: Timestamp,
    /// A group's log may grow so long before a snapshot.
    pub snapshot_bytes: u64,
    /// The wire of replication.
    pub wire: Wire,
    /// A bug put in on purpose.
    pub planted: Option<Planted>,
}

/// A machine that a node runs on; it survives the node.
#[derive(Clone)]
pub struct Machine {
    /// The node's id.
    pub node: u64,
    /// Name and disk, as the storm knows them.
    pub victim: Victim,
    bills: BillDisk,
    blobs: Arc<MemoryBlobs>,
    /// How far its clock is ahead, nanoseconds.
    ahead: i64,
    settings: Settings,
    /// How often the node was started.
    starts: Arc<Mutex<u64>>,
    /// The parts of the node while it runs.
    running: Arc<Mutex<Option<Arc<Context>>>>,
}

impl Machine {
    /// A machine with empty disks.
    pub fn new(node: u64, ahead: Duration, behind: bool, settings: Settings) -> Self {
        let ahead = ahead.as_nanos() as i64 * if behind { -1 } else { 1 };
        let running: Arc<Mutex<Option<Arc<Context>>>> = Arc::default();
        let bills = BillDisk::default();
        let mut victim = Victim::new(name(node));
        let (lost, gone) = (bills.clone(), running.clone());
        victim.also = Arc::new(move || {
            lost.crash();
            *gone.lock() = None;
        });
        Self { node, victim, bills, blobs: Arc::default(), ahead, settings, starts: Arc::default(), running }
    }

    /// The parts of the node, while it runs.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.running.lock().clone()
    }

    /// What is in the bill store.
    pub fn bill(&self, hash: &[u8; 32]) -> Option<Bytes> {
        self.bills.get(None, hash).ok().flatten()
    }

    /// The software of the machine: a node, until the machine crashes.
    pub async fn run(self) -> turmoil::Result {
        match self.start().await {
            Ok(node) => {
                *self.running.lock() = Some(node.context().clone());
                let reason = node.failed().await;
                tracing::info!(node = self.node, reason, "the node gave up");
            }
            Err(error) => tracing::info!(node = self.node, %error, "the node did not start"),
        }
        // In service the process ends here, and whoever watches it starts it again.
        *self.victim.fatal.lock() = true;
        std::future::pending().await
    }

    async fn start(&self) -> Result<Node, Box<dyn std::error::Error>> {
        let settings = &self.settings;
        let start = {
            let mut starts = self.starts.lock();
            *starts += 1;
            *starts
        };
        let members: Vec<Member> = (1..=settings.nodes).map(|id| Member { id, address: address(id) }).collect();
        let config = Config {
            advertise: Some(address(self.node)),
            shards: Some(settings.shards),
            node_id: Some(self.node),
            members: members.clone(),
            cycle_interval_ms: 200,
            ..Config::default()
        };
        let identity = Identity::new(u128::from(settings.seed) + 1, self.node, settings.shards, members);
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let bound = listener.local_addr()?;
        let incoming = futures::stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| Accepted::new(stream));
            Some((accepted, listener))
        });
        let fate = Fate::default();
        let fatal = {
            let fate = fate.clone();
            Arc::new(move |reason: &str| fate.seal(reason))
        };
        let peers = GrpcTransport::new(Arc::new(PeerConnector));
        let seams = Seams {
            journal: Arc::new(FaultyJournal::open(&self.victim.disk, fatal, settings.planted)),
            snapshots: Arc::new(self.victim.disk.snapshots()),
            transport: Arc::new(FaultyTransport::new(Arc::new(peers), settings.wire.clone())),
            connector: Some(connector()),
            bills: Arc::new(self.bills.clone()),
            blobs: self.blobs.clone(),
            clock: Arc::new(SkewedClock { base: settings.base, ahead: self.ahead }),
            workers: Arc::new(InPlaceWorkers),
            replication_workers: Arc::new(InPlaceDiskWorkers),
            limits: Limits {
                snapshot_log_bytes: settings.snapshot_bytes,
                snapshot_interval: Duration::from_secs(5),
                ..Limits::default()
            },
            listener: Listener { address: bound, incoming: incoming.boxed() },
            fate,
            seed: Some(settings.seed.wrapping_mul(1_000_003) ^ (start << 32) ^ self.node),
        };
        Ok(Node::start(config, identity, seams).await?)
    }
}
