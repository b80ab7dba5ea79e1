//! One record on its way to a counter: its name, what its meter allows, and what it leaves beside a sum. Which counter it
//! is, and whether it was seen before, is found in [`super::ingest`].

use super::state::MeterRow;
use crate::base::refusal::Refusal;
use crate::base::time::Timestamp;
use crate::pricing::catalogue::check_correction;
use crate::pricing::document::{Aggregation, LevelRecords};
use crate::usage::counter::add;
use crate::usage::kept::{Join, Kept};
use crate::usage::record::check_sign;
use crate::usage::segment::signed;

/// What names a record for its producer.
#[derive(Clone, Copy)]
pub(super) enum RecordName<'a> {
    Id(&'a [u8]),
    Number(&'a str, u64),
}

impl RecordName<'_> {
    /// As bytes whose order is that of the names: numbers with leading zeros.
    pub(super) fn to_bytes(self) -> Box<[u8]> {
        match self {
            RecordName::Id(id) => id.into(),
            RecordName::Number(producer, number) => format!("{producer}/{number:020}").into_bytes().into(),
        }
    }
}

/// One record, decoded.
pub(super) struct Record<'a> {
    pub name: RecordName<'a>,
    pub series: u32,
    pub quantity: i128,
    pub start: Timestamp,
    pub end: Option<Timestamp>,
    pub amount: Option<i128>,
    pub corrects: bool,
}

/// A record's amount from its column.
pub(super) fn amount_of(raw: u128) -> Option<i128> {
    raw.checked_sub(1).map(signed)
}

/// What sign a record may have and whether it may correct another.
pub(super) fn check_kind(meter: &MeterRow, quantity: i128, corrects: bool) -> Result<(), Refusal> {
    check_correction(meter.aggregation, meter.keeps_records, meter.id.as_str(), corrects)?;
    let changes = meter.aggregation == Aggregation::Level && meter.level.records == LevelRecords::Change;
    if changes { Ok(()) } else { check_sign(quantity, corrects) }
}

/// What a record leaves beside a sum: what it is of, the entry, and how it joins others.
pub(super) fn note(
    meter: &MeterRow,
    record: &Record<'_>,
    counted: i128,
) -> Result<Option<(i128, Kept, Join)>, Refusal> {
    let bounded = || add(0, record.quantity, meter.ceiling);
    let start = i128::from(record.start.0);
    Ok(match meter.aggregation {
        Aggregation::Latest => {
            let end = record.end.unwrap_or(record.start).0;
            Some((0, Kept { value: bounded()?, end, id: record.name.to_bytes(), more: Vec::new() }, Join::Latest))
        }
        Aggregation::Level if meter.level.records == LevelRecords::Change => {
            Some((start, Kept { value: bounded()?, ..Kept::default() }, Join::Add))
        }
        Aggregation::Level => {
            Some((start, Kept { value: bounded()?, id: record.name.to_bytes(), ..Kept::default() }, Join::Latest))
        }
        Aggregation::Unique => {
            let value = if record.corrects { -1 } else { 1 };
            Some((record.quantity.abs(), Kept { value, ..Kept::default() }, Join::Add))
        }
        Aggregation::Sum if meter.keeps_records => {
            Some((start, Kept { value: counted, id: record.name.to_bytes(), ..Kept::default() }, Join::Collect))
        }
        Aggregation::Sum | Aggregation::Count | Aggregation::Maximum | Aggregation::Percentile95 => None,
    })
}

/// Hash of a record's content, time included; the series counts by its name, which outlives its number.
pub(super) fn body_hash(name: u64, record: &Record<'_>, amount: u128, corrects: &[u8]) -> u64 {
    let mut bytes = [0; 16 + 8 + 9 + 16 + 128];
    bytes[..16].copy_from_slice(&record.quantity.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.start.0.to_le_bytes());
    if let Some(end) = record.end {
        bytes[24] = 1;
        bytes[25..33].copy_from_slice(&end.0.to_le_bytes());
    }
    bytes[33..49].copy_from_slice(&amount.to_le_bytes());
    bytes[49..49 + corrects.len()].copy_from_slice(corrects);
    xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[..49 + corrects.len()], name)
}
