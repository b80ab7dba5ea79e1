//! Meters that keep more than a sum, through the machine: the same state whatever the order and the cut of batches, in
//! snapshots, archives and the next cycle.

use proptest::prelude::*;
use serde_json::json;

use super::archive::read_archive;
use super::kit::*;
use super::snapshot::BadSnapshot;
use super::state::State;
use crate::base::time::Timestamp;
use crate::billing::fold::fold;
use crate::pricing::catalogue::Catalogue;
use crate::usage::segment::HeadMode;

const TYPES: [&str; 7] = ["peak", "last", "users", "set", "change", "p95", "each"];

fn catalogue_of_all() -> Catalogue {
    let meter = |name: &str, more: serde_json::Value| {
        let mut meter = json!({"id": name, "service": "s", "usage_type": name});
        meter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        meter
    };
    let document = json!({
        "kind": "Catalogue", "name": "c", "currency": "USD", "effective": "2024-09",
        "meters": [
            json!({"id": "bytes", "service": "s", "usage_type": "bytes", "scale": 0, "attributes": ["class"]}),
            json!({"id": "fine", "service": "s", "usage_type": "fine"}),
            json!({"id": "calls", "service": "s", "usage_type": "calls", "aggregation": "count"}),
            json!({"id": "hours", "service": "s", "usage_type": "hours", "scale": 2, "bucket": "hour"}),
            json!({"id": "days", "service": "s", "usage_type": "days", "scale": 2, "bucket": "day"}),
            meter("peak", json!({"aggregation": "maximum", "bucket": "day", "scale": 0})),
            meter("each", json!({"keep_records": true, "scale": 0})),
            meter("last", json!({"aggregation": "latest", "scale": 0})),
            meter("users", json!({"aggregation": "unique", "of": "quantity"})),
            meter("set", json!({"aggregation": "level", "level": {"carry": true}, "scale": 0})),
            meter("change", json!({"aggregation": "level", "level": {"records": "change", "carry": true}, "scale": 0})),
            meter("p95", json!({"aggregation": "percentile_95", "bucket": "five_minutes", "scale": 0})),
        ],
        "skus": [{"id": "all", "match": {}, "unit": "units", "rate": "1"}],
    });
    Catalogue::compile(&serde_json::from_value(document).unwrap()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn kit() -> Kit {
    let mut kit = Kit::acme();
    kit.activate(catalogue_of_all(), 2).unwrap();
    kit
}

fn row(number: u64, account: &str, usage_type: &str, quantity: i128, start: &str) -> Row {
    Row { number, key: key(account, usage_type), scale: 0, quantity, start: time(start), corrects: false }
}

/// What a cycle would be billed: each line's account, SKU quantity and amount.
fn billed_now(kit: &mut Kit, cycle_name: &str) -> Vec<String> {
    let source = kit.state.view().fold_source(&account("acme"), cycle(cycle_name), &kit.blobs).unwrap();
    let bodies = fold(&source.input()).unwrap();
    let shown = bodies.iter().flat_map(|body| {
        body.lines.iter().filter_map(|line| {
            let item = body.item(line)?;
            let (who, what) = (&item.series.account, &item.series.usage_type);
            Some(format!("{who} {what} {}", line.quantity.unwrap_or_default()))
        })
    });
    shown.collect()
}

fn restored(kit: &mut Kit) -> Result<State, BadSnapshot> {
    let mut parts = Vec::new();
    kit.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    State::restore(parts)
}

#[test]
fn every_kind_is_kept_restored_and_archived() {
    let mut kit = kit();
    let rows = [
        row(1, "a", "peak", 4, "2024-09-10"),
        row(2, "a", "peak", 9, "2024-09-10T01:00:00Z"),
        row(3, "b", "peak", 3, "2024-09-11"),
        row(4, "a", "last", 5, "2024-09-12"),
        row(5, "a", "last", 2, "2024-09-11"),
        row(6, "a", "users", 77, "2024-09-11"),
        row(7, "a", "users", 77, "2024-09-12"),
        row(8, "b", "users", 78, "2024-09-12"),
        row(9, "a", "set", 30, "2024-09-21"),
        row(10, "b", "change", 60, "2024-09-16"),
        row(11, "b", "change", -30, "2024-09-21"),
        row(12, "a", "each", 7, "2024-09-21"),
        row(13, "a", "each", 3, "2024-09-21"),
        row(14, "a", "each", 4, "2024-09-20"),
    ];
    assert_eq!(kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous: None }, &rows), "14 accepted");
    // Both peaks: 9 together on the 10th; alone 9 and 3, so 9/12 and 3/12 of it. Levels: 30 * 10/30; 60 * 5/30 + 30 * 10/30.
    let expected =
        ["a each 14", "a peak 6.75", "a users 1", "a last 5", "a set 10", "b change 20", "b peak 2.25", "b users 1"];
    let mut found = billed_now(&mut kit, "2024-09");
    found.sort();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort();
    assert_eq!(found, sorted);
    let mut twin = restored(&mut kit).unwrap();
    assert_eq!(twin.hash(), kit.state.hash());
    // What is kept goes with the cycle, and levels begin the next one: 30, and 30.
    let root = account("acme");
    let before = billed_now(&mut kit, "2024-10");
    assert_eq!(before, ["a set 30", "b change 30"]);
    kit.stamp = time("2024-10-02");
    kit.ok(super::command::Command::Cut { root: root.clone(), cycle: cycle("2024-09"), manual: true });
    let frozen = kit.state.view().fold_source(&root, cycle("2024-09"), &kit.blobs).unwrap();
    let archive = kit.state.view().archive(&root, cycle("2024-09")).unwrap();
    assert_eq!(read_archive(&archive, &frozen.catalogue).unwrap(), frozen.counters);
    // Late: the level of October is 40 now, September's counters stay.
    let late = [row(15, "b", "change", 10, "2024-09-25")];
    assert_eq!(kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous: Some(14) }, &late), "1 late");
    assert_eq!(billed_now(&mut kit, "2024-10"), ["a set 30", "b change 40"]);
    assert_eq!(kit.state.view().fold_source(&root, cycle("2024-09"), &kit.blobs).unwrap().counters, frozen.counters);
    kit.ok(billed(&root, cycle("2024-09"), 1));
    kit.ok(super::command::Command::Issue { root: root.clone(), cycle: cycle("2024-09") });
    kit.ok(super::command::Command::Archived { root, cycle: cycle("2024-09"), hash: [9; 32] });
    assert_eq!(billed_now(&mut kit, "2024-10"), ["a set 30", "b change 40"]);
    assert_eq!(restored(&mut kit).unwrap().hash(), kit.state.hash());
}

#[test]
fn such_meters_refuse_what_they_could_not_take_back() {
    let mut kit = kit();
    let mut rows = vec![
        row(1, "a", "peak", -1, "2024-09-10"),
        row(2, "a", "last", -1, "2024-09-10"),
        row(3, "a", "set", -1, "2024-09-10"),
        row(4, "a", "change", -1, "2024-09-10"),
        row(5, "a", "users", -1, "2024-09-10"),
    ];
    let mode = HeadMode::Sequenced { epoch: 1, previous: None };
    assert_eq!(kit.send("acme", "p", mode, &rows), "3 NEGATIVE_QUANTITY, 1 accepted, 1 NEGATIVE_QUANTITY");
    rows.iter_mut().for_each(|row| row.corrects = true);
    assert_eq!(
        kit.send("acme", "q", HeadMode::Sequenced { epoch: 1, previous: None }, &rows),
        "1 INVALID_VALUE, 1 INVALID_VALUE, 1 INVALID_VALUE, 1 INVALID_VALUE, 1 accepted"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same records by id, in any order and cut into batches anywhere, make the same counters and the same bill.
    #[test]
    fn batches_in_any_order_make_the_same_state(
        drawn in prop::collection::vec((0usize..7, 0usize..2, 0i128..5, 0i64..600), 1..24),
        cut in 0usize..24, turn in 0usize..24,
    ) {
        let rows: Vec<Row> = drawn.iter().enumerate().map(|(index, (kind, who, quantity, hour))| {
            let mut row = row(index as u64, ["a", "b"][*who], TYPES[*kind], *quantity, "2024-09-01");
            row.start = Timestamp(row.start.0 + hour * crate::base::time::HOUR);
            row
        }).collect();
        let run = |rows: &[Row], cut: usize| {
            let mut kit = kit();
            // The series in one order, so that their numbers agree.
            let mut definitions = crate::usage::segment::Writer::new();
            let head = crate::usage::segment::Head { slot: crate::placement::slot_of("acme"), generation: 0, producer: "p", mode: HeadMode::ById };
            definitions.segment(&head);
            for name in TYPES {
                for who in ["a", "b"] {
                    definitions.define(&key(who, name), 0);
                }
            }
            kit.push(definitions);
            for part in [&rows[..cut], &rows[cut..]] {
                if !part.is_empty() {
                    assert_eq!(kit.send("acme", "p", HeadMode::ById, part), format!("{} accepted", part.len()));
                }
            }
            let counters = kit.state.view().fold_source(&account("acme"), cycle("2024-09"), &kit.blobs).unwrap().counters;
            (counters, billed_now(&mut kit, "2024-09"))
        };
        let first = run(&rows, 0);
        let mut other = rows.clone();
        let middle = turn % rows.len();
        other.rotate_left(middle);
        other.reverse();
        prop_assert_eq!(first, run(&other, cut % rows.len()));
    }
}
