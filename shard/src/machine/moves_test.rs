//! Slots that move between two shards: what is counted once stays counted once, whoever is asked, with a restore of both
//! shards after every step.

use super::codec::{decode_entry, encode_commands};
use super::command::*;
use super::kit::*;
use super::snapshot::ARRIVING_SECTION;
use super::state::State;
use crate::base::id::{ShardId, Slot};
use crate::base::refusal::Reason;
use crate::base::time::CycleId;
use crate::billing::kind::Cause;
use crate::placement::{SLOTS, SlotRange, slot_of};
use crate::usage::segment::HeadMode;

/// A shard that owns no slot, with the catalogue of [`Kit::new`].
pub fn empty(ids_bytes_max: u64) -> Kit {
    let mut kit = Kit { state: State::new(ShardId(2)), index: 0, log: Vec::new(), generation: 78, ..Kit::new() };
    kit.effects.clear();
    kit.ok(Command::Genesis { shard: ShardId(2), slots: Vec::new(), epoch: 1, ids_bytes_max });
    kit.activate(catalogue("2024-01", "0.01", &[]), 1).unwrap();
    kit
}

/// Carries every slot of one shard to another under a move; in the end they are there, or stay.
pub fn move_all(from: &mut Kit, to: &mut Kit, id: u64, commit: bool) {
    let slots = SlotRange { first: 0, last: SLOTS - 1 };
    from.ok(Command::FreezeSlots { id, slots });
    restore(from);
    let (chunks, seal) = from.state.view().pack_slots(slots).unwrap();
    for (at, chunk) in chunks.into_iter().enumerate() {
        to.ok(Command::StageSlots { id, slots, at: at as u32, chunk });
    }
    to.ok(Command::SealSlots { id, slots, seal });
    restore(to);
    let epoch = |owner: bool| owner.then_some(id + 1);
    to.ok(Command::SettleSlots { id, slots, epoch: epoch(commit) });
    from.ok(Command::SettleSlots { id, slots, epoch: epoch(!commit) });
    restore(from);
    restore(to);
    to.stamp = to.stamp.max(from.stamp);
}

/// The slots around that of `acme`.
fn slots() -> SlotRange {
    let slot = slot_of("acme").0;
    SlotRange { first: slot - 2, last: slot + 1 }
}

/// The state as its snapshot tells it.
fn restore(kit: &mut Kit) {
    let mut parts = Vec::new();
    kit.state.view().write(&mut |section, bytes| parts.push((section, bytes.to_vec())));
    let (before, mut after) = (kit.state.hash(), State::restore(parts).unwrap());
    assert_eq!(after.hash(), before, "a snapshot holds everything");
    assert_eq!(after.id_budget.hours, kit.state.id_budget.hours);
    assert_eq!(after.id_budget.count, kit.state.id_budget.count);
    kit.state = after;
}

fn freeze(id: u64) -> Command {
    Command::FreezeSlots { id, slots: slots() }
}

fn settle(id: u64, epoch: Option<u64>) -> Command {
    Command::SettleSlots { id, slots: slots(), epoch }
}

/// Stages and seals what the frozen slots hold.
fn carry(from: &mut Kit, to: &mut Kit, id: u64) -> Result<Done, Reason> {
    let (chunks, seal) = from.state.view().pack_slots(slots()).unwrap();
    for (at, chunk) in chunks.into_iter().enumerate() {
        to.ok(Command::StageSlots { id, slots: slots(), at: at as u32, chunk });
        restore(to);
    }
    to.command(Command::SealSlots { id, slots: slots(), seal })
}

fn numbered(kit: &mut Kit, previous: Option<u64>, first: u64, quantities: &[i128]) -> String {
    let rows = rows("a", first, quantities);
    kit.send("acme", "p", HeadMode::Sequenced { epoch: 1, previous }, &rows)
}

fn by_id(kit: &mut Kit, first: u64, quantities: &[i128]) -> String {
    kit.send("acme", "q", HeadMode::ById, &rows("b", first, quantities))
}

#[test]
fn what_was_counted_moves_with_its_slot() {
    let (mut from, mut to) = (Kit::acme(), empty(1 << 20));
    assert_eq!(numbered(&mut from, None, 1, &[5, 6]), "2 accepted");
    assert_eq!(by_id(&mut from, 1, &[7]), "1 accepted");
    let opened =
        Command::OpenProducer { slot: slots().lone(), producer: producer(&at_home()), epoch: None, file: None };
    assert_eq!(from.ok(opened.clone()), Done::Producer { epoch: 1, file: None });
    from.stamp = time("2024-10-02");
    from.ok(Command::Cut { root: account("acme"), cycle: cycle("2024-09"), manual: true });
    let closing = from.state.view().cycles(&account("acme")).unwrap();
    assert_eq!(numbered(&mut to, None, 1, &[5]), "whole: WRONG_SHARD");

    from.ok(freeze(3));
    restore(&mut from);
    assert_eq!(from.ok(freeze(3)), Done::Unchanged);
    assert_eq!(from.command(freeze(4)), Err(Reason::SlotMoving));
    // Nothing goes on in what leaves: no usage, no close, nothing that is due, no read that could be old.
    assert_eq!(numbered(&mut from, Some(2), 3, &[9]), "whole: SLOT_MOVING");
    assert_eq!(from.command(billed(&account("acme"), cycle("2024-09"), 1)), Err(Reason::SlotMoving));
    assert_eq!(from.command(opened.clone()), Err(Reason::SlotMoving));
    let view = from.state.view();
    assert!(view.due(time("2025-01-01")).is_empty());
    assert_eq!(view.check_owned(slot_of("acme")).unwrap_err().reason, Reason::SlotMoving);
    // Another slot goes on.
    let elsewhere = Command::PutDirectory { account: account("z"), root: account("acme"), periods: Vec::new() };
    assert_eq!(from.ok(elsewhere), Done::Unchanged);
    assert_eq!(from.activate(catalogue("2025-01", "0.02", &[]), 2), Err(Reason::SlotMoving));

    assert_eq!(carry(&mut from, &mut to, 3), Ok(Done::Changed));
    restore(&mut to);
    assert!(to.effects.contains(&Effect::SlotsSealed { id: 3 }));
    assert_eq!(to.state.arrived(3).unwrap().cycles(&account("acme")).unwrap(), closing);
    assert_eq!(carry(&mut from, &mut to, 3), Ok(Done::Unchanged), "everything may be sent again");
    assert_eq!(numbered(&mut to, None, 1, &[5]), "whole: WRONG_SHARD", "it serves nothing before the decision");
    assert_eq!(to.activate(catalogue("2025-01", "0.02", &[]), 2), Err(Reason::SlotMoving));

    to.ok(settle(3, Some(2)));
    from.ok(settle(3, None));
    restore(&mut from);
    restore(&mut to);
    assert_eq!((to.ok(settle(3, Some(2))), from.ok(settle(3, None))), (Done::Unchanged, Done::Unchanged));
    // Once, wherever it is sent.
    assert_eq!(numbered(&mut from, None, 1, &[5]), "whole: WRONG_SHARD");
    assert_eq!(numbered(&mut to, None, 1, &[5, 6]), "2 duplicate");
    assert_eq!(by_id(&mut to, 1, &[7]), "1 duplicate");
    assert_eq!(numbered(&mut to, Some(2), 3, &[9]), "1 late");
    assert_eq!(to.value("acme", "2024-09", &key("a", "bytes")), (11, 2, 9, 1));
    assert_eq!(to.ok(opened), Done::Producer { epoch: 2, file: None });
    // The close goes on where it stood.
    assert_eq!(to.ok(billed(&account("acme"), cycle("2024-09"), 1)), Done::Changed);
    assert!(from.state.view().check_owned(slot_of("acme")).is_err_and(|refusal| refusal.reason == Reason::WrongShard));
    assert!(from.state.view().roots().next().is_none());
    assert_eq!(from.state.identity.as_ref().unwrap().slots.len(), 2, "a gap lies between what is left");
    assert_eq!(to.state.identity.as_ref().unwrap().slots, [slots()]);
}

/// A producer whose home is among [`slots`].
fn at_home() -> String {
    (0..100_000).map(|n| format!("home-{n}")).find(|name| slot_of(name) == slots().lone()).unwrap()
}

impl SlotRange {
    /// One of the slots, in which nothing else is.
    fn lone(self) -> Slot {
        Slot(self.first)
    }
}

#[test]
fn a_cancelled_move_leaves_everything_as_it_was() {
    let (mut from, mut to) = (Kit::acme(), empty(1 << 20));
    by_id(&mut from, 1, &[7, 8]);
    let before = from.state.view();
    from.ok(freeze(3));
    carry(&mut from, &mut to, 3).unwrap();
    from.ok(settle(3, Some(1)));
    to.ok(settle(3, None));
    restore(&mut from);
    restore(&mut to);
    assert!(to.state.arrived(3).is_none() && to.state.view().slots.is_empty());
    let now = from.state.view();
    assert_eq!(now.usage(&account("acme"), cycle("2024-09")), before.usage(&account("acme"), cycle("2024-09")));
    assert_eq!(by_id(&mut from, 1, &[7, 8, 9]), "2 duplicate, 1 accepted");
    // What is still on its way of it does nothing, also after it was tried again.
    assert_eq!(from.command(freeze(3)), Err(Reason::VersionConflict));
    assert_eq!(by_id(&mut from, 4, &[1]), "1 accepted");
    from.ok(freeze(5));
    carry(&mut from, &mut to, 5).unwrap();
    to.ok(settle(5, Some(2)));
    from.ok(settle(5, None));
    let late = Command::StageSlots { id: 3, slots: slots(), at: 0, chunk: vec![1] };
    assert_eq!(to.command(late.clone()), Err(Reason::VersionConflict));
    assert_eq!(to.ok(settle(3, None)), Done::Unchanged, "an older move's end takes nothing away");
    assert_eq!(from.ok(settle(3, Some(1))), Done::Unchanged, "nor gives it back");
    assert_eq!(from.command(late), Err(Reason::VersionConflict));
    assert_eq!(by_id(&mut to, 1, &[7, 8, 9]), "3 duplicate");
}

#[test]
fn a_slot_comes_back() {
    let (mut one, mut two) = (Kit::acme(), empty(1 << 20));
    numbered(&mut one, None, 1, &[5]);
    for (id, number) in [(3, 2), (4, 3), (9, 4)] {
        one.ok(freeze(id));
        carry(&mut one, &mut two, id).unwrap();
        two.ok(settle(id, Some(id)));
        one.ok(settle(id, None));
        assert_eq!(numbered(&mut two, Some(number - 1), number, &[10]), "1 accepted");
        restore(&mut two);
        std::mem::swap(&mut one, &mut two);
    }
    assert_eq!(one.value("acme", "2024-09", &key("a", "bytes")), (35, 4, 0, 0));
    assert_eq!(numbered(&mut one, None, 1, &[5, 10, 10, 10]), "4 duplicate");
}

#[test]
fn only_what_left_is_taken_in() {
    let (mut from, mut to) = (Kit::acme(), empty(1 << 20));
    numbered(&mut from, None, 1, &[5]);
    let packed = |kit: &mut Kit| kit.state.view().pack_slots(slots());
    assert_eq!(packed(&mut from).unwrap_err().reason, Reason::InvalidValue, "not frozen");
    from.ok(freeze(3));
    let (chunks, seal) = packed(&mut from).unwrap();
    let stage = |at, chunk: &[u8]| Command::StageSlots { id: 3, slots: slots(), at, chunk: chunk.to_vec() };
    let sealed = |seal: &Seal| Command::SealSlots { id: 3, slots: slots(), seal: seal.clone() };
    let mut spoilt = chunks[0].clone();
    spoilt[20] ^= 1;
    assert_eq!(to.command(stage(1, &chunks[0])), Err(Reason::OutOfOrder));
    assert_eq!(to.command(sealed(&seal)), Err(Reason::OutOfOrder), "nothing came");
    to.ok(stage(0, &spoilt));
    assert_eq!(to.command(sealed(&seal)), Err(Reason::OutOfOrder), "other bytes");
    // With a hash of its own the damage still shows.
    to.ok(stage(0, &spoilt));
    let own = Seal { hash: *blake3::hash(&spoilt).as_bytes(), ..seal.clone() };
    assert_eq!(to.command(sealed(&own)), Err(Reason::OutOfOrder), "a damaged part");
    assert_eq!(to.command(settle(3, Some(2))), Err(Reason::VersionConflict), "not sealed");
    to.ok(stage(0, &chunks[0]));
    let mut newer = seal.clone();
    newer.catalogues[0].1[0].version = 2;
    assert_eq!(to.command(sealed(&newer)), Err(Reason::VersionConflict), "another catalogue version");
    to.ok(sealed(&seal));
    assert_eq!(to.command(sealed(&newer)), Err(Reason::VersionConflict), "it was sealed otherwise");
    assert_eq!(from.command(sealed(&seal)), Err(Reason::VersionConflict), "it is there already");
    assert_eq!(from.command(stage(0, &chunks[0])), Err(Reason::VersionConflict), "it is there already");
    // A source that was never asked to freeze lets nothing go.
    assert_eq!(from.command(settle(4, None)), Err(Reason::VersionConflict));
    let beyond = SlotRange { first: 5, last: SLOTS };
    let nowhere = Command::FreezeSlots { id: 9, slots: beyond };
    assert_eq!(from.command(nowhere), Err(Reason::InvalidValue));
}

#[test]
fn ids_keep_their_bound_where_they_go() {
    // Four ids fit where the slots go, so the hour before is not remembered there any more.
    let (mut from, mut to) = (Kit::acme(), empty(4 * crate::usage::ids::ID_BYTES));
    let mut early = rows("b", 1, &[1, 2, 3]);
    early.iter_mut().for_each(|row| row.start = time("2024-09-10T08:00:00Z"));
    assert_eq!(from.send("acme", "q", HeadMode::ById, &early), "3 accepted");
    assert_eq!(by_id(&mut from, 4, &[3, 4]), "2 accepted");
    from.ok(freeze(1));
    assert_eq!(from.state.id_budget.count, 0, "what leaves is not counted");
    carry(&mut from, &mut to, 1).unwrap();
    to.ok(settle(1, Some(2)));
    assert_eq!(to.state.id_budget.count, 2);
    restore(&mut to);
    assert_eq!(by_id(&mut to, 4, &[3, 4]), "2 duplicate");
    assert_eq!(to.send("acme", "q", HeadMode::ById, &early), "3 ID_TOO_OLD", "refused, never counted again");
}

#[test]
fn bills_that_are_being_made_move_too() {
    let (mut from, mut to) = (Kit::acme(), empty(1 << 20));
    numbered(&mut from, None, 1, &[5]);
    let september: CycleId = cycle("2024-09");
    from.ok(Command::Claim { root: account("acme"), cycle: september, cause: Cause::Asked });
    numbered(&mut from, Some(1), 2, &[50]);
    from.ok(freeze(1));
    carry(&mut from, &mut to, 1).unwrap();
    to.ok(settle(1, Some(2)));
    let claim = |kit: &mut Kit| kit.state.view().cycles(&account("acme")).unwrap().claim.clone();
    assert_eq!(claim(&mut from), claim(&mut to));
    assert!(to.state.view().due(to.stamp).len() == 1, "its bills are due there");
    // What was claimed is what was known at the claim.
    let archive = |kit: &mut Kit| {
        let claimed = super::claims::Known::Claimed(None);
        kit.state.view().known_source(&account("acme"), september, &kit.blobs, claimed).unwrap().counters
    };
    assert_eq!(archive(&mut from), archive(&mut to));
    assert_eq!(archive(&mut to)[0].value, 5);
}

#[test]
fn commands_of_a_move_are_bytes() {
    let (mut from, seal) = (Kit::acme(), |kit: &mut Kit| kit.state.view().pack_slots(slots()).unwrap().1);
    from.ok(freeze(1));
    let commands = [
        freeze(7),
        Command::StageSlots { id: 7, slots: slots(), at: 3, chunk: vec![1, 2, 3] },
        Command::SealSlots { id: 7, slots: slots(), seal: seal(&mut from) },
        settle(7, Some(4)),
        settle(7, None),
    ];
    let bytes = encode_commands(from.stamp, 1, &commands);
    let entry = decode_entry(&bytes).unwrap();
    assert!(matches!(&entry, super::codec::Entry::Commands { commands: read, .. } if read == &commands), "{entry:?}");
    for length in 0..bytes.len() {
        let _ = decode_entry(&bytes[..length]);
    }
    assert_eq!(ARRIVING_SECTION, u32::from(SLOTS) + 1);
}
