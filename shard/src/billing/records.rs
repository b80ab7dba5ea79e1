//! A percentage that looks at records one by one: free ones first, in order of time, then the share of each with its fixed
//! part, minimum and maximum (BILLING.md decision 2). A series' records are summed exactly and rounded once.

use ethnum::I256;

use super::bill::Source;
use super::input::FoldError;
use super::usage_stage::{Cell, Members, UsageStage, sum};
use crate::base::money::{Money, Quantity, RATE_SCALE, Rate};
use crate::base::wide::{Rounding, divide, power_of_ten};
use crate::pricing::catalogue::{Price, RecordRule};
use crate::pricing::rate::Slice;

/// What is still free.
struct Allowance {
    records: Option<u64>,
    amount: Option<i128>,
}

impl Allowance {
    /// What of a record is free; `None` where nothing is left.
    fn take(&mut self, size: i128) -> Option<i128> {
        let is_over = self.records == Some(0) || self.amount == Some(0) || (self.records, self.amount) == (None, None);
        if is_over {
            return None;
        }
        let part = self.amount.map_or(size, |amount| amount.min(size));
        self.records = self.records.map(|records| records - 1);
        self.amount = self.amount.map(|amount| amount - part);
        Some(part)
    }
}

/// What one series comes to.
#[derive(Clone, Copy, Default)]
struct Sum {
    free: i128,
    charged: i128,
    /// In steps of 10^-30.
    exact: I256,
}

impl UsageStage<'_> {
    /// Charges a pool's records.
    pub(super) fn charge_records(
        &mut self,
        price: &Price,
        rule: &RecordRule,
        pool: Option<u32>,
        members: &Members,
    ) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {}", price.id) };
        let rate = price.ladder.tiers[0].rate;
        let series: Vec<_> = members.iter().map(|index| &self.used[*index].measured).collect();
        let steps: Vec<i128> = series
            .iter()
            .map(|series| power_of_ten(crate::base::money::SCALE - self.catalogue.meter(series.meter).scale))
            .collect();
        let mut left = Allowance { records: rule.free, amount: rule.free_amount.map(|amount| amount.0) };
        let mut sums = vec![Sum::default(); members.len()];
        // An amount in steps of 10^-12, in those of a product with a rate.
        let exact = |amount: Money| I256::from(amount.0) * I256::from(power_of_ten(RATE_SCALE));
        for (_, _, place, value) in self.measure.kept_records(&series) {
            let size = value.checked_mul(steps[place]).ok_or_else(overflow)?;
            let free = left.take(size);
            let own = &mut sums[place];
            own.free += free.unwrap_or(0);
            if free == Some(size) {
                continue;
            }
            let charged = size - free.unwrap_or(0);
            let cost = I256::from(charged) * I256::from(rate.0) + exact(price.per_record);
            let cost = cost.max(exact(rule.minimum));
            own.charged += charged;
            own.exact += rule.maximum.map_or(cost, |most| cost.min(exact(most)));
        }
        let first = self.cells.len();
        let mut slice = Slice { tier: 0, quantity: Quantity::ZERO, amount: Money::ZERO };
        let mut amounts = Vec::with_capacity(sums.len());
        for own in &sums {
            let amount = divide(own.exact, I256::from(power_of_ten(RATE_SCALE)), Rounding::HalfUp);
            let amount = Money(i128::try_from(amount).map_err(|_| overflow())?);
            slice.quantity = slice.quantity.checked_add(Quantity(own.charged)).ok_or_else(overflow)?;
            slice.amount = slice.amount.checked_add(amount).ok_or_else(overflow)?;
            amounts.push(amount);
        }
        let (source, rate) = self.priced((price, &price.ladder), &slice, pool);
        for ((item, own), amount) in members.iter().copied().zip(&sums).zip(amounts) {
            if own.free != 0 {
                let (source, quantity) = (Source::FreeUnits { price: price.id.clone() }, Some(own.free));
                self.cells.push(Cell { item, source, quantity, rate: Some(Rate::ZERO), amount: 0, pool });
            }
            if own.charged != 0 || !amount.is_zero() {
                let (source, quantity, rate) = (source.clone(), Some(own.charged), Some(rate));
                self.cells.push(Cell { item, source, quantity, rate, amount: amount.0, pool });
            }
        }
        let brought = self.amounts(members, None);
        sum(&brought).ok_or_else(overflow)?;
        let charged: Vec<i128> = sums.iter().map(|own| own.charged).collect();
        self.bound(price, pool, first, members, &brought, &charged)
    }
}
