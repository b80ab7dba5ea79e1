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
    /// What lasting balances are used.
    pub postings: BTreeMap<String, Exact>,
    /// Counted and not charged: why, and how much.
    pub unpriced: Vec<(Series, &'static str, Exact)>,
}

/// Folds the counters of one cycle.
pub fn fold(
    catalogue: &Value,
    contract: Option<&Value>,
    (cycle, hours): (&str, i64),
    counters: &[Counter],
    balances: &BTreeMap<String, Exact>,
    member: &dyn Fn(&str) -> Member,
) -> Bills {
    let mut bills = Bills::default();
    let mut by_series: BTreeMap<&Series, Vec<&Counter>> = BTreeMap::new();
    for counter in counters {
        by_series.entry(&counter.series).or_default().push(counter);
    }
    let mut measured = Vec::new();
    for (series, counters) in by_series {
        let counted: Exact = counters.iter().map(|counter| &counter.value).sum();
        let sku = list(catalogue, "skus").iter().find(|sku| selects(&sku["match"], series));
        if sku.is_none() && counted.is_zero() {
            continue;
        }
        let records = counters.iter().map(|counter| (counter.bucket, counter.records)).collect();
        let (own, quantity, units) = (member(&series.account), whole(0), whole(0));
        let (converted, bought) = (Vec::new(), Vec::new());
        let price = sku.filter(|_| counted >= whole(0));
        if price.is_none() {
            let why = if sku.is_none() { "no_sku" } else { "below_zero" };
            bills.unpriced.push((series.clone(), why, counted.clone()));
            bills.payers.entry(own.payer.clone()).or_default();
        }
        let lots = netted(counters.iter().map(|counter| (counter.bucket, counter.value.clone())).collect());
        let counters = lots.clone();
        let (series, sku) = (series.clone(), price.cloned().unwrap_or_default());
        measured.push(Used {
            series,
            member: own,
            sku,
            counted,
            quantity,
            units,
            lots,
            counters,
            converted,
            bought,
            records,
        });
    }
    let mut used: Vec<Used> = measured.iter().filter(|used| !used.sku.is_null()).cloned().collect();
    used.sort_by_key(|used| (used.series.account.clone(), text(&used.sku["id"], "").to_owned(), used.series.clone()));
    bills.lines = usage_lines(catalogue, &mut used, &measured, hours);
    if let Some(contract) = contract {
        let item = |used: &Used| Item {
            member: used.member.clone(),
            series: used.series.clone(),
            sku: text(&used.sku["id"], "").to_owned(),
            quantity: used.quantity.clone(),
            lots: used.counters.clone(),
            is_usage: true,
        };
        let lines = std::mem::take(&mut bills.lines);
        let shown = |used: &&Used| !used.quantity.is_zero() || lines.iter().any(|line| line.series == used.series);
        let mut items: Vec<Item> = used.iter().filter(shown).map(item).collect();
        // What is due for nothing may be of a series that nothing was counted in: the payer's.
        for line in &lines {
            if !items.iter().any(|item| item.series == line.series && item.sku == line.sku) {
                let (series, sku, quantity) = (line.series.clone(), line.sku.clone(), whole(0));
                let (member, lots, is_usage) = (member(&series.account), Vec::new(), true);
                items.push(Item { member, series, sku, quantity, lots, is_usage });
            }
        }
        items.sort_by_key(|item| (item.series.account.clone(), item.sku.clone(), item.series.clone()));
        let (retired, postings, waived) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut draft = Draft { catalogue, contract, cycle, items, lines, retired, balances, postings, waived, member };
        contract::apply(&mut draft);
        (bills.lines, bills.postings) = (draft.lines, draft.postings);
        bills.postings.retain(|_, amount| !amount.is_zero());
    }
    let with_usage = used.iter().filter(|used| !used.counted.is_zero());
    for payer in with_usage.map(|used| &used.member.payer).chain(bills.lines.iter().map(|line| &line.payer)) {
        bills.payers.entry(payer.clone()).or_default();
    }
    for (payer, (total, payable)) in &mut bills.payers {
        *total = bills.lines.iter().filter(|line| line.payer == *payer).map(|line| &line.amount).sum();
        *payable = payable_of(catalogue, total);
    }
    bills
}
