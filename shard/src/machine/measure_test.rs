//! What applying costs, in nanoseconds a record. Not a test of anything but speed, so it runs only when asked for:
//! `cargo test --release -p reckoner-shard --lib measure -- --ignored --nocapture`.
#![allow(clippy::disallowed_types, reason = "a measurement reads a clock; nothing measured does")]

use std::time::Instant;

use super::codec::encode_usage_entry;
use super::kit::*;
use crate::placement::slot_of;
use crate::usage::segment::{Batch, Head, HeadMode, Packed, Reference, Writer};
use crate::usage::series::SeriesKey;

const BATCH: usize = 10_000;
const CLASSES: usize = 10;

/// A fixed sequence of random-looking numbers.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    /// Small numbers more often, about as Zipf's law with exponent 1.
    fn popular(&mut self, bound: usize) -> usize {
        let bits = self.below(bound.ilog2() as usize + 1);
        (self.below(1 << bits) + (1 << bits) - 1).min(bound - 1)
    }
}

/// Where a series lives: its root, and its number in the root's slot.
struct Place {
    root: usize,
    number: u32,
}

/// `roots` hierarchies of `accounts` accounts with ten series each, all defined.
fn shard(roots: usize, accounts: usize) -> (Kit, Vec<Place>) {
    let mut kit = Kit::with_ids(1 << 30);
    let mut places = Vec::new();
    for root in 0..roots {
        let names = (0..accounts).map(|n| format!(r#"{{"id":"a{root}-{n}"}}"#)).collect::<Vec<_>>();
        kit.put(&format!("r{root}"), &format!(r#","accounts":[{}]"#, names.join(","))).unwrap();
        kit.log.clear();
        for chunk in (0..accounts).collect::<Vec<_>>().chunks(BATCH / CLASSES) {
            let mut writer = Writer::new();
            let slot = slot_of(&format!("r{root}"));
            writer.segment(&Head { slot, generation: 0, producer: "p", mode: HeadMode::ById });
            for account_number in chunk {
                for class in 0..CLASSES {
                    let attributes = vec![("class".to_owned(), class.to_string())];
                    let name = account(&format!("a{root}-{account_number}"));
                    writer.define(&SeriesKey::new(name, "s", "bytes", "", "eu", attributes), 0);
                }
            }
            let verdict = kit.push(writer);
            kit.log.clear();
            places.extend(verdict.segments[0].series.iter().map(|number| Place { root, number: *number }));
        }
    }
    (kit, places)
}

/// Batches over all series; records sorted by slot, as a client gathers them.
fn batches(places: &[Place], count: usize, by_id: bool, popular: bool) -> Vec<Vec<u8>> {
    let mut draw = Draw(7);
    let start = time("2024-09-10T10:00:00Z");
    let mut last = vec![None; usize::from(crate::placement::SLOTS)];
    let mut next = 1u64;
    (0..count)
        .map(|_| {
            let mut chosen: Vec<(&Place, u64)> = (0..BATCH)
                .map(|_| {
                    let place = if popular { draw.popular(places.len()) } else { draw.below(places.len()) };
                    next += 1;
                    (&places[place], next - 1)
                })
                .collect();
            chosen.sort_by_key(|(place, _)| slot_of(&format!("r{}", place.root)).0);
            let mut writer = Writer::new();
            let mut open = None;
            for (place, number) in chosen {
                let slot = slot_of(&format!("r{}", place.root));
                if open != Some(slot) {
                    let mode = match by_id {
                        true => HeadMode::ById,
                        false => HeadMode::Sequenced { epoch: 1, previous: last[usize::from(slot.0)] },
                    };
                    writer.segment(&Head { slot, generation: 77, producer: if by_id { "i" } else { "p" }, mode });
                    open = Some(slot);
                }
                last[usize::from(slot.0)] = Some(number);
                let id = number.to_le_bytes();
                writer.push(&Packed {
                    series: Reference::Number(place.number),
                    number,
                    id: &id,
                    quantity: 1_000 + (number % 9_000) as i128,
                    start: crate::base::time::Timestamp(start.0 + (number % 60) as i64 * 1_000_000_000),
                    end: None,
                    amount: None,
                    corrects: b"",
                });
            }
            writer.finish()
        })
        .collect()
}

fn nanoseconds(from: Instant, records: usize) -> f64 {
    from.elapsed().as_nanos() as f64 / records as f64
}

fn measure(name: &str, roots: usize, accounts: usize, by_id: bool, popular: bool) {
    const BATCHES: usize = 100;
    let (mut kit, places) = shard(roots, accounts);
    let from = Instant::now();
    let batches = batches(&places, BATCHES, by_id, popular);
    let written = nanoseconds(from, BATCHES * BATCH);
    let bytes: usize = batches.iter().map(Vec::len).sum();
    let from = Instant::now();
    let segments: usize = batches.iter().map(|batch| Batch::read(batch).unwrap().segments.len()).sum();
    let read = nanoseconds(from, BATCHES * BATCH);
    let entries: Vec<Vec<u8>> = batches.iter().map(|batch| encode_usage_entry(kit.stamp, 1, batch)).collect();
    let mut outcome = 0;
    let from = Instant::now();
    for entry in &entries {
        kit.index += 1;
        outcome += kit.state.apply(kit.index, entry, &kit.blobs).unwrap().outcome.len();
    }
    let applied = nanoseconds(from, BATCHES * BATCH);
    let from = Instant::now();
    let view = kit.state.view();
    let viewed = from.elapsed();
    let from = Instant::now();
    let source = view.fold_source(&account("r0"), cycle("2024-09"), &kit.blobs).unwrap();
    let folded = from.elapsed();
    println!(
        "{name}: {} series, {} segments a batch, {} bytes a record; written {written:.1} ns (with drawing), read \
         {read:.2} ns, applied {applied:.1} ns a record; outcome {} bytes; view {viewed:?}; fold input of {} counters \
         {folded:?}",
        places.len(),
        segments / BATCHES,
        bytes / (BATCHES * BATCH),
        outcome / BATCHES,
        source.counters.len(),
    );
    let counted: u64 = (0..roots)
        .map(|root| {
            let lines = view.usage(&account(&format!("r{root}")), cycle("2024-09")).unwrap();
            lines.iter().map(|line| line.records).sum::<u64>()
        })
        .sum();
    assert_eq!(counted as usize, BATCHES * BATCH, "every record was counted");
}

#[test]
#[ignore = "a measurement"]
fn measure_applying() {
    measure("one hierarchy, uniform", 1, 100_000, false, false);
    measure("one hierarchy, popular", 1, 100_000, false, true);
    measure("1,000 hierarchies, uniform", 1_000, 100, false, false);
    measure("1,000 hierarchies, popular", 1_000, 100, false, true);
    measure("one hierarchy, by id", 1, 100_000, true, true);
}
