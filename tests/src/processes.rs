//! Three real processes with real files under faults, for as long as told: killed, stopped for longer than an election,
//! all killed at once, and where namespaces are permitted cut off one way, slowed down and with a full disk; while a
//! producer pushes and a reader reads. What both saw is held against [`crate::history`]. A clock that is off is only
//! simulated: the program asks the system for the time.

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
use serde_json::json;

use crate::history::{self, Event};
use crate::places::{NODES, Places};
use crate::push::{CYCLE, Producer, ROOT, counted, set_up, units_through};
use crate::soak::Soaked;

/// Without an answer for so long, a run fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node whose disk can be filled.
const SMALL: usize = 3;

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
}

const ANYWHERE: &[Fault] = &[Fault::Kill, Fault::Stop, Fault::KillAll];
const IN_SPACES: &[Fault] =
    &[Fault::Kill, Fault::Stop, Fault::KillAll, Fault::Cut, Fault::Isolate, Fault::Slow, Fault::Full];

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
        let nodes = (0..NODES).map(|_| None).collect();
        let mut cluster = Cluster { binary: binary.to_owned(), folder: folder.to_owned(), places, nodes };
        (1..=NODES).try_for_each(|id| cluster.begin(id))?;
        Ok(cluster)
    }

    /// Starts a node's process. It is ready later; the producer's patience is what waits for it.
    fn begin(&mut self, id: usize) -> anyhow::Result<()> {
        let said = fs::File::create(self.folder.join(format!("node-{id}.err")))?;
        let mut command = self.places.command(id, &self.binary);
        command.arg("serve").arg("--config").arg(self.folder.join(format!("node-{id}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said);
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
                let ended = match &mut self.nodes[SMALL - 1] {
                    Some(process) => process.0.try_wait()?.is_some(),
                    None => true,
                };
                if ended {
                    self.begin(SMALL)?;
                }
            }
        }
        Ok(())
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
    let begin = Instant::now();
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(binary, folder.path())?;
    let mut random = SmallRng::seed_from_u64(seed);
    let client = cluster.client()?;
    set_up(&client).await?;
    let producer = Arc::new(Producer::begin(&client).await?);
    let stop = Arc::new(Mutex::new(false));
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let pushing = tokio::spawn({
        let (producer, stop) = (producer.clone(), stop.clone());
        async move { producer.push_until(&stop).await }
    });
    let reading = tokio::spawn(read_on(client.clone(), seen.clone(), stop.clone()));
    let noting = tokio::spawn(note(producer.clone(), seen.clone(), stop.clone()));
    let faults = if cluster.places.has_spaces() { IN_SPACES } else { ANYWHERE };
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
