//! Recognising records by id: (producer, id) with a hash of the body, in tables by hour of usage time within a stated
//! memory. Strays of sequenced producers are recognised here too, their number standing for the id.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use super::chunks::Chunks;
use crate::base::time::{HOUR, Timestamp};

/// What one remembered id costs: 24 bytes of entry, and 17 in the look-up at half to seven eighths of its load. An id is looked for in
/// all hours at once, so that the same id with another time is seen to be reused.
pub const ID_BYTES: u64 = 56;

/// A remembered record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdEntry {
    /// 128-bit hash of producer and id, in halves: 24 bytes an entry rather than 32.
    pub key: [u64; 2],
    /// Hash of the body, time included.
    pub body: u64,
}

/// The ids of one slot by hour of usage time.
#[derive(Debug, Default)]
pub struct Ids {
    /// Entries in order of arrival: the same on every replica.
    pub hours: BTreeMap<i64, Chunks<IdEntry>>,
}

/// Where an id lies. Only ever looked up, never iterated, and rebuilt rather than stored.
#[derive(Debug, Default)]
pub struct IdIndex {
    places: HashTable<Place>,
}

/// Hour and position of an entry; hours of any time fit 32 bits. Half of the key is here too, so that neither looking for
/// a new id nor growing the table reads any entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    key: u64,
    hour: i32,
    at: u32,
}

/// Whether an id was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    New,
    /// With the same body.
    Same,
    /// With another body.
    Other,
}

/// The hour of usage time, counted from 1970.
pub fn hour_of(start: Timestamp) -> i64 {
    start.0.div_euclid(HOUR)
}

/// The key of a record by id.
pub fn key_of_id(producer: &str, id: &[u8]) -> [u64; 2] {
    key(producer, 0, id)
}

/// The key of a stray.
pub fn key_of_number(producer: &str, number: u64) -> [u64; 2] {
    key(producer, 1, &number.to_le_bytes())
}

fn key(producer: &str, kind: u8, id: &[u8]) -> [u64; 2] {
    // Producers have at most 128 bytes and ids too, so both fit beside their lengths.
    let mut bytes = [0; 260];
    let (name, length) = (producer.as_bytes(), producer.len());
    (bytes[0], bytes[1]) = (kind, length as u8);
    bytes[2..2 + length].copy_from_slice(name);
    bytes[2 + length..2 + length + id.len()].copy_from_slice(id);
    let hash = xxhash_rust::xxh3::xxh3_128(&bytes[..2 + length + id.len()]);
    [hash as u64, (hash >> 64) as u64]
}

impl Ids {
    fn entry(&self, place: &Place) -> &IdEntry {
        &self.hours[&i64::from(place.hour)][place.at as usize]
    }

    /// Whether the id was seen, in any hour that is kept.
    pub fn find(&self, index: &IdIndex, entry: &IdEntry) -> Known {
        let is_equal = |place: &Place| place.key == entry.key[0] && self.entry(place).key == entry.key;
        match index.places.find(entry.key[0], is_equal) {
            None => Known::New,
            Some(place) if self.entry(place).body == entry.body => Known::Same,
            Some(_) => Known::Other,
        }
    }

    /// Reads where an id would lie, so that its memory is on its way before it is looked for.
    pub fn touch(&self, index: &IdIndex, key: [u64; 2]) {
        std::hint::black_box(index.places.find(key[0], |place| place.key == key[0]).is_some());
    }

    /// Remembers an id that is new.
    pub fn insert(&mut self, index: &mut IdIndex, hour: i64, entry: IdEntry) {
        let entries = self.hours.entry(hour).or_default();
        let place = Place { key: entry.key[0], hour: hour as i32, at: entries.len() as u32 };
        entries.push(entry);
        index.places.insert_unique(place.key, place, |place| place.key);
    }

    /// Forgets one hour; answers how many ids it had.
    pub fn drop_hour(&mut self, index: &mut IdIndex, hour: i64) -> u64 {
        let Some(entries) = self.hours.remove(&hour) else {
            return 0;
        };
        for at in 0..entries.len() as u32 {
            let place = Place { key: entries[at as usize].key[0], hour: hour as i32, at };
            if let Ok(found) = index.places.find_entry(place.key, |other| *other == place) {
                found.remove();
            }
        }
        entries.len() as u64
    }

    /// The look-ups of tables that a snapshot gave back.
    pub fn build_index(&self) -> IdIndex {
        let mut index = IdIndex::default();
        for (hour, entries) in &self.hours {
            for at in 0..entries.len() as u32 {
                let place = Place { key: entries[at as usize].key[0], hour: *hour as i32, at };
                index.places.insert_unique(place.key, place, |place| place.key);
            }
        }
        index
    }

    /// A twin that stays as it is now.
    pub fn freeze(&mut self) -> Ids {
        Ids { hours: self.hours.iter_mut().map(|(hour, entries)| (*hour, entries.freeze())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_by_producer_hour_and_body() {
        let (mut ids, mut index) = (Ids::default(), IdIndex::default());
        let entry = |producer: &str, id: &[u8], body| IdEntry { key: key_of_id(producer, id), body };
        ids.insert(&mut index, 7, entry("p", b"r-1", 1));
        for index in [&index, &ids.build_index()] {
            assert_eq!(ids.find(index, &entry("p", b"r-1", 1)), Known::Same);
            assert_eq!(ids.find(index, &entry("p", b"r-1", 2)), Known::Other);
            assert_eq!(ids.find(index, &entry("p", b"r-2", 1)), Known::New);
            assert_eq!(ids.find(index, &entry("pr", b"-1", 1)), Known::New);
        }
        let number = IdEntry { key: key_of_number("p", u64::from_le_bytes(*b"12345678")), body: 1 };
        assert_ne!(number.key, key_of_id("p", b"12345678"));
        assert_eq!((ids.drop_hour(&mut index, 7), ids.drop_hour(&mut index, 7)), (1, 0));
        assert_eq!(ids.find(&index, &entry("p", b"r-1", 1)), Known::New);
    }
}
