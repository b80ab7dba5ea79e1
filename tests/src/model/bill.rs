//! The reference fold: usage, catalogue and contract as plain JSON in, lines out, by the letter of BILLING.md. The steps
//! live in the files beside this one, a rule once each; counting and cycles in `ledger.rs`.

use std::collections::BTreeMap;

use num_traits::Zero;
use serde_json::Value;

use super::contract;
use super::currency::{Exchange, exchange_of};
use super::draft::{Draft, Item, in_force};
use super::exact::{Exact, whole};
use super::line::Line;
use super::pool::{Used, netted};
use super::rounding::payable_of;
use super::series::{Counter, Member, Series, list, selects, text};
use super::subscriptions::{add_subscribed, fees};
use super::usage::usage_lines;

/// All bills of a hierarchy's cycle: the lines, and for each payer the exact total and the payable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bills {
    pub lines: Vec<Line>,
    pub payers: BTreeMap<String, (Exact, Exact)>,
    /// What lasting balances are used.
    pub postings: BTreeMap<String, Exact>,
    /// Of payers whose bills are in another currency.
    pub exchanges: BTreeMap<String, Exchange>,
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
            group: None,
            subscribed: false,
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
    let agreed = contract.filter(|contract| in_force(contract, cycle));
    if let Some(contract) = agreed {
        add_subscribed(catalogue, contract, cycle, member, &mut used);
    }
    used.sort_by_key(|used| {
        let sku = text(&used.sku["id"], "").to_owned();
        (used.series.account.clone(), sku, used.series.clone(), used.member.group.clone())
    });
    bills.lines = usage_lines(catalogue, &mut used, &measured, hours);
    if let Some(contract) = agreed {
        bills.lines.extend(fees(catalogue, contract, cycle, member));
    }
    if let Some(contract) = contract {
        let item = |used: &Used| Item {
            member: used.member.clone(),
            series: used.series.clone(),
            sku: text(&used.sku["id"], "").to_owned(),
            group: used.group.clone(),
            quantity: used.quantity.clone(),
            lots: used.counters.clone(),
            is_usage: true,
        };
        let lines = std::mem::take(&mut bills.lines);
        let mut items: Vec<Item> = used.iter().map(item).collect();
        items.retain(|item| !item.quantity.is_zero() || lines.iter().any(|line| item.has(line)));
        // What is due for nothing may be of a series that nothing was counted in: the payer's, or a subscriber's.
        for line in &lines {
            if !items.iter().any(|item| item.has(line)) {
                let (series, sku, group, quantity) =
                    (line.series.clone(), line.sku.clone(), line.group.clone(), whole(0));
                let mut member = member(&series.account);
                member.group = group.clone().unwrap_or(member.group);
                items.push(Item { member, series, sku, group, quantity, lots: Vec::new(), is_usage: true });
            }
        }
        items.sort_by_key(|item| {
            (item.series.account.clone(), item.sku.clone(), item.series.clone(), item.member.group.clone())
        });
        let (retired, postings, waived) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let began = Vec::new();
        let mut draft =
            Draft { catalogue, contract, cycle, items, lines, retired, balances, postings, began, waived, member };
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
        if let Some(exchange) = agreed.and_then(|contract| exchange_of(contract, payer, cycle)) {
            *payable = exchange.payable(catalogue, total);
            bills.exchanges.insert(payer.clone(), exchange);
        }
    }
    bills
}
