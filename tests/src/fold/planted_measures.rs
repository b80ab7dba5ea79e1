//! Faults in what meters make of their records, in prices that look at records, hours, days or levels, planted on purpose.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::case::Case;
use super::fault::{Fault, each, mutated, remove};
use crate::compare::Shown;
use crate::draw::fees::day;
use crate::model::calendar::{cycle_name, start_of, time_of};
use crate::model::exact::{Exact, whole};
use crate::model::measure::{aggregation, bucket_of, carries, counted_of};
use crate::model::record::Record;
use crate::model::rounding::{is_by_line, payable_of};
use crate::model::series::{Series, list, matches, names, text};

const HOUR: i64 = 3_600_000_000_000;

/// Faults of measuring.
pub const FAULTS: &[Fault] = &[
    mutated!("a pool's peak as the sum of peaks", |case| {
        let start = start_of(case.cycle);
        of(case, |meter| aggregation(meter) == "maximum", |record, _| record.start = start)
    }),
    mutated!("a peak that is a sum", |case| meters(case, "maximum", |meter| {
        meter["aggregation"] = json!("sum");
        true
    })),
    mutated!("the latest by arrival", |case| {
        let start = start_of(case.cycle);
        of(
            case,
            |meter| aggregation(meter) == "latest",
            |record, place| {
                record.end = record.start.max(start) + HOUR * 1_000 + place as i64;
            },
        )
    }),
    mutated!("the latest by its beginning", |case| {
        of(case, |meter| aggregation(meter) == "latest", |record, _| record.end = record.start)
    }),
    mutated!("values of a pool's members counted apart", |case| {
        let mut names: BTreeMap<String, i128> = BTreeMap::new();
        for record in &case.records {
            let next = 100 * (names.len() as i128 + 1);
            names.entry(record.series.account.clone()).or_insert(next);
        }
        of(
            case,
            |meter| aggregation(meter) == "unique",
            move |record, _| {
                let apart = whole(names[&record.series.account]);
                record.quantity += if record.quantity < whole(0) { -apart } else { apart };
            },
        )
    }),
    mutated!("values that were taken back counted", |case| {
        drop_where(case, |meter, record| aggregation(meter) == "unique" && record.corrects)
    }),
    mutated!("a percentile without one interval more", one_interval_more),
    mutated!("a percentile that is a peak", |case| meters(case, "percentile_95", |meter| {
        meter["aggregation"] = json!("maximum");
        true
    })),
    mutated!("a level that is not carried", |case| {
        let start = start_of(case.cycle);
        drop_where(case, move |meter, record| carries(meter) && record.start < start)
    }),
    mutated!("a level carried unasked", |case| meters(case, "level", |meter| {
        let asked = meter["level"]["carry"] == true;
        meter["level"]["carry"] = json!(true);
        !asked
    })),
    mutated!("levels weighed by time, not by day", |case| meters(case, "level", |meter| {
        let by_day = meter["level"]["weigh"] == "day";
        meter["level"]["weigh"] = json!("time");
        by_day
    })),
    mutated!("changes of a level read as levels", |case| meters(case, "level", |meter| {
        let changes = meter["level"]["records"] == "change";
        meter["level"]["records"] = json!("level");
        changes
    })),
    mutated!("a level below zero charged", |case| {
        let changes = |meter: &Value| meter["level"]["records"] == "change";
        of(case, changes, |record, _| record.quantity = record.quantity.clone().max(whole(0)))
    }),
    mutated!("free records by arrival", |case| {
        let start = start_of(case.cycle);
        of(
            case,
            |meter| meter["keep_records"] == true,
            |record, place| {
                record.start = record.start.max(start).min(start) + place as i64;
            },
        )
    }),
    mutated!("free records by id alone", |case| {
        let (start, end) = (start_of(case.cycle), start_of(case.cycle + 1));
        of(
            case,
            |meter| meter["keep_records"] == true,
            |record, _| {
                if (start..end).contains(&record.start) {
                    record.start = start;
                }
            },
        )
    }),
    mutated!("an allowance that only its records end", |case| records_of(case, |records| {
        records["free"].is_u64() && remove(records, "free_amount")
    })),
    mutated!("an allowance that only its amount ends", |case| records_of(case, |records| {
        records["free_amount"].is_string() && remove(records, "free")
    })),
    mutated!("a record's minimum ignored", |case| records_of(case, |records| remove(records, "minimum"))),
    mutated!("a record's maximum ignored", |case| records_of(case, |records| remove(records, "maximum"))),
    mutated!("hours of UTC, whatever the zone", |case| hours(case, |hours| {
        let other = hours["zone"] != "Z";
        hours["zone"] = json!("Z");
        other
    })),
    mutated!("clocks that are never changed", |case| zones(case, |offsets| {
        offsets.truncate(1);
        true
    })),
    mutated!("clocks changed an hour late", |case| zones(case, |offsets| {
        offsets.iter_mut().skip(1).for_each(|own| {
            let hour = (time_of(text(&own["from"], "")) + HOUR) / HOUR * HOUR;
            own["from"] = json!(day(hour));
        });
        true
    })),
    mutated!("clocks set back when they should be set ahead", |case| zones(case, |offsets| {
        let all: Vec<Value> = offsets.iter().map(|own| own["offset"].clone()).collect();
        offsets.iter_mut().zip(all.into_iter().rev()).for_each(|(own, offset)| own["offset"] = offset);
        true
    })),
    mutated!("weekdays one too late", |case| hours(case, |hours| {
        let mut any = false;
        for field in ["at", "except"] {
            for span in hours.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                let next = |day: &str| {
                    let all = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
                    let place = all.iter().position(|own| *own == day).expect("a weekday");
                    all[(place + 1) % 7].to_owned()
                };
                let days: Vec<String> = names(&span["days"]).into_iter().map(next).collect();
                any |= !days.is_empty();
                span["days"] = json!(days);
            }
        }
        any
    })),
    mutated!("named hours end an hour later", |case| hours(case, |hours| {
        for field in ["at", "except"] {
            for span in hours.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                span["to"] = json!(span["to"].as_i64().expect("drawn") + 1);
            }
        }
        true
    })),
    mutated!("records of some time counted where they begin", |case| {
        let any = !case.spread.is_empty();
        case.spread.iter_mut().for_each(|record| record.end = record.start);
        let (start, end) = (start_of(case.cycle), start_of(case.cycle + 1));
        case.spread.retain(|record| (start..end).contains(&record.start));
        any
    }),
    mutated!("records of some time counted where they end", |case| {
        let any = !case.spread.is_empty();
        case.spread.iter_mut().for_each(|record| record.start = record.end - 1);
        let (start, end) = (start_of(case.cycle), start_of(case.cycle + 1));
        case.spread.retain(|record| (start..end).contains(&record.start));
        any
    }),
    mutated!("the time of records cut to whole hours", |case| {
        let uneven = |record: &&mut Record| (record.end - record.start) % HOUR != 0;
        let mut any = false;
        for record in case.spread.iter_mut().filter(uneven) {
            record.end -= (record.end - record.start) % HOUR;
            record.end = record.end.max(record.start + 1);
            any = true;
        }
        any
    }),
    mutated!("changes of a price ignored", |case| each(case, "prices", |price| remove(price, "changes"))),
    mutated!("a price changes a day late", |case| each(case, "prices", |price| {
        let changes = price.get_mut("changes").and_then(Value::as_array_mut).into_iter().flatten();
        let late = |change: &mut Value| {
            let (month, day) = text(&change["from"], "").rsplit_once('-').expect("a day");
            let day = day.parse::<u32>().expect("digits") + 1;
            change["from"] = json!(format!("{month}-{day:02}"));
            true
        };
        changes.map(late).fold(false, |any, changed| any | changed)
    })),
    Fault { name: "pools begin anew where a price changes", plant: pools_anew },
    mutated!("a ladder climbed by the mean level", |case| each(case, "prices", |price| remove(price, "prorate"))),
];

/// Changes the records of some meters; true where one changed.
fn of(case: &mut Case, meters: impl Fn(&Value) -> bool, change: impl Fn(&mut Record, usize)) -> bool {
    let before = case.records.clone();
    let catalogue = case.catalogue.clone();
    for (place, record) in case.records.iter_mut().enumerate() {
        if meters(meter_of(&catalogue, &record.series)) {
            change(record, place);
        }
    }
    case.records != before
}

fn drop_where(case: &mut Case, lost: impl Fn(&Value, &Record) -> bool) -> bool {
    let before = case.records.len();
    let catalogue = &case.catalogue;
    case.records.retain(|record| !lost(meter_of(catalogue, &record.series), record));
    case.records.len() < before
}

/// A drawn meter has a usage type of its own.
fn meter_of<'a>(catalogue: &'a Value, series: &Series) -> &'a Value {
    let own = |meter: &&Value| meter["usage_type"] == series.usage_type.as_str();
    list(catalogue, "meters").iter().find(own).expect("drawn for a meter")
}

fn meters(case: &mut Case, kind: &str, change: impl Fn(&mut Value) -> bool) -> bool {
    each(case, "meters", |meter| aggregation(meter) == kind && change(meter))
}

fn records_of(case: &mut Case, change: impl Fn(&mut Value) -> bool) -> bool {
    each(case, "prices", |price| price["records"].is_object() && change(&mut price["records"]))
}

fn hours(case: &mut Case, change: impl Fn(&mut Value) -> bool) -> bool {
    each(case, "skus", |sku| sku["match"]["hours"].is_object() && change(&mut sku["match"]["hours"]))
}

fn zones(case: &mut Case, change: impl Fn(&mut Vec<Value>) -> bool) -> bool {
    each(case, "zones", |zone| {
        zone["offsets"].as_array_mut().is_some_and(|offsets| offsets.len() > 1 && change(offsets))
    })
}

/// The highest interval of every series is lost.
fn one_interval_more(case: &mut Case) -> bool {
    let start = start_of(case.cycle);
    let mut sums: BTreeMap<Series, BTreeMap<i64, Exact>> = BTreeMap::new();
    for record in &case.records {
        let meter = meter_of(&case.catalogue, &record.series);
        if aggregation(meter) == "percentile_95" {
            let of_series = sums.entry(record.series.clone()).or_default();
            let sum = of_series.entry(bucket_of(meter, record.start - start)).or_insert_with(|| whole(0));
            *sum += counted_of(meter, record);
        }
    }
    let highest = |series: &Series| {
        let of_series = sums.get(series)?;
        of_series.iter().max_by_key(|(_, sum)| (*sum).clone()).map(|(bucket, _)| *bucket)
    };
    drop_where(case, |meter, record| highest(&record.series) == Some(bucket_of(meter, record.start - start)))
}

/// What was used of prices that change is billed before and after the first change, each as if the other were not there.
fn pools_anew(case: &Case) -> Option<Shown> {
    if case.contract.is_some() || is_by_line(&case.catalogue) {
        return None;
    }
    let prices = list(&case.catalogue, "prices").iter();
    let changing: Vec<&Value> = prices.filter(|price| !list(price, "changes").is_empty()).collect();
    let changes = changing.iter().flat_map(|price| list(price, "changes"));
    let days = changes.map(|change| text(&change["from"], "")).filter(|day| day.starts_with(&cycle_name(case.cycle)));
    let day = (time_of(days.min()?) - start_of(case.cycle)) / HOUR;
    let changes = |series: &Series| {
        let mut skus = list(&case.catalogue, "skus").iter();
        skus.any(|sku| {
            changing.iter().any(|price| price["id"] == sku["price"])
                && matches(text(&sku["match"]["usage_type"], "*"), &series.usage_type)
        })
    };
    let (mut before, mut after) = (case.clone(), case.clone());
    before.counters.retain(|counter| !changes(&counter.series) || counter.bucket < day);
    after.counters.retain(|counter| changes(&counter.series) && counter.bucket >= day);
    after.records.clear();
    let shown = |case: Case| case.engine().ok().map(|bills| Shown::of_engine(&bills));
    let mut both = shown(before)?.joined(shown(after)?);
    for (payer, (total, payable)) in &mut both.payers {
        *total = both.lines.iter().filter(|row| row.payer == *payer).map(|row| &row.amount).sum();
        *payable = payable_of(&case.catalogue, total);
    }
    Some(both)
}
