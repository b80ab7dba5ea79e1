//! Who shares a ladder or free units, in which unit, and how what is shared is divided (decisions 4, 6 and 9).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, divided, rounded, rounded_by, whole};
use super::measure::{Measure, Span, aggregation, divisor, percentile_95, scale_of};
use super::prorate::Taken;
use super::record::Record;
use super::rounding::SCALE;
use super::series::{Member, Series, number, text};

/// A priced series on its way through pools and ladder.
#[derive(Clone, Debug)]
pub struct Used {
    pub series: Series,
    pub member: Member,
    pub sku: Value,
    pub meter: Value,
    /// What its records come to, of meters that make more of them than a sum.
    pub measure: Measure,
    /// Its records within the cycle, of such meters.
    pub kept: Vec<Record>,
    /// What was used: the sum of all intervals of a percentile, else what was counted.
    pub sum: Exact,
    /// The billing group that stands here by a subscription, on its payer's account; `None`: the account itself.
    pub group: Option<String>,
    /// A contract subscribes to it.
    pub subscribed: bool,
    /// When.
    pub taken: Vec<Taken>,
    /// What was counted, before conversion.
    pub counted: Exact,
    /// In the priced unit.
    pub quantity: Exact,
    /// What of it no free units have taken yet.
    pub units: Exact,
    /// The same by time: (hour of the cycle, units), in order; before conversion what was counted.
    pub lots: Vec<(i64, Exact)>,
    /// What was counted by time, corrections taken off: (minute of the cycle, quantity).
    pub counters: Vec<(i64, Exact)>,
    /// The lots on their way from what was counted to units.
    pub converted: Vec<(i64, Exact)>,
    /// The units by time before anything was free.
    pub bought: Vec<(i64, Exact)>,
    /// How many records came: (hour of the cycle, records).
    pub records: Vec<(i64, u64)>,
}

/// Any hour of a cycle.
pub const ALWAYS: Range<i64> = i64::MIN..i64::MAX;

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
    /// What the series comes to alone; of a level the integral. Of a peak the highest of the buckets that are left in a
    /// window, of sums their sum.
    pub fn alone(&self) -> Exact {
        match aggregation(&self.meter) {
            "sum" | "count" => self.lots.iter().map(|(_, size)| size).sum(),
            "maximum" => self.measure.buckets.iter().map(|(_, size)| size.clone()).max().unwrap_or_else(Exact::zero),
            _ => self.measure.alone.clone(),
        }
    }

    /// What is left of what was used in some hours.
    pub fn units_in(&self, hours: &Range<i64>) -> Exact {
        self.lots.iter().filter(|(hour, _)| hours.contains(hour)).map(|(_, size)| size).sum()
    }

    /// What of it lies in one window of a price.
    pub fn within(&self, price: &Value, window: i64) -> Used {
        let mut own = self.clone();
        own.measure.buckets.retain(|(minute, _)| window_of(price, *minute / 60) == window);
        own.lots.retain(|(hour, _)| window_of(price, *hour) == window);
        own.records.retain(|(hour, _)| window_of(price, *hour) == window);
        own.bought.retain(|(hour, _)| window_of(price, *hour) == window);
        own.quantity = own.bought.iter().map(|(_, units)| units).sum();
        own.units = own.lots.iter().map(|(_, units)| units).sum();
        own
    }
}

/// The levels of a pool, each with the nanoseconds that it lasted.
pub fn levels(pool: &[&mut Used], span: Span) -> Vec<(Exact, i64)> {
    let at = |steps: &[(i64, Exact)], instant: i64| {
        steps.iter().rev().find(|(from, _)| *from <= instant).map_or_else(|| whole(0), |(_, level)| level.clone())
    };
    let begins = pool.iter().flat_map(|used| used.measure.steps.iter().map(|(at, _)| *at));
    let begins: Vec<i64> = begins.chain([span.start]).collect::<BTreeSet<i64>>().into_iter().collect();
    let untils = begins.iter().skip(1).copied().chain([span.end()]);
    let level = |instant: i64| pool.iter().map(|used| at(&used.measure.steps, instant)).sum::<Exact>();
    begins.iter().zip(untils).map(|(from, until)| (level(*from), until - from)).collect()
}

/// What series of one meter's kind come to together; of levels the integral.
pub fn together(members: &[&Used], span: Span) -> Exact {
    let buckets = || {
        let mut buckets: BTreeMap<i64, Exact> = BTreeMap::new();
        for (minute, value) in members.iter().flat_map(|used| &used.measure.buckets) {
            *buckets.entry(*minute).or_insert_with(|| whole(0)) += value;
        }
        buckets.into_values()
    };
    let Some(first) = members.first() else { return whole(0) };
    match aggregation(&first.meter) {
        "maximum" => buckets().max().unwrap_or_else(|| whole(0)),
        "percentile_95" => percentile_95(&first.meter, buckets().collect(), span),
        "unique" => {
            let values: BTreeSet<&Exact> = members.iter().flat_map(|used| &used.measure.values).collect();
            whole(values.len() as i128)
        }
        _ => members.iter().map(|used| used.alone()).sum(),
    }
}

/// Decision 6: the pool's total is divided once and, if asked, rounded; its members get parts by largest remainder, and
/// each lot its share of its member's. Members that convert otherwise, or whose meters have another scale, are divided
/// apart. A pool of a day or an hour has a total of its own.
pub fn convert(pool: &mut Pool<'_>, price: &Value, span: Span) {
    for window in windows(pool, price) {
        let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, used) in pool.iter().enumerate() {
            // Sums and counts are added up alike.
            let kind = aggregation(&used.meter).replace("count", "sum");
            // What one bucket had is not added to what one of another length had.
            let by_bucket = ["maximum", "percentile_95"].contains(&aggregation(&used.meter));
            let bucket = if by_bucket { text(&used.meter["bucket"], "month") } else { "" };
            let kind = format!("{} {} {kind} {bucket}", used.sku["convert"], scale_of(&used.meter));
            kinds.entry(kind).or_default().push(at);
        }
        let within: Vec<Used> = pool.iter().map(|used| used.within(price, window)).collect();
        let mut units = vec![whole(0); pool.len()];
        for members in kinds.into_values() {
            let of_kind: Vec<&Used> = members.iter().map(|at| &within[*at]).collect();
            let mut alone: Vec<Exact> = of_kind.iter().map(|used| used.alone()).collect();
            if alone.iter().all(Exact::is_zero) {
                // The percentiles of all may be nothing where that of their sum is not.
                alone = of_kind.iter().map(|used| used.sum.clone()).collect();
            }
            let convert = &pool[members[0]].sku["convert"];
            let hours = if convert["by_hours_of_cycle"] == true { whole(span.hours.into()) } else { whole(1) };
            let length = divisor(&of_kind[0].meter, span);
            let total = together(&of_kind, span) / (number(&convert["divide"], "1") * hours * length);
            for (at, part) in members.iter().zip(parts(&rounded(&total, SCALE), &alone)) {
                units[*at] = part;
            }
        }
        if let Some(decimals) = price["round_units"]["decimals"].as_i64() {
            let mode = text(&price["round_units"]["mode"], "half_up");
            let total = rounded_by(&units.iter().sum(), decimals as i32, mode);
            units = parts(&total, &units);
        }
        for (used, units) in pool.iter_mut().zip(units) {
            let mut within = used.within(price, window).lots;
            // A peak is one number of its window.
            within.truncate(if aggregation(&used.meter) == "maximum" { 1 } else { usize::MAX });
            let sizes: Vec<Exact> = within.iter().map(|(_, size)| size.clone()).collect();
            let sizes = if sizes.len() == 1 { vec![whole(1)] } else { sizes };
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

/// Takes units off what a pool's members used in some hours: each its share, or by sequence of time, account, usage type,
/// operation, region.
pub fn take(pool: &mut Pool<'_>, units: &Exact, sequence: bool, hours: &Range<i64>) -> Vec<Exact> {
    let left: Vec<Exact> = pool.iter().map(|used| used.units_in(hours)).collect();
    let mut taken = vec![whole(0); pool.len()];
    if sequence {
        let mut order: Vec<(usize, usize)> = Vec::new();
        pool.iter().enumerate().for_each(|(at, used)| order.extend((0..used.lots.len()).map(|lot| (at, lot))));
        order.sort_by_key(|(at, lot)| {
            let Series { account, usage_type, operation, region, .. } = pool[*at].series.clone();
            (pool[*at].lots[*lot].0, account, usage_type, operation, region, *at, *lot)
        });
        let mut open = units.clone();
        for (at, lot) in
            order.into_iter().filter(|(at, lot)| hours.contains(&pool[*at].lots[*lot].0)).collect::<Vec<_>>()
        {
            let part = pool[at].lots[lot].1.clone().min(open.clone());
            pool[at].lots[lot].1 -= &part;
            taken[at] += &part;
            open -= part;
        }
    } else {
        taken = parts(units, &left);
        for (used, part) in pool.iter_mut().zip(&taken) {
            let within = |hour: &i64, size: &Exact| if hours.contains(hour) { size.clone() } else { whole(0) };
            let sizes: Vec<Exact> = used.lots.iter().map(|(hour, size)| within(hour, size)).collect();
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
