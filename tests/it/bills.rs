//! Bills by hand: each file in `bills/` is a catalogue, a hierarchy, perhaps a contract, usage, and the bill that an
//! accountant would write, with the arithmetic beside it. Read by the client's own file readers, each is run through
//! the machine and through a simulation; both must say exactly what the file says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reckoner_client::files::documents::{Document, check, read_source};
use reckoner_client::files::finding::Source;
use reckoner_client::files::usage::UsageReader;
use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::{Money, print_scaled};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::bill::{BillBody, Source as Origin};
use reckoner_shard::billing::codec::{decode, encode};
use reckoner_shard::billing::simulate::{Simulation, simulate};
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::pricing::document::CatalogueDocument;
use reckoner_shard::usage::record::UsageRecord;
use reckoner_tests::machine::{Machine, push_rows};
use reckoner_tests::table::{Cells, Tables};

/// A file's documents and usage.
struct Case {
    catalogue: CatalogueDocument,
    hierarchy: HierarchyDocument,
    contract: Option<ContractDocument>,
    records: Vec<UsageRecord>,
}

fn read_case(name: &str, tables: &Tables) -> Case {
    let (mut catalogue, mut hierarchy, mut contract, mut placed) = (None, None, None, Vec::new());
    for section in ["catalogue", "hierarchy", "contract"] {
        let Some(text) = tables.section(section) else { continue };
        let source = Arc::new(Source { name: format!("{name} [{section}]"), text: text.to_owned() });
        let (documents, findings) = read_source(&source);
        assert!(findings.is_empty(), "{}", findings.iter().map(|finding| finding.plain()).collect::<String>());
        placed.extend(documents);
    }
    let wrong: Vec<String> = check(&placed).iter().map(|finding| finding.plain()).collect();
    assert!(wrong.is_empty(), "{name}: {}", wrong.join("\n"));
    for document in placed {
        match document.document {
            Document::Catalogue(document) => catalogue = Some(*document),
            Document::Hierarchy(document) => hierarchy = Some(*document),
            Document::Contract(document) => contract = Some(*document),
        }
    }
    Case {
        catalogue: catalogue.expect("a catalogue"),
        hierarchy: hierarchy.expect("a hierarchy"),
        contract,
        records: read_usage(&tables.rows("usage")),
    }
}

/// The rows through the client's reader of CSV files; the place in the table is the id.
fn read_usage(rows: &[Cells]) -> Vec<UsageRecord> {
    let columns: Vec<&String> = rows[0].keys().collect();
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().expect("a temporary file");
    let header: Vec<&str> = columns.iter().map(|column| column.as_str()).collect();
    writeln!(file, "id,{}", header.join(",")).expect("written");
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| row[*column].as_str()).collect();
        writeln!(file, "u-{},{}", index + 1, cells.join(",")).expect("written");
    }
    file.flush().expect("flushed");
    let reader = UsageReader::open(file.path()).unwrap_or_else(|error| panic!("{error}"));
    reader.map(|row| row.expect("a whole line").record.unwrap_or_else(|why| panic!("{why}"))).collect()
}

/// Payer, account, SKU, and the tier, `free`, or the clause.
type Key = (String, String, String, String);
/// Quantity, rate, amount; the first two empty where a clause made the line.
type Value = (String, String, String);

fn expected_lines(tables: &Tables, section: &str) -> BTreeMap<Key, Value> {
    let mut lines = BTreeMap::new();
    for row in tables.rows(section) {
        let cell = |name: &str| row[name].clone();
        let key = (cell("payer"), cell("account"), cell("sku"), cell("tier"));
        let value = (cell("quantity"), cell("rate"), cell("amount"));
        assert!(lines.insert(key.clone(), value).is_none(), "two lines for {key:?}");
    }
    lines
}

/// A bill's lines, summed over what the tables do not tell apart: usage type, operation, region, attributes.
fn lines_of(bills: &[BillBody]) -> BTreeMap<Key, Value> {
    let mut sums: BTreeMap<Key, (Option<i128>, String, i128)> = BTreeMap::new();
    for bill in bills {
        for line in &bill.lines {
            let Some(item) = bill.item(line) else { continue };
            let (tier, is_usage) = match &line.source {
                Origin::FreeUnits { .. } | Origin::FreePool { .. } => ("free".to_owned(), true),
                Origin::Price { tier, .. } => (tier.index.to_string(), true),
                Origin::PricePart { part, .. } => (part.name().to_owned(), true),
                Origin::Fee { subscription, .. } => (subscription.to_string(), true),
                Origin::Clause { clause, .. } => (clause.to_string(), false),
                Origin::Rounding | Origin::Refund { .. } => continue,
            };
            let key = (bill.payer.to_string(), item.series.account.to_string(), item.sku.to_string(), tier);
            let rate = line.rate.filter(|_| is_usage).map_or(String::new(), |rate| rate.to_string());
            let quantity = line.quantity.filter(|_| is_usage).map(|quantity| quantity.0);
            let sum = sums.entry(key).or_insert((quantity.map(|_| 0), rate, 0));
            sum.0 = sum.0.map(|sum| sum + quantity.expect("a part without a quantity has none anywhere"));
            sum.2 += line.amount.0;
        }
    }
    let shown = |value: i128| print_scaled(value, 12);
    sums.into_iter()
        .map(|(key, (quantity, rate, amount))| (key, (quantity.map_or(String::new(), shown), rate, shown(amount))))
        .collect()
}

fn check_bills(name: &str, way: &str, tables: &Tables, (prefix, cycle): (&str, &str), bills: &[BillBody]) {
    let (found, expected) = (lines_of(bills), expected_lines(tables, &format!("{prefix}lines {cycle}")));
    for (key, value) in &expected {
        assert_eq!(found.get(key), Some(value), "{name}, {way}: line {key:?}; found left, the table right");
    }
    for key in found.keys() {
        assert!(expected.contains_key(key), "{name}, {way}: line {key:?} = {:?} is not in the table", found[key]);
    }
    let payable: BTreeMap<String, (String, Money)> =
        bills.iter().map(|bill| (bill.payer.to_string(), (bill.total.to_string(), bill.payable))).collect();
    let rows = tables.rows(&format!("{prefix}payable {cycle}"));
    assert_eq!(payable.len(), rows.len(), "{name}, {way}: payers");
    for row in rows {
        let expected = (row["exact"].clone(), row["payable"].parse().expect("an amount"));
        assert_eq!(payable.get(&row["payer"]), Some(&expected), "{name}, {way}: payer {}", row["payer"]);
        if let Some(currency) = row.get("currency") {
            let bill = bills.iter().find(|bill| bill.payer.as_str() == row["payer"]).expect("a payer that was found");
            let rate = bill.exchange.as_ref().map_or(String::new(), |exchange| exchange.rate.to_string());
            let found = (bill.currency.to_string(), rate);
            assert_eq!(found, (currency.clone(), row["rate"].clone()), "{name}, {way}: currency of {}", row["payer"]);
        }
    }
    for row in tables.rows(&format!("{prefix}blended {cycle}")) {
        let subtotals = bills[0].subtotals();
        let sku = subtotals.skus.iter().find(|(sku, _)| sku.as_str() == row["sku"]).expect("a billed SKU").1;
        let rate = sku.blended_rate.map(|rate| rate.to_string());
        assert_eq!(rate, Some(row["rate"].clone()), "{name}, {way}: blended rate of {}", row["sku"]);
    }
}

/// Pro forma bills, told apart by their groups in place of payers.
fn by_group(bodies: Vec<BillBody>) -> Vec<BillBody> {
    let named = |body: BillBody| {
        assert_eq!(decode(&encode(&body)).as_ref(), Ok(&body), "a body is read back as it was written");
        let payer = AccountId::new(body.pro_forma.as_ref().expect("a pro forma bill").as_str()).expect("a good name");
        BillBody { payer, ..body }
    };
    bodies.into_iter().map(named).collect()
}

fn run(path: &Path) {
    let name = path.file_name().expect("a file").to_string_lossy().into_owned();
    let tables = Tables::read(&fs::read_to_string(path).expect("readable"));
    let case = read_case(&name, &tables);
    let first: CycleId = case.hierarchy.cycles.first;
    let mut machine = Machine::new(Timestamp(first.start().0 + 1));
    machine.activate(&case.catalogue);
    machine.put_hierarchy(&case.hierarchy, "hierarchy");
    if let Some(contract) = &case.contract {
        machine.put_contract(contract, "contract");
    }
    let listed = tables.arguments("lines");
    let last = listed.iter().map(|cycle| cycle.parse().expect("a cycle")).max();
    let last: CycleId = last.unwrap_or_else(|| panic!("{name}: no section [lines <cycle>]"));
    // From the first cycle on, each closed before the next, since balances outlive it.
    let (mut id, mut billed) = (first, Vec::new());
    while id <= last {
        let in_cycle = |record: &&UsageRecord| record.start.cycle() == id;
        let records: Vec<UsageRecord> = case.records.iter().filter(in_cycle).cloned().collect();
        push_rows(&mut machine, &case.hierarchy.root, &case.catalogue, &records);
        let simulation = Simulation {
            catalogue: &case.catalogue,
            contract: case.contract.as_ref(),
            hierarchy: &case.hierarchy,
            records: &case.records,
            cycle: id,
            billed: &billed,
            interim: false,
        };
        let simulated = simulate(&simulation).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(simulated.refused.is_empty(), "{name}: {:?}", simulated.refused);
        let cycle = id.to_string();
        let bills = machine.bills(&case.hierarchy.root, id);
        if listed.contains(&cycle.as_str()) {
            check_bills(&name, "machine", &tables, ("", &cycle), &bills);
            check_bills(&name, "simulation", &tables, ("", &cycle), &simulated.bodies);
            let own = by_group(machine.pro_forma(&case.hierarchy.root, id));
            check_bills(&name, "machine, pro forma", &tables, ("pro-forma-", &cycle), &own);
            check_bills(
                &name,
                "simulation, pro forma",
                &tables,
                ("pro-forma-", &cycle),
                &by_group(simulated.pro_forma),
            );
        }
        for body in &bills {
            assert_eq!(decode(&encode(body)).as_ref(), Ok(body), "{name}: a body is read back as it was written");
        }
        if id < last {
            machine.close(&case.hierarchy.root, id);
        }
        billed.extend(simulated.bodies);
        id = id.next();
    }
}

#[test]
fn every_table_is_billed_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bills");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("bills/").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 15, "only {} tables", files.len());
    files.iter().for_each(|path| run(path));
}
