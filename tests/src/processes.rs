//! Three real processes with real files under faults, for as long as told: killed, stopped for longer than an election,
//! all killed at once; where namespaces are permitted cut off one way, slowed down and with a full disk; and where there is
//! a C compiler with a clock that is a day off and a disk that refuses to flush. Meanwhile a producer pushes and a reader
//! reads; what both saw is held against [`crate::history`]. The cycle closes by itself, which it may not do for one clock
//! that says that it is over, and has to do once all of them say so.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto;
use reckoner_node::clock::{Clock as _, SystemClock};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::time::Timestamp;
use serde_json::json;

use crate::history::{self, Event};
use crate::places::{NODES, Places};
use crate::push::{CYCLE, Producer, ROOT, counted, set_up_closed, units_through};
use crate::soak::Soaked;
use crate::wrong_machine::WrongMachine;

/// Without an answer for so long, a run fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node whose disk can be filled.
const SMALL: usize = 3;

/// The time on all clocks at first: half a day before the cycle ends.
const NOON: &str = "2024-09-30T12:00:00Z";

/// A run ends well before the cycle does.
const LENGTH_MAX: Duration = Duration::from_secs(11 * 3_600);

/// How far a clock is off that is wrong, nanoseconds.
const DAY: i64 = 86_400 * 1_000_000_000;

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and a new process.
    Kill,
    /// SIGSTOP for longer than an election, then SIGCONT.
    Stop,
    /// SIGKILL for all of them.
    KillAll,
    /// What it sends no longer reaches one of the others.
    Cut,
    /// The same both ways, to all.
    Isolate,
    /// It sends slowly.
    Slow,
    /// Its disk is full.
    Full,
    /// Its clock is a day off.
    Clock,
    /// Its disk refuses to flush, so that it ends.
    Refuse,
}

const ANYWHERE: &[Fault] = &[Fault::Kill, Fault::Stop, Fault::KillAll];
const IN_SPACES: &[Fault] = &[Fault::Cut, Fault::Isolate, Fault::Slow, Fault::Full];
const ON_WRONG_MACHINES: &[Fault] = &[Fault::Clock, Fault::Refuse];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "processes-killed",
            Fault::Stop => "processes-stopped",
            Fault::KillAll => "all-killed",
            Fault::Cut => "links-cut-one-way",
            Fault::Isolate => "nodes-cut-off",
            Fault::Slow => "links-slowed",
            Fault::Full => "disks-filled",
            Fault::Clock => "clocks-a-day-off",
            Fault::Refuse => "flushes-refused",
        }
    }
}

/// A process of this run's own; killed when dropped, by its own id.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        self.places.leave_disk(&self.folder.join(format!("node-{SMALL}")));
    }
}

/// The three of them.
struct Cluster {
    binary: PathBuf,
    folder: PathBuf,
    places: Places,
    /// Where they can be wrong.
    machines: Option<Vec<WrongMachine>>,
    /// How far clocks are ahead that are right, nanoseconds: they say [`NOON`] in the beginning.
    ahead: i64,
    nodes: Vec<Option<Process>>,
}

impl Cluster {
    fn start(binary: &Path, folder: &Path) -> anyhow::Result<Cluster> {
        let places = Places::make()?;
        let members: Vec<_> = (1..=NODES).map(|id| json!({ "id": id, "address": places.address(id) })).collect();
        for id in 1..=NODES {
            let data = folder.join(format!("node-{id}"));
            if id == SMALL {
                places.small_disk(&data)?;
            }
            let members: Vec<String> =
                members.iter().map(|own| format!("{{ id = {}, address = {} }}", own["id"], own["address"])).collect();
            let text = format!(
                "data_dir = {:?}\nlisten = {:?}\nshards = 2\nnode_id = {id}\ninsecure = {}\nmembers = [{}]\n",
                data.display().to_string(),
                places.address(id),
                places.has_spaces(),
                members.join(", ")
            );
            fs::write(folder.join(format!("node-{id}.toml")), text)?;
        }
        let ahead = NOON.parse::<Timestamp>()?.0 - SystemClock.now().0;
        let machines = WrongMachine::make(folder, NODES)?;
        machines.iter().flatten().try_for_each(|machine| machine.set_ahead(ahead))?;
        let nodes = (0..NODES).map(|_| None).collect();
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        let mut cluster = Cluster { binary, folder, places, machines, ahead, nodes };
        (1..=NODES).try_for_each(|id| cluster.begin(id))?;
        Ok(cluster)
    }

    /// Starts a node's process. It is ready later; the producer's patience is what waits for it.
    fn begin(&mut self, id: usize) -> anyhow::Result<()> {
        let said = fs::File::create(self.folder.join(format!("node-{id}.err")))?;
        let mut command = self.places.command(id, &self.binary);
        command.arg("serve").arg("--config").arg(self.folder.join(format!("node-{id}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
        if let Some(machines) = &self.machines {
            machines[id - 1].carry(&mut command);
        }
        let mut child = command.spawn().with_context(|| format!("{} does not start", self.binary.display()))?;
        let stdout = child.stdout.take();
        self.nodes[id - 1] = Some(Process(child));
        // It listens by the time that it says so; one that ended says nothing.
        let first = stdout.and_then(|stdout| BufReader::new(stdout).lines().next());
        let words = || fs::read_to_string(self.folder.join(format!("node-{id}.err"))).unwrap_or_default();
        ensure!(first.is_some(), "node {id} did not start: {}", words());
        Ok(())
    }

    fn kill(&mut self, id: usize) {
        self.nodes[id - 1] = None;
    }

    fn signal(&self, id: usize, signal: &str) -> anyhow::Result<()> {
        let Some(process) = &self.nodes[id - 1] else { return Ok(()) };
        let sent = Command::new("kill").args([signal, &process.0.id().to_string()]).status()?;
        ensure!(sent.success(), "node {id} did not get {signal}");
        Ok(())
    }

    fn client(&self) -> anyhow::Result<Client> {
        let endpoints: Vec<String> = (1..=NODES).map(|id| self.places.address(id)).collect();
        let config = ClientConfig { deadline: PATIENCE, attempt: Duration::from_secs(2), ..ClientConfig::default() };
        Ok(Client::lazy(&endpoints, config)?)
    }

    /// Does it, waits, and undoes it.
    async fn strike(&mut self, fault: Fault, random: &mut SmallRng) -> anyhow::Result<()> {
        let id = random.random_range(1..=NODES);
        let other = id % NODES + 1;
        let a_while = |random: &mut SmallRng, from: u64, to: u64| {
            tokio::time::sleep(Duration::from_millis(random.random_range(from..to)))
        };
        match fault {
            Fault::Kill => {
                self.kill(id);
                a_while(random, 0, 1_500).await;
                self.begin(id)?;
            }
            Fault::Stop => {
                self.signal(id, "-STOP")?;
                a_while(random, 1_200, 3_000).await;
                self.signal(id, "-CONT")?;
            }
            Fault::KillAll => {
                (1..=NODES).for_each(|id| self.kill(id));
                (1..=NODES).try_for_each(|id| self.begin(id))?;
            }
            Fault::Cut => {
                self.places.cut(id, other, true)?;
                a_while(random, 500, 3_000).await;
                self.places.cut(id, other, false)?;
            }
            Fault::Isolate => {
                let others = (1..=NODES).filter(|other| *other != id);
                for (from, to) in others.clone().flat_map(|other| [(id, other), (other, id)]) {
                    self.places.cut(from, to, true)?;
                }
                a_while(random, 500, 3_000).await;
                for (from, to) in others.flat_map(|other| [(id, other), (other, id)]) {
                    self.places.cut(from, to, false)?;
                }
            }
            Fault::Slow => {
                self.places.slow(id, true)?;
                a_while(random, 500, 3_000).await;
                self.places.slow(id, false)?;
            }
            Fault::Full => {
                let filler = self.folder.join(format!("node-{SMALL}")).join("filler");
                fill(&filler);
                a_while(random, 500, 2_000).await;
                fs::remove_file(&filler)?;
                // A node whose flush was refused has stopped.
                if self.has_ended(SMALL)? {
                    self.begin(SMALL)?;
                }
            }
            Fault::Clock => {
                let machine = self.machine(id)?;
                machine.set_ahead(self.ahead + if random.random_bool(0.7) { DAY } else { -DAY })?;
                a_while(random, 1_500, 4_500).await;
                machine.set_ahead(self.ahead)?;
            }
            Fault::Refuse => {
                self.machine(id)?.refuse_flushes(true)?;
                let begin = Instant::now();
                while !self.has_ended(id)? {
                    ensure!(begin.elapsed() < PATIENCE, "node {id} goes on although no flush succeeds");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                self.machine(id)?.refuse_flushes(false)?;
                self.begin(id)?;
            }
        }
        Ok(())
    }

    fn machine(&self, id: usize) -> anyhow::Result<&WrongMachine> {
        let machines = self.machines.as_ref();
        machines.and_then(|machines| machines.get(id - 1)).context("machines here cannot be wrong")
    }

    /// Whether a node's process has ended by itself, or was ended.
    fn has_ended(&mut self, id: usize) -> anyhow::Result<bool> {
        match &mut self.nodes[id - 1] {
            Some(process) => Ok(process.0.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// What can be done here.
    fn faults(&self) -> Vec<Fault> {
        let in_spaces = if self.places.has_spaces() { IN_SPACES } else { &[] };
        let on_wrong = if self.machines.is_some() { ON_WRONG_MACHINES } else { &[] };
        [ANYWHERE, in_spaces, on_wrong].concat()
    }
}

/// Writes until nothing fits any more.
fn fill(path: &Path) {
    let Ok(mut file) = fs::File::create(path) else { return };
    for bytes in [1 << 20, 4 << 10] {
        let zeros = vec![0; bytes];
        while file.write_all(&zeros).is_ok() {}
    }
}

/// The bills of the cycle; there are none until it is over.
async fn bills(client: &Client) -> anyhow::Result<Vec<proto::BillSummary>> {
    Ok(client.list_bills(&AccountId::new(ROOT)?, None, Some(CYCLE.parse()?)).await?.bills)
}

/// A day later on all clocks the cycle is over: it is cut and billed, with everything on its bill.
async fn is_billed(cluster: &Cluster, client: &Client, units: i128) -> anyhow::Result<()> {
    let Some(machines) = &cluster.machines else { return Ok(()) };
    machines.iter().try_for_each(|machine| machine.set_ahead(cluster.ahead + DAY))?;
    let begin = Instant::now();
    loop {
        let bills = bills(client).await?;
        if bills.first().is_some_and(|bill| bill.status == "issued") {
            let wanted = format!("{}{}", units / 2, if units % 2 == 0 { "" } else { ".5" });
            ensure!(bills.len() == 1 && bills[0].payable == wanted, "{units} units at 0.50 are billed as {bills:?}");
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "all clocks say that the cycle is over, and its bills are {bills:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What producer and reader saw, and what is being known while they go on.
#[derive(Default)]
struct Seen {
    history: Vec<Event>,
    known: (u64, i128),
}

/// Reads again and again; each answer has to contain what was known when it was asked for.
async fn read_on(client: Client, seen: Arc<Mutex<Seen>>, stop: Arc<Mutex<bool>>) -> anyhow::Result<()> {
    while !*stop.lock() {
        let (known_index, known_units) = seen.lock().known;
        let request = proto::GetUsageRequest { root: ROOT.into(), cycle: CYCLE.into(), ..Default::default() };
        if let Ok(reply) = client.with_deadline(Duration::from_secs(5)).usage(request).await {
            let units = reply.counters.iter().map(|own| own.quantity.parse::<i128>()).sum::<Result<i128, _>>()?;
            let proto::Position { index, term, .. } = reply.position.unwrap_or_default();
            let mut seen = seen.lock();
            seen.history.push(Event::Read { index, term, units, known_index, known_units });
            seen.known = (seen.known.0.max(index), seen.known.1.max(units));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Notes what is acknowledged, with the position by which it is.
async fn note(producer: Arc<Producer>, seen: Arc<Mutex<Seen>>, stop: Arc<Mutex<bool>>) {
    while !*stop.lock() {
        // Units first: the position asked for afterwards contains them.
        let units = producer.heard.lock().units();
        if let Some(index) = producer.positions().into_iter().map(|position| position.index).max() {
            let mut seen = seen.lock();
            seen.history.push(Event::Acknowledged { index, units });
            seen.known = (seen.known.0.max(index), seen.known.1.max(units));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Runs for `length`; what was done and checked.
///
/// # Errors
/// A broken promise, or processes that do not start.
pub async fn run(binary: &Path, length: Duration, seed: u64) -> anyhow::Result<Soaked> {
    ensure!(length <= LENGTH_MAX, "processes run for 11 hours at most; run them again with another seed");
    let begin = Instant::now();
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(binary, folder.path())?;
    let mut random = SmallRng::seed_from_u64(seed);
    let client = cluster.client()?;
    // Without clocks of its own the cycle would be over.
    set_up_closed(&client, if cluster.machines.is_some() { "automatic" } else { "manual" }).await?;
    let producer = Arc::new(Producer::begin(&client).await?);
    let stop = Arc::new(Mutex::new(false));
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let pushing = tokio::spawn({
        let (producer, stop) = (producer.clone(), stop.clone());
        async move { producer.push_until(&stop).await }
    });
    let reading = tokio::spawn(read_on(client.clone(), seen.clone(), stop.clone()));
    let noting = tokio::spawn(note(producer.clone(), seen.clone(), stop.clone()));
    let faults = cluster.faults();
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut rounds = 0;
    while begin.elapsed() < length {
        // Each kind in turn first, then drawn.
        let fault = faults.get(rounds).copied().unwrap_or_else(|| faults[random.random_range(0..faults.len())]);
        rounds += 1;
        tracing::info!(?fault, "strikes");
        cluster.strike(fault, &mut random).await.with_context(|| format!("{fault:?}"))?;
        *kinds.entry(fault.name().to_owned()).or_default() += 1;
        let healed = producer.progress(100).await;
        healed.with_context(|| format!("after {fault:?}, round {rounds} of seed {seed}"))?;
        let bills = bills(&client).await?;
        ensure!(bills.is_empty(), "the cycle closed early, after {fault:?}, round {rounds} of seed {seed}: {bills:?}");
    }
    *stop.lock() = true;
    let last = pushing.await??;
    producer.flush().await?;
    reading.await??;
    noting.await?;
    let (records, sum) = counted(&client).await?;
    ensure!((records, sum) == (last, units_through(last)), "{last} records were pushed, {records} are counted");
    // Everything again: nothing may be added.
    let again = Producer::begin(&client).await?;
    again.push(1..=last).await?;
    again.flush().await?;
    let duplicates = again.heard.lock().duplicates;
    ensure!(duplicates == last, "{last} records were sent again, {duplicates} were recognised");
    ensure!(counted(&client).await? == (last, units_through(last)), "records that were sent again were counted");
    let reads = history::check(&seen.lock().history).map_err(anyhow::Error::msg)?;
    let late = producer.heard.lock().late;
    ensure!(late == 0, "{late} records were counted late before their cycle was over");
    is_billed(&cluster, &client, units_through(last)).await?;
    Ok(Soaked {
        seeds: rounds as u64,
        simulated_seconds: begin.elapsed().as_secs_f64(),
        faults: kinds.values().sum(),
        kinds,
        checked: 2 * last + reads,
        failures: Vec::new(),
        elapsed: begin.elapsed(),
    })
}
