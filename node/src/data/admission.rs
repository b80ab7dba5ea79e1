//! Permits in records and bytes, taken before a batch is proposed and given back after it is applied. Mailboxes and the
//! log's queue have no bound of their own; this is the bound. What is over it is refused with a delay, never queued.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Records on their way through this node at once: at 8 million a second, a quarter of a second's worth.
pub const RECORDS_MAX: u32 = 2_000_000;

/// Bytes on their way at once. 12 bytes a packed record make the record bound the tighter one in bulk; definitions and
/// documents make this one.
pub const BYTES_MAX: usize = 256 << 20;

/// When to come back: about what a full node needs to make room.
pub const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Bytes are counted in these, so that the bound fits the permits' 32 bits.
const BYTES_UNIT: usize = 1 << 10;

/// What a batch holds while it is on its way. Dropping it gives the room back.
#[derive(Debug)]
pub struct Permit {
    _records: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    pub retry_after: Duration,
}

/// The node's room for what is on its way.
#[derive(Clone, Debug)]
pub struct Admission {
    records: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
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
            records_max,
            units_max,
        }
    }

    /// Takes room for a batch, or says when to come back. A batch larger than all the room passes alone.
    pub fn admit(&self, records: u32, bytes: usize) -> Result<Permit, Full> {
        let full = Full { retry_after: RETRY_AFTER };
        let units = u32::try_from(bytes.div_ceil(BYTES_UNIT)).unwrap_or(u32::MAX);
        let take = |semaphore: &Arc<Semaphore>, wanted: u32| {
            semaphore.clone().try_acquire_many_owned(wanted).map_err(|_| full)
        };
        Ok(Permit {
            _records: take(&self.records, records.clamp(1, self.records_max))?,
            _bytes: take(&self.bytes, units.clamp(1, self.units_max))?,
        })
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
        let first = admission.admit(60, 100).unwrap();
        assert_eq!(admission.admit(60, 100).unwrap_err().retry_after, RETRY_AFTER);
        assert_eq!(admission.records(), 60, "a refused batch holds nothing");
        let second = admission.admit(40, 100).unwrap();
        drop(first);
        drop(second);
        assert_eq!(admission.records(), 0);
        let bytes = admission.admit(1, 9 << 10).unwrap();
        assert!(admission.admit(1, 2 << 10).is_err());
        drop(bytes);
        assert!(admission.admit(1_000, 1 << 20).is_ok(), "a batch beyond the room passes alone");
    }
}
