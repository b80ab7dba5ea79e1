//! Commands and outcomes as protobuf messages: what is in the log and in replies. Fields are only ever added. What they
//! mean is said at the domain types; the way between both lives in [`super::codec`].

use prost::{Message, Oneof};

pub use super::wire_moves::{ActivateCatalogue, SlotRange};

#[derive(Clone, PartialEq, Message)]
pub struct Commands {
    #[prost(message, repeated, tag = "1")]
    pub commands: Vec<Command>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Command {
    #[prost(oneof = "command::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21")]
    pub kind: Option<command::Kind>,
}

pub mod command {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Genesis(super::Genesis),
        #[prost(message, tag = "2")]
        OpenProducer(super::OpenProducer),
        #[prost(message, tag = "3")]
        PutHierarchy(super::PutDocument),
        #[prost(message, tag = "4")]
        PutDirectory(super::PutDirectory),
        #[prost(message, tag = "5")]
        PutContract(super::PutDocument),
        #[prost(message, tag = "6")]
        ActivateCatalogue(super::ActivateCatalogue),
        #[prost(message, tag = "7")]
        Cut(super::Cut),
        #[prost(message, tag = "8")]
        Billed(super::Billed),
        #[prost(message, tag = "9")]
        Issue(super::RootCycle),
        #[prost(message, tag = "10")]
        Archived(super::Archived),
        #[prost(message, tag = "11")]
        Tick(super::Empty),
        #[prost(message, tag = "12")]
        Digest(super::Empty),
        #[prost(message, tag = "13")]
        Claim(super::ClaimOf),
        #[prost(message, tag = "14")]
        FreezeSlots(super::super::wire_moves::Freeze),
        #[prost(message, tag = "15")]
        StageSlots(super::super::wire_moves::Stage),
        #[prost(message, tag = "16")]
        SealSlots(super::super::wire_moves::SealSlots),
        #[prost(message, tag = "17")]
        SettleSlots(super::super::wire_moves::Settle),
        #[prost(message, tag = "20")]
        MoveAccount(super::super::wire_moves::MoveAccount),
        #[prost(uint32, tag = "21")]
        Raise(u32),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub struct Genesis {
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    #[prost(message, repeated, tag = "2")]
    pub slots: Vec<SlotRange>,
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    #[prost(uint64, tag = "4")]
    pub ids_bytes_max: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct OpenProducer {
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    #[prost(string, tag = "2")]
    pub producer: String,
    #[prost(uint64, optional, tag = "3")]
    pub epoch: Option<u64>,
    #[prost(message, optional, tag = "4")]
    pub file: Option<FileProgress>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FileProgress {
    #[prost(uint64, tag = "1")]
    pub lines: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PutDocument {
    #[prost(bytes = "vec", tag = "1")]
    pub document: Vec<u8>,
    #[prost(string, tag = "2")]
    pub job: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PutDirectory {
    #[prost(string, tag = "1")]
    pub account: String,
    #[prost(string, tag = "2")]
    pub root: String,
    #[prost(message, repeated, tag = "3")]
    pub periods: Vec<Period>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Period {
    #[prost(sint64, tag = "1")]
    pub from: i64,
    #[prost(sint64, tag = "2")]
    pub until: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Cut {
    #[prost(string, tag = "1")]
    pub root: String,
    #[prost(uint32, tag = "2")]
    pub cycle: u32,
    #[prost(bool, tag = "3")]
    pub manual: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClaimOf {
    #[prost(string, tag = "1")]
    pub root: String,
    #[prost(uint32, tag = "2")]
    pub cycle: u32,
    /// As before there were causes.
    #[prost(bool, tag = "3")]
    pub manual: bool,
    #[prost(message, optional, tag = "4")]
    pub cause: Option<Cause>,
}

/// Why bills are made outside a close.
#[derive(Clone, PartialEq, Message)]
pub struct Cause {
    /// 1 asked, 2 late, 3 day, 4 spend, 5 purchases, 6 shortfall, 7 refund.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub day: u32,
    /// 16 bytes, little endian, at 12 decimals: of a spend or a refund.
    #[prost(bytes = "vec", tag = "3")]
    pub amount: Vec<u8>,
    #[prost(string, tag = "4")]
    pub payer: String,
    #[prost(uint64, tag = "5")]
    pub number: u64,
    #[prost(string, tag = "6")]
    pub reason: String,
    #[prost(string, tag = "7")]
    pub reference: String,
}

/// The versions that a cycle is billed with.
#[derive(Clone, PartialEq, Message)]
pub struct Inputs {
    #[prost(uint64, tag = "1")]
    pub catalogue_version: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub catalogue_hash: Vec<u8>,
    /// 0 = none.
    #[prost(uint32, tag = "3")]
    pub contract_version: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub contract_hash: Vec<u8>,
    /// Version of the machine; 0: the first.
    #[prost(uint32, tag = "5")]
    pub machine: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Billed {
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    #[prost(message, repeated, tag = "2")]
    pub roots: Vec<BilledRoot>,
}

#[derive(Clone, PartialEq, Message)]
pub struct BilledRoot {
    #[prost(string, tag = "1")]
    pub root: String,
    #[prost(uint32, tag = "2")]
    pub cycle: u32,
    #[prost(message, repeated, tag = "3")]
    pub bills: Vec<Bill>,
    #[prost(message, repeated, tag = "4")]
    pub postings: Vec<Posting>,
    /// Entry of the claim; 0 = of the cycle's close.
    #[prost(uint64, tag = "5")]
    pub claim: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub archive: Vec<u8>,
}

/// A bill's content, and its envelope once it is issued.
#[derive(Clone, PartialEq, Message)]
pub struct Bill {
    #[prost(string, tag = "1")]
    pub payer: String,
    #[prost(string, tag = "2")]
    pub currency: String,
    #[prost(bytes = "vec", tag = "3")]
    pub body_hash: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub number: u64,
    #[prost(sint64, tag = "5")]
    pub issued_at: i64,
    #[prost(bytes = "vec", tag = "6")]
    pub previous: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Posting {
    #[prost(string, tag = "1")]
    pub balance: String,
    /// 16 bytes, little endian, at 12 decimals.
    #[prost(bytes = "vec", tag = "2")]
    pub amount: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RootCycle {
    #[prost(string, tag = "1")]
    pub root: String,
    #[prost(uint32, tag = "2")]
    pub cycle: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Archived {
    #[prost(string, tag = "1")]
    pub root: String,
    #[prost(uint32, tag = "2")]
    pub cycle: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Outcome {
    #[prost(oneof = "outcome::Kind", tags = "1, 2")]
    pub kind: Option<outcome::Kind>,
}

pub mod outcome {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Usage(super::BatchVerdict),
        #[prost(message, tag = "2")]
        Commands(super::CommandOutcomes),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct CommandOutcomes {
    #[prost(message, repeated, tag = "1")]
    pub outcomes: Vec<CommandOutcome>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CommandOutcome {
    #[prost(oneof = "command_outcome::Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<command_outcome::Kind>,
}

pub mod command_outcome {
    #[derive(Clone, PartialEq, super::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Refused(super::Refusal),
        #[prost(message, tag = "2")]
        Unchanged(super::Empty),
        #[prost(message, tag = "3")]
        Changed(super::Empty),
        #[prost(message, tag = "4")]
        Producer(super::ProducerOpened),
        #[prost(message, tag = "5")]
        Cut(super::CutDone),
        #[prost(message, tag = "6")]
        Issued(super::Issued),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Refusal {
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    #[prost(string, tag = "2")]
    pub detail: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProducerOpened {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(message, optional, tag = "2")]
    pub file: Option<FileProgress>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CutDone {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(sint64, tag = "2")]
    pub at: i64,
    #[prost(bool, tag = "3")]
    pub ended_grace: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Issued {
    #[prost(message, repeated, tag = "1")]
    pub bills: Vec<Bill>,
}

#[derive(Clone, PartialEq, Message)]
pub struct BatchVerdict {
    #[prost(message, optional, tag = "1")]
    pub refused: Option<Refusal>,
    #[prost(uint64, tag = "2")]
    pub slot_epoch: u64,
    #[prost(message, repeated, tag = "3")]
    pub segments: Vec<SegmentVerdict>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SegmentVerdict {
    #[prost(uint32, tag = "1")]
    pub at: u32,
    #[prost(uint32, tag = "2")]
    pub slot: u32,
    #[prost(uint64, tag = "3")]
    pub slot_epoch: u64,
    #[prost(uint32, tag = "4")]
    pub generation: u32,
    /// Differences to the number before plus 1, the first to 0: new series have consecutive numbers.
    #[prost(sint64, repeated, tag = "5")]
    pub series: Vec<i64>,
    #[prost(message, optional, tag = "6")]
    pub whole: Option<Refusal>,
    #[prost(message, repeated, tag = "7")]
    pub ranges: Vec<VerdictRange>,
    /// What ranges refer to, each different refusal once.
    #[prost(message, repeated, tag = "8")]
    pub refusals: Vec<Refusal>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VerdictRange {
    #[prost(uint32, tag = "1")]
    pub count: u32,
    /// 0 accepted, 1 late, 2 duplicate, from 3 on a refusal: its place plus 3.
    #[prost(uint32, tag = "2")]
    pub verdict: u32,
}
