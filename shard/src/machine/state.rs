//! State: the tables of one shard, by slot, and nothing that could be computed from them except look-ups. What changes
//! them lives in [`super::apply`] and the files that it calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use super::command::CatalogueVersion;
use super::command::{FileProgress, Halt};
use super::moving::Moves;
use super::transferred::Transfers;
use super::wire_state;
use crate::account::directory::Directory;
use crate::account::tree::Hierarchy;
use crate::base::hash::Hash;
use crate::base::id::{AccountId, CatalogueName, MeterId, ProducerId, ShardId, Slot};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Timestamp};
use crate::billing::bill::FIRST_MACHINE;
use crate::billing::claim::Plan;
use crate::billing::cycle::{Cycles, Inputs};
use crate::placement::{SLOTS, SlotRange, slot_of};
use crate::pricing::catalogue::Catalogue;
use crate::pricing::document::{Aggregation, Bucket, LevelDocument, LevelRecords};
use crate::usage::chunks::Chunks;
use crate::usage::counter::Counters;
use crate::usage::ids::{IdIndex, Ids};
use crate::usage::kept::Join;
use crate::usage::repeats::Producers;
use crate::usage::series::{SeriesIndex, SeriesTable};

/// The newest behaviour that this code has. A state names the one that it follows, and this code has every one that a kept
/// log, cycle or bill can name; golden logs of each are replayed in tests.
pub const MACHINE_VERSION: u32 = 1;
/// Catalogues of one shard: one a seller and currency.
pub const CATALOGUES_MAX: usize = 1_000;
/// Versions of one catalogue: more than twenty years of one a week.
pub const CATALOGUE_VERSIONS_MAX: usize = 1_200;
/// Versions of one contract.
pub const CONTRACT_VERSIONS_MAX: usize = 1_200;
/// Bytes of one contract's document: every fold reads it.
pub const CONTRACT_BYTES_MAX: usize = 1 << 20;
/// Producers whose home is one slot.
pub const HOMES_PER_SLOT_MAX: usize = 1 << 20;
/// Jobs of one hierarchy that are remembered as done: far more than are ever sent again.
pub const JOBS_MAX: usize = 64;

/// Compiled blobs, handed in beside the entry that names them.
pub trait Blobs {
    /// The compiled catalogue of that hash, where its blob is here.
    fn catalogue(&self, hash: &Hash) -> Option<Arc<Catalogue>>;
}

/// Who a shard is, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub slots: Vec<SlotRange>,
    /// Epoch of the shard map under which it owns them.
    pub epoch: u64,
    /// Memory for ids, at [`crate::usage::ids::ID_BYTES`] each.
    pub ids_bytes_max: u64,
}

/// One version of a hierarchy's contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractVersion {
    /// Counts from 1.
    pub version: u32,
    pub hash: Hash,
    pub effective: CycleId,
    pub until: Option<CycleId>,
    /// Canonical JSON.
    pub document: Arc<[u8]>,
    pub unasked: Unasked,
}

/// What of a contract is billed outside closes, so that it need not be read to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unasked {
    /// It has subscriptions that are billed at once, or prepayments that are bought.
    pub purchases: bool,
    /// It bills shortfalls by themselves.
    pub shortfalls: bool,
}

/// What a slot knows of a meter that has series in it.
#[derive(Clone, Debug)]
pub struct MeterRow {
    /// Number of the catalogue in the slot.
    pub catalogue: u16,
    pub id: MeterId,
    pub scale: u32,
    pub bucket: Bucket,
    pub aggregation: Aggregation,
    /// Of a level alone.
    pub level: LevelDocument,
    pub of_amount: bool,
    pub keeps_records: bool,
    pub spreads: bool,
    /// Ordinal of the first cycle whose catalogue version has it.
    pub since: u32,
    /// The smallest of all versions.
    pub ceiling: i128,
}

impl MeterRow {
    /// Whether a record is one add to a month's lot.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let is_sum = self.bucket == Bucket::Month && self.aggregation == Aggregation::Sum;
        is_sum && !(self.of_amount | self.keeps_records)
    }

    /// How what it keeps beside a sum joins; `None` where it keeps nothing.
    pub fn join(&self) -> Option<Join> {
        join_of(self.aggregation, self.level.records, self.keeps_records)
    }
}

/// How what a meter keeps beside a sum joins; `None` where it keeps nothing.
pub(super) fn join_of(aggregation: Aggregation, level: LevelRecords, keeps_records: bool) -> Option<Join> {
    match aggregation {
        Aggregation::Sum if keeps_records => Some(Join::Collect),
        Aggregation::Sum | Aggregation::Count | Aggregation::Maximum | Aggregation::Percentile95 => None,
        Aggregation::Level if level == LevelRecords::Level => Some(Join::Latest),
        Aggregation::Latest => Some(Join::Latest),
        Aggregation::Level | Aggregation::Unique => Some(Join::Add),
    }
}

/// One hierarchy.
#[derive(Clone, Debug)]
pub struct RootRow {
    pub hierarchy: Arc<Hierarchy>,
    /// Hash of the latest document.
    pub document: Hash,
    /// Number of its catalogue in the slot.
    pub catalogue: u16,
    pub contracts: Arc<Vec<ContractVersion>>,
    pub cycles: Arc<Cycles>,
    /// Jobs done, oldest first, by the first half of their hash.
    pub jobs: Arc<VecDeque<[u8; 16]>>,
    /// Series of all its accounts. Counted from the table, not stored.
    pub series: u32,
    /// The newest of its members in the table, the start of a chain. Found from the table, not stored.
    pub newest: u32,
}

impl RootRow {
    /// The versions that govern a cycle now. Of one before the catalogue's first version the first stands in: such a
    /// cycle is before the hierarchy's first too.
    pub(super) fn inputs_at(
        &self,
        cycle: CycleId,
        catalogues: &BTreeMap<CatalogueName, Vec<CatalogueVersion>>,
        machine: u32,
    ) -> Inputs {
        let versions = catalogues.get(&self.hierarchy.catalogue).expect("a hierarchy's catalogue is in use");
        let version = governing(versions, cycle).or(versions.first()).expect("a catalogue in use has a version");
        Inputs {
            catalogue_version: version.version,
            catalogue_hash: version.hash,
            contract: self.contract_at(cycle).map(|contract| (contract.version, contract.hash)),
            machine,
        }
    }

    /// What may be due outside closes at a stamp.
    pub(super) fn plan(&self, stamp: Timestamp) -> Plan<'_> {
        let cycles = &self.cycles;
        let running = if stamp < cycles.open.end() { cycles.open } else { cycles.open.next() };
        let bought = self.contract_at(running).filter(|contract| contract.unasked.purchases);
        let settles = |version: u32| self.contracts.iter().any(|own| own.version == version && own.unasked.shortfalls);
        let last = cycles.cut.last().and_then(|cut| cut.inputs.contract.as_ref());
        Plan {
            days: &self.hierarchy.interim.days,
            purchases: bought.map(|contract| contract.version),
            shortfalls: last.is_some_and(|(version, _)| settles(*version)),
        }
    }

    /// The contract version that governs a cycle.
    pub fn contract_at(&self, cycle: CycleId) -> Option<&ContractVersion> {
        let latest = self.contracts.iter().rev().find(|version| version.effective <= cycle)?;
        latest.until.is_none_or(|until| cycle < until).then_some(latest)
    }
}

/// A producer at home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Latest epoch drawn.
    pub epoch: u64,
    pub file: Option<FileProgress>,
}

/// Everything of one slot that outlives a restart.
#[derive(Debug)]
pub struct SlotData {
    pub slot: Slot,
    pub series: SeriesTable,
    /// By meter number.
    pub meters: Arc<Vec<MeterRow>>,
    /// By catalogue number.
    pub catalogues: Arc<Vec<CatalogueName>>,
    /// By root number.
    pub roots: Chunks<RootRow>,
    pub root_numbers: Arc<BTreeMap<AccountId, u32>>,
    pub counters: Counters,
    pub producers: Producers,
    pub ids: Ids,
    pub homes: Arc<BTreeMap<ProducerId, Home>>,
    pub directory: Arc<Directory>,
    /// `None`: no account ever moved.
    pub(super) transfers: Option<Arc<Transfers>>,
    /// What is claimed of hierarchies' counters, by root number, until its bills are agreed on.
    pub(super) claimed: Arc<BTreeMap<u32, Claimed>>,
}

/// Counters as they were at the entry of a claim.
#[derive(Clone, Debug)]
pub(super) enum Claimed {
    /// In a twin of the whole slot, which costs nothing until the slot is written to.
    Twin(Arc<SlotData>),
    /// As a snapshot told them.
    Packed(Arc<Vec<wire_state::ArchivedSeries>>),
}

impl SlotData {
    pub(super) fn new(slot: Slot, generation: u32) -> SlotData {
        SlotData {
            slot,
            series: SeriesTable { generation, ..SeriesTable::default() },
            meters: Arc::default(),
            catalogues: Arc::default(),
            roots: Chunks::default(),
            root_numbers: Arc::default(),
            counters: Counters::default(),
            producers: Producers::default(),
            ids: Ids::default(),
            homes: Arc::default(),
            directory: Arc::default(),
            transfers: None,
            claimed: Arc::default(),
        }
    }

    /// The number of a root; UNKNOWN_ROOT where it is not here.
    pub fn root_number(&self, root: &AccountId) -> Result<u32, Refusal> {
        self.root_numbers.get(root).copied().ok_or_else(|| unknown_root(root))
    }

    /// What is known of accounts that moved.
    pub(super) fn transfers(&self) -> &Transfers {
        self.transfers.as_deref().unwrap_or(Transfers::NONE)
    }

    pub(super) fn transfers_mut(&mut self) -> &mut Transfers {
        Arc::make_mut(self.transfers.get_or_insert_default())
    }

    /// A twin that stays as it is now.
    fn freeze(&mut self) -> SlotData {
        SlotData {
            slot: self.slot,
            series: self.series.freeze(),
            meters: self.meters.clone(),
            catalogues: self.catalogues.clone(),
            roots: self.roots.freeze(),
            root_numbers: self.root_numbers.clone(),
            counters: self.counters.freeze(),
            producers: self.producers.clone(),
            ids: self.ids.freeze(),
            homes: self.homes.clone(),
            directory: self.directory.clone(),
            transfers: self.transfers.clone(),
            claimed: self.claimed.clone(),
        }
    }
}

/// WRONG_SHARD where a slot is not owned, SLOT_MOVING where it is leaving.
pub(super) fn check_owned<'a>(
    shard: ShardId,
    identity: Option<&'a Identity>,
    moves: &Moves,
    slot: Slot,
) -> Result<&'a Identity, Refusal> {
    let wrong = |detail: String| Err(Refusal::new(Reason::WrongShard, detail));
    let Some(identity) = identity else {
        return wrong(format!("shard {shard} has not been told its slots yet; try again"));
    };
    if !identity.slots.iter().any(|range| range.contains(slot)) {
        return wrong(format!("slot {slot} is not in shard {shard}; ask for the shard map again"));
    }
    if !moves.leaving.is_empty() && moves.leaving.contains_key(&slot.0) {
        let detail = format!("slot {slot} is leaving shard {shard}; try again in a moment");
        return Err(Refusal::new(Reason::SlotMoving, detail));
    }
    Ok(identity)
}

pub(super) fn unknown_root(root: &AccountId) -> Refusal {
    Refusal::new(Reason::UnknownRoot, format!("no hierarchy '{root}' is here; apply its document first"))
}

/// A slot with its look-ups.
#[derive(Debug)]
pub(super) struct LiveSlot {
    pub data: SlotData,
    pub series_index: SeriesIndex,
    pub id_index: IdIndex,
    /// Ordinal of the oldest cycle that is not cut, by root number: what every record is compared with.
    pub opens: Vec<u32>,
    /// The latest twin, while nothing was written since.
    frozen: Option<Arc<SlotData>>,
}

impl IdBudget {
    /// Counts the ids of a slot that begins to count here.
    pub fn add(&mut self, data: &SlotData) {
        for (hour, entries) in &data.ids.hours {
            *self.hours.entry(*hour).or_default() += entries.len() as u64;
            self.count += entries.len() as u64;
        }
    }

    /// The inverse.
    pub fn subtract(&mut self, data: &SlotData) {
        for (hour, entries) in &data.ids.hours {
            let entries = entries.len() as u64;
            if let Some(count) = self.hours.get_mut(hour) {
                *count -= entries;
                self.count -= entries;
            }
            if self.hours.get(hour) == Some(&0) {
                self.hours.remove(hour);
            }
        }
    }
}

impl LiveSlot {
    pub fn new(data: SlotData) -> LiveSlot {
        let series_index = data.series.build_index();
        let id_index = data.ids.build_index();
        let opens = data.roots.iter().map(|row| row.cycles.open.ordinal()).collect();
        LiveSlot { data, series_index, id_index, opens, frozen: None }
    }

    /// Must come before any write, so that no twin is handed out that is older than the slot.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }

    pub fn freeze(&mut self) -> Arc<SlotData> {
        self.frozen.get_or_insert_with(|| Arc::new(self.data.freeze())).clone()
    }
}

/// Ids over all slots of the shard.
#[derive(Debug, Default)]
pub(super) struct IdBudget {
    /// Ids by hour: counted from the slots, not stored.
    pub hours: BTreeMap<i64, u64>,
    pub count: u64,
    /// Ids of earlier hours were dropped.
    pub oldest: Option<i64>,
}

/// One shard.
#[derive(Debug)]
pub struct State {
    pub(super) shard: ShardId,
    pub(super) identity: Option<Identity>,
    /// Latest entry applied.
    pub(super) index: u64,
    /// The shard's time: the largest stamp so far.
    pub(super) stamp: Timestamp,
    pub(super) catalogues: Arc<BTreeMap<CatalogueName, Vec<CatalogueVersion>>>,
    /// By hash; what `catalogues` names and was handed in. Not part of the state proper.
    pub(super) compiled: BTreeMap<Hash, Arc<Catalogue>>,
    /// Everything in `catalogues` is in `compiled`: only a snapshot takes that away.
    pub(super) is_loaded: bool,
    /// Version of the machine that it follows.
    pub(super) machine: u32,
    /// The newest version that may be raised to. Not part of the state proper.
    pub(super) supports: u32,
    pub(super) id_budget: IdBudget,
    /// What of the slots is on its way from or to other shards.
    pub(super) moves: Arc<Moves>,
    /// By slot number; absent until first written.
    pub(super) slots: Vec<Option<Box<LiveSlot>>>,
}

impl State {
    /// An empty shard, which waits for its genesis.
    pub fn new(shard: ShardId) -> State {
        State {
            shard,
            identity: None,
            index: 0,
            stamp: Timestamp(0),
            catalogues: Arc::default(),
            compiled: BTreeMap::new(),
            is_loaded: false,
            machine: FIRST_MACHINE,
            supports: MACHINE_VERSION,
            id_budget: IdBudget::default(),
            moves: Arc::default(),
            slots: (0..SLOTS).map(|_| None).collect(),
        }
    }

    /// The same with other versions of the machine up to `newest` than [`MACHINE_VERSION`], as a test pretends.
    pub fn supporting(mut self, newest: u32) -> State {
        self.supports = newest;
        self
    }

    /// Version of the machine that it follows.
    pub fn machine(&self) -> u32 {
        self.machine
    }

    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Latest entry applied; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The shard's time: the largest stamp of any entry.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// WRONG_SHARD where the slot is not owned here, SLOT_MOVING where it is leaving.
    pub(super) fn check_owned(&self, slot: Slot) -> Result<&Identity, Refusal> {
        check_owned(self.shard, self.identity.as_ref(), &self.moves, slot)
    }

    /// The slot to be written to, made where it is owned and not there yet.
    pub(super) fn slot_mut(&mut self, slot: Slot, generation: u32) -> Result<&mut LiveSlot, Refusal> {
        self.check_owned(slot)?;
        let place = self.slots.get_mut(usize::from(slot.0));
        let place = place.expect("an owned slot is one of all slots");
        let live = place.get_or_insert_with(|| Box::new(LiveSlot::new(SlotData::new(slot, generation.max(1)))));
        live.thaw();
        Ok(live)
    }

    /// The slot and number of a root.
    pub(super) fn root_mut(&mut self, root: &AccountId) -> Result<(&mut LiveSlot, u32), Refusal> {
        let slot = slot_of(root.as_str());
        self.check_owned(slot)?;
        let live = self.slots[usize::from(slot.0)].as_mut().ok_or_else(|| unknown_root(root))?;
        let number = live.data.root_number(root)?;
        live.thaw();
        Ok((live, number))
    }

    /// Compiled versions of everything that is in use, so that applying never has to stop half way.
    pub(super) fn load(&mut self, blobs: &dyn Blobs) -> Result<(), Halt> {
        if self.is_loaded {
            return Ok(());
        }
        for hash in self.catalogues.values().flatten().map(|version| version.hash) {
            if let std::collections::btree_map::Entry::Vacant(place) = self.compiled.entry(hash) {
                place.insert(blobs.catalogue(&hash).ok_or(Halt::BlobMissing { hash })?);
            }
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Forgets compiled blobs that no version in use names.
    pub(super) fn forget_unused_blobs(&mut self) {
        let is_used = |hash: &Hash| self.catalogues.values().flatten().any(|version| version.hash == *hash);
        self.compiled.retain(|hash, _| is_used(hash));
    }

    /// A cheap, immutable picture of the whole shard: what was not written since the last one is shared with it.
    pub fn view(&mut self) -> super::query::View {
        let slots = self.slots.iter_mut().flatten().map(|live| (live.data.slot.0, live.freeze())).collect();
        self.view_with(slots)
    }

    /// The same with one slot alone, for a question about one hierarchy.
    pub fn view_of(&mut self, slot: Slot) -> super::query::View {
        let live = self.slots.get_mut(usize::from(slot.0)).and_then(Option::as_mut);
        let slots = live.map(|live| (slot.0, live.freeze())).into_iter().collect();
        self.view_with(slots)
    }

    pub(super) fn view_with(&self, slots: BTreeMap<u16, Arc<SlotData>>) -> super::query::View {
        super::query::View {
            shard: self.shard,
            identity: self.identity.clone(),
            index: self.index,
            stamp: self.stamp,
            machine: self.machine,
            catalogues: self.catalogues.clone(),
            oldest_id_hour: self.id_budget.oldest,
            moves: self.moves.clone(),
            slots,
        }
    }
}

/// The version that governs a cycle: the latest activated one that is effective by then.
pub fn governing(versions: &[CatalogueVersion], cycle: CycleId) -> Option<&CatalogueVersion> {
    versions.iter().rev().find(|version| version.effective <= cycle)
}
