//! Rates of the customer's own by tier, over a pool of the contract's own (section 2.3, decision 13): the pool's tiers are
//! divided over the public ladders in it, both are cut at each other's bounds, and the lower rate counts.

use std::collections::BTreeMap;

use num_traits::Zero;
use serde_json::Value;

use super::bands::cut;
use super::year::go_on;
use crate::model::draft::Draft;
use crate::model::exact::{Exact, divided, rounded, whole};
use crate::model::pool::parts;
use crate::model::rounding::SCALE;
use crate::model::series::{list, number, text};

/// A ladder's slices by public tier: (tier, the members' slices).
type Ladder = Vec<(u32, Vec<usize>)>;

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for payer in draft.together(clause, "payer") {
        let items = draft.chosen(clause, payer.as_deref());
        let mut slices: Vec<(String, usize, usize)> = Vec::new();
        for item in &items {
            let payer = &draft.items[*item].member.payer;
            slices.extend(draft.slices_of(*item).into_iter().map(|slice| (payer.clone(), *item, slice)));
        }
        slices.sort_by_key(|(payer, item, slice)| (payer.clone(), *item, tier_of(draft, *slice), *slice));
        let units = |slices: &[usize]| slices.iter().map(|slice| &draft.lines[*slice].quantity).sum::<Exact>();
        let ladders = ladders(draft, &slices);
        let mut left: Vec<Exact> =
            ladders.iter().map(|ladder| ladder.iter().map(|(_, members)| units(members)).sum::<Exact>()).collect();
        let total: Exact = left.iter().sum();
        let (climb, bound) = (text(&clause["model"], "graduated"), text(&clause["bound"], "upper"));
        let before = go_on(draft, clause, "units", payer.as_deref(), total.clone());
        let private: Vec<(Exact, Exact)> = cut(&before, &total, list(clause, "tiers"), climb, bound)
            .into_iter()
            .map(|(part, tier)| (part, number(&list(clause, "tiers")[tier]["rate"], "0")))
            .collect();
        // What of each private tier meets each ladder.
        let mut met: Vec<Vec<(Exact, Exact)>> = vec![Vec::new(); ladders.len()];
        for (part, rate) in private {
            for (at, part) in parts(&part, &left).into_iter().enumerate() {
                left[at] -= &part;
                met[at].push((part, rate.clone()));
            }
        }
        let mut changes: Vec<(usize, Exact)> = Vec::new();
        for (ladder, met) in ladders.iter().zip(met) {
            changes.extend(meet(draft, clause, ladder, met));
        }
        // What is raised first can be taken off then, in the order of the lines.
        changes.sort_by_key(|(slice, saved)| (*saved > whole(0), *slice));
        let item_of: BTreeMap<usize, usize> = slices.iter().map(|(_, item, slice)| (*slice, *item)).collect();
        for (slice, off) in changes {
            let item = item_of[&slice];
            let off = draft.line_of(off).min(draft.net(item));
            draft.add(clause, item, Some(slice), -off);
        }
    }
}

fn tier_of(draft: &Draft<'_>, slice: usize) -> u32 {
    draft.lines[slice].origin.parse().expect("a slice is of a tier")
}

/// The public ladders of some slices, in the order of their first slices.
fn ladders(draft: &Draft<'_>, slices: &[(String, usize, usize)]) -> Vec<Ladder> {
    let mut places: Vec<usize> = Vec::new();
    let mut ladders: Vec<BTreeMap<u32, Vec<usize>>> = Vec::new();
    for (.., slice) in slices {
        let ladder = draft.lines[*slice].ladder.expect("a slice is of a ladder");
        let at = places.iter().position(|own| *own == ladder).unwrap_or_else(|| {
            places.push(ladder);
            ladders.push(BTreeMap::new());
            places.len() - 1
        });
        ladders[at].entry(tier_of(draft, *slice)).or_default().push(*slice);
    }
    ladders.into_iter().map(|ladder| ladder.into_iter().collect()).collect()
}

/// Cuts a ladder's units at its own and at the private bounds, in one order; what each slice then saves.
fn meet(draft: &Draft<'_>, clause: &Value, ladder: &Ladder, mut met: Vec<(Exact, Exact)>) -> Vec<(usize, Exact)> {
    let mut changes = Vec::new();
    for (_, members) in ladder {
        let weights: Vec<Exact> = members.iter().map(|slice| draft.lines[*slice].quantity.clone()).collect();
        let mut open: Exact = weights.iter().sum();
        // The cuts of this public tier, and in each the members' units.
        let mut cuts: Vec<(Vec<Exact>, Exact)> = Vec::new();
        let mut left = weights.clone();
        while open > whole(0) && !met.is_empty() {
            let part = met[0].0.clone().min(open.clone());
            if part > whole(0) {
                let own = parts(&part, &left);
                left.iter_mut().zip(&own).for_each(|(left, own)| *left -= own);
                cuts.push((own, met[0].1.clone()));
            }
            met[0].0 -= &part;
            open -= part;
            if met[0].0 <= whole(0) {
                met.remove(0);
            }
        }
        for (at, slice) in members.iter().enumerate() {
            let current = draft.left_of(*slice);
            let units: Vec<Exact> = cuts.iter().map(|(own, _)| own[at].clone()).collect();
            if units.iter().all(Exact::is_zero) {
                // A flat part without units: at a rate a unit it is nothing.
                changes.push((*slice, current));
                continue;
            }
            let publics = divided(&current, &units, SCALE).unwrap_or_default();
            for ((units, public), (_, rate)) in units.iter().zip(publics).zip(&cuts) {
                let saved = public - rounded(&(units * rate), SCALE);
                if saved > whole(0) || clause["may_raise"] == true {
                    changes.push((*slice, saved));
                }
            }
        }
    }
    changes
}
