//! An amount paid in advance that settles charges at a discount until it is used up (section 2.9).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::draft::Draft;
use crate::model::exact::{Exact, rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::{number, text};

/// What of the amount no bill has charged yet is charged, to a payer (sections 2.9 and 2.11).
pub fn buy(draft: &mut Draft<'_>, clause: &Value) {
    let (name, missing) = left_to_buy(clause, draft.balances);
    if missing > whole(0) {
        let payer = draft.bearer(clause);
        draft.charge(clause, &payer, missing.clone());
        draft.post(&name, missing);
    }
}

/// What is not bought yet of a prepayment, and the balance of what is.
pub fn left_to_buy(clause: &Value, balances: &BTreeMap<String, Exact>) -> (String, Exact) {
    let name = format!("{}/bought", text(&clause["id"], ""));
    let before = balances.get(&name).cloned().unwrap_or_else(|| whole(0));
    (name, number(&clause["amount"], "0") - before)
}

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    let id = text(&clause["id"], "");
    let items = draft.chosen_all(clause, None);
    let nets: Vec<Exact> = items.iter().map(|item| draft.net(*item).max(whole(0))).collect();
    let total: Exact = nets.iter().sum();
    let share = number(&clause["percent"], "0") / whole(100);
    let balance = (number(&clause["amount"], "0") - draft.used_before(id)).max(whole(0));
    // All is settled where the balance pays for it, else as much as the balance pays for.
    let pays = |charges: &Exact| rounded(&(charges * (whole(1) - &share)), SCALE);
    let (settled, drawn) = if pays(&total) <= balance {
        (total.clone(), pays(&total))
    } else {
        let covered = rounded(&(&balance / (whole(1) - &share)), SCALE).min(total.clone());
        let settled = draft.usable(covered.clone());
        let drawn = if settled == covered { balance.clone() } else { pays(&settled) };
        (settled, drawn)
    };
    let drawn = draft.line_of(drawn).min(balance).min(settled.clone());
    // Each item's part of what is settled is its part of the discount and of what is drawn.
    let charges = draft.divided(&settled, &nets);
    let paid = draft.divided(&drawn, &charges);
    for ((item, charge), paid) in items.into_iter().zip(charges).zip(paid) {
        draft.add(clause, item, None, -(charge - &paid));
        draft.add(clause, item, None, -paid);
    }
    draft.post(id, drawn);
}
