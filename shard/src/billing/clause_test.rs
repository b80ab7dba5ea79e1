//! Clauses of a contract, line by line: what they say of themselves, whose lines they meet, and what lasts.

use serde_json::{Value, json};

use super::case::Case;
use crate::billing::bill::{BillBody, Source, postings};
use crate::billing::codec::{decode, encode};
use crate::billing::explain::explain;

fn catalogue() -> Value {
    json!({
        "meters": [
            {"id": "box", "service": "ec2", "usage_type": "box", "region": "*"},
            {"id": "disk", "service": "s3", "usage_type": "disk", "bucket": "day"},
        ],
        "skus": [
            {"id": "box", "match": {"service": "ec2"}, "unit": "Hrs", "rate": "1"},
            {"id": "disk", "match": {"service": "s3"}, "unit": "GB", "rate": "0.1"},
        ],
    })
}

fn clauses(clauses: Value) -> Case {
    Case::with(catalogue(), json!(["a", "b"]), json!([{"id": "m", "payer": "b"}])).clauses(clauses)
}

/// The first sentence of each line that a clause made.
fn sentences(bodies: &[BillBody]) -> Vec<String> {
    let mut sentences = Vec::new();
    for body in bodies {
        assert_eq!(decode(&encode(body)).as_ref(), Ok(body));
        for line in body.lines.iter().filter(|line| matches!(line.source, Source::Clause { .. })) {
            let text = explain(body, line.id).unwrap().steps[0].text.clone();
            let (start, end) = (text.find(": ").unwrap() + 2, text.rfind(" (contract of root from 2024-09)").unwrap());
            sentences.push(text[start..end].to_owned());
        }
    }
    sentences
}

#[test]
fn every_clause_says_what_it_did() {
    fn check(own: Value, usage: &[&str], expected: &[&str]) {
        let mut list = if own.is_array() { own } else { json!([own]) };
        for (index, clause) in list.as_array_mut().unwrap().iter_mut().enumerate() {
            clause["id"] = json!(format!("c{}", index + 1));
        }
        assert_eq!(sentences(&clauses(list).usage(usage).fold()), expected);
    }
    let box100 = &["a ec2 box - 100"];
    check(
        json!({"mechanism": "private_rate", "scope": {"service": "ec2"}, "tiers": [{"up_to": "60", "rate": "0.5"}, {"rate": "2"}]}),
        box100,
        &["USD -30: clause c1 takes off 60 Hrs of box at 0.5 each, tier 1 above 0 up to 60 in place of USD 60"],
    );
    check(
        json!({"mechanism": "waiver", "source": {"service": "ec2"}, "target": {"service": "s3"}, "percent": "50"}),
        &["a ec2 box - 3", "a s3 disk - 10 4"],
        &["USD -0.15: clause c1 waives 50 percent of 3 GB of disk that would cost USD 0.3"],
    );
    check(
        json!({"mechanism": "volume", "text": "bigger is cheaper", "bands": [{"up_to": "100", "percent": "0"}, {"percent": "2"}]}),
        box100,
        &[
            "USD -2: clause c1 \"bigger is cheaper\" takes off 2 percent of USD 100 left of box by the lines below, band 2 above 100",
        ],
    );
    check(
        json!([
            {"mechanism": "credit", "amount": "5"},
            {"mechanism": "fixed_discount", "amount": "7"},
            {"mechanism": "prepayment", "amount": "9", "percent": "10"},
            {"mechanism": "percent_fee", "percent": "10", "minimum": "20", "service": "support"},
            {"mechanism": "fee", "amount": "2", "quantity": "3", "account": "a"},
            {"mechanism": "custom_line", "amount": "-1", "account": "a"},
            {"mechanism": "commitment", "years": ["120"], "starts": "2023-10", "payer": "a"},
            {"mechanism": "tax", "rates": [{"name": "VAT", "scope": {"service": "support"}, "percent": "10"}]},
        ]),
        box100,
        &[
            "USD -5: clause c1 settles it from the credit's balance; USD 100 was left of box by the lines below",
            "USD -7: clause c2 takes off a part of a fixed amount; USD 95 was left of box by the lines below",
            "USD -1: clause c3 takes off 10 percent of USD 10 of box that is settled from what was paid in advance",
            "USD -9: clause c3 draws it from what was paid in advance for USD 10 of box",
            "USD 7.8: clause c4 charges 10 percent of USD 78 of spend",
            "USD 12.2: clause c4 fills the fee on USD 78 of spend up to its minimum",
            "USD 6: clause c5 charges 3 at 2 each",
            "USD -1: clause c6 is a flat line",
            "USD 27: clause c7 charges what is missing of the year's commitment, of which USD 93 was met",
            "USD 2: clause c8 \"VAT\" charges 10 percent tax on USD 20 of support",
        ],
    );
    check(
        json!([{"mechanism": "minimum", "amount": "120"}, {"mechanism": "maximum", "amount": "90"}]),
        box100,
        &[
            "USD 20: clause c1 fills USD 100 up to the minimum of its scope",
            "USD -10: clause c2 takes off what lies above the maximum of its scope; USD 100 was left of box by the lines below",
        ],
    );
}

#[test]
fn in_an_exclusive_group_the_narrowest_wins() {
    let percent = |id: &str, percent: &str, scope: Value| {
        json!({"id": id, "mechanism": "percent", "kind": "service", "percent": percent,
        "scope": scope, "exclusive_group": "g"})
    };
    let case = clauses(json!([
        percent("wide", "10", json!({"service": "ec2"})),
        percent("east", "1", json!({"service": "ec2", "region": "east"})),
    ]));
    case.usage(&["a ec2 box east 100", "a ec2 box west 100"]).check(&[
        "usage a box 1 100 1 100",
        "usage a box 1 100 1 100",
        "discount a box wide - 0.1 -10",
        "discount a box east - 0.01 -1",
    ]);
}

#[test]
fn a_waiver_goes_to_its_own_account_first() {
    // Of 4 hours m's own 3 GB come first; the one that is left is b's, whose lots of two days are one line.
    let waiver = json!([{"id": "w", "mechanism": "waiver", "source": {"service": "ec2"}, "target": {"service": "s3"}}]);
    let case = clauses(waiver).usage(&["m ec2 box - 4", "m s3 disk - 3 9", "b s3 disk - 2 1", "b s3 disk - 5 8"]);
    case.check(&[
        "usage b disk 1 7 0.1 0.7",
        "usage m box 1 4 1 4",
        "usage m disk 1 3 0.1 0.3",
        "discount b disk w 1 1 -0.1",
        "discount m disk w 3 1 -0.3",
    ]);
}

#[test]
fn balances_are_read_and_posted() {
    let mut case = clauses(json!([{"id": "promo", "mechanism": "credit", "amount": "150"}]));
    case.balances.insert("promo".to_owned(), "20".parse().unwrap());
    let bodies = case.usage(&["a ec2 box - 100", "m ec2 box - 90"]).fold();
    let posted = postings(&bodies);
    assert_eq!(posted.len(), 1);
    assert_eq!((posted[0].balance.as_str(), posted[0].amount.to_string().as_str()), ("promo", "130"));
    let changes: Vec<(String, String)> = bodies
        .iter()
        .flat_map(|body| &body.balances)
        .map(|balance| (balance.before.to_string(), balance.change.to_string()))
        .collect();
    // 150 - 20: the account that owes most first.
    assert_eq!(changes, [("20".to_owned(), "100".to_owned()), ("20".to_owned(), "30".to_owned())]);
}

#[test]
fn parts_of_a_hierarchy_sum_to_the_whole() {
    let case = clauses(json!([
        {"id": "v", "mechanism": "volume", "per": "root", "model": "graduated",
         "bands": [{"up_to": "10", "percent": "1"}, {"percent": "3.33"}]},
        {"id": "f", "mechanism": "fixed_discount", "amount": "1"},
        {"id": "p", "mechanism": "prepayment", "amount": "5", "percent": "3"},
    ]));
    let bodies = case.usage(&["a ec2 box - 33", "m ec2 box - 0.7", "m s3 disk - 7.77 3", "b s3 disk - 1 1"]).fold();
    let sum = |clause: &str, drawn: bool| -> i128 {
        let lines = bodies.iter().flat_map(|body| &body.lines);
        let own = lines.filter(|line| match &line.source {
            Source::Clause { clause: id, drawn: own, .. } => id.as_str() == clause && *own == drawn,
            _ => false,
        });
        own.map(|line| line.amount.0).sum()
    };
    // 33 + 0.7 + 0.777 + 0.1 = 34.577: 1% of 10 and 3.33% of 24.577 = 0.1 + 0.8184141.
    assert_eq!(sum("v", false), -918_414_100_000);
    assert_eq!(sum("f", false), -1_000_000_000_000);
    assert_eq!(sum("p", true), -5_000_000_000_000);
    // 5 / 0.97 = 5.154639175258 settled, of which 5 are drawn.
    assert_eq!(sum("p", false), -154_639_175_258);
}

#[test]
fn minima_and_shortfalls_wait_for_the_bill_that_closes() {
    let mut case = clauses(json!([
        {"id": "least", "mechanism": "minimum", "amount": "150"},
        {"id": "support", "mechanism": "percent_fee", "percent": "1", "minimum": "5"},
        {"id": "edp", "mechanism": "commitment", "years": ["300"], "starts": "2023-10"},
    ]));
    case = case.usage(&["a ec2 box - 100"]);
    let whole = ["true_up a least least - - 50", "fee a support support - 0.01 1", "fee a support support - - 4"];
    let usage = "usage a box 1 100 1 100";
    case.check(&[usage, whole[0], whole[1], whole[2], "shortfall a edp edp - - 200"]);
    case.interim = true;
    case.check(&[usage, whole[1]]);
}
