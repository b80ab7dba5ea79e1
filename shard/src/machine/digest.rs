//! Hashes of a shard by its parts, for comparing replicas at one index: each slot by itself, and the rest. Which replicas
//! are compared, and what follows from a difference, is the node's.

use std::collections::BTreeMap;

use super::query::View;
use super::snapshot::write_slot_sealed;
use crate::base::hash::Hash;
use crate::base::id::Slot;

/// What a shard is at one index, in hashes: equal on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Of what belongs to no slot: identity, stamp, catalogue versions, slots on their way.
    pub rest: Hash,
    /// Of each slot that was ever written, by its number.
    pub slots: BTreeMap<u16, Hash>,
}

/// Where two digests differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub rest: bool,
    /// Slots that differ, or that only one of the two has; ascending.
    pub slots: Vec<Slot>,
}

impl Digest {
    /// One hash over all of it.
    pub fn whole(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rest);
        for (slot, hash) in &self.slots {
            hasher.update(&slot.to_le_bytes()).update(hash);
        }
        *hasher.finalize().as_bytes()
    }

    /// Where another replica is different.
    pub fn difference(&self, other: &Digest) -> Difference {
        let numbers = self.slots.keys().chain(other.slots.keys()).copied();
        let differ = numbers.filter(|slot| self.slots.get(slot) != other.slots.get(slot)).map(Slot);
        let mut slots: Vec<Slot> = differ.collect();
        slots.sort_unstable();
        slots.dedup();
        Difference { rest: self.rest != other.rest, slots }
    }
}

impl View {
    /// The hash of one slot, with the bytes that it is made of; `None` where nothing was ever written to it.
    pub fn slot_hash(&self, slot: Slot) -> Option<(Hash, u64)> {
        let data = self.slots.get(&slot.0)?;
        let (mut hasher, mut count) = (blake3::Hasher::new(), 0);
        write_slot_sealed(data, &mut |part| {
            count += part.len() as u64;
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        });
        Some((*hasher.finalize().as_bytes(), count))
    }

    /// The hash of everything that belongs to no slot.
    pub fn rest_hash(&self) -> Hash {
        View { slots: BTreeMap::new(), ..self.clone() }.hash()
    }

    /// All of it at once; a walk over the whole state.
    pub fn digest(&self) -> Digest {
        let slots = self.slots.keys().filter_map(|slot| Some((*slot, self.slot_hash(Slot(*slot))?.0)));
        Digest { rest: self.rest_hash(), slots: slots.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rest: u8, slots: &[(u16, u8)]) -> Digest {
        Digest { rest: [rest; 32], slots: slots.iter().map(|(slot, byte)| (*slot, [*byte; 32])).collect() }
    }

    #[test]
    fn differences_name_their_slots() {
        let check = |a: &[(u16, u8)], b: &[(u16, u8)], expected: &[u16]| {
            let (a, b) = (digest(1, a), digest(1, b));
            let found = a.difference(&b);
            assert_eq!(found.slots, expected.iter().map(|slot| Slot(*slot)).collect::<Vec<_>>());
            assert_eq!(found, b.difference(&a));
            assert_eq!(a.whole() == b.whole(), expected.is_empty());
        };
        check(&[], &[], &[]);
        check(&[(7, 1), (9, 2)], &[(7, 1), (9, 2)], &[]);
        check(&[(7, 1), (9, 2)], &[(7, 1), (9, 3)], &[9]);
        check(&[(7, 1)], &[(9, 1)], &[7, 9]);
        let (one, other) = (digest(1, &[(7, 1)]), digest(2, &[(7, 1)]));
        assert_eq!(one.difference(&other), Difference { rest: true, slots: Vec::new() });
        assert_ne!(one.whole(), other.whole());
    }
}
