//! Named hours of the week: when in the week a SKU's price holds. Zones are fixed offsets of whole hours, as the hours that
//! meters keep are; daylight saving is not known here, so that a bill never depends on a table of zones.

use super::document::{HoursDocument, WeekSpanDocument, Weekday};
use crate::base::problem::{Place, Problems};
use crate::base::time::CycleId;

/// Hours of a week.
const WEEK: i32 = 7 * 24;
/// Offsets that are in use on earth, in hours.
const OFFSETS: std::ops::RangeInclusive<i32> = -12..=14;

/// A set of the week's hours, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeekHours {
    /// A bit an hour, by weekday from Monday.
    days: [u32; 7],
}

impl WeekHours {
    /// Reads the field `hours`; problems are reported at `place`.
    pub fn compile(document: &HoursDocument, sku: &str, place: &Place, problems: &mut Problems) -> WeekHours {
        let offset = match &document.zone {
            None => 0,
            Some(text) => offset(text).unwrap_or_else(|| {
                problems.error(
                    &place.key("zone"),
                    format!("zone '{text}' of sku {sku} is no offset of whole hours from -12:00 to +14:00"),
                    "write Z, +01:00 or -05:00; hours are of one offset all year, summer time is not known",
                );
                0
            }),
        };
        let (spans, field, is_inside) = match (document.at.is_empty(), document.except.is_empty()) {
            (false, true) => (&document.at, "at", true),
            (true, false) => (&document.except, "except", false),
            (one, _) => {
                let what = if one { "neither at nor except" } else { "both at and except" };
                problems.error(place, format!("the hours of sku {sku} have {what}"), "state one of them");
                return WeekHours { days: [u32::MAX >> 8; 7] };
            }
        };
        let mut hours = WeekHours::default();
        for (index, span) in spans.iter().enumerate() {
            hours.add(span, offset, sku, &place.key(field).index(index), problems);
        }
        if !is_inside {
            hours.days.iter_mut().for_each(|day| *day = !*day & (u32::MAX >> 8));
        }
        if hours.days == [0; 7] && !problems.has_errors() {
            problems.error(place, format!("the hours of sku {sku} are none of the week"), "leave some of them");
        }
        hours
    }

    fn add(&mut self, span: &WeekSpanDocument, offset: i32, sku: &str, place: &Place, problems: &mut Problems) {
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
                let hour = (*day as i32 * 24 + hour - offset).rem_euclid(WEEK);
                self.days[(hour / 24) as usize] |= 1 << (hour % 24);
            }
        }
    }

    /// Whether some hour is in both.
    pub fn meets(&self, other: &WeekHours) -> bool {
        self.days.iter().zip(&other.days).any(|(own, other)| own & other != 0)
    }

    /// Whether an hour of a cycle, from 0, is among them.
    pub fn contains(&self, hour: u32, first_day: u32) -> bool {
        let day = (first_day + hour / 24) % 7;
        self.days[day as usize] >> (hour % 24) & 1 != 0
    }
}

/// The weekday on which a cycle begins, from Monday.
pub fn first_day(cycle: CycleId) -> u32 {
    u32::from(cycle.start().date().weekday().to_monday_zero_offset().unsigned_abs())
}

/// Reads `Z` or `+01:00`: hours to the east of UTC.
fn offset(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let digits = text.strip_suffix(":00").filter(|digits| digits.len() == 3)?;
    let sign = match digits.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = digits.get(1..).filter(|hours| hours.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(sign * hours.parse::<i32>().ok()?).filter(|offset| OFFSETS.contains(offset))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile(document: Value) -> (WeekHours, Vec<String>) {
        let mut problems = Problems::default();
        let document = serde_json::from_value(document).unwrap();
        let hours = WeekHours::compile(&document, "peak", &Place::top().key("hours"), &mut problems);
        (hours, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn offsets_are_whole_hours() {
        fn check(text: &str, expected: Option<i32>) {
            assert_eq!(offset(text), expected, "{text}");
        }
        check("Z", Some(0));
        check("+01:00", Some(1));
        check("-12:00", Some(-12));
        check("+14:00", Some(14));
        check("+15:00", None);
        check("+05:30", None);
        check("01:00", None);
        check("+1:00", None);
        check("+é:00", None);
        check("Europe/Berlin", None);
    }

    #[test]
    fn hours_are_of_the_zones_week() {
        fn check(document: Value, hour: u32, expected: bool) {
            let (hours, problems) = compile(document.clone());
            assert!(problems.is_empty(), "{problems:?}");
            // September 2026 begins with a Tuesday.
            assert_eq!(hours.contains(hour, first_day("2026-09".parse().unwrap())), expected, "{document} {hour}");
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
        check(json!({"except": [{}]}), "hours: the hours of sku peak are none of the week; leave some");
    }
}
