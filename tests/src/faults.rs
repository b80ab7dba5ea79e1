//! What goes wrong, from a seed: the mix of faults that a run draws, the transport that injects them, and the storm that
//! crashes nodes and cuts links while a simulation steps. What their disks do is in [`crate::seams`].
//!
//! Faults here are survivable: a run with any of them must keep every promise. [`Planted`] ones are not: each is a bug
//! put in on purpose, and a run with one must fail, else the simulation proves nothing. What is checked is in
//! [`crate::oracle`] and [`crate::groups`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_raft::net::transport::{Lane, PeerReply, PeerRequest, Transport, TransportError};
use reckoner_raft::store::journal::{Change, Fatal, Journal as _};
use reckoner_raft::store::memory::MemoryDisk;
use reckoner_raft::store::snapshot::SnapshotStore as _;
use reckoner_raft::types::{GroupId, NodeId};
use reckoner_raft::wire::proto;
use reckoner_raft::wire::proto::peer_reply::Answer;
use reckoner_raft::wire::proto::peer_request::Call;

use crate::crash::{Life, Steps};
use crate::planted::Planted;

/// Which faults a run injects and how often. Each seed switches every kind on or off for itself: a run with everything
/// on mostly waits for elections, and hides what a single kind would show.
#[derive(Debug, Clone)]
pub struct Mix {
    /// Peer calls lost before they arrive, of a thousand; as many answers are lost on the way back.
    pub loss_permille: u32,
    /// Peer calls delayed, of a thousand.
    pub delay_permille: u32,
    /// The longest such delay.
    pub delay_max: Duration,
    /// Peer calls that arrive a second time, later, of a thousand.
    pub duplicate_permille: u32,
    /// Mean time between cuts of a link, if links are cut.
    pub cut_every: Option<Duration>,
    /// Whether cuts may be one way only.
    pub cut_one_way: bool,
    /// Whether a cut takes one node from all others, which crashes a moment after it is back.
    pub isolates: bool,
    /// Mean time between crashes of one node.
    pub crash_every: Option<Duration>,
    /// Mean time between losses of power everywhere.
    pub power_loss_every: Option<Duration>,
    /// Mean time between disks that refuse a flush; the node stops, as in service.
    pub refuse_every: Option<Duration>,
    /// Whether a crash leaves a part of what was not flushed.
    pub torn: bool,
    /// Whether a crash may spoil the newest snapshot, once a node: with both generations gone a node has to be rebuilt.
    pub rot: bool,
    /// Whether leaders are handed over and voters changed meanwhile. No fault, but it meets them.
    pub operate: bool,
    /// The longest flush; each disk draws its own.
    pub flush_max: Duration,
    /// The longest way of a packet.
    pub latency_max: Duration,
}

impl Mix {
    /// Draws a mix. About half of the kinds are on.
    pub fn draw(random: &mut SmallRng) -> Self {
        let mut some = |most: u32| if random.random_bool(0.5) { random.random_range(1..=most) } else { 0 };
        let (loss_permille, delay_permille, duplicate_permille) = (some(80), some(200), some(100));
        let every = |random: &mut SmallRng, share: f64, from: u64, to: u64| {
            random.random_bool(share).then(|| Duration::from_millis(random.random_range(from..=to)))
        };
        let millis = |random: &mut SmallRng, from: u64, to: u64| Duration::from_millis(random.random_range(from..=to));
        Self {
            loss_permille,
            delay_permille,
            delay_max: millis(random, 20, 600),
            duplicate_permille,
            cut_every: every(random, 0.5, 800, 3_000),
            cut_one_way: random.random_bool(0.6),
            isolates: false,
            crash_every: every(random, 0.7, 800, 3_000),
            power_loss_every: every(random, 0.4, 2_500, 6_000),
            refuse_every: every(random, 0.2, 2_000, 5_000),
            torn: random.random_bool(0.5),
            rot: random.random_bool(0.4),
            operate: random.random_bool(0.4),
            flush_max: millis(random, 0, 15),
            latency_max: millis(random, 1, 20),
        }
    }

    /// The same with crashes and slow disks always on: planted bugs hide from gentle runs.
    pub fn harsh(self, planted: Planted) -> Self {
        let refuses = (planted == Planted::IgnoredRefusal).then_some(Duration::from_millis(2_000));
        if planted == Planted::LostTruncation {
            // What was to be dropped shows only where a node ends before as much was written over it.
            let cut_every = Some(Duration::from_millis(700));
            return Self { cut_every, isolates: true, crash_every: None, power_loss_every: None, ..self };
        }
        Self {
            crash_every: Some(Duration::from_millis(700)),
            power_loss_every: Some(Duration::from_millis(2_000)),
            cut_every: Some(Duration::from_millis(1_500)),
            refuse_every: refuses.or(self.refuse_every),
            flush_max: Duration::from_millis(15),
            // Half of what was under way is the torn record's neighbour.
            torn: self.torn || planted == Planted::TornTail,
            ..self
        }
    }

    /// No fault at all, on disks that take a moment: the background of crash points.
    pub fn none() -> Self {
        Self {
            loss_permille: 0,
            delay_permille: 0,
            delay_max: Duration::ZERO,
            duplicate_permille: 0,
            cut_every: None,
            cut_one_way: false,
            isolates: false,
            crash_every: None,
            power_loss_every: None,
            refuse_every: None,
            torn: false,
            rot: false,
            operate: false,
            flush_max: Duration::from_millis(4),
            latency_max: Duration::from_millis(2),
        }
    }
}

/// How often something was done to the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injected {
    /// Peer calls or their answers lost at random.
    pub lost: u64,
    /// Peer calls delayed.
    pub delayed: u64,
    /// Peer calls doubled.
    pub doubled: u64,
    /// Links cut.
    pub cuts: u64,
    /// Nodes crashed, each by itself.
    pub crashes: u64,
    /// Losses of power everywhere.
    pub power_losses: u64,
    /// Disks that refused a flush.
    pub refusals: u64,
    /// Snapshots spoilt.
    pub rotten: u64,
    /// Nodes ended at a crash point.
    pub crash_points: u64,
    /// Leaders handed over and members changed, as an operator would.
    pub operations: u64,
    /// Clocks set wrong.
    pub clocks: u64,
}

impl Injected {
    /// Each kind with its name.
    pub fn kinds(&self) -> [(&'static str, u64); 11] {
        [
            ("calls-lost", self.lost),
            ("calls-delayed", self.delayed),
            ("calls-doubled", self.doubled),
            ("links-cut", self.cuts),
            ("crashes", self.crashes),
            ("power-losses", self.power_losses),
            ("flushes-refused", self.refusals),
            ("snapshots-spoilt", self.rotten),
            ("crash-points", self.crash_points),
            ("operations", self.operations),
            ("clocks-wrong", self.clocks),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }
}

/// The wire that all nodes' [`FaultyTransport`]s share. Clones are the same wire.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<WireState>>);

struct WireState {
    mix: Mix,
    random: SmallRng,
    calm: bool,
    planted: Option<Planted>,
    injected: Injected,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    request_lost: bool,
    answer_lost: bool,
    before: Duration,
    after: Duration,
    again: Option<Duration>,
    answered_falsely: bool,
}

impl Wire {
    /// A wire that injects `mix`.
    pub fn new(mix: Mix, seed: u64, planted: Option<Planted>) -> Self {
        Self(Arc::new(Mutex::new(WireState {
            mix,
            random: SmallRng::seed_from_u64(seed),
            calm: false,
            planted,
            injected: Injected::default(),
        })))
    }

    /// From now on every call arrives once and at once.
    pub fn calm(&self) {
        self.0.lock().calm = true;
    }

    /// What was done so far.
    pub fn injected(&self) -> Injected {
        self.0.lock().injected
    }

    /// An operator changed something.
    pub fn operated(&self) {
        self.0.lock().injected.operations += 1;
    }

    fn planted(&self) -> Option<Planted> {
        self.0.lock().planted
    }

    fn fate(&self, request: &PeerRequest) -> Fate {
        let mut wire = self.0.lock();
        let WireState { mix, random, calm, planted, injected } = &mut *wire;
        let answered_falsely = match (*planted, &request.call) {
            (Some(Planted::FalseAcknowledgement), Some(Call::Append(append))) => {
                !append.entries.is_empty() && random.random_bool(0.3)
            }
            (Some(Planted::FalseVote), Some(Call::Vote(_) | Call::PreVote(_))) => random.random_bool(0.5),
            _ => false,
        };
        let mut fate = Fate { answered_falsely, ..Fate::default() };
        if *calm {
            return fate;
        }
        let mut hit = |permille: u32| permille > 0 && random.random_range(0..1_000) < permille;
        fate.request_lost = hit(mix.loss_permille);
        fate.answer_lost = hit(mix.loss_permille);
        let (delayed, doubled) = (hit(mix.delay_permille), hit(mix.duplicate_permille));
        let mut wait = || random.random_range(Duration::ZERO..=mix.delay_max);
        if delayed {
            (fate.before, fate.after) = (wait(), wait());
        }
        fate.again = doubled.then(wait);
        injected.lost += u64::from(fate.request_lost || fate.answer_lost);
        injected.delayed += u64::from(delayed);
        injected.doubled += u64::from(doubled);
        fate
    }
}

/// A [`Transport`] that loses, delays and doubles calls on their way through another one.
#[derive(Clone)]
pub struct FaultyTransport {
    inner: Arc<dyn Transport>,
    wire: Wire,
}

impl FaultyTransport {
    /// Faults of `wire` around `inner`.
    pub fn new(inner: Arc<dyn Transport>, wire: Wire) -> Self {
        Self { inner, wire }
    }
}

impl Transport for FaultyTransport {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerReply, TransportError>> {
        let fate = self.wire.fate(&request);
        let (inner, address) = (self.inner.clone(), address.to_owned());
        let late = TransportError::TimedOut { to, after: timeout };
        Box::pin(async move {
            let call = async {
                if fate.answered_falsely {
                    return Ok(falsely(&request));
                }
                if fate.request_lost {
                    return std::future::pending().await;
                }
                tokio::time::sleep(fate.before).await;
                if let Some(wait) = fate.again {
                    let (inner, address, copy) = (inner.clone(), address.clone(), request.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        // Nobody waits for the answer to a copy.
                        let _ = inner.call(to, &address, lane, copy, timeout).await;
                    });
                }
                let reply = inner.call(to, &address, lane, request, timeout).await;
                if fate.answer_lost {
                    return std::future::pending().await;
                }
                tokio::time::sleep(fate.after).await;
                reply
            };
            tokio::time::timeout(timeout, call).await.unwrap_or(Err(late))
        })
    }
}

/// The answer to an append that was taken, or a vote that was granted.
fn falsely(request: &PeerRequest) -> PeerReply {
    let answer = match &request.call {
        Some(Call::Vote(call) | Call::PreVote(call)) => {
            Answer::Vote(proto::VoteAnswer { vote: call.vote, granted: true, last: call.last })
        }
        _ => Answer::Append(proto::AppendAnswer { result: Some(proto::append_answer::Result::Success(true)) }),
    };
    PeerReply { format: request.format, answer: Some(answer) }
}

/// A simulated machine under the storm: its name in the simulation and its disk.
#[derive(Clone)]
pub struct Victim {
    /// Host name.
    pub name: String,
    /// Survives crashes, less what was not flushed.
    pub disk: MemoryDisk,
    /// Set by a journal whose flush was refused: in service the process ends there.
    pub fatal: Arc<Mutex<bool>>,
    /// What else happens to the machine when it crashes.
    pub also: Arc<dyn Fn() + Send + Sync>,
    /// Set by an operator who takes the machine away for good.
    pub gone: Arc<Mutex<bool>>,
}

impl Victim {
    /// A machine with an empty disk.
    pub fn new(name: impl Into<String>) -> Self {
        let (disk, also) = (MemoryDisk::new(), Arc::new(|| ()));
        Self { name: name.into(), disk, fatal: Arc::default(), also, gone: Arc::default() }
    }

    /// A life of the node on this machine, from its start on.
    pub fn life(&self, steps: &Steps) -> Life {
        Life::begin(steps, &self.fatal)
    }

    /// What a journal on this disk does when a flush is refused.
    pub fn fatal(&self) -> Fatal {
        let fatal = self.fatal.clone();
        Arc::new(move |_| *fatal.lock() = true)
    }
}

/// Crashes nodes and cuts links while a simulation steps, until it is calmed.
pub struct Storm {
    mix: Mix,
    random: SmallRng,
    victims: Vec<Victim>,
    /// Machines that are never crashed, but may be cut off from nodes.
    bystanders: Vec<String>,
    groups: Vec<GroupId>,
    /// Nodes whose snapshot was spoilt.
    rotten: Vec<bool>,
    /// Nodes that never start again.
    gone: BTreeSet<usize>,
    wire: Wire,
    injected: Injected,
    /// Nodes that are down, with the time of their restart.
    down: BTreeMap<usize, Duration>,
    doomed: BTreeMap<usize, Duration>,
    /// Cuts from one node to another, with the time of their repair.
    cuts: BTreeMap<(usize, usize), Duration>,
    /// Everything that happened, for whoever reads a failed run.
    pub story: Vec<(Duration, String)>,
}

/// Cuts at a time: more would leave no pair that talks.
const CUTS_MAX: usize = 2;

impl Storm {
    /// A storm over `victims`, whose disks hold `groups`.
    pub fn new(mix: Mix, seed: u64, victims: Vec<Victim>, groups: Vec<GroupId>, wire: Wire) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        for victim in &victims {
            victim.disk.set_torn(mix.torn);
            victim.disk.set_flush_delay(random.random_range(Duration::ZERO..=mix.flush_max));
        }
        Self {
            mix,
            random,
            rotten: vec![false; victims.len()],
            gone: BTreeSet::new(),
            victims,
            bystanders: Vec::new(),
            groups,
            wire,
            injected: Injected::default(),
            down: BTreeMap::new(),
            doomed: BTreeMap::new(),
            cuts: BTreeMap::new(),
            story: Vec::new(),
        }
    }

    /// From now on links to these machines are cut too.
    pub fn cut_also(&mut self, bystanders: Vec<String>) {
        self.bystanders = bystanders;
    }

    fn name(&self, at: usize) -> String {
        let victim = self.victims.get(at).map(|victim| victim.name.clone());
        victim.unwrap_or_else(|| self.bystanders[at - self.victims.len()].clone())
    }

    /// What was done so far, on the wire too.
    pub fn injected(&self) -> Injected {
        let wire = self.wire.injected();
        let Injected { lost, delayed, doubled, operations, .. } = wire;
        Injected { lost, delayed, doubled, operations, ..self.injected }
    }

    /// Whether something happens in a step of length `tick` that happens `every` so often.
    fn strikes(&mut self, every: Option<Duration>, tick: Duration) -> bool {
        every.is_some_and(|every| self.random.random_bool((tick.as_secs_f64() / every.as_secs_f64()).min(1.0)))
    }

    fn tell(&mut self, sim: &turmoil::Sim<'_>, what: String) {
        tracing::info!(at = ?sim.elapsed(), "{what}");
        self.story.push((sim.elapsed(), what));
    }

    fn crash(&mut self, sim: &mut turmoil::Sim<'_>, at: usize) {
        if self.down.contains_key(&at) || self.gone.contains(&at) {
            return;
        }
        let victim = self.victims[at].clone();
        sim.crash(victim.name.as_str());
        victim.disk.crash();
        if self.wire.planted() == Some(Planted::WipedDisk) && self.random.random_bool(0.3) {
            self.wipe(&victim.disk);
        }
        (victim.also)();
        victim.disk.set_refusing(false);
        *victim.fatal.lock() = false;
        if self.mix.rot && !self.rotten[at] && self.random.random_bool(0.3) {
            let group = self.groups[self.random.random_range(0..self.groups.len())];
            self.rotten[at] = victim.disk.corrupt_snapshot(group);
            self.injected.rotten += u64::from(self.rotten[at]);
        }
        let until = sim.elapsed() + Duration::from_millis(self.random.random_range(1..1_500));
        self.down.insert(at, until);
        self.tell(sim, format!("{} down until {until:?}", victim.name));
    }

    /// Planted: the node comes back with nothing.
    fn wipe(&self, disk: &MemoryDisk) {
        disk.set_flush_delay(Duration::ZERO);
        let journal = disk.journal(Arc::new(|_| ()));
        for group in &self.groups {
            journal.submit(*group, vec![Change::Forget], Box::new(|_| ()));
            disk.snapshots().forget(*group).expect("the twin has no reason to refuse");
        }
        disk.set_flush_delay(self.mix.flush_max);
    }

    /// One step of the storm, before each step of the simulation.
    pub fn step(&mut self, sim: &mut turmoil::Sim<'_>, tick: Duration) {
        let nodes = self.victims.len();
        if self.strikes(self.mix.crash_every, tick) {
            let at = self.random.random_range(0..nodes);
            self.injected.crashes += 1;
            self.crash(sim, at);
        }
        if self.strikes(self.mix.power_loss_every, tick) {
            self.injected.power_losses += 1;
            (0..nodes).for_each(|at| self.crash(sim, at));
        }
        if self.strikes(self.mix.refuse_every, tick) {
            let at = self.random.random_range(0..nodes);
            self.injected.refusals += 1;
            self.victims[at].disk.set_refusing(true);
            self.tell(sim, format!("{}'s disk refuses", self.victims[at].name));
        }
        if nodes > 1 && self.mix.isolates {
            self.isolate(sim, tick);
        } else if nodes > 1 && self.strikes(self.mix.cut_every, tick) && self.cuts.len() < CUTS_MAX {
            let from = self.random.random_range(0..nodes);
            let all = nodes + self.bystanders.len();
            let to = (from + self.random.random_range(1..all)) % all;
            let until = sim.elapsed() + Duration::from_millis(self.random.random_range(100..2_500));
            let one_way = self.mix.cut_one_way && self.random.random_bool(0.6);
            self.injected.cuts += 1;
            self.cut(sim, from, to, until);
            if !one_way {
                self.cut(sim, to, from, until);
            }
        }
        self.recover(sim);
    }

    /// One node at a time is taken from the others, and crashes when it is back.
    fn isolate(&mut self, sim: &mut turmoil::Sim<'_>, tick: Duration) {
        let now = sim.elapsed();
        let due: Vec<usize> = self.doomed.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in due {
            self.doomed.remove(&node);
            self.injected.crashes += 1;
            self.crash(sim, node);
        }
        if self.strikes(self.mix.cut_every, tick) && self.cuts.is_empty() && self.doomed.is_empty() {
            let nodes = self.victims.len();
            let node = self.random.random_range(0..nodes);
            let until = now + Duration::from_millis(self.random.random_range(600..2_000));
            self.injected.cuts += 1;
            for other in (0..nodes).filter(|other| *other != node) {
                self.cut(sim, node, other, until);
                self.cut(sim, other, node, until);
            }
            self.doomed.insert(node, until + Duration::from_millis(self.random.random_range(20..300)));
        }
    }

    fn cut(&mut self, sim: &mut turmoil::Sim<'_>, from: usize, to: usize, until: Duration) {
        let (a, b) = (self.name(from), self.name(to));
        sim.partition_oneway(a.as_str(), b.as_str());
        self.cuts.insert((from, to), until);
        self.tell(sim, format!("{a} no longer reaches {b}, until {until:?}"));
    }

    /// Takes a node down for a while, as by hand.
    pub fn take_down(&mut self, sim: &mut turmoil::Sim<'_>, at: usize, length: Duration) {
        self.injected.crashes += 1;
        self.crash(sim, at);
        self.down.insert(at, sim.elapsed() + length);
    }

    /// Ends what is due, and takes down nodes whose journal gave up.
    fn recover(&mut self, sim: &mut turmoil::Sim<'_>) {
        for at in 0..self.victims.len() {
            if *self.victims[at].fatal.lock() {
                self.crash(sim, at);
            }
            if *self.victims[at].gone.lock() && !self.gone.contains(&at) {
                self.crash(sim, at);
                self.down.remove(&at);
                self.gone.insert(at);
                self.tell(sim, format!("{} is taken away", self.victims[at].name));
            }
        }
        let now = sim.elapsed();
        let due: Vec<usize> = self.down.iter().filter(|(_, until)| **until <= now).map(|(at, _)| *at).collect();
        for at in due {
            self.down.remove(&at);
            let name = self.victims[at].name.clone();
            sim.bounce(name.as_str());
            self.tell(sim, format!("{name} starts"));
        }
        let due: Vec<_> = self.cuts.iter().filter(|(_, until)| **until <= now).map(|(pair, _)| *pair).collect();
        for (from, to) in due {
            self.cuts.remove(&(from, to));
            sim.repair_oneway(self.name(from).as_str(), self.name(to).as_str());
        }
    }

    /// Ends every fault for good. Nodes that are down start at the next [`Storm::after`].
    pub fn calm(&mut self, sim: &mut turmoil::Sim<'_>) {
        self.wire.calm();
        let now = sim.elapsed();
        self.victims.iter().for_each(|victim| victim.disk.set_refusing(false));
        self.down.values_mut().for_each(|until| *until = now);
        self.cuts.values_mut().for_each(|until| *until = now);
        self.tell(sim, "calm".to_owned());
        self.recover(sim);
    }

    /// A step after the storm: only what was still to recover.
    pub fn after(&mut self, sim: &mut turmoil::Sim<'_>) {
        self.recover(sim);
    }

    /// Whether a node is down now.
    pub fn any_down(&self) -> bool {
        !self.down.is_empty()
    }
}
