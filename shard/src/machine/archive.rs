//! The counters of a billed cycle as bytes, kept beside its bills once they have left memory, and back. Where the bytes
//! lie is the node's business.

use std::sync::Arc;

use prost::Message;

use super::query::{FoldCounter, View};
use super::{codec, snapshot, wire};
use crate::base::id::AccountId;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::CycleId;
use crate::billing::cycle::Status;
use crate::pricing::catalogue::Catalogue;
use crate::usage::counter::SideLot;
use crate::usage::kept::{Entry, Kept, KeptKey};
use crate::usage::series::SeriesKey;

/// First field of an archive.
pub const ARCHIVE_FORMAT: u32 = 1;

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
        let mut archive = wire::Archive {
            format: ARCHIVE_FORMAT,
            root: root.to_string(),
            cycle: cycle.ordinal(),
            ..wire::Archive::default()
        };
        for series in slot.series_of(row) {
            let (lots, kept) = slot.counted_and_kept(series, cycle.ordinal());
            if lots.is_empty() {
                continue;
            }
            let kept = kept.into_iter().map(|Entry { at, value, id }| {
                let key = KeptKey { number: 0, cycle: 0, at };
                snapshot::kept_to_wire(&key, &Kept { value, id, ..Kept::default() })
            });
            let key = slot.series.key_of(series);
            let thing = slot.series.rows[series as usize].thing as usize;
            archive.series.push(wire::ArchivedSeries {
                account: key.account.to_string(),
                dimensions: Some(snapshot::dimensions_to_wire(&key.dimensions)),
                meter: slot.meters[usize::from(slot.series.things[thing].meter)].id.to_string(),
                lots: lots.iter().map(|(bucket, lot)| snapshot::lot_to_wire(*bucket, lot)).collect(),
                kept: kept.collect(),
            });
        }
        Ok(archive.encode_to_vec())
    }
}

/// The counters of an archive, as a fold takes them under a catalogue; the error says what is wrong with the bytes.
pub fn read_archive(bytes: &[u8], catalogue: &Catalogue) -> Result<Vec<FoldCounter>, String> {
    let archive = wire::Archive::decode(bytes).map_err(|error| error.to_string())?;
    if archive.format != ARCHIVE_FORMAT {
        return Err(format!("its format is {}, this code reads {ARCHIVE_FORMAT}", archive.format));
    }
    let mut counters = Vec::new();
    for series in &archive.series {
        let dimensions = series.dimensions.as_ref().ok_or("a series has no dimensions")?;
        let key = SeriesKey {
            account: codec::account(&series.account)?,
            dimensions: Arc::new(snapshot::dimensions_from_wire(dimensions)),
        };
        let meter = catalogue.meter_by_id(&series.meter);
        let meter = meter.ok_or_else(|| format!("meter {} is not in the catalogue", series.meter))?;
        let mut kept: Vec<Entry> = Vec::with_capacity(series.kept.len());
        for entry in &series.kept {
            let (key, entry) = snapshot::kept_from_wire(entry);
            kept.push(Entry { at: key.at, value: entry.value, id: entry.id });
        }
        for lot in &series.lots {
            let (bucket, SideLot { value, records }) = snapshot::lot_from_wire(lot)?;
            let kept = std::mem::take(&mut kept);
            counters.push(FoldCounter { series: key.clone(), meter, bucket, value, records, kept });
        }
    }
    Ok(counters)
}
