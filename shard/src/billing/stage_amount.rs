//! Amounts over many lines: volume discounts, fixed discounts, credits and prepayments, which lines they meet and the
//! lines that come of them.

use std::collections::BTreeMap;

use super::attribute::prorata;
use super::draft::{Derived, Draft, How, Place, Terms, derived, overflow, tier_of};
use super::input::FoldError;
use crate::base::id::AccountId;
use crate::base::money::{Money, Quantity, checked_sum};
use crate::contract::commitment::Commitment;
use crate::contract::credit::{Credit, Eligible, FixedDiscount};
use crate::contract::document_clause::Measure;
use crate::contract::document_scope::Per;
use crate::contract::prepayment::Prepayment;
use crate::contract::terms::{Clause, payer_balance};
use crate::contract::volume::{Banded, Volume};

impl Terms<'_> {
    pub(super) fn volume(&self, clause: &Clause, volume: &Volume, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for group in self.together(volume.per, drafts) {
            let quantities: Vec<(usize, i128)> = self.quantities(clause, &group, drafts).collect();
            let quantity = quantities.iter().try_fold(Quantity::ZERO, |sum, (_, own)| sum.checked_add(Quantity(*own)));
            let quantity = quantity.ok_or_else(overflow)?;
            let places = self.owing(drafts, &group, |draft| self.usage_items(clause, draft));
            let nets: Vec<i128> = places.iter().map(|(draft, item)| drafts[*draft].net[*item].0).collect();
            let total = checked_sum(nets.iter().map(|net| Money(*net))).ok_or_else(overflow)?;
            let climbed = self.climbed(clause, volume.yearly.as_ref(), volume.per, &group, drafts);
            let before = climbed.as_ref().map_or(0, |climbed| climbed.before.0);
            if let Some(climbed) = climbed {
                let brought: Vec<(usize, i128)> = match volume.measure {
                    Measure::Spend => places.iter().zip(&nets).map(|((draft, _), net)| (*draft, *net)).collect(),
                    Measure::Quantity => quantities,
                };
                climbed.post(brought, drafts).ok_or_else(overflow)?;
            }
            let mut left = nets;
            // What of each is left to be paid: rounding in the bands before may have taken more than their bases.
            let mut owed = left.clone();
            let mut lines: Vec<(Place, Derived)> = Vec::new();
            for Banded { band, share, base, off } in volume.off(before, total, quantity).ok_or_else(overflow)? {
                let bases = prorata(base.0, &left);
                let off = self.round_off(off).ok_or_else(overflow)?.min(self.round_down(base));
                let parts = self.divided(off, &bases);
                let rests = left.iter_mut().zip(&mut owed);
                for (((place, base), part), (left, owed)) in places.iter().zip(bases).zip(parts).zip(rests) {
                    *left -= base;
                    let part = part.min(*owed);
                    *owed -= part;
                    if part != 0 {
                        let line = Derived {
                            base: Money(base),
                            rate: Some(share),
                            tier: Some(tier_of(&volume.bands, band)),
                            amount: Money(-part),
                            from: drafts[place.0].made[place.1].clone(),
                            ..Derived::default()
                        };
                        lines.push((*place, line));
                    }
                }
            }
            add_in_order(clause, lines, drafts)?;
        }
        Ok(())
    }

    /// Quantities of a clause's scope in some drafts, by their places.
    fn quantities(
        &self,
        clause: &Clause,
        group: &[usize],
        drafts: &[Draft<'_>],
    ) -> impl Iterator<Item = (usize, i128)> {
        group.iter().flat_map(move |place| {
            let draft = &drafts[*place];
            self.usage_items(clause, draft).into_iter().map(move |item| (*place, self.quantities[draft.items[item]]))
        })
    }

    pub(super) fn fixed_discount(
        &self,
        clause: &Clause,
        fixed: &FixedDiscount,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for group in self.together(fixed.per, drafts) {
            let balance = match (fixed.per, group.first()) {
                (Per::Payer, Some(place)) => payer_balance(&clause.id, drafts[*place].payer),
                _ => clause.id.to_string(),
            };
            let before = if fixed.lasting { self.used_of(&balance) } else { Money::ZERO };
            let places = self.owing(drafts, &group, |draft| self.usage_items(clause, draft));
            let nets = places.iter().map(|(draft, item)| drafts[*draft].net[*item]);
            let total = checked_sum(nets).ok_or_else(overflow)?;
            let left = if fixed.lasting { self.left_of(&balance, fixed.amount) } else { Some(fixed.amount) };
            let left = left.ok_or_else(overflow)?;
            let off = if fixed.lasting { self.round_down(left) } else { self.round_off(left).ok_or_else(overflow)? };
            let off = off.min(total);
            if off <= Money::ZERO {
                continue;
            }
            let how = How { drawn: fixed.lasting, ..How::default() };
            let parts = self.take_off(clause, how, off, &places, drafts)?;
            for ((draft, _), part) in places.iter().zip(parts).filter(|_| fixed.lasting) {
                drafts[*draft].draw(&balance, before, part).ok_or_else(overflow)?;
            }
        }
        Ok(())
    }

    /// Uses a credit up charge by charge.
    pub(super) fn credit(&self, clause: &Clause, credit: &Credit, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let before = self.used_of(clause.id.as_str());
        let left = self.left_of(clause.id.as_str(), credit.amount).ok_or_else(overflow)?;
        let mut left = self.round_down(left);
        if left <= Money::ZERO {
            return Ok(());
        }
        let payer = credit.owner.as_ref().map(|owner| self.payer_of(Some(owner)));
        let may_use = |account: &AccountId| credit.sharing || credit.owner.as_ref() == Some(account);
        let mut places: Vec<Place> = Vec::new();
        for (place, draft) in drafts.iter().enumerate().filter(|(_, draft)| payer.is_none_or(|own| own == draft.payer))
        {
            let items = self.all_items(clause, draft).into_iter();
            let items = items.filter(|item| draft.net[*item] > Money::ZERO && may_use(self.account(draft, *item)));
            places.extend(items.map(|item| (place, item)));
        }
        let eligible: Vec<Eligible<'_>> = places
            .iter()
            .map(|(place, item)| {
                let draft = &drafts[*place];
                let service = self.subject(draft, *item).dimensions.service.as_str();
                Eligible { account: self.account(draft, *item), service, net: draft.net[*item] }
            })
            .collect();
        let order = credit.order(&eligible).ok_or_else(overflow)?;
        let mut lines: Vec<(Place, Derived)> = Vec::new();
        for index in order {
            let (place, net) = (places[index], eligible[index].net);
            let part = net.min(left);
            if part.is_zero() {
                break;
            }
            left = left.checked_sub(part).ok_or_else(overflow)?;
            let from = drafts[place.0].made[place.1].clone();
            lines.push((place, Derived { base: net, drawn: true, amount: -part, from, ..Derived::default() }));
        }
        for ((draft, _), line) in &lines {
            drafts[*draft].draw(clause.id.as_str(), before, -line.amount).ok_or_else(overflow)?;
        }
        lines.sort_by_key(|(place, _)| *place);
        add_in_order(clause, lines, drafts)
    }

    /// Settles charges from what was paid in advance: a line of the discount and a line of what was drawn for each item.
    pub(super) fn prepayment(
        &self,
        clause: &Clause,
        prepayment: &Prepayment,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let before = self.used_of(clause.id.as_str());
        let left = self.left_of(clause.id.as_str(), prepayment.amount).ok_or_else(overflow)?;
        let group: Vec<usize> = (0..drafts.len()).collect();
        let places = self.owing(drafts, &group, |draft| self.all_items(clause, draft));
        let nets: Vec<i128> = places.iter().map(|(draft, item)| drafts[*draft].net[*item].0).collect();
        let total = checked_sum(nets.iter().map(|net| Money(*net))).ok_or_else(overflow)?;
        let (settled, drawn) = prepayment.settle(total, left, self.step()).ok_or_else(overflow)?;
        let drawn = self.round_off(drawn).ok_or_else(overflow)?.min(left).min(settled);
        if settled.is_zero() {
            return Ok(());
        }
        let charges = self.divided(settled, &nets);
        let paid = self.divided(drawn, &charges);
        for ((place, charge), paid) in places.iter().zip(charges).zip(paid) {
            let draft = &mut drafts[place.0];
            let (base, from) = (Money(charge), draft.made[place.1].clone());
            for (amount, rate, drawn) in [(charge - paid, Some(prepayment.share), false), (paid, None, true)] {
                if amount != 0 {
                    let (amount, from) = (Money(-amount), from.clone());
                    let line = derived(clause, Derived { base, rate, drawn, amount, from, ..Derived::default() });
                    draft.add(place.1, line)?;
                }
            }
            draft.draw(clause.id.as_str(), before, Money(paid)).ok_or_else(overflow)?;
        }
        Ok(())
    }

    /// The discount that comes with a commitment, as long as something is committed.
    pub(super) fn commitment(
        &self,
        clause: &Clause,
        commitment: &Commitment,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        if commitment.year_of(self.cycle).is_none() {
            return Ok(());
        }
        for place in 0..drafts.len() {
            let draft = &drafts[place];
            let is_market = |item: &usize| self.is_market(commitment, draft, *item);
            let items = self.usage_items(clause, draft).into_iter().filter(|item| !is_market(item)).collect();
            self.share_off(clause, (commitment.share, commitment.base), items, place, drafts)?;
        }
        Ok(())
    }

    /// Whether an item is of the marketplace of a commitment.
    pub(super) fn is_market(&self, commitment: &Commitment, draft: &Draft<'_>, item: usize) -> bool {
        commitment.marketplace.as_ref().is_some_and(|scope| self.is_in(scope, draft, item))
    }
}

/// Adds lines to their items: by draft and item, then in the order given.
pub(super) fn add_in_order(
    clause: &Clause,
    lines: Vec<(Place, Derived)>,
    drafts: &mut [Draft<'_>],
) -> Result<(), FoldError> {
    let mut by_place: BTreeMap<Place, Vec<Derived>> = BTreeMap::new();
    for (place, line) in lines {
        by_place.entry(place).or_default().push(line);
    }
    for ((draft, item), lines) in by_place {
        for line in lines {
            drafts[draft].add(item, derived(clause, line))?;
        }
    }
    Ok(())
}
