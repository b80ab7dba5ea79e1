//! Bills out of the cycle (section 2.11): what was bought by an instant, and the close without the shortfalls that are bills
//! of their own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clauses::prepayment::left_to_buy;
use super::currency::exchange_of;
use super::draft::in_force;
use super::exact::{Exact, whole};
use super::rounding::{is_by_line, payable_of};
use super::series::{Member, list, names, text};
use super::subscriptions::bought;

/// Exact total and payable of what each payer bought by an instant: fees billed at once, and what of prepayments no bill
/// has charged.
pub fn purchases(
    catalogue: &Value,
    contract: Option<&Value>,
    cycle: &str,
    balances: &BTreeMap<String, Exact>,
    member: &dyn Fn(&str) -> Member,
    until: i64,
) -> BTreeMap<String, (Exact, Exact)> {
    let Some(contract) = contract.filter(|contract| in_force(contract, cycle)) else { return BTreeMap::new() };
    let mut amounts = bought(catalogue, contract, cycle, member, until);
    let order = [contract, catalogue].into_iter().find(|document| !document["stages"].is_null());
    let on = order.is_none_or(|document| names(&document["stages"]).contains(&"shortfall"));
    let clauses = list(contract, "clauses").iter().filter(|clause| on && in_force(clause, cycle));
    for clause in clauses.filter(|clause| clause["purchase"] == true) {
        let (_, missing) = left_to_buy(clause, balances);
        let missing = if is_by_line(catalogue) { payable_of(catalogue, &missing) } else { missing };
        if missing > whole(0) {
            let root = || member(text(&contract["root"], "")).payer;
            amounts.push((clause["payer"].as_str().map_or_else(root, str::to_owned), missing));
        }
    }
    let mut bills: BTreeMap<String, (Exact, Exact)> = BTreeMap::new();
    for (payer, amount) in amounts {
        bills.entry(payer).or_insert_with(|| (whole(0), whole(0))).0 += amount;
    }
    for (payer, (total, payable)) in &mut bills {
        let exchange = exchange_of(contract, payer, cycle);
        *payable = exchange.map_or_else(|| payable_of(catalogue, total), |own| own.payable(catalogue, total));
    }
    bills
}

/// The contract as the close bills it: shortfalls with bills of their own wait. `None` where none has one.
pub fn at_close(contract: &Value) -> Option<Value> {
    let mut own = contract.clone();
    let mut waits = false;
    for clause in own["clauses"].as_array_mut()? {
        if clause["own_bill"] == true {
            clause["waits"] = json!(true);
            waits = true;
        }
    }
    waits.then_some(own)
}
