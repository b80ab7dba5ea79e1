//! A spend commitment by contract year: what a cycle retires of it, and what is missing when the year closes (section 3).

use serde_json::Value;

use super::limits::before_credits;
use crate::model::draft::{Draft, in_scope};
use crate::model::exact::{Exact, exact, rounded, whole};
use crate::model::rounding::SCALE;
use crate::model::series::{list, text};

/// A contract year: its first cycle, what is committed in it, and whether the cycle is its last.
pub fn year_of(draft: &Draft<'_>, clause: &Value) -> Option<(String, Exact, bool)> {
    let months = |cycle: &str| {
        cycle[..4].parse::<usize>().expect("a year") * 12 + cycle[5..].parse::<usize>().expect("a month") - 1
    };
    let first = text(&clause["starts"], text(&clause["effective"], text(&draft.contract["effective"], "")));
    let since = months(draft.cycle) - months(first);
    let amount = list(clause, "years").get(since / 12)?;
    let begins = months(first) + since / 12 * 12;
    Some((format!("{:04}-{:02}", begins / 12, begins % 12 + 1), exact(text(amount, "")), since % 12 == 11))
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
    if !closes {
        return;
    }
    let all = |name: &str| draft.used_before(name) + draft.postings.get(name).cloned().unwrap_or_else(|| whole(0));
    let most = rounded(&(&amount * exact(text(&clause["marketplace_share"], "0.25"))), SCALE);
    let market = all(&format!("{name}/marketplace")).min(most).max(whole(0));
    let missing = amount - all(&name) - market;
    let payer = draft.bearer(clause);
    draft.charge(clause, &payer, missing.max(whole(0)));
}
