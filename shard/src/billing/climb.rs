//! A pool climbs its ladder, and every slice is divided over its members; then what a price adds: a part per record, its
//! minimum and maximum, and a flat part at zero usage. The arithmetic of a ladder lives in `pricing/rate.rs`.

use std::collections::BTreeMap;

use ethnum::I256;

use super::attribute::{in_steps, prorata};
use super::bill::{PoolSlice, PricePart, Source, Tier};
use super::input::FoldError;
use super::measure::{Measured, Window};
use super::usage_stage::{Cell, Members, Standing, UsageStage, sum};
use crate::base::id::PriceId;
use crate::base::money::{Money, Quantity, RATE_SCALE, Rate, SCALE, checked_sum};
use crate::base::wide::power_of_ten;
use crate::pricing::catalogue::{Price, PriceIndex, ReachedBy};
use crate::pricing::document::{Attribution, Bound, RoundingAt};
use crate::pricing::pool::{SplitBy, SplitKey};
use crate::pricing::rate::{Ladder, Slice};

impl<'a> UsageStage<'a> {
    /// Charges one pool of a price.
    pub(super) fn climb(&mut self, index: PriceIndex, keys: Vec<&'a str>, members: &Members) -> Result<(), FoldError> {
        let price = self.catalogue.price(index);
        let reached = self.reached(index, members)?;
        let pool = self.shared(&price.id, &price.split_by, keys, members)?;
        let first = self.cells.len();
        let windows = self.windows(price, members);
        let climbed = self.climbed(price, members);
        for window in &windows {
            match (&price.records, &climbed) {
                (Some(rule), _) => self.charge_records(price, rule, pool, members)?,
                (None, Some(climbed)) => self.climb_on(climbed, pool, members)?,
                (None, None) => self.climb_within(price, reached, pool, members, window.as_ref())?,
            }
        }
        if windows.len() > 1 {
            self.merge(first, pool, &price.id)?;
        }
        if self.catalogue.rounding.at == RoundingAt::Line {
            self.round_charge(first, &price.id)?;
        }
        match climbed {
            Some(climbed) => self.carry_charge(&climbed, first),
            None => Ok(()),
        }
    }

    fn climb_within(
        &mut self,
        price: &Price,
        reached: Option<usize>,
        pool: Option<u32>,
        members: &Members,
        window: Option<&Window>,
    ) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {}", price.id) };
        let changed = (!price.changes.is_empty()).then(|| price.ladders(self.measure.cycle));
        if let Some(ladders) = changed.as_ref().filter(|ladders| ladders.len() > 1) {
            return self.climb_parts(price, ladders, pool, members);
        }
        let ladder = changed.as_ref().map_or(&price.ladder, |ladders| ladders[0].1);
        let brought = self.brought(members, window);
        let free = Source::FreeUnits { price: price.id.clone() };
        self.give_free(price.free_units, price.attribution, free, pool, members, window)?;
        let first = self.cells.len();
        let weights = self.amounts(members, window);
        let total = sum(&weights).ok_or_else(overflow)?;
        let slices = match reached.filter(|_| total != 0) {
            Some(tier) => ladder.charge_at(Quantity(total), tier),
            None if price.prorates && total != 0 => self.walk(price, members),
            None => ladder.charge(Quantity(total)),
        };
        for slice in slices.ok_or_else(overflow)? {
            self.divide((price, ladder), &slice, pool, members, &weights, window);
        }
        self.add_rest((price, ladder), pool, first, members, (&brought, &weights), window)
    }

    /// What a price adds to what its ladder made of what members brought and what of it was not free.
    pub(super) fn add_rest(
        &mut self,
        (price, ladder): (&Price, &Ladder),
        pool: Option<u32>,
        first: usize,
        members: &Members,
        (brought, weights): (&[i128], &[i128]),
        window: Option<&Window>,
    ) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {}", price.id) };
        let total = sum(weights).ok_or_else(overflow)?;
        let is_subscribed = self.is_subscribed(members);
        let is_used = brought.iter().any(|amount| *amount != 0);
        if price.flat_when_zero && total == 0 {
            let slice = ladder.charge_zero().ok_or_else(overflow)?;
            let records = members.iter().map(|index| self.measure.records(&self.used[*index].measured, window));
            let is_due = is_subscribed || records.fold(0, u64::saturating_add) > 0;
            if is_used {
                self.divide((price, ladder), &slice, pool, members, brought, window);
            } else if is_due && !slice.amount.is_zero() {
                let (source, rate) = self.priced((price, ladder), &slice, pool);
                let (item, quantity) = (self.home(members), Some(0));
                self.cells.push(Cell { item, source, quantity, rate: Some(rate), amount: slice.amount.0, pool });
            }
        }
        self.per_record(price, pool, members, window).ok_or_else(overflow)?;
        self.bound(price, pool, first, members, brought, weights)
    }

    /// The lines of a minimum that the cells from `first` on fall short of, or of a maximum that they pass; `brought` is
    /// what the members used, `weights` what of it was not free.
    pub(super) fn bound(
        &mut self,
        price: &Price,
        pool: Option<u32>,
        first: usize,
        members: &Members,
        brought: &[i128],
        weights: &[i128],
    ) -> Result<(), FoldError> {
        let (least, most) = self.limits(price, members);
        if least.is_zero() && most.is_none() {
            return Ok(());
        }
        let overflow = || FoldError::Overflow { what: format!("the amount under price {}", price.id) };
        let is_subscribed = self.is_subscribed(members);
        let is_used = brought.iter().any(|amount| *amount != 0);
        let charge = self.charge_of(first).ok_or_else(overflow)?.0;
        if charge < least.0 && (is_used || is_subscribed) {
            let missing = least.0 - charge;
            let weights = if weights.iter().any(|weight| *weight != 0) { weights } else { brought };
            let part = PricePart::Minimum { least };
            if is_used {
                let parts = prorata(missing, weights);
                self.add_part(price, part, None, members.iter().copied().zip(parts), pool);
            } else {
                self.add_part(price, part, None, std::iter::once((self.home(members), missing)), pool);
            }
        }
        if let Some(most) = most.filter(|most| charge > most.0) {
            self.hold_at(price, most, (most, Money(charge)), pool, first);
        }
        Ok(())
    }

    /// What the cells from `first` on come to. `None` on overflow.
    pub(super) fn charge_of(&self, first: usize) -> Option<Money> {
        checked_sum(self.cells[first..].iter().map(|cell| Money(cell.amount)))
    }

    /// The lines of a maximum `most` that take the cells from `first` on from their charge to what is left of it.
    pub(super) fn hold_at(
        &mut self,
        price: &Price,
        most: Money,
        (left, charge): (Money, Money),
        pool: Option<u32>,
        first: usize,
    ) {
        let mut by_item: BTreeMap<usize, i128> = BTreeMap::new();
        for cell in &self.cells[first..] {
            *by_item.entry(cell.item).or_default() += cell.amount;
        }
        let amounts: Vec<i128> = by_item.values().copied().collect();
        let parts = by_item.into_keys().zip(prorata(left.0 - charge.0, &amounts)).collect::<Vec<_>>();
        self.add_part(price, PricePart::Maximum { most }, None, parts.into_iter(), pool);
    }

    fn is_subscribed(&self, members: &Members) -> bool {
        members.iter().any(|index| self.used[*index].standing == Standing::Subscribed)
    }

    /// A slice's source and rate; noted down with its pool.
    pub(super) fn priced(
        &mut self,
        (price, ladder): (&Price, &Ladder),
        slice: &Slice,
        pool: Option<u32>,
    ) -> (Source, Rate) {
        let tier = &ladder.tiers[slice.tier];
        let package = tier.block.or(ladder.package.map(|package| package.size));
        let (rate, tier) = (tier.rate, Tier { index: slice.tier as u32 + 1, begin: tier.begin, end: tier.end });
        if let Some(pool) = pool {
            let slice = PoolSlice { tier, quantity: slice.quantity, rate, amount: slice.amount };
            self.pools[pool as usize].slices.push(slice);
        }
        (Source::Price { price: price.id.clone(), tier, package }, rate)
    }

    /// Divides a slice over the members.
    pub(super) fn divide(
        &mut self,
        (price, ladder): (&Price, &Ladder),
        slice: &Slice,
        pool: Option<u32>,
        members: &Members,
        weights: &[i128],
        window: Option<&Window>,
    ) {
        let (source, rate) = self.priced((price, ladder), slice, pool);
        let quantities = match price.attribution {
            Attribution::Prorata => prorata(slice.quantity.0, weights),
            Attribution::Sequence => self.take(slice.quantity.0, members, window),
        };
        // Flat parts go like the slice's quantity; where there is none in it, by what the members brought.
        let by_slice = price.attribution == Attribution::Sequence && !slice.quantity.is_zero();
        let amounts = prorata(slice.amount.0, if by_slice { &quantities } else { weights });
        assert!(quantities.iter().sum::<i128>() == slice.quantity.0, "parts of a slice sum to its quantity");
        assert!(amounts.iter().sum::<i128>() == slice.amount.0, "parts of a slice sum to its amount");
        for ((index, quantity), amount) in members.iter().zip(quantities).zip(amounts) {
            if quantity != 0 || amount != 0 {
                let (source, quantity, rate) = (source.clone(), Some(quantity), Some(rate));
                self.cells.push(Cell { item: *index, source, quantity, rate, amount, pool });
            }
        }
    }

    /// What each record costs; `None` on overflow.
    pub(super) fn per_record(
        &mut self,
        price: &Price,
        pool: Option<u32>,
        members: &Members,
        window: Option<&Window>,
    ) -> Option<()> {
        if price.per_record.is_zero() {
            return Some(());
        }
        let each = Rate(price.per_record.0 * power_of_ten(RATE_SCALE - SCALE));
        let mut parts = Vec::with_capacity(members.len());
        for index in members {
            let records = self.measure.records(&self.used[*index].measured, window);
            parts.push((*index, price.per_record.0.checked_mul(i128::from(records))?));
        }
        self.add_part(price, PricePart::PerRecord, Some(each), parts.into_iter(), pool);
        Some(())
    }

    pub(super) fn add_part(
        &mut self,
        price: &Price,
        part: PricePart,
        rate: Option<Rate>,
        parts: impl Iterator<Item = (usize, i128)>,
        pool: Option<u32>,
    ) {
        for (item, amount) in parts.filter(|(_, amount)| *amount != 0) {
            let source = Source::PricePart { price: price.id.clone(), part };
            self.cells.push(Cell { item, source, quantity: None, rate, amount, pool });
        }
    }

    /// Whom the charge of a pool without usage belongs to: the first subscriber, else the payer.
    pub(super) fn home(&self, members: &Members) -> usize {
        let subscriber = members.iter().find(|index| self.used[**index].standing == Standing::Subscribed);
        subscriber.copied().unwrap_or_else(|| self.used[members[0]].home)
    }

    /// Adds up the cells of one source and item, and the slices of one tier, that several periods made.
    pub(super) fn merge(&mut self, first: usize, pool: Option<u32>, price: &PriceId) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {price}") };
        let mut cells: BTreeMap<(usize, Source), Cell> = BTreeMap::new();
        for cell in self.cells.drain(first..) {
            let key = (cell.item, cell.source.clone());
            match cells.get_mut(&key) {
                None => {
                    cells.insert(key, cell);
                }
                Some(sum) => {
                    sum.amount = sum.amount.checked_add(cell.amount).ok_or_else(overflow)?;
                    let (own, other) = (sum.quantity, cell.quantity.unwrap_or_default());
                    sum.quantity = own.map(|own| own.checked_add(other).ok_or_else(overflow)).transpose()?;
                }
            }
        }
        self.cells
            .extend(cells.into_values().filter(|cell| cell.amount != 0 || cell.quantity.unwrap_or_default() != 0));
        let Some(pool) = pool else { return Ok(()) };
        let slices = std::mem::take(&mut self.pools[pool as usize].slices);
        let mut tiers: BTreeMap<Tier, PoolSlice> = BTreeMap::new();
        for slice in slices {
            match tiers.get_mut(&slice.tier) {
                None => {
                    tiers.insert(slice.tier, slice);
                }
                Some(sum) => {
                    sum.quantity = sum.quantity.checked_add(slice.quantity).ok_or_else(overflow)?;
                    sum.amount = sum.amount.checked_add(slice.amount).ok_or_else(overflow)?;
                }
            }
        }
        self.pools[pool as usize].slices = tiers.into_values().collect();
        Ok(())
    }

    /// Rounds a whole charge to what can be paid, then what each series pays of it, then the lines of that: so a part that
    /// a maximum takes back never takes more than its series pays.
    fn round_charge(&mut self, first: usize, price: &PriceId) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under price {price}") };
        let rule = self.catalogue.rounding;
        let cells = &mut self.cells[first..];
        // Ties go by account id, then SKU: the members' order before the tiers'.
        cells.sort_by_key(|cell| cell.item);
        let of_item = |cells: &[Cell]| cells.iter().map(|cell| cell.amount).collect::<Vec<_>>();
        let is_one = |a: &Cell, b: &Cell| a.item == b.item;
        let sums = cells.chunk_by(is_one).map(|own| sum(&of_item(own))).collect::<Option<Vec<i128>>>();
        let sums = sums.ok_or_else(overflow)?;
        let total = rule.round(Money(sum(&sums).ok_or_else(overflow)?)).ok_or_else(overflow)?;
        for (own, part) in cells.chunk_by_mut(is_one).zip(in_steps(total.0, rule.step(), &sums)) {
            let parts = in_steps(part, rule.step(), &of_item(own));
            own.iter_mut().zip(parts).for_each(|(cell, part)| cell.amount = part);
        }
        Ok(())
    }

    /// The tier that other meters choose for a pool; `None` where its own quantity does.
    fn reached(&mut self, index: PriceIndex, members: &Members) -> Result<Option<usize>, FoldError> {
        let price = self.catalogue.price(index);
        if price.reached_by.is_empty() {
            return Ok(None);
        }
        let owner =
            |key: &&SplitKey| matches!(key, SplitKey::Root | SplitKey::Payer | SplitKey::Group | SplitKey::Account);
        let owner = SplitBy(price.split_by.0.iter().filter(owner).cloned().collect());
        if self.reaching.as_ref().is_none_or(|(own, _)| *own != index) {
            let mut by_owner: BTreeMap<Vec<&'a str>, Vec<Vec<&Measured>>> = BTreeMap::new();
            for chooser in self.choosers {
                let mut keys = Vec::new();
                self.owner_keys(chooser.account, chooser.payer, chooser.group, &owner, &mut keys);
                for (place, _) in
                    price.reached_by.iter().enumerate().filter(|(_, by)| by.meter == chooser.measured.meter)
                {
                    let of_owner =
                        by_owner.entry(keys.clone()).or_insert_with(|| vec![Vec::new(); price.reached_by.len()]);
                    of_owner[place].push(&chooser.measured);
                }
            }
            let tier = |series: Vec<Vec<&Measured>>| {
                let reached = price
                    .reached_by
                    .iter()
                    .zip(series)
                    .map(|(by, series)| self.tier_of(by, price.ladder.bound, &series));
                reached.max().unwrap_or(0)
            };
            let tiers = by_owner.into_iter().map(|(keys, series)| (keys, tier(series))).collect();
            self.reaching = Some((index, tiers));
        }
        let used = &self.used[members[0]];
        let mut keys = Vec::new();
        self.owner_keys(used.series.account.as_str(), used.payer, used.group, &owner, &mut keys);
        let tiers = self.reaching.as_ref().map(|(_, tiers)| tiers);
        Ok(Some(tiers.and_then(|tiers| tiers.get(&keys)).copied().unwrap_or(0)))
    }

    /// The tier that some series of one meter reach together.
    fn tier_of(&self, by: &ReachedBy, bound: Bound, series: &[&Measured]) -> usize {
        let alone: Vec<i128> = series.iter().map(|series| series.value).collect();
        let meter = self.catalogue.meter(by.meter);
        let step = I256::from(power_of_ten(SCALE - meter.scale));
        // A measure has at most 10^38 and a hierarchy 2^25 of them: far below 256 bits.
        let total = self.measure.together(series, &alone, None) * step;
        let length = I256::from(self.measure.length(meter.aggregation));
        let is_beyond = |end: &&Quantity| match bound {
            Bound::Upper => total > I256::from(end.0) * length,
            Bound::Lower => total >= I256::from(end.0) * length,
        };
        by.bounds.iter().take_while(is_beyond).count()
    }
}
