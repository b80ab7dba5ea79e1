//! Slots on their way between shards. A slot is frozen where it leaves, its bytes are staged and sealed where it goes, and
//! then the meta group decides: both shards settle by that alone. Who carries bytes and asks for the decision is the
//! node's matter.
//!
//! Moves of one slot come one after another, with rising ids; each slot remembers the latest that ended here, so that a
//! command of an older one, however late it arrives, does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{CatalogueVersion, Done, Effect, Seal};
use super::moving::Arriving;
use super::query::View;
use super::snapshot::{SlotsReader, write_slot_sealed};
use super::state::{LiveSlot, State};
use crate::base::id::{CatalogueName, Slot};
use crate::base::refusal::{Reason, Refusal};
use crate::placement::{SLOTS, SlotRange};

/// Bytes of one chunk: a few fit a message between nodes, and usage waits behind one for about a millisecond.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Bytes that slots on their way may have: they are held twice for a moment, and usage of them waits meanwhile.
pub const MOVE_BYTES_MAX: usize = 4 << 30;

/// Before each part: its slot (u16) and length (u32), little endian.
const FRAME_BYTES: usize = 6;

impl View {
    /// What slots hold, in chunks of [`CHUNK_BYTES_MAX`], and the seal that goes with them.
    ///
    /// # Errors
    /// INVALID_VALUE where a slot is not frozen, LIMIT_REACHED where they hold more than [`MOVE_BYTES_MAX`].
    pub fn pack_slots(&self, slots: SlotRange) -> Result<(Vec<Vec<u8>>, Seal), Refusal> {
        if let Some(slot) = numbers(slots).find(|slot| !self.moves.leaving.contains_key(slot)) {
            return Err(Refusal::new(Reason::InvalidValue, format!("slot {slot} is not frozen; freeze it first")));
        }
        let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut hasher = blake3::Hasher::new();
        let mut put = |mut data: &[u8]| {
            hasher.update(data);
            bytes += data.len();
            while !data.is_empty() {
                let (now, later) = data.split_at(data.len().min(CHUNK_BYTES_MAX - chunk.len()));
                chunk.extend_from_slice(now);
                if chunk.len() == CHUNK_BYTES_MAX {
                    chunks.push(std::mem::take(&mut chunk));
                }
                data = later;
            }
        };
        for data in self.slots.range(slots.first..=slots.last).map(|(_, data)| data) {
            write_slot_sealed(data, &mut |part| {
                put(&data.slot.0.to_le_bytes());
                put(&(part.len() as u32).to_le_bytes());
                put(part);
            });
        }
        if bytes > MOVE_BYTES_MAX {
            let detail = format!("slots {slots} hold {bytes} bytes, at most {MOVE_BYTES_MAX} move at once");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        if !chunk.is_empty() {
            chunks.push(chunk);
        }
        let (hash, stamp) = (*hasher.finalize().as_bytes(), self.stamp);
        let seal = Seal { hash, stamp, oldest_id_hour: self.oldest_id_hour, catalogues: self.catalogues_of(slots) };
        Ok((chunks, seal))
    }

    /// All versions of the catalogues that hierarchies of these slots use.
    pub fn catalogues_of(&self, slots: SlotRange) -> Vec<(CatalogueName, Vec<CatalogueVersion>)> {
        let data = self.slots.range(slots.first..=slots.last).map(|(_, data)| data);
        let mut names: Vec<&CatalogueName> = data.flat_map(|data| data.catalogues.iter()).collect();
        names.sort_unstable();
        names.dedup();
        let known = |name: &CatalogueName| self.catalogues.get(name).cloned().unwrap_or_default();
        names.into_iter().map(|name| (name.clone(), known(name))).collect()
    }
}

/// The slots that have come, by number.
fn slots_of(arriving: &Arriving) -> Result<BTreeMap<u16, Box<LiveSlot>>, String> {
    let bytes: Vec<u8> = arriving.chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
    let mut rest = &bytes[..];
    let mut reader = SlotsReader::default();
    while !rest.is_empty() {
        let ((head, tail), cut) = (rest.split_at_checked(FRAME_BYTES).unzip(), "a part is cut");
        let (head, tail) = (head.ok_or(cut)?, tail.ok_or(cut)?);
        let slot = u16::from_le_bytes([head[0], head[1]]);
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let (part, tail) = tail.split_at_checked(length).ok_or(cut)?;
        if !arriving.slots.contains(Slot(slot)) {
            return Err(format!("it holds slot {slot}"));
        }
        reader.take(slot.into(), part).map_err(|bad| bad.why)?;
        rest = tail;
    }
    reader.finish().map_err(|bad| bad.why)
}

fn numbers(slots: SlotRange) -> std::ops::RangeInclusive<u16> {
    slots.first..=slots.last
}

impl State {
    /// What slots that have come hold; `None` where there are none of that move, or they are not sealed.
    pub fn arrived(&self, id: u64) -> Option<View> {
        let slots = self.moves.arriving.get(&id).filter(|arriving| arriving.seal.is_some())?;
        let slots = slots_of(slots).ok()?;
        let twins = slots.into_iter().map(|(slot, mut live)| (slot, live.freeze()));
        Some(self.view_with(twins.collect()))
    }

    pub(super) fn freeze_slots(&mut self, id: u64, slots: SlotRange) -> Result<Done, Refusal> {
        check_range(slots)?;
        self.check_not_ended(id, slots)?;
        let of_other = |slot: &u16| self.moves.leaving.get(slot).is_some_and(|other| *other != id);
        if let Some(slot) = numbers(slots).find(of_other) {
            let detail = format!("slot {slot} is leaving under another move; wait for its end");
            return Err(Refusal::new(Reason::SlotMoving, detail));
        }
        if numbers(slots).all(|slot| self.moves.leaving.contains_key(&slot)) {
            return Ok(Done::Unchanged);
        }
        for slot in numbers(slots) {
            self.check_owned(Slot(slot))?;
        }
        let moves = Arc::make_mut(&mut self.moves);
        for slot in numbers(slots) {
            moves.leaving.insert(slot, id);
            if let Some(live) = &self.slots[usize::from(slot)] {
                self.id_budget.subtract(&live.data);
            }
        }
        Ok(Done::Changed)
    }

    pub(super) fn stage_slots(&mut self, id: u64, slots: SlotRange, at: u32, chunk: &[u8]) -> Result<Done, Refusal> {
        self.check_comes(id, slots)?;
        let arriving = Arc::make_mut(&mut self.moves).arriving.entry(id).or_insert_with(|| Arriving::new(slots));
        let next = arriving.chunks.len();
        if arriving.seal.is_some() || (at as usize) < next {
            return Ok(Done::Unchanged);
        }
        if at as usize > next {
            let detail = format!("chunk {at} of move {id} came before chunk {next}; send that first");
            return Err(Refusal::new(Reason::OutOfOrder, detail));
        }
        if chunk.is_empty() || chunk.len() > CHUNK_BYTES_MAX || arriving.bytes() + chunk.len() > MOVE_BYTES_MAX {
            let detail = format!(
                "a chunk of {} bytes after {}; a chunk has 1 to {CHUNK_BYTES_MAX}, a move at most {MOVE_BYTES_MAX}",
                chunk.len(),
                arriving.bytes()
            );
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        arriving.chunks.push(chunk.into());
        Ok(Done::Changed)
    }

    pub(super) fn seal_slots(
        &mut self,
        id: u64,
        slots: SlotRange,
        seal: &Seal,
        effects: &mut Vec<Effect>,
    ) -> Result<Done, Refusal> {
        self.check_comes(id, slots)?;
        let conflict = |detail: String| Err(Refusal::new(Reason::VersionConflict, detail));
        let arriving = self.moves.arriving.get(&id).cloned().unwrap_or_else(|| Arriving::new(slots));
        match &arriving.seal {
            // Its shard's time may have gone on meanwhile; what is frozen has not.
            Some(known) if (known.hash, &known.catalogues) == (seal.hash, &seal.catalogues) => {
                return Ok(Done::Unchanged);
            }
            Some(_) => return conflict(format!("move {id} is sealed with other content")),
            None => (),
        }
        for (name, versions) in &seal.catalogues {
            if self.catalogues.get(name) != Some(versions) {
                return conflict(format!(
                    "shard {} and the one that slots {slots} leave have other versions of catalogue '{name}'; apply \
                     its latest version again, then move them",
                    self.shard
                ));
            }
        }
        let read = if arriving.hash() == seal.hash { slots_of(&arriving) } else { Err("its bytes differ".to_owned()) };
        let moves = Arc::make_mut(&mut self.moves);
        if let Err(why) = read {
            // From the first chunk again.
            moves.arriving.remove(&id);
            let detail = format!("what came of slots {slots} cannot be used: {why}; send it again");
            return Err(Refusal::new(Reason::OutOfOrder, detail));
        }
        moves.arriving.insert(id, Arriving { seal: Some(seal.clone()), ..arriving });
        effects.push(Effect::SlotsSealed { id });
        Ok(Done::Changed)
    }

    pub(super) fn settle_slots(&mut self, id: u64, slots: SlotRange, epoch: Option<u64>) -> Result<Done, Refusal> {
        check_range(slots)?;
        if self.check_not_ended(id, slots).is_err() {
            return Ok(Done::Unchanged);
        }
        let Some(identity) = &self.identity else {
            let detail = format!("shard {} has not been told its slots yet; try again", self.shard);
            return Err(Refusal::new(Reason::WrongShard, detail));
        };
        let owned = numbers(slots).all(|slot| identity.slots.iter().any(|range| range.contains(Slot(slot))));
        let leaving = numbers(slots).all(|slot| self.moves.leaving.get(&slot) == Some(&id));
        match (epoch, owned) {
            (Some(_), true) => self.thaw_slots(slots, id),
            (Some(epoch), false) => self.take_in(id, slots, epoch)?,
            (None, true) if leaving => self.let_go(slots),
            (None, true) => {
                let detail = format!("slots {slots} are not frozen for move {id}; they stay");
                return Err(Refusal::new(Reason::VersionConflict, detail));
            }
            (None, false) => (),
        }
        let moves = Arc::make_mut(&mut self.moves);
        moves.arriving.remove(&id);
        for slot in numbers(slots) {
            moves.leaving.remove(&slot);
            moves.ended.insert(slot, id);
        }
        Ok(Done::Changed)
    }

    /// They stay after all.
    fn thaw_slots(&mut self, slots: SlotRange, id: u64) {
        for slot in numbers(slots).filter(|slot| self.moves.leaving.get(slot) == Some(&id)) {
            if let Some(live) = &self.slots[usize::from(slot)] {
                self.id_budget.add(&live.data);
            }
        }
    }

    /// They are another shard's.
    fn let_go(&mut self, slots: SlotRange) {
        for slot in numbers(slots) {
            self.slots[usize::from(slot)] = None;
        }
        if let Some(identity) = &mut self.identity {
            identity.slots = slots.taken_from(&identity.slots);
        }
    }

    /// They are this shard's.
    fn take_in(&mut self, id: u64, slots: SlotRange, epoch: u64) -> Result<(), Refusal> {
        let conflict = |detail: String| Refusal::new(Reason::VersionConflict, detail);
        let arriving = self.moves.arriving.get(&id).filter(|arriving| arriving.slots == slots);
        let Some((arriving, seal)) = arriving.and_then(|own| Some((own, own.seal.as_ref()?))) else {
            return Err(conflict(format!("slots {slots} have not come as a whole under move {id}; send them first")));
        };
        let read = slots_of(arriving).map_err(|why| conflict(format!("slots {slots} cannot be taken in: {why}")))?;
        self.stamp = self.stamp.max(seal.stamp);
        self.id_budget.oldest = self.id_budget.oldest.max(seal.oldest_id_hour);
        for (slot, live) in read {
            self.id_budget.add(&live.data);
            self.slots[usize::from(slot)] = Some(live);
        }
        if let Some(identity) = &mut self.identity {
            identity.slots = slots.added_to(&identity.slots);
            identity.epoch = identity.epoch.max(epoch);
        }
        self.trim_ids();
        Ok(())
    }

    /// Slots of a move that may come here.
    fn check_comes(&self, id: u64, slots: SlotRange) -> Result<(), Refusal> {
        check_range(slots)?;
        self.check_not_ended(id, slots)?;
        let conflict = |detail: String| Err(Refusal::new(Reason::VersionConflict, detail));
        let Some(identity) = &self.identity else {
            let detail = format!("shard {} has not been told its slots yet; try again", self.shard);
            return Err(Refusal::new(Reason::WrongShard, detail));
        };
        let is_here = |slot: &u16| identity.slots.iter().any(|range| range.contains(Slot(*slot)));
        if let Some(slot) = numbers(slots).find(is_here) {
            return conflict(format!("slot {slot} is in shard {} already", self.shard));
        }
        match self.moves.arriving.get(&id) {
            Some(arriving) if arriving.slots != slots => {
                conflict(format!("move {id} is of slots {}, not {slots}", arriving.slots))
            }
            _ => Ok(()),
        }
    }

    fn check_not_ended(&self, id: u64, slots: SlotRange) -> Result<(), Refusal> {
        let later = |slot: &u16| self.moves.ended.get(slot).is_some_and(|ended| *ended >= id);
        match numbers(slots).find(later) {
            None => Ok(()),
            Some(slot) => {
                let detail = format!("move {id} of slot {slot} is over");
                Err(Refusal::new(Reason::VersionConflict, detail))
            }
        }
    }
}

fn check_range(slots: SlotRange) -> Result<(), Refusal> {
    if slots.first <= slots.last && slots.last < SLOTS {
        return Ok(());
    }
    Err(Refusal::new(Reason::InvalidValue, format!("there are no slots {slots}; they go from 0 to {}", SLOTS - 1)))
}
