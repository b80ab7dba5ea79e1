//! Pools of a price that last a contract year (BILLING.md decision 4): the ladder, the free units, the minimum and the maximum
//! go on from cycle to cycle, by balances that say what earlier cycles of the year brought. A correction of a cycle leaves
//! the later cycles of its year as they were billed.

use std::collections::BTreeMap;

use super::attribute::prorata;
use super::bill::{PricePart, Source};
use super::gather::Extra;
use super::input::{FoldError, FoldInput};
use super::usage_stage::{Draw, Members, Standing, UsageStage, sum};
use crate::base::id::{AccountId, PriceId};
use crate::base::money::{Money, Quantity};
use crate::base::time::CycleId;
use crate::contract::year::{Carried, PoolYear, ends_year, pool_balance, year_of};
use crate::pricing::catalogue::{Price, PriceIndex};
use crate::pricing::document::PoolPeriod;
use crate::pricing::pool::SplitKey;

/// The contract year of a fold: by the contract in force; without one years count from the hierarchy's first cycle.
pub(super) fn year_of_fold(input: &FoldInput<'_>) -> PoolYear {
    let contract = input.contract.filter(|contract| contract.is_in_force(input.cycle));
    let starts = contract.map_or(Some(input.hierarchy.first), |contract| contract.starts);
    // A billing group's terms begin one with each cycle, and end none.
    let Some(starts) = starts else { return PoolYear { begins: input.cycle, settles: false } };
    let begins = year_of(starts, input.cycle).unwrap_or(input.cycle);
    let is_last = contract.is_some_and(|contract| contract.until == Some(input.cycle.next()));
    PoolYear { begins, settles: !input.interim && (is_last || ends_year(begins, input.cycle)) }
}

/// Whose pool of a price's is meant: a payer's, or that of all together.
fn owner<'p>(price: &Price, payer: &'p AccountId) -> Option<&'p AccountId> {
    price.split_by.0.contains(&SplitKey::Payer).then_some(payer)
}

/// Series that stand for pools which used something in a year that ends with this cycle, so that what the year is short of
/// its minimum is due where the cycle itself used nothing.
pub(super) fn year_ends<'a>(input: &FoldInput<'a>) -> Vec<Extra<'a>> {
    let (catalogue, hierarchy, cycle) = (input.catalogue, input.hierarchy, input.cycle);
    let year = year_of_fold(input);
    if !year.settles {
        return Vec::new();
    }
    let yearly = |price: &Price| price.period == PoolPeriod::ContractYear && !price.minimum.is_zero();
    // The first SKU of each price stands for it.
    let mut stand: BTreeMap<PriceIndex, _> = BTreeMap::new();
    for sku in catalogue.skus().iter().filter(|sku| yearly(catalogue.price(sku.price))) {
        stand.entry(sku.price).or_insert_with(|| catalogue.sku_by_id(sku.id.as_str()));
    }
    let mut extras = Vec::new();
    for (price, sku) in stand.into_iter().filter_map(|(price, sku)| Some((catalogue.price(price), sku?))) {
        let root = [hierarchy.root.clone()];
        let accounts = if owner(price, &hierarchy.root).is_some() { hierarchy.payers() } else { &root };
        for account in accounts {
            let of = owner(price, account);
            let used = |of_what| input.balances.get(&pool_balance(&price.id, year.begins, of_what, of));
            let is_used = [Carried::Units, Carried::Free].into_iter().filter_map(used).any(|used| *used > Money::ZERO);
            let Some(entry) = hierarchy.account(account).filter(|_| is_used) else { continue };
            let Some((meter, series)) = catalogue.series_of(sku, account) else { continue };
            let (payer, group) = (hierarchy.payer_at(entry, cycle), hierarchy.group_at(entry, cycle));
            extras.push(Extra { series, sku, meter, payer, group, standing: Standing::Subscribed });
        }
    }
    extras
}

/// Where a pool stands in its year.
pub(super) struct Climbed<'a> {
    price: &'a Price,
    owner: Option<&'a AccountId>,
    begins: CycleId,
    units: Money,
    free: Money,
    charge: Money,
}

impl<'a> UsageStage<'a> {
    /// Where a pool stood when the cycle began; `None` where it is of the cycle.
    pub(super) fn climbed(&self, price: &'a Price, members: &Members) -> Option<Climbed<'a>> {
        if price.period != PoolPeriod::ContractYear {
            return None;
        }
        let (owner, begins) = (owner(price, self.used[members[0]].payer), self.asked.year.begins);
        let before = |of| {
            let name = pool_balance(&price.id, begins, of, owner);
            // Corrections of other cycles may have taken off more than there was left.
            self.asked.balances.get(&name).copied().unwrap_or_default().max(Money::ZERO)
        };
        let (units, free, charge) = (before(Carried::Units), before(Carried::Free), before(Carried::Charge));
        Some(Climbed { price, owner, begins, units, free, charge })
    }

    /// Charges what a cycle adds to a pool of the year.
    pub(super) fn climb_on(
        &mut self,
        climbed: &Climbed<'a>,
        pool: Option<u32>,
        members: &Members,
    ) -> Result<(), FoldError> {
        let (price, ladder) = (climbed.price, &climbed.price.ladder);
        let overflow = || overflow(&price.id);
        let brought = self.brought(members, None);
        let first = self.cells.len();
        let came = self.amounts(members, None);
        let free = Quantity((price.free_units.0 - climbed.free.0).max(0));
        let source = Source::FreeUnits { price: price.id.clone() };
        self.give_free(free, price.attribution, source, pool, members, None)?;
        let weights = self.amounts(members, None);
        let total = Quantity(sum(&weights).ok_or_else(overflow)?);
        for slice in ladder.charge_on(Quantity(climbed.units.0), total).ok_or_else(overflow)? {
            self.divide((price, ladder), &slice, pool, members, &weights, None);
        }
        self.per_record(price, pool, members, None).ok_or_else(overflow)?;
        self.bound_year(climbed, pool, first, members, if total.is_zero() { &brought } else { &weights })?;
        let free = came.iter().zip(&weights).map(|(came, left)| came - left).collect::<Vec<_>>();
        for (of, before, parts) in [(Carried::Units, climbed.units, weights), (Carried::Free, climbed.free, free)] {
            let by_member = members.iter().map(|index| self.used[*index].payer).zip(parts);
            self.carry(climbed, of, before, by_member.collect())?;
        }
        Ok(())
    }

    /// The lines of a year's maximum that is passed, and of its minimum that is not reached when it ends.
    fn bound_year(
        &mut self,
        climbed: &Climbed<'a>,
        pool: Option<u32>,
        first: usize,
        members: &Members,
        weights: &[i128],
    ) -> Result<(), FoldError> {
        let (price, overflow) = (climbed.price, || overflow(&climbed.price.id));
        let mut charge = self.charge_of(first).ok_or_else(overflow)?;
        if let Some(most) = price.maximum {
            let left = most.checked_sub(climbed.charge).ok_or_else(overflow)?.max(Money::ZERO);
            if charge > left {
                self.hold_at(price, most, (left, charge), pool, first);
                charge = left;
            }
        }
        let is_used = weights.iter().any(|weight| *weight != 0);
        let whole = climbed.charge.checked_add(charge).ok_or_else(overflow)?;
        let is_due = is_used || climbed.units > Money::ZERO || climbed.free > Money::ZERO;
        if self.asked.year.settles && whole < price.minimum && is_due {
            let (missing, part) = (price.minimum.0 - whole.0, PricePart::Minimum { least: price.minimum });
            let parts = match is_used {
                true => members.iter().copied().zip(prorata(missing, weights)).collect(),
                false => vec![(self.home(members), missing)],
            };
            self.add_part(price, part, None, parts.into_iter(), pool);
        }
        Ok(())
    }

    /// Notes what the cells from `first` on came to, once they are rounded.
    pub(super) fn carry_charge(&mut self, climbed: &Climbed<'a>, first: usize) -> Result<(), FoldError> {
        if climbed.price.minimum.is_zero() && climbed.price.maximum.is_none() {
            return Ok(());
        }
        let cells = self.cells[first..].iter();
        let charges = cells.map(|cell| (self.used[cell.item].payer, cell.amount)).collect();
        self.carry(climbed, Carried::Charge, climbed.charge, charges)
    }

    /// Notes what payers add to a balance of a pool.
    fn carry(
        &mut self,
        climbed: &Climbed<'a>,
        of: Carried,
        before: Money,
        parts: Vec<(&'a AccountId, i128)>,
    ) -> Result<(), FoldError> {
        let mut by_payer: BTreeMap<&'a AccountId, i128> = BTreeMap::new();
        for (payer, part) in parts {
            let sum = by_payer.entry(payer).or_default();
            *sum = sum.checked_add(part).ok_or_else(|| overflow(&climbed.price.id))?;
        }
        let name = pool_balance(&climbed.price.id, climbed.begins, of, climbed.owner);
        for (payer, amount) in by_payer.into_iter().filter(|(_, amount)| *amount != 0) {
            self.draws.push(Draw { payer, balance: name.clone(), before, amount: Money(amount) });
        }
        Ok(())
    }
}

fn overflow(price: &PriceId) -> FoldError {
    FoldError::Overflow { what: format!("the amount under price {price}") }
}
