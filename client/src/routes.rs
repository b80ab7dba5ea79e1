//! Where to send: the shard map and the leaders as last learnt, and one connection a node. A wrong guess teaches: a
//! redirect names the leader, a newer map epoch asks for the whole map again. What is sent is not decided here.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use reckoner_shard::base::id::{ShardId, Slot};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::Error;
use crate::proto;

/// Slots that hierarchies hash to; fixed for ever.
pub const SLOTS: usize = 4096;

/// The header in which calls name their cluster.
pub const CLUSTER_KEY: &str = "reckoner-cluster";

/// A connection attempt that takes longer is given up: a living node on a network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that vanished without a word is noticed after this and the timeout below.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Two full batches of 4 MiB may be under way on a stream before the receiver has to grant more.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// How old the routes may get while calls succeed: nodes that joined must be known before those known now are gone.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Both directions of a connection, however it was made.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// The way to `host:port`, where it is not the operating system's TCP: simulations hand in their own.
#[derive(Clone)]
pub struct Connector(Arc<ConnectFn>);

type ConnectFn = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>> + Send + Sync;

impl Connector {
    /// Wraps a function from `host:port` to a connection.
    pub fn new<F, Fut>(connect: F) -> Connector
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Box<dyn Io>>> + Send + 'static,
    {
        Connector(Arc::new(move |address| Box::pin(connect(address))))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// What is known of the cluster; replaced as a whole, so that readers never wait.
#[derive(Clone, Debug)]
struct Table {
    epoch: u64,
    /// Shard of each slot; empty until the first map came.
    shards: Arc<[ShardId]>,
    leaders: BTreeMap<ShardId, Leader>,
    nodes: BTreeMap<u64, String>,
    /// Id of the cluster that the first map came from, as calls carry it; another one refuses them.
    cluster: Option<AsciiMetadataValue>,
}

#[derive(Clone, Debug)]
struct Leader {
    address: String,
    term: u64,
}

/// The routes of one client.
#[derive(Debug)]
pub struct Routes {
    table: ArcSwap<Table>,
    seeds: Vec<String>,
    /// In order, so that a client that goes says goodbye in the same order every time: simulations repeat.
    channels: Mutex<BTreeMap<String, Channel>>,
    connector: Option<Connector>,
    turn: AtomicUsize,
    /// When the map last came or was asked for.
    asked: Mutex<Option<Instant>>,
}

impl Routes {
    /// Routes that know only where to ask first. Endpoints are `host:port`, with or without `http://`.
    pub fn new(endpoints: &[String], connector: Option<Connector>) -> Result<Routes, Error> {
        let mut seeds = Vec::new();
        for endpoint in endpoints {
            let address = endpoint.trim().trim_start_matches("http://").trim_end_matches('/');
            let known =
                address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !known {
                let why = format!("endpoint '{endpoint}' is not host:port; write it like 127.0.0.1:7400");
                return Err(Error::invalid(why));
            }
            seeds.push(address.to_owned());
        }
        if seeds.is_empty() {
            return Err(Error::invalid("no endpoint given; name at least one node, like 127.0.0.1:7400"));
        }
        let (leaders, nodes) = (BTreeMap::new(), BTreeMap::new());
        let table = Table { epoch: 0, shards: Arc::new([]), leaders, nodes, cluster: None };
        Ok(Routes {
            table: ArcSwap::from_pointee(table),
            seeds,
            channels: Mutex::new(BTreeMap::new()),
            connector,
            turn: AtomicUsize::new(0),
            asked: Mutex::new(None),
        })
    }

    /// Epoch of the map; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.table.load().epoch
    }

    /// Marks a call as one to the cluster that the first map came from: one that has taken its place, such as one that was
    /// restored from a backup, refuses it rather than take what was meant for the other.
    pub fn mark<T>(&self, request: &mut Request<T>) {
        if let Some(cluster) = &self.table.load().cluster {
            request.metadata_mut().insert(CLUSTER_KEY, cluster.clone());
        }
    }

    /// The shard that owns a slot; `None` before the first map.
    pub fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.table.load().shards.get(usize::from(slot.0)).copied()
    }

    /// The whole map with its epoch: the shard of each slot; empty before the first map.
    pub fn map(&self) -> (u64, Arc<[ShardId]>) {
        let table = self.table.load();
        (table.epoch, table.shards.clone())
    }

    /// All shards, ascending.
    pub fn shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.table.load().shards.to_vec();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Address of the node that leads a shard, as last learnt.
    pub fn leader_of(&self, shard: ShardId) -> Option<String> {
        self.table.load().leaders.get(&shard).map(|leader| leader.address.clone())
    }

    /// The first endpoint that was given.
    pub fn first(&self) -> &str {
        &self.seeds[0]
    }

    /// A node to ask when any will do: another one at each call.
    pub fn any(&self) -> String {
        let table = self.table.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut known: Vec<&String> = table.nodes.values().collect();
        if known.is_empty() {
            return self.seeds[turn % self.seeds.len()].clone();
        }
        known.sort_unstable();
        // Seeds stay in the round: the known nodes may all have moved.
        let all = known.len() + self.seeds.len();
        let at = turn % all;
        if at < known.len() { known[at].clone() } else { self.seeds[at - known.len()].clone() }
    }

    /// Whether the map should be asked for again although nothing went wrong; answers yes once, to who then asks.
    pub fn wants_refresh(&self) -> bool {
        let mut asked = self.asked.lock();
        let wants = asked.is_some_and(|asked| asked.elapsed() >= REFRESH_INTERVAL);
        if wants {
            *asked = Some(Instant::now());
        }
        wants
    }

    /// Takes over a whole map, unless a newer one is known.
    pub fn learn(&self, reply: &proto::RoutesReply) -> Result<(), Error> {
        let mut shards = vec![None; SLOTS];
        for range in &reply.ranges {
            let (first, last) = (range.first as usize, range.last as usize);
            if first > last || last >= SLOTS {
                return Err(Error::invalid(format!("a shard map names slots {first} to {last}, there are {SLOTS}")));
            }
            shards[first..=last].fill(Some(ShardId(range.shard)));
        }
        let shards: Option<Arc<[ShardId]>> = shards.into_iter().collect();
        let shards = shards.ok_or_else(|| Error::invalid("a shard map leaves slots without a shard"))?;
        *self.asked.lock() = Some(Instant::now());
        let nodes: BTreeMap<u64, String> = reply.nodes.iter().map(|node| (node.node, node.address.clone())).collect();
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            if table.cluster.is_none() && !reply.cluster.is_empty() {
                table.cluster = reply.cluster.parse().ok();
            }
            if reply.map_epoch >= table.epoch {
                table.epoch = reply.map_epoch;
                table.shards = shards.clone();
                table.nodes = nodes.clone();
            }
            for route in &reply.shards {
                let shard = ShardId(route.shard);
                match nodes.get(&route.leader_node) {
                    Some(address) if table.leaders.get(&shard).is_none_or(|known| known.term <= route.term) => {
                        table.leaders.insert(shard, Leader { address: address.clone(), term: route.term });
                    }
                    _ => {}
                }
            }
            table
        });
        Ok(())
    }

    /// Takes over what a redirect says. Answers whether the map itself is out of date and should be asked for.
    pub fn learn_redirect(&self, redirect: &proto::Redirect) -> bool {
        let shard = ShardId(redirect.shard);
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            if redirect.leader_address.is_empty() {
                table.leaders.remove(&shard);
            } else {
                let term = table.leaders.get(&shard).map_or(0, |leader| leader.term);
                table.leaders.insert(shard, Leader { address: redirect.leader_address.clone(), term });
            }
            table
        });
        redirect.map_epoch > self.epoch()
    }

    /// Forgets a leader that did not answer, unless another one has been learnt meanwhile.
    pub fn forget_leader(&self, shard: ShardId, address: &str) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            if table.leaders.get(&shard).is_some_and(|leader| leader.address == address) {
                table.leaders.remove(&shard);
            }
            table
        });
    }

    /// The one connection to a node; made when first used, made again by itself after it broke.
    pub fn channel(&self, address: &str) -> Result<Channel, Error> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let bad = |error: tonic::transport::Error| Error::invalid(format!("'{address}' is not an address: {error}"));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(bad)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let channel = match &self.connector {
            None => endpoint.connect_lazy(),
            Some(Connector(connect)) => {
                let connect = connect.clone();
                endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
                    let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                    let io = connect(address);
                    async move { io.await.map(TokioIo::new) }
                }))
            }
        };
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(epoch: u64, leader: u64, term: u64) -> proto::RoutesReply {
        let range = |first, last, shard| proto::SlotRange { first, last, shard };
        let node = |node| proto::NodeRoute { node, address: format!("10.0.0.{node}:7400") };
        proto::RoutesReply {
            cluster: String::new(),
            map_epoch: epoch,
            ranges: vec![range(0, 2047, 1), range(2048, 4095, 2)],
            shards: vec![proto::ShardRoute { shard: 1, leader_node: leader, term, replicas: vec![1, 2, 3] }],
            nodes: vec![node(1), node(2), node(3)],
        }
    }

    fn routes() -> Routes {
        Routes::new(&["seed:7400".to_owned()], None).unwrap()
    }

    #[test]
    fn a_map_is_learnt_and_an_older_one_is_not() {
        let routes = routes();
        assert_eq!(routes.shard_of(Slot(0)), None);
        routes.learn(&reply(5, 1, 3)).unwrap();
        assert_eq!(routes.shard_of(Slot(2047)), Some(ShardId(1)));
        assert_eq!(routes.shard_of(Slot(2048)), Some(ShardId(2)));
        assert_eq!(routes.shards(), [ShardId(1), ShardId(2)]);
        let mut older = reply(4, 2, 2);
        older.ranges = vec![proto::SlotRange { first: 0, last: 4095, shard: 9 }];
        routes.learn(&older).unwrap();
        assert_eq!((routes.epoch(), routes.shard_of(Slot(0))), (5, Some(ShardId(1))));
        assert_eq!(routes.leader_of(ShardId(1)).as_deref(), Some("10.0.0.1:7400"), "an older term teaches nothing");
    }

    #[test]
    fn a_map_with_holes_is_refused() {
        let mut bad = reply(5, 1, 3);
        bad.ranges.pop();
        assert!(routes().learn(&bad).is_err());
        bad.ranges.push(proto::SlotRange { first: 2048, last: 4096, shard: 1 });
        assert!(routes().learn(&bad).is_err());
    }

    #[test]
    fn a_wrong_guess_teaches() {
        let routes = routes();
        routes.learn(&reply(5, 1, 3)).unwrap();
        let mut redirect =
            proto::Redirect { shard: 1, leader_node: 2, leader_address: "10.0.0.2:7400".into(), map_epoch: 5 };
        assert!(!routes.learn_redirect(&redirect));
        assert_eq!(routes.leader_of(ShardId(1)).as_deref(), Some("10.0.0.2:7400"));
        routes.forget_leader(ShardId(1), "10.0.0.1:7400");
        assert_eq!(routes.leader_of(ShardId(1)).as_deref(), Some("10.0.0.2:7400"), "another has been learnt");
        redirect.leader_address.clear();
        redirect.map_epoch = 6;
        assert!(routes.learn_redirect(&redirect), "a newer epoch asks for the map");
        assert_eq!(routes.leader_of(ShardId(1)), None);
    }

    #[test]
    fn endpoints_are_checked() {
        for bad in ["", "localhost", "localhost:", ":7400", "localhost:99999"] {
            assert!(Routes::new(&[bad.to_owned()], None).is_err(), "{bad}");
        }
        assert!(Routes::new(&[], None).is_err());
        let two = Routes::new(&["http://a:1/".to_owned(), "b:2".to_owned()], None).unwrap();
        assert_eq!([two.any(), two.any(), two.any()], ["a:1", "b:2", "a:1"]);
    }
}
