//! State <-> bytes by slot. A section is one slot, or the shard's header; it is written in parts of bounded size, each with
//! format number and checksum. Look-ups are rebuilt, not stored. Equal states write equal bytes, so the state's hash is
//! that of its snapshot.
//!
//! ```text
//! part = 2 (u8, format), crc32c of the rest (u32, little endian), ShardHeader or SlotPart (protobuf)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::codec::{
    account, file_from_wire, file_to_wire, period_from_wire, period_to_wire, range_from_wire, range_to_wire,
    seal_from_wire, seal_to_wire, slot, text, version_from_wire, version_to_wire,
};
use super::moving::{Arriving, Moves};
use super::query::View;
use super::snapshot_rows::{
    dimensions_from_wire, dimensions_to_wire, kept_from_wire, kept_to_wire, lot_from_wire, lot_to_wire,
    meter_from_wire, meter_to_wire, producer_from_wire, producer_to_wire, root_from_wire, root_to_wire,
};
use super::state::{CatalogueVersion, Claimed, Home, Identity, LiveSlot, MACHINE_VERSION, RootRow, SlotData, State};
use super::transferred::Transfers;
use super::wire;
use super::wire_moves;
use super::wire_state;
use crate::account::directory::Directory;
use crate::base::hash::Hash;
use crate::base::id::{AccountId, CatalogueName, ProducerId, ShardId};
use crate::base::time::Timestamp;
use crate::billing::bill::FIRST_MACHINE;
use crate::placement::SLOTS;
use crate::usage::counter::{LANES, Meta, SideKey, SideLot};
use crate::usage::ids::IdEntry;
use crate::usage::kept::Join;
use crate::usage::segment::Definition;
use crate::usage::series::SeriesIndex;

/// First byte of a part.
pub const FORMAT: u8 = 2;
/// The section of the shard's header; slots are sections by their number.
pub const HEADER_SECTION: u32 = SLOTS as u32;
/// The section of slots that come from another shard and are not settled.
pub const ARRIVING_SECTION: u32 = HEADER_SECTION + 1;
/// Rows of one list in one part: parts stay below about a megabyte.
const PART_ROWS: usize = 8_192;

/// Why a snapshot cannot be taken as a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot section {section} cannot be read: {why}; restore from another copy")]
pub struct BadSnapshot {
    pub section: u32,
    pub why: String,
}

impl View {
    /// Writes the shard, part by part: header first, then each slot's parts in order.
    pub fn write(&self, sink: &mut dyn FnMut(u32, &[u8])) {
        sink(HEADER_SECTION, &seal(&self.header()));
        for data in self.slots.values() {
            write_slot_sealed(data, &mut |part| sink(u32::from(data.slot.0), part));
        }
        for (id, arriving) in &self.moves.arriving {
            let (id, slots) = (*id, Some(range_to_wire(&arriving.slots)));
            let head = wire_moves::Arriving { id, slots, seal: arriving.seal.as_ref().map(seal_to_wire), chunk: None };
            sink(ARRIVING_SECTION, &seal(&head));
            for chunk in &arriving.chunks {
                let part = wire_moves::Arriving { id, chunk: Some(chunk.to_vec()), ..wire_moves::Arriving::default() };
                sink(ARRIVING_SECTION, &seal(&part));
            }
        }
    }

    /// blake3 over the snapshot: the same on every replica at the same index.
    pub fn hash(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        self.write(&mut |section, bytes| {
            hasher.update(&section.to_le_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        });
        *hasher.finalize().as_bytes()
    }

    fn header(&self) -> wire_state::ShardHeader {
        let moved = |(slot, id): (&u16, &u64)| wire_moves::MovedSlot { slot: (*slot).into(), id: *id };
        let identity = self.identity.as_ref().map(|identity| wire::Genesis {
            shard: self.shard.0,
            slots: identity.slots.iter().map(range_to_wire).collect(),
            epoch: identity.epoch,
            ids_bytes_max: identity.ids_bytes_max,
        });
        wire_state::ShardHeader {
            machine_version: self.machine,
            shard: self.shard.0,
            identity,
            index: self.index,
            stamp: self.stamp.0,
            catalogues: self
                .catalogues
                .iter()
                .flat_map(|(name, versions)| versions.iter().map(|known| version_to_wire(name, known)))
                .collect(),
            oldest_id_hour: self.oldest_id_hour,
            slots: self.slots.len() as u32,
            leaving: self.moves.leaving.iter().map(moved).collect(),
            ended: self.moves.ended.iter().map(moved).collect(),
        }
    }
}

impl State {
    /// The state's hash; costs a walk over all of it.
    pub fn hash(&mut self) -> Hash {
        self.view().hash()
    }

    /// Takes a snapshot's parts, each section's parts in order and together; sections in any order.
    pub fn restore(parts: impl IntoIterator<Item = (u32, Vec<u8>)>) -> Result<State, BadSnapshot> {
        State::restore_supporting(MACHINE_VERSION, parts)
    }

    /// The same for a replica that supports versions of the machine up to `newest`.
    pub fn restore_supporting(
        newest: u32,
        parts: impl IntoIterator<Item = (u32, Vec<u8>)>,
    ) -> Result<State, BadSnapshot> {
        let mut header: Option<wire_state::ShardHeader> = None;
        let mut arriving: BTreeMap<u64, Arriving> = BTreeMap::new();
        let mut reader = SlotsReader::default();
        for (section, bytes) in parts {
            let bad = |why: String| BadSnapshot { section, why };
            match section {
                HEADER_SECTION => {
                    let read = wire_state::ShardHeader::decode(unseal(&bytes).map_err(bad)?);
                    header = Some(read.map_err(|error| bad(error.to_string()))?);
                }
                ARRIVING_SECTION => {
                    let read = wire_moves::Arriving::decode(unseal(&bytes).map_err(bad)?);
                    let part = read.map_err(|error| bad(error.to_string()))?;
                    restore_arriving(&mut arriving, part).map_err(bad)?;
                }
                _ => reader.take(section, &bytes)?,
            }
        }
        let slots = reader.finish()?;
        let bad = |why: String| BadSnapshot { section: HEADER_SECTION, why };
        let header = header.ok_or_else(|| bad("it is missing".to_owned()))?;
        restore_shard(&header, slots, arriving, newest).map_err(bad)
    }
}

pub(super) fn seal(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![FORMAT, 0, 0, 0, 0];
    message.encode(&mut bytes).expect("a vector takes any number of bytes");
    let sum = crc32c::crc32c(&bytes[5..]);
    bytes[1..5].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], String> {
    let Some(([FORMAT, sum @ ..], body)) = bytes.split_first_chunk::<5>() else {
        return Err(format!("a part of {} bytes does not begin with format {FORMAT}", bytes.len()));
    };
    if crc32c::crc32c(body).to_le_bytes() != *sum {
        return Err("a part's checksum does not match".to_owned());
    }
    Ok(body)
}

/// Slots from their parts, each slot's parts in order and together.
#[derive(Default)]
pub(super) struct SlotsReader {
    slots: BTreeMap<u16, Box<LiveSlot>>,
    gathering: Option<Gathering>,
}

/// A slot whose parts are being merged.
struct Gathering {
    section: u32,
    part: wire_state::SlotPart,
    parts: u32,
}

impl SlotsReader {
    /// Takes the next part.
    pub fn take(&mut self, section: u32, bytes: &[u8]) -> Result<(), BadSnapshot> {
        if self.gathering.as_ref().is_none_or(|gathering| gathering.section != section) {
            self.end_slot()?;
        }
        let bad = |why: String| BadSnapshot { section, why };
        let begun = || Gathering { section, part: wire_state::SlotPart::default(), parts: 0 };
        let gathering = self.gathering.get_or_insert_with(begun);
        gathering.part.merge(unseal(bytes).map_err(bad)?).map_err(|error| bad(error.to_string()))?;
        gathering.parts += 1;
        Ok(())
    }

    /// All of them, by number.
    pub fn finish(mut self) -> Result<BTreeMap<u16, Box<LiveSlot>>, BadSnapshot> {
        self.end_slot()?;
        Ok(self.slots)
    }

    fn end_slot(&mut self) -> Result<(), BadSnapshot> {
        let Some(Gathering { section, part, parts }) = self.gathering.take() else {
            return Ok(());
        };
        let bad = |why: &str| BadSnapshot { section, why: why.to_owned() };
        if part.parts != parts || part.slot != section {
            return Err(bad("a part is missing or of another slot"));
        }
        let number = slot(section).map_err(|why| bad(&why))?.0;
        let live = restore_slot(part).map_err(|why| bad(&why))?;
        if self.slots.insert(number, Box::new(live)).is_some() {
            return Err(bad("it comes twice"));
        }
        Ok(())
    }
}

fn restore_arriving(arriving: &mut BTreeMap<u64, Arriving>, part: wire_moves::Arriving) -> Result<(), String> {
    match part.chunk {
        None => {
            let (slots, seal) = (range_from_wire(part.slots.as_ref())?, part.seal.as_ref());
            let seal = seal.map(seal_from_wire).transpose()?;
            arriving.insert(part.id, Arriving { slots, chunks: Vec::new(), seal });
        }
        Some(chunk) => {
            let head = arriving.get_mut(&part.id).ok_or("a chunk of a move comes before its head")?;
            head.chunks.push(chunk.into());
        }
    }
    Ok(())
}

fn restore_shard(
    header: &wire_state::ShardHeader,
    slots: BTreeMap<u16, Box<LiveSlot>>,
    arriving: BTreeMap<u64, Arriving>,
    newest: u32,
) -> Result<State, String> {
    if !(FIRST_MACHINE..=newest).contains(&header.machine_version) {
        let version = header.machine_version;
        return Err(format!("it follows version {version} of the machine, this program knows up to {newest}"));
    }
    let found = slots.len();
    if found != header.slots as usize {
        return Err(format!("it names {} slots, {found} are here", header.slots));
    }
    let mut state = State::new(ShardId(header.shard)).supporting(newest);
    state.machine = header.machine_version;
    state.identity = match &header.identity {
        None => None,
        Some(identity) => Some(Identity {
            slots: identity.slots.iter().map(|range| range_from_wire(Some(range))).collect::<Result<_, _>>()?,
            epoch: identity.epoch,
            ids_bytes_max: identity.ids_bytes_max,
        }),
    };
    (state.index, state.stamp) = (header.index, Timestamp(header.stamp));
    let mut catalogues: BTreeMap<CatalogueName, Vec<CatalogueVersion>> = BTreeMap::new();
    for version in &header.catalogues {
        let (name, version) = version_from_wire(version)?;
        catalogues.entry(name).or_default().push(version);
    }
    state.catalogues = Arc::new(catalogues);
    let moved = |moved: &wire_moves::MovedSlot| Ok::<_, String>((slot(moved.slot)?.0, moved.id));
    let leaving: BTreeMap<u16, u64> = header.leaving.iter().map(moved).collect::<Result<_, _>>()?;
    let ended = header.ended.iter().map(moved).collect::<Result<_, _>>()?;
    state.id_budget.oldest = header.oldest_id_hour;
    for (number, live) in slots {
        if !leaving.contains_key(&number) {
            state.id_budget.add(&live.data);
        }
        let names = |row: &RootRow| state.catalogues.contains_key(&row.hierarchy.catalogue);
        if !live.data.roots.iter().all(names) {
            return Err("a hierarchy's catalogue is missing".to_owned());
        }
        state.slots[usize::from(number)] = Some(live);
    }
    state.moves = Arc::new(Moves { leaving, arriving, ended });
    Ok(state)
}

/// Writes a slot, part by part.
pub(super) fn write_slot_sealed(data: &SlotData, sink: &mut dyn FnMut(&[u8])) {
    write_slot(data, &mut |part| sink(&seal(part)));
}

fn write_slot(data: &SlotData, sink: &mut dyn FnMut(&wire_state::SlotPart)) {
    let mut parts = 1;
    let mut put = |part: wire_state::SlotPart| {
        parts += 1;
        sink(&part);
    };
    write_lists(data, &mut put);
    let head = wire_state::SlotPart {
        slot: data.slot.0.into(),
        generation: data.series.generation,
        catalogues: data.catalogues.iter().map(ToString::to_string).collect(),
        meters: data.meters.iter().map(meter_to_wire).collect(),
        parts,
        ..wire_state::SlotPart::default()
    };
    sink(&head);
}

/// The long lists, in parts of [`PART_ROWS`].
fn write_lists(data: &SlotData, put: &mut dyn FnMut(wire_state::SlotPart)) {
    // A root may hold a million accounts, so each is a part of its own.
    for row in data.roots.iter() {
        put(wire_state::SlotPart { roots: vec![root_to_wire(row)], ..wire_state::SlotPart::default() });
    }
    in_parts(data.series.members.iter(), put, |part, member| {
        let (account, root, checked) = (member.account.to_string(), member.root, member.checked);
        part.members.push(wire_state::Member { account, root, checked });
    });
    in_parts(data.series.things.iter(), put, |part, thing| {
        let dimensions = Some(dimensions_to_wire(&thing.dimensions));
        part.things.push(wire_state::Thing {
            catalogue: thing.catalogue.into(),
            meter: thing.meter.into(),
            dimensions,
        });
    });
    in_parts(data.series.rows.iter(), put, |part, row| part.rows.extend([row.member, row.thing]));
    for (lane, lots) in data.counters.lanes.iter().enumerate() {
        in_parts(lots.counted(), put, |part, (number, value, records)| {
            let lot = lot_to_wire(None, &SideLot { value, records });
            part.lots.push(wire_state::Lot { number, cycle: lane as u32, ..lot });
        });
    }
    let side = |(key, lot): (SideKey, SideLot)| wire_state::Lot {
        number: key.number,
        cycle: key.cycle,
        ..lot_to_wire(key.bucket, &lot)
    };
    in_parts(data.counters.buckets.iter(), put, |part, lot| part.buckets.push(side(lot)));
    in_parts(data.counters.late.iter(), put, |part, lot| part.late.push(side(lot)));
    in_parts(data.counters.kept.iter(), put, |part, (key, kept)| part.kept.push(kept_to_wire(key, kept)));
    in_parts(data.counters.late_kept.iter(), put, |part, (key, kept)| part.late_kept.push(kept_to_wire(key, kept)));
    for (number, claimed) in data.claimed.iter() {
        let claim = data.roots[*number as usize].cycles.claim.as_ref().expect("what is claimed has its claim");
        in_parts(claimed.series(*number, claim).into_iter(), put, |part, series| {
            part.claimed.push(wire_state::ClaimedSeries { root: *number, series: Some(series) });
        });
    }
    for (name, seen) in data.producers.iter() {
        put(wire_state::SlotPart { producers: vec![producer_to_wire(name, seen)], ..wire_state::SlotPart::default() });
    }
    for (hour, entries) in &data.ids.hours {
        in_parts(entries.iter(), put, |part, entry| {
            if part.hours.is_empty() {
                part.hours.push(wire_state::IdHour { hour: *hour, entries: Vec::new() });
            }
            part.hours[0].entries.extend([entry.key[0], entry.key[1], entry.body]);
        });
    }
    in_parts(data.homes.iter(), put, |part, (producer, home)| {
        let (producer, file) = (producer.to_string(), home.file.as_ref().map(file_to_wire));
        part.homes.push(wire_state::HomeOf { producer, epoch: home.epoch, file });
    });
    in_parts(data.directory.iter(), put, |part, (account, entries)| {
        // One message a root, in the order of the entries; restoring sorts them again.
        let mut roots: BTreeMap<&AccountId, Vec<wire::Period>> = BTreeMap::new();
        for entry in entries {
            roots.entry(&entry.root).or_default().push(period_to_wire(&entry.period));
        }
        part.directory.extend(roots.into_iter().map(|(root, periods)| wire::PutDirectory {
            account: account.to_string(),
            root: root.to_string(),
            periods,
        }));
    });
    in_parts(data.transfers().iter(), put, |part, transfer| part.transfers.push(transfer.to_wire()));
}

fn in_parts<T>(
    rows: impl Iterator<Item = T>,
    put: &mut dyn FnMut(wire_state::SlotPart),
    add: impl Fn(&mut wire_state::SlotPart, T),
) {
    let mut part = wire_state::SlotPart::default();
    let mut count = 0;
    for row in rows {
        add(&mut part, row);
        count += 1;
        if count % PART_ROWS == 0 {
            put(std::mem::take(&mut part));
        }
    }
    if count % PART_ROWS != 0 {
        put(part);
    }
}

fn restore_slot(part: wire_state::SlotPart) -> Result<LiveSlot, String> {
    let mut data = SlotData::new(slot(part.slot)?, part.generation);
    let catalogues = part.catalogues.iter().map(|name| CatalogueName::new(name).map_err(text));
    data.catalogues = Arc::new(catalogues.collect::<Result<_, _>>()?);
    data.meters = Arc::new(part.meters.iter().map(meter_from_wire).collect::<Result<_, _>>()?);
    let mut numbers = BTreeMap::new();
    for root in &part.roots {
        let row = root_from_wire(root)?;
        if usize::from(row.catalogue) >= data.catalogues.len() || data.roots.len() >= Meta::ROOTS_MAX {
            return Err("a root names a catalogue that is missing, or is one too many".to_owned());
        }
        numbers.insert(row.hierarchy.root.clone(), data.roots.len() as u32);
        data.roots.push(row);
    }
    data.root_numbers = Arc::new(numbers);
    restore_series(&mut data, &part)?;
    restore_counters(&mut data, &part)?;
    data.claimed = Arc::new(restore_claimed(&data, part.claimed)?);
    for producer in &part.producers {
        data.producers.restore(&producer.name, producer_from_wire(producer)?);
    }
    for hour in &part.hours {
        let entries = data.ids.hours.entry(hour.hour).or_default();
        for entry in hour.entries.chunks_exact(3) {
            entries.push(IdEntry { key: [entry[0], entry[1]], body: entry[2] });
        }
    }
    let mut homes = BTreeMap::new();
    for home in &part.homes {
        let file = home.file.as_ref().map(file_from_wire).transpose()?;
        homes.insert(ProducerId::new(&home.producer).map_err(text)?, Home { epoch: home.epoch, file });
    }
    data.homes = Arc::new(homes);
    let mut directory = Directory::default();
    for entry in &part.directory {
        let periods: Vec<_> = entry.periods.iter().map(period_from_wire).collect();
        directory.put(&account(&entry.account)?, &account(&entry.root)?, &periods).map_err(text)?;
    }
    data.directory = Arc::new(directory);
    if !part.transfers.is_empty() {
        data.transfers = Some(Arc::new(Transfers::from_wire(&part.transfers)?));
    }
    Ok(LiveSlot::new(data))
}

fn restore_series(data: &mut SlotData, part: &wire_state::SlotPart) -> Result<(), String> {
    // Adding in the same order makes the same numbers and chains.
    let mut index = SeriesIndex::default();
    for member in &part.members {
        let root = data.roots.get_mut(member.root as usize).ok_or("a member's root is missing")?;
        let number = data.series.add_member(&mut index, &account(&member.account)?, member.root, &mut root.newest);
        data.series.members[number as usize].checked = member.checked;
    }
    for thing in &part.things {
        let (catalogue, meter) = (thing.catalogue as u16, thing.meter as u16);
        if thing.meter as usize >= data.meters.len() {
            return Err("a series' meter is missing".to_owned());
        }
        let dimensions = dimensions_from_wire(thing.dimensions.as_ref().ok_or("a series has no dimensions")?);
        let definition = Definition {
            scale: 0,
            account: "",
            service: &dimensions.service,
            usage_type: &dimensions.usage_type,
            operation: &dimensions.operation,
            region: &dimensions.region,
            attributes: dimensions.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        data.series.add_thing(&mut index, catalogue, meter, &definition).map_err(|full| full.what.to_owned())?;
    }
    for row in part.rows.chunks_exact(2) {
        let (member, thing) = (row[0], row[1]);
        if member as usize >= data.series.members.len() || thing as usize >= data.series.things.len() {
            return Err("a series names an account or dimensions that are missing".to_owned());
        }
        data.series.add_row(&mut index, member, thing).map_err(|full| full.what.to_owned())?;
        let root = data.series.members[member as usize].root;
        data.roots[root as usize].series += 1;
    }
    Ok(())
}

fn restore_counters(data: &mut SlotData, part: &wire_state::SlotPart) -> Result<(), String> {
    let series = data.series.rows.len();
    let known = |lot: &wire_state::Lot| {
        if (lot.number as usize) < series { Ok(()) } else { Err("a counter's series is missing") }
    };
    for lot in &part.lots {
        known(lot)?;
        let lane = data.counters.lanes.get_mut(lot.cycle as usize);
        let lane = lane.ok_or_else(|| format!("there are {LANES} lanes, a counter is in {}", lot.cycle))?;
        let (_, SideLot { value, records }) = lot_from_wire(lot)?;
        let table = &data.series;
        lane.cover(lot.number, series, &|number| table.meta_of(number));
        lane.restore(lot.number, value, records);
    }
    let side = |lot: &wire_state::Lot| -> Result<(SideKey, SideLot), String> {
        known(lot)?;
        let (bucket, counted) = lot_from_wire(lot)?;
        Ok((SideKey { number: lot.number, cycle: lot.cycle, bucket }, counted))
    };
    for lot in &part.buckets {
        let (key, lot) = side(lot)?;
        data.counters.buckets.restore(key, lot);
    }
    for lot in &part.late {
        let (key, lot) = side(lot)?;
        data.counters.late.restore(key, lot);
    }
    let tables = [(&part.kept, &mut data.counters.kept), (&part.late_kept, &mut data.counters.late_kept)];
    for (entries, table) in tables {
        for kept in entries {
            if kept.number as usize >= series {
                return Err("the series of what a meter keeps is missing".to_owned());
            }
            let (key, kept) = kept_from_wire(kept);
            table.put(key, kept, Join::Latest);
        }
    }
    Ok(())
}

/// Every root with a claim has its series here, if there are any.
fn restore_claimed(data: &SlotData, series: Vec<wire_state::ClaimedSeries>) -> Result<BTreeMap<u32, Claimed>, String> {
    let with_claim = data.roots.iter().enumerate().filter(|(_, row)| row.cycles.claim.is_some());
    let mut claimed: BTreeMap<u32, Vec<_>> = with_claim.map(|(number, _)| (number as u32, Vec::new())).collect();
    for own in series {
        let of_root = claimed.get_mut(&own.root).ok_or("counters are claimed without a claim")?;
        of_root.push(own.series.ok_or("a claimed series is empty")?);
    }
    Ok(claimed.into_iter().map(|(number, series)| (number, Claimed::Packed(Arc::new(series)))).collect())
}
