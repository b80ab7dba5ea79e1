//! Bills by hand arithmetic and published figures.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::billing::bill::{LineKind, UnpricedReason};
use crate::billing::case::{Case, data_transfer, family_of_95_tb, graduated, instance_hours, transfer};
use crate::billing::input::Counter;
use crate::pricing::catalogue::MeterIndex;
use crate::usage::series::SeriesKey;

#[test]
fn bob_and_susan_climb_one_ladder() {
    // BILLING.md 1.1, example 1: 10,240 * 0.17 + 2,048 * 0.13 = 1740.80 + 266.24 = 2007.04.
    let case = Case::new(transfer(graduated(&[("10240", "0.17"), ("", "0.13")]), "month"))
        .usage(&["b transfer out - 8192", "a transfer out - 4096"]);
    case.check(&[
        "usage a out 1 3413.333333333333 0.17 580.266666666667",
        "usage a out 2 682.666666666667 0.13 88.746666666667",
        "usage b out 1 6826.666666666667 0.17 1160.533333333333",
        "usage b out 2 1365.333333333333 0.13 177.493333333333",
    ]);
    let bodies = case.fold();
    assert_eq!((bodies.len(), bodies[0].payable.to_string()), (1, "2007.04".to_owned()));
    assert_eq!(bodies[0].pools[0].quantity.to_string(), "12288");
    // Separately: 8,192 * 0.17 + 4,096 * 0.17 = 2088.96.
    let alone = json!({"id": "out", "model": "graduated", "pool": {"split_by": ["account", "sku"]},
        "tiers": [{"up_to": "10240", "rate": "0.17"}, {"rate": "0.13"}]});
    let alone = Case::new(transfer(alone, "month")).usage(&["b transfer out - 8192", "a transfer out - 4096"]);
    assert_eq!(alone.total(), "2088.96");
}

#[test]
fn the_family_total_is_the_same_under_both_attributions() {
    // BILLING.md 1.1, example 2, and 1.2: 100 + 3920 + 2700 = 6720; by sequence 2120, 2500 and 2100.
    let by_account = |case: &Case| {
        let body = &case.fold()[0];
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        for line in &body.lines {
            *sums.entry(body.item(line).unwrap().series.account.to_string()).or_default() += line.amount.0;
        }
        sums.into_values().map(|sum| Money(sum).to_string()).collect::<Vec<_>>()
    };
    let sequence = family_of_95_tb("sequence");
    assert_eq!(
        (sequence.total().as_str(), by_account(&sequence)),
        ("6720", vec!["2120".into(), "2500".into(), "2100".into()])
    );
    sequence.check(&[
        "usage a out 1 1000 0.1 100",
        "usage a out 2 14000 0.08 1120",
        "usage a out 3 15000 0.06 900",
        "usage b out 2 20000 0.08 1600",
        "usage b out 3 15000 0.06 900",
        "usage c out 2 15000 0.08 1200",
        "usage c out 3 15000 0.06 900",
    ]);
    let prorata = family_of_95_tb("prorata");
    assert_eq!(prorata.total(), "6720");
    // 30 and 35 of 95 parts of each slice. Odd steps: of 100 and 3920 to b (remainders .89 and .47), of 2700 to a (.42).
    assert_eq!(by_account(&prorata), ["2122.105263157895", "2475.789473684211", "2122.105263157894"]);
}

#[test]
fn a_free_pool_comes_before_the_ladder() {
    instance_hours().check(&[
        "usage a box free 1620 0 0",
        "usage a box 1 540 0.023 12.42",
        "usage b box free 540 0 0",
        "usage b box 1 180 0.023 4.14",
    ]);
}

#[test]
fn several_ladders_share_a_free_pool() {
    // 40,000 GB: pro rata 25 free in ap, 25 and 50 in us. ap 9,975 * 0.114 = 1137.15; us 29,925: 921.60 + 1673.225.
    data_transfer("prorata").check(&[
        "usage a ap free 25 0 0",
        "usage a ap 1 9975 0.114 1137.15",
        "usage a us free 25 0 0",
        "usage a us 1 3413.333333333333 0.09 307.2",
        "usage a us 2 6561.666666666667 0.085 557.741666666667",
        "usage b us free 50 0 0",
        "usage b us 1 6826.666666666667 0.09 614.4",
        "usage b us 2 13123.333333333333 0.085 1115.483333333333",
        "rounding root - - - - 0.005",
    ]);
    // By sequence the first lot, in ap, takes it all: 9,900 * 0.114 = 1128.60; us 30,000: 921.60 + 19,760 * 0.085.
    let sequence = data_transfer("sequence");
    assert_eq!(sequence.lines()[0], "usage a ap free 100 0 0");
    assert_eq!(sequence.total(), "3729.8");
}

#[test]
fn pools_may_span_payers_and_name_their_root() {
    let mut price = graduated(&[("100", "1"), ("", "0.5")]);
    price["pool"] = json!({"split_by": ["root"]});
    let accounts = json!([{"id": "a", "payer": "root"}, {"id": "b", "payer": "p"}]);
    let case = Case::with(transfer(price, "month"), json!(["root", "p"]), accounts)
        .usage(&["a transfer out - 100", "b transfer out - 300"]);
    // 400 together: 100 + 150 = 250, a quarter and three quarters.
    let bodies = case.fold();
    let totals: Vec<_> = bodies.iter().map(|body| (body.payer.as_str(), body.total.to_string())).collect();
    assert_eq!(totals, [("p", "187.5".to_owned()), ("root", "62.5".to_owned())]);
    assert_eq!(bodies[0].pools[0].keys, [(crate::pricing::pool::SplitKey::Root, "root".to_owned())]);
    assert_eq!(bodies[0].pools[0].slices.len(), 2);
}

#[test]
fn groups_and_attributes_split_pools() {
    let ladder = |split: Value| {
        let mut price = graduated(&[("100", "1"), ("", "0.5")]);
        price["pool"] = json!({"split_by": split});
        transfer(price, "month")
    };
    let accounts =
        json!([{"id": "a", "group": "g"}, {"id": "b", "group": "g"}, {"id": "c"}, {"id": "d", "group": "h"}]);
    let usage = ["a transfer out eu 100", "b transfer out us 100", "c transfer out eu 100", "d transfer out eu 100"];
    let total = |split: Value| {
        let mut case = Case::with(ladder(split), json!([]), json!([]));
        case.hierarchy = Case::hierarchy(json!([]), json!(["g", "h"]), accounts.clone());
        case.usage(&usage).total()
    };
    // All together 100 + 150; by group 150 + 100 + 100; by region 200 + 100; by account 400.
    assert_eq!(total(json!([])), "250");
    assert_eq!(total(json!(["group"])), "350");
    assert_eq!(total(json!(["region"])), "300");
    assert_eq!(total(json!(["account"])), "400");
}

#[test]
fn units_are_converted_once_a_pool_and_rounded_if_asked() {
    // 100 GB-Mo and a third of one: 2^30 * 720 byte-hours each in September.
    let catalogue = |round: Value| {
        let mut price = json!({"id": "p", "model": "per_unit", "rate": "0.023"});
        if !round.is_null() {
            price["round_units"] = round;
        }
        json!({
            "meters": [{"id": "s", "service": "s3", "usage_type": "bytes", "scale": 0}],
            "skus": [{"id": "s", "match": {}, "unit": "GB-Mo", "price": "p",
                      "convert": {"divide": "1073741824", "by_hours_of_cycle": true}}],
            "prices": [price],
        })
    };
    let third = "a s3 bytes - 257698037760";
    Case::new(catalogue(Value::Null))
        .usage(&[third])
        .check(&["usage a s 1 0.333333333333 0.023 0.007666666667", "rounding root - - - - 0.002333333333"]);
    // Three thirds are one, divided again with one odd step; rounded up to a whole unit the parts stay.
    let thirds = [third, "b s3 bytes - 257698037760", "c s3 bytes - 257698037760"];
    let lines = Case::new(catalogue(Value::Null)).usage(&thirds).lines();
    assert_eq!(lines[0], "usage a s 1 0.333333333334 0.023 0.007666666667");
    let up = json!({"decimals": 0, "mode": "up"});
    Case::new(catalogue(up)).usage(&[third]).check(&["usage a s 1 1 0.023 0.023", "rounding root - - - - -0.003"]);
}

#[test]
fn flats_and_packages_are_shared_like_their_quantity() {
    let tiers = json!({"id": "out", "model": "volume", "tiers": [{"up_to": "100", "flat": "10"}, {"flat": "16"}]});
    Case::new(transfer(tiers, "month"))
        .usage(&["a transfer out - 100", "b transfer out - 300"])
        .check(&["usage a out 2 100 0 4", "usage b out 2 300 0 12"]);
    let package = json!({"id": "out", "model": "package", "rate": "5", "package": {"size": "100"}, "free_units": "10"});
    // 260 - 10 = 250: 3 started packages, 15 divided 125 to 125.
    Case::new(transfer(package, "month")).usage(&["a transfer out - 130", "b transfer out - 130"]).check(&[
        "usage a out free 5 0 0",
        "usage a out 1 125 5 7.5",
        "usage b out free 5 0 0",
        "usage b out 1 125 5 7.5",
    ]);
}

fn private(may_raise: bool) -> Case {
    Case::new(transfer(graduated(&[("1000", "0.6"), ("", "0.5")]), "month"))
        .usage(&["a transfer out - 2000"])
        .clauses(json!([{"id": "flat", "mechanism": "private_rate", "scope": {"sku": "out"}, "rate": "0.55",
            "may_raise": may_raise}]))
}

#[test]
fn a_private_rate_never_raises_a_slice() {
    // 1,000 at 0.55 instead of 0.60 saves 50; the second slice is cheaper in public and stays.
    private(false).check(&[
        "usage a out 1 1000 0.6 600",
        "usage a out 2 1000 0.5 500",
        "discount a out flat 1000 0.55 -50",
    ]);
    let raised = private(true);
    assert_eq!(raised.total(), "1100");
    assert_eq!(raised.lines()[3], "surcharge a out flat 1000 0.55 50");
    let body = &raised.fold()[0];
    assert_eq!((body.lines[3].from.clone(), body.lines[3].kind()), (vec![2], LineKind::Surcharge));
}

fn two_services() -> Value {
    json!({
        "meters": [
            {"id": "ec2", "service": "ec2", "usage_type": "box"},
            {"id": "s3", "service": "s3", "usage_type": "bytes"},
        ],
        "skus": [
            {"id": "box", "match": {"service": "ec2"}, "unit": "Hrs", "rate": "1"},
            {"id": "bytes", "match": {"service": "s3"}, "unit": "GB", "rate": "1"},
        ],
    })
}

#[test]
fn percentages_stack_on_what_is_left() {
    let attribute = json!({"id": "abd", "mechanism": "percent", "kind": "attribute", "percent": "5",
        "scope": {"usage_type": "box"}});
    let case = Case::new(two_services()).usage(&["a ec2 box - 960", "a s3 bytes - 100"]);
    // BILLING.md 2.4: 5% of 960 = 48.
    case.clauses(json!([attribute])).check(&[
        "usage a box 1 960 1 960",
        "usage a bytes 1 100 1 100",
        "discount a box abd - 0.05 -48",
    ]);
    // The wide one last, whatever the file's order: 10% of 912 and of 100; s3 is left out of the other wide one.
    let wide = json!({"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": "10"});
    let narrow = json!({"id": "ssd", "mechanism": "percent", "kind": "cross_service", "percent": "50",
        "exclude": [{"service": "s3"}]});
    let case = Case::new(two_services()).usage(&["a ec2 box - 960", "a s3 bytes - 100"]);
    let case = case.clauses(json!([wide, narrow, attribute]));
    case.check(&[
        "usage a box 1 960 1 960",
        "usage a bytes 1 100 1 100",
        "discount a box abd - 0.05 -48",
        "discount a box edp - 0.1 -91.2",
        "discount a bytes edp - 0.1 -10",
        "discount a box ssd - 0.5 -410.4",
    ]);
    let body = &case.fold()[0];
    assert_eq!(body.lines[5].from, [1, 3, 4]);
}

#[test]
fn a_trigger_must_be_reached() {
    let case = |threshold: Value| {
        let mut trigger = json!({"scope": {"service": "ec2"}});
        trigger.as_object_mut().unwrap().append(&mut threshold.as_object().unwrap().clone());
        let clause = json!({"id": "csd", "mechanism": "percent", "kind": "cross_service", "percent": "10",
            "scope": {"service": "s3"}, "trigger": trigger});
        Case::new(two_services()).usage(&["a ec2 box - 960", "b s3 bytes - 100"]).clauses(json!([clause])).total()
    };
    assert_eq!(case(json!({"spend": "960"})), "1050");
    assert_eq!(case(json!({"spend": "960", "bound": "upper"})), "1060");
    assert_eq!(case(json!({"spend": "960.000000000001"})), "1060");
    assert_eq!(case(json!({"quantity": "960"})), "1050");
}

#[test]
fn the_order_of_stages_is_data() {
    let mut case = Case::new(transfer(graduated(&[("1000", "0.6"), ("", "0.5")]), "month"))
        .usage(&["a transfer out - 1000"])
        .clauses(json!([
            {"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": "95"},
            {"id": "flat", "mechanism": "private_rate", "scope": {}, "rate": "0.1"},
        ]));
    // Rate first: 600 - 500 - 95 = 5.
    assert_eq!(case.total(), "5");
    // Percentage first: 600 - 570 = 30, and the rate's 500 are cut at what is left.
    case.contract.as_mut().unwrap().stages =
        Some(vec![Stage::Usage, Stage::CrossServicePercent, Stage::PrivateRates, Stage::Rounding]);
    assert_eq!(case.total(), "0");
    case.contract.as_mut().unwrap().stages = Some(vec![Stage::Usage, Stage::PrivateRates, Stage::Rounding]);
    let body = &case.fold()[0];
    assert_eq!((body.total.to_string(), body.stages.len()), ("100".to_owned(), 3));
}

#[test]
fn both_rounding_modes() {
    let catalogue = |rounding: Value| {
        let mut catalogue = transfer(json!({"id": "out", "model": "per_unit", "rate": "0.333"}), "month");
        catalogue["rounding"] = rounding;
        catalogue
    };
    let usage = ["a transfer out - 1", "b transfer out - 1", "c transfer out - 1"];
    // 3 * 0.333 = 0.999 -> 1.00 by one rounding line.
    Case::new(catalogue(json!({}))).usage(&usage).check(&[
        "usage a out 1 1 0.333 0.333",
        "usage b out 1 1 0.333 0.333",
        "usage c out 1 1 0.333 0.333",
        "rounding root - - - - 0.001",
    ]);
    // By line the charge of 0.999 is 1.00, divided in cents: the odd one by account id.
    let by_line = json!({"at": "line"});
    Case::new(catalogue(by_line.clone())).usage(&usage).check(&[
        "usage a out 1 1 0.333 0.34",
        "usage b out 1 1 0.333 0.33",
        "usage c out 1 1 0.333 0.33",
    ]);
    // 10% of 0.34, 0.33 and 0.33 are 0.034 and 0.033: three cents, each its own derived amount.
    let clause = json!([{"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": "10"}]);
    let case = Case::new(catalogue(by_line)).usage(&usage).clauses(clause);
    assert_eq!(case.lines()[3], "discount a out edp - 0.1 -0.03");
    assert_eq!(case.total(), "0.91");
    // Other scales and modes: yen have no minor unit, floor cuts.
    let mut yen = catalogue(json!({"mode": "floor"}));
    yen["currency"] = json!("JPY");
    assert_eq!(Case::new(yen).usage(&usage).fold()[0].payable, Money::ZERO);
    let tens = catalogue(json!({"decimals": -1, "mode": "up"}));
    assert_eq!(Case::new(tens).usage(&usage).fold()[0].payable.to_string(), "10");
}

#[test]
fn what_has_no_price_is_listed_and_not_charged() {
    let catalogue = json!({
        "meters": [{"id": "m", "service": "s", "usage_type": "u"}],
        "skus": [{"id": "eu", "match": {"region": "eu"}, "unit": "x", "rate": "1"}],
    });
    let case = Case::new(catalogue).usage(&["a s u us 7", "b s u eu -1", "c s u eu 0"]);
    let body = &case.fold()[0];
    let found: Vec<_> =
        body.unpriced.iter().map(|u| (u.series.account.as_str(), u.counted.to_string(), u.reason)).collect();
    let expected = [("a", "7".to_owned(), UnpricedReason::NoSku), ("b", "-1".to_owned(), UnpricedReason::BelowZero)];
    assert_eq!(found, expected);
    assert_eq!((body.lines.len(), body.payable), (0, Money::ZERO));
}

#[test]
fn strangers_have_no_bill() {
    let case = Case::new(two_services()).usage(&["z ec2 box - 1"]);
    let (series, _, _) = &case.usage[0];
    let counters = vec![Counter { series, meter: MeterIndex(0), bucket: None, value: 1, records: 1, kept: &[] }];
    let cycle = "2024-09".parse().unwrap();
    let (hierarchy, catalogue, balances) = (&case.hierarchy, &case.catalogue, case.balances.clone());
    let input = FoldInput {
        hierarchy,
        cycle,
        catalogue,
        contract: None,
        counters,
        balances,
        drawn_later: BTreeMap::new(),
        interim: false,
        own_shortfalls: true,
        settled: BTreeMap::new(),
    };
    assert_eq!(fold(&input), Err(FoldError::UnknownAccount(AccountId::new("z").unwrap())));
}

#[test]
fn full_counters_do_not_overflow() {
    // The dearest rate, a flat part and full counters on many accounts: the ceiling leaves room for all of them.
    let price = json!({"id": "out", "model": "graduated", "tiers": [
        {"up_to": "1", "rate": "1000000000", "flat": "1000000000"}, {"rate": "999999999.999999999999999999"}]});
    let accounts: Vec<Value> = (0..2_000).map(|n| json!({"id": format!("a{n}")})).collect();
    let mut case = Case::with(transfer(price, "month"), json!([]), json!(accounts));
    let ceiling = case.catalogue.meters()[0].ceiling;
    assert_eq!(ceiling, 1_000_000 * 10i128.pow(12));
    for n in 0..2_000 {
        let key = SeriesKey::new(AccountId::new(&format!("a{n}")).unwrap(), "transfer", "out", "", "", Vec::new());
        case.usage.push((key, None, Quantity(ceiling)));
    }
    // 2 * 10^9 units at nearly 10^9 each, plus the first unit's rest and the flat part.
    let total = case.fold()[0].total;
    assert!(total > Money(19 * 10i128.pow(17 + 12)) && total < Money(2 * 10i128.pow(18 + 12) + 10i128.pow(10 + 12)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn parts_sum_order_is_nothing_and_discounts_only_lower(
        quantities in prop::collection::vec((0usize..3, 0u16..30, 1i128..10i128.pow(17)), 1..12),
        ends in prop::collection::btree_set(1u32..200_000, 1..4),
        rates in prop::collection::vec(0u32..1_000, 4),
        percent in 0u32..=100, private in 0u32..1_000, sequence: bool, by_line: bool, shuffle: u64,
    ) {
        let mut tiers: Vec<Value> = ends.iter().zip(&rates)
            .map(|(end, rate)| json!({"up_to": end.to_string(), "rate": format!("0.{rate:03}")})).collect();
        tiers.push(json!({"rate": format!("0.{:03}", rates[3])}));
        let price = json!({"id": "out", "model": "graduated", "tiers": tiers,
            "attribution": if sequence { "sequence" } else { "prorata" }, "free_units": "1000"});
        let mut catalogue = transfer(price, "day");
        catalogue["rounding"] = json!({"at": if by_line { "line" } else { "total" }});
        let mut case = Case::new(catalogue);
        let mut seen = std::collections::BTreeSet::new();
        for (account, day, quantity) in quantities {
            if seen.insert((account, day)) {
                let account = AccountId::new(["a", "b", "c"][account]).unwrap();
                case.usage.push((SeriesKey::new(account, "transfer", "out", "", "", Vec::new()), Some(day), Quantity(quantity)));
            }
        }
        let list = case.fold().remove(0);
        // Quantities come back whole, each account's within a step a line.
        let counted: i128 = case.usage.iter().map(|row| row.2.0).sum();
        let billed: i128 = list.lines.iter().filter_map(|line| line.quantity).map(|q| q.0).sum();
        prop_assert_eq!(counted, billed);
        prop_assert!(list.lines.iter().all(|line| line.amount >= Money::ZERO || line.kind() == LineKind::Rounding));
        // Any order of counters gives the same bill.
        let turn = shuffle as usize % case.usage.len();
        case.usage.rotate_left(turn);
        prop_assert_eq!(&case.fold()[0], &list);
        case.usage.reverse();
        prop_assert_eq!(&case.fold()[0], &list);
        // A contract only lowers, and never below zero, for every series.
        let case = case.clauses(json!([
            {"id": "flat", "mechanism": "private_rate", "scope": {}, "rate": format!("0.{private:03}")},
            {"id": "abd", "mechanism": "percent", "kind": "attribute", "scope": {"sku": "out"}, "percent": percent.to_string()},
            {"id": "edp", "mechanism": "percent", "kind": "cross_service", "percent": percent.to_string()},
        ]));
        let net = case.fold().remove(0);
        prop_assert!(net.total <= list.total && net.total >= Money::ZERO);
        for (index, _) in net.items.iter().enumerate() {
            let of = |body: &BillBody| body.lines.iter().filter(|l| l.item == Some(index as u32)).map(|l| l.amount.0).sum::<i128>();
            prop_assert!(of(&net) <= of(&list) && of(&net) >= 0);
        }
    }
}
