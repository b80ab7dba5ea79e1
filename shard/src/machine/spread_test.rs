//! Records that are spread, through the machine: their parts in hours and cycles, seen again, taken back, late, refused.

use serde_json::json;

use super::command::Command;
use super::kit::*;
use super::state::State;
use crate::base::id::AccountId;
use crate::placement::slot_of;
use crate::pricing::catalogue::Catalogue;
use crate::usage::segment::{Head, HeadMode, Packed, Writer};

/// `core` keeps hours and two decimals, `disk` months and none. Account `c` leaves on September 20.
fn kit() -> Kit {
    let mut document = document("2024-09", "0.01", &[]);
    let meters = document["meters"].as_array_mut().unwrap();
    for (name, bucket, scale) in [("core", "hour", 2), ("disk", "month", 0)] {
        meters.push(json!({"id": name, "service": "s", "usage_type": name, "bucket": bucket, "scale": scale,
            "spread": "time"}));
    }
    let mut kit = Kit::new();
    kit.put("acme", r#","accounts":[{"id":"a"},{"id":"c","until":"2024-09-20"}]"#).unwrap();
    kit.activate(Catalogue::compile(&serde_json::from_value(document).unwrap()).unwrap(), 2).unwrap();
    kit
}

/// Sends one record: `account type quantity start end`, of two decimals or none as its meter has; a quantity below zero
/// corrects.
fn send(kit: &mut Kit, mode: HeadMode, number: u64, row: &str) -> String {
    let words: Vec<&str> = row.split_whitespace().collect();
    let mut writer = Writer::new();
    let producer = if matches!(mode, HeadMode::ById) { "ids" } else { "p" };
    writer.segment(&Head { slot: slot_of("acme"), generation: 0, producer, mode });
    let series = writer.define(&key(words[0], words[1]), if words[1] == "core" { 2 } else { 0 });
    let quantity: i128 = words[2].parse().unwrap();
    writer.push(&Packed {
        series,
        number,
        id: format!("r-{number}").as_bytes(),
        quantity,
        start: time(words[3]),
        end: Some(time(words[4])),
        amount: None,
        corrects: if quantity < 0 { b"r-0" } else { b"" },
    });
    super::kit::words(&kit.push(writer), 0, 1)
}

fn sequenced(previous: Option<u64>) -> HeadMode {
    HeadMode::Sequenced { epoch: 1, previous }
}

fn restart(kit: &mut Kit) {
    let mut parts = Vec::new();
    kit.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    let mut twin = State::restore(parts).unwrap();
    assert_eq!(twin.hash(), kit.state.hash());
    kit.state = twin;
}

const NIGHT: &str = "a core 1200 2024-09-30T18:00:00Z 2024-10-01T06:00:00Z";

#[test]
fn a_record_counts_once_in_all_its_hours() {
    let mut kit = kit();
    let core = key("a", "core");
    assert_eq!(send(&mut kit, sequenced(None), 1, NIGHT), "1 accepted");
    let buckets = |kit: &mut Kit, name: &str| -> Vec<(Option<u16>, i128, u64)> {
        let lines = kit.state.view().usage(&account("acme"), cycle(name)).unwrap();
        lines.iter().filter(|line| line.series == core).map(|line| (line.bucket, line.value, line.records)).collect()
    };
    // September has 720 hours.
    assert_eq!(buckets(&mut kit, "2024-09"), (714..720).map(|hour| (Some(hour), 100, 1)).collect::<Vec<_>>());
    assert_eq!(buckets(&mut kit, "2024-10"), (0..6).map(|hour| (Some(hour), 100, 1)).collect::<Vec<_>>());
    restart(&mut kit);
    // Sent again it is one duplicate; under ids too, and another time is another content.
    assert_eq!(send(&mut kit, sequenced(None), 1, NIGHT), "1 duplicate");
    assert_eq!(send(&mut kit, HeadMode::ById, 7, NIGHT), "1 accepted");
    assert_eq!(send(&mut kit, HeadMode::ById, 7, NIGHT), "1 duplicate");
    let longer = NIGHT.replace("06:00:00", "07:00:00");
    assert_eq!(send(&mut kit, HeadMode::ById, 7, &longer), "1 ID_REUSED");
    assert_eq!(kit.value("acme", "2024-10", &core), (1_200, 12, 0, 0));
    // A correction of the same time takes every part back.
    assert_eq!(send(&mut kit, sequenced(Some(1)), 2, &NIGHT.replace("1200", "-1200")), "1 accepted");
    assert_eq!(kit.value("acme", "2024-09", &core), (600, 18, 0, 0));
    assert_eq!(buckets(&mut kit, "2024-10")[5], (Some(5), 100, 3));
    // A month is cut where the cycle ends: 12 of 48 hours.
    let disk = "a disk 100 2024-09-30T12:00:00Z 2024-10-02T12:00:00Z";
    assert_eq!(send(&mut kit, sequenced(Some(2)), 3, disk), "1 accepted");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "disk")), (25, 1, 0, 0));
    assert_eq!(kit.value("acme", "2024-10", &key("a", "disk")), (75, 1, 0, 0));
    // One that lasts no time is a record of its instant.
    let instant = "a disk 9 2024-09-30T12:00:00Z 2024-09-30T12:00:00Z";
    assert_eq!(send(&mut kit, sequenced(Some(3)), 4, instant), "1 accepted");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "disk")), (34, 2, 0, 0));
    restart(&mut kit);
}

#[test]
fn a_part_that_cannot_count_refuses_the_record() {
    let check = |row: &str, expected: &str| {
        let mut kit = kit();
        assert_eq!(send(&mut kit, sequenced(None), 1, row), format!("1 {expected}"), "{row}");
        for name in ["2024-09", "2024-10"] {
            let who = key(row.split(' ').next().unwrap(), "core");
            assert_eq!(kit.value("acme", name, &who), (0, 0, 0, 0), "{row}");
        }
        // The verdict stays.
        assert_eq!(send(&mut kit, sequenced(None), 1, row), format!("1 {expected}"), "{row}");
    };
    // Beyond the next cycle, before the first, longer than 31 days, beyond the account's time.
    check("a core 1200 2024-10-31T18:00:00Z 2024-11-01T06:00:00Z", "TOO_FAR_AHEAD");
    check("a core 1200 2024-08-31T18:00:00Z 2024-09-01T06:00:00Z", "TOO_EARLY");
    check("a core 1200 2024-09-01 2024-10-02T00:00:01Z", "INVALID_VALUE");
    check("c core 1200 2024-09-19T18:00:00Z 2024-09-20T06:00:00Z", "UNKNOWN_ACCOUNT");
}

#[test]
fn parts_of_a_closed_cycle_are_late() {
    let mut kit = kit();
    kit.stamp = time("2024-10-02");
    let root: AccountId = account("acme");
    kit.ok(Command::Cut { root: root.clone(), cycle: cycle("2024-09"), manual: true });
    assert_eq!(send(&mut kit, sequenced(None), 1, NIGHT), "1 late");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "core")), (0, 0, 600, 6));
    assert_eq!(kit.value("acme", "2024-10", &key("a", "core")), (600, 6, 0, 0));
    let disk = "a disk 100 2024-09-30T12:00:00Z 2024-10-02T12:00:00Z";
    assert_eq!(send(&mut kit, sequenced(Some(1)), 2, disk), "1 late");
    assert_eq!(kit.value("acme", "2024-09", &key("a", "disk")), (0, 0, 25, 1));
    restart(&mut kit);
    assert_eq!(send(&mut kit, sequenced(Some(1)), 2, disk), "1 duplicate");
}
