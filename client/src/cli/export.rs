//! `bills export` and `bills verify`: a cycle's bills with all that they are made of in one file, and the proof that they
//! follow from it. What the file holds lives in `files/bundle.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::{BadNumber, Money};
use reckoner_shard::base::time::CycleId;
use serde::Serialize;

use super::Exit;
use super::output::Out;
use crate::client::Client;
use crate::error::Error;
use crate::files::bundle::{Bundle, BundledBill, FORMAT, Verdict, hex};
use crate::proto;
use crate::wire::bills::body_of;

/// How often an estimate is read until its counters and its bills are of one moment.
const READS_MAX: u32 = 5;
/// Fields of a bill that are shown to people where they differ; all of them are in the JSON.
const CHANGES_SHOWN: usize = 20;

/// Arguments of `bills export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArguments {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT")]
    pub root: AccountId,
    /// Only the bill of this payer; the counters are those of the whole hierarchy all the same
    #[arg(long, value_name = "ACCOUNT")]
    pub payer: Option<AccountId>,
    /// Cycle, like 2024-09; its issued bills, or before that the estimate
    #[arg(long)]
    pub cycle: CycleId,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `bills verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArguments {
    /// A file of 'bills export'
    pub file: PathBuf,
}

/// What `bills export -o json` prints.
#[derive(Serialize)]
struct Exported {
    root: AccountId,
    cycle: CycleId,
    out: String,
    bills: usize,
    counters: usize,
}

/// What `bills verify -o json` prints.
#[derive(Serialize)]
struct Verified {
    file: String,
    root: AccountId,
    cycle: CycleId,
    equal: bool,
    counters: usize,
    bills: Vec<Verdict>,
}

/// Runs `bills export`.
pub async fn export(arguments: &ExportArguments, client: &Client, out: &Out) -> Result<Exit, Error> {
    let bundle = fetch(client, &arguments.root, arguments.payer.as_ref(), arguments.cycle).await?;
    if bundle.bills.is_empty() {
        let whose = arguments.payer.as_ref().unwrap_or(&arguments.root);
        return Err(Error::invalid(format!("{whose} has no bill of {}: no usage was counted", arguments.cycle)));
    }
    let name = arguments.out.display().to_string();
    let failed = |error| Error::invalid(format!("{name} cannot be written: {error}"));
    std::fs::write(&arguments.out, bundle.text() + "\n").map_err(failed)?;
    let (bills, counters) = (bundle.bills.len(), bundle.counters.len());
    if out.is_json() {
        out.json(&Exported { root: bundle.root, cycle: bundle.cycle, out: name, bills, counters });
    } else {
        out.line(&format!(
            "{name}: {bills} bills, {counters} counters, catalogue, contract and hierarchy of {}",
            bundle.cycle
        ));
        out.next(&format!("reckoner bills verify {name}"));
    }
    Ok(Exit::Ok)
}

/// Runs `bills verify`. Exit 2 where a bill does not follow from its inputs.
pub fn verify(arguments: &VerifyArguments, out: &Out) -> Result<Exit, Error> {
    let bundle = Bundle::read(&arguments.file)?;
    let bills = bundle.verify()?;
    let equal = bills.iter().all(|verdict| verdict.equal);
    let exit = if equal { Exit::Ok } else { Exit::Differences };
    let (file, counters) = (arguments.file.display().to_string(), bundle.counters.len());
    if out.is_json() {
        out.json(&Verified { file, root: bundle.root, cycle: bundle.cycle, equal, counters, bills });
        return Ok(exit);
    }
    let rows = bills.iter().map(|verdict| {
        let result =
            if verdict.equal { "equal".to_owned() } else { format!("{} fields differ", verdict.changes.len()) };
        vec![verdict.number.clone(), verdict.payer.to_string(), result]
    });
    out.table(&["number", "payer", "computed again"], &[], rows.collect());
    for verdict in bills.iter().filter(|verdict| !verdict.equal) {
        out.line(&format!("{}, from the file to what was computed:", verdict.payer));
        for change in verdict.changes.iter().take(CHANGES_SHOWN) {
            out.line(&format!("  {change}"));
        }
        if verdict.changes.len() > CHANGES_SHOWN {
            out.line(&format!("  and {} more; -o json tells all", verdict.changes.len() - CHANGES_SHOWN));
        }
    }
    out.say(&format!("{} bills of {} computed from {counters} counters", bills.len(), bundle.cycle));
    Ok(exit)
}

/// A cycle's bills, issued or as they stand, with all that they are made of.
pub(super) async fn fetch(
    client: &Client,
    root: &AccountId,
    payer: Option<&AccountId>,
    cycle: CycleId,
) -> Result<Bundle, Error> {
    for _ in 0..READS_MAX {
        let bundle = fetch_once(client, root, payer, cycle).await?;
        // An issued bill stands as it is. An estimate moves while usage comes in: bills and counters that are not of one
        // moment are read again.
        let moves = bundle.bills.iter().any(|bill| bill.status != "issued");
        if !moves || bundle.verify()?.iter().all(|verdict| verdict.equal) {
            return Ok(bundle);
        }
    }
    Err(Error::unavailable(format!(
        "usage of {cycle} comes in faster than it is read; try again, or once {cycle} is closed"
    )))
}

async fn fetch_once(
    client: &Client,
    root: &AccountId,
    payer: Option<&AccountId>,
    cycle: CycleId,
) -> Result<Bundle, Error> {
    let documents = client.documents(root, Some(cycle)).await?;
    let unreadable =
        |what: &str, why: String| Error::invalid(format!("the {what} cannot be read: {why}; use a newer client"));
    let hierarchy =
        serde_json::from_slice(&documents.hierarchy).map_err(|error| unreadable("hierarchy", error.to_string()))?;
    let contract = documents.contracts.first().map(|contract| serde_json::from_slice(&contract.json)).transpose();
    let version = documents.catalogue.ok_or_else(|| unreadable("catalogue", "no version is named".to_owned()))?;
    let shown = client.show_catalogue(&version.name, Some(version.version)).await?;
    if blake3::hash(&shown.json).as_bytes()[..] != version.hash[..] {
        return Err(unreadable(
            "catalogue",
            format!("version {} has another hash than the cycle names", version.version),
        ));
    }
    let catalogue = serde_json::from_slice(&shown.json).map_err(|error| unreadable("catalogue", error.to_string()))?;
    let balances = |all: Vec<proto::BalanceBefore>| {
        let amounts = all.into_iter().map(|balance| Ok::<_, BadNumber>((balance.name, balance.used.parse()?)));
        let amounts = amounts.collect::<Result<BTreeMap<String, Money>, _>>();
        amounts.map_err(|error| unreadable("balances", error.to_string()))
    };
    let mut bundle = Bundle {
        format: FORMAT,
        root: root.clone(),
        cycle,
        payer: payer.cloned(),
        bills: bills(client, root, payer, cycle).await?,
        hierarchy,
        catalogue,
        contract: contract.map_err(|error| unreadable("contract", error.to_string()))?,
        balances: balances(documents.balances)?,
        drawn_later: balances(documents.drawn_later)?,
        counters: Vec::new(),
        archive: hex(&documents.counters),
    };
    bundle.counters = bundle.readable()?;
    Ok(bundle)
}

async fn bills(
    client: &Client,
    root: &AccountId,
    payer: Option<&AccountId>,
    cycle: CycleId,
) -> Result<Vec<BundledBill>, Error> {
    let form = proto::BillForm::Canonical;
    let issued = !client.list_bills(root, payer, Some(cycle)).await?.bills.is_empty();
    let reply = if issued {
        let request = proto::ShowBillsRequest {
            root: root.to_string(),
            payer: payer.map(ToString::to_string).unwrap_or_default(),
            cycle: cycle.to_string(),
            number: String::new(),
            form: form.into(),
            freshness: None,
        };
        client.bills(request).await?
    } else {
        client.estimate(root, payer, Some(cycle), form).await?
    };
    let bundled = |bill: &proto::Bill| Ok(BundledBill::new(bill, &body_of(bill)?));
    reply.bills.iter().map(bundled).collect()
}
