//! The stages that a contract adds to: which clauses apply in which order, and what private rates and percentages make of
//! lines. Other mechanisms live in the files beside this one; a clause's own arithmetic in `contract`; the first stage in
//! `usage_stage.rs`, the last in `fold.rs`.

use super::draft::{Derived, Draft, How, Place, Terms, derived, overflow};
use super::input::FoldError;
use crate::base::money::{Money, Quantity, Rate, checked_sum};
use crate::contract::document_scope::{Per, PercentBase};
use crate::contract::percent::{Percent, Trigger};
use crate::contract::private_rate::PrivateRate;
use crate::contract::terms::{Clause, Mechanism};
use crate::pricing::order::Stage;

impl<'a> Terms<'a> {
    /// Applies one stage's clauses, in their order, to all bills of the hierarchy.
    pub fn apply(&self, stage: Stage, drafts: &mut Vec<Draft<'a>>) -> Result<(), FoldError> {
        for clause in self.contract.clauses_of(stage, self.cycle) {
            match &clause.mechanism {
                Mechanism::PrivateRate(rate) => {
                    for draft in drafts.iter_mut() {
                        self.private_rate(clause, rate, draft)?;
                    }
                }
                Mechanism::TieredRate(rate) => self.tiered_rate(clause, rate, drafts)?,
                Mechanism::Percent(percent) => self.percent(clause, percent, drafts)?,
                Mechanism::Waiver(waiver) => self.waiver(clause, waiver, drafts)?,
                Mechanism::Volume(volume) => self.volume(clause, volume, drafts)?,
                Mechanism::FixedDiscount(fixed) => self.fixed_discount(clause, fixed, drafts)?,
                Mechanism::Credit(credit) => self.credit(clause, credit, drafts)?,
                Mechanism::Commitment(commitment) if stage == Stage::Shortfall => {
                    self.shortfall(clause, commitment, drafts)?;
                }
                Mechanism::Commitment(commitment) => self.commitment(clause, commitment, drafts)?,
                Mechanism::Prepayment(prepayment) if stage == Stage::Shortfall => {
                    self.bought(clause, prepayment, drafts)?;
                }
                Mechanism::Prepayment(prepayment) => self.prepayment(clause, prepayment, drafts)?,
                Mechanism::PercentFee(fee) => self.percent_fee(clause, fee, drafts)?,
                Mechanism::Fee(fee) => self.fee(clause, fee, drafts)?,
                Mechanism::CustomLine(line) => self.custom_line(clause, line, drafts)?,
                Mechanism::Minimum(limit) => self.minimum(clause, limit, drafts)?,
                Mechanism::Maximum(limit) => self.maximum(clause, limit, drafts)?,
                Mechanism::Tax(tax) => self.tax(clause, tax, drafts)?,
                // What a bill's total comes to elsewhere is up to the last stage.
                Mechanism::Currency(_) => {}
            }
        }
        Ok(())
    }

    /// Replaces the amounts of paid slices by the private rate's, slice by slice.
    fn private_rate(&self, clause: &Clause, rate: &PrivateRate, draft: &mut Draft<'_>) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for item in self.usage_items(clause, draft) {
            // Where percentages came first, no more than what they left is taken off.
            let mut left = draft.net[item];
            let mut made = Vec::new();
            for (line, quantity) in draft.paid_slices(item) {
                let base = draft.current(item, line).ok_or_else(overflow)?;
                let exact = rate.difference(quantity, base).ok_or_else(overflow)?;
                let amount = self.line_of(exact, left).ok_or_else(overflow)?;
                left = left.checked_add(amount).ok_or_else(overflow)?;
                let (quantity, rate, from) = (Some(quantity), Some(rate.rate), vec![line.id]);
                made.push(Derived { base, quantity, rate, amount, from, ..Derived::default() });
            }
            for line in made.into_iter().filter(|line| !line.amount.is_zero()) {
                draft.add(item, derived(clause, line))?;
            }
        }
        Ok(())
    }

    fn percent(&self, clause: &Clause, percent: &Percent, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        let reached = self.triggered(percent.trigger.as_ref(), drafts)?;
        for place in (0..drafts.len()).filter(|place| reached[*place]) {
            let items = self.usage_items(clause, &drafts[place]);
            self.share_off(clause, (percent.share, percent.base), items, place, drafts)?;
        }
        Ok(())
    }

    /// Takes a share off what earlier stages left of each (account, SKU).
    pub(super) fn share_off(
        &self,
        clause: &Clause,
        (share, of): (Rate, PercentBase),
        items: Vec<usize>,
        place: usize,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for mut base in self.bases(&drafts[place], items) {
            // What the stage began with, also of what those before took whole.
            let began = |item: &usize| drafts[place].net[*item].checked_add(self.taken(clause, &drafts[place], *item));
            let began: Option<Vec<Money>> = base.iter().map(began).collect();
            let began = began.ok_or_else(overflow)?.into_iter().filter(|began| *began > Money::ZERO);
            base.retain(|item| drafts[place].net[*item] > Money::ZERO);
            let total = checked_sum(base.iter().map(|item| drafts[place].net[*item])).ok_or_else(overflow)?;
            let whole = match of {
                PercentBase::Left => Some(total),
                PercentBase::Stage => checked_sum(began),
            };
            let whole = whole.ok_or_else(overflow)?;
            let off = whole.share(share).and_then(|off| self.round_off(off)).ok_or_else(overflow)?;
            // Neither rounding away from zero nor percentages that add up take off more than there is.
            let off = off.min(total);
            if !off.is_zero() {
                let places: Vec<Place> = base.into_iter().map(|item| (place, item)).collect();
                let how = How { of_stage: of == PercentBase::Stage, ..How::share(share) };
                self.take_off(clause, how, off, &places, drafts)?;
            }
        }
        Ok(())
    }

    /// Of each draft: whether the trigger, if there is one, is reached.
    fn triggered(&self, trigger: Option<&Trigger>, drafts: &[Draft<'_>]) -> Result<Vec<bool>, FoldError> {
        let Some(trigger) = trigger else { return Ok(vec![true; drafts.len()]) };
        let sums: Option<Vec<(Money, Quantity)>> = drafts.iter().map(|draft| self.reach(trigger, draft)).collect();
        let overflow = || FoldError::Overflow { what: "what a trigger counts".to_owned() };
        let sums = sums.ok_or_else(overflow)?;
        Ok(match trigger.per {
            Per::Payer => sums.iter().map(|(spend, quantity)| trigger.is_reached(*spend, *quantity)).collect(),
            Per::Root => {
                let spend = checked_sum(sums.iter().map(|sum| sum.0)).ok_or_else(overflow)?;
                let quantity = sums.iter().try_fold(Quantity::ZERO, |sum, (_, own)| sum.checked_add(*own));
                vec![trigger.is_reached(spend, quantity.ok_or_else(overflow)?); drafts.len()]
            }
        })
    }

    /// Net amount and quantity of a trigger's scope in one draft.
    fn reach(&self, trigger: &Trigger, draft: &Draft<'_>) -> Option<(Money, Quantity)> {
        let (mut spend, mut quantity) = (Money::ZERO, Quantity::ZERO);
        for (item, index) in draft.items.iter().enumerate() {
            if self.is_in(&trigger.scope, draft, item) {
                spend = spend.checked_add(draft.net[item])?;
                quantity = quantity.checked_add(Quantity(self.quantities[*index]))?;
            }
        }
        Some((spend, quantity))
    }
}
