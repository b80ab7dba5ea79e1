//! Small hierarchies for tests: documents and usage that can be read, folded and shown in a line a row.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bill::{BillBody, Line, Source};
use super::fold::fold;
use super::input::{Counter, FoldInput};
use crate::account::document::HierarchyDocument;
use crate::account::tree::Hierarchy;
use crate::base::id::AccountId;
use crate::base::money::{Money, Quantity};
use crate::contract::document::ContractDocument;
use crate::contract::terms::Contract;
use crate::pricing::catalogue::Catalogue;
use crate::pricing::document::CatalogueDocument;
use crate::usage::series::SeriesKey;

/// A hierarchy's documents and usage, small enough to read.
pub struct Case {
    pub hierarchy: Hierarchy,
    pub catalogue: Catalogue,
    pub contract: Option<Contract>,
    /// Account, service, usage type, region, attributes, bucket, quantity in the meter's unit.
    pub usage: Vec<(SeriesKey, Option<u16>, Quantity)>,
    /// What was used of balances before.
    pub balances: BTreeMap<String, Money>,
    pub interim: bool,
}

impl Case {
    pub fn new(catalogue: Value) -> Case {
        Case::with(catalogue, json!([]), json!([{"id": "a"}, {"id": "b"}, {"id": "c"}]))
    }

    pub fn with(mut catalogue: Value, payers: Value, accounts: Value) -> Case {
        for (field, value) in [("kind", "Catalogue"), ("name", "public"), ("effective", "2024-09")] {
            catalogue[field] = json!(value);
        }
        if catalogue.get("currency").is_none() {
            catalogue["currency"] = json!("USD");
        }
        let catalogue: CatalogueDocument = serde_json::from_value(catalogue).unwrap();
        let catalogue = Catalogue::compile(&catalogue).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let hierarchy = Case::hierarchy(payers, json!([]), accounts);
        Case { hierarchy, catalogue, contract: None, usage: Vec::new(), balances: BTreeMap::new(), interim: false }
    }

    /// Of the root `root`.
    pub fn hierarchy(payers: Value, groups: Value, accounts: Value) -> Hierarchy {
        let document: HierarchyDocument = serde_json::from_value(json!({"kind": "Hierarchy", "root": "root",
            "catalogue": "public", "payers": payers, "groups": groups, "accounts": accounts,
            "cycles": {"first": "2024-09"}}))
        .unwrap();
        Hierarchy::create(&document)
    }

    pub fn clauses(mut self, clauses: Value) -> Case {
        let document: ContractDocument = serde_json::from_value(
            json!({"kind": "Contract", "root": "root", "effective": "2024-09", "clauses": clauses}),
        )
        .unwrap();
        let contract = Contract::compile(&document, Some(&self.catalogue));
        self.contract = Some(contract.unwrap_or_else(|problems| panic!("{problems:#?}")));
        self
    }

    /// Rows of `account service usage_type region quantity [bucket]`, dimensions `-` for none.
    pub fn usage(mut self, rows: &[&str]) -> Case {
        for row in rows {
            let words: Vec<&str> = row.split_whitespace().collect();
            let region = if words[3] == "-" { "" } else { words[3] };
            let key = SeriesKey::new(AccountId::new(words[0]).unwrap(), words[1], words[2], "", region, Vec::new());
            self.usage.push((key, words.get(5).map(|word| word.parse().unwrap()), words[4].parse().unwrap()));
        }
        self
    }

    pub fn fold(&self) -> Vec<BillBody> {
        let counters = self.usage.iter().map(|(series, bucket, quantity)| {
            let found = self.catalogue.meter_of(
                &series.service,
                &series.usage_type,
                &series.operation,
                &series.region,
                &series.attributes,
            );
            let meter = found.unwrap_or_else(|error| panic!("{series:?}: {error}"));
            let step = crate::base::wide::power_of_ten(12 - self.catalogue.meter(meter).scale);
            Counter { series, meter, bucket: *bucket, value: quantity.0 / step, records: 1, kept: &[] }
        });
        let input = FoldInput {
            hierarchy: &self.hierarchy,
            cycle: "2024-09".parse().unwrap(),
            catalogue: &self.catalogue,
            contract: self.contract.as_ref(),
            counters: counters.collect(),
            balances: self.balances.clone(),
            drawn_later: BTreeMap::new(),
            interim: self.interim,
            own_shortfalls: true,
            settled: BTreeMap::new(),
        };
        fold(&input).unwrap()
    }

    /// One line a row: `kind account sku tier quantity rate amount`, tier `free` for free units, `-` for none.
    pub fn lines(&self) -> Vec<String> {
        self.fold().iter().flat_map(|body| body.lines.iter().map(|line| show(body, line))).collect()
    }

    pub fn check(&self, expected: &[&str]) {
        let found = self.lines();
        assert_eq!(found, expected, "\n{}", found.join("\n"));
    }

    pub fn total(&self) -> String {
        self.fold()[0].total.to_string()
    }
}

pub fn show(body: &BillBody, line: &Line) -> String {
    let item = body.item(line);
    let who = item.map_or(body.payer.as_str(), |item| item.series.account.as_str());
    let tier = match &line.source {
        Source::FreeUnits { .. } | Source::FreePool { .. } => "free".to_owned(),
        Source::Price { tier, .. } => tier.index.to_string(),
        Source::PricePart { part, .. } => part.name().to_owned(),
        Source::Fee { subscription, .. } => subscription.to_string(),
        Source::Clause { clause, .. } => clause.to_string(),
        Source::Rounding => "-".to_owned(),
        Source::Refund { number } => format!("refund of {number}"),
    };
    let (quantity, rate) = (line.quantity.map(|q| q.to_string()), line.rate.map(|r| r.to_string()));
    format!(
        "{} {who} {} {tier} {} {} {}",
        line.kind().name(),
        item.map_or("-", |item| item.sku.as_str()),
        quantity.as_deref().unwrap_or("-"),
        rate.as_deref().unwrap_or("-"),
        line.amount
    )
}

pub fn transfer(price: Value, bucket: &str) -> Value {
    json!({
        "meters": [{"id": "out", "service": "transfer", "usage_type": "out", "bucket": bucket}],
        "skus": [{"id": "out", "match": {"service": "transfer"}, "unit": "GB", "price": "out"}],
        "prices": [price],
    })
}

pub fn graduated(tiers: &[(&str, &str)]) -> Value {
    let tiers: Vec<Value> = tiers
        .iter()
        .map(|(end, rate)| if end.is_empty() { json!({"rate": rate}) } else { json!({"up_to": end, "rate": rate}) })
        .collect();
    json!({"id": "out", "model": "graduated", "tiers": tiers})
}

pub fn family_of_95_tb(attribution: &str) -> Case {
    let mut price = graduated(&[("1000", "0.10"), ("50000", "0.08"), ("500000", "0.06"), ("", "0.05")]);
    price["attribution"] = json!(attribution);
    // Days chosen so that lots fill the tiers as in the published split: m1 1+14, m2 20, m3 15 TB on the first day.
    Case::new(transfer(price, "day")).usage(&[
        "a transfer out - 15000 0",
        "a transfer out - 15000 1",
        "b transfer out - 20000 0",
        "b transfer out - 15000 1",
        "c transfer out - 15000 0",
        "c transfer out - 15000 1",
    ])
}

/// 100 GB free over two services and two regions, then a ladder a region over both services.
pub fn data_transfer(share: &str) -> Case {
    let catalogue = json!({
        "meters": [
            {"id": "s3", "service": "s3", "usage_type": "out", "bucket": "hour"},
            {"id": "ec2", "service": "ec2", "usage_type": "out", "bucket": "hour"},
        ],
        "skus": [
            {"id": "us", "match": {"region": "us"}, "unit": "GB", "price": "us"},
            {"id": "ap", "match": {"region": "ap"}, "unit": "GB", "price": "ap"},
        ],
        "prices": [
            {"id": "us", "model": "graduated", "pool": {"split_by": ["region"]},
             "tiers": [{"up_to": "10240", "rate": "0.09"}, {"rate": "0.085"}]},
            {"id": "ap", "model": "graduated", "tiers": [{"up_to": "10240", "rate": "0.114"}, {"rate": "0.098"}]},
        ],
        "pools": [{"id": "free", "units": "100", "skus": ["us", "ap"], "share": share}],
    });
    Case::new(catalogue).usage(&["b ec2 out us 20000 5", "a s3 out us 10000 4", "a s3 out ap 10000 3"])
}

/// BILLING.md 1.2: 2,880 hours, 2,160 of them free, 720 * 0.023 = 16.56 -> 12.42 + 4.14.
pub fn instance_hours() -> Case {
    let catalogue = json!({
        "meters": [{"id": "box", "service": "ec2", "usage_type": "box"}],
        "skus": [{"id": "box", "match": {}, "unit": "Hrs", "rate": "0.023"}],
        "pools": [{"id": "free", "units": "2160", "skus": ["box"]}],
    });
    Case::new(catalogue).usage(&["a ec2 box - 2160", "b ec2 box - 720"])
}
