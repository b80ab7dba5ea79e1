//! Bills in the making: what was used or is charged by a clause, the lines so far, and the few ways in which a clause
//! adds to them.

use std::collections::{BTreeMap, BTreeSet};

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, divided, whole};
use super::line::Line;
use super::rounding::{SCALE, decimals, is_by_line, payable_of};
use super::series::{Member, Series, list, matches, text};

/// What lines belong to: usage of a series, or what a clause itself charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub member: Member,
    pub series: Series,
    pub sku: String,
    /// In the priced unit; zero for what a clause charges.
    pub quantity: Exact,
    /// Usage, not what a clause charges.
    pub is_usage: bool,
}

/// All bills of a hierarchy's cycle.
pub struct Draft<'a> {
    pub catalogue: &'a Value,
    pub contract: &'a Value,
    /// `2026-09`.
    pub cycle: &'a str,
    /// In the order of ties: account, SKU, the rest; what clauses charge after all usage.
    pub items: Vec<Item>,
    pub lines: Vec<Line>,
    /// What earlier bills used of lasting balances, and what these use.
    pub balances: &'a BTreeMap<String, Exact>,
    pub postings: BTreeMap<String, Exact>,
    pub member: &'a dyn Fn(&str) -> Member,
}

/// Whether a scope holds an item; every field may be one pattern or several, none holds all.
pub fn in_scope(scope: &Value, item: &Item) -> bool {
    let one_of = |patterns: &Value, value: &str| match patterns {
        Value::String(pattern) => matches(pattern, value),
        Value::Array(patterns) => patterns.iter().any(|pattern| matches(text(pattern, ""), value)),
        _ => true,
    };
    let series = &item.series;
    one_of(&scope["sku"], &item.sku)
        && one_of(&scope["service"], &series.service)
        && one_of(&scope["usage_type"], &series.usage_type)
        && one_of(&scope["operation"], &series.operation)
        && one_of(&scope["region"], &series.region)
        && one_of(&scope["account"], &series.account)
        && one_of(&scope["group"], &item.member.group)
        && one_of(&scope["payer"], &item.member.payer)
        && scope["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, patterns)| series.attributes.iter().any(|(own, value)| own == name && one_of(patterns, value)))
}

impl Draft<'_> {
    /// All payers with a bill.
    pub fn payers(&self) -> Vec<String> {
        let payers: BTreeSet<&String> = self.items.iter().map(|item| &item.member.payer).collect();
        payers.into_iter().cloned().collect()
    }

    /// Whose lines a clause takes together: each payer's own, or (`None`) everyone's.
    pub fn together(&self, clause: &Value, default: &str) -> Vec<Option<String>> {
        match text(&clause["per"], default) {
            "root" => vec![None],
            _ => self.payers().into_iter().map(Some).collect(),
        }
    }

    /// The items in a clause's scope, of one payer or of all, without what it excludes.
    pub fn chosen(&self, clause: &Value, payer: Option<&str>) -> Vec<usize> {
        let excluded = |item: &Item| list(clause, "exclude").iter().any(|scope| in_scope(scope, item));
        let of_payer = |item: &Item| payer.is_none_or(|payer| item.member.payer == payer);
        let holds = |item: &Item| of_payer(item) && in_scope(&clause["scope"], item) && !excluded(item);
        (0..self.items.len()).filter(|at| holds(&self.items[*at])).collect()
    }

    /// The lines of an item.
    pub fn lines_of(&self, item: usize) -> impl Iterator<Item = &Line> {
        let Item { series, sku, member, .. } = &self.items[item];
        let own = move |line: &&Line| line.series == *series && line.sku == *sku && line.payer == member.payer;
        self.lines.iter().filter(own)
    }

    /// What earlier lines left of an item to be paid.
    pub fn net(&self, item: usize) -> Exact {
        self.lines_of(item).map(|line| &line.amount).sum()
    }

    /// Adds a clause's line to an item; nothing is not shown.
    pub fn add(&mut self, clause: &Value, item: usize, of: &str, amount: Exact) {
        if amount.is_zero() {
            return;
        }
        let Item { member, series, sku, .. } = self.items[item].clone();
        let (payer, origin, quantity) = (member.payer, format!("clause:{}", text(&clause["id"], "")), whole(0));
        self.lines.push(Line { payer, series, sku, origin, of: of.to_owned(), quantity, amount });
    }

    /// Takes an amount off several items, each its share by what is left of it, and no more than there is.
    pub fn take_off(&mut self, clause: &Value, items: &[usize], off: Exact) -> Exact {
        let nets: Vec<Exact> = items.iter().map(|item| self.net(*item)).collect();
        self.take_off_like(clause, items, &nets, off)
    }

    /// The same, shared like `nets`; what is not above zero has no share.
    pub fn take_off_like(&mut self, clause: &Value, items: &[usize], nets: &[Exact], off: Exact) -> Exact {
        let nets: Vec<Exact> = nets.iter().map(|net| net.clone().max(whole(0))).collect();
        let off = self.line_of(off).min(nets.iter().sum());
        let minor = is_by_line(self.catalogue) && payable_of(self.catalogue, &off) == off;
        let scale = if minor { decimals(self.catalogue) } else { SCALE };
        for (item, part) in items.iter().zip(divided(&-off.clone(), &nets, scale).unwrap_or_default()) {
            self.add(clause, *item, "", part);
        }
        off
    }

    /// What is taken off, as a line of the bill: rounded where every line is. What is rounded is the line, below zero.
    pub fn line_of(&self, off: Exact) -> Exact {
        if is_by_line(self.catalogue) { -payable_of(self.catalogue, &-off) } else { off }
    }

    /// What earlier bills used of a balance.
    pub fn used_before(&self, balance: &str) -> Exact {
        self.balances.get(balance).cloned().unwrap_or_else(|| whole(0))
    }

    /// Notes that a balance was used.
    pub fn post(&mut self, balance: &str, amount: Exact) {
        *self.postings.entry(balance.to_owned()).or_insert_with(|| whole(0)) += amount;
    }

    /// The account that bears what no usage makes: the clause's, else the payer of the root account.
    pub fn bearer(&self, clause: &Value) -> String {
        let root = || (self.member)(text(&self.contract["root"], "")).payer;
        clause["account"].as_str().or(clause["payer"].as_str()).map_or_else(root, str::to_owned)
    }

    /// Charges an amount that is no usage: an item of the clause's own, on an account. Answers what was charged.
    pub fn charge(&mut self, clause: &Value, account: &str, amount: Exact) -> Exact {
        let amount = if is_by_line(self.catalogue) { payable_of(self.catalogue, &amount) } else { amount };
        let id = text(&clause["id"], "").to_owned();
        let series = Series {
            account: account.to_owned(),
            service: text(&clause["service"], &id).to_owned(),
            usage_type: id.clone(),
            operation: String::new(),
            region: String::new(),
            attributes: Vec::new(),
        };
        let item = Item { member: (self.member)(account), series, sku: id, quantity: whole(0), is_usage: false };
        let at = self.items.iter().position(|own| *own == item).unwrap_or_else(|| {
            self.items.push(item);
            self.items.len() - 1
        });
        self.add(clause, at, "", amount.clone());
        amount
    }
}
