//! Which shard has which slots: what operators want, the moves that bring it about, and their decisions. Pure, like the
//! rest of the meta group's state: who carries slots is [`crate::mover`], what moves replicas is [`super::plan`].

use std::collections::{BTreeMap, BTreeSet};

use reckoner_shard::base::refusal::{Reason, Refusal};

use super::command::{
    Decide, JobRow, MoveRow, MoveState, Outcome, RangeRow, ReplicasRow, Retire, SetLayout, Settled, StartMove,
};
use super::plan;
use super::state::{MetaState, SLOTS, unchanged};

/// Shards of a cluster: each costs its nodes a little even when it is idle.
pub const SHARDS_MAX: usize = 256;

/// Slots of one move: usage of them waits while they are carried, so few at a time.
pub const MOVE_SLOTS_MAX: u32 = 32;

/// Moves at once, each between other shards.
pub const MOVES_MAX: usize = 4;

/// Ids of wishes that are kept for whoever sends one again because its answer was lost.
const WISHES_KEPT_MAX: usize = 64;

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// So many shards, with as many slots each, up to one.
    Scale(u32),
    /// Half of a shard's slots to a new one.
    Split(u32),
    /// All slots of one shard to another; the first is given up.
    Merge { from: u32, into: u32 },
    /// Some slots to a shard.
    Move { first: u32, last: u32, to: u32 },
    /// Nothing more than what is under way.
    Stop,
}

impl MetaState {
    /// Slot moves that are not over, by id.
    pub fn moves(&self) -> &[MoveRow] {
        &self.tables.moves
    }

    /// Where slots should be; where they are, unless an operator wants otherwise.
    pub fn wanted(&self) -> &[RangeRow] {
        if self.tables.wanted.is_empty() { &self.tables.ranges } else { &self.tables.wanted }
    }

    /// Why slots did not go where they were wanted; empty where nothing went wrong.
    pub fn halted(&self) -> &str {
        &self.tables.halted
    }

    /// How many slots are not where they should be.
    pub fn slots_to_move(&self) -> u32 {
        let (now, then) = (owners(self.ranges()), owners(self.wanted()));
        now.iter().zip(&then).filter(|(now, then)| now != then).count() as u32
    }

    fn has_shard(&self, shard: u32) -> bool {
        self.replicas().iter().any(|row| row.shard == shard)
    }

    fn last_shard(&self) -> u32 {
        let known = self.replicas().iter().map(|row| row.shard).max().unwrap_or(0);
        self.tables.last_shard.max(known)
    }

    /// Whether a wish under this id was heard.
    pub fn has_heard(&self, wish: &str) -> bool {
        !wish.is_empty() && self.tables.wishes.iter().any(|heard| heard == wish)
    }

    pub(super) fn set_layout(&mut self, layout: SetLayout) -> Result<Outcome, Refusal> {
        let invalid = |detail: String| Refusal::new(Reason::InvalidValue, detail);
        if self.has_heard(&layout.wish) {
            return Ok(unchanged());
        }
        let last = self.last_shard();
        let follow = layout.shards.iter().zip(last + 1..).all(|(row, id)| row.shard == id);
        if !follow || layout.shards.iter().any(|row| row.nodes.is_empty()) {
            return Err(invalid(format!("new shards begin with {} and have nodes; plan again", last + 1)));
        }
        if self.replicas().len() + layout.shards.len() > SHARDS_MAX {
            let (now, new) = (self.replicas().len(), layout.shards.len());
            let detail = format!("{now} shards and {new} new ones, at most {SHARDS_MAX} are kept");
            return Err(Refusal::new(Reason::LimitReached, detail));
        }
        let mut next = 0;
        for range in &layout.ranges {
            let is_known = self.has_shard(range.shard) || layout.shards.iter().any(|row| row.shard == range.shard);
            if range.first != next || range.last < range.first || !is_known {
                return Err(invalid(format!("slots {} to {} have no shard; plan again", range.first, range.last)));
            }
            next = range.last + 1;
        }
        if !layout.ranges.is_empty() && next != SLOTS {
            return Err(invalid(format!("slots from {next} on have no shard; plan again")));
        }
        if !layout.wish.is_empty() {
            self.tables.wishes.push(layout.wish);
            let surplus = self.tables.wishes.len().saturating_sub(WISHES_KEPT_MAX);
            self.tables.wishes.drain(..surplus);
        }
        let before = self.tables.wanted.clone();
        self.tables.wanted = layout.ranges;
        self.forget_fulfilled();
        if self.tables.wanted == before && layout.shards.is_empty() {
            return Ok(unchanged());
        }
        self.tables.halted.clear();
        self.tables.last_shard = last + layout.shards.len() as u32;
        self.tables.epoch += u64::from(!layout.shards.is_empty());
        self.tables.replicas.extend(layout.shards);
        Ok(Outcome::default())
    }

    pub(super) fn start_move(&mut self, start: &StartMove) -> Result<Outcome, Refusal> {
        let conflict = |detail: String| Refusal::new(Reason::VersionConflict, detail);
        let StartMove { first, last, from, to } = *start;
        if let Some(job) = self.jobs().iter().find(|job| !job.ended()) {
            return Err(conflict(format!("job {} is being applied; slots move after it", job.id)));
        }
        let busy = |row: &MoveRow| [row.from, row.to].iter().any(|shard| [from, to].contains(shard));
        if let Some(row) = self.moves().iter().find(|row| busy(row)) {
            return Err(conflict(format!("move {} takes shards {} and {}", row.id, row.from, row.to)));
        }
        let now = owners(self.ranges());
        let is_from = first <= last && last < SLOTS && (first..=last).all(|slot| now[slot as usize] == from);
        if !is_from || from == to || !self.has_shard(to) {
            return Err(conflict(format!("slots {first} to {last} do not go from shard {from} to shard {to}")));
        }
        // Planned for a wish that another one has taken the place of since.
        let then = owners(self.wanted());
        if !(first..=last).all(|slot| then[slot as usize] == to) {
            return Err(conflict(format!("slots {first} to {last} are not wanted in shard {to} any more")));
        }
        self.tables.last_move += 1;
        let (id, state) = (self.tables.last_move, MoveState::Carrying as i32);
        self.tables.moves.push(MoveRow { id, first, last, from, to, state, settled: Vec::new(), epoch: 0 });
        Ok(Outcome::default())
    }

    pub(super) fn decide(&mut self, decide: Decide) -> Result<Outcome, Refusal> {
        let row = self.tables.moves.iter_mut().find(|row| row.id == decide.id);
        let Some(row) = row.filter(|row| row.state() == MoveState::Carrying) else { return Ok(unchanged()) };
        row.state = if decide.commit { MoveState::Committed } else { MoveState::Cancelled } as i32;
        self.tables.epoch += 1;
        row.epoch = self.tables.epoch;
        if decide.commit {
            let (first, last, to) = (row.first as usize, row.last as usize, row.to);
            let mut now = owners(&self.tables.ranges);
            now[first..=last].fill(to);
            self.tables.ranges = ranges(&now);
        }
        if !decide.halt.is_empty() {
            self.tables.wanted = ranges(&self.after_moves());
            self.tables.halted = decide.halt;
        }
        self.forget_fulfilled();
        Ok(Outcome::default())
    }

    /// Nothing is wanted any more that is not so; what is still being carried may yet come otherwise.
    fn forget_fulfilled(&mut self) {
        let carries = self.moves().iter().any(|row| row.state() == MoveState::Carrying);
        if !carries && owners(&self.tables.wanted) == owners(&self.tables.ranges) {
            self.tables.wanted.clear();
        }
    }

    /// The shard of each slot once everything that is being carried has arrived.
    fn after_moves(&self) -> Vec<u32> {
        let mut then = owners(self.ranges());
        for row in self.moves().iter().filter(|row| row.state() == MoveState::Carrying) {
            then[row.first as usize..=row.last as usize].fill(row.to);
        }
        then
    }

    pub(super) fn settled(&mut self, settled: &Settled) -> Result<Outcome, Refusal> {
        let Some(row) = self.tables.moves.iter_mut().find(|row| row.id == settled.id) else { return Ok(unchanged()) };
        let is_of = settled.shard == row.from || settled.shard == row.to;
        if row.state() == MoveState::Carrying || !is_of || row.settled.contains(&settled.shard) {
            return Ok(unchanged());
        }
        row.settled.push(settled.shard);
        self.tables.moves.retain(|row| row.settled.len() < 2);
        Ok(Outcome::default())
    }

    pub(super) fn retire(&mut self, retire: &Retire) -> Result<Outcome, Refusal> {
        if !self.is_idle(retire.shard) || !self.has_shard(retire.shard) {
            return Ok(unchanged());
        }
        self.tables.last_shard = self.last_shard();
        self.tables.replicas.retain(|row| row.shard != retire.shard);
        self.tables.epoch += 1;
        Ok(Outcome::default())
    }

    /// Whether a shard has no slots, and none come or go.
    fn is_idle(&self, shard: u32) -> bool {
        let has = |ranges: &[RangeRow]| ranges.iter().any(|range| range.shard == shard);
        let moves = self.moves().iter().any(|row| row.from == shard || row.to == shard);
        !(has(self.ranges()) || has(self.wanted()) || moves)
    }
}

/// The shard of each slot; empty for no ranges.
fn owners(ranges: &[RangeRow]) -> Vec<u32> {
    ranges.iter().flat_map(|range| (range.first..=range.last).map(|_| range.shard)).collect()
}

/// The inverse, neighbours joined.
fn ranges(owners: &[u32]) -> Vec<RangeRow> {
    let mut ranges: Vec<RangeRow> = Vec::new();
    for (slot, shard) in (0..).zip(owners) {
        match ranges.last_mut() {
            Some(last) if last.shard == *shard => last.last = slot,
            _ => ranges.push(RangeRow { first: slot, last: slot, shard: *shard }),
        }
    }
    ranges
}

/// The command that brings a wish about.
///
/// # Errors
/// INVALID_VALUE or NOT_FOUND where it names what is not there, LIMIT_REACHED beyond [`SHARDS_MAX`].
pub fn layout(state: &MetaState, wish: Wish) -> Result<SetLayout, Refusal> {
    let invalid = |detail: String| Refusal::new(Reason::InvalidValue, detail);
    let known = |shard: u32| match state.has_shard(shard) {
        true => Ok(()),
        false => Err(Refusal::new(Reason::NotFound, format!("there is no shard {shard}; see cluster shards list"))),
    };
    let mut then = owners(state.wanted());
    let mut new = 0..0;
    let next = state.last_shard() + 1;
    match wish {
        Wish::Scale(count) => {
            if count == 0 || count as usize > SHARDS_MAX {
                return Err(invalid(format!("{count} shards; a cluster has 1 to {SHARDS_MAX}")));
            }
            // Those that have slots, or should have.
            let all: BTreeSet<u32> = then.iter().copied().collect();
            let mut stay: Vec<u32> = all.into_iter().take(count as usize).collect();
            new = next..next + (count - stay.len() as u32);
            stay.extend(new.clone());
            then = spread(&then, &stay);
        }
        Wish::Split(shard) => {
            known(shard)?;
            let own: Vec<usize> = (0..then.len()).filter(|slot| then[*slot] == shard).collect();
            if own.len() < 2 {
                return Err(invalid(format!("shard {shard} has {} slots, which cannot be split", own.len())));
            }
            new = next..next + 1;
            own[own.len().div_ceil(2)..].iter().for_each(|slot| then[*slot] = next);
        }
        Wish::Merge { from, into } => {
            known(into)?;
            // One that was given up has no slots left to merge.
            if from == 0 || from > state.last_shard() {
                known(from)?;
            }
            if from == into {
                return Err(invalid(format!("shard {from} cannot be merged into itself")));
            }
            then.iter_mut().filter(|shard| **shard == from).for_each(|shard| *shard = into);
        }
        Wish::Move { first, last, to } => {
            known(to)?;
            if first > last || last >= SLOTS {
                return Err(invalid(format!("there are no slots {first} to {last}; they go from 0 to {}", SLOTS - 1)));
            }
            then[first as usize..=last as usize].fill(to);
        }
        Wish::Stop => then = state.after_moves(),
    }
    let shards = state.replicas().len() + new.len();
    if shards > SHARDS_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("{shards} shards; at most {SHARDS_MAX} are kept")));
    }
    Ok(SetLayout { ranges: ranges(&then), shards: founded(state, new), wish: String::new() })
}

/// New shards on the nodes that have the least to do.
fn founded(state: &MetaState, new: std::ops::Range<u32>) -> Vec<ReplicasRow> {
    let mut with = state.clone();
    with.tables.replicas.extend(new.clone().map(|shard| ReplicasRow { shard, ..ReplicasRow::default() }));
    plan::placement(&with).into_iter().filter(|row| new.contains(&row.shard)).collect()
}

/// Slots over shards, as many each up to one; each keeps what it has as far as it may.
fn spread(now: &[u32], shards: &[u32]) -> Vec<u32> {
    let (each, more) = (now.len() / shards.len(), now.len() % shards.len());
    let count = |shard: &u32| now.iter().filter(|own| *own == shard).count();
    // The larger shares go to those that have the most.
    let mut by_size: Vec<u32> = shards.to_vec();
    by_size.sort_by_key(|shard| (std::cmp::Reverse(count(shard)), *shard));
    let mut room: BTreeMap<u32, usize> =
        by_size.iter().enumerate().map(|(place, shard)| (*shard, each + usize::from(place < more))).collect();
    let mut then: Vec<Option<u32>> = Vec::with_capacity(now.len());
    for shard in now {
        let keeps = room.get_mut(shard).filter(|room| **room > 0);
        then.push(keeps.map(|room| {
            *room -= 1;
            *shard
        }));
    }
    // The rest in order, neighbours together: first to whom the slot before belongs, then shard by shard.
    let mut filling: Option<u32> = None;
    for owner in &mut then {
        if owner.is_some() {
            filling = *owner;
            continue;
        }
        let has_room = |shard: &u32| room.get(shard).is_some_and(|room| *room > 0);
        let taker = filling.filter(has_room).or_else(|| shards.iter().copied().find(has_room));
        if let Some(taker) = taker {
            room.entry(taker).and_modify(|room| *room -= 1);
        }
        (*owner, filling) = (taker, taker);
    }
    then.into_iter().zip(now).map(|(then, now)| then.unwrap_or(*now)).collect()
}

/// Everything that has to move, neighbours together, by first slot.
pub fn planned(state: &MetaState) -> Vec<StartMove> {
    let (now, then) = (owners(state.ranges()), owners(state.wanted()));
    let mut planned: Vec<StartMove> = Vec::new();
    for (slot, (from, to)) in (0..).zip(now.into_iter().zip(then)).filter(|(_, (from, to))| from != to) {
        match planned.last_mut() {
            Some(run) if (run.last + 1, run.from, run.to) == (slot, from, to) => run.last = slot,
            _ => planned.push(StartMove { first: slot, last: slot, from, to }),
        }
    }
    planned
}

/// The moves that may begin now: as many as fit, each between shards that no other takes, to those that are at work.
pub fn next_moves(state: &MetaState) -> Vec<StartMove> {
    if state.jobs().iter().any(|job: &JobRow| !job.ended()) {
        return Vec::new();
    }
    let mut busy: BTreeSet<u32> = state.moves().iter().flat_map(|row| [row.from, row.to]).collect();
    let room = MOVES_MAX.saturating_sub(state.moves().len());
    let is_founded = |shard: u32| state.replicas().iter().any(|row| row.shard == shard && !row.held.is_empty());
    let mut next: Vec<StartMove> = Vec::new();
    for run in planned(state) {
        if next.len() < room && is_founded(run.to) && !busy.contains(&run.from) && !busy.contains(&run.to) {
            next.push(StartMove { last: run.last.min(run.first + MOVE_SLOTS_MAX - 1), ..run });
            busy.extend([run.from, run.to]);
        }
    }
    next
}

/// Shards that can be given up.
pub fn next_retired(state: &MetaState) -> Vec<u32> {
    state.replicas().iter().map(|row| row.shard).filter(|shard| state.is_idle(*shard)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Held, NodeRow, OpenJob, encode};
    use super::super::state::founding;
    use super::*;

    fn founded_with(shards: u32) -> MetaState {
        let row = |id| NodeRow { id, address: format!("h:{id}"), ..NodeRow::default() };
        let mut state = MetaState::default();
        state.apply(&encode(founding(9, (1..=3).map(row).collect(), shards))).unwrap();
        settle_replicas(&mut state);
        state
    }

    fn settle_replicas(state: &mut MetaState) {
        for row in state.replicas().to_vec() {
            state
                .apply(&encode(Command::Held(Held { shard: row.shard, nodes: row.nodes, changes: row.changes })))
                .unwrap();
        }
    }

    fn apply(state: &mut MetaState, command: Command) -> Outcome {
        state.apply(&encode(command)).unwrap()
    }

    fn wish(state: &mut MetaState, wish: Wish) {
        let layout = layout(state, wish).unwrap();
        let outcome = apply(state, Command::SetLayout(layout));
        assert_eq!(outcome.refusal, 0, "{outcome:?}");
        settle_replicas(state);
    }

    fn sizes(state: &MetaState) -> BTreeMap<u32, usize> {
        let mut sizes = BTreeMap::new();
        owners(state.ranges()).into_iter().for_each(|shard| *sizes.entry(shard).or_default() += 1);
        sizes
    }

    /// Follows the wishes to their end; answers how many slots moved.
    fn follow(state: &mut MetaState) -> usize {
        let mut moved = 0;
        loop {
            for shard in next_retired(state) {
                apply(state, Command::Retire(Retire { shard }));
            }
            let next = next_moves(state);
            if next.is_empty() {
                assert_eq!(state.slots_to_move(), 0);
                assert!(state.tables.wanted.is_empty() && state.moves().is_empty());
                assert!(next_retired(state).is_empty());
                return moved;
            }
            for start in next {
                assert_eq!(apply(state, Command::StartMove(start)).refusal, 0);
            }
            assert!(next_moves(state).is_empty() || state.moves().len() < MOVES_MAX);
            for row in state.moves().to_vec() {
                moved += (row.last - row.first) as usize + 1;
                apply(state, Command::Decide(Decide { id: row.id, commit: true, halt: String::new() }));
                for shard in [row.from, row.to] {
                    apply(state, Command::Settled(Settled { id: row.id, shard }));
                }
            }
        }
    }

    #[test]
    fn a_move_that_is_not_wanted_any_more_does_not_begin() {
        let mut state = founded_with(2);
        wish(&mut state, Wish::Scale(4));
        let late = next_moves(&state);
        assert!(!late.is_empty());
        wish(&mut state, Wish::Scale(2));
        for start in late {
            assert_ne!(apply(&mut state, Command::StartMove(start)).refusal, 0);
        }
        assert_eq!(follow(&mut state), 0);
        assert_eq!(sizes(&state), BTreeMap::from([(1, 2048), (2, 2048)]));
    }

    #[test]
    fn from_8_shards_to_32_and_back() {
        let mut state = founded_with(8);
        assert_eq!((next_moves(&state), next_retired(&state)), (Vec::new(), Vec::new()));
        wish(&mut state, Wish::Scale(32));
        assert_eq!(state.slots_to_move(), 3072);
        assert_eq!(follow(&mut state), 3072, "each shard keeps 128 of its 512, and nothing moves twice");
        assert_eq!((sizes(&state).len(), state.ranges().len()), (32, 32), "each shard has one range");
        assert!(sizes(&state).values().all(|slots| *slots == 128));
        wish(&mut state, Wish::Scale(32));
        assert_eq!(follow(&mut state), 0);
        wish(&mut state, Wish::Scale(8));
        assert_eq!(follow(&mut state), 3072);
        assert_eq!(sizes(&state), (1..=8).map(|shard| (shard, 512)).collect());
        assert_eq!(state.replicas().len(), 8, "shards without slots are given up");
        wish(&mut state, Wish::Scale(9));
        assert_eq!(state.replicas().last().unwrap().shard, 33, "an id is never used again");
        assert_eq!(follow(&mut state), 455);
        let mut counts: Vec<usize> = sizes(&state).into_values().collect();
        counts.sort_unstable();
        assert_eq!(counts, [455, 455, 455, 455, 455, 455, 455, 455, 456]);
    }

    #[test]
    fn shards_are_split_merged_and_slots_moved() {
        let mut state = founded_with(3);
        wish(&mut state, Wish::Split(2));
        assert_eq!(follow(&mut state), 682);
        assert_eq!(sizes(&state), BTreeMap::from([(1, 1365), (2, 683), (3, 1366), (4, 682)]));
        wish(&mut state, Wish::Merge { from: 4, into: 2 });
        follow(&mut state);
        assert_eq!(sizes(&state), BTreeMap::from([(1, 1365), (2, 1365), (3, 1366)]));
        wish(&mut state, Wish::Move { first: 0, last: 9, to: 3 });
        assert_eq!(follow(&mut state), 10);
        assert_eq!(sizes(&state), BTreeMap::from([(1, 1355), (2, 1365), (3, 1376)]));
        let refused = |wish| layout(&state, wish).unwrap_err().reason;
        assert_eq!(refused(Wish::Scale(0)), Reason::InvalidValue);
        assert_eq!(refused(Wish::Scale(257)), Reason::InvalidValue);
        assert_eq!(refused(Wish::Split(4)), Reason::NotFound);
        assert_eq!(refused(Wish::Merge { from: 1, into: 1 }), Reason::InvalidValue);
        assert_eq!(refused(Wish::Move { first: 9, last: 4096, to: 1 }), Reason::InvalidValue);
        assert_eq!(refused(Wish::Move { first: 9, last: 8, to: 1 }), Reason::InvalidValue);
    }

    #[test]
    fn a_wish_that_is_sent_again_is_the_same_one() {
        let mut state = founded_with(2);
        let split =
            |state: &MetaState, id: &str| SetLayout { wish: id.to_owned(), ..layout(state, Wish::Split(1)).unwrap() };
        let first = split(&state, "a");
        assert!(!apply(&mut state, Command::SetLayout(first.clone())).unchanged);
        let again = split(&state, "a");
        assert!(state.has_heard("a") && again != first, "planned anew it would split once more");
        assert!(apply(&mut state, Command::SetLayout(again)).unchanged);
        assert_eq!(state.replicas().len(), 3);
        let other = split(&state, "b");
        assert!(!apply(&mut state, Command::SetLayout(other)).unchanged);
        assert_eq!(state.replicas().len(), 4);
        for number in 0..WISHES_KEPT_MAX {
            let stop = SetLayout { wish: number.to_string(), ..layout(&state, Wish::Stop).unwrap() };
            apply(&mut state, Command::SetLayout(stop));
        }
        assert!(!state.has_heard("a") && !state.has_heard("b") && state.has_heard("63"));
    }

    #[test]
    fn a_shard_that_was_merged_is_merged() {
        let mut state = founded_with(3);
        wish(&mut state, Wish::Merge { from: 3, into: 2 });
        follow(&mut state);
        assert_eq!(state.replicas().len(), 2);
        let again = layout(&state, Wish::Merge { from: 3, into: 2 }).unwrap();
        assert!(apply(&mut state, Command::SetLayout(again)).unchanged);
        assert_eq!(layout(&state, Wish::Merge { from: 4, into: 2 }).unwrap_err().reason, Reason::NotFound);
        assert_eq!(layout(&state, Wish::Merge { from: 0, into: 2 }).unwrap_err().reason, Reason::NotFound);
    }

    #[test]
    fn one_entry_decides() {
        let mut state = founded_with(2);
        wish(&mut state, Wish::Move { first: 0, last: 0, to: 2 });
        let start = next_moves(&state).remove(0);
        assert_eq!(start, StartMove { first: 0, last: 0, from: 1, to: 2 });
        apply(&mut state, Command::StartMove(start));
        assert_ne!(apply(&mut state, Command::StartMove(start)).refusal, 0, "its shards are taken");
        let open = |job: &str| Command::OpenJob(OpenJob { job: Some(JobRow { id: job.into(), ..JobRow::default() }) });
        let moving = u32::from(Reason::SlotMoving.number());
        assert_eq!(apply(&mut state, open("j")).refusal, moving, "documents wait for slots");
        let (epoch, decide) = (state.epoch(), |commit| Command::Decide(Decide { id: 1, commit, halt: String::new() }));
        let settled = |shard| Command::Settled(Settled { id: 1, shard });
        assert!(apply(&mut state, settled(1)).unchanged, "nothing is decided");
        assert!(!apply(&mut state, decide(true)).unchanged);
        assert_eq!((owners(state.ranges())[0], state.epoch()), (2, epoch + 1));
        assert!(apply(&mut state, decide(false)).unchanged, "the first decision stands");
        assert_eq!(owners(state.ranges())[0], 2);
        assert!(!apply(&mut state, settled(2)).unchanged);
        assert!(apply(&mut state, settled(2)).unchanged && apply(&mut state, settled(7)).unchanged);
        assert_eq!(state.moves().len(), 1);
        apply(&mut state, settled(1));
        assert!(state.moves().is_empty());
        assert_eq!(apply(&mut state, open("j")).refusal, 0);
        // A cancelled move is tried again, one that cannot be waits for an operator.
        wish(&mut state, Wish::Move { first: 0, last: 0, to: 1 });
        for (id, halt) in [(2, ""), (3, "shard 1 has another catalogue")] {
            let start = next_moves(&state).remove(0);
            apply(&mut state, Command::StartMove(start));
            apply(&mut state, Command::Decide(Decide { id, commit: false, halt: halt.into() }));
            for shard in [1, 2] {
                apply(&mut state, Command::Settled(Settled { id, shard }));
            }
        }
        assert!(next_moves(&state).is_empty());
        assert_eq!(
            (state.halted(), state.slots_to_move(), owners(state.ranges())[0]),
            ("shard 1 has another catalogue", 0, 2)
        );
        assert_eq!(MetaState::decode(&state.encode()).unwrap(), state);
    }

    #[test]
    fn a_later_wish_holds_whatever_is_under_way() {
        let mut state = founded_with(2);
        let there = |to| Wish::Move { first: 0, last: 0, to };
        let decide = |id, commit| Command::Decide(Decide { id, commit, halt: String::new() });
        wish(&mut state, there(2));
        let next = next_moves(&state).remove(0);
        apply(&mut state, Command::StartMove(next));
        // It is on its way, and is to come back.
        wish(&mut state, there(1));
        apply(&mut state, decide(1, true));
        for shard in [1, 2] {
            apply(&mut state, Command::Settled(Settled { id: 1, shard }));
        }
        assert_eq!(follow(&mut state), 1);
        assert_eq!(owners(state.ranges())[0], 1);
        // What is being carried when an operator stops arrives, and stays.
        wish(&mut state, Wish::Scale(1));
        let next = next_moves(&state).remove(0);
        let count = (next.last - next.first + 1) as usize;
        apply(&mut state, Command::StartMove(next));
        wish(&mut state, Wish::Stop);
        apply(&mut state, decide(3, true));
        for shard in [1, 2] {
            apply(&mut state, Command::Settled(Settled { id: 3, shard }));
        }
        assert_eq!((follow(&mut state), sizes(&state)[&1]), (0, 2048 + count));
    }

    #[test]
    fn layouts_that_leave_slots_out_are_refused() {
        let mut state = founded_with(2);
        let good = layout(&state, Wish::Scale(3)).unwrap();
        let spoil = |change: fn(&mut SetLayout)| {
            let mut layout = good.clone();
            change(&mut layout);
            layout
        };
        for bad in [
            spoil(|layout| layout.ranges.truncate(1)),
            spoil(|layout| layout.ranges[1].first += 1),
            spoil(|layout| layout.ranges[0].shard = 9),
            spoil(|layout| layout.shards[0].shard = 4),
            spoil(|layout| layout.shards[0].nodes.clear()),
        ] {
            assert_ne!(apply(&mut state, Command::SetLayout(bad)).refusal, 0);
        }
        assert_eq!(apply(&mut state, Command::SetLayout(good)).refusal, 0);
    }
}
