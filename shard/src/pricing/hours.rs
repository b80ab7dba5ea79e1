//! Named hours of the week: when in the week a SKU's price holds. In whose time is said by an offset, or by a zone that the
//! catalogue lists with all its changes of the clock (`zones.rs`): no table of zones is asked here, so that two nodes can
//! never tell a different time.

use super::document_hours::{HoursDocument, WeekSpanDocument, Weekday};
use super::zones::{Clock, Zones, offset};
use crate::base::problem::{Place, Problems};
use crate::base::time::{DAY, HOUR, Timestamp};

/// Hours of a week.
const WEEK: i32 = 7 * 24;

/// A set of the week's hours, UTC: a bit an hour, by weekday from Monday.
type Week = [u32; 7];

/// When in the week, as the clocks of a place have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeekHours {
    /// From an instant on, oldest first; the first from ever on.
    weeks: Vec<(Timestamp, Week)>,
}

impl WeekHours {
    /// Reads the field `hours`; problems are reported at `place`.
    pub fn compile(
        document: &HoursDocument,
        zones: &Zones,
        sku: &str,
        place: &Place,
        problems: &mut Problems,
    ) -> WeekHours {
        let clock = match &document.zone {
            None => Clock::steady(0),
            Some(text) => match (offset(text), zones.get(text)) {
                (Some(hours), _) => Clock::steady(hours),
                (None, Some(clock)) => clock.clone(),
                (None, None) => {
                    problems.error(
                        &place.key("zone"),
                        format!("zone '{text}' of sku {sku} is no offset of whole hours and none of the catalogue's zones"),
                        "write Z, +01:00 (to +14:00, from -12:00) or Europe/Berlin; of an IANA zone of whole hours files need \
                         no more than the name, other senders list its offsets under zones",
                    );
                    Clock::steady(0)
                }
            },
        };
        let (spans, field, is_inside) = match (document.at.is_empty(), document.except.is_empty()) {
            (false, true) => (&document.at, "at", true),
            (true, false) => (&document.except, "except", false),
            (one, _) => {
                let what = if one { "neither at nor except" } else { "both at and except" };
                problems.error(place, format!("the hours of sku {sku} have {what}"), "state one of them");
                return WeekHours { weeks: vec![(Timestamp(i64::MIN), [u32::MAX >> 8; 7])] };
            }
        };
        // As the place's own clocks have it; then moved by what they show.
        let mut local = [0; 7];
        for (index, span) in spans.iter().enumerate() {
            add(&mut local, span, sku, &place.key(field).index(index), problems);
        }
        if !is_inside {
            local.iter_mut().for_each(|day| *day = !*day & (u32::MAX >> 8));
        }
        if local == [0; 7] && !problems.has_errors() {
            problems.error(place, format!("the hours of sku {sku} are none of the week"), "leave some of them");
        }
        WeekHours { weeks: clock.offsets.iter().map(|(from, hours)| (*from, moved(&local, *hours))).collect() }
    }

    /// Whether some hour can be in both: where the clocks of either change, the weeks before and after both count.
    pub fn meets(&self, other: &WeekHours) -> bool {
        let ends = |weeks: &[(Timestamp, Week)], index: usize| weeks.get(index + 1).map_or(i64::MAX, |next| next.0.0);
        self.weeks.iter().enumerate().any(|(index, (from, week))| {
            let until = ends(&self.weeks, index);
            other.weeks.iter().enumerate().any(|(place, (begin, own))| {
                begin.0 < until
                    && from.0 < ends(&other.weeks, place)
                    && week.iter().zip(own).any(|(one, other)| one & other != 0)
            })
        })
    }

    /// Whether the hour that begins at an instant is among them.
    pub fn contains(&self, at: Timestamp) -> bool {
        let place = self.weeks.partition_point(|(from, _)| *from <= at);
        // The first is from ever on.
        let week = &self.weeks[place.max(1) - 1].1;
        // The epoch was a Thursday, three days into its week.
        let day = (at.0.div_euclid(DAY) + 3).rem_euclid(7);
        week[day as usize] >> (at.0.rem_euclid(DAY) / HOUR) & 1 != 0
    }
}

/// The week of a place whose clocks are so many hours ahead, in UTC.
fn moved(local: &Week, hours: i32) -> Week {
    let mut week = [0; 7];
    for hour in (0..WEEK).filter(|hour| local[(hour / 24) as usize] >> (hour % 24) & 1 != 0) {
        let hour = (hour - hours).rem_euclid(WEEK);
        week[(hour / 24) as usize] |= 1 << (hour % 24);
    }
    week
}

fn add(local: &mut Week, span: &WeekSpanDocument, sku: &str, place: &Place, problems: &mut Problems) {
    let (from, to) = (i32::from(span.from.unwrap_or(0)), i32::from(span.to.unwrap_or(24)));
    if to > 24 || from >= to {
        problems.error(
            place,
            format!("sku {sku} names the hours from {from} to {to} of a day"),
            "write from 0 to 23 and a later to, at most 24; hours over midnight are two spans",
        );
        return;
    }
    const ALL: [Weekday; 7] =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];
    let days = if span.days.is_empty() { &ALL[..] } else { &span.days };
    for (index, day) in days.iter().enumerate() {
        if days[..index].contains(day) {
            problems.error(&place.key("days").index(index), "a weekday is listed twice", "list each once");
        }
        for hour in from..to {
            local[*day as usize] |= 1 << hour;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile(document: Value) -> (WeekHours, Vec<String>) {
        let zone = json!({"id": "Europe/Berlin", "offsets": [
            {"from": "2025-10-26T01:00:00Z", "offset": "+01:00"}, {"from": "2026-03-29T01:00:00Z", "offset": "+02:00"},
            {"from": "2026-10-25T01:00:00Z", "offset": "+01:00"}]});
        let mut problems = Problems::default();
        let zones = [serde_json::from_value(zone).unwrap()];
        let first = "2026-01".parse().unwrap();
        let zones = super::super::zones::compile(&zones, first, &Place::top().key("zones"), &mut problems);
        let document = serde_json::from_value(document).unwrap();
        let hours = WeekHours::compile(&document, &zones, "peak", &Place::top().key("hours"), &mut problems);
        (hours, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn hours_are_of_the_zones_week() {
        fn check(document: Value, hour: i64, expected: bool) {
            let (hours, problems) = compile(document.clone());
            assert!(problems.is_empty(), "{problems:?}");
            // September 2026 begins with a Tuesday.
            let start = "2026-09".parse::<crate::base::time::CycleId>().unwrap().start();
            let at = Timestamp(start.0 + hour * HOUR);
            assert_eq!(hours.contains(at), expected, "{document} {hour}");
        }
        let office = json!({"zone": "+02:00", "at": [{"days": ["tue"], "from": 8, "to": 20}]});
        // 06:00 UTC is 08:00 there.
        check(office.clone(), 5, false);
        check(office.clone(), 6, true);
        check(office.clone(), 17, true);
        check(office.clone(), 18, false);
        check(office.clone(), 24 + 6, false);
        check(office, 7 * 24 + 6, true);
        // Tuesday from midnight to one, there, is Monday's last but one hour here; the 7th is a Monday.
        let night = json!({"zone": "+02:00", "at": [{"days": ["tue"], "to": 1}]});
        check(night.clone(), 0, false);
        check(night, 6 * 24 + 22, true);
        // Sunday's last hour five hours west is Monday, four o'clock here.
        let late = json!({"zone": "-05:00", "at": [{"days": ["sun"], "from": 23}]});
        check(late, 6 * 24 + 4, true);
        let rest = json!({"except": [{"days": ["sat", "sun"]}, {"from": 12}]});
        check(rest.clone(), 11, true);
        check(rest.clone(), 12, false);
        check(rest, 4 * 24, false);
    }

    #[test]
    fn a_zone_changes_its_clocks() {
        fn check(document: &Value, at: &str, expected: bool) {
            let (hours, problems) = compile(document.clone());
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(hours.contains(at.parse().unwrap()), expected, "{document} {at}");
        }
        let day = json!({"zone": "Europe/Berlin", "at": [{"from": 8, "to": 20}]});
        // Winter: 8 o'clock is 07:00 UTC; from March 29 on 06:00.
        for (at, expected) in [
            ("2020-07-01T06:00:00Z", false),
            ("2026-03-28T06:00:00Z", false),
            ("2026-03-28T07:00:00Z", true),
            ("2026-03-29T05:00:00Z", false),
            ("2026-03-29T06:00:00Z", true),
            ("2026-03-29T18:00:00Z", false),
            ("2026-10-25T06:00:00Z", false),
            ("2026-10-25T18:00:00Z", true),
            ("2040-07-01T06:00:00Z", false),
        ] {
            check(&day, at, expected);
        }
        // Between two and three: no such hour in spring, two of it in autumn, 00:00 and 01:00 UTC.
        let lost = json!({"zone": "Europe/Berlin", "at": [{"days": ["sun"], "from": 2, "to": 3}]});
        for (at, expected) in [
            ("2026-03-29T00:00:00Z", false),
            ("2026-03-29T01:00:00Z", false),
            ("2026-10-24T23:00:00Z", false),
            ("2026-10-25T00:00:00Z", true),
            ("2026-10-25T01:00:00Z", true),
            ("2026-10-25T02:00:00Z", false),
        ] {
            check(&lost, at, expected);
        }
    }

    #[test]
    fn hours_of_one_zone_and_the_rest_of_it_do_not_meet() {
        fn check(one: Value, other: Value, expected: bool) {
            let (one, other) = (compile(one).0, compile(other).0);
            assert_eq!((one.meets(&other), other.meets(&one)), (expected, expected));
        }
        let day = |zone: &str, field: &str| json!({"zone": zone, field: [{"from": 8, "to": 20}]});
        check(day("Europe/Berlin", "at"), day("Europe/Berlin", "except"), false);
        check(day("Europe/Berlin", "at"), day("+01:00", "except"), true);
        check(day("+01:00", "at"), day("+01:00", "except"), false);
        // Apart in winter and in summer.
        check(day("Europe/Berlin", "at"), json!({"zone": "Z", "at": [{"to": 6}, {"from": 19}]}), false);
        check(day("Europe/Berlin", "at"), json!({"zone": "Z", "at": [{"to": 7}]}), true);
    }

    #[test]
    fn hours_that_make_no_sense_are_refused() {
        fn check(document: Value, expected: &str) {
            let (_, problems) = compile(document);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{}\ndoes not start with\n{expected}", problems[0]);
        }
        check(json!({}), "hours: the hours of sku peak have neither at nor except; state one");
        check(json!({"at": [{"from": 8}], "except": [{"from": 8}]}), "hours: the hours of sku peak have both at");
        check(json!({"at": [{"from": 20, "to": 8}]}), "hours.at[0]: sku peak names the hours from 20 to 8 of a day");
        check(json!({"at": [{"to": 25}]}), "hours.at[0]: sku peak names the hours from 0 to 25 of a day");
        check(json!({"at": [{"days": ["mon", "mon"]}]}), "hours.at[0].days[1]: a weekday is listed twice");
        check(json!({"zone": "CET", "at": [{"to": 1}]}), "hours.zone: zone 'CET' of sku peak is no offset of whole");
        check(json!({"zone": "+05:30", "at": [{"to": 1}]}), "hours.zone: zone '+05:30' of sku peak is no offset of");
        check(json!({"except": [{}]}), "hours: the hours of sku peak are none of the week; leave some");
    }
}
