//! Time zones as a catalogue lists them: what the clocks of a place are set to, from when on. Everything that a bill needs
//! to know of a zone is in the document, under its hash; where that comes from is a matter of whoever writes it.

use std::collections::BTreeMap;

use super::document_hours::ZoneDocument;
use super::limits::{ZONE_OFFSETS_MAX, ZONES_MAX};
use crate::base::id::check_name;
use crate::base::problem::{Place, Problems};
use crate::base::time::{CycleId, HOUR, Timestamp};

/// Offsets that are in use on earth, in hours.
const OFFSETS: std::ops::RangeInclusive<i32> = -12..=14;

/// The clocks of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Hours to the east of UTC from an instant on, oldest first; the first from ever on.
    pub offsets: Vec<(Timestamp, i32)>,
}

impl Clock {
    /// The same all year.
    pub fn steady(hours: i32) -> Clock {
        Clock { offsets: vec![(Timestamp(i64::MIN), hours)] }
    }
}

/// The zones of a catalogue by their ids.
pub type Zones = BTreeMap<String, Clock>;

/// Reads the field `zones`; problems are reported at `place`.
pub fn compile(documents: &[ZoneDocument], effective: CycleId, place: &Place, problems: &mut Problems) -> Zones {
    let mut zones = Zones::new();
    if documents.len() > ZONES_MAX {
        let message = format!("{} zones, at most {ZONES_MAX}", documents.len());
        problems.error(place, message, "list those that hours name");
    }
    for (index, document) in documents.iter().enumerate() {
        let (id, place) = (&document.id, place.index(index));
        if let Err(error) = check_name("zone", id) {
            problems.refuse(&place.key("id"), error);
        }
        if offset(id).is_some() {
            let message = format!("zone '{id}' is an offset, which needs no zone");
            problems.error(&place.key("id"), message, "give it a name");
        }
        let clock = clock(document, effective, &place.key("offsets"), problems);
        if zones.insert(id.clone(), clock).is_some() {
            problems.error(&place.key("id"), format!("zone {id} is listed twice"), "list each once");
        }
    }
    zones
}

fn clock(document: &ZoneDocument, effective: CycleId, place: &Place, problems: &mut Problems) -> Clock {
    let id = &document.id;
    let count = document.offsets.len();
    if count == 0 || count > ZONE_OFFSETS_MAX {
        let message = format!("zone {id} has {count} offsets");
        problems.error(place, message, format!("list 1 to {ZONE_OFFSETS_MAX}, oldest first"));
        return Clock::steady(0);
    }
    let mut offsets: Vec<(Timestamp, i32)> = Vec::with_capacity(count);
    for (index, own) in document.offsets.iter().enumerate() {
        let place = place.index(index);
        let from = own.from;
        if from.0 % HOUR != 0 {
            let message = format!("zone {id} changes its clocks at {from}, within an hour");
            problems.error(&place.key("from"), message, "meters keep whole hours; name an hour");
        }
        let starts = effective.start();
        if index == 0 && from > starts {
            let message = format!("zone {id} is known from {from} on, the catalogue begins at {starts}");
            problems.error(&place.key("from"), message, "list the offset that holds then");
        }
        let before = index.checked_sub(1).map(|before| document.offsets[before].from);
        if let Some(before) = before.filter(|before| *before >= from) {
            let message = format!("zone {id} changes its clocks at {from}, not after {before}");
            problems.error(&place.key("from"), message, "sort the offsets, oldest first");
        }
        let hours = offset(&own.offset).unwrap_or_else(|| {
            let message = format!("offset '{}' of zone {id} is none of whole hours from -12:00 to +14:00", own.offset);
            problems.error(&place.key("offset"), message, "write Z or +01:00; meters keep whole hours");
            0
        });
        offsets.push((if index == 0 { Timestamp(i64::MIN) } else { from }, hours));
    }
    Clock { offsets }
}

/// Reads `Z` or `+01:00`: hours to the east of UTC.
pub fn offset(text: &str) -> Option<i32> {
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
    fn zones_that_make_no_sense_are_refused() {
        fn check(zones: Value, expected: &[&str]) {
            let mut problems = Problems::default();
            let zones: Vec<ZoneDocument> = serde_json::from_value(zones).unwrap();
            compile(&zones, "2026-01".parse().unwrap(), &Place::top().key("zones"), &mut problems);
            let found: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{found:#?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
            }
        }
        let steady = json!([{"from": "2026-01-01", "offset": "+03:00"}]);
        check(json!([{"id": "Europe/Moscow", "offsets": steady}]), &[]);
        check(json!([{"id": "a", "offsets": []}]), &["zones[0].offsets: zone a has 0 offsets"]);
        check(json!([{"id": "+01:00", "offsets": steady}]), &["zones[0].id: zone '+01:00' is an offset"]);
        check(
            json!([{"id": "a", "offsets": steady}, {"id": "a", "offsets": steady}]),
            &["zones[1].id: zone a is listed twice"],
        );
        let wrong = json!([{"from": "2026-01-02", "offset": "+05:30"}, {"from": "2026-01-02", "offset": "Z"},
            {"from": "2026-03-02T01:30:00Z", "offset": "Z"}]);
        check(
            json!([{"id": "a", "offsets": wrong}]),
            &[
                "zones[0].offsets[0].from: zone a is known from 2026-01-02T00:00:00Z on",
                "zones[0].offsets[0].offset: offset '+05:30' of zone a is none of whole hours",
                "zones[0].offsets[1].from: zone a changes its clocks at 2026-01-02T00:00:00Z, not after",
                "zones[0].offsets[2].from: zone a changes its clocks at 2026-03-02T01:30:00Z, within an hour",
            ],
        );
    }
}
