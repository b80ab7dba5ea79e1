//! What a shard knows of slots on their way from or to other shards. What changes it is in [`super::moves`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::Seal;
use crate::base::hash::Hash;
use crate::placement::SlotRange;

/// What of the slots is on its way from or to other shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Slots that leave, with their move: nothing in them changes.
    pub(super) leaving: BTreeMap<u16, u64>,
    /// What came of slots, by move.
    pub(super) arriving: BTreeMap<u64, Arriving>,
    /// The latest move of a slot that ended here.
    pub(super) ended: BTreeMap<u16, u64>,
}

impl Moves {
    /// Whether any slot is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        !(self.leaving.is_empty() && self.arriving.is_empty())
    }
}

/// Slots that come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arriving {
    pub slots: SlotRange,
    pub chunks: Vec<Arc<[u8]>>,
    /// Once all has come.
    pub seal: Option<Seal>,
}

impl Arriving {
    pub fn new(slots: SlotRange) -> Arriving {
        Arriving { slots, chunks: Vec::new(), seal: None }
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// blake3 of all chunks.
    pub fn hash(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        self.chunks.iter().for_each(|chunk| {
            hasher.update(chunk);
        });
        *hasher.finalize().as_bytes()
    }
}
