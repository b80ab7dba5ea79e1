//! A batch of usage into the counters: each segment is admitted or refused whole, then every record is a duplicate,
//! refused, or one add at a known address. The tables themselves live in `usage`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{BatchVerdict, NO_SERIES, SegmentVerdict, Verdict, VerdictRange};
use super::place::{add_to_lane, bucket_of, full, is_late, member_series, series_number};
use super::record::{Record, RecordName, amount_of, body_hash, check_kind, note};
use super::spread::count_spread;
use super::state::{CatalogueVersion, IdBudget, LiveSlot, MeterRow, SlotData, State};
use super::transferred::Transfers;
use crate::base::hash::Hash;
use crate::base::id::{CatalogueName, Slot};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::{CycleId, HOUR, Timestamp};
use crate::base::wide::power_of_ten;
use crate::pricing::catalogue::{Catalogue, MeterError, counted_of};
use crate::pricing::document::{Aggregation, LevelRecords};
use crate::usage::counter::{BUCKET_LOTS_MAX, LATE_LOTS_MAX, Meta, SideKey, add, lane_of, raise};
use crate::usage::ids::{ID_BYTES, IdEntry, Known, hour_of, key_of_id, key_of_number};
use crate::usage::kept::KeptKey;
use crate::usage::record::{check_dimensions, check_times};
use crate::usage::repeats::{Mark, Seen};
use crate::usage::segment::{Batch, Definition, Mode, Reference, Segment, signed};
use crate::usage::series::TableFull;

/// Records decoded at once: their columns fit the first-level cache, and their adds overlap in flight.
const BLOCK: usize = 128;

/// Records by id ahead whose places are read before their turn.
const RECORDS_AHEAD: usize = 12;

/// Segments ahead whose slots are read before their turn.
const AHEAD: usize = 4;

/// What a definition came to.
type Defined = Result<u32, Refusal>;

impl State {
    /// Counts a batch, segment by segment.
    pub(super) fn ingest(&mut self, bytes: &[u8], generation: u32) -> BatchVerdict {
        let slot_epoch = self.identity.as_ref().map_or(0, |identity| identity.epoch);
        let batch = match Batch::read(bytes) {
            Ok(batch) => batch,
            Err(refusal) => return BatchVerdict { refused: Some(refusal), slot_epoch, segments: Vec::new() },
        };
        let mut verdict = BatchVerdict { refused: None, slot_epoch, segments: Vec::new() };
        let mut window = Window::default();
        for (at, segment) in batch.segments.iter().enumerate() {
            if let Some(later) = batch.segments.get(at + AHEAD) {
                self.touch(later, &window);
            }
            let counted = self.ingest_segment(segment, generation, &mut window);
            let live = self.slots[usize::from(segment.slot.0)].as_ref();
            let table = live.map_or(0, |live| live.data.series.generation);
            let (whole, series, ranges) = match counted {
                Ok(counted) => (None, counted.series, counted.ranges.0),
                Err(refusal) => (Some(refusal), Vec::new(), Vec::new()),
            };
            let is_accepted = ranges.iter().all(|range| range.verdict == Verdict::Accepted { late: false });
            let is_plain = whole.is_none()
                && series.is_empty()
                && is_accepted
                && (segment.generation == table || segment.generation == 0);
            if !is_plain {
                let at = at as u32;
                let (slot, generation) = (segment.slot, table);
                verdict.segments.push(SegmentVerdict { at, slot, slot_epoch, generation, series, whole, ranges });
            }
        }
        verdict
    }

    /// Reads a little of a segment's slot before its turn, so that its memory is on its way.
    fn touch(&self, segment: &Segment<'_>, window: &Window) {
        let Some(live) = &self.slots[usize::from(segment.slot.0)] else {
            return;
        };
        let data = &live.data;
        std::hint::black_box((
            data.series.generation,
            data.meters.len(),
            live.opens.first(),
            data.producers.is_empty(),
        ));
        // Two numbers stand for all: neighbours of a small slot share their chunks.
        let mut some = [0; 2];
        let some = &mut some[..2.min(segment.records as usize)];
        segment.series.fill(0, some);
        data.counters.lanes[lane_of(window.ordinal)].touch(some, segment.definitions.len() as u64);
    }

    fn ingest_segment(
        &mut self,
        segment: &Segment<'_>,
        generation: u32,
        window: &mut Window,
    ) -> Result<Counted, Refusal> {
        self.check_owned(segment.slot)?;
        let live = self.slots[usize::from(segment.slot.0)].as_ref();
        check_generation(segment, live.map_or(0, |live| live.data.series.generation))?;
        let transfers = live.and_then(|live| live.data.transfers.as_deref());
        if let Some(live) = live.filter(|_| transfers.is_some_and(Transfers::some_leave)) {
            check_leaving(&live.data, segment)?;
        }
        let by_itself = transfers.is_some_and(Transfers::some_arrived);
        let by_id = by_itself || matches!(segment.mode, Mode::ById | Mode::Strays { .. });
        if by_id {
            self.check_id_room(segment)?;
        }
        let live = self.slot_mut(segment.slot, generation)?;
        // A segment of definitions alone has nothing that could be a repeat, and moves nothing.
        if segment.records > 0 {
            live.data.producers.admit(segment.producer, &segment.mode)?;
        }
        let live = self.slots[usize::from(segment.slot.0)].as_deref_mut().expect("the slot was made just before");
        let catalogues = Catalogues { versions: &self.catalogues, compiled: &self.compiled };
        let defined: Vec<Defined> =
            segment.definitions.iter().map(|definition| define(live, &catalogues, definition)).collect();
        let mut counting = Counting { live, window, ranges: Ranges::default() };
        match segment.mode {
            Mode::Sequenced { first, .. } if by_itself => {
                counting.by_mark_or_itself(segment, first, &defined, &mut self.id_budget);
            }
            Mode::Sequenced { first, .. } => counting.sequenced(segment, first, &defined),
            Mode::ById => counting.by_id(segment, None, &defined, &mut self.id_budget),
            Mode::Strays { first, .. } => counting.by_id(segment, Some(first), &defined, &mut self.id_budget),
        }
        let ranges = counting.ranges;
        if by_id {
            self.trim_ids();
        }
        let series = defined.iter().map(|defined| *defined.as_ref().unwrap_or(&NO_SERIES)).collect();
        Ok(Counted { series, ranges })
    }

    /// Whether the ids of a segment fit once all hours before the newest are dropped; nothing is dropped yet.
    fn check_id_room(&self, segment: &Segment<'_>) -> Result<(), Refusal> {
        let max = self.identity.as_ref().map_or(0, |identity| identity.ids_bytes_max);
        let hour = |index: usize| hour_of(segment.start_of(segment.start.get(index) as u64));
        let hours = || (0..segment.records as usize).map(hour);
        let known = self.id_budget.hours.last_key_value().map(|(hour, _)| *hour);
        let Some(newest) = known.max(hours().max()) else {
            return Ok(());
        };
        let known = self.id_budget.hours.get(&newest).copied().unwrap_or(0);
        let added = hours().filter(|hour| *hour == newest).count() as u64;
        if (known + added).saturating_mul(ID_BYTES) > max {
            let detail = format!(
                "the newest hour of usage time alone has {known} ids, and the shard keeps {max} bytes of ids at {ID_BYTES} \
                 each; wait for the next hour, or number the records"
            );
            return Err(Refusal::new(Reason::ResourceExhausted, detail));
        }
        Ok(())
    }

    /// Drops whole hours, oldest first, until the ids fit again. It comes after a segment, so that its repeats were
    /// recognised before their hours go.
    pub(super) fn trim_ids(&mut self) {
        let max = self.identity.as_ref().map_or(0, |identity| identity.ids_bytes_max);
        while self.id_budget.count.saturating_mul(ID_BYTES) > max {
            let Some((hour, count)) = self.id_budget.hours.pop_first() else {
                return;
            };
            self.id_budget.count -= count;
            self.id_budget.oldest = Some(hour + 1);
            let leaving = &self.moves.leaving;
            for live in self.slots.iter_mut().flatten() {
                // What leaves stays as it is, and is not counted here any more.
                if live.data.ids.hours.contains_key(&hour) && !leaving.contains_key(&live.data.slot.0) {
                    live.thaw();
                    live.data.ids.drop_hour(&mut live.id_index, hour);
                }
            }
        }
    }
}

/// Numbers of another table mean other series: such a segment is refused before anything moves.
fn check_generation(segment: &Segment<'_>, table: u32) -> Result<(), Refusal> {
    let definitions = segment.definitions.len() as u64;
    let is_stale = match segment.generation {
        0 => (0..segment.records as usize).any(|index| segment.series.get(index) as u64 >= definitions),
        generation => generation != table,
    };
    if is_stale {
        let detail = format!(
            "the series numbers are of generation {}, slot {} is at {table}; define the series again",
            segment.generation, segment.slot
        );
        return Err(Refusal::new(Reason::StaleSeries, detail));
    }
    Ok(())
}

/// Usage of an account that is leaving waits until it is known elsewhere: a segment with any is refused before anything
/// moves.
fn check_leaving(data: &SlotData, segment: &Segment<'_>) -> Result<(), Refusal> {
    for index in 0..segment.records as usize {
        let reference = segment.reference(segment.series.get(index) as u64);
        let Some(account) = account_of(data, segment, reference) else { continue };
        let start = segment.start_of(segment.start.get(index) as u64);
        let end = segment.end_of(start, segment.end.get(index) as u64);
        // A record that lasts ends before its end.
        let last = end.map_or(start, |end| start.max(Timestamp(end.0.saturating_sub(1))));
        if let Some(own) = data.transfers().waits(account, last) {
            let detail = format!(
                "account '{account}' is on its way from '{}' to '{}' from {} on; try again in a moment",
                own.root, own.other, own.at
            );
            return Err(Refusal::new(Reason::Moving, detail));
        }
    }
    Ok(())
}

/// Whose usage a record is; `None` where its series is in no table.
fn account_of<'a>(data: &'a SlotData, segment: &'a Segment<'_>, reference: Reference) -> Option<&'a str> {
    match reference {
        Reference::Definition(index) => Some(segment.definitions[index as usize].account),
        Reference::Number(number) => {
            let number = usize::try_from(number).ok().filter(|number| *number < data.series.rows.len())?;
            Some(data.series.members[data.series.rows[number].member as usize].account.as_str())
        }
    }
}

/// A segment that was not refused whole.
struct Counted {
    series: Vec<u32>,
    ranges: Ranges,
}

/// Runs of equal verdicts.
#[derive(Default)]
struct Ranges(Vec<VerdictRange>);

impl Ranges {
    fn push(&mut self, count: u32, verdict: Verdict) {
        if count == 0 {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.verdict == verdict => last.count += count,
            last => {
                let first = last.map_or(0, |last| last.first + last.count);
                self.0.push(VerdictRange { first, count, verdict });
            }
        }
    }
}

/// The calendar month of the latest time seen: a batch's times rarely leave it.
#[derive(Clone, Copy, Default)]
struct Window {
    from: i64,
    until: i64,
    ordinal: u32,
}

impl Window {
    #[inline]
    fn ordinal_of(&mut self, start: Timestamp) -> u32 {
        if start.0 < self.from || start.0 >= self.until {
            self.turn(start);
        }
        self.ordinal
    }

    #[cold]
    fn turn(&mut self, start: Timestamp) {
        // Beyond these years lies no cycle that could count; any ordinal outside them says so.
        let first = CycleId { year: 1970, month: 1 }.start().0;
        let last = CycleId { year: 2200, month: 12 }.end().0;
        *self = if start.0 < first {
            Window { from: i64::MIN, until: first, ordinal: 0 }
        } else if start.0 >= last {
            Window { from: last, until: i64::MAX, ordinal: u32::MAX / 2 }
        } else {
            let cycle = start.cycle();
            Window { from: cycle.start().0, until: cycle.end().0, ordinal: cycle.ordinal() }
        };
    }
}

/// The catalogue versions in use, with their compiled forms.
struct Catalogues<'a> {
    versions: &'a BTreeMap<CatalogueName, Vec<CatalogueVersion>>,
    compiled: &'a BTreeMap<Hash, Arc<Catalogue>>,
}

/// The number of a series, new or known.
fn define(live: &mut LiveSlot, catalogues: &Catalogues<'_>, definition: &Definition<'_>) -> Defined {
    let LiveSlot { data, series_index: index, .. } = live;
    let Some(member) = data.series.member_of(index, definition.account) else {
        return Err(unknown_account(definition.account, data.slot));
    };
    let root = data.series.members[member as usize].root;
    let catalogue = data.roots[root as usize].catalogue;
    let thing = match data.series.thing_of(index, catalogue, definition) {
        Some(thing) => thing,
        None => {
            let attributes = &definition.attributes;
            let (service, usage_type) = (definition.service, definition.usage_type);
            check_dimensions(service, usage_type, definition.operation, definition.region, attributes)?;
            let meter = meter_number(live, catalogues, catalogue, definition)?;
            let LiveSlot { data, series_index: index, .. } = live;
            data.series.add_thing(index, catalogue, meter, definition).map_err(full)?
        }
    };
    let data = &live.data;
    let meter = &data.meters[usize::from(data.series.things[thing as usize].meter)];
    if u32::from(definition.scale) != meter.scale {
        let detail = format!(
            "quantities are scaled to {} decimals, meter {} keeps {}; scale them to that",
            definition.scale, meter.id, meter.scale
        );
        return Err(Refusal::new(Reason::InvalidValue, detail));
    }
    series_number(live, member, thing)
}

/// The slot's number of the one meter that measures such records under the newest version of a catalogue.
fn meter_number(
    live: &mut LiveSlot,
    catalogues: &Catalogues<'_>,
    catalogue: u16,
    definition: &Definition<'_>,
) -> Result<u16, Refusal> {
    let name = &live.data.catalogues[usize::from(catalogue)];
    let versions = catalogues.versions.get(name).expect("a hierarchy's catalogue is in use");
    let newest = versions.last().expect("a catalogue in use has a version");
    let compiled = |version: &CatalogueVersion| -> &Catalogue {
        catalogues.compiled.get(&version.hash).expect("every version in use was loaded before the entry")
    };
    let Definition { service, usage_type, operation, region, attributes, .. } = definition;
    let found = compiled(newest).meter_of(service, usage_type, operation, region, attributes);
    let meter = compiled(newest).meter(found.map_err(|error| {
        let reason = match &error {
            MeterError::UnknownMeter => Reason::UnknownMeter,
            MeterError::UnknownAttribute(_) => Reason::UnknownAttribute,
        };
        let what =
            format!("service '{service}', usage type '{usage_type}', operation '{operation}', region '{region}'");
        Refusal::new(reason, format!("{what}: {error}"))
    })?);
    let is_known = |row: &MeterRow| row.catalogue == catalogue && row.id == meter.id;
    if let Some(known) = live.data.meters.iter().position(is_known) {
        return Ok(known as u16);
    }
    if live.data.meters.len() >= Meta::METERS_MAX {
        return Err(full(TableFull { what: "meters", max: Meta::METERS_MAX }));
    }
    // A meter is never removed from a catalogue, so the first version that has it begins its time.
    let has = |version: &&CatalogueVersion| compiled(version).meter_by_id(meter.id.as_str()).is_some();
    let since = versions.iter().find(has).map_or(0, |version| version.effective.ordinal());
    let ceilings = versions.iter().filter_map(|version| {
        let compiled = compiled(version);
        compiled.meter_by_id(meter.id.as_str()).map(|index| compiled.meter(index).ceiling)
    });
    let row = MeterRow {
        catalogue,
        id: meter.id.clone(),
        scale: meter.scale,
        bucket: meter.bucket,
        aggregation: meter.aggregation,
        level: meter.level,
        of_amount: meter.of_amount,
        keeps_records: meter.keeps_records,
        spreads: meter.spreads,
        since,
        ceiling: ceilings.min().unwrap_or(meter.ceiling),
    };
    let meters = Arc::make_mut(&mut live.data.meters);
    meters.push(row);
    Ok((meters.len() - 1) as u16)
}

fn unknown_account(account: &str, slot: Slot) -> Refusal {
    let detail = format!("account '{account}' is in no hierarchy of slot {slot}; add it to one, or resolve it again");
    Refusal::new(Reason::UnknownAccount, detail)
}

/// Counting one segment.
struct Counting<'a> {
    live: &'a mut LiveSlot,
    window: &'a mut Window,
    ranges: Ranges,
}

impl Counting<'_> {
    /// Records by number: at or under the mark a duplicate, above it new.
    fn sequenced(&mut self, segment: &Segment<'_>, first: u64, defined: &[Defined]) {
        if segment.records == 0 {
            return;
        }
        let Some(Seen::Sequenced(mark)) = self.live.data.producers.get_mut(segment.producer) else {
            unreachable!("the producer was admitted as sequenced");
        };
        let seen = match mark.last {
            None => 0,
            Some(last) => seen_records(segment, first, last, mark, &mut self.ranges),
        };
        if seen == segment.records as usize {
            return;
        }
        let mut refused: Vec<(u64, Refusal)> = Vec::new();
        let last = self.new_records(segment, seen, first, defined, &mut refused);
        let Some(Seen::Sequenced(mark)) = self.live.data.producers.get_mut(segment.producer) else {
            unreachable!("the producer was admitted as sequenced");
        };
        mark.last = Some(last);
        for (number, refusal) in refused {
            mark.refuse(number, refusal);
        }
    }

    /// Records by number where accounts have come from other slots: usage of such an account is recognised by its own
    /// number, as a stray is, for the mark may be past what was never counted here.
    fn by_mark_or_itself(&mut self, segment: &Segment<'_>, first: u64, defined: &[Defined], budget: &mut IdBudget) {
        let mut corrects = segment.corrects.map(|texts| texts.iter());
        let (mut next, mut inserted) = (first, Inserted::default());
        for index in 0..segment.records as usize {
            let number = next + segment.step.get(index) as u64;
            next = number + 1;
            let corrects = corrects.as_mut().and_then(Iterator::next).unwrap_or(&[]);
            let start = segment.start_of(segment.start.get(index) as u64);
            let reference = segment.reference(segment.series.get(index) as u64);
            let data = &self.live.data;
            let Some(Seen::Sequenced(mark)) = data.producers.get(segment.producer) else {
                unreachable!("the producer was admitted as sequenced");
            };
            let is_seen = mark.last.is_some_and(|last| number <= last);
            let by_itself = account_of(data, segment, reference)
                .is_some_and(|account| data.transfers().is_by_itself(account, start));
            let verdict = match mark.refusal(number).filter(|_| is_seen) {
                Some(refusal) => Err(refusal.clone()),
                None if is_seen && !by_itself => Ok(Verdict::Duplicate),
                None => {
                    let series = match reference {
                        Reference::Number(number) => Ok(number),
                        Reference::Definition(index) => defined[index as usize].clone(),
                    };
                    let amount = segment.amount.get(index);
                    let record = series.map(|series| Record {
                        name: RecordName::Number(segment.producer, number),
                        series,
                        quantity: signed(segment.quantity.get(index)),
                        start,
                        end: segment.end_of(start, segment.end.get(index) as u64),
                        amount: amount_of(amount),
                        corrects: !corrects.is_empty(),
                    });
                    record.and_then(|record| match by_itself {
                        true => {
                            let key = key_of_number(segment.producer, number);
                            self.count_by_id(&record, key, amount, corrects, budget.oldest, &mut inserted)
                        }
                        false => self.count(&record).map(|late| Verdict::Accepted { late }),
                    })
                }
            };
            if !is_seen {
                let Some(Seen::Sequenced(mark)) = self.live.data.producers.get_mut(segment.producer) else {
                    unreachable!("the producer was admitted as sequenced");
                };
                mark.last = Some(number);
                if let Err(refusal) = &verdict {
                    mark.refuse(number, refusal.clone());
                }
            }
            self.ranges.push(1, verdict.unwrap_or_else(Verdict::Refused));
        }
        inserted.flush(budget);
    }

    /// Counts the records from `from` on; answers the last number.
    fn new_records(
        &mut self,
        segment: &Segment<'_>,
        from: usize,
        first: u64,
        defined: &[Defined],
        refused: &mut Vec<(u64, Refusal)>,
    ) -> u64 {
        let plain = segment.end.is_absent() && segment.amount.is_absent() && segment.corrects.is_none();
        let wide = segment.quantity.width() > 8;
        let records = segment.records as usize;
        let mut corrects = segment.corrects.map(|texts| texts.iter().skip(from));
        let skipped: u64 = (0..from).map(|index| segment.step.get(index) as u64).sum();
        let mut next = first + from as u64 + skipped;
        let [mut series, mut quantities, mut starts, mut steps] = [[0u64; BLOCK]; 4];
        let mut block = from;
        while block < records {
            let count = BLOCK.min(records - block);
            segment.series.fill(block, &mut series[..count]);
            segment.start.fill(block, &mut starts[..count]);
            segment.step.fill(block, &mut steps[..count]);
            if !wide {
                segment.quantity.fill(block, &mut quantities[..count]);
            }
            let ordinal = self.window.ordinal_of(segment.start_of(starts[0]));
            self.live.data.counters.lanes[lane_of(ordinal)].touch(&series[..count], segment.definitions.len() as u64);
            let mut accepted = 0;
            for index in 0..count {
                let number = next + steps[index];
                next = number + 1;
                let start = segment.start_of(starts[index]);
                let quantity = match wide {
                    false => i128::from((quantities[index] >> 1) as i64 ^ -((quantities[index] & 1) as i64)),
                    true => signed(segment.quantity.get(block + index)),
                };
                let corrects = corrects.as_mut().and_then(Iterator::next).is_some_and(|id| !id.is_empty());
                let reference = segment.reference(series[index]);
                let known = match reference {
                    Reference::Number(number) => number,
                    Reference::Definition(index) => match &defined[index as usize] {
                        Ok(number) => *number,
                        Err(_) => NO_SERIES,
                    },
                };
                if plain && self.count_plain(known, quantity, start) {
                    accepted += 1;
                    continue;
                }
                self.ranges.push(std::mem::take(&mut accepted), Verdict::Accepted { late: false });
                let counted = match (reference, known) {
                    (Reference::Definition(index), NO_SERIES) => Err(refusal_of(defined, index)),
                    _ => self.count(&Record {
                        name: RecordName::Number(segment.producer, number),
                        series: known,
                        quantity,
                        start,
                        end: segment.end_of(start, segment.end.get(block + index) as u64),
                        amount: amount_of(segment.amount.get(block + index)),
                        corrects,
                    }),
                };
                match counted {
                    Ok(late) => self.ranges.push(1, Verdict::Accepted { late }),
                    Err(refusal) => {
                        self.ranges.push(1, Verdict::Refused(refusal.clone()));
                        refused.push((number, refusal));
                    }
                }
            }
            self.ranges.push(accepted, Verdict::Accepted { late: false });
            block += count;
        }
        next - 1
    }

    /// The hot path: one add at a known address. False where anything is out of the ordinary, and nothing has changed.
    #[inline]
    fn count_plain(&mut self, series: u32, quantity: i128, start: Timestamp) -> bool {
        let ordinal = self.window.ordinal_of(start);
        let data = &mut self.live.data;
        let lane = &mut data.counters.lanes[lane_of(ordinal)];
        let Some(lot) = lane.lot_mut(series) else {
            return false;
        };
        let meta = lot.meta;
        let meter = &data.meters[meta.meter()];
        let counts = ordinal.wrapping_sub(self.live.opens[meta.root()]) <= 1;
        if !counts || meta.checked() || !meter.is_plain() || ordinal < meter.since || quantity < 0 {
            return false;
        }
        let Some(sum) = lot.value().checked_add(quantity).filter(|sum| *sum <= meter.ceiling) else {
            return false;
        };
        if lot.count(sum) {
            lane.first_or_carry(series);
        }
        true
    }

    /// Counts a record with every check; true = late.
    fn count(&mut self, record: &Record<'_>) -> Result<bool, Refusal> {
        check_times(record.start, record.end)?;
        if record.series as usize >= self.live.data.series.rows.len() {
            let detail = format!(
                "series number {} is not in the table of slot {}; define the series",
                record.series, self.live.data.slot
            );
            return Err(Refusal::new(Reason::InvalidValue, detail));
        }
        let own = self.live.data.meter_of(record.series);
        if let Some(end) = record.end.filter(|end| own.spreads && *end > record.start) {
            return count_spread(self.live, record, end);
        }
        let series = member_series(self.live, record.series, record.start)?;
        let ordinal = self.window.ordinal_of(record.start);
        let data = &mut self.live.data;
        let row = data.series.rows[series as usize];
        let root = data.series.members[row.member as usize].root as usize;
        let meter = &data.meters[usize::from(data.series.things[row.thing as usize].meter)];
        let late = is_late(&data.roots[root], ordinal, record.start)?;
        if ordinal < meter.since {
            let first = CycleId::from_ordinal(meter.since).map_or(String::new(), |cycle| cycle.to_string());
            let detail = format!("meter {} is declared from cycle {first} on; usage before has no meter", meter.id);
            return Err(Refusal::new(Reason::UnknownMeter, detail));
        }
        let counted = counted_of(meter.of_amount, meter.id.as_str(), record.quantity, record.amount)?;
        check_kind(meter, counted, record.corrects)?;
        let noted = note(meter, record, counted)?;
        let quantity = match meter.aggregation {
            Aggregation::Sum | Aggregation::Percentile95 | Aggregation::Maximum => counted,
            Aggregation::Count if record.quantity < 0 => -power_of_ten(meter.scale),
            Aggregation::Count => power_of_ten(meter.scale),
            Aggregation::Level if meter.level.records == LevelRecords::Change => record.quantity,
            Aggregation::Latest | Aggregation::Unique | Aggregation::Level => 0,
        };
        let bucket = bucket_of(meter.bucket, record.start);
        let key = SideKey { number: series, cycle: ordinal, bucket };
        let (is_peak, ceiling) = (meter.aggregation == Aggregation::Maximum, meter.ceiling);
        let join = |value| if is_peak { raise(value, quantity, ceiling) } else { add(value, quantity, ceiling) };
        let open = data.roots[root].cycles.open.ordinal();
        let counters = &mut data.counters;
        // A late change of a level that is carried on still changes the level of the cycle that is open.
        let carried = noted.is_some() && late && meter.level.carry;
        let at = noted.as_ref().map_or(0, |(at, ..)| *at);
        let place = |cycle| KeptKey { number: series, cycle, at };
        if let Some((_, _, join)) = &noted {
            if late { &counters.late_kept } else { &counters.kept }.check_room(&place(ordinal), *join)?;
            if carried {
                counters.kept.check_room(&place(open), *join)?;
            }
        }
        if late {
            counters.late.add(key, join, LATE_LOTS_MAX)?;
        } else if bucket.is_some() {
            counters.buckets.add(key, join, BUCKET_LOTS_MAX)?;
        } else {
            let sum = join(counters.lanes[lane_of(ordinal)].read(series).0)?;
            add_to_lane(data, series, ordinal, sum);
        }
        let counters = &mut data.counters;
        if let Some((_, kept, join)) = noted {
            if carried {
                counters.kept.put(place(open), kept.clone(), join);
            }
            let table = if late { &mut counters.late_kept } else { &mut counters.kept };
            table.put(place(ordinal), kept, join);
        }
        if late {
            Arc::make_mut(&mut data.roots[root].cycles).note_late(record.start.cycle());
        }
        Ok(late)
    }

    /// Records by id, or strays by number: recognised in the id tables.
    fn by_id(&mut self, segment: &Segment<'_>, first: Option<u64>, defined: &[Defined], budget: &mut IdBudget) {
        let keys = keys_of(segment, first);
        let mut corrects = segment.corrects.map(|texts| texts.iter());
        let mut ids = segment.ids.map(|texts| texts.iter());
        let mut next = first.unwrap_or(0);
        let mut inserted = Inserted::default();
        for (index, key) in keys.iter().copied().enumerate() {
            if let Some(later) = keys.get(index + RECORDS_AHEAD) {
                self.live.data.ids.touch(&self.live.id_index, *later);
                let series = [segment.series.get(index + RECORDS_AHEAD) as u64];
                let lane = &self.live.data.counters.lanes[lane_of(self.window.ordinal)];
                lane.touch(&series, segment.definitions.len() as u64);
            }
            let start = segment.start_of(segment.start.get(index) as u64);
            let corrects = corrects.as_mut().and_then(Iterator::next).unwrap_or(&[]);
            let reference = segment.reference(segment.series.get(index) as u64);
            let series = match reference {
                Reference::Number(number) => Ok(number),
                Reference::Definition(index) => defined[index as usize].clone(),
            };
            let name = match ids.as_mut().and_then(Iterator::next) {
                Some(id) => RecordName::Id(id),
                None => {
                    let number = next.wrapping_add(segment.step.get(index) as u64);
                    next = number.wrapping_add(1);
                    RecordName::Number(segment.producer, number)
                }
            };
            let record = series.map(|series| Record {
                name,
                series,
                quantity: signed(segment.quantity.get(index)),
                start,
                end: segment.end_of(start, segment.end.get(index) as u64),
                amount: amount_of(segment.amount.get(index)),
                corrects: !corrects.is_empty(),
            });
            let verdict = record.and_then(|record| {
                self.count_by_id(&record, key, segment.amount.get(index), corrects, budget.oldest, &mut inserted)
            });
            self.ranges.push(1, verdict.unwrap_or_else(Verdict::Refused));
        }
        inserted.flush(budget);
    }

    fn count_by_id(
        &mut self,
        record: &Record<'_>,
        key: [u64; 2],
        amount: u128,
        corrects: &[u8],
        oldest: Option<i64>,
        inserted: &mut Inserted,
    ) -> Result<Verdict, Refusal> {
        let hour = hour_of(record.start);
        if let Some(oldest) = oldest.filter(|oldest| hour < *oldest) {
            let detail = format!(
                "ids are remembered for usage from {} on, the record is of {}; send it under a sequence",
                Timestamp(oldest.saturating_mul(HOUR)),
                record.start
            );
            return Err(Refusal::new(Reason::IdTooOld, detail));
        }
        if (record.series as usize) < self.live.data.series.rows.len() {
            let name = self.live.data.series.key_hash(record.series);
            let entry = IdEntry { key, body: body_hash(name, record, amount, corrects) };
            match self.live.data.ids.find(&self.live.id_index, &entry) {
                Known::Same => return Ok(Verdict::Duplicate),
                Known::Other => {
                    let detail = "a record with this id and another content was counted before, and the first stands; \
                                  send a correction under a new id";
                    return Err(Refusal::new(Reason::IdReused, detail));
                }
                Known::New => {}
            }
            let late = self.count(record)?;
            self.live.data.ids.insert(&mut self.live.id_index, hour, entry);
            inserted.add(hour);
            return Ok(Verdict::Accepted { late });
        }
        self.count(record).map(|late| Verdict::Accepted { late })
    }
}

/// The keys of a segment's records: of their ids, or of their numbers.
fn keys_of(segment: &Segment<'_>, first: Option<u64>) -> Vec<[u64; 2]> {
    if let Some(ids) = segment.ids {
        return ids.iter().map(|id| key_of_id(segment.producer, id)).collect();
    }
    let mut next = first.unwrap_or(0);
    (0..segment.records as usize)
        .map(|index| {
            let number = next.wrapping_add(segment.step.get(index) as u64);
            next = number.wrapping_add(1);
            key_of_number(segment.producer, number)
        })
        .collect()
}

/// Ids remembered by one segment, counted by hour without touching the shard's table for each.
#[derive(Default)]
struct Inserted {
    hours: BTreeMap<i64, u64>,
    hour: i64,
    count: u64,
}

impl Inserted {
    fn add(&mut self, hour: i64) {
        if hour != self.hour {
            self.settle();
            self.hour = hour;
        }
        self.count += 1;
    }

    fn settle(&mut self) {
        if self.count > 0 {
            *self.hours.entry(self.hour).or_default() += std::mem::take(&mut self.count);
        }
    }

    fn flush(mut self, budget: &mut IdBudget) {
        self.settle();
        for (hour, count) in self.hours {
            *budget.hours.entry(hour).or_default() += count;
            budget.count += count;
        }
    }
}

/// Verdicts of the records at or under the mark; answers how many there are.
fn seen_records(segment: &Segment<'_>, first: u64, last: u64, mark: &Mark, ranges: &mut Ranges) -> usize {
    if first > last {
        return 0;
    }
    let records = segment.records as usize;
    if segment.step.is_absent() && mark.refusals.is_empty() {
        let seen = records.min(usize::try_from(last - first + 1).unwrap_or(records));
        ranges.push(seen as u32, Verdict::Duplicate);
        return seen;
    }
    let mut next = first;
    for index in 0..records {
        let number = next + segment.step.get(index) as u64;
        if number > last {
            return index;
        }
        let refusal = mark.refusal(number).cloned();
        ranges.push(1, refusal.map_or(Verdict::Duplicate, Verdict::Refused));
        next = number + 1;
    }
    records
}

fn refusal_of(defined: &[Defined], index: u32) -> Refusal {
    match &defined[index as usize] {
        Err(refusal) => refusal.clone(),
        Ok(_) => unreachable!("only a refused definition has no number"),
    }
}
