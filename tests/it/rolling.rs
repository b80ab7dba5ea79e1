//! Every node is stopped in order and started again, one after the other, while usage comes and is read: clients with their usual
//! patience see no error, nothing is lost or doubled, and acknowledgements never pause for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reckoner_client::client::Client;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_tests::replicas::replicas_agree;
use reckoner_tests::roots::{Pusher, counted, expected, root, set_up};

const PATIENCE: Duration = Duration::from_secs(60);

/// The longest pause between two acknowledgements, a few elections on a machine with other work. In order, leaders are handed
/// over, and it is a fraction of that.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Usage goes on for so long between two stops.
const BETWEEN: Duration = Duration::from_millis(500);

/// Reads one root after the other; the longest time that a read took, and how many there were.
async fn read(client: &Client, stop: &AtomicBool) -> anyhow::Result<(Duration, u64)> {
    let (mut longest, mut reads) = (Duration::ZERO, 0);
    while !stop.load(Ordering::SeqCst) {
        let root = AccountId::new(&root(reads))?;
        let begin = Instant::now();
        let form = reckoner_client::proto::BillForm::Canonical;
        client.estimate(&root, None, Some("2024-09".parse()?), form).await.context("a read failed")?;
        longest = longest.max(begin.elapsed());
        reads += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok((longest, reads))
}

/// The longest time in which nothing was acknowledged.
async fn longest_pause(pusher: &Pusher, stop: &AtomicBool) -> Duration {
    let (mut last, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::SeqCst) {
        let accepted = pusher.told.lock().accepted;
        if accepted != last {
            (last, since) = (accepted, Instant::now());
        }
        longest = longest.max(since.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_restart_in_turn_and_no_call_fails() -> anyhow::Result<()> {
    let mut cluster = LocalCluster::start(LocalConfig { nodes: 3, shards: 3, ..LocalConfig::default() }).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let pusher = Arc::new(Pusher::begin(&client).await?);
    pusher.push(1..=200, "2024-09-10T00:00:00Z").await?;
    pusher.flush().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let pushing = tokio::spawn({
        let (pusher, stop) = (pusher.clone(), stop.clone());
        async move {
            let mut last = 200;
            while !stop.load(Ordering::SeqCst) {
                pusher.push(last + 1..=last + 20, "2024-09-10T00:00:00Z").await?;
                last += 20;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(last)
        }
    });
    // A client of its own, which knows only what it learns.
    let reading = tokio::spawn({
        let (client, stop) = (cluster.client(), stop.clone());
        async move { read(&client, &stop).await }
    });
    let pausing = tokio::spawn({
        let (pusher, stop) = (pusher.clone(), stop.clone());
        async move { longest_pause(&pusher, &stop).await }
    });
    for id in [1, 2, 3, 1, 2, 3] {
        tokio::time::sleep(BETWEEN).await;
        cluster.stop_node(id).await;
        cluster.restart(id).await?;
        // As an operator does: the next one only when all is well again.
        cluster.ready(PATIENCE).await?;
        for shard in 1..=3 {
            cluster.wait_leader(ShardId(shard), PATIENCE).await.context("nobody leads")?;
        }
    }
    tokio::time::sleep(BETWEEN).await;
    stop.store(true, Ordering::SeqCst);
    let last = pushing.await??;
    pusher.flush().await?;
    let (longest_read, reads) = reading.await??;
    let pause = pausing.await?;
    println!(
        "{last} records and {reads} reads over 6 restarts: the longest pause of acknowledgements was {pause:?}, of a read \
         {longest_read:?}"
    );
    assert!(pause < PAUSE_MAX && longest_read < PAUSE_MAX, "paused for {pause:?}, a read took {longest_read:?}");
    assert!(reads > 100 && last > 1_000, "{reads} reads and {last} records are no load");
    assert_eq!(
        {
            let told = pusher.told.lock();
            (told.accepted + told.duplicates, told.refused.len())
        },
        (last, 0)
    );
    assert_eq!(counted(&client, "2024-09").await?, expected(1..=last));
    for shard in 1..=3 {
        replicas_agree(&cluster, ShardId(shard), 3).await?;
    }
    cluster.stop().await;
    Ok(())
}
