//! What replicas of real clusters must agree on.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reckoner_node::local::LocalCluster;
use reckoner_shard::base::id::ShardId;

/// A busy machine brings replicas together within seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until all replicas of a shard are at the same entry; then they have the same state.
///
/// # Errors
/// When they differ, or are not `count` replicas at one entry in time.
pub async fn replicas_agree(cluster: &LocalCluster, shard: ShardId, count: usize) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let mut hashes = Vec::new();
        for node in cluster.running() {
            if let Some(replica) = node.context().shards.get(shard) {
                hashes.extend(replica.hash().await.ok().map(|(position, hash)| (position.index, hash)));
            }
        }
        if hashes.len() == count && hashes.windows(2).all(|pair| pair[0].0 == pair[1].0) {
            ensure!(hashes.windows(2).all(|pair| pair[0].1 == pair[1].1), "replicas differ: {hashes:?}");
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{count} replicas do not come to the same entry: {hashes:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
