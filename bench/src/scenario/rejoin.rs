//! Claims: a node with a million counters that was killed answers again within seconds; a new node in place of a lost one
//! has caught up within a minute while the others go on. Processes with default settings on loopback; every counter has
//! one record. The first time runs from the start of the process to an answer of every shard, the second from the start
//! of the new one to the moment at which every replica is in its place. In a cluster the new node has a machine of its own:
//! here it gets what the others leave of the one processor, unless it is to compete with them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto::{GetUsageRequest, SetNodeRequest};
use reckoner_shard::base::id::ProducerId;
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::placement::slot_of;

use super::ingest::{define, set_up};
use super::steady::Steady;
use crate::nodes::{Process, RETURN_MAX, in_place, settled};
use crate::process;
use crate::report::{self, RejoinRun};
use crate::workload::Shape;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Counters of the node that comes back.
    pub counters: u32,
    /// State that the new node is sent, in MiB, roughly.
    pub state_mib: u32,
    /// The new node competes with the others for the processor.
    pub compete: bool,
}

const NODES: usize = 3;

/// What a counter takes on a node's disk, roughly: its series and its lot, in snapshot and log.
const COUNTER_BYTES: u32 = 16;

/// Counters whose series the client holds at a time while it fills them; it takes some 300 bytes for each.
const FILLED_AT_ONCE: u32 = 4_000_000;

/// How long usage is measured before the node is lost.
const BEFORE: Duration = Duration::from_secs(10);

/// Runs the scenario.
pub async fn run(options: &Options) -> Result<RejoinRun> {
    let machine_before = process::machine_seconds();
    let shape = |counters: u32| {
        let roots = (counters / 10_000).clamp(1, 1_000);
        let accounts_per_root = 100;
        Shape { roots, accounts_per_root, meters: (counters / (roots * accounts_per_root)).max(1), exponent: 0.0 }
    };
    let small = shape(options.counters);
    let restart = restart(&small).await.context("the node that comes back")?;
    let large = shape(options.state_mib.saturating_mul((1 << 20) / COUNTER_BYTES));
    let joined = join(&large, options.compete).await.context("the new node")?;
    let busy = match (machine_before, process::machine_seconds()) {
        (Some((busy_before, total_before)), Some((busy, total))) if total > total_before => {
            (busy - busy_before) / (total - total_before)
        }
        _ => 0.0,
    };
    Ok(RejoinRun {
        scenario: "rejoin".to_owned(),
        restart_counters: small.counters(),
        restart_ms: restart.as_secs_f64() * 1e3,
        join_counters: large.counters(),
        compete: options.compete,
        join_bytes: joined.bytes,
        join_ms: joined.took.as_secs_f64() * 1e3,
        before_p99_ms: joined.before_p99_ms,
        meanwhile_p99_ms: joined.meanwhile_p99_ms,
        machine_busy_share: busy,
        machine: process::machine(),
        commit: report::commit(),
    })
}

pub(super) fn config() -> ClientConfig {
    ClientConfig { deadline: RETURN_MAX, ..ClientConfig::default() }
}

pub(super) fn start() -> Timestamp {
    CycleId { year: 2024, month: 9 }.start()
}

/// Pushes one record to every counter.
pub(super) async fn fill(client: &Client, shape: &Shape) -> Result<()> {
    eprintln!("{} hierarchies are applied", shape.roots);
    set_up(client, shape).await?;
    let counters = shape.counters();
    eprintln!("{counters} counters get a record each");
    let producer = ProducerId::new("fill")?;
    let epoch = client.open_producer(&producer, None, None).await?.epoch;
    let mut filled = 0;
    while filled < counters {
        let next = filled..filled.saturating_add(FILLED_AT_ONCE).min(counters);
        let batching = Batching { resume_after: Some(u64::from(filled)), ..Batching::default() };
        let batcher =
            Batcher::sequenced(client.clone(), producer.clone(), epoch, batching, |_: Settled<'_>| {}).await?;
        for series in define(&batcher, shape, next.clone())? {
            batcher.push(series, 1_000, start()).await?;
        }
        batcher.flush().await?;
        let totals = batcher.totals();
        ensure!(totals.accepted == next.len() as u64, "of counters {next:?} not every record is counted: {totals:?}");
        filled = next.end;
        eprintln!("{filled} of {counters} counters are filled");
    }
    Ok(())
}

/// From the start of a killed node's process until every shard answers.
async fn restart(shape: &Shape) -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let mut node = Process::start(folder.path().join("node"), "127.0.0.1:0", &[])?;
    let client = Client::connect(std::slice::from_ref(&node.address), config()).await?;
    fill(&client, shape).await?;
    node.tell(9)?;
    let client = Client::lazy(std::slice::from_ref(&node.address), config())?;
    node.wait()?;
    eprintln!("the node is killed and started again");
    let begin = Instant::now();
    node.again(&[])?;
    let mut shards = std::collections::BTreeSet::new();
    for root in 0..shape.roots {
        let name = shape.root_name(root);
        if shards.insert(client.shard_of(slot_of(&name)).await?) {
            let found = records(&client, &name).await?;
            let wanted = u64::from(shape.accounts_per_root * shape.meters);
            ensure!(found == wanted, "{name} has {found} records of {wanted} after the restart");
        }
    }
    Ok(begin.elapsed())
}

pub(super) async fn records(client: &Client, root: &str) -> Result<u64> {
    let (mut records, mut page_token) = (0, String::new());
    loop {
        let request = GetUsageRequest {
            root: root.to_owned(),
            cycle: "2024-09".to_owned(),
            page_size: 10_000,
            page_token,
            ..GetUsageRequest::default()
        };
        let reply = client.usage(request).await?;
        records += reply.counters.iter().map(|counter| counter.records).sum::<u64>();
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(records);
        }
    }
}

/// What a new node took.
struct Joined {
    took: Duration,
    bytes: u64,
    before_p99_ms: f64,
    meanwhile_p99_ms: f64,
}

/// A new node in place of a lost one, while usage comes.
async fn join(shape: &Shape, compete: bool) -> Result<Joined> {
    let folder = tempfile::tempdir()?;
    let mut nodes: Vec<Process> = Vec::new();
    for at in 0..NODES {
        let join: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        nodes.push(Process::start(folder.path().join(format!("node-{at}")), "127.0.0.1:0", &join)?);
    }
    let mut endpoints: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let client = Client::connect(&endpoints, config()).await?;
    settled(&client, NODES).await?;
    fill(&client, shape).await?;
    settled(&client, NODES).await?;

    // A part of the counters, so that the client takes little from those that are measured.
    let part = Shape { roots: shape.roots.min(100), meters: shape.meters.min(10), ..*shape };
    let steady = Steady::begin(&client, &part, start()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    steady.waited();
    tokio::time::sleep(BEFORE).await;
    let before_p99_ms = steady.waited().p99_ms;

    eprintln!("a node is lost, a new one comes in its place");
    let lost = nodes.pop().context("there are nodes")?;
    lost.tell(9)?;
    let left = lost.folder.clone();
    drop(lost);
    std::fs::remove_dir_all(left)?;
    // An election is the failover scenario's figure.
    tokio::time::sleep(Duration::from_secs(5)).await;
    steady.waited();
    let gone = endpoints.pop().context("there are nodes")?;
    let begin = Instant::now();
    let start = if compete { Process::start } else { Process::start_behind };
    let new = start(folder.path().join("node-new"), "127.0.0.1:0", &endpoints)?;
    loop {
        let request = SetNodeRequest {
            name: gone.clone(),
            state: "removed".to_owned(),
            replacement: new.address.clone(),
            plan: false,
        };
        match client.set_node(request).await {
            Ok(_) => break,
            Err(error) => ensure!(begin.elapsed() < RETURN_MAX, "the new node is not known: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    in_place(&client, NODES).await?;
    let took = begin.elapsed();
    let meanwhile_p99_ms = steady.waited().p99_ms;
    steady.end().await?;
    Ok(Joined { took, bytes: bytes_of(&new.folder)?, before_p99_ms, meanwhile_p99_ms })
}

/// Bytes of all files in a folder.
fn bytes_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Files of a running node come and go.
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() { bytes_of(&entry.path()).unwrap_or(0) } else { about.len() };
    }
    Ok(bytes)
}
