//! Claim: how long nothing is acknowledged when the node that leads is killed, and when it is stopped in order. Three
//! processes with default settings on loopback; one producer pushes without a pause; the time runs from the kill (or the
//! signal) to the first verdict for a record that was pushed afterwards. The node comes back before the next turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto::GetUsageRequest;
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::series::SeriesKey;

use super::ingest::apply;
use crate::nodes::{Process, RETURN_MAX, settled};
use crate::process;
use crate::report::{self, FailoverRun};

const NODES: usize = 3;
const ROOT: &str = "failover";
const CYCLE: &str = "2024-09";
const START: &str = "2024-09-10T00:00:00Z";

/// Between two records that are handed over.
const PUSH_INTERVAL: Duration = Duration::from_millis(1);

/// Longer than this without a verdict is no figure but a failure.
const PAUSE_MAX: Duration = Duration::from_secs(60);

const DOCUMENTS: &str = "
kind: Catalogue
name: failover
currency: USD
effective: 2024-09
meters: [{ id: unit, service: units, usage_type: unit, scale: 0 }]
skus: [{ id: unit, match: { usage_type: unit }, unit: unit, rate: \"0.50\" }]
---
kind: Hierarchy
root: failover
catalogue: failover
cycles: { first: 2024-09, close: manual }
";

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub kills: u32,
    pub stops: u32,
}

/// What the producer was told: for each number when, and what was wrong.
#[derive(Default)]
struct Heard {
    last: u64,
    settled: u64,
    refused: Option<String>,
    /// The first verdict for a record above a number.
    waits_for: Option<(u64, Option<Instant>)>,
}

/// Runs the scenario.
pub async fn run(options: &Options) -> Result<FailoverRun> {
    let folder = tempfile::tempdir()?;
    let mut nodes: Vec<Process> = Vec::new();
    for at in 0..NODES {
        let join: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        nodes.push(Process::start(folder.path().join(format!("node-{at}")), "127.0.0.1:0", &join)?);
    }
    let endpoints: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let config = ClientConfig { deadline: RETURN_MAX, ..ClientConfig::default() };
    let client = Client::connect(&endpoints, config).await?;
    settled(&client, NODES).await?;
    apply(&client, "failover", DOCUMENTS.to_owned()).await?;

    let heard: Arc<Mutex<Heard>> = Arc::default();
    let producer = ProducerId::new("failover")?;
    let epoch = client.open_producer(&producer, None, None).await?.epoch;
    let batching = Batching { age_max: Duration::from_millis(1), give_up_after: PAUSE_MAX, ..Batching::default() };
    let told = heard.clone();
    let sink = move |settled: Settled<'_>| {
        let mut heard = told.lock();
        if let Verdict::Refused(refusal) = settled.verdict {
            heard.refused = Some(refusal.to_string());
        }
        heard.settled += settled.count();
        let last = settled.numbers().max().unwrap_or(0);
        heard.last = heard.last.max(last);
        if let Some((above, when @ None)) = &mut heard.waits_for
            && last > *above
        {
            *when = Some(Instant::now());
        }
    };
    let batcher = Batcher::sequenced(client.clone(), producer, epoch, batching, sink).await?;
    let start: Timestamp = START.parse()?;
    let key = SeriesKey::new(AccountId::new(ROOT)?, "units", "unit", "", "", vec![]);
    let (series, _) = batcher.resolve(&key, start).await?;
    let pushed: Arc<Mutex<(u64, bool)>> = Arc::default();
    let pushing = tokio::spawn({
        let pushed = pushed.clone();
        async move {
            while !pushed.lock().1 {
                let number = batcher.push(series, 1, start).await?;
                pushed.lock().0 = number;
                tokio::time::sleep(PUSH_INTERVAL).await;
            }
            batcher.flush().await?;
            anyhow::Ok(())
        }
    });

    let machine_before = process::machine_seconds();
    let (mut kills, mut stops) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    for turn in 0..options.kills + options.stops {
        settled(&client, NODES).await?;
        let leader = leader(&client).await?;
        let node = nodes.iter_mut().find(|node| node.address == leader).context("the leader is one of the nodes")?;
        let is_kill = turn < options.kills;
        let begin = Instant::now();
        heard.lock().waits_for = Some((pushed.lock().0, None));
        node.tell(if is_kill { 9 } else { 15 })?;
        let first = loop {
            if let Some((_, Some(first))) = heard.lock().waits_for {
                break first;
            }
            ensure!(begin.elapsed() < PAUSE_MAX, "nothing was acknowledged for {PAUSE_MAX:?} after node {leader} went");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let pauses = if is_kill { &mut kills } else { &mut stops };
        pauses.record(first.duration_since(begin).as_micros() as u64)?;
        node.again(&endpoints)?;
        eprint!("\r{} of {}   ", turn + 1, options.kills + options.stops);
    }
    eprintln!();
    pushed.lock().1 = true;
    pushing.await??;
    ensure!(heard.lock().refused.is_none(), "a record was refused: {:?}", heard.lock().refused);
    let sent = pushed.lock().0;
    let counted_once = heard.lock().settled == sent && counted(&client).await? == sent;
    let machine_after = process::machine_seconds();
    let busy = match (machine_before, machine_after) {
        (Some((busy_before, total_before)), Some((busy, total))) if total > total_before => {
            (busy - busy_before) / (total - total_before)
        }
        _ => 0.0,
    };
    let milliseconds = |pauses: &Histogram<u64>, quantile: f64| pauses.value_at_quantile(quantile) as f64 / 1e3;
    Ok(FailoverRun {
        scenario: "failover".to_owned(),
        nodes: NODES as u32,
        kills: options.kills,
        kill_p50_ms: milliseconds(&kills, 0.5),
        kill_p99_ms: milliseconds(&kills, 0.99),
        kill_max_ms: kills.max() as f64 / 1e3,
        stops: options.stops,
        stop_p50_ms: milliseconds(&stops, 0.5),
        stop_max_ms: stops.max() as f64 / 1e3,
        records: sent,
        counted_once,
        machine_busy_share: busy,
        machine: process::machine(),
        commit: report::commit(),
    })
}

/// Where the shard of the pushed hierarchy is led.
async fn leader(client: &Client) -> Result<String> {
    let shard = client.shard_of(slot_of(ROOT)).await?;
    let status = client.status().await?;
    let led = status.shards.iter().find(|own| own.id == shard.0).context("the shard is there")?;
    let addresses: BTreeMap<u64, String> = status.nodes.into_iter().map(|node| (node.id, node.address)).collect();
    addresses.get(&led.leader_node).cloned().context("somebody leads the shard")
}

async fn counted(client: &Client) -> Result<u64> {
    let request = GetUsageRequest { root: ROOT.to_owned(), cycle: CYCLE.to_owned(), ..GetUsageRequest::default() };
    Ok(client.usage(request).await?.counters.iter().map(|counter| counter.records).sum())
}
