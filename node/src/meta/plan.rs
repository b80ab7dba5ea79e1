//! The planner: where replicas should be, given the nodes. Pure, and at rest once its plan is followed: planning again
//! changes nothing. Who carries a plan out is in [`crate::placer`].

use std::collections::BTreeMap;

use super::command::{NodeState, ReplicasRow};
use super::state::{MetaState, REPLICAS_MAX};

/// Shards whose replicas move at once: a copy takes disk and network from usage, so few at a time.
pub const MOVES_MAX: usize = 4;

/// Voters of the meta group: enough to lose two nodes where there are five.
pub const META_VOTERS_MAX: usize = 5;

/// All rows as they should be, by shard: replicas leave nodes that drain or are removed, every shard has
/// [`REPLICAS_MAX`] of them where there are nodes enough, nodes hold as many as each other up to one, and are first, which
/// is to lead, as often as each other up to one.
pub fn placement(state: &MetaState) -> Vec<ReplicasRow> {
    let active: Vec<u64> = state.nodes().filter(|node| node.state() == NodeState::Active).map(|node| node.id).collect();
    let mut rows: Vec<ReplicasRow> = state.replicas().to_vec();
    if active.is_empty() {
        return rows;
    }
    let mut load: BTreeMap<u64, usize> = active.iter().map(|node| (*node, 0)).collect();
    for row in &mut rows {
        row.nodes.retain(|node| active.contains(node));
        row.nodes.iter().for_each(|node| *load.entry(*node).or_default() += 1);
    }
    for row in &mut rows {
        while row.nodes.len() < REPLICAS_MAX.min(active.len()) {
            let free = active.iter().filter(|node| !row.nodes.contains(node));
            let Some(least) = free.min_by_key(|node| (load[*node], **node)).copied() else { break };
            row.nodes.push(least);
            *load.entry(least).or_default() += 1;
        }
    }
    level_replicas(&mut rows, &mut load);
    level_leaders(&mut rows, &active);
    rows
}

/// Moves replicas from the fullest node to the emptiest until they differ by one at most.
fn level_replicas(rows: &mut [ReplicasRow], load: &mut BTreeMap<u64, usize>) {
    loop {
        // Ties go to the lowest id, so that the same state makes the same plan.
        let fullest = load.iter().max_by_key(|(node, held)| (**held, std::cmp::Reverse(**node))).map(|(node, _)| *node);
        let emptiest = load.iter().min_by_key(|(node, held)| (**held, **node)).map(|(node, _)| *node);
        let (Some(from), Some(to)) = (fullest, emptiest) else { return };
        if load[&from] <= load[&to] + 1 {
            return;
        }
        let movable = rows.iter_mut().find(|row| row.nodes.contains(&from) && !row.nodes.contains(&to));
        // The fullest holds at least two shards more than the emptiest: one of them is not there yet.
        let Some(row) = movable else { return };
        row.nodes.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
        load.entry(from).and_modify(|held| *held -= 1);
        load.entry(to).and_modify(|held| *held += 1);
    }
}

/// Reorders the nodes of shards until they are first as often as each other, up to one where their replicas allow it.
fn level_leaders(rows: &mut [ReplicasRow], active: &[u64]) {
    let mut first: BTreeMap<u64, usize> = active.iter().map(|node| (*node, 0)).collect();
    rows.iter().filter_map(|row| row.nodes.first()).for_each(|node| *first.entry(*node).or_default() += 1);
    // Each turn makes the sum of squares smaller, so this ends.
    loop {
        let better = rows.iter_mut().find_map(|row| {
            let from = *row.nodes.first()?;
            let to = row.nodes.iter().position(|node| first[node] + 1 < first[&from])?;
            Some((row, from, to))
        });
        let Some((row, from, to)) = better else { return };
        first.entry(from).and_modify(|count| *count -= 1);
        first.entry(row.nodes[to]).and_modify(|count| *count += 1);
        row.nodes.swap(0, to);
    }
}

/// The rows of `plan` that differ from what is wanted now, as many as may move now.
pub fn next_rows(state: &MetaState, plan: &[ReplicasRow]) -> Vec<ReplicasRow> {
    let moving = state.replicas().iter().filter(|row| !row.is_settled()).count();
    let mut room = MOVES_MAX.saturating_sub(moving);
    let mut next = Vec::new();
    for (own, wanted) in state.replicas().iter().zip(plan) {
        if own.nodes == wanted.nodes {
            continue;
        }
        let sorted = |nodes: &[u64]| {
            let mut nodes = nodes.to_vec();
            nodes.sort_unstable();
            nodes
        };
        // Another order is no move, and a row that moves already may change its mind.
        if sorted(&own.nodes) == sorted(&wanted.nodes) || !own.is_settled() {
            next.push(wanted.clone());
        } else if room > 0 {
            room -= 1;
            next.push(wanted.clone());
        }
    }
    next
}

/// Who should vote in the meta group: those who do and can, then others by id; an odd number, at most
/// [`META_VOTERS_MAX`].
pub fn meta_voters(state: &MetaState, voters: &[u64]) -> Vec<u64> {
    let active: Vec<u64> = state.nodes().filter(|node| node.state() == NodeState::Active).map(|node| node.id).collect();
    let seats = match active.len().min(META_VOTERS_MAX) {
        0 => 0,
        count if count % 2 == 0 => count - 1,
        count => count,
    };
    let stay = active.iter().filter(|node| voters.contains(node));
    let come = active.iter().filter(|node| !voters.contains(node));
    let mut seated: Vec<u64> = stay.chain(come).take(seats).copied().collect();
    seated.sort_unstable();
    seated
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::command::{Command, Held, Join, NodeRow, Place, SetNode, encode};
    use super::super::state::founding;
    use super::*;

    fn founded(nodes: u64, shards: u32) -> MetaState {
        let row = |id| NodeRow { id, address: format!("h:{id}"), ..NodeRow::default() };
        let mut state = MetaState::default();
        state.apply(&encode(founding(9, (1..=nodes).map(row).collect(), shards))).unwrap();
        settle(&mut state);
        state
    }

    fn settle(state: &mut MetaState) {
        for row in state.replicas().to_vec() {
            state
                .apply(&encode(Command::Held(Held { shard: row.shard, nodes: row.nodes, changes: row.changes })))
                .unwrap();
        }
    }

    /// Follows the plan to its end; answers how many replicas were made.
    fn follow(state: &mut MetaState) -> usize {
        let mut made = 0;
        loop {
            let plan = placement(state);
            let next = next_rows(state, &plan);
            if next.is_empty() {
                assert_eq!(plan, placement(state), "planning twice changes nothing");
                return made;
            }
            for row in &next {
                let old = &state.replicas().iter().find(|own| own.shard == row.shard).unwrap().nodes;
                made += row.nodes.iter().filter(|node| !old.contains(node)).count();
            }
            assert!(next.iter().filter(|row| !row.is_settled()).count() <= MOVES_MAX);
            state.apply(&encode(Command::Place(Place { rows: next }))).unwrap();
            settle(state);
        }
    }

    fn join(state: &mut MetaState, id: u64) {
        let ticket = Bytes::copy_from_slice(&id.to_be_bytes());
        state.apply(&encode(Command::Join(Join { address: format!("h:{id}"), ticket }))).unwrap();
    }

    fn set(state: &mut MetaState, node: u64, to: NodeState) {
        state.apply(&encode(Command::SetNode(SetNode { node, state: to as i32 }))).unwrap();
    }

    /// Every shard has its replicas on distinct active nodes, and nobody holds or leads two more than another.
    fn level(state: &MetaState) {
        let active: Vec<u64> =
            state.nodes().filter(|node| node.state() == NodeState::Active).map(|node| node.id).collect();
        let (mut load, mut first) = (BTreeMap::new(), BTreeMap::new());
        for row in state.replicas() {
            let mut distinct = row.nodes.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), REPLICAS_MAX.min(active.len()), "{row:?}");
            assert!(row.nodes.iter().all(|node| active.contains(node)), "{row:?}");
            row.nodes.iter().for_each(|node| *load.entry(*node).or_insert(0usize) += 1);
            *first.entry(row.nodes[0]).or_insert(0usize) += 1;
        }
        for counts in [load, first] {
            let of = |node: &u64| counts.get(node).copied().unwrap_or(0);
            let (most, least) = (active.iter().map(of).max().unwrap(), active.iter().map(of).min().unwrap());
            assert!(most <= least + 1, "{counts:?} of {active:?}");
        }
    }

    #[test]
    fn from_one_node_to_three_to_five_and_back() {
        let mut state = founded(1, 8);
        assert_eq!(follow(&mut state), 0);
        join(&mut state, 2);
        assert_eq!(follow(&mut state), 8);
        level(&state);
        join(&mut state, 3);
        assert_eq!(follow(&mut state), 8);
        level(&state);
        join(&mut state, 4);
        join(&mut state, 5);
        // 24 replicas over 5 nodes: the new ones get 4 or 5 each, and nothing else moves.
        assert_eq!(follow(&mut state), 9);
        level(&state);
        set(&mut state, 1, NodeState::Draining);
        // It holds 4 or 5; a row that holds the emptiest node already may make one replica go a second way.
        let held = state.replicas().iter().filter(|row| row.nodes.contains(&1)).count();
        assert!((held..=held + 1).contains(&follow(&mut state)));
        level(&state);
        set(&mut state, 1, NodeState::Removed);
        assert_eq!(follow(&mut state), 0);
        // A lost node and a new one in its place.
        set(&mut state, 2, NodeState::Removed);
        join(&mut state, 6);
        assert_eq!(follow(&mut state), 6);
        level(&state);
    }

    #[test]
    fn replicas_without_room_go_once_there_is_some() {
        let mut state = founded(3, 7);
        set(&mut state, 3, NodeState::Removed);
        follow(&mut state);
        assert!(state.replicas().iter().all(|row| row.nodes.len() == 2));
        join(&mut state, 4);
        assert_eq!(follow(&mut state), 7);
        level(&state);
    }

    #[test]
    fn the_meta_group_votes_with_an_odd_number() {
        let state = |nodes: u64| {
            let mut state = founded(1, 1);
            (2..=nodes).for_each(|node| join(&mut state, node));
            state
        };
        fn check(state: &MetaState, voters: &[u64], expected: &[u64]) {
            assert_eq!(meta_voters(state, voters), expected, "{voters:?}");
        }
        check(&state(1), &[1], &[1]);
        check(&state(2), &[1], &[1]);
        check(&state(3), &[1], &[1, 2, 3]);
        check(&state(4), &[2, 3, 4], &[2, 3, 4]);
        check(&state(7), &[1, 2, 7], &[1, 2, 3, 4, 7]);
        let mut lost = state(4);
        set(&mut lost, 2, NodeState::Removed);
        check(&lost, &[1, 2, 3], &[1, 3, 4]);
    }
}
