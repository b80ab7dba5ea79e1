//! The machine's rules, each as a few lines: what is sent, what comes back, what was counted.

use super::archive::read_archive;
use super::codec::{decode_outcome, encode_commands, encode_outcome, encode_usage_entry};
use super::command::*;
use super::kit::*;
use super::query::DueStep;
use super::state::State;
use crate::base::id::{ShardId, Slot};
use crate::base::refusal::Reason;
use crate::base::time::{HOUR, Timestamp};
use crate::billing::cycle::Status;
use crate::placement::{SlotRange, slot_of};
use crate::usage::segment::{Head, HeadMode, Packed, Reference, Writer};

const SEQUENCED: HeadMode = HeadMode::Sequenced { epoch: 1, previous: None };

#[test]
fn repeats_are_recognised() {
    fn check(sends: &[(Option<u64>, u64, &[i128], &str)], expected: i128) {
        let mut kit = Kit::acme();
        for (previous, first, quantities, verdict) in sends {
            assert_eq!(kit.sequence(*previous, *first, quantities), *verdict, "{sends:?} at {first}");
        }
        assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")).0, expected, "{sends:?}");
    }
    check(&[(None, 1, &[1, 2, 4], "3 accepted"), (None, 1, &[1, 2, 4], "3 duplicate")], 7);
    // Cut otherwise: a part of what was sent and new ones behind it.
    check(&[(None, 1, &[1, 2, 4], "3 accepted"), (Some(1), 2, &[2, 4, 8], "2 duplicate, 1 accepted")], 15);
    check(&[(None, 1, &[1, 2, 4], "3 accepted"), (None, 1, &[1], "1 duplicate"), (Some(3), 4, &[8], "1 accepted")], 15);
    check(&[(None, 5, &[1], "1 accepted"), (None, 1, &[9, 9, 9, 9, 9, 2], "5 duplicate, 1 accepted")], 3);
    // A gap that never arrived consumes nothing.
    check(
        &[(None, 1, &[1], "1 accepted"), (Some(2), 3, &[4], "whole: OUT_OF_ORDER"), (Some(1), 2, &[2], "1 accepted")],
        3,
    );
    check(&[(Some(1), 2, &[2], "whole: OUT_OF_ORDER"), (None, 1, &[1], "1 accepted")], 1);
    check(&[(None, 1, &[1], "1 accepted"), (None, 2, &[2], "whole: OUT_OF_ORDER")], 1);
    // A refused record moves the mark, and its repeat gets the first verdict.
    check(
        &[
            (None, 1, &[1, -2, 4], "1 accepted, 1 NEGATIVE_QUANTITY, 1 accepted"),
            (None, 1, &[1, 2, 4], "1 duplicate, 1 NEGATIVE_QUANTITY, 1 duplicate"),
            (None, 1, &[-2], "1 duplicate"),
        ],
        5,
    );
}

#[test]
fn numbers_may_leave_gaps() {
    let mut kit = Kit::acme();
    let mut rows = rows("a", 1, &[1, 2, 4]);
    (rows[1].number, rows[2].number) = (5, 9);
    assert_eq!(kit.send("acme", "p", SEQUENCED, &rows), "3 accepted");
    assert_eq!(kit.sequence(None, 4, &[9, 9]), "2 duplicate");
    let mut later = rows.clone();
    (later[0].number, later[1].number, later[2].number) = (9, 20, 21);
    assert_eq!(kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous: Some(9) }, &later[1..]), "2 accepted");
    assert_eq!(kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous: Some(5) }, &later), "3 duplicate");
}

#[test]
fn only_the_latest_refusals_are_told_again() {
    let mut kit = Kit::acme();
    let bad = [-1; 1_100];
    assert_eq!(kit.sequence(None, 1, &bad), "1100 NEGATIVE_QUANTITY");
    assert_eq!(kit.sequence(None, 1, &bad), "76 duplicate, 1024 NEGATIVE_QUANTITY");
}

#[test]
fn an_older_epoch_is_fenced_off() {
    let mut kit = Kit::acme();
    let send = |kit: &mut Kit, epoch, previous, first| {
        kit.send("acme", "p", HeadMode::Sequenced { epoch, previous }, &rows("a", first, &[1]))
    };
    assert_eq!(send(&mut kit, 2, None, 1), "1 accepted");
    assert_eq!(send(&mut kit, 1, Some(1), 2), "whole: STALE_EPOCH");
    assert_eq!(send(&mut kit, 3, Some(1), 2), "1 accepted");
    assert_eq!(send(&mut kit, 2, Some(2), 3), "whole: STALE_EPOCH");
    // Refused for order, it still moved nothing: not even the epoch.
    assert_eq!(send(&mut kit, 4, Some(9), 10), "whole: OUT_OF_ORDER");
    assert_eq!(send(&mut kit, 3, Some(2), 3), "1 accepted");
}

#[test]
fn a_producer_keeps_its_kind() {
    let mut kit = Kit::acme();
    assert_eq!(kit.send("acme", "p", HeadMode::ById, &rows("a", 1, &[1])), "1 accepted");
    assert_eq!(kit.send("acme", "p", SEQUENCED, &rows("a", 1, &[1])), "whole: PRODUCER_KIND");
    assert_eq!(kit.send("acme", "q", SEQUENCED, &rows("a", 1, &[1])), "1 accepted");
    assert_eq!(kit.send("acme", "q", HeadMode::ById, &rows("a", 1, &[1])), "whole: PRODUCER_KIND");
}

#[test]
fn ids_are_recognised_with_their_content() {
    let mut kit = Kit::acme();
    let by_id = |kit: &mut Kit, rows: &[Row]| kit.send("acme", "p", HeadMode::ById, rows);
    assert_eq!(by_id(&mut kit, &rows("a", 1, &[1, 2])), "2 accepted");
    assert_eq!(by_id(&mut kit, &rows("a", 2, &[2, 4])), "1 duplicate, 1 accepted");
    assert_eq!(by_id(&mut kit, &rows("a", 2, &[3])), "1 ID_REUSED");
    assert_eq!(by_id(&mut kit, &rows("b", 2, &[2])), "1 ID_REUSED");
    let mut moved = rows("a", 2, &[2]);
    moved[0].start.0 += 5 * HOUR;
    assert_eq!(by_id(&mut kit, &moved), "1 ID_REUSED");
    // A refused record is not remembered: corrected, it may come again.
    assert_eq!(by_id(&mut kit, &rows("a", 9, &[-1])), "1 NEGATIVE_QUANTITY");
    assert_eq!(by_id(&mut kit, &rows("a", 9, &[8])), "1 accepted");
    // Within one segment too; another producer has ids of its own.
    let twice = [rows("a", 20, &[16]), rows("a", 20, &[16])].concat();
    assert_eq!(by_id(&mut kit, &twice), "1 accepted, 1 duplicate");
    assert_eq!(kit.send("acme", "q", HeadMode::ById, &rows("a", 1, &[32])), "1 accepted");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")).0, 63);
}

#[test]
fn ids_stay_within_their_memory_by_dropping_whole_hours() {
    // Room for four ids.
    let mut kit = Kit::with_ids(4 * crate::usage::ids::ID_BYTES);
    kit.put("acme", r#","accounts":[{"id":"a"}]"#).unwrap();
    let at = |number: u64, hour: i64| {
        let mut row = rows("a", number, &[1]);
        row[0].start = Timestamp(time("2024-09-10").0 + hour * HOUR);
        row
    };
    let send = |kit: &mut Kit, rows: &[Row]| kit.send("acme", "p", HeadMode::ById, rows);
    assert_eq!(send(&mut kit, &[at(1, 1), at(2, 1), at(3, 2)].concat()), "3 accepted");
    assert_eq!(send(&mut kit, &[at(4, 3), at(5, 3)].concat()), "2 accepted");
    // Hour 1 was dropped: what cannot be recognised is refused, what can be is a duplicate.
    assert_eq!(send(&mut kit, &[at(1, 1), at(3, 2)].concat()), "1 ID_TOO_OLD, 1 duplicate");
    assert_eq!(send(&mut kit, &[at(6, 3), at(7, 3)].concat()), "2 accepted");
    // One hour alone fills the memory now; the next hour goes on.
    assert_eq!(send(&mut kit, &at(8, 3)), "whole: RESOURCE_EXHAUSTED");
    assert_eq!(send(&mut kit, &at(8, 4)), "1 accepted");
    assert_eq!(send(&mut kit, &[at(7, 3), at(8, 4)].concat()), "1 ID_TOO_OLD, 1 duplicate");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")).1, 8);
}

#[test]
fn strays_are_recognised_by_number_beside_the_mark() {
    let mut kit = Kit::acme();
    assert_eq!(kit.sequence(None, 1, &[1, 2, 4, 8]), "4 accepted");
    let strays = |kit: &mut Kit, epoch, rows: &[Row]| kit.send("acme", "p", HeadMode::Strays { epoch }, rows);
    assert_eq!(strays(&mut kit, 1, &rows("a", 2, &[16, 32])), "2 accepted");
    assert_eq!(strays(&mut kit, 1, &rows("a", 3, &[32, 64])), "1 duplicate, 1 accepted");
    assert_eq!(strays(&mut kit, 1, &rows("a", 2, &[5])), "1 ID_REUSED");
    assert_eq!(strays(&mut kit, 0, &rows("a", 9, &[5])), "whole: STALE_EPOCH");
    assert_eq!(kit.sequence(Some(4), 5, &[128]), "1 accepted");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")).0, 255);
}

#[test]
fn series_numbers_hold_within_their_generation() {
    let mut kit = Kit::acme();
    let mut writer = Writer::new();
    write(&mut writer, "acme", "p", SEQUENCED, &[rows("a", 1, &[1]), rows("b", 2, &[1])].concat());
    let verdict = kit.push(writer);
    let defined = verdict.segment(0).unwrap();
    assert_eq!((defined.generation, &defined.series[..]), (77, &[0, 1][..]));
    let push = |kit: &mut Kit, generation, number, series| {
        let mut writer = Writer::new();
        let mode = HeadMode::Sequenced { epoch: 1, previous: Some(2) };
        writer.segment(&Head { slot: slot_of("acme"), generation, producer: "p", mode });
        let start = time("2024-09-10T10:00:00Z");
        let (id, corrects) = (&b""[..], &b""[..]);
        let series = Reference::Number(series);
        writer.push(&Packed { series, number, id, quantity: 5, start, end: None, amount: None, corrects });
        let verdict = kit.push(writer);
        words(&verdict, 0, 1)
    };
    assert_eq!(push(&mut kit, 78, 3, 1), "whole: STALE_SERIES");
    assert_eq!(push(&mut kit, 0, 3, 1), "whole: STALE_SERIES");
    assert_eq!(push(&mut kit, 77, 3, 1), "1 accepted");
    assert_eq!(push(&mut kit, 77, 3, 1), "1 duplicate");
    assert_eq!(push(&mut kit, 77, 4, 2), "1 INVALID_VALUE");
    assert_eq!(kit.value("acme", "2024-09", &key("b", "bytes")).0, 6);
    // Defining again answers the same numbers, also in a batch without records.
    let mut writer = Writer::new();
    writer.segment(&Head { slot: slot_of("acme"), generation: 0, producer: "p", mode: HeadMode::ById });
    writer.define(&key("b", "bytes"), 0);
    writer.define(&key("a", "bytes"), 0);
    writer.define(&key("stranger", "bytes"), 0);
    assert_eq!(kit.push(writer).segment(0).unwrap().series, [1, 0, NO_SERIES]);
}

#[test]
fn a_record_needs_an_account_a_meter_and_a_fitting_quantity() {
    fn check(change: impl Fn(&mut Row), expected: &str) {
        let mut kit = Kit::acme();
        let mut rows = rows("a", 1, &[3]);
        change(&mut rows[0]);
        assert_eq!(kit.send("acme", "p", SEQUENCED, &rows), format!("1 {expected}"), "{:?}", rows[0]);
        let accepted = expected == "accepted";
        assert_eq!(kit.value("acme", "2024-09", &rows[0].key).1, u64::from(accepted));
    }
    let class = |name: &str| {
        let attributes = vec![(name.to_owned(), "x".to_owned())];
        crate::usage::series::SeriesKey::new(account("a"), "s", "bytes", "", "eu", attributes)
    };
    check(|_| {}, "accepted");
    check(|row| row.key = key("stranger", "bytes"), "UNKNOWN_ACCOUNT");
    check(|row| row.key = key("a", "nothing"), "UNKNOWN_METER");
    check(|row| row.key = class("class"), "accepted");
    check(|row| row.key = class("colour"), "UNKNOWN_ATTRIBUTE");
    check(|row| row.scale = 2, "INVALID_VALUE");
    check(|row| row.quantity = -1, "NEGATIVE_QUANTITY");
    check(|row| (row.quantity, row.corrects) = (-1, true), "accepted");
    check(|row| row.quantity = i128::MAX, "QUANTITY_TOO_LARGE");
    check(|row| row.start = time("2024-08-31T23:59:59Z"), "TOO_EARLY");
    check(|row| row.start = time("2024-09-30T23:59:59Z"), "accepted");
    check(|row| row.start = time("2024-11-01"), "TOO_FAR_AHEAD");
    check(|row| row.start = Timestamp(i64::MIN), "TOO_EARLY");
    check(|row| row.start = Timestamp(i64::MAX), "TOO_FAR_AHEAD");
    check(|row| (row.key, row.scale, row.quantity) = (key("a", "fine"), 12, 1), "accepted");
}

#[test]
fn ends_amounts_and_ceilings_are_checked() {
    let mut kit = Kit::acme();
    let mut push = |number: u64, quantity: i128, end: i64, amount: Option<i128>| {
        let mut writer = Writer::new();
        let previous = number.checked_sub(1).filter(|previous| *previous > 0);
        let mode = HeadMode::Sequenced { epoch: 1, previous };
        writer.segment(&Head { slot: slot_of("acme"), generation: 0, producer: "p", mode });
        let series = writer.define(&key("a", "bytes"), 0);
        let start = time("2024-09-10");
        let end = Some(Timestamp(start.0 + end));
        writer.push(&Packed { series, number, id: b"", quantity, start, end, amount, corrects: b"" });
        words(&kit.push(writer), 0, 1)
    };
    let ceiling = crate::base::wide::power_of_ten(15);
    assert_eq!(push(1, 1, 0, None), "1 accepted");
    assert_eq!(push(2, 1, 5, Some(7)), "1 INVALID_VALUE");
    // 10^15 is the largest counter that a rate below 1 can charge; one is counted.
    assert_eq!(push(3, ceiling, 1, None), "1 QUANTITY_TOO_LARGE");
    assert_eq!(push(4, ceiling - 1, 1, None), "1 accepted");
    assert_eq!(push(5, 1, 1, None), "1 QUANTITY_TOO_LARGE");
    assert_eq!(push(6, 0, 1, None), "1 accepted");
}

#[test]
fn meters_sum_or_count_by_month_day_or_hour() {
    let mut kit = Kit::acme();
    let row = |number: u64, usage_type: &str, quantity: i128, start: &str, corrects| Row {
        number,
        key: key("a", usage_type),
        scale: if usage_type == "calls" { 0 } else { 2 },
        quantity,
        start: time(start),
        corrects,
    };
    let sent = [
        row(1, "calls", 50, "2024-09-10", false),
        row(2, "calls", 60, "2024-09-11", false),
        row(3, "calls", -1, "2024-09-12", true),
        row(4, "hours", 250, "2024-09-02T01:59:59Z", false),
        row(5, "hours", 150, "2024-09-02T01:00:00Z", false),
        row(6, "hours", 10, "2024-09-30T23:00:00Z", false),
        row(7, "days", 5, "2024-10-31T23:59:59Z", false),
    ];
    assert_eq!(kit.send("acme", "p", SEQUENCED, &sent), "7 accepted");
    let lines = kit.state.view().usage(&account("acme"), cycle("2024-09")).unwrap();
    let seen: Vec<_> = lines.iter().map(|line| (line.meter.as_str(), line.bucket, line.value, line.records)).collect();
    assert_eq!(seen, [("calls", None, 1, 3), ("hours", Some(25), 400, 2), ("hours", Some(719), 10, 1)]);
    let lines = kit.state.view().usage(&account("acme"), cycle("2024-10")).unwrap();
    assert_eq!((lines[0].bucket, lines[0].value, lines[0].scale, lines.len()), (Some(30), 5, 2, 1));
}

#[test]
fn two_cycles_count_and_late_usage_is_kept_apart() {
    let mut kit = Kit::acme();
    let at = |number: u64, quantity: i128, start: &str| {
        let mut row = rows("a", number, &[quantity]);
        row[0].start = time(start);
        row
    };
    let send = |kit: &mut Kit, rows: &[Row]| {
        let previous = rows[0].number.checked_sub(1).filter(|previous| *previous > 0);
        kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous }, rows)
    };
    let sent = [at(1, 1, "2024-09-30"), at(2, 2, "2024-10-01"), at(3, 4, "2024-11-01")].concat();
    assert_eq!(send(&mut kit, &sent), "2 accepted, 1 TOO_FAR_AHEAD");
    kit.stamp = time("2024-10-01");
    kit.ok(Command::Cut { root: account("acme"), cycle: cycle("2024-09"), manual: true });
    let sent = [at(4, 8, "2024-09-30"), at(5, 16, "2024-10-02"), at(6, 32, "2024-11-01")].concat();
    assert_eq!(send(&mut kit, &sent), "1 late, 2 accepted");
    let a = key("a", "bytes");
    assert_eq!(kit.value("acme", "2024-09", &a), (1, 1, 8, 1));
    assert_eq!(kit.value("acme", "2024-10", &a), (18, 2, 0, 0));
    // September's counters leave memory; its late ones stay, and December begins to count where they were.
    let (root, september) = (account("acme"), cycle("2024-09"));
    kit.ok(billed(&root, september, 1));
    kit.ok(Command::Issue { root: root.clone(), cycle: september });
    kit.ok(Command::Archived { root, cycle: september, hash: [9; 32] });
    assert_eq!(kit.value("acme", "2024-09", &a), (0, 0, 8, 1));
    kit.stamp = time("2024-11-01");
    kit.close("acme", "2024-10");
    assert_eq!(send(&mut kit, &[at(7, 64, "2024-12-01"), at(8, 128, "2024-10-31")].concat()), "1 accepted, 1 late");
    assert_eq!(kit.value("acme", "2024-12", &a), (64, 1, 0, 0));
    assert_eq!(kit.value("acme", "2024-10", &a), (0, 0, 128, 1));
    assert_eq!(kit.value("acme", "2024-11", &a), (32, 1, 0, 0));
}

#[test]
fn a_close_goes_step_by_step_and_every_step_repeats() {
    let mut kit = Kit::acme();
    let (root, september) = (account("acme"), cycle("2024-09"));
    let cut = |manual| Command::Cut { root: account("acme"), cycle: cycle("2024-09"), manual };
    assert_eq!(kit.command(cut(true)), Err(Reason::CycleRunning));
    kit.stamp = time("2024-10-02");
    assert_eq!(kit.command(cut(false)), Err(Reason::CycleRunning));
    let stranger = Command::Cut { root: account("nobody"), cycle: september, manual: true };
    assert_eq!(kit.command(stranger), Err(Reason::UnknownRoot));
    kit.effects.clear();
    let done = kit.ok(cut(true));
    let (slot, cycle) = (slot_of("acme"), september);
    assert_eq!(done, Done::Cut { index: kit.index, at: time("2024-10-02"), ended_grace: true });
    kit.stamp = time("2024-10-03");
    assert_eq!(kit.ok(cut(true)), done);
    assert_eq!(kit.command(Command::Issue { root: root.clone(), cycle }), Err(Reason::CycleNotOpen));
    assert_eq!(kit.ok(billed(&root, cycle, 1)), Done::Changed);
    assert_eq!(kit.ok(billed(&root, cycle, 1)), Done::Unchanged);
    assert_eq!(kit.command(billed(&root, cycle, 2)), Err(Reason::CycleClosed));
    let issued = kit.ok(Command::Issue { root: root.clone(), cycle });
    assert_eq!(kit.ok(Command::Issue { root: root.clone(), cycle }), issued);
    let hash = [9; 32];
    assert_eq!(kit.ok(Command::Archived { root: root.clone(), cycle, hash }), Done::Changed);
    assert_eq!(kit.ok(Command::Archived { root: root.clone(), cycle, hash }), Done::Unchanged);
    let expected = [
        Effect::CycleCut { slot, root: root.clone(), cycle },
        Effect::CycleBilled { slot, root: root.clone(), cycle },
        Effect::CycleIssued { slot, root: root.clone(), cycle },
        Effect::CycleArchived { slot, root: root.clone(), cycle, hash },
    ];
    assert_eq!(kit.effects, expected);
    let Done::Issued(bills) = issued else { panic!("issued bills are answered") };
    assert_eq!((bills[0].number, bills[0].issued_at, bills[0].previous), (1, time("2024-10-03"), [0; 32]));
    assert_eq!(kit.state.view().cycle_status(&root, cycle), Ok(Status::Archived));
}

#[test]
fn what_is_due_follows_the_shards_time() {
    let mut kit = Kit::new();
    let automatic = r#"{"kind":"Hierarchy","root":"auto","catalogue":"c","cycles":{"first":"2024-09","grace":"2d"}}"#;
    kit.ok(Command::PutHierarchy { document: automatic.into(), job: "j".into() });
    kit.put("acme", "").unwrap();
    let due = |kit: &mut Kit, stamp: &str| {
        let due = kit.state.view().due(time(stamp));
        due.into_iter().map(|due| (due.root.to_string(), due.step)).collect::<Vec<_>>()
    };
    assert_eq!(due(&mut kit, "2024-10-02T23:59:59Z"), []);
    assert_eq!(due(&mut kit, "2024-10-03"), [("auto".to_owned(), DueStep::Cut)]);
    kit.stamp = time("2024-10-03");
    let (root, cycle) = (account("auto"), cycle("2024-09"));
    assert_eq!(
        kit.ok(Command::Cut { root: root.clone(), cycle, manual: false }),
        Done::Cut { index: kit.index, at: kit.stamp, ended_grace: false }
    );
    assert_eq!(due(&mut kit, "2025-01-01"), [("auto".to_owned(), DueStep::Bill)]);
    kit.ok(billed(&root, cycle, 1));
    assert_eq!(due(&mut kit, "2025-01-01"), [("auto".to_owned(), DueStep::Issue)]);
    kit.ok(Command::Issue { root: root.clone(), cycle });
    assert_eq!(due(&mut kit, "2025-01-01"), [("auto".to_owned(), DueStep::Archive)]);
    kit.ok(Command::Archived { root, cycle, hash: [1; 32] });
    assert_eq!(due(&mut kit, "2025-01-01"), [("auto".to_owned(), DueStep::Cut)]);
}

#[test]
fn stamps_never_go_back() {
    let mut kit = Kit::acme();
    kit.stamp = time("2024-10-02");
    kit.ok(Command::Tick);
    kit.stamp = time("2024-09-01");
    let done = kit.ok(Command::Cut { root: account("acme"), cycle: cycle("2024-09"), manual: true });
    assert_eq!(done, Done::Cut { index: kit.index, at: time("2024-10-02"), ended_grace: true });
}

#[test]
fn accounts_count_while_they_are_members() {
    let mut kit = Kit::new();
    let with = |row: &str| format!(r#","accounts":[{{"id":"a"{row}}}]"#);
    kit.put("acme", &with(r#","from":"2024-09-05","until":"2024-09-20""#)).unwrap();
    let mut number = 0;
    let mut send = |kit: &mut Kit, start: &str| {
        number += 1;
        let mut row = rows("a", number, &[1]);
        row[0].start = time(start);
        let previous = Some(number - 1).filter(|previous| *previous > 0);
        kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous }, &row)
    };
    assert_eq!(send(&mut kit, "2024-09-04T23:59:59Z"), "1 UNKNOWN_ACCOUNT");
    assert_eq!(send(&mut kit, "2024-09-05"), "1 accepted");
    assert_eq!(send(&mut kit, "2024-09-20"), "1 UNKNOWN_ACCOUNT");
    // Widened, the same counters hear of it.
    kit.put("acme", &with(r#","from":"2024-09-05""#)).unwrap();
    assert_eq!(send(&mut kit, "2024-09-20"), "1 accepted");
    kit.put("acme", &with("")).unwrap();
    assert_eq!(send(&mut kit, "2024-09-01"), "1 accepted");
    assert_eq!(kit.put("acme", &with(r#","from":"2024-09-02""#)), Err(Reason::EffectiveTooEarly));
    assert_eq!(kit.put("acme", &with(r#","until":"2024-09-25""#)), Err(Reason::EffectiveTooEarly));
    assert_eq!(kit.put("acme", ""), Err(Reason::VersionConflict));
    kit.put("acme", &with(r#","until":"2024-10-01""#)).unwrap();
    assert_eq!(send(&mut kit, "2024-09-30"), "1 accepted");
    assert_eq!(send(&mut kit, "2024-10-01"), "1 UNKNOWN_ACCOUNT");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")).0, 4);
}

#[test]
fn an_account_that_moves_within_a_slot_counts_where_it_is() {
    // A second root in the slot of `acme`, found by trying names.
    let other = (0..).map(|n| format!("r{n}")).find(|name| slot_of(name) == slot_of("acme")).unwrap();
    let mut kit = Kit::new();
    kit.put("acme", r#","accounts":[{"id":"a","until":"2024-09-15"}]"#).unwrap();
    let early = rows("a", 1, &[1]);
    assert_eq!(kit.send("acme", "p", SEQUENCED, &early), "1 accepted");
    kit.put(&other, r#","accounts":[{"id":"a","from":"2024-09-15"}]"#).unwrap();
    let mut late = rows("a", 2, &[2, 4]);
    late[1].start = time("2024-09-15");
    let mode = HeadMode::Sequenced { epoch: 1, previous: Some(1) };
    assert_eq!(kit.send("acme", "p", mode, &late), "2 accepted");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")), (3, 2, 0, 0));
    assert_eq!(kit.value(&other, "2024-09", &key("a", "bytes")), (4, 1, 0, 0));
}

#[test]
fn hierarchies_are_put_once_and_amended() {
    let mut kit = Kit::acme();
    let rest = r#","accounts":[{"id":"a"},{"id":"b"}]"#;
    assert_eq!(kit.put("acme", rest), Ok(Done::Unchanged));
    let with_job = |rest: &str, job: &str| {
        let document = hierarchy("acme", "2024-09", rest);
        Command::PutHierarchy { document, job: job.to_owned() }
    };
    assert_eq!(kit.ok(with_job("", "j-1")), Done::Changed);
    assert_eq!(kit.ok(with_job(rest, "j-2")), Done::Changed);
    // A late repeat of an older job does not undo the newer.
    assert_eq!(kit.ok(with_job("", "j-1")), Done::Unchanged);
    assert_eq!(kit.state.view().hierarchy(&account("acme")).unwrap().accounts().len(), 3);
    assert_eq!(kit.put("acme", r#","accounts":[{"id":"a","payer":"x"}]"#), Err(Reason::InvalidDocument));
    let unreadable = Command::PutHierarchy { document: b"{}".to_vec(), job: String::new() };
    assert_eq!(kit.command(unreadable), Err(Reason::InvalidDocument));
    let early = Command::PutHierarchy { document: hierarchy("x", "2023-12", ""), job: String::new() };
    assert_eq!(kit.command(early), Err(Reason::EffectiveTooEarly));
    let other = String::from_utf8(hierarchy("x", "2024-09", "")).unwrap().replace(r#""c""#, r#""d""#);
    let other = Command::PutHierarchy { document: other.into_bytes(), job: String::new() };
    assert_eq!(kit.command(other), Err(Reason::UnknownCatalogue));
    assert_eq!(kit.put("y", r#","currency":"EUR""#), Err(Reason::InvalidDocument));
}

#[test]
fn the_directory_finds_roots() {
    let mut kit = Kit::acme();
    let period = |from: &str, until: &str| crate::base::time::Period { from: time(from), until: time(until) };
    let put = |root: &str, periods| Command::PutDirectory { account: account("a"), root: account(root), periods };
    let september = period("2024-09-01", "2024-10-01");
    assert_eq!(kit.ok(put("acme", vec![september])), Done::Changed);
    assert_eq!(kit.ok(put("acme", vec![september])), Done::Unchanged);
    assert_eq!(kit.command(put("globex", vec![september])), Err(Reason::VersionConflict));
    kit.ok(put("globex", vec![period("2024-10-01", "2024-11-01")]));
    let view = kit.state.view();
    let resolve = |at: &str| view.resolve(&account("a"), time(at)).map(|(root, slot)| (root.to_string(), slot));
    assert_eq!(resolve("2024-09-30"), Some(("acme".to_owned(), slot_of("acme"))));
    assert_eq!(resolve("2024-10-01"), Some(("globex".to_owned(), slot_of("globex"))));
    assert_eq!(resolve("2024-11-01"), None);
}

#[test]
fn producers_are_opened_at_home() {
    let mut kit = Kit::acme();
    let progress = |lines, digest| FileProgress { lines, digest: [digest; 32] };
    let open = |epoch, file| Command::OpenProducer { slot: home("p"), producer: producer("p"), epoch, file };
    assert_eq!(kit.ok(open(None, None)), Done::Producer { epoch: 1, file: None });
    let file = Some(progress(10, 1));
    assert_eq!(kit.ok(open(Some(1), file)), Done::Producer { epoch: 1, file });
    assert_eq!(kit.ok(open(None, None)), Done::Producer { epoch: 2, file });
    assert_eq!(kit.command(open(Some(1), Some(progress(12, 2)))), Err(Reason::StaleEpoch));
    assert_eq!(kit.command(open(None, Some(progress(10, 2)))), Err(Reason::ProducerMismatch));
    assert_eq!(kit.ok(open(None, file)), Done::Producer { epoch: 3, file });
    let elsewhere = Command::OpenProducer {
        slot: Slot((home("p").0 + 1) % 4096),
        producer: producer("p"),
        epoch: None,
        file: None,
    };
    assert_eq!(kit.command(elsewhere), Err(Reason::WrongShard));
    assert_eq!(kit.state.view().producer(&producer("p")).unwrap().epoch, 3);
}

/// A contract of `acme` with more JSON fields.
fn contract_of_acme(effective: &str, rest: &str) -> Command {
    let text = format!(r#"{{"kind":"Contract","root":"acme","effective":"{effective}"{rest}}}"#);
    let document: crate::contract::document::ContractDocument = serde_json::from_str(&text).unwrap();
    Command::PutContract { document: document.canonical(), job: String::new() }
}

#[test]
fn a_running_commitment_goes_on_or_ends() {
    let mut kit = Kit::acme();
    let edp = |more: &str| format!(r#","clauses":[{{"id":"edp","mechanism":"commitment","years":["100"]{more}}}]"#);
    assert_eq!(kit.ok(contract_of_acme("2024-09", &edp(""))), Done::Changed);
    assert_eq!(kit.command(contract_of_acme("2024-11", "")), Err(Reason::InvalidDocument));
    let other = edp("").replace("edp", "other");
    assert_eq!(kit.command(contract_of_acme("2024-11", &other)), Err(Reason::InvalidDocument));
    // The contract year ends with August.
    assert_eq!(kit.ok(contract_of_acme("2024-11", &edp(r#","starts":"2024-09","until":"2024-12""#))), Done::Changed);
    assert_eq!(kit.ok(contract_of_acme("2024-12", "")), Done::Changed);
    assert_eq!(kit.ok(contract_of_acme("2025-01", &edp(r#","starts":"2024-02""#))), Done::Changed);
    assert_eq!(kit.ok(contract_of_acme("2025-02", "")), Done::Changed);
}

#[test]
fn what_a_contract_names_is_known() {
    let mut kit = Kit::acme();
    let currency = |from: &str, payer: &str| {
        let rates = r#"[{"effective":"2024-09-30","rate":"0.9"}]"#;
        format!(
            r#","clauses":[{{"id":"c","mechanism":"currency","from":"{from}","to":"JPY","payer":"{payer}","rates":{rates}}}]"#
        )
    };
    assert_eq!(kit.command(contract_of_acme("2024-09", &currency("EUR", "acme"))), Err(Reason::InvalidDocument));
    assert_eq!(kit.command(contract_of_acme("2024-09", &currency("USD", "nobody"))), Err(Reason::InvalidDocument));
    assert_eq!(kit.ok(contract_of_acme("2024-09", &currency("USD", "acme"))), Done::Changed);
    let group = r#","pro_forma":[{"group":"red","account":"acme"}]"#;
    assert_eq!(kit.command(contract_of_acme("2024-10", group)), Err(Reason::InvalidDocument));
    kit.put("acme", r#","groups":["red"],"accounts":[{"id":"a"},{"id":"b"}]"#).unwrap();
    assert_eq!(kit.ok(contract_of_acme("2024-10", group)), Done::Changed);
    let stranger = r#","pro_forma":[{"group":"red","account":"nobody"}]"#;
    assert_eq!(kit.command(contract_of_acme("2024-11", stranger)), Err(Reason::InvalidDocument));
}

#[test]
fn contracts_have_versions() {
    let mut kit = Kit::acme();
    let contract = |effective: &str, share: &str| {
        let document = format!(
            r#"{{"kind":"Contract","root":"acme","effective":"{effective}","clauses":[{{"id":"d","mechanism":"percent","kind":"cross_service","percent":"{share}"}}]}}"#
        );
        let document: crate::contract::document::ContractDocument = serde_json::from_str(&document).unwrap();
        Command::PutContract { document: document.canonical(), job: String::new() }
    };
    assert_eq!(kit.command(contract("2024-08", "5")), Err(Reason::EffectiveTooEarly));
    assert_eq!(kit.ok(contract("2024-09", "5")), Done::Changed);
    assert_eq!(kit.ok(contract("2024-09", "5")), Done::Unchanged);
    assert_eq!(kit.ok(contract("2024-11", "7")), Done::Changed);
    assert_eq!(kit.command(contract("2024-10", "6")), Err(Reason::EffectiveTooEarly));
    let source = |kit: &mut Kit, name: &str| {
        let view = kit.state.view();
        let source = view.fold_source(&account("acme"), cycle(name), &kit.blobs).unwrap();
        source.contract.map(|contract| contract.version)
    };
    assert_eq!((source(&mut kit, "2024-09"), source(&mut kit, "2024-10")), (Some(1), Some(1)));
    kit.stamp = time("2024-10-01");
    kit.ok(Command::Cut { root: account("acme"), cycle: cycle("2024-09"), manual: true });
    assert_eq!(kit.command(contract("2024-09", "8")), Err(Reason::EffectiveTooEarly));
    assert_eq!(source(&mut kit, "2024-11"), Some(2));
    let stranger = r#"{"kind":"Contract","root":"nobody","effective":"2024-09"}"#;
    let stranger = Command::PutContract { document: stranger.into(), job: String::new() };
    assert_eq!(kit.command(stranger), Err(Reason::UnknownRoot));
}

#[test]
fn catalogue_versions_take_effect_at_open_cycles() {
    let mut kit = Kit::acme();
    let (root, september) = (account("acme"), cycle("2024-09"));
    kit.stamp = time("2024-10-01");
    kit.ok(Command::Cut { root: root.clone(), cycle: september, manual: true });
    assert_eq!(kit.activate(catalogue("2024-09", "0.02", &[]), 2), Err(Reason::EffectiveTooEarly));
    assert_eq!(kit.activate(catalogue("2024-11", "0.02", &["new"]), 1), Err(Reason::VersionConflict));
    assert_eq!(kit.activate(catalogue("2024-11", "0.02", &["new"]), 2), Ok(Done::Changed));
    assert_eq!(kit.activate(catalogue("2024-11", "0.02", &["new"]), 2), Ok(Done::Unchanged));
    assert_eq!(kit.activate(catalogue("2024-10", "0.03", &["new"]), 3), Err(Reason::EffectiveTooEarly));
    // A meter never goes away.
    assert_eq!(kit.activate(catalogue("2024-12", "0.03", &[]), 3), Err(Reason::VersionConflict));
    let version = |kit: &mut Kit, name: &str| {
        kit.state.view().fold_source(&root, cycle(name), &kit.blobs).unwrap().version.version
    };
    assert_eq!((version(&mut kit, "2024-09"), version(&mut kit, "2024-10"), version(&mut kit, "2024-11")), (1, 1, 2));
    // The new meter counts from its first cycle on.
    let mut sent = rows("a", 1, &[1, 2]);
    (sent[0].key, sent[1].key) = (key("a", "new"), key("a", "new"));
    (sent[0].start, sent[1].start) = (time("2024-10-31"), time("2024-11-01"));
    assert_eq!(kit.send("acme", "p", SEQUENCED, &sent), "1 UNKNOWN_METER, 1 accepted");
}

#[test]
fn a_missing_blob_changes_nothing() {
    let mut kit = Kit::acme();
    let next = catalogue("2024-10", "0.02", &[]);
    let command =
        Command::ActivateCatalogue { name: next.name.clone(), version: 2, hash: next.hash, effective: next.effective };
    let before = kit.state.hash();
    let entry = encode_commands(time("2025-01-01"), 1, std::slice::from_ref(&command));
    let halt = kit.state.apply(kit.index + 1, &entry, &kit.blobs).unwrap_err();
    assert_eq!((halt, kit.state.hash()), (Halt::BlobMissing { hash: next.hash }, before));
    kit.blobs.0.insert(next.hash, std::sync::Arc::new(next));
    assert_eq!(kit.ok(command), Done::Changed);
}

#[test]
fn a_fold_takes_what_was_counted_and_the_archive_gives_it_back() {
    let mut kit = Kit::acme();
    let sent = [rows("b", 1, &[1]), rows("a", 2, &[2]), rows("acme", 3, &[4])].concat();
    assert_eq!(kit.send("acme", "p", SEQUENCED, &sent), "3 accepted");
    let (root, september) = (account("acme"), cycle("2024-09"));
    let estimate = kit.state.view().fold_source(&root, september, &kit.blobs).unwrap();
    let seen = |counters: &[super::query::FoldCounter]| {
        counters.iter().map(|counter| (counter.series.account.to_string(), counter.value)).collect::<Vec<_>>()
    };
    let expected = [("a".to_owned(), 2), ("acme".to_owned(), 4), ("b".to_owned(), 1)];
    assert_eq!(seen(&estimate.counters), expected);
    // Seven bytes at a cent each.
    let bills = crate::billing::fold::fold(&estimate.input()).unwrap();
    assert_eq!((bills.len(), bills[0].payable.to_string()), (1, "0.07".to_owned()));
    assert!(kit.state.view().archive(&root, september).is_err());
    kit.stamp = time("2024-10-01");
    kit.ok(Command::Cut { root: root.clone(), cycle: september, manual: true });
    let late = kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous: Some(3) }, &rows("a", 4, &[8]));
    assert_eq!(late, "1 late");
    let frozen = kit.state.view().fold_source(&root, september, &kit.blobs).unwrap();
    assert_eq!(frozen.counters, estimate.counters);
    let archive = kit.state.view().archive(&root, september).unwrap();
    assert_eq!(read_archive(&archive, &frozen.catalogue).unwrap(), frozen.counters);
    for length in 0..archive.len() {
        let _ = read_archive(&archive[..length], &frozen.catalogue);
    }
}

#[test]
fn a_view_does_not_change() {
    let mut kit = Kit::acme();
    kit.sequence(None, 1, &[1]);
    let view = kit.state.view();
    let (root, september) = (account("acme"), cycle("2024-09"));
    let before = (view.hash(), view.usage(&root, september).unwrap());
    kit.sequence(Some(1), 2, &[2]);
    kit.send("acme", "q", HeadMode::ById, &rows("b", 1, &[4]));
    assert_eq!((view.hash(), view.usage(&root, september).unwrap()), before);
    assert_eq!(kit.state.view_of(slot_of("acme")).usage(&root, september).unwrap().len(), 2);
}

#[test]
fn a_shard_answers_for_its_own_slots() {
    let mut state = State::new(ShardId(4));
    let outcome = |state: &mut State, index, command| {
        let entry = encode_commands(time("2024-09-01"), 1, &[command]);
        let applied = state.apply(index, &entry, &Kit::new().blobs).unwrap();
        match decode_outcome(&applied.outcome).unwrap() {
            Outcome::Commands(mut outcomes) => outcomes.remove(0),
            Outcome::Usage(_) => panic!("commands come back as commands"),
        }
    };
    let genesis = |shard, last| Command::Genesis {
        shard: ShardId(shard),
        slots: vec![SlotRange { first: 0, last }],
        epoch: 1,
        ids_bytes_max: 0,
    };
    let put = Command::PutDirectory { account: account("a"), root: account("acme"), periods: Vec::new() };
    let reason = |outcome| match outcome {
        CommandOutcome::Refused(refusal) => Some(refusal.reason),
        CommandOutcome::Done(_) => None,
    };
    assert_eq!(reason(outcome(&mut state, 1, put.clone())), Some(Reason::WrongShard));
    assert_eq!(reason(outcome(&mut state, 2, genesis(5, 10))), Some(Reason::VersionConflict));
    assert_eq!(reason(outcome(&mut state, 3, genesis(4, 4096))), Some(Reason::InvalidValue));
    assert_eq!(reason(outcome(&mut state, 4, genesis(4, 0))), None);
    assert_eq!(outcome(&mut state, 5, genesis(4, 0)), CommandOutcome::Done(Done::Unchanged));
    assert_eq!(reason(outcome(&mut state, 6, genesis(4, 1))), Some(Reason::VersionConflict));
    assert_eq!(reason(outcome(&mut state, 7, put)), Some(Reason::WrongShard));
    // The log never goes back.
    let entry = encode_commands(time("2024-09-01"), 1, &[Command::Tick]);
    assert!(matches!(state.apply(7, &entry, &Kit::new().blobs), Err(Halt::BadEntry { index: 7, .. })));
}

#[test]
fn a_full_batch_answers_in_few_bytes() {
    let mut kit = Kit::acme();
    kit.sequence(None, 1, &[1]);
    let mut writer = Writer::new();
    let mode = HeadMode::Sequenced { epoch: 1, previous: Some(1) };
    writer.segment(&Head { slot: slot_of("acme"), generation: 77, producer: "p", mode });
    for number in 2..10_002 {
        let (series, start) = (Reference::Number(0), time("2024-09-10"));
        writer.push(&Packed { series, number, id: b"", quantity: 1, start, end: None, amount: None, corrects: b"" });
    }
    let batch = writer.finish();
    let entry = encode_usage_entry(kit.stamp, 1, &batch);
    let applied = kit.state.apply(kit.index + 1, &entry, &kit.blobs).unwrap();
    assert!(applied.outcome.len() < 32, "{} bytes", applied.outcome.len());
    let again = kit.state.apply(kit.index + 2, &entry, &kit.blobs).unwrap();
    assert!(again.outcome.len() < 64, "{} bytes", again.outcome.len());
    assert_eq!(kit.value("acme", "2024-09", &key("a", "bytes")).0, 10_001);
}

#[test]
fn hostile_bytes_never_panic() {
    let mut kit = Kit::acme();
    kit.sequence(None, 1, &[1, -2]);
    kit.stamp = time("2024-10-01");
    kit.close("acme", "2024-09");
    let hostile = |bytes: &[u8], take: &mut dyn FnMut(&[u8])| {
        for length in 0..bytes.len() {
            take(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= 1 << bit;
                take(&bytes);
            }
        }
    };
    let mut index = 1_000;
    for entry in kit.log.clone() {
        hostile(&entry, &mut |bytes| {
            index += 1;
            if let Ok(applied) = kit.state.apply(index, bytes, &kit.blobs) {
                decode_outcome(&applied.outcome).unwrap();
            }
        });
    }
    let outcome = encode_outcome(&Outcome::Commands(vec![CommandOutcome::Done(Done::Unchanged)]));
    hostile(&outcome, &mut |bytes| {
        let _ = decode_outcome(bytes);
    });
    let mut parts = Vec::new();
    kit.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    // A snapshot's checksum finds every cut and every flipped bit.
    for place in [0, parts.len() / 2, parts.len() - 1] {
        let (section, good) = parts[place].clone();
        hostile(&good, &mut |bytes| {
            let mut parts = parts.clone();
            parts[place] = (section, bytes.to_vec());
            assert!(State::restore(parts).is_err());
        });
    }
    for missing in 0..parts.len() {
        let mut parts = parts.clone();
        parts.remove(missing);
        assert!(State::restore(parts).is_err(), "without part {missing}");
    }
    assert!(State::restore(parts).is_ok());
}

#[test]
fn one_account_has_so_many_series() {
    let max = crate::usage::series::SERIES_PER_ACCOUNT_MAX as u64;
    let mut kit = Kit::acme();
    let of = |name: &str, number: u64| Row {
        key: crate::usage::series::SeriesKey::new(
            account(name),
            "s",
            "bytes",
            "",
            "",
            vec![("class".to_owned(), number.to_string())],
        ),
        ..rows(name, number, &[1])[0].clone()
    };
    let mut previous = None;
    for first in (1..=max).step_by(5_000) {
        let own: Vec<Row> = (first..first + 5_000).map(|number| of("a", number)).collect();
        let mode = HeadMode::Sequenced { epoch: 1, previous };
        assert_eq!(kit.send("acme", "p", mode, &own), "5000 accepted");
        previous = Some(first + 4_999);
    }
    let more = [of("a", max + 1), of("b", max + 2), Row { number: max + 3, ..of("a", 7) }];
    let mode = HeadMode::Sequenced { epoch: 1, previous };
    assert_eq!(kit.send("acme", "p", mode, &more), "1 SERIES_LIMIT, 2 accepted");
}
