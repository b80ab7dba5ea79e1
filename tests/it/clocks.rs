//! Clocks that are wrong: a leader's own moves no stamp and cuts no cycle, and health names it; with two of three wrong in
//! different directions closing waits and says why, until they are set.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reckoner_client::client::Client;
use reckoner_client::proto;
use reckoner_node::clock::ManualClock;
use reckoner_node::config::Config;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::cycle::Status;
use reckoner_tests::push::{CYCLE, Producer, ROOT, document};
use serde_json::json;

const SHARD: ShardId = ShardId(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// A few rounds of nodes that ask each other for their clocks, and of leaders that look what is due.
const ROUNDS: Duration = Duration::from_secs(4);

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// A hierarchy that closes by itself when its cycle is over.
async fn set_up(client: &Client) -> anyhow::Result<()> {
    let catalogue = json!({
        "kind": "Catalogue", "name": "units", "currency": "USD", "effective": CYCLE,
        "meters": [{ "id": "unit", "service": "units", "usage_type": "unit", "scale": 0 }],
        "skus": [{ "id": "unit", "match": { "usage_type": "unit" }, "unit": "unit", "rate": "0.50" }],
    });
    let hierarchy = json!({
        "kind": "Hierarchy", "root": ROOT, "catalogue": "units",
        "cycles": { "first": CYCLE, "close": "automatic", "grace": "0h" },
    });
    client.apply("set-up", vec![document("Catalogue", catalogue), document("Hierarchy", hierarchy)]).await?;
    let job = client.job("set-up", Duration::from_secs(30)).await?;
    ensure!(job.state == "done", "{job:?}");
    Ok(())
}

/// The shard's time, and where the cycle stands, by the replica that is furthest.
async fn seen(cluster: &LocalCluster) -> anyhow::Result<(Timestamp, Status)> {
    let (root, cycle): (AccountId, CycleId) = (AccountId::new(ROOT)?, CYCLE.parse()?);
    let mut seen = None;
    for node in cluster.running() {
        let read = node.context().shards.get(SHARD).context("a replica")?.view(None).await?;
        seen = seen.max(Some((read.position, read.view.stamp, read.view.cycle_status(&root, cycle)?)));
    }
    let (_, stamp, status) = seen.context("a node")?;
    Ok((stamp, status))
}

async fn reasons(client: &Client, what: &str, is_it: impl Fn(&proto::StatusReply) -> bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let status = client.status().await?;
        if is_it(&status) {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{what}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_cuts_nothing_and_is_named() -> anyhow::Result<()> {
    let clocks: Vec<Arc<ManualClock>> = (0..3).map(|_| Arc::new(ManualClock::at(at("2024-09-30T12:00:00Z")))).collect();
    let given = clocks.clone();
    let config = LocalConfig {
        nodes: 3,
        shards: 1,
        settings: Config { cycle_interval_ms: 100, ..Config::default() },
        seams: Some(Arc::new(move |node, mut seams| {
            seams.clock = given[node as usize - 1].clone();
            seams
        })),
        ..LocalConfig::default()
    };
    let cluster = LocalCluster::start(config).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let producer = Producer::begin(&client).await?;
    producer.push(1..=100).await?;
    producer.flush().await?;
    reasons(&client, "clocks are equal", |status| status.health == "healthy").await?;

    // The leader's clock is a day ahead, behind the cycle's end.
    let leader = cluster.wait_leader(SHARD, PATIENCE).await.context("a leader")?;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let set = |node: u64, to: &str| clocks[node as usize - 1].set(at(to));
    set(leader, "2024-10-01T12:00:00Z");
    producer.push(101..=200).await?;
    producer.flush().await?;
    tokio::time::sleep(ROUNDS).await;
    producer.push(201..=300).await?;
    producer.flush().await?;
    let (stamp, status) = seen(&cluster).await?;
    assert!(stamp < at("2024-09-30T12:01:00Z"), "stamps stay: {stamp}");
    assert_eq!(status, Status::Open);
    let named = format!("the clock of node {leader} is 86");
    reasons(&client, "the clock is named", |status| {
        status.health == "degraded" && status.reasons.iter().any(|why| why.contains(&named))
    })
    .await?;
    let doubt = |status: &proto::StatusReply| status.reasons.iter().any(|why| why.contains("no majority of clocks"));
    assert!(!doubt(&client.status().await?), "two of three agree");

    // A second one is wrong the other way, and by the only right one the cycle is over: nobody can know that.
    set(others[0], "2024-09-29T12:00:00Z");
    set(others[1], "2024-10-01T00:10:00Z");
    reasons(&client, "closing waits", doubt).await?;
    tokio::time::sleep(ROUNDS).await;
    assert_eq!(seen(&cluster).await?.1, Status::Open, "no cycle is cut in doubt");

    // Two agree again: the cycle closes by itself.
    set(others[0], "2024-10-01T00:10:01Z");
    let begin = Instant::now();
    while seen(&cluster).await?.1 != Status::Archived {
        ensure!(begin.elapsed() < PATIENCE, "the cycle does not close: {:?}", seen(&cluster).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    set(leader, "2024-10-01T00:10:00Z");
    reasons(&client, "healthy again", |status| status.health == "healthy").await?;
    cluster.stop().await;
    Ok(())
}
