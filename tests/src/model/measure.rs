//! What series come to, alone and together, by their meter's aggregation (decision 3).

use std::collections::{BTreeMap, BTreeSet};

use num_traits::Zero;
use serde_json::Value;

use super::exact::{Exact, whole};
use super::pool::Used;
use super::series::{Kept, text};

const DAY: i128 = 86_400_000_000_000;

/// A cycle: its first instant in nanoseconds since 1970, and its hours.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: i64,
    pub hours: i64,
}

impl Span {
    fn from(&self) -> i128 {
        self.start.into()
    }

    /// In nanoseconds.
    pub fn length(&self) -> i128 {
        i128::from(self.hours) * 3_600_000_000_000
    }
}

pub fn aggregation(meter: &Value) -> &str {
    text(&meter["aggregation"], "sum")
}

/// What one series comes to; of a level the integral. Nothing where a level is below zero at some time.
pub fn alone(meter: &Value, counters: &[(i64, Exact)], kept: &[Kept], span: Span) -> Option<Exact> {
    let values = || counters.iter().map(|(_, value)| value.clone());
    Some(match aggregation(meter) {
        "maximum" => values().max().unwrap_or_else(|| whole(0)),
        "percentile_95" => percentile_95(values().collect(), span),
        "latest" => kept.last().map_or_else(|| whole(0), |entry| entry.value.clone()),
        "unique" => whole(values_of(kept).count() as i128),
        "level" => return integral(meter, kept, span),
        _ => values().sum(),
    })
}

/// The different values that count: those that came more often than they were taken back.
fn values_of(kept: &[Kept]) -> impl Iterator<Item = i128> + '_ {
    kept.iter().filter(|entry| entry.value > whole(0)).map(|entry| entry.at)
}

/// Over all hours of the cycle, those without a counter being zero.
fn percentile_95(mut values: Vec<Exact>, span: Span) -> Exact {
    values.resize(values.len().max(span.hours as usize), whole(0));
    values.sort();
    values.reverse();
    values[span.hours as usize / 20].clone()
}

/// Every stretch of the cycle times the level in it.
fn integral(meter: &Value, kept: &[Kept], span: Span) -> Option<Exact> {
    let own = &meter["level"];
    let changes = text(&own["records"], "level") == "change";
    let by_day = text(&own["weigh"], "time") == "day";
    let mut steps: BTreeMap<i128, Exact> = BTreeMap::new();
    let (mut level, mut before) = (whole(0), whole(0));
    for entry in kept {
        level = if changes { &level + &entry.value } else { entry.value.clone() };
        if entry.at < span.from() {
            before = level.clone();
            continue;
        }
        if level < whole(0) {
            return None;
        }
        let at = if by_day { entry.at.div_euclid(DAY) * DAY } else { entry.at };
        // Of several that begin together the last one counts.
        steps.insert(at, level.clone());
    }
    let starts_above = steps.first_key_value().is_some_and(|(at, _)| *at == span.from()) || before >= whole(0);
    if !starts_above {
        return None;
    }
    let (mut sum, mut since, mut level) = (whole(0), span.from(), before);
    for (at, next) in steps.into_iter().chain([(span.from() + span.length(), whole(0))]) {
        sum += level * whole(at - since);
        (since, level) = (at, next);
    }
    Some(sum)
}

/// What series of one aggregation come to together, of what of them lies in the given hours; of levels the integral.
pub fn together(members: &[&Used], span: Span) -> Exact {
    let mut buckets: BTreeMap<i64, Exact> = BTreeMap::new();
    for (hour, value) in members.iter().flat_map(|used| &used.counters) {
        *buckets.entry(*hour).or_insert_with(|| whole(0)) += value;
    }
    match members.first().map_or("sum", |used| aggregation(&used.meter)) {
        "maximum" => buckets.into_values().max().unwrap_or_else(|| whole(0)),
        "percentile_95" => percentile_95(buckets.into_values().collect(), span),
        "unique" => {
            let values: BTreeSet<i128> = members.iter().flat_map(|used| values_of(&used.kept)).collect();
            whole(values.len() as i128)
        }
        _ => members.iter().map(|used| used.measure(span)).sum(),
    }
}

/// What a measure is divided by to be what people read.
pub fn divisor(meter: &Value, span: Span) -> Exact {
    if aggregation(meter) == "level" { whole(span.length()) } else { whole(1) }
}

impl Used {
    /// What the series comes to alone; of a level the integral.
    pub fn measure(&self, span: Span) -> Exact {
        alone(&self.meter, &self.counters, &self.kept, span).unwrap_or_else(Exact::zero)
    }
}
