//! What is known of the checks whether replicas of shards are equal: the hashes that this node has, what the last check of
//! each shard came to, and how that is said. Who makes checks is in [`super::checks`].

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use reckoner_shard::base::hash::Hash;
use reckoner_shard::base::id::{ShardId, Slot};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::digest::{Difference, Digest};
use reckoner_shard::machine::query::View;
use tokio::time::Instant;

/// Slots that are named in a sentence.
const NAMED_MAX: usize = 8;

/// What a check came to, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Others are still asked.
    Running,
    /// A majority is equal, this replica among them.
    Equal,
    /// A majority is equal, and this replica differs: it is rebuilt.
    Wrong,
    /// All have answered and no majority is equal: each stops.
    Split,
    /// Too few answered to tell.
    Untold,
}

/// One check of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The entry at which replicas are compared.
    pub index: u64,
    /// When it began here.
    pub at: Timestamp,
    pub end: End,
    /// Nodes that agree with the majority, or with this one while there is none.
    pub equal: Vec<u64>,
    /// Nodes that do not, with the places where they differ.
    pub differ: Vec<(u64, Difference)>,
    /// Nodes that have not said.
    pub silent: Vec<u64>,
}

impl Check {
    /// What is wrong, as a sentence; `None` where nothing is.
    pub fn trouble(&self, shard: ShardId) -> Option<String> {
        let places: Vec<String> =
            self.differ.iter().map(|(node, places)| format!("on node {node} in {}", words(places))).collect();
        if places.is_empty() {
            return None;
        }
        let (places, index) = (places.join(", "), self.index);
        Some(match self.end {
            End::Split => format!(
                "no majority of the replicas of shard {shard} is equal at entry {index}, they differ {places}; each has \
                 stopped: keep their data directories and restore the shard from a backup"
            ),
            // It is not said what may be otherwise in a moment.
            End::Running => return None,
            End::Untold => format!(
                "replicas of shard {shard} differ at entry {index}, {places}, and too few have answered to say which is \
                 right; start the nodes that are missing"
            ),
            End::Equal | End::Wrong => format!(
                "the replica of shard {shard} {places} differed from the others at entry {index}; it is rebuilt from them"
            ),
        })
    }
}

/// Where replicas differ, in words.
pub fn words(places: &Difference) -> String {
    let named: Vec<String> = places.slots.iter().take(NAMED_MAX).map(Slot::to_string).collect();
    let more = places.slots.len().saturating_sub(NAMED_MAX);
    let mut parts = Vec::new();
    match (named.len(), more) {
        (0, _) => (),
        (1, 0) => parts.push(format!("slot {}", named[0])),
        (_, 0) => parts.push(format!("slots {}", named.join(", "))),
        (_, more) => parts.push(format!("slots {} and {more} more", named.join(", "))),
    }
    if places.rest {
        parts.push("what belongs to the whole shard".to_owned());
    }
    if parts.is_empty() { "places that nobody told".to_owned() } else { parts.join(" and ") }
}

/// What is known of the checks of one shard; it outlives the replica that made them.
#[derive(Default)]
pub struct Known {
    /// By index.
    pub(super) own: BTreeMap<u64, Arc<Digest>>,
    /// What is being hashed.
    pub(super) hashing: Option<u64>,
    /// What is hashed next; an older one that waits is dropped for it.
    pub(super) next: Option<(Arc<View>, u64)>,
    pub(super) last: Option<Check>,
    pub(super) due: Option<Instant>,
    /// The last bill or archive that was looked at.
    pub(super) scrubbed: Option<Hash>,
}

/// The checks of all shards that this node has or had.
#[derive(Default)]
pub struct AllChecks(Mutex<BTreeMap<ShardId, Arc<Mutex<Known>>>>);

impl AllChecks {
    /// What is known of one shard.
    pub(super) fn of(&self, shard: ShardId) -> Arc<Mutex<Known>> {
        self.0.lock().entry(shard).or_default().clone()
    }

    /// The last check of a shard.
    pub fn last(&self, shard: ShardId) -> Option<Check> {
        let known = self.0.lock().get(&shard)?.clone();
        let known = known.lock();
        known.last.clone()
    }

    /// This node's digest at an entry.
    pub fn digest(&self, shard: ShardId, index: u64) -> Option<Arc<Digest>> {
        let known = self.of(shard);
        let known = known.lock();
        known.own.get(&index).cloned()
    }

    /// Whether a digest at that entry may still come: it is being hashed, or waits for it.
    pub fn is_coming(&self, shard: ShardId, index: u64) -> bool {
        let known = self.of(shard);
        let known = known.lock();
        known.hashing == Some(index) || known.next.as_ref().is_some_and(|next| next.1 == index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_name_node_slot_and_remedy() {
        let places = |slots: &[u16], rest| Difference { rest, slots: slots.iter().map(|slot| Slot(*slot)).collect() };
        let check = |end, differ: Vec<(u64, Difference)>| Check {
            index: 77,
            at: Timestamp(0),
            end,
            equal: vec![1, 3],
            differ,
            silent: Vec::new(),
        };
        assert_eq!(check(End::Equal, Vec::new()).trouble(ShardId(4)), None);
        let one = check(End::Equal, vec![(2, places(&[9], false))]).trouble(ShardId(4)).unwrap();
        assert_eq!(
            one,
            "the replica of shard 4 on node 2 in slot 9 differed from the others at entry 77; it is rebuilt from them"
        );
        let many: Vec<u16> = (1..=10).collect();
        assert_eq!(
            words(&places(&many, true)),
            "slots 1, 2, 3, 4, 5, 6, 7, 8 and 2 more and what belongs to the whole shard"
        );
        assert!(check(End::Split, vec![(2, places(&[9], false))]).trouble(ShardId(4)).unwrap().contains("backup"));
    }
}
