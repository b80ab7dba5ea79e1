//! What the parts of one node share: its settings, its seams, its groups, and the one way to say that it cannot go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reckoner_client::client::Client;
use reckoner_raft::host::Host;
use reckoner_shard::base::id::ShardId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::clocks::Clocks;
use crate::condemned::Rebuilds;
use crate::config::{Config, Member};
use crate::data::admission::Admission;
use crate::data::check::AllChecks;
use crate::data::shard::Shard;
use crate::meta::group::Meta;
use crate::meta::waits::{Turns, Waits};
use crate::store::bills::BillStore;
use crate::store::blobs::BlobStore;
use crate::store::catalogues::Catalogues;
use crate::workers::Workers;

/// Shared by everything that belongs to one node.
pub struct Context {
    pub node: u64,
    pub cluster: u128,
    /// Shards at the cluster's founding.
    pub shards_founded: u32,
    /// The founding members.
    pub members: Vec<Member>,
    pub config: Config,
    /// The address that others are told.
    pub address: String,
    pub host: Host,
    pub meta: Meta,
    pub shards: Shards,
    /// The client library of this node: routes rows of simple callers, and holds the channels to other nodes.
    pub client: Client,
    pub admission: Admission,
    pub counts: Counts,
    pub blobs: Arc<dyn BlobStore>,
    pub bills: Arc<dyn BillStore>,
    pub catalogues: Arc<Catalogues>,
    pub clock: Arc<dyn Clock>,
    /// The clocks of other nodes.
    pub clocks: Clocks,
    pub workers: Arc<dyn Workers>,
    /// The newest version of the shards' machine that this node supports.
    pub machine: u32,
    pub draws: Draws,
    pub fate: Fate,
    /// Tells this process from another one under the same identity.
    pub run: u64,
    /// What is known of whether replicas are equal.
    pub checks: AllChecks,
    /// Replicas whose state is wrong or lost.
    pub rebuilds: Rebuilds,
    /// What the steps of jobs wait for.
    pub waits: Waits,
    /// Jobs that wait for their turn between slot moves.
    pub turns: Turns,
    /// Cancelled when the node begins to stop: no new usage is taken.
    pub stopping: CancellationToken,
}

impl Context {
    /// What this node lacks to serve all it should, in words; `None` when it is ready.
    pub fn missing(&self) -> Option<String> {
        let state = self.meta.state();
        if !state.is_founded() {
            return Some("the cluster is not founded; are a majority of its members running?".to_owned());
        }
        let own = state.replicas().iter().filter(|row| row.nodes.contains(&self.node));
        for row in own {
            match self.shards.get(ShardId(row.shard)) {
                None => {
                    let why = self.shards.why_not(ShardId(row.shard)).map_or(String::new(), |why| format!(": {why}"));
                    return Some(format!("shard {} is not open{why}", row.shard));
                }
                Some(shard) if shard.leader().is_none() => return Some(format!("nobody leads shard {}", row.shard)),
                Some(shard) if !shard.has_begun() => {
                    return Some(format!("shard {} has not been told its slots", row.shard));
                }
                Some(_) => (),
            }
        }
        None
    }
}

/// What a node did since it started, for its metrics.
#[derive(Default)]
pub struct Counts {
    /// Batches that were answered with verdicts.
    pub batches: AtomicU64,
    /// Records in them, whatever their verdicts.
    pub records: AtomicU64,
    /// Batches that found no room.
    pub full: AtomicU64,
    /// Checks that found this node's replica different from the others.
    pub differences: AtomicU64,
    /// Bills and archives that were damaged or missing here.
    pub mended: AtomicU64,
}

/// The shards that are open here, and why others are not.
#[derive(Default)]
pub struct Shards(RwLock<BTreeMap<ShardId, Shard>>, RwLock<BTreeMap<ShardId, String>>);

impl Shards {
    pub fn get(&self, shard: ShardId) -> Option<Shard> {
        self.0.read().get(&shard).cloned()
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<Shard> {
        self.0.read().values().cloned().collect()
    }

    /// A shard could not be opened.
    pub fn failed(&self, shard: ShardId, why: String) {
        self.1.write().insert(shard, why);
    }

    /// Why a shard could not be opened when that was last tried.
    pub fn why_not(&self, shard: ShardId) -> Option<String> {
        self.1.read().get(&shard).cloned()
    }

    /// Every shard that could not be opened, and why.
    pub fn all_failed(&self) -> Vec<(ShardId, String)> {
        self.1.read().iter().map(|(shard, why)| (*shard, why.clone())).collect()
    }

    pub fn put(&self, shard: Shard) {
        self.1.write().remove(&shard.id());
        self.0.write().insert(shard.id(), shard);
    }

    pub fn remove(&self, shard: ShardId) -> Option<Shard> {
        self.0.write().remove(&shard)
    }
}

/// Random numbers: from the system in service, from a seed in a simulation.
pub struct Draws {
    random: Mutex<SmallRng>,
    last: AtomicU32,
}

impl Draws {
    pub fn new(seed: Option<u64>) -> Self {
        let random = seed.map_or_else(SmallRng::from_os_rng, SmallRng::seed_from_u64);
        Self { random: Mutex::new(random), last: AtomicU32::new(0) }
    }

    /// A generation for series tables: random, so that two leaders of one slot hardly ever draw the same; never 0, and
    /// never twice in a row.
    pub fn generation(&self) -> u32 {
        loop {
            let drawn: u32 = self.random.lock().random();
            if drawn != 0 && self.last.swap(drawn, Ordering::Relaxed) != drawn {
                return drawn;
            }
        }
    }
}

/// Whether the node can go on. Once it cannot, it stops: what was acknowledged could otherwise be lost.
#[derive(Clone)]
pub struct Fate(Arc<watch::Sender<Option<Sealed>>>);

/// Why a node has to stop.
struct Sealed {
    reason: String,
    /// It does not belong to its cluster any more: starting it again would not help.
    is_expelled: bool,
}

impl Default for Fate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Fate {
    /// The node has to stop. The first reason stands.
    pub fn seal(&self, reason: &str) {
        self.end(reason, false);
    }

    /// The node has to stop, and must not be started from its directory again.
    pub fn expel(&self, reason: &str) {
        self.end(reason, true);
    }

    fn end(&self, reason: &str, is_expelled: bool) {
        self.0.send_if_modified(|fate| {
            let first = fate.is_none();
            if first {
                tracing::error!(reason, "the node stops");
                *fate = Some(Sealed { reason: reason.to_owned(), is_expelled });
            }
            first
        });
    }

    /// Why it has to stop, if it has to.
    pub fn sealed(&self) -> Option<String> {
        self.0.borrow().as_ref().map(|sealed| sealed.reason.clone())
    }

    /// Whether it must not be started from its directory again.
    pub fn is_expelled(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|sealed| sealed.is_expelled)
    }

    /// Returns when the node has to stop, with the reason.
    pub async fn wait(&self) -> String {
        let mut seen = self.0.subscribe();
        // The sender lives as long as this handle.
        let _ = seen.wait_for(Option::is_some).await.map(|_| ());
        self.sealed().unwrap_or_default()
    }
}
