//! The packed segment: the one form of usage on the socket, in the log and in apply. A writer, and a reader that checks
//! everything once and then copies nothing. What the records mean lives elsewhere.
//!
//! # Byte format 1
//! Integers without another note are LEB128 varints; *zigzag* maps signed to unsigned as `(n << 1) ^ (n >> 63)`.
//! ```text
//! batch      = 1 (u8), strings, segment*
//! strings    = count, (bytes, UTF-8)*                      every string of the batch, each once
//! segment    = flags (u8), widths (3 x u8), unit (u8), slot, producer (string number), generation,
//!              [epoch, zigzag(first - last number of the segment before), [first - previous]],
//!              records, definitions, zigzag(base), definition*, columns
//! flags      = bits 0..1 mode: 0 sequenced, 1 by id, 2 strays (epoch and first: modes 0 and 2);
//!              bit 2 previous follows (mode 0 only); bit 3 corrects follows
//! widths     = two columns a byte, low nibble first: series, step | quantity, start | end, amount;
//!              a nibble is 0 to 8 bytes, or 9 for 16 bytes; 0 = the column is absent, every value in it is 0
//! unit       = times count in 10^unit nanoseconds, 0 to 9
//! base       = in units; less the base of the segment before where that has the same unit
//! definition = scale (u8), string numbers of account, service, usage type, operation, region,
//!              attributes (u8), (key, value)* strictly sorted by key
//! columns    = fixed width, little endian, one value a record:
//!   series     k < definitions: definition k of this segment; else series number k - definitions
//!   step       how many numbers were left out before this record: 0 = it follows the record before; 0 for the first
//!   quantity   zigzag, at the meter's scale
//!   start      units after base
//!   end        0 = none, else units after start, plus 1
//!   amount     0 = none, else zigzag at 12 decimals, plus 1
//!   ids        (mode 1) a length (u8) a record, then the bytes of all
//!   corrects   (flag) a length (u8) a record, 0 = none, then the bytes of all
//! ```
//! A generation of 0 says that only definitions are referenced. The number of the first record counts for the next
//! segment's delta in modes 0 and 2 alike; before the first segment the last number is 0.

use std::collections::BTreeMap;

use super::series::SeriesKey;
use crate::base::id::{NAME_BYTES_MAX, Slot};
use crate::base::refusal::{Reason, Refusal};
use crate::base::time::Timestamp;
use crate::placement::SLOTS;
use crate::usage::record::ATTRIBUTES_MAX;

/// Records of one batch: larger ones cost latency and gain nothing (6 ns a record an entry at 8,000).
pub const BATCH_RECORDS_MAX: usize = 10_000;
/// Bytes of one batch: what one message between peers may carry.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Segments of one batch: one a record at the very worst.
pub const BATCH_SEGMENTS_MAX: usize = BATCH_RECORDS_MAX;
/// Definitions of one batch: one a record at the very worst; each costs look-ups.
pub const BATCH_DEFINITIONS_MAX: usize = BATCH_RECORDS_MAX;
/// First byte of a batch.
pub const FORMAT: u8 = 1;

/// How a segment's records are recognised when they come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By number. `previous` is the last number that the producer sent to this slot before, `first` the first here.
    Sequenced { epoch: u64, previous: Option<u64>, first: u64 },
    /// By id.
    ById,
    /// By number, in the id tables: refused elsewhere, sent here out of order.
    Strays { epoch: u64, first: u64 },
}

/// Which series a record counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A number that the slot's table answered.
    Number(u32),
    /// The definition of that index in the same segment.
    Definition(u32),
}

/// A new series, as the writer names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    /// Decimals that the writer scaled the quantities to.
    pub scale: u8,
    pub account: &'a str,
    pub service: &'a str,
    pub usage_type: &'a str,
    pub operation: &'a str,
    pub region: &'a str,
    /// Strictly sorted by key.
    pub attributes: Vec<(&'a str, &'a str)>,
}

/// Columns of one width: `get(i)` without looking at what lies before.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    bytes: &'a [u8],
    /// 0 to 8, or 16.
    width: usize,
}

impl Column<'_> {
    /// True where every value is 0.
    pub fn is_absent(&self) -> bool {
        self.width == 0
    }

    /// Bytes a value: 0 to 8, or 16.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The value of a record.
    pub fn get(&self, index: usize) -> u128 {
        let mut value = [0; 16];
        let from = index * self.width;
        value[..self.width].copy_from_slice(&self.bytes[from..from + self.width]);
        u128::from_le_bytes(value)
    }

    /// Fills `out` with the values from record `from` on; only for widths up to 8.
    pub fn fill(&self, from: usize, out: &mut [u64]) {
        let bytes = &self.bytes[from * self.width..(from + out.len()) * self.width];
        match self.width {
            0 => out.fill(0),
            1 => fill::<1>(bytes, out),
            2 => fill::<2>(bytes, out),
            3 => fill::<3>(bytes, out),
            4 => fill::<4>(bytes, out),
            5 => fill::<5>(bytes, out),
            6 => fill::<6>(bytes, out),
            7 => fill::<7>(bytes, out),
            8 => fill::<8>(bytes, out),
            _ => unreachable!("wide columns are read value by value"),
        }
    }
}

/// One width a copy, so that the compiler unrolls it.
fn fill<const WIDTH: usize>(bytes: &[u8], out: &mut [u64]) {
    for (slot, chunk) in out.iter_mut().zip(bytes.chunks_exact(WIDTH)) {
        let mut value = [0; 8];
        value[..WIDTH].copy_from_slice(chunk);
        *slot = u64::from_le_bytes(value);
    }
}

/// A text a record, each at most 128 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    lengths: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Texts<'a> {
    /// The texts in order of record.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.bytes;
        self.lengths.iter().map(move |length| {
            let (text, left) = rest.split_at(usize::from(*length));
            rest = left;
            text
        })
    }
}

/// One checked segment.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    pub slot: Slot,
    pub generation: u32,
    pub producer: &'a str,
    pub mode: Mode,
    pub records: u32,
    pub definitions: Vec<Definition<'a>>,
    /// First possible start, nanoseconds.
    pub base: i64,
    /// Nanoseconds a unit of the time columns.
    pub unit: i64,
    pub series: Column<'a>,
    pub step: Column<'a>,
    pub quantity: Column<'a>,
    pub start: Column<'a>,
    pub end: Column<'a>,
    pub amount: Column<'a>,
    pub ids: Option<Texts<'a>>,
    pub corrects: Option<Texts<'a>>,
}

impl Segment<'_> {
    /// The series of a record.
    pub fn reference(&self, raw: u64) -> Reference {
        let definitions = self.definitions.len() as u64;
        match raw.checked_sub(definitions) {
            None => Reference::Definition(raw as u32),
            // A number beyond 32 bits is in no table; the largest stands for it.
            Some(number) => Reference::Number(u32::try_from(number).unwrap_or(u32::MAX)),
        }
    }

    /// Start of a record from its column value. What lies beyond the range of time ends at its bounds, which no cycle
    /// holds.
    pub fn start_of(&self, raw: u64) -> Timestamp {
        let offset = i64::try_from(raw).unwrap_or(i64::MAX).saturating_mul(self.unit);
        Timestamp(self.base.saturating_add(offset))
    }

    /// End of a record from its column value.
    pub fn end_of(&self, start: Timestamp, raw: u64) -> Option<Timestamp> {
        let offset = raw.checked_sub(1)?;
        let offset = i64::try_from(offset).unwrap_or(i64::MAX).saturating_mul(self.unit);
        Some(Timestamp(start.0.saturating_add(offset)))
    }

    /// The last number of a segment with records; `None` by id and without records.
    pub fn last(&self) -> Option<u64> {
        let (Mode::Sequenced { first, .. } | Mode::Strays { first, .. }) = self.mode else {
            return None;
        };
        let skipped: u64 = (0..self.records as usize).map(|index| self.step.get(index) as u64).sum();
        (self.records > 0).then(|| first + u64::from(self.records) - 1 + skipped)
    }
}

/// Undoes zigzag.
pub fn signed(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)) as u128
}

/// A checked batch over the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    pub segments: Vec<Segment<'a>>,
    /// Over all segments.
    pub records: usize,
}

impl<'a> Batch<'a> {
    /// Checks shape and limits of the whole batch. Refused MALFORMED or BATCH_TOO_LARGE; never panics.
    pub fn read(bytes: &'a [u8]) -> Result<Batch<'a>, Refusal> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(too_large("bytes", bytes.len(), BATCH_BYTES_MAX));
        }
        let mut reader = Reader { rest: bytes };
        if reader.byte()? != FORMAT {
            return Err(malformed("its first byte is not format 1"));
        }
        let count = reader.count("strings", bytes.len())?;
        let mut strings = Vec::with_capacity(count);
        for _ in 0..count {
            let length = reader.count("bytes of a string", NAME_BYTES_MAX)?;
            let text = std::str::from_utf8(reader.take(length)?).map_err(|_| malformed("a string is not UTF-8"))?;
            strings.push(text);
        }
        let mut batch = Batch { segments: Vec::new(), records: 0 };
        let mut before = Before::default();
        let mut definitions = 0;
        while !reader.rest.is_empty() {
            let segment = reader.segment(&strings, &mut before)?;
            batch.records += segment.records as usize;
            definitions += segment.definitions.len();
            batch.segments.push(segment);
            for (what, count, max) in [
                ("records", batch.records, BATCH_RECORDS_MAX),
                ("segments", batch.segments.len(), BATCH_SEGMENTS_MAX),
                ("definitions", definitions, BATCH_DEFINITIONS_MAX),
            ] {
                if count > max {
                    return Err(too_large(what, count, max));
                }
            }
        }
        Ok(batch)
    }
}

/// What the next segment's deltas count from.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    last: u64,
    unit: u8,
    base: i64,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| malformed("it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("an integer has more than 64 bits"))
    }

    fn count(&mut self, what: &str, max: usize) -> Result<usize, Refusal> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= max)
            .ok_or_else(|| malformed(&format!("it has {count} {what}, at most {max} fit")))
    }

    fn text(&mut self, strings: &[&'a str]) -> Result<&'a str, Refusal> {
        let index = self.varint()?;
        let found = usize::try_from(index).ok().and_then(|index| strings.get(index));
        found.copied().ok_or_else(|| malformed(&format!("string {index} is not in its table")))
    }

    fn segment(&mut self, strings: &[&'a str], before: &mut Before) -> Result<Segment<'a>, Refusal> {
        let flags = self.byte()?;
        let widths = [self.byte()?, self.byte()?, self.byte()?];
        let unit = self.byte()?;
        if flags > 0b1111 || unit > 9 {
            return Err(malformed("a segment has unknown flags or a time unit above seconds"));
        }
        let slot = self.varint()?;
        if slot >= u64::from(SLOTS) {
            return Err(malformed(&format!("slot {slot} does not exist, the last is {}", SLOTS - 1)));
        }
        let producer = self.text(strings)?;
        let generation = u32::try_from(self.varint()?).map_err(|_| malformed("a generation has more than 32 bits"))?;
        let mode = self.mode(flags, before)?;
        let records = self.count("records in a segment", BATCH_RECORDS_MAX)?;
        let count = self.count("definitions in a segment", BATCH_DEFINITIONS_MAX)?;
        let base = self.base(unit, before)?;
        let mut definitions = Vec::with_capacity(count.min(self.rest.len()));
        for _ in 0..count {
            definitions.push(self.definition(strings)?);
        }
        let mut columns = [Column { bytes: &[], width: 0 }; 6];
        for (index, column) in columns.iter_mut().enumerate() {
            let nibble = widths[index / 2] >> (4 * (index % 2)) & 0xf;
            *column = self.column(nibble, records)?;
        }
        let [series, step, quantity, start, end, amount] = columns;
        for (name, column, max) in [("series", &series, 5), ("step", &step, 8), ("start", &start, 8), ("end", &end, 8)]
        {
            if column.width > max {
                return Err(malformed(&format!("its {name} column is {} bytes wide, at most {max} fit", column.width)));
            }
        }
        let ids = match mode {
            Mode::ById => Some(self.texts(records, 1)?),
            Mode::Sequenced { .. } | Mode::Strays { .. } => None,
        };
        let corrects = if flags & 0b1000 != 0 { Some(self.texts(records, 0)?) } else { None };
        let unit = 10i64.pow(u32::from(unit));
        let segment = Segment {
            slot: Slot(slot as u16),
            generation,
            producer,
            mode,
            records: records as u32,
            definitions,
            base,
            unit,
            series,
            step,
            quantity,
            start,
            end,
            amount,
            ids,
            corrects,
        };
        before.last = segment.check_numbers()?.unwrap_or(before.last);
        Ok(segment)
    }

    fn mode(&mut self, flags: u8, before: &Before) -> Result<Mode, Refusal> {
        let has_previous = flags & 0b100 != 0;
        if flags & 0b11 != 0 && has_previous {
            return Err(malformed("only a sequenced segment names a previous number"));
        }
        if flags & 0b11 == 1 {
            return Ok(Mode::ById);
        }
        let epoch = self.varint()?;
        // Differences wrap around 64 bits, so that any number can follow any other.
        let first = before.last.wrapping_add(signed(u128::from(self.varint()?)) as u64);
        match flags & 0b11 {
            0 => {
                let previous = match has_previous {
                    false => None,
                    true => {
                        let distance = self.varint()?;
                        let previous = first.checked_sub(distance).filter(|_| distance > 0);
                        Some(previous.ok_or_else(|| malformed("a previous number is not below the first"))?)
                    }
                };
                Ok(Mode::Sequenced { epoch, previous, first })
            }
            2 => Ok(Mode::Strays { epoch, first }),
            _ => Err(malformed("a segment's mode is unknown")),
        }
    }

    fn base(&mut self, unit: u8, before: &mut Before) -> Result<i64, Refusal> {
        let delta = signed(u128::from(self.varint()?));
        let from = if unit == before.unit { before.base } else { 0 };
        let base = from.wrapping_add(delta as i64);
        (before.unit, before.base) = (unit, base);
        base.checked_mul(10i64.pow(u32::from(unit))).ok_or_else(|| malformed("a base time is out of range"))
    }

    fn definition(&mut self, strings: &[&'a str]) -> Result<Definition<'a>, Refusal> {
        let scale = self.byte()?;
        let [account, service, usage_type, operation, region] =
            [self.text(strings)?, self.text(strings)?, self.text(strings)?, self.text(strings)?, self.text(strings)?];
        let count = usize::from(self.byte()?);
        if count > ATTRIBUTES_MAX {
            return Err(malformed(&format!("a definition has {count} attributes, at most {ATTRIBUTES_MAX} fit")));
        }
        let mut attributes: Vec<(&str, &str)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (key, value) = (self.text(strings)?, self.text(strings)?);
            if attributes.last().is_some_and(|(last, _)| *last >= key) {
                return Err(malformed("a definition's attributes are not sorted by key"));
            }
            attributes.push((key, value));
        }
        Ok(Definition { scale, account, service, usage_type, operation, region, attributes })
    }

    fn column(&mut self, nibble: u8, records: usize) -> Result<Column<'a>, Refusal> {
        let width = match nibble {
            0..=8 => usize::from(nibble),
            9 => 16,
            _ => return Err(malformed("a column's width is unknown")),
        };
        Ok(Column { bytes: self.take(records * width)?, width })
    }

    fn texts(&mut self, records: usize, shortest: u8) -> Result<Texts<'a>, Refusal> {
        let lengths = self.take(records)?;
        if lengths.iter().any(|length| *length < shortest || usize::from(*length) > NAME_BYTES_MAX) {
            return Err(malformed(&format!("an id has not {shortest} to {NAME_BYTES_MAX} bytes")));
        }
        let total = lengths.iter().map(|length| usize::from(*length)).sum();
        Ok(Texts { lengths, bytes: self.take(total)? })
    }
}

impl Segment<'_> {
    /// The last number, once it is certain that no number passes 64 bits.
    fn check_numbers(&self) -> Result<Option<u64>, Refusal> {
        let (Mode::Sequenced { first, .. } | Mode::Strays { first, .. }) = self.mode else {
            return Ok(None);
        };
        if self.records == 0 {
            return Ok(None);
        }
        let mut last = first.checked_add(u64::from(self.records) - 1);
        if !self.step.is_absent() {
            if self.step.get(0) != 0 {
                return Err(malformed("the first record of a segment has a step"));
            }
            for index in 0..self.records as usize {
                last = last.and_then(|last| last.checked_add(self.step.get(index) as u64));
            }
        }
        // The number after the last must exist too.
        let last = last.filter(|last| *last < u64::MAX);
        last.map(Some).ok_or_else(|| malformed("a number has more than 64 bits"))
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Reason::Malformed, format!("the batch cannot be read: {what}; check its writer"))
}

fn too_large(what: &str, count: usize, max: usize) -> Refusal {
    Refusal::new(
        Reason::BatchTooLarge,
        format!("the batch has {count} {what}, at most {max} are taken; send smaller ones"),
    )
}

/// Head of a segment that is being written. The first number is that of its first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub slot: Slot,
    /// The table's generation as last answered; 0 where only definitions are referenced.
    pub generation: u32,
    pub producer: &'a str,
    pub mode: HeadMode,
}

/// [`Mode`] without the first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadMode {
    Sequenced { epoch: u64, previous: Option<u64> },
    ById,
    Strays { epoch: u64 },
}

/// A record to be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed<'a> {
    pub series: Reference,
    /// Above the number of the record before; not written by id.
    pub number: u64,
    /// 1 to 128 bytes; written only by id.
    pub id: &'a [u8],
    /// At the meter's scale.
    pub quantity: i128,
    pub start: Timestamp,
    /// Not before `start`.
    pub end: Option<Timestamp>,
    /// At 12 decimals.
    pub amount: Option<i128>,
    /// Empty = corrects nothing.
    pub corrects: &'a [u8],
}

/// Writes a batch, segment by segment.
#[derive(Debug, Default)]
pub struct Writer {
    strings: Vec<u8>,
    numbers: BTreeMap<Box<str>, u32>,
    body: Vec<u8>,
    open: Option<Open>,
    before: Before,
    records: usize,
}

/// The segment that is being written.
#[derive(Debug)]
struct Open {
    slot: Slot,
    generation: u32,
    producer: u32,
    mode: HeadMode,
    definitions: Vec<u8>,
    definition_count: u32,
    first: u64,
    last: u64,
    series: Vec<Reference>,
    steps: Vec<u64>,
    quantities: Vec<i128>,
    starts: Vec<i64>,
    ends: Vec<Option<i64>>,
    amounts: Vec<Option<i128>>,
    ids: Vec<u8>,
    id_lengths: Vec<u8>,
    corrects: Vec<u8>,
    corrects_lengths: Vec<u8>,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Begins a segment; what follows belongs to it.
    pub fn segment(&mut self, head: &Head<'_>) {
        self.close();
        let producer = self.string(head.producer);
        self.open = Some(Open {
            slot: head.slot,
            generation: head.generation,
            producer,
            mode: head.mode,
            definitions: Vec::new(),
            definition_count: 0,
            first: 0,
            last: 0,
            series: Vec::new(),
            steps: Vec::new(),
            quantities: Vec::new(),
            starts: Vec::new(),
            ends: Vec::new(),
            amounts: Vec::new(),
            ids: Vec::new(),
            id_lengths: Vec::new(),
            corrects: Vec::new(),
            corrects_lengths: Vec::new(),
        });
    }

    /// Defines a series in the open segment; `scale` is the number of decimals that quantities are scaled to.
    ///
    /// # Panics
    /// Without an open segment.
    pub fn define(&mut self, key: &SeriesKey, scale: u32) -> Reference {
        let mut bytes = vec![scale as u8];
        for text in [key.account.as_str(), &key.service, &key.usage_type, &key.operation, &key.region] {
            put_varint(&mut bytes, u64::from(self.string(text)));
        }
        bytes.push(key.attributes.len() as u8);
        for (name, value) in &key.attributes {
            put_varint(&mut bytes, u64::from(self.string(name)));
            put_varint(&mut bytes, u64::from(self.string(value)));
        }
        let open = self.open.as_mut().expect("a segment is begun before anything is defined in it");
        open.definitions.extend_from_slice(&bytes);
        open.definition_count += 1;
        Reference::Definition(open.definition_count - 1)
    }

    /// Adds a record to the open segment.
    ///
    /// # Panics
    /// Without an open segment; where a number does not grow, an end is before its start, or an id is longer than 128
    /// bytes: the row form's own check comes first.
    pub fn push(&mut self, record: &Packed<'_>) {
        let open = self.open.as_mut().expect("a segment is begun before records are pushed into it");
        if !matches!(open.mode, HeadMode::ById) {
            if open.series.is_empty() {
                open.first = record.number;
                open.steps.push(0);
            } else {
                let step = record.number.checked_sub(open.last).filter(|step| *step > 0);
                open.steps.push(step.expect("numbers grow within a segment") - 1);
            }
            open.last = record.number;
        } else {
            assert!((1..=NAME_BYTES_MAX).contains(&record.id.len()), "an id has 1 to {NAME_BYTES_MAX} bytes");
            open.ids.extend_from_slice(record.id);
            open.id_lengths.push(record.id.len() as u8);
        }
        assert!(record.end.is_none_or(|end| end >= record.start), "a record does not end before it starts");
        open.series.push(record.series);
        open.quantities.push(record.quantity);
        open.starts.push(record.start.0);
        if record.end.is_some() || !open.ends.is_empty() {
            open.ends.resize(open.series.len() - 1, None);
            open.ends.push(record.end.map(|end| end.0));
        }
        if record.amount.is_some() || !open.amounts.is_empty() {
            open.amounts.resize(open.series.len() - 1, None);
            open.amounts.push(record.amount);
        }
        if !record.corrects.is_empty() || !open.corrects_lengths.is_empty() {
            assert!(record.corrects.len() <= NAME_BYTES_MAX, "an id has at most {NAME_BYTES_MAX} bytes");
            open.corrects_lengths.resize(open.series.len() - 1, 0);
            open.corrects_lengths.push(record.corrects.len() as u8);
            open.corrects.extend_from_slice(record.corrects);
        }
        self.records += 1;
    }

    /// Records so far, over all segments.
    pub fn records(&self) -> usize {
        self.records
    }

    /// About how many bytes the batch has so far; never much less than in the end.
    pub fn bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| {
            64 + open.definitions.len() + open.ids.len() + open.corrects.len() + open.series.len() * 24
        });
        16 + self.strings.len() + self.body.len() + open
    }

    /// The batch's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.close();
        let mut bytes = Vec::with_capacity(1 + 5 + self.strings.len() + self.body.len());
        bytes.push(FORMAT);
        put_varint(&mut bytes, self.numbers.len() as u64);
        bytes.extend_from_slice(&self.strings);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn string(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(text.into(), number);
        put_varint(&mut self.strings, text.len() as u64);
        self.strings.extend_from_slice(text.as_bytes());
        number
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let base = open.starts.iter().copied().min().unwrap_or(0);
        let times = || open.starts.iter().copied().chain(open.ends.iter().flatten().copied());
        // Sub-second units are rare: the common cases are tried, coarsest first.
        let unit = [9u8, 6, 3].into_iter().find(|unit| times().all(|time| time % 10i64.pow(u32::from(*unit)) == 0));
        let unit = unit.unwrap_or(0);
        let step = 10i64.pow(u32::from(unit));
        // The difference of two times fits 64 bits without a sign, the later being the second.
        let offset = |from: i64, to: i64| to.wrapping_sub(from) as u64 / step as u64;
        let definitions = u64::from(open.definition_count);
        let reference = |reference: &Reference| match reference {
            Reference::Definition(index) => u64::from(*index),
            Reference::Number(number) => definitions + u64::from(*number),
        };
        let end = |(end, start): (&Option<i64>, &i64)| end.map_or(0, |end| offset(*start, end).saturating_add(1));
        let amount = |amount: &Option<i128>| amount.map_or(0, |amount| zigzag(amount).saturating_add(1));
        let columns = [
            Values::narrow(open.series.iter().map(reference)),
            Values::narrow(open.steps.iter().copied()),
            Values::wide(open.quantities.iter().map(|quantity| zigzag(*quantity))),
            Values::narrow(open.starts.iter().map(|start| offset(base, *start))),
            Values::narrow(open.ends.iter().zip(&open.starts).map(end)),
            Values::wide(open.amounts.iter().map(amount)),
        ];
        let nibbles = columns.each_ref().map(Values::nibble);

        let has_corrects = !open.corrects_lengths.is_empty();
        let (mode, previous) = match open.mode {
            // Without records there is no first number that a previous one could lie below.
            HeadMode::Sequenced { previous, .. } => (0, previous.filter(|_| !open.series.is_empty())),
            HeadMode::ById => (1, None),
            HeadMode::Strays { .. } => (2, None),
        };
        let out = &mut self.body;
        out.push(mode | u8::from(previous.is_some()) << 2 | u8::from(has_corrects) << 3);
        out.extend(nibbles.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
        out.push(unit);
        put_varint(out, u64::from(open.slot.0));
        put_varint(out, u64::from(open.producer));
        put_varint(out, u64::from(open.generation));
        if let HeadMode::Sequenced { epoch, .. } | HeadMode::Strays { epoch } = open.mode {
            put_varint(out, epoch);
            put_zigzag(out, open.first.wrapping_sub(self.before.last) as i64);
            if let Some(previous) = previous {
                put_varint(out, open.first.checked_sub(previous).expect("a previous number is below the first"));
            }
        }
        put_varint(out, open.series.len() as u64);
        put_varint(out, definitions);
        let base = base / step;
        let from = if unit == self.before.unit { self.before.base } else { 0 };
        put_zigzag(out, base.wrapping_sub(from));
        out.extend_from_slice(&open.definitions);
        for column in &columns {
            column.put(out);
        }
        out.extend_from_slice(&open.id_lengths);
        out.extend_from_slice(&open.ids);
        out.extend_from_slice(&open.corrects_lengths);
        out.extend_from_slice(&open.corrects);
        if !open.series.is_empty() && mode != 1 {
            self.before.last = open.last;
        }
        (self.before.unit, self.before.base) = (unit, base);
    }
}

/// One column's values, and the bits that any of them has.
enum Values {
    Narrow(Vec<u64>, u64),
    Wide(Vec<u128>),
}

impl Values {
    fn narrow(values: impl Iterator<Item = u64>) -> Values {
        let values: Vec<u64> = values.collect();
        let bits = values.iter().fold(0, |all, value| all | value);
        Values::Narrow(values, bits)
    }

    /// Narrow, where they all fit.
    fn wide(values: impl Iterator<Item = u128> + Clone) -> Values {
        let bits = values.clone().fold(0, |all, value| all | value);
        match u64::try_from(bits) {
            Ok(_) => Values::narrow(values.map(|value| value as u64)),
            Err(_) => Values::Wide(values.collect()),
        }
    }

    /// The narrowest width that holds every value: 0 to 8 bytes, or 9 for 16.
    fn nibble(&self) -> u8 {
        match self {
            Values::Narrow(_, bits) => (64 - bits.leading_zeros()).div_ceil(8) as u8,
            Values::Wide(_) => 9,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let values = match self {
            Values::Narrow(values, _) => values,
            Values::Wide(values) => return values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        };
        match self.nibble() {
            0 => {}
            1 => put::<1>(values, out),
            2 => put::<2>(values, out),
            3 => put::<3>(values, out),
            4 => put::<4>(values, out),
            5 => put::<5>(values, out),
            6 => put::<6>(values, out),
            7 => put::<7>(values, out),
            _ => put::<8>(values, out),
        }
    }
}

/// One width a copy, so that the compiler unrolls it.
fn put<const WIDTH: usize>(values: &[u64], out: &mut Vec<u8>) {
    out.reserve(values.len() * WIDTH);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes()[..WIDTH]);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(i128::from(value)) as u64);
}
