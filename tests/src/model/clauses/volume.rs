//! A percentage that grows with what the period brought (section 2.6).

use serde_json::Value;

use super::bands::shares;
use super::year::go_on;
use crate::model::draft::Draft;
use crate::model::exact::{Exact, divided, rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::text;

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for payer in draft.together(clause, "payer") {
        let mut items = draft.chosen(clause, payer.as_deref());
        let spend: Exact = items.iter().map(|item| draft.net(*item)).filter(|net| *net > whole(0)).sum();
        let (climb, bound) = (text(&clause["model"], "volume"), text(&clause["bound"], "lower"));
        let quantity = text(&clause["measure"], "spend") == "quantity";
        let measure =
            if quantity { items.iter().map(|item| &draft.items[*item].quantity).sum() } else { spend.clone() };
        let of = if quantity { "units" } else { "spend" };
        let before = go_on(draft, clause, of, payer.as_deref(), measure.clone());
        let parts = shares(&before, &measure, clause, climb, bound);
        // Measured in units, the bands divide the net amount like the units in them.
        let shares: Vec<Exact> = parts.iter().map(|(part, _)| part.clone()).collect();
        let amounts = if quantity { divided(&spend, &shares, SCALE).unwrap_or_default() } else { shares };
        items.retain(|item| draft.net(*item) > whole(0));
        let mut left: Vec<Exact> = items.iter().map(|item| draft.net(*item)).collect();
        for (amount, (_, percent)) in amounts.into_iter().zip(parts) {
            // A band takes its part of every item.
            let bases = crate::model::pool::parts(&amount, &left);
            left.iter_mut().zip(&bases).for_each(|(left, base)| *left -= base);
            let off = rounded(&(amount * percent / whole(100)), SCALE);
            draft.take_off_like(clause, &items, &bases, off);
        }
    }
}
