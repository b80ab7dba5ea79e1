//! Interim bills and corrections through the whole machine: what is claimed, billed, numbered, and what all bills of a
//! cycle come to.

use serde_json::json;

use super::books::{Books, money};
use super::claims::Known;
use super::command::Command;
use super::kit::{account, cycle, document, time};
use crate::base::refusal::Reason;
use crate::billing::bill::BillBody;
use crate::billing::kind::Cause;
use crate::pricing::catalogue::Catalogue;

#[test]
fn a_cycle_billed_in_parts_comes_to_the_same_as_at_once() {
    let mut books = Books::new(None);
    books.push("2024-09", 150);
    assert_eq!(books.claim("2024-09"), money(&["1.5"]));
    // Nothing new: no bill, no number.
    assert_eq!(books.claim("2024-09"), money(&[]));
    books.push("2024-09", 50);
    // What comes after the claim is not in it, also when the claim has gone through a snapshot.
    books.kit.ok(Command::Claim { root: account("acme"), cycle: cycle("2024-09"), cause: Cause::Asked });
    books.push("2024-09", 1_000);
    books.restart();
    assert_eq!(books.bill("2024-09"), money(&["0.5"]));
    assert_eq!(books.close("2024-09"), money(&["10"]));
    let cycles = books.kit.state.view().cycles(&account("acme")).unwrap();
    let numbers: Vec<u64> = cycles.bills_of(cycle("2024-09")).map(|(_, bill)| bill.number).collect();
    assert_eq!((numbers, cycles.extras.len(), cycles.claim.is_none()), (vec![1, 2, 3], 2, true));
    books.restart();
}

#[test]
fn late_usage_is_billed_by_the_next_close_or_by_hand() {
    let mut books = Books::new(None);
    let claim = |cause| Command::Claim { root: account("acme"), cycle: cycle("2024-09"), cause };
    books.push("2024-09", 100);
    assert_eq!(books.close("2024-09"), money(&["1"]));
    assert_eq!(books.kit.command(claim(Cause::Asked)), Err(Reason::CycleClosed));
    assert_eq!(books.push("2024-09", 7), "1 late");
    let due = |books: &mut Books| books.kit.state.view().due(time("2024-10-20")).len();
    assert_eq!((due(&mut books), books.kit.command(claim(Cause::Late))), (0, Err(Reason::CycleClosed)));
    assert_eq!(books.claim("2024-09"), money(&["0.07"]));
    assert_eq!(books.push("2024-09", 3), "1 late");
    books.push("2024-10", 20);
    books.restart();
    assert_eq!(books.close("2024-10"), money(&["0.2"]));
    assert_eq!(due(&mut books), 1);
    books.kit.ok(claim(Cause::Late));
    books.restart();
    // Meanwhile more comes late, for the next correction.
    assert_eq!(books.push("2024-09", 1), "1 late");
    assert_eq!((books.bill("2024-09"), due(&mut books)), (money(&["0.03"]), 0));
    assert_eq!(books.claim("2024-09"), money(&["0.01"]));
    let cycles = books.kit.state.view().cycles(&account("acme")).unwrap();
    let numbers: Vec<u64> = cycles.bills_of(cycle("2024-09")).map(|(_, bill)| bill.number).collect();
    assert_eq!(numbers, [1, 2, 4, 5]);
    // The archive of the last correction holds everything: 111 bytes.
    let view = books.kit.state.view();
    let archive = &books.archives[&cycles.archive_of(cycle("2024-09")).unwrap()];
    let catalogue = books.kit.blobs.0.values().next().unwrap();
    let counters = super::archive::read_archive(archive, catalogue).unwrap();
    assert_eq!((counters.len(), counters[0].value, counters[0].records), (1, 111, 4));
    // An estimate of an archived cycle says what a correction would come to.
    assert_eq!(books.push("2024-09", 9), "1 late");
    let own = &books.archives[&view.archive_hash(&account("acme"), cycle("2024-09")).unwrap()];
    let source =
        books.kit.state.view().known_source(&account("acme"), cycle("2024-09"), &books.kit.blobs, Known::WithLate(own));
    let source = source.unwrap();
    let earlier: Vec<BillBody> = source.earlier.iter().map(|bill| books.bodies[&bill.body_hash].clone()).collect();
    let bodies = source.bills(&earlier).unwrap();
    assert_eq!(bodies.iter().map(|body| body.payable).collect::<Vec<_>>(), money(&["0.09"]));
}

#[test]
fn a_correction_draws_only_what_later_bills_left() {
    // A credit of 1.50: September draws 1 of it, October the other half.
    let mut books = Books::new(Some(r#"{"id":"promo","mechanism":"credit","amount":"1.50"}"#));
    books.push("2024-09", 100);
    assert_eq!(books.close("2024-09"), money(&["0"]));
    books.push("2024-10", 80);
    assert_eq!(books.close("2024-10"), money(&["0.3"]));
    assert_eq!(books.push("2024-09", 40), "1 late");
    assert_eq!(books.claim("2024-09"), money(&["0.4"]));
    let cycles = books.kit.state.view().cycles(&account("acme")).unwrap();
    assert_eq!(cycles.balances["promo"], "1.5".parse().unwrap());
}

#[test]
fn a_pool_of_a_year_goes_on_through_interim_bills_corrections_and_restores() {
    // 1,000 bytes a year at 0.10, the rest at 0.05; the years begin with the hierarchy's first cycle, 2024-09.
    let mut document = document("2024-09", "0", &[]);
    let sku = document["skus"][0].as_object_mut().unwrap();
    sku.remove("rate");
    sku.insert("price".to_owned(), json!("year"));
    document["prices"] = json!([{"id": "year", "model": "graduated", "pool": {"period": "contract_year"},
        "tiers": [{"up_to": "1000", "rate": "0.10"}, {"rate": "0.05"}]}]);
    let mut books = Books::new(None);
    books.kit.activate(Catalogue::compile(&serde_json::from_value(document).unwrap()).unwrap(), 2).unwrap();
    books.push("2024-09", 600);
    assert_eq!(books.claim("2024-09"), money(&["60"]));
    books.push("2024-09", 200);
    books.restart();
    assert_eq!(books.close("2024-09"), money(&["20"]));
    books.restart();
    // 200 are left of the first tier.
    books.push("2024-10", 300);
    assert_eq!(books.claim("2024-10"), money(&["25"]));
    assert_eq!(books.push("2024-09", 100), "1 late");
    assert_eq!(books.claim("2024-09"), money(&["10"]));
    // October still counts, so that it begins at 900 now: 100 x 0.10 + 200 x 0.05, less the 25 that it has been billed.
    books.restart();
    assert_eq!(books.close("2024-10"), money(&["-5"]));
    let units = |books: &mut Books| books.kit.state.view().cycles(&account("acme")).unwrap().balances.clone();
    let name = "pool/year/2024-09/units/acme";
    assert_eq!(units(&mut books).into_iter().collect::<Vec<_>>(), [(name.to_owned(), "1200".parse().unwrap())]);
    // A closed one stays as it was billed: September's are at its own place of the ladder.
    assert_eq!(books.push("2024-09", 40), "1 late");
    assert_eq!(books.claim("2024-09"), money(&["4"]));
    books.push("2024-11", 10);
    assert_eq!(books.close("2024-11"), money(&["0.5"]));
    assert_eq!(units(&mut books)[name], "1250".parse().unwrap());
}

#[test]
fn a_contract_goes_on_with_a_year_that_has_a_minimum() {
    let mut document = document("2024-09", "0", &[]);
    let sku = document["skus"][0].as_object_mut().unwrap();
    sku.remove("rate");
    sku.insert("price".to_owned(), json!("year"));
    document["prices"] = json!([{"id": "year", "model": "per_unit", "rate": "0.1", "pool": {"period": "contract_year"}, "minimum": "50"}]);
    let mut books = Books::new(None);
    books.kit.activate(Catalogue::compile(&serde_json::from_value(document).unwrap()).unwrap(), 2).unwrap();
    let mut check = |terms: &str, expected: Result<(), Reason>| {
        let document = format!(r#"{{"kind":"Contract","root":"acme","clauses":[],{terms}}}"#);
        let put = Command::PutContract { document: document.into_bytes(), job: String::new() };
        assert_eq!(books.kit.command(put).map(drop), expected, "{terms}");
    };
    // Without a contract the year began with 2024-09.
    check(r#""effective":"2024-11""#, Err(Reason::InvalidDocument));
    check(r#""effective":"2024-11","starts":"2024-10""#, Err(Reason::InvalidDocument));
    check(r#""effective":"2024-11","starts":"2024-09","until":"2025-02""#, Ok(()));
    // The contract before ends where this one begins; so does its year, and with it what is due of it.
    check(r#""effective":"2025-02""#, Ok(()));
    check(r#""effective":"2025-04""#, Err(Reason::InvalidDocument));
    check(r#""effective":"2026-02""#, Ok(()));
}

#[test]
fn a_cycle_is_billed_at_the_rate_of_its_first_bill() {
    let yen = |rate: &str| {
        let rates = format!(r#"[{{"effective":"2024-09-01","rate":"{rate}"}}]"#);
        format!(r#"{{"id":"yen","mechanism":"currency","from":"USD","to":"JPY","rates":{rates}}}"#)
    };
    let mut books = Books::new(Some(&yen("150")));
    books.push("2024-09", 150);
    assert_eq!(books.claim("2024-09"), money(&["225"]));
    let clauses = yen("160");
    let document = format!(r#"{{"kind":"Contract","root":"acme","effective":"2024-09","clauses":[{clauses}]}}"#);
    books.kit.ok(Command::PutContract { document: document.into_bytes(), job: String::new() });
    books.restart();
    // 2.01 x 150 = 301.5, so 302 in all.
    books.push("2024-09", 51);
    assert_eq!(books.claim("2024-09"), money(&["77"]));
    books.push("2024-09", 3);
    assert_eq!(books.close("2024-09"), money(&["4"]));
    // 2.11 x 150 = 316.5, so 317.
    books.push("2024-09", 7);
    assert_eq!(books.claim("2024-09"), money(&["11"]));
    // The next cycle has the new rate.
    books.push("2024-10", 100);
    assert_eq!(books.close("2024-10"), money(&["160"]));
}
