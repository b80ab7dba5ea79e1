//! A share off what is left of each account's SKU, or of what the stage began with, perhaps behind a trigger.

use std::collections::BTreeMap;

use serde_json::Value;

use super::commitment::{is_marketplace, year_of};
use crate::model::draft::{Draft, in_scope};
use crate::model::exact::{Exact, exact, rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::{number, text};

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    // That of a commitment counts as long as something is committed.
    if clause["mechanism"] == "commitment" && year_of(draft, clause).is_none() {
        return;
    }
    let payers = draft.payers();
    let reached: Vec<bool> = payers.iter().map(|payer| is_triggered(draft, &clause["trigger"], payer)).collect();
    for (payer, _) in payers.iter().zip(reached).filter(|(_, reached)| *reached) {
        let mut items = draft.chosen(clause, Some(payer));
        items.retain(|item| !is_marketplace(draft, clause, *item));
        for base in bases(draft, items) {
            // Percentages of a stage add up on what it began with; no more than is left is taken off.
            let of_stage = clause["base"] == "stage";
            let own = |item: &usize| if of_stage { draft.began[*item].clone() } else { draft.net(*item) };
            let own: Exact = base.iter().map(own).filter(|own| *own > whole(0)).sum();
            let off = rounded(&(own * number(&clause["percent"], "0") / whole(100)), SCALE);
            draft.take_off(clause, &base, off);
        }
    }
}

/// One base for each account and SKU.
pub fn bases(draft: &Draft<'_>, items: Vec<usize>) -> Vec<Vec<usize>> {
    let mut bases: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for item in items {
        bases.entry((&draft.items[item].series.account, &draft.items[item].sku)).or_default().push(item);
    }
    bases.into_values().collect()
}

fn is_triggered(draft: &Draft<'_>, trigger: &Value, payer: &str) -> bool {
    let everyone = text(&trigger["per"], "payer") == "root";
    let counts = |item: &usize| {
        let item = &draft.items[*item];
        (everyone || item.member.payer == payer) && in_scope(&trigger["scope"], item)
    };
    let scope: Vec<usize> = (0..draft.items.len()).filter(counts).collect();
    let (found, threshold) = match (&trigger["spend"], &trigger["quantity"]) {
        (Value::String(spend), _) => (scope.iter().map(|item| draft.net(*item)).sum::<Exact>(), exact(spend)),
        (_, Value::String(units)) => (scope.iter().map(|item| &draft.items[*item].quantity).sum(), exact(units)),
        _ => return true,
    };
    if text(&trigger["bound"], "lower") == "lower" { found >= threshold } else { found > threshold }
}
