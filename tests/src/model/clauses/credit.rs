//! An amount with a balance, used up charge by charge (section 1.6, decision 17).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::draft::Draft;
use crate::model::exact::{Exact, whole};
use crate::model::series::{names, number, text};

/// The credits of a stage in the order in which they are used.
pub fn in_order<'a>(contract: &Value, mut credits: Vec<&'a Value>) -> Vec<&'a Value> {
    let default = ["priority", "expiry", "services", "age"];
    let stated = &contract["credit_order"];
    let keys = if stated.is_null() { default.to_vec() } else { names(stated) };
    let until = text(&contract["until"], "9999-12");
    let since = text(&contract["effective"], "");
    // Stable: file order decides last.
    credits.sort_by_key(|credit| {
        let services = match &credit["scope"]["service"] {
            Value::String(_) => 1,
            Value::Array(patterns) if !patterns.is_empty() => patterns.len(),
            _ => usize::MAX,
        };
        let key = |key: &&str| match *key {
            "priority" => format!("{:020}", credit["priority"].as_u64().unwrap_or(0)),
            "expiry" => text(&credit["until"], until).to_owned(),
            "services" => format!("{services:020}"),
            _ => text(&credit["effective"], since).to_owned(),
        };
        keys.iter().map(key).collect::<Vec<String>>()
    });
    credits
}

pub fn apply(draft: &mut Draft<'_>, clause: &Value) {
    let id = text(&clause["id"], "");
    let owner = clause["account"].as_str();
    let payer = owner.map(|owner| (draft.member)(owner).payer);
    let mut eligible = draft.chosen_all(clause, payer.as_deref());
    if clause["sharing"] == false {
        eligible.retain(|item| Some(draft.items[*item].series.account.as_str()) == owner);
    }
    eligible.retain(|item| draft.net(*item) > whole(0));
    let mut accounts: BTreeMap<&str, Exact> = BTreeMap::new();
    let mut services: BTreeMap<(&str, &str), Exact> = BTreeMap::new();
    for item in &eligible {
        let (series, net) = (&draft.items[*item].series, draft.net(*item));
        *accounts.entry(&series.account).or_insert_with(|| whole(0)) += &net;
        *services.entry((&series.account, &series.service)).or_insert_with(|| whole(0)) += net;
    }
    let mut order = eligible.clone();
    order.sort_by_key(|item| {
        let series = &draft.items[*item].series;
        let (account, service) = (series.account.as_str(), series.service.as_str());
        let of_account = (owner != Some(account), -&accounts[account], account.to_owned());
        (of_account, -&services[&(account, service)], service.to_owned(), -draft.net(*item), *item)
    });
    let mut left = draft.usable(number(&clause["amount"], "0") - draft.used_before(id));
    for item in order {
        let off = draft.net(item).min(left.clone()).max(whole(0));
        draft.add(clause, item, None, -off.clone());
        draft.post(id, off.clone());
        left -= off;
    }
}
