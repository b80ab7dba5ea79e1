//! The reference fold: usage, catalogue and contract as plain JSON in, lines out, by the letter of BILLING.md. The steps
//! live in the files beside this one, a rule once each; counting and cycles in `ledger.rs`.

use std::collections::BTreeMap;

use num_traits::Zero;
use serde_json::Value;

use super::contract;
use super::draft::{Draft, Item};
use super::exact::{Exact, whole};
use super::line::Line;
use super::pool::{Used, netted};
use super::rounding::payable_of;
use super::series::{Counter, Member, Series, list, selects, text};
use super::usage::usage_lines;

/// All bills of a hierarchy's cycle: the lines, and for each payer the exact total and the payable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bills {
    pub lines: Vec<Line>,
    pub payers: BTreeMap<String, (Exact, Exact)>,
    /// Counted and not charged: why, and how much.
    pub unpriced: Vec<(Series, &'static str, Exact)>,
}

/// Folds the counters of one cycle.
pub fn fold(
    catalogue: &Value,
    contract: Option<&Value>,
    (cycle, hours): (&str, i64),
    counters: &[Counter],
    member: &dyn Fn(&str) -> Member,
) -> Bills {
    let mut bills = Bills::default();
    let mut by_series: BTreeMap<&Series, Vec<&Counter>> = BTreeMap::new();
    for counter in counters {
        by_series.entry(&counter.series).or_default().push(counter);
    }
    let mut used = Vec::new();
    for (series, counters) in by_series {
        let counted: Exact = counters.iter().map(|counter| &counter.value).sum();
        if counted.is_zero() {
            continue;
        }
        let sku = list(catalogue, "skus").iter().find(|sku| selects(&sku["match"], series));
        let Some(sku) = sku.filter(|_| counted > whole(0)) else {
            let why = if sku.is_none() { "no_sku" } else { "below_zero" };
            bills.unpriced.push((series.clone(), why, counted));
            bills.payers.entry(member(&series.account).payer).or_default();
            continue;
        };
        let lots = netted(counters.iter().map(|counter| (counter.bucket, counter.value.clone())).collect());
        let (series, member, sku) = (series.clone(), member(&series.account), sku.clone());
        used.push(Used { series, member, sku, counted, quantity: whole(0), units: whole(0), lots });
    }
    used.sort_by_key(|used| (used.series.account.clone(), text(&used.sku["id"], "").to_owned(), used.series.clone()));
    bills.lines = usage_lines(catalogue, &mut used, hours);
    if let Some(contract) = contract {
        let item = |used: &Used| Item {
            member: used.member.clone(),
            series: used.series.clone(),
            sku: text(&used.sku["id"], "").to_owned(),
            quantity: used.quantity.clone(),
            is_usage: true,
        };
        let (items, lines) = (used.iter().map(item).collect(), bills.lines);
        let (balances, postings) = (&BTreeMap::new(), BTreeMap::new());
        let mut draft = Draft { catalogue, contract, cycle, items, lines, balances, postings, member };
        contract::apply(&mut draft);
        bills.lines = draft.lines;
    }
    for payer in used.iter().map(|used| &used.member.payer).chain(bills.lines.iter().map(|line| &line.payer)) {
        bills.payers.entry(payer.clone()).or_default();
    }
    for (payer, (total, payable)) in &mut bills.payers {
        *total = bills.lines.iter().filter(|line| line.payer == *payer).map(|line| &line.amount).sum();
        *payable = payable_of(catalogue, total);
    }
    bills
}
