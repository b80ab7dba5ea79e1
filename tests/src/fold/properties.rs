//! What holds for every bill, whatever it costs: parts sum to the whole, no order of counters matters, discounts never
//! raise and never take too much, bills of one cycle sum to the one bill, bodies read back as they were written.

use std::collections::{BTreeMap, BTreeSet};

use num_traits::Signed;
use reckoner_shard::base::money::Money;
use reckoner_shard::billing::bill::{BillBody, LineKind, PricePart, Source};
use reckoner_shard::billing::codec::{decode, encode};
use serde_json::Value;

use super::case::{Case, Step};
use crate::model::calendar::{start_of, time_of};
use crate::model::exact::{Exact, exact, ten_to, text, whole};
use crate::model::pool_year::is_yearly;
use crate::model::purchase::at_close;
use crate::model::rounding::{SCALE, is_by_line};
use crate::model::series::{self, list};

/// One in so many cases is billed in several steps: that folds it several times more.
const INTERIM_EVERY: u64 = 4;
/// Bills of such a cycle.
const STEPS: usize = 3;

/// The first property that does not hold, in words.
pub fn check(case: &Case, bills: &[BillBody], seed: u64) -> Result<(), String> {
    for bill in bills {
        if decode(&encode(bill)).as_ref() != Ok(bill) {
            return Err(format!("the bill of {} does not read back as it was written", bill.payer));
        }
        sums(bill)?;
        never_too_much(case, bill)?;
    }
    shared_slices(case, bills)?;
    any_order(case, bills)?;
    if seed.is_multiple_of(INTERIM_EVERY) {
        interim(case, bills, seed.is_multiple_of(2 * INTERIM_EVERY))
    } else {
        Ok(())
    }
}

fn money(value: impl ToString) -> Exact {
    exact(&value.to_string())
}

/// Lines sum to the payable, all but the rounding to the total; the slices of a series hold its quantity.
fn sums(bill: &BillBody) -> Result<(), String> {
    let sum = |rounding: bool| -> Exact {
        let lines = bill.lines.iter().filter(|line| rounding || line.kind() != LineKind::Rounding);
        lines.map(|line| money(line.amount)).sum()
    };
    // What is converted has no rounding line.
    let due = if bill.exchange.is_some() { bill.total } else { bill.payable };
    if (sum(false), sum(true)) != (money(bill.total), money(due)) {
        return Err(format!("the lines of {} do not sum to {} and {}", bill.payer, bill.total, bill.payable));
    }
    for (index, item) in bill.items.iter().enumerate() {
        let lines = bill.lines.iter().filter(|line| line.item == Some(index as u32) && line.kind() == LineKind::Usage);
        let slices: Vec<Exact> = lines.filter_map(|line| line.quantity).map(money).collect();
        // Every shared slice is divided by itself, so a member's slices may miss its quantity by a last digit each.
        let (sum, last_digits) = (slices.iter().sum::<Exact>(), whole(slices.len() as i128) * ten_to(-SCALE));
        if (&sum - money(item.quantity)).abs() > last_digits {
            return Err(format!("the slices of {:?} hold {}, it has {}", item.series, text(&sum), item.quantity));
        }
    }
    Ok(())
}

/// A clause lowers unless it was told that it may raise; of an account's SKU it takes no more than there is.
fn never_too_much(case: &Case, bill: &BillBody) -> Result<(), String> {
    let clauses = case.contract.as_ref().map_or(&[][..], |contract| list(contract, "clauses"));
    let may_raise = |id: &str| clauses.iter().any(|clause| clause["id"] == id && clause["may_raise"] == true);
    // A line by agreement may take more than there is.
    let agreed = clauses.iter().any(|clause| clause["itemised"] == true);
    let mut nets: BTreeMap<(String, String), Exact> = BTreeMap::new();
    let mut taken_back = BTreeSet::new();
    for line in &bill.lines {
        let Some(item) = bill.item(line) else { continue };
        if item.meter.is_none() || agreed {
            continue;
        }
        // What is taken back of a fee paid in advance may be more than the cycle charges.
        if matches!(line.source, Source::Fee { .. }) && line.amount < Money::ZERO {
            taken_back.insert((item.series.account.to_string(), item.sku.to_string()));
        }
        let net = nets.entry((item.series.account.to_string(), item.sku.to_string())).or_insert_with(|| whole(0));
        *net += money(line.amount);
        let Source::Clause { clause, .. } = &line.source else { continue };
        if line.kind() == LineKind::Surcharge && !may_raise(clause.as_str()) {
            return Err(format!("clause {clause} raises line {} by {}", line.id, line.amount));
        }
    }
    match nets.into_iter().find(|(whose, net)| *net < whole(0) && !taken_back.contains(whose)) {
        Some((whose, net)) => Err(format!("{whose:?} is left with {}", text(&net))),
        None => Ok(()),
    }
}

/// The members' parts of every shared slice sum to it, over all bills.
fn shared_slices(case: &Case, bills: &[BillBody]) -> Result<(), String> {
    let mut parts: BTreeMap<(String, u32), (Exact, Exact)> = BTreeMap::new();
    let mut slices: BTreeMap<(String, u32), (Exact, Exact)> = BTreeMap::new();
    for bill in bills {
        let name = |place: usize| format!("{} {:?}", bill.pools[place].id, bill.pools[place].keys);
        for line in &bill.lines {
            let (Some(pool), Source::Price { tier, .. }) = (line.pool, &line.source) else { continue };
            let part = parts.entry((name(pool as usize), tier.index)).or_insert_with(|| (whole(0), whole(0)));
            part.0 += line.quantity.map_or(whole(0), money);
            part.1 += money(line.amount);
        }
        // Every payer's bill names all of a pool that several share.
        let mut own: BTreeMap<(String, u32), (Exact, Exact)> = BTreeMap::new();
        for (place, pool) in bill.pools.iter().enumerate() {
            // Pools of a day or an hour are many of one name.
            let price = list(&case.catalogue, "prices").iter().find(|price| price["id"] == pool.id.as_str());
            if price.is_some_and(|price| price["pool"]["period"].is_string()) {
                continue;
            }
            for slice in &pool.slices {
                // Ladders that follow each other have slices of their own.
                let sum = own.entry((name(place), slice.tier.index)).or_insert_with(|| (whole(0), whole(0)));
                sum.0 += money(slice.quantity);
                sum.1 += money(slice.amount);
            }
        }
        slices.extend(own);
    }
    for (which, slice) in slices {
        let part = parts.remove(&which).unwrap_or_else(|| (whole(0), whole(0)));
        // Where lines are rounded, the members share the rounded charge.
        if part.0 != slice.0 || (part.1 != slice.1 && !is_by_line(&case.catalogue)) {
            let show = |both: &(Exact, Exact)| format!("{} for {}", text(&both.0), text(&both.1));
            return Err(format!("slice {which:?} is {}, its parts sum to {}", show(&slice), show(&part)));
        }
    }
    Ok(())
}

/// The same counters in another order give the same bytes.
fn any_order(case: &Case, bills: &[BillBody]) -> Result<(), String> {
    let mut turned = case.clone();
    turned.counters.reverse();
    let middle = turned.counters.len() / 2;
    turned.counters.rotate_left(middle);
    turned.records.reverse();
    let middle = turned.records.len() / 2;
    turned.records.rotate_left(middle);
    turned.spread.reverse();
    if turned.engine()? == bills { Ok(()) } else { Err("another order of the counters gives another bill".to_owned()) }
}

/// Billed in three steps, each the difference to what was billed before, the lines sum to the one bill's, also of payers
/// that are left with none; and other rates of exchange change nothing for whom has a bill already.
fn interim(case: &Case, bills: &[BillBody], by_interim: bool) -> Result<(), String> {
    let mut booked: Vec<BillBody> = Vec::new();
    for step in 1..=STEPS {
        let mut early = case.clone();
        early.counters.truncate(case.counters.len() * step / STEPS);
        early.records.truncate(case.records.len() * step / STEPS);
        early.spread.truncate(case.spread.len() * step / STEPS);
        if step == STEPS {
            let has_none = |bill: &&BillBody| !booked.iter().any(|earlier| earlier.payer == bill.payer);
            if !bills.iter().any(|bill| has_none(&bill)) {
                other_rates(&mut early);
            }
        }
        let mut steps = vec![if step < STEPS && by_interim { Step::Interim } else { Step::Whole }];
        if case.has_purchases() {
            steps.insert(0, Step::Purchases);
        }
        // The close, then what a year is short of.
        if step == STEPS && case.contract.as_ref().and_then(at_close).is_some() {
            steps.insert(steps.len() - 1, Step::Close);
        }
        for next in steps {
            let next = early.engine_after(&booked, next)?;
            booked.extend(next);
        }
    }
    let payers: BTreeSet<&str> = booked.iter().chain(bills).map(|bill| bill.payer.as_str()).collect();
    for payer in payers {
        let own = |bills: &[BillBody]| -> Vec<BillBody> {
            bills.iter().filter(|bill| bill.payer.as_str() == payer).cloned().collect()
        };
        let (steps, at_once) = (own(&booked), own(bills));
        let payable = |bills: &[BillBody]| -> Exact { bills.iter().map(|bill| money(bill.payable)).sum() };
        let (paid, due) = (payable(&steps), payable(&at_once));
        if paid != due {
            return Err(format!("{payer} paid {} in steps, {} at once", text(&paid), text(&due)));
        }
        let (at_once, in_steps) = (lines(&at_once), lines(&steps));
        if at_once != in_steps {
            return Err(format!("{payer} in steps:\n{in_steps:#?}\nat once:\n{at_once:#?}"));
        }
    }
    Ok(())
}

/// Another rate of exchange wherever there is one.
fn other_rates(case: &mut Case) {
    let clauses = case.contract.as_mut().and_then(|contract| contract["clauses"].as_array_mut()).into_iter().flatten();
    for rates in clauses.filter_map(|clause| clause.get_mut("rates")).filter_map(Value::as_array_mut) {
        for rate in rates.iter_mut().filter_map(|row| row.get_mut("rate")) {
            *rate = Value::from("1.5");
        }
    }
}

/// Quantity and amount of every charge, summed over bills.
fn lines<'a>(bills: impl IntoIterator<Item = &'a BillBody>) -> BTreeMap<String, (Exact, Exact)> {
    let mut sums: BTreeMap<String, (Exact, Exact)> = BTreeMap::new();
    for bill in bills {
        for line in &bill.lines {
            let source = match &line.source {
                Source::Clause { clause, .. } => format!("clause {clause} {:?}", line.rate),
                other => format!("{other:?} {:?}", line.rate),
            };
            let series = bill.item(line).map(|item| format!("{:?} {}", item.series, item.sku));
            let sum = sums.entry(format!("{source} {series:?}")).or_insert_with(|| (whole(0), whole(0)));
            sum.0 += line.quantity.map_or(whole(0), money);
            sum.1 += money(line.amount);
        }
    }
    sums.retain(|_, (quantity, amount)| (&*quantity, &*amount) != (&whole(0), &whole(0)));
    sums
}

/// What a case came across.
pub fn met(case: &Case, bills: &[BillBody]) -> BTreeSet<String> {
    let mut met = BTreeSet::new();
    let rounding = &case.catalogue["rounding"];
    let word = |value: &Value, default: &str| series::text(value, default).to_owned();
    met.insert(format!("rounding {} {}", word(&rounding["at"], "total"), word(&rounding["mode"], "half_up")));
    if !case.catalogue["stages"].is_null() {
        met.insert("stages of a catalogue".to_owned());
    }
    if case.contract.as_ref().is_some_and(|contract| !contract["stages"].is_null()) {
        met.insert("stages of a contract".to_owned());
    }
    if case.contract.is_some() && bills.iter().all(|bill| bill.contract.is_none()) && !bills.is_empty() {
        met.insert("contract not in force".to_owned());
    }
    met.extend(beside_met(case));
    for bill in bills {
        if let Some(own) = &bill.exchange {
            met.insert(format!("bill in {}", own.to));
        }
        for item in &bill.unpriced {
            met.insert(format!("unpriced {}", item.reason.name()));
        }
        for line in &bill.lines {
            met.insert(line_met(case, line));
            met.extend(parts_met(case, bill, line));
            if let Some(pool) = bill.pool(line) {
                met.insert(format!("shared {}", kind_of(case, pool.id.as_str())));
            }
        }
    }
    met
}

fn line_met(case: &Case, line: &reckoner_shard::billing::bill::Line) -> String {
    match &line.source {
        Source::FreeUnits { price } => format!("free units of {}", kind_of(case, price.as_str())),
        Source::FreePool { pool } => kind_of(case, pool.as_str()),
        Source::Price { price, .. } => kind_of(case, price.as_str()),
        Source::PricePart { part, .. } => format!("{} of a price", part.name()),
        Source::Fee { .. } => "fee of a subscription".to_owned(),
        Source::Clause { .. } => format!("{} {}", line.kind().name(), line.stage.name()),
        Source::Rounding => "rounding line".to_owned(),
        Source::Refund { .. } => "refund".to_owned(),
    }
}

/// What a case has beside the real bills.
fn beside_met(case: &Case) -> Vec<String> {
    let mut met = Vec::new();
    if let Some((_, since)) = &case.amended {
        let when = if *since == case.cycle { "the cycle" } else { "the next cycle" };
        met.push(format!("groups and payers change with {when}"));
    }
    for record in &case.spread {
        let (start, end) = (start_of(case.cycle), start_of(case.cycle + 1));
        let where_to = match (record.start < start, record.end > end) {
            (true, true) => "from before the cycle to after it",
            (true, false) => "from before the cycle",
            (false, true) => "to after the cycle",
            (false, false) => "within the cycle",
        };
        if record.start < end && record.end > start {
            met.push(format!("spread {where_to}"));
        }
    }
    if case.has_purchases() {
        let bought = case.engine_after(&[], Step::Purchases).unwrap_or_default();
        if bought.is_empty() {
            met.push("nothing bought by then".to_owned());
        }
        met.extend(bought.iter().flat_map(|bill| &bill.lines).filter_map(|line| match line.source {
            Source::Fee { .. } => Some("purchase of a fee".to_owned()),
            Source::Clause { .. } => Some("purchase of a prepayment".to_owned()),
            _ => None,
        }));
    }
    if case.contract.as_ref().and_then(at_close).is_some() {
        let closed = case.engine_after(&[], Step::Close).unwrap_or_default();
        if case.engine_after(&closed, Step::Whole).is_ok_and(|bills| !bills.is_empty()) {
            met.push("shortfall bill".to_owned());
        }
    }
    for bill in case.engine_pro_forma().unwrap_or_default() {
        let clauses = bill.lines.iter().filter(|line| matches!(line.source, Source::Clause { .. }));
        met.extend(clauses.map(|line| format!("pro forma {} {}", line.kind().name(), line.stage.name())));
    }
    met
}

/// What of a price or a clause made a line.
fn parts_met(case: &Case, bill: &BillBody, line: &reckoner_shard::billing::bill::Line) -> Vec<String> {
    let find = |document: &Value, field: &str, id: &str| {
        list(document, field).iter().find(|own| own["id"] == id).cloned().unwrap_or_default()
    };
    let mut met = Vec::new();
    match &line.source {
        Source::Price { price, tier, .. } => {
            let price = find(&case.catalogue, "prices", price.as_str());
            let own = &list(&price, "tiers").get(tier.index as usize - 1).cloned().unwrap_or_default();
            let parts = ["flat", "block", "cap"].into_iter().filter(|part| own[part].is_string());
            met.extend(parts.map(|part| format!("tier with {part}")));
            let parts = ["round_units", "reached_by", "records", "changes", "prorate"]
                .into_iter()
                .filter(|part| !price[part].is_null());
            met.extend(parts.map(|part| format!("price with {part}")));
            if let Some(period) = price["pool"]["period"].as_str() {
                met.push(format!("pool by {period}"));
                if period == "contract_year" {
                    met.push(format!("{} by {period}", series::text(&price["model"], "")));
                }
            }
            if line.quantity.is_some_and(|quantity| quantity.is_zero()) && tier.index == 1 {
                met.push("flat part at zero".to_owned());
            }
            let meter = bill.item(line).and_then(|item| item.meter.as_ref());
            let meter = meter.map(|meter| find(&case.catalogue, "meters", meter.as_str())).unwrap_or_default();
            met.push(format!("aggregation {}", series::text(&meter["aggregation"], "sum")));
            if meter["level"].is_object() {
                let word = |field: &str, default: &str| series::text(&meter["level"][field], default).to_owned();
                met.push(format!("level by {} and {}", word("records", "level"), word("weigh", "time")));
            }
            let sku = bill.item(line).map(|item| find(&case.catalogue, "skus", item.sku.as_str())).unwrap_or_default();
            if let Some(hours) = sku["match"]["hours"].as_object() {
                let how = if hours.contains_key("except") { "except" } else { "at" };
                met.push(format!("named hours, {how}"));
                let zone = hours.get("zone").map(|id| find(&case.catalogue, "zones", series::text(id, "")));
                let changes = |at: &&Value| {
                    let at = time_of(series::text(&at["from"], ""));
                    start_of(case.cycle) < at && at < start_of(case.cycle + 1)
                };
                if zone.is_some_and(|zone| list(&zone, "offsets").iter().any(|at| changes(&at))) {
                    met.push(format!("named hours, {how}, where clocks change"));
                }
            }
        }
        Source::Clause { clause, .. } => {
            let own = case.contract.as_ref().map(|contract| find(contract, "clauses", clause.as_str()));
            let own = own.unwrap_or_default();
            let mut name = series::text(&own["mechanism"], "").to_owned();
            let words =
                ["stage", "model", "measure", "base", "period"].into_iter().filter_map(|field| own[field].as_str());
            words.for_each(|word| name = format!("{name} {word}"));
            let flags = ["lasting", "itemised", "once", "may_raise"].into_iter().filter(|flag| own[flag] == true);
            flags.for_each(|flag| name = format!("{name} {flag}"));
            met.push(format!("clause {name}, {}", line.kind().name()));
            if let Some(period) = own["period"].as_str() {
                met.push(format!("clause {} by {period}", series::text(&own["mechanism"], "")));
            }
            if let Some(by) = own["prorate"].as_str() {
                met.push(format!("clause {} prorated by {by}", series::text(&own["mechanism"], "")));
            }
            if own["exclusive_group"].is_string() {
                met.push("clause of an exclusive group".to_owned());
            }
            if own["sharing"] == false {
                met.push("credit that is not shared".to_owned());
            }
        }
        Source::Fee { fee, subscription, .. } => {
            let own = find(&case.catalogue, "fees", fee.as_str());
            let word = |field: &str, default: &str| series::text(&own[field], default).to_owned();
            let (period, due) = (word("period", ""), word("in", "arrears"));
            met.push(format!("fee by {period} in {due}, prorate {}", word("prorate", "days")));
            if line.amount < Money::ZERO {
                met.push("fee taken back".to_owned());
            }
            let subscription = case.contract.as_ref().map(|own| find(own, "subscriptions", subscription.as_str()));
            if subscription.is_some_and(|own| own["group"].is_string()) {
                met.push("fee of a group".to_owned());
            }
        }
        Source::PricePart { price, part }
            if !matches!(part, PricePart::PerRecord) && is_yearly(&find(&case.catalogue, "prices", price.as_str())) =>
        {
            let used = bill.item(line).is_some_and(|item| item.counted.records > 0);
            let used = if used { "" } else { ", without usage" };
            met.push(format!("{} of a contract year{used}", part.name()));
        }
        Source::PricePart { price, part: PricePart::Minimum { .. } | PricePart::Maximum { .. } }
            if find(&case.catalogue, "prices", price.as_str())["prorate_limits"].is_string() =>
        {
            let price = find(&case.catalogue, "prices", price.as_str());
            met.push(format!("limit of a price by {}", series::text(&price["prorate_limits"], "")));
        }
        Source::PricePart { part: PricePart::Minimum { .. }, .. }
            if bill.item(line).is_some_and(|item| item.counted.records == 0) =>
        {
            met.push("minimum without usage".to_owned());
        }
        _ => {}
    }
    met
}

/// The kind of a price or free pool, and how it is divided.
fn kind_of(case: &Case, id: &str) -> String {
    let find = |field: &str| list(&case.catalogue, field).iter().find(|own| own["id"] == id);
    let word = |value: &Value| series::text(value, "prorata").to_owned();
    if let Some(pool) = find("pools") {
        return format!("free pool {}", word(&pool["share"]));
    }
    match find("prices") {
        Some(price) => format!("{} {}", series::text(&price["model"], ""), word(&price["attribution"])),
        None => "rate of a sku".to_owned(),
    }
}
