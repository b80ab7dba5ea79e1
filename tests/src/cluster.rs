//! Whole nodes in virtual time: what each is made of (twins of disk, clock and network), and how one starts, fails and
//! starts again. The faults are in [`crate::faults`] and [`crate::seams`], what clients do in [`crate::simulation`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use reckoner_client::routes;
use reckoner_node::clock::Clock;
use reckoner_node::config::{Config, Member};
use reckoner_node::context::{Context, Fate};
use reckoner_node::datadir::{DataDir, Identity};
use reckoner_node::joining;
use reckoner_node::net::{Accepted, Listener};
use reckoner_node::node::Node;
use reckoner_node::seams::Seams;
use reckoner_node::store::blobs::MemoryBlobs;
use reckoner_node::workers::InPlaceWorkers;
use reckoner_raft::machine::InPlaceWorkers as InPlaceDiskWorkers;
use reckoner_raft::net::peer::{Connector, GrpcTransport, Io};
use reckoner_raft::timings::Limits;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::state::MACHINE_VERSION;
use tempfile::TempDir;
use turmoil::net::{TcpListener, TcpStream};

use crate::crash::Steps;
use crate::faults::{FaultyTransport, Victim, Wire};
use crate::planted::Planted;
use crate::seams::{BillDisk, FaultyBills, FaultyBlobs, FaultyJournal, FaultySnapshots};

/// Port of every node.
const PORT: u16 = 7_400;

/// Replicas are compared so often: a few times in a storm.
const CHECK_INTERVAL_MS: u64 = 2_000;

/// The node that reads other prices than the rest, or whose sums are others, where that is planted.
const MISREADS: u64 = 2;

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
    pub ahead: Arc<AtomicI64>,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        Timestamp(self.base.0 + elapsed.as_nanos() as i64 + self.ahead.load(Ordering::Relaxed))
    }
}

/// What all nodes of a simulated cluster have in common.
#[derive(Clone)]
pub struct Settings {
    /// Of the run.
    pub seed: u64,
    /// How many nodes found the cluster; others join it.
    pub founders: u64,
    /// How many shards.
    pub shards: u32,
    /// When the simulation began.
    pub base: Timestamp,
    /// A group's log may grow so long before a snapshot.
    pub snapshot_bytes: u64,
    /// The wire of replication.
    pub wire: Wire,
    /// Counts calls to disks, and ends a node at one.
    pub steps: Steps,
    /// A bug put in on purpose.
    pub planted: Option<Planted>,
}

/// A machine that a node runs on; it survives the node.
#[derive(Clone)]
pub struct Machine {
    /// Founders have the number as their id, others get theirs when they join.
    pub number: u64,
    /// Name and disk, as the storm knows them.
    pub victim: Victim,
    bills: BillDisk,
    blobs: Arc<MemoryBlobs>,
    /// How far its clock is ahead, nanoseconds; it may be set while the node runs.
    pub ahead: Arc<AtomicI64>,
    settings: Settings,
    /// Of a machine that joins.
    joining: Option<Arc<Joining>>,
    /// How often the node was started.
    starts: Arc<Mutex<u64>>,
    /// The parts of the node while it runs.
    running: Arc<Mutex<Option<Arc<Context>>>>,
}

/// What a machine keeps that comes to the cluster later.
struct Joining {
    switched_on: Mutex<bool>,
    /// Its data directory, for the ticket that it asks with.
    folder: TempDir,
    identity: Mutex<Option<Identity>>,
}

impl Machine {
    /// A machine with empty disks.
    pub fn new(number: u64, ahead: Duration, behind: bool, settings: Settings) -> Self {
        let ahead = Arc::new(AtomicI64::new(ahead.as_nanos() as i64 * if behind { -1 } else { 1 }));
        let running: Arc<Mutex<Option<Arc<Context>>>> = Arc::default();
        let bills = BillDisk::default();
        let mut victim = Victim::new(name(number));
        let (lost, gone) = (bills.clone(), running.clone());
        victim.also = Arc::new(move || {
            lost.crash();
            *gone.lock() = None;
        });
        let joining = (number > settings.founders).then(|| {
            let folder = tempfile::tempdir().expect("a folder for a ticket");
            // A ticket from the seed, so that the seed gives the same run again.
            let ticket = (u128::from(settings.seed) << 64 | u128::from(number)).to_be_bytes();
            std::fs::write(folder.path().join("ticket"), ticket).expect("a ticket is written");
            Arc::new(Joining { switched_on: Mutex::new(false), folder, identity: Mutex::new(None) })
        });
        let (blobs, starts) = (Arc::default(), Arc::default());
        Self { number, victim, bills, blobs, ahead, settings, joining, starts, running }
    }

    /// Lets a machine start that joins.
    pub fn switch_on(&self) {
        if let Some(joining) = &self.joining {
            *joining.switched_on.lock() = true;
        }
    }

    /// The parts of the node, while it runs.
    pub fn context(&self) -> Option<Arc<Context>> {
        self.running.lock().clone()
    }

    /// Whether the node has found its replicas equal to the others', and its bills whole, as far as it has looked.
    ///
    /// # Errors
    /// What it found, as the product says it.
    pub fn equal(&self) -> Result<(), String> {
        let Some(context) = self.context() else { return Ok(()) };
        if context.counts.mended.load(Ordering::Relaxed) > 0 {
            return Err(format!("{} found a bill damaged or missing on its disk", self.victim.name));
        }
        if context.counts.differences.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let map = context.meta.map();
        let shards = map.iter().flat_map(|map| map.shards());
        let rebuilt = context.rebuilds.running().into_iter().map(|(_, reason)| reason);
        let found = shards.filter_map(|shard| context.checks.last(shard)?.trouble(shard)).chain(rebuilt).next();
        Err(found.unwrap_or_else(|| format!("a replica on {} differed from the others", self.victim.name)))
    }

    /// What is in the bill store.
    pub fn bill(&self, hash: &[u8; 32]) -> Option<Bytes> {
        self.bills.read(hash)
    }

    /// The software of the machine: a node, until the machine crashes.
    pub async fn run(self) -> turmoil::Result {
        match self.start().await {
            Ok(node) => {
                *self.running.lock() = Some(node.context().clone());
                let reason = node.failed().await;
                tracing::info!(node = self.number, reason, "the node gave up");
            }
            Err(error) => tracing::info!(node = self.number, %error, "the node did not start"),
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
        while self.joining.as_ref().is_some_and(|joining| !*joining.switched_on.lock()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let members: Vec<Member> = (1..=settings.founders).map(|id| Member { id, address: address(id) }).collect();
        let advertise = Some(address(self.number));
        let own =
            Config { advertise, cycle_interval_ms: 200, check_interval_ms: CHECK_INTERVAL_MS, ..Config::default() };
        let config = match &self.joining {
            None => {
                let (shards, node_id) = (Some(settings.shards), Some(self.number));
                Config { shards, node_id, members: members.clone(), ..own }
            }
            Some(_) => Config { join: members.iter().map(|member| member.address.clone()).collect(), ..own },
        };
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let bound = listener.local_addr()?;
        let incoming = futures::stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| Accepted::new(stream));
            Some((accepted, listener))
        });
        let mut listener = Listener { address: bound, incoming: incoming.boxed() };
        let identity = match &self.joining {
            None => Identity::new(u128::from(settings.seed) + 1, self.number, settings.shards, members),
            Some(joining) => joining.identity(&config, &mut listener).await?,
        };
        let fate = Fate::default();
        let fatal = {
            let fate = fate.clone();
            Arc::new(move |reason: &str| fate.seal(reason))
        };
        let (disk, planted) = (&self.victim.disk, settings.planted);
        let life = self.victim.life(&settings.steps);
        // One node, and only once it has started again: documents are checked when they are staged.
        let misreads = self.number == MISREADS && start > 1;
        // One node's replicas become others than the rest.
        let only_one = planted == Some(Planted::FlippedCounter) && self.number != MISREADS;
        let of_snapshots = planted.filter(|_| !only_one);
        let peers = GrpcTransport::new(Arc::new(PeerConnector));
        let seams = Seams {
            journal: Arc::new(FaultyJournal::open(disk, fatal, life.clone(), planted)),
            snapshots: Arc::new(FaultySnapshots::open(disk, life.clone(), of_snapshots)),
            transport: Arc::new(FaultyTransport::new(Arc::new(peers), settings.wire.clone())),
            connector: Some(connector()),
            bills: Arc::new(FaultyBills { disk: self.bills.clone(), life: life.clone(), planted }),
            blobs: Arc::new(FaultyBlobs::open(self.blobs.clone(), life, planted, misreads)),
            clock: Arc::new(SkewedClock { base: settings.base, ahead: self.ahead.clone() }),
            trusts_own_clock: planted == Some(Planted::ClockAhead),
            machine: MACHINE_VERSION,
            workers: Arc::new(InPlaceWorkers),
            replication_workers: Arc::new(InPlaceDiskWorkers),
            limits: Limits {
                snapshot_log_bytes: settings.snapshot_bytes,
                snapshot_interval: Duration::from_secs(5),
                ..Limits::default()
            },
            listener,
            fate,
            seed: Some(settings.seed.wrapping_mul(1_000_003) ^ (start << 32) ^ self.number),
        };
        Ok(Node::start(config, identity, seams).await?)
    }
}

impl Joining {
    /// The identity of then, or one that the cluster gives now.
    async fn identity(&self, config: &Config, listener: &mut Listener) -> Result<Identity, Box<dyn std::error::Error>> {
        if let Some(known) = self.identity.lock().clone() {
            return Ok(known);
        }
        let data = DataDir::open(self.folder.path())?;
        let address = config.advertise.clone().unwrap_or_default();
        let identity = joining::identity(config, &data, &address, listener, Some(connector())).await?;
        *self.identity.lock() = Some(identity.clone());
        Ok(identity)
    }
}
