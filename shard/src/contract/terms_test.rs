//! Contracts that are good, and the problems of those that are not.

use serde_json::{Value, json};

use super::*;
use crate::pricing::document::CatalogueDocument;

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
fn a_good_contract_compiles_and_reads_back() {
    let good = document(json!([
        {"id": "s3-flat", "mechanism": "private_rate", "scope": {"sku": "storage"}, "rate": "0.02"},
        {"id": "us", "mechanism": "percent", "kind": "attribute", "scope": {"region": ["us-east-1", "us-west-*"]},
         "percent": "5", "until": "2025-01"},
        {"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": "10", "text": "Enterprise discount",
         "exclude": [{"service": "AmazonEC2"}], "trigger": {"scope": {"service": "AmazonEC2"}, "spend": "1000"}},
    ]));
    let contract = Contract::compile(&good, Some(&catalogue())).unwrap();
    let stages: Vec<Stage> = contract.clauses.iter().map(Clause::stage).collect();
    assert_eq!(stages, [Stage::PrivateRates, Stage::AttributePercent, Stage::CrossServicePercent]);
    assert_eq!(&*contract.clauses[2].text, "Enterprise discount");
    let in_force = |cycle: &str| contract.clauses_of(Stage::AttributePercent, cycle.parse().unwrap()).count();
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
        &["clauses[0].trigger.quantity: the trigger of clause c adds up different units: GB-Mo (storage), Hrs (box)"],
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
    let unknown = json!({"id": "c", "mechanism": "prepayment"});
    assert!(serde_json::from_value::<ClauseDocument>(unknown).is_err());
    let unknown = json!({"id": "c", "mechanism": "private_rate", "scope": {}, "rate": "1", "cap": "2"});
    assert!(serde_json::from_value::<ClauseDocument>(unknown).is_err());
}
