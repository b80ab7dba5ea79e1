//! Moves of slots and accounts as protobuf messages: the commands of one, what a snapshot tells of those under way, and the ranges and versions
//! that other commands name too. What they mean is
//! said in [`super::moves`] and [`super::transfers`].

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct SlotRange {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    #[prost(uint32, tag = "2")]
    pub last: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ActivateCatalogue {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub version: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub hash: Vec<u8>,
    /// Ordinal of a cycle.
    #[prost(uint32, tag = "4")]
    pub effective: u32,
}

/// Freezes slots that leave.
#[derive(Clone, PartialEq, Message)]
pub struct Freeze {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub slots: Option<SlotRange>,
}

/// Content of slots that come.
#[derive(Clone, PartialEq, Message)]
pub struct Stage {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub slots: Option<SlotRange>,
    /// Place of the chunk, from 0.
    #[prost(uint32, tag = "3")]
    pub at: u32,
    #[prost(bytes = "vec", tag = "4")]
    pub chunk: Vec<u8>,
}

/// All content has come.
#[derive(Clone, PartialEq, Message)]
pub struct SealSlots {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub slots: Option<SlotRange>,
    #[prost(message, optional, tag = "3")]
    pub seal: Option<Seal>,
}

/// What the content is, and what its shard knew beside it.
#[derive(Clone, PartialEq, Message)]
pub struct Seal {
    /// blake3 of all chunks.
    #[prost(bytes = "vec", tag = "1")]
    pub hash: Vec<u8>,
    #[prost(sint64, tag = "2")]
    pub stamp: i64,
    #[prost(sint64, optional, tag = "3")]
    pub oldest_id_hour: Option<i64>,
    #[prost(message, repeated, tag = "4")]
    pub catalogues: Vec<ActivateCatalogue>,
}

/// Whose the slots are now.
#[derive(Clone, PartialEq, Message)]
pub struct Settle {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub slots: Option<SlotRange>,
    /// Epoch of the map since which they are this shard's; 0: they are not.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
}

/// A slot with a move, in a snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct MovedSlot {
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    #[prost(uint64, tag = "2")]
    pub id: u64,
}

/// Slots that come, in a snapshot: the head first, without a chunk, then a message a chunk.
#[derive(Clone, PartialEq, Message)]
pub struct Arriving {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub slots: Option<SlotRange>,
    #[prost(message, optional, tag = "3")]
    pub seal: Option<Seal>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub chunk: Option<Vec<u8>>,
}

/// One step of an account's way.
#[derive(Clone, PartialEq, Message)]
pub struct MoveAccount {
    /// 0 end, 1 begin, 2 learn, 3 settle, 4 cancel.
    #[prost(uint32, tag = "1")]
    pub step: u32,
    #[prost(string, tag = "2")]
    pub account: String,
    #[prost(string, tag = "3")]
    pub from: String,
    #[prost(string, tag = "4")]
    pub to: String,
    #[prost(sint64, tag = "5")]
    pub at: i64,
    #[prost(string, optional, tag = "6")]
    pub payer: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub group: Option<String>,
    #[prost(string, tag = "8")]
    pub job: String,
}

/// What a slot knows of an account that left one of its hierarchies, or came to one.
#[derive(Clone, PartialEq, Message)]
pub struct Transfer {
    #[prost(string, tag = "1")]
    pub account: String,
    /// The hierarchy here.
    #[prost(string, tag = "2")]
    pub root: String,
    /// The other one.
    #[prost(string, tag = "3")]
    pub other: String,
    #[prost(sint64, tag = "4")]
    pub at: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub job: Vec<u8>,
    /// 0 leaving, 1 left, 2 arrived.
    #[prost(uint32, tag = "6")]
    pub state: u32,
    /// Of one that arrived.
    #[prost(sint64, tag = "7")]
    pub until: i64,
}
