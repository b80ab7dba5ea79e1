//! Bills in the making: what was used or is charged by a clause, the lines so far, and the few ways in which a clause
//! adds to them.

use std::collections::{BTreeMap, BTreeSet};

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, divided, rounded_by, whole};
use super::line::Line;
use super::rounding::{SCALE, decimals, is_by_line, payable_of};
use super::series::{Member, Series, list, matches, text};

/// What lines belong to: usage of a series, or what a clause itself charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub member: Member,
    pub series: Series,
    pub sku: String,
    /// The billing group that it is due from, on its payer's account; `None`: from the account itself.
    pub group: Option<String>,
    /// In the priced unit; zero for what a clause charges.
    pub quantity: Exact,
    /// What was counted of it by time: (minute of the cycle in which a bucket begins, quantity).
    pub lots: Vec<(i64, Exact)>,
    /// Usage, not what a clause charges.
    pub is_usage: bool,
}

impl Item {
    /// Whether a line belongs to it.
    pub fn has(&self, line: &Line) -> bool {
        let own = (&self.member.payer, &self.series, &self.sku, &self.group);
        own == (&line.payer, &line.series, &line.sku, &line.group)
    }
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
    /// What commitments were retired when their stage ended, by balance.
    pub retired: BTreeMap<String, Exact>,
    /// What earlier bills used of lasting balances, and what these use.
    pub balances: &'a BTreeMap<String, Exact>,
    pub postings: BTreeMap<String, Exact>,
    /// What was left of each item when the stage began.
    pub began: Vec<Exact>,
    /// Units of slices that waivers took, by the slice's place among the lines.
    pub waived: BTreeMap<usize, Exact>,
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

/// How narrow a scope is: a SKU, then what lines are by, then a service, then whose they are.
fn granularity(scope: &Value) -> [usize; 4] {
    let names = |field: &&str| !scope[*field].is_null();
    let by = ["usage_type", "operation", "region"].iter().filter(|field| names(field)).count();
    let attributes = scope["attributes"].as_object().map_or(0, |names| names.len());
    let whose = ["account", "group", "payer"].iter().filter(|field| names(field)).count();
    [names(&"sku").into(), by + attributes, names(&"service").into(), whose]
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

    /// The usage in a clause's scope, of one payer or of all, without what it excludes.
    pub fn chosen(&self, clause: &Value, payer: Option<&str>) -> Vec<usize> {
        let mut items = self.chosen_all(clause, payer);
        items.retain(|item| self.items[*item].is_usage);
        items
    }

    /// The same, and what clauses charged so far; in the order of ties.
    pub fn chosen_all(&self, clause: &Value, payer: Option<&str>) -> Vec<usize> {
        let excluded = |item: &Item| list(clause, "exclude").iter().any(|scope| in_scope(scope, item));
        let of_payer = |item: &Item| payer.is_none_or(|payer| item.member.payer == payer);
        let holds = |item: &Item| {
            of_payer(item) && in_scope(&clause["scope"], item) && !excluded(item) && self.wins(clause, item)
        };
        let mut items: Vec<usize> = (0..self.items.len()).filter(|at| holds(&self.items[*at])).collect();
        items.sort_by_key(|item| (self.items[*item].series.account.clone(), self.items[*item].sku.clone(), *item));
        items
    }

    /// Of one exclusive group's clauses only the most granular one that matches an item applies to it.
    fn wins(&self, clause: &Value, item: &Item) -> bool {
        let rivals = list(self.contract, "clauses").iter().filter(|other| {
            clause["exclusive_group"].is_string()
                && other["exclusive_group"] == clause["exclusive_group"]
                && in_force(other, self.cycle)
                && in_scope(&other["scope"], item)
                && !list(other, "exclude").iter().any(|scope| in_scope(scope, item))
        });
        let mut rivals = rivals.map(|other| granularity(&other["scope"]));
        rivals.all(|other| other <= granularity(&clause["scope"]))
    }

    /// The paid slices of an item, by their places among all lines.
    pub fn slices_of(&self, item: usize) -> Vec<usize> {
        let own = |line: &Line| self.items[item].has(line);
        let is_slice = |line: &Line| own(line) && line.origin.parse::<u32>().is_ok();
        (0..self.lines.len()).filter(|at| is_slice(&self.lines[*at])).collect()
    }

    /// What private rates left of one slice.
    pub fn left_of(&self, slice: usize) -> Exact {
        let is_rate = |origin: &str| {
            let mut rates = list(self.contract, "clauses").iter().filter(|own| own["mechanism"] == "private_rate");
            rates.any(|own| origin.strip_prefix("clause:") == own["id"].as_str())
        };
        let changes = self.lines.iter().filter(|line| line.of == Some(slice) && is_rate(&line.origin));
        let changes = changes.map(|line| &line.amount);
        &self.lines[slice].amount + changes.sum::<Exact>()
    }

    /// The lines of an item.
    pub fn lines_of(&self, item: usize) -> impl Iterator<Item = &Line> {
        let own = &self.items[item];
        self.lines.iter().filter(|line| own.has(line))
    }

    /// What earlier lines left of an item to be paid.
    pub fn net(&self, item: usize) -> Exact {
        self.lines_of(item).map(|line| &line.amount).sum()
    }

    /// Adds a clause's line to an item; nothing is not shown.
    pub fn add(&mut self, clause: &Value, item: usize, of: Option<usize>, amount: Exact) {
        if amount.is_zero() {
            return;
        }
        let Item { member, series, sku, group, .. } = self.items[item].clone();
        let (payer, origin, quantity) = (member.payer, format!("clause:{}", text(&clause["id"], "")), whole(0));
        self.lines.push(Line { payer, series, sku, group, origin, of, ladder: None, quantity, amount });
    }

    /// Takes an amount off several items, each its share by what is left of it, and no more than there is.
    pub fn take_off(&mut self, clause: &Value, items: &[usize], off: Exact) -> Exact {
        let nets: Vec<Exact> = items.iter().map(|item| self.net(*item)).collect();
        self.take_off_like(clause, items, &nets, off)
    }

    /// The same, shared like `nets`; what is not above zero has no share.
    pub fn take_off_like(&mut self, clause: &Value, items: &[usize], nets: &[Exact], off: Exact) -> Exact {
        let nets: Vec<Exact> = nets.iter().map(|net| net.clone().max(whole(0))).collect();
        let off = self.line_of(off).min(self.usable(nets.iter().sum()));
        for (item, part) in items.iter().zip(self.divided(&-off.clone(), &nets)) {
            // Rounding in a band before may have taken more than its part.
            let part = part.max(-self.net(*item).max(whole(0)));
            self.add(clause, *item, None, part);
        }
        off
    }

    /// Divides an amount, in minor units where every line is rounded and the amount has no more decimals than they.
    pub fn divided(&self, amount: &Exact, weights: &[Exact]) -> Vec<Exact> {
        let minor = is_by_line(self.catalogue) && payable_of(self.catalogue, amount) == *amount;
        let scale = if minor { decimals(self.catalogue) } else { SCALE };
        divided(amount, weights, scale).unwrap_or_else(|| vec![whole(0); weights.len()])
    }

    /// What of a balance can be used: whole minor units where every line is rounded.
    pub fn usable(&self, left: Exact) -> Exact {
        let left = left.max(whole(0));
        if is_by_line(self.catalogue) { rounded_by(&left, decimals(self.catalogue), "down") } else { left }
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
        let service = text(&clause["service"], text(&clause["id"], "")).to_owned();
        self.charge_as(clause, account, &service, amount)
    }

    /// The same, shown under a service.
    pub fn charge_as(&mut self, clause: &Value, account: &str, service: &str, amount: Exact) -> Exact {
        let amount = if is_by_line(self.catalogue) { payable_of(self.catalogue, &amount) } else { amount };
        let id = text(&clause["id"], "").to_owned();
        let series = Series {
            account: account.to_owned(),
            service: service.to_owned(),
            usage_type: id.clone(),
            operation: String::new(),
            region: String::new(),
            attributes: Vec::new(),
        };
        let (member, quantity, lots) = ((self.member)(account), whole(0), Vec::new());
        let item = Item { member, series, sku: id, group: None, quantity, lots, is_usage: false };
        let at = self.items.iter().position(|own| *own == item).unwrap_or_else(|| {
            self.items.push(item);
            self.items.len() - 1
        });
        self.add(clause, at, None, amount.clone());
        amount
    }
}

/// Whether a contract or a clause governs a cycle.
pub fn in_force(own: &Value, cycle: &str) -> bool {
    text(&own["effective"], "") <= cycle && cycle < text(&own["until"], "9999-12")
}
