//! Where a hierarchy lives: name -> slot -> shard. Used alike by machine, node and client. Which node hosts a shard, and
//! how the map changes, lives elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::id::{ShardId, Slot};

/// Slots, fixed for ever: fine enough to spread load over hundreds of shards, few enough to list.
pub const SLOTS: u16 = 4096;

/// The slot of a hierarchy's root, of an account's directory entry, of a producer's home.
pub fn slot_of(name: &str) -> Slot {
    Slot((xxhash_rust::xxh3::xxh3_64(name.as_bytes()) % u64::from(SLOTS)) as u16)
}

/// Slots `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotRange {
    pub first: u16,
    pub last: u16,
}

impl SlotRange {
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot.0 && slot.0 <= self.last
    }

    /// How many there are.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Ranges with these slots too: sorted, neighbours joined.
    pub fn added_to(self, ranges: &[SlotRange]) -> Vec<SlotRange> {
        let mut all = self.taken_from(ranges);
        all.push(self);
        all.sort_unstable();
        let mut joined: Vec<SlotRange> = Vec::with_capacity(all.len());
        for range in all {
            match joined.last_mut() {
                Some(last) if u32::from(last.last) + 1 == u32::from(range.first) => last.last = range.last,
                _ => joined.push(range),
            }
        }
        joined
    }

    /// Ranges without these slots.
    pub fn taken_from(self, ranges: &[SlotRange]) -> Vec<SlotRange> {
        let mut left = Vec::with_capacity(ranges.len() + 1);
        for range in ranges {
            if self.last < range.first || range.last < self.first {
                left.push(*range);
                continue;
            }
            if range.first < self.first {
                left.push(SlotRange { first: range.first, last: self.first - 1 });
            }
            if self.last < range.last {
                left.push(SlotRange { first: self.last + 1, last: range.last });
            }
        }
        left
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{} to {}", self.first, self.last) }
    }
}

/// A range of slots and its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    pub range: SlotRange,
    pub shard: ShardId,
}

/// Which shard owns each slot, under an epoch that grows with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMap {
    pub epoch: u64,
    /// Sorted by slot, without gaps or overlaps, over all [`SLOTS`].
    ranges: Vec<Owned>,
}

impl ShardMap {
    /// The first map: `shards` ids from 1, of equal shares. `shards` is 1 to [`SLOTS`].
    pub fn even(shards: u16) -> ShardMap {
        let shards = shards.clamp(1, SLOTS);
        let bound = |index: u16| (u32::from(SLOTS) * u32::from(index) / u32::from(shards)) as u16;
        let ranges = (0..shards)
            .map(|index| Owned {
                range: SlotRange { first: bound(index), last: bound(index + 1) - 1 },
                shard: ShardId(u32::from(index) + 1),
            })
            .collect();
        ShardMap { epoch: 1, ranges }
    }

    /// A map from its parts; `None` where the ranges do not cover every slot exactly once.
    pub fn new(epoch: u64, mut ranges: Vec<Owned>) -> Option<ShardMap> {
        ranges.sort_by_key(|owned| owned.range.first);
        let mut next = 0;
        for owned in &ranges {
            if owned.range.first != next || owned.range.last < owned.range.first {
                return None;
            }
            next = owned.range.last.checked_add(1)?;
        }
        (next == SLOTS).then_some(ShardMap { epoch, ranges })
    }

    /// The owner of a slot. A slot beyond the last counts as the last.
    pub fn shard_of(&self, slot: Slot) -> ShardId {
        let after = self.ranges.partition_point(|owned| owned.range.first <= slot.0);
        self.ranges[after - 1].shard
    }

    /// The slots of a shard.
    pub fn slots_of(&self, shard: ShardId) -> Vec<SlotRange> {
        self.ranges.iter().filter(|owned| owned.shard == shard).map(|owned| owned.range).collect()
    }

    pub fn ranges(&self) -> &[Owned] {
        &self.ranges
    }

    /// Every shard, once, by id.
    pub fn shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.ranges.iter().map(|owned| owned.shard).collect();
        shards.sort();
        shards.dedup();
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_map_covers_every_slot_once() {
        for shards in [1, 2, 3, 8, 4096] {
            let map = ShardMap::even(shards);
            assert_eq!(ShardMap::new(map.epoch, map.ranges().to_vec()), Some(map.clone()));
            assert_eq!(map.shards().len(), usize::from(shards));
            for slot in 0..SLOTS {
                let owner = map.shard_of(Slot(slot));
                assert!(map.slots_of(owner).iter().any(|range| range.contains(Slot(slot))));
            }
        }
    }

    #[test]
    fn maps_with_gaps_or_overlaps_are_refused() {
        fn check(ranges: &[(u16, u16)], good: bool) {
            let owned = |&(first, last)| Owned { range: SlotRange { first, last }, shard: ShardId(1) };
            assert_eq!(ShardMap::new(1, ranges.iter().map(owned).collect()).is_some(), good, "{ranges:?}");
        }
        check(&[(0, 4095)], true);
        check(&[(100, 4095), (0, 99)], true);
        check(&[(0, 99), (101, 4095)], false);
        check(&[(0, 100), (100, 4095)], false);
        check(&[(0, 4094)], false);
        check(&[(0, u16::MAX)], false);
        check(&[], false);
    }

    #[test]
    fn ranges_take_and_give_slots() {
        fn check(ranges: &[(u16, u16)], (first, last): (u16, u16), added: &[(u16, u16)], taken: &[(u16, u16)]) {
            let range = |&(first, last): &(u16, u16)| SlotRange { first, last };
            let ranges: Vec<SlotRange> = ranges.iter().map(range).collect();
            let slots = SlotRange { first, last };
            assert_eq!(slots.added_to(&ranges), added.iter().map(range).collect::<Vec<_>>(), "{slots} to {ranges:?}");
            assert_eq!(slots.taken_from(&ranges), taken.iter().map(range).collect::<Vec<_>>(), "{slots} of {ranges:?}");
        }
        check(&[], (3, 5), &[(3, 5)], &[]);
        check(&[(0, 2)], (3, 5), &[(0, 5)], &[(0, 2)]);
        check(&[(0, 2), (6, 9)], (3, 5), &[(0, 9)], &[(0, 2), (6, 9)]);
        check(&[(0, 9)], (3, 5), &[(0, 9)], &[(0, 2), (6, 9)]);
        check(&[(0, 4), (8, 9)], (3, 8), &[(0, 9)], &[(0, 2), (9, 9)]);
        check(&[(0, 4095)], (0, 4095), &[(0, 4095)], &[]);
        check(&[(7, 7)], (0, 0), &[(0, 0), (7, 7)], &[(7, 7)]);
    }

    #[test]
    fn the_slot_of_a_name_never_changes() {
        // Fixed for ever: other values would orphan every hierarchy on disk.
        let slots: Vec<u16> = ["acme", "globex", "123456789012"].map(|name| slot_of(name).0).to_vec();
        assert_eq!(slots, [2273, 1839, 3311]);
    }
}
