//! Which payers have come to their threshold: a leader folds what is not billed yet of hierarchies that state an amount,
//! once a minute at most and only where something changed. It only proposes; who really has a bill is decided by the fold
//! of the claim, alike on every replica, and what is missed here is on a later bill of the cycle.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::time::{SECOND, Timestamp};
use reckoner_shard::billing::kind::{Cause, Kind};
use reckoner_shard::machine::command::Command;
use reckoner_shard::machine::query::Threshold;
use reckoner_shard::machine::state::SlotData;

use super::billing::{self, Wanted};
use super::shard::Read;
use crate::context::Context;
use crate::workers;

/// How long after a look a hierarchy is not looked at again: a fold of a large one takes a good part of a second.
const INTERVAL_NS: i64 = 60 * SECOND;

/// When each hierarchy was looked at, and what it was then.
#[derive(Default)]
pub struct Thresholds {
    looked: BTreeMap<AccountId, (Timestamp, Weak<SlotData>)>,
}

impl Thresholds {
    /// Claims for hierarchies with a payer who came to the threshold.
    pub async fn reached(&mut self, context: &Arc<Context>, read: &Read, now: Timestamp) -> Vec<Command> {
        let mut claims = Vec::new();
        let thresholds = read.view.thresholds(now);
        self.looked.retain(|root, _| thresholds.iter().any(|threshold| threshold.root == *root));
        for threshold in thresholds {
            if self.is_due(&threshold, read, now) && is_reached(context, read, &threshold).await {
                let Threshold { root, cycle, spend, .. } = threshold;
                claims.push(Command::Claim { root, cycle, cause: Cause::Spend(spend) });
            }
        }
        claims
    }

    /// Whether something changed since the last look, and that was long enough ago; if so, this is the next.
    fn is_due(&mut self, threshold: &Threshold, read: &Read, now: Timestamp) -> bool {
        let Some(slot) = read.view.slot(threshold.slot) else { return false };
        if let Some((at, seen)) = self.looked.get(&threshold.root) {
            // A clock that was set back must not put the next look off for long.
            let is_soon = (at.0..at.0.saturating_add(INTERVAL_NS)).contains(&now.0);
            if is_soon || std::ptr::eq(seen.as_ptr(), Arc::as_ptr(slot)) {
                return false;
            }
        }
        self.looked.insert(threshold.root.clone(), (now, Arc::downgrade(slot)));
        true
    }
}

async fn is_reached(context: &Arc<Context>, read: &Read, threshold: &Threshold) -> bool {
    let Threshold { root, cycle, spend, .. } = threshold;
    let mut source = match billing::source(context, &read.view, root, *cycle, Wanted::Now).await {
        Ok(source) => source,
        Err(why) => {
            tracing::warn!(%root, %cycle, %why, "a threshold cannot be looked at");
            return false;
        }
    };
    (source.kind, source.least) = (Kind::Interim, Some(*spend));
    let bills = context.bills.clone();
    match workers::run(context.workers.as_ref(), move || billing::bodies(&source, bills.as_ref())).await {
        Ok(Ok(bodies)) => !bodies.is_empty(),
        Ok(Err(why)) => {
            tracing::warn!(%root, %cycle, why, "a threshold cannot be looked at");
            false
        }
        // The node stops, or the job's panic is in the log.
        Err(_) => false,
    }
}
