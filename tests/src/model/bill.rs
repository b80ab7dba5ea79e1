//! The reference fold: usage, catalogue and contract as plain JSON in, lines out, by the letter of BILLING.md.
//! Every rule stands once, in the order of the text. Counting and cycles live in `ledger.rs`.

use std::collections::BTreeMap;

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, divided, exact, rounded, whole};

/// Decimals of every amount and quantity (decision 8).
const SCALE: i32 = 12;

/// What a counter counts for. The order of the fields is the order of ties: account, then the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub account: String,
    pub service: String,
    pub usage_type: String,
    pub operation: String,
    pub region: String,
    pub attributes: Vec<(String, String)>,
}

/// A counter: what one series used in one bucket of the cycle (its first hour, from 0).
#[derive(Clone, Debug)]
pub struct Counter {
    pub series: Series,
    pub bucket: i64,
    pub value: Exact,
}

/// Who pays for an account and which billing group it is in.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub payer: String,
    pub group: String,
}

/// A line of a bill: a tier's or free slice of one series, or what a clause takes off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub payer: String,
    pub series: Series,
    pub sku: String,
    /// `1` for the first tier, `free` for free units, `pool:<id>` for a free pool, `clause:<id>` for a contract's clause.
    pub origin: String,
    /// Of a clause that changes one slice: that slice's origin.
    pub of: String,
    /// Zero on what a clause makes.
    pub quantity: Exact,
    pub amount: Exact,
}

/// A priced series on its way through pools and ladder.
#[derive(Clone, Debug)]
struct Used {
    series: Series,
    member: Member,
    sku: Value,
    /// What was counted, before conversion.
    counted: Exact,
    /// In the priced unit.
    quantity: Exact,
    /// What of it no free units have taken yet.
    units: Exact,
    /// The same by time: (hour of the cycle, units), in order.
    lots: Vec<(i64, Exact)>,
}

/// Series that climb one ladder or draw from one free pool, in the order of ties: account, then SKU, then the rest.
type Pool<'a> = Vec<&'a mut Used>;

pub fn list<'a>(document: &'a Value, field: &str) -> &'a [Value] {
    document[field].as_array().map_or(&[], Vec::as_slice)
}

pub fn text<'a>(value: &'a Value, default: &'a str) -> &'a str {
    value.as_str().unwrap_or(default)
}

fn number(value: &Value, default: &str) -> Exact {
    exact(text(value, default))
}

/// `*` stands for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|left| {
            (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| matches(rest, &left[at..]))
        }),
    }
}

/// Whether a selector (missing fields are `*`) holds a series.
pub fn selects(selector: &Value, series: &Series) -> bool {
    let attribute = |name: &str| series.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    matches(text(&selector["service"], "*"), &series.service)
        && matches(text(&selector["usage_type"], "*"), &series.usage_type)
        && matches(text(&selector["operation"], "*"), &series.operation)
        && matches(text(&selector["region"], "*"), &series.region)
        && selector["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, pattern)| attribute(name).is_some_and(|value| matches(text(pattern, "*"), value)))
}

/// The key of the pool that a series belongs to (decision 4): per payer where no owner is named; a group is one payer's.
fn pool_key(used: &Used, split_by: &[&str]) -> Vec<String> {
    let owned = split_by.iter().any(|key| ["account", "group", "payer", "root"].contains(key));
    let implied = if owned { &[][..] } else { &["payer"][..] };
    let value = |key: &&str| match *key {
        "account" => used.series.account.clone(),
        "group" => format!("{} {}", used.member.payer, used.member.group),
        "payer" => used.member.payer.clone(),
        "root" => String::new(),
        "region" => used.series.region.clone(),
        "service" => used.series.service.clone(),
        "sku" => text(&used.sku["id"], "").to_owned(),
        attribute => {
            let name = attribute.strip_prefix("attribute:").expect("the last kind of key");
            let found = used.series.attributes.iter().find(|(own, _)| own == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        }
    };
    split_by.iter().chain(implied).map(value).collect()
}

/// Splits the chosen series into pools.
fn pools<'a>(used: &'a mut [Used], chosen: impl Fn(&Used) -> bool, split_by: &[&str]) -> Vec<Pool<'a>> {
    let mut found: BTreeMap<Vec<String>, Pool<'a>> = BTreeMap::new();
    for used in used.iter_mut().filter(|used| chosen(used)) {
        found.entry(pool_key(used, split_by)).or_default().push(used);
    }
    found.into_values().collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|name| text(name, "")).collect()
}

/// Decision 6: the pool's total is divided once and, if asked, rounded; its members get parts by largest remainder.
/// Members that convert otherwise, or whose meters have another scale, are divided apart.
fn convert(pool: &mut Pool<'_>, price: &Value, hours: i64, scale_of: &dyn Fn(&Used) -> u64) {
    let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, used) in pool.iter().enumerate() {
        kinds.entry(format!("{} {}", used.sku["convert"], scale_of(used))).or_default().push(at);
    }
    for members in kinds.into_values() {
        let counted: Vec<Exact> = members.iter().map(|at| pool[*at].counted.clone()).collect();
        let convert = &pool[members[0]].sku["convert"];
        let hours = if convert["by_hours_of_cycle"] == true { whole(hours.into()) } else { whole(1) };
        let total = counted.iter().sum::<Exact>() / (number(&convert["divide"], "1") * hours);
        for (at, part) in members.iter().zip(parts(&rounded(&total, SCALE), &counted)) {
            pool[*at].units = part;
        }
    }
    if let Some(decimals) = price["round_units"]["decimals"].as_i64() {
        assert_eq!(text(&price["round_units"]["mode"], "half_up"), "half_up", "the model rounds half up alone");
        let exact: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
        let total = rounded(&exact.iter().sum(), decimals as i32);
        pool.iter_mut().zip(parts(&total, &exact)).for_each(|(used, part)| used.units = part);
    }
}

/// Parts at 12 decimals; nothing has no parts.
fn parts(total: &Exact, weights: &[Exact]) -> Vec<Exact> {
    divided(total, weights, SCALE).unwrap_or_else(|| vec![whole(0); weights.len()])
}

/// Takes units off a pool's members: each its share, or by sequence of time, account, usage type, operation, region.
fn take(pool: &mut Pool<'_>, units: &Exact, sequence: bool) -> Vec<Exact> {
    let left: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    let mut taken = vec![whole(0); pool.len()];
    if sequence {
        let mut order: Vec<(usize, usize)> = Vec::new();
        pool.iter().enumerate().for_each(|(at, used)| order.extend((0..used.lots.len()).map(|lot| (at, lot))));
        order.sort_by_key(|(at, lot)| {
            let Series { account, usage_type, operation, region, .. } = pool[*at].series.clone();
            (pool[*at].lots[*lot].0, account, usage_type, operation, region, *at, *lot)
        });
        let mut open = units.clone();
        for (at, lot) in order {
            let part = pool[at].lots[lot].1.clone().min(open.clone());
            pool[at].lots[lot].1 -= &part;
            taken[at] += &part;
            open -= part;
        }
    } else {
        taken = parts(units, &left);
        for (used, part) in pool.iter_mut().zip(&taken) {
            let sizes: Vec<Exact> = used.lots.iter().map(|(_, size)| size.clone()).collect();
            used.lots.iter_mut().zip(parts(part, &sizes)).for_each(|((_, size), off)| *size -= off);
        }
    }
    pool.iter_mut().zip(&taken).for_each(|(used, part)| used.units -= part);
    taken
}

/// The slices of a price for a pool's quantity: tier, quantity, amount (decisions 2, 5, 8).
pub fn ladder(price: &Value, quantity: &Exact) -> Vec<(usize, Exact, Exact)> {
    let one = [serde_json::json!({ "rate": price["rate"] })];
    let tiers = if list(price, "tiers").is_empty() { &one[..] } else { list(price, "tiers") };
    let lower = text(&price["bound"], "upper") == "lower";
    let mut slices = Vec::new();
    let mut begin = whole(0);
    for (index, tier) in tiers.iter().enumerate() {
        let end = tier["up_to"].as_str().map(exact);
        let inside = end.as_ref().is_none_or(|end| if lower { quantity < end } else { quantity <= end });
        let (rate, flat) = (number(&tier["rate"], "0"), number(&tier["flat"], "0"));
        let slice = match text(&price["model"], "per_unit") {
            "package" => {
                let size = number(&price["package"]["size"], "1");
                let blocks = quantity / size;
                let up = text(&price["package"]["round"], "up") == "up";
                Some((quantity.clone(), if up { blocks.ceil() } else { blocks.floor() } * rate))
            }
            "volume" => inside.then(|| (quantity.clone(), quantity * rate + flat)),
            _ => {
                let part = end.clone().filter(|_| !inside).unwrap_or_else(|| quantity.clone()) - &begin;
                Some((part.clone(), part * rate + flat))
            }
        };
        if let Some((part, amount)) = slice.filter(|(part, amount)| !part.is_zero() || !amount.is_zero()) {
            slices.push((index, part, rounded(&amount, SCALE)));
        }
        if inside {
            break;
        }
        begin = end.expect("only the last tier has no end");
    }
    slices
}

/// The lines of the first stage: free pools in the catalogue's order, then every price's ladder.
fn usage_lines(catalogue: &Value, used: &mut [Used], hours: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    let scale_of = |used: &Used| {
        let own = |meter: &&Value| selects(meter, &Series { attributes: Vec::new(), ..used.series.clone() });
        let meter = list(catalogue, "meters").iter().find(own).expect("what is counted has a meter");
        let count = text(&meter["aggregation"], "sum") == "count";
        if count { 0 } else { meter["scale"].as_u64().unwrap_or(12) }
    };
    // A SKU with a rate of its own has a price of its own.
    let own = list(catalogue, "skus").iter().filter(|sku| sku["price"].is_null());
    let own =
        own.map(|sku| serde_json::json!({ "id": sku["id"], "model": "per_unit", "rate": sku["rate"], "own": true }));
    let prices: Vec<Value> = list(catalogue, "prices").iter().cloned().chain(own).collect();
    let priced_by = |used: &Used, price: &Value| match used.sku["price"].as_str() {
        Some(id) => price["own"].is_null() && price["id"] == id,
        None => price["own"] == true && price["id"] == used.sku["id"],
    };
    fn split_by(price: &Value) -> Vec<&str> {
        if price["pool"].is_null() { vec!["payer", "sku"] } else { names(&price["pool"]["split_by"]) }
    }
    for price in &prices {
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            convert(&mut pool, price, hours, &scale_of);
        }
    }
    for used in used.iter_mut() {
        used.quantity = used.units.clone();
        let values: Vec<Exact> = used.lots.iter().map(|(_, value)| value.clone()).collect();
        used.lots.iter_mut().zip(parts(&used.units, &values)).for_each(|(lot, part)| lot.1 = part);
    }
    for free in list(catalogue, "pools") {
        let draws = |used: &Used| names(&free["skus"]).iter().any(|sku| matches(sku, text(&used.sku["id"], "")));
        for mut pool in pools(used, draws, &names(&free["split_by"])) {
            let origin = format!("pool:{}", text(&free["id"], ""));
            give_free(&mut pool, &free["units"], text(&free["share"], "prorata") == "sequence", &origin, &mut lines);
        }
    }
    for price in &prices {
        let sequence = text(&price["attribution"], "prorata") == "sequence";
        for mut pool in pools(used, |used| priced_by(used, price), &split_by(price)) {
            give_free(&mut pool, &price["free_units"], sequence, "free", &mut lines);
            let from = lines.len();
            climb(&mut pool, price, sequence, &mut lines);
            round_together(catalogue, &mut lines[from..]);
        }
    }
    lines
}

/// Makes up to `units` of a pool free.
fn give_free(pool: &mut Pool<'_>, units: &Value, sequence: bool, origin: &str, lines: &mut Vec<Line>) {
    let total: Exact = pool.iter().map(|used| &used.units).sum();
    let free = take(pool, &number(units, "0").min(total), sequence);
    for (used, quantity) in pool.iter().zip(free) {
        push(lines, used, origin, quantity, whole(0));
    }
}

/// What is left climbs the ladder together; every slice is divided over the members, its amount like its quantity.
fn climb(pool: &mut Pool<'_>, price: &Value, sequence: bool, lines: &mut Vec<Line>) {
    let weights: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    for (tier, quantity, amount) in ladder(price, &weights.iter().sum()) {
        let quantities = if sequence { take(pool, &quantity, true) } else { parts(&quantity, &weights) };
        let by_slice = sequence && !quantity.is_zero();
        let amounts = parts(&amount, if by_slice { &quantities } else { &weights });
        for ((used, quantity), amount) in pool.iter().zip(quantities).zip(amounts) {
            push(lines, used, &(tier + 1).to_string(), quantity, amount);
        }
    }
}

fn push(lines: &mut Vec<Line>, used: &Used, origin: &str, quantity: Exact, amount: Exact) {
    if quantity.is_zero() && amount.is_zero() {
        return;
    }
    let (payer, series) = (used.member.payer.clone(), used.series.clone());
    let sku = text(&used.sku["id"], "").to_owned();
    let (origin, of) = (origin.to_owned(), String::new());
    lines.push(Line { payer, series, sku, origin, of, quantity, amount });
}

/// Decimals that amounts are rounded to: the currency's own unless the catalogue says otherwise.
fn decimals(catalogue: &Value) -> i32 {
    let own = match text(&catalogue["currency"], "") {
        "JPY" => 0,
        "KWD" => 3,
        _ => 2,
    };
    catalogue["rounding"]["decimals"].as_i64().map_or(own, |decimals| decimals as i32)
}

/// With `round: line` a charge is rounded as a whole and divided again, ties by account, SKU, series, then tier.
fn round_together(catalogue: &Value, lines: &mut [Line]) {
    if text(&catalogue["rounding"]["at"], "total") == "total" {
        return;
    }
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| tie(&lines[*a]).cmp(&tie(&lines[*b])));
    let amounts: Vec<Exact> = order.iter().map(|at| lines[*at].amount.clone()).collect();
    let total = rounded(&amounts.iter().sum(), decimals(catalogue));
    if let Some(parts) =
        divided(&total, &amounts, decimals(catalogue)).filter(|_| !amounts.iter().sum::<Exact>().is_zero())
    {
        order.into_iter().zip(parts).for_each(|(at, part)| lines[at].amount = part);
    }
}

fn tie(line: &Line) -> (&str, &str, &Series) {
    (&line.series.account, &line.sku, &line.series)
}

/// Whether a contract's scope holds a series; every field may be one pattern or several, none holds all.
fn in_scope(scope: &Value, used: &Used) -> bool {
    let one_of = |patterns: &Value, value: &str| match patterns {
        Value::String(pattern) => matches(pattern, value),
        Value::Array(patterns) => patterns.iter().any(|pattern| matches(text(pattern, ""), value)),
        _ => true,
    };
    let series = &used.series;
    one_of(&scope["sku"], text(&used.sku["id"], ""))
        && one_of(&scope["service"], &series.service)
        && one_of(&scope["usage_type"], &series.usage_type)
        && one_of(&scope["operation"], &series.operation)
        && one_of(&scope["region"], &series.region)
        && one_of(&scope["account"], &series.account)
        && one_of(&scope["group"], &used.member.group)
        && one_of(&scope["payer"], &used.member.payer)
        && scope["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, patterns)| series.attributes.iter().any(|(own, value)| own == name && one_of(patterns, value)))
}

/// What earlier lines left of a series to be paid.
fn net(lines: &[Line], used: &Used) -> Exact {
    lines.iter().filter(|line| line.series == used.series).map(|line| &line.amount).sum()
}

/// The contract's lines, stage by stage, clauses in file order (section 2, decisions 12 and 13).
fn contract_lines(catalogue: &Value, contract: &Value, cycle: &str, used: &[Used], lines: &mut Vec<Line>) {
    let stages = ["private_rates", "attribute_percent", "service_percent", "cross_service_percent"];
    let stated = [contract, catalogue].into_iter().find(|document| !document["stages"].is_null());
    for stage in stated.map_or(stages.to_vec(), |document| names(&document["stages"])) {
        for clause in list(contract, "clauses") {
            let own = match text(&clause["kind"], "") {
                "" => "private_rates".to_owned(),
                kind => format!("{kind}_percent"),
            };
            let from = text(&clause["effective"], text(&contract["effective"], ""));
            let until = text(&clause["until"], text(&contract["until"], "9999-12"));
            if own != stage || cycle < from || until <= cycle {
                continue;
            }
            let mut payers: Vec<&str> = used.iter().map(|used| used.member.payer.as_str()).collect();
            payers.sort();
            payers.dedup();
            let reached: Vec<bool> = payers.iter().map(|payer| is_triggered(clause, payer, used, lines)).collect();
            for (payer, _) in payers.into_iter().zip(reached).filter(|(_, reached)| *reached) {
                let excluded = |used: &Used| list(clause, "exclude").iter().any(|scope| in_scope(scope, used));
                let chosen = used.iter().filter(|used| used.member.payer == payer);
                let chosen = chosen.filter(|used| in_scope(&clause["scope"], used) && !excluded(used));
                // One base for each account and SKU.
                let mut bases: BTreeMap<(&str, &str), Vec<&Used>> = BTreeMap::new();
                for used in chosen {
                    bases.entry((&used.series.account, text(&used.sku["id"], ""))).or_default().push(used);
                }
                for base in bases.into_values() {
                    match own.as_str() {
                        "private_rates" => private_rate(catalogue, clause, &base, lines),
                        _ => percent(catalogue, clause, &base, lines),
                    }
                }
            }
        }
    }
}

fn is_triggered(clause: &Value, payer: &str, used: &[Used], lines: &[Line]) -> bool {
    let trigger = &clause["trigger"];
    let everyone = text(&trigger["per"], "payer") == "root";
    let counts = |used: &&Used| (everyone || used.member.payer == payer) && in_scope(&trigger["scope"], used);
    let scope: Vec<&Used> = used.iter().filter(counts).collect();
    let (found, threshold) = match (&trigger["spend"], &trigger["quantity"]) {
        (Value::String(spend), _) => (scope.iter().map(|used| net(lines, used)).sum::<Exact>(), exact(spend)),
        (_, Value::String(quantity)) => (scope.iter().map(|used| &used.quantity).sum(), exact(quantity)),
        _ => return true,
    };
    if text(&trigger["bound"], "lower") == "lower" { found >= threshold } else { found > threshold }
}

/// Each slice at the private rate instead, where that is not dearer (or may be); never more off than is left.
fn private_rate(catalogue: &Value, clause: &Value, base: &[&Used], lines: &mut Vec<Line>) {
    let mut made = Vec::new();
    for used in base {
        let mut left = net(lines, used);
        for slice in lines.iter().filter(|line| line.series == used.series && line.origin.parse::<u32>().is_ok()) {
            let earlier = lines.iter().filter(|line| line.series == used.series && line.of == slice.origin);
            let current = &slice.amount + earlier.map(|line| &line.amount).sum::<Exact>();
            let mut difference = rounded(&(&slice.quantity * number(&clause["rate"], "0")), SCALE) - current;
            if difference > whole(0) && clause["may_raise"] != true {
                difference = whole(0);
            }
            let difference = difference.max(-left.clone());
            left += &difference;
            let origin = format!("clause:{}", text(&clause["id"], ""));
            made.push(Line {
                origin,
                of: slice.origin.clone(),
                quantity: whole(0),
                amount: difference,
                ..slice.clone()
            });
        }
    }
    round_together(catalogue, &mut made);
    lines.extend(made.into_iter().filter(|line| !line.amount.is_zero()));
}

/// A share off what is left of an account's SKU, divided over its series by what is left of each.
fn percent(catalogue: &Value, clause: &Value, base: &[&Used], lines: &mut Vec<Line>) {
    let base: Vec<&&Used> = base.iter().filter(|used| net(lines, used) > whole(0)).collect();
    let nets: Vec<Exact> = base.iter().map(|used| net(lines, used)).collect();
    let total: Exact = nets.iter().sum();
    let mut off = rounded(&(&total * number(&clause["percent"], "0") / whole(100)), SCALE);
    let mut scale = SCALE;
    if text(&catalogue["rounding"]["at"], "total") == "line" {
        off = rounded(&off, decimals(catalogue)).min(total);
        if rounded(&off, decimals(catalogue)) == off {
            scale = decimals(catalogue);
        }
    }
    let parts = divided(&-off, &nets, scale).unwrap_or_default();
    for (used, amount) in base.into_iter().zip(parts).filter(|(_, amount)| !amount.is_zero()) {
        push(lines, used, &format!("clause:{}", text(&clause["id"], "")), whole(0), amount);
    }
}

/// All bills of a hierarchy's cycle: the lines, and for each payer the exact total and the payable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bills {
    pub lines: Vec<Line>,
    pub payers: BTreeMap<String, (Exact, Exact)>,
    /// Counted and without a SKU.
    pub unpriced: Vec<(Series, Exact)>,
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
        let Some(sku) = list(catalogue, "skus").iter().find(|sku| selects(&sku["match"], series)) else {
            bills.unpriced.push((series.clone(), counted));
            bills.payers.entry(member(&series.account).payer).or_default();
            continue;
        };
        let lots = counters.iter().map(|counter| (counter.bucket, counter.value.clone())).collect();
        let (series, member, sku) = (series.clone(), member(&series.account), sku.clone());
        used.push(Used { series, member, sku, counted, quantity: whole(0), units: whole(0), lots });
    }
    used.sort_by_key(|used| (used.series.account.clone(), text(&used.sku["id"], "").to_owned(), used.series.clone()));
    bills.lines = usage_lines(catalogue, &mut used, hours);
    if let Some(contract) = contract {
        contract_lines(catalogue, contract, cycle, &used, &mut bills.lines);
    }
    for used in &used {
        bills.payers.entry(used.member.payer.clone()).or_default();
    }
    for (payer, (total, payable)) in &mut bills.payers {
        *total = bills.lines.iter().filter(|line| line.payer == *payer).map(|line| &line.amount).sum();
        *payable = rounded(total, decimals(catalogue));
    }
    bills
}
