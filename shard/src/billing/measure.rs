//! What the series of a pool come to together, by their meter's aggregation (BILLING.md decision 3): a sum, the highest
//! bucket of the sum, a percentile of it. Still in the meter's unit; `convert.rs` makes priced units of it.

use std::collections::BTreeMap;
use std::ops::Range;

use ethnum::I256;

use super::attribute::netted;
use super::fold::Counter;
use crate::base::time::{CycleId, HOUR};
use crate::pricing::catalogue::{Catalogue, MeterIndex};
use crate::pricing::document::{Aggregation, Bucket};

/// One series as its meter measures it.
#[derive(Clone, Debug)]
pub struct Measured {
    pub meter: MeterIndex,
    /// What the whole cycle comes to, at the meter's scale; not below zero.
    pub value: i128,
    /// Its counters, sorted by bucket.
    pub counters: Range<usize>,
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
                let step = self.catalogue.meter(members[0].meter).bucket;
                percentile_95(self.buckets(members, window).into_values().collect(), self.intervals(step))
            }
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

    /// Buckets of the cycle.
    fn intervals(&self, bucket: Bucket) -> usize {
        let hours = ((self.cycle.end().0 - self.cycle.start().0) / HOUR) as usize;
        match bucket {
            Bucket::Month => 1,
            Bucket::Day => hours / 24,
            Bucket::Hour => hours,
            Bucket::FiveMinutes => hours * 12,
        }
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
