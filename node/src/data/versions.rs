//! When a shard's machine may behave by a newer version: once every replica supports it, so that none meets in its log what
//! it does not know. What a version changes is the machine's own.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use reckoner_shard::billing::bill::FIRST_MACHINE;
use reckoner_shard::machine::command::Command;
use tokio::time::Instant;

use super::reach;
use super::shard::Shard;
use crate::context::Context;

/// Between two times that the members of a group are asked.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// Raises of one shard.
#[derive(Default)]
pub struct Versions {
    asked: Mutex<Option<Instant>>,
}

impl Versions {
    /// The entry that raises the machine from version `now`, if every member of the group supports a newer one.
    pub async fn raise(&self, context: &Context, shard: &Shard, now: u32) -> Option<Command> {
        if now >= context.machine {
            return None;
        }
        let is_time = {
            let mut asked = self.asked.lock();
            let is_time = asked.is_none_or(|asked| asked.elapsed() >= ASK_INTERVAL);
            if is_time {
                *asked = Some(Instant::now());
            }
            is_time
        };
        if !is_time {
            return None;
        }
        let status = shard.group().status();
        let members: BTreeSet<u64> = status.voters.union(&status.learners).map(|node| node.0).collect();
        let state = context.meta.state();
        let asked = members.iter().filter(|node| **node != context.node).map(|node| {
            let row = state.nodes().find(|row| row.id == *node).cloned();
            async move {
                let reply = reach::greet(context, &row?).await?;
                Some(reply.machine.max(FIRST_MACHINE))
            }
        });
        // One that does not answer may be an older program.
        let supported: Option<Vec<u32>> = join_all(asked).await.into_iter().collect();
        let newest = supported?.into_iter().chain([context.machine]).min()?;
        (newest > now).then_some(Command::Raise { version: newest })
    }
}
