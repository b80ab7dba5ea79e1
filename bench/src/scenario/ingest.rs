//! Claim: records acknowledged a second, each durable and counted once, on workload W through the client library's
//! sequences; one node and three replicas. After the clock stops, every hierarchy's counters are read back and compared
//! with what was sent, and a part is sent again and must come back duplicate.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::{Batching, NotTaken, Sink};
use reckoner_client::batch::records::{Series, Settled};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::files::documents::read_source;
use reckoner_client::files::finding::Source;
use reckoner_client::proto;
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::money::parse_scaled;
use reckoner_shard::base::time::{CycleId, SECOND, Timestamp};
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::series::SeriesKey;

use crate::process;
use crate::report::{self, IngestRun};
use crate::server::Server;
use crate::workload::{Draw, Shape, draws};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: u64,
    pub shards: u32,
    pub seconds: f64,
    pub producers: u32,
    pub batch_records: usize,
    /// A batch goes when its first record is that old.
    pub age_max: Duration,
    pub shape: Shape,
    pub seed: u64,
}

/// Records that a producer draws once and then repeats: enough that its pattern does not fit a cache.
const DRAWS: usize = 1 << 20;
/// Records handed over under one lock.
const CHUNK: usize = 512;
/// Decimals of the workload's meters.
const SCALE: u8 = 3;
/// Hierarchies in one apply job.
const HIERARCHIES_A_JOB: u32 = 100;

/// Runs once: sets a fresh cluster up, pushes for the wanted time, checks, stops.
pub async fn run(options: &Options) -> Result<IngestRun> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(options.nodes, options.shards, folder.path())?;
    let result = measure(options, &server).await;
    server.stop()?;
    result
}

async fn measure(options: &Options, server: &Server) -> Result<IngestRun> {
    let config = ClientConfig { deadline: Duration::from_secs(120), ..ClientConfig::default() };
    let client = Client::connect(&server.endpoints, config).await?;
    let progress = Progress::start(options.nodes);
    progress.say(&format!("{} hierarchies are applied", options.shape.roots));
    set_up(&client, &options.shape).await?;

    progress.say(&format!("{} producers define {} series", options.producers, options.shape.counters()));
    let mut producers = Vec::new();
    for index in 0..options.producers {
        producers.push(Producer::open(&client, options, index).await?);
    }
    // Series are defined by their first record: one pass over the draws takes that out of the measured time.
    for producer in &mut producers {
        producer.push_for(Duration::ZERO, producer.draws.len()).await?;
    }
    for producer in &producers {
        producer.batcher.flush().await?;
        producer.latencies.lock().reset();
    }
    let before: u64 = producers.iter().map(|producer| producer.pushed).sum();
    progress.say(&format!("records are pushed for {} s", options.seconds));

    let (pid, own) = (server.pid(), std::process::id());
    let usage = |pid| process::cpu_seconds(pid).unwrap_or(0.0);
    let (server_before, client_before, machine_before) = (usage(pid), usage(own), process::machine_seconds());
    let started = Instant::now();
    let wanted = Duration::from_secs_f64(options.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for mut producer in producers {
        tasks.spawn(async move {
            producer.push_for(wanted, 0).await?;
            producer.batcher.flush().await?;
            Ok::<Producer, anyhow::Error>(producer)
        });
    }
    let mut producers = Vec::new();
    while let Some(done) = tasks.join_next().await {
        producers.push(done??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let (server_cpu, client_cpu) = (usage(pid) - server_before, usage(own) - client_before);
    let foreign_cpu_share = match (machine_before, process::machine_seconds()) {
        (Some((busy_before, total_before)), Some((busy, total))) if total > total_before => {
            ((busy - busy_before - server_cpu - client_cpu) / (total - total_before)).max(0.0)
        }
        _ => 0.0,
    };
    let peak_rss_bytes = process::peak_rss_bytes(pid).unwrap_or(0);
    let records = producers.iter().map(|producer| producer.pushed).sum::<u64>() - before;
    let mut latencies = Histogram::<u64>::new(3)?;
    for producer in &producers {
        latencies.add(&*producer.latencies.lock())?;
    }
    progress.say("every counter is read back and compared");
    let counted_once = check(&client, options, &mut producers).await?;
    progress.say("done");
    let millions = records as f64 / 1e6;
    Ok(IngestRun {
        scenario: "ingest".to_owned(),
        nodes: options.nodes as u32,
        records,
        seconds,
        records_per_second: records as f64 / seconds,
        batch_p50_ms: latencies.value_at_quantile(0.5) as f64 / 1e3,
        batch_p99_ms: latencies.value_at_quantile(0.99) as f64 / 1e3,
        server_cpu_seconds_per_million: server_cpu / millions,
        client_cpu_seconds_per_million: client_cpu / millions,
        foreign_cpu_share,
        peak_rss_bytes,
        counted_once,
        counters: options.shape.counters(),
        producers: options.producers,
        batch_records: options.batch_records as u32,
        machine: process::machine(),
        commit: report::commit(),
    })
}

/// Says on standard error what the run is at.
struct Progress {
    nodes: u64,
    started: Instant,
}

impl Progress {
    fn start(nodes: u64) -> Progress {
        Progress { nodes, started: Instant::now() }
    }

    fn say(&self, what: &str) {
        eprintln!("ingest, {} node(s), {:6.1} s: {what}", self.nodes, self.started.elapsed().as_secs_f64());
    }
}

/// Applies the catalogue and all hierarchies.
pub(super) async fn set_up(client: &Client, shape: &Shape) -> Result<()> {
    apply(client, "bench-catalogue", shape.catalogue()).await?;
    let mut root = 0;
    while root < shape.roots {
        let until = (root + HIERARCHIES_A_JOB).min(shape.roots);
        let text: Vec<String> = (root..until).map(|root| shape.hierarchy(root)).collect();
        apply(client, &format!("bench-hierarchies-{root}"), text.join("---\n")).await?;
        root = until;
    }
    Ok(())
}

/// Applies documents and waits for the job.
pub(super) async fn apply(client: &Client, job: &str, text: String) -> Result<()> {
    let source = Arc::new(Source { name: job.to_owned(), text });
    let (placed, findings) = read_source(&source);
    if let Some(finding) = findings.first() {
        bail!("the workload's own documents are wrong: {finding:?}");
    }
    let documents = placed.iter().map(|placed| placed.document.wire(job)).collect();
    client.apply(job, documents).await?;
    loop {
        let reply = client.job(job, Duration::from_secs(20)).await?;
        match reply.state.as_str() {
            "done" => return Ok(()),
            "running" => {}
            state => bail!("job {job} ended as {state}: {reply:?}"),
        }
    }
}

/// One sequenced producer with its prepared stream.
pub(super) struct Producer {
    pub(super) batcher: Batcher,
    pub(super) draws: Arc<Vec<Draw>>,
    series: Vec<Series>,
    /// What was handed over and acknowledged: per hierarchy, records and quantity.
    sent: Vec<(u64, i128)>,
    pushed: u64,
    accounts_per_root: u32,
    meters: u32,
    pub(super) latencies: Arc<Mutex<Histogram<u64>>>,
    name: ProducerId,
    epoch: u64,
}

/// Keeps how long batches took, in microseconds.
pub(super) struct Latencies(pub(super) Arc<Mutex<Histogram<u64>>>);

impl Sink for Latencies {
    fn settled(&mut self, _: Settled<'_>) {}

    fn batch(&mut self, took: Duration) {
        // The histogram grows with what it is given; only a count beyond 64 bits could fail.
        let _ = self.0.lock().record(took.as_micros() as u64);
    }
}

impl Producer {
    pub(super) async fn open(client: &Client, options: &Options, index: u32) -> Result<Producer> {
        let name = ProducerId::new(&format!("bench-{index}"))?;
        let epoch = client.open_producer(&name, None, None).await?.epoch;
        let latencies = Arc::new(Mutex::new(Histogram::new(3)?));
        let sink = Latencies(latencies.clone());
        let batcher = Batcher::sequenced(client.clone(), name.clone(), epoch, batching(options), sink).await?;
        let shape = &options.shape;
        let series = define(&batcher, shape, 0..shape.counters())?;
        let draws = Arc::new(draws(shape, options.seed + u64::from(index), DRAWS));
        Ok(Producer {
            batcher,
            draws,
            series,
            sent: vec![(0, 0); shape.roots as usize],
            pushed: 0,
            accounts_per_root: shape.accounts_per_root,
            meters: shape.meters,
            latencies,
            name,
            epoch,
        })
    }

    /// Pushes for a time, and at least `count` records.
    pub(super) async fn push_for(&mut self, wanted: Duration, count: usize) -> Result<()> {
        let started = Instant::now();
        let mut chunk = Vec::with_capacity(CHUNK);
        let (mut at, mut done) = (self.pushed as usize % self.draws.len(), 0);
        while done < count || started.elapsed() < wanted {
            chunk.clear();
            let end = (at + CHUNK).min(self.draws.len());
            chunk.extend(self.draws[at..end].iter().map(|draw| record(&self.series, draw)));
            let mut from = 0;
            while from < chunk.len() {
                match self.batcher.try_push_all(&chunk[from..]) {
                    Ok(taken) => {
                        from += taken;
                        if from < chunk.len() {
                            self.batcher.room().await?;
                        }
                    }
                    Err(NotTaken::Full) => self.batcher.room().await?,
                    Err(why) => bail!("the batcher took no more: {why:?}"),
                }
            }
            for draw in &self.draws[at..end] {
                let (account, _) = (draw.counter / self.meters, draw.counter % self.meters);
                let sent = &mut self.sent[(account / self.accounts_per_root) as usize];
                *sent = (sent.0 + 1, sent.1 + i128::from(draw.quantity));
            }
            self.pushed += chunk.len() as u64;
            done += chunk.len();
            at = if end == self.draws.len() { 0 } else { end };
            // The sending task shares this thread pool.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn batching(options: &Options) -> Batching {
    Batching { records_max: options.batch_records, age_max: options.age_max, ..Batching::default() }
}

/// The series of some of the shape's counters, in their order.
pub(super) fn define(batcher: &Batcher, shape: &Shape, counters: Range<u32>) -> Result<Vec<Series>> {
    let mut series = Vec::with_capacity(counters.len());
    for counter in counters {
        let (account, meter) = shape.split(counter);
        let slot = slot_of(&shape.root_name(account / shape.accounts_per_root));
        let account = AccountId::new(&shape.account_name(account))?;
        let key = SeriesKey::new(account, "bench", shape.usage_type(meter), "", "", vec![]);
        series.push(batcher.define(&key, slot, SCALE));
    }
    Ok(series)
}

fn record(series: &[Series], draw: &Draw) -> (Series, i128, Timestamp) {
    let month = CycleId { year: 2024, month: 9 }.start();
    let start = Timestamp(month.0 + i64::from(draw.second) * SECOND);
    (series[draw.counter as usize], i128::from(draw.quantity), start)
}

/// Compares every hierarchy's counters with what was sent, then sends the beginning again: all of it must be duplicate.
pub(super) async fn check(client: &Client, options: &Options, producers: &mut [Producer]) -> Result<bool> {
    let shape = &options.shape;
    let mut good = true;
    for root in 0..shape.roots {
        let mut found = (0_u64, 0_i128);
        let mut page_token = String::new();
        loop {
            let request = proto::GetUsageRequest {
                root: shape.root_name(root),
                cycle: "2024-09".to_owned(),
                page_size: 10_000,
                page_token,
                ..proto::GetUsageRequest::default()
            };
            let reply = client.usage(request).await?;
            for counter in &reply.counters {
                found.0 += counter.records;
                found.1 += parse_scaled(&counter.quantity, SCALE.into()).context("a counter is no decimal")?;
            }
            page_token = reply.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let sent = producers.iter().fold((0, 0), |sum, producer| {
            let sent = producer.sent[root as usize];
            (sum.0 + sent.0, sum.1 + sent.1)
        });
        if found != sent {
            eprintln!("{}: {found:?} counted, {sent:?} sent", shape.root_name(root));
            good = false;
        }
    }
    for producer in producers {
        let totals = producer.batcher.totals();
        if totals.accepted != producer.pushed || totals.refused + totals.late + totals.duplicate != 0 {
            eprintln!("{}: {totals:?} of {} pushed", producer.name, producer.pushed);
            good = false;
        }
        let again = Batcher::sequenced(
            client.clone(),
            producer.name.clone(),
            producer.epoch,
            batching(options),
            |_: Settled<'_>| {},
        )
        .await?;
        let series = define(&again, shape, 0..shape.counters())?;
        let count = 20_000.min(producer.pushed as usize);
        for draw in &producer.draws[..count] {
            let (series, quantity, start) = record(&series, draw);
            again.push(series, quantity, start).await?;
        }
        again.flush().await?;
        good &= again.totals().duplicate == count as u64;
    }
    Ok(good)
}

/// Runs once for each number of nodes, `repeat` times.
pub async fn run_all(options: &Options, nodes: &[u64], repeat: u32) -> Result<Vec<IngestRun>> {
    let mut runs = Vec::new();
    for count in nodes {
        for _ in 0..repeat {
            runs.push(run(&Options { nodes: *count, ..options.clone() }).await?);
        }
    }
    let lost: BTreeMap<u32, bool> = runs.iter().filter(|run| !run.counted_once).map(|run| (run.nodes, false)).collect();
    ensure!(lost.is_empty(), "a run did not count each record once, see above: nodes {:?}", lost.keys());
    Ok(runs)
}
