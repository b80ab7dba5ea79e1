//! Real price lists become catalogues that price usage at once: every item of Oracle's list to its own arithmetic, every
//! published tier slice of AWS to its published cost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reckoner_client::files::documents::{Document, check, read_source};
use reckoner_client::files::finding::Source;
use reckoner_client::files::import::build::{Built, Wanted, build};
use reckoner_client::files::import::item::{Pick, What};
use reckoner_client::files::import::{aws, oci};
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::id::CatalogueName;
use reckoner_shard::base::wide::Rounding;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::simulate::{Simulation, simulate};
use reckoner_shard::billing::view::{BillView, LineView, MadeBy};
use reckoner_shard::pricing::document::{CatalogueDocument, SkuDocument};
use reckoner_shard::usage::record::UsageRecord;
use rust_decimal::Decimal;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/price-lists")
}

fn read_json(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(file)).unwrap()).unwrap()
}

fn pick() -> Pick {
    Pick { currency: None, effective: "2026-09".parse().unwrap() }
}

fn wanted(name: &str) -> Wanted<'static> {
    Wanted { name: CatalogueName::new(name).unwrap(), effective: pick().effective, after: None }
}

fn offers() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder().join("aws")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn aws_list() -> Built {
    build(aws::read_offers(&offers(), &pick()).unwrap(), &wanted("aws")).unwrap()
}

fn oci_list() -> Built {
    build(oci::read_lists(&[folder().join("oci-prices-usd.json")], &pick()).unwrap(), &wanted("oci")).unwrap()
}

/// The one bill of records of account acme.
fn bill(catalogue: &CatalogueDocument, records: &[Value]) -> BillBody {
    let hierarchy = json!({"kind": "Hierarchy", "root": "acme", "catalogue": catalogue.name,
        "cycles": {"first": "2026-09", "close": "manual"}});
    let hierarchy: HierarchyDocument = serde_json::from_value(hierarchy).unwrap();
    let records: Vec<UsageRecord> =
        records.iter().map(|record| serde_json::from_value(record.clone()).unwrap()).collect();
    let cycle = "2026-09".parse().unwrap();
    let simulation = Simulation {
        catalogue,
        contract: None,
        hierarchy: &hierarchy,
        records: &records,
        cycle,
        billed: &[],
        interim: false,
    };
    let mut simulated = simulate(&simulation).unwrap();
    assert_eq!((simulated.counted, &simulated.refused), (records.len(), &Vec::new()));
    simulated.bodies.remove(0)
}

fn record(service: &str, usage_type: &str, operation: &str, region: &str, quantity: &str) -> Value {
    json!({"account": "acme", "service": service, "usage_type": usage_type, "operation": operation, "region": region,
        "quantity": quantity, "start": "2026-09-10T12:00:00Z"})
}

#[test]
fn all_of_oracles_list_imports_and_prices() {
    let built = oci_list();
    assert_eq!((built.document.skus.len(), built.notes.len()), (450, 0), "{:?}", built.notes);
    let list = read_json("oci-prices-usd.json");
    let number = |value: &Value| value.to_string().parse::<Decimal>().unwrap();
    let (mut records, mut expected) = (Vec::new(), BTreeMap::new());
    for item in list["items"].as_array().unwrap() {
        let part = item["partNumber"].as_str().unwrap();
        let prices = item["currencyCodeLocalizations"][0]["prices"].as_array().unwrap();
        // Beyond the last bound, with a fraction.
        let bounds = prices.iter().filter_map(|price| price.get("rangeMin")).map(number);
        let quantity = bounds.max().unwrap_or_default() * Decimal::new(15, 1) + Decimal::new(725, 2);
        let cost = prices.iter().map(|price| {
            let begin = price.get("rangeMin").map_or(Decimal::ZERO, number);
            let end = price.get("rangeMax").map_or(Decimal::MAX, number);
            (quantity.min(end) - begin).max(Decimal::ZERO) * number(&price["value"])
        });
        expected.insert(part.to_owned(), cost.sum::<Decimal>().normalize().to_string());
        let service = item["serviceCategory"].as_str().unwrap();
        records.push(record(service, part, "any", "eu-frankfurt-1", &quantity.normalize().to_string()));
    }
    let bill = bill(&built.document, &records);
    assert!(bill.unpriced.is_empty());
    let skus = bill.subtotals().skus;
    let found: BTreeMap<String, String> =
        skus.iter().map(|(sku, own)| (sku.to_string(), own.sums.net.to_string())).collect();
    assert_eq!(found.len(), 450);
    assert_eq!(found, expected);
}

/// A SKU of the list that the resource of a published slice uses, and what one of its units is in the SKU's unit.
fn sku_of<'d>(document: &'d CatalogueDocument, resource: &str) -> Option<(&'d SkuDocument, Decimal)> {
    let (kind, name) = resource.split_once('.').unwrap();
    let (usage_type, region, size) = match kind {
        "aws_data_transfer" => ("", name, 1),
        "aws_lambda_function" if name.ends_with("_arm") => ("Lambda-GB-Second-ARM", "us-east-1", 1),
        "aws_lambda_function" => ("Lambda-GB-Second", "us-east-1", 1),
        "aws_kinesis_firehose_delivery_stream" => ("BilledBytes", "us-east-1", 1),
        "aws_api_gateway_rest_api" => ("ApiGatewayRequest", "us-east-1", 1_000_000),
        other => panic!("{other}"),
    };
    let own = |sku: &&SkuDocument| {
        let named = match usage_type {
            "" => sku.matches.service == "AWSDataTransfer",
            usage_type => sku.matches.usage_type == usage_type,
        };
        named && sku.matches.region == region
    };
    document.skus.iter().find(own).map(|sku| (sku, Decimal::from(size)))
}

#[test]
fn published_tier_slices_come_to_their_cost() {
    let document = aws_list().document;
    let published = read_json("aws-tier-slices.json");
    let mut resources: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for slice in published["tests"].as_object().unwrap().values().flat_map(|slices| slices.as_array().unwrap()) {
        resources.entry(slice["resource"].as_str().unwrap()).or_default().push(slice);
    }
    let (mut priced, mut without) = (0, BTreeSet::new());
    for (resource, slices) in resources {
        let Some((sku, size)) = sku_of(&document, resource) else {
            without.insert((resource.split_once('.').unwrap().1, slices.len()));
            continue;
        };
        let decimal = |value: &Value| value.as_str().unwrap().parse::<Decimal>().unwrap();
        let used: Vec<Decimal> = slices.iter().map(|slice| decimal(&slice["quantity"]) * size).collect();
        // The slices are told beyond the free pools, which the list has too: their units come on top.
        let pools = document.pools.iter().filter(|pool| pool.skus.contains(&sku.id));
        let free: Decimal = pools.map(|pool| pool.units.parse::<Decimal>().unwrap()).sum();
        let total = (used.iter().sum::<Decimal>() + free).to_string();
        let matches = &sku.matches;
        let operation = if matches.operation == "*" { "Any" } else { &matches.operation };
        let bill =
            bill(&document, &[record(&matches.service, &matches.usage_type, operation, &matches.region, &total)]);
        let view = BillView::new(&bill);
        let tiers = |line: &&LineView| matches!(line.made_by, MadeBy::Price { .. });
        let lines: Vec<&LineView> = view.lines.iter().filter(tiers).collect();
        assert_eq!(lines.len(), slices.len(), "{resource}");
        for ((line, slice), used) in lines.iter().zip(&slices).zip(used) {
            assert_eq!(line.quantity.unwrap().to_string(), used.normalize().to_string(), "{resource}");
            let cents = line.amount.round(2, Rounding::HalfUp).unwrap().to_string();
            let cost = decimal(&slice["cost"]).normalize().to_string();
            assert_eq!(cents, cost, "{resource} {}", slice["tier"]);
            priced += 1;
        }
    }
    assert_eq!(priced, 122);
    // Regions of which the offers hold no rate: four slices each, 20 together.
    let expected = ["ap-south-2", "ap-southeast-5", "ca-west-1", "il-central-1", "us-west-2-lax-1"];
    assert_eq!(without, expected.map(|region| (region, 4)).into());
}

#[test]
fn offers_keep_their_pools_and_say_where_they_are_from() {
    let built = aws_list();
    let document = &built.document;
    assert_eq!((document.skus.len(), document.pools.len(), document.meters.len()), (35, 3, 35));
    // The pool of 400,000 GB-seconds is written in seconds.
    assert_eq!((built.count(What::Taken), built.notes.len()), (1, 1), "{:?}", built.notes);
    assert!(document.source.contains(&"AWSLambda 20260801000000".to_owned()), "{:?}", document.source);
    let transfer = document.pools.iter().find(|pool| pool.units == "100").unwrap();
    assert_eq!(transfer.skus.len(), 21, "not the regions of the government");
}

#[test]
fn a_catalogue_is_the_same_bytes_every_time_and_reads_back() {
    for make in [aws_list, oci_list] {
        let built = make();
        let yaml = built.yaml().unwrap();
        assert_eq!(yaml, make().yaml().unwrap());
        let (placed, findings) = read_source(&Source { name: "made.yaml".to_owned(), text: yaml }.into());
        assert!(findings.is_empty() && check(&placed).is_empty());
        let [placed] = placed.as_slice() else { panic!("{} documents", placed.len()) };
        assert_eq!(placed.document, Document::Catalogue(Box::new(built.document)));
    }
    let mut turned = offers();
    turned.reverse();
    let turned = build(aws::read_offers(&turned, &pick()).unwrap(), &wanted("aws")).unwrap();
    assert_eq!(turned.yaml().unwrap(), aws_list().yaml().unwrap(), "in whatever order the files are named");
}

#[test]
fn a_list_in_another_currency_is_a_catalogue_in_it() {
    let files = [folder().join("AmazonEC2-cn-northwest-1.json")];
    let built = build(aws::read_offers(&files, &pick()).unwrap(), &wanted("cn")).unwrap();
    assert_eq!(built.document.currency.as_str(), "CNY");
    // 100 GB-months at 0.5312.
    let used = record("AmazonEC2", "CNW1-EBS:VolumeUsage.gp3", "", "cn-northwest-1", "100");
    assert_eq!(bill(&built.document, &[used]).payable.to_string(), "53.12");
    let euro = Pick { currency: Some("EUR".parse().unwrap()), ..pick() };
    let list = aws::read_offers(&files, &euro).unwrap();
    assert_eq!(list.items.len(), 0);
    assert!(list.notes[0].message.contains("no price in EUR, only in CNY"), "{:?}", list.notes);
    let both = [files[0].clone(), offers()[0].clone()];
    let error = aws::read_offers(&both, &pick()).unwrap_err().to_string();
    assert!(error.contains("prices in CNY and USD; choose with --currency"), "{error}");
}
