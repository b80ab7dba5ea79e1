//! Random records of meters that make more of them than a sum: ties in time, instants on the bounds of buckets and of the
//! cycle, changes below zero, corrections, and records of other cycles.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::usage::{accounts, scale_of, series};
use super::words::{chance, decimal, one, quantity};
use crate::model::calendar::{Cycle, hours_of, start_of};
use crate::model::exact::{exact, whole};
use crate::model::ledger::Root;
use crate::model::measure::carries;
use crate::model::record::Record;
use crate::model::series::{Series, is_summed, list, text};

const HOUR: i64 = 3_600_000_000_000;
const DAY: i64 = 24 * HOUR;

/// What the accounts of a hierarchy sent of such meters for one cycle, in no order.
pub fn records(rng: &mut SmallRng, catalogue: &Value, hierarchy: &Value, cycle: Cycle) -> Vec<Record> {
    let meters: Vec<&Value> = list(catalogue, "meters").iter().filter(|meter| !is_summed(meter)).collect();
    let mut records = Vec::new();
    if meters.is_empty() {
        return records;
    }
    let accounts = accounts(hierarchy);
    let root = Root::new(0, hierarchy.clone(), cycle, catalogue.clone());
    // Few instants, which several series share.
    let instants: Vec<i64> = (0..3).map(|_| instant(rng, cycle)).collect();
    for _ in 0..rng.random_range(1..=3 * meters.len()) {
        let meter = *one(rng, &meters);
        let account = one(rng, &accounts).clone();
        let series = series(rng, meter, account);
        let mut own = of_series(rng, meter, &series, cycle, &instants);
        own.retain(|record| root.has_member(&series.account, record.start));
        // A series that is drawn twice has them once: a counter could not hold more.
        let is_huge = |record: &Record| record.quantity > whole(1_000_000_000);
        if records.iter().any(|known| known.series == series && is_huge(known)) {
            own.retain(|record| !is_huge(record));
        }
        records.extend(own);
    }
    records.shuffle(rng);
    // The order of ids is not that of arrival; what has none is told apart by what it says.
    let mut numbers: Vec<usize> = (0..records.len()).collect();
    numbers.shuffle(rng);
    let named = chance(rng, 80);
    for (record, number) in records.iter_mut().zip(numbers).filter(|_| named) {
        record.id = format!("r{number}");
    }
    records
}

/// An instant in or near a cycle, often on a bound.
fn instant(rng: &mut SmallRng, cycle: Cycle) -> i64 {
    let (start, hours) = (start_of(cycle), hours_of(cycle));
    let hour = start + rng.random_range(0..hours) * HOUR;
    match rng.random_range(0..8) {
        0 => start,
        1 => start + hours * HOUR - 1,
        2 => hour,
        3 => hour + HOUR - 1,
        4 => start + rng.random_range(0..hours / 24) * DAY,
        5 => start + rng.random_range(0..3) * HOUR,
        6 => hour + rng.random_range(0..12) * HOUR / 12,
        _ => hour + rng.random_range(0..HOUR),
    }
}

fn of_series(rng: &mut SmallRng, meter: &Value, series: &Series, cycle: Cycle, instants: &[i64]) -> Vec<Record> {
    let (start, end) = (start_of(cycle), start_of(cycle + 1));
    let aggregation = text(&meter["aggregation"], "sum");
    let scale = scale_of(meter);
    let record = |start: i64, quantity: String| Record {
        series: series.clone(),
        id: String::new(),
        quantity: exact(&quantity),
        amount: None,
        start,
        end: start,
        corrects: false,
    };
    let mut records: Vec<Record> = Vec::new();
    if aggregation == "percentile_95" {
        // About as many intervals as are dropped, so that some series come to something and some to nothing.
        let (intervals, length) = match text(&meter["bucket"], "") {
            "hour" => (rng.random_range(30..=42), HOUR),
            _ => (rng.random_range(400..=450), HOUR / 12),
        };
        for interval in 0..intervals {
            let at = start + interval * length + *one(rng, &[0, length / 2, length - 1]);
            records.push(record(at, quantity(rng, scale)));
        }
        for _ in 0..rng.random_range(0..4) {
            let mut back = one(rng, &records).clone();
            (back.quantity, back.corrects) = (-back.quantity, true);
            records.push(back);
        }
        return records;
    }
    let changes = meter["level"]["records"] == "change";
    for _ in 0..rng.random_range(1..=5) {
        let at = if chance(rng, 30) { *one(rng, instants) } else { instant(rng, cycle) };
        let mut own = record(at, quantity(rng, scale));
        match aggregation {
            "latest" => own.end += *one(rng, &[0, 0, HOUR, 2 * HOUR, DAY]),
            "unique" => {
                own.quantity = whole(rng.random_range(1..=8));
                if chance(rng, 25) {
                    (own.quantity, own.corrects) = (-own.quantity, true);
                }
            }
            "level" if changes && chance(rng, 25) => own.quantity = -own.quantity,
            _ => {}
        }
        if meter["of"] == "amount" {
            own.amount = Some(exact(&decimal(rng, 60, 12)));
        }
        records.push(own);
    }
    // Other cycles count only where they leave a level.
    if chance(rng, 25) || carries(meter) && chance(rng, 60) {
        let length = *one(rng, &[1, HOUR, 40 * DAY]);
        let mut before = record(start - length, quantity(rng, scale));
        before.quantity *= whole(if changes && chance(rng, 20) { -1 } else { 1 });
        records.push(before);
        let after = record(end + *one(rng, &[0, HOUR]), quantity(rng, scale));
        records.push(after);
    }
    // One before and one within are a level that no bill can hold.
    if changes && carries(meter) && chance(rng, 4) {
        records.retain(|own| own.quantity < whole(0));
        records.extend([start - 1, start + HOUR].map(|at| record(at, "9900000000".to_owned())));
    }
    if meter["of"] == "amount" {
        records.iter_mut().for_each(|own| own.amount = own.amount.take().or(Some(exact("1"))));
    }
    if aggregation == "unique" {
        records.iter_mut().for_each(|own| own.quantity = own.quantity.round());
    }
    records
}
