//! Counters become priced units: a pool's total is divided once and, if asked, rounded; the members get parts of it by
//! largest remainder (BILLING.md decision 6). Where a price begins anew each day or hour, each of them is a pool.

use std::collections::{BTreeMap, BTreeSet};

use ethnum::I256;

use super::attribute::prorata;
use super::bill::UnpricedReason;
use super::input::FoldError;
use super::measure::Window;
use super::usage_stage::{Members, UsageStage};
use crate::base::money::{Money, Quantity, SCALE};
use crate::base::wide::{Rounding, divide, power_of_ten};
use crate::pricing::catalogue::{Convert, Price};
use crate::pricing::document::{Aggregation, Attribution, Bucket, PoolPeriod};
use crate::usage::kept::{RECORDS_MAX, UNIQUE_MAX};

impl UsageStage<'_> {
    /// The times at which a price's pools begin anew: one for the whole cycle, or each day or hour in which a member
    /// has a counter.
    pub(super) fn windows(&self, price: &Price, members: &Members) -> Vec<Option<Window>> {
        let hours = match price.period {
            PoolPeriod::Cycle | PoolPeriod::ContractYear => return vec![None],
            PoolPeriod::Day => 24,
            PoolPeriod::Hour => 1,
        };
        let mut begins = BTreeSet::new();
        for index in members {
            let measured = &self.used[*index].measured;
            let counters = self.measure.counters[measured.counters.clone()].iter();
            begins.extend(counters.map(|counter| self.measure.hour_of(measured, counter) / hours * hours));
        }
        begins.into_iter().map(|begin| Some(begin..begin + hours)).collect()
    }

    /// Takes those of a pool's members out of it that count different values, where there are more than can be counted;
    /// all where a price looks at records, and there are too many of them.
    pub(super) fn drop_too_many(&mut self, price: &Price, members: &mut Members) {
        if price.records.is_some() {
            let counters =
                members.iter().flat_map(|index| &self.measure.counters[self.used[*index].measured.counters.clone()]);
            if counters.map(|counter| counter.kept.len()).sum::<usize>() > RECORDS_MAX {
                self.dropped.extend(members.drain(..).map(|index| (index, UnpricedReason::TooMuch)));
            }
            return;
        }
        let is_unique = |index: &usize| {
            let meter = self.used[*index].measured.meter;
            self.catalogue.meter(meter).aggregation == Aggregation::Unique
        };
        let counting: Vec<usize> = members.iter().copied().filter(is_unique).collect();
        let series: Vec<_> = counting.iter().map(|index| &self.used[*index].measured).collect();
        if series.is_empty() || self.measure.union(&series).len() <= UNIQUE_MAX {
            return;
        }
        members.retain(|index| !counting.contains(index));
        self.dropped.extend(counting.into_iter().map(|index| (index, UnpricedReason::TooMuch)));
    }

    /// Fills in what is left of the members, and their lots where their price begins anew within the cycle.
    pub(super) fn convert(&mut self, price: &Price, members: &Members) -> Result<(), FoldError> {
        for window in self.windows(price, members) {
            let parts = self.convert_within(price, members, window.as_ref())?;
            for (index, part) in members.iter().zip(parts) {
                self.left[*index] += part;
                if let Some(window) = &window {
                    let lots = self.lots_within(*index, part, window);
                    self.lots.entry(*index).or_default().extend(lots);
                }
            }
        }
        Ok(())
    }

    /// A part of a window as lots of its hours, where they can tell.
    fn lots_within(&self, index: usize, part: i128, window: &Window) -> Vec<(u32, i128)> {
        let measured = &self.used[index].measured;
        if self.catalogue.meter(measured.meter).aggregation == Aggregation::Maximum {
            return vec![(window.start, part)];
        }
        let lots = self.measure.lots(measured);
        let inside: Vec<(u32, i128)> = lots.into_iter().filter(|(hour, _)| window.contains(hour)).collect();
        let values: Vec<i128> = inside.iter().map(|(_, value)| *value).collect();
        if values.iter().all(|value| *value == 0) {
            return vec![(window.start, part)];
        }
        inside.iter().map(|(hour, _)| *hour).zip(prorata(part, &values)).collect()
    }

    /// The members' priced units, in the cycle or within some hours. Members of another conversion or aggregation are
    /// divided apart, and peaks and percentiles of other buckets: an hour's quantity is not added to a day's.
    fn convert_within(
        &self,
        price: &Price,
        members: &Members,
        window: Option<&Window>,
    ) -> Result<Vec<i128>, FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the quantity under price {}", price.id) };
        let mut kinds: BTreeMap<(Convert, u32, Aggregation, Option<Bucket>), Vec<usize>> = BTreeMap::new();
        for (place, index) in members.iter().enumerate() {
            let used = &self.used[*index];
            let meter = self.catalogue.meter(used.measured.meter);
            // Sums and counts are added up alike, so they are divided together.
            let aggregation = match meter.aggregation {
                Aggregation::Count => Aggregation::Sum,
                other => other,
            };
            let by_bucket = matches!(aggregation, Aggregation::Maximum | Aggregation::Percentile95);
            let bucket = Some(meter.bucket).filter(|_| by_bucket);
            let kind = (self.catalogue.sku(used.sku).convert, meter.scale, aggregation, bucket);
            kinds.entry(kind).or_default().push(place);
        }
        let mut units = vec![0; members.len()];
        for ((convert, scale, aggregation, _), places) in &kinds {
            let series: Vec<_> = places.iter().map(|place| &self.used[members[*place]].measured).collect();
            let alone: Vec<i128> = match window {
                None => series.iter().map(|series| series.value).collect(),
                Some(window) => series.iter().map(|series| self.measure.within(series, window)).collect(),
            };
            let parts =
                if *aggregation == Aggregation::Sum && convert.divide == Quantity::ONE && !convert.by_hours_of_cycle {
                    let step = power_of_ten(SCALE - scale);
                    let parts: Option<Vec<i128>> = alone.iter().map(|value| value.checked_mul(step)).collect();
                    parts.ok_or_else(overflow)?
                } else {
                    let sum = self.measure.together(&series, &alone, window);
                    let hours = if convert.by_hours_of_cycle { self.hours } else { 1 };
                    let scaled = sum.checked_mul(I256::from(power_of_ten(2 * SCALE - scale))).ok_or_else(overflow)?;
                    let length = I256::from(self.measure.length(*aggregation));
                    let divisor = I256::from(convert.divide.0) * I256::from(hours) * length;
                    let total = divide(scaled, divisor, Rounding::HalfUp);
                    self.shares(i128::try_from(total).map_err(|_| overflow())?, &series, alone)
                };
            for (place, part) in places.iter().zip(parts) {
                units[*place] = part;
            }
        }
        if let Some((decimals, mode)) = price.round_units {
            let total = units.iter().try_fold(0i128, |sum, part| sum.checked_add(*part)).ok_or_else(overflow)?;
            if total != 0 {
                let rounded = Money(total).round(decimals, mode).ok_or_else(overflow)?;
                units = prorata(rounded.0, &units);
            }
        }
        Ok(units)
    }

    /// A total divided by what each series comes to alone. The percentiles of all may be zero where that of their sum is
    /// not; then it is divided by what they used.
    fn shares(&self, total: i128, series: &[&super::measure::Measured], mut alone: Vec<i128>) -> Vec<i128> {
        if total == 0 {
            return vec![0; series.len()];
        }
        if alone.iter().all(|value| *value == 0) {
            alone = series.iter().map(|series| series.sum).collect();
        }
        prorata(total, &alone)
    }

    /// Cuts the series that any sequence or change of price will ask for into lots of their buckets.
    pub(super) fn cut_lots(&mut self) {
        for (index, used) in self.used.iter().enumerate() {
            let sku = self.catalogue.sku(used.sku);
            let by_pool = sku.pools.iter().any(|pool| self.catalogue.pool(*pool).share == Attribution::Sequence);
            let by_price = self.catalogue.price(sku.price).attribution == Attribution::Sequence;
            let changes = &self.catalogue.price(sku.price).changes;
            let by_change =
                !changes.is_empty() && self.catalogue.price(sku.price).ladders(self.measure.cycle).len() > 1;
            if !by_pool && !by_price && !by_change || self.lots.contains_key(&index) {
                continue;
            }
            let (times, values): (Vec<u32>, Vec<i128>) = self.measure.lots(&used.measured).into_iter().unzip();
            let parts = match self.left[index] {
                0 => vec![0; values.len()],
                left => prorata(left, &values),
            };
            self.lots.insert(index, times.into_iter().zip(parts).collect());
        }
    }
}
