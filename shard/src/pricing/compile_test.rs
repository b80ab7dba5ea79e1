//! Catalogues that are good, and the problems of those that are not.

use serde_json::{Value, json};

use super::*;
use crate::base::wide::power_of_ten;
use crate::pricing::catalogue::MeterError;

/// A small catalogue; `change` edits its JSON first.
fn document(change: impl FnOnce(&mut Value)) -> CatalogueDocument {
    let mut value = json!({
        "kind": "Catalogue", "name": "aws-public", "currency": "USD", "effective": "2024-09",
        "meters": [
            {"id": "s3-storage", "service": "AmazonS3", "usage_type": "TimedStorage-ByteHrs", "scale": 0,
             "attributes": ["class"]},
            {"id": "ec2-box", "service": "AmazonEC2", "usage_type": "BoxUsage:m5.large", "bucket": "day"},
        ],
        "skus": [
            {"id": "s3-standard", "match": {"service": "AmazonS3", "attributes": {"class": "STANDARD"}},
             "unit": "GB-Mo", "convert": {"divide": "1073741824", "by_hours_of_cycle": true}, "price": "s3"},
            {"id": "m5-large", "match": {"service": "AmazonEC2", "usage_type": "BoxUsage:*"},
             "unit": "Hrs", "rate": "0.096"},
        ],
        "prices": [{"id": "s3", "model": "graduated", "tiers": [
            {"up_to": "51200", "rate": "0.023"}, {"up_to": "512000", "rate": "0.022"}, {"rate": "0.021"}]}],
        "pools": [{"id": "free-hours", "units": "750", "skus": ["m5-*"]}],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// Each expected text is the start of one problem, in order.
fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let found: Vec<String> = document(change).check().iter().map(Problem::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\ndoes not start with\n{expected}");
    }
}

#[test]
fn a_good_catalogue_finds_meters_and_skus() {
    let document = document(|_| {});
    let none: [(&str, &str); 0] = [];
    let catalogue = Catalogue::compile(&document).unwrap();
    let standard = [("class", "STANDARD")];
    let meter = catalogue.meter_of("AmazonS3", "TimedStorage-ByteHrs", "Put", "us-east-1", &standard).unwrap();
    assert_eq!(catalogue.meter(meter).id.as_str(), "s3-storage");
    let sku = catalogue.sku_of(meter, "Put", "us-east-1", &standard).unwrap();
    assert_eq!(catalogue.sku(sku).id.as_str(), "s3-standard");
    assert_eq!(catalogue.sku_of(meter, "Put", "us-east-1", &[("class", "GLACIER")]), None);
    assert_eq!(catalogue.sku_of(meter, "Put", "us-east-1", &none), None);
    let unknown = catalogue.meter_of("AmazonS3", "Requests", "Put", "us-east-1", &none);
    assert_eq!(unknown, Err(MeterError::UnknownMeter));
    let unknown = catalogue.meter_of("AmazonEC2", "BoxUsage:m5.large", "Run", "us-east-1", &[("os", "linux")]);
    assert_eq!(unknown, Err(MeterError::UnknownAttribute("os".to_owned())));
    let text = serde_json::to_vec(&document).unwrap();
    assert_eq!(serde_json::from_slice::<CatalogueDocument>(&text).unwrap(), document);
    assert_eq!(catalogue.hash, *blake3::hash(&text).as_bytes());
}

#[test]
fn ceilings_follow_from_rates() {
    let catalogue = Catalogue::compile(&document(|_| {})).unwrap();
    let ceiling = |id| catalogue.meter(catalogue.meter_by_id(id).unwrap()).ceiling;
    // 10^15 GB-Mo of 2^30 * 672 byte-hours: the highest rate is below 1, so the units decide.
    assert_eq!(ceiling("s3-storage"), 1_073_741_824 * 672 * power_of_ten(15));
    assert_eq!(ceiling("ec2-box"), power_of_ten(15 + 12));
    // 10^15 currency units at 4000 each: 2.5 * 10^11 hours.
    let dear = document(|value| value["skus"][1]["rate"] = json!("4000"));
    let catalogue = Catalogue::compile(&dear).unwrap();
    assert_eq!(catalogue.meter(catalogue.meter_by_id("ec2-box").unwrap()).ceiling, 25 * power_of_ten(10 + 12));
}

#[test]
fn sources_are_names() {
    let sources = |sources: Value| move |value: &mut Value| value["source"] = sources;
    check(sources(json!(["AmazonS3 20260801000000", "oci-price-list 70af"])), &[]);
    check(sources(json!(["a", ""])), &["source[1]: source is empty"]);
    check(sources(json!(vec!["a"; 1_001])), &["source: 1001 sources, at most 1000"]);
    let before = Catalogue::compile(&document(|_| {})).unwrap();
    let after = Catalogue::compile(&document(sources(json!(["list 2"])))).unwrap();
    assert_eq!(before.check_successor(&document(sources(json!(["list 2"])))), []);
    assert_ne!(before.hash, after.hash, "another source is another version");
}

#[test]
fn ladders_are_checked() {
    let tiers = |tiers: Value| move |value: &mut Value| value["prices"][0]["tiers"] = tiers;
    check(
        tiers(json!([{"up_to": "10", "rate": "1"}, {"up_to": "10", "rate": "2"}, {"rate": "3"}])),
        &["prices[0].tiers[1].up_to: tier 2 of price s3 ends at 10, not above 10 where it begins; sort"],
    );
    check(
        tiers(json!([{"up_to": "10", "rate": "1"}, {"up_to": "20", "rate": "2"}])),
        &["prices[0].tiers[1].up_to: the last tier of price s3 ends at 20: units beyond it would have no rate; drop"],
    );
    check(
        tiers(json!([{"rate": "1"}, {"rate": "2"}])),
        &["prices[0].tiers[0]: tier 1 of price s3 has no up_to, but 1 more follow; state where"],
    );
    check(tiers(json!([])), &["prices[0].tiers: price s3 has no tiers; list"]);
    check(tiers(json!([{}])), &["prices[0].tiers[0]: tier 1 of price s3 has neither rate nor flat; state"]);
    check(
        tiers(json!([{"rate": "-1", "flat": "1e3"}])),
        &[
            "prices[0].tiers[0].rate: rate -1 is below zero; write",
            "prices[0].tiers[0].flat: '1e3' is not a decimal number; write",
        ],
    );
    check(
        tiers(json!([{"rate": "1000000000.1"}])),
        &["prices[0].tiers[0].rate: rate 1000000000.1 is above 1000000000; write at most 1000000000"],
    );
    check(|value| value["prices"][0]["rate"] = json!("1"), &["prices[0].rate: price s3 is graduated and has a rate"]);
    check(
        |value| value["prices"][0]["model"] = json!("package"),
        &[
            "prices[0].tiers: price s3 is package, which has no tiers",
            "prices[0].package: price s3 is package and has no package",
            "prices[0]: price s3 is package and has no rate",
        ],
    );
}

#[test]
fn all_problems_are_told_at_once() {
    check(
        |value| {
            value["skus"][0]["price"] = json!("s4");
            value["skus"][1]["id"] = json!("s3-standard");
            value["meters"][1]["service"] = json!("Amazon*");
            value["meters"][0]["scale"] = json!(13);
            value["rounding"] = json!({"decimals": 13});
            value["stages"] = json!(["usage"]);
        },
        &[
            "rounding.decimals: rounding to 13 decimals is outside -12 to 12",
            "stages: the order [usage] does not begin with usage and end with rounding",
            "meters[0].scale: meter s3-storage has scale 13, at most 12",
            "meters[1].service: service 'Amazon*' of a meter holds *",
        ],
    );
    check(
        |value| {
            value["skus"][0]["price"] = json!("s4");
            value["skus"][1]["id"] = json!("s3-standard");
        },
        &[
            "skus[0].price: sku s3-standard names price 's4', which is not declared",
            "skus[1].id: sku s3-standard is declared twice, first at skus[0]",
            "prices[0]: price s3 is named by no sku",
        ],
    );
}

#[test]
fn what_can_match_twice_is_refused() {
    check(
        |value| {
            let skus = value["skus"].as_array_mut().unwrap();
            skus.push(json!({"id": "s3-us", "match": {"service": "AmazonS3", "region": "us-*"}, "unit": "GB-Mo",
                "rate": "1"}));
        },
        &["skus[2].match: skus s3-standard (skus[0]) and s3-us can match one series of meter s3-storage; narrow"],
    );
    check(
        |value| {
            let skus = value["skus"].as_array_mut().unwrap();
            let cold = json!({"service": "AmazonS3", "attributes": {"class": "GLACIER*"}});
            skus.push(json!({"id": "s3-cold", "match": cold, "unit": "GB-Mo", "rate": "1"}));
        },
        &[],
    );
    check(
        |value| {
            let meters = value["meters"].as_array_mut().unwrap();
            meters.push(json!({"id": "box-us", "service": "AmazonEC2", "usage_type": "BoxUsage:m5.large",
                "region": "us-*"}));
        },
        &["meters[2]: meters box-us and ec2-box (meters[1]) can match one record; narrow"],
    );
}

#[test]
fn what_can_never_match_is_refused() {
    check(
        |value| value["skus"][0]["match"]["attributes"] = json!({"tier": "x"}),
        &[
            "skus[0].match: sku s3-standard asks for attribute tier, which its meters do not keep",
            "meters[0]: no sku prices meter s3-storage",
        ],
    );
    check(
        |value| value["skus"][1]["match"]["usage_type"] = json!("Box"),
        &[
            "skus[1].match: sku m5-large matches no series of any meter; correct",
            "meters[1]: no sku prices meter ec2-box: its usage is counted, shown as unpriced and not charged",
        ],
    );
    check(
        |value| value["pools"][0]["skus"] = json!(["c5-*"]),
        &["pools[0].skus[0]: 'c5-*' names no sku that pool free-hours does not already have"],
    );
}

#[test]
fn pools_add_up_one_unit_and_sequences_need_time() {
    check(
        |value| value["pools"][0]["skus"] = json!(["*"]),
        &["pools[0].skus: pool free-hours adds up skus of different units: GB-Mo (s3-standard), Hrs (m5-large)"],
    );
    check(
        |value| {
            value["prices"][0]["attribution"] = json!("sequence");
            value["prices"][0]["pool"] = json!({"split_by": ["attribute:colour"]});
        },
        &[
            "prices[0].pool.split_by: price s3 splits its pool by attribute colour, which none of its meters keeps",
            "prices[0].attribution: price s3 attributes by sequence, but meter s3-storage keeps no lots by time",
        ],
    );
}

#[test]
fn rates_that_leave_no_room_are_refused() {
    check(
        |value| {
            value["skus"][1]["rate"] = json!("1000000000");
            value["skus"][1]["convert"] = json!({"divide": "0.5"});
        },
        &[
            "skus[1]: sku m5-large charges up to 1000000000 a unit after dividing by 0.5: a counter of meter ec2-box could \
           then hold 500000, at least 1000000 are needed; lower",
        ],
    );
    check(
        |value| value["skus"][1]["convert"] = json!({"divide": "0"}),
        &["skus[1].convert.divide: sku m5-large divides by 0; give a divisor"],
    );
}

#[test]
fn a_meter_never_changes() {
    let before = Catalogue::compile(&document(|_| {})).unwrap();
    let after = document(|value| {
        value["meters"][0]["scale"] = json!(2);
        value["meters"][0]["attributes"] = json!(["class", "owner"]);
        value["currency"] = json!("EUR");
        value["meters"].as_array_mut().unwrap().remove(1);
    });
    let found: Vec<String> = before.check_successor(&after).iter().map(Problem::to_string).collect();
    let expected = [
        "currency: the catalogue is in USD, this version says EUR",
        "meters[0].scale: meter s3-storage has scale '0', this version says '2'",
        "meters[0].attributes: meter s3-storage has attributes 'class', this version says 'class, owner'",
        "meters: meter ec2-box is missing from this version",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(before.check_successor(&document(|value| value["effective"] = json!("2024-10"))), []);
}

#[test]
fn named_hours_divide_a_series_and_need_hours() {
    let split = |bucket: &'static str, cheap: Value| {
        move |value: &mut Value| {
            value["meters"][1]["bucket"] = json!(bucket);
            value["skus"][1]["match"]["hours"] = json!({"zone": "+01:00", "at": [{"from": 8, "to": 20}]});
            let matches = json!({"service": "AmazonEC2", "hours": cheap});
            let skus = value["skus"].as_array_mut().unwrap();
            skus.push(json!({"id": "m5-cheap", "match": matches, "unit": "Hrs", "rate": "0.05"}));
        }
    };
    let rest = json!({"zone": "+01:00", "except": [{"from": 8, "to": 20}]});
    check(split("hour", rest.clone()), &[]);
    // The same hours in another zone.
    check(split("hour", json!({"at": [{"from": 19}, {"to": 7}]})), &[]);
    check(
        split("hour", json!({"at": [{"from": 18, "to": 20}]})),
        &["skus[2].match: skus m5-large (skus[1]) and m5-cheap can match one series of meter ec2-box; narrow"],
    );
    check(
        split("day", rest),
        &[
            "skus[1].match.hours: sku m5-large names hours, which meter ec2-box does not tell apart; drop hours",
            "skus[2].match.hours: sku m5-cheap names hours, which meter ec2-box does not tell apart; drop hours",
        ],
    );
}

#[test]
fn prorated_ladders_need_levels_of_one_kind() {
    let walk = |change: fn(&mut Value)| {
        move |value: &mut Value| {
            value["meters"][0] = json!({"id": "s3-storage", "service": "AmazonS3", "usage_type": "TimedStorage-ByteHrs",
                "scale": 0, "attributes": ["class"], "aggregation": "level"});
            value["prices"][0]["prorate"] = json!("ladder");
            change(value);
        }
    };
    check(walk(|_| {}), &[]);
    check(
        walk(|value| value["meters"][0]["aggregation"] = json!("latest")),
        &["prices[0].prorate: price s3 prorates its ladder, but meter s3-storage measures no level; use"],
    );
    check(
        walk(|value| value["prices"][0]["model"] = json!("volume")),
        &["prices[0].prorate: price s3 prorates its ladder and is not graduated; use model: graduated"],
    );
    check(
        walk(|value| {
            value["prices"][0]["tiers"][0]["block"] = json!("10");
            value["prices"][0]["free_units"] = json!("1");
        }),
        &[
            "prices[0].prorate: price s3 prorates its ladder and has blocks; drop blocks",
            "prices[0].prorate: price s3 prorates its ladder and has free_units; drop free_units; a tier of rate 0",
        ],
    );
    check(
        walk(|value| value["pools"][0] = json!({"id": "free", "units": "750", "skus": ["s3-*"]})),
        &["skus[0]: sku s3-standard has free pools, but price s3 prorates its ladder; drop them"],
    );
    // Each SKU has ladders of its own, until they share one.
    let cold: fn(&mut Value) = |value| {
        let matches = json!({"service": "AmazonS3", "attributes": {"class": "GLACIER"}});
        let skus = value["skus"].as_array_mut().unwrap();
        skus.push(json!({"id": "s3-cold", "match": matches, "unit": "GB-Mo", "price": "s3"}));
    };
    check(walk(cold), &[]);
    check(
        move |value: &mut Value| {
            walk(cold)(value);
            value["prices"][0]["pool"] = json!({"split_by": ["payer"]});
        },
        &["prices[0].prorate: price s3 prorates its ladder over series of different scale or convert, as sku s3-cold"],
    );
}
