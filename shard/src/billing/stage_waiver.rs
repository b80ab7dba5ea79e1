//! Usage waivers: what entitles, which lots are there to be taken, and the lines that come of it.

use std::collections::{BTreeMap, BTreeSet};

use super::attribute::{netted, prorata};
use super::draft::{Derived, Draft, Place, Terms, derived, overflow};
use super::input::FoldError;
use super::usage_stage::Used;
use crate::base::id::AccountId;
use crate::base::money::{Money, Quantity};
use crate::base::wide::{Rounding, multiply_divide};
use crate::contract::terms::Clause;
use crate::contract::waiver::{Lot, Waiver};
use crate::pricing::document::Bucket;

/// A paid slice of a target.
struct Slice {
    place: Place,
    line: u32,
    /// What no waiver has taken yet.
    units: i128,
    /// What is left to pay of it, and all its units.
    price: (Money, Quantity),
}

/// What entitles, by hour and account.
type Sources = BTreeMap<(u32, AccountId), Quantity>;

impl Terms<'_> {
    pub(super) fn waiver(&self, clause: &Clause, waiver: &Waiver, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for group in self.together(waiver.per, drafts) {
            let sources = self.sources(waiver, &group, drafts).ok_or_else(overflow)?;
            let slices = self.targets(clause, &group, drafts).ok_or_else(overflow)?;
            let owners = slices.iter().map(|slice| self.account(&drafts[slice.place.0], slice.place.1).clone());
            let accounts: BTreeSet<AccountId> =
                sources.keys().map(|(_, account)| account.clone()).chain(owners).collect();
            let places: BTreeMap<&AccountId, usize> =
                accounts.iter().enumerate().map(|(place, account)| (account, place)).collect();
            let mut lots: Vec<Lot> = Vec::new();
            for (index, slice) in slices.iter().enumerate() {
                let account = places[self.account(&drafts[slice.place.0], slice.place.1)];
                let cut = self.lots(&drafts[slice.place.0], slice);
                lots.extend(cut.into_iter().map(|(begins, units)| Lot {
                    slice: index,
                    account,
                    begins,
                    units,
                    left: units,
                    price: slice.price,
                }));
            }
            // The whole cycle is one period, or each of its hours.
            let mut periods: BTreeMap<u32, Vec<(usize, i128)>> = BTreeMap::new();
            for ((hour, account), quantity) in &sources {
                let entitled = waiver.entitled(*quantity).ok_or_else(overflow)?;
                periods.entry(*hour).or_default().push((places[account], entitled));
            }
            let mut taken: BTreeMap<usize, i128> = BTreeMap::new();
            for (hour, entitled) in periods {
                let in_period = |lot: &&Lot| !waiver.hourly || lot.begins / 60 == hour;
                let mut own: Vec<Lot> = lots.iter().filter(in_period).copied().collect();
                for (slice, units) in waiver.take(&entitled, &mut own) {
                    *taken.entry(slice).or_default() += units;
                }
            }
            self.waive(clause, waiver, &slices, &taken, drafts)?;
        }
        Ok(())
    }

    /// What each account used of the source, by hour where the waiver is used so, else all at 0.
    fn sources(&self, waiver: &Waiver, group: &[usize], drafts: &[Draft<'_>]) -> Option<Sources> {
        let mut sources = Sources::new();
        for draft in group.iter().map(|place| &drafts[*place]) {
            for (item, index) in draft.items.iter().enumerate() {
                if self.is_in(&waiver.source, draft, item) {
                    let (used, units) = (&self.used[*index], self.quantities[*index]);
                    let parts = if waiver.hourly { self.by_bucket(used, units) } else { vec![(0, units)] };
                    for (begins, units) in parts {
                        let hour = begins / 60;
                        let sum = sources.entry((hour, self.account(draft, item).clone())).or_default();
                        *sum = sum.checked_add(Quantity(units))?;
                    }
                }
            }
        }
        Some(sources)
    }

    /// The paid slices of the target with units that no waiver has taken, by account, SKU, dimensions and tier.
    fn targets(&self, clause: &Clause, group: &[usize], drafts: &[Draft<'_>]) -> Option<Vec<Slice>> {
        let mut slices = Vec::new();
        for place in self.owing(drafts, group, |draft| self.usage_items(clause, draft)) {
            let draft = &drafts[place.0];
            for (line, quantity) in draft.paid_slices(place.1) {
                let waived = draft.waived.get(&line.id).copied().unwrap_or(0);
                let (units, current) = (quantity.0 - waived, draft.current(place.1, line)?);
                if units > 0 && current > Money::ZERO {
                    slices.push(Slice { place, line: line.id, units, price: (current, quantity) });
                }
            }
        }
        Some(slices)
    }

    /// A slice's units by the minute of the cycle in which their bucket begins, in proportion to what was counted.
    fn lots(&self, draft: &Draft<'_>, slice: &Slice) -> Vec<(u32, i128)> {
        self.by_bucket(&self.used[draft.items[slice.place.1]], slice.units)
    }

    /// Units of a series by the minute of the cycle in which their bucket begins.
    fn by_bucket(&self, used: &Used<'_>, units: i128) -> Vec<(u32, i128)> {
        let minutes = match self.catalogue.meter(used.measured.meter).bucket {
            Bucket::Month => 0,
            Bucket::Day => 24 * 60,
            Bucket::Hour => 60,
            Bucket::FiveMinutes => 5,
        };
        let counters = &self.counters[used.measured.counters.clone()];
        let begins = |bucket: Option<u16>| u32::from(bucket.unwrap_or(0)) * minutes;
        let values: Vec<i128> = counters.iter().map(|counter| counter.value).collect();
        match values.iter().try_fold(0i128, |sum, value| sum.checked_add(*value)) {
            Some(sum) if sum > 0 && values.len() > 1 => {
                let parts = prorata(units, &netted(&values));
                counters.iter().map(|counter| begins(counter.bucket)).zip(parts).collect()
            }
            _ => vec![(counters.first().map_or(0, |counter| begins(counter.bucket)), units)],
        }
    }

    fn waive(
        &self,
        clause: &Clause,
        waiver: &Waiver,
        slices: &[Slice],
        taken: &BTreeMap<usize, i128>,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for (index, units) in taken {
            let Slice { place: (draft, item), line, price: (current, quantity), .. } = slices[*index];
            let draft = &mut drafts[draft];
            // Kept even where the amount comes to nothing that can be paid: a unit is waived once.
            *draft.waived.entry(line).or_default() += units;
            let base = multiply_divide(current.0, *units, quantity.0, Rounding::HalfUp).map(Money);
            let base = base.ok_or_else(overflow)?;
            // Where percentages came first, no more than what they left is taken off.
            let amount = base.share(waiver.share).and_then(|off| self.line_of(-off, draft.net[item]));
            let amount = amount.ok_or_else(overflow)?;
            if !amount.is_zero() {
                let (quantity, rate, from) = (Some(Quantity(*units)), Some(waiver.share), vec![line]);
                let line = Derived { base, quantity, rate, amount, from, ..Derived::default() };
                draft.add(item, derived(clause, line))?;
            }
        }
        Ok(())
    }
}
