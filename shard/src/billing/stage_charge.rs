//! What clauses charge beside usage: fees, lines by agreement, minima and maxima, what is missing of a commitment, taxes;
//! which lines are their base, and on whose bill they are.

use std::collections::BTreeMap;

use super::draft::{Derived, Draft, How, Terms, derived, overflow, tier_of};
use super::input::FoldError;
use crate::base::id::AccountId;
use crate::base::money::{Money, RATE_SCALE, Rate, SCALE, checked_sum};
use crate::base::wide::power_of_ten;
use crate::contract::commitment::Commitment;
use crate::contract::document_clause::{FeeBase, FeePer};
use crate::contract::document_scope::Per;
use crate::contract::fee::{Custom, CustomLine, Fee, Limit, PercentFee};
use crate::contract::prepayment::Prepayment;
use crate::contract::tax::Tax;
use crate::contract::terms::{Clause, bought_balance, year_balances};
use crate::pricing::order::Stage;

impl<'a> Terms<'a> {
    pub(super) fn percent_fee(
        &self,
        clause: &Clause,
        fee: &PercentFee,
        drafts: &mut [Draft<'_>],
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for draft in drafts.iter_mut() {
            let mut bases: BTreeMap<AccountId, Money> = BTreeMap::new();
            for item in self.usage_items(clause, draft) {
                let bearer = match fee.per {
                    FeePer::Account => self.account(draft, item).clone(),
                    FeePer::Payer => self.bearer(fee.account.as_ref(), draft),
                };
                let own = match fee.base {
                    FeeBase::Net => Some(draft.net[item]),
                    FeeBase::List => self.sum(draft, item, |stage| stage == Stage::Usage),
                };
                let base = bases.entry(bearer).or_default();
                *base = own.and_then(|own| base.checked_add(own)).ok_or_else(overflow)?;
            }
            for (bearer, base) in bases {
                let mut parts = fee.parts(base, self.cycle).ok_or_else(overflow)?;
                parts.retain(|part| part.tier.is_some() || !self.interim);
                let exact: Vec<Money> = parts.iter().map(|part| part.amount).collect();
                for (part, amount) in parts.iter().zip(self.rounded(&exact).ok_or_else(overflow)?) {
                    if amount.is_zero() {
                        continue;
                    }
                    let tier = part.tier.filter(|_| fee.tiered).map(|tier| tier_of(&fee.tiers, tier));
                    let rate = part.tier.map(|tier| fee.tiers.steps[tier].rate);
                    let line = derived(clause, Derived { base: part.base, rate, tier, amount, ..Derived::default() });
                    draft.charge(&bearer, &fee.service, clause, line)?;
                }
            }
        }
        Ok(())
    }

    /// Who bears a charge of a payer's bill: the account that is named, where that payer pays for it, else the payer.
    fn bearer(&self, named: Option<&AccountId>, draft: &Draft<'_>) -> AccountId {
        named.filter(|account| self.payer_of(Some(account)) == draft.payer).unwrap_or(draft.payer).clone()
    }

    /// The lines of an item in some stages, summed. `None` on overflow.
    fn sum(&self, draft: &Draft<'_>, item: usize, of: impl Fn(Stage) -> bool) -> Option<Money> {
        let lines = draft.made[item].iter().map(|id| &draft.lines[*id as usize - 1]);
        checked_sum(lines.filter(|line| of(line.stage)).map(|line| line.amount))
    }

    pub(super) fn fee(&self, clause: &Clause, fee: &Fee, drafts: &mut Vec<Draft<'a>>) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        if fee.once && self.cycle != clause.effective {
            return Ok(());
        }
        // A rate has more decimals than money; the limit of an amount keeps it in range.
        let rate = Rate(fee.amount.0 * power_of_ten(RATE_SCALE - SCALE));
        let exact = Money::of(fee.quantity, rate).ok_or_else(overflow)?;
        let amount = self.round(exact).ok_or_else(overflow)?;
        if !amount.is_zero() {
            let (quantity, rate) = (Some(fee.quantity), Some(rate));
            let line = derived(clause, Derived { base: exact, quantity, rate, amount, ..Derived::default() });
            self.charge_one(clause, fee.account.as_ref(), &fee.service, line, drafts)?;
        }
        Ok(())
    }

    /// A line on the bill of whoever pays for an account, or for the root.
    fn charge_one(
        &self,
        clause: &Clause,
        account: Option<&AccountId>,
        service: &str,
        line: super::bill::Line,
        drafts: &mut Vec<Draft<'a>>,
    ) -> Result<(), FoldError> {
        let place = self.draft_of(self.payer_of(account), drafts);
        let bearer = self.bearer(account, &drafts[place]);
        drafts[place].charge(&bearer, service, clause, line)
    }

    pub(super) fn custom_line(
        &self,
        clause: &Clause,
        own: &CustomLine,
        drafts: &mut Vec<Draft<'a>>,
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let (share, itemised) = match own.how {
            Custom::Share { share, itemised } => (share, itemised),
            Custom::Flat(flat) => {
                let amount = self.round(flat).ok_or_else(overflow)?;
                if !amount.is_zero() {
                    let line = derived(clause, Derived { base: flat, amount, ..Derived::default() });
                    self.charge_one(clause, own.account.as_ref(), &own.service, line, drafts)?;
                }
                return Ok(());
            }
        };
        for draft in drafts.iter_mut() {
            let items = self.usage_items(clause, draft);
            let parts: Vec<(usize, Money)> = items.iter().map(|item| (*item, draft.net[*item])).collect();
            let rate = Some(share);
            if itemised {
                for (item, base) in parts {
                    let amount = base.share(share).and_then(|amount| self.round(amount)).ok_or_else(overflow)?;
                    if !amount.is_zero() {
                        let from = draft.made[item].clone();
                        draft.add(item, derived(clause, Derived { base, rate, amount, from, ..Derived::default() }))?;
                    }
                }
                continue;
            }
            let base = checked_sum(parts.iter().map(|(_, net)| *net)).ok_or_else(overflow)?;
            let amount = base.share(share).and_then(|amount| self.round(amount)).ok_or_else(overflow)?;
            if !amount.is_zero() {
                let bearer = self.bearer(own.account.as_ref(), draft);
                let line = derived(clause, Derived { base, rate, amount, ..Derived::default() });
                draft.charge(&bearer, &own.service, clause, line)?;
            }
        }
        Ok(())
    }

    /// What a scope came to, credits that come before added back. `None` on overflow.
    fn before_credits(&self, clause: &Clause, group: &[usize], drafts: &[Draft<'_>]) -> Option<Money> {
        let mut base = Money::ZERO;
        for draft in group.iter().map(|place| &drafts[*place]) {
            for item in self.usage_items(clause, draft) {
                base = base.checked_add(self.sum(draft, item, |stage| stage != Stage::CreditsBefore)?)?;
            }
        }
        Some(base)
    }

    pub(super) fn minimum(&self, clause: &Clause, limit: &Limit, drafts: &mut Vec<Draft<'a>>) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let Some(amount) = limit.prorating.of(limit.amount, &self.cycle.period()).filter(|_| !self.interim) else {
            return Ok(());
        };
        // Of a payer that is named also where it has no bill yet: then its group is empty.
        let groups: Vec<(&AccountId, Vec<usize>)> = match (limit.per, &limit.payer) {
            (Per::Root, named) => vec![(self.payer_of(named.as_ref()), (0..drafts.len()).collect())],
            (Per::Payer, Some(named)) => {
                let payer = self.payer_of(Some(named));
                let own = (0..drafts.len()).filter(|place| drafts[*place].payer == payer);
                vec![(payer, own.collect())]
            }
            (Per::Payer, None) => {
                let drafts = drafts.iter().enumerate();
                let own = drafts.filter(|(_, draft)| !self.usage_items(clause, draft).is_empty());
                own.map(|(place, draft)| (draft.payer, vec![place])).collect()
            }
        };
        for (payer, group) in groups {
            let base = self.before_credits(clause, &group, drafts).ok_or_else(overflow)?;
            let missing = amount.checked_sub(base).and_then(|missing| self.round(missing)).ok_or_else(overflow)?;
            if missing > Money::ZERO {
                let line = derived(clause, Derived { base, amount: missing, ..Derived::default() });
                let place = self.draft_of(payer, drafts);
                drafts[place].charge(payer, &limit.service, clause, line)?;
            }
        }
        Ok(())
    }

    pub(super) fn maximum(&self, clause: &Clause, limit: &Limit, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let Some(amount) = limit.prorating.of(limit.amount, &self.cycle.period()) else { return Ok(()) };
        for group in self.together(limit.per, drafts) {
            let base = self.before_credits(clause, &group, drafts).ok_or_else(overflow)?;
            let places = self.owing(drafts, &group, |draft| self.usage_items(clause, draft));
            let nets = places.iter().map(|(draft, item)| drafts[*draft].net[*item]);
            let owed = checked_sum(nets).ok_or_else(overflow)?;
            let beyond = base.checked_sub(amount).and_then(|beyond| self.round_off(beyond)).ok_or_else(overflow)?;
            let beyond = beyond.min(owed);
            if beyond > Money::ZERO {
                self.take_off(clause, How::default(), beyond, &places, drafts)?;
            }
        }
        Ok(())
    }

    /// Charges what of a prepayment's amount was not bought yet.
    pub(super) fn bought(
        &self,
        clause: &Clause,
        prepayment: &Prepayment,
        drafts: &mut Vec<Draft<'a>>,
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let Some(purchase) = &prepayment.purchase else { return Ok(()) };
        let name = bought_balance(&clause.id);
        let before = self.used_of(&name);
        let new = self.left_of(&name, prepayment.amount).ok_or_else(overflow)?;
        if new > Money::ZERO {
            let payer = self.payer_of(purchase.payer.as_ref());
            let amount = self.round(new).ok_or_else(overflow)?;
            let (stage, base) = (Some(Stage::Fees), prepayment.amount);
            let line = derived(clause, Derived { base, amount, stage, ..Derived::default() });
            let place = self.draft_of(payer, drafts);
            drafts[place].charge(payer, &purchase.service, clause, line)?;
            drafts[place].draw(&name, before, new).ok_or_else(overflow)?;
        }
        Ok(())
    }

    /// Counts what a cycle retires of a contract year's commitment, and charges what is missing when the year closes.
    pub(super) fn shortfall(
        &self,
        clause: &Clause,
        commitment: &Commitment,
        drafts: &mut Vec<Draft<'a>>,
    ) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        let Some(mut year) = commitment.year_of(self.cycle) else { return Ok(()) };
        let ends = [clause.until, self.contract.until].contains(&Some(self.cycle.next()));
        if ends && !year.closes {
            year = commitment.cut_short(year, self.cycle).ok_or_else(overflow)?;
        }
        let place_of = |stage: Stage| self.stages.iter().position(|own| *own == stage);
        let last = place_of(Stage::CrossServicePercent);
        let counts =
            |stage: Stage| place_of(stage) <= last && (stage != Stage::CreditsBefore || commitment.credits_reduce);
        let [own, market] = year_balances(&clause.id, year.begins);
        let before = (self.used_of(&own), self.used_of(&market));
        let (mut retired, mut marketplace) = before;
        for draft in drafts.iter_mut() {
            let (mut of_draft, mut of_market) = (Money::ZERO, Money::ZERO);
            for item in 0..draft.items.len() {
                let sum = if self.is_market(commitment, draft, item) {
                    &mut of_market
                } else if self.holds(clause, draft, item) {
                    &mut of_draft
                } else {
                    continue;
                };
                let net = self.sum(draft, item, counts).ok_or_else(overflow)?;
                *sum = sum.checked_add(net).ok_or_else(overflow)?;
            }
            retired = retired.checked_add(of_draft).ok_or_else(overflow)?;
            marketplace = marketplace.checked_add(of_market).ok_or_else(overflow)?;
            draft.draw(&own, before.0, of_draft).ok_or_else(overflow)?;
            draft.draw(&market, before.1, of_market).ok_or_else(overflow)?;
        }
        let missing = commitment.shortfall(&year, retired, marketplace).ok_or_else(overflow)?;
        let amount = self.round(missing).ok_or_else(overflow)?;
        let is_here = !self.interim && (self.own_shortfalls || !commitment.own_bill);
        if year.closes && is_here && amount > Money::ZERO {
            let base = year.amount.checked_sub(missing).ok_or_else(overflow)?;
            let stage = Some(Stage::Shortfall);
            let line = derived(clause, Derived { base, amount, stage, ..Derived::default() });
            let payer = self.payer_of(commitment.payer.as_ref());
            let place = self.draft_of(payer, drafts);
            drafts[place].charge(payer, clause.id.as_str(), clause, line)?;
            if ends {
                // A later version that goes on with the year must not charge it again.
                drafts[place].draw(&own, before.0, missing).ok_or_else(overflow)?;
            }
        }
        Ok(())
    }

    pub(super) fn tax(&self, clause: &Clause, tax: &Tax, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        let overflow = || overflow(clause);
        for draft in drafts.iter_mut() {
            let mut bases: BTreeMap<(usize, &str), Money> = BTreeMap::new();
            let own: &Draft<'_> = draft;
            for item in 0..own.net.len() {
                let charge = item.checked_sub(own.items.len()).map(|place| &own.charges[place]);
                if charge.is_some_and(|charge| charge.stage == Stage::Tax) {
                    continue;
                }
                let subject = self.subject(own, item);
                if let Some(rate) = tax.rate_of(&subject) {
                    let base = bases.entry((rate, &subject.dimensions.service)).or_default();
                    *base = base.checked_add(own.net[item]).ok_or_else(overflow)?;
                }
            }
            let bases: Vec<(usize, String, Money)> =
                bases.into_iter().map(|((rate, service), base)| (rate, service.to_owned(), base)).collect();
            let payer = draft.payer.clone();
            for (rate, service, base) in bases {
                let rate = &tax.rates[rate];
                let amount = self.catalogue.rounding.share(base, rate.share).ok_or_else(overflow)?;
                if !amount.is_zero() {
                    let (share, text) = (Some(rate.share), Some(rate.text.clone()));
                    let line = derived(clause, Derived { base, rate: share, amount, text, ..Derived::default() });
                    draft.charge(&payer, &service, clause, line)?;
                }
            }
        }
        Ok(())
    }
}
