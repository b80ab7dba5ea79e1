//! Usage for stories with real clusters: one hierarchy, one meter, numbered records whose sum anybody can add up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use reckoner_client::batch::batcher::Batcher;
use reckoner_client::batch::gather::Batching;
use reckoner_client::batch::records::Settled;
use reckoner_client::client::Client;
use reckoner_client::proto;
use reckoner_node::clock::ManualClock;
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::usage::series::SeriesKey;
use serde_json::json;

/// The hierarchy's root, and its only account.
pub const ROOT: &str = "acme";

/// The cycle that all usage falls into.
pub const CYCLE: &str = "2024-09";

/// When all usage was.
const START: &str = "2024-09-10T00:00:00Z";

/// Without any answer for so long, a push fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A document as it is applied.
pub fn document(kind: &str, json: serde_json::Value) -> proto::Document {
    proto::Document { kind: kind.to_owned(), json: json.to_string().into(), source: String::new() }
}

/// Sets all clocks at once, and waits until nodes have asked each other what theirs say: they do every second.
pub async fn set_clocks(clock: &ManualClock, at: &str) -> anyhow::Result<()> {
    clock.set(at.parse()?);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    Ok(())
}

/// Applies a catalogue with one meter at 0.50 a unit and a hierarchy of one account, whose cycles are closed by hand.
pub async fn set_up(client: &Client) -> anyhow::Result<()> {
    set_up_closed(client, "manual").await
}

/// The same with cycles that are closed as `close` says, and without grace.
pub async fn set_up_closed(client: &Client, close: &str) -> anyhow::Result<()> {
    let catalogue = json!({
        "kind": "Catalogue", "name": "units", "currency": "USD", "effective": CYCLE,
        "meters": [{ "id": "unit", "service": "units", "usage_type": "unit", "scale": 0 }],
        "skus": [{ "id": "unit", "match": { "usage_type": "unit" }, "unit": "unit", "rate": "0.50" }],
    });
    let hierarchy = json!({
        "kind": "Hierarchy", "root": ROOT, "catalogue": "units",
        "cycles": { "first": CYCLE, "close": close, "grace": "0h" },
    });
    client.apply("set-up", vec![document("Catalogue", catalogue), document("Hierarchy", hierarchy)]).await?;
    let job = client.job("set-up", Duration::from_secs(30)).await?;
    ensure!(job.state == "done", "{job:?}");
    Ok(())
}

/// Units of the record with this number.
pub fn units(number: u64) -> i128 {
    i128::from(number % 97 + 1)
}

/// Units of all records up to this number.
pub fn units_through(number: u64) -> i128 {
    (1..=number).map(units).sum()
}

/// What is counted: records and their units.
pub async fn counted(client: &Client) -> anyhow::Result<(u64, i128)> {
    let request = proto::GetUsageRequest { root: ROOT.into(), cycle: CYCLE.into(), ..Default::default() };
    let reply = client.usage(request).await?;
    let mut sum = 0;
    for counter in &reply.counters {
        sum += counter.quantity.parse::<i128>().context("the meter has scale 0")?;
    }
    Ok((reply.counters.iter().map(|counter| counter.records).sum(), sum))
}

/// What a producer was told.
#[derive(Debug, Default)]
pub struct Heard {
    /// Numbers with a verdict.
    pub settled: BTreeSet<u64>,
    /// How many of them had been counted before.
    pub duplicates: u64,
    /// How many were counted after their cycle was cut.
    pub late: u64,
    /// Refusals; there should be none.
    pub refused: Vec<String>,
}

impl Heard {
    /// Units that were acknowledged.
    pub fn units(&self) -> i128 {
        self.settled.iter().map(|number| units(*number)).sum()
    }
}

/// A producer in a new epoch, as after the start of its process.
pub struct Producer {
    batcher: Batcher,
    /// What it was told.
    pub heard: Arc<Mutex<Heard>>,
}

impl Producer {
    /// Opens an epoch.
    pub async fn begin(client: &Client) -> anyhow::Result<Producer> {
        let producer = ProducerId::new("meter")?;
        let epoch = client.open_producer(&producer, None, None).await?.epoch;
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let told = heard.clone();
        let sink = move |settled: Settled<'_>| {
            let mut heard = told.lock();
            match settled.verdict {
                Verdict::Accepted { late } => heard.late += if *late { settled.count() } else { 0 },
                Verdict::Duplicate => heard.duplicates += settled.count(),
                Verdict::Refused(refusal) => heard.refused.push(refusal.to_string()),
            }
            heard.settled.extend(settled.numbers());
        };
        let batching = Batching { records_max: 50, give_up_after: PATIENCE, ..Batching::default() };
        let batcher = Batcher::sequenced(client.clone(), producer, epoch, batching, sink).await?;
        Ok(Producer { batcher, heard })
    }

    /// Hands records over; numbers go on from the last one.
    pub async fn push(&self, numbers: std::ops::RangeInclusive<u64>) -> anyhow::Result<()> {
        let key = SeriesKey::new(AccountId::new(ROOT)?, "units", "unit", "", "", vec![]);
        let start: Timestamp = START.parse()?;
        let (series, _) = self.batcher.resolve(&key, start).await?;
        for number in numbers {
            let given = self.batcher.push(series, units(number), start).await?;
            ensure!(given == number, "record {number} got number {given}");
        }
        Ok(())
    }

    /// Hands records over, 25 at a time, until `stop` is set; the last number.
    pub async fn push_until(&self, stop: &Mutex<bool>) -> anyhow::Result<u64> {
        let mut number = 0;
        while !*stop.lock() {
            self.push(number + 1..=number + 25).await?;
            number += 25;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        Ok(number)
    }

    /// Waits for every verdict.
    pub async fn flush(&self) -> anyhow::Result<()> {
        self.batcher.flush().await?;
        let refused = self.heard.lock().refused.clone();
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }

    /// Where the latest acknowledgements are in the logs, one a shard.
    pub fn positions(&self) -> Vec<proto::Position> {
        self.batcher.positions()
    }

    /// Waits until `more` records have a verdict beyond those that have one now.
    pub async fn progress(&self, more: usize) -> anyhow::Result<()> {
        let wanted = self.heard.lock().settled.len() + more;
        let begin = tokio::time::Instant::now();
        while self.heard.lock().settled.len() < wanted {
            ensure!(begin.elapsed() < PATIENCE, "nothing is acknowledged any more");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}
