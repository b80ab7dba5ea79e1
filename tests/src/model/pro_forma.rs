//! Billing groups priced by themselves, beside the real bills (section 2.10): the same fold, as if the group were all there
//! is, with one rule on each account and SKU's public charge and the group's own lines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bill::{Bills, Whose, fold};
use super::calendar::months;
use super::draft::in_force;
use super::record::Record;
use super::series::{Counter, Member, list, text};

/// The bills of all groups that the contract prices, by group; of a group without usage and lines there is none.
pub fn pro_forma(
    catalogue: &Value,
    contract: &Value,
    cycle: &str,
    (counters, records): (&[Counter], &[Record]),
    member: &dyn Fn(&str) -> Member,
) -> BTreeMap<String, Bills> {
    let mut bills = BTreeMap::new();
    for own in list(contract, "pro_forma").iter().filter(|_| in_force(contract, cycle)) {
        let (group, payer) = (text(&own["group"], ""), text(&own["account"], ""));
        let in_group = |account: &str| member(account).group == group;
        let counters: Vec<Counter> =
            counters.iter().filter(|counter| in_group(&counter.series.account)).cloned().collect();
        let records: Vec<Record> = records.iter().filter(|record| in_group(&record.series.account)).cloned().collect();
        let group_of = |account: &str| if in_group(account) { group.to_owned() } else { String::new() };
        let member = |account: &str| Member { payer: payer.to_owned(), group: group_of(account) };
        let terms = terms(cycle, own);
        // Years begin with each cycle.
        let (first, payers) = (months(cycle), [payer.to_owned()]);
        let whose = Whose { first, root: payer, payers: &payers, member: &member };
        let folded = fold(catalogue, Some(&terms), cycle, (&counters, &records), &BTreeMap::new(), &whose);
        if !folded.payers.is_empty() {
            bills.insert(group.to_owned(), folded);
        }
    }
    bills
}

/// A group's rules and lines as a contract; of the rules that match a line the most granular applies.
fn terms(cycle: &str, own: &Value) -> Value {
    let rule = |rule: &Value| {
        let percent = match rule["markup"].as_str() {
            Some(markup) => format!("-{markup}"),
            None => text(&rule["discount"], "0").to_owned(),
        };
        json!({
            "id": rule["id"], "mechanism": "percent", "kind": "attribute", "percent": percent, "scope": rule["scope"],
            "exclusive_group": "rules",
        })
    };
    let line = |line: &Value| {
        let mut line = line.clone();
        line["mechanism"] = json!("custom_line");
        line
    };
    let clauses: Vec<Value> = list(own, "rules").iter().map(rule).chain(list(own, "lines").iter().map(line)).collect();
    json!({
        "root": own["account"], "effective": cycle,
        "stages": ["usage", "attribute_percent", "fees", "rounding"], "clauses": clauses,
    })
}
