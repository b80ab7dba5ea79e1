//! The calendar by counting days: months, the instants of dates, and the parts of the calendar that fees are for.

use std::sync::LazyLock;

/// A day in nanoseconds.
pub const DAY: i64 = 86_400_000_000_000;

/// A cycle as a number that sorts: months since year 0.
pub type Cycle = u32;

/// The first instants of all months from 1970 to 2100, by counting days.
static STARTS: LazyLock<Vec<i64>> = LazyLock::new(|| {
    let leap = |year: u32| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let days_of = |year: u32, month: u32| match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let mut starts = vec![0];
    for month in 1970 * 12..2100 * 12 {
        let days = days_of(month / 12, month % 12 + 1);
        starts.push(starts[starts.len() - 1] + days * 86_400_000_000_000);
    }
    starts
});

/// The first instant of a cycle.
pub fn start_of(cycle: Cycle) -> i64 {
    STARTS[(cycle - 1970 * 12) as usize]
}

pub fn cycle_of(time: i64) -> Cycle {
    1970 * 12 + STARTS.iter().position(|start| *start > time).expect("time ends somewhere") as Cycle - 1
}

/// `2026-09`.
pub fn cycle_name(cycle: Cycle) -> String {
    format!("{:04}-{:02}", cycle / 12, cycle % 12 + 1)
}

/// The cycle of a name.
pub fn months(name: &str) -> Cycle {
    cycle_of(time_of(&format!("{name}-01")))
}

pub fn hours_of(cycle: Cycle) -> i64 {
    (start_of(cycle + 1) - start_of(cycle)) / 3_600_000_000_000
}

/// `2026-09-05` or `2026-09-25T12:00:00Z`, as the drawn documents write times.
pub fn time_of(text: &str) -> i64 {
    let part = |from: usize, until: usize| text.get(from..until).map_or(0, |part| part.parse::<i64>().expect("digits"));
    let cycle = (part(0, 4) * 12 + part(5, 7) - 1) as Cycle;
    let hours = (part(8, 10) - 1) * 24 + part(11, 13);
    start_of(cycle) + ((hours * 60 + part(14, 16)) * 60 + part(17, 19)) * 1_000_000_000
}

/// All weeks, months, quarters or years of the UTC calendar that an interval touches: first instants and ends.
pub fn periods(kind: &str, from: i64, until: i64) -> Vec<(i64, i64)> {
    let touched = |(begin, end): &(i64, i64)| *begin < until && from < *end;
    let by_months = |length: u32| {
        let firsts = (1970 * 12..2099 * 12).filter(|cycle: &Cycle| cycle.is_multiple_of(length));
        firsts.map(|first| (start_of(first), start_of(first + length))).filter(touched).collect()
    };
    match kind {
        // 1970 began with a Thursday.
        "week" => (0..6_000).map(|week| ((4 + 7 * week) * DAY, (11 + 7 * week) * DAY)).filter(touched).collect(),
        "month" => by_months(1),
        "quarter" => by_months(3),
        "year" => by_months(12),
        other => panic!("'{other}' is no part of the calendar"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_by_counting() {
        assert_eq!(start_of(2024 * 12 + 8), 1_725_148_800_000_000_000);
        assert_eq!((hours_of(2024 * 12 + 1), hours_of(2023 * 12 + 1), hours_of(2024 * 12 + 8)), (696, 672, 720));
        assert_eq!(cycle_of(1_725_148_800_000_000_000 - 1), 2024 * 12 + 7);
        assert_eq!(cycle_name(2024 * 12 + 8), "2024-09");
        assert_eq!(time_of("2024-09-01"), 1_725_148_800_000_000_000);
        assert_eq!(time_of("2024-09-25T12:00:00Z"), 1_725_148_800_000_000_000 + (24 * 24 + 12) * 3_600_000_000_000);
    }

    #[test]
    fn parts_of_the_calendar() {
        fn check(kind: &str, from: &str, until: &str, expected: &[(&str, &str)]) {
            let found = periods(kind, time_of(from), time_of(until));
            let expected: Vec<_> = expected.iter().map(|(from, until)| (time_of(from), time_of(until))).collect();
            assert_eq!(found, expected, "{kind}");
        }
        let weeks = [("2026-09-07", "2026-09-14"), ("2026-09-14", "2026-09-21")];
        check("week", "2026-09-13", "2026-09-15", &weeks);
        check("month", "2028-02-01", "2028-03-01", &[("2028-02-01", "2028-03-01")]);
        check("quarter", "2026-09-30", "2026-10-01", &[("2026-07-01", "2026-10-01")]);
        check("year", "2026-12-31", "2027-01-02", &[("2026-01-01", "2027-01-01"), ("2027-01-01", "2028-01-01")]);
    }
}
