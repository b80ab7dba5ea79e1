//! The reference fold: usage, catalogue and contract as plain JSON in, lines out, by the letter of BILLING.md. The steps
//! live in the files beside this one, a rule once each; counting and cycles in `ledger.rs`.

use std::collections::BTreeMap;

use num_traits::Zero;
use serde_json::Value;

use super::calendar::Cycle;
use super::contract;
use super::currency::{Exchange, exchange_of};
use super::draft::{Draft, Item, in_force};
use super::exact::{Exact, rounded, whole};
use super::hours::divided;
use super::line::Line;
use super::measure::{Measure, Span, aggregation, carries, divisor, measure, scale_of};
use super::pool::{Used, netted};
use super::pool_year::{Year, add_ends};
use super::record::Record;
use super::rounding::payable_of;
use super::series::{Counter, Member, Series, list, selects, text, without_attributes};
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

/// Whose bills they are.
pub struct Whose<'a> {
    /// The hierarchy's first cycle.
    pub first: Cycle,
    pub root: &'a str,
    pub payers: &'a [String],
    pub member: &'a dyn Fn(&str) -> Member,
}

/// Folds what one cycle counted: the counters of meters of sums and counts, and all records of the others.
pub fn fold(
    catalogue: &Value,
    contract: Option<&Value>,
    cycle: &str,
    (counters, records): (&[Counter], &[Record]),
    balances: &BTreeMap<String, Exact>,
    whose: &Whose<'_>,
) -> Bills {
    let member = whose.member;
    let mut bills = Bills::default();
    let mut by_series: BTreeMap<&Series, Vec<&Counter>> = BTreeMap::new();
    for counter in counters {
        by_series.entry(&counter.series).or_default().push(counter);
    }
    let span = Span::of(cycle);
    let mut kept: BTreeMap<&Series, Vec<Record>> = BTreeMap::new();
    for record in records {
        kept.entry(&record.series).or_default().push(record.clone());
    }
    for series in kept.keys() {
        by_series.entry(series).or_default();
    }
    let mut measured = Vec::new();
    for (series, counters) in by_series {
        let meter = list(catalogue, "meters").iter().find(|meter| selects(meter, &without_attributes(series)));
        let meter = meter.expect("what is counted has a meter").clone();
        if let Some(records) = kept.get(series) {
            let own = (member(&series.account), list(catalogue, "skus"));
            measured.extend(of_records(&mut bills, own, meter, series, records, span));
            continue;
        }
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
        let counters = lots.iter().map(|(hour, value)| (hour * 60, value.clone())).collect();
        let (sum, measure, kept) = (counted.clone(), Measure::default(), Vec::new());
        let (series, sku) = (series.clone(), price.cloned().unwrap_or_default());
        measured.push(Used {
            series,
            member: own,
            sku,
            meter,
            measure,
            kept,
            sum,
            group: None,
            subscribed: false,
            taken: Vec::new(),
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
    let mut used = Vec::new();
    for own in measured.iter().filter(|used| !used.sku.is_null()) {
        let skus = list(catalogue, "skus").iter().filter(|sku| selects(&sku["match"], &own.series));
        let skus: Vec<&Value> = skus.collect();
        if skus.iter().all(|sku| sku["match"]["hours"].is_null()) {
            used.push(own.clone());
            continue;
        }
        for part in divided(catalogue, own, &skus, span) {
            if !part.sku.is_null() {
                used.push(part);
            } else if !part.counted.is_zero() {
                bills.unpriced.push((part.series, "no_sku", part.counted));
                bills.payers.entry(part.member.payer).or_default();
            }
        }
    }
    let agreed = contract.filter(|contract| in_force(contract, cycle));
    if let Some(contract) = agreed {
        add_subscribed(catalogue, contract, cycle, member, &mut used);
    }
    let mut year = Year::of(agreed, whose.first, cycle, balances);
    add_ends(catalogue, &year, (whose.root, whose.payers), member, &mut used);
    used.sort_by_key(|used| {
        let sku = text(&used.sku["id"], "").to_owned();
        (used.series.account.clone(), sku, used.series.clone(), used.member.group.clone())
    });
    bills.lines = usage_lines(catalogue, &mut used, &measured, span, &mut year);
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
    }
    bills.postings.extend(year.postings);
    bills.postings.retain(|_, amount| !amount.is_zero());
    let with_usage = used.iter().filter(|used| !used.sum.is_zero());
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

/// A series of a meter that makes more of its records than a sum; nothing where it has none in the cycle, or where it
/// cannot be charged, which the bills then say.
fn of_records(
    bills: &mut Bills,
    (member, skus): (Member, &[Value]),
    meter: Value,
    series: &Series,
    records: &[Record],
    span: Span,
) -> Option<Used> {
    let kept: Vec<Record> = records.iter().filter(|record| span.holds(record)).cloned().collect();
    if kept.is_empty() && !carries(&meter) {
        return None;
    }
    let sku = skus.iter().find(|sku| selects(&sku["match"], series));
    let mut refuse = |why: &'static str, counted: Exact| {
        bills.unpriced.push((series.clone(), why, counted));
        bills.payers.entry(member.payer.clone()).or_default();
    };
    let measure = match measure(&meter, records, span) {
        Ok(measure) => measure,
        Err((why, counted)) => {
            refuse(if sku.is_none() { "no_sku" } else { why }, counted);
            return None;
        }
    };
    let counted = &measure.alone / divisor(&meter, span);
    let shown = rounded(&counted, scale_of(&meter));
    if sku.is_none() && !shown.is_zero() {
        refuse("no_sku", shown);
    }
    let of_hour = |(minute, value): &(i64, Exact)| (minute / 60, value.clone());
    let mut records: BTreeMap<i64, u64> = BTreeMap::new();
    for record in &kept {
        let minute = super::measure::bucket_of(&meter, record.start - span.start);
        *records.entry(minute / 60).or_default() += 1;
    }
    // Waivers ask when it was used; pools only where hours can be told apart.
    let buckets = &measure.buckets;
    let (lots, counters) = match aggregation(&meter) {
        "maximum" => (buckets.iter().map(of_hour).collect(), buckets.clone()),
        "percentile_95" => (vec![(0, measure.sum.clone())], netted(buckets.clone())),
        _ => (vec![(0, measure.sum.clone())], vec![(0, measure.sum.clone())]),
    };
    Some(Used {
        series: series.clone(),
        member,
        group: None,
        subscribed: false,
        taken: Vec::new(),
        sku: sku.cloned().unwrap_or_default(),
        meter,
        kept,
        sum: measure.sum.clone(),
        measure,
        counted,
        quantity: whole(0),
        units: whole(0),
        lots,
        counters,
        converted: Vec::new(),
        bought: Vec::new(),
        records: records.into_iter().collect(),
    })
}
