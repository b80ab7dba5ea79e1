//! Offers with every defect that real ones have, and what becomes of each.

use serde_json::{Value, json};

use super::*;
use crate::files::import::build::{Built, Wanted, build};
use reckoner_shard::base::id::CatalogueName;
use reckoner_shard::pricing::document::CatalogueDocument;

/// A product of words `usagetype operation region name=value...`, where `-` is nothing.
fn product(sku: &str, text: &str) -> Value {
    let mut attributes = json!({"servicecode": "Svc"});
    for (name, word) in ["usagetype", "operation", "regionCode"].iter().zip(text.split_whitespace()) {
        if word != "-" {
            attributes[*name] = json!(word);
        }
    }
    for word in text.split_whitespace().skip(3) {
        let (name, value) = word.split_once('=').unwrap();
        attributes[name] = json!(value);
    }
    json!({"sku": sku, "productFamily": "F", "attributes": attributes})
}

/// A term of ranges `begin-end@rate`, in USD and hours.
fn term(effective: &str, ranges: &str) -> Value {
    let mut dimensions = json!({});
    for (index, text) in ranges.split_whitespace().enumerate() {
        let (range, rate) = text.split_once('@').unwrap();
        let (begin, end) = range.split_once('-').unwrap();
        dimensions[format!("R{index}")] = json!({"rateCode": "R", "description": "d", "beginRange": begin,
            "endRange": end, "unit": "Hrs", "pricePerUnit": {"USD": rate}, "appliesTo": []});
    }
    json!({"offerTermCode": "T", "effectiveDate": effective, "termAttributes": {}, "priceDimensions": dimensions})
}

/// An offer of products `(sku, words, ranges)`, edited by `change`.
fn offer(products: &[(&str, &str, &str)], change: impl FnOnce(&mut Value)) -> Value {
    let mut offer = json!({"formatVersion": "v1.0", "offerCode": "Svc", "version": "1", "products": {},
        "terms": {"OnDemand": {}}});
    for (sku, words, ranges) in products {
        offer["products"][*sku] = product(sku, words);
        offer["terms"]["OnDemand"][*sku][format!("{sku}.T")] = term("2026-01-01T00:00:00Z", ranges);
    }
    change(&mut offer);
    offer
}

fn list_of(offers: &[Value], currency: Option<&str>) -> Result<List, Error> {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (index, offer) in offers.iter().enumerate() {
        let path = folder.path().join(format!("{index}.json"));
        std::fs::write(&path, offer.to_string()).unwrap();
        files.push(path);
    }
    let currency = currency.map(|code| code.parse().unwrap());
    read_offers(&files, &Pick { currency, effective: "2026-09".parse().unwrap() })
}

fn build_of(offers: &[Value], after: Option<&CatalogueDocument>) -> Built {
    let wanted = Wanted { name: CatalogueName::new("c").unwrap(), effective: "2026-09".parse().unwrap(), after };
    build(list_of(offers, Some("USD")).unwrap(), &wanted).unwrap()
}

/// The SKUs that are in, and the notes as `what place: message`, each of which must begin as expected.
fn check(offers: &[Value], skus: &[&str], notes: &[&str]) -> CatalogueDocument {
    let built = build_of(offers, None);
    assert_eq!(built.document.skus.iter().map(|sku| sku.id.as_str()).collect::<Vec<_>>(), skus, "{:#?}", built.notes);
    let found: Vec<String> =
        built.notes.iter().map(|note| format!("{:?} {}: {}", note.what, note.place, note.message)).collect();
    assert_eq!(found.len(), notes.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(notes) {
        assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
    }
    built.document
}

#[test]
fn gaps_are_closed_and_what_has_no_price_is_refused() {
    let products = [
        ("CLOSED", "a - -", "0-20000@2 20001-Inf@1"),
        ("GAP", "b - -", "0-20000@2 20002-Inf@1"),
        ("OVER", "c - -", "0-20000@2 19999-Inf@1"),
        ("ENDS", "d - -", "0-20000@2"),
        ("LATE", "e - -", "5-Inf@2"),
        ("WORD", "f - -", "0-Inf@free"),
        ("BARE", "- - -", "0-Inf@1"),
    ];
    let document = check(
        &[offer(&products, |_| ())],
        &["CLOSED"],
        &[
            "Refused products.BARE: product BARE has no usagetype",
            "Refused terms.OnDemand.ENDS.ENDS.T: product ENDS: its last range ends at 20000: units beyond have no price",
            "Refused terms.OnDemand.GAP.GAP.T: product GAP: units between 20000 and 20002 have no price",
            "Refused terms.OnDemand.LATE.LATE.T: product LATE: its first range begins at 5",
            "Refused terms.OnDemand.OVER.OVER.T: product OVER: ranges overlap: one ends at 20000, another begins at 19999",
            "Refused terms.OnDemand.WORD.WORD.T: product WORD: pricePerUnit of R0: 'free' is not a decimal number",
            "Closed terms.OnDemand.CLOSED.CLOSED.T: a range ends at 20000 and the next begins at 20001: taken to begin at 20000",
        ],
    );
    assert_eq!(document.prices[0].tiers[0].up_to.as_deref(), Some("20000"));
}

#[test]
fn the_price_in_force_when_the_cycle_begins_counts() {
    let with = |terms: &[(&str, &str)]| {
        offer(&[("A", "a - -", "0-Inf@9")], |offer| {
            offer["terms"]["OnDemand"]["A"] = json!({});
            for (number, (effective, ranges)) in terms.iter().enumerate() {
                offer["terms"]["OnDemand"]["A"][format!("A.{number}")] = term(effective, ranges);
            }
        })
    };
    let rate = |document: CatalogueDocument| document.skus[0].rate.clone().unwrap();
    let older = [("2026-09-01T00:00:00Z", "0-Inf@2"), ("2026-01-01T00:00:00Z", "0-Inf@1")];
    assert_eq!(rate(check(&[with(&older)], &["A"], &[])), "2");
    let inside = [("2026-01-01T00:00:00Z", "0-Inf@1"), ("2026-09-15T00:00:00Z", "0-Inf@2")];
    let note =
        "LeftOut terms.OnDemand.A.A.1: another price of A begins 2026-09-15T00:00:00Z, which is inside the cycle";
    assert_eq!(rate(check(&[with(&inside)], &["A"], &[note])), "1");
    let refused = "Refused products.A: product A: ";
    check(&[with(&[("2026-09-02T00:00:00Z", "0-Inf@1")])], &[], &[&format!("{refused}its price begins 2026-09-02")]);
    let twice = [("2026-01-01T00:00:00Z", "0-Inf@1"), ("2026-01-01T00:00:00Z", "0-Inf@2")];
    check(&[with(&twice)], &[], &[&format!("{refused}two prices, A.0 and A.1, begin at the same time")]);
    check(&[with(&[("soon", "0-Inf@1")])], &[], &[&format!("{refused}effectiveDate: 'soon' is not a time")]);
    check(&[with(&[])], &[], &[&format!("{refused}it has no on-demand price")]);
}

#[test]
fn products_of_one_usage_type_are_told_apart_or_refused() {
    let apart = [
        ("A", "box Run us-east-1", "0-Inf@1"),
        ("B", "box Run eu-west-1", "0-Inf@2"),
        ("C", "box Stop us-east-1", "0-Inf@3"),
        ("D", "disk - us-east-1 tenancy=Shared os=Linux", "0-Inf@4"),
        ("E", "disk - us-east-1 tenancy=Host os=Linux", "0-Inf@5"),
    ];
    let document = check(&[offer(&apart, |_| ())], &["A", "B", "C", "D", "E"], &[]);
    let meters: Vec<(&str, usize)> =
        document.meters.iter().map(|meter| (meter.id.as_str(), meter.attributes.len())).collect();
    assert_eq!(meters, [("Svc/box", 0), ("Svc/disk", 1)]);
    assert_eq!(document.skus[4].matches.attributes, [("tenancy".to_owned(), "Host".to_owned())].into());
    let clash = [("A", "box Run -", "0-Inf@1"), ("B", "box - us-east-1", "0-Inf@2"), ("C", "disk - -", "0-Inf@1")];
    check(
        &[offer(&clash, |_| ())],
        &["C"],
        &[
            "Refused products.A: product A cannot be told from B: both price box of Svc (operation Run, region any)",
            "Refused products.B: product B cannot be told from A",
        ],
    );
    // The same data transfer stands in the lists of several services.
    let (one, two) = ([("A", "out - us", "0-10@1 10-Inf@2")], [("B", "out - us", "0-10@1 10-Inf@2")]);
    let pool = |offer: &mut Value| {
        offer["products"]["P"] = product("P", "Global-out - -");
        offer["terms"]["OnDemand"]["P"]["P.T"] = term("2026-01-01T00:00:00Z", "0-100@0");
        offer["terms"]["OnDemand"]["P"]["P.T"]["priceDimensions"]["R0"]["appliesTo"] = json!(["B"]);
    };
    let note = "Repeated products.B: product B has usage, price and unit of A";
    let document = check(&[offer(&one, |_| ()), offer(&two, pool)], &["A"], &[note]);
    assert_eq!(document.pools[0].skus, ["A"], "the pool applies to what stands for its product");
    check(&[offer(&one, |_| ()), offer(&one, |_| ())], &["A"], &["Repeated products.A: product A stands alike at"]);
    let other = [("A", "out - us", "0-Inf@3")];
    check(&[offer(&one, |_| ()), offer(&other, |_| ())], &["A"], &["Refused products.A: product A stands differently"]);
}

#[test]
fn pools_are_free_and_have_an_end_and_products() {
    let with = |ranges: &str, applies: Value| {
        offer(&[("A", "a - -", "0-Inf@1"), ("P", "Global-a - -", ranges)], |offer| {
            offer["terms"]["OnDemand"]["P"]["P.T"]["priceDimensions"]["R0"]["appliesTo"] = applies;
        })
    };
    let document = check(&[with("0-100@0.0000000000", json!(["A"]))], &["A"], &[]);
    assert_eq!((document.pools[0].units.as_str(), document.meters.len()), ("100", 1));
    let refused = "Refused terms.OnDemand.P.P.T: ";
    check(
        &[with("0-100@1", json!(["A"]))],
        &["A"],
        &[&format!("{refused}product P: it applies to other products and is not")],
    );
    check(
        &[with("0-Inf@0", json!(["A"]))],
        &["A"],
        &[&format!("{refused}product P: it applies to other products and is not")],
    );
    check(&[with("0-100@0 100-Inf@1", json!(["A"]))], &["A"], &[&format!("{refused}product P: it applies")]);
    check(&[with("0-100@0", json!(["X"]))], &["A"], &[&format!("{refused}pool P: none of the products")]);
    let note = "Taken terms.OnDemand.P.P.T: pool P applies to products that are not in the catalogue: X";
    check(&[with("0-100@0", json!(["X", "A"]))], &["A"], &[note]);
    // A product of its own where nothing is named that it applies to.
    check(&[with("0-100@0", json!([]))], &["A"], &[&format!("{refused}product P: its last range ends at 100")]);
}

#[test]
fn what_is_no_on_demand_price_is_left_out_and_told() {
    let change = |offer: &mut Value| {
        offer["terms"]["Reserved"] = json!({"A": {"A.R": {"anything": [1, 2]}}, "B": {}});
        offer["products"]["NONE"] = product("NONE", "n - -");
        offer["products"]["OTHER"] = product("ELSE", "n - -");
        offer["terms"]["OnDemand"]["STRAY"]["STRAY.T"] = term("2026-01-01T00:00:00Z", "0-Inf@1");
    };
    check(
        &[offer(&[("A", "a - -", "0-Inf@1")], change)],
        &["A"],
        &[
            "Refused products.OTHER: product OTHER: its sku is another ('ELSE')",
            "Refused terms.OnDemand.STRAY: a price for STRAY, which is no product of the file",
            "LeftOut products.NONE: product NONE has no on-demand price",
            "LeftOut terms.Reserved: Reserved terms of 2 products",
        ],
    );
}

#[test]
fn a_file_that_is_no_offer_says_where() {
    let good = offer(&[("A", "a - -", "0-Inf@1")], |_| ());
    let check = |change: &dyn Fn(&mut Value), part: &str| {
        let mut offer = good.clone();
        change(&mut offer);
        let error = list_of(&[offer], None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&|offer| offer["formatVersion"] = json!("v2.0"), "its format is 'v2.0'");
    check(&|offer| offer["products"] = json!([]), "0.json:1:");
    check(&|offer| offer["version"] = json!(null), "expected a string");
    check(&|offer| offer["terms"] = json!({}), "holds no price");
    let several = |offer: &mut Value| {
        offer["terms"]["OnDemand"]["A"]["A.T"]["priceDimensions"]["R0"]["pricePerUnit"]["CNY"] = json!("7");
    };
    check(&several, "prices in CNY and USD; choose with --currency");
    assert!(list_of(std::slice::from_ref(&good), None).is_ok());
}

#[test]
fn names_that_a_catalogue_cannot_hold_are_refused() {
    let products = [("A", "a*b - -", "0-Inf@1"), ("B", "b Run* -", "0-Inf@1"), ("C", "c - -", "0-Inf@2000000000")];
    check(
        &[offer(&products, |_| ())],
        &[],
        &[
            "Refused products.A: product A: usage_type 'a*b' holds *",
            "Refused products.B: product B: operation 'Run*' holds *",
            "Refused terms.OnDemand.C.C.T: product C: rate 2000000000 without end is outside",
        ],
    );
}

#[test]
fn meters_of_the_version_before_stay_as_they_are() {
    let before = build_of(&[offer(&[("A", "a - -", "0-Inf@1"), ("B", "b - -", "0-Inf@1")], |_| ())], None).document;
    // B is gone; A now has a rival that only an attribute tells apart.
    let now = [("A", "a - - os=linux", "0-Inf@1"), ("C", "a - - os=windows", "0-Inf@2"), ("D", "d - -", "0-Inf@1")];
    let built = build_of(&[offer(&now, |_| ())], Some(&before));
    let meters: Vec<&str> = built.document.meters.iter().map(|meter| meter.id.as_str()).collect();
    assert_eq!(meters, ["Svc/a", "Svc/b", "Svc/d"]);
    assert_eq!(built.document.skus.len(), 1);
    assert!(built.notes[0].message.contains("attribute os, which meter Svc/a of the version before does not keep"));
    assert_eq!(
        reckoner_shard::pricing::catalogue::Catalogue::compile(&before).unwrap().check_successor(&built.document),
        []
    );
}
