//! One random case: catalogue, contract, hierarchy and counters from a seed, and its bills by the engine and by the
//! reference model.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::account::tree::Hierarchy;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::parse_scaled;
use reckoner_shard::base::time::Timestamp;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::fold::fold;
use reckoner_shard::billing::input::{Counter as EngineCounter, FoldInput};
use reckoner_shard::billing::simulate::Counting;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::contract::terms::Contract;
use reckoner_shard::pricing::catalogue::Catalogue;
use reckoner_shard::pricing::document::{Bucket, CatalogueDocument};
use reckoner_shard::usage::record::UsageRecord;
use reckoner_shard::usage::series::SeriesKey;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::compare::{Shown, key_of};
use crate::draw::terms::balances;
use crate::draw::words::{chance, one};
use crate::draw::{catalogue, contract, hierarchy, records, usage};
use crate::model::bill::{self, Bills};
use crate::model::exact::{self, Exact};
use crate::model::ledger::{Cycle, Root, cycle_name};
use crate::model::record::Record;
use crate::model::series::{Counter, Series};

/// Months of 30, 31 and 28 days: 2026-09, 2026-10, 2027-02, in months since year 0.
const CYCLES: &[Cycle] = &[2026 * 12 + 8, 2026 * 12 + 9, 2027 * 12 + 1];

/// Everything that a hierarchy's bills of one cycle follow from, as a user writes it.
#[derive(Clone, Debug)]
pub struct Case {
    pub cycle: Cycle,
    pub catalogue: Value,
    pub contract: Option<Value>,
    pub hierarchy: Value,
    pub counters: Vec<Counter>,
    /// Records of meters that make more of them than a sum, in the order in which they came.
    pub records: Vec<Record>,
    /// What was used of the contract's lasting balances before the cycle.
    pub balances: BTreeMap<String, Exact>,
}

impl Case {
    /// The case of a seed.
    pub fn draw(seed: u64) -> Case {
        let mut rng = SmallRng::seed_from_u64(seed);
        let cycle = *one(&mut rng, CYCLES);
        let catalogue = catalogue::wide(&mut rng, &cycle_name(cycle));
        let hierarchy = hierarchy::hierarchy(&mut rng, "root", &cycle_name(cycle));
        let agreed = chance(&mut rng, 80);
        // Most contracts govern the cycle; some begin after it or end before it.
        let effective = cycle + 1 - *one(&mut rng, &[0, 1, 1, 1, 1, 1, 1, 2, 3]);
        let contract = agreed.then(|| contract::deal(&mut rng, &hierarchy, effective, &catalogue));
        let counters = usage::counters(&mut rng, &catalogue, &hierarchy, cycle);
        let records = records::records(&mut rng, &catalogue, &hierarchy, cycle);
        let balances = balances(&mut rng, contract.as_ref(), &hierarchy, cycle);
        Case { cycle, catalogue, contract, hierarchy, counters, records, balances }
    }

    /// The engine's bills; the error says which document it refused.
    pub fn engine(&self) -> Result<Vec<BillBody>, String> {
        let catalogue = Catalogue::compile(&document::<CatalogueDocument>(&self.catalogue)?);
        let catalogue = catalogue.map_err(|problems| format!("{problems:#?}\n{:#}", self.catalogue))?;
        let tree = document::<HierarchyDocument>(&self.hierarchy)?;
        if tree.check().iter().any(|problem| problem.is_error()) {
            return Err(format!("{:#?}\n{:#}", tree.check(), self.hierarchy));
        }
        let hierarchy = Hierarchy::create(&tree);
        let contract = match &self.contract {
            Some(value) => {
                let contract = Contract::compile(&document::<ContractDocument>(value)?, Some(&catalogue));
                Some(contract.map_err(|problems| format!("{problems:#?}\n{value:#}"))?)
            }
            None => None,
        };
        let rows: Vec<UsageRecord> = self.records.iter().map(row_of).collect();
        let mut counting =
            Counting::new(&catalogue, hierarchy.clone(), cycle_name(self.cycle).parse().expect("a cycle"));
        for row in &rows {
            counting.count(row).map_err(|refusal| format!("{row:?}: {refusal}"))?;
        }
        let kept = counting.kept();
        let keys: Vec<SeriesKey> = self.counters.iter().map(|counter| key_of(&counter.series)).collect();
        let mut counters: Vec<EngineCounter<'_>> = counting.counters(&kept).collect();
        for (counter, series) in self.counters.iter().zip(&keys) {
            let key = &series.dimensions;
            let meter = catalogue.meter_of(&key.service, &key.usage_type, &key.operation, &key.region, &key.attributes);
            let meter = meter.map_err(|error| format!("{series:?}: {error}"))?;
            let (bucket, scale) = (catalogue.meter(meter).bucket, catalogue.meter(meter).scale);
            let bucket = match bucket {
                Bucket::Month => None,
                Bucket::Day => Some((counter.bucket / 24) as u16),
                Bucket::Hour | Bucket::FiveMinutes => Some(counter.bucket as u16),
            };
            let value = parse_scaled(&exact::text(&counter.value), scale).map_err(|error| error.to_string())?;
            let records = counter.records;
            counters.push(EngineCounter { series, meter, bucket, value, records, kept: &[] });
        }
        let cycle = cycle_name(self.cycle).parse().expect("a cycle");
        let (contract, hierarchy, catalogue) = (contract.as_ref(), &hierarchy, &catalogue);
        let balance = |(name, used): (&String, &Exact)| (name.clone(), exact::text(used).parse().expect("12 decimals"));
        let (balances, drawn_later) = (self.balances.iter().map(balance).collect(), BTreeMap::new());
        let (settled, interim) = (BTreeMap::new(), false);
        let input =
            FoldInput { hierarchy, cycle, catalogue, contract, counters, balances, drawn_later, interim, settled };
        fold(&input).map_err(|error| error.to_string())
    }

    /// The reference model's bills.
    pub fn model(&self) -> Bills {
        let root = Root::new(0, self.hierarchy.clone(), self.cycle, self.catalogue.clone());
        let (cycle, usage) = (cycle_name(self.cycle), (&*self.counters, &*self.records));
        let contract = self.contract.as_ref();
        bill::fold(&self.catalogue, contract, &cycle, usage, &self.balances, &|account| root.member(account))
    }

    /// The engine's bills beside the model's; the error is the first difference.
    pub fn check(&self) -> Result<Vec<BillBody>, String> {
        let bills = self.engine()?;
        match Shown::of_engine(&bills).difference(&Shown::of_model(&self.model())) {
            Some(why) => Err(why),
            None => Ok(bills),
        }
    }
}

/// A record as its sender writes it.
fn row_of(record: &Record) -> UsageRecord {
    let Series { account, service, usage_type, operation, region, attributes } = record.series.clone();
    UsageRecord {
        id: record.id.clone(),
        account: AccountId::new(&account).expect("a good name"),
        service,
        usage_type,
        operation,
        region,
        quantity: exact::text(&record.quantity).parse().expect("a quantity"),
        start: Timestamp(record.start),
        end: Some(Timestamp(record.end)).filter(|_| record.end != record.start),
        attributes: attributes.into_iter().collect(),
        amount: record.amount.as_ref().map(|amount| exact::text(amount).parse().expect("an amount")),
        corrects: record.corrects.then(|| "another".to_owned()),
    }
}

fn document<D: DeserializeOwned>(value: &Value) -> Result<D, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{error}\n{value:#}"))
}
