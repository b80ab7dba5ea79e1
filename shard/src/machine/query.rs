//! Read-only answers from a view: who belongs where, what was counted, where cycles stand, what is due, and the input of
//! a fold. A view is immutable and may be read on any thread while the shard goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::moving::Moves;
use super::state::{
    Blobs, CatalogueVersion, ContractVersion, Home, Identity, MeterRow, RootRow, SlotData, check_owned, governing,
    unknown_root,
};
use crate::account::tree::Hierarchy;
use crate::base::hash::Hash;
use crate::base::id::{AccountId, CatalogueName, MeterId, ProducerId, ShardId, Slot};
use crate::base::money::Money;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Timestamp};
use crate::billing::bill::BillBody;
use crate::billing::choose::purchases;
use crate::billing::cycle::{BillHash, Claim, Cycles, Inputs, Phase, Status};
use crate::billing::difference::{further, settled};
use crate::billing::fold::fold;
use crate::billing::input::{Counter, FoldError, FoldInput};
use crate::billing::kind::{Cause, Kind};
use crate::contract::document::ContractDocument;
use crate::contract::terms::Contract;
use crate::placement::slot_of;
use crate::pricing::catalogue::{Catalogue, MeterIndex};
use crate::pricing::document::Aggregation;
use crate::usage::counter::{SideKey, SideLot, lane_of};
use crate::usage::kept::{self, Entry, Join, Kept, entries_of, joined};
use crate::usage::repeats::Seen;
use crate::usage::series::SeriesKey;

/// The shard at one index.
#[derive(Clone, Debug)]
pub struct View {
    pub shard: ShardId,
    pub identity: Option<Identity>,
    pub index: u64,
    pub stamp: Timestamp,
    /// Of the machine: what it does follows it.
    pub machine: u32,
    pub catalogues: Arc<BTreeMap<CatalogueName, Vec<CatalogueVersion>>>,
    /// Hours of usage time before this one have no ids any more.
    pub oldest_id_hour: Option<i64>,
    pub(super) moves: Arc<Moves>,
    /// By slot number; those that were ever written, or the one asked for.
    pub slots: BTreeMap<u16, Arc<SlotData>>,
}

/// One counter of a hierarchy's cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageLine {
    pub series: SeriesKey,
    pub meter: MeterId,
    /// Decimals of the values.
    pub scale: u32,
    /// Ordinal of the hour or day in the cycle; `None` for a month.
    pub bucket: Option<u16>,
    /// Of a level where it stands, of the latest that, of unique values their number.
    pub value: i128,
    pub records: u64,
    /// Accepted after the cycle's cut; not in `value`.
    pub late_value: i128,
    pub late_records: u64,
}

/// A counter as a fold takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldCounter {
    pub series: SeriesKey,
    pub meter: MeterIndex,
    pub bucket: Option<u16>,
    pub value: i128,
    pub records: u64,
    /// What its meter keeps beside a sum, in order of what the entries are of.
    pub kept: Vec<Entry>,
}

/// Everything that a fold of one cycle needs, owned.
#[derive(Clone, Debug)]
pub struct FoldSource {
    pub hierarchy: Arc<Hierarchy>,
    pub cycle: CycleId,
    /// Of the machine.
    pub machine: u32,
    pub version: CatalogueVersion,
    pub catalogue: Arc<Catalogue>,
    pub contract: Option<FoldContract>,
    /// Sorted by account, then dimensions, then bucket.
    pub counters: Vec<FoldCounter>,
    /// What was used of the contract's lasting balances before the cycle.
    pub balances: BTreeMap<String, Money>,
    /// What bills of later cycles drew of them.
    pub drawn_later: BTreeMap<String, Money>,
    /// The bills that the cycle has so far, oldest first: what is billed is the difference to them.
    pub earlier: Vec<BillHash>,
    /// What is made.
    pub kind: Kind,
    /// Of purchases: those that were made by then.
    pub until: Timestamp,
    /// Only payers of whom so much is not billed yet have a bill.
    pub least: Option<Money>,
    /// Of a claim its entry, and the archive of its counters.
    pub claim: Option<(u64, Vec<u8>)>,
}

impl FoldSource {
    /// The same, borrowed as a fold wants it.
    pub fn input(&self) -> FoldInput<'_> {
        FoldInput {
            hierarchy: &self.hierarchy,
            cycle: self.cycle,
            catalogue: &self.catalogue,
            contract: self.contract.as_ref().map(|contract| &*contract.contract),
            counters: self
                .counters
                .iter()
                .map(|counter| Counter {
                    series: &counter.series,
                    meter: counter.meter,
                    bucket: counter.bucket,
                    value: counter.value,
                    records: counter.records,
                    kept: &counter.kept,
                })
                .collect(),
            balances: self.balances.clone(),
            drawn_later: self.drawn_later.clone(),
            interim: self.kind.is_early(),
            own_shortfalls: self.kind.has_shortfalls(),
            settled: BTreeMap::new(),
        }
    }
}

impl FoldSource {
    /// The bills of the source: the one function behind estimates, closes, interim bills and corrections. `earlier`: the
    /// bodies of [`FoldSource::earlier`], in any order; a payer to whom nothing new is billed has no bill.
    pub fn bills(&self, earlier: &[BillBody]) -> Result<Vec<BillBody>, FoldError> {
        let mut input = self.input();
        input.settled = settled(earlier, self.cycle);
        let mut bodies = further(&input, fold(&input)?, earlier)?;
        if self.kind == Kind::Purchase {
            bodies = purchases(&input, bodies, self.until)?;
        }
        bodies.retain(|body| body.difference.is_none() || !body.lines.is_empty());
        bodies.retain(|body| self.least.is_none_or(|least| body.total >= least));
        bodies.iter_mut().for_each(|body| body.machine = self.machine);
        Ok(bodies)
    }
}

/// The contract version of a fold.
#[derive(Clone, Debug)]
pub struct FoldContract {
    pub version: u32,
    pub hash: Hash,
    pub contract: Arc<Contract>,
}

/// Why a fold has no input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The blob is not here yet.
    #[error("catalogue blob {} is not here; fetch it from a peer", crate::base::hash::hex(.0))]
    BlobMissing(Hash),
}

/// What can be done for a cycle now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DueStep {
    /// Its grace is over and nobody has to be asked.
    Cut,
    /// Cut: fold and agree.
    Bill,
    /// Agreed: give numbers.
    Issue,
    /// Issued: archive the counters, then let them leave memory.
    Archive,
    /// Bills are made outside the close: claim them.
    Claim(Cause),
}

/// A hierarchy that has interim bills as soon as so much of a payer is not billed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub slot: Slot,
    pub root: AccountId,
    /// The cycle that may have one now.
    pub cycle: CycleId,
    pub spend: Money,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub slot: Slot,
    pub root: AccountId,
    pub cycle: CycleId,
    pub step: DueStep,
}

impl SlotData {
    pub(super) fn root_row(&self, root: &AccountId) -> Result<&RootRow, Refusal> {
        Ok(&self.roots[self.root_number(root)? as usize])
    }

    /// What is due for a hierarchy, oldest cycle first.
    fn due_of(&self, row: &RootRow, stamp: Timestamp, due: &mut Vec<Due>) {
        let mut push = |cycle, step| due.push(Due { slot: self.slot, root: row.hierarchy.root.clone(), cycle, step });
        // Only the latest cut cycle can still be on its way.
        if let Some(cut) = row.cycles.cut.last() {
            match cut.phase {
                Phase::Closing => return push(cut.cycle, DueStep::Bill),
                Phase::Closed(_) => return push(cut.cycle, DueStep::Issue),
                Phase::Issued(_) => return push(cut.cycle, DueStep::Archive),
                Phase::Archived(..) => {}
            }
        }
        if let Some(claim) = &row.cycles.claim {
            return push(claim.cycle, DueStep::Bill);
        }
        if let Some((cycle, cause)) = row.cycles.claim_due(row.plan(stamp), stamp) {
            // A cut waits until they are made.
            return push(cycle, DueStep::Claim(cause));
        }
        let due_at = row.cycles.due_at(row.hierarchy.close, row.hierarchy.grace);
        if due_at.is_some_and(|due_at| due_at <= stamp) {
            push(row.cycles.open, DueStep::Cut);
        }
    }

    /// Series numbers of a hierarchy, sorted by account, then dimensions.
    pub(super) fn series_of(&self, row: &RootRow) -> Vec<u32> {
        let mut members: Vec<u32> = self.series.members_from(row.newest).collect();
        members.sort_by(|one, other| {
            self.series.members[*one as usize].account.cmp(&self.series.members[*other as usize].account)
        });
        let mut all = Vec::new();
        for member in members {
            let from = all.len();
            all.extend(self.series.series_of(member));
            all[from..].sort_by(|one: &u32, other: &u32| self.dimensions(*one).cmp(self.dimensions(*other)));
        }
        all
    }

    fn dimensions(&self, number: u32) -> &crate::usage::series::Dimensions {
        &self.series.things[self.series.rows[number as usize].thing as usize].dimensions
    }

    pub(super) fn meter_of(&self, number: u32) -> &MeterRow {
        let thing = self.series.rows[number as usize].thing as usize;
        &self.meters[usize::from(self.series.things[thing].meter)]
    }

    /// What a series keeps beside a sum of a cycle that is in memory. A level that is carried on has the entries of the
    /// cycles before, which make the level that it begins with.
    fn kept(&self, number: u32, ordinal: u32) -> Vec<Entry> {
        let meter = self.meter_of(number);
        let Some(join) = meter.join() else { return Vec::new() };
        entries_of(self.kept_entries(number, ordinal, join), join)
    }

    /// The same with all that joins need.
    pub(super) fn kept_entries(&self, number: u32, ordinal: u32, join: Join) -> BTreeMap<i128, Kept> {
        let meter = self.meter_of(number);
        let is_carried = meter.aggregation == Aggregation::Level && meter.level.carry;
        joined(self.counters.kept.of(number, if is_carried { 0 } else { ordinal }, ordinal), join)
    }

    /// What a series counted in a cycle that is in memory, by bucket. One that only keeps something has one of nothing.
    pub(super) fn counted_and_kept(&self, number: u32, ordinal: u32) -> (Vec<(Option<u16>, SideLot)>, Vec<Entry>) {
        let (mut lots, kept) = (self.counted(number, ordinal), self.kept(number, ordinal));
        if lots.is_empty() && !kept.is_empty() {
            lots.push((None, SideLot::default()));
        }
        (lots, kept)
    }

    /// What a series counted in a cycle that is in memory, by bucket.
    pub(super) fn counted(&self, number: u32, ordinal: u32) -> Vec<(Option<u16>, SideLot)> {
        let mut lots = Vec::new();
        let (value, records) = self.counters.lanes[lane_of(ordinal)].read(number);
        if records > 0 {
            lots.push((None, SideLot { value, records }));
        }
        lots.extend(self.counters.buckets.of(number, ordinal).map(|(key, lot)| (key.bucket, lot)));
        lots
    }
}

impl View {
    pub fn slot(&self, slot: Slot) -> Option<&Arc<SlotData>> {
        self.slots.get(&slot.0)
    }

    pub(super) fn slot_of_root(&self, root: &AccountId) -> Result<&Arc<SlotData>, Refusal> {
        self.slot(slot_of(root.as_str())).ok_or_else(|| unknown_root(root))
    }

    /// WRONG_SHARD where the slot is not owned here, SLOT_MOVING where it is leaving: another shard may know better.
    pub fn check_owned(&self, slot: Slot) -> Result<(), Refusal> {
        check_owned(self.shard, self.identity.as_ref(), &self.moves, slot).map(|_| ())
    }

    /// The root that has the account at that instant, and its slot, as the directory here knows it.
    pub fn resolve(&self, account: &AccountId, at: Timestamp) -> Option<(AccountId, Slot)> {
        let slot = self.slot(slot_of(account.as_str()))?;
        let root = slot.directory.resolve(account, at)?.clone();
        let slot = slot_of(root.as_str());
        Some((root, slot))
    }

    /// A hierarchy whose root's slot is here.
    pub fn hierarchy(&self, root: &AccountId) -> Result<Arc<Hierarchy>, Refusal> {
        Ok(self.slot_of_root(root)?.root_row(root)?.hierarchy.clone())
    }

    /// Every root here, with its slot, by slot and name.
    pub fn roots(&self) -> impl Iterator<Item = (Slot, &AccountId)> {
        self.slots.values().flat_map(|slot| slot.root_numbers.keys().map(move |root| (slot.slot, root)))
    }

    /// The cycles of a hierarchy: what is open, what was cut, its bills, its balances.
    pub fn cycles(&self, root: &AccountId) -> Result<Arc<Cycles>, Refusal> {
        Ok(self.slot_of_root(root)?.root_row(root)?.cycles.clone())
    }

    /// Where a cycle stands at the shard's time.
    pub fn cycle_status(&self, root: &AccountId, cycle: CycleId) -> Result<Status, Refusal> {
        Ok(self.cycles(root)?.status(cycle, self.stamp))
    }

    /// The contract versions of a hierarchy, oldest first.
    pub fn contracts(&self, root: &AccountId) -> Result<Arc<Vec<ContractVersion>>, Refusal> {
        Ok(self.slot_of_root(root)?.root_row(root)?.contracts.clone())
    }

    /// A producer at home.
    pub fn producer(&self, producer: &ProducerId) -> Option<Home> {
        self.slot(slot_of(producer.as_str()))?.homes.get(producer).copied()
    }

    /// The producers that pushed to a slot, by name.
    pub fn producers(&self, slot: Slot) -> Vec<(String, Seen)> {
        let producers = self.slot(slot).map(|slot| slot.producers.iter()).into_iter().flatten();
        producers.map(|(name, seen)| (name.to_owned(), seen.clone())).collect()
    }

    /// The slots that do not leave: only their owner goes on with what is due.
    fn staying(&self) -> impl Iterator<Item = &Arc<SlotData>> {
        self.slots.values().filter(|slot| !self.moves.leaving.contains_key(&slot.slot.0))
    }

    /// What is due at a stamp, over all hierarchies here.
    pub fn due(&self, stamp: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        for slot in self.staying() {
            for row in slot.roots.iter() {
                slot.due_of(row, stamp, &mut due);
            }
        }
        due
    }

    /// Whether bills of a hierarchy are on their way, or a cycle's counters out of memory: others wait for a moment.
    pub fn is_busy(&self, root: &AccountId) -> Result<bool, Refusal> {
        let row = self.slot_of_root(root)?.root_row(root)?;
        let cycles = &row.cycles;
        let is_leaving = cycles.cut.last().is_some_and(|last| !matches!(last.phase, Phase::Archived(..)));
        Ok(is_leaving || cycles.claim.is_some() || row.check_settled(cycles.open).is_err())
    }

    /// The hierarchies whose open cycle may have a bill at a threshold.
    pub fn thresholds(&self, stamp: Timestamp) -> Vec<Threshold> {
        let rows = self.staying().flat_map(|slot| slot.roots.iter().map(|row| (slot.slot, row)));
        let threshold = |(slot, row): (Slot, &RootRow)| {
            let (spend, cycles) = (row.hierarchy.interim.spend?, &row.cycles);
            let is_free = cycles.claim.is_none()
                && cycles.cut.last().is_none_or(|last| matches!(last.phase, Phase::Archived(..)))
                && cycles.open.period().contains(stamp)
                && cycles.claim_due(row.plan(stamp), stamp).is_none();
            let (root, cycle) = (row.hierarchy.root.clone(), cycles.open);
            is_free.then_some(Threshold { slot, root, cycle, spend })
        };
        rows.filter_map(threshold).collect()
    }

    /// What a hierarchy counted in a cycle, sorted by account, dimensions and bucket. Counters of an archived cycle are
    /// in its archive; what came late is always here.
    pub fn usage(&self, root: &AccountId, cycle: CycleId) -> Result<Vec<UsageLine>, Refusal> {
        let slot = self.slot_of_root(root)?;
        let row = slot.root_row(root)?;
        let ordinal = cycle.ordinal();
        let in_memory =
            !matches!(row.cycles.status(cycle, self.stamp), Status::Never | Status::Ahead | Status::Archived);
        let mut lines = Vec::new();
        for series in slot.series_of(row) {
            let mut buckets: BTreeMap<Option<u16>, (SideLot, SideLot)> = BTreeMap::new();
            for (bucket, lot) in slot.counted(series, ordinal).into_iter().filter(|_| in_memory) {
                buckets.entry(bucket).or_default().0 = lot;
            }
            for (SideKey { bucket, .. }, lot) in slot.counters.late.of(series, ordinal) {
                buckets.entry(bucket).or_default().1 = lot;
            }
            let meter = slot.meter_of(series);
            let kept = if in_memory { slot.kept(series, ordinal) } else { Vec::new() };
            if let Some(value) = shown(meter, &kept) {
                buckets.entry(None).or_default().0.value = value;
            }
            lines.extend(buckets.into_iter().map(|(bucket, (on_time, late))| UsageLine {
                series: slot.series.key_of(series),
                meter: meter.id.clone(),
                scale: meter.scale,
                bucket,
                value: on_time.value,
                records: on_time.records,
                late_value: late.value,
                late_records: late.records,
            }));
        }
        Ok(lines)
    }

    /// The input of a fold: of a cut cycle the versions that the cut fixed, else those that govern now. Usage that came
    /// late is not in it.
    pub fn fold_source(&self, root: &AccountId, cycle: CycleId, blobs: &dyn Blobs) -> Result<FoldSource, NoSource> {
        let slot = self.slot_of_root(root)?;
        let row = slot.root_row(root)?;
        let status = row.cycles.status(cycle, self.stamp);
        if matches!(status, Status::Never | Status::Ahead | Status::Archived) {
            let (detail, reason) = match status {
                Status::Archived => ("is archived; read its bills, or its archive".to_owned(), Reason::CycleClosed),
                _ => (format!("does not count; {} and the next do", row.cycles.open), Reason::CycleNotOpen),
            };
            return Err(Refusal::new(reason, format!("cycle {cycle} of '{root}' {detail}")).into());
        }
        let mut source = self.source_of(row, cycle, None, blobs)?;
        let ordinal = cycle.ordinal();
        for series in slot.series_of(row) {
            let (lots, mut kept) = slot.counted_and_kept(series, ordinal);
            if lots.is_empty() {
                continue;
            }
            let id = &slot.meter_of(series).id;
            let meter = source.catalogue.meter_by_id(id.as_str());
            let meter = meter.expect("usage is counted only in cycles whose catalogue version has its meter");
            let key = slot.series.key_of(series);
            source.counters.extend(lots.into_iter().map(|(bucket, lot)| FoldCounter {
                series: key.clone(),
                meter,
                bucket,
                value: lot.value,
                records: lot.records,
                // Meters that keep something have one counter a cycle.
                kept: std::mem::take(&mut kept),
            }));
        }
        Ok(source)
    }

    /// A source without counters.
    pub(super) fn source_of(
        &self,
        row: &RootRow,
        cycle: CycleId,
        claim: Option<&Claim>,
        blobs: &dyn Blobs,
    ) -> Result<FoldSource, NoSource> {
        let cut = row.cycles.find(cycle).map(|cut| &cut.inputs);
        let fixed = claim.map(|claim| &claim.inputs).or(cut);
        let (version, contract) = self.inputs(row, cycle, fixed)?;
        let catalogue = blobs.catalogue(&version.hash).ok_or(NoSource::BlobMissing(version.hash))?;
        Ok(FoldSource {
            hierarchy: row.hierarchy.clone(),
            cycle,
            machine: fixed.map_or(self.machine, |fixed| fixed.machine),
            version,
            catalogue,
            contract: contract.map(compile).transpose()?,
            counters: Vec::new(),
            balances: row.cycles.balances_before(cycle),
            drawn_later: row.cycles.drawn_later(cycle),
            earlier: row.cycles.bills_of(cycle).map(|(_, bill)| bill.content()).collect(),
            kind: Kind::Anniversary,
            until: Timestamp(i64::MAX),
            least: None,
            claim: None,
        })
    }

    /// The catalogue and contract versions that a cycle is priced by: of a cut cycle those that the cut fixed, else those
    /// that govern now.
    pub fn versions_of(
        &self,
        root: &AccountId,
        cycle: CycleId,
    ) -> Result<(CatalogueVersion, Option<ContractVersion>), Refusal> {
        let row = self.slot_of_root(root)?.root_row(root)?;
        let cut = row.cycles.find(cycle).map(|cut| &cut.inputs);
        let (catalogue, contract) = self.inputs(row, cycle, cut)?;
        Ok((catalogue, contract.cloned()))
    }

    /// Catalogue and contract versions of a cycle: those that are fixed, else those that govern now.
    fn inputs<'a>(
        &self,
        row: &'a RootRow,
        cycle: CycleId,
        fixed: Option<&Inputs>,
    ) -> Result<(CatalogueVersion, Option<&'a ContractVersion>), Refusal> {
        let versions = self.catalogues.get(&row.hierarchy.catalogue).map_or(&[][..], Vec::as_slice);
        let missing = || {
            let detail = format!("catalogue '{}' has no version for cycle {cycle}; apply one", row.hierarchy.catalogue);
            Refusal::new(Reason::UnknownCatalogue, detail)
        };
        let Some(fixed) = fixed else {
            return Ok((governing(versions, cycle).ok_or_else(missing)?.clone(), row.contract_at(cycle)));
        };
        let version = versions.iter().find(|version| version.hash == fixed.catalogue_hash);
        let contract = fixed
            .contract
            .as_ref()
            .and_then(|(version, _)| row.contracts.iter().find(|contract| contract.version == *version));
        Ok((version.ok_or_else(missing)?.clone(), contract))
    }
}

/// What a meter that keeps something besides its sum has come to so far: of a level, where it stands.
fn shown(meter: &MeterRow, kept: &[Entry]) -> Option<i128> {
    let last = kept.last()?;
    match (meter.aggregation, meter.join()?) {
        (Aggregation::Unique, _) => Some(kept::values(kept).count() as i128),
        (Aggregation::Level, Join::Add) => Some(kept.iter().fold(0, |sum, entry| entry.value.saturating_add(sum))),
        (Aggregation::Latest | Aggregation::Level, _) => Some(last.value),
        _ => None,
    }
}

/// A stored contract was checked against its catalogue when it came in, so it is only read here. A later catalogue version
/// may have dropped what a clause names, and then the clause simply finds nothing.
fn compile(version: &ContractVersion) -> Result<FoldContract, Refusal> {
    let unreadable = |why: String| {
        let detail = format!("contract version {} cannot be read: {why}", version.version);
        Refusal::new(Reason::InvalidDocument, detail)
    };
    let document: ContractDocument =
        serde_json::from_slice(&version.document).map_err(|error| unreadable(error.to_string()))?;
    let contract = Contract::compile(&document, None).map_err(|problems| {
        unreadable(problems.first().map_or_else(|| "no problem is told".to_owned(), ToString::to_string))
    })?;
    Ok(FoldContract { version: version.version, hash: version.hash, contract: Arc::new(contract) })
}
