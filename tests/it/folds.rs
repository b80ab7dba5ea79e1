//! Random bills: catalogue, contract, hierarchy and counters drawn from a seed, folded by the engine and by the reference
//! model. Every line, every exact total and every payable must agree to the last digit, and a wrong engine must not pass.
//!
//! `RECKONER_FOLDS=100000` runs more; `RECKONER_SEED=17` runs one again.

use reckoner_tests::fold::{planted, soak};

/// Bills of one run: the quick suite's minute.
const FOLDS: u64 = 20_000;

/// What the bills of one run must come across; what none meets, none tests.
const MEETS: &[&str] = &[
    "rounding total half_up",
    "rounding line half_up",
    "rounding line half_even",
    "rounding line floor",
    "rounding total ceil",
    "stages of a catalogue",
    "stages of a contract",
    "contract not in force",
    "unpriced no_sku",
    "unpriced below_zero",
    "free pool prorata",
    "free pool sequence",
    "free units of graduated sequence",
    "graduated prorata",
    "graduated sequence",
    "volume sequence",
    "package sequence",
    "shared volume prorata",
    "shared package prorata",
    "discount private_rates",
    "surcharge private_rates",
    "discount attribute_percent",
    "discount service_percent",
    "discount cross_service_percent",
    "rounding line",
    "dynamic sequence",
    "percentage sequence",
    "graduated_percentage prorata",
    "stairstep sequence",
    "shared stairstep prorata",
    "tier with block",
    "tier with cap",
    "tier with flat",
    "flat part at zero",
    "price with round_units",
    "price with reached_by",
    "price with records",
    "price with changes",
    "price with prorate",
    "named hours, at",
    "named hours, except",
    "named hours, at, where clocks change",
    "named hours, except, where clocks change",
    "aggregation maximum",
    "aggregation latest",
    "aggregation unique",
    "aggregation percentile_95",
    "level by level and time",
    "level by level and day",
    "level by change and time",
    "level by change and day",
    "unpriced too_much",
    "pool by day",
    "pool by hour",
    "pool by contract_year",
    "per_unit by contract_year",
    "graduated by contract_year",
    "volume by contract_year",
    "stairstep by contract_year",
    "package by contract_year",
    "graduated_percentage by contract_year",
    "minimum of a contract year",
    "minimum of a contract year, without usage",
    "maximum of a contract year",
    "per_record of a price",
    "minimum of a price",
    "maximum of a price",
    "clause private_rate graduated, discount",
    "clause private_rate volume, discount",
    "clause private_rate graduated may_raise, surcharge",
    "clause waiver, discount",
    "clause waiver hour, discount",
    "clause volume volume spend, discount",
    "clause volume volume quantity, discount",
    "clause volume graduated spend, discount",
    "clause volume graduated quantity, discount",
    "clause fixed_discount, discount",
    "clause fixed_discount lasting, discount",
    "clause credit before, credit",
    "clause credit after, credit",
    "credit that is not shared",
    "clause commitment, discount",
    "clause commitment, shortfall",
    "clause prepayment, discount",
    "clause prepayment, prepaid",
    "clause percent_fee list, fee",
    "clause percent_fee graduated net, fee",
    "clause percent_fee volume net, fee",
    "clause fee, fee",
    "clause fee once, fee",
    "clause custom_line, fee",
    "clause custom_line itemised, fee",
    "clause minimum, true_up",
    "clause maximum, discount",
    "clause tax, tax",
    "clause of an exclusive group",
    "fee by once in arrears, prorate days",
    "fee by week in arrears, prorate days",
    "fee by month in arrears, prorate none",
    "fee by month in advance, prorate time",
    "fee by quarter in advance, prorate days",
    "fee by year in advance, prorate days",
    "fee taken back",
    "fee of a group",
    "minimum without usage",
    "limit of a price by days",
    "limit of a price by time",
    "clause minimum prorated by days",
    "clause minimum prorated by time",
    "clause maximum prorated by days",
    "clause maximum prorated by time",
    "clause percent_fee prorated by days",
    "clause percent_fee prorated by time",
    "clause percent stage, discount",
    "clause commitment stage, discount",
    "clause waiver by hour",
    "clause private_rate by contract_year",
    "clause volume by contract_year",
    "bill in EUR",
    "bill in JPY",
    "bill in KWD",
    "groups and payers change with the cycle",
    "groups and payers change with the next cycle",
    "pro forma discount attribute_percent",
    "pro forma surcharge attribute_percent",
    "pro forma fee fees",
    "spread within the cycle",
    "spread from before the cycle",
    "spread to after the cycle",
    "purchase of a fee",
    "purchase of a prepayment",
    "nothing bought by then",
    "shortfall bill",
];

#[test]
fn engine_and_model_fold_alike() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("RECKONER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RECKONER_FOLDS").unwrap_or(FOLDS),
    };
    let enough = seeds.end - seeds.start >= 1_000;
    let soaked = soak::run(seeds);
    assert!(soaked.failures.is_empty(), "{soaked}\nrun one again with RECKONER_SEED=<seed>");
    let never: Vec<&&str> = MEETS.iter().filter(|what| !soaked.met.contains_key(**what)).collect();
    assert!(!enough || never.is_empty(), "no case met {never:?}\n{soaked}");
}

#[test]
fn a_wrong_engine_is_found_out() {
    let caught = planted::run(0, planted::CASES_MAX);
    let never: Vec<&str> = caught.iter().filter(|caught| caught.after.is_none()).map(|caught| caught.name).collect();
    assert!(never.is_empty(), "not found within {} cases: {never:?}", planted::CASES_MAX);
    assert!(caught.len() >= 150, "only {} faults are planted", caught.len());
}
