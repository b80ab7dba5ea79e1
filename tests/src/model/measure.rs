//! What a series comes to by its meter's aggregation (decision 3): from records, not from counters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::calendar::{hours_of, months, start_of};
use super::exact::{Exact, ten_to, whole};
use super::record::Record;
use super::series::text;

pub const HOUR: i64 = 3_600_000_000_000;
const MINUTE: i64 = HOUR / 60;
const DAY: i64 = 24 * HOUR;
/// Decimal digits of the highest level, in steps of its meter.
const LEVEL_DIGITS: i32 = 22;

/// A cycle: its first instant in nanoseconds since 1970, and its hours.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: i64,
    pub hours: i64,
}

impl Span {
    /// The time of a cycle by its name, `2026-09`.
    pub fn of(cycle: &str) -> Span {
        let cycle = months(cycle);
        Span { start: start_of(cycle), hours: hours_of(cycle) }
    }

    pub fn end(&self) -> i64 {
        self.start + self.hours * HOUR
    }

    fn length(&self) -> Exact {
        whole((self.end() - self.start).into())
    }

    pub fn holds(&self, record: &Record) -> bool {
        (self.start..self.end()).contains(&record.start)
    }
}

pub fn aggregation(meter: &Value) -> &str {
    text(&meter["aggregation"], "sum")
}

/// Decimals of a meter's quantities.
pub fn scale_of(meter: &Value) -> i32 {
    let own = if ["count", "unique"].contains(&aggregation(meter)) { 0 } else { 12 };
    meter["scale"].as_i64().map_or(own, |scale| scale as i32)
}

/// Whether the level that a cycle ends with begins the next one.
pub fn carries(meter: &Value) -> bool {
    aggregation(meter) == "level" && meter["level"]["carry"] == true
}

/// What of a record its meter counts.
pub fn counted_of(meter: &Value, record: &Record) -> Exact {
    match (&record.amount, text(&meter["of"], "quantity")) {
        (Some(amount), "amount") => amount.clone(),
        _ => record.quantity.clone(),
    }
}

/// What one series comes to: what its records add up to by time, and the one number of the cycle.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    /// By minute of the cycle in which the meter's buckets begin: the highest of a peak, else the sum.
    pub buckets: Vec<(i64, Exact)>,
    /// All values that came more often than they were taken back, where they are counted.
    pub values: BTreeSet<Exact>,
    /// Of a level: from which instant on it lasted, from the cycle's beginning on.
    pub steps: Vec<(i64, Exact)>,
    /// What the series comes to alone; of a level its integral in nanoseconds.
    pub alone: Exact,
    /// What was used, whatever the one number is: the sum of all intervals of a percentile.
    pub sum: Exact,
}

/// Measures the records of one series, in any order; the error is why that cannot be charged, and what is shown of it.
pub fn measure(meter: &Value, records: &[Record], span: Span) -> Result<Measure, (&'static str, Exact)> {
    let mut records: Vec<&Record> = records.iter().collect();
    records.sort_by(|a, b| (a.start, &a.id, &a.quantity).cmp(&(b.start, &b.id, &b.quantity)));
    let within: Vec<&Record> = records.iter().copied().filter(|record| span.holds(record)).collect();
    let mut buckets: BTreeMap<i64, Exact> = BTreeMap::new();
    let peak = aggregation(meter) == "maximum";
    for record in &within {
        let value = counted_of(meter, record);
        let own = buckets.entry(bucket_of(meter, record.start - span.start)).or_insert_with(|| whole(0));
        *own = if peak { value.max(own.clone()) } else { &*own + value };
    }
    let total: Exact = within.iter().map(|record| counted_of(meter, record)).sum();
    let mut own = Measure { buckets: buckets.into_iter().collect(), ..Measure::default() };
    match aggregation(meter) {
        "level" => {
            own.steps = steps(meter, &records, span).map_err(|why| {
                let changes = text(&meter["level"]["records"], "level") == "change";
                (why, if changes { total } else { whole(0) })
            })?;
            own.alone = integral(&own.steps, span);
        }
        "latest" => {
            let latest = within.iter().max_by_key(|record| (record.end, &record.id, &record.quantity));
            own.alone = latest.map_or_else(|| whole(0), |record| record.quantity.clone());
        }
        "unique" => {
            own.values = values(&within);
            own.alone = whole(own.values.len() as i128);
        }
        "maximum" => own.alone = own.buckets.iter().map(|(_, value)| value.clone()).max().unwrap_or_else(|| whole(0)),
        _ if total < whole(0) => return Err(("below_zero", total)),
        "percentile_95" => {
            own.alone = percentile_95(meter, own.buckets.iter().map(|(_, value)| value.clone()).collect(), span);
            own.sum = total;
            return Ok(own);
        }
        _ => own.alone = total,
    }
    own.sum = own.alone.clone();
    Ok(own)
}

/// The minute of the cycle in which a bucket begins.
pub fn bucket_of(meter: &Value, offset: i64) -> i64 {
    let length = match text(&meter["bucket"], "month") {
        "day" => DAY,
        "hour" => HOUR,
        "five_minutes" => 5 * MINUTE,
        _ => return 0,
    };
    offset / length * length / MINUTE
}

fn values(records: &[&Record]) -> BTreeSet<Exact> {
    let mut came: BTreeMap<Exact, i64> = BTreeMap::new();
    for record in records {
        let value = if record.quantity < whole(0) { -record.quantity.clone() } else { record.quantity.clone() };
        *came.entry(value).or_default() += if record.corrects { -1 } else { 1 };
    }
    came.into_iter().filter(|(_, times)| *times > 0).map(|(value, _)| value).collect()
}

/// Over all intervals of the cycle, those without a record being zero: the highest that is left without floor(5%).
pub fn percentile_95(meter: &Value, mut values: Vec<Exact>, span: Span) -> Exact {
    let an_hour = if text(&meter["bucket"], "month") == "five_minutes" { 12 } else { 1 };
    let intervals = (span.hours * an_hour) as usize;
    values.resize(values.len().max(intervals), whole(0));
    values.sort();
    values.reverse();
    values[intervals / 20].clone().max(whole(0))
}

/// The levels of a cycle, each from its instant on; several records of one instant make one level.
fn steps(meter: &Value, records: &[&Record], span: Span) -> Result<Vec<(i64, Exact)>, &'static str> {
    let own = &meter["level"];
    let changes = text(&own["records"], "level") == "change";
    let by_day = text(&own["weigh"], "time") == "day";
    let most = ten_to(LEVEL_DIGITS - scale_of(meter));
    let first = if carries(meter) { i64::MIN } else { span.start };
    let counted = records.iter().filter(|record| (first..span.end()).contains(&record.start));
    let mut level = whole(0);
    // What the cycle begins with, and what each instant leaves.
    let mut left: BTreeMap<i64, Exact> = BTreeMap::from([(span.start, level.clone())]);
    for record in counted {
        level = if changes { &level + &record.quantity } else { record.quantity.clone() };
        left.insert(record.start.max(span.start), level.clone());
    }
    for level in left.values() {
        if *level < whole(0) {
            return Err("below_zero");
        }
        if *level > most {
            return Err("too_much");
        }
    }
    if by_day {
        // A day counts with the level at its end.
        let mut days: BTreeMap<i64, Exact> = BTreeMap::new();
        for (at, level) in left {
            days.insert(at.div_euclid(DAY) * DAY, level);
        }
        left = days;
    }
    Ok(left.into_iter().collect())
}

/// Every stretch of the cycle times the level in it.
fn integral(steps: &[(i64, Exact)], span: Span) -> Exact {
    let untils = steps.iter().skip(1).map(|(at, _)| *at).chain([span.end()]);
    steps.iter().zip(untils).map(|((at, level), until)| level * whole((until - at).into())).sum()
}

/// What a measure is divided by to be what people read.
pub fn divisor(meter: &Value, span: Span) -> Exact {
    if aggregation(meter) == "level" { span.length() } else { whole(1) }
}
