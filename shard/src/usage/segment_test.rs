//! The packed form: what is written is read, and bytes that nobody wrote are refused.

use proptest::prelude::*;

use super::segment::*;
use super::series::SeriesKey;
use crate::base::id::{AccountId, Slot};
use crate::base::refusal::Reason;
use crate::base::time::Timestamp;

/// A record as a test keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    series: Reference,
    number: u64,
    id: Vec<u8>,
    quantity: i128,
    start: i64,
    end: Option<i64>,
    amount: Option<i128>,
    corrects: Vec<u8>,
}

fn key(account: &str) -> SeriesKey {
    SeriesKey::new(AccountId::new(account).unwrap(), "s", "u", "", "r", vec![("k".into(), "v".into())])
}

fn write(writer: &mut Writer, head: &Head<'_>, definitions: &[(&str, u32)], records: &[Owned]) {
    writer.segment(head);
    for (account, scale) in definitions {
        writer.define(&key(account), *scale);
    }
    for record in records {
        writer.push(&Packed {
            series: record.series,
            number: record.number,
            id: &record.id,
            quantity: record.quantity,
            start: Timestamp(record.start),
            end: record.end.map(Timestamp),
            amount: record.amount,
            corrects: &record.corrects,
        });
    }
}

fn read(segment: &Segment<'_>) -> Vec<Owned> {
    let mut ids = segment.ids.map(|ids| ids.iter());
    let mut corrects = segment.corrects.map(|ids| ids.iter());
    let mut next = match segment.mode {
        Mode::Sequenced { first, .. } | Mode::Strays { first, .. } => first,
        Mode::ById => 0,
    };
    (0..segment.records as usize)
        .map(|index| {
            let number = next + segment.step.get(index) as u64;
            next = number + 1;
            let start = segment.start_of(segment.start.get(index) as u64);
            let amount = segment.amount.get(index);
            Owned {
                series: segment.reference(segment.series.get(index) as u64),
                number: if segment.ids.is_some() { 0 } else { number },
                id: ids.as_mut().and_then(Iterator::next).unwrap_or(&[]).to_vec(),
                quantity: signed(segment.quantity.get(index)),
                start: start.0,
                end: segment.end_of(start, segment.end.get(index) as u64).map(|end| end.0),
                amount: amount.checked_sub(1).map(signed),
                corrects: corrects.as_mut().and_then(Iterator::next).unwrap_or(&[]).to_vec(),
            }
        })
        .collect()
}

fn head(mode: HeadMode) -> Head<'static> {
    Head { slot: Slot(7), generation: 99, producer: "p", mode }
}

fn plain(number: u64, quantity: i128, start: i64) -> Owned {
    let series = Reference::Number(number as u32);
    Owned { series, number, id: Vec::new(), quantity, start, end: None, amount: None, corrects: Vec::new() }
}

/// A batch with every mode and column.
fn rich() -> Vec<u8> {
    let mut writer = Writer::new();
    let sequenced = HeadMode::Sequenced { epoch: 3, previous: Some(9) };
    write(
        &mut writer,
        &head(sequenced),
        &[("a", 2), ("b", 0)],
        &[
            Owned { series: Reference::Definition(1), end: Some(8_000_000_000), ..plain(12, -5, 7_000_000_000) },
            Owned { corrects: b"r-1".to_vec(), amount: Some(-1), ..plain(15, 1 << 100, 6_000_000_000) },
        ],
    );
    write(&mut writer, &head(HeadMode::ById), &[], &[Owned { id: b"x".to_vec(), ..plain(0, 1, -3) }]);
    write(&mut writer, &head(HeadMode::Strays { epoch: 4 }), &[("a", 2)], &[plain(2, 0, i64::MAX)]);
    writer.finish()
}

#[test]
fn the_bytes_of_a_batch_never_change() {
    // Golden bytes of format 1, by hand from the description in segment.rs: clients in the field write them.
    let mut writer = Writer::new();
    let sequenced = HeadMode::Sequenced { epoch: 2, previous: None };
    write(
        &mut writer,
        &head(sequenced),
        &[("a", 0)],
        &[
            Owned { series: Reference::Definition(0), ..plain(1, 3, 10_000_000_000) },
            Owned { series: Reference::Number(4), ..plain(2, -1, 11_000_000_000) },
        ],
    );
    let strings: &[u8] = &[7, 1, b'p', 1, b'a', 1, b's', 1, b'u', 0, 1, b'r', 1, b'k'];
    let mut expected = vec![1, 8];
    expected.extend_from_slice(&strings[1..]);
    expected.extend_from_slice(&[1, b'v']);
    // flags, widths (series 1 step 0 | quantity 1 start 1 | none), unit, slot, producer, generation, epoch, first - 0.
    expected.extend_from_slice(&[0, 0x01, 0x11, 0, 9, 7, 0, 99, 2, 2]);
    // records, definitions, base 10 s, definition (scale, five names, one attribute), series, quantity, start.
    expected.extend_from_slice(&[2, 1, 20, 0, 1, 2, 3, 4, 5, 1, 6, 7, 0, 5, 6, 1, 0, 1]);
    assert_eq!(writer.finish(), expected);
}

#[test]
fn every_mode_and_column_is_read_as_written() {
    let bytes = rich();
    let batch = Batch::read(&bytes).unwrap();
    assert_eq!((batch.records, batch.segments.len()), (4, 3));
    let [first, second, third] = &batch.segments[..] else { panic!("three segments were written") };
    assert_eq!(first.mode, Mode::Sequenced { epoch: 3, previous: Some(9), first: 12 });
    assert_eq!((first.last(), second.last(), third.last()), (Some(15), None, Some(2)));
    let records = read(first);
    assert_eq!((records[0].series, records[1].series), (Reference::Definition(1), Reference::Number(15)));
    assert_eq!((records[0].end, records[1].end), (Some(8_000_000_000), None));
    assert_eq!((records[0].amount, records[1].amount), (None, Some(-1)));
    assert_eq!((records[1].quantity, records[1].number, &*records[1].corrects), (1 << 100, 15, &b"r-1"[..]));
    assert_eq!((first.definitions[1].account, first.definitions[0].scale), ("b", 2));
    assert_eq!(first.definitions[0].attributes, [("k", "v")]);
    assert_eq!((second.mode, &*read(second)[0].id, read(second)[0].start), (Mode::ById, &b"x"[..], -3));
    assert_eq!((third.mode, read(third)[0].start), (Mode::Strays { epoch: 4, first: 2 }, i64::MAX));
}

#[test]
fn a_full_batch_is_small() {
    let mut writer = Writer::new();
    let records: Vec<Owned> = (0..10_000)
        .map(|n| Owned {
            series: Reference::Number((n * 97 % 1_000_000) as u32),
            ..plain(n, 1000 + n as i128, n as i64)
        })
        .map(|record| Owned { start: 1_700_000_000_000_000_000 + record.start / 1000 * 1_000_000_000, ..record })
        .collect();
    write(&mut writer, &head(HeadMode::Sequenced { epoch: 1, previous: None }), &[], &records);
    let bytes = writer.finish();
    // Three bytes of series, two of quantity, one of time.
    assert!(bytes.len() < 6 * 10_000 + 100, "{} bytes", bytes.len());
    assert_eq!(read(&Batch::read(&bytes).unwrap().segments[0]), records);
}

#[test]
fn hostile_bytes_are_refused_or_read_but_never_panic() {
    let good = rich();
    for length in 0..good.len() {
        let read = Batch::read(&good[..length]);
        assert!(read.is_err() || read.is_ok_and(|batch| batch.segments.len() < 3), "cut to {length}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(batch) = Batch::read(&bytes) {
                for segment in &batch.segments {
                    let _ = (read(segment), segment.last());
                }
            }
        }
    }
}

#[test]
fn limits_and_forms_are_checked() {
    fn check(bytes: &[u8], expected: Reason) {
        assert_eq!(Batch::read(bytes).unwrap_err().reason, expected, "{:?}", &bytes[..bytes.len().min(20)]);
    }
    check(&[], Reason::Malformed);
    check(&[2, 0], Reason::Malformed);
    check(&vec![1; BATCH_BYTES_MAX + 1], Reason::BatchTooLarge);
    // Flags: mode 3; previous by id; unit 10; slot 4096; more records than a batch has; a 65-bit varint.
    let segment = |flags, unit, rest: &[u8]| [&[1, 1, 1, b'p', flags, 0, 0, 0, unit][..], rest].concat();
    assert!(Batch::read(&segment(0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).is_ok());
    check(&segment(3, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), Reason::Malformed);
    check(&segment(5, 0, &[0, 0, 0, 0, 0, 0]), Reason::Malformed);
    check(&segment(0, 10, &[0, 0, 0, 1, 0, 0, 0, 0]), Reason::Malformed);
    check(&segment(0, 0, &[0x80, 0x20, 0, 0, 1, 0, 0, 0, 0]), Reason::Malformed);
    check(&segment(0, 0, &[0, 0, 0, 1, 0, 0x91, 0x4e, 0, 0]), Reason::Malformed);
    check(&segment(0, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Reason::Malformed);
    // Columns without bytes make many records of few bytes; the batch's limit holds over all segments.
    let mut many = vec![1, 1, 1, b'p'];
    for _ in 0..2 {
        many.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0x90, 0x4e, 0, 0]);
    }
    check(&many, Reason::BatchTooLarge);
    // The largest number has no successor.
    let mut writer = Writer::new();
    write(&mut writer, &head(HeadMode::Sequenced { epoch: 1, previous: None }), &[], &[plain(u64::MAX, 1, 1)]);
    check(&writer.finish(), Reason::Malformed);
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let record = (
        (0u32..1 << 20, any::<i64>(), prop::option::of(0i64..1 << 40)),
        (any::<i128>(), prop::option::of(-(1i128 << 90)..1i128 << 90), 1u64..1 << 20),
        (prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 1..6)),
    );
    prop::collection::vec(record, 0..40).prop_map(|rows| {
        let mut number = 0;
        rows.into_iter()
            .map(|((series, start, length), (quantity, amount, step), (corrects, id))| {
                number += step;
                let start = start >> 1;
                let end = length.map(|length| start + length);
                Owned { series: Reference::Number(series), number, id, quantity, start, end, amount, corrects }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(groups in prop::collection::vec((records(), 0u8..3), 1..4)) {
        let mut writer = Writer::new();
        let mut expected = Vec::new();
        for (records, mode) in groups {
            let mode = match mode {
                0 => HeadMode::Sequenced { epoch: 1, previous: None },
                1 => HeadMode::ById,
                _ => HeadMode::Strays { epoch: 1 },
            };
            write(&mut writer, &head(mode), &[("a", 3)], &records);
            let by_id = mode == HeadMode::ById;
            expected.push(records.into_iter().map(|record| Owned {
                number: if by_id { 0 } else { record.number },
                id: if by_id { record.id } else { Vec::new() },
                ..record
            }).collect::<Vec<_>>());
        }
        prop_assert!(writer.bytes() > 0);
        let bytes = writer.finish();
        let batch = Batch::read(&bytes).unwrap();
        let found: Vec<Vec<Owned>> = batch.segments.iter().map(read).collect();
        prop_assert_eq!(found, expected);
    }
}
