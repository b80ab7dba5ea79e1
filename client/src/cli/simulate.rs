//! `simulate`: bills from files alone, by the function that computes them in the cluster. No server is asked, unless the
//! usage is what a cycle really counted, which `against` fetches.

use std::path::{Path, PathBuf};

use clap::Args;
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::simulate::{SimulateError, Simulation, simulate};
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::pricing::document::CatalogueDocument;
use serde::Serialize;

use super::bills::{BillRow, show_bill};
use super::output::Out;
use super::printed::read_billed;
use super::{Exit, Globals, against, bills};
use crate::error::Error;
use crate::files::documents::{Document, Placed, expand, read_files};
use crate::files::usage::UsageReader;

/// Arguments of `simulate`.
#[derive(Args, Clone, Debug)]
pub struct Simulate {
    /// YAML files with one catalogue, one hierarchy and at most one contract (of several versions, the one in force); with
    /// --against only what is to be different
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Usage, JSON lines or CSV
    #[arg(long, value_name = "FILE", required_unless_present = "against", conflicts_with = "against")]
    pub usage: Option<PathBuf>,
    /// Cycle, like 2024-09
    #[arg(long, required_unless_present = "against", conflicts_with = "against")]
    pub cycle: Option<CycleId>,
    /// Price what this cycle of the cluster really counted, and compare with its bills
    #[arg(long, value_name = "CYCLE", requires = "root")]
    pub against: Option<CycleId>,
    /// With --against: root of the hierarchy
    #[arg(long, value_name = "ACCOUNT", requires = "against")]
    pub root: Option<AccountId>,
    /// Bills that were issued before, as 'bills show -o json' or 'simulate -o json' printed them, oldest first: the result
    /// is the difference to those of the cycle; those of earlier cycles say what was used of balances
    #[arg(long, value_name = "BILL.json", conflicts_with = "against")]
    pub billed: Vec<PathBuf>,
    /// The cycle still counts: minima and shortfalls wait for its last bill
    #[arg(long, conflicts_with = "against")]
    pub interim: bool,
}

/// What `simulate -o json` prints.
#[derive(Serialize)]
struct Simulated {
    root: AccountId,
    cycle: CycleId,
    /// Records that were counted.
    counted: usize,
    /// Rows that repeat an earlier one.
    duplicates: usize,
    /// Rows of other cycles.
    other_cycles: usize,
    refused: Vec<RefusedRow>,
    bills: Vec<BillRow>,
    /// Of billing groups; nobody owes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pro_forma: Vec<BillRow>,
}

#[derive(Serialize)]
struct RefusedRow {
    line: u64,
    reason: String,
    detail: String,
}

/// Runs `simulate`. Exit 1 where a line of usage was refused; the bills of the rest are printed all the same.
pub async fn run(arguments: &Simulate, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match (arguments.against, &arguments.root, arguments.cycle, &arguments.usage) {
        (Some(cycle), Some(root), ..) => against::run(&arguments.files, root, cycle, globals, out).await,
        (_, _, Some(cycle), Some(usage)) => of_files(arguments, cycle, usage, out),
        _ => Err(Error::invalid("simulate needs --usage and --cycle, or --against and --root")),
    }
}

fn of_files(arguments: &Simulate, cycle: CycleId, usage: &Path, out: &Out) -> Result<Exit, Error> {
    let (documents, findings) = read_files(&expand(&arguments.files)?)?;
    out.findings(&findings);
    if findings.iter().any(|finding| finding.is_error()) {
        return Err(Error::invalid("the files above have errors; nothing was simulated"));
    }
    let chosen = choose(&documents, cycle)?;
    let mut billed: Vec<BillBody> = Vec::new();
    for file in &arguments.billed {
        billed.extend(read_billed(file)?);
    }
    let (mut records, mut lines, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for row in UsageReader::open(usage)? {
        let row = row?;
        match row.record {
            Ok(record) => {
                records.push(record);
                lines.push(row.line);
            }
            Err(detail) => refused.push(RefusedRow { line: row.line, reason: "UNREADABLE".to_owned(), detail }),
        }
    }
    let simulation = Simulation {
        catalogue: chosen.catalogue,
        contract: chosen.contract,
        hierarchy: chosen.hierarchy,
        records: &records,
        cycle,
        billed: &billed,
        interim: arguments.interim,
    };
    let simulated = simulate(&simulation).map_err(said)?;
    for (place, refusal) in &simulated.refused {
        let line = lines.get(*place).copied().unwrap_or_default();
        refused.push(RefusedRow { line, reason: refusal.reason.code(), detail: refusal.detail.clone() });
    }
    refused.sort_by_key(|row| row.line);
    for row in &refused {
        out.warn(&format!("line {}: {}: {}", row.line, row.reason, row.detail));
    }
    let exit = if refused.is_empty() { Exit::Ok } else { Exit::Failed };
    if out.is_json() {
        out.json(&Simulated {
            root: chosen.hierarchy.root.clone(),
            cycle,
            counted: simulated.counted,
            duplicates: simulated.duplicates,
            other_cycles: simulated.elsewhere,
            refused,
            bills: simulated.bodies.iter().map(BillRow::simulated).collect(),
            pro_forma: simulated.pro_forma.iter().map(BillRow::simulated).collect(),
        });
        return Ok(exit);
    }
    for body in simulated.bodies.iter().chain(&simulated.pro_forma) {
        show_bill(body, &bills::Envelope::simulated(), out);
    }
    out.say(&format!(
        "{} records counted, {} duplicate, {} of other cycles, {} refused",
        simulated.counted,
        simulated.duplicates,
        simulated.elsewhere,
        refused.len()
    ));
    Ok(exit)
}

struct Chosen<'d> {
    catalogue: &'d CatalogueDocument,
    hierarchy: &'d reckoner_shard::account::document::HierarchyDocument,
    contract: Option<&'d ContractDocument>,
}

/// The hierarchy, the newest version of its catalogue that the cycle is under, and its contract in force.
fn choose(documents: &[Placed], cycle: CycleId) -> Result<Chosen<'_>, Error> {
    let mut hierarchies = documents.iter().filter_map(|placed| match &placed.document {
        Document::Hierarchy(document) => Some(document),
        Document::Catalogue(_) | Document::Contract(_) => None,
    });
    let (Some(hierarchy), None) = (hierarchies.next(), hierarchies.next()) else {
        return Err(Error::invalid("simulate needs exactly one hierarchy among the files; name its file with -f"));
    };
    let catalogue = documents.iter().filter_map(|placed| match &placed.document {
        Document::Catalogue(document) if document.name == hierarchy.catalogue && document.effective <= cycle => {
            Some(document)
        }
        _ => None,
    });
    let Some(catalogue) = catalogue.max_by_key(|document| document.effective) else {
        return Err(Error::invalid(format!(
            "no catalogue '{}' that is effective in {cycle} is among the files; name its file with -f",
            hierarchy.catalogue
        )));
    };
    let contract = documents.iter().filter_map(|placed| match &placed.document {
        Document::Contract(document)
            if document.root == hierarchy.root
                && document.effective <= cycle
                && document.until.is_none_or(|until| cycle < until) =>
        {
            Some(&**document)
        }
        _ => None,
    });
    let contract = contract.max_by_key(|document| document.effective);
    Ok(Chosen { catalogue, hierarchy, contract })
}

fn said(error: SimulateError) -> Error {
    let problems = match &error {
        SimulateError::Catalogue(problems) | SimulateError::Contract(problems) | SimulateError::Hierarchy(problems) => {
            problems.iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    if problems.is_empty() {
        Error::invalid(error.to_string())
    } else {
        Error::invalid(format!("{error}: {}", problems.join("; ")))
    }
}
