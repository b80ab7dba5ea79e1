//! Accounts that move between hierarchies: each record counts once, in one of them, whatever is sent again to where, with a
//! restore after every step.

use super::command::*;
use super::kit::*;
use super::state::State;
use crate::base::refusal::Reason;
use crate::base::time::Timestamp;
use crate::usage::segment::HeadMode;

const AT: &str = "2024-10-01";

fn both() -> Kit {
    let mut kit = Kit::acme();
    kit.put("globex", r#","accounts":[{"id":"g"}],"groups":["red"]"#).unwrap();
    kit
}

fn way(job: &str) -> AccountWay {
    AccountWay {
        account: account("a"),
        from: account("acme"),
        to: account("globex"),
        at: time(AT),
        payer: None,
        group: None,
        job: job.to_owned(),
    }
}

fn step(kit: &mut Kit, step: MoveStep, way: &AccountWay) -> Result<Done, Reason> {
    let done = kit.command(Command::MoveAccount { step, way: way.clone() });
    restore(kit);
    done
}

fn restore(kit: &mut Kit) {
    let mut parts = Vec::new();
    kit.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    let (before, mut after) = (kit.state.hash(), State::restore(parts).unwrap());
    assert_eq!(after.hash(), before, "a snapshot holds everything");
    kit.state = after;
}

/// Records of `a` at a time, numbered.
fn of(first: u64, quantities: &[i128], at: &str) -> Vec<Row> {
    rows("a", first, quantities).into_iter().map(|row| Row { start: time(at), ..row }).collect()
}

fn numbered(previous: Option<u64>) -> HeadMode {
    HeadMode::Sequenced { epoch: 1, previous }
}

fn total(kit: &mut Kit, root: &str, cycle: &str) -> (i128, u64) {
    let (value, records, ..) = kit.value(root, cycle, &key("a", "bytes"));
    (value, records)
}

#[test]
fn usage_goes_with_its_account_and_counts_once() {
    let (mut kit, own, strays) = (both(), way("m"), HeadMode::Strays { epoch: 1 });
    assert_eq!(kit.send("acme", "p", numbered(None), &of(1, &[5, 6], "2024-09-10")), "2 accepted");
    assert_eq!(
        kit.send("globex", "p", numbered(None), &[Row { number: 9, ..rows("g", 9, &[1])[0].clone() }]),
        "1 accepted"
    );
    assert_eq!(step(&mut kit, MoveStep::End, &own), Ok(Done::Changed));
    assert_eq!(step(&mut kit, MoveStep::End, &own), Ok(Done::Unchanged));
    // What is from before counts; what is from then on waits, and moves no mark.
    assert_eq!(kit.send("acme", "p", numbered(Some(2)), &of(3, &[7], "2024-09-30T23:59:59Z")), "1 accepted");
    let mixed = [of(4, &[8], "2024-09-11"), of(5, &[9], "2024-10-01")].concat();
    assert_eq!(kit.send("acme", "p", numbered(Some(3)), &mixed), "whole: MOVING");
    assert_eq!(kit.send("acme", "q", HeadMode::ById, &of(5, &[9], "2024-10-02")), "whole: MOVING");
    assert_eq!(step(&mut kit, MoveStep::Begin, &own), Ok(Done::Changed));
    assert_eq!(step(&mut kit, MoveStep::Begin, &own), Ok(Done::Unchanged));
    assert_eq!(kit.send("acme", "p", numbered(Some(3)), &mixed), "whole: MOVING");
    assert_eq!(step(&mut kit, MoveStep::Learn, &own), Ok(Done::Changed));
    assert_eq!(step(&mut kit, MoveStep::Learn, &own), Ok(Done::Unchanged));
    assert_eq!(step(&mut kit, MoveStep::Settle, &own), Ok(Done::Changed));
    // Steps that come late change nothing.
    for late in [MoveStep::End, MoveStep::Begin, MoveStep::Cancel, MoveStep::Settle, MoveStep::Learn] {
        assert_eq!(step(&mut kit, late, &own), Ok(Done::Unchanged), "{late:?}");
    }
    assert_eq!(kit.send("acme", "p", numbered(Some(3)), &mixed), "1 accepted, 1 UNKNOWN_ACCOUNT");
    // As a stray, then again as one, then in order by a producer that forgot: the mark of globex is past it.
    assert_eq!(kit.send("globex", "p", strays, &of(5, &[9], AT)), "1 accepted");
    assert_eq!(kit.send("globex", "p", strays, &of(5, &[9], AT)), "1 duplicate");
    assert_eq!(kit.send("globex", "p", numbered(None), &of(5, &[9], AT)), "1 duplicate");
    // One that was refused in acme and never came as a stray counts in order, once.
    assert_eq!(kit.send("acme", "p", numbered(Some(5)), &of(6, &[20], AT)), "1 UNKNOWN_ACCOUNT");
    assert_eq!(kit.send("globex", "p", numbered(None), &of(6, &[20], AT)), "1 accepted");
    assert_eq!(kit.send("globex", "p", numbered(None), &of(6, &[20], AT)), "1 duplicate");
    assert_eq!(kit.send("globex", "p", strays, &of(6, &[20], AT)), "1 duplicate");
    restore(&mut kit);
    assert_eq!(kit.send("globex", "p", numbered(Some(9)), &of(10, &[30], "2024-10-05")), "1 accepted");
    assert_eq!(kit.send("globex", "p", numbered(None), &of(10, &[30], "2024-10-05")), "1 duplicate");
    // Others are recognised by the mark, and first verdicts stay.
    assert_eq!(kit.send("globex", "p", numbered(None), &rows("g", 4, &[1])), "1 duplicate");
    let bad = Row { scale: 3, ..of(11, &[1], AT)[0].clone() };
    assert_eq!(kit.send("globex", "p", numbered(Some(10)), std::slice::from_ref(&bad)), "1 INVALID_VALUE");
    assert_eq!(kit.send("globex", "p", numbered(None), &of(11, &[1], AT)), "1 INVALID_VALUE");
    assert_eq!(total(&mut kit, "acme", "2024-09"), (5 + 6 + 7 + 8, 4));
    assert_eq!(total(&mut kit, "acme", "2024-10"), (0, 0));
    assert_eq!(total(&mut kit, "globex", "2024-10"), (9 + 20 + 30, 3));
    let view = kit.state.view();
    let root = |at: &str| view.resolve(&account("a"), time(at)).map(|(root, _)| root.to_string());
    assert_eq!([root("2024-10-01"), root("2030-01-01")], [Some("globex".to_owned()), Some("globex".to_owned())]);
}

#[test]
fn a_refused_move_leaves_all_as_it_was() {
    let mut kit = both();
    let before = |kit: &mut Kit| kit.state.view().hierarchy(&account("acme")).unwrap();
    let tree = before(&mut kit);
    let own = AccountWay { payer: Some(account("nobody")), ..way("m") };
    assert_eq!(step(&mut kit, MoveStep::End, &own), Ok(Done::Changed));
    assert_eq!(kit.put("acme", r#","accounts":[{"id":"a"},{"id":"b"}]"#), Err(Reason::Moving));
    assert_eq!(step(&mut kit, MoveStep::Begin, &own), Err(Reason::InvalidDocument));
    assert_eq!(step(&mut kit, MoveStep::Cancel, &own), Ok(Done::Changed));
    assert_eq!(*before(&mut kit), *tree);
    assert_eq!(kit.send("acme", "p", numbered(None), &of(1, &[5], AT)), "1 accepted");
    // Neither an end nor a begin that was on its way brings it back to life.
    assert_eq!(step(&mut kit, MoveStep::End, &own), Err(Reason::VersionConflict));
    let named = AccountWay { payer: None, ..own };
    assert_eq!(step(&mut kit, MoveStep::Begin, &named), Err(Reason::VersionConflict));
    // Usage of October is counted now.
    assert_eq!(step(&mut kit, MoveStep::End, &way("n")), Err(Reason::EffectiveTooEarly));
    let later = AccountWay { at: time("2024-11-01"), group: Some("red".parse().unwrap()), ..way("n") };
    for one in [MoveStep::End, MoveStep::Begin, MoveStep::Learn, MoveStep::Settle] {
        assert_eq!(step(&mut kit, one, &later), Ok(Done::Changed), "{one:?}");
    }
    let view = kit.state.view();
    let globex = view.hierarchy(&account("globex")).unwrap();
    assert_eq!(globex.group_of(&account("a"), cycle("2024-11")).unwrap().as_str(), "red");
}

#[test]
fn what_cannot_move_is_refused() {
    let mut kit = both();
    let check = |kit: &mut Kit, one: MoveStep, own: AccountWay, expected: Reason| {
        assert_eq!(step(kit, one, &own), Err(expected), "{own:?}");
    };
    let own = way("m");
    check(&mut kit, MoveStep::End, AccountWay { account: account("acme"), ..own.clone() }, Reason::VersionConflict);
    check(&mut kit, MoveStep::End, AccountWay { account: account("x"), ..own.clone() }, Reason::UnknownAccount);
    check(&mut kit, MoveStep::End, AccountWay { from: account("x"), ..own.clone() }, Reason::UnknownRoot);
    check(&mut kit, MoveStep::End, AccountWay { to: account("acme"), ..own.clone() }, Reason::InvalidValue);
    check(&mut kit, MoveStep::Begin, AccountWay { at: time("2024-08-01"), ..own.clone() }, Reason::EffectiveTooEarly);
    assert_eq!(step(&mut kit, MoveStep::End, &own), Ok(Done::Changed));
    check(&mut kit, MoveStep::End, way("other"), Reason::VersionConflict);
    check(&mut kit, MoveStep::Learn, AccountWay { at: Timestamp(i64::MAX), ..own }, Reason::InvalidDocument);
}

#[test]
fn files_do_not_bring_back_what_moved_and_it_may_come_back() {
    let mut kit = both();
    let all = |kit: &mut Kit, own: &AccountWay| {
        for one in [MoveStep::End, MoveStep::Begin, MoveStep::Learn, MoveStep::Settle] {
            assert_eq!(step(kit, one, own), Ok(Done::Changed), "{one:?}");
        }
    };
    all(&mut kit, &way("m"));
    assert_eq!(kit.put("acme", r#","accounts":[{"id":"a"},{"id":"b"}]"#), Err(Reason::VersionConflict));
    assert_eq!(kit.put("acme", r#","accounts":[{"id":"a","until":"2024-10-01"},{"id":"b"}]"#), Ok(Done::Changed));
    assert_eq!(kit.put("acme", r#","accounts":[{"id":"b"}]"#), Ok(Done::Changed));
    kit.put("acme", r#","accounts":[{"id":"a","until":"2024-10-01"},{"id":"b"}]"#).unwrap();
    let back = AccountWay { from: account("globex"), to: account("acme"), at: time("2024-12-01"), ..way("back") };
    all(&mut kit, &back);
    let again = r#","accounts":[{"id":"a","until":"2024-10-01"},{"id":"a","from":"2024-12-01"},{"id":"b"}]"#;
    assert_eq!(kit.put("acme", again), Ok(Done::Changed));
    assert_eq!(kit.send("acme", "p", numbered(None), &of(1, &[5], "2024-09-20")), "1 accepted");
    kit.stamp = time("2024-10-20");
    for (root, cycle) in [("acme", "2024-09"), ("globex", "2024-09"), ("acme", "2024-10"), ("globex", "2024-10")] {
        kit.stamp = kit.stamp.max(cycle_end(cycle));
        kit.close(root, cycle);
    }
    let check = |kit: &mut Kit, root: &str, number: u64, at: &str, expected: &str| {
        let found = kit.send(root, "q", HeadMode::ById, &of(number, &[1], at));
        assert_eq!(found, expected, "{root} {at}");
    };
    check(&mut kit, "acme", 1, "2024-11-15", "1 UNKNOWN_ACCOUNT");
    check(&mut kit, "globex", 1, "2024-11-15", "1 accepted");
    check(&mut kit, "globex", 2, "2024-12-15", "1 UNKNOWN_ACCOUNT");
    check(&mut kit, "acme", 2, "2024-12-15", "1 accepted");
}

fn cycle_end(name: &str) -> Timestamp {
    cycle(name).end()
}
