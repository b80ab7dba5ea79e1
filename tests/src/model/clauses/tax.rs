//! Taxes: each item by the first rate whose scope holds it; one line a payer, rate and service, at the minor unit.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::draft::{Draft, in_scope};
use crate::model::exact::{Exact, whole};
use crate::model::rounding::payable_of;
use crate::model::series::{list, number};

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    let taxes =
        |id: &str| list(draft.contract, "clauses").iter().any(|own| own["mechanism"] == "tax" && own["id"] == id);
    let mut bases: BTreeMap<(String, usize, String), Exact> = BTreeMap::new();
    for item in (0..draft.items.len()).filter(|item| draft.items[*item].is_usage || !taxes(&draft.items[*item].sku)) {
        let own = &draft.items[item];
        let Some(rate) = list(clause, "rates").iter().position(|rate| in_scope(&rate["scope"], own)) else { continue };
        let key = (own.member.payer.clone(), rate, own.series.service.clone());
        *bases.entry(key).or_insert_with(|| whole(0)) += draft.net(item);
    }
    for ((payer, rate, service), base) in bases {
        let rate = &list(clause, "rates")[rate];
        let tax = payable_of(draft.catalogue, &(base * number(&rate["percent"], "0") / whole(100)));
        draft.charge_as(clause, &payer, &service, tax);
    }
}
