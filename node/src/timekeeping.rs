//! Asking other nodes what their clocks say, and what follows for whoever wants the time. What the answers come to is in
//! [`crate::clocks`].

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::clocks::{Heard, Reading};
use crate::context::Context;
use crate::data::reach;

/// How often other nodes are asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// The same until a majority is known: until then nothing is stamped.
const ASK_INTERVAL_FIRST: Duration = Duration::from_millis(50);

/// An answer that took longer says too little.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// This node's clock is that far from the median before the others are asked again at once: theirs may all have been set.
const DOUBT: Duration = Duration::from_secs(1);

/// The time by the clocks of `voters`; `None` while those of no majority are known.
pub fn read(context: &Context, voters: &BTreeSet<u64>) -> Option<Reading> {
    context.clocks.read(context.node, context.clock.now(), voters)
}

/// The same, after the others were asked again where this node's clock is in doubt.
pub async fn read_closely(context: &Arc<Context>, voters: &BTreeSet<u64>) -> Option<Reading> {
    let reading = read(context, voters);
    let (doubt, own) = (DOUBT.as_nanos() as u64, context.clock.now().0);
    if reading.as_ref().is_some_and(|reading| reading.is_trusted && reading.now.0.abs_diff(own) <= doubt) {
        return reading;
    }
    if context.clocks.may_ask() {
        ask(context, voters).await;
    }
    read(context, voters)
}

/// Asks these nodes what their clocks say.
async fn ask(context: &Arc<Context>, nodes: &BTreeSet<u64>) {
    let state = context.meta.state();
    let rows: Vec<_> = state.nodes().filter(|row| row.id != context.node && nodes.contains(&row.id)).collect();
    let answers = join_all(rows.into_iter().map(|row| async move {
        let before = Instant::now();
        let answer = reach::greet(context, row).await?;
        let way = before.elapsed();
        (way <= ROUND_TRIP_MAX).then(|| (row.id, Heard { now: answer.now_ns, at: before + way / 2 }))
    }))
    .await;
    let said: Vec<(u64, Heard)> = answers.into_iter().flatten().collect();
    context.clocks.hear(&said);
}

/// Asks, for as long as the node lives, those with whom it shares groups.
pub async fn keep_asking(context: Weak<Context>) {
    loop {
        let Some(context) = context.upgrade() else { return };
        let voters = voters(&context);
        ask(&context, &voters).await;
        let is_known = read(&context, &voters).is_some() && !voters.is_empty();
        drop(context);
        sleep(if is_known { ASK_INTERVAL } else { ASK_INTERVAL_FIRST }).await;
    }
}

/// Everybody who votes in a group of this node.
pub fn voters(context: &Context) -> BTreeSet<u64> {
    let shards = context.shards.all();
    shards.iter().flat_map(|shard| shard.voters()).collect()
}

/// What clocks are wrong of all that this node knows, as sentences.
pub fn troubles(context: &Context) -> Vec<String> {
    let Some(reading) = read(context, &voters(context)) else { return Vec::new() };
    let off = reading.off.iter().map(|(node, ahead)| {
        let millis = ahead / 1_000_000;
        let way = if millis < 0 { "behind" } else { "ahead of" };
        format!("the clock of node {node} is {} ms {way} the others'; set it", millis.abs())
    });
    off.chain(reading.doubt()).collect()
}
