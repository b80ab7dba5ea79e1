//! The counters of a billed cycle as bytes, kept beside its bills once they have left memory, and back. Where the bytes
//! lie is the node's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::query::{FoldCounter, View};
use super::state::{RootRow, SlotData, join_of};
use super::{codec, snapshot_rows, wire_state};
use crate::base::id::AccountId;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::CycleId;
use crate::billing::cycle::Status;
use crate::pricing::catalogue::{Catalogue, MeterIndex};
use crate::pricing::document::Aggregation;
use crate::usage::counter::SideLot;
use crate::usage::kept::{Entry, Join, Kept, KeptKey, entries_of, joined};
use crate::usage::series::SeriesKey;

/// First field of an archive.
pub const ARCHIVE_FORMAT: u32 = 2;

impl View {
    /// The counters of a cut cycle as bytes, to be kept beside its bills; the hash is blake3 of them.
    pub fn archive(&self, root: &AccountId, cycle: CycleId) -> Result<Vec<u8>, Refusal> {
        match self.cycle_status(root, cycle)? {
            Status::Closing | Status::Closed | Status::Issued => self.packed(root, cycle),
            status => {
                let detail = format!("cycle {cycle} of '{root}' is {status:?}, only a cut cycle is archived");
                Err(Refusal::new(Reason::CycleNotOpen, detail))
            }
        }
    }

    /// What a cycle that is in memory counted on time so far, as an archive keeps it.
    pub fn packed(&self, root: &AccountId, cycle: CycleId) -> Result<Vec<u8>, Refusal> {
        let slot = self.slot_of_root(root)?;
        let row = slot.root_row(root)?;
        let status = row.cycles.status(cycle, self.stamp);
        if matches!(status, Status::Never | Status::Ahead | Status::Archived) {
            let open = row.cycles.open;
            let detail = format!("counters of cycle {cycle} of '{root}' are not in memory; {open} and the next are");
            return Err(Refusal::new(Reason::CycleNotOpen, detail));
        }
        Ok(archive(root, cycle, slot.on_time(row, cycle)).encode_to_vec())
    }
}

impl SlotData {
    /// What a hierarchy's series counted in a cycle that is in memory.
    pub(super) fn on_time(&self, row: &RootRow, cycle: CycleId) -> Vec<wire_state::ArchivedSeries> {
        let counted = |number| {
            let lots = self.counted(number, cycle.ordinal());
            let join = self.meter_of(number).join();
            (lots, join.map_or_else(BTreeMap::new, |join| self.kept_entries(number, cycle.ordinal(), join)))
        };
        self.pack(row, counted)
    }

    /// What they counted after its cut.
    pub(super) fn late(&self, row: &RootRow, cycle: CycleId) -> Vec<wire_state::ArchivedSeries> {
        let ordinal = cycle.ordinal();
        let counted = |number| {
            let lots = self.counters.late.of(number, ordinal).map(|(key, lot)| (key.bucket, lot)).collect();
            let join = self.meter_of(number).join().unwrap_or(Join::Add);
            (lots, joined(self.counters.late_kept.of(number, ordinal, ordinal), join))
        };
        self.pack(row, counted)
    }

    fn pack(
        &self,
        row: &RootRow,
        counted: impl Fn(u32) -> (Vec<(Option<u16>, SideLot)>, BTreeMap<i128, Kept>),
    ) -> Vec<wire_state::ArchivedSeries> {
        let mut packed = Vec::new();
        for number in self.series_of(row) {
            let (lots, kept) = counted(number);
            if !(lots.is_empty() && kept.is_empty()) {
                let key = self.series.key_of(number);
                packed.push(pack(&key, self.meter_of(number).id.as_str(), &lots, &kept));
            }
        }
        packed
    }
}

/// Bytes of series, sorted by account, then dimensions.
pub(super) fn archive(
    root: &AccountId,
    cycle: CycleId,
    series: Vec<wire_state::ArchivedSeries>,
) -> wire_state::Archive {
    wire_state::Archive { format: ARCHIVE_FORMAT, root: root.to_string(), cycle: cycle.ordinal(), series }
}

fn pack(
    key: &SeriesKey,
    meter: &str,
    lots: &[(Option<u16>, SideLot)],
    kept: &BTreeMap<i128, Kept>,
) -> wire_state::ArchivedSeries {
    let of = |at: &i128| KeptKey { number: 0, cycle: 0, at: *at };
    wire_state::ArchivedSeries {
        account: key.account.to_string(),
        dimensions: Some(snapshot_rows::dimensions_to_wire(&key.dimensions)),
        meter: meter.to_owned(),
        lots: lots.iter().map(|(bucket, lot)| snapshot_rows::lot_to_wire(*bucket, lot)).collect(),
        kept: kept.iter().map(|(at, kept)| snapshot_rows::kept_to_wire(&of(at), kept)).collect(),
    }
}

/// A series of an archive.
struct Unpacked {
    key: SeriesKey,
    meter: MeterIndex,
    lots: BTreeMap<Option<u16>, SideLot>,
    kept: BTreeMap<i128, Kept>,
    join: Join,
}

fn unpack(series: &wire_state::ArchivedSeries, catalogue: &Catalogue) -> Result<Unpacked, String> {
    let dimensions = series.dimensions.as_ref().ok_or("a series has no dimensions")?;
    let key = SeriesKey {
        account: codec::account(&series.account)?,
        dimensions: Arc::new(snapshot_rows::dimensions_from_wire(dimensions)),
    };
    let index = catalogue.meter_by_id(&series.meter);
    let index = index.ok_or_else(|| format!("meter {} is not in the catalogue", series.meter))?;
    let meter = catalogue.meter(index);
    let join = join_of(meter.aggregation, meter.level.records, meter.keeps_records).unwrap_or(Join::Add);
    let kept = joined(series.kept.iter().map(snapshot_rows::kept_from_wire), join);
    let lots = series.lots.iter().map(snapshot_rows::lot_from_wire).collect::<Result<_, _>>()?;
    Ok(Unpacked { key, meter: index, lots, kept, join })
}

/// The counters of an archive, as a fold takes them under a catalogue; the error says what is wrong with the bytes.
pub fn read_archive(bytes: &[u8], catalogue: &Catalogue) -> Result<Vec<FoldCounter>, String> {
    let mut counters = Vec::new();
    for series in &decode(bytes)?.series {
        let Unpacked { key: series, meter, mut lots, kept, join } = unpack(series, catalogue)?;
        let mut kept: Vec<Entry> = entries_of(kept, join);
        if lots.is_empty() && !kept.is_empty() {
            // Meters that keep something alone have one counter a cycle, of nothing.
            lots.insert(None, SideLot::default());
        }
        for (bucket, SideLot { value, records }) in lots {
            let kept = std::mem::take(&mut kept);
            counters.push(FoldCounter { series: series.clone(), meter, bucket, value, records, kept });
        }
    }
    Ok(counters)
}

/// An archive together with what came late, as one archive.
pub(super) fn with_late(
    bytes: &[u8],
    late: &[wire_state::ArchivedSeries],
    catalogue: &Catalogue,
) -> Result<wire_state::Archive, String> {
    let mut whole = decode(bytes)?;
    let mut all: BTreeMap<SeriesKey, Unpacked> = BTreeMap::new();
    for series in whole.series.iter().chain(late) {
        let next = unpack(series, catalogue)?;
        match all.entry(next.key.clone()) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(next);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => join(place.get_mut(), next, catalogue)?,
        }
    }
    let series = all.values().map(|series| {
        let lots: Vec<_> = series.lots.iter().map(|(bucket, lot)| (*bucket, *lot)).collect();
        pack(&series.key, catalogue.meter(series.meter).id.as_str(), &lots, &series.kept)
    });
    whole.series = series.collect();
    Ok(whole)
}

fn join(series: &mut Unpacked, late: Unpacked, catalogue: &Catalogue) -> Result<(), String> {
    let is_peak = catalogue.meter(series.meter).aggregation == Aggregation::Maximum;
    for (bucket, own) in late.lots {
        let lot = series.lots.entry(bucket).or_default();
        lot.records = lot.records.saturating_add(own.records);
        lot.value = match is_peak {
            true => lot.value.max(own.value),
            false => lot.value.checked_add(own.value).ok_or("a counter does not fit 128 bits")?,
        };
    }
    for (at, own) in late.kept {
        match series.kept.entry(at) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(own);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => place.get_mut().join(own, series.join),
        }
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<wire_state::Archive, String> {
    let archive = wire_state::Archive::decode(bytes).map_err(|error| error.to_string())?;
    if archive.format != ARCHIVE_FORMAT {
        return Err(format!("its format is {}, this code reads {ARCHIVE_FORMAT}", archive.format));
    }
    Ok(archive)
}
