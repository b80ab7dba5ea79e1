//! What of an amount for a whole cycle holds where only a part of the cycle counts: limits that are prorated (decision 2).
//! Fees, which have periods of their own, live in `subscriptions.rs`.

use num_traits::Zero;
use serde_json::Value;

use super::calendar::{DAY, time_of};
use super::exact::{Exact, rounded};
use super::measure::Span;
use super::rounding::SCALE;
use super::series::text;

/// From when to when something is taken; the end no longer counts.
pub type Taken = (i64, i64);

/// When a subscription, or a clause with days of its own, holds.
pub fn taken(own: &Value) -> Taken {
    let at = |field: &str, default| own[field].as_str().map_or(default, time_of);
    (at("from", i64::MIN), at("to", i64::MAX))
}

/// What of an amount holds by the time of the cycle that any of several times fills; `None` where none of it does.
pub fn prorated(amount: &Exact, prorate: &Value, times: &[Taken], span: Span) -> Option<Exact> {
    let filled = match text(prorate, "none") {
        "none" => return Some(amount.clone()),
        "days" => filled_days(times, span),
        _ => filled_time(times, span),
    };
    let share = Exact::new(filled.into(), (span.end() - span.start).into());
    (!share.is_zero()).then(|| rounded(&(amount * share), SCALE))
}

/// Day by day: the first counts, the end day does not.
fn filled_days(times: &[Taken], span: Span) -> i64 {
    let day_of = |at: i64| at.div_euclid(DAY);
    let days = day_of(span.start)..day_of(span.end());
    let fills = |day: &i64| times.iter().any(|(from, to)| day_of(*from) <= *day && *day < day_of(*to));
    days.filter(fills).count() as i64 * DAY
}

/// Between all instants at which one of them begins or ends.
fn filled_time(times: &[Taken], span: Span) -> i64 {
    let mut edges = vec![span.start, span.end()];
    edges.extend(times.iter().flat_map(|(from, to)| [*from, *to]));
    edges.retain(|at| (span.start..=span.end()).contains(at));
    edges.sort();
    let fills = |at: i64| times.iter().any(|(from, to)| (*from..*to).contains(&at));
    edges.windows(2).filter(|pair| fills(pair[0])).map(|pair| pair[1] - pair[0]).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::exact::{text, whole};
    use super::*;

    #[test]
    fn parts_of_a_leap_february_by_hand() {
        fn check(prorate: &str, times: &[(&str, &str)], expected: Option<&str>) {
            let times: Vec<Taken> = times.iter().map(|(from, to)| (time_of(from), time_of(to))).collect();
            let found = prorated(&whole(29), &json!(prorate), &times, Span::of("2028-02"));
            assert_eq!(found.map(|amount| text(&amount)).as_deref(), expected, "{prorate} {times:?}");
        }
        check("none", &[("2028-03-01", "2028-03-02")], Some("29"));
        check("days", &[("2028-02-29", "2028-04-01")], Some("1"));
        check("days", &[("2028-02-03", "2028-02-06"), ("2028-02-05", "2028-02-08")], Some("5"));
        check("days", &[("2028-02-03T01:00:00Z", "2028-02-03T23:00:00Z")], None);
        check("time", &[("2028-02-03T06:00:00Z", "2028-02-03T18:00:00Z")], Some("0.5"));
        check("time", &[("2028-01-03", "2028-02-01")], None);
    }
}
