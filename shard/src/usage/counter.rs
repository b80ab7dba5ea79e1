//! The columns of counters: exact sums by series number. Month lots lie dense in lanes, one lane a cycle; hour and day
//! lots, and late deltas, lie in ordered side tables. What a number stands for lives in [`super::series`]; prices are
//! not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunks::{CHUNK, Chunks};
use super::kept::{Join, Kept, KeptKey, KeptTable};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::Timestamp;

/// Cycles of one hierarchy whose counters are in memory: one cut and not yet archived, and the two that count. Their
/// ordinals follow each other, so that the ordinal modulo this picks a lane of its own for each.
pub const LANES: usize = 3;
/// Hour and day lots of one slot: about 2 GiB of ordered table; a slot with more wants coarser meters.
pub const BUCKET_LOTS_MAX: usize = 16_000_000;
/// Late deltas of one slot: late usage is an exception, and what is more wants a correction by hand.
pub const LATE_LOTS_MAX: usize = 4_000_000;

/// What a counter needs to know of its series to be added to, packed so that it shares the counter's cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta(u32);

impl Meta {
    /// Roots that 19 bits can tell apart.
    pub const ROOTS_MAX: usize = 1 << 19;
    /// Meters that 12 bits can tell apart.
    pub const METERS_MAX: usize = 1 << 12;

    /// `checked`: each record's time must be compared with the account's membership.
    pub fn new(root: u32, meter: u16, checked: bool) -> Meta {
        debug_assert!((root as usize) < Meta::ROOTS_MAX && usize::from(meter) < Meta::METERS_MAX);
        Meta(root | u32::from(meter) << 19 | u32::from(checked) << 31)
    }

    #[inline]
    pub fn root(self) -> usize {
        (self.0 & (Meta::ROOTS_MAX as u32 - 1)) as usize
    }

    #[inline]
    pub fn meter(self) -> usize {
        (self.0 >> 19) as usize & (Meta::METERS_MAX - 1)
    }

    #[inline]
    pub fn checked(self) -> bool {
        self.0 >> 31 != 0
    }
}

/// A counter's bucket of one month: 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lot {
    low: u64,
    high: u64,
    /// Lower 32 bits of the number of records; the rest is in the lane's carries.
    records: u32,
    pub meta: Meta,
}

impl Lot {
    #[inline]
    pub fn value(&self) -> i128 {
        (u128::from(self.low) | u128::from(self.high) << 64) as i128
    }

    /// Makes `sum` the value and counts one record, all checks being done. True where the lot was empty or its 32 bits of
    /// records overflowed: [`Lane::first_or_carry`] must be told.
    #[inline]
    pub fn count(&mut self, sum: i128) -> bool {
        self.set_value(sum);
        self.records = self.records.wrapping_add(1);
        self.records <= 1
    }

    #[inline]
    fn set_value(&mut self, value: i128) {
        (self.low, self.high) = (value as u64, (value as u128 >> 64) as u64);
    }
}

/// The lots of one cycle of every hierarchy that has its cycle here.
#[derive(Debug, Default)]
pub struct Lane {
    /// By series number. A chunk without a counted record is absent.
    pub(super) lots: Chunks<Lot>,
    /// Counted lots a chunk; a chunk that comes to none leaves memory.
    used: Vec<u32>,
    /// Number of times that a lot's 32 bits of records overflowed.
    carries: BTreeMap<u32, u32>,
}

impl Lane {
    /// The lot of a series, where its chunk is here.
    #[inline]
    pub fn lot_mut(&mut self, number: u32) -> Option<&mut Lot> {
        self.lots.get_mut(number as usize)
    }

    /// Reads a bit of each lot, so that their memory is on its way all at once before they are added to one by one.
    /// Numbers are those of the lots plus `above`; others are passed over.
    #[inline]
    pub fn touch(&self, numbers: &[u64], above: u64) {
        let mut seen = 0;
        for number in numbers {
            let lot = self.lots.get(number.wrapping_sub(above) as usize);
            seen ^= lot.map_or(0, |lot| lot.meta.0);
        }
        std::hint::black_box(seen);
    }

    /// Must follow [`Lot::count`] where that says so.
    #[cold]
    pub fn first_or_carry(&mut self, number: u32) {
        if self.lots[number as usize].records == 0 {
            *self.carries.entry(number).or_default() += 1;
        } else if !self.carries.contains_key(&number) {
            let chunk = number as usize / CHUNK;
            if self.used.len() <= chunk {
                self.used.resize(chunk + 1, 0);
            }
            self.used[chunk] += 1;
        }
    }

    /// Makes room up to the series; `meta` tells each new lot's.
    pub fn cover(&mut self, number: u32, series: usize, meta: &dyn Fn(u32) -> Meta) {
        let chunk = number as usize / CHUNK;
        let first = chunk * CHUNK;
        let lots = self.lots.chunk_mut(chunk);
        let until = series.min(first + CHUNK);
        if until == first + CHUNK {
            lots.reserve_exact(CHUNK - lots.len());
        }
        for index in first + lots.len()..until {
            lots.push(Lot { meta: meta(index as u32), ..Lot::default() });
        }
    }

    /// Sum and number of records; zeros where nothing was counted.
    pub fn read(&self, number: u32) -> (i128, u64) {
        let Some(lot) = self.lots.get(number as usize) else {
            return (0, 0);
        };
        let carries = u64::from(self.carries.get(&number).copied().unwrap_or(0));
        (lot.value(), carries << 32 | u64::from(lot.records))
    }

    /// Puts a lot back as a snapshot told it; its chunk must be covered.
    pub fn restore(&mut self, number: u32, value: i128, records: u64) {
        let lot = self.lots.get_mut(number as usize).expect("a restored lot's chunk is covered");
        lot.set_value(value);
        lot.records = records as u32;
        if records >> 32 > 0 {
            self.carries.insert(number, (records >> 32) as u32);
        }
        let chunk = number as usize / CHUNK;
        if self.used.len() <= chunk {
            self.used.resize(chunk + 1, 0);
        }
        self.used[chunk] += 1;
    }

    /// Forgets a lot, and its chunk with the last one.
    fn forget(&mut self, number: u32) {
        if self.read(number).1 == 0 {
            return;
        }
        self.carries.remove(&number);
        let chunk = number as usize / CHUNK;
        self.used[chunk] -= 1;
        if self.used[chunk] == 0 {
            self.lots.clear_chunk(chunk);
        } else if let Some(lot) = self.lots.get_mut(number as usize) {
            *lot = Lot { meta: lot.meta, ..Lot::default() };
        }
    }

    /// Series with a counted record, in order.
    pub fn counted(&self) -> impl Iterator<Item = (u32, i128, u64)> + '_ {
        (0..self.lots.chunk_count()).flat_map(move |chunk| {
            let numbers = (0..self.lots.chunk(chunk).len()).map(move |index| (chunk * CHUNK + index) as u32);
            numbers.filter_map(move |number| {
                let (value, records) = self.read(number);
                (records > 0).then_some((number, value, records))
            })
        })
    }

    fn freeze(&mut self) -> Lane {
        Lane { lots: self.lots.freeze(), used: self.used.clone(), carries: self.carries.clone() }
    }
}

/// Which lot of a side table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SideKey {
    pub number: u32,
    /// Ordinal of the cycle.
    pub cycle: u32,
    /// Ordinal of the hour or day in the cycle; `None` for a month.
    pub bucket: Option<u16>,
}

/// A lot of a side table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideLot {
    pub value: i128,
    pub records: u64,
}

/// An ordered table of lots, grouped so that a write beside a frozen twin copies one group.
#[derive(Clone, Debug, Default)]
pub struct SideTable {
    groups: BTreeMap<u32, Arc<BTreeMap<SideKey, SideLot>>>,
    len: usize,
}

/// Series of a group.
const GROUP: u32 = 256;

impl SideTable {
    /// Joins one record; refused where `join` refuses, or where a new lot would be one more than `lots_max`.
    pub fn add(
        &mut self,
        key: SideKey,
        join: impl FnOnce(i128) -> Result<i128, Refusal>,
        lots_max: usize,
    ) -> Result<(), Refusal> {
        let is_full = self.len >= lots_max;
        let old = self.get(&key);
        if old.is_none() && is_full {
            let detail = format!("the slot keeps {lots_max} such counters, which is all it may; use a coarser meter");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let sum = join(old.unwrap_or_default().value)?;
        self.len += usize::from(old.is_none());
        let group = Arc::make_mut(self.groups.entry(key.number / GROUP).or_default());
        let lot = group.entry(key).or_default();
        *lot = SideLot { value: sum, records: lot.records + 1 };
        Ok(())
    }

    pub fn get(&self, key: &SideKey) -> Option<SideLot> {
        self.groups.get(&(key.number / GROUP)).and_then(|group| group.get(key)).copied()
    }

    /// Puts a lot back as a snapshot told it.
    pub fn restore(&mut self, key: SideKey, lot: SideLot) {
        let group = Arc::make_mut(self.groups.entry(key.number / GROUP).or_default());
        self.len += usize::from(group.insert(key, lot).is_none());
    }

    /// The lots of one series in one cycle, in order of bucket.
    pub fn of(&self, number: u32, cycle: u32) -> impl Iterator<Item = (SideKey, SideLot)> + '_ {
        let from = SideKey { number, cycle, bucket: None };
        let until = SideKey { number, cycle, bucket: Some(u16::MAX) };
        let group = self.groups.get(&(number / GROUP));
        group.into_iter().flat_map(move |group| group.range(from..=until)).map(|(key, lot)| (*key, *lot))
    }

    /// Whether a series has any lot, in any cycle.
    pub fn has(&self, number: u32) -> Option<u32> {
        let from = SideKey { number, cycle: 0, bucket: None };
        let until = SideKey { number, cycle: u32::MAX, bucket: Some(u16::MAX) };
        let group = self.groups.get(&(number / GROUP))?;
        group.range(from..=until).next_back().map(|(key, _)| key.cycle)
    }

    /// All lots, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SideKey, SideLot)> + '_ {
        self.groups.values().flat_map(|group| group.iter()).map(|(key, lot)| (*key, *lot))
    }

    /// Forgets the lots of one series in one cycle.
    fn forget(&mut self, number: u32, cycle: u32) {
        let keys: Vec<SideKey> = self.of(number, cycle).map(|(key, _)| key).collect();
        if keys.is_empty() {
            return;
        }
        let group = Arc::make_mut(self.groups.entry(number / GROUP).or_default());
        for key in &keys {
            group.remove(key);
        }
        self.len -= keys.len();
        if group.is_empty() {
            self.groups.remove(&(number / GROUP));
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// `value + quantity` where its magnitude is at most `ceiling`, else QUANTITY_TOO_LARGE.
#[inline]
pub fn add(value: i128, quantity: i128, ceiling: i128) -> Result<i128, Refusal> {
    match value.checked_add(quantity) {
        Some(sum) if sum.unsigned_abs() <= ceiling.unsigned_abs() => Ok(sum),
        _ => Err(too_large(quantity, ceiling)),
    }
}

/// The higher of both, where `quantity`, which is not below zero, is at most `ceiling`, else QUANTITY_TOO_LARGE.
pub fn raise(value: i128, quantity: i128, ceiling: i128) -> Result<i128, Refusal> {
    add(0, quantity, ceiling).map(|quantity| quantity.max(value))
}

#[cold]
fn too_large(quantity: i128, ceiling: i128) -> Refusal {
    let detail = format!(
        "adding {quantity} (at the meter's scale) would take the counter past {ceiling}, beyond which no charge can be \
         computed exactly; check the quantity's unit"
    );
    Refusal::new(Reason::QuantityTooLarge, detail)
}

/// All counters of one slot.
#[derive(Debug, Default)]
pub struct Counters {
    /// By cycle ordinal modulo [`LANES`].
    pub lanes: [Lane; LANES],
    /// Hour and day lots of the same cycles.
    pub buckets: SideTable,
    /// Counted after the cycle's cut.
    pub late: SideTable,
    /// What some meters keep beside a sum, of the cycles in memory.
    pub kept: KeptTable,
    /// The same of records that came after the cycle's cut.
    pub late_kept: KeptTable,
}

/// The lane of a cycle.
#[inline]
pub fn lane_of(cycle_ordinal: u32) -> usize {
    cycle_ordinal as usize % LANES
}

impl Counters {
    /// Forgets what a series counted in a cycle that is archived; late deltas stay.
    pub fn forget(&mut self, number: u32, cycle: u32) {
        self.lanes[lane_of(cycle)].forget(number);
        self.buckets.forget(number, cycle);
        self.kept.forget(number, cycle);
    }

    /// Makes the level at the end of a cycle, which is forgotten next, the level that the next one begins with.
    pub fn carry(&mut self, number: u32, cycle: u32, until: Timestamp, changes: bool) {
        let entries = self.kept.of(number, cycle, cycle);
        let next = |at| KeptKey { number, cycle: cycle + 1, at };
        if !changes {
            if let Some((key, kept)) = entries.into_iter().next_back() {
                self.kept.put(next(key.at), kept, Join::Latest);
            }
            return;
        }
        let value = entries.iter().fold(0i128, |sum, (_, kept)| sum.saturating_add(kept.value));
        if value != 0 {
            // An instant of the cycle that ends, so that it is not taken for a change within the next.
            let at = i128::from(until.0) - 1;
            self.kept.put(next(at), Kept { value, ..Kept::default() }, Join::Add);
        }
    }

    /// Tells the lots of a series that its meta changed.
    pub fn set_meta(&mut self, number: u32, meta: Meta) {
        for lane in &mut self.lanes {
            if let Some(lot) = lane.lot_mut(number) {
                lot.meta = meta;
            }
        }
    }

    /// A twin that stays as it is now.
    pub fn freeze(&mut self) -> Counters {
        let lanes = self.lanes.each_mut().map(Lane::freeze);
        let (buckets, late) = (self.buckets.clone(), self.late.clone());
        Counters { lanes, buckets, late, kept: self.kept.clone(), late_kept: self.late_kept.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_packs_and_unpacks() {
        for (root, meter, checked) in [(0, 0, false), (524_287, 4_095, true), (1, 4_095, false), (524_287, 0, true)] {
            let meta = Meta::new(root, meter, checked);
            assert_eq!((meta.root(), meta.meter(), meta.checked()), (root as usize, usize::from(meter), checked));
        }
        assert_eq!(std::mem::size_of::<Lot>(), 24);
    }

    #[test]
    fn sums_stay_below_their_ceiling() {
        fn check(value: i128, quantity: i128, ceiling: i128, expected: Option<i128>) {
            assert_eq!(add(value, quantity, ceiling).ok(), expected);
        }
        check(1, 2, 3, Some(3));
        check(1, 3, 3, None);
        check(-3, -1, 3, None);
        check(-3, 6, 3, Some(3));
        check(i128::MAX, 1, i128::MAX, None);
        check(i128::MIN + 1, -1, i128::MAX, None);
    }

    #[test]
    fn lanes_count_records_past_32_bits_and_forget() {
        let mut lane = Lane::default();
        lane.cover(300, 301, &|_| Meta::default());
        lane.restore(300, -5, u64::from(u32::MAX));
        let mut count = |sum: i128| {
            if lane.lot_mut(300).unwrap().count(sum) {
                lane.first_or_carry(300);
            }
            lane.read(300)
        };
        assert_eq!(count(-6), (-6, 1 << 32));
        assert_eq!(count(-7), (-7, (1 << 32) + 1));
        assert_eq!(lane.counted().collect::<Vec<_>>(), [(300, -7, (1 << 32) + 1)]);
        lane.forget(300);
        assert_eq!((lane.read(300), lane.counted().count()), ((0, 0), 0));
        assert!(lane.lot_mut(300).is_none());
    }

    #[test]
    fn side_tables_are_bounded_and_ordered() {
        let key = |number, cycle, bucket| SideKey { number, cycle, bucket: Some(bucket) };
        let mut table = SideTable::default();
        for (number, cycle, bucket) in [(300, 2, 5), (300, 2, 1), (300, 3, 0), (1, 2, 0)] {
            table.add(key(number, cycle, bucket), |value| add(value, 2, 10), 4).unwrap();
        }
        assert_eq!(table.add(key(9, 9, 9), |value| add(value, 2, 10), 4).unwrap_err().reason, Reason::LimitReached);
        table.add(key(300, 2, 5), |value| add(value, 8, 10), 4).unwrap();
        assert_eq!(
            table.add(key(300, 2, 5), |value| add(value, 1, 10), 4).unwrap_err().reason,
            Reason::QuantityTooLarge
        );
        let of: Vec<_> = table.of(300, 2).map(|(key, lot)| (key.bucket, lot.value, lot.records)).collect();
        assert_eq!(of, [(Some(1), 2, 1), (Some(5), 10, 2)]);
        table.forget(300, 2);
        assert_eq!((table.len(), table.iter().count(), table.has(300)), (2, 2, Some(3)));
    }
}
