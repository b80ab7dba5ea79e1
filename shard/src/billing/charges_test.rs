//! Charge models, fees and aggregations through the whole way from rows to bills: what text tables cannot say well, and
//! what must hold for any of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::bill::{BillBody, UnpricedReason};
use super::case::show;
use super::codec::{decode, encode};
use super::explain::explain;
use super::simulate::{Simulation, simulate};
use crate::base::refusal::Reason;
use crate::usage::record::UsageRecord;

/// A catalogue of one meter and price `p` for `a` and `b` of root `root`, perhaps with a contract.
struct Shop {
    catalogue: Value,
    contract: Option<Value>,
    cycle: &'static str,
}

impl Shop {
    fn new(meter: Value, price: Value) -> Shop {
        let mut own = json!({"id": "m", "service": "s", "usage_type": "m"});
        merge(&mut own, meter);
        let mut priced = json!({"id": "p"});
        merge(&mut priced, price);
        let catalogue = json!({
            "kind": "Catalogue", "name": "c", "currency": "USD", "effective": "2026-01", "meters": [own],
            "skus": [{"id": "m", "match": {}, "unit": "units", "price": "p"}], "prices": [priced],
        });
        Shop { catalogue, contract: None, cycle: "2026-09" }
    }

    fn run(&self, rows: &[UsageRecord]) -> (Vec<BillBody>, Vec<Reason>) {
        let hierarchy = json!({"kind": "Hierarchy", "root": "root", "catalogue": "c",
            "accounts": [{"id": "a"}, {"id": "b"}], "cycles": {"first": "2026-01"}});
        let catalogue = serde_json::from_value(self.catalogue.clone()).unwrap();
        let contract = self.contract.clone().map(|contract| serde_json::from_value(contract).unwrap());
        let simulated = simulate(&Simulation {
            catalogue: &catalogue,
            contract: contract.as_ref(),
            hierarchy: &serde_json::from_value(hierarchy).unwrap(),
            records: rows,
            cycle: self.cycle.parse().unwrap(),
            billed: &[],
            interim: false,
        });
        let simulated = simulated.unwrap_or_else(|error| panic!("{error:?}"));
        for body in &simulated.bodies {
            assert_eq!(decode(&encode(body)).unwrap(), *body);
            body.lines.iter().for_each(|line| drop(explain(body, line.id).unwrap()));
        }
        (simulated.bodies, simulated.refused.into_iter().map(|(_, refusal)| refusal.reason).collect())
    }

    /// Lines as `kind account sku tier quantity rate amount`; rows as `account quantity start [end]`.
    fn check(&self, rows: &[&str], expected: &[&str]) {
        let (bodies, refused) = self.run(&records(rows));
        assert_eq!(refused, []);
        let found: Vec<String> =
            bodies.iter().flat_map(|body| body.lines.iter().map(|line| show(body, line))).collect();
        assert_eq!(found, expected, "{rows:?}");
    }
}

fn merge(into: &mut Value, from: Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else { panic!("objects are merged") };
    into.extend(from);
}

fn records(rows: &[&str]) -> Vec<UsageRecord> {
    let row = |(index, row): (usize, &&str)| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let mut value = json!({"id": format!("r-{index}"), "account": words[0], "service": "s", "usage_type": "m",
            "quantity": words[1], "start": words[2]});
        if let Some(end) = words.get(3) {
            value["end"] = json!(end);
        }
        serde_json::from_value(value).unwrap()
    };
    rows.iter().enumerate().map(row).collect()
}

#[test]
fn zero_usage_pays_the_first_flat_part_where_the_price_says_so() {
    let stairs = json!({"model": "stairstep", "tiers": [{"up_to": "10", "flat": "5"}, {"flat": "9"}]});
    let mut shop = Shop::new(json!({}), stairs);
    shop.check(&["a 0 2026-09-01"], &[]);
    shop.catalogue["prices"][0]["flat_when_zero"] = json!(true);
    shop.check(&["a 0 2026-09-01"], &["usage root m 1 0 0 5"]);
    shop.check(&["a 0 2026-09-01", "b 11 2026-09-01"], &["usage b m 2 11 0 9"]);
    shop.check(&[], &[]);
    // A base price that includes four units.
    shop.catalogue["prices"][0]["free_units"] = json!("4");
    shop.check(&["a 3 2026-09-01"], &["usage a m free 3 0 0", "usage a m 1 0 0 5"]);
    shop.catalogue["prices"][0]["free_units"] = json!("0");
    shop.contract = Some(json!({"kind": "Contract", "root": "root", "effective": "2026-01",
        "subscriptions": [{"id": "s", "account": "b", "sku": "m", "from": "2026-09-30"}]}));
    shop.check(&[], &["usage b m 1 0 0 5"]);
    shop.check(&["a 0 2026-09-01"], &["usage b m 1 0 0 5"]);
    shop.check(&["b 11 2026-09-01"], &["usage b m 2 11 0 9"]);
    shop.cycle = "2026-08";
    shop.check(&[], &[]);
}

#[test]
fn minima_and_maxima_bound_a_pools_charge() {
    let mut shop = Shop::new(json!({}), json!({"model": "per_unit", "rate": "1", "minimum": "9", "maximum": "30"}));
    // 3 short, 2:1 as the quantities are; then 10 beyond, 3:1 as the amounts are.
    let short = ["usage a m 1 4 1 4", "usage a m minimum - - 2", "usage b m 1 2 1 2", "usage b m minimum - - 1"];
    shop.check(&["a 4 2026-09-01", "b 2 2026-09-01"], &short);
    let beyond =
        ["usage a m 1 30 1 30", "usage a m maximum - - -7.5", "usage b m 1 10 1 10", "usage b m maximum - - -2.5"];
    shop.check(&["a 30 2026-09-01", "b 10 2026-09-01"], &beyond);
    shop.check(&["a 12 2026-09-01"], &["usage a m 1 12 1 12"]);
    // Wholly free usage is usage: the minimum is due, by what was brought.
    shop.catalogue["prices"][0]["free_units"] = json!("50");
    shop.check(&["a 12 2026-09-01"], &["usage a m free 12 0 0", "usage a m minimum - - 9"]);
    shop.check(&["a 0 2026-09-01"], &[]);
}

#[test]
fn each_record_may_cost_something() {
    let shop =
        Shop::new(json!({"aggregation": "count"}), json!({"model": "per_unit", "rate": "0", "per_record": "0.25"}));
    let lines = [
        "usage a m 1 2 0 0",
        "usage a m per_record - 0.25 0.5",
        "usage b m 1 1 0 0",
        "usage b m per_record - 0.25 0.25",
    ];
    shop.check(&["a 7 2026-09-01", "a 9 2026-09-01", "b 0 2026-09-01"], &lines);
}

#[test]
fn percentiles_are_of_the_sum() {
    // 720 hours: 36 are dropped. a has 5 in each of the first 36 hours and 3 in one more, b 2 in the same hours.
    let shop = Shop::new(
        json!({"aggregation": "percentile_95", "bucket": "hour"}),
        json!({"model": "per_unit", "rate": "10"}),
    );
    let mut rows: Vec<String> = (0..36)
        .flat_map(|hour| ["a 5", "b 2"].map(|who| format!("{who} 2026-09-0{}T{:02}:00:00Z", 1 + hour / 24, hour % 24)))
        .collect();
    let check = |rows: &[String], expected: &[&str]| {
        shop.check(&rows.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    };
    check(&rows, &[]);
    // The 37th hour: 3 + 1 is left; alone they are 3 and 1.
    rows.push("a 3 2026-09-03T00:00:00Z".to_owned());
    rows.push("b 1 2026-09-03T00:59:00Z".to_owned());
    check(&rows, &["usage a m 1 3 10 30", "usage b m 1 1 10 10"]);
    // Alone neither has a 37th hour, together they do: divided by what they used, 180 and 72 + 1.
    let mut apart: Vec<String> = rows[..72].to_vec();
    apart.push("b 4 2026-09-04T00:00:00Z".to_owned());
    let apart: Vec<String> = apart.into_iter().filter(|row| row != "b 2 2026-09-01T00:00:00Z").collect();
    // b: 35 * 2 + 4 = 74 of 254; 4 * 180/254 = 2.834645669291, 4 * 74/254 = 1.165354330709.
    check(&apart, &["usage a m 1 2.834645669291 10 28.34645669291", "usage b m 1 1.165354330709 10 11.65354330709"]);
}

#[test]
fn levels_are_weighed_carried_and_never_below_zero() {
    let level = |level: Value| {
        Shop::new(json!({"aggregation": "level", "level": level}), json!({"model": "per_unit", "rate": "30"}))
    };
    // 12 from the 11th on, 6 from the 21st: (12 * 10 + 6 * 10) / 30 = 6.
    let rows = ["a 6 2026-09-21", "a 12 2026-09-11"];
    level(json!({})).check(&rows, &["usage a m 1 6 30 180"]);
    // As changes: 12 * 20/30 + 6 * 10/30 = 10.
    level(json!({"records": "change"})).check(&rows, &["usage a m 1 10 30 300"]);
    // Half a day from noon on is a whole day by day: 30 * 0.5/30, or 30 * 1/30.
    level(json!({})).check(&["a 30 2026-09-30T12:00:00Z"], &["usage a m 1 0.5 30 15"]);
    level(json!({"weigh": "day"})).check(&["a 30 2026-09-30T12:00:00Z"], &["usage a m 1 1 30 30"]);
    // The same instant: the greater id (r-1 after r-0).
    level(json!({})).check(&["a 5 2026-09-01", "a 2 2026-09-01"], &["usage a m 1 2 30 60"]);
    // Carried: 4 from August on; 4 + 2 * 15/30.
    let carried = ["a 4 2026-08-11", "a 2 2026-09-16"];
    level(json!({"records": "change", "carry": true})).check(&carried, &["usage a m 1 5 30 150"]);
    level(json!({"carry": true})).check(&carried[..1], &["usage a m 1 4 30 120"]);
    level(json!({"records": "change"})).check(&carried, &["usage a m 1 1 30 30"]);
    // Below zero between two changes, whatever came first.
    let below = records(&["a 5 2026-09-20", "a -2 2026-09-10", "b 3 2026-09-01"]);
    let (bodies, _) = level(json!({"records": "change"})).run(&below);
    let unpriced: Vec<_> = bodies[0].unpriced.iter().map(|own| (own.series.account.to_string(), own.reason)).collect();
    assert_eq!(
        (unpriced, bodies[0].total.to_string()),
        (vec![("a".to_owned(), UnpricedReason::BelowZero)], "90".to_owned())
    );
    assert_eq!(level(json!({})).run(&records(&["a -2 2026-09-10"])).1, [Reason::NegativeQuantity]);
}

#[test]
fn what_cannot_be_taken_back_is_not_corrected() {
    for aggregation in ["maximum", "latest", "level"] {
        let shop = Shop::new(json!({"aggregation": aggregation}), json!({"model": "per_unit", "rate": "1"}));
        let mut rows = records(&["a 5 2026-09-20", "a -5 2026-09-20"]);
        rows[1].corrects = Some("r-0".to_owned());
        assert_eq!(shop.run(&rows).1, [Reason::InvalidValue], "{aggregation}");
    }
}

/// Prices that have a bit of everything.
fn prices() -> impl Strategy<Value = Value> {
    let model = prop::sample::select(vec!["graduated", "volume", "stairstep"]);
    let extras =
        (0u32..3, 0u32..20, 0u32..60, any::<bool>(), 0u32..5, prop::sample::select(vec!["cycle", "day", "hour"]));
    (model, extras).prop_map(|(model, (per_record, minimum, more, flat_when_zero, free, period))| {
        let tiers = match model {
            "stairstep" => json!([{"up_to": "7", "flat": "3"}, {"up_to": "30", "flat": "8.5"}, {"flat": "20"}]),
            _ => json!([{"up_to": "7", "rate": "1.1", "flat": "3", "block": "2.5"}, {"up_to": "30", "rate": "0.7", "cap": "12"},
                {"rate": "0.3"}]),
        };
        json!({"model": model, "tiers": tiers, "per_record": per_record.to_string(), "minimum": minimum.to_string(),
            "maximum": (minimum + more).to_string(), "flat_when_zero": flat_when_zero, "free_units": free.to_string(),
            "pool": {"split_by": ["payer"], "period": period}})
    })
}

fn meters() -> impl Strategy<Value = Value> {
    let kinds = vec![
        json!({}),
        json!({"aggregation": "count"}),
        json!({"aggregation": "maximum", "bucket": "hour"}),
        json!({"aggregation": "latest"}),
        json!({"aggregation": "unique", "of": "quantity"}),
        json!({"aggregation": "level", "level": {"carry": true}}),
        json!({"aggregation": "level", "level": {"records": "change", "weigh": "day"}}),
        json!({"aggregation": "percentile_95", "bucket": "five_minutes"}),
    ];
    prop::sample::select(kinds)
}

fn usage() -> impl Strategy<Value = Vec<String>> {
    let row = (prop::sample::select(vec!["a", "b", "root"]), 0u32..40, 1u32..5, 0u32..24, 0u32..60);
    let shown =
        |(who, quantity, day, hour, minute)| format!("{who} {quantity} 2026-09-{day:02}T{hour:02}:{minute:02}:00Z");
    prop::collection::vec(row.prop_map(shown), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the order of the rows, the bill is the same to the byte; its parts sum to the whole (the fold and the
    /// codec assert that), and no account's share of a pool is below zero.
    #[test]
    fn order_does_not_matter(price in prices(), rows in usage(), turn in 0usize..12) {
        let shop = Shop::new(json!({"bucket": "hour"}), price);
        let mut rows = records(&rows.iter().map(String::as_str).collect::<Vec<_>>());
        let first = shop.run(&rows).0;
        let middle = turn % rows.len();
        rows.rotate_left(middle);
        rows.reverse();
        let second = shop.run(&rows).0;
        prop_assert_eq!(first.iter().map(encode).collect::<Vec<_>>(), second.iter().map(encode).collect::<Vec<_>>());
        for body in &first {
            for sums in body.subtotals().accounts.values() {
                prop_assert!(sums.net.0 >= 0, "{:?}", sums);
            }
        }
    }

    /// The same for every aggregation.
    #[test]
    fn nothing_kept_depends_on_the_order(meter in meters(), rows in usage(), turn in 0usize..12) {
        let shop = Shop::new(meter, json!({"model": "per_unit", "rate": "0.37"}));
        let mut rows = records(&rows.iter().map(String::as_str).collect::<Vec<_>>());
        let first = shop.run(&rows).0;
        let middle = turn % rows.len();
        rows.rotate_left(middle);
        rows.reverse();
        let second = shop.run(&rows).0;
        prop_assert_eq!(first.iter().map(encode).collect::<Vec<_>>(), second.iter().map(encode).collect::<Vec<_>>());
    }

    /// One more record never lowers what a graduated price charges for a sum.
    #[test]
    fn more_usage_never_costs_less(price in prices(), rows in usage()) {
        let mut price = price;
        if price["model"] == "graduated" {
            price["maximum"] = json!("100000");
            let shop = Shop::new(json!({"bucket": "hour"}), price);
            let rows = records(&rows.iter().map(String::as_str).collect::<Vec<_>>());
            let total = |rows: &[UsageRecord]| shop.run(rows).0.iter().map(|body| body.total.0).sum::<i128>();
            prop_assert!(total(&rows[..rows.len() - 1]) <= total(&rows));
        }
    }
}
