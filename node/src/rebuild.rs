//! Rebuilding replicas whose state is wrong or lost, from peers. The keeper starts this; what the log and the vote are kept
//! for is said in `reckoner_raft`'s `rebuild`.

use std::sync::Arc;
use std::time::Duration;

use reckoner_raft::error::Error;
use reckoner_raft::types::{GroupId, NodeId};
use reckoner_shard::base::id::ShardId;
use reckoner_shard::machine::command::Command;
use tokio::time::sleep;

use crate::condemned::Condemned;
use crate::context::Context;
use crate::data::reach;

/// Between two rounds of asking peers for their state.
const RETRY: Duration = Duration::from_millis(500);

/// Rebuilds a replica whose group is closed: its snapshots go first, so that a node that ends here never opens it from
/// them. Goes on until a peer has sent its state, or the replica is not wanted here any more.
pub async fn run(context: Arc<Context>, condemned: Condemned) {
    let (shard, group) = (condemned.shard, GroupId(condemned.shard.0));
    while let Err(error) = context.host.forget_state(group).await {
        if matches!(error, Error::Stopped { .. }) || context.fate.sealed().is_some() {
            return;
        }
        tracing::warn!(%shard, %error, "a wrong state is not removed yet");
        sleep(RETRY).await;
    }
    'peers: while is_wanted(&context, shard) {
        for (node, address) in sources(&context, &condemned) {
            match context.host.fetch_state(group, NodeId(node), &address, &context.address).await {
                Ok(()) => {
                    tracing::info!(%shard, from = node, "the replica has its state from a peer");
                    break 'peers;
                }
                // The node stops; its next start finds no state and goes on from there.
                Err(Error::Stopped { .. }) => return,
                Err(error) => tracing::warn!(%shard, from = node, %error, "no state from this peer"),
            }
        }
        sleep(RETRY).await;
    }
    context.rebuilds.end(shard);
}

/// Asks for a check once a rebuilt replica serves again: until then it is only believed to be right.
pub async fn check_again(context: Arc<Context>, shard: ShardId) {
    if let Err(trouble) = reach::execute(&context, shard, &[Command::Digest]).await {
        tracing::debug!(%shard, error = %trouble.status(), "a rebuilt replica is compared at the next check");
    }
}

fn is_wanted(context: &Context, shard: ShardId) -> bool {
    let state = context.meta.state();
    let row = state.replicas().iter().find(|row| row.shard == shard.0);
    row.is_some_and(|row| row.nodes.contains(&context.node) || row.held.contains(&context.node))
}

fn sources(context: &Context, condemned: &Condemned) -> Vec<(u64, String)> {
    let state = context.meta.state();
    let known = condemned.sources.iter().filter(|(node, _)| state.nodes().any(|row| row.id == *node));
    let known: Vec<(u64, String)> = known.cloned().collect();
    if !known.is_empty() {
        return known;
    }
    let row = state.replicas().iter().find(|row| row.shard == condemned.shard.0);
    let held = row.map(|row| row.held.clone()).unwrap_or_default();
    let others = held.into_iter().filter(|node| *node != context.node);
    others.filter_map(|node| Some((node, state.address(node)?.to_owned()))).collect()
}
