//! A machine to replicate, a transport between hosts of one process, and waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use reckoner_raft::error::Error;
use reckoner_raft::group::{Applied, Group, Role};
use reckoner_raft::host::{Host, HostConfig};
use reckoner_raft::machine::{
    Attachments, ChunkSink, ChunkSource, Committed, Frozen, Halt, InPlaceWorkers, Machine, Workers,
};
use reckoner_raft::net::transport::{Lane, PeerReply, PeerRequest, Transport, TransportError};
use reckoner_raft::store::journal::{Fatal, Journal};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::store::snapshot::SnapshotStore;
use reckoner_raft::timings::{Limits, Timings};
use reckoner_raft::types::{ClusterId, GroupId, NodeId};

pub const SOON: Duration = Duration::from_secs(20);

/// What a test machine has applied, in order; shared with the test.
#[derive(Clone, Default)]
pub struct Book {
    pub lines: Arc<Mutex<Vec<Bytes>>>,
}

impl Book {
    pub fn lines(&self) -> Vec<Bytes> {
        self.lines.lock().clone()
    }

    /// What the machine's snapshot would hold.
    pub fn bytes(&self) -> Vec<u8> {
        self.lines.lock().concat()
    }
}

/// Writes down what it is given; answers with the number of lines. A line that begins with `attach:` also refers to an
/// attachment with that body; `halt` halts.
pub struct Scribe {
    pub book: Book,
    pub shelf: Shelf,
}

impl Machine for Scribe {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, Result<Vec<Bytes>, Halt>> {
        Box::pin(async move {
            let mut lines = self.book.lines.lock();
            let mut outcomes = Vec::new();
            for entry in entries {
                if &entry.bytes[..] == b"halt" {
                    return Err(Halt::new("asked to"));
                }
                if entry.bytes.starts_with(b"attach:") {
                    self.shelf.put(entry.bytes.clone());
                }
                lines.push(entry.bytes);
                outcomes.push(Bytes::from(lines.len().to_string()));
            }
            Ok(outcomes)
        })
    }

    fn freeze(&mut self) -> BoxFuture<'_, Result<Box<dyn Frozen>, Halt>> {
        let lines = self.book.lines();
        Box::pin(async move { Ok(Box::new(Page(lines)) as Box<dyn Frozen>) })
    }

    fn restore(&mut self, mut source: Box<dyn ChunkSource>) -> BoxFuture<'_, Result<(), Halt>> {
        Box::pin(async move {
            let mut lines = Vec::new();
            loop {
                match source.next() {
                    Ok(Some((section, line))) => {
                        if section != lines.len() as u32 % 7 {
                            return Err(Halt::new("sections changed their order"));
                        }
                        lines.push(line);
                    }
                    Ok(None) => break,
                    Err(error) => return Err(Halt::new(error.to_string())),
                }
            }
            *self.book.lines.lock() = lines;
            Ok(())
        })
    }
}

struct Page(Vec<Bytes>);

impl Frozen for Page {
    fn attachments(&self) -> Vec<[u8; 32]> {
        self.0.iter().filter(|line| line.starts_with(b"attach:")).map(|line| *blake3::hash(line).as_bytes()).collect()
    }

    fn write(self: Box<Self>, sink: &mut dyn ChunkSink) -> io::Result<()> {
        for (number, line) in self.0.iter().enumerate() {
            sink.put(number as u32 % 7, line)?;
        }
        Ok(())
    }
}

/// Attachments of one node.
#[derive(Clone, Default)]
pub struct Shelf(pub Arc<Mutex<BTreeMap<[u8; 32], Bytes>>>);

impl Shelf {
    pub fn put(&self, body: Bytes) {
        self.0.lock().insert(*blake3::hash(&body).as_bytes(), body);
    }
}

impl Attachments for Shelf {
    fn missing(&self, wanted: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let held = self.0.lock();
        wanted.iter().filter(|h| !held.contains_key(*h)).copied().collect()
    }
    fn read(&self, hash: &[u8; 32]) -> io::Result<Option<Bytes>> {
        Ok(self.0.lock().get(hash).cloned())
    }
    fn write(&self, hash: &[u8; 32], body: Bytes) -> io::Result<()> {
        self.0.lock().insert(*hash, body);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Hosts of one process that call each other directly; some may be cut off.
#[derive(Clone, Default)]
pub struct Wires {
    state: Arc<Mutex<WiresState>>,
}

#[derive(Default)]
struct WiresState {
    hosts: BTreeMap<NodeId, Host>,
    cut: BTreeSet<NodeId>,
    snapshots_begun: usize,
}

impl Wires {
    pub fn plug(&self, host: Host) {
        self.state.lock().hosts.insert(host.node(), host);
    }
    pub fn unplug(&self, node: NodeId) {
        self.state.lock().hosts.remove(&node);
    }
    pub fn cut(&self, node: NodeId) {
        self.state.lock().cut.insert(node);
    }
    pub fn heal(&self, node: NodeId) {
        self.state.lock().cut.remove(&node);
    }
    pub fn snapshots_begun(&self) -> usize {
        self.state.lock().snapshots_begun
    }
}

impl Transport for Wires {
    fn call(
        &self,
        to: NodeId,
        _address: &str,
        _lane: Lane,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, TransportError>> {
        let target = {
            let mut state = self.state.lock();
            if matches!(request.call, Some(reckoner_raft::wire::proto::peer_request::Call::SnapshotBegin(_))) {
                state.snapshots_begun += 1;
            }
            let from = NodeId(request.from);
            let cut = state.cut.contains(&to) || state.cut.contains(&from);
            state.hosts.get(&to).filter(|_| !cut).cloned()
        };
        Box::pin(async move {
            let Some(host) = target else {
                return Err(TransportError::Unreachable { to, reason: "cut".to_owned() });
            };
            tokio::time::timeout(timeout, host.handle(request))
                .await
                .map_err(|_| TransportError::TimedOut { to, after: timeout })
        })
    }
}

/// A node over the twins in memory.
pub struct Node {
    pub id: NodeId,
    pub host: Host,
    pub disk: MemoryDisk,
    pub shelf: Shelf,
    pub books: BTreeMap<GroupId, Book>,
    pub refused: Arc<Mutex<Vec<String>>>,
}

/// Logs to the test's output, as `RUST_LOG` says.
pub fn logs() {
    // Another test of this process may have been first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

pub fn quiet() -> Fatal {
    Arc::new(|_| {})
}

pub fn limits() -> Limits {
    Limits { attachments_wait: Duration::from_secs(3), ..Limits::default() }
}

pub struct Parts {
    pub node: u64,
    pub cluster: u128,
    pub journal: Arc<dyn Journal>,
    pub snapshots: Arc<dyn SnapshotStore>,
    pub transport: Arc<dyn Transport>,
    pub shelf: Shelf,
    pub workers: Arc<dyn Workers>,
    pub limits: Limits,
}

pub fn host(parts: Parts) -> Host {
    Host::new(HostConfig {
        node: NodeId(parts.node),
        cluster: ClusterId(parts.cluster),
        timings: Timings::for_groups(1),
        limits: parts.limits,
        journal: parts.journal,
        snapshots: parts.snapshots,
        transport: parts.transport,
        attachments: Arc::new(parts.shelf),
        workers: parts.workers,
        seed: Some(parts.node * 7919),
    })
}

pub fn memory_node(id: u64, wires: &Wires, disk: MemoryDisk, shelf: Shelf) -> Node {
    memory_node_with(id, wires, disk, shelf, limits())
}

pub fn memory_node_with(id: u64, wires: &Wires, disk: MemoryDisk, shelf: Shelf, limits: Limits) -> Node {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let heard = refused.clone();
    let fatal: Fatal = Arc::new(move |reason| heard.lock().push(reason.to_owned()));
    let host = host(Parts {
        node: id,
        cluster: 1,
        journal: Arc::new(disk.journal(fatal)),
        snapshots: Arc::new(disk.snapshots()),
        transport: Arc::new(wires.clone()),
        shelf: shelf.clone(),
        workers: Arc::new(InPlaceWorkers),
        limits,
    });
    wires.plug(host.clone());
    Node { id: NodeId(id), host, disk, shelf, books: BTreeMap::new(), refused }
}

impl Node {
    pub async fn open(&mut self, group: u32, members: Option<&BTreeMap<NodeId, String>>) -> Result<Group, Error> {
        let book = Book::default();
        self.books.insert(GroupId(group), book.clone());
        let scribe = Scribe { book, shelf: self.shelf.clone() };
        self.host.open(GroupId(group), members.cloned(), Box::new(scribe)).await
    }

    pub fn book(&self, group: u32) -> &Book {
        &self.books[&GroupId(group)]
    }
}

pub fn members(nodes: &[u64]) -> BTreeMap<NodeId, String> {
    nodes.iter().map(|n| (NodeId(*n), format!("n{n}"))).collect()
}

/// Waits until one of `groups` leads, and returns its place.
pub async fn leader(groups: &[Group]) -> usize {
    until("a leader", || {
        groups.iter().position(|group| {
            let status = group.status();
            status.role == Role::Leader
        })
    })
    .await
}

pub async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(SOON, waiting).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come within {SOON:?}"),
    }
}

/// Proposes through whoever leads, again while that is safe or harmless here.
pub async fn propose(groups: &[Group], bytes: &[u8]) -> Applied {
    let trying = async {
        loop {
            for group in groups {
                let proposal = Bytes::copy_from_slice(bytes);
                match group.propose(proposal, Duration::from_secs(2)).await {
                    Ok(applied) => return applied,
                    Err(error) if error.retryable() => {}
                    Err(Error::Stopped { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(SOON, trying).await {
        Ok(applied) => applied,
        Err(_) => panic!("nobody took the proposal within {SOON:?}"),
    }
}

/// Three nodes with one group.
pub async fn three() -> (Wires, Vec<Node>, Vec<Group>) {
    let wires = Wires::default();
    let members = members(&[1, 2, 3]);
    let mut nodes: Vec<Node> = (1..=3).map(|id| memory_node(id, &wires, MemoryDisk::new(), Shelf::default())).collect();
    let mut groups = Vec::new();
    for node in &mut nodes {
        node.disk.set_flush_delay(Duration::from_millis(1));
        groups.push(node.open(1, Some(&members)).await.expect("opened"));
    }
    leader(&groups).await;
    (wires, nodes, groups)
}

pub async fn same_books(nodes: &[&Node], lines: usize) {
    until("the same lines everywhere", || {
        let first = nodes[0].book(1).lines();
        (first.len() == lines && nodes.iter().all(|node| node.book(1).lines() == first)).then_some(())
    })
    .await;
}
