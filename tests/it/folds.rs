//! Random bills: catalogue, contract, hierarchy and counters drawn from a seed, folded by the engine and by the reference
//! model. Every line, every exact total and every payable must agree to the last digit.
//!
//! `RECKONER_FOLDS=100000` runs more; `RECKONER_SEED=17` runs one again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::account::tree::Hierarchy;
use reckoner_shard::base::money::parse_scaled;
use reckoner_shard::billing::fold::fold;
use reckoner_shard::billing::input::{Counter, FoldInput};
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::contract::terms::Contract;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::{Bucket, CatalogueDocument};
use reckoner_shard::usage::series::SeriesKey;
use reckoner_tests::compare::{compare, key_of};
use reckoner_tests::draw::{self, chance, one};
use reckoner_tests::model::bill::{self, Series, list, text};
use reckoner_tests::model::exact::{self, exact};
use reckoner_tests::model::ledger::{Root, cycle_name, hours_of};
use serde_json::Value;

/// Bills of one run: a few seconds.
const FOLDS: u64 = 3_000;
/// 2026-09, in months since year 0.
const CYCLE: u32 = 2026 * 12 + 8;

/// Counters of up to a dozen series, quantities small enough to meet the bounds of the drawn ladders.
fn counters(rng: &mut SmallRng, catalogue: &Value, accounts: &[String]) -> Vec<bill::Counter> {
    let mut found: BTreeMap<(Series, i64), exact::Exact> = BTreeMap::new();
    for _ in 0..rng.random_range(1..=12) {
        let meter = one(rng, list(catalogue, "meters"));
        let mut attributes = Vec::new();
        if !meter["attributes"].is_null() && chance(rng, 80) {
            attributes.push(("class".to_owned(), one(rng, draw::CLASSES).to_string()));
        }
        let series = Series {
            account: one(rng, accounts).clone(),
            service: text(&meter["service"], "").to_owned(),
            usage_type: text(&meter["usage_type"], "").to_owned(),
            operation: one(rng, draw::OPERATIONS).to_string(),
            region: one(rng, draw::REGIONS).to_string(),
            attributes,
        };
        for _ in 0..rng.random_range(1..=3) {
            let hour = match text(&meter["bucket"], "month") {
                "hour" => rng.random_range(0..hours_of(CYCLE)),
                "day" => rng.random_range(0..30) * 24,
                _ => 0,
            };
            let scale = if meter["aggregation"] == "count" { 0 } else { meter["scale"].as_u64().unwrap_or(12) as u32 };
            let value = exact(&draw::quantity(rng, scale));
            *found.entry((series.clone(), hour)).or_insert_with(|| exact("0")) += value;
        }
    }
    found.into_iter().map(|((series, bucket), value)| bill::Counter { series, bucket, value }).collect()
}

fn one_fold(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let name = cycle_name(CYCLE);
    let catalogue_value = draw::catalogue(&mut rng, &name);
    let hierarchy_value = draw::hierarchy(&mut rng, "root", &name);
    let contract_value = chance(&mut rng, 70).then(|| draw::contract(&mut rng, "root", &name, &catalogue_value));
    let root = Root::new(0, hierarchy_value.clone(), CYCLE, catalogue_value.clone());
    let mut accounts: Vec<String> = vec!["root".to_owned()];
    accounts.extend(list(&hierarchy_value, "accounts").iter().map(|row| text(&row["id"], "").to_owned()));
    accounts.extend(list(&hierarchy_value, "payers").iter().map(|payer| text(payer, "").to_owned()));
    let counters = counters(&mut rng, &catalogue_value, &accounts);

    let document: CatalogueDocument = serde_json::from_value(catalogue_value.clone()).expect("a catalogue");
    let catalogue = Catalogue::compile(&document).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let document: HierarchyDocument = serde_json::from_value(hierarchy_value).expect("a hierarchy");
    let hierarchy = Hierarchy::create(&document);
    let contract = contract_value.as_ref().map(|value| {
        let document: ContractDocument = serde_json::from_value(value.clone()).expect("a contract");
        Contract::compile(&document, Some(&catalogue)).unwrap_or_else(|problems| panic!("{problems:#?}\n{value:#}"))
    });
    let keys: Vec<SeriesKey> = counters.iter().map(|counter| key_of(&counter.series)).collect();
    let engine = counters.iter().zip(&keys).map(|(counter, series)| {
        let key = &series.dimensions;
        let meter = catalogue.meter_of(&key.service, &key.usage_type, &key.operation, &key.region, &key.attributes);
        let meter = meter.expect("a drawn series has a meter");
        let (bucket, scale) = (catalogue.meter(meter).bucket, catalogue.meter(meter).scale);
        let bucket = match bucket {
            Bucket::Month => None,
            Bucket::Day => Some((counter.bucket / 24) as u16),
            Bucket::Hour | Bucket::FiveMinutes => Some(counter.bucket as u16),
        };
        let value = parse_scaled(&exact::text(&counter.value), scale).expect("drawn at the meter's scale");
        Counter { series, meter, bucket, value, records: 1, kept: &[] }
    });
    let cycle = name.parse().expect("a cycle");
    let input = FoldInput {
        hierarchy: &hierarchy,
        cycle,
        catalogue: &catalogue,
        contract: contract.as_ref(),
        counters: engine.collect(),
        balances: BTreeMap::new(),
        interim: false,
    };
    let found = fold(&input).expect("nothing drawn overflows");
    let hours = hours_of(CYCLE);
    let member = |account: &str| root.member(account);
    let expected = bill::fold(&catalogue_value, contract_value.as_ref(), (&name, hours), &counters, &member);
    compare(&found, &expected);
}

#[test]
fn engine_and_model_fold_alike() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("RECKONER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RECKONER_FOLDS").unwrap_or(FOLDS),
    };
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| one_fold(seed))).is_err() {
            panic!("fold {seed} failed as said above; run it again with RECKONER_SEED={seed}");
        }
    }
}
