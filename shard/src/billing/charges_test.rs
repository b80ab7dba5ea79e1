//! Charge models, fees and aggregations through the whole way from rows to bills: what text tables cannot say well, and
//! what must hold for any of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::bill::{BillBody, UnpricedReason};
use super::case::show;
use super::codec::{decode, encode};
use super::explain::explain;
use super::simulate::{SimulateError, Simulated, Simulation, simulate};
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

    fn simulated(&self, rows: &[UsageRecord], billed: &[BillBody], interim: bool) -> Result<Simulated, SimulateError> {
        let hierarchy = json!({"kind": "Hierarchy", "root": "root", "catalogue": "c",
            "accounts": [{"id": "a"}, {"id": "b"}], "cycles": {"first": "2026-01"}});
        let catalogue = serde_json::from_value(self.catalogue.clone()).unwrap();
        let contract = self.contract.clone().map(|contract| serde_json::from_value(contract).unwrap());
        simulate(&Simulation {
            catalogue: &catalogue,
            contract: contract.as_ref(),
            hierarchy: &serde_json::from_value(hierarchy).unwrap(),
            records: rows,
            cycle: self.cycle.parse().unwrap(),
            billed,
            interim,
        })
    }

    fn run(&self, rows: &[UsageRecord]) -> (Vec<BillBody>, Vec<Reason>) {
        let simulated = self.simulated(rows, &[], false);
        let simulated = simulated.unwrap_or_else(|error| panic!("{error:?}"));
        for body in &simulated.bodies {
            assert_eq!(decode(&encode(body)).unwrap(), *body);
            body.lines.iter().for_each(|line| drop(explain(body, line.id).unwrap()));
        }
        (simulated.bodies, simulated.refused.into_iter().map(|(_, refusal)| refusal.reason).collect())
    }

    /// Lines as `kind account sku tier quantity rate amount`; rows as `account quantity start [amount]`.
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
        if let Some(amount) = words.get(3) {
            value["amount"] = json!(amount);
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
fn a_record_of_nothing_is_a_record() {
    fn check(rule: Value, payable: &str) {
        let price = json!({"model": "percentage", "percent": "10", "records": rule});
        let shop = Shop::new(json!({"keep_records": true}), price);
        let (bodies, _) = shop.run(&records(&["a 0 2026-09-01", "b 60 2026-09-02"]));
        assert_eq!(bodies[0].payable.to_string(), payable, "{rule}");
    }
    // The least of a record, and 10% of 60.
    check(json!({"minimum": "2"}), "8");
    // The first record is free, which is that of nothing.
    check(json!({"free": 1}), "6");
}

#[test]
fn an_interim_bill_holds_a_maximum_and_waits_with_a_minimum() {
    let shop = Shop::new(json!({}), json!({"model": "per_unit", "rate": "1", "minimum": "9", "maximum": "30"}));
    let total = |usage: &str, interim: bool| {
        let simulated = shop.simulated(&records(&[usage]), &[], interim).unwrap();
        simulated.bodies[0].payable.to_string()
    };
    assert_eq!((total("a 4 2026-09-01", true), total("a 4 2026-09-01", false)), ("4".into(), "9".into()));
    assert_eq!((total("a 40 2026-09-01", true), total("a 40 2026-09-01", false)), ("30".into(), "30".into()));
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
fn limits_follow_the_subscriptions_of_a_pool() {
    let price = json!({"model": "per_unit", "rate": "1", "minimum": "9", "maximum": "30", "prorate_limits": "days"});
    let mut shop = Shop::new(json!({}), price);
    // Nobody subscribes: in full.
    shop.check(&["a 4 2026-09-01"], &["usage a m 1 4 1 4", "usage a m minimum - - 5"]);
    let subscribed = |subscriptions: Value| {
        Some(json!({"kind": "Contract", "root": "root", "effective": "2026-01", "subscriptions": subscriptions}))
    };
    // Ten days of thirty: at least 3, at most 10.
    shop.contract =
        subscribed(json!([{"id": "s", "account": "b", "sku": "m", "from": "2026-09-06", "to": "2026-09-16"}]));
    shop.check(&[], &["usage b m minimum - - 3"]);
    shop.check(&["a 4 2026-09-01"], &["usage a m 1 4 1 4"]);
    shop.check(&["a 14 2026-09-01"], &["usage a m 1 14 1 14", "usage a m maximum - - -4"]);
    // The pool is of both accounts: days 6 to 15 and 11 to 20 are fifteen.
    shop.contract = subscribed(json!([
        {"id": "s", "account": "b", "sku": "m", "from": "2026-09-06", "to": "2026-09-16"},
        {"id": "t", "account": "a", "sku": "m", "from": "2026-09-11", "to": "2026-09-21"},
    ]));
    shop.check(&[], &["usage a m minimum - - 4.5"]);
    shop.check(&["b 20 2026-09-30"], &["usage b m 1 20 1 20", "usage b m maximum - - -5"]);
    // Within one day none is whole: neither holds.
    shop.contract = subscribed(json!([{"id": "s", "account": "a", "sku": "m", "from": "2026-09-06T01:00:00Z",
        "to": "2026-09-06T13:00:00Z"}]));
    shop.check(&["a 40 2026-09-30"], &["usage a m 1 40 1 40"]);
    // Twelve hours of 720: 0.15.
    shop.catalogue["prices"][0]["prorate_limits"] = json!("time");
    shop.check(&[], &["usage a m minimum - - 0.15"]);
    shop.cycle = "2026-10";
    shop.check(&["a 4 2026-10-01"], &["usage a m 1 4 1 4", "usage a m minimum - - 5"]);
}

#[test]
fn a_pool_of_a_year_goes_on_and_is_billed_in_parts_like_at_once() {
    let price = json!({"model": "graduated", "pool": {"period": "contract_year"}, "free_units": "5", "minimum": "40",
        "maximum": "60", "tiers": [{"up_to": "10", "rate": "2"}, {"rate": "1"}]});
    let mut shop = Shop::new(json!({}), price);
    // Without a contract the hierarchy's first cycle, 2026-01, begins the years.
    let rows = records(&["a 8 2026-01-05", "b 4 2026-01-05", "a 6 2026-11-01", "b 60 2026-12-01", "a 50 2026-12-02"]);
    let bill = |shop: &Shop, count: usize, billed: &[BillBody], interim: bool| {
        shop.simulated(&rows[..count], billed, interim).unwrap_or_else(|error| panic!("{error:?}")).bodies
    };
    let lines = |bodies: &[BillBody]| -> Vec<String> {
        bodies.iter().flat_map(|body| body.lines.iter().map(|line| show(body, line))).collect()
    };
    shop.cycle = "2026-01";
    let mut billed = bill(&shop, 2, &[], false);
    // 12 less 5 free; 3.333333333333 of these are a's.
    assert_eq!(billed[0].total.to_string(), "14");
    let carried = |bodies: &[BillBody]| -> Vec<String> {
        let balances = bodies.iter().flat_map(|body| &body.balances);
        balances.map(|own| format!("{} {} {}", own.name, own.before, own.change)).collect()
    };
    assert_eq!(
        carried(&billed),
        ["pool/p/2026-01/charge/root 0 14", "pool/p/2026-01/free/root 0 5", "pool/p/2026-01/units/root 0 7"]
    );
    // An interim bill of November, then the rest: 3 at 2.00 and 3 at 1.00 in all.
    shop.cycle = "2026-11";
    billed.extend(bill(&shop, 3, &billed, true));
    assert_eq!(lines(&billed[1..]), ["usage a m 1 3 2 6", "usage a m 2 3 1 3"]);
    assert_eq!(bill(&shop, 3, &billed, false)[0].lines, []);
    assert_eq!(carried(&billed[1..]), ["pool/p/2026-01/charge/root 14 9", "pool/p/2026-01/units/root 7 6"]);
    // 23 so far; the year ends with December, which may cost 37 of 60.
    shop.cycle = "2026-12";
    let december = bill(&shop, 4, &billed, false);
    assert_eq!(lines(&december), ["usage b m 2 60 1 60", "usage b m maximum - - -23"]);
    // What came late adds units, and nothing beyond the maximum.
    let late = bill(&shop, 5, &[&billed[..], &december[..]].concat(), false);
    assert_eq!(late[0].total.to_string(), "0");
    // Nothing at all in December: 17 are missing of 40; an interim bill does not ask for them.
    let none = shop.simulated(&rows[..3], &billed, false).unwrap().bodies;
    assert_eq!(lines(&none), ["usage root m minimum - - 17"]);
    assert_eq!(shop.simulated(&rows[..3], &billed, true).unwrap().bodies, []);
    // The next year begins at nothing; a contract that ends settles its year early.
    shop.cycle = "2027-01";
    let next = records(&["a 7 2027-01-05"]);
    let bodies = shop.simulated(&next, &billed, false).unwrap().bodies;
    assert_eq!(lines(&bodies), ["usage a m free 5 0 0", "usage a m 1 2 2 4"]);
    shop.contract = Some(json!({"kind": "Contract", "root": "root", "effective": "2027-01", "until": "2027-02"}));
    let bodies = shop.simulated(&next, &billed, false).unwrap().bodies;
    assert_eq!(lines(&bodies), ["usage a m free 5 0 0", "usage a m 1 2 2 4", "usage a m minimum - - 36"]);
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
fn named_hours_price_what_was_used_in_them() {
    let mut shop = Shop::new(json!({"bucket": "hour"}), json!({"model": "per_unit", "rate": "2"}));
    shop.catalogue["skus"][0]["match"]["hours"] = json!({"at": [{"from": 8, "to": 20}]});
    let lines = |bodies: &[BillBody]| -> Vec<String> {
        bodies.iter().flat_map(|body| body.lines.iter().map(|line| show(body, line))).collect()
    };
    let rows = ["a 3 2026-09-01T08:00:00Z", "a 4 2026-09-01T20:00:00Z", "a 5 2026-09-02T19:59:59Z"];
    let (bodies, _) = shop.run(&records(&rows));
    assert_eq!(lines(&bodies), ["usage a m 1 8 2 16"]);
    assert_eq!(bodies[0].items[0].counted.records, 2);
    let unpriced = &bodies[0].unpriced[0];
    assert_eq!((unpriced.counted.to_string().as_str(), unpriced.reason), ("4", UnpricedReason::NoSku));
    // A correction that starts in other hours takes off what it corrects.
    let mut rows = records(&["a 5 2026-09-01T08:00:00Z", "a -2 2026-09-01T20:00:00Z"]);
    rows[1].corrects = Some("r-0".to_owned());
    let (bodies, _) = shop.run(&rows);
    assert_eq!((lines(&bodies), bodies[0].unpriced.len()), (vec!["usage a m 1 3 2 6".to_owned()], 0));
    // A fee for nothing is due at the SKU that is subscribed to.
    shop.catalogue["prices"][0]["minimum"] = json!("9");
    shop.catalogue["skus"].as_array_mut().unwrap().push(json!({"id": "rest", "unit": "units", "rate": "1",
        "match": {"hours": {"except": [{"from": 8, "to": 20}]}}}));
    shop.contract = Some(json!({"kind": "Contract", "root": "root", "effective": "2026-01",
        "subscriptions": [{"id": "s", "account": "a", "sku": "m", "from": "2026-09-30"}]}));
    shop.check(&["a 4 2026-09-01T20:00:00Z"], &["usage a m minimum - - 9", "usage a rest 1 4 1 4"]);
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
fn percentages_look_at_records_in_order_of_time() {
    let check = |price: Value, rows: &[&str], expected: &[&str]| {
        let mut own = json!({"model": "percentage", "percent": "2.9", "per_record": "0.30"});
        merge(&mut own, price);
        let shop = Shop::new(json!({"keep_records": true}), own);
        shop.check(rows, expected);
    };
    let rows = ["a 200 2026-09-02", "a 100 2026-09-01", "a 10 2026-09-03"];
    // 3.20 + 6.10 + 0.59.
    check(json!({"records": {}}), &rows, &["usage a m 1 310 0.029 9.89"]);
    check(json!({}), &rows, &["usage a m 1 310 0.029 8.99", "usage a m per_record - 0.3 0.9"]);
    // The amount ends first: 50 of 200 are free, then nothing.
    check(
        json!({"records": {"free": 9, "free_amount": "150"}}),
        &rows,
        &["usage a m free 150 0 0", "usage a m 1 160 0.029 5.24"],
    );
    // The records end first.
    check(
        json!({"records": {"free": 1, "free_amount": "150"}}),
        &rows,
        &["usage a m free 100 0 0", "usage a m 1 210 0.029 6.69"],
    );
    check(json!({"records": {"minimum": "1", "maximum": "5"}}), &rows, &["usage a m 1 310 0.029 9.2"]);
    check(json!({"records": {"free": 3}}), &rows, &["usage a m free 310 0 0"]);
    check(
        json!({"maximum": "4", "records": {}}),
        &rows,
        &["usage a m 1 310 0.029 9.89", "usage a m maximum - - -5.89"],
    );
    // Of one instant by id: r-0 is free, r-1 is not; the pool is b's and a's together.
    let same = ["b 10 2026-09-01", "a 20 2026-09-01"];
    check(json!({"records": {"free": 1}}), &same, &["usage a m 1 20 0.029 0.88", "usage b m free 10 0 0"]);
    let amounts = Shop::new(json!({"of": "amount"}), json!({"model": "dynamic", "multiplier": "1.5"}));
    amounts.check(&["a 1 2026-09-01 4", "a 7 2026-09-02 6"], &["usage a m 1 10 1.5 15"]);
    assert_eq!(amounts.run(&records(&["a 1 2026-09-01"])).1, [Reason::InvalidValue]);
    let plain = Shop::new(
        json!({}),
        json!({"model": "graduated_percentage", "tiers": [{"up_to": "10", "percent": "3"}, {"percent": "0.5"}]}),
    );
    plain.check(&["a 30 2026-09-01"], &["usage a m 1 10 0.03 0.3", "usage a m 2 20 0.005 0.1"]);
    assert_eq!(plain.run(&records(&["a 1 2026-09-01 4"])).1, [Reason::InvalidValue]);
}

#[test]
fn charges_that_make_no_sense_are_refused() {
    fn check(meter: Value, price: Value, expected: &[&str]) {
        let shop = Shop::new(meter, price);
        let document: crate::pricing::document::CatalogueDocument = serde_json::from_value(shop.catalogue).unwrap();
        let found: Vec<String> = document.check().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
        }
    }
    let flat = || json!({"model": "per_unit", "rate": "1"});
    let with = |more: Value| {
        let mut price = flat();
        merge(&mut price, more);
        price
    };
    check(
        json!({}),
        with(json!({"minimum": "5", "maximum": "4"})),
        &["prices[0].maximum: price p has maximum 4 below"],
    );
    check(json!({}), with(json!({"per_record": "1000001"})), &["prices[0].per_record: per_record 1000001 is above"]);
    check(json!({}), with(json!({"flat_when_zero": true})), &["prices[0].flat_when_zero: price p has no flat part"]);
    check(json!({}), with(json!({"percent": "3"})), &["prices[0].percent: price p is per_unit and has percent"]);
    check(
        json!({}),
        with(json!({"pool": {"period": "day"}})),
        &["prices[0].pool.period: price p begins anew each day"],
    );
    check(
        json!({}),
        with(json!({"prorate_limits": "days", "pool": {"period": "cycle"}})),
        &["prices[0].prorate_limits: price p prorates its limits and has neither minimum nor maximum"],
    );
    let year = |own: Value| {
        let mut price = json!({"pool": {"period": "contract_year"}, "model": "graduated", "tiers": [{"rate": "1"}]});
        merge(&mut price, own);
        price
    };
    check(json!({}), year(json!({"free_units": "5", "minimum": "1", "maximum": "2"})), &[]);
    check(
        json!({}),
        year(json!({"pool": {"period": "contract_year", "split_by": ["region"]}})),
        &["prices[0].pool.period: price p lasts a contract year and splits its pool by region"],
    );
    check(
        json!({}),
        year(json!({"flat_when_zero": true, "tiers": [{"flat": "1"}]})),
        &["prices[0].pool.period: price p lasts a contract year and has flat_when_zero"],
    );
    check(
        json!({}),
        year(json!({"model": "volume", "tiers": [{"rate": "1", "flat": "1"}]})),
        &["prices[0].pool.period: price p is of volume over a contract year and has flat"],
    );
    check(
        json!({}),
        year(json!({"model": "stairstep", "tiers": [{"up_to": "5", "flat": "9"}, {"flat": "5"}]})),
        &["prices[0].pool.period: price p has stairs over a contract year that go down"],
    );
    check(
        json!({"aggregation": "maximum", "bucket": "hour"}),
        year(json!({})),
        &["prices[0].pool.period: price p begins anew each contract year, but meter m is one value a cycle"],
    );
    let stairs = json!({"model": "stairstep", "tiers": [{"flat": "1", "rate": "2"}]});
    check(json!({}), stairs, &["prices[0].tiers[0]: tier 1 of price p is a stair"]);
    let blocks = json!({"model": "volume", "tiers": [{"rate": "1", "block": "0"}]});
    check(json!({}), blocks, &["prices[0].tiers[0].block: tier 1 of price p has blocks of no unit"]);
    let reached = json!({"model": "volume", "reached_by": [{"meter": "n", "up_to": ["5", "5"]}],
        "tiers": [{"up_to": "3", "rate": "1"}, {"rate": "1"}]});
    check(
        json!({}),
        reached,
        &[
            "prices[0].tiers[0].up_to: tier 1 of price p ends at a quantity",
            "prices[0].reached_by[0].meter: price p is reached by meter 'n'",
            "prices[0].reached_by[0].up_to: 2 bounds for 2 tiers",
            "prices[0].reached_by[0].up_to[1]: tier 2 of price p ends at 5",
        ],
    );
    let looks = json!({"model": "percentage", "percent": "3", "records": {}});
    check(json!({}), looks, &["prices[0].records: price p looks at records, which meter m does not keep"]);
    check(
        json!({"aggregation": "unique"}),
        flat(),
        &["meters[0].of: meter m is of aggregation unique and does not say"],
    );
    check(
        json!({"aggregation": "latest", "bucket": "day"}),
        flat(),
        &["meters[0].bucket: meter m is of aggregation latest"],
    );
    check(
        json!({"aggregation": "percentile_95"}),
        flat(),
        &["meters[0].bucket: meter m is of aggregation percentile_95"],
    );
    check(json!({"bucket": "five_minutes"}), flat(), &["meters[0].bucket: meter m is of aggregation sum"]);
    check(
        json!({"aggregation": "count", "spread": "time"}),
        flat(),
        &["meters[0].spread: meter m spreads its records and is no sum"],
    );
    check(
        json!({"keep_records": true, "spread": "time"}),
        flat(),
        &["meters[0].spread: meter m spreads its records and is no sum, or keeps them whole"],
    );
    let mut each = flat();
    each["per_record"] = json!("0.30");
    check(
        json!({"spread": "time"}),
        each,
        &["prices[0].per_record: price p adds something for each record, and meter m"],
    );
    check(json!({"level": {"carry": true}}), flat(), &["meters[0].level: meter m is of aggregation sum and says"]);
    check(json!({"keep_records": true, "bucket": "day"}), flat(), &["meters[0].keep_records: meter m keeps records"]);
    check(json!({"of": "amount", "scale": 2}), flat(), &["meters[0].scale: meter m counts amounts"]);
    let mut peaks = flat();
    peaks["attribution"] = json!("sequence");
    check(json!({"aggregation": "maximum", "bucket": "day"}), peaks, &["prices[0].attribution: price p attributes by"]);
    let shop = Shop::new(json!({}), flat());
    let mut with_fees = shop.catalogue.clone();
    with_fees["fees"] = json!([{"id": "m", "amount": "1", "period": "once", "in": "advance"},
        {"id": "f", "amount": "1", "period": "month", "prorate": "time", "days": 30}]);
    let document: crate::pricing::document::CatalogueDocument = serde_json::from_value(with_fees).unwrap();
    let found: Vec<String> = document.check().iter().map(ToString::to_string).collect();
    let expected =
        ["fees[0].id: fee m has the id of a sku", "fees[0]: fee m is due once", "fees[1].days: fee f divides by 30"];
    assert!(found.len() == 3 && found.iter().zip(expected).all(|(own, start)| own.starts_with(start)), "{found:#?}");
}

#[test]
fn subscriptions_that_make_no_sense_are_refused() {
    fn check(subscription: Value, expected: &[&str]) {
        let mut shop = Shop::new(json!({}), json!({"model": "per_unit", "rate": "1"}));
        shop.catalogue["fees"] = json!([{"id": "fee", "amount": "1", "period": "month"}]);
        let catalogue = serde_json::from_value(shop.catalogue).unwrap();
        let catalogue = crate::pricing::catalogue::Catalogue::compile(&catalogue).unwrap();
        let mut own = json!({"id": "s", "from": "2026-09-10"});
        merge(&mut own, subscription);
        let document = json!({"kind": "Contract", "root": "root", "effective": "2026-09", "subscriptions": [own]});
        let document: crate::contract::document::ContractDocument = serde_json::from_value(document).unwrap();
        let found: Vec<String> = document.check(Some(&catalogue)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
        }
    }
    check(json!({"account": "a", "fee": "fee"}), &[]);
    check(json!({"payer": "a", "group": "g", "fee": "fee", "quantity": "2.5"}), &[]);
    check(json!({"fee": "fee"}), &["subscriptions[0]: subscription s does not say who"]);
    check(json!({"group": "g", "fee": "fee"}), &["subscriptions[0]: subscription s does not say who"]);
    check(json!({"account": "a"}), &["subscriptions[0]: subscription s does not say what"]);
    check(json!({"account": "a", "fee": "x"}), &["subscriptions[0].fee: subscription s takes fee 'x'"]);
    check(
        json!({"account": "a", "sku": "m"}),
        &["subscriptions[0].sku: subscription s takes sku m, whose price p has no"],
    );
    check(json!({"account": "a", "fee": "fee", "to": "2026-09-10"}), &["subscriptions[0].to: subscription s begins"]);
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
        json!({"keep_records": true}),
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

    /// A change to the very same ladder changes nothing; and whatever changes, the order of rows does not matter.
    #[test]
    fn a_change_of_price_goes_on_where_the_pool_was(
        model in prop::sample::select(vec!["per_unit", "graduated", "volume", "stairstep", "package"]),
        rows in prop::collection::vec((0usize..2, 1u32..60, 1u32..31), 1..10),
        day in 1u32..31, free in 0u32..30, flat in 0u32..9, rates in (0u32..5, 0u32..5),
    ) {
        let rows: Vec<String> = rows
            .iter()
            .map(|(who, units, day)| format!("{} {units} 2026-09-{day:02}T07:00:00Z", ["a", "b"][*who]))
            .collect();
        let rows = records(&rows.iter().map(String::as_str).collect::<Vec<_>>());
        let (one, other) = (rates.0.to_string(), rates.1.to_string());
        let tiers = match model {
            "stairstep" => json!([{"up_to": "40", "flat": one}, {"up_to": "90", "flat": other}, {"flat": "7"}]),
            _ => json!([{"up_to": "40", "rate": one, "flat": flat.to_string()},
                {"up_to": "90", "rate": other, "block": "7"}, {"rate": "1"}]),
        };
        let ladder = match model {
            "per_unit" | "package" => json!({"rate": one}),
            _ => json!({"tiers": tiers}),
        };
        let mut price = json!({"model": model, "free_units": free.to_string(), "pool": {"split_by": ["payer"]}});
        if model == "package" {
            price["package"] = json!({"size": "9"});
        }
        merge(&mut price, ladder.clone());
        let mut shop = Shop::new(json!({"bucket": "day"}), price);
        let total = |shop: &Shop, rows: &[UsageRecord]| shop.run(rows).0.iter().map(|body| body.total.0).sum::<i128>();
        let before = total(&shop, &rows);
        let mut change = json!({"from": format!("2026-09-{day:02}")});
        merge(&mut change, ladder);
        shop.catalogue["prices"][0]["changes"] = json!([change]);
        prop_assert_eq!(total(&shop, &rows), before);
        if model == "per_unit" || model == "package" {
            shop.catalogue["prices"][0]["changes"][0]["rate"] = json!("3");
        }
        let mut turned = rows.clone();
        turned.reverse();
        prop_assert_eq!(shop.run(&rows).0, shop.run(&turned).0);
    }

    /// A level that walks a ladder costs what the ladder costs hour by hour, on average.
    #[test]
    fn a_prorated_ladder_is_the_mean_of_its_hours(
        changes in prop::collection::vec((0usize..2, -3i128..9, 0usize..720), 1..12),
    ) {
        let mut levels = [[0i128; 720]; 2];
        let mut rows = Vec::new();
        // Each begins with what can be taken away.
        for (who, by, from) in [(0, 40, 0), (1, 36, 0)].into_iter().chain(changes) {
            rows.push(format!("{} {by} 2026-09-{:02}T{:02}:00:00Z", ["a", "b"][who], from / 24 + 1, from % 24));
            levels[who][from..].iter_mut().for_each(|level| *level += by);
        }
        let tiers = json!([{"up_to": "75", "rate": "5"}, {"up_to": "90", "rate": "3"}, {"rate": "1"}]);
        let price = json!({"model": "graduated", "prorate": "ladder", "tiers": tiers});
        let shop = Shop::new(json!({"aggregation": "level", "level": {"records": "change"}}), price);
        let (bodies, refused) = shop.run(&records(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
        prop_assert_eq!(refused, vec![]);
        let at = |hour: usize| levels[0][hour] + levels[1][hour];
        let cost = |level: i128| 5 * level.min(75) + 3 * (level - 75).clamp(0, 15) + (level - 90).max(0);
        let (units, cost): (i128, i128) = ((0..720).map(at).sum(), (0..720).map(|hour| cost(at(hour))).sum());
        let quantity: i128 = bodies[0].lines.iter().filter_map(|line| line.quantity).map(|own| own.0).sum();
        let one = 1_000_000_000_000;
        // Rounded once as a whole; each tier's part to a step, which its rate multiplies.
        prop_assert!((quantity * 720 - units * one).abs() <= 360, "{quantity} {units}");
        prop_assert!((bodies[0].total.0 * 720 - cost * one).abs() <= 720 * 10, "{} {cost}", bodies[0].total);
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
