//! Bills outside a close, as commands: a claim fixes what is known of a cycle at one entry, until its bills are agreed
//! on. The rules are those of `billing::claim`.

use std::sync::Arc;

use prost::Message;

use super::archive::{archive, read_archive, with_late};
use super::command::{Done, Effect};
use super::query::{FoldCounter, FoldSource, NoSource, View};
use super::state::{Blobs, Claimed, RootRow, SlotData, State};
use super::wire_state;
use crate::base::hash::Hash;
use crate::base::id::AccountId;
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, Timestamp};
use crate::billing::cycle::{Claim, Phase};
use crate::billing::kind::{Cause, Kind};
use crate::pricing::catalogue::Catalogue;

impl State {
    /// Claims what is known of a cycle now, or what the cause takes of it.
    pub(super) fn claim(
        &mut self,
        root: &AccountId,
        cycle: CycleId,
        cause: &Cause,
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        let (index, at, catalogues, machine) = (self.index, self.stamp, self.catalogues.clone(), self.machine);
        let (live, number) = self.root_mut(root)?;
        let row = &mut live.data.roots[number as usize];
        let cut = row.cycles.find(cycle).map(|cut| cut.inputs.clone());
        let (interim, inputs) = (cut.is_none(), cut.unwrap_or_else(|| row.inputs_at(cycle, &catalogues, machine)));
        if matches!(cause, Cause::Asked | Cause::Late) {
            row.check_settled(cycle)?;
        }
        let claim = Claim { cycle, index, at, interim, cause: cause.clone(), inputs };
        let step = Arc::make_mut(&mut row.cycles).claim(claim)?;
        if step.changed {
            let claimed = match cause {
                Cause::Asked | Cause::Late | Cause::Day(_) | Cause::Spend(_) | Cause::Purchases => {
                    let twin = live.freeze();
                    live.thaw();
                    Claimed::Twin(twin)
                }
                // Nothing that came since the close is in these.
                Cause::Shortfall | Cause::Refund(_) => Claimed::Packed(Arc::default()),
            };
            Arc::make_mut(&mut live.data.claimed).insert(number, claimed);
            effects.push(Effect::CycleCut { slot: live.data.slot, root: root.clone(), cycle });
        }
        Ok(Done::Cut { index: step.now.index, at: step.now.at, ended_grace: false })
    }
}

impl RootRow {
    /// What a contract year is short of comes before whatever is billed after its close.
    pub(super) fn check_settled(&self, cycle: CycleId) -> Result<(), Refusal> {
        match self.cycles.claim_due(self.plan(Timestamp(i64::MIN)), Timestamp(i64::MIN)) {
            Some((last, Cause::Shortfall)) if self.cycles.find(cycle).is_none_or(|cut| cut.cycle == last) => {
                let detail = format!("what {last} is short of a commitment is being billed; try again after it");
                Err(Refusal::new(Reason::CloseOldestFirst, detail))
            }
            _ => Ok(()),
        }
    }
}

impl Claimed {
    /// The series that are claimed: all, or those with late usage.
    pub(super) fn series(&self, number: u32, claim: &Claim) -> Vec<wire_state::ArchivedSeries> {
        match self {
            Claimed::Packed(series) => series.to_vec(),
            Claimed::Twin(slot) => known(slot, &slot.roots[number as usize], claim.cycle, claim.interim),
        }
    }
}

fn known(slot: &SlotData, row: &RootRow, cycle: CycleId, interim: bool) -> Vec<wire_state::ArchivedSeries> {
    if interim { slot.on_time(row, cycle) } else { slot.late(row, cycle) }
}

/// What of a cycle is to be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// What is in memory and came in time.
    OnTime,
    /// All of an archived cycle, the late usage with it. The bytes are its archive's.
    WithLate(&'a [u8]),
    /// What the running claim fixed; of an archived cycle with its archive.
    Claimed(Option<&'a [u8]>),
}

impl View {
    /// The running claim of a hierarchy, if it is of that cycle.
    pub fn claim_of(&self, root: &AccountId, cycle: CycleId) -> Option<Claim> {
        let cycles = self.cycles(root).ok()?;
        cycles.claim.clone().filter(|claim| claim.cycle == cycle)
    }

    /// The input of a fold of an archived cycle with everything that came late, or of a claim. The bytes of the archive
    /// come from the store.
    pub fn known_source(
        &self,
        root: &AccountId,
        cycle: CycleId,
        blobs: &dyn Blobs,
        what: Known<'_>,
    ) -> Result<FoldSource, NoSource> {
        let bytes = match what {
            Known::OnTime => return self.fold_source(root, cycle, blobs),
            Known::WithLate(bytes) => Some(bytes),
            Known::Claimed(bytes) => bytes,
        };
        let slot = self.slot_of_root(root)?;
        let row = slot.root_row(root)?;
        let number = slot.root_number(root)?;
        let claim = match what {
            Known::Claimed(_) => Some(self.claim_of(root, cycle).ok_or_else(|| no_claim(root, cycle))?),
            _ => None,
        };
        let series = match &claim {
            Some(claim) => slot.claimed.get(&number).ok_or_else(|| no_claim(root, cycle))?.series(number, claim),
            None => slot.late(row, cycle),
        };
        let mut source = self.source_of(row, cycle, claim.as_ref(), blobs)?;
        source.kind = Kind::Correction;
        let broken = |why: String| Refusal::new(Reason::InvalidDocument, format!("the archive of {cycle}: {why}"));
        let (counters, packed) = joined(root, cycle, bytes, series, &source.catalogue).map_err(broken)?;
        source.counters = counters;
        if let Some(claim) = claim {
            source.kind = claim.kind();
            source.until = claim.at;
            if let Cause::Spend(least) = claim.cause {
                source.least = Some(least);
            }
            source.claim = Some((claim.index, packed));
        }
        Ok(source)
    }

    /// The hash of a cycle's own archive, once it has one.
    pub fn archive_hash(&self, root: &AccountId, cycle: CycleId) -> Option<Hash> {
        match self.cycles(root).ok()?.find(cycle)?.phase {
            Phase::Archived(_, hash) => Some(hash),
            _ => None,
        }
    }
}

/// The counters of both, and the bytes that they are read from.
fn joined(
    root: &AccountId,
    cycle: CycleId,
    bytes: Option<&[u8]>,
    series: Vec<wire_state::ArchivedSeries>,
    catalogue: &Catalogue,
) -> Result<(Vec<FoldCounter>, Vec<u8>), String> {
    let whole = match bytes {
        Some(bytes) => with_late(bytes, &series, catalogue)?,
        None => archive(root, cycle, series),
    };
    let packed = whole.encode_to_vec();
    Ok((read_archive(&packed, catalogue)?, packed))
}

fn no_claim(root: &AccountId, cycle: CycleId) -> Refusal {
    Refusal::new(Reason::CycleNotOpen, format!("no bills of cycle {cycle} of '{root}' are being made"))
}
