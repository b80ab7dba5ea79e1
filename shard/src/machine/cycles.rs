//! The steps of a close, as commands: cut, billed, issued, archived. The rules are those of `billing::cycle`.

use std::sync::Arc;

use super::command::{BilledRoot, Done, Effect};
use super::state::{State, unknown_root};
use crate::base::hash::Hash;
use crate::base::id::{AccountId, Slot};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::CycleId;
use crate::billing::claim::ClaimedBills;
use crate::billing::cycle::CutRequest;
use crate::placement::slot_of;
use crate::pricing::document::{Aggregation, LevelRecords};

impl State {
    /// Cuts a cycle and fixes its inputs.
    pub(super) fn cut(
        &mut self,
        root: &AccountId,
        cycle: CycleId,
        manual: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        let (index, stamp, catalogues, machine) = (self.index, self.stamp, self.catalogues.clone(), self.machine);
        let (live, number) = self.root_mut(root)?;
        let row = &mut live.data.roots[number as usize];
        row.check_settled(cycle)?;
        let inputs = row.inputs_at(cycle, &catalogues, machine);
        let (close, grace) = (row.hierarchy.close, row.hierarchy.grace);
        let step =
            Arc::make_mut(&mut row.cycles).cut(cycle, &CutRequest { index, stamp, manual, close, grace }, inputs)?;
        let open = row.cycles.open.ordinal();
        live.opens[number as usize] = open;
        if step.changed {
            effects.push(Effect::CycleCut { slot: live.data.slot, root: root.clone(), cycle });
        }
        Ok(Done::Cut { index: step.now.index, at: step.now.at, ended_grace: step.now.ended_grace })
    }

    /// Records what a majority agrees on: all of it, or nothing.
    pub(super) fn billed(
        &mut self,
        slot: Slot,
        roots: &[BilledRoot],
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        self.check_owned(slot)?;
        let (place, stamp) = (usize::from(slot.0), self.stamp);
        let Some(live) = self.slots[place].as_mut() else {
            return Err(roots.first().map_or_else(
                || Refusal::new(Reason::NotFound, format!("slot {slot} has no hierarchies")),
                |first| unknown_root(&first.root),
            ));
        };
        let mut next = Vec::with_capacity(roots.len());
        let mut changed = false;
        for billed in roots {
            let number = live.data.root_number(&billed.root)?;
            // A root may be here with several cycles: each step builds on the one before.
            let earlier = next.iter().rev().find(|(other, _)| *other == number).map(|(_, cycles)| cycles);
            let mut cycles = Arc::clone(earlier.unwrap_or(&live.data.roots[number as usize].cycles));
            let (root, cycle) = (billed.root.clone(), billed.cycle);
            let now = Arc::make_mut(&mut cycles);
            let (is_new, effect) = match &billed.claim {
                None => {
                    let is_new = now.billed(cycle, &billed.bills, &billed.postings)?;
                    (is_new, Effect::CycleBilled { slot, root, cycle })
                }
                Some(claim) => {
                    let (bills, postings) = (&*billed.bills, &*billed.postings);
                    let claimed = ClaimedBills { cycle, index: claim.index, bills, postings, archive: claim.archive };
                    // Their numbers come with them.
                    (now.claim_billed(&claimed, stamp)?, Effect::CycleIssued { slot, root, cycle })
                }
            };
            changed |= is_new;
            effects.extend(is_new.then_some(effect));
            next.push((number, cycles));
        }
        live.thaw();
        for (number, cycles) in next {
            if cycles.claim.is_none() && live.data.claimed.contains_key(&number) {
                Arc::make_mut(&mut live.data.claimed).remove(&number);
            }
            live.data.roots[number as usize].cycles = cycles;
        }
        Ok(if changed { Done::Changed } else { Done::Unchanged })
    }

    /// Numbers the bills of a cycle.
    pub(super) fn issue(
        &mut self,
        root: &AccountId,
        cycle: CycleId,
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        let stamp = self.stamp;
        let (live, number) = self.root_mut(root)?;
        let step = Arc::make_mut(&mut live.data.roots[number as usize].cycles).issue(cycle, stamp)?;
        if step.changed {
            effects.push(Effect::CycleIssued { slot: live.data.slot, root: root.clone(), cycle });
        }
        Ok(Done::Issued(step.now))
    }

    /// Lets the counters of an issued cycle leave memory.
    pub(super) fn archived(
        &mut self,
        root: &AccountId,
        cycle: CycleId,
        hash: Hash,
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        let (live, number) = self.root_mut(root)?;
        let row = &mut live.data.roots[number as usize];
        if !Arc::make_mut(&mut row.cycles).archived(cycle, hash)? {
            return Ok(Done::Unchanged);
        }
        let members: Vec<u32> = live.data.series.members_from(row.newest).collect();
        for member in members {
            let numbers: Vec<u32> = live.data.series.series_of(member).collect();
            for number in numbers {
                let thing = live.data.series.rows[number as usize].thing as usize;
                let meter = &live.data.meters[usize::from(live.data.series.things[thing].meter)];
                if meter.aggregation == Aggregation::Level && meter.level.carry {
                    let changes = meter.level.records == LevelRecords::Change;
                    live.data.counters.carry(number, cycle.ordinal(), cycle.end(), changes);
                }
                live.data.counters.forget(number, cycle.ordinal());
            }
        }
        effects.push(Effect::CycleArchived { slot: slot_of(root.as_str()), root: root.clone(), cycle, hash });
        Ok(Done::Changed)
    }
}
