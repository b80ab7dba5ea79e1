//! A prorated ladder: the pool's level climbs it at every instant, and each unit pays its slice's rate for the share of the
//! cycle in which it was there (BILLING.md decision 2). What a slice costs is `climb.rs`'s and the ladder's own matter.

use std::collections::BTreeMap;

use ethnum::I256;

use super::usage_stage::{Members, UsageStage};
use crate::base::money::{Quantity, SCALE};
use crate::base::wide::{Rounding, divide, power_of_ten};
use crate::pricing::catalogue::Price;
use crate::pricing::document::{Aggregation, Bound};
use crate::pricing::rate::Slice;

impl UsageStage<'_> {
    /// The slices that a pool's level climbs, flat parts of all that its peak reaches included. Its members convert alike.
    /// `None` on overflow.
    pub(super) fn walk(&self, price: &Price, members: &Members) -> Option<Vec<Slice>> {
        let Some(first) = members.first().map(|index| &self.used[*index]) else { return Some(Vec::new()) };
        let convert = self.catalogue.sku(first.sku).convert;
        let scale = self.catalogue.meter(first.measured.meter).scale;
        let hours = if convert.by_hours_of_cycle { self.hours } else { 1 };
        // Levels and bounds as integers of 24 decimals in the meter's unit: a level has at most 22 digits and 12 decimals,
        // a bound 28 and a divisor 30, and a cycle 10^16 nanoseconds, so that all products stay below 10^75.
        let unit = I256::from(convert.divide.0) * I256::from(hours);
        let step = I256::from(power_of_ten(2 * SCALE - scale));
        let ends: Vec<I256> =
            price.ladder.tiers.iter().filter_map(|tier| Some(I256::from(tier.end?.0) * unit)).collect();
        let is_below = |end: &I256, level: I256| match price.ladder.bound {
            Bound::Upper => *end < level,
            Bound::Lower => *end <= level,
        };
        let tier_of = |level: I256| ends.partition_point(|end| is_below(end, level));
        // By the tier that a level reaches: the integral of such levels, and for how long they lasted.
        let mut integrals = vec![I256::ZERO; ends.len() + 1];
        let mut times = integrals.clone();
        let mut peak = I256::ZERO;
        for (level, time) in self.levels(members) {
            let level = I256::from(level) * step;
            let tier = tier_of(level);
            integrals[tier] += level * I256::from(time);
            times[tier] += I256::from(time);
            peak = peak.max(level);
        }
        let reached = tier_of(peak);
        let length = unit * I256::from(self.measure.length(Aggregation::Level));
        let mut beyond: I256 = times.iter().copied().sum();
        let (mut within, mut before) = (I256::ZERO, 0i128);
        let mut quantities = Vec::with_capacity(reached + 1);
        for tier in 0..=reached {
            within += integrals[tier];
            beyond -= times[tier];
            // All below the tier's end. Each is rounded once, so that the slices sum to the whole measure.
            let below = match ends.get(tier) {
                Some(end) if beyond > I256::ZERO => within + beyond * *end,
                _ => within,
            };
            let below = i128::try_from(divide(below, length, Rounding::HalfUp)).ok()?;
            quantities.push(Quantity(below - before));
            before = below;
        }
        price.ladder.charge_slices(&quantities)
    }

    /// The levels of a pool and for how many nanoseconds each lasted.
    fn levels(&self, members: &Members) -> Vec<(i128, i128)> {
        let mut changes: BTreeMap<i128, i128> = BTreeMap::new();
        for index in members {
            let mut level = 0;
            for (at, own) in self.measure.levels(&self.used[*index].measured) {
                *changes.entry(at).or_default() += own - level;
                level = own;
            }
        }
        let end = i128::from(self.measure.cycle.end().0);
        let untils = changes.keys().skip(1).copied().chain(std::iter::once(end));
        let mut level = 0;
        let levels = changes.iter().zip(untils).map(|((at, change), until)| {
            level += change;
            (level, until - at)
        });
        levels.collect()
    }
}
