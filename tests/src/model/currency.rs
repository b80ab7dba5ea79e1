//! Bills in another currency than the price list's (decision 18): which clause and rate, and what a total comes to.

use serde_json::Value;

use super::calendar::{months, start_of, time_of};
use super::draft::in_force;
use super::exact::{Exact, exact, rounded_by};
use super::rounding::minor_unit;
use super::series::{list, text};

/// How the bill of a payer is converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub clause: String,
    pub to: String,
    pub rate: Exact,
    /// The first instant of the rate.
    pub since: i64,
    pub decimals: i32,
}

/// The clause that names the payer, else the one that names nobody, with its rate at the cycle's end.
pub fn exchange_of(contract: &Value, payer: &str, cycle: &str) -> Option<Exchange> {
    let clauses = || {
        let clauses = list(contract, "clauses").iter();
        clauses.filter(|clause| clause["mechanism"] == "currency" && in_force(clause, cycle))
    };
    let own = clauses().find(|clause| clause["payer"] == payer);
    let clause = own.or_else(|| clauses().find(|clause| clause["payer"].is_null()))?;
    let end = start_of(months(cycle) + 1);
    let since = |rate: &Value| time_of(text(&rate["effective"], ""));
    let rate = list(clause, "rates").iter().rfind(|rate| since(rate) < end).expect("a clause begins with a rate");
    let to = text(&clause["to"], "").to_owned();
    Some(Exchange {
        clause: text(&clause["id"], "").to_owned(),
        decimals: clause["decimals"].as_i64().map_or_else(|| minor_unit(&to), |decimals| decimals as i32),
        to,
        rate: exact(text(&rate["rate"], "")),
        since: since(rate),
    })
}

impl Exchange {
    /// What an exact total comes to, rounded once.
    pub fn payable(&self, catalogue: &Value, total: &Exact) -> Exact {
        rounded_by(&(total * &self.rate), self.decimals, text(&catalogue["rounding"]["mode"], "half_up"))
    }
}
