//! What the series of a pool come to together, by their meter's aggregation (BILLING.md decision 3): a sum, the highest
//! bucket of the sum, a percentile of it. Still in the meter's unit; `convert.rs` makes priced units of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ethnum::I256;

use super::attribute::netted;
use super::bill::UnpricedReason;
use super::input::Counter;
use crate::base::time::{CycleId, HOUR};
use crate::base::wide::{Rounding, divide};
use crate::pricing::catalogue::{Catalogue, Meter, MeterIndex};
use crate::pricing::document::{Aggregation, Bucket, LevelRecords, LevelWeigh};
use crate::pricing::limits::LEVEL_MAX;
use crate::usage::kept::{self, Entry, Leveling, NoLevel, UNIQUE_MAX};

/// One series as its meter measures it.
#[derive(Clone, Debug)]
pub struct Measured {
    pub meter: MeterIndex,
    /// What the whole cycle comes to, not below zero: at the meter's scale, of a level times the cycle's length.
    pub value: i128,
    /// The same as people read it, at the meter's scale, rounded half up where it does not end there.
    pub shown: i128,
    /// Sum of its counters where they are added up, else `value`.
    pub sum: i128,
    /// Its counters, sorted by bucket.
    pub counters: Range<usize>,
}

impl Measured {
    /// A series that nothing was counted in.
    pub fn nothing(meter: MeterIndex) -> Measured {
        Measured { meter, value: 0, shown: 0, sum: 0, counters: 0..0 }
    }

    /// What the counters of a series, sorted by bucket, come to; `place` is the sum of their values and where the first of
    /// them is. The error has a measure to be shown.
    pub fn of(
        meter: &Meter,
        index: MeterIndex,
        cycle: CycleId,
        counters: &[Counter<'_>],
        place: (i128, usize),
    ) -> Result<Measured, (Measured, UnpricedReason)> {
        let (sum, first) = place;
        let whole =
            |value, shown, sum| Measured { meter: index, value, shown, sum, counters: first..first + counters.len() };
        let kept = || counters.iter().flat_map(|counter| counter.kept.iter().cloned()).collect::<Vec<Entry>>();
        let plain = |value| Ok(whole(value, value, value));
        match meter.aggregation {
            _ if sum < 0 && meter.aggregation != Aggregation::Level => {
                Err((whole(0, sum, 0), UnpricedReason::BelowZero))
            }
            Aggregation::Sum | Aggregation::Count => plain(sum),
            Aggregation::Maximum => plain(counters.iter().map(|counter| counter.value).max().unwrap_or(0)),
            Aggregation::Percentile95 => {
                let values = counters.iter().map(|counter| I256::from(counter.value)).collect();
                // One of the counters' own values, so it fits.
                let value = i128::try_from(percentile_95(values, intervals(cycle, meter.bucket))).unwrap_or(i128::MAX);
                Ok(whole(value, value, sum))
            }
            Aggregation::Latest => plain(kept().last().map_or(0, |entry| entry.value)),
            Aggregation::Unique => plain(kept::values(&kept()).count() as i128),
            Aggregation::Level => {
                let mut entries = kept();
                entries.sort_by_key(|entry| entry.at);
                let integral = kept::integral(&entries, &cycle.period(), &leveling(meter)).map_err(|wrong| {
                    let reason = match wrong {
                        NoLevel::BelowZero => UnpricedReason::BelowZero,
                        NoLevel::TooLarge => UnpricedReason::TooMuch,
                    };
                    (whole(0, sum, 0), reason)
                })?;
                let length = I256::from(cycle.end().0 - cycle.start().0);
                let shown = divide(I256::from(integral), length, Rounding::HalfUp);
                Ok(whole(integral, i128::try_from(shown).unwrap_or(i128::MAX), integral))
            }
        }
    }

    /// Whether anything was used.
    pub fn is_used(&self) -> bool {
        self.sum > 0
    }
}

/// Where measures are taken.
#[derive(Clone, Copy)]
pub struct Measure<'a> {
    pub catalogue: &'a Catalogue,
    pub cycle: CycleId,
    pub counters: &'a [Counter<'a>],
}

/// Hours of the cycle, from 0, half open.
pub type Window = Range<u32>;

impl<'a> Measure<'a> {
    fn of(&self, series: &Measured) -> &'a [Counter<'a>] {
        &self.counters[series.counters.clone()]
    }

    /// Hour of the cycle in which a counter's bucket begins.
    pub fn hour_of(&self, series: &Measured, counter: &Counter<'_>) -> u32 {
        let bucket = u32::from(counter.bucket.unwrap_or(0));
        match self.catalogue.meter(series.meter).bucket {
            Bucket::Month => 0,
            Bucket::Day => bucket * 24,
            Bucket::Hour => bucket,
            Bucket::FiveMinutes => bucket / 12,
        }
    }

    /// The counters of a series as (hour, value), corrections taken off what they correct; their sum is not below zero.
    pub fn lots(&self, series: &Measured) -> Vec<(u32, i128)> {
        let counters = self.of(series);
        let values = netted(&counters.iter().map(|counter| counter.value).collect::<Vec<_>>());
        counters.iter().map(|counter| self.hour_of(series, counter)).zip(values).collect()
    }

    /// What one series comes to within some hours.
    pub fn within(&self, series: &Measured, window: &Window) -> i128 {
        let lots = self.lots(series);
        let inside = lots.iter().filter(|(hour, _)| window.contains(hour)).map(|(_, value)| *value);
        match self.catalogue.meter(series.meter).aggregation {
            Aggregation::Maximum => inside.max().unwrap_or(0),
            _ => inside.sum(),
        }
    }

    /// Records of one series, within some hours or all.
    pub fn records(&self, series: &Measured, window: Option<&Window>) -> u64 {
        let inside =
            |counter: &&Counter<'_>| window.is_none_or(|window| window.contains(&self.hour_of(series, counter)));
        self.of(series).iter().filter(inside).fold(0, |sum, counter| sum.saturating_add(counter.records))
    }

    /// What series of one aggregation come to together, in the cycle or within some hours; `values` are theirs alone.
    pub fn together(&self, members: &[&Measured], values: &[i128], window: Option<&Window>) -> I256 {
        let aggregation = members.first().map(|series| self.catalogue.meter(series.meter).aggregation);
        match aggregation {
            Some(Aggregation::Maximum) => self.buckets(members, window).into_values().max().unwrap_or_default(),
            Some(Aggregation::Percentile95) => {
                let bucket = self.catalogue.meter(members[0].meter).bucket;
                percentile_95(self.buckets(members, window).into_values().collect(), intervals(self.cycle, bucket))
            }
            Some(Aggregation::Unique) => match members {
                [_] => values.iter().map(|value| I256::from(*value)).sum(),
                _ => I256::from(self.union(members).len() as u64),
            },
            _ => values.iter().map(|value| I256::from(*value)).sum(),
        }
    }

    /// The sum of the members, bucket by bucket.
    fn buckets(&self, members: &[&Measured], window: Option<&Window>) -> BTreeMap<Option<u16>, I256> {
        let mut buckets = BTreeMap::new();
        for series in members {
            for counter in self.of(series) {
                if window.is_none_or(|window| window.contains(&self.hour_of(series, counter))) {
                    *buckets.entry(counter.bucket).or_insert(I256::ZERO) += I256::from(counter.value);
                }
            }
        }
        buckets
    }

    /// The levels of one series, each with the instant from which on it lasts; the first is that of the cycle's beginning.
    pub fn levels(&self, series: &Measured) -> Vec<(i128, i128)> {
        let mut entries: Vec<Entry> = self.of(series).iter().flat_map(|counter| counter.kept.iter().cloned()).collect();
        entries.sort_by_key(|entry| entry.at);
        kept::levels(&entries, &self.cycle.period(), &leveling(self.catalogue.meter(series.meter)))
    }

    /// What several series keep, as (instant, id, place of the series, value), in order.
    pub fn kept_records(&self, members: &[&Measured]) -> Vec<(i128, &'a [u8], usize, i128)> {
        let mut records = Vec::new();
        for (place, series) in members.iter().enumerate() {
            let kept = self.of(series).iter().flat_map(|counter| counter.kept);
            records.extend(kept.map(|entry| (entry.at, &*entry.id, place, entry.value)));
        }
        records.sort();
        records
    }

    /// The different values of several series; one beyond [`UNIQUE_MAX`] is enough.
    pub fn union(&self, members: &[&Measured]) -> BTreeSet<i128> {
        let counters = members.iter().flat_map(|series| self.of(series));
        let mut union = BTreeSet::new();
        for value in counters.flat_map(|counter| kept::values(counter.kept)) {
            union.insert(value);
            if union.len() > UNIQUE_MAX {
                break;
            }
        }
        union
    }

    /// What the measure of a meter is to be divided by to be at its scale: of a level, the cycle's length.
    pub fn length(&self, aggregation: Aggregation) -> i128 {
        match aggregation {
            Aggregation::Level => i128::from(self.cycle.end().0 - self.cycle.start().0),
            _ => 1,
        }
    }
}

/// How a meter of levels reads what it keeps.
fn leveling(meter: &Meter) -> Leveling {
    Leveling {
        changes: meter.level.records == LevelRecords::Change,
        by_day: meter.level.weigh == LevelWeigh::Day,
        max: LEVEL_MAX,
    }
}

/// Buckets of a cycle.
fn intervals(cycle: CycleId, bucket: Bucket) -> usize {
    let hours = ((cycle.end().0 - cycle.start().0) / HOUR) as usize;
    match bucket {
        Bucket::Month => 1,
        Bucket::Day => hours / 24,
        Bucket::Hour => hours,
        Bucket::FiveMinutes => hours * 12,
    }
}

/// Of `intervals` values, those not given being zero, the highest that is left when the highest floor(5%) are dropped.
fn percentile_95(mut values: Vec<I256>, intervals: usize) -> I256 {
    let dropped = intervals / 20;
    values.sort_by(|a, b| b.cmp(a));
    values.get(dropped).copied().unwrap_or_default().max(I256::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_floor_of_five_percent_are_dropped() {
        fn check(values: &[i128], intervals: usize, expected: i128) {
            let values = values.iter().map(|value| I256::from(*value)).collect();
            assert_eq!(percentile_95(values, intervals), I256::from(expected));
        }
        check(&[5, 9, 7], 19, 9);
        check(&[5, 9, 7], 20, 7);
        check(&[5, 9, 7], 39, 7);
        check(&[5, 9, 7], 40, 5);
        check(&[5, 9, 7], 60, 0);
        check(&[-5], 19, 0);
        check(&[], 720, 0);
        // 1 to 100: five are dropped, 95 is left.
        check(&(1..=100).collect::<Vec<_>>(), 100, 95);
    }
}
