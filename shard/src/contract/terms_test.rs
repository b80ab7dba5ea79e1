//! Contracts that are good, and the problems of those that are not.

use serde_json::{Value, json};

use super::*;
use crate::pricing::document::CatalogueDocument;
use crate::pricing::order::Stage;

fn catalogue() -> Catalogue {
    let document: CatalogueDocument = serde_json::from_value(json!({
        "kind": "Catalogue", "name": "public", "currency": "USD", "effective": "2024-09",
        "meters": [
            {"id": "storage", "service": "AmazonS3", "usage_type": "Storage", "attributes": ["class"]},
            {"id": "box", "service": "AmazonEC2", "usage_type": "Box", "region": "us-*"},
        ],
        "skus": [
            {"id": "storage", "match": {"service": "AmazonS3"}, "unit": "GB-Mo", "rate": "0.023"},
            {"id": "box", "match": {"service": "AmazonEC2"}, "unit": "Hrs", "rate": "0.096"},
        ],
    }))
    .unwrap();
    Catalogue::compile(&document).unwrap()
}

fn document(clauses: Value) -> ContractDocument {
    serde_json::from_value(json!({"kind": "Contract", "root": "acme", "effective": "2024-09", "clauses": clauses}))
        .unwrap()
}

fn check(clauses: Value, expected: &[&str]) {
    let found: Vec<String> = document(clauses).check(Some(&catalogue())).iter().map(Problem::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
    }
}

#[test]
fn limits_with_days_of_their_own_are_prorated_within_their_cycles() {
    fn limit(more: Value) -> Value {
        let mut clause = json!({"id": "l", "mechanism": "minimum", "amount": "10"});
        clause.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([clause])
    }
    check(limit(json!({"prorate": "days", "from": "2024-10-05"})), &[]);
    check(limit(json!({"prorate": "time", "to": "2024-10-05T06:00:00Z"})), &[]);
    // A later version goes on with what began before.
    check(limit(json!({"prorate": "days", "from": "2020-01-05"})), &[]);
    check(limit(json!({"from": "2024-10-05"})), &["clauses[0].prorate: clause l has days of its own and is not"]);
    check(limit(json!({"prorate": "days"})), &["clauses[0].prorate: clause l is prorated and has neither from nor to"]);
    let last = "clauses[0]: clause l would begin to hold at";
    check(limit(json!({"prorate": "days", "from": "2024-10-05", "to": "2024-10-05"})), &[last]);
    check(limit(json!({"prorate": "days", "from": "2024-10-05", "until": "2024-10"})), &[last]);
    check(limit(json!({"prorate": "days", "to": "2024-08-05"})), &[last]);
    let fee = json!([{"id": "f", "mechanism": "percent_fee", "percent": "3", "prorate": "days", "from": "2024-10-05"}]);
    check(fee, &["clauses[0].prorate: clause f prorates its minimum and has none"]);
}

#[test]
fn percentages_leave_a_bill_room() {
    let too_much = "clauses: the percentages of fees, lines and taxes may come to more than 15 times what was used";
    let tax = |id: usize, more: Value| {
        let mut rate = json!({"name": "t", "percent": "100"});
        rate["scope"] = more;
        json!({"id": format!("t{id}"), "mechanism": "tax", "rates": [rate]})
    };
    let fee = |id: usize| json!({"id": format!("f{id}"), "mechanism": "percent_fee", "percent": "100"});
    let taxes = |count: usize| (0..count).map(|id| tax(id, json!({}))).collect::<Vec<Value>>();
    // 1 + 14, then 1 + 15.
    check(json!(taxes(14)), &[]);
    check(json!(taxes(15)), &[too_much]);
    check(json!(taxes(200)), &[too_much]);
    // (1 + 2) x (1 + 4), then (1 + 3) x (1 + 3).
    check(json!([vec![fee(0), fee(1)], taxes(4)].concat()), &[]);
    check(json!([vec![fee(0), fee(1), fee(2)], taxes(3)].concat()), &[too_much]);
    // Each payer has one of them.
    check(json!((0..500).map(|id| tax(id, json!({"payer": format!("p{id}")}))).collect::<Vec<Value>>()), &[]);
    // Of one clause the first that matches counts.
    let rates: Vec<Value> = (0..50).map(|id| json!({"name": format!("r{id}"), "percent": "100"})).collect();
    check(json!([{"id": "t", "mechanism": "tax", "rates": rates}]), &[]);
    // One after the other.
    let mut first = taxes(14);
    first.iter_mut().for_each(|own| own["until"] = json!("2025-09"));
    let mut then: Vec<Value> = (20..34).map(|id| tax(id, json!({}))).collect();
    then.iter_mut().for_each(|own| own["effective"] = json!("2025-09"));
    check(json!([first, then].concat()), &[]);
}

#[test]
fn years_begin_where_the_contract_says() {
    let mut own = document(json!([{"id": "pool/x", "mechanism": "fee", "amount": "1"}]));
    own.starts = Some("2030-01".parse().unwrap());
    let found: Vec<String> = own.check(Some(&catalogue())).iter().map(Problem::to_string).collect();
    assert!(found.len() == 2 && found[0].starts_with("starts: the contract counts years from 2030-01"), "{found:?}");
    assert!(found[1].starts_with("clauses[0].id: clause pool/x has an id that begins with pool/"), "{found:?}");
    let mut own = document(json!([]));
    let starts = |own: &ContractDocument| Contract::compile(own, None).unwrap().starts.unwrap();
    assert_eq!(starts(&own), own.effective);
    own.starts = Some("2023-05".parse().unwrap());
    assert_eq!(starts(&own).to_string(), "2023-05");
}

#[test]
fn a_good_contract_compiles_and_reads_back() {
    let good = document(json!([
        {"id": "s3-flat", "mechanism": "private_rate", "scope": {"sku": "storage"}, "rate": "0.02"},
        {"id": "us", "mechanism": "percent", "kind": "attribute", "scope": {"region": ["us-east-1", "us-west-*"]},
         "percent": "5", "until": "2025-01"},
        {"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": "10", "text": "Enterprise discount",
         "exclude": [{"service": "AmazonEC2"}], "trigger": {"scope": {"service": "AmazonEC2"}, "spend": "1000"}},
    ]));
    let contract = Contract::compile(&good, Some(&catalogue())).unwrap();
    let stages: Vec<Stage> = contract.clauses.iter().map(|clause| clause.stages()[0]).collect();
    assert_eq!(stages, [Stage::PrivateRates, Stage::AttributePercent, Stage::CrossServicePercent]);
    assert_eq!(&*contract.clauses[2].text, "Enterprise discount");
    let in_force = |cycle: &str| contract.clauses_of(Stage::AttributePercent, cycle.parse().unwrap()).len();
    assert_eq!((in_force("2024-08"), in_force("2024-12"), in_force("2025-01")), (0, 1, 0));
    assert_eq!(serde_json::from_slice::<ContractDocument>(&good.canonical()).unwrap(), good);
}

#[test]
fn what_can_never_match_is_refused() {
    let rate = |scope: Value| json!([{"id": "c", "mechanism": "private_rate", "scope": scope, "rate": "1"}]);
    let never = "clauses[0].scope: clause c can never match: catalogue public has no sku and meter in this scope";
    check(rate(json!({"service": "AmazonSQS"})), &[never]);
    check(rate(json!({"service": "AmazonEC2", "region": "eu-*"})), &[never]);
    check(rate(json!({"service": "AmazonEC2", "attributes": {"class": "*"}})), &[never]);
    check(rate(json!({"service": "AmazonS3", "usage_type": "Box"})), &[never]);
    check(rate(json!({"service": "Amazon*", "region": "us-east-1"})), &[]);
    check(rate(json!({"account": "nobody-yet"})), &[]);
}

#[test]
fn percentages_and_triggers_are_checked() {
    let percent = |percent: &str, kind: &str, scope: Value| json!([{"id": "c", "mechanism": "percent", "kind": kind, "percent": percent, "scope": scope}]);
    check(
        percent("100.1", "cross_service", json!({})),
        &["clauses[0].percent: percent 100.1 is above 100; write 0 to 100"],
    );
    check(percent("-1", "cross_service", json!({})), &["clauses[0].percent: percent -1 is below zero"]);
    check(percent("5%", "cross_service", json!({})), &["clauses[0].percent: '5%' is not a decimal number"]);
    check(percent("5", "service", json!({})), &["clauses[0].scope: clause c is of kind service and names none"]);
    check(
        percent("5", "attribute", json!({"service": "AmazonS3"})),
        &["clauses[0].scope: clause c is of kind attribute and names none; name sku"],
    );
    let trigger = |trigger: Value| json!([{"id": "c", "mechanism": "percent", "kind": "cross_service", "percent": "5", "trigger": trigger}]);
    check(
        trigger(json!({"scope": {}, "quantity": "5"})),
        &["clauses[0].trigger.quantity: clause c adds up different units here: GB-Mo (storage), Hrs (box); narrow"],
    );
    check(
        trigger(json!({"scope": {}})),
        &["clauses[0].trigger: the trigger of clause c has neither spend nor quantity; state one"],
    );
}

#[test]
fn spans_ids_stages_and_rates_are_checked() {
    let clause = json!({"id": "c", "mechanism": "private_rate", "scope": {}, "rate": "1000000000", "may_raise": true,
        "effective": "2025-01", "until": "2025-01"});
    check(
        json!([clause, {"id": "c", "mechanism": "private_rate", "scope": {}, "rate": "2"}]),
        &[
            "clauses[0].until: clause c is effective from 2025-01 and ends before 2025-01: it governs no cycle",
            "clauses[0].rate: clause c may raise sku storage to 1000000000: a full counter of meter storage would",
            "clauses[1].id: clause c is declared twice, first at clauses[0]; give",
        ],
    );
    let mut off = document(json!([{"id": "c", "mechanism": "private_rate", "scope": {}, "rate": "1"}]));
    off.stages = Some(vec![Stage::Usage, Stage::Rounding]);
    let found = off.check(None);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with("clauses[0]: clause c belongs to stage private_rates, which the"));
    off.stages = None;
    let mut catalogue = catalogue();
    catalogue.stages = vec![Stage::Usage, Stage::Rounding];
    let found = off.check(Some(&catalogue));
    assert!(found[0].to_string().contains("which the catalogue's stages leave out"), "{found:?}");
    let unknown = json!({"id": "c", "mechanism": "barter"});
    assert!(serde_json::from_value::<ClauseDocument>(unknown).is_err());
    let unknown = json!({"id": "c", "mechanism": "private_rate", "scope": {}, "rate": "1", "cap": "2"});
    assert!(serde_json::from_value::<ClauseDocument>(unknown).is_err());
}

#[test]
fn what_no_clause_can_mean_is_refused() {
    // Clauses' own fields, beside an id.
    fn one(mut clause: Value, expected: &[&str]) {
        clause["id"] = json!("c");
        check(json!([clause]), expected);
    }
    let tiers = json!([{"up_to": "10", "rate": "1"}, {"rate": "2"}]);
    let rate = |tiers: &Value, scope: Value| json!({"mechanism": "private_rate", "scope": scope, "tiers": tiers});
    one(rate(&tiers, json!({"sku": "box"})), &[]);
    one(rate(&tiers, json!({})), &["clauses[0].tiers: clause c adds up different units here: GB-Mo (storage), Hrs"]);
    let gap = json!([{"up_to": "10", "rate": "1"}, {"up_to": "10", "rate": "1"}, {"up_to": "20", "rate": "1"}]);
    one(
        rate(&gap, json!({"sku": "box"})),
        &[
            "clauses[0].tiers[1].up_to: tier 2 of clause c ends at 10, not above 10 where it begins; sort the tiers",
            "clauses[0].tiers[2].up_to: the last tier of clause c ends: what lies beyond would have none; drop up_to",
        ],
    );
    let mut both = rate(&tiers, json!({"sku": "box"}));
    both["rate"] = json!("1");
    one(both, &["clauses[0]: clause c has both rate and tiers; state one"]);
    one(
        json!({"mechanism": "private_rate", "scope": {}, "rate": "1", "per": "root"}),
        &["clauses[0].per: clause c has one rate, which has no per; drop per, or list tiers"],
    );
    let bands = json!([{"percent": "1"}, {"percent": "101"}]);
    one(
        json!({"mechanism": "volume", "bands": bands}),
        &[
            "clauses[0].bands[1].percent: percent 101 is above 100",
            "clauses[0].bands[0].up_to: band 1 of clause c has no up_to, but more follow",
        ],
    );
    one(json!({"mechanism": "volume", "bands": []}), &["clauses[0].bands: clause c has 0 bands"]);
    one(
        json!({"mechanism": "waiver", "source": {"sku": "box"}, "target": {"usage_type": "Box", "region": "us-1"}}),
        &["clauses[0].target: clause c waives itself: the same usage can be its source and its target; narrow"],
    );
    one(
        json!({"mechanism": "waiver", "source": {"sku": "box"}, "target": {"sku": "storage"}, "source_units": "0"}),
        &["clauses[0].source_units: clause c has source_units of zero; write more than zero"],
    );
    one(
        json!({"mechanism": "credit", "amount": "5", "effective": "2025-03", "until": "2025-01"}),
        &["clauses[0].until: clause c is effective from 2025-03 and ends before 2025-01: it governs no cycle"],
    );
    one(
        json!({"mechanism": "credit", "amount": "-5", "sharing": false}),
        &[
            "clauses[0].sharing: clause c is not shared and has no account: nobody could use it; name its account",
            "clauses[0].amount: amount -5 is below zero",
        ],
    );
    one(
        json!({"mechanism": "credit", "amount": "1000000000000000.01"}),
        &["clauses[0].amount: amount 1000000000000000.01 is above 1000000000000000; write at most"],
    );
    one(
        json!({"mechanism": "commitment", "years": [], "starts": "2024-10", "marketplace_share": "1.5"}),
        &[
            "clauses[0].starts: clause c counts years from 2024-10, but is effective from 2024-09 on; let",
            "clauses[0].years: clause c has 0 years; list the amounts of 1 to 20 years",
            "clauses[0].marketplace_share: marketplace_share 1.5 is above 1",
        ],
    );
    one(
        json!({"mechanism": "prepayment", "amount": "5", "percent": "100"}),
        &["clauses[0].percent: a prepayment at 100 percent settles without end; write less than 100"],
    );
    one(json!({"mechanism": "percent_fee"}), &["clauses[0]: clause c has neither percent nor tiers; state one"]);
    one(
        json!({"mechanism": "percent_fee", "percent": "1", "per": "account", "account": "acme"}),
        &["clauses[0].account: clause c is borne by each account and by one; drop account, or per: account"],
    );
    one(
        json!({"mechanism": "fee", "amount": "1000000000000", "quantity": "1001"}),
        &["clauses[0].quantity: clause c: 1001 at 1000000000000 are more than 1000000000000000"],
    );
    one(
        json!({"mechanism": "custom_line", "amount": "5", "itemised": true}),
        &["clauses[0].amount: clause c is a flat amount, which no item has a part of; drop itemised"],
    );
    one(
        json!({"mechanism": "custom_line", "percent": "-101"}),
        &["clauses[0].percent: percent -101 is below -100; write -100 to 100"],
    );
    one(json!({"mechanism": "tax", "rates": []}), &["clauses[0].rates: clause c has 0 rates; list 1 to 1000"]);
    one(
        json!({"mechanism": "tax", "rates": [{"name": "VAT", "scope": {"service": "nowhere"}, "percent": "19"}]}),
        &["clauses[0].rates[0].scope: clause c can never match: catalogue public has no sku"],
    );
}

#[test]
fn clauses_that_hinder_each_other_are_refused() {
    let rate = |id: &str, scope: Value| json!({"id": id, "mechanism": "private_rate", "scope": scope, "rate": "1", "exclusive_group": "g"});
    let narrow = json!({"service": "AmazonEC2", "region": "us-1"});
    check(json!([rate("wide", json!({"service": "AmazonEC2"})), rate("narrow", narrow.clone())]), &[]);
    check(json!([rate("here", narrow.clone()), rate("there", json!({"service": "AmazonEC2", "region": "us-2"}))]), &[]);
    check(
        json!([rate("one", narrow), rate("two", json!({"service": "Amazon*", "region": "us-*"}))]),
        &["clauses[1].exclusive_group: clauses one and two claim the same place in exclusive group g: both can match"],
    );
    let waiver = |id: &str, source: &str, target: &str| json!({"id": id, "mechanism": "waiver", "source": {"sku": source}, "target": {"sku": target}});
    check(
        json!([waiver("w1", "storage", "box"), waiver("w2", "box", "storage")]),
        &["clauses[0]: clauses w1, w2 waive each other in a ring: each one's target is the next one's source; drop"],
    );
    check(json!([waiver("w1", "storage", "box"), waiver("w3", "storage", "box")]), &[]);
    let percent = |id: &str, scope: &str, trigger: &str| {
        json!({"id": id, "mechanism": "percent", "kind": "service",
        "scope": {"service": scope}, "percent": "5", "trigger": {"scope": {"service": trigger}, "spend": "1"}})
    };
    check(
        json!([percent("p1", "AmazonEC2", "AmazonS3"), percent("p2", "AmazonS3", "AmazonEC2")]),
        &["clauses[0]: clauses p1, p2 wait for each other's spend: the one that comes first lowers what"],
    );
    // Only a warning.
    let waiting = document(json!([percent("p1", "AmazonEC2", "AmazonS3"), percent("p2", "AmazonS3", "AmazonEC2")]));
    assert!(Contract::compile(&waiting, Some(&catalogue())).is_ok());
}

#[test]
fn a_currency_has_a_rate_from_the_first_cycle_on() {
    let currency = |from: &str, to: &str, rates: Value| json!({"id": "c", "mechanism": "currency", "from": from, "to": to, "rates": rates});
    let good = json!([{"effective": "2024-09-30", "rate": "0.9"}, {"effective": "2024-10-01", "rate": "0.91"}]);
    let one = |clause: Value, expected: &[&str]| check(json!([clause]), expected);
    one(currency("USD", "EUR", good.clone()), &[]);
    one(
        currency("EUR", "USD", good.clone()),
        &["clauses[0].from: clause c converts from EUR, but catalogue public is in USD; write from: USD"],
    );
    one(currency("USD", "USD", good.clone()), &["clauses[0].to: clause c converts USD to itself; drop the clause"]);
    one(
        currency("USD", "EUR", json!([])),
        &["clauses[0].rates: clause c has 0 rates; list 1 to 1000, as {effective: 2024-09-01, rate: \"0.92\"}"],
    );
    one(
        currency("USD", "EUR", json!([{"effective": "2024-10-01", "rate": "0.9"}])),
        &[
            "clauses[0].rates[0].effective: clause c has no rate from USD to EUR for cycle 2024-09: the first is in force",
        ],
    );
    one(
        currency(
            "USD",
            "EUR",
            json!([{"effective": "2024-09-02", "rate": "0"}, {"effective": "2024-09-02", "rate": "1"}]),
        ),
        &[
            "clauses[0].rates[0].rate: clause c has an exchange rate of 0; write what one USD is in EUR",
            "clauses[0].rates[1].effective: the rate of 2024-09-02T00:00:00Z does not follow the one before it",
        ],
    );
    let mut coarse = currency("USD", "EUR", good.clone());
    coarse["decimals"] = json!(-7);
    one(coarse, &["clauses[0].decimals: rounding to -7 decimals is outside -6 to 12"]);
    let mut other = currency("USD", "GBP", good.clone());
    other["id"] = json!("d");
    check(
        json!([currency("USD", "EUR", good.clone()), other]),
        &["clauses[1]: clauses c and d both say what currency every payer is billed in; drop one, or let one end"],
    );
    other["payer"] = json!("acme");
    check(json!([currency("USD", "EUR", good.clone()), other]), &[]);
    let known = |id: &crate::base::id::AccountId| id.as_str() != "acme";
    let problems = document(json!([other])).check_accounts(known);
    assert!(problems[0].to_string().starts_with("clauses[0].payer: clause d: account 'acme' does not belong"));
}

#[test]
fn billing_groups_are_priced_by_rules_that_do_not_overlap() {
    let check = |pro_forma: Value, expected: &[&str]| {
        let document = json!({"kind": "Contract", "root": "acme", "effective": "2024-09", "pro_forma": pro_forma});
        let document: ContractDocument = serde_json::from_value(document).unwrap();
        let found: Vec<String> = document.check(Some(&catalogue())).iter().map(Problem::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
        }
    };
    let rules = |rules: Value| json!([{"group": "red", "account": "a", "rules": rules}]);
    let s3 = json!({"service": "AmazonS3"});
    check(rules(json!([{"id": "all", "markup": "10"}, {"id": "s3", "scope": s3, "discount": "5"}])), &[]);
    check(
        rules(json!([{"id": "x", "markup": "10", "discount": "5"}, {"id": "y", "scope": s3}])),
        &[
            "pro_forma[0].rules[0]: rule x has both markup and discount; state one of them",
            "pro_forma[0].rules[1]: rule y has neither markup nor discount; state one of them",
        ],
    );
    check(
        rules(json!([{"id": "x", "markup": "-1"}, {"id": "x", "scope": s3, "discount": "101"}])),
        &[
            "pro_forma[0].rules[0].markup: markup -1 is outside 0 to 1000; write 10 for 10 percent more",
            "pro_forma[0].rules[1].id: x is declared twice in group red; give each rule and line its own id",
            "pro_forma[0].rules[1].discount: percent 101 is above 100",
        ],
    );
    check(
        rules(
            json!([{"id": "x", "markup": "1", "scope": s3}, {"id": "y", "discount": "1", "scope": {"service": "Amazon*"}}]),
        ),
        &[
            "pro_forma[0].rules[1].scope: rules x and y of group red overlap: both can match a line and neither is narrower",
        ],
    );
    check(
        json!([{"group": "red", "account": "a"}, {"group": "red", "account": "b"}]),
        &["pro_forma[1].group: group red is priced twice, first at pro_forma[0]; put all its rules"],
    );
    check(
        json!([{"group": "red", "account": "a", "lines": [{"id": "l"}]}]),
        &["pro_forma[0].lines[0]: clause l has neither amount nor percent; state one of them"],
    );
    let document = json!({"kind": "Contract", "root": "acme", "effective": "2024-09", "pro_forma": rules(json!([]))});
    let document: ContractDocument = serde_json::from_value(document).unwrap();
    let problems = document.check_groups(|_| false);
    assert!(
        problems[0].to_string().starts_with("pro_forma[0].group: hierarchy 'acme' has no billing group 'red'; declare")
    );
    assert!(
        document.check_accounts(|_| false)[0].to_string().starts_with("pro_forma[0].account: group red: account 'a'")
    );
}

#[test]
fn what_is_waived_by_the_hour_is_counted_by_the_hour() {
    let waiver = json!({"id": "w", "mechanism": "waiver", "source": {"sku": "storage"}, "target": {"sku": "box"}, "period": "hour"});
    check(
        json!([waiver]),
        &[
            "clauses[0].source: clause w is used hour by hour, but meter storage does not count a sum by the hour; let the",
            "clauses[0].target: clause w is used hour by hour, but meter box does not count a sum by the hour",
        ],
    );
}

#[test]
fn a_fee_can_be_in_a_scope() {
    let fee = json!({"id": "support", "mechanism": "fee", "amount": "5", "service": "Support"});
    let credit =
        |scope: Value| json!({"id": "c", "mechanism": "credit", "stage": "after", "amount": "5", "scope": scope});
    check(json!([fee, credit(json!({"service": "Support"}))]), &[]);
    check(json!([fee, credit(json!({"sku": "support"}))]), &[]);
    check(json!([credit(json!({"service": "Support"}))]), &["clauses[0].scope: clause c can never match"]);
}

#[test]
fn credits_are_used_in_the_order_that_is_set() {
    fn check(order: Option<Value>, expected: &[&str]) {
        let credit = |id: &str, more: Value| {
            let mut clause = json!({"id": id, "mechanism": "credit", "amount": "1"});
            clause.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            clause
        };
        let mut own = document(json!([
            credit("old", json!({"scope": {"service": ["AmazonEC2", "AmazonS3"]}})),
            credit("soon", json!({"until": "2025-01", "effective": "2024-11"})),
            credit("narrow", json!({"scope": {"service": "AmazonS3"}, "effective": "2024-10"})),
            credit("first", json!({"priority": 0, "effective": "2024-12"})),
            credit("last", json!({"priority": 1, "until": "2025-01"})),
        ]));
        own.credit_order = order.map(|order| serde_json::from_value(order).unwrap());
        let contract = Contract::compile(&own, Some(&catalogue())).unwrap();
        let clauses = contract.clauses_of(Stage::CreditsBefore, "2024-12".parse().unwrap());
        let found: Vec<&str> = clauses.iter().map(|clause| clause.id.as_str()).collect();
        assert_eq!(found, expected);
    }
    check(None, &["soon", "narrow", "old", "first", "last"]);
    check(Some(json!(["age"])), &["old", "last", "narrow", "soon", "first"]);
    check(Some(json!([])), &["old", "soon", "narrow", "first", "last"]);
    check(Some(json!(["expiry", "priority"])), &["soon", "last", "old", "narrow", "first"]);
}

#[test]
fn ladders_of_a_contract_year_are_checked() {
    fn one(more: Value, expected: &[&str]) {
        let mut clause = json!({"id": "c", "mechanism": "private_rate", "scope": {"sku": "box"}});
        clause.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        check(json!([clause]), expected);
    }
    let tiers = json!([{"rate": "1"}]);
    one(json!({"tiers": tiers, "period": "contract_year"}), &[]);
    one(json!({"tiers": tiers, "period": "contract_year", "starts": "2024-01", "until": "2044-01"}), &[]);
    one(
        json!({"tiers": tiers, "period": "contract_year", "starts": "2024-10"}),
        &["clauses[0].starts: clause c counts years from 2024-10, but is effective from 2024-09 on; let the clause"],
    );
    one(
        json!({"tiers": tiers, "starts": "2024-01"}),
        &["clauses[0].starts: clause c says where its years start, but its ladder is of the cycle; state period"],
    );
    one(
        json!({"tiers": tiers, "period": "contract_year", "until": "2045-01"}),
        &["clauses[0].until: clause c has more than 20 contract years: the last ends before 2044-09, not 2045-01; end"],
    );
    one(
        json!({"rate": "1", "period": "contract_year"}),
        &["clauses[0].period: clause c has one rate, which has no period; drop period, or list tiers"],
    );
    let bands = json!([{"id": "c", "mechanism": "volume", "bands": [{"percent": "1"}], "starts": "2024-01"}]);
    check(bands, &["clauses[0].starts: clause c says where its years start, but its ladder is of the cycle"]);
    // After the last year it is over, whatever the document says.
    let open =
        document(json!([{"id": "c", "mechanism": "volume", "bands": [{"percent": "1"}], "period": "contract_year"}]));
    let until = Contract::compile(&open, Some(&catalogue())).unwrap().clauses[0].until;
    assert_eq!(until, Some("2044-09".parse().unwrap()));
}

#[test]
fn a_contract_names_its_balances() {
    let own = document(json!([
        {"id": "edp", "mechanism": "commitment", "years": ["1", "2"], "marketplace": {"service": "AmazonEC2"}},
        {"id": "off", "mechanism": "fixed_discount", "amount": "1"},
        {"id": "each", "mechanism": "fixed_discount", "amount": "1", "lasting": true, "per": "payer"},
        {"id": "promo", "mechanism": "credit", "amount": "1"},
        {"id": "units", "mechanism": "private_rate", "scope": {"sku": "box"}, "tiers": [{"rate": "1"}], "per": "root",
         "period": "contract_year", "starts": "2024-03", "until": "2026-01"},
        {"id": "spend", "mechanism": "volume", "bands": [{"percent": "1"}], "period": "contract_year",
         "until": "2025-09"},
    ]));
    let payers = ["a", "b"].map(|id| crate::base::id::AccountId::new(id).unwrap());
    let names: Vec<String> = Contract::compile(&own, None).unwrap().balances(&payers).into_iter().collect();
    let edp = ["edp/2024-09", "edp/2024-09/marketplace", "edp/2025-09", "edp/2025-09/marketplace"];
    let ladders = ["spend/2024-09/spend/a", "spend/2024-09/spend/b", "units/2024-03/units", "units/2025-03/units"];
    assert_eq!(names, [&["each/a", "each/b"][..], &edp, &["promo"], &ladders].concat());
}
