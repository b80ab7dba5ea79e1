//! The examples are what they say: their documents check clean, every record of their usage is counted, and the bill comes
//! to what `expected.json` (computed by `examples/convert.py` with Python's exact numbers) or the README says.

use std::fs;
use std::path::{Path, PathBuf};

use reckoner_client::files::documents::{Document, read_files};
use reckoner_client::files::usage::UsageReader;
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::money::print_scaled;
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::simulate::{Simulated, Simulation, simulate};
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::record::UsageRecord;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// An example's files.
struct Example {
    catalogue: CatalogueDocument,
    hierarchy: HierarchyDocument,
    contract: Option<ContractDocument>,
    records: Vec<UsageRecord>,
}

impl Example {
    fn read(name: &str, usage: &str) -> Example {
        let folder = folder(name);
        let files: Vec<PathBuf> = ["catalogue.yaml", "hierarchy.yaml", "contract.yaml"]
            .iter()
            .map(|file| folder.join(file))
            .filter(|path| path.exists())
            .collect();
        let (placed, findings) = read_files(&files).unwrap_or_else(|error| panic!("{error}"));
        assert!(findings.is_empty(), "{}", findings.iter().map(|finding| finding.plain()).collect::<String>());
        let (mut catalogue, mut hierarchy, mut contract) = (None, None, None);
        for placed in placed {
            match placed.document {
                Document::Catalogue(document) => catalogue = Some(*document),
                Document::Hierarchy(document) => hierarchy = Some(*document),
                Document::Contract(document) => contract = Some(*document),
            }
        }
        let reader = UsageReader::open(&folder.join(usage)).unwrap_or_else(|error| panic!("{error}"));
        let records: Vec<UsageRecord> =
            reader.map(|row| row.expect("a whole line").record.unwrap_or_else(|why| panic!("{why}"))).collect();
        let (catalogue, hierarchy) = (catalogue.expect("a catalogue"), hierarchy.expect("a hierarchy"));
        Example { catalogue, hierarchy, contract, records }
    }

    fn simulate(&self, cycle: CycleId, billed: &[BillBody]) -> Simulated {
        let simulation = Simulation {
            catalogue: &self.catalogue,
            contract: self.contract.as_ref(),
            hierarchy: &self.hierarchy,
            records: &self.records,
            cycle,
            billed,
            interim: false,
        };
        let simulated = simulate(&simulation).unwrap_or_else(|error| panic!("{error}"));
        assert!(simulated.refused.is_empty(), "{:?}", simulated.refused);
        simulated
    }
}

/// The one bill of an example, and how many records made it.
fn bill_of(name: &str, usage: &str) -> (BillBody, usize) {
    let example = Example::read(name, usage);
    let mut simulated = example.simulate(example.hierarchy.cycles.first, &[]);
    assert_eq!((simulated.counted, simulated.bodies.len()), (example.records.len(), 1));
    (simulated.bodies.remove(0), example.records.len())
}

fn expected(name: &str) -> Value {
    let text = fs::read_to_string(folder(name).join("expected.json")).expect("expected.json");
    serde_json::from_str(&text).expect("JSON")
}

fn check_totals(bill: &BillBody, records: usize, expected: &Value) {
    assert_eq!(records as u64, expected["records"]);
    assert_eq!(bill.total.to_string(), expected["exact_total"]);
    assert_eq!(bill.payable.to_string(), expected["payable"]);
}

#[test]
fn a_real_aws_bill_comes_to_its_published_costs() {
    let (bill, records) = bill_of("focus-aws", "usage.jsonl");
    let expected = expected("focus-aws");
    check_totals(&bill, records, &expected);
    let subtotals = bill.subtotals();
    let accounts = expected["accounts"].as_object().expect("accounts");
    assert_eq!(subtotals.accounts.len(), 66);
    for (account, sums) in &subtotals.accounts {
        assert_eq!(sums.net.to_string(), accounts[account.as_str()], "account {account}");
    }
    // A SKU of which nothing but zeros was recorded has no line.
    for (sku, amount) in expected["skus"].as_object().expect("skus") {
        let found = subtotals.skus.iter().find(|(own, _)| own.as_str() == sku);
        assert_eq!(found.map_or("0".to_owned(), |(_, sku)| sku.sums.net.to_string()), *amount, "sku {sku}");
    }
}

#[test]
fn an_hour_of_tokens_comes_to_its_arithmetic() {
    let (bill, records) = bill_of("llm-tokens", "usage.csv");
    let expected = expected("llm-tokens");
    check_totals(&bill, records, &expected);
    for pool in &bill.pools {
        for (slice, charge) in
            pool.slices.iter().zip(expected["charges"][pool.id.as_str()].as_array().expect("charges"))
        {
            assert_eq!(slice.amount.to_string(), charge["amount"], "tier {} of {}", slice.tier.index, pool.id);
        }
    }
    let (accounts, mut discount) = (bill.subtotals().accounts, 0);
    for (account, charged) in expected["charged_per_account"].as_object().expect("accounts") {
        let sums = accounts.iter().find(|(own, _)| own.as_str() == account).expect("a billed account").1;
        assert_eq!(sums.usage.to_string(), *charged, "account {account}");
        discount -= sums.discounts.0;
    }
    assert_eq!(print_scaled(discount, 12), expected["discount"]);
}

#[test]
fn the_quickstart_comes_to_its_readme() {
    let (bill, records) = bill_of("quickstart", "usage.jsonl");
    assert_eq!((records, bill.total.to_string(), bill.payable.to_string()), (8, "26.64".into(), "26.64".into()));
}

#[test]
fn the_prices_come_to_their_readme() {
    let example = Example::read("prices", "usage.jsonl");
    let october = example.simulate("2026-10".parse().expect("a cycle"), &[]);
    let usage = |bill: &BillBody| -> Vec<(String, String)> {
        let skus = bill.subtotals().skus.into_iter();
        skus.map(|(sku, sums)| (sku.to_string(), sums.sums.net.to_string())).collect()
    };
    let row = |sku: &str, amount: &str| (sku.to_owned(), amount.to_owned());
    assert_eq!(
        usage(&october.bodies[0]),
        [row("compute-day", "12"), row("compute-night", "0.5"), row("mail", "15"), row("messages", "50")]
    );
    let payable = |bills: &[BillBody]| bills.iter().map(|bill| bill.payable.to_string()).collect::<Vec<_>>();
    assert_eq!((payable(&october.bodies), payable(&october.pro_forma)), (vec!["77.5".into()], vec!["44.6".into()]));
    let november = example.simulate("2026-11".parse().expect("a cycle"), &october.bodies);
    assert_eq!(usage(&november.bodies[0]), [row("mail", "31"), row("messages", "60")]);
    assert_eq!(payable(&november.bodies), ["91"]);
}
