//! Which part of a period something is taken for, and what of an amount is due for that part: minima and maxima that are
//! prorated (BILLING.md decision 2). Fees, which have periods of their own, live in `fee.rs`.

use ethnum::I256;

use super::document_fee::Prorate;
use crate::base::money::Money;
use crate::base::time::{DAY, Period, Timestamp};
use crate::base::wide::{Rounding, divide};

/// From when to when something is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub from: Timestamp,
    /// First instant that no longer counts.
    pub to: Option<Timestamp>,
}

impl Span {
    /// Without beginning and end.
    pub const ALWAYS: Span = Span { from: Timestamp(i64::MIN), to: None };

    /// The part of a period that it fills; by days the first counts and the end does not. A period begins and ends with a
    /// day.
    fn within(&self, of: &Period, prorate: Prorate) -> Option<(i64, i64)> {
        let day = |at: i64| if prorate == Prorate::Days { at.div_euclid(DAY) * DAY } else { at };
        let (from, to) = (self.from.max(of.from), self.to.unwrap_or(of.until).min(of.until));
        let (from, to) = (day(from.0), day(to.0));
        (from < to).then_some((from, to))
    }
}

/// How the least or the most that something comes to follows the time for which it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prorating {
    pub prorate: Prorate,
    pub span: Span,
}

impl Prorating {
    /// What of an amount holds in a period; `None` where nothing of the period counts.
    pub fn of(&self, amount: Money, period: &Period) -> Option<Money> {
        prorated(amount, self.prorate, &[self.span], period)
    }
}

/// What of an amount for a whole period holds where only the time that any of the spans fills counts; `None` where there is
/// none. Without prorating it is all of it.
pub fn prorated(amount: Money, prorate: Prorate, spans: &[Span], of: &Period) -> Option<Money> {
    if prorate == Prorate::None {
        return Some(amount);
    }
    let mut parts: Vec<(i64, i64)> = spans.iter().filter_map(|span| span.within(of, prorate)).collect();
    parts.sort_unstable();
    let (mut active, mut end) = (0, i64::MIN);
    for (from, to) in parts {
        active += (to - from.max(end)).max(0);
        end = end.max(to);
    }
    let whole = of.until.0 - of.from.0;
    let share = divide(I256::from(amount.0) * I256::from(active), I256::from(whole), Rounding::HalfUp);
    // A share of what fits.
    (active > 0).then(|| i128::try_from(share).map_or(amount, Money))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_count_together_and_once() {
        fn check(prorate: Prorate, spans: &[(&str, &str)], expected: Option<&str>) {
            let read = |(from, to): &(&str, &str)| Span {
                from: from.parse().unwrap(),
                to: (!to.is_empty()).then(|| to.parse().unwrap()),
            };
            let spans: Vec<Span> = spans.iter().map(read).collect();
            let month = "2026-09".parse::<crate::base::time::CycleId>().unwrap().period();
            let found = prorated("30".parse().unwrap(), prorate, &spans, &month);
            assert_eq!(found.map(|amount| amount.to_string()).as_deref(), expected, "{prorate:?} {spans:?}");
        }
        use Prorate::{Days, None as Whole, Time};
        check(Whole, &[("2026-09-16", "")], Some("30"));
        check(Days, &[("2026-09-16", "")], Some("15"));
        check(Days, &[("2026-09-16T12:00:00Z", "2026-09-18T11:00:00Z")], Some("2"));
        check(Time, &[("2026-09-16T12:00:00Z", "2026-09-18T00:00:00Z")], Some("1.5"));
        check(Days, &[("2026-08-01", "2026-10-05")], Some("30"));
        // The 3rd to the 5th, the 5th to the 7th and the 20th.
        let several = [("2026-09-05", "2026-09-08"), ("2026-09-20", "2026-09-21"), ("2026-09-03", "2026-09-06")];
        check(Days, &several, Some("6"));
        check(Days, &[("2026-09-16T01:00:00Z", "2026-09-16T23:00:00Z")], None);
        check(Time, &[("2026-10-01", "")], None);
        check(Time, &[("2026-08-01", "2026-09-01")], None);
        // 30 x 1 / 2,592,000,000,000,000.
        check(Time, &[("2026-09-30T23:59:59.999999999Z", "")], Some("0"));
        assert_eq!(
            Span::ALWAYS
                .within(&"2026-09".parse::<crate::base::time::CycleId>().unwrap().period(), Days)
                .map(|(from, to)| (to - from) / DAY),
            Some(30)
        );
    }
}
