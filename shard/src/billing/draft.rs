//! Bills in the making, and what the stages of a contract share: which lines a clause is handed, how an amount is divided
//! over them. What each mechanism makes of it lives in `stage.rs` and the files beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attribute::{prorata, prorata_steps};
use super::bill::{BalanceChange, Line, Source, Tier};
use super::input::{Counter, FoldError};
use super::usage_stage::Used;
use crate::account::tree::Hierarchy;
use crate::base::id::{AccountId, ClauseId};
use crate::base::money::{Money, Quantity, Rate, checked_sum};
use crate::base::time::CycleId;
use crate::contract::document_scope::Per;
use crate::contract::scope::{Scope, Subject};
use crate::contract::steps::Steps;
use crate::contract::terms::{Clause, Contract};
use crate::pricing::catalogue::{Catalogue, RoundingRule};
use crate::pricing::document::RoundingAt;
use crate::pricing::order::Stage;
use crate::usage::series::SeriesKey;

/// A bill in the making. Its items are its series, then what clauses charge.
pub struct Draft<'a> {
    pub payer: &'a AccountId,
    /// Its series, as indexes into all of the hierarchy's; the place in this list is the item's index in the bill.
    pub items: Vec<usize>,
    /// What clauses charge: the items after the series.
    pub charges: Vec<Charge>,
    pub lines: Vec<Line>,
    /// Of each item: what earlier stages left to be paid.
    pub net: Vec<Money>,
    /// Of each item: the ids of its lines so far.
    pub made: Vec<Vec<u32>>,
    /// Of usage lines, by their ids: the units that waivers took.
    pub waived: BTreeMap<u32, i128>,
    /// What it takes from balances, by name.
    pub balances: BTreeMap<Arc<str>, BalanceChange>,
}

/// Something that a clause charges.
pub struct Charge {
    /// Who bears it, its service, and the clause as usage type.
    pub series: SeriesKey,
    pub clause: ClauseId,
    pub stage: Stage,
}

impl<'a> Draft<'a> {
    pub fn new(payer: &'a AccountId) -> Draft<'a> {
        Draft {
            payer,
            items: Vec::new(),
            charges: Vec::new(),
            lines: Vec::new(),
            net: Vec::new(),
            made: Vec::new(),
            waived: BTreeMap::new(),
            balances: BTreeMap::new(),
        }
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

    /// Adds a line of a charge, which becomes an item with its first line.
    pub fn charge(&mut self, account: &AccountId, service: &str, clause: &Clause, line: Line) -> Result<(), FoldError> {
        let known = self.charges.iter().position(|charge| {
            charge.series.account == *account && charge.series.service == service && charge.clause == clause.id
        });
        let place = known.unwrap_or_else(|| {
            let series = SeriesKey::new(account.clone(), service, clause.id.as_str(), "", "", Vec::new());
            self.charges.push(Charge { series, clause: clause.id.clone(), stage: line.stage });
            self.net.push(Money::ZERO);
            self.made.push(Vec::new());
            self.charges.len() - 1
        });
        self.add(self.items.len() + place, line)
    }

    /// Takes something from a balance. `None` on overflow.
    pub fn draw(&mut self, name: &str, before: Money, amount: Money) -> Option<()> {
        if amount.is_zero() {
            return Some(());
        }
        let name: Arc<str> = name.into();
        let none = || BalanceChange { name: name.clone(), before, change: Money::ZERO };
        let balance = self.balances.entry(name.clone()).or_insert_with(none);
        balance.change = balance.change.checked_add(amount)?;
        Some(())
    }

    /// What earlier clauses left of one usage line: its amount and the private rates derived from it. `None` on overflow.
    pub fn current(&self, item: usize, usage: &Line) -> Option<Money> {
        let derived = self.made[item].iter().map(|id| &self.lines[*id as usize - 1]);
        let derived = derived.filter(|line| line.stage == Stage::PrivateRates && line.from == [usage.id]);
        checked_sum(std::iter::once(usage.amount).chain(derived.map(|line| line.amount)))
    }

    /// The usage lines of an item that a price charged, with their quantities.
    pub fn paid_slices(&self, item: usize) -> impl Iterator<Item = (&Line, Quantity)> {
        let lines = self.made[item].iter().map(|id| &self.lines[*id as usize - 1]);
        lines.filter_map(|line| match (&line.source, line.quantity) {
            (Source::Price { .. }, Some(quantity)) => Some((line, quantity)),
            _ => None,
        })
    }
}

/// An item of a draft, both by their places.
pub type Place = (usize, usize);

/// What all drafts of a hierarchy share.
pub struct Terms<'a> {
    pub hierarchy: &'a Hierarchy,
    pub catalogue: &'a Catalogue,
    pub contract: &'a Contract,
    pub cycle: CycleId,
    /// The order used.
    pub stages: &'a [Stage],
    pub used: &'a [Used<'a>],
    pub counters: &'a [Counter<'a>],
    /// Priced quantity of each series.
    pub quantities: &'a [i128],
    /// What was used of the contract's balances when the cycle began.
    pub balances: &'a BTreeMap<String, Money>,
    /// What bills of later cycles drew of them.
    pub drawn_later: &'a BTreeMap<String, Money>,
    /// Minima and shortfalls wait for the bill that closes the cycle.
    pub interim: bool,
    /// Those that are a bill of their own are in it.
    pub own_shortfalls: bool,
}

impl<'a> Terms<'a> {
    pub fn subject<'d>(&'d self, draft: &'d Draft<'_>, item: usize) -> Subject<'d> {
        match draft.items.get(item) {
            Some(index) => {
                let used = &self.used[*index];
                Subject {
                    sku: self.catalogue.sku(used.sku).id.as_str(),
                    dimensions: &used.series.dimensions,
                    account: used.series.account.as_str(),
                    group: used.group.map_or("", |group| group.as_str()),
                    payer: used.payer.as_str(),
                }
            }
            None => {
                let charge = &draft.charges[item - draft.items.len()];
                let group = self.hierarchy.group_of(&charge.series.account, self.cycle);
                Subject {
                    sku: charge.clause.as_str(),
                    dimensions: &charge.series.dimensions,
                    account: charge.series.account.as_str(),
                    group: group.map_or("", |group| group.as_str()),
                    payer: draft.payer.as_str(),
                }
            }
        }
    }

    pub fn account<'d>(&'d self, draft: &'d Draft<'_>, item: usize) -> &'d AccountId {
        match draft.items.get(item) {
            Some(index) => &self.used[*index].series.account,
            None => &draft.charges[item - draft.items.len()].series.account,
        }
    }

    pub fn is_in(&self, scope: &Scope, draft: &Draft<'_>, item: usize) -> bool {
        scope.matches(&self.subject(draft, item))
    }

    /// Whether a clause applies to an item: in its scope, and nothing narrower of its exclusive group is.
    pub fn holds(&self, clause: &Clause, draft: &Draft<'_>, item: usize) -> bool {
        let subject = self.subject(draft, item);
        let has_narrower = || self.contract.narrower(clause, self.cycle).any(|narrower| narrower.holds(&subject));
        clause.holds(&subject) && (clause.exclusive_group.is_none() || !has_narrower())
    }

    /// The series of a draft with lines that a clause applies to.
    pub fn usage_items(&self, clause: &Clause, draft: &Draft<'_>) -> Vec<usize> {
        let has_lines = |item: &usize| !draft.made[*item].is_empty();
        (0..draft.items.len()).filter(has_lines).filter(|item| self.holds(clause, draft, *item)).collect()
    }

    /// The same, and what clauses charged in stages before this one.
    pub fn all_items(&self, clause: &Clause, draft: &Draft<'_>) -> Vec<usize> {
        (0..draft.net.len()).filter(|item| self.holds(clause, draft, *item)).collect()
    }

    /// Runs of items of one (account, SKU): one base each (BILLING.md section 2).
    pub fn bases(&self, draft: &Draft<'_>, items: Vec<usize>) -> Vec<Vec<usize>> {
        let key =
            |item: usize| draft.items.get(item).map(|index| (&self.used[*index].series.account, self.used[*index].sku));
        items.chunk_by(|one, next| key(*one).is_some() && key(*one) == key(*next)).map(<[usize]>::to_vec).collect()
    }

    /// The drafts whose lines count together.
    pub fn together(&self, per: Per, drafts: &[Draft<'_>]) -> Vec<Vec<usize>> {
        match per {
            Per::Payer => (0..drafts.len()).map(|draft| vec![draft]).collect(),
            Per::Root => vec![(0..drafts.len()).collect()],
        }
    }

    /// The items of drafts that `choose` takes and of which something is left to pay, in the order of ties.
    pub fn owing(
        &self,
        drafts: &[Draft<'_>],
        group: &[usize],
        choose: impl Fn(&Draft<'_>) -> Vec<usize>,
    ) -> Vec<Place> {
        let mut places = Vec::new();
        for place in group {
            let draft = &drafts[*place];
            let items = choose(draft).into_iter().filter(|item| draft.net[*item] > Money::ZERO);
            places.extend(items.map(|item| (*place, item)));
        }
        let has_charges = |place: &usize| !drafts[*place].charges.is_empty();
        if group.len() > 1 || group.iter().any(has_charges) {
            let account = |(draft, item): &Place| self.account(&drafts[*draft], *item);
            let sku = |(draft, item): &Place| self.subject(&drafts[*draft], *item).sku;
            places.sort_by(|one, other| {
                account(one).cmp(account(other)).then_with(|| sku(one).cmp(sku(other))).then(one.cmp(other))
            });
        }
        places
    }

    /// The rule where every derived amount is rounded.
    pub fn line_rule(&self) -> Option<RoundingRule> {
        Some(self.catalogue.rounding).filter(|rule| rule.at == RoundingAt::Line)
    }

    /// The smallest part of a derived amount.
    pub fn step(&self) -> i128 {
        self.line_rule().map_or(1, |rule| rule.step())
    }

    /// An amount as a derived charge is rounded. `None` on overflow.
    pub fn round(&self, amount: Money) -> Option<Money> {
        match self.line_rule() {
            Some(rule) => rule.round(amount),
            None => Some(amount),
        }
    }

    /// What is taken off, above zero, as its line is rounded: the line's own sign is below zero, and modes that look at
    /// the sign (ceil, floor) mean the line's. `None` on overflow.
    pub fn round_off(&self, off: Money) -> Option<Money> {
        self.round(-off).map(|line| -line)
    }

    /// An amount that something is drawn of: never more than that.
    pub fn round_down(&self, amount: Money) -> Money {
        Money(amount.0 - amount.0 % self.step())
    }

    /// Divides an amount; where lines are rounded in whole steps, if it is made of such.
    pub fn divided(&self, amount: Money, weights: &[i128]) -> Vec<i128> {
        let step = self.step();
        if step > 1 && amount.0 % step == 0 {
            prorata_steps(amount.0, step, weights)
        } else {
            prorata(amount.0, weights)
        }
    }

    /// A line that changes what is `left` of an item: rounded as every derived line, and no more off than there is.
    /// `None` on overflow.
    pub fn line_of(&self, exact: Money, left: Money) -> Option<Money> {
        self.round(exact).map(|amount| amount.max(-left))
    }

    /// The amounts of one derived charge, rounded together where lines are rounded. `None` on overflow.
    pub fn rounded(&self, exact: &[Money]) -> Option<Vec<Money>> {
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

    /// Takes an amount, above zero and no more than they owe, off items pro rata to what they owe. Answers the part of each.
    pub fn take_off(
        &self,
        clause: &Clause,
        how: How,
        amount: Money,
        places: &[Place],
        drafts: &mut [Draft<'_>],
    ) -> Result<Vec<Money>, FoldError> {
        let nets: Vec<i128> = places.iter().map(|(draft, item)| drafts[*draft].net[*item].0).collect();
        let parts: Vec<Money> = self.divided(amount, &nets).into_iter().map(Money).collect();
        for ((draft, item), part) in places.iter().zip(&parts).filter(|(_, part)| !part.is_zero()) {
            let draft = &mut drafts[*draft];
            let before = if how.of_stage { self.taken(clause, draft, *item) } else { Money::ZERO };
            let base = draft.net[*item].checked_add(before).ok_or_else(|| overflow(clause))?;
            let from = draft.made[*item].clone();
            draft.add(*item, derived(clause, Derived { base, amount: -*part, from, ..how.derived() }))?;
        }
        Ok(parts)
    }

    /// What the clauses before this one took off an item in its stage.
    pub fn taken(&self, clause: &Clause, draft: &Draft<'_>, item: usize) -> Money {
        let lines = draft.made[item].iter().map(|id| &draft.lines[*id as usize - 1]);
        let own = lines.filter(|line| line.stage == clause.stages()[0]).map(|line| line.amount);
        -checked_sum(own).expect("parts of what the item's net was are no larger than that")
    }

    /// What was used of a balance when the cycle began.
    pub fn used_of(&self, balance: &str) -> Money {
        self.balances.get(balance).copied().unwrap_or_default()
    }

    /// What is left of an amount that is drawn from: bills of later cycles may have drawn of it before a correction.
    /// `None` on overflow.
    pub fn left_of(&self, balance: &str, amount: Money) -> Option<Money> {
        let later = self.drawn_later.get(balance).copied().unwrap_or_default();
        amount.checked_sub(self.used_of(balance))?.checked_sub(later)
    }

    /// Who pays for an account; the payer of the root where it is not named or not known.
    pub fn payer_of(&self, account: Option<&AccountId>) -> &'a AccountId {
        let hierarchy: &'a Hierarchy = self.hierarchy;
        let known = account.and_then(|account| hierarchy.payer_of(account, self.cycle));
        let payer = known.or_else(|| hierarchy.payer_of(&hierarchy.root, self.cycle));
        payer.or(hierarchy.payers().first()).unwrap_or(&hierarchy.root)
    }

    /// The place of a payer's draft, made where the payer has none.
    pub fn draft_of(&self, payer: &'a AccountId, drafts: &mut Vec<Draft<'a>>) -> usize {
        match drafts.binary_search_by(|draft| draft.payer.cmp(payer)) {
            Ok(place) => place,
            Err(place) => {
                drafts.insert(place, Draft::new(payer));
                place
            }
        }
    }
}

/// How a clause came to what it takes off.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    pub rate: Option<Rate>,
    pub tier: Option<Tier>,
    pub drawn: bool,
    /// The base is what the stage began with.
    pub of_stage: bool,
}

impl How {
    pub fn share(rate: Rate) -> How {
        How { rate: Some(rate), ..How::default() }
    }

    fn derived(self) -> Derived {
        Derived { rate: self.rate, tier: self.tier, drawn: self.drawn, ..Derived::default() }
    }
}

/// What a derived line says.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    pub base: Money,
    pub quantity: Option<Quantity>,
    pub rate: Option<Rate>,
    pub tier: Option<Tier>,
    pub drawn: bool,
    pub amount: Money,
    pub from: Vec<u32>,
    /// `None`: the clause's only one.
    pub stage: Option<Stage>,
    /// `None`: the clause's.
    pub text: Option<Arc<str>>,
}

/// A clause's line; item and id come with its draft.
pub fn derived(clause: &Clause, own: Derived) -> Line {
    let Derived { base, quantity, rate, tier, drawn, amount, from, stage, text } = own;
    let text = text.unwrap_or_else(|| clause.text.clone());
    Line {
        id: 0,
        stage: stage.unwrap_or(clause.stages()[0]),
        item: None,
        source: Source::Clause { clause: clause.id.clone(), text, base, tier, drawn },
        quantity,
        rate,
        amount,
        pool: None,
        from,
    }
}

/// A step of a clause's own ladder, as a bill names it.
pub fn tier_of(steps: &Steps, index: usize) -> Tier {
    let step = steps.steps[index];
    Tier { index: index as u32 + 1, begin: Quantity(step.begin), end: step.end.map(Quantity) }
}

/// What a clause came to does not fit.
pub fn overflow(clause: &Clause) -> FoldError {
    FoldError::Overflow { what: format!("the amount under clause {}", clause.id) }
}
