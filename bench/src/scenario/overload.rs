//! Claim: with ten times the producers that it can take, a node goes on at its peak or nearly, keeps its memory, leaves a
//! quiet hierarchy its turn, and is itself again when the crowd has gone; every record counts once all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::{Series, Settled};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::series::SeriesKey;

use super::ingest::{self, Producer, set_up};
use crate::process;
use crate::report::{self, OverloadRun};
use crate::server::Server;
use crate::workload::Shape;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: u64,
    pub seconds: f64,
    /// Producers of the peak; ten times as many are the crowd.
    pub producers: u32,
}

/// Clients and server share the machine: a crowd that sent what it has every few milliseconds would send little batches, and be
/// the bottleneck itself.
const AGE_MAX: Duration = Duration::from_millis(200);
/// Between two records of the quiet hierarchy.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// A record that takes no longer is a sign that nothing is left of the crowd.
const CALM: Duration = Duration::from_millis(20);

/// Runs once: the peak, the crowd, and what comes after.
pub async fn run(options: &Options) -> Result<OverloadRun> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(options.nodes, 8, folder.path())?;
    let result = measure(options, &server).await;
    server.stop()?;
    result
}

async fn measure(options: &Options, server: &Server) -> Result<OverloadRun> {
    let config = ClientConfig { deadline: Duration::from_secs(120), ..ClientConfig::default() };
    let client = Client::connect(&server.endpoints, config).await?;
    let shape = Shape::small();
    set_up(&client, &shape).await?;
    let quiet = Quiet::begin(&client, &shape).await?;
    let own = ingest::Options {
        nodes: options.nodes,
        shards: 8,
        seconds: options.seconds,
        producers: options.producers,
        batch_records: 10_000,
        age_max: AGE_MAX,
        shape,
        seed: 1,
    };
    let mut all = Vec::new();
    let mut phases = Vec::new();
    for (name, producers) in [("peak", options.producers), ("crowd", options.producers * 10)] {
        while all.len() < producers as usize {
            let mut producer = Producer::open(&client, &own, all.len() as u32).await?;
            producer.push_for(Duration::ZERO, 10_000).await?;
            producer.batcher.flush().await?;
            all.push(producer);
        }
        eprintln!("overload, {name}: {producers} producers for {} s", options.seconds);
        let phase = push(&mut all, &quiet, options.seconds, server.pid()).await?;
        phases.push((phase, process::peak_rss_bytes(server.pid()).unwrap_or(0)));
    }
    let gone = Instant::now();
    while quiet.one().await? > CALM {}
    let calm_ms = gone.elapsed().as_secs_f64() * 1e3;
    // The probe's root is none of the workload's sums.
    let counted_once = ingest::check(&client, &own, &mut all).await?;
    let [(peak, peak_rss), (crowd, crowd_rss)] = <[_; 2]>::try_from(phases).ok().context("two phases were run")?;
    Ok(OverloadRun {
        scenario: "overload".to_owned(),
        nodes: options.nodes as u32,
        producers: options.producers,
        peak_records_per_second: peak.rate,
        crowd_records_per_second: crowd.rate,
        peak_server_cores: peak.server_cpu,
        peak_client_cores: peak.client_cpu,
        crowd_server_cores: crowd.server_cpu,
        crowd_client_cores: crowd.client_cpu,
        quiet_peak_p99_ms: peak.quiet_p99_ms,
        quiet_crowd_p99_ms: crowd.quiet_p99_ms,
        calm_ms,
        peak_rss_bytes: peak_rss,
        crowd_rss_bytes: crowd_rss,
        counted_once,
        machine: process::machine(),
        commit: report::commit(),
    })
}

struct Phase {
    rate: f64,
    server_cpu: f64,
    client_cpu: f64,
    quiet_p99_ms: f64,
}

/// All producers push for a time; what is acknowledged within it counts.
async fn push(producers: &mut Vec<Producer>, quiet: &Quiet, seconds: f64, server: u32) -> Result<Phase> {
    let batchers: Vec<Batcher> = producers.iter().map(|producer| producer.batcher.clone()).collect();
    let accepted = || batchers.iter().map(|batcher| batcher.totals().accepted).sum::<u64>();
    let wanted = Duration::from_secs_f64(seconds);
    let over = Arc::new(AtomicBool::new(false));
    let probing = tokio::spawn({
        let (quiet, over) = (quiet.clone(), over.clone());
        async move {
            let mut times = Histogram::<u64>::new(3)?;
            while !over.load(Ordering::SeqCst) {
                times.record(quiet.one().await?.as_micros() as u64)?;
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
            Ok::<_, anyhow::Error>(times)
        }
    });
    let used = |pid| process::cpu_seconds(pid).unwrap_or(0.0);
    let own = std::process::id();
    let (server_before, client_before) = (used(server), used(own));
    let (before, started) = (accepted(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for mut producer in producers.drain(..) {
        tasks.spawn(async move {
            producer.push_for(wanted, 0).await?;
            Ok::<Producer, anyhow::Error>(producer)
        });
    }
    tokio::time::sleep(wanted).await;
    let seconds = started.elapsed().as_secs_f64();
    let rate = (accepted() - before) as f64 / seconds;
    let (server_cpu, client_cpu) = ((used(server) - server_before) / seconds, (used(own) - client_before) / seconds);
    over.store(true, Ordering::SeqCst);
    let times = probing.await??;
    while let Some(done) = tasks.join_next().await {
        producers.push(done??);
    }
    for producer in producers.iter() {
        producer.batcher.flush().await?;
    }
    Ok(Phase { rate, server_cpu, client_cpu, quiet_p99_ms: times.value_at_quantile(0.99) as f64 / 1e3 })
}

/// A hierarchy of its own, which somebody pushes single records of.
#[derive(Clone)]
struct Quiet {
    batcher: Batcher,
    series: Series,
}

impl Quiet {
    async fn begin(client: &Client, shape: &Shape) -> Result<Quiet> {
        let text = "kind: Hierarchy\nroot: quiet\ncatalogue: bench\ncycles: {first: 2024-09, close: manual}\n";
        ingest::apply(client, "bench-quiet", text.to_owned()).await?;
        let name = ProducerId::new("bench-quiet")?;
        let epoch = client.open_producer(&name, None, None).await?.epoch;
        let batching = Batching { records_max: 1, ..Batching::default() };
        let batcher = Batcher::sequenced(client.clone(), name, epoch, batching, |_: Settled<'_>| {}).await?;
        let key = SeriesKey::new(AccountId::new("quiet")?, "bench", shape.usage_type(0), "", "", vec![]);
        let series = batcher.define(&key, slot_of("quiet"), 3);
        Ok(Quiet { batcher, series })
    }

    /// How long one record takes to its verdict.
    async fn one(&self) -> Result<Duration> {
        let started = Instant::now();
        let month: Timestamp = CycleId { year: 2024, month: 9 }.start();
        self.batcher.push(self.series, 1, month).await?;
        self.batcher.flush().await?;
        Ok(started.elapsed())
    }
}
