//! Records recognised by id, and strays by number, within a stated room: by hour of usage time, whole hours forgotten
//! oldest first (ARCHITECTURE.md).

use std::collections::BTreeMap;

use super::record::Row;

const HOUR: i64 = 3_600_000_000_000;

/// What a record is known by: slot, producer, and its id or its number.
pub type Name = (u16, String, String);

/// All ids of a shard.
#[derive(Clone, Debug)]
pub struct Ids {
    /// How many are kept.
    pub room: usize,
    seen: BTreeMap<Name, Row>,
    /// Usage before this hour is too old to be told apart from a repeat.
    oldest: i64,
}

pub fn hour_of(start: i64) -> i64 {
    start.div_euclid(HOUR)
}

impl Ids {
    pub fn new(room: usize) -> Ids {
        Ids { room, seen: BTreeMap::new(), oldest: i64::MIN }
    }

    fn of_hour(&self, hour: i64) -> usize {
        self.seen.values().filter(|row| hour_of(row.start) == hour).count()
    }

    /// Whether records could be kept if all hours but the newest were forgotten.
    pub fn have_room_for<'a>(&self, rows: impl Iterator<Item = &'a Row> + Clone) -> bool {
        let hours = || rows.clone().map(|row| hour_of(row.start));
        let newest = self.seen.values().map(|row| hour_of(row.start)).chain(hours()).max();
        newest.is_none_or(|newest| self.of_hour(newest) + hours().filter(|hour| *hour == newest).count() <= self.room)
    }

    pub fn is_too_old(&self, row: &Row) -> bool {
        hour_of(row.start) < self.oldest
    }

    pub fn get(&self, name: &Name) -> Option<&Row> {
        self.seen.get(name)
    }

    pub fn remember(&mut self, name: Name, row: Row) {
        self.seen.insert(name, row);
    }

    /// Forgets whole hours, the oldest first, until the rest has room.
    pub fn trim(&mut self) {
        while self.seen.len() > self.room {
            let oldest = self.seen.values().map(|row| hour_of(row.start)).min().expect("more than none");
            self.seen.retain(|_, row| hour_of(row.start) != oldest);
            self.oldest = oldest + 1;
        }
    }
}
