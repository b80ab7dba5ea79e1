//! The state as protobuf messages: what snapshots and archives hold. Fields are only ever added. What they mean is said at
//! the domain types; the way between both lives in [`super::snapshot`] and its neighbours.

use prost::Message;

use super::wire::{Bill, Cause, FileProgress, Genesis, Inputs, Period, Posting, PutDirectory, Refusal};
use super::wire_moves::{ActivateCatalogue, MovedSlot, Transfer};

/// The counters of one cycle of one hierarchy.
#[derive(Clone, PartialEq, Message)]
pub struct Archive {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(string, tag = "2")]
    pub root: String,
    #[prost(uint32, tag = "3")]
    pub cycle: u32,
    #[prost(message, repeated, tag = "4")]
    pub series: Vec<ArchivedSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ArchivedSeries {
    #[prost(string, tag = "1")]
    pub account: String,
    #[prost(message, optional, tag = "2")]
    pub dimensions: Option<Dimensions>,
    #[prost(string, tag = "3")]
    pub meter: String,
    #[prost(message, repeated, tag = "4")]
    pub lots: Vec<Lot>,
    /// Without number and cycle, in order.
    #[prost(message, repeated, tag = "5")]
    pub kept: Vec<Kept>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimensions {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub usage_type: String,
    #[prost(string, tag = "3")]
    pub operation: String,
    #[prost(string, tag = "4")]
    pub region: String,
    /// Keys and values in turn.
    #[prost(string, repeated, tag = "5")]
    pub attributes: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Lot {
    /// Ordinal plus 1; 0 for a month.
    #[prost(uint32, tag = "1")]
    pub bucket: u32,
    /// Zigzag, low and high half.
    #[prost(uint64, tag = "2")]
    pub low: u64,
    #[prost(uint64, tag = "3")]
    pub high: u64,
    #[prost(uint64, tag = "4")]
    pub records: u64,
    /// Series number and cycle, in tables of several.
    #[prost(uint32, tag = "5")]
    pub number: u32,
    #[prost(uint32, tag = "6")]
    pub cycle: u32,
}

/// What a snapshot says of the shard as a whole.
#[derive(Clone, PartialEq, Message)]
pub struct ShardHeader {
    #[prost(uint32, tag = "1")]
    pub machine_version: u32,
    #[prost(uint32, tag = "2")]
    pub shard: u32,
    #[prost(message, optional, tag = "3")]
    pub identity: Option<Genesis>,
    #[prost(uint64, tag = "4")]
    pub index: u64,
    #[prost(sint64, tag = "5")]
    pub stamp: i64,
    #[prost(message, repeated, tag = "6")]
    pub catalogues: Vec<ActivateCatalogue>,
    #[prost(sint64, optional, tag = "7")]
    pub oldest_id_hour: Option<i64>,
    /// Slots that follow.
    #[prost(uint32, tag = "8")]
    pub slots: u32,
    /// Slots that are leaving, with their moves.
    #[prost(message, repeated, tag = "9")]
    pub leaving: Vec<MovedSlot>,
    /// The latest move of each slot that ended here.
    #[prost(message, repeated, tag = "10")]
    pub ended: Vec<MovedSlot>,
}

/// A part of one slot; the parts of a slot are merged in order, lists growing.
#[derive(Clone, PartialEq, Message)]
pub struct SlotPart {
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    #[prost(uint32, tag = "3")]
    pub generation: u32,
    #[prost(string, repeated, tag = "4")]
    pub catalogues: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub meters: Vec<Meter>,
    #[prost(message, repeated, tag = "6")]
    pub roots: Vec<Root>,
    #[prost(message, repeated, tag = "7")]
    pub members: Vec<Member>,
    #[prost(message, repeated, tag = "8")]
    pub things: Vec<Thing>,
    /// Member and thing of each series in turn.
    #[prost(uint32, repeated, tag = "9")]
    pub rows: Vec<u32>,
    /// Month lots; `cycle` is the lane.
    #[prost(message, repeated, tag = "10")]
    pub lots: Vec<Lot>,
    #[prost(message, repeated, tag = "11")]
    pub buckets: Vec<Lot>,
    #[prost(message, repeated, tag = "12")]
    pub late: Vec<Lot>,
    #[prost(message, repeated, tag = "13")]
    pub producers: Vec<Producer>,
    #[prost(message, repeated, tag = "14")]
    pub hours: Vec<IdHour>,
    #[prost(message, repeated, tag = "15")]
    pub homes: Vec<HomeOf>,
    #[prost(message, repeated, tag = "16")]
    pub directory: Vec<PutDirectory>,
    /// In the last part: how many there are.
    #[prost(uint32, tag = "17")]
    pub parts: u32,
    /// What some meters keep beside a sum.
    #[prost(message, repeated, tag = "18")]
    pub kept: Vec<Kept>,
    #[prost(message, repeated, tag = "19")]
    pub late_kept: Vec<Kept>,
    #[prost(message, repeated, tag = "20")]
    pub claimed: Vec<ClaimedSeries>,
    #[prost(message, repeated, tag = "21")]
    pub transfers: Vec<Transfer>,
}

/// An entry that a meter keeps; 128-bit numbers are zigzag.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    #[prost(uint32, tag = "1")]
    pub number: u32,
    #[prost(uint32, tag = "2")]
    pub cycle: u32,
    #[prost(uint64, tag = "3")]
    pub at_low: u64,
    #[prost(uint64, tag = "4")]
    pub at_high: u64,
    #[prost(uint64, tag = "5")]
    pub value_low: u64,
    #[prost(uint64, tag = "6")]
    pub value_high: u64,
    #[prost(sint64, tag = "7")]
    pub end: i64,
    #[prost(bytes = "vec", tag = "8")]
    pub id: Vec<u8>,
    /// More records of the same instant; only `value` and `id` of each.
    #[prost(message, repeated, tag = "9")]
    pub more: Vec<Kept>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Meter {
    #[prost(uint32, tag = "1")]
    pub catalogue: u32,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint32, tag = "3")]
    pub scale: u32,
    /// 0 month, 1 day, 2 hour, 3 five minutes.
    #[prost(uint32, tag = "4")]
    pub bucket: u32,
    /// 0 sum, 1 count, 2 maximum, 3 latest, 4 unique, 5 level, 6 95th percentile.
    #[prost(uint32, tag = "5")]
    pub aggregation: u32,
    #[prost(uint32, tag = "6")]
    pub since: u32,
    /// 16 bytes, little endian.
    #[prost(bytes = "vec", tag = "7")]
    pub ceiling: Vec<u8>,
    /// Of a level: 1 its records change it, 2 weighed by day, 4 carried into the next cycle.
    #[prost(uint32, tag = "8")]
    pub level: u32,
    /// 1 counts amounts, 2 keeps its records.
    #[prost(uint32, tag = "9")]
    pub records: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Root {
    #[prost(message, optional, tag = "1")]
    pub hierarchy: Option<Hierarchy>,
    #[prost(bytes = "vec", tag = "2")]
    pub document: Vec<u8>,
    #[prost(uint32, tag = "3")]
    pub catalogue: u32,
    #[prost(message, repeated, tag = "4")]
    pub contracts: Vec<Contract>,
    #[prost(message, optional, tag = "5")]
    pub cycles: Option<Cycles>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub jobs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Hierarchy {
    #[prost(string, tag = "1")]
    pub root: String,
    #[prost(string, tag = "2")]
    pub catalogue: String,
    #[prost(string, tag = "3")]
    pub currency: String,
    #[prost(uint32, tag = "4")]
    pub first: u32,
    #[prost(bool, tag = "5")]
    pub manual: bool,
    #[prost(uint32, tag = "6")]
    pub grace_hours: u32,
    #[prost(string, repeated, tag = "7")]
    pub payers: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub groups: Vec<String>,
    #[prost(message, repeated, tag = "9")]
    pub accounts: Vec<Account>,
    #[prost(uint32, repeated, tag = "10")]
    pub interim_days: Vec<u32>,
    /// 16 bytes, little endian, at 12 decimals; empty for none.
    #[prost(bytes = "vec", tag = "11")]
    pub interim_spend: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Account {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bool, tag = "2")]
    pub bounded: bool,
    #[prost(message, repeated, tag = "3")]
    pub periods: Vec<Period>,
    /// Cycle, payer, group (plus 1; 0 = none) of each term in turn.
    #[prost(uint32, repeated, tag = "4")]
    pub terms: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Contract {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
    #[prost(uint32, tag = "3")]
    pub effective: u32,
    #[prost(uint32, optional, tag = "4")]
    pub until: Option<u32>,
    #[prost(bytes = "vec", tag = "5")]
    pub document: Vec<u8>,
    /// 1 has purchases, 2 bills shortfalls by themselves.
    #[prost(uint32, tag = "6")]
    pub unasked: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Cycles {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    #[prost(uint32, tag = "2")]
    pub open: u32,
    #[prost(message, repeated, tag = "3")]
    pub cut: Vec<CutCycle>,
    #[prost(message, repeated, tag = "4")]
    pub chains: Vec<Bill>,
    #[prost(message, repeated, tag = "5")]
    pub balances: Vec<Posting>,
    #[prost(message, optional, tag = "6")]
    pub claim: Option<Claim>,
    #[prost(message, repeated, tag = "7")]
    pub extras: Vec<Claim>,
    #[prost(message, repeated, tag = "8")]
    pub late: Vec<LateUsage>,
    #[prost(message, optional, tag = "9")]
    pub agenda: Option<Agenda>,
}

/// What was done unasked so far.
#[derive(Clone, PartialEq, Message)]
pub struct Agenda {
    #[prost(uint32, tag = "1")]
    pub day: u32,
    /// Contract version and day since 1970 of the last look for purchases.
    #[prost(uint32, optional, tag = "2")]
    pub purchases_version: Option<u32>,
    #[prost(sint64, tag = "3")]
    pub purchases_day: i64,
    #[prost(uint32, optional, tag = "4")]
    pub shortfall: Option<u32>,
}

/// A claim, and its bills once it has any.
#[derive(Clone, PartialEq, Message)]
pub struct Claim {
    #[prost(uint32, tag = "1")]
    pub cycle: u32,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(sint64, tag = "3")]
    pub at: i64,
    #[prost(bool, tag = "4")]
    pub interim: bool,
    #[prost(message, repeated, tag = "9")]
    pub bills: Vec<Bill>,
    #[prost(message, repeated, tag = "10")]
    pub postings: Vec<Posting>,
    /// Empty where there is none.
    #[prost(bytes = "vec", tag = "11")]
    pub archive: Vec<u8>,
    #[prost(message, optional, tag = "12")]
    pub inputs: Option<Inputs>,
    #[prost(message, optional, tag = "13")]
    pub cause: Option<Cause>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LateUsage {
    #[prost(uint32, tag = "1")]
    pub cycle: u32,
    #[prost(uint64, tag = "2")]
    pub records: u64,
    #[prost(bool, tag = "3")]
    pub due: bool,
}

/// A series of a claim that is not billed yet.
#[derive(Clone, PartialEq, Message)]
pub struct ClaimedSeries {
    /// Number of the root.
    #[prost(uint32, tag = "1")]
    pub root: u32,
    #[prost(message, optional, tag = "2")]
    pub series: Option<ArchivedSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CutCycle {
    #[prost(uint32, tag = "1")]
    pub cycle: u32,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(sint64, tag = "3")]
    pub at: i64,
    #[prost(bool, tag = "4")]
    pub ended_grace: bool,
    #[prost(message, repeated, tag = "9")]
    pub postings: Vec<Posting>,
    /// 0 closing, 1 closed, 2 issued, 3 archived.
    #[prost(uint32, tag = "10")]
    pub phase: u32,
    #[prost(message, repeated, tag = "11")]
    pub bills: Vec<Bill>,
    #[prost(bytes = "vec", tag = "12")]
    pub archive: Vec<u8>,
    #[prost(message, optional, tag = "13")]
    pub inputs: Option<Inputs>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Member {
    #[prost(string, tag = "1")]
    pub account: String,
    #[prost(uint32, tag = "2")]
    pub root: u32,
    #[prost(bool, tag = "3")]
    pub checked: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Thing {
    #[prost(uint32, tag = "1")]
    pub catalogue: u32,
    #[prost(uint32, tag = "2")]
    pub meter: u32,
    #[prost(message, optional, tag = "3")]
    pub dimensions: Option<Dimensions>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Producer {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bool, tag = "2")]
    pub by_id: bool,
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    #[prost(uint64, optional, tag = "4")]
    pub last: Option<u64>,
    #[prost(uint64, repeated, tag = "5")]
    pub refused: Vec<u64>,
    #[prost(message, repeated, tag = "6")]
    pub refusals: Vec<Refusal>,
}

#[derive(Clone, PartialEq, Message)]
pub struct IdHour {
    #[prost(sint64, tag = "1")]
    pub hour: i64,
    /// Both halves of a key and the body of each id in turn.
    #[prost(fixed64, repeated, tag = "2")]
    pub entries: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HomeOf {
    #[prost(string, tag = "1")]
    pub producer: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(message, optional, tag = "3")]
    pub file: Option<FileProgress>,
}
