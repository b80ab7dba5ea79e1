//! Pools of prices that last a contract year (decision 4): ladder, free units, minimum and maximum go on from cycle to cycle
//! by what earlier cycles of the year brought.

use std::collections::BTreeMap;

use num_traits::Zero;
use serde_json::Value;

use super::calendar::{Cycle, cycle_name, months};
use super::charge::{climb, give_free, hold_at, per_record, push};
use super::exact::{Exact, exact, whole};
use super::ladder::{Slice, ladder_part, tier_of, tiers_of};
use super::line::Line;
use super::pool::{ALWAYS, Pool, Used, parts};
use super::series::{Member, list, names, number, text};
use super::subscriptions::standing_for;

/// The contract year that a cycle is in.
pub struct Year<'a> {
    begins: Cycle,
    /// The cycle is the year's last, or the contract's: what the year is short of is due.
    settles: bool,
    /// What earlier bills brought, and what these bring.
    balances: &'a BTreeMap<String, Exact>,
    pub postings: BTreeMap<String, Exact>,
}

/// Whether a price's pools last a year.
pub fn is_yearly(price: &Value) -> bool {
    price["pool"]["period"] == "contract_year"
}

impl<'a> Year<'a> {
    /// Years count from the `starts` of the contract in force, without one from the hierarchy's `first` cycle.
    pub fn of(contract: Option<&Value>, first: Cycle, cycle: &str, balances: &'a BTreeMap<String, Exact>) -> Year<'a> {
        let starts =
            contract.map_or(first, |contract| months(text(&contract["starts"], text(&contract["effective"], ""))));
        let cycle = months(cycle);
        let since = (cycle - starts) % 12;
        let ends = contract.and_then(|contract| contract["until"].as_str()).map(months);
        let settles = since == 11 || ends == Some(cycle + 1);
        Year { begins: cycle - since, settles, balances, postings: BTreeMap::new() }
    }

    /// The balance of a pool; each payer has its own unless the price's pool is of all together.
    fn name(&self, price: &Value, of: &str, payer: &str) -> String {
        let name = format!("pool/{}/{}/{of}", text(&price["id"], ""), cycle_name(self.begins));
        if is_of_payer(price) { format!("{name}/{payer}") } else { name }
    }

    fn before(&self, price: &Value, of: &str, payer: &str) -> Exact {
        let name = self.name(price, of, payer);
        self.balances.get(&name).cloned().unwrap_or_else(|| whole(0)).max(whole(0))
    }

    fn post(&mut self, price: &Value, of: &str, payer: &str, amount: Exact) {
        *self.postings.entry(self.name(price, of, payer)).or_insert_with(|| whole(0)) += amount;
    }

    /// Notes what a cycle's lines of a pool came to, where that is asked for later.
    pub fn post_charge(&mut self, price: &Value, payer: &str, lines: &[Line]) {
        let least = number(&price["minimum"], "0");
        if !least.is_zero() || price["maximum"].is_string() {
            self.post(price, "charge", payer, lines.iter().map(|line| &line.amount).sum());
        }
    }
}

fn is_of_payer(price: &Value) -> bool {
    let keys = names(&price["pool"]["split_by"]);
    !keys.contains(&"root") || keys.contains(&"payer")
}

/// What is due of a year that ends with a cycle in which nothing was used stands on the payer's own account (of all payers
/// together on the root account), under the first SKU of the price.
pub fn add_ends(
    catalogue: &Value,
    year: &Year<'_>,
    hierarchy: (&str, &[String]),
    member: &dyn Fn(&str) -> Member,
    used: &mut Vec<Used>,
) {
    let (root, payers) = hierarchy;
    let yearly = list(catalogue, "prices").iter().filter(|price| is_yearly(price) && price["minimum"].is_string());
    for price in yearly.filter(|_| year.settles) {
        let Some(sku) = list(catalogue, "skus").iter().find(|sku| sku["price"] == price["id"]) else { continue };
        let root = [root.to_owned()];
        for account in if is_of_payer(price) { payers } else { &root } {
            if ["units", "free"].iter().all(|of| year.before(price, of, account).is_zero()) {
                continue;
            }
            let stand = standing_for(catalogue, sku, account, member(account));
            let same =
                |own: &&mut Used| own.series == stand.series && own.sku["id"] == sku["id"] && own.group.is_none();
            match used.iter_mut().find(same) {
                Some(own) => own.subscribed = true,
                None => used.push(stand),
            }
        }
    }
}

/// What a cycle adds to one pool.
pub fn charge_year(pool: &mut Pool<'_>, price: &Value, year: &mut Year<'_>, lines: &mut Vec<Line>) {
    let payer = pool[0].member.payer.clone();
    let sequence = text(&price["attribution"], "prorata") == "sequence";
    let brought: Vec<Exact> = pool.iter().map(|used| used.quantity.clone()).collect();
    let (units, free) = (year.before(price, "units", &payer), year.before(price, "free", &payer));
    let left = (number(&price["free_units"], "0") - &free).max(whole(0));
    let given = give_free(pool, &left, sequence, "free", lines, &ALWAYS);
    let climbed: Vec<Exact> = pool.iter().map(|used| used.units.clone()).collect();
    let total: Exact = climbed.iter().sum();
    // What was free is no part of what limits bound.
    let from = lines.len();
    if !total.is_zero() {
        climb(pool, slices(price, &units, &total), sequence, lines, &ALWAYS);
    }
    per_record(pool, price, lines);
    let weights = if total.is_zero() { brought } else { climbed };
    let charged = |lines: &[Line]| lines[from..].iter().map(|line| &line.amount).sum::<Exact>();
    let before = year.before(price, "charge", &payer);
    if let Some(most) = price["maximum"].as_str() {
        let left = (exact(most) - &before).max(whole(0));
        if charged(lines) > left {
            hold_at(&left, from, lines);
        }
    }
    let least = number(&price["minimum"], "0");
    let missing = least - before - charged(lines);
    if year.settles && missing > whole(0) {
        if weights.iter().any(|weight| !weight.is_zero()) {
            for (used, part) in pool.iter().zip(parts(&missing, &weights)) {
                push(lines, used, "minimum", whole(0), part);
            }
        } else if !units.is_zero() || !free.is_zero() {
            let stand = pool.iter().find(|used| used.subscribed).expect("the year's end stands for it");
            push(lines, stand, "minimum", whole(0), missing);
        }
    }
    year.post(price, "units", &payer, total);
    year.post(price, "free", &payer, given);
}

/// A ladder that earlier cycles climbed by `before` units.
fn slices(price: &Value, before: &Exact, units: &Exact) -> Vec<Slice> {
    let end = before + units;
    if price["model"] != "stairstep" {
        return ladder_part(price, before, &end, &end);
    }
    // What the stair is above the last.
    let (tiers, lower) = (tiers_of(price), text(&price["bound"], "upper") == "lower");
    let reached = |at: &Exact| tier_of(tiers.iter().map(|tier| tier["up_to"].as_str()), at, lower);
    let stair = |at: &Exact| if at.is_zero() { whole(0) } else { number(&tiers[reached(at)]["flat"], "0") };
    vec![(reached(&end), units.clone(), stair(&end) - stair(before))]
}
