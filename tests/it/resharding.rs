//! Slots go from 2 shards to 12 and back to 3 over four nodes while usage of many hierarchies comes and a leader is killed:
//! not one record is lost or counted twice, bills stay as they are and are readable wherever their slots are, and
//! documents are applied in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::proto::set_layout_request::Wish;
use reckoner_client::proto::{self, SetLayoutRequest};
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::{AccountId, ProducerId, ShardId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::series::SeriesKey;
use reckoner_tests::push::{document, units};
use reckoner_tests::replicas::replicas_agree;
use serde_json::json;

const ROOTS: u64 = 40;

const PATIENCE: Duration = Duration::from_secs(120);

fn root(number: u64) -> String {
    format!("r-{}", number % ROOTS)
}

fn hierarchy(root: &str) -> proto::Document {
    let cycles = json!({ "first": "2024-08", "close": "manual" });
    document("Hierarchy", json!({ "kind": "Hierarchy", "root": root, "catalogue": "units", "cycles": cycles }))
}

async fn apply(client: &Client, job: &str, documents: Vec<proto::Document>) -> anyhow::Result<()> {
    client.apply(job, documents).await?;
    let reply = client.job(job, Duration::from_secs(30)).await?;
    ensure!(reply.state == "done", "{reply:?}");
    Ok(())
}

/// Pushes numbered records, the number choosing root and units.
struct Pusher {
    batcher: Batcher,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Pusher {
    async fn begin(client: &Client) -> anyhow::Result<Pusher> {
        let producer = ProducerId::new("meter")?;
        let epoch = client.open_producer(&producer, None, None).await?.epoch;
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = refused.clone();
        let sink = move |settled: Settled<'_>| {
            if let Verdict::Refused(refusal) = settled.verdict {
                told.lock().push(refusal.to_string());
            }
        };
        let batching = Batching { records_max: 100, give_up_after: PATIENCE, ..Batching::default() };
        Ok(Pusher { batcher: Batcher::sequenced(client.clone(), producer, epoch, batching, sink).await?, refused })
    }

    async fn push(&self, numbers: std::ops::RangeInclusive<u64>, at: &str) -> anyhow::Result<()> {
        let start: Timestamp = at.parse()?;
        for number in numbers {
            let key = SeriesKey::new(AccountId::new(&root(number))?, "units", "unit", "", "", vec![]);
            let (series, _) = self.batcher.resolve(&key, start).await?;
            ensure!(self.batcher.push(series, units(number), start).await? == number, "a number is skipped");
        }
        Ok(())
    }

    async fn flush(&self) -> anyhow::Result<()> {
        self.batcher.flush().await?;
        ensure!(self.refused.lock().is_empty(), "{:?}", self.refused.lock());
        Ok(())
    }
}

/// Records and units that each root should have, of these numbers.
fn expected(numbers: std::ops::RangeInclusive<u64>) -> BTreeMap<String, (u64, i128)> {
    let mut all: BTreeMap<String, (u64, i128)> = BTreeMap::new();
    for number in numbers {
        let own = all.entry(root(number)).or_default();
        *own = (own.0 + 1, own.1 + units(number));
    }
    all
}

async fn counted(client: &Client, cycle: &str) -> anyhow::Result<BTreeMap<String, (u64, i128)>> {
    let mut all = BTreeMap::new();
    for root in (0..ROOTS).map(root) {
        let request = proto::GetUsageRequest { root: root.clone(), cycle: cycle.into(), ..Default::default() };
        let counters = client.usage(request).await?.counters;
        let units = counters.iter().map(|counter| counter.quantity.parse::<i128>()).sum::<Result<i128, _>>()?;
        all.insert(root, (counters.iter().map(|counter| counter.records).sum(), units));
    }
    Ok(all)
}

/// The bills of a cycle: payable and hash of the body, which has to be at hand.
async fn bills(client: &Client, cycle: &str) -> anyhow::Result<BTreeMap<String, (String, Vec<u8>)>> {
    let mut all = BTreeMap::new();
    for root in (0..ROOTS).map(root) {
        let form = proto::BillForm::Canonical as i32;
        let request = proto::ShowBillsRequest { root: root.clone(), cycle: cycle.into(), form, ..Default::default() };
        let shown = client.bills(request).await?.bills.remove(0);
        ensure!(blake3::hash(&shown.body).as_bytes()[..] == shown.body_hash[..], "the body is not what was billed");
        let listed = client.list_bills(&AccountId::new(&root)?, None, Some(cycle.parse()?)).await?.bills.remove(0);
        all.insert(root, (listed.payable, shown.body_hash.to_vec()));
    }
    Ok(all)
}

fn scale(count: u32, plan: bool) -> SetLayoutRequest {
    SetLayoutRequest { wish: Some(Wish::Scale(count)), plan }
}

/// Waits until slots are evenly in so many shards.
async fn settled(client: &Client, shards: usize) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let status = client.status().await?;
        ensure!(status.halted.is_empty(), "{}", status.halted);
        let is_done = status.slots_to_move == 0 && status.slots_moving == 0 && status.shards.len() == shards;
        if is_done && status.shards.iter().all(|shard| !shard.moving) {
            let even = 4096 / shards as u32;
            assert!(status.shards.iter().all(|shard| shard.slots.abs_diff(even) <= 1), "{status:?}");
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "slots do not come to rest: {status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load() -> anyhow::Result<()> {
    let mut cluster = LocalCluster::start(LocalConfig { nodes: 4, shards: 2, ..LocalConfig::default() }).await?;
    let client = cluster.client();
    let catalogue = json!({
        "kind": "Catalogue", "name": "units", "currency": "USD", "effective": "2024-08",
        "meters": [{ "id": "unit", "service": "units", "usage_type": "unit", "scale": 0 }],
        "skus": [{ "id": "unit", "match": { "usage_type": "unit" }, "unit": "unit", "rate": "0.50" }],
    });
    let mut documents = vec![document("Catalogue", catalogue)];
    documents.extend((0..ROOTS).map(|number| hierarchy(&root(number))));
    apply(&client, "set-up", documents).await?;

    // August is billed before anything moves.
    let pusher = Arc::new(Pusher::begin(&client).await?);
    pusher.push(1..=400, "2024-08-10T00:00:00Z").await?;
    pusher.flush().await?;
    let august: CycleId = "2024-08".parse()?;
    for root in (0..ROOTS).map(root) {
        ensure!(client.close(&AccountId::new(&root)?, august).await?.state == "issued", "{root} is not billed");
    }
    let billed = bills(&client, "2024-08").await?;

    let stop = Arc::new(AtomicBool::new(false));
    let pushing = tokio::spawn({
        let (pusher, stop) = (pusher.clone(), stop.clone());
        async move {
            let mut last = 400;
            while !stop.load(Ordering::SeqCst) {
                pusher.push(last + 1..=last + 20, "2024-09-10T00:00:00Z").await?;
                last += 20;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(last)
        }
    });
    let planned = client.set_layout(scale(12, true)).await?;
    assert_eq!((planned.created.len(), planned.retired.len()), (10, 0), "{planned:?}");
    assert_eq!(planned.moves.iter().map(|own| own.last - own.first + 1).sum::<u32>(), 4096 - 2 * 342, "{planned:?}");
    assert!(planned.changes && client.set_layout(scale(12, true)).await?.changes, "a plan changes nothing");
    client.set_layout(scale(12, false)).await?;
    // A new hierarchy finds its turn between moves.
    apply(&client, "between", vec![hierarchy("late")]).await?;
    settled(&client, 12).await?;
    assert!(!client.set_layout(scale(12, true)).await?.changes, "nothing is left to move");
    assert_eq!(bills(&client, "2024-08").await?, billed);

    // Back again, and a leader dies on the way.
    client.set_layout(scale(3, false)).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let lost = cluster.wait_leader(ShardId(1), PATIENCE).await.expect("somebody leads");
    cluster.kill(lost).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.restart(lost).await?;
    settled(&client, 3).await?;

    stop.store(true, Ordering::SeqCst);
    let last = pushing.await??;
    pusher.flush().await?;
    assert_eq!(counted(&client, "2024-09").await?, expected(401..=last), "every record once");
    assert_eq!(bills(&client, "2024-08").await?, billed);
    for root in (0..ROOTS).map(root) {
        ensure!(client.close(&AccountId::new(&root)?, "2024-09".parse()?).await?.state == "issued", "{root}");
    }
    let september = bills(&client, "2024-09").await?;
    for (root, (_, units)) in expected(401..=last) {
        let payable = format!("{}{}", units / 2, if units % 2 == 1 { ".5" } else { "" });
        assert_eq!(september[&root].0, payable, "{root} used {units} units");
    }
    for shard in client.status().await?.shards {
        replicas_agree(&cluster, ShardId(shard.id), 3).await?;
    }
    cluster.stop().await;
    Ok(())
}
