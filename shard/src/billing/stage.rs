//! The stages that a contract adds to: which lines a clause is handed, and the lines that it makes. A clause's own
//! arithmetic lives in `contract`; the first stage in `usage_stage.rs`, the last in `fold.rs`.

use super::attribute::{prorata, prorata_steps};
use super::bill::{Line, Source};
use super::fold::FoldError;
use super::usage_stage::Used;
use crate::base::id::AccountId;
use crate::base::money::{Money, Quantity, Rate, checked_sum};
use crate::base::time::CycleId;
use crate::contract::document_scope::Per;
use crate::contract::percent::{Percent, Trigger};
use crate::contract::private_rate::PrivateRate;
use crate::contract::scope::{Scope, Subject};
use crate::contract::terms::{Clause, Contract, Mechanism};
use crate::pricing::catalogue::{Catalogue, RoundingRule};
use crate::pricing::document::RoundingAt;
use crate::pricing::order::Stage;

/// A bill in the making.
pub struct Draft<'a> {
    pub payer: &'a AccountId,
    /// Its series, as indexes into all of the hierarchy's; the place in this list is the item's index in the bill.
    pub items: Vec<usize>,
    pub lines: Vec<Line>,
    /// Of each item: what earlier stages left to be paid.
    pub net: Vec<Money>,
    /// Of each item: the ids of its lines so far.
    pub made: Vec<Vec<u32>>,
}

impl<'a> Draft<'a> {
    pub fn new(payer: &'a AccountId) -> Draft<'a> {
        Draft { payer, items: Vec::new(), lines: Vec::new(), net: Vec::new(), made: Vec::new() }
    }

    /// Adds a line to an item; its id is filled in here.
    pub fn add(&mut self, item: usize, mut line: Line) -> Result<(), FoldError> {
        line.id = self.lines.len() as u32 + 1;
        line.item = Some(item as u32);
        let net = self.net[item].checked_add(line.amount);
        self.net[item] = net.ok_or_else(|| FoldError::Overflow { what: format!("the net of {}", self.payer) })?;
        self.made[item].push(line.id);
        self.lines.push(line);
        Ok(())
    }
}

/// What all drafts of a hierarchy share.
pub struct Terms<'a> {
    pub catalogue: &'a Catalogue,
    pub contract: &'a Contract,
    pub cycle: CycleId,
    pub used: &'a [Used<'a>],
    /// Priced quantity of each series.
    pub quantities: &'a [i128],
}

impl Terms<'_> {
    /// Applies one stage's clauses, in file order, to all bills of the hierarchy.
    pub fn apply(&self, stage: Stage, drafts: &mut [Draft<'_>]) -> Result<(), FoldError> {
        for clause in self.contract.clauses_of(stage, self.cycle) {
            match &clause.mechanism {
                Mechanism::PrivateRate(rate) => {
                    for draft in drafts.iter_mut() {
                        self.private_rate(clause, rate, draft)?;
                    }
                }
                Mechanism::Percent(percent) => {
                    let reached = self.triggered(percent, drafts)?;
                    for (draft, _) in drafts.iter_mut().zip(reached).filter(|(_, reached)| *reached) {
                        self.percent(clause, percent, draft)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_in(&self, scope: &Scope, index: usize) -> bool {
        let used = &self.used[index];
        scope.matches(&Subject {
            sku: self.catalogue.sku(used.sku).id.as_str(),
            dimensions: &used.series.dimensions,
            account: used.series.account.as_str(),
            group: used.group.map_or("", |group| group.as_str()),
            payer: used.payer.as_str(),
        })
    }

    /// The items of a draft that `choose` takes, by (account, SKU): one base each (BILLING.md section 2).
    fn bases(&self, draft: &Draft<'_>, choose: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let mut bases: Vec<Vec<usize>> = Vec::new();
        let mut last = None;
        for (item, index) in draft.items.iter().enumerate().filter(|(_, index)| choose(**index)) {
            let key = (&self.used[*index].series.account, self.used[*index].sku);
            match bases.last_mut() {
                Some(base) if last == Some(key) => base.push(item),
                _ => bases.push(vec![item]),
            }
            last = Some(key);
        }
        bases
    }

    /// Replaces the amounts of paid slices by the private rate's, slice by slice.
    fn private_rate(&self, clause: &Clause, rate: &PrivateRate, draft: &mut Draft<'_>) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under clause {}", clause.id) };
        for base in self.bases(draft, |index| self.is_in(&clause.scope, index)) {
            let mut slices = Vec::new();
            for item in base {
                // Where percentages came first, no more than what they left is taken off.
                let mut left = draft.net[item];
                for id in &draft.made[item] {
                    let line = &draft.lines[*id as usize - 1];
                    let (Source::Price { .. }, Some(quantity)) = (&line.source, line.quantity) else { continue };
                    let current = draft.current(item, line).ok_or_else(overflow)?;
                    let difference = rate.difference(quantity, current).ok_or_else(overflow)?.max(-left);
                    left = left.checked_add(difference).ok_or_else(overflow)?;
                    if !difference.is_zero() {
                        slices.push((item, line.id, quantity, current, difference));
                    }
                }
            }
            let exact: Vec<Money> = slices.iter().map(|slice| slice.4).collect();
            let parts = self.rounded(&exact).ok_or_else(overflow)?;
            for ((item, from, quantity, current, _), amount) in slices.into_iter().zip(parts) {
                let line = derived(clause, current, Some(quantity), rate.rate, amount, vec![from]);
                draft.add(item, line)?;
            }
        }
        Ok(())
    }

    /// Takes a share off what earlier stages left of each (account, SKU).
    fn percent(&self, clause: &Clause, percent: &Percent, draft: &mut Draft<'_>) -> Result<(), FoldError> {
        let overflow = || FoldError::Overflow { what: format!("the amount under clause {}", clause.id) };
        let chosen = |index: usize| {
            self.is_in(&clause.scope, index) && !percent.exclude.iter().any(|scope| self.is_in(scope, index))
        };
        for mut base in self.bases(draft, chosen) {
            base.retain(|item| draft.net[*item] > Money::ZERO);
            let nets: Vec<i128> = base.iter().map(|item| draft.net[*item].0).collect();
            let total = checked_sum(nets.iter().map(|net| Money(*net))).ok_or_else(overflow)?;
            let mut discount = percent.discount(total).ok_or_else(overflow)?;
            let parts = match self.line_rule() {
                Some(rule) => {
                    // Rounding away from zero must not take off more than there is.
                    discount = rule.round(discount).ok_or_else(overflow)?.max(-total);
                    if discount.0 % rule.step() == 0 { Some(rule.step()) } else { None }
                }
                None => None,
            };
            if discount.is_zero() {
                continue;
            }
            let parts = match parts {
                Some(step) => prorata_steps(discount.0, step, &nets),
                None => prorata(discount.0, &nets),
            };
            for (item, part) in base.into_iter().zip(parts).filter(|(_, part)| *part != 0) {
                let from = draft.made[item].clone();
                let line = derived(clause, draft.net[item], None, percent.share, Money(part), from);
                draft.add(item, line)?;
            }
        }
        Ok(())
    }

    /// Of each draft: whether the trigger, if there is one, is reached.
    fn triggered(&self, percent: &Percent, drafts: &[Draft<'_>]) -> Result<Vec<bool>, FoldError> {
        let Some(trigger) = &percent.trigger else { return Ok(vec![true; drafts.len()]) };
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
        for (item, index) in draft.items.iter().enumerate().filter(|(_, index)| self.is_in(&trigger.scope, **index)) {
            spend = spend.checked_add(draft.net[item])?;
            quantity = quantity.checked_add(Quantity(self.quantities[*index]))?;
        }
        Some((spend, quantity))
    }

    /// The rule where every derived amount is rounded.
    fn line_rule(&self) -> Option<RoundingRule> {
        Some(self.catalogue.rounding).filter(|rule| rule.at == RoundingAt::Line)
    }

    /// The amounts of one derived charge, rounded together where lines are rounded.
    fn rounded(&self, exact: &[Money]) -> Option<Vec<Money>> {
        let total = checked_sum(exact.iter().copied())?;
        match self.line_rule() {
            Some(rule) if !total.is_zero() => {
                let weights: Vec<i128> = exact.iter().map(|amount| amount.0).collect();
                let parts = prorata_steps(rule.round(total)?.0, rule.step(), &weights);
                Some(parts.into_iter().map(Money).collect())
            }
            _ => Some(exact.to_vec()),
        }
    }
}

impl Draft<'_> {
    /// What earlier clauses left of one usage line: its amount and the private rates derived from it.
    fn current(&self, item: usize, usage: &Line) -> Option<Money> {
        let derived = self.made[item].iter().map(|id| &self.lines[*id as usize - 1]);
        let derived = derived.filter(|line| line.stage == Stage::PrivateRates && line.from == [usage.id]);
        checked_sum(std::iter::once(usage.amount).chain(derived.map(|line| line.amount)))
    }
}

fn derived(
    clause: &Clause,
    base: Money,
    quantity: Option<Quantity>,
    rate: Rate,
    amount: Money,
    from: Vec<u32>,
) -> Line {
    let source = Source::Clause { clause: clause.id.clone(), text: clause.text.clone(), base };
    let stage = clause.stage();
    Line { id: 0, stage, item: None, source, quantity, rate: Some(rate), amount, pool: None, from }
}
