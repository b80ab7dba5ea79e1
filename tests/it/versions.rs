//! A newer version of the shards' machine: it begins once every replica supports it and not before, and a program that does
//! not know it stops its replica with a word, while the others go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use reckoner_node::config::Config;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::ShardId;
use reckoner_shard::machine::state::MACHINE_VERSION;
use reckoner_tests::push::{Producer, counted, set_up, units_through};
use reckoner_tests::replicas::replicas_agree;

const SHARD: ShardId = ShardId(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// What a newer program would have.
const NEWER: u32 = MACHINE_VERSION + 1;

async fn machine(cluster: &LocalCluster, node: u64) -> anyhow::Result<u32> {
    let node = cluster.node(node).context("it runs")?;
    Ok(node.context().shards.get(SHARD).context("it has a replica")?.view(None).await?.view.machine)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_begins_when_all_support_it() -> anyhow::Result<()> {
    // Two nodes run a newer program already.
    let programs: Arc<Mutex<BTreeMap<u64, u32>>> =
        Arc::new(Mutex::new(BTreeMap::from([(1, NEWER), (2, NEWER), (3, MACHINE_VERSION)])));
    let given = programs.clone();
    let config = LocalConfig {
        nodes: 3,
        shards: 1,
        settings: Config { cycle_interval_ms: 100, ..Config::default() },
        seams: Some(Arc::new(move |node, mut seams| {
            seams.machine = given.lock().get(&node).copied().unwrap_or(MACHINE_VERSION);
            seams
        })),
        ..LocalConfig::default()
    };
    let mut cluster = LocalCluster::start(config).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let producer = Producer::begin(&client).await?;
    producer.push(1..=50).await?;
    producer.flush().await?;
    // Longer than the members are asked.
    tokio::time::sleep(Duration::from_secs(7)).await;
    for node in 1..=3 {
        assert_eq!(machine(&cluster, node).await?, MACHINE_VERSION, "node {node}");
    }

    cluster.stop_node(3).await;
    programs.lock().insert(3, NEWER);
    cluster.restart(3).await?;
    cluster.ready(PATIENCE).await?;
    let begin = Instant::now();
    for node in 1..=3 {
        while machine(&cluster, node).await? != NEWER {
            ensure!(begin.elapsed() < PATIENCE, "node {node} stays with the old version");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    replicas_agree(&cluster, SHARD, 3).await?;

    // An older program comes back: it must not guess.
    cluster.stop_node(3).await;
    programs.lock().insert(3, MACHINE_VERSION);
    cluster.restart(3).await?;
    let begin = Instant::now();
    let told = loop {
        let node = cluster.node(3).context("it runs")?;
        if let Some(why) = node.context().shards.why_not(SHARD) {
            break why;
        }
        ensure!(begin.elapsed() < PATIENCE, "its replica is open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(told.contains("version 2 of the machine, this program knows up to 1"), "{told}");
    producer.push(51..=100).await?;
    producer.flush().await?;
    assert_eq!(counted(&client).await?, (100, units_through(100)));
    cluster.stop().await;
    Ok(())
}
