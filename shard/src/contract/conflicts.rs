//! What clauses are to each other: two that claim the same exclusive place, waivers that entitle to each other in a ring,
//! triggers that wait for each other. A clause by itself is checked in `compile.rs`.

use super::compile::Compiler;
use super::percent::Threshold;
use super::scope::Scope;
use super::terms::{Clause, Mechanism};
use crate::base::problem::Place;
use crate::pricing::catalogue::Catalogue;

/// Triggered clauses that are looked at in pairs: beyond, only a warning is missing.
const TRIGGERED_MAX: usize = 64;

impl Compiler<'_> {
    pub(super) fn check_conflicts(&mut self, clauses: &[Clause]) {
        let Some(catalogue) = self.catalogue else { return };
        self.check_exclusive(clauses, catalogue);
        let waivers: Vec<(usize, &Scope, &Scope)> = clauses
            .iter()
            .enumerate()
            .filter_map(|(index, clause)| match &clause.mechanism {
                Mechanism::Waiver(waiver) => Some((index, &waiver.source, &clause.scope)),
                _ => None,
            })
            .collect();
        if let Some(ring) = ring(&waivers, catalogue) {
            let names = names(clauses, &ring);
            self.problems.error(
                &Place::top().key("clauses").index(ring[0]),
                format!("clauses {names} waive each other in a ring: each one's target is the next one's source"),
                "drop one of them, or narrow its scopes",
            );
        }
        let triggered: Vec<(usize, &Scope, &Scope)> = clauses
            .iter()
            .enumerate()
            .filter_map(|(index, clause)| match &clause.mechanism {
                Mechanism::Percent(percent) => {
                    let trigger = percent.trigger.as_ref()?;
                    let by_spend = matches!(trigger.threshold, Threshold::Spend(_));
                    by_spend.then_some((index, &trigger.scope, &clause.scope))
                }
                _ => None,
            })
            .collect();
        let few = triggered.len() <= TRIGGERED_MAX;
        if let Some(ring) = few.then(|| ring(&triggered, catalogue)).flatten() {
            let names = names(clauses, &ring);
            self.problems.warning(
                &Place::top().key("clauses").index(ring[0]),
                format!(
                    "clauses {names} wait for each other's spend: the one that comes first lowers what the other counts"
                ),
                "use quantity in the triggers, or make sure that the order is meant",
            );
        }
    }

    /// In one exclusive group the narrower scope wins, so two that are equally narrow must not meet.
    fn check_exclusive(&mut self, clauses: &[Clause], catalogue: &Catalogue) {
        for (index, clause) in clauses.iter().enumerate() {
            let rivals = clauses[..index].iter().filter(|other| {
                clause.exclusive_group.is_some()
                    && other.exclusive_group == clause.exclusive_group
                    && other.scope.granularity() == clause.scope.granularity()
                    && in_force_together(clause, other)
            });
            for other in rivals {
                if clause.scope.can_meet(&other.scope, catalogue) {
                    let (group, id, other) =
                        (clause.exclusive_group.as_deref().unwrap_or_default(), &clause.id, &other.id);
                    self.problems.error(
                        &Place::top().key("clauses").index(index).key("exclusive_group"),
                        format!(
                            "clauses {other} and {id} claim the same place in exclusive group {group}: both can match a line and neither is narrower"
                        ),
                        "narrow one of them, or give it a group of its own",
                    );
                    break;
                }
            }
        }
    }
}

pub(super) fn in_force_together(one: &Clause, other: &Clause) -> bool {
    let ends_before = |one: &Clause, other: &Clause| one.until.is_some_and(|until| until <= other.effective);
    !ends_before(one, other) && !ends_before(other, one)
}

/// The first ring among rows of (clause, what it reads, what it changes), where what one changes the next one reads.
fn ring(rows: &[(usize, &Scope, &Scope)], catalogue: &Catalogue) -> Option<Vec<usize>> {
    let feeds = |one: usize, other: usize| one != other && rows[one].2.can_meet(rows[other].1, catalogue);
    let next: Vec<Vec<usize>> =
        (0..rows.len()).map(|one| (0..rows.len()).filter(|other| feeds(one, *other)).collect()).collect();
    // Depth first, without recursion: a path of (row, which of its followers comes next).
    let mut done = vec![false; rows.len()];
    for start in 0..rows.len() {
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((row, at)) = path.last_mut() {
            let Some(follower) = next[*row].get(*at).copied().filter(|_| !done[*row]) else {
                done[*row] = true;
                path.pop();
                continue;
            };
            *at += 1;
            if let Some(from) = path.iter().position(|(row, _)| *row == follower) {
                let mut ring: Vec<usize> = path[from..].iter().map(|(row, _)| rows[*row].0).collect();
                ring.sort_unstable();
                return Some(ring);
            }
            path.push((follower, 0));
        }
    }
    None
}

fn names(clauses: &[Clause], ring: &[usize]) -> String {
    let names: Vec<&str> = ring.iter().map(|index| clauses[*index].id.as_str()).collect();
    names.join(", ")
}
