//! `simulate --against`: what a cycle really counted, priced under other documents, and the difference to its bills by
//! account and by what made the lines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::Money;
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::{BillBody, Line, Source};
use serde::Serialize;

use super::bills::BillRow;
use super::export::fetch;
use super::output::Out;
use super::{Exit, Globals};
use crate::error::Error;
use crate::files::bundle::{BundledBill, Documents};
use crate::files::documents::{Document, Placed, expand, read_files};

/// What `simulate --against -o json` prints.
#[derive(Serialize)]
struct Against {
    root: AccountId,
    cycle: CycleId,
    currency: String,
    payers: Vec<Difference>,
    accounts: Vec<Difference>,
    /// By price, pool or clause.
    made_by: Vec<Difference>,
    bills: Vec<BillRow>,
}

/// An amount in the cluster's bills and in the simulated ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    /// An account, or `price ID`, `pool ID`, `clause ID`, `rounding`.
    what: String,
    billed: Money,
    simulated: Money,
    difference: Money,
}

/// Runs `simulate --against`.
pub async fn run(
    files: &[PathBuf],
    root: &AccountId,
    cycle: CycleId,
    globals: &Globals,
    out: &Out,
) -> Result<Exit, Error> {
    let (placed, findings) = read_files(&expand(files)?)?;
    out.findings(&findings);
    if findings.iter().any(|finding| finding.is_error()) {
        return Err(Error::invalid("the files above have errors; nothing was simulated"));
    }
    let bundle = fetch(&globals.connect().await?, root, None, cycle).await?;
    let billed: Vec<BillBody> = bundle.bills.iter().map(BundledBill::body).collect::<Result<_, _>>()?;
    let own = choose(&placed, root, cycle, out)?;
    let documents = Documents {
        hierarchy: own.hierarchy.as_ref().unwrap_or(&bundle.hierarchy),
        catalogue: own.catalogue.as_ref().unwrap_or(&bundle.catalogue),
        contract: own.contract.as_ref().or(bundle.contract.as_ref()),
    };
    let currency = documents.catalogue.currency;
    if currency != bundle.catalogue.currency {
        return Err(Error::invalid(format!(
            "the bills of {cycle} are in {}, the catalogue of the files is in {currency}; name one in {}",
            bundle.catalogue.currency, bundle.catalogue.currency
        )));
    }
    let simulated = bundle.fold(documents)?;
    // What is paid in another currency than the catalogue's has that beside the payer.
    let payer = |body: &BillBody| match &body.exchange {
        Some(exchange) => format!("{} {}", body.payer, exchange.to),
        None => body.payer.to_string(),
    };
    let payable = |bodies: &[BillBody]| bodies.iter().map(|body| (payer(body), body.payable)).collect();
    let payers = differences(payable(&billed), payable(&simulated));
    let accounts = differences(by_account(&billed), by_account(&simulated));
    let made_by = differences(by_maker(&billed), by_maker(&simulated));
    if out.is_json() {
        let bills = simulated.iter().map(BillRow::simulated).collect();
        let (root, currency) = (root.clone(), currency.to_string());
        out.json(&Against { root, cycle, currency, payers, accounts, made_by, bills });
        return Ok(Exit::Ok);
    }
    for (name, rows) in [("made by", made_by), ("account", accounts), ("payer", payers)] {
        let rows = rows.into_iter().map(|row| {
            let difference =
                if row.difference > Money::ZERO { format!("+{}", row.difference) } else { row.difference.to_string() };
            vec![row.what, row.billed.to_string(), row.simulated.to_string(), difference]
        });
        out.table(&[name, "billed", "simulated", "difference"], &[1, 2, 3], rows.collect());
        out.line("");
    }
    let status = if bundle.bills.iter().all(|bill| bill.status == "issued") { "issued bills" } else { "estimate" };
    out.say(&format!("{} counters of {cycle} in {currency}, against the {status} of {root}", bundle.counters.len()));
    Ok(Exit::Ok)
}

/// What the files say in place of the cluster's documents.
#[derive(Default)]
struct Own {
    hierarchy: Option<reckoner_shard::account::document::HierarchyDocument>,
    catalogue: Option<reckoner_shard::pricing::document::CatalogueDocument>,
    contract: Option<reckoner_shard::contract::document::ContractDocument>,
}

fn choose(placed: &[Placed], root: &AccountId, cycle: CycleId, out: &Out) -> Result<Own, Error> {
    let mut own = Own::default();
    let second = |kind: &str| Error::invalid(format!("the files hold two documents of kind {kind}; name one of them"));
    let other = |kind: &str, name: &AccountId| {
        Error::invalid(format!("the {kind} in the files is of '{name}', not of '{root}'; name that of '{root}'"))
    };
    for placed in placed {
        match &placed.document {
            Document::Hierarchy(document) => {
                if document.root != *root {
                    return Err(other("hierarchy", &document.root));
                }
                own.hierarchy.replace((**document).clone()).map_or(Ok(()), |_| Err(second("Hierarchy")))?;
            }
            Document::Catalogue(document) => {
                let mut document = (**document).clone();
                document.effective = moved(document.effective, cycle, "catalogue", out);
                own.catalogue.replace(document).map_or(Ok(()), |_| Err(second("Catalogue")))?;
            }
            Document::Contract(document) => {
                if document.root != *root {
                    return Err(other("contract", &document.root));
                }
                let mut document = (**document).clone();
                document.effective = moved(document.effective, cycle, "contract", out);
                own.contract.replace(document).map_or(Ok(()), |_| Err(second("Contract")))?;
            }
        }
    }
    Ok(own)
}

/// A document that begins later is taken as if it began with the cycle: that is the question.
fn moved(effective: CycleId, cycle: CycleId, kind: &str, out: &Out) -> CycleId {
    if effective > cycle {
        out.say(&format!("the {kind} begins with {effective}; priced as if it began with {cycle}"));
    }
    effective.min(cycle)
}

fn by_account(bodies: &[BillBody]) -> BTreeMap<String, Money> {
    let mut sums = BTreeMap::new();
    for (account, own) in bodies.iter().flat_map(|body| body.subtotals().accounts) {
        add(&mut sums, account.to_string(), own.net);
    }
    sums
}

fn by_maker(bodies: &[BillBody]) -> BTreeMap<String, Money> {
    let mut sums = BTreeMap::new();
    for line in bodies.iter().flat_map(|body| &body.lines) {
        add(&mut sums, maker(line), line.amount);
    }
    sums
}

fn maker(line: &Line) -> String {
    match &line.source {
        Source::FreeUnits { price } | Source::Price { price, .. } => format!("price {price}"),
        Source::FreePool { pool } => format!("pool {pool}"),
        Source::PricePart { price, .. } => format!("price {price}"),
        Source::Fee { subscription, .. } => format!("subscription {subscription}"),
        Source::Clause { clause, .. } => format!("clause {clause}"),
        Source::Rounding => "rounding".to_owned(),
        Source::Refund { number } => format!("refund of {number}"),
    }
}

fn add(sums: &mut BTreeMap<String, Money>, what: String, amount: Money) {
    // Bills were summed without overflow when they were made, so parts of them can be.
    sums.entry(what).or_default().0 += amount.0;
}

/// All that is on either side, by name.
fn differences(billed: BTreeMap<String, Money>, mut simulated: BTreeMap<String, Money>) -> Vec<Difference> {
    let mut rows: BTreeMap<String, (Money, Money)> = BTreeMap::new();
    for (what, amount) in billed {
        let other = simulated.remove(&what).unwrap_or_default();
        rows.insert(what, (amount, other));
    }
    rows.extend(simulated.into_iter().map(|(what, amount)| (what, (Money::ZERO, amount))));
    let row = |(what, (billed, simulated)): (String, (Money, Money))| Difference {
        what,
        billed,
        simulated,
        difference: Money(simulated.0 - billed.0),
    };
    rows.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_named() {
        let sums = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(what, amount)| ((*what).to_owned(), amount.parse().unwrap())).collect()
        };
        let rows = differences(sums(&[("a", "1.5"), ("b", "2")]), sums(&[("b", "1.75"), ("c", "3")]));
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {} {}", row.what, row.billed, row.simulated, row.difference))
            .collect();
        assert_eq!(rows, ["a 1.5 0 -1.5", "b 2 1.75 -0.25", "c 0 3 3"]);
    }
}
