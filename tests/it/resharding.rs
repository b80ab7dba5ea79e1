//! Slots go from 2 shards to 12 and back to 3 over four nodes while usage of many hierarchies comes and a leader is killed:
//! not one record is lost or counted twice, bills stay as they are and are readable wherever their slots are, and
//! documents are applied in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use reckoner_client::client::Client;
use reckoner_client::proto::SetLayoutRequest;
use reckoner_client::proto::set_layout_request::Wish;
use reckoner_node::local::{LocalCluster, LocalConfig};
use reckoner_shard::base::id::ShardId;
use reckoner_tests::replicas::replicas_agree;
use reckoner_tests::roots::{Pusher, apply, bills, close, counted, expected, hierarchy, set_up};

const PATIENCE: Duration = Duration::from_secs(120);

fn scale(count: u32, plan: bool) -> SetLayoutRequest {
    SetLayoutRequest { wish: Some(Wish::Scale(count)), plan, id: String::new() }
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
    set_up(&client).await?;

    // August is billed before anything moves.
    let pusher = Arc::new(Pusher::begin(&client).await?);
    pusher.push(1..=400, "2024-08-10T00:00:00Z").await?;
    pusher.flush().await?;
    close(&client, "2024-08").await?;
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
    close(&client, "2024-09").await?;
    let september = bills(&client, "2024-09").await?;
    for (root, (_, units)) in expected(401..=last) {
        let payable = format!("{}{}", units / 2, if units % 2 == 1 { ".5" } else { "" });
        assert_eq!(september[&root].payable, payable, "{root} used {units} units");
    }
    for shard in client.status().await?.shards {
        replicas_agree(&cluster, ShardId(shard.id), 3).await?;
    }
    cluster.stop().await;
    Ok(())
}
