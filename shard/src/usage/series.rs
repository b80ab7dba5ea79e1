//! Series: an account on a meter with its actual operation, region and attribute values, and its dense number within a
//! slot. Every string is kept once; what a series counted lives in [`super::counter`].

use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use std::hash::BuildHasher;

use super::chunks::Chunks;
use super::counter::Meta;
use super::segment::Definition;
use crate::base::id::AccountId;

/// Series of one slot: at 45 bytes each and a counter, 5 GiB; a slot with more is one hierarchy that no shard can serve.
pub const SERIES_PER_SLOT_MAX: usize = 1 << 26;
/// Series of one hierarchy: it must be folded within memory.
pub const SERIES_PER_ROOT_MAX: u32 = 1 << 25;
/// Members (accounts of hierarchies) of one slot.
pub const MEMBERS_PER_SLOT_MAX: usize = 1 << 24;
/// Sets of dimensions of one slot, shared by its accounts.
pub const THINGS_PER_SLOT_MAX: usize = 1 << 22;

/// What a record names besides its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dimensions {
    pub service: String,
    pub usage_type: String,
    /// May be empty.
    pub operation: String,
    /// May be empty.
    pub region: String,
    /// Strictly sorted by key.
    pub attributes: Vec<(String, String)>,
}

/// The full name of a series. Its dimensions are read as its own fields: `key.service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    pub account: AccountId,
    /// Shared by all accounts that use the same thing.
    pub dimensions: Arc<Dimensions>,
}

impl SeriesKey {
    /// A key from its names; attributes are sorted here.
    pub fn new(
        account: AccountId,
        service: impl Into<String>,
        usage_type: impl Into<String>,
        operation: impl Into<String>,
        region: impl Into<String>,
        mut attributes: Vec<(String, String)>,
    ) -> SeriesKey {
        attributes.sort();
        let (service, usage_type) = (service.into(), usage_type.into());
        let (operation, region) = (operation.into(), region.into());
        SeriesKey { account, dimensions: Arc::new(Dimensions { service, usage_type, operation, region, attributes }) }
    }
}

impl Deref for SeriesKey {
    type Target = Dimensions;
    fn deref(&self) -> &Dimensions {
        &self.dimensions
    }
}

/// Series of one account in one hierarchy: a hundred times what the largest have, and few enough that an attribute whose
/// values never repeat is found out before it costs others their room.
pub const SERIES_PER_ACCOUNT_MAX: u32 = 100_000;

/// In place of a number: the end of a chain.
pub const NONE: u32 = u32::MAX;

/// An account in one hierarchy of the slot. Members are never removed, so that numbers stay.
#[derive(Clone, Debug)]
pub struct Member {
    pub account: AccountId,
    pub root: u32,
    /// Newest series of the member, the start of a chain through [`Row::next`].
    pub newest: u32,
    /// The same account in another hierarchy of this slot.
    pub twin: u32,
    /// The member of the same root before this one.
    pub sibling: u32,
    /// How many series it has.
    pub series: u32,
    /// Each record's time must be compared with the membership.
    pub checked: bool,
}

/// One series: 12 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub member: u32,
    pub thing: u32,
    /// The member's series before this one.
    pub next: u32,
}

/// One set of dimensions on one meter.
#[derive(Clone, Debug)]
pub struct Thing {
    /// Catalogue and meter, numbers of the slot.
    pub catalogue: u16,
    pub meter: u16,
    /// Of the dimensions alone; the same in every slot.
    pub hash: u64,
    pub dimensions: Arc<Dimensions>,
}

/// The table of one slot: numbers to names.
#[derive(Debug, Default)]
pub struct SeriesTable {
    /// Drawn by the leader of the entry that made the table; 0 = no table yet.
    pub generation: u32,
    pub members: Chunks<Member>,
    pub rows: Chunks<Row>,
    pub things: Chunks<Thing>,
}

/// Names to numbers. Only ever looked up, never iterated, and rebuilt from the table rather than stored.
#[derive(Debug, Default)]
pub struct SeriesIndex {
    accounts: HashTable<u32>,
    rows: HashTable<u32>,
    things: HashTable<u32>,
}

/// A fixed seed: the same hash on every replica, so that id tables agree.
fn hasher() -> FixedState {
    FixedState::with_seed(0x7265_636b_6f6e_6572)
}

fn account_hash(account: &str) -> u64 {
    hasher().hash_one(account)
}

fn row_hash(member: u32, thing: u32) -> u64 {
    hasher().hash_one(u64::from(member) << 32 | u64::from(thing))
}

fn place_hash(catalogue: u16, hash: u64) -> u64 {
    hash.wrapping_add(u64::from(catalogue).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A stable hash of dimensions: it is kept in id tables, so it is xxh3 over length-prefixed names and never changes.
fn dimensions_hash(definition: &Definition<'_>) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    let mut put = |text: &str| {
        bytes.push(text.len() as u8);
        bytes.extend_from_slice(text.as_bytes());
    };
    for text in [definition.service, definition.usage_type, definition.operation, definition.region] {
        put(text);
    }
    for (key, value) in &definition.attributes {
        put(key);
        put(value);
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

fn is_same(dimensions: &Dimensions, definition: &Definition<'_>) -> bool {
    dimensions.service == definition.service
        && dimensions.usage_type == definition.usage_type
        && dimensions.operation == definition.operation
        && dimensions.region == definition.region
        && dimensions.attributes.len() == definition.attributes.len()
        && dimensions.attributes.iter().zip(&definition.attributes).all(|(own, other)| (&*own.0, &*own.1) == *other)
}

/// A limit of the table was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    pub what: &'static str,
    pub max: usize,
}

impl SeriesTable {
    /// The account's newest member; more are its twins.
    pub fn member_of(&self, index: &SeriesIndex, account: &str) -> Option<u32> {
        let found = index
            .accounts
            .find(account_hash(account), |number| self.members[*number as usize].account.as_str() == account);
        found.copied()
    }

    /// The account's member in one root.
    pub fn member_in(&self, index: &SeriesIndex, account: &str, root: u32) -> Option<u32> {
        let first = self.member_of(index, account);
        self.twins(first).find(|member| self.members[*member as usize].root == root)
    }

    /// A member and its twins.
    pub fn twins(&self, first: Option<u32>) -> impl Iterator<Item = u32> + '_ {
        let next = |member: &u32| Some(self.members[*member as usize].twin).filter(|twin| *twin != NONE);
        std::iter::successors(first, next)
    }

    /// Adds an account of a root that is not a member of it yet; whoever adds has looked at [`MEMBERS_PER_SLOT_MAX`].
    /// `newest` is the root's newest member so far, or [`NONE`]; it becomes this one.
    pub fn add_member(&mut self, index: &mut SeriesIndex, account: &AccountId, root: u32, newest: &mut u32) -> u32 {
        let number = self.members.len() as u32;
        let twin = self.member_of(index, account.as_str()).unwrap_or(NONE);
        self.members.push(Member {
            account: account.clone(),
            root,
            newest: NONE,
            twin,
            sibling: std::mem::replace(newest, number),
            series: 0,
            checked: false,
        });
        self.index_member(index, number);
        number
    }

    fn index_member(&self, index: &mut SeriesIndex, number: u32) {
        let member = &self.members[number as usize];
        let name = |number: &u32| self.members[*number as usize].account.as_str();
        let hash = account_hash(member.account.as_str());
        match index.accounts.find_mut(hash, |other| name(other) == member.account.as_str()) {
            Some(newest) => *newest = number,
            None => {
                index.accounts.insert_unique(hash, number, |number| account_hash(name(number)));
            }
        }
    }

    /// The thing with those dimensions under a catalogue.
    pub fn thing_of(&self, index: &SeriesIndex, catalogue: u16, definition: &Definition<'_>) -> Option<u32> {
        let hash = place_hash(catalogue, dimensions_hash(definition));
        let is_equal = |number: &u32| {
            let thing = &self.things[*number as usize];
            thing.catalogue == catalogue && is_same(&thing.dimensions, definition)
        };
        index.things.find(hash, is_equal).copied()
    }

    /// Adds dimensions that are not there yet.
    pub fn add_thing(
        &mut self,
        index: &mut SeriesIndex,
        catalogue: u16,
        meter: u16,
        definition: &Definition<'_>,
    ) -> Result<u32, TableFull> {
        if self.things.len() >= THINGS_PER_SLOT_MAX {
            return Err(TableFull { what: "sets of dimensions", max: THINGS_PER_SLOT_MAX });
        }
        let number = self.things.len() as u32;
        let dimensions = Arc::new(Dimensions {
            service: definition.service.to_owned(),
            usage_type: definition.usage_type.to_owned(),
            operation: definition.operation.to_owned(),
            region: definition.region.to_owned(),
            attributes: definition
                .attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        });
        self.things.push(Thing { catalogue, meter, hash: dimensions_hash(definition), dimensions });
        self.index_thing(index, number);
        Ok(number)
    }

    fn index_thing(&self, index: &mut SeriesIndex, number: u32) {
        let hash = |number: &u32| {
            let thing = &self.things[*number as usize];
            place_hash(thing.catalogue, thing.hash)
        };
        index.things.insert_unique(hash(&number), number, hash);
    }

    /// The number of a member's series.
    pub fn row_of(&self, index: &SeriesIndex, member: u32, thing: u32) -> Option<u32> {
        let is_equal = |number: &u32| {
            let row = &self.rows[*number as usize];
            (row.member, row.thing) == (member, thing)
        };
        index.rows.find(row_hash(member, thing), is_equal).copied()
    }

    /// Adds a series that is not there yet.
    pub fn add_row(&mut self, index: &mut SeriesIndex, member: u32, thing: u32) -> Result<u32, TableFull> {
        if self.rows.len() >= SERIES_PER_SLOT_MAX {
            return Err(TableFull { what: "series", max: SERIES_PER_SLOT_MAX });
        }
        let number = self.rows.len() as u32;
        let owner = &mut self.members[member as usize];
        owner.series += 1;
        self.rows.push(Row { member, thing, next: std::mem::replace(&mut owner.newest, number) });
        self.index_row(index, number);
        Ok(number)
    }

    fn index_row(&self, index: &mut SeriesIndex, number: u32) {
        let hash = |number: &u32| {
            let row = &self.rows[*number as usize];
            row_hash(row.member, row.thing)
        };
        index.rows.insert_unique(hash(&number), number, hash);
    }

    /// The look-ups of a table that a snapshot gave back.
    pub fn build_index(&self) -> SeriesIndex {
        let mut index = SeriesIndex::default();
        for number in 0..self.members.len() as u32 {
            self.index_member(&mut index, number);
        }
        for number in 0..self.things.len() as u32 {
            self.index_thing(&mut index, number);
        }
        for number in 0..self.rows.len() as u32 {
            self.index_row(&mut index, number);
        }
        index
    }

    /// A root's members, newest first.
    pub fn members_from(&self, newest: u32) -> impl Iterator<Item = u32> + '_ {
        let next = |member: &u32| Some(self.members[*member as usize].sibling).filter(|next| *next != NONE);
        std::iter::successors(Some(newest).filter(|member| *member != NONE), next)
    }

    /// A member's series, newest first.
    pub fn series_of(&self, member: u32) -> impl Iterator<Item = u32> + '_ {
        let newest = Some(self.members[member as usize].newest).filter(|number| *number != NONE);
        std::iter::successors(newest, |number| Some(self.rows[*number as usize].next).filter(|next| *next != NONE))
    }

    /// What a counter of the series must know.
    pub fn meta_of(&self, number: u32) -> Meta {
        let row = &self.rows[number as usize];
        let member = &self.members[row.member as usize];
        Meta::new(member.root, self.things[row.thing as usize].meter, member.checked)
    }

    /// The full name of a series.
    pub fn key_of(&self, number: u32) -> SeriesKey {
        let row = &self.rows[number as usize];
        let account = self.members[row.member as usize].account.clone();
        SeriesKey { account, dimensions: self.things[row.thing as usize].dimensions.clone() }
    }

    /// A hash of the full name, the same whatever its number.
    pub fn key_hash(&self, number: u32) -> u64 {
        let row = &self.rows[number as usize];
        let account = self.members[row.member as usize].account.as_str();
        xxhash_rust::xxh3::xxh3_64_with_seed(account.as_bytes(), self.things[row.thing as usize].hash)
    }

    /// A twin that stays as it is now.
    pub fn freeze(&mut self) -> SeriesTable {
        SeriesTable {
            generation: self.generation,
            members: self.members.freeze(),
            rows: self.rows.freeze(),
            things: self.things.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition<'a>(service: &'a str, attributes: &[(&'a str, &'a str)]) -> Definition<'a> {
        let attributes = attributes.to_vec();
        Definition { scale: 0, account: "", service, usage_type: "u", operation: "", region: "", attributes }
    }

    #[test]
    fn names_have_one_number_each_and_twins_are_found() {
        let (mut table, mut index) = (SeriesTable::default(), SeriesIndex::default());
        let a = AccountId::new("a").unwrap();
        let in_first = table.add_member(&mut index, &a, 0, &mut { NONE });
        let in_second = table.add_member(&mut index, &a, 1, &mut { NONE });
        let plain = table.add_thing(&mut index, 0, 3, &definition("s", &[])).unwrap();
        let tagged = table.add_thing(&mut index, 0, 4, &definition("s", &[("k", "v")])).unwrap();
        let numbers = [(in_first, plain), (in_first, tagged), (in_second, plain)]
            .map(|(member, thing)| table.add_row(&mut index, member, thing).unwrap());
        assert_eq!(numbers, [0, 1, 2]);
        for index in [&index, &table.build_index()] {
            assert_eq!(table.member_in(index, "a", 0), Some(in_first));
            assert_eq!(table.member_in(index, "a", 1), Some(in_second));
            assert_eq!(table.member_in(index, "a", 2), None);
            assert_eq!(table.member_of(index, "b"), None);
            assert_eq!(table.thing_of(index, 0, &definition("s", &[("k", "v")])), Some(tagged));
            assert_eq!(table.thing_of(index, 1, &definition("s", &[])), None);
            assert_eq!(table.row_of(index, in_second, plain), Some(2));
            assert_eq!(table.row_of(index, in_second, tagged), None);
        }
        assert_eq!(table.series_of(in_first).collect::<Vec<_>>(), [1, 0]);
        assert_eq!((table.meta_of(1).meter(), table.meta_of(2).root()), (4, 1));
        assert_eq!(table.key_of(1).attributes, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(table.key_hash(0), table.key_hash(2));
        assert_ne!(table.key_hash(0), table.key_hash(1));
    }
}
