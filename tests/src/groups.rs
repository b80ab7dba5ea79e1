//! Replication alone under faults: real hosts, groups and journals' twins with a machine of a few lines, in virtual time.
//!
//! Fast, so that many seeds run: what it finds is in `raft`. Whole nodes are in [`crate::simulation`]. Calls travel over
//! the simulated network one connection each; the product's own streams are exercised by whole nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_raft::error::Error;
use reckoner_raft::group::{Group, Role};
use reckoner_raft::host::{Host, HostConfig};
use reckoner_raft::machine::{
    ChunkSink, ChunkSource, Committed, Frozen, Halt, InPlaceWorkers, Machine, NoAttachments, Position,
};
use reckoner_raft::net::transport::{Lane, PeerReply, PeerRequest, Transport, TransportError};
use reckoner_raft::timings::{Limits, Timings};
use reckoner_raft::types::{ClusterId, GroupId, NodeId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turmoil::net::{TcpListener, TcpStream};

use crate::crash::Steps;
use crate::faults::{FaultyTransport, Injected, Mix, Storm, Victim, Wire};
use crate::planted::Planted;
use crate::report::{Failure, Plan, Report, Run};
use crate::seams::{FaultyJournal, FaultySnapshots};

/// Port of every node.
const PORT: u16 = 7_400;

/// Groups on each node; two already share a flush.
const GROUPS: u32 = 2;

/// Clients that push and read.
const PRODUCERS: u64 = 3;

/// A step of the simulation.
const TICK: Duration = Duration::from_millis(2);

/// Time for one attempt of a client.
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// After the storm everything must be equal within this.
const HEALING_MAX: Duration = Duration::from_secs(60);

/// Largest frame; a longer one means that the stream is out of step.
const FRAME_BYTES_MAX: u32 = 16 << 20;

const TO_PEER: u8 = 0;
const TO_PROPOSE: u8 = 1;
const TO_READ: u8 = 2;
const TO_OPERATE: u8 = 3;

/// What is replicated: one push.
#[derive(Debug, Clone, Copy, Hash, Serialize, Deserialize)]
struct Push {
    producer: u64,
    sequence: u64,
    units: u64,
}

/// What an operator asks of a group's leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Order {
    /// Hand over.
    Transfer { to: u64 },
    /// Only these vote; the others stay and learn.
    Voters { nodes: BTreeSet<u64> },
}

/// A node's answer to a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Answer {
    Obeyed,
    Pushed { repeated: bool, index: u64, term: u64 },
    Read { seen: BTreeMap<u64, u64>, total: u64 },
    Elsewhere { leader: Option<u64> },
    Failed { unknown: bool },
}

/// The machine: the last number of each producer and the sum of what was new.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tally {
    seen: BTreeMap<u64, u64>,
    total: u64,
    applied: u64,
    /// Over every entry ever applied, in order.
    digest: u64,
}

struct Shared {
    run: Run,
    /// Each replica's tally, replaced when its node starts.
    tallies: BTreeMap<(u64, u32), Arc<Mutex<Tally>>>,
    /// Term and digest at each index, as the first replica had them.
    history: BTreeMap<(u32, u64), (u64, u64)>,
    /// Highest acknowledged index of each group.
    floor: BTreeMap<u32, u64>,
    /// Highest acknowledged number of each (group, producer).
    acknowledged: BTreeMap<(u32, u64), u64>,
    /// Sum of acknowledged units of each group.
    units: BTreeMap<u32, u64>,
}

/// State of a run that nodes, clients and the judge share.
#[derive(Clone)]
struct World {
    seed: u64,
    nodes: u64,
    planted: Option<Planted>,
    wire: Wire,
    snapshot_bytes: u64,
    steps: Steps,
    /// Number of starts of all nodes, for seeds that differ.
    starts: Arc<Mutex<u64>>,
    shared: Arc<Mutex<Shared>>,
}

impl World {
    /// Every replica must have the same entry and state at an index.
    fn observe(&self, node: u64, group: u32, position: Position, digest: u64) {
        let mut shared = self.shared.lock();
        let first = *shared.history.entry((group, position.index)).or_insert((position.term, digest));
        if first != (position.term, digest) {
            let index = position.index;
            shared.run.violated(format!(
                "node {node} group {group} differs at entry {index}: term {} state {digest:016x}, others {} {:016x}",
                position.term, first.0, first.1
            ));
        }
    }
}

struct Counting {
    node: u64,
    group: u32,
    world: World,
    tally: Arc<Mutex<Tally>>,
    /// The state before the last entry.
    before: Tally,
}

impl Machine for Counting {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, Result<Vec<Bytes>, Halt>> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut tally = self.tally.lock();
            self.before = tally.clone();
            let push: Push = match serde_json::from_slice(&entry.bytes) {
                Ok(push) => push,
                Err(error) => return Box::pin(async move { Err(Halt::new(error.to_string())) }),
            };
            let last = tally.seen.get(&push.producer).copied().unwrap_or(0);
            let repeated = push.sequence <= last && self.world.planted != Some(Planted::CountedTwice);
            if !repeated {
                tally.seen.insert(push.producer, push.sequence.max(last));
                tally.total += push.units;
            }
            let mut hasher = DefaultHasher::new();
            (tally.digest, entry.position.index, entry.position.term, push).hash(&mut hasher);
            tally.digest = hasher.finish();
            tally.applied = entry.position.index;
            let digest = tally.digest;
            drop(tally);
            self.world.observe(self.node, self.group, entry.position, digest);
            outcomes.push(Bytes::from_static(if repeated { b"r" } else { b"n" }));
        }
        Box::pin(async move { Ok(outcomes) })
    }

    fn freeze(&mut self) -> BoxFuture<'_, Result<Box<dyn Frozen>, Halt>> {
        let now = self.tally.lock().clone();
        let kept = if self.world.planted == Some(Planted::SnapshotLacksEntry) { self.before.clone() } else { now };
        let frozen: Box<dyn Frozen> = Box::new(FrozenTally(kept));
        Box::pin(async move { Ok(frozen) })
    }

    fn restore(&mut self, mut source: Box<dyn ChunkSource>) -> BoxFuture<'_, Result<(), Halt>> {
        let restored = source
            .next()
            .and_then(|chunk| chunk.ok_or_else(|| io::Error::other("no chunk")))
            .and_then(|(_, bytes)| Ok(serde_json::from_slice(&bytes)?))
            .map(|tally| *self.tally.lock() = tally)
            .map_err(|error| Halt::new(error.to_string()));
        Box::pin(async move { restored })
    }
}

struct FrozenTally(Tally);

impl Frozen for FrozenTally {
    fn attachments(&self) -> Vec<[u8; 32]> {
        Vec::new()
    }

    fn write(self: Box<Self>, sink: &mut dyn ChunkSink) -> io::Result<()> {
        sink.put(0, &serde_json::to_vec(&self.0)?)
    }
}

fn name(node: u64) -> String {
    format!("node{node}")
}

async fn write_frame(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(bytes);
    stream.write_all(&frame).await
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let length = stream.read_u32_le().await?;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame claims {length} bytes")));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

/// One question and its answer, on a connection of their own.
async fn ask(host: &str, question: &[u8]) -> io::Result<Bytes> {
    let mut stream = TcpStream::connect((host, PORT)).await?;
    write_frame(&mut stream, question).await?;
    read_frame(&mut stream).await
}

/// Peer calls over the simulated network.
struct Direct;

impl Transport for Direct {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        _lane: Lane,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, TransportError>> {
        let address = address.to_owned();
        Box::pin(async move {
            let unreachable = |reason: String| TransportError::Unreachable { to, reason };
            let mut question = vec![TO_PEER];
            question.extend(request.encode_to_vec());
            let asked = tokio::time::timeout(timeout, ask(&address, &question)).await;
            let bytes = asked
                .map_err(|_| TransportError::TimedOut { to, after: timeout })?
                .map_err(|error| unreachable(error.to_string()))?;
            PeerReply::decode(bytes).map_err(|error| unreachable(error.to_string()))
        })
    }
}

/// The software of a node.
async fn serve(world: World, victim: Victim, node: u64) -> turmoil::Result {
    let start = {
        let mut starts = world.starts.lock();
        *starts += 1;
        *starts
    };
    let life = victim.life(&world.steps);
    let host = Host::new(HostConfig {
        node: NodeId(node),
        cluster: ClusterId(u128::from(world.seed)),
        timings: Timings::for_groups(GROUPS as usize),
        limits: Limits {
            snapshot_log_bytes: world.snapshot_bytes,
            snapshot_interval: Duration::from_secs(5),
            ..Limits::default()
        },
        journal: Arc::new(FaultyJournal::open(&victim.disk, victim.fatal(), life.clone(), world.planted)),
        snapshots: Arc::new(FaultySnapshots::open(&victim.disk, life, world.planted)),
        transport: Arc::new(FaultyTransport::new(Arc::new(Direct), world.wire.clone())),
        attachments: Arc::new(NoAttachments),
        workers: Arc::new(InPlaceWorkers),
        seed: Some(world.seed.wrapping_mul(1_000_003) ^ start << 32 ^ node),
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let members: BTreeMap<NodeId, String> = (1..=world.nodes).map(|id| (NodeId(id), name(id))).collect();
    for group in 1..=GROUPS {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let machine = Counting { node, group, world: world.clone(), tally: tally.clone(), before: Tally::default() };
        let opened = host.open(GroupId(group), Some(members.clone()), Box::new(machine)).await;
        if let Err(error) = opened {
            // A disk that refuses while a node starts ends the node, like any refused flush.
            tracing::info!(node, group, %error, "not opened");
            *victim.fatal.lock() = true;
            return std::future::pending().await;
        }
        world.shared.lock().tallies.insert((node, group), tally);
    }
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(host.clone(), world.clone(), stream));
    }
}

async fn converse(host: Host, world: World, mut stream: TcpStream) {
    let Ok(mut question) = read_frame(&mut stream).await else { return };
    if question.is_empty() {
        return;
    }
    let answer = match question.split_to(1)[0] {
        TO_PEER => match PeerRequest::decode(question) {
            Ok(request) => host.handle(request).await.encode_to_vec(),
            Err(_) => return,
        },
        TO_OPERATE => {
            let Ok((group, order)) = serde_json::from_slice::<(u32, Order)>(&question) else { return };
            let Some(found) = host.find(GroupId(group)) else { return };
            serde_json::to_vec(&obey(&found, order).await).unwrap_or_default()
        }
        kind => {
            let Ok((group, push)) = serde_json::from_slice::<(u32, Push)>(&question) else { return };
            let Some(found) = host.find(GroupId(group)) else { return };
            let answer = if kind == TO_READ { read(&host, &world, &found).await } else { propose(&found, push).await };
            serde_json::to_vec(&answer).unwrap_or_default()
        }
    };
    // Whoever asked may be gone.
    let _ = write_frame(&mut stream, &answer).await;
}

async fn propose(group: &Group, push: Push) -> Answer {
    let bytes = serde_json::to_vec(&push).unwrap_or_default();
    match group.propose(bytes.into(), ATTEMPT).await {
        Ok(applied) => Answer::Pushed {
            repeated: &applied.outcome[..] == b"r",
            index: applied.position.index,
            term: applied.position.term,
        },
        Err(error) => failed(error),
    }
}

async fn obey(group: &Group, order: Order) -> Answer {
    let done = match order {
        Order::Transfer { to } => group.transfer_leader(NodeId(to), ATTEMPT).await,
        Order::Voters { nodes } => {
            let voters = nodes.into_iter().map(NodeId).collect();
            group.change_membership(voters, true, ATTEMPT).await.map(|_| ())
        }
    };
    done.map_or_else(failed, |()| Answer::Obeyed)
}

async fn read(host: &Host, world: &World, group: &Group) -> Answer {
    if world.planted == Some(Planted::UnconfirmedRead) {
        let status = group.status();
        if status.role != Role::Leader {
            return Answer::Elsewhere { leader: status.leader.map(|(node, _)| node.0) };
        }
    } else if let Err(error) = group.read_barrier(ATTEMPT).await {
        return failed(error);
    }
    let key = (host.node().0, group.id().0);
    let tally = world.shared.lock().tallies.get(&key).cloned();
    match tally {
        Some(tally) => {
            let tally = tally.lock();
            Answer::Read { seen: tally.seen.clone(), total: tally.total }
        }
        None => Answer::Failed { unknown: false },
    }
}

fn failed(error: Error) -> Answer {
    match error {
        Error::NotLeader { leader } => Answer::Elsewhere { leader: leader.map(|(node, _)| node.0) },
        Error::Unknown { .. } => Answer::Failed { unknown: true },
        _ => Answer::Failed { unknown: false },
    }
}

/// Pushes and reads until the storm is over, and once more after it.
struct Producer {
    id: u64,
    world: World,
    random: SmallRng,
    /// Last number used in each group.
    numbers: BTreeMap<u32, u64>,
    guess: u64,
}

impl Producer {
    /// Asks until somebody answers the question itself.
    async fn insist(&mut self, kind: u8, group: u32, push: Push) -> Answer {
        let mut question = vec![kind];
        question.extend(serde_json::to_vec(&(group, push)).unwrap_or_default());
        loop {
            let host = name(self.guess);
            let asked = tokio::time::timeout(ATTEMPT, ask(&host, &question)).await;
            let answer = match asked {
                Ok(Ok(bytes)) => serde_json::from_slice(&bytes).ok(),
                _ => None,
            };
            let word = format!("{} {group} {push:?} {kind} {} {answer:?}", self.id, self.guess);
            self.world.shared.lock().run.heard(turmoil::elapsed(), &word);
            match answer {
                Some(answer @ (Answer::Pushed { .. } | Answer::Read { .. })) => return answer,
                Some(Answer::Elsewhere { leader: Some(leader) }) if self.random.random_bool(0.8) => self.guess = leader,
                _ => self.guess = self.guess % self.world.nodes + 1,
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(5..60))).await;
        }
    }

    async fn push(&mut self, group: u32) {
        let number = self.numbers.entry(group).or_default();
        // Now and then an acknowledged one again: it must not count.
        let repeat = *number > 0 && self.random.random_bool(0.1);
        *number += u64::from(!repeat);
        let sequence = *number;
        // The units follow from the number, so that a repeat is the same push.
        let units = 1 + (self.id * 31 + sequence * 7 + u64::from(group)) % 1_000;
        let push = Push { producer: self.id, sequence, units };
        let Answer::Pushed { repeated, index, .. } = self.insist(TO_PROPOSE, group, push).await else { return };
        let mut shared = self.world.shared.lock();
        let floor = shared.floor.entry(group).or_default();
        *floor = (*floor).max(index);
        if repeat && !repeated {
            shared.run.violated(format!("producer {} number {sequence} in group {group} was taken twice", self.id));
        }
        if !repeat {
            shared.acknowledged.insert((group, self.id), sequence);
            *shared.units.entry(group).or_default() += units;
            shared.run.checked += 1;
        }
    }

    /// What was acknowledged before a read began must be in it.
    async fn read(&mut self, group: u32) {
        let (before, floor) = {
            let shared = self.world.shared.lock();
            let of_group = shared.acknowledged.range((group, 0)..=(group, u64::MAX));
            let before: Vec<(u64, u64)> = of_group.map(|((_, producer), number)| (*producer, *number)).collect();
            (before, shared.units.get(&group).copied().unwrap_or(0))
        };
        let idle = Push { producer: 0, sequence: 0, units: 0 };
        let Answer::Read { seen, total } = self.insist(TO_READ, group, idle).await else { return };
        let stale = before.iter().find(|(producer, number)| seen.get(producer) < Some(number));
        let mut shared = self.world.shared.lock();
        shared.run.checked += 1;
        if let Some((producer, number)) = stale {
            shared.run.violated(format!("a read of group {group} lacks number {number} of producer {producer}"));
        }
        if total < floor {
            shared.run.violated(format!("a read of group {group} gives {total}, {floor} were acknowledged before"));
        }
    }

    async fn work(mut self, until: Duration) -> turmoil::Result {
        while turmoil::sim_elapsed().unwrap_or(until) < until {
            let group = self.random.random_range(1..=GROUPS);
            if self.random.random_bool(0.15) {
                self.read(group).await
            } else {
                self.push(group).await
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(1..60))).await;
        }
        Ok(())
    }

    /// Everything must work again: a push and a read of each group.
    async fn work_again(mut self) -> turmoil::Result {
        for group in 1..=GROUPS {
            self.push(group).await;
            self.read(group).await;
        }
        Ok(())
    }
}

/// Hands leaders over and changes who votes, until the storm is over; then gives everybody the vote back.
struct Operator {
    world: World,
    random: SmallRng,
    until: Duration,
}

impl Operator {
    /// Asks node `to` once.
    async fn order(&self, to: u64, group: u32, order: &Order) -> Option<Answer> {
        let mut question = vec![TO_OPERATE];
        question.extend(serde_json::to_vec(&(group, order)).unwrap_or_default());
        let asked = tokio::time::timeout(ATTEMPT, ask(&name(to), &question)).await;
        let answer: Option<Answer> = asked.ok()?.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if matches!(answer, Some(Answer::Obeyed)) {
            self.world.wire.operated();
        }
        self.world.shared.lock().run.heard(turmoil::elapsed(), &format!("{to} {group} {order:?} {answer:?}"));
        answer
    }

    async fn work(mut self) -> turmoil::Result {
        let nodes = self.world.nodes;
        while turmoil::sim_elapsed().unwrap_or(self.until) < self.until {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(50..1_000))).await;
            let group = self.random.random_range(1..=GROUPS);
            let order = if self.random.random_bool(0.5) {
                Order::Transfer { to: self.random.random_range(1..=nodes) }
            } else {
                let left = self.random.random_range(0..=nodes);
                Order::Voters { nodes: (1..=nodes).filter(|node| *node != left).collect() }
            };
            let to = self.random.random_range(1..=nodes);
            if let Some(Answer::Elsewhere { leader: Some(leader) }) = self.order(to, group, &order).await {
                self.order(leader, group, &order).await;
            }
        }
        let order = Order::Voters { nodes: (1..=nodes).collect() };
        let mut to = 1;
        for group in 1..=GROUPS {
            loop {
                match self.order(to, group, &order).await {
                    Some(Answer::Obeyed) => break,
                    Some(Answer::Elsewhere { leader: Some(leader) }) if leader != to => to = leader,
                    _ => to = to % nodes + 1,
                }
                tokio::time::sleep(Duration::from_millis(self.random.random_range(20..100))).await;
            }
        }
        Ok(())
    }
}

/// Whether all replicas are equal and hold what was acknowledged.
fn settled(world: &World) -> Option<BTreeMap<u32, Tally>> {
    let shared = world.shared.lock();
    let mut found = BTreeMap::new();
    for group in 1..=GROUPS {
        let floor = shared.floor.get(&group).copied().unwrap_or(0);
        let tallies: Vec<Tally> =
            (1..=world.nodes).filter_map(|node| shared.tallies.get(&(node, group))).map(|t| t.lock().clone()).collect();
        let first = tallies.first()?.clone();
        let equal = tallies.iter().all(|tally| tally.applied == first.applied);
        if tallies.len() as u64 != world.nodes || !equal || first.applied < floor {
            return None;
        }
        if let Some(other) = tallies.iter().find(|tally| tally.digest != first.digest || tally.total != first.total) {
            // Reported by the caller as a difference: equal index, other state.
            return Some(BTreeMap::from([(0, other.clone()), (u32::MAX, first)]));
        }
        found.insert(group, first);
    }
    Some(found)
}

/// Runs one seed.
///
/// # Errors
/// What was violated, with the story.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let Plan { seed, length, planted, .. } = *plan;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut mix = Mix::draw(&mut random);
    if let Some(planted) = planted {
        mix = mix.harsh(planted);
    }
    if plan.quiet {
        mix = Mix::none();
    }
    let steps = Steps::new(plan.crash);
    let nodes = if random.random_bool(0.25) && !plan.quiet { 5 } else { 3 };
    let wire = Wire::new(mix.clone(), random.random(), planted);
    let world = World {
        seed,
        nodes,
        planted,
        wire: wire.clone(),
        snapshot_bytes: random.random_range(if planted.is_some() {
            200..2_000
        } else if plan.quiet {
            1_000..4_000
        } else {
            1_000..40_000
        }),
        steps: steps.clone(),
        starts: Arc::default(),
        shared: Arc::new(Mutex::new(Shared {
            run: Run::default(),
            tallies: BTreeMap::new(),
            history: BTreeMap::new(),
            floor: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            units: BTreeMap::new(),
        })),
    };
    let mut sim = crate::report::builder(seed, TICK, mix.latency_max).build();
    let victims: Vec<Victim> = (1..=nodes).map(|node| Victim::new(name(node))).collect();
    for (node, victim) in (1..).zip(victims.clone()) {
        let world = world.clone();
        sim.host(victim.name.clone(), move || serve(world.clone(), victim.clone(), node));
    }
    let producer = |id: u64, round: u64, numbers| Producer {
        id,
        world: world.clone(),
        random: SmallRng::seed_from_u64(seed ^ (id + 10 * round).wrapping_mul(0x9E37_79B9)),
        numbers,
        guess: 1 + id % nodes,
    };
    for id in 1..=PRODUCERS {
        sim.client(format!("producer{id}"), producer(id, 0, BTreeMap::new()).work(length));
    }
    if mix.operate {
        let operator =
            Operator { world: world.clone(), random: SmallRng::seed_from_u64(random.random()), until: length };
        sim.client("operator", operator.work());
    }
    let groups: Vec<GroupId> = (1..=GROUPS).map(GroupId).collect();
    let mut storm = Storm::new(mix, random.random(), victims, groups, wire);
    // Under crash points one node is away for a while, so that the others have to send it a snapshot.
    let mut away = plan.quiet.then_some(length / 4);
    let mut calm_since = None;
    let mut again = false;
    let judged = loop {
        match calm_since {
            None if sim.elapsed() >= length => {
                storm.calm(&mut sim);
                calm_since = Some(sim.elapsed());
            }
            None => storm.step(&mut sim, TICK),
            Some(_) => storm.after(&mut sim),
        }
        if away.is_some_and(|at| sim.elapsed() >= at) {
            away = None;
            storm.take_down(&mut sim, nodes as usize - 1, length / 2);
        }
        let done = match crate::report::step(&mut sim) {
            Ok(done) => done,
            Err(words) => break Err(words),
        };
        if let Some(words) = world.shared.lock().run.violations.first() {
            break Err(words.clone());
        }
        if done && calm_since.is_some() && !storm.any_down() {
            match settled(&world) {
                Some(tallies) if again => break judge(&world, tallies),
                // Before the last word everything has to work again.
                Some(_) => {
                    again = true;
                    for id in 1..=PRODUCERS {
                        let shared = world.shared.lock();
                        let of = |group| shared.acknowledged.get(&(group, id)).map(|number| (group, *number));
                        let numbers = (1..=GROUPS).filter_map(of).collect();
                        drop(shared);
                        sim.client(format!("again{id}"), producer(id, 1, numbers).work_again());
                    }
                }
                None => (),
            }
        }
        if calm_since.is_some_and(|since| sim.elapsed() > since + HEALING_MAX) {
            break Err(format!("not healed {HEALING_MAX:?} after the storm, clients done: {done}"));
        }
    };
    let simulated = sim.elapsed();
    // After a panic inside a node its runtime cannot be dropped in order.
    std::mem::forget(sim);
    let injected = Injected { crash_points: steps.reached().into(), ..storm.injected() };
    let shared = world.shared.lock();
    let report = Report {
        seed,
        trace: shared.run.trace(),
        simulated,
        injected,
        checked: shared.run.checked,
        steps: steps.counts(),
    };
    judged.map(|()| report).map_err(|words| Failure { seed, words, story: storm.story.clone() })
}

fn judge(world: &World, tallies: BTreeMap<u32, Tally>) -> Result<(), String> {
    let mut shared = world.shared.lock();
    if let (Some(other), Some(first)) = (tallies.get(&0), tallies.get(&u32::MAX)) {
        return Err(format!("replicas differ at entry {}: {first:?} and {other:?}", first.applied));
    }
    for (group, tally) in &tallies {
        let told = shared.units.get(group).copied().unwrap_or(0);
        if tally.total != told {
            return Err(format!("group {group} counts {}, {told} were acknowledged once each", tally.total));
        }
        let word = format!("{group} {tally:?}");
        shared.run.heard(Duration::ZERO, &word);
    }
    Ok(())
}
