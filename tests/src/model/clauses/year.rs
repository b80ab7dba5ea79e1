//! Ladders that go on over a contract year of twelve cycles: where they begin in a cycle, by the balance of what earlier
//! cycles of the year brought.

use serde_json::Value;

use crate::model::calendar::{Cycle, cycle_name, months};
use crate::model::draft::Draft;
use crate::model::exact::{Exact, whole};
use crate::model::series::text;

/// The first cycle of a clause's first contract year.
pub fn starts(draft: &Draft<'_>, clause: &Value) -> Cycle {
    months(text(&clause["starts"], text(&clause["effective"], text(&draft.contract["effective"], ""))))
}

/// Where a clause's ladder begins, having gone on by what this cycle `brings` of `units` or `spend`.
pub fn go_on(draft: &mut Draft<'_>, clause: &Value, of: &str, payer: Option<&str>, brings: Exact) -> Exact {
    if clause["period"] != "contract_year" {
        return whole(0);
    }
    let cycle = months(draft.cycle);
    let begins = cycle_name(cycle - (cycle - starts(draft, clause)) % 12);
    let whose = payer.map_or(String::new(), |payer| format!("/{payer}"));
    let balance = format!("{}/{begins}/{of}{whose}", text(&clause["id"], ""));
    draft.post(&balance, brings);
    draft.used_before(&balance).max(whole(0))
}
