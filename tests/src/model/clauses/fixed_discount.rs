//! An amount off the lines in scope, each cycle, or in all until it is used up.

use serde_json::Value;

use crate::model::draft::Draft;
use crate::model::exact::whole;
use crate::model::series::{number, text};

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    for payer in draft.together(clause, "root") {
        let balance = match (&payer, clause["lasting"] == true) {
            (Some(payer), true) => format!("{}/{payer}", text(&clause["id"], "")),
            _ => text(&clause["id"], "").to_owned(),
        };
        let lasting = clause["lasting"] == true;
        let used = if lasting { draft.used_before(&balance) } else { whole(0) };
        let left = (number(&clause["amount"], "0") - used).max(whole(0));
        let left = if lasting { draft.usable(left) } else { left };
        let items = draft.chosen(clause, payer.as_deref());
        let off = draft.take_off(clause, &items, left);
        if lasting {
            draft.post(&balance, off);
        }
    }
}
