//! What counters keep beside a sum, for meters that need their records' times or values: the latest quantity, the values
//! that came, a level over time. One entry an instant or value, the same whatever the order of arrival, in a side table
//! that only such meters touch. What is made of them in a fold is here too; prices are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use ethnum::I256;

use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{DAY, Period};

/// Entries of one slot: at about 100 bytes each, 800 MiB; a slot with more wants fewer such meters.
pub const KEPT_MAX: usize = 8_000_000;
/// Records of one series and instant where each is kept: a list of that length is moved to let one in.
pub const AT_ONCE_MAX: usize = 4_096;
/// Records that one pool may have where a price looks at each: they are sorted in a fold.
pub const RECORDS_MAX: usize = 1_000_000;
/// Different values that one pool may have where they are counted: its union is built in a fold.
pub const UNIQUE_MAX: usize = 1_000_000;

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptKey {
    /// Of the series.
    pub number: u32,
    /// Ordinal of the cycle.
    pub cycle: u32,
    /// What there is one entry of: the instant of a level in nanoseconds, the value that came, 0 for the latest record.
    pub at: i128,
}

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The quantity, the sum of the changes, or by how many records the value came more often than it was taken back.
    pub value: i128,
    /// When the record ended, of the latest.
    pub end: i64,
    /// Of the record that gave the value, where only one does.
    pub id: Box<[u8]>,
    /// Where every record is kept: more of the same instant, sorted; the first is in `id` and `value`.
    pub more: Vec<(Box<[u8]>, i128)>,
}

impl Kept {
    /// Joins another entry; the later one is that by end, then id, then value.
    pub fn join(&mut self, other: Kept, join: Join) {
        match join {
            // Entries are few and bounded, so that the sum fits.
            Join::Add => self.value = self.value.saturating_add(other.value),
            Join::Latest if (other.end, &other.id, other.value) > (self.end, &self.id, self.value) => *self = other,
            Join::Latest => {}
            Join::Collect => {
                for mut next in std::iter::once((other.id, other.value)).chain(other.more) {
                    if (&next.0, next.1) < (&self.id, self.value) {
                        std::mem::swap(&mut next.0, &mut self.id);
                        std::mem::swap(&mut next.1, &mut self.value);
                    }
                    let place = self.more.partition_point(|known| *known < next);
                    self.more.insert(place, next);
                }
            }
        }
    }

    /// How many records are in it.
    fn len(&self) -> usize {
        1 + self.more.len()
    }
}

/// How an entry joins one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    Add,
    Latest,
    /// Every record stays.
    Collect,
}

type Group = Arc<BTreeMap<KeptKey, Kept>>;

/// An ordered table of entries, grouped so that a write beside a frozen twin copies a part of few series.
#[derive(Clone, Debug, Default)]
pub struct KeptTable {
    groups: BTreeMap<(u32, u8), Group>,
    len: usize,
}

/// Series of a group; those of one number are spread over as many groups as this by what they are of.
const SERIES: u32 = 64;
const SPREAD: i128 = 61;

fn group_of(key: &KeptKey) -> (u32, u8) {
    (key.number / SERIES, key.at.rem_euclid(SPREAD) as u8)
}

impl KeptTable {
    /// Whether an entry of the key would be one more than may be; LIMIT_REACHED then.
    pub fn check_room(&self, key: &KeptKey, join: Join) -> Result<(), Refusal> {
        let known = if join == Join::Collect { self.get(key).map_or(0, Kept::len) } else { 0 };
        if known >= AT_ONCE_MAX {
            let detail = format!(
                "{known} records of this series and instant are kept, at most {AT_ONCE_MAX} are; give them times of their own"
            );
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        if self.len >= KEPT_MAX && (join == Join::Collect || self.get(key).is_none()) {
            let detail = format!(
                "the slot keeps {KEPT_MAX} times and values of such meters, which is all it may; use fewer of them"
            );
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        Ok(())
    }

    pub fn get(&self, key: &KeptKey) -> Option<&Kept> {
        self.groups.get(&group_of(key)).and_then(|group| group.get(key))
    }

    /// Joins an entry with what is there. An entry of nothing stays, so that what is there never depends on the order.
    pub fn put(&mut self, key: KeptKey, kept: Kept, join: Join) {
        let group = Arc::make_mut(self.groups.entry(group_of(&key)).or_default());
        match group.entry(key) {
            std::collections::btree_map::Entry::Vacant(place) => {
                self.len += kept.len();
                place.insert(kept);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                self.len += if join == Join::Collect { kept.len() } else { 0 };
                place.get_mut().join(kept, join);
            }
        }
    }

    /// The entries of one series from one cycle to another, both included, in order of cycle, then of what they are of.
    pub fn of(&self, number: u32, first: u32, last: u32) -> Vec<(KeptKey, Kept)> {
        let from = KeptKey { number, cycle: first, at: i128::MIN };
        let until = KeptKey { number, cycle: last, at: i128::MAX };
        let groups = self.groups.range((number / SERIES, 0)..=(number / SERIES, u8::MAX));
        let mut entries: Vec<(KeptKey, Kept)> =
            groups.flat_map(|(_, group)| group.range(from..=until)).map(|(key, kept)| (*key, kept.clone())).collect();
        entries.sort_by_key(|(key, _)| *key);
        entries
    }

    /// Forgets the entries of one series in one cycle.
    pub fn forget(&mut self, number: u32, cycle: u32) {
        for (key, _) in self.of(number, cycle, cycle) {
            let place = group_of(&key);
            let group = Arc::make_mut(self.groups.entry(place).or_default());
            self.len -= group.remove(&key).map_or(0, |kept| kept.len());
            if group.is_empty() {
                self.groups.remove(&place);
            }
        }
    }

    /// All entries, in an order that follows from them alone.
    pub fn iter(&self) -> impl Iterator<Item = (&KeptKey, &Kept)> {
        self.groups.values().flat_map(|group| group.iter())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// An entry as a fold reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: i128,
    pub value: i128,
    /// Of the record, where every one is kept.
    pub id: Box<[u8]>,
}

impl Entry {
    /// An entry of no single record.
    pub fn new(at: i128, value: i128) -> Entry {
        Entry { at, value, id: Box::default() }
    }

    /// What is kept at an instant, or of a value.
    pub fn all_of(at: i128, kept: Kept, join: Join) -> impl Iterator<Item = Entry> {
        let id = if join == Join::Collect { kept.id } else { Box::default() };
        let first = Entry { at, value: kept.value, id };
        std::iter::once(first).chain(kept.more.into_iter().map(move |(id, value)| Entry { at, value, id }))
    }
}

/// Entries of several cycles as one list, in order of what they are of.
pub fn joined(entries: impl IntoIterator<Item = (KeptKey, Kept)>, join: Join) -> BTreeMap<i128, Kept> {
    let mut all: BTreeMap<i128, Kept> = BTreeMap::new();
    for (key, kept) in entries {
        match all.entry(key.at) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(kept);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => place.get_mut().join(kept, join),
        }
    }
    all
}

/// Joined entries as a fold reads them.
pub fn entries_of(joined: BTreeMap<i128, Kept>, join: Join) -> Vec<Entry> {
    joined.into_iter().flat_map(|(at, kept)| Entry::all_of(at, kept, join)).collect()
}

/// The values that count: those that came more often than they were taken back.
pub fn values(entries: &[Entry]) -> impl Iterator<Item = i128> + '_ {
    entries.iter().filter(|entry| entry.value > 0).map(|entry| entry.at)
}

/// Why a level has no integral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLevel {
    BelowZero,
    TooLarge,
}

/// How a level's entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leveling {
    /// Entries are added to the level, rather than set it.
    pub changes: bool,
    /// A change counts from the beginning of its day.
    pub by_day: bool,
    /// The highest level that can be integrated.
    pub max: i128,
}

/// The integral of a level over a period, in the meter's steps times nanoseconds. Entries come in order of time; those
/// before the period make the level that it begins with.
pub fn integral(entries: &[Entry], period: &Period, leveling: &Leveling) -> Result<i128, NoLevel> {
    let (from, until) = (i128::from(period.from.0), i128::from(period.until.0));
    let (mut level, mut since, mut sum) = (0i128, from, I256::ZERO);
    let is_good = |level: i128| match level {
        ..0 => Err(NoLevel::BelowZero),
        level if level > leveling.max => Err(NoLevel::TooLarge),
        _ => Ok(()),
    };
    let mut has_begun = false;
    for entry in entries.iter().take_while(|entry| entry.at < until) {
        let at = match leveling.by_day {
            true => entry.at.div_euclid(i128::from(DAY)) * i128::from(DAY),
            false => entry.at,
        };
        let at = at.max(from);
        // What a change of the first instant lifts was below zero at no time of the period.
        if entry.at >= from && !std::mem::replace(&mut has_begun, true) && entry.at > from {
            is_good(level)?;
        }
        sum += I256::from(level) * I256::from(at - since);
        since = at;
        level = if leveling.changes { level.saturating_add(entry.value) } else { entry.value };
        if has_begun {
            is_good(level)?;
        }
    }
    is_good(level)?;
    sum += I256::from(level) * I256::from(until - since);
    i128::try_from(sum).map_err(|_| NoLevel::TooLarge)
}

/// The same as steps: each level with the instant from which on it lasts, the first at the period's beginning. What did not
/// last is left out.
pub fn levels(entries: &[Entry], period: &Period, leveling: &Leveling) -> Vec<(i128, i128)> {
    let (from, until) = (i128::from(period.from.0), i128::from(period.until.0));
    let mut levels = vec![(from, 0i128)];
    let mut level = 0i128;
    for entry in entries.iter().take_while(|entry| entry.at < until) {
        let at = match leveling.by_day {
            true => entry.at.div_euclid(i128::from(DAY)) * i128::from(DAY),
            false => entry.at,
        };
        let at = at.max(from);
        level = if leveling.changes { level.saturating_add(entry.value) } else { entry.value };
        match levels.last_mut().filter(|(last, _)| *last == at) {
            Some((_, last)) => *last = level,
            None => levels.push((at, level)),
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use proptest::prelude::*;

    fn entries(rows: &[(i128, i128)]) -> Vec<Entry> {
        rows.iter().map(|(at, value)| Entry::new(*at, *value)).collect()
    }

    #[test]
    fn a_level_is_integrated_over_its_period() {
        fn check(changes: bool, rows: &[(i128, i128)], expected: Result<i128, NoLevel>) {
            let period = Period { from: Timestamp(100), until: Timestamp(200) };
            let leveling = Leveling { changes, by_day: false, max: 1_000 };
            assert_eq!(integral(&entries(rows), &period, &leveling), expected, "{changes} {rows:?}");
            // Where there is an integral it is that of the steps.
            let steps = levels(&entries(rows), &period, &leveling);
            let untils = steps.iter().skip(1).map(|(at, _)| *at).chain(std::iter::once(200));
            let sum: i128 = steps.iter().zip(untils).map(|((at, level), until)| level * (until - at)).sum();
            assert!(expected.is_err() || Ok(sum) == expected, "{steps:?}");
        }
        check(false, &[], Ok(0));
        check(false, &[(50, 7)], Ok(700));
        check(false, &[(50, 7), (150, 9)], Ok(7 * 50 + 9 * 50));
        check(false, &[(120, 5), (160, 0), (250, 9)], Ok(5 * 40));
        check(true, &[(120, 5), (160, -2), (180, 10)], Ok(5 * 40 + 3 * 20 + 13 * 20));
        check(true, &[(20, 5), (30, -2), (180, 1)], Ok(3 * 80 + 4 * 20));
        // Below zero before the period is the former one's matter; at its beginning and within it is not.
        check(true, &[(20, -5), (30, 8)], Ok(300));
        check(true, &[(20, -5), (150, 8)], Err(NoLevel::BelowZero));
        check(true, &[(20, -5), (100, 8)], Ok(300));
        check(true, &[(20, -5), (101, 8)], Err(NoLevel::BelowZero));
        check(true, &[(20, 5), (100, -8)], Err(NoLevel::BelowZero));
        check(true, &[(120, 5), (130, -6), (140, 6)], Err(NoLevel::BelowZero));
        check(true, &[(120, 1_000), (130, 1)], Err(NoLevel::TooLarge));
    }

    #[test]
    fn a_day_counts_with_the_level_at_its_end() {
        let period = Period { from: Timestamp(0), until: Timestamp(3 * DAY) };
        let leveling = Leveling { changes: false, by_day: true, max: 1_000 };
        let day = i128::from(DAY);
        let rows = entries(&[(day + 5, 7), (day + 9, 2), (2 * day + 1, 4)]);
        assert_eq!(integral(&rows, &period, &leveling), Ok(2 * day + 4 * day));
    }

    #[test]
    fn entries_are_joined_and_forgotten() {
        let key = |number, cycle, at| KeptKey { number, cycle, at };
        let kept = |value, end, id: &str| Kept { value, end, id: id.as_bytes().into(), more: Vec::new() };
        let mut table = KeptTable::default();
        table.put(key(1, 2, 0), kept(5, 10, "a"), Join::Latest);
        table.put(key(1, 2, 0), kept(4, 10, "b"), Join::Latest);
        table.put(key(1, 2, 0), kept(9, 9, "z"), Join::Latest);
        table.put(key(1, 3, 7), kept(1, 0, ""), Join::Add);
        table.put(key(1, 3, 7), kept(-1, 0, ""), Join::Add);
        table.put(key(65, 2, -3), kept(1, 0, ""), Join::Add);
        assert_eq!(table.of(1, 2, 2), [(key(1, 2, 0), kept(4, 10, "b"))]);
        assert_eq!(entries_of(joined(table.of(1, 0, 9), Join::Add), Join::Add), entries(&[(0, 4), (7, 0)]));
        assert_eq!(values(&entries_of(joined(table.of(1, 3, 3), Join::Add), Join::Add)).count(), 0);
        table.forget(1, 2);
        assert_eq!((table.len(), table.iter().count(), table.of(1, 0, 9).len()), (2, 2, 1));
    }

    proptest! {
        /// The same entries in any order make the same table.
        #[test]
        fn arrival_does_not_matter(
            rows in prop::collection::vec((0u32..3, 0i128..4, -3i128..4, 0i64..3, 0u8..3), 1..40),
            seed in any::<u64>(), join in prop::sample::select(vec![Join::Add, Join::Latest, Join::Collect]),
        ) {
            let fill = |rows: &[(u32, i128, i128, i64, u8)]| {
                let mut table = KeptTable::default();
                for (number, at, value, end, id) in rows {
                    let (end, id) = match join {
                        Join::Add => (0, Box::default()),
                        Join::Latest => (*end, [*id].into()),
                        Join::Collect => (0, [*id].into()),
                    };
                    let kept = Kept { value: *value, end, id, more: Vec::new() };
                    table.put(KeptKey { number: *number, cycle: 1, at: *at }, kept, join);
                }
                (table.len(), table.iter().map(|(key, kept)| (*key, kept.clone())).collect::<Vec<_>>())
            };
            let mut other = rows.clone();
            let length = other.len();
            for index in 0..length {
                other.swap(index, (seed as usize).wrapping_mul(index + 7) % length);
            }
            prop_assert_eq!(fill(&rows), fill(&other));
        }
    }
}
