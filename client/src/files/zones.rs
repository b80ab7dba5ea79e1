//! The rules of time zones, written into a catalogue when its file is read: for each IANA zone that named hours are of and
//! that the file does not list, what its clocks are set to in the next decades. What is sent, stored and priced by then
//! holds the rules itself; no node looks a zone up, so that nodes with other tables cannot tell another time. Where the
//! table here has changed since, `diff` shows it.

use jiff::Timestamp as Instant;
use jiff::tz::{Offset, TimeZoneDatabase};
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::pricing::document_hours::{ZoneDocument, ZoneOffsetDocument};
use reckoner_shard::pricing::zones::offset;

/// How far ahead of a catalogue's first cycle a zone is written down: no version of a catalogue lasts longer.
const YEARS_LISTED: i16 = 30;

/// Lists the zones that hours name and the document does not, as the table of this program has them. Those that it does
/// not have, or that are not of whole hours, stay away: what then is wrong with the document is said by its own checks.
pub fn list_zones(document: &mut CatalogueDocument) {
    let table = TimeZoneDatabase::bundled();
    let named = document.skus.iter().filter_map(|sku| sku.matches.hours.as_ref()?.zone.as_deref());
    let mut named: Vec<&str> = named.filter(|name| offset(name).is_none()).collect();
    named.sort_unstable();
    named.dedup();
    let missing = named.into_iter().filter(|name| document.zones.iter().all(|zone| zone.id != *name));
    let found: Vec<ZoneDocument> = missing.filter_map(|name| zone(&table, name, document.effective.start())).collect();
    document.zones.extend(found);
}

/// A zone from an instant on; `None` where it is not known or not of whole hours.
fn zone(table: &TimeZoneDatabase, name: &str, start: Timestamp) -> Option<ZoneDocument> {
    let zone = table.get(name).ok()?;
    let first = Instant::from_nanosecond(i128::from(start.0)).ok()?;
    let last = start.date().year() + YEARS_LISTED;
    let mut offsets = vec![ZoneOffsetDocument { from: start, offset: whole_hours(zone.to_offset(first))? }];
    for change in zone.following(first) {
        let from = Timestamp(i64::try_from(change.timestamp().as_nanosecond()).ok()?);
        if from.date().year() >= last {
            break;
        }
        let offset = whole_hours(change.offset())?;
        // Some changes are of the name alone.
        if offsets.last().is_none_or(|before| before.offset != offset) {
            offsets.push(ZoneOffsetDocument { from, offset });
        }
    }
    Some(ZoneDocument { id: name.to_owned(), offsets })
}

fn whole_hours(offset: Offset) -> Option<String> {
    let (hours, rest) = (offset.seconds() / 3_600, offset.seconds() % 3_600);
    let sign = if hours < 0 { '-' } else { '+' };
    (rest == 0).then(|| format!("{sign}{:02}:00", hours.abs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(names: &[&str], zones: serde_json::Value) -> Vec<ZoneDocument> {
        let sku = |name: &&str| {
            json!({"id": name, "match": {"region": name, "hours": {"zone": name, "at": [{"from": 8, "to": 20}]}},
                "unit": "u", "rate": "1"})
        };
        let mut document: CatalogueDocument = serde_json::from_value(json!({
            "kind": "Catalogue", "name": "c", "currency": "USD", "effective": "2026-09", "zones": zones,
            "meters": [{"id": "m", "service": "s", "usage_type": "m", "bucket": "hour"}],
            "skus": names.iter().map(sku).collect::<Vec<_>>(),
        }))
        .unwrap();
        list_zones(&mut document);
        let again = document.clone();
        list_zones(&mut document);
        assert_eq!(document, again, "what is listed is not listed again");
        document.zones
    }

    #[test]
    fn summer_time_is_written_down() {
        let zones = listed(&["Europe/Berlin", "Z", "+01:00", "Europe/Berlin"], json!([]));
        assert_eq!((zones.len(), zones[0].id.as_str()), (1, "Europe/Berlin"));
        let shown = |own: &ZoneOffsetDocument| format!("{} {}", own.from, own.offset);
        let shown: Vec<String> = zones[0].offsets.iter().map(shown).collect();
        // The European Union's rule: the last Sundays of March and October, 01:00 UTC.
        assert_eq!(
            shown[..4],
            [
                "2026-09-01T00:00:00Z +02:00",
                "2026-10-25T01:00:00Z +01:00",
                "2027-03-28T01:00:00Z +02:00",
                "2027-10-31T01:00:00Z +01:00",
            ]
        );
        // 2026 has one change left, the 29 years after it two each.
        assert_eq!((shown.len(), shown.last().unwrap().as_str()), (60, "2055-10-31T01:00:00Z +01:00"));
    }

    #[test]
    fn what_a_file_lists_stays_and_what_is_not_known_stays_away() {
        fn check(names: &[&str], zones: serde_json::Value, expected: &[(&str, usize)]) {
            let found = listed(names, zones);
            let found: Vec<(&str, usize)> = found.iter().map(|zone| (zone.id.as_str(), zone.offsets.len())).collect();
            assert_eq!(found, expected);
        }
        let own = json!([{"id": "Europe/Berlin", "offsets": [{"from": "2026-01-01", "offset": "+01:00"}]}]);
        check(&["Europe/Berlin"], own, &[("Europe/Berlin", 1)]);
        check(&["Asia/Tokyo"], json!([]), &[("Asia/Tokyo", 1)]);
        check(&["Asia/Kolkata", "Australia/Lord_Howe", "Europe/Nowhere"], json!([]), &[]);
    }
}
