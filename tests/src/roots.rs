//! Usage of many hierarchies for stories with real clusters: numbered records, each number choosing its root and its units, so
//! that anybody can say what each root should have. One hierarchy alone is in [`crate::push`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::proto;
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::series::SeriesKey;
use serde_json::json;

use crate::push::{document, units};

/// How many hierarchies there are.
pub const ROOTS: u64 = 40;

/// Without any answer for so long, a push fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// All roots.
pub fn roots() -> impl Iterator<Item = String> {
    (0..ROOTS).map(root)
}

/// The root of a record.
pub fn root(number: u64) -> String {
    format!("r-{}", number % ROOTS)
}

/// A hierarchy of one account, whose cycles begin in August 2024 and close by hand.
pub fn hierarchy(root: &str) -> proto::Document {
    let cycles = json!({ "first": "2024-08", "close": "manual" });
    document("Hierarchy", json!({ "kind": "Hierarchy", "root": root, "catalogue": "units", "cycles": cycles }))
}

/// Applies documents and waits for it.
pub async fn apply(client: &Client, job: &str, documents: Vec<proto::Document>) -> anyhow::Result<()> {
    client.apply(job, documents).await?;
    let reply = client.job(job, Duration::from_secs(30)).await?;
    ensure!(reply.state == "done", "{reply:?}");
    Ok(())
}

/// A catalogue with one meter at 0.50 a unit, and all hierarchies.
pub async fn set_up(client: &Client) -> anyhow::Result<()> {
    let catalogue = json!({
        "kind": "Catalogue", "name": "units", "currency": "USD", "effective": "2024-08",
        "meters": [{ "id": "unit", "service": "units", "usage_type": "unit", "scale": 0 }],
        "skus": [{ "id": "unit", "match": { "usage_type": "unit" }, "unit": "unit", "rate": "0.50" }],
    });
    let mut documents = vec![document("Catalogue", catalogue)];
    documents.extend(roots().map(|root| hierarchy(&root)));
    apply(client, "set-up", documents).await
}

/// What a pusher was told.
#[derive(Debug, Default)]
pub struct Told {
    /// Records that were counted now.
    pub accepted: u64,
    /// Records that had been counted before.
    pub duplicates: u64,
    /// Refusals; there should be none.
    pub refused: Vec<String>,
}

/// Pushes numbered records, the number choosing root and units.
pub struct Pusher {
    batcher: Batcher,
    /// What it was told.
    pub told: Arc<Mutex<Told>>,
}

impl Pusher {
    /// Opens a new epoch of the one producer: numbers begin at 1 again.
    pub async fn begin(client: &Client) -> anyhow::Result<Pusher> {
        let producer = ProducerId::new("meter")?;
        let epoch = client.open_producer(&producer, None, None).await?.epoch;
        let told: Arc<Mutex<Told>> = Arc::default();
        let hears = told.clone();
        let sink = move |settled: Settled<'_>| {
            let mut told = hears.lock();
            match settled.verdict {
                Verdict::Accepted { .. } => told.accepted += settled.count(),
                Verdict::Duplicate => told.duplicates += settled.count(),
                Verdict::Refused(refusal) => told.refused.push(refusal.to_string()),
            }
        };
        let batching = Batching { records_max: 100, give_up_after: PATIENCE, ..Batching::default() };
        Ok(Pusher { batcher: Batcher::sequenced(client.clone(), producer, epoch, batching, sink).await?, told })
    }

    /// Hands records over; numbers go on from the last one.
    pub async fn push(&self, numbers: RangeInclusive<u64>, at: &str) -> anyhow::Result<()> {
        let start: Timestamp = at.parse()?;
        for number in numbers {
            let key = SeriesKey::new(AccountId::new(&root(number))?, "units", "unit", "", "", vec![]);
            let (series, _) = self.batcher.resolve(&key, start).await?;
            ensure!(self.batcher.push(series, units(number), start).await? == number, "a number is skipped");
        }
        Ok(())
    }

    /// Waits for every verdict.
    pub async fn flush(&self) -> anyhow::Result<()> {
        self.batcher.flush().await?;
        ensure!(self.told.lock().refused.is_empty(), "{:?}", self.told.lock().refused);
        Ok(())
    }
}

/// Records and units that each root should have, of these numbers.
pub fn expected(numbers: RangeInclusive<u64>) -> BTreeMap<String, (u64, i128)> {
    let mut all: BTreeMap<String, (u64, i128)> = BTreeMap::new();
    for number in numbers {
        let own = all.entry(root(number)).or_default();
        *own = (own.0 + 1, own.1 + units(number));
    }
    all
}

/// Records and units that each root has.
pub async fn counted(client: &Client, cycle: &str) -> anyhow::Result<BTreeMap<String, (u64, i128)>> {
    let mut all = BTreeMap::new();
    for root in roots() {
        let request = proto::GetUsageRequest { root: root.clone(), cycle: cycle.into(), ..Default::default() };
        let counters = client.usage(request).await?.counters;
        let units = counters.iter().map(|counter| counter.quantity.parse::<i128>()).sum::<Result<i128, _>>()?;
        all.insert(root, (counters.iter().map(|counter| counter.records).sum(), units));
    }
    Ok(all)
}

/// Closes a cycle of every root.
pub async fn close(client: &Client, cycle: &str) -> anyhow::Result<()> {
    for root in roots() {
        let closed = client.close(&AccountId::new(&root)?, cycle.parse()?).await?;
        ensure!(closed.state == "issued", "{root}: {closed:?}");
    }
    Ok(())
}

/// A root's bill of a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billed {
    pub number: String,
    pub payable: String,
    pub body_hash: Vec<u8>,
    pub body: Vec<u8>,
}

/// The bills of a cycle; their bodies have to be at hand.
pub async fn bills(client: &Client, cycle: &str) -> anyhow::Result<BTreeMap<String, Billed>> {
    let mut all = BTreeMap::new();
    for root in roots() {
        let form = proto::BillForm::Canonical as i32;
        let request = proto::ShowBillsRequest { root: root.clone(), cycle: cycle.into(), form, ..Default::default() };
        let shown = client.bills(request).await?.bills.remove(0);
        ensure!(blake3::hash(&shown.body).as_bytes()[..] == shown.body_hash[..], "the body is not what was billed");
        let listed = client.list_bills(&AccountId::new(&root)?, None, Some(cycle.parse()?)).await?.bills.remove(0);
        let (number, payable) = (listed.number, listed.payable);
        all.insert(root, Billed { number, payable, body_hash: shown.body_hash.to_vec(), body: shown.body.to_vec() });
    }
    Ok(all)
}

/// The estimates of a cycle, body by body.
pub async fn estimates(client: &Client, cycle: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for root in roots() {
        let form = proto::BillForm::Canonical;
        let mut reply = client.estimate(&AccountId::new(&root)?, None, Some(cycle.parse()?), form).await?;
        all.insert(root, reply.bills.remove(0).body.to_vec());
    }
    Ok(all)
}
