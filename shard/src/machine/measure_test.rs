//! What applying costs, in nanoseconds of processor time a record, once every counter has been touched. Not a test of anything but speed, so it runs only when asked for:
//! `cargo test --release -p reckoner-shard --lib measure -- --ignored --nocapture`.
use super::codec::encode_usage_entry;
use super::kit::*;
use crate::base::id::Slot;
use crate::base::time::{SECOND, Timestamp};
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

/// Where a series lives: its slot, and its number there.
#[derive(Clone, Copy)]
struct Place {
    slot: Slot,
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
        let slot = slot_of(&format!("r{root}"));
        for chunk in (0..accounts).collect::<Vec<_>>().chunks(BATCH / CLASSES) {
            let mut writer = Writer::new();
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
            places.extend(verdict.segments[0].series.iter().map(|number| Place { slot, number: *number }));
        }
    }
    (kit, places)
}

/// The series of one batch, sorted by slot, as a client gathers them.
fn chosen(places: &[Place], mut choose: impl FnMut(usize) -> usize) -> Vec<Place> {
    let mut chosen: Vec<Place> = (0..BATCH).map(|_| places[choose(places.len())]).collect();
    chosen.sort_by_key(|place| place.slot);
    chosen
}

/// What the writer of one test knows.
struct Pusher {
    by_id: bool,
    /// Latest number a slot.
    last: Vec<Option<u64>>,
    number: u64,
}

impl Pusher {
    fn write(&mut self, places: &[Place]) -> Vec<u8> {
        let start = time("2024-09-10T10:00:00Z");
        let mut writer = Writer::new();
        let mut open = None;
        for place in places {
            self.number += 1;
            let (number, last) = (self.number, &mut self.last[usize::from(place.slot.0)]);
            if open != Some(place.slot) {
                let mode = match self.by_id {
                    true => HeadMode::ById,
                    false => HeadMode::Sequenced { epoch: 1, previous: *last },
                };
                let producer = if self.by_id { "i" } else { "p" };
                writer.segment(&Head { slot: place.slot, generation: 77, producer, mode });
                open = Some(place.slot);
            }
            *last = Some(number);
            writer.push(&Packed {
                series: Reference::Number(place.number),
                number,
                id: &number.to_le_bytes(),
                quantity: 1_000 + (number % 9_000) as i128,
                start: Timestamp(start.0 + (number % 60) as i64 * SECOND),
                end: None,
                amount: None,
                corrects: b"",
            });
        }
        writer.finish()
    }
}

/// Processor time of this thread, in nanoseconds: wall time says little beside other load.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("measured on Linux");
    stat.split(' ').next().expect("the first field is time").parse().expect("it is a number")
}

fn measure(name: &str, roots: usize, accounts: usize, by_id: bool, popular: bool) {
    const BATCHES: usize = 100;
    let (mut kit, places) = shard(roots, accounts);
    let mut pusher = Pusher { by_id, last: vec![None; usize::from(crate::placement::SLOTS)], number: 0 };
    // Every counter once: what is measured is the steady state.
    for some in places.chunks(BATCH) {
        let mut some = some.to_vec();
        some.sort_by_key(|place| place.slot);
        let entry = encode_usage_entry(kit.stamp, 1, &pusher.write(&some));
        kit.index += 1;
        kit.state.apply(kit.index, &entry, &kit.blobs).unwrap();
    }
    let mut draw = Draw(7);
    let choose = |bound: usize| if popular { draw.popular(bound) } else { draw.below(bound) };
    let chosen: Vec<Vec<Place>> = {
        let mut choose = choose;
        (0..BATCHES).map(|_| chosen(&places, &mut choose)).collect()
    };
    let per_record = |from: f64| (processor_time() - from) / (BATCHES * BATCH) as f64;
    let from = processor_time();
    let batches: Vec<Vec<u8>> = chosen.iter().map(|chosen| pusher.write(chosen)).collect();
    let written = per_record(from);
    let bytes: usize = batches.iter().map(Vec::len).sum();
    let from = processor_time();
    let segments: usize = batches.iter().map(|batch| Batch::read(batch).unwrap().segments.len()).sum();
    let read = per_record(from);
    let entries: Vec<Vec<u8>> = batches.iter().map(|batch| encode_usage_entry(kit.stamp, 1, batch)).collect();
    let mut outcome = 0;
    let from = processor_time();
    for entry in &entries {
        kit.index += 1;
        outcome += kit.state.apply(kit.index, entry, &kit.blobs).unwrap().outcome.len();
    }
    let applied = per_record(from);
    let from = processor_time();
    let view = kit.state.view();
    let viewed = (processor_time() - from) / 1e6;
    let from = processor_time();
    let source = view.fold_source(&account("r0"), cycle("2024-09"), &kit.blobs).unwrap();
    let folded = (processor_time() - from) / 1e6;
    println!(
        "{name}: {} series, {} segments a batch, {} bytes a record; written {written:.1} ns, read {read:.2} ns, applied \
         {applied:.1} ns a record; outcome {} bytes; view {viewed:.2} ms; fold input of {} counters {folded:.2} ms",
        places.len(),
        segments / BATCHES,
        bytes / (BATCHES * BATCH),
        outcome / BATCHES,
        source.counters.len(),
    );
    let lines = |root: usize| view.usage(&account(&format!("r{root}")), cycle("2024-09")).unwrap();
    let counted: u64 = (0..roots).flat_map(lines).map(|line| line.records).sum();
    assert_eq!(counted as usize, places.len() + BATCHES * BATCH, "every record was counted");
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
