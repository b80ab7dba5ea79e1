//! Claim: shards are split and merged while usage comes, and a record waits little longer for its verdict meanwhile. Three
//! processes with default settings on loopback hold a counter a series; slots go from the shards that are there to more, and
//! back. The times run from the wish to the moment at which every slot and every replica is in its place.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reckoner_client::client::Client;
use reckoner_client::proto::SetLayoutRequest;
use reckoner_client::proto::set_layout_request::Wish;

use super::rejoin::{config, fill, records, start};
use super::steady::{Steady, Waited};
use crate::nodes::{Process, RETURN_MAX, in_place, settled};
use crate::process;
use crate::report::{self, ReshardRun};
use crate::workload::Shape;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub counters: u32,
    /// Shards to grow to, from the 8 of a new cluster.
    pub shards: u32,
}

const NODES: usize = 3;

/// Of a new cluster.
const SHARDS_FIRST: u32 = 8;

/// How long usage is measured before slots move.
const BEFORE: Duration = Duration::from_secs(10);

/// Runs the scenario.
pub async fn run(options: &Options) -> Result<ReshardRun> {
    let machine_before = process::machine_seconds();
    let shape =
        Shape { roots: (options.counters / 1_000).clamp(1, 1_000), accounts_per_root: 100, meters: 10, exponent: 0.0 };
    let folder = tempfile::tempdir()?;
    let mut nodes: Vec<Process> = Vec::new();
    for at in 0..NODES {
        let join: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
        nodes.push(Process::start(folder.path().join(format!("node-{at}")), "127.0.0.1:0", &join)?);
    }
    let endpoints: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let client = Client::connect(&endpoints, config()).await?;
    settled(&client, NODES).await?;
    fill(&client, &shape).await?;
    let steady = Steady::begin(&client, &shape, start()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    steady.waited();
    tokio::time::sleep(BEFORE).await;
    let before = steady.waited();
    let (grow, growing) = scale(&client, &steady, options.shards).await.context("more shards")?;
    let (shrink, shrinking) = scale(&client, &steady, SHARDS_FIRST).await.context("fewer shards")?;
    let pushed = steady.end().await?;
    let mut found = 0;
    for root in 0..shape.roots {
        found += records(&client, &shape.root_name(root)).await?;
    }
    let counted = pushed + u64::from(shape.counters());
    ensure!(found == counted, "{found} records are counted, {counted} were pushed");
    let busy = match (machine_before, process::machine_seconds()) {
        (Some((busy_before, total_before)), Some((busy, total))) if total > total_before => {
            (busy - busy_before) / (total - total_before)
        }
        _ => 0.0,
    };
    Ok(ReshardRun {
        scenario: "reshard".to_owned(),
        counters: shape.counters(),
        shards: options.shards,
        records: counted,
        before_p99_ms: before.p99_ms,
        grow_ms: grow.as_secs_f64() * 1e3,
        grow_p99_ms: growing.p99_ms,
        grow_max_ms: growing.max_ms,
        shrink_ms: shrink.as_secs_f64() * 1e3,
        shrink_p99_ms: shrinking.p99_ms,
        shrink_max_ms: shrinking.max_ms,
        machine_busy_share: busy,
        machine: process::machine(),
        commit: report::commit(),
    })
}

/// From the wish for so many shards until they are there; how long records waited meanwhile.
async fn scale(client: &Client, steady: &Steady, shards: u32) -> Result<(Duration, Waited)> {
    eprintln!("slots go to {shards} shards");
    steady.waited();
    let begin = Instant::now();
    client.set_layout(SetLayoutRequest { wish: Some(Wish::Scale(shards)), ..SetLayoutRequest::default() }).await?;
    loop {
        let status = client.status().await?;
        if status.slots_to_move == 0 && status.shards.len() == shards as usize {
            break;
        }
        ensure!(begin.elapsed() < RETURN_MAX, "{} slots are not where they should be", status.slots_to_move);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    in_place(client, NODES).await?;
    Ok((begin.elapsed(), steady.waited()))
}
