//! Permits in records and bytes, taken before a batch is proposed and given back after it is applied. Mailboxes and the
//! log's queue have no bound of their own; this is the bound. What is over it is refused with a delay, never queued. One
//! slot, which is one hierarchy or a few, takes no more than its share, so that others find room; and while the process has
//! more memory than it may, nothing new is taken in.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reckoner_shard::base::id::Slot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Records on their way through this node at once: at 8 million a second, a quarter of a second's worth.
pub const RECORDS_MAX: u32 = 2_000_000;

/// Bytes on their way at once. 12 bytes a packed record make the record bound the tighter one in bulk; definitions and
/// documents make this one.
pub const BYTES_MAX: usize = 256 << 20;

/// When to come back: about what a full node needs to make room.
pub const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The part of the room that batches of one slot may take together: one in so many.
pub const SLOT_SHARE: u32 = 4;

/// When to come back where memory is short: it does not come back by itself in a moment.
const RETRY_AFTER_MEMORY: Duration = Duration::from_secs(1);

/// Bytes are counted in these, so that the bound fits the permits' 32 bits.
const BYTES_UNIT: usize = 1 << 10;

/// What a batch holds while it is on its way. Dropping it gives the room back.
#[derive(Debug)]
pub struct Permit {
    _records: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// What a slot holds of the room.
#[derive(Debug)]
struct Share {
    slot: Slot,
    records: u32,
    held: Arc<Mutex<HashMap<Slot, u32>>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        let left = held.get(&self.slot).map_or(0, |own| own.saturating_sub(self.records));
        if left == 0 {
            held.remove(&self.slot);
        } else {
            held.insert(self.slot, left);
        }
    }
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// Records or bytes on their way.
    Room,
    /// Of the slot's share of it.
    Share(Slot),
    Memory,
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    pub scarce: Scarce,
    pub retry_after: Duration,
}

impl Full {
    /// What a caller is told.
    pub fn message(&self) -> String {
        match self.scarce {
            Scarce::Room => "the node has as much on its way as it may".to_owned(),
            Scarce::Share(slot) => format!("slot {slot} has a {SLOT_SHARE}th of what the node may have on its way"),
            Scarce::Memory => "the node has as much memory as it may; raise memory_max_bytes or add nodes".to_owned(),
        }
    }
}

/// The node's room for what is on its way.
#[derive(Clone, Debug)]
pub struct Admission {
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// Of slots that have most of a batch.
    held: Arc<Mutex<HashMap<Slot, u32>>>,
    memory_is_short: Arc<AtomicBool>,
    records_max: u32,
    units_max: u32,
}

impl Admission {
    /// Room for `records_max` records and `bytes_max` bytes at once.
    pub fn new(records_max: u32, bytes_max: usize) -> Self {
        let units_max = u32::try_from(bytes_max.div_ceil(BYTES_UNIT)).unwrap_or(u32::MAX).max(1);
        let records_max = records_max.max(1);
        Self {
            records: Arc::new(Semaphore::new(records_max as usize)),
            bytes: Arc::new(Semaphore::new(units_max as usize)),
            held: Arc::default(),
            memory_is_short: Arc::default(),
            records_max,
            units_max,
        }
    }

    /// Takes room for a batch, or says when to come back. A batch larger than all the room passes alone. `slot`: the one
    /// that has most of its records, if any; it takes no more than one in [`SLOT_SHARE`], unless it takes nothing yet.
    pub fn admit(&self, records: u32, bytes: usize, slot: Option<Slot>) -> Result<Permit, Full> {
        if self.memory_is_short.load(Ordering::Relaxed) {
            return Err(Full { scarce: Scarce::Memory, retry_after: RETRY_AFTER_MEMORY });
        }
        let full = |scarce| Full { scarce, retry_after: RETRY_AFTER };
        let units = u32::try_from(bytes.div_ceil(BYTES_UNIT)).unwrap_or(u32::MAX);
        let take = |semaphore: &Arc<Semaphore>, wanted: u32| {
            semaphore.clone().try_acquire_many_owned(wanted).map_err(|_| full(Scarce::Room))
        };
        let records = records.clamp(1, self.records_max);
        let share = slot.map(|slot| self.share(slot, records).ok_or(full(Scarce::Share(slot)))).transpose()?;
        Ok(Permit {
            _records: take(&self.records, records)?,
            _bytes: take(&self.bytes, units.clamp(1, self.units_max))?,
            _share: share,
        })
    }

    fn share(&self, slot: Slot, records: u32) -> Option<Share> {
        let mut held = self.held.lock();
        let own = held.get(&slot).copied().unwrap_or(0);
        let all = own.saturating_add(records);
        if own > 0 && all > self.records_max / SLOT_SHARE {
            return None;
        }
        held.insert(slot, all);
        Some(Share { slot, records, held: self.held.clone() })
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.records.available_permits() == self.records_max as usize
    }

    /// Says whether the process has more memory than it may.
    pub fn note_memory(&self, is_short: bool) {
        self.memory_is_short.store(is_short, Ordering::Relaxed);
    }

    /// Whether it has.
    pub fn memory_is_short(&self) -> bool {
        self.memory_is_short.load(Ordering::Relaxed)
    }

    /// Records on their way now.
    pub fn records(&self) -> u32 {
        self.records_max - self.records.available_permits() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back() {
        let admission = Admission::new(100, 10 << 10);
        let first = admission.admit(60, 100, None).unwrap();
        let full = admission.admit(60, 100, None).unwrap_err();
        assert_eq!((full.scarce, full.retry_after), (Scarce::Room, RETRY_AFTER));
        assert_eq!(admission.records(), 60, "a refused batch holds nothing");
        let second = admission.admit(40, 100, None).unwrap();
        drop(first);
        drop(second);
        assert_eq!(admission.records(), 0);
        let bytes = admission.admit(1, 9 << 10, None).unwrap();
        assert!(admission.admit(1, 2 << 10, None).is_err());
        drop(bytes);
        assert!(admission.admit(1_000, 1 << 20, None).is_ok(), "a batch beyond the room passes alone");
    }

    #[test]
    fn one_slot_leaves_room_for_others() {
        let (admission, noisy, quiet) = (Admission::new(100, 1 << 20), Some(Slot(7)), Some(Slot(8)));
        let first = admission.admit(20, 1, noisy).unwrap();
        assert_eq!(admission.admit(6, 1, noisy).unwrap_err().scarce, Scarce::Share(Slot(7)));
        let rest = admission.admit(5, 1, noisy).unwrap();
        let large = admission.admit(60, 1, quiet).unwrap();
        assert_eq!(
            admission.admit(1, 1, quiet).unwrap_err().scarce,
            Scarce::Share(Slot(8)),
            "a large batch passes alone"
        );
        drop((first, rest, large));
        assert!(admission.held.lock().is_empty(), "what is not held is forgotten");
        // Room that is not there is not held against the slot.
        let all = admission.admit(100, 1, None).unwrap();
        assert_eq!(admission.admit(10, 1, noisy).unwrap_err().scarce, Scarce::Room);
        assert!(admission.held.lock().is_empty());
        drop(all);
        admission.note_memory(true);
        assert_eq!(admission.admit(1, 1, None).unwrap_err().scarce, Scarce::Memory);
        admission.note_memory(false);
        assert!(admission.admit(1, 1, None).is_ok());
    }
}
