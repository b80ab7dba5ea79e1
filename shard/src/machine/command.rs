//! Everything that is ever replicated, and everything that comes back: commands, outcomes, verdicts, effects. All are
//! plain data; their bytes live in [`super::codec`], what they do in [`super::apply`].

use crate::base::hash::{Hash, hex};
use crate::base::id::{AccountId, CatalogueName, GroupName, ProducerId, ShardId, Slot};
use crate::base::refusal::Refusal;
use crate::base::time::{CycleId, Period, Timestamp};
use crate::billing::cycle::{BillHash, IssuedBill, Posting};
use crate::billing::kind::Cause;
use crate::placement::SlotRange;

/// Commands of one entry that a leader proposes: what one step of a job may carry at once without holding up usage
/// behind it.
pub const COMMANDS_MAX: usize = 4_096;
/// Bytes of one document inside a command: it must fit one message between peers.
pub const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// A change of the state besides usage. Each is safe to repeat: the same content gives the same answer and changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The first command of a shard: who it is, which slots it owns under which map epoch, and how many bytes of ids it
    /// keeps.
    Genesis { shard: ShardId, slots: Vec<SlotRange>, epoch: u64, ids_bytes_max: u64 },
    /// In the producer's home slot, `slot_of(producer)`. Without `epoch`: draws the next epoch and answers it with the
    /// file progress recorded so far; with `file` as well, the claim must equal that progress (the opener computed it
    /// over its own first lines), else PRODUCER_MISMATCH. With the current `epoch`: records `file` as the new progress.
    OpenProducer { slot: Slot, producer: ProducerId, epoch: Option<u64>, file: Option<FileProgress> },
    /// Creates or amends a hierarchy, in its root's slot. `document`: canonical JSON of a `HierarchyDocument`. A `job`
    /// that was done before is not done again.
    PutHierarchy { document: Vec<u8>, job: String },
    /// Sets all times of one account with one root, in the account's own slot; none removes them.
    PutDirectory { account: AccountId, root: AccountId, periods: Vec<Period> },
    /// A new version of the root's contract. `document`: canonical JSON of a `ContractDocument`.
    PutContract { document: Vec<u8>, job: String },
    /// A catalogue version governs cycles from `effective` on. Its compiled form is handed in beside the entry.
    ActivateCatalogue { name: CatalogueName, version: u64, hash: Hash, effective: CycleId },
    /// From this entry's index on, usage for the cycle is late. `manual`: asked for by hand, so grace may be cut short.
    Cut { root: AccountId, cycle: CycleId, manual: bool },
    /// From this entry on what is known of the cycle is being billed outside its close, or what its cause takes of it.
    Claim { root: AccountId, cycle: CycleId, cause: Cause },
    /// A majority agrees on the bills of these cut or claimed cycles. Those of a claim get their numbers with it.
    Billed { slot: Slot, roots: Vec<BilledRoot> },
    /// Gives each bill of a billed cycle its number, time and the hash of the payer's bill before.
    Issue { root: AccountId, cycle: CycleId },
    /// Every replica keeps the cycle's counters beside its bills; they leave memory.
    Archived { root: AccountId, cycle: CycleId, hash: Hash },
    /// The slots leave under a move: from this entry on nothing in them changes, and whoever wants to is told
    /// SLOT_MOVING.
    FreezeSlots { id: u64, slots: SlotRange },
    /// The chunk at place `at` of what frozen slots hold, in the shard that they go to.
    StageSlots { id: u64, slots: SlotRange, at: u32, chunk: Vec<u8> },
    /// All chunks have come; refused unless they are what the seal says and can be taken in.
    SealSlots { id: u64, slots: SlotRange, seal: Seal },
    /// The move is decided: since map epoch `epoch` the slots are this shard's, or they are another's. Sent to both.
    SettleSlots { id: u64, slots: SlotRange, epoch: Option<u64> },
    /// One step of an account's way from one hierarchy to another. All steps of a way name the same.
    MoveAccount { step: MoveStep, way: AccountWay },
    /// Moves the shard's time to the entry's stamp.
    Tick,
    /// Fixes this entry's index for a comparison of all replicas.
    Digest,
    /// From this entry on the machine behaves as this version says. Proposed once every replica supports it.
    Raise { version: u32 },
}

/// An account that goes from one hierarchy to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountWay {
    pub account: AccountId,
    pub from: AccountId,
    pub to: AccountId,
    /// Usage from this instant on is the new hierarchy's.
    pub at: Timestamp,
    /// There; without it the root's, or the first payer's.
    pub payer: Option<AccountId>,
    pub group: Option<GroupName>,
    /// Whose steps these are: a step that was done before is not done again.
    pub job: String,
}

/// The steps, in their order. `End`, `Settle` and `Cancel` are in the slot of `from`, `Begin` in that of `to`, `Learn` in the
/// account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStep {
    /// Its membership ends; usage from then on is refused MOVING.
    End,
    /// Its membership begins. What is refused once stays refused.
    Begin,
    /// The directory knows.
    Learn,
    /// Usage from then on is no longer asked to wait: it belongs elsewhere.
    Settle,
    /// In place of the others after `End`, where `Begin` was refused: all is as it was.
    Cancel,
}

/// What slots that come hold, and what the shard that they left knew beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// blake3 of all chunks in order.
    pub hash: Hash,
    /// The shard's time when they were frozen.
    pub stamp: Timestamp,
    /// Ids of earlier hours were dropped there.
    pub oldest_id_hour: Option<i64>,
    /// All versions of the catalogues that their hierarchies use, by name and in order; the shard that they go to must
    /// have the same.
    pub catalogues: Vec<(CatalogueName, Vec<CatalogueVersion>)>,
}

/// A catalogue version that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueVersion {
    pub version: u64,
    pub hash: Hash,
    pub effective: CycleId,
}

/// How much of a file its producer has pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileProgress {
    pub lines: u64,
    /// blake3 of the first `lines` lines, each with its line feed.
    pub digest: Hash,
}

/// The result of folding one cut cycle of one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BilledRoot {
    pub root: AccountId,
    pub cycle: CycleId,
    /// One a (payer, currency), sorted by both.
    pub bills: Vec<BillHash>,
    /// What the bills take from or add to lasting balances of the contract.
    pub postings: Vec<Posting>,
    /// Where they are not the bills of the cycle's close.
    pub claim: Option<Claimed>,
}

/// What bills outside a close were made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The entry of the claim.
    pub index: u64,
    /// Of the archive of the claimed counters; a refund has none.
    pub archive: Option<Hash>,
}

/// What a whole entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Usage(BatchVerdict),
    /// One a command, in order.
    Commands(Vec<CommandOutcome>),
}

/// What one command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    Done(Done),
    Refused(Refusal),
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The same was done before.
    Unchanged,
    Changed,
    Producer {
        epoch: u64,
        file: Option<FileProgress>,
    },
    /// Also of a claim. `ended_grace`: the cut came before the stated grace was over.
    Cut {
        index: u64,
        at: Timestamp,
        ended_grace: bool,
    },
    /// The bills of the cycle, sorted by (payer, currency).
    Issued(Vec<IssuedBill>),
}

/// What a batch of usage came to. A segment that is not listed was accepted wholly and in time, defined nothing, and its
/// table has the generation that it named.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BatchVerdict {
    /// The batch as a whole was refused: no segment of it was looked at.
    pub refused: Option<Refusal>,
    /// Epoch under which this shard owns the slots, unless a listed segment says another.
    pub slot_epoch: u64,
    /// In order of `at`.
    pub segments: Vec<SegmentVerdict>,
}

impl BatchVerdict {
    /// The verdict of the segment at that place of the batch, where it is listed.
    pub fn segment(&self, at: u32) -> Option<&SegmentVerdict> {
        self.segments.binary_search_by_key(&at, |segment| segment.at).ok().map(|index| &self.segments[index])
    }
}

/// What one segment came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentVerdict {
    /// Its place in the batch, from 0.
    pub at: u32,
    pub slot: Slot,
    pub slot_epoch: u64,
    /// The generation of the slot's table now.
    pub generation: u32,
    /// The series numbers of the segment's definitions, in order; [`NO_SERIES`] where one was refused (the records that
    /// name it say why).
    pub series: Vec<u32>,
    /// The segment was refused whole: no record was looked at and nothing moved.
    pub whole: Option<Refusal>,
    /// Runs of equal verdicts over all records, in order; empty where `whole` is given.
    pub ranges: Vec<VerdictRange>,
}

/// In place of a number: the definition was refused.
pub const NO_SERIES: u32 = u32::MAX;

/// The verdict of `count` records from `first` (from 0 within the segment) on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRange {
    pub first: u32,
    pub count: u32,
    pub verdict: Verdict,
}

/// What one record came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Counted; `late`: for a cycle that was cut before, so it becomes a correction.
    Accepted { late: bool },
    /// Counted by an earlier sending.
    Duplicate,
    /// Not counted. A repeat of a refused record gets the first refusal again.
    Refused(Refusal),
}

/// What every replica has to do beside the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fold the cut or claimed cycle from a view and report its hashes.
    CycleCut { slot: Slot, root: AccountId, cycle: CycleId },
    /// The bodies are final: keep them; the leader proposes to issue.
    CycleBilled { slot: Slot, root: AccountId, cycle: CycleId },
    /// Write the envelopes; archive the cycle's counters, then the leader proposes that they are archived.
    CycleIssued { slot: Slot, root: AccountId, cycle: CycleId },
    /// The cycle's counters have left memory.
    CycleArchived { slot: Slot, root: AccountId, cycle: CycleId, hash: Hash },
    /// Slots have come as a whole: what their bills and archives are must be at hand before they are settled.
    SlotsSealed { id: u64 },
    /// The catalogue version is in use: keep its blob.
    CatalogueActivated { name: CatalogueName, version: u64, hash: Hash },
    /// Freeze here, hash, report.
    Digest { index: u64 },
}

/// Why an entry cannot be applied; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Fetch the blob and apply the same entry again.
    #[error("catalogue blob {} is not here; fetch it from a peer and go on", hex(.hash))]
    BlobMissing { hash: Hash },
    /// From here on the log means what this code does not know: the replica must stop rather than guess.
    #[error(
        "entry {index} begins version {version} of the machine, this program knows up to {known}; start a newer one"
    )]
    NewerMachine { index: u64, version: u32, known: u32 },
    /// The log is not one that this code wrote: the replica must stop.
    #[error("entry {index} cannot be read: {why}; this replica must stop")]
    BadEntry { index: u64, why: String },
}
