//! Faults put into the machine's ways on purpose, to see that its histories find them within a stated number. Faults of
//! what surrounds it are in the tests package.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use prost::Message as _;

use super::command::*;
use super::history_test::{Model, begin, steps};
use super::kit::*;
use super::moves_test::empty;
use super::snapshot::{seal, unseal};
use super::wire_state::SlotPart;
use crate::placement::{SLOTS, SlotRange};

/// Histories within which a fault must be found: about three times what it took when this was written, or more.
const BUDGET: usize = 60;

/// A fault in a part of what slots hold.
type Change = fn(&mut SlotPart);

/// What slots hold, changed on its way, under a seal that fits.
fn changed(chunks: &[Vec<u8>], sealed: Seal, change: Change) -> (Vec<u8>, Seal) {
    let (all, mut bytes) = (chunks.concat(), Vec::new());
    let mut rest = all.as_slice();
    while let Some((head, behind)) = rest.split_first_chunk::<6>() {
        let length = u32::from_le_bytes(head[2..].try_into().unwrap()) as usize;
        let (part, behind) = behind.split_at(length);
        let mut part = SlotPart::decode(unseal(part).unwrap()).unwrap();
        change(&mut part);
        let part = seal(&part);
        bytes.extend_from_slice(&head[..2]);
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&part);
        rest = behind;
    }
    let seal = Seal { hash: *blake3::hash(&bytes).as_bytes(), ..sealed };
    (bytes, seal)
}

/// Carries every slot to another shard, with a change on the way.
fn carry(from: &mut Kit, to: &mut Kit, change: Change) {
    let (id, slots) = (1, SlotRange { first: 0, last: SLOTS - 1 });
    from.ok(Command::FreezeSlots { id, slots });
    let (chunks, sealed) = from.state.view().pack_slots(slots).unwrap();
    let (chunk, seal) = changed(&chunks, sealed, change);
    to.ok(Command::StageSlots { id, slots, at: 0, chunk });
    to.ok(Command::SealSlots { id, slots, seal });
    to.ok(Command::SettleSlots { id, slots, epoch: Some(2) });
    from.ok(Command::SettleSlots { id, slots, epoch: None });
    to.stamp = to.stamp.max(from.stamp);
}

/// The first history that goes wrong when its slots move with a change.
fn found(change: Change) -> Option<usize> {
    let mut runner = TestRunner::deterministic();
    (1..=BUDGET).find(|_| {
        let steps = steps().new_tree(&mut runner).expect("steps are drawn").current();
        let history = || {
            let (mut kit, mut other, mut model) = (begin(), empty(1 << 20), Model::default());
            for (place, step) in steps.iter().enumerate() {
                if place == steps.len() / 2 {
                    carry(&mut kit, &mut other, change);
                    std::mem::swap(&mut kit, &mut other);
                }
                model.step(&mut kit, step);
            }
            model.check(&mut kit);
        };
        catch_unwind(AssertUnwindSafe(history)).is_err()
    })
}

#[test]
fn faults_of_a_slot_move_are_found() {
    assert_eq!(found(|_| ()), None, "a move as it should be");
    let faults: [(&str, Change); 4] = [
        ("the owner is switched before the marks of producers arrived", |part| {
            part.producers.iter_mut().for_each(|own| own.last = None)
        }),
        ("ids stay behind", |part| part.hours.clear()),
        ("a series number means another series", |part| {
            if part.rows.len() >= 4 {
                part.rows.swap(0, 2);
                part.rows.swap(1, 3);
            }
        }),
        ("what was cut counts again", |part| {
            for cycles in part.roots.iter_mut().filter_map(|root| root.cycles.as_mut()) {
                cycles.open -= u32::from(!cycles.cut.is_empty());
            }
        }),
    ];
    for (what, change) in faults {
        let seen = found(change);
        println!("{what}: history {seen:?}");
        assert!(seen.is_some(), "{what}: not found in {BUDGET} histories, they have become blind");
    }
}
