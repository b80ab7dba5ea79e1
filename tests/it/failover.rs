//! Leaders go, one after the other, while usage comes: killed without a word, then handed over in order. The next leader
//! takes over, every record counts once, and the node that comes back has the same state as the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::placement::{ShardMap, slot_of};
use reckoner_tests::push::{Producer, ROOT, counted, set_up, units_through};
use reckoner_tests::replicas::replicas_agree;

const SHARDS: u16 = 2;

/// A few elections and the client's waits between attempts, on a machine with other work.
const GAP_MAX: Duration = Duration::from_secs(20);

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_goes_on_and_counts_once() -> anyhow::Result<()> {
    let mut cluster =
        LocalCluster::start(LocalConfig { nodes: 3, shards: SHARDS.into(), ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let shard = ShardMap::even(SHARDS).shard_of(slot_of(ROOT));
    let producer = Arc::new(Producer::begin(&client).await?);
    let stop = Arc::new(Mutex::new(false));
    let pushing = tokio::spawn({
        let (producer, stop) = (producer.clone(), stop.clone());
        async move { producer.push_until(&stop).await }
    });
    for kill in [true, false, true] {
        producer.progress(100).await?;
        let leader = cluster.wait_leader(shard, PATIENCE).await.expect("somebody leads");
        let told = producer.heard.lock().units();
        let begin = Instant::now();
        if kill {
            cluster.kill(leader).await
        } else {
            cluster.stop_node(leader).await
        }
        producer.progress(100).await?;
        let gap = begin.elapsed();
        assert!(gap < GAP_MAX, "no record was acknowledged for {gap:?} after node {leader} went");
        let next = cluster.wait_leader(shard, PATIENCE).await;
        assert!(next.is_some_and(|next| next != leader), "{next:?} leads after node {leader} went");
        let (_, sum) = counted(&client).await?;
        assert!(sum >= told, "{told} were acknowledged by node {leader}, {sum} are counted after it went");
        cluster.restart(leader).await?;
        cluster.ready(PATIENCE).await?;
    }
    *stop.lock() = true;
    let last = pushing.await??;
    producer.flush().await?;
    assert_eq!(counted(&client).await?, (last, units_through(last)), "every record once");
    replicas_agree(&cluster, shard, 3).await?;
    cluster.stop().await;
    Ok(())
}
