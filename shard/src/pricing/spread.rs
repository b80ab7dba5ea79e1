//! Records that are spread over their time (BILLING.md decision 10): where one is cut, and what each part has. Which counter
//! a part is added to is the machine's matter.

use std::collections::BTreeSet;

use super::document::Bucket;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{DAY, HOUR, Period, Timestamp};
use crate::base::wide::{Rounding, multiply_divide};

/// Longest time of a record that is spread: 31 days are at most 745 hours, so that one record is a bounded number of adds.
pub const SPREAD_TIME_MAX: i64 = 31 * DAY;

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins: it counts like a record of that instant.
    pub at: Timestamp,
    /// At the meter's scale.
    pub quantity: i128,
}

/// Cuts a record at the ends of its meter's buckets, which end with cycles too, and at `moves`. Each part has its share by
/// time, rounded towards zero; the last has the rest. Parts of nothing are left out, but for one where all are.
pub fn parts(quantity: i128, time: &Period, bucket: Bucket, moves: &[Timestamp]) -> Result<Vec<Part>, Refusal> {
    let Period { from, until } = *time;
    let length = i128::from(until.0) - i128::from(from.0);
    if length > i128::from(SPREAD_TIME_MAX) {
        let days = SPREAD_TIME_MAX / DAY;
        let detail =
            format!("the record lasts from {from} to {until}, at most {days} days are spread; send it as several");
        return Err(Refusal::new(Reason::InvalidValue, detail));
    }
    let mut cuts: BTreeSet<Timestamp> = moves.iter().copied().filter(|at| from < *at && *at < until).collect();
    let mut at = from;
    loop {
        at = match bucket {
            Bucket::Month => at.cycle().end(),
            Bucket::Day => end_of(at, DAY),
            Bucket::Hour => end_of(at, HOUR),
            Bucket::FiveMinutes => end_of(at, HOUR / 12),
        };
        if at >= until {
            break;
        }
        cuts.insert(at);
    }
    let begins = std::iter::once(from).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(until));
    let (mut left, mut parts) = (quantity, Vec::with_capacity(cuts.len() + 1));
    for (at, end) in begins.zip(ends) {
        // A share of what fits, by a time above zero.
        let share = multiply_divide(quantity, i128::from(end.0 - at.0), length, Rounding::Down).unwrap_or(left);
        let own = if end == until { left } else { share };
        left -= own;
        parts.push(Part { at, quantity: own });
    }
    let last = parts[parts.len() - 1];
    parts.retain(|part| part.quantity != 0);
    if parts.is_empty() {
        parts.push(last);
    }
    Ok(parts)
}

fn end_of(at: Timestamp, length: i64) -> Timestamp {
    Timestamp((at.0.div_euclid(length) + 1) * length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(from: &str, until: &str) -> Period {
        Period { from: from.parse().unwrap(), until: until.parse().unwrap() }
    }

    #[test]
    fn a_record_is_cut_at_buckets_and_moves() {
        fn check(quantity: i128, bucket: Bucket, from: &str, until: &str, moves: &[&str], expected: &[(&str, i128)]) {
            let moves: Vec<Timestamp> = moves.iter().map(|at| at.parse().unwrap()).collect();
            let found = parts(quantity, &time(from, until), bucket, &moves).unwrap();
            let shown: Vec<(String, i128)> = found.iter().map(|part| (part.at.to_string(), part.quantity)).collect();
            let expected: Vec<(String, i128)> = expected.iter().map(|(at, own)| ((*at).to_owned(), *own)).collect();
            assert_eq!(shown, expected, "{quantity} from {from} to {until}");
        }
        let (from, until) = ("2026-09-30T22:30:00Z", "2026-10-01T00:30:00Z");
        check(8, Bucket::Month, from, until, &[], &[(from, 6), ("2026-10-01T00:00:00Z", 2)]);
        let hours = [(from, 2), ("2026-09-30T23:00:00Z", 4), ("2026-10-01T00:00:00Z", 2)];
        check(8, Bucket::Hour, from, until, &[], &hours);
        // 10 / 4 = 2.5 and 5; what is left is the last one's: 3.
        let rest = [(from, 2), ("2026-09-30T23:00:00Z", 5), ("2026-10-01T00:00:00Z", 3)];
        check(10, Bucket::Hour, from, until, &[], &rest);
        let taken: Vec<(&str, i128)> = rest.iter().map(|(at, own)| (*at, -own)).collect();
        check(-10, Bucket::Hour, from, until, &[], &taken);
        check(1, Bucket::Hour, from, until, &[], &[("2026-10-01T00:00:00Z", 1)]);
        check(0, Bucket::Hour, from, until, &[], &[("2026-10-01T00:00:00Z", 0)]);
        // To the end of an hour: one part. A move within it: two.
        check(9, Bucket::Hour, "2026-09-01T05:00:00Z", "2026-09-01T06:00:00Z", &[], &[("2026-09-01T05:00:00Z", 9)]);
        check(
            9,
            Bucket::Day,
            "2026-09-01T05:00:00Z",
            "2026-09-01T06:00:00Z",
            &["2026-09-01T05:20:00Z", "2026-09-01T06:00:00Z", "2026-08-01"],
            &[("2026-09-01T05:00:00Z", 3), ("2026-09-01T05:20:00Z", 6)],
        );
        assert!(parts(1, &time("2026-09-01", "2026-10-02"), Bucket::Hour, &[]).is_ok());
        let long = parts(1, &time("2026-09-01", "2026-10-02T00:00:01Z"), Bucket::Month, &[]).unwrap_err();
        assert_eq!(long.reason, Reason::InvalidValue);
    }

    proptest! {
        /// Parts sum to the record and none is of the other sign; a correction of the same time takes each part back.
        #[test]
        fn parts_sum_to_the_record(
            quantity in -1_000_000_000i128..1_000_000_000,
            from in 0i64..40 * 24 * 3_600, length in 1i64..31 * 24 * 3_600,
            bucket in prop::sample::select(vec![Bucket::Month, Bucket::Day, Bucket::Hour]),
            moves in prop::collection::vec(0i64..80 * 24 * 3_600, 0..4),
        ) {
            let second = |at: i64| Timestamp(at * 1_000_000_000);
            let time = Period { from: second(from), until: second(from + length) };
            let moves: Vec<Timestamp> = moves.into_iter().map(second).collect();
            let own = parts(quantity, &time, bucket, &moves).unwrap();
            prop_assert_eq!(own.iter().map(|part| part.quantity).sum::<i128>(), quantity);
            prop_assert!(own.iter().all(|part| part.quantity.signum() * quantity.signum() >= 0));
            prop_assert!(own.iter().all(|part| time.contains(part.at)));
            let back: Vec<Part> =
                own.iter().map(|part| Part { quantity: -part.quantity, ..*part }).collect();
            prop_assert_eq!(parts(-quantity, &time, bucket, &moves).unwrap(), back);
        }
    }
}
