//! One replica becomes another than its peers: it is found, named, rebuilt from them and equal again, under load, and
//! nothing that was acknowledged is lost. Where no majority can say which is right, all stop and say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use reckoner_client::client::Client;
use reckoner_client::proto::{ShardCheck, StatusReply};
use reckoner_node::config::Config;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_raft::types::{GroupId, NodeId};
use reckoner_shard::base::id::ShardId;
use reckoner_shard::placement::slot_of;
use reckoner_tests::planted::Planted;
use reckoner_tests::push::{Producer, ROOT, counted, set_up, units_through};
use reckoner_tests::replicas::replicas_agree;
use reckoner_tests::twisted::TwistedSnapshots;

const SHARD: ShardId = ShardId(1);

/// The node whose replica becomes another.
const WRONG: u64 = 2;

/// Elections and snapshots on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Switches of the disk of [`WRONG`].
#[derive(Clone, Default)]
struct Switches {
    /// It twists what the node starts from next.
    twist: Arc<AtomicBool>,
    /// It does not remove what is wrong: a rebuild of so little would be over before anybody has looked.
    keep: Arc<AtomicBool>,
}

async fn start(nodes: u64) -> anyhow::Result<(LocalCluster, Switches)> {
    let switches = Switches::default();
    let disk = switches.clone();
    let config = LocalConfig {
        nodes,
        shards: 1,
        // Checks come when they are asked for.
        settings: Config { check_interval_ms: 0, ..Config::default() },
        seams: Some(Arc::new(move |node, mut seams| {
            if node == WRONG {
                let (inner, next, kept) = (seams.snapshots.clone(), disk.twist.clone(), disk.keep.clone());
                let (group, planted) = (GroupId(SHARD.0), Planted::FlippedCounter);
                seams.snapshots = Arc::new(TwistedSnapshots { inner, next, kept, group, planted });
            }
            seams
        })),
        ..LocalConfig::default()
    };
    Ok((LocalCluster::start(config).await?, switches))
}

/// Starts a node again from a snapshot that it reads wrongly.
async fn make_wrong(cluster: &mut LocalCluster, twist: &AtomicBool) -> anyhow::Result<()> {
    let node = cluster.node(WRONG).context("it runs")?;
    node.context().shards.get(SHARD).context("it has a replica")?.group().snapshot_now().await?;
    cluster.stop_node(WRONG).await;
    twist.store(true, Ordering::SeqCst);
    cluster.restart(WRONG).await?;
    cluster.ready(PATIENCE).await?;
    ensure!(!twist.load(Ordering::SeqCst), "the snapshot was read");
    Ok(())
}

/// Waits until the status is as wanted.
async fn status(client: &Client, what: &str, is_it: impl Fn(&StatusReply) -> bool) -> anyhow::Result<StatusReply> {
    let begin = Instant::now();
    loop {
        if let Ok(status) = client.status().await {
            if is_it(&status) {
                return Ok(status);
            }
            ensure!(begin.elapsed() < PATIENCE, "{what}: {status:#?}");
        }
        ensure!(begin.elapsed() < PATIENCE, "{what}: no status");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Begins a check; the entry that it is made at.
async fn check(client: &Client) -> anyhow::Result<u64> {
    let begun = client.check_shards(&[]).await?.shards;
    ensure!(begun.len() == 1 && begun[0].trouble.is_empty(), "{begun:?}");
    Ok(begun[0].index)
}

fn last(status: &StatusReply) -> Option<&ShardCheck> {
    status.shards.first()?.check.as_ref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_replica_is_found_named_and_rebuilt_under_load() -> anyhow::Result<()> {
    let (mut cluster, disk) = start(3).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let producer = Arc::new(Producer::begin(&client).await?);
    producer.push(1..=500).await?;
    producer.flush().await?;
    let index = check(&client).await?;
    let done =
        |status: &StatusReply| last(status).is_some_and(|check| check.index >= index && check.result != "running");
    let equal = status(&client, "a check", done).await?;
    let found = last(&equal).context("a check")?;
    assert_eq!((found.result.as_str(), found.equal.as_slice()), ("equal", &[1, 2, 3][..]), "{found:?}");

    make_wrong(&mut cluster, &disk.twist).await?;
    // It leads: whoever is wrong must not be believed for that.
    let begin = Instant::now();
    loop {
        let leader = cluster.wait_leader(SHARD, PATIENCE).await.context("a leader")?;
        if leader == WRONG {
            break;
        }
        let node = cluster.node(leader).context("it runs")?;
        let group = node.context().shards.get(SHARD).context("its replica")?.group().clone();
        // An election may come between.
        let handed = group.transfer_leader(NodeId(WRONG), PATIENCE).await;
        ensure!(begin.elapsed() < PATIENCE, "node {WRONG} does not lead: {handed:?}");
    }
    disk.keep.store(true, Ordering::SeqCst);
    let stop = Arc::new(Mutex::new(false));
    let pushing = tokio::spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move {
            // A process that begins again: what was pushed is pushed again and counts once.
            let producer = Producer::begin(&client).await?;
            let last = producer.push_until(&stop).await?;
            producer.flush().await?;
            anyhow::Ok(last)
        }
    });
    let wrong = check(&client).await?;
    let named = |status: &StatusReply| {
        last(status).is_some_and(|check| check.index >= wrong && check.result != "running" && !check.differ.is_empty())
    };
    let told = status(&client, "the difference is told", named).await?;
    let found = last(&told).context("a check")?;
    assert_eq!(found.result, "different");
    assert_eq!(found.equal, [1, 3]);
    assert_eq!(found.differ.len(), 1, "{found:?}");
    let slot = u32::from(slot_of(ROOT).0);
    assert_eq!(
        (found.differ[0].node, found.differ[0].slots.as_slice(), found.differ[0].rest),
        (WRONG, &[slot][..], false)
    );
    // Unavailable while the next leader is elected: the one that led is closed.
    assert_ne!(told.health, "healthy");
    assert!(told.reasons.iter().any(|why| why.contains(&format!("slot {slot}"))), "{told:?}");

    // It is rebuilt by itself once it can be, and compared again.
    disk.keep.store(false, Ordering::SeqCst);
    let healed =
        |status: &StatusReply| last(status).is_some_and(|check| check.index > wrong && check.equal == [1, 2, 3]);
    status(&client, "the replica is equal again", healed).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    *stop.lock() = true;
    let count = pushing.await??.max(500);
    assert_eq!(counted(&client).await?, (count, units_through(count)), "every record once");
    replicas_agree(&cluster, SHARD, 3).await?;
    let node = cluster.node(WRONG).context("it runs")?;
    assert_eq!(node.context().counts.differences.load(Ordering::Relaxed), 1);
    status(&client, "healthy again", |status| status.health == "healthy").await?;

    // What it is now outlives its process.
    cluster.stop_node(WRONG).await;
    cluster.restart(WRONG).await?;
    cluster.ready(PATIENCE).await?;
    replicas_agree(&cluster, SHARD, 3).await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_which_nobody_knows_the_right_one_all_stop() -> anyhow::Result<()> {
    let (mut cluster, disk) = start(2).await?;
    let client = cluster.client();
    set_up(&client).await?;
    let producer = Producer::begin(&client).await?;
    producer.push(1..=50).await?;
    producer.flush().await?;
    make_wrong(&mut cluster, &disk.twist).await?;
    check(&client).await?;
    let said =
        |status: &StatusReply| status.reasons.iter().any(|why| why.contains("no majority of the replicas of shard 1"));
    let told = status(&client, "they stop", said).await?;
    assert_ne!(told.health, "healthy");
    assert!(counted(&client).await.is_err(), "nobody is served from a state that may be wrong");
    cluster.stop().await;
    Ok(())
}
