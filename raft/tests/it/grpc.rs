//! Groups over raft-engine, sled and gRPC on loopback: everything as in service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reckoner_raft::group::{Group, Role};
use reckoner_raft::host::Host;
use reckoner_raft::machine::BlockingWorkers;
use reckoner_raft::net::peer::{GrpcTransport, TcpConnector};
use reckoner_raft::service::PeerService;
use reckoner_raft::store::engine::EngineJournal;
use reckoner_raft::store::generation::SledSnapshots;
use reckoner_raft::types::{GroupId, NodeId};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use crate::harness::*;

/// A node as in service, but for the process around it.
struct Server {
    host: Host,
    shelf: Shelf,
    books: BTreeMap<u32, Book>,
    groups: BTreeMap<u32, Group>,
    server: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(
        id: u64,
        dir: &Path,
        listener: TcpListener,
        groups: u32,
        members: Option<&BTreeMap<NodeId, String>>,
    ) -> Self {
        let journal = EngineJournal::open(dir.join("journal"), quiet()).expect("journal");
        let snapshots = SledSnapshots::open(dir.join("snapshots")).expect("snapshots");
        let shelf = Shelf::default();
        let host = host(Parts {
            node: id,
            cluster: 7,
            journal: Arc::new(journal),
            snapshots: Arc::new(snapshots),
            transport: Arc::new(GrpcTransport::new(Arc::new(TcpConnector))),
            shelf: shelf.clone(),
            workers: Arc::new(BlockingWorkers),
            limits: limits(),
        });
        let service = PeerService::new(host.clone()).into_server();
        let server = tokio::spawn(async move {
            let served = reckoner_raft::service::server()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener));
            served.await.expect("served");
        });
        let mut node = Self { host, shelf, books: BTreeMap::new(), groups: BTreeMap::new(), server };
        for group in 0..groups {
            let book = Book::default();
            let scribe = Scribe { book: book.clone(), shelf: node.shelf.clone() };
            let opened = node.host.open(GroupId(group), members.cloned(), Box::new(scribe)).await.expect("opened");
            node.books.insert(group, book);
            node.groups.insert(group, opened);
        }
        node
    }

    async fn stop(self) {
        self.host.stop().await;
        self.server.abort();
        // Its end closes the port and the streams.
        let _ = self.server.await;
    }
}

async fn bind(address: &str) -> (TcpListener, String) {
    let address: SocketAddr = address.parse().expect("an address");
    let listener = until("the port", || {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("set");
        socket.bind(address).ok().map(|()| socket.listen(64).expect("listening"))
    })
    .await;
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

fn group_of(nodes: &[Option<Server>], group: u32) -> Vec<Group> {
    nodes.iter().flatten().map(|node| node.groups[&group].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_groups_on_three_nodes_and_one_restarts() {
    const GROUPS: u32 = 8;
    logs();
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let mut listeners = Vec::new();
    let mut members = BTreeMap::new();
    for id in 1..=3 {
        let (listener, address) = bind("127.0.0.1:0").await;
        listeners.push(listener);
        members.insert(NodeId(id), address);
    }
    let mut nodes = Vec::new();
    for (at, listener) in listeners.into_iter().enumerate() {
        let id = at as u64 + 1;
        let dir = dirs[at].path();
        nodes.push(Some(Server::start(id, dir, listener, GROUPS, Some(&members)).await));
    }
    let mut written = vec![0; GROUPS as usize];
    let write = async |nodes: &[Option<Server>], written: &mut Vec<usize>, count: usize| {
        for group in 0..GROUPS {
            let groups = group_of(nodes, group);
            for _ in 0..count {
                let number = written[group as usize];
                let line = format!("group {group} line {number};{}", "y".repeat(3_000));
                propose(&groups, line.as_bytes()).await;
                written[group as usize] += 1;
            }
        }
    };
    write(&nodes, &mut written, 10).await;
    // Founding spreads leaders: no node has them all.
    let leaders: Vec<Option<NodeId>> = (0..GROUPS)
        .map(|group| nodes[0].as_ref().expect("up").groups[&group].status().leader)
        .map(|leader| leader.map(|(node, _)| node))
        .collect();
    assert!(leaders.iter().any(|leader| *leader != leaders[0]), "{leaders:?}");

    // One goes away; the others take snapshots and let go of their logs, then it comes back.
    nodes[1].take().expect("up").stop().await;
    write(&nodes, &mut written, 10).await;
    for node in nodes.iter().flatten() {
        for group in node.groups.values() {
            group.snapshot_now().await.expect("snapshot");
        }
    }
    propose(&group_of(&nodes, 3), b"attach:to group 3").await;
    written[3] += 1;
    write(&nodes, &mut written, 5).await;
    for node in nodes.iter().flatten() {
        for group in node.groups.values() {
            group.snapshot_now().await.expect("snapshot");
        }
        for group in node.groups.values() {
            until("a purge", || group.status().purged).await;
        }
    }
    let (listener, _) = bind(&members[&NodeId(2)]).await;
    nodes[1] = Some(Server::start(2, dirs[1].path(), listener, GROUPS, None).await);
    write(&nodes, &mut written, 5).await;
    for group in 0..GROUPS {
        until("the same books", || {
            let books: Vec<_> = nodes.iter().flatten().map(|n| n.books[&group].bytes()).collect();
            let lines = nodes[0].as_ref().expect("up").books[&group].lines().len();
            (books.iter().all(|book| *book == books[0]) && lines == written[group as usize]).then_some(())
        })
        .await;
    }
    let letter = *blake3::hash(b"attach:to group 3").as_bytes();
    let shelf = &nodes[1].as_ref().expect("up").shelf;
    assert!(shelf.0.lock().contains_key(&letter));

    // All of them restart from their disks alone.
    let books: Vec<_> = (0..GROUPS).map(|group| nodes[0].as_ref().expect("up").books[&group].bytes()).collect();
    let shelves: Vec<Shelf> = nodes.iter().flatten().map(|n| n.shelf.clone()).collect();
    for node in &mut nodes {
        node.take().expect("up").stop().await;
    }
    for (at, dir) in dirs.iter().enumerate() {
        let id = at as u64 + 1;
        let (listener, _) = bind(&members[&NodeId(id)]).await;
        let journal_groups = {
            let journal = EngineJournal::open(dir.path().join("journal"), quiet()).expect("journal");
            reckoner_raft::store::journal::Journal::groups(&journal)
        };
        assert_eq!(journal_groups.len(), GROUPS as usize);
        nodes[at] = Some(start_with_shelf(id, dir.path(), listener, &shelves[at]).await);
    }
    for group in 0..GROUPS {
        let groups = group_of(&nodes, group);
        let at = leader(&groups).await;
        groups[at].read_barrier(SOON).await.expect("barrier");
        let node = nodes.iter().flatten().nth(at).expect("up");
        assert_eq!(node.books[&group].bytes(), books[group as usize], "group {group}");
    }
    for node in &mut nodes {
        node.take().expect("up").stop().await;
    }
}

async fn start_with_shelf(id: u64, dir: &Path, listener: TcpListener, shelf: &Shelf) -> Server {
    let node = Server::start(id, dir, listener, 0, None).await;
    *node.shelf.0.lock() = shelf.0.lock().clone();
    let mut node = node;
    for group in 0..8 {
        let book = Book::default();
        let scribe = Scribe { book: book.clone(), shelf: node.shelf.clone() };
        let opened = node.host.open(GroupId(group), None, Box::new(scribe)).await.expect("opened");
        node.books.insert(group, book);
        node.groups.insert(group, opened);
    }
    node
}

/// Entries a second, for the table in the README: `cargo test --release -p reckoner-raft -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn measure_entries_a_second() {
    const BYTES: usize = 64 << 10;
    const WRITERS: usize = 16;
    for count in [1_u64, 3] {
        for groups in [1_u32, 8] {
            let dirs: Vec<_> = (0..count).map(|_| tempfile::tempdir().expect("dir")).collect();
            let mut listeners = Vec::new();
            let mut members = BTreeMap::new();
            for id in 1..=count {
                let (listener, address) = bind("127.0.0.1:0").await;
                listeners.push(listener);
                members.insert(NodeId(id), address);
            }
            let mut nodes = Vec::new();
            for (at, listener) in listeners.into_iter().enumerate() {
                let id = at as u64 + 1;
                let started = Server::start(id, dirs[at].path(), listener, groups, Some(&members));
                nodes.push(Some(started.await));
            }
            let mut tasks = Vec::new();
            let mut leaders = Vec::new();
            for group in 0..groups {
                let all = group_of(&nodes, group);
                propose(&all, b"first").await;
                leaders.push(all[leader(&all).await].clone());
            }
            let begun = std::time::Instant::now();
            let cpu = cpu_seconds();
            let stop = begun + Duration::from_secs(4);
            let payload = Bytes::from(vec![7; BYTES]);
            for leader in &leaders {
                for _ in 0..WRITERS {
                    let (leader, payload) = (leader.clone(), payload.clone());
                    tasks.push(tokio::spawn(async move {
                        let mut done = 0_u64;
                        while std::time::Instant::now() < stop {
                            let asked = leader.propose(payload.clone(), SOON).await;
                            done += u64::from(asked.is_ok());
                        }
                        done
                    }));
                }
            }
            let mut done = 0;
            for task in tasks {
                done += task.await.expect("ran");
            }
            let seconds = begun.elapsed().as_secs_f64();
            let cpu = (cpu_seconds() - cpu) * 1e6 / done as f64;
            println!(
                "{count} nodes, {groups} groups: {:.0} entries/s, {:.0} MB/s, {cpu:.0} us of CPU an entry",
                done as f64 / seconds,
                done as f64 * BYTES as f64 / seconds / 1e6,
            );
            for node in &mut nodes {
                assert!(node.as_ref().expect("up").groups.values().all(|g| g.status().role != Role::Stopped));
                node.take().expect("up").stop().await;
            }
        }
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}
