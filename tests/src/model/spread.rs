//! Records that are spread over their time (decision 10): where one is cut, and what each part has.

use std::collections::{BTreeMap, BTreeSet};

use num_traits::Zero;
use serde_json::Value;

use super::calendar::{Cycle, DAY, cycle_of, start_of};
use super::exact::{Exact, rounded_by, whole};
use super::measure::{HOUR, scale_of};
use super::record::Record;
use super::series::{Counter, Series, text};

/// No record that is spread lasts longer.
const LONGEST: i64 = 31 * DAY;

/// Whether a meter spreads what lasts from an instant to another.
pub fn is_spread(meter: &Value, start: i64, end: i64) -> bool {
    meter["spread"] == "time" && end > start
}

/// The parts of a quantity that lasts from `start` to `end`, each with its first instant, cut at the ends of the hours, days
/// or cycles that the meter keeps and at `moves`; those of nothing left out, unless all are: then the last is left.
pub fn parts(
    meter: &Value,
    quantity: &Exact,
    (start, end): (i64, i64),
    moves: &[i64],
) -> Result<Vec<(i64, Exact)>, &'static str> {
    if end - start > LONGEST {
        return Err("INVALID_VALUE");
    }
    let mut begins = BTreeSet::from([start]);
    begins.extend(moves.iter().copied());
    match text(&meter["bucket"], "month") {
        "hour" => begins.extend((start / HOUR..=end / HOUR).map(|hour| hour * HOUR)),
        "day" => begins.extend((start / DAY..=end / DAY).map(|day| day * DAY)),
        _ => begins.extend((cycle_of(start)..=cycle_of(end)).map(start_of)),
    }
    let begins: Vec<i64> = begins.into_iter().filter(|at| (start..end).contains(at)).collect();
    let ends = begins.iter().skip(1).copied().chain([end]);
    let share = |(begin, until): (&i64, i64)| {
        let share = quantity * Exact::new((until - begin).into(), (end - start).into());
        (*begin, rounded_by(&share, scale_of(meter), "down"))
    };
    let mut parts: Vec<(i64, Exact)> = begins.iter().zip(ends).map(share).collect();
    // The last has what is left.
    let before: Exact = parts[..parts.len() - 1].iter().map(|(_, part)| part).sum();
    let last = parts.pop().expect("a record has a part");
    parts.push((last.0, quantity - before));
    if parts.iter().any(|(_, part)| !part.is_zero()) {
        parts.retain(|(_, part)| !part.is_zero());
    } else {
        parts.drain(..parts.len() - 1);
    }
    Ok(parts)
}

/// Counters with those parts of records that lie in a cycle.
pub fn counted(
    counters: &[Counter],
    records: &[Record],
    cycle: Cycle,
    meter_of: &dyn Fn(&Series) -> Value,
    moves: &dyn Fn(&str) -> Vec<i64>,
) -> Vec<Counter> {
    let mut found: BTreeMap<(Series, i64), (Exact, u64)> = BTreeMap::new();
    let mut add = |series: &Series, bucket: i64, value: &Exact, records: u64| {
        let own = found.entry((series.clone(), bucket)).or_insert_with(|| (whole(0), 0));
        own.0 += value;
        own.1 += records;
    };
    for Counter { series, bucket, value, records } in counters {
        add(series, *bucket, value, *records);
    }
    for record in records {
        let meter = meter_of(&record.series);
        let moves = moves(&record.series.account);
        let cut = parts(&meter, &record.quantity, (record.start, record.end), &moves);
        for (at, part) in cut.expect("no drawn record is longer").into_iter().filter(|(at, _)| cycle_of(*at) == cycle) {
            add(&record.series, bucket_of(&meter, at), &part, 1);
        }
    }
    let counter = |((series, bucket), (value, records))| Counter { series, bucket, value, records };
    found.into_iter().map(counter).collect()
}

/// The first hour of the bucket that an instant is in, in its cycle.
pub fn bucket_of(meter: &Value, at: i64) -> i64 {
    let hour = (at - start_of(cycle_of(at))) / HOUR;
    match text(&meter["bucket"], "month") {
        "hour" => hour,
        "day" => hour / 24 * 24,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::calendar::time_of;
    use super::super::exact::{exact, text};
    use super::*;

    #[test]
    fn cut_by_hand() {
        fn check(bucket: &str, quantity: &str, from: &str, to: &str, moves: &[&str], expected: &[(&str, &str)]) {
            let meter = json!({ "bucket": bucket, "scale": 0, "spread": "time" });
            let moves: Vec<i64> = moves.iter().map(|at| time_of(at)).collect();
            let found = parts(&meter, &exact(quantity), (time_of(from), time_of(to)), &moves).unwrap();
            let found: Vec<(i64, String)> = found.iter().map(|(at, part)| (*at, text(part))).collect();
            let expected: Vec<(i64, String)> =
                expected.iter().map(|(at, own)| (time_of(at), (*own).to_owned())).collect();
            assert_eq!(found, expected, "{quantity} from {from} to {to}");
        }
        let (from, to) = ("2026-09-30T22:30:00Z", "2026-10-01T00:30:00Z");
        check("month", "8", from, to, &[], &[(from, "6"), ("2026-10-01", "2")]);
        check("hour", "10", from, to, &[], &[(from, "2"), ("2026-09-30T23:00:00Z", "5"), ("2026-10-01", "3")]);
        check("hour", "-1", from, to, &[], &[("2026-10-01", "-1")]);
        check("day", "0", from, to, &[], &[("2026-10-01", "0")]);
        check(
            "day",
            "4",
            from,
            to,
            &["2026-09-30T23:30:00Z"],
            &[(from, "2"), ("2026-09-30T23:30:00Z", "1"), ("2026-10-01", "1")],
        );
        let meter = json!({ "spread": "time" });
        assert_eq!(parts(&meter, &exact("1"), (0, 31 * DAY + 1), &[]), Err("INVALID_VALUE"));
        assert!(is_spread(&meter, 0, 1) && !is_spread(&meter, 1, 1) && !is_spread(&json!({}), 0, 1));
    }
}
