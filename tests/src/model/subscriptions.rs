//! What is due from whom a contract subscribes (decisions 2 and 7): fees, and SKUs whose minimum or flat part is due
//! without usage. What a pool without usage costs lives in `usage.rs`.

use num_traits::Zero;
use serde_json::Value;

use super::calendar::{DAY, months, periods, start_of, time_of};
use super::exact::{Exact, rounded, whole};
use super::line::Line;
use super::measure::Measure;
use super::pool::Used;
use super::prorate::taken;
use super::rounding::{SCALE, is_by_line, payable_of};
use super::series::{Member, Series, list, number, text};

/// The first instant of a cycle, and its end.
fn bounds(cycle: &str) -> (i64, i64) {
    (start_of(months(cycle)), start_of(months(cycle) + 1))
}

/// Whose account a subscription is on, under which member, and the billing group where that is not the account's own.
fn who(subscription: &Value, member: &dyn Fn(&str) -> Member) -> (String, Member, Option<String>) {
    let account = text(&subscription["account"], text(&subscription["payer"], "")).to_owned();
    let own = member(&account);
    match subscription["group"].as_str() {
        Some(group) if group != own.group => {
            let group = group.to_owned();
            (account, Member { payer: own.payer, group: group.clone() }, Some(group))
        }
        _ => (account, own, None),
    }
}

/// Adds the SKUs that are subscribed to at any time of the cycle to what was used.
pub fn add_subscribed(
    catalogue: &Value,
    contract: &Value,
    cycle: &str,
    member: &dyn Fn(&str) -> Member,
    used: &mut Vec<Used>,
) {
    let (from, until) = bounds(cycle);
    for subscription in list(contract, "subscriptions") {
        let Some(sku) = list(catalogue, "skus").iter().find(|sku| sku["id"] == subscription["sku"]) else { continue };
        let ends = subscription["to"].as_str().map(time_of);
        if time_of(text(&subscription["from"], "")) >= until || ends.is_some_and(|ends| ends <= from) {
            continue;
        }
        let (account, member, group) = who(subscription, member);
        let stand = standing_for(catalogue, sku, &account, member);
        let same = |own: &&mut Used| own.series == stand.series && own.sku["id"] == sku["id"] && own.group == group;
        if let Some(own) = used.iter_mut().find(same) {
            own.subscribed = true;
            own.taken.push(taken(subscription));
            continue;
        }
        used.push(Used { group, taken: vec![taken(subscription)], ..stand });
    }
}

/// The series of nothing that stands for what is due from an account for a SKU.
pub fn standing_for(catalogue: &Value, sku: &Value, account: &str, member: Member) -> Used {
    let matches = &sku["match"];
    let meters = &mut list(catalogue, "meters").iter();
    let meter = meters.find(|meter| meter["usage_type"] == matches["usage_type"]).expect("a SKU prices a meter");
    let exact = |field: &str| text(&matches[field], "").replace('*', "");
    let attributes = matches["attributes"].as_object().into_iter().flatten();
    let series = Series {
        account: account.to_owned(),
        service: text(&meter["service"], "").to_owned(),
        usage_type: text(&meter["usage_type"], "").to_owned(),
        operation: exact("operation"),
        region: exact("region"),
        attributes: attributes.map(|(name, value)| (name.clone(), text(value, "").to_owned())).collect(),
    };
    let nothing = vec![(0, whole(0))];
    Used {
        series,
        member,
        sku: sku.clone(),
        group: None,
        subscribed: true,
        taken: Vec::new(),
        meter: meter.clone(),
        measure: Measure::default(),
        kept: Vec::new(),
        sum: whole(0),
        counted: whole(0),
        quantity: whole(0),
        units: whole(0),
        lots: nothing.clone(),
        counters: nothing,
        converted: Vec::new(),
        bought: Vec::new(),
        records: Vec::new(),
    }
}

/// The fees that are due in a cycle.
pub fn fees(catalogue: &Value, contract: &Value, cycle: &str, member: &dyn Fn(&str) -> Member) -> Vec<Line> {
    let mut lines = Vec::new();
    for subscription in list(contract, "subscriptions") {
        let Some(fee) = list(catalogue, "fees").iter().find(|fee| fee["id"] == subscription["fee"]) else { continue };
        let (account, member, group) = who(subscription, member);
        let id = text(&fee["id"], "");
        let series = Series {
            account,
            service: text(&fee["service"], "fees").to_owned(),
            usage_type: id.to_owned(),
            operation: String::new(),
            region: String::new(),
            attributes: Vec::new(),
        };
        for (_, amount) in due(fee, subscription, cycle).into_iter().filter(|(_, amount)| !amount.is_zero()) {
            let quantity = number(&subscription["quantity"], "1");
            let quantity = if amount < whole(0) { -quantity } else { quantity };
            let amount = if is_by_line(catalogue) { payable_of(catalogue, &amount) } else { amount };
            let (payer, series, sku, group) = (member.payer.clone(), series.clone(), id.to_owned(), group.clone());
            let origin = format!("fee:{}", text(&subscription["id"], ""));
            lines.push(Line { payer, series, sku, group, origin, of: None, ladder: None, quantity, amount });
        }
    }
    lines
}

/// What payers pay for fees that are billed at once and begin by an instant (section 2.11).
pub fn bought(
    catalogue: &Value,
    contract: &Value,
    cycle: &str,
    member: &dyn Fn(&str) -> Member,
    until: i64,
) -> Vec<(String, Exact)> {
    let mut bought = Vec::new();
    for subscription in list(contract, "subscriptions").iter().filter(|own| own["at_once"] == true) {
        let Some(fee) = list(catalogue, "fees").iter().find(|fee| fee["id"] == subscription["fee"]) else { continue };
        let (_, member, _) = who(subscription, member);
        for (begins, amount) in due(fee, subscription, cycle) {
            if amount > whole(0) && begins <= until {
                let amount = if is_by_line(catalogue) { payable_of(catalogue, &amount) } else { amount };
                bought.push((member.payer.clone(), amount));
            }
        }
    }
    bought
}

/// The amounts of a fee that a subscription makes due in a cycle, each with the instant from which it is for: one a period
/// that ends in it, paid in arrears, or begins in it, paid in advance; and below zero what of a period paid in advance is
/// not used.
fn due(fee: &Value, subscription: &Value, cycle: &str) -> Vec<(i64, Exact)> {
    let (from, until) = bounds(cycle);
    let prorate = text(&fee["prorate"], "days");
    let instant = |field: &str| {
        let at = subscription[field].as_str().map(time_of);
        // The first day counts, the end day does not.
        at.map(|at| if prorate == "time" { at } else { at.div_euclid(DAY) * DAY })
    };
    let full = number(&fee["amount"], "0") * number(&subscription["quantity"], "1");
    if fee["period"] == "once" {
        let begins = time_of(text(&subscription["from"], ""));
        return if (from..until).contains(&begins) { vec![(begins, rounded(&full, SCALE))] } else { Vec::new() };
    }
    let begins = instant("from").expect("every subscription begins");
    let ends = instant("to").unwrap_or(i64::MAX);
    let mut amounts = Vec::new();
    // A period that ends where the cycle begins is over.
    for (first, last) in periods(text(&fee["period"], ""), from, until) {
        let (begins, used_until) = (begins.max(first), ends.min(last));
        let cost = |until: i64| rounded(&(&full * share(fee, prorate, (begins, until), (first, last))), SCALE);
        if begins >= used_until {
            continue;
        }
        if text(&fee["in"], "arrears") == "arrears" {
            if from < used_until && used_until <= until {
                amounts.push((begins, cost(used_until)));
            }
            continue;
        }
        if (from..until).contains(&begins) {
            amounts.push((begins, cost(last)));
        }
        if ends < last && (from..until).contains(&ends) {
            // What stays is what the used part costs.
            amounts.push((ends, cost(ends) - cost(last)));
        }
    }
    amounts
}

/// What share of a period's fee a part of it costs, never more than all.
fn share(fee: &Value, prorate: &str, part: (i64, i64), of: (i64, i64)) -> Exact {
    if part == of || prorate == "none" {
        return whole(1);
    }
    let length = |(from, until): (i64, i64)| match prorate {
        "time" => until - from,
        // By counting the days.
        _ => (from..until).step_by(DAY as usize).count() as i64,
    };
    let whole_period = fee["days"].as_i64().unwrap_or_else(|| length(of));
    Exact::new(length(part).into(), whole_period.into()).min(whole(1))
}
