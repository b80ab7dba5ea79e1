//! Who shares a ladder or free units, in which unit, and how what is shared is divided (decisions 4, 6 and 9).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::exact::{Exact, divided, rounded, rounded_by, whole};
use super::rounding::SCALE;
use super::series::{Member, Series, number, text};

/// A priced series on its way through pools and ladder.
#[derive(Clone, Debug)]
pub struct Used {
    pub series: Series,
    pub member: Member,
    pub sku: Value,
    /// The billing group that stands here by a subscription, on its payer's account; `None`: the account itself.
    pub group: Option<String>,
    /// A contract subscribes to it.
    pub subscribed: bool,
    /// What was counted, before conversion.
    pub counted: Exact,
    /// In the priced unit.
    pub quantity: Exact,
    /// What of it no free units have taken yet.
    pub units: Exact,
    /// The same by time: (hour of the cycle, units), in order; before conversion what was counted.
    pub lots: Vec<(i64, Exact)>,
    /// What was counted by time, corrections taken off.
    pub counters: Vec<(i64, Exact)>,
    /// The lots on their way from what was counted to units.
    pub converted: Vec<(i64, Exact)>,
    /// The units by time before anything was free.
    pub bought: Vec<(i64, Exact)>,
    /// How many records came: (hour of the cycle, records).
    pub records: Vec<(i64, u64)>,
}

/// Series that climb one ladder or draw from one free pool, in the order of ties: account, then SKU, then the rest.
pub type Pool<'a> = Vec<&'a mut Used>;

/// The key of the pool that a series belongs to (decision 4): per payer where no owner is named; a group is one payer's.
pub fn pool_key(used: &Used, split_by: &[&str]) -> Vec<String> {
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
pub fn pools<'a>(used: &'a mut [Used], chosen: impl Fn(&Used) -> bool, split_by: &[&str]) -> Vec<Pool<'a>> {
    let mut found: BTreeMap<Vec<String>, Pool<'a>> = BTreeMap::new();
    for used in used.iter_mut().filter(|used| chosen(used)) {
        found.entry(pool_key(used, split_by)).or_default().push(used);
    }
    found.into_values().collect()
}

/// The hours that one pool of a price lasts: all of the cycle, or a day's, or one.
fn window_of(price: &Value, hour: i64) -> i64 {
    match text(&price["pool"]["period"], "cycle") {
        "day" => hour / 24,
        "hour" => hour,
        _ => 0,
    }
}

/// The windows in which a pool has usage, in order.
pub fn windows(pool: &Pool<'_>, price: &Value) -> Vec<i64> {
    let hours = pool.iter().flat_map(|used| used.lots.iter().map(|(hour, _)| window_of(price, *hour)));
    hours.collect::<BTreeSet<i64>>().into_iter().collect()
}

impl Used {
    /// What of it lies in one window of a price.
    pub fn within(&self, price: &Value, window: i64) -> Used {
        let mut own = self.clone();
        own.lots.retain(|(hour, _)| window_of(price, *hour) == window);
        own.records.retain(|(hour, _)| window_of(price, *hour) == window);
        own.bought.retain(|(hour, _)| window_of(price, *hour) == window);
        own.quantity = own.bought.iter().map(|(_, units)| units).sum();
        own.units = own.lots.iter().map(|(_, units)| units).sum();
        own
    }
}

/// Decision 6: the pool's total is divided once and, if asked, rounded; its members get parts by largest remainder, and
/// each lot its share of its member's. Members that convert otherwise, or whose meters have another scale, are divided
/// apart. A pool of a day or an hour has a total of its own.
pub fn convert(pool: &mut Pool<'_>, price: &Value, hours: i64, scale_of: &dyn Fn(&Used) -> u64) {
    for window in windows(pool, price) {
        let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, used) in pool.iter().enumerate() {
            kinds.entry(format!("{} {}", used.sku["convert"], scale_of(used))).or_default().push(at);
        }
        let counted: Vec<Exact> = pool.iter().map(|used| used.within(price, window).units).collect();
        let mut units = vec![whole(0); pool.len()];
        for members in kinds.into_values() {
            let counted: Vec<Exact> = members.iter().map(|at| counted[*at].clone()).collect();
            let convert = &pool[members[0]].sku["convert"];
            let hours = if convert["by_hours_of_cycle"] == true { whole(hours.into()) } else { whole(1) };
            let total = counted.iter().sum::<Exact>() / (number(&convert["divide"], "1") * hours);
            for (at, part) in members.iter().zip(parts(&rounded(&total, SCALE), &counted)) {
                units[*at] = part;
            }
        }
        if let Some(decimals) = price["round_units"]["decimals"].as_i64() {
            let mode = text(&price["round_units"]["mode"], "half_up");
            let total = rounded_by(&units.iter().sum(), decimals as i32, mode);
            units = parts(&total, &units);
        }
        for (used, units) in pool.iter_mut().zip(units) {
            let within = used.within(price, window).lots;
            let sizes: Vec<Exact> = within.iter().map(|(_, size)| size.clone()).collect();
            for ((hour, _), part) in within.iter().zip(parts(&units, &sizes)) {
                used.converted.push((*hour, part));
            }
            used.quantity += units;
        }
    }
    for used in pool.iter_mut() {
        used.lots = std::mem::take(&mut used.converted);
        used.bought = used.lots.clone();
        used.units = used.quantity.clone();
    }
}

/// Parts at 12 decimals; nothing has no parts.
pub fn parts(total: &Exact, weights: &[Exact]) -> Vec<Exact> {
    divided(total, weights, SCALE).unwrap_or_else(|| vec![whole(0); weights.len()])
}

/// Takes units off a pool's members: each its share, or by sequence of time, account, usage type, operation, region.
pub fn take(pool: &mut Pool<'_>, units: &Exact, sequence: bool) -> Vec<Exact> {
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

/// What a series used in each bucket once corrections are taken off: each off the buckets before it, latest first, and
/// what is then left of it off those after.
pub fn netted(mut lots: Vec<(i64, Exact)>) -> Vec<(i64, Exact)> {
    for at in 0..lots.len() {
        let mut owed = -lots[at].1.clone();
        if owed <= whole(0) {
            continue;
        }
        lots[at].1 = whole(0);
        for other in (0..at).rev().chain(at + 1..lots.len()) {
            let off = owed.clone().min(lots[other].1.clone()).max(whole(0));
            lots[other].1 -= &off;
            owed -= off;
        }
    }
    lots
}
