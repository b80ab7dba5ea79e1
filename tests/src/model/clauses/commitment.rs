//! A spend commitment by contract year: what a cycle retires of it, and what is missing when the year closes (section 3).

use serde_json::Value;

use super::limits::before_credits;
use super::year::starts;
use crate::model::calendar::{cycle_name, months};
use crate::model::draft::{Draft, in_scope};
use crate::model::exact::{Exact, exact, rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::{list, text};

/// Whether the cycle is the last of the clause or of its contract.
fn ends(draft: &Draft<'_>, clause: &Value) -> bool {
    [&clause["until"], &draft.contract["until"]]
        .into_iter()
        .any(|until| until.as_str().is_some_and(|until| months(until) == months(draft.cycle) + 1))
}

/// A contract year: its first cycle, what is committed in it, and whether the cycle is its last.
pub fn year_of(draft: &Draft<'_>, clause: &Value) -> Option<(String, Exact, bool)> {
    let first = starts(draft, clause);
    let since = months(draft.cycle) - first;
    let amount = list(clause, "years").get(since as usize / 12)?;
    let (name, mut amount) = (cycle_name(first + since / 12 * 12), exact(text(amount, "")));
    let (closes, cut_short) = (since % 12 == 11, ends(draft, clause) && since % 12 != 11);
    if cut_short && clause["prorate"] == true {
        amount = rounded(&(amount * whole(i128::from(since % 12 + 1)) / whole(12)), SCALE);
    }
    Some((name, amount, closes || cut_short))
}

/// Lines of the marketplace are neither discounted nor fully counted.
pub fn is_marketplace(draft: &Draft<'_>, clause: &Value, item: usize) -> bool {
    clause["marketplace"].is_object() && in_scope(&clause["marketplace"], &draft.items[item])
}

/// What this cycle retires by now: what is left to pay of usage, credits added back, and apart from it the marketplace's.
fn retired(draft: &Draft<'_>, clause: &Value, name: &str) -> Vec<(String, Exact)> {
    let usage = (0..draft.items.len()).filter(|item| draft.items[*item].is_usage);
    let (market, _): (Vec<usize>, Vec<usize>) = usage.partition(|item| is_marketplace(draft, clause, *item));
    let mut own = draft.chosen(clause, None);
    own.retain(|item| !market.contains(item));
    let left = |items: &[usize]| match clause["credits_reduce"] == true {
        true => items.iter().map(|item| draft.net(*item)).sum(),
        false => before_credits(draft, items),
    };
    vec![(name.to_owned(), left(&own)), (format!("{name}/marketplace"), left(&market))]
}

/// Notes what is retired when the stage of the percentage has ended.
pub fn note(draft: &mut Draft<'_>, clause: &Value) {
    let Some((begins, ..)) = year_of(draft, clause) else { return };
    let noted = retired(draft, clause, &format!("{}/{begins}", text(&clause["id"], "")));
    draft.retired.extend(noted);
}

/// Counts what was retired, and charges what is missing when the year closes.
pub fn shortfall(draft: &mut Draft<'_>, clause: &Value) {
    let Some((begins, amount, closes)) = year_of(draft, clause) else { return };
    let name = format!("{}/{begins}", text(&clause["id"], ""));
    // In an order that has this stage first, what is there so far.
    for (balance, so_far) in retired(draft, clause, &name) {
        let retired = draft.retired.get(&balance).cloned().unwrap_or(so_far);
        draft.post(&balance, retired);
    }
    // What is billed by itself is not on the bill of the close.
    if !closes || clause["waits"] == true {
        return;
    }
    let all = |name: &str| draft.used_before(name) + draft.postings.get(name).cloned().unwrap_or_else(|| whole(0));
    let most = rounded(&(&amount * exact(text(&clause["marketplace_share"], "0.25"))), SCALE);
    let market = all(&format!("{name}/marketplace")).min(most).max(whole(0));
    let missing = amount - all(&name) - market;
    let (payer, missing) = (draft.bearer(clause), missing.max(whole(0)));
    let charged = draft.charge(clause, &payer, missing.clone());
    if ends(draft, clause) && charged > whole(0) {
        draft.post(&name, missing);
    }
}
