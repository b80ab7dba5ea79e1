//! The least and the most that a scope comes to in a cycle (decision 2).

use serde_json::Value;

use crate::model::draft::Draft;
use crate::model::exact::{Exact, exact, whole};
use crate::model::measure::Span;
use crate::model::prorate::{prorated, taken};
use crate::model::series::{list, text};

/// What is left of some items, credits of stage `credits_before` added back.
pub fn before_credits(draft: &Draft<'_>, items: &[usize]) -> Exact {
    let before = |origin: &str| {
        let credits = list(draft.contract, "clauses").iter().filter(|clause| clause["mechanism"] == "credit");
        let mut credits = credits.filter(|clause| text(&clause["stage"], "before") == "before");
        credits.any(|clause| origin == format!("clause:{}", text(&clause["id"], "")))
    };
    let lines = items.iter().flat_map(|item| draft.lines_of(*item));
    lines.filter(|line| !before(&line.origin)).map(|line| &line.amount).sum()
}

/// What of a clause's limit holds in the cycle, by days of its own; `None` where none does.
pub fn limit(draft: &Draft<'_>, clause: &Value, field: &str) -> Option<Exact> {
    let amount = exact(clause[field].as_str()?);
    prorated(&amount, &clause["prorate"], &[taken(clause)], Span::of(draft.cycle))
}

/// A line of what is missing, of each payer or of all together.
pub fn minimum(draft: &mut Draft<'_>, clause: &Value) {
    let Some(least) = limit(draft, clause, "amount") else { return };
    let only = clause["payer"].as_str().map(str::to_owned);
    let whose = match (text(&clause["per"], "payer"), &only) {
        ("payer", Some(payer)) => vec![Some(payer.clone())],
        _ => draft.together(clause, "payer"),
    };
    for payer in whose {
        let items = draft.chosen(clause, payer.as_deref());
        if items.is_empty() && payer.is_some() && only.is_none() {
            continue;
        }
        let missing = &least - before_credits(draft, &items);
        let account = payer.or(only.clone()).unwrap_or_else(|| draft.bearer(clause));
        draft.charge(clause, &account, missing.max(whole(0)));
    }
}

/// What lies above is taken off the lines in scope.
pub fn maximum(draft: &mut Draft<'_>, clause: &Value) {
    let Some(most) = limit(draft, clause, "amount") else { return };
    for payer in draft.together(clause, "payer") {
        let items = draft.chosen(clause, payer.as_deref());
        let over = before_credits(draft, &items) - &most;
        draft.take_off(clause, &items, over.max(whole(0)));
    }
}
