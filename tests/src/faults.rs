//! Bad weather from a seed: a Transport between nodes of one simulation that loses, delays, doubles and overtakes calls, and
//! cuts pairs of nodes off from each other in one direction or both. Disks that lose what was not flushed are raft's
//! own `MemoryDisk`. When the weather changes is up to the simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_raft::host::Host;
use reckoner_raft::net::transport::{Lane, PeerReply, PeerRequest, Transport, TransportError};
use reckoner_raft::types::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Calls that wait at a node's door: far more than a group keeps in flight, so that only a dead node fills it.
const CALLS_WAITING_MAX: usize = 4_096;

/// How bad the weather is. Percentages are per call and direction.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost_percent: u32,
    pub doubled_percent: u32,
    pub delay_max: Duration,
}

impl Weather {
    /// Every call arrives, after a millisecond or two.
    pub const FAIR: Weather = Weather { lost_percent: 0, doubled_percent: 0, delay_max: Duration::from_millis(2) };

    /// Weather of a seed's own kind: some have losses only, some delays only, some everything.
    pub fn draw(rng: &mut SmallRng) -> Weather {
        let pick = |rng: &mut SmallRng, values: &[u32]| values[rng.random_range(0..values.len())];
        Weather {
            lost_percent: pick(rng, &[0, 0, 2, 10]),
            doubled_percent: pick(rng, &[0, 0, 5]),
            delay_max: Duration::from_millis(u64::from(pick(rng, &[2, 10, 40, 120]))),
        }
    }
}

/// A call on its way to a node, with the way back.
struct Delivery {
    request: PeerRequest,
    reply: oneshot::Sender<PeerReply>,
}

struct Wires {
    rng: SmallRng,
    weather: Weather,
    /// Directions in which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
    doors: BTreeMap<NodeId, mpsc::Sender<Delivery>>,
    calls: u64,
    lost: u64,
}

/// The wires between the nodes of one simulation. Clones are the same wires.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Wires>>);

/// What becomes of one call.
struct Fate {
    there: Duration,
    back: Duration,
    arrives: bool,
    returns: bool,
    doubled: bool,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        let rng = SmallRng::seed_from_u64(seed);
        let (cut, doors) = (BTreeSet::new(), BTreeMap::new());
        Network(Arc::new(Mutex::new(Wires { rng, weather: Weather::FAIR, cut, doors, calls: 0, lost: 0 })))
    }

    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Nothing passes from one node to the other any more; the other direction is left alone.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.lock().cut.insert((from, to));
    }

    /// Every direction is open again and the weather fair.
    pub fn heal(&self) {
        let mut wires = self.0.lock();
        wires.cut.clear();
        wires.weather = Weather::FAIR;
    }

    /// Calls made and calls lost so far.
    pub fn counts(&self) -> (u64, u64) {
        let wires = self.0.lock();
        (wires.calls, wires.lost)
    }

    /// The transport of one node.
    pub fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Wire { node, network: self.clone() })
    }

    /// Opens a node's door: calls to it are handed to `host` from now on, in the runtime of this call. A door opened
    /// before is closed, as when a node restarts.
    pub fn serve(&self, host: Host) {
        let (door, mut calls) = mpsc::channel::<Delivery>(CALLS_WAITING_MAX);
        self.0.lock().doors.insert(host.node(), door);
        tokio::spawn(async move {
            while let Some(Delivery { request, reply }) = calls.recv().await {
                let host = host.clone();
                // Calls are carried out beside each other, as the gRPC service does.
                tokio::spawn(async move {
                    let answer = host.handle(request).await;
                    // Nobody waits for the answer of a doubled call.
                    let _ = reply.send(answer);
                });
            }
        });
    }

    fn fate(&self, from: NodeId, to: NodeId) -> Fate {
        let mut wires = self.0.lock();
        let weather = wires.weather;
        let lost = |wires: &mut Wires| wires.rng.random_range(0..100) < weather.lost_percent;
        let (lost_there, lost_back) = (lost(&mut wires), lost(&mut wires));
        let doubled = wires.rng.random_range(0..100) < weather.doubled_percent;
        let most = weather.delay_max.as_micros() as u64;
        let mut delay = || Duration::from_micros(wires.rng.random_range(most / 10..=most));
        let (there, back) = (delay(), delay());
        let arrives = !lost_there && !wires.cut.contains(&(from, to));
        let returns = !lost_back && !wires.cut.contains(&(to, from));
        wires.calls += 1;
        wires.lost += u64::from(!arrives || !returns);
        Fate { there, back, arrives, returns, doubled }
    }

    fn door(&self, to: NodeId) -> Option<mpsc::Sender<Delivery>> {
        self.0.lock().doors.get(&to).cloned()
    }
}

/// One node's end of the wires.
struct Wire {
    node: NodeId,
    network: Network,
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        _address: &str,
        _lane: Lane,
        request: PeerRequest,
        after: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, TransportError>> {
        let network = self.network.clone();
        let fate = network.fate(self.node, to);
        let unreachable = move |reason: &str| TransportError::Unreachable { to, reason: reason.to_owned() };
        let deliver = async move {
            sleep(fate.there).await;
            if !fate.arrives {
                return std::future::pending().await;
            }
            let door = network.door(to).ok_or_else(|| unreachable("no such node"))?;
            let knock = |request: PeerRequest| {
                let (reply, answer) = oneshot::channel();
                door.try_send(Delivery { request, reply }).map_err(|_| unreachable("the node is down"))?;
                Ok::<_, TransportError>(answer)
            };
            if fate.doubled {
                drop(knock(request.clone())?);
            }
            let reply = knock(request)?.await.map_err(|_| unreachable("the node went down"))?;
            sleep(fate.back).await;
            if fate.returns { Ok(reply) } else { std::future::pending().await }
        };
        async move { timeout(after, deliver).await.unwrap_or(Err(TransportError::TimedOut { to, after })) }.boxed()
    }
}
