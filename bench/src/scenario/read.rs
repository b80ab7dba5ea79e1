//! Claim: how long an estimate takes that is exact at the moment of asking, for hierarchies of different size under a
//! contract of 20 clauses; from the call in the client to the bill's canonical bytes in its hands. Nothing is cached: each
//! call asks a majority, folds all counters and sends the whole bill.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto::BillForm;
use reckoner_client::wire::bills::body_of;
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::placement::slot_of;
use reckoner_shard::usage::series::SeriesKey;

use super::ingest::apply;
use crate::process;
use crate::report::{self, ReadRun};
use crate::server::Server;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: u64,
    /// Accounts of each hierarchy that is asked for, linked ones.
    pub accounts: Vec<u32>,
    /// Seconds of asking for each, and at least `ESTIMATES_MIN` estimates.
    pub seconds: f64,
}

/// Meters of each account; each has a SKU, every second one on a ladder of the family.
const METERS: u32 = 4;
/// Clauses of the contract.
const CLAUSES: u32 = 20;
/// Fewer say nothing of the 99th percentile, but a large bill is slow.
const ESTIMATES_MIN: u64 = 20;
/// Estimates before the clock starts.
const WARM_UP: u32 = 3;
/// Shards of the cluster: one hierarchy is in one of them, however many there are.
const SHARDS: u32 = 4;

/// Runs all sizes on one cluster.
pub async fn run(options: &Options) -> Result<Vec<ReadRun>> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(options.nodes, SHARDS, folder.path())?;
    let result = measure_all(options, &server).await;
    server.stop()?;
    result
}

async fn measure_all(options: &Options, server: &Server) -> Result<Vec<ReadRun>> {
    let config = ClientConfig { deadline: Duration::from_secs(120), ..ClientConfig::default() };
    let client = Client::connect(&server.endpoints, config).await?;
    apply(&client, "read-catalogue", catalogue()).await?;
    let mut runs = Vec::new();
    for accounts in &options.accounts {
        apply(&client, &format!("read-{accounts}"), documents(*accounts)).await?;
        push(&client, *accounts).await?;
        runs.push(measure(options, server, &client, *accounts).await?);
    }
    Ok(runs)
}

async fn measure(options: &Options, server: &Server, client: &Client, accounts: u32) -> Result<ReadRun> {
    let (body, bytes) = estimate(client, accounts).await?;
    let series = (accounts * METERS) as usize;
    ensure!(body.items.len() == series, "the bill has {} items of {series} series", body.items.len());
    for _ in 1..WARM_UP {
        estimate(client, accounts).await?;
    }
    let root = AccountId::new(&root_name(accounts))?;
    let mut latencies = Histogram::<u64>::new(3)?;
    let cpu = |pid| process::cpu_seconds(pid).unwrap_or(0.0);
    let (own, server_pid) = (std::process::id(), server.pid());
    let (server_before, own_before, machine_before) = (cpu(server_pid), cpu(own), process::machine_seconds());
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < options.seconds || latencies.len() < ESTIMATES_MIN {
        let asked = Instant::now();
        client.estimate(&root, None, Some(cycle()), BillForm::Canonical).await?;
        latencies.record(asked.elapsed().as_micros() as u64)?;
    }
    let server_cpu = cpu(server_pid) - server_before;
    let used = server_cpu + cpu(own) - own_before;
    let foreign_cpu_share = match (machine_before, process::machine_seconds()) {
        (Some((busy_before, total_before)), Some((busy, total))) if total > total_before => {
            ((busy - busy_before - used) / (total - total_before)).max(0.0)
        }
        _ => 0.0,
    };
    let milliseconds = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(ReadRun {
        scenario: "read".to_owned(),
        nodes: options.nodes as u32,
        accounts,
        clauses: CLAUSES,
        lines: body.lines.len() as u32,
        body_bytes: bytes as u64,
        estimates: latencies.len(),
        p50_ms: milliseconds(0.5),
        p99_ms: milliseconds(0.99),
        max_ms: latencies.max() as f64 / 1e3,
        server_cpu_ms_per_estimate: server_cpu * 1e3 / latencies.len() as f64,
        foreign_cpu_share,
        machine: process::machine(),
        commit: report::commit(),
    })
}

/// The one bill of a hierarchy, and the length of its canonical body.
async fn estimate(client: &Client, accounts: u32) -> Result<(BillBody, usize)> {
    let root = AccountId::new(&root_name(accounts))?;
    let reply = client.estimate(&root, None, Some(cycle()), BillForm::Canonical).await?;
    let bill = reply.bills.first().context("an estimate has a bill")?;
    Ok((body_of(bill)?, bill.body.len()))
}

fn cycle() -> CycleId {
    CycleId { year: 2024, month: 9 }
}

fn root_name(accounts: u32) -> String {
    format!("read-{accounts}")
}

fn account_name(accounts: u32, account: u32) -> String {
    format!("read-{accounts}-{account:05}")
}

fn catalogue() -> String {
    let mut text = String::from("kind: Catalogue\nname: read\ncurrency: USD\neffective: 2024-09\nmeters:\n");
    for meter in 0..METERS {
        let _ =
            writeln!(text, "  - {{id: m{meter}, service: service-{}, usage_type: units-{meter}, scale: 3}}", meter / 2);
    }
    text.push_str("skus:\n");
    for meter in 0..METERS {
        let _ = writeln!(
            text,
            "  - {{id: s{meter}, match: {{usage_type: units-{meter}}}, unit: unit, price: p{}}}",
            meter % 2
        );
    }
    text.push_str(
        "prices:\n  - {id: p0, model: per_unit, rate: \"0.0023\"}\n  - id: p1\n    model: graduated\n    tiers:\n      \
         - {up_to: \"10000\", rate: \"0.09\"}\n      - {up_to: \"50000\", rate: \"0.085\"}\n      - {rate: \"0.05\"}\n",
    );
    text
}

/// A hierarchy and its contract: a private rate, percentages by attribute and service that each take a part, and one over
/// everything.
fn documents(accounts: u32) -> String {
    let root = root_name(accounts);
    let mut text = format!("kind: Hierarchy\nroot: {root}\ncatalogue: read\naccounts:\n");
    for account in 0..accounts {
        let _ = writeln!(text, "  - {{id: {}}}", account_name(accounts, account));
    }
    let _ = write!(
        text,
        "cycles: {{first: 2024-09, close: manual}}\n---\nkind: Contract\nroot: {root}\neffective: 2024-09\nclauses:\n"
    );
    let _ = writeln!(text, "  - {{id: c0, mechanism: private_rate, scope: {{sku: s1}}, rate: \"0.08\"}}");
    for clause in 1..CLAUSES - 1 {
        // Every clause looks at all lines and takes those of a tenth of the accounts, by the last digit.
        let (kind, scope) = if clause % 2 == 0 {
            ("service", format!("service: service-{}", clause / 2 % 2))
        } else {
            ("attribute", format!("usage_type: units-{}", clause % METERS))
        };
        let _ = writeln!(
            text,
            "  - {{id: c{clause}, mechanism: percent, kind: {kind}, percent: \"1.5\", scope: {{{scope}, account: \"*{}\"}}}}",
            clause % 10
        );
    }
    let last = CLAUSES - 1;
    let _ = writeln!(text, "  - {{id: c{last}, mechanism: percent, kind: cross_service, percent: \"9\"}}");
    text
}

/// One record for each meter of each account.
async fn push(client: &Client, accounts: u32) -> Result<()> {
    let name = ProducerId::new(&root_name(accounts))?;
    let epoch = client.open_producer(&name, None, None).await?.epoch;
    let batcher = Batcher::sequenced(client.clone(), name, epoch, Batching::default(), |_: Settled<'_>| {}).await?;
    let slot = slot_of(&root_name(accounts));
    for account in 0..accounts {
        let id = AccountId::new(&account_name(accounts, account))?;
        for meter in 0..METERS {
            let (service, usage_type) = (format!("service-{}", meter / 2), format!("units-{meter}"));
            let key = SeriesKey::new(id.clone(), service, usage_type, "", "", vec![]);
            // Quantities with a fraction, so that every share has digits to divide.
            let quantity = i128::from(account % 997 + 1) * 1_237 + i128::from(meter);
            batcher.push(batcher.define(&key, slot, 3), quantity, cycle().start()).await?;
        }
    }
    batcher.flush().await?;
    let totals = batcher.totals();
    let records = u64::from(accounts * METERS);
    ensure!(totals.accepted == records, "{totals:?} of {records} records");
    Ok(())
}
