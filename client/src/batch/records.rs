//! Records on their way: as small as they can be kept until their verdict, grouped by slot, never copied for a resend.
//! Who sends them when is `driver`'s matter.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use reckoner_shard::base::id::Slot;
use reckoner_shard::base::refusal::Refusal;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::machine::command::Verdict;
use reckoner_shard::placement::SLOTS;
use reckoner_shard::usage::series::SeriesKey;
use tokio::sync::OwnedSemaphorePermit;

/// A series as one batcher knows it: cheap to copy, good for that batcher alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    pub(super) index: u32,
    pub(super) slot: u16,
    pub(super) scale: u8,
}

impl Series {
    /// Decimals that quantities of this series are scaled to.
    pub fn scale(self) -> u32 {
        self.scale.into()
    }

    /// The slot that its records go to.
    pub fn slot(self) -> Slot {
        Slot(self.slot)
    }
}

/// What few records have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Not before the start.
    pub end: Option<Timestamp>,
    /// At 12 decimals.
    pub amount: Option<i128>,
    /// Empty: corrects nothing.
    pub corrects: String,
}

/// One record: 48 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// At the meter's scale.
    pub quantity: i128,
    /// Its number; by id, its place among the ids.
    pub number: u64,
    pub start: i64,
    pub series: u32,
    pub slot: u16,
    pub has_extra: bool,
}

/// Ids, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Ids {
    /// Adds an id and answers its place.
    pub fn push(&mut self, id: &str) -> u64 {
        self.bytes.extend_from_slice(id.as_bytes());
        self.ends.push(self.bytes.len() as u32);
        self.ends.len() as u64 - 1
    }

    pub fn get(&self, place: u64) -> &[u8] {
        let place = place as usize;
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        &self.bytes[start..self.ends[place] as usize]
    }
}

/// Records that were gathered together; shared by the runs cut from it.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub records: Vec<Pending>,
    pub ids: Ids,
    pub extras: HashMap<u64, Extra>,
    /// Room that the records take, given back with the last run.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Groups the records by slot, in order within each, and cuts one run a slot.
    pub fn into_runs(mut self, stray: bool) -> Vec<Run> {
        let mut counts = vec![0_u32; usize::from(SLOTS) + 1];
        for record in &self.records {
            counts[usize::from(record.slot) + 1] += 1;
        }
        for slot in 0..usize::from(SLOTS) {
            counts[slot + 1] += counts[slot];
        }
        let mut next = counts.clone();
        let mut sorted = self.records.clone();
        for record in &self.records {
            let at = &mut next[usize::from(record.slot)];
            sorted[*at as usize] = *record;
            *at += 1;
        }
        self.records = sorted;
        let body = Arc::new(self);
        let bounds = counts.windows(2).enumerate().filter(|(_, bounds)| bounds[0] < bounds[1]);
        bounds
            .map(|(slot, bounds)| Run {
                slot: Slot(slot as u16),
                body: body.clone(),
                range: bounds[0]..bounds[1],
                stray,
            })
            .collect()
    }
}

/// Records of one slot in their order: what becomes a segment.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub slot: Slot,
    pub body: Arc<Body>,
    pub range: Range<u32>,
    /// Recognised by their numbers one by one: they were refused elsewhere, and keep no order.
    pub stray: bool,
}

impl Run {
    pub fn records(&self) -> &[Pending] {
        &self.body.records[self.range.start as usize..self.range.end as usize]
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// First number; by id, the first place among the ids.
    pub fn first(&self) -> u64 {
        self.records().first().map_or(0, |record| record.number)
    }

    pub fn last(&self) -> u64 {
        self.records().last().map_or(0, |record| record.number)
    }

    /// Cuts off what follows the first `count` records.
    pub fn split(&mut self, count: u32) -> Run {
        let at = self.range.start + count;
        let rest = Run { slot: self.slot, body: self.body.clone(), range: at..self.range.end, stray: self.stray };
        self.range.end = at;
        rest
    }
}

/// A record without a home.
#[derive(Debug)]
pub(super) struct Astray {
    pub record: Pending,
    pub key: SeriesKey,
    pub scale: u8,
    /// Empty for numbers.
    pub id: String,
    pub extra: Option<Extra>,
    /// Where it was refused, and how.
    pub slot: Slot,
    pub refusal: Refusal,
}

/// Records that have their verdict.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'r> {
    /// The same for all of them.
    pub verdict: &'r Verdict,
    pub(super) records: Records<'r>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Records<'r> {
    Sent {
        records: &'r [Pending],
        ids: &'r Ids,
        by_id: bool,
    },
    /// Refused here, before it was sent.
    Number(u64),
    Id(&'r str),
}

impl<'r> Settled<'r> {
    /// How many records.
    pub fn count(&self) -> u64 {
        match self.records {
            Records::Sent { records, .. } => records.len() as u64,
            Records::Number(_) | Records::Id(_) => 1,
        }
    }

    /// Their numbers, rising; nothing by id.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + 'r {
        let (sent, one) = match self.records {
            Records::Sent { records, by_id: false, .. } => (records, None),
            Records::Number(number) => (&[][..], Some(number)),
            Records::Sent { .. } | Records::Id(_) => (&[][..], None),
        };
        sent.iter().map(|record| record.number).chain(one)
    }

    /// Their ids; nothing for numbers.
    pub fn ids(&self) -> impl Iterator<Item = &'r str> + 'r {
        let none: &'r Ids = const { &Ids { bytes: Vec::new(), ends: Vec::new() } };
        let (sent, ids, one) = match self.records {
            Records::Sent { records, ids, by_id: true } => (records, ids, None),
            Records::Id(id) => (&[][..], none, Some(id)),
            Records::Sent { .. } | Records::Number(_) => (&[][..], none, None),
        };
        sent.iter().map(|record| std::str::from_utf8(ids.get(record.number)).unwrap_or_default()).chain(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(slots: &[u16]) -> Body {
        let records = slots.iter().enumerate().map(|(number, slot)| Pending {
            quantity: 1,
            number: number as u64,
            start: 0,
            series: 0,
            slot: *slot,
            has_extra: false,
        });
        Body { records: records.collect(), ..Body::default() }
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Pending>(), 48);
        assert_eq!(size_of::<Series>(), 8);
    }

    #[test]
    fn runs_are_cut_by_slot_and_keep_their_order() {
        let runs = body(&[7, 3, 7, 4095, 3, 7]).into_runs(false);
        let seen: Vec<(u16, Vec<u64>)> =
            runs.iter().map(|run| (run.slot.0, run.records().iter().map(|record| record.number).collect())).collect();
        assert_eq!(seen, [(3, vec![1, 4]), (7, vec![0, 2, 5]), (4095, vec![3])]);
        let mut run = runs[1].clone();
        let rest = run.split(1);
        assert_eq!((run.first(), run.last(), rest.first(), rest.last(), rest.len()), (0, 0, 2, 5, 2));
        assert!(body(&[]).into_runs(false).is_empty());
    }

    #[test]
    fn ids_are_found_by_place() {
        let mut ids = Ids::default();
        assert_eq!((ids.push("a"), ids.push("bcd"), ids.push("e")), (0, 1, 2));
        assert_eq!((ids.get(0), ids.get(1), ids.get(2)), (&b"a"[..], &b"bcd"[..], &b"e"[..]));
    }
}
