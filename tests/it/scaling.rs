//! A cluster grows from one node to three, loses its founder for good, gets another node in its place, and gives a node
//! back, while usage comes: not one record is lost or counted twice, and no call fails that a retry does not heal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reckoner_client::client::Client;
use reckoner_client::proto::SetNodeRequest;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::ShardId;
use reckoner_tests::push::{Producer, counted, set_up, units_through};
use reckoner_tests::replicas::replicas_agree;

const SHARDS: u32 = 4;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_under_load() -> anyhow::Result<()> {
    let mut cluster = LocalCluster::start(LocalConfig { nodes: 1, shards: SHARDS, ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let producer = Arc::new(Producer::begin(&client).await?);
    let stop = Arc::new(Mutex::new(false));
    let pushing = tokio::spawn({
        let (producer, stop) = (producer.clone(), stop.clone());
        async move { producer.push_until(&stop).await }
    });
    producer.progress(200).await?;

    assert_eq!(cluster.join().await?, 2);
    assert_eq!(cluster.join().await?, 3);
    settled(&client, &[1, 2, 3]).await?;
    producer.progress(200).await?;
    let told = producer.heard.lock().units();
    let (_, sum) = counted(&client).await?;
    assert!(sum >= told, "{told} were acknowledged while replicas came, {sum} are counted");

    // The founder is lost with its disk, and another node comes in its place.
    cluster.kill(1).await;
    producer.progress(200).await?;
    let too_early = client.set_node(wish("2", "removed", "")).await;
    assert!(too_early.is_err(), "a node that holds replicas is not struck off: {too_early:?}");
    assert_eq!(cluster.join().await?, 4);
    let planned = client.set_node(SetNodeRequest { plan: true, ..wish("1", "removed", "4") }).await?;
    assert!(planned.changes && planned.moves.len() == SHARDS as usize, "{planned:?}");
    assert!(planned.moves.iter().all(|planned| !planned.to.contains(&1) && planned.to.contains(&4)), "{planned:?}");
    client.set_node(wish("1", "removed", "4")).await?;
    settled(&client, &[2, 3, 4]).await?;
    producer.progress(200).await?;

    // A node is given back.
    client.set_node(wish("2", "draining", "")).await?;
    settled(&client, &[3, 4]).await?;
    producer.progress(200).await?;
    client.set_node(wish("2", "removed", "")).await?;
    cluster.stop_node(2).await;
    producer.progress(200).await?;

    *stop.lock() = true;
    let last = pushing.await??;
    producer.flush().await?;
    assert_eq!(counted(&client).await?, (last, units_through(last)), "every record once");
    for shard in 1..=SHARDS {
        replicas_agree(&cluster, ShardId(shard), 2).await?;
    }
    let balanced = client.balance_leaders(false).await?;
    assert!(balanced.risks.is_empty(), "{balanced:?}");
    assert!(!client.balance_leaders(true).await?.changes, "nothing is left to balance");
    cluster.stop().await;
    Ok(())
}

fn wish(name: &str, state: &str, replacement: &str) -> SetNodeRequest {
    SetNodeRequest { name: name.to_owned(), state: state.to_owned(), replacement: replacement.to_owned(), plan: false }
}

/// Waits until every shard has its replicas on exactly these nodes.
async fn settled(client: &Client, nodes: &[u64]) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let status = client.status().await?;
        let there = |shard: &reckoner_client::proto::ShardStatus| {
            let mut wanted = shard.wanted.clone();
            wanted.sort_unstable();
            !shard.moving && wanted == nodes && shard.replicas.len() == nodes.len()
        };
        if status.shards.len() == SHARDS as usize && status.shards.iter().all(there) {
            return Ok(());
        }
        anyhow::ensure!(begin.elapsed() < PATIENCE, "replicas are not on {nodes:?}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
