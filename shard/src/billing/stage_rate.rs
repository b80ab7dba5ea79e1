//! Private rates by tier: which lines climb a pool of the contract's own, and the lines that come of it.

use std::collections::BTreeMap;

use super::attribute::prorata;
use super::bill::Source;
use super::draft::{Derived, Draft, Place, Terms, derived, overflow, tier_of};
use super::input::FoldError;
use crate::base::money::{Money, Quantity};
use crate::contract::document_scope::Per;
use crate::contract::terms::Clause;
use crate::contract::tiered_rate::TieredRate;
use crate::contract::year::Yearly;

/// A paid usage line in a contract's pool.
struct Paid {
    place: Place,
    line: u32,
    current: Money,
    /// What of it no tier has taken yet.
    left: i128,
    /// Units by tier.
    parts: Vec<(usize, i128)>,
}

/// A public ladder: slices by tier, each with its lines, as indexes.
type Ladder = BTreeMap<u32, Vec<usize>>;

/// Where a ladder of a contract year begins in this cycle.
pub(super) struct Climbed {
    balance: String,
    /// What earlier cycles of the year brought: an amount, or units in its decimals.
    pub(super) before: Money,
}

impl Climbed {
    /// Adds what drafts bring, by their places. `None` on overflow.
    pub(super) fn post(
        &self,
        brought: impl IntoIterator<Item = (usize, i128)>,
        drafts: &mut [Draft<'_>],
    ) -> Option<()> {
        let mut sum = self.before;
        let mut by_draft: BTreeMap<usize, i128> = BTreeMap::new();
        for (draft, amount) in brought {
            sum = sum.checked_add(Money(amount))?;
            *by_draft.entry(draft).or_default() += amount;
        }
        for (draft, amount) in by_draft {
            drafts[draft].draw(&self.balance, self.before, Money(amount))?;
        }
        Some(())
    }
}

impl Terms<'_> {
    /// How far the contract year's ladder was climbed before this cycle, by one payer or by all; `None` where the ladder
    /// is of the cycle.
    pub(super) fn climbed(
        &self,
        clause: &Clause,
        yearly: Option<&Yearly>,
        per: Per,
        group: &[usize],
        drafts: &[Draft<'_>],
    ) -> Option<Climbed> {
        let (yearly, first) = (yearly?, group.first()?);
        let own = Some(drafts[*first].payer).filter(|_| per == Per::Payer);
        let balance = yearly.balance(&clause.id, yearly.begins(self.cycle)?, own);
        // What climbs is never below zero, and so is the sum of it.
        let before = self.used_of(&balance).max(Money::ZERO);
        Some(Climbed { balance, before })
    }

    pub(super) fn tiered_rate(
        &self,
        clause: &Clause,
        rate: &TieredRate,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        for group in self.together(rate.per, drafts) {
            let (mut paid, ladders) = self.paid(clause, &group, drafts)?;
            let units = |slice: &Vec<usize>| slice.iter().map(|line| paid[*line].left).sum::<i128>();
            let sizes: Vec<Vec<i128>> = ladders.iter().map(|ladder| ladder.values().map(units).collect()).collect();
            let slices: Vec<Vec<&Vec<usize>>> = ladders.iter().map(|ladder| ladder.values().collect()).collect();
            let climbed = self.climbed(clause, rate.yearly.as_ref(), rate.per, &group, drafts);
            let before = climbed.as_ref().map_or(0, |climbed| climbed.before.0);
            if let Some(climbed) = climbed {
                let units = paid.iter().map(|paid| (paid.place.0, paid.left));
                climbed.post(units, drafts).ok_or_else(|| overflow(clause))?;
            }
            for run in rate.runs(before, &sizes).ok_or_else(|| overflow(clause))? {
                let members = slices[run.ladder][run.slice];
                let weights: Vec<i128> = members.iter().map(|line| paid[*line].left).collect();
                for (line, part) in members.iter().zip(prorata(run.units, &weights)).filter(|(_, part)| *part != 0) {
                    paid[*line].left -= part;
                    paid[*line].parts.push((run.tier, part));
                }
            }
            self.price(clause, rate, paid, drafts)?;
        }
        Ok(())
    }

    /// The paid lines of a pool, and the public ladders that they are on, in the order of their first lines.
    fn paid(
        &self,
        clause: &Clause,
        group: &[usize],
        drafts: &[Draft<'_>],
    ) -> Result<(Vec<Paid>, Vec<Ladder>), FoldError> {
        let (mut paid, mut ladders) = (Vec::new(), Vec::<Ladder>::new());
        let mut known = BTreeMap::new();
        for place in group {
            let draft = &drafts[*place];
            for item in self.usage_items(clause, draft) {
                for (line, quantity) in draft.paid_slices(item) {
                    let Source::Price { price, tier, .. } = &line.source else { continue };
                    // A ladder that nobody shares is the item's own.
                    let alone = if line.pool.is_none() { Some((*place, item)) } else { None };
                    let ladder = *known.entry((price, line.pool, alone)).or_insert_with(|| {
                        ladders.push(Ladder::new());
                        ladders.len() - 1
                    });
                    ladders[ladder].entry(tier.index).or_default().push(paid.len());
                    let current = draft.current(item, line).ok_or_else(|| overflow(clause))?;
                    let left = quantity.0;
                    paid.push(Paid { place: (*place, item), line: line.id, current, left, parts: Vec::new() });
                }
            }
        }
        Ok((paid, ladders))
    }

    /// Compares each line's parts with what they cost so far.
    fn price(
        &self,
        clause: &Clause,
        rate: &TieredRate,
        paid: Vec<Paid>,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let mut changes: Vec<(Place, Money, Derived)> = Vec::new();
        for mut paid in paid {
            if paid.parts.is_empty() {
                // A flat part without units: at a rate a unit it is nothing.
                paid.parts.push((0, 0));
            }
            paid.parts.sort_unstable();
            let weights: Vec<i128> = paid.parts.iter().map(|(_, units)| (*units).max(1)).collect();
            let amounts = prorata(paid.current.0, &weights);
            for ((tier, units), base) in paid.parts.into_iter().zip(amounts) {
                let (step, base) = (rate.tiers.steps[tier], Money(base));
                let contracted = match Money::of(Quantity(units), step.rate) {
                    Some(contracted) if rate.may_raise || contracted < base => contracted,
                    // Too large to say means dearer than anything public.
                    None if rate.may_raise => return Err(overflow()),
                    _ => base,
                };
                let line = Derived {
                    base,
                    quantity: Some(Quantity(units)),
                    rate: Some(step.rate),
                    tier: Some(tier_of(&rate.tiers, tier)),
                    from: vec![paid.line],
                    ..Derived::default()
                };
                changes.push((paid.place, contracted.checked_sub(base).ok_or_else(overflow)?, line));
            }
        }
        // What is raised first can be taken off then.
        changes.sort_by_key(|(place, change, _)| (*place, *change < Money::ZERO));
        for ((draft, item), change, line) in changes {
            let draft = &mut drafts[draft];
            let amount = self.line_of(change, draft.net[item]).ok_or_else(overflow)?;
            if !amount.is_zero() {
                draft.add(item, derived(clause, Derived { amount, ..line }))?;
            }
        }
        Ok(())
    }
}
