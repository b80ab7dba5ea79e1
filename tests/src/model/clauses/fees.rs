//! What is charged beside usage: percentages of spend, fixed fees, lines by agreement.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bands::shares;
use super::limits::limit;
use crate::model::draft::Draft;
use crate::model::exact::{Exact, rounded, whole};
use crate::model::rounding::{SCALE, is_by_line, payable_of};
use crate::model::series::{number, text};

/// A percentage of what usage came to, by payer or by account, at least the minimum.
pub fn percent_fee(draft: &mut Draft<'_>, clause: &Value) {
    let list = text(&clause["base"], "net") == "list";
    let mut bases: BTreeMap<(String, String), Exact> = BTreeMap::new();
    for item in draft.chosen(clause, None) {
        let own = &draft.items[item];
        let payer = own.member.payer.clone();
        let per_account = text(&clause["per"], "payer") == "account";
        let bearer = if per_account { own.series.account.clone() } else { bearer(draft, clause, &payer) };
        let public: Exact =
            draft.lines_of(item).filter(|line| !line.origin.starts_with("clause:")).map(|line| &line.amount).sum();
        *bases.entry((payer, bearer)).or_insert_with(|| whole(0)) += if list { public } else { draft.net(item) };
    }
    for ((_, account), base) in bases {
        let mut fee = whole(0);
        for (part, percent) in shares(&whole(0), &base, clause, text(&clause["model"], "graduated"), "upper") {
            fee += rounded(&(part * percent / whole(100)), SCALE);
        }
        // Tiers and what is missing of the minimum are one charge.
        let least = limit(draft, clause, "minimum").unwrap_or_else(|| whole(0));
        draft.charge(clause, &account, fee.max(least));
    }
}

/// Who bears what a payer's bill is charged: the account that is named, where that payer pays for it, else the payer.
fn bearer(draft: &Draft<'_>, clause: &Value, payer: &str) -> String {
    let named = clause["account"].as_str().filter(|account| (draft.member)(account).payer == payer);
    named.unwrap_or(payer).to_owned()
}

/// A fixed fee, each cycle or once.
pub fn fee(draft: &mut Draft<'_>, clause: &Value) {
    let first = text(&clause["effective"], text(&draft.contract["effective"], ""));
    if clause["once"] == true && first != draft.cycle {
        return;
    }
    let amount = rounded(&(number(&clause["amount"], "0") * number(&clause["quantity"], "1")), SCALE);
    let account = draft.bearer(clause);
    draft.charge(clause, &account, amount);
}

/// A line by agreement, up or down: flat, or a share of what usage came to.
pub fn custom_line(draft: &mut Draft<'_>, clause: &Value) {
    if let Some(amount) = clause["amount"].as_str() {
        let account = draft.bearer(clause);
        draft.charge(clause, &account, crate::model::exact::exact(amount));
        return;
    }
    let share = number(&clause["percent"], "0") / whole(100);
    let items = draft.chosen(clause, None);
    let mut nets: BTreeMap<String, Exact> = BTreeMap::new();
    for item in items {
        let net = draft.net(item);
        if clause["itemised"] == true {
            let part = rounded(&(net * &share), SCALE);
            let part = if is_by_line(draft.catalogue) { payable_of(draft.catalogue, &part) } else { part };
            draft.add(clause, item, None, part);
        } else {
            *nets.entry(draft.items[item].member.payer.clone()).or_insert_with(|| whole(0)) += net;
        }
    }
    for (payer, net) in nets {
        let account = bearer(draft, clause, &payer);
        draft.charge(clause, &account, rounded(&(net * &share), SCALE));
    }
}
