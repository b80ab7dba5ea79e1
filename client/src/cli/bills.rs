//! `bills estimate`, `show`, `list` and `explain`; what makes bills, and what proves them, have files of their own.

use clap::{Args, Subcommand};
use reckoner_shard::base::id::{AccountId, GroupName};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::codec;
use reckoner_shard::billing::explain::{Explanation, explain};
use reckoner_shard::billing::view::{BillView, LineView, MadeBy};
use serde::Serialize;

use super::output::Out;
use super::summary::{SummaryRow, show_summaries, summary};
use super::{Exit, Globals, close, export};
use crate::client::Client;
use crate::error::Error;
use crate::files::bundle::hex;
use crate::proto;
use crate::wire::bills::body_of;

/// `bills ...`
#[derive(Subcommand, Clone, Debug)]
pub enum BillsCommand {
    /// What is owed if no more usage arrives: the bill that will be issued
    Estimate(EstimateArguments),
    /// Close a cycle: cut it, compute and issue its bills
    Close(close::CloseArguments),
    /// Bill now what has no bill yet: an interim bill of an open cycle, a correction of late usage
    Issue(close::IssueArguments),
    /// Pay back of a bill: a document of its own, cut to what the bill leaves
    Refund(close::RefundArguments),
    /// Show issued bills with their lines
    Show(Which),
    /// List bills
    List(ListArguments),
    /// Explain a bill, or one line of it, down to prices, clauses and counters
    Explain(ExplainArguments),
    /// Write a cycle's bills and all that they are made of to one file
    Export(export::ExportArguments),
    /// Compute the bills of an exported file again, without a server; exit 2 where they differ
    Verify(export::VerifyArguments),
}

/// Whose bill of which cycle.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT")]
    pub root: AccountId,
    /// Only the bill of this payer
    #[arg(long, value_name = "ACCOUNT")]
    pub payer: Option<AccountId>,
    /// Cycle, like 2024-09
    #[arg(long)]
    pub cycle: CycleId,
}

/// Arguments of `bills estimate`.
#[derive(Args, Clone, Debug)]
pub struct EstimateArguments {
    #[command(flatten)]
    pub which: Which,
    /// The pro forma bill of this billing group, which nobody owes, in place of the real ones
    #[arg(long, value_name = "GROUP", conflicts_with = "payer")]
    pub pro_forma: Option<GroupName>,
}

/// Arguments of `bills list`.
#[derive(Args, Clone, Debug)]
pub struct ListArguments {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT")]
    pub root: AccountId,
    /// Only bills of this payer
    #[arg(long, value_name = "ACCOUNT")]
    pub payer: Option<AccountId>,
    /// Only this cycle
    #[arg(long)]
    pub cycle: Option<CycleId>,
}

/// Arguments of `bills explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArguments {
    #[command(flatten)]
    pub which: Which,
    /// Number of the bill; without it that of the cycle's close, or the latest
    #[arg(long, value_name = "NUMBER")]
    pub number: Option<String>,
    /// Line to explain; without it every line in a sentence
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub line: Option<u32>,
}

/// Runs `bills ...`.
pub async fn run(command: BillsCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    // All but one of them ask the cluster.
    let client = async || globals.connect().await;
    match command {
        BillsCommand::Estimate(arguments) => estimate(&arguments, &client().await?, out).await,
        BillsCommand::Close(arguments) => match &arguments.root {
            Some(root) => close::close(root, arguments.cycle, &client().await?, out).await,
            None => close::close_all(arguments.cycle, &client().await?, out).await,
        },
        BillsCommand::Issue(arguments) => close::issue(&arguments, &client().await?, out).await,
        BillsCommand::Refund(arguments) => close::refund(&arguments, &client().await?, out).await,
        BillsCommand::Show(which) => show(&which, &client().await?, out).await,
        BillsCommand::List(arguments) => list(&arguments, &client().await?, out).await,
        BillsCommand::Explain(arguments) => explain_bill(&arguments, &client().await?, out).await,
        BillsCommand::Export(arguments) => export::export(&arguments, &client().await?, out).await,
        BillsCommand::Verify(arguments) => export::verify(&arguments, out),
    }
}

/// What stands around a body.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Envelope {
    /// Empty before it is issued.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub number: String,
    /// estimate, closed, issued or simulated.
    pub status: String,
    /// Of an issued bill: anniversary, interim, correction, purchase, shortfall or refund; of an estimate only shortfall.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub previous_hash: String,
}

impl Envelope {
    /// Of a bill that nobody issued.
    pub fn simulated() -> Envelope {
        Envelope { status: "simulated".to_owned(), ..Envelope::default() }
    }

    fn of(bill: &proto::Bill) -> Envelope {
        Envelope {
            number: bill.number.clone(),
            status: bill.status.clone(),
            kind: bill.kind.clone(),
            issued_at: bill.issued_at_ns.map(|ns| Timestamp(ns).to_string()),
            previous_hash: hex(&bill.previous_hash),
        }
    }
}

/// A bill as `-o json` prints it: the envelope, the body as fields, and the canonical body in hexadecimal digits, which
/// `simulate --billed` reads and whose BLAKE3 is `body_hash`.
#[derive(Clone, Debug, Serialize)]
pub struct BillRow {
    #[serde(flatten)]
    envelope: Envelope,
    body_hash: String,
    #[serde(flatten)]
    bill: BillView,
    body: String,
}

impl BillRow {
    fn new(body: &BillBody, envelope: Envelope) -> BillRow {
        let bytes = codec::encode(body);
        BillRow { envelope, body_hash: hex(&codec::body_hash(&bytes)), bill: BillView::new(body), body: hex(&bytes) }
    }

    /// A bill that nobody issued.
    pub fn simulated(body: &BillBody) -> BillRow {
        BillRow::new(body, Envelope::simulated())
    }
}

#[derive(Serialize)]
struct Bills {
    bills: Vec<BillRow>,
}

async fn estimate(arguments: &EstimateArguments, client: &Client, out: &Out) -> Result<Exit, Error> {
    let (which, form) = (&arguments.which, proto::BillForm::Canonical);
    if let Some(group) = &arguments.pro_forma {
        let reply = client.pro_forma(&which.root, group, Some(which.cycle), form).await?;
        show_bills(&reply.bills, out)?;
        if reply.bills.is_empty() {
            out.say(&format!("nothing is on the pro forma bill of {group} for {}: no usage was counted", which.cycle));
        }
        return Ok(Exit::Ok);
    }
    let reply = client.estimate(&which.root, which.payer.as_ref(), Some(which.cycle), form).await?;
    show_bills(&reply.bills, out)?;
    let (root, cycle) = (&which.root, which.cycle);
    if reply.bills.is_empty() {
        out.say(&format!("nothing is owed for {cycle}: no usage was counted that has no bill yet"));
        out.next("reckoner usage push -f usage.jsonl");
    } else {
        out.next(&format!(
            "reckoner bills explain --root {root} --cycle {cycle} --line 1   (or 'reckoner bills close' with the same \
             arguments)"
        ));
    }
    Ok(Exit::Ok)
}

async fn show(which: &Which, client: &Client, out: &Out) -> Result<Exit, Error> {
    let request = proto::ShowBillsRequest {
        root: which.root.to_string(),
        payer: which.payer.as_ref().map(ToString::to_string).unwrap_or_default(),
        cycle: which.cycle.to_string(),
        number: String::new(),
        form: proto::BillForm::Canonical.into(),
        freshness: None,
    };
    let reply = client.bills(request).await?;
    show_bills(&reply.bills, out)?;
    let (root, cycle) = (&which.root, which.cycle);
    if reply.bills.is_empty() {
        out.say(&format!("{root} has no issued bill of {cycle}"));
        out.next(&format!("reckoner bills estimate --root {root} --cycle {cycle}"));
    } else {
        out.next(&format!("reckoner bills explain --root {root} --cycle {cycle} --line 1"));
    }
    Ok(Exit::Ok)
}

fn show_bills(bills: &[proto::Bill], out: &Out) -> Result<(), Error> {
    let bodies: Result<Vec<(BillBody, Envelope)>, Error> =
        bills.iter().map(|bill| Ok((body_of(bill)?, Envelope::of(bill)))).collect();
    let bodies = bodies?;
    if out.is_json() {
        out.json(&Bills {
            bills: bodies.iter().map(|(body, envelope)| BillRow::new(body, envelope.clone())).collect(),
        });
    } else {
        for (body, envelope) in &bodies {
            show_bill(body, envelope, out);
        }
    }
    Ok(())
}

/// A bill in one sentence.
fn headline(body: &BillBody, envelope: &Envelope) -> String {
    let number = match (envelope.kind.as_str(), envelope.number.as_str()) {
        (_, "") => String::new(),
        ("" | "anniversary", number) => format!(" {number}"),
        (kind, number) => format!(" {kind} {number}"),
    };
    if let Some(refund) = &body.refund {
        return format!(
            "{}{number}: {} {} are paid back to {} of its bill {} for {} ({})",
            envelope.status, -body.payable, body.currency, body.payer, refund.number, body.cycle, refund.reason
        );
    }
    let issued = envelope.issued_at.as_ref().map(|at| format!(", issued {at}")).unwrap_or_default();
    let (status, payer, payable, currency) = (&envelope.status, &body.payer, body.payable, body.currency);
    format!("{status}{number}: {payer} owes {payable} {currency} for {} (root {}){issued}", body.cycle, body.root)
}

/// Prints one bill as a table.
pub fn show_bill(body: &BillBody, envelope: &Envelope, out: &Out) {
    let view = BillView::new(body);
    match &body.pro_forma {
        Some(group) => out.line(&format!(
            "{}, pro forma: group {group} comes to {} {} for {} (root {}), owed by nobody",
            envelope.status, view.payable, view.currency, view.cycle, view.root
        )),
        None => out.line(&headline(body, envelope)),
    }
    let header = ["line", "kind", "account", "sku", "quantity", "unit", "rate", "amount", "by"];
    out.table(&header, &[0, 4, 6, 7], view.lines.iter().map(line_cells).collect());
    for unpriced in &view.unpriced {
        out.line(&format!(
            "unpriced ({}): {} {} {} {}, quantity {}",
            unpriced.reason,
            unpriced.account,
            unpriced.used.service,
            unpriced.used.usage_type,
            unpriced.used.region,
            unpriced.quantity
        ));
    }
    for balance in &view.balances {
        out.line(&format!("balance {}: {} used before, {} by this bill", balance.name, balance.before, balance.change));
    }
    match &view.exchange {
        Some(exchange) => out.line(&format!(
            "total {} {}, at {} since {} (clause {}) {}, payable {} {}",
            view.total,
            exchange.from,
            exchange.rate,
            exchange.since.date(),
            exchange.clause,
            exchange.total,
            view.payable,
            view.currency
        )),
        None => out.line(&format!("total {}, payable {} {}", view.total, view.payable, view.currency)),
    }
    out.line("");
}

fn line_cells(line: &LineView) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_default();
    vec![
        line.id.to_string(),
        line.kind.to_owned(),
        text(line.account.as_ref().map(ToString::to_string)),
        text(line.sku.as_ref().map(ToString::to_string)),
        text(line.quantity.map(|quantity| quantity.to_string())),
        text(line.unit.clone()),
        text(line.rate.map(|rate| rate.to_string())),
        line.amount.to_string(),
        made_by(line),
    ]
}

fn made_by(line: &LineView) -> String {
    match &line.made_by {
        MadeBy::FreeUnits { price } => format!("{price}, free units"),
        MadeBy::FreePool { pool } => format!("free pool {pool}"),
        MadeBy::Price { price, .. } => match &line.tier {
            Some(tier) if tier.index > 1 || tier.end.is_some() => format!("{price}, tier {}", tier.index),
            _ => price.to_string(),
        },
        MadeBy::PerRecord { price } => format!("{price}, per record"),
        MadeBy::Minimum { price, .. } => format!("{price}, minimum"),
        MadeBy::Maximum { price, .. } => format!("{price}, maximum"),
        MadeBy::Fee { subscription, from, to, .. } if from == to => subscription.to_string(),
        MadeBy::Fee { subscription, from, to, .. } => format!("{subscription}, {} to {}", from.date(), to.date()),
        MadeBy::Clause { text, .. } => match &line.tier {
            Some(tier) if tier.index > 1 || tier.end.is_some() => format!("{text}, tier {}", tier.index),
            _ => text.clone(),
        },
        MadeBy::Rounding => "rounding".to_owned(),
        MadeBy::Refund { number } => format!("refund of {number}"),
    }
}

async fn list(arguments: &ListArguments, client: &Client, out: &Out) -> Result<Exit, Error> {
    let reply = client.list_bills(&arguments.root, arguments.payer.as_ref(), arguments.cycle).await?;
    if out.is_json() {
        let bills: Vec<SummaryRow> = reply.bills.iter().map(summary).collect();
        out.json(&serde_json::json!({ "bills": bills }));
        return Ok(Exit::Ok);
    }
    let root = &arguments.root;
    match reply.bills.first() {
        None => {
            out.say(&format!("{root} has no bills yet"));
            out.next(&format!(
                "reckoner accounts list   (shows the cycles), then 'reckoner bills close --root {root}'"
            ));
        }
        Some(first) => {
            show_summaries(&reply.bills, out);
            out.next(&format!("reckoner bills show --root {root} --cycle {}", first.cycle));
        }
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    envelope: Envelope,
    root: AccountId,
    payer: AccountId,
    cycle: CycleId,
    explanations: Vec<Explanation>,
    entries: Vec<EntryRow>,
}

#[derive(Serialize)]
struct EntryRow {
    kind: String,
    id: String,
    version: String,
    entry: serde_json::Value,
}

async fn explain_bill(arguments: &ExplainArguments, client: &Client, out: &Out) -> Result<Exit, Error> {
    let which = &arguments.which;
    let request = proto::ExplainRequest {
        root: which.root.to_string(),
        payer: which.payer.as_ref().map(ToString::to_string).unwrap_or_default(),
        cycle: which.cycle.to_string(),
        line: arguments.line,
        form: proto::BillForm::Canonical.into(),
        freshness: None,
        number: arguments.number.clone().unwrap_or_default(),
    };
    let reply = client.explain(request).await?;
    let bill =
        reply.bill.ok_or_else(|| Error::invalid("the answer has no bill; use a client of the node's version"))?;
    let body = body_of(&bill)?;
    let ids: Vec<u32> = match arguments.line {
        Some(line) => vec![line],
        None => body.lines.iter().map(|line| line.id).collect(),
    };
    let explanations: Option<Vec<Explanation>> = ids.iter().map(|id| explain(&body, *id)).collect();
    let explanations = explanations.ok_or_else(|| {
        Error::invalid(format!("the bill has lines 1 to {}, not line {}", body.lines.len(), ids.first().unwrap_or(&0)))
    })?;
    let entries = reply.entries.into_iter().map(|entry| EntryRow {
        kind: entry.kind,
        id: entry.id,
        version: entry.version.map(|version| format!("{} {}", version.name, version.version)).unwrap_or_default(),
        entry: serde_json::from_str(&entry.json).unwrap_or(serde_json::Value::String(entry.json)),
    });
    let entries: Vec<EntryRow> = entries.collect();
    if out.is_json() {
        let envelope = Envelope::of(&bill);
        out.json(&Explained { envelope, root: body.root, payer: body.payer, cycle: body.cycle, explanations, entries });
        return Ok(Exit::Ok);
    }
    out.line(&headline(&body, &Envelope::of(&bill)));
    for explanation in &explanations {
        out.line(&explanation.to_string());
    }
    for entry in &entries {
        out.line(&format!("{} {} ({}): {}", entry.kind, entry.id, entry.version, entry.entry));
    }
    if arguments.line.is_none() {
        out.next(&format!("reckoner bills explain --root {} --cycle {} --line 1", which.root, which.cycle));
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use reckoner_shard::billing::simulate::{Simulation, simulate};

    use super::*;
    use crate::cli::printed::read_billed;

    fn body() -> BillBody {
        let catalogue = r#"{"kind":"Catalogue","name":"demo","currency":"USD","effective":"2024-09",
            "meters":[{"id":"calls","service":"api","usage_type":"calls"}],
            "skus":[{"id":"calls","match":{"service":"api"},"unit":"calls","rate":"0.01"}]}"#;
        let hierarchy = r#"{"kind":"Hierarchy","root":"acme","catalogue":"demo",
            "cycles":{"first":"2024-09","close":"manual"}}"#;
        let record =
            r#"{"account":"acme","service":"api","usage_type":"calls","quantity":"150.5","start":"2024-09-18"}"#;
        let simulation = Simulation {
            catalogue: &serde_json::from_str(catalogue).unwrap(),
            contract: None,
            hierarchy: &serde_json::from_str(hierarchy).unwrap(),
            records: &[serde_json::from_str(record).unwrap()],
            cycle: "2024-09".parse().unwrap(),
            billed: &[],
            interim: false,
        };
        simulate(&simulation).unwrap().bodies.remove(0)
    }

    #[test]
    fn a_printed_bill_is_read_back_exactly() {
        let body = body();
        let folder = tempfile::tempdir().unwrap();
        let check = |text: String| {
            let path = folder.path().join("bill.json");
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_billed(&path).unwrap(), std::slice::from_ref(&body));
        };
        check(serde_json::to_string(&Bills { bills: vec![BillRow::simulated(&body)] }).unwrap());
        check(serde_json::to_string(&BillRow::simulated(&body)).unwrap());
        let path = folder.path().join("other.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(read_billed(&path).unwrap_err().to_string().contains("simulate -o json"));
    }

    #[test]
    fn a_bill_has_the_same_fields_on_the_wire() {
        let body = body();
        // 150.5 calls at 0.01 are 1.505, which rounds half up to 1.51 with a line of 0.005.
        let detail = crate::wire::bills::detail(&body);
        assert_eq!((detail.total.as_str(), detail.payable.as_str()), ("1.505", "1.51"));
        let amounts: Vec<&str> = detail.lines.iter().map(|line| line.amount.as_str()).collect();
        assert_eq!(amounts, ["1.505", "0.005"]);
        assert_eq!((detail.lines[0].quantity.as_deref(), detail.lines[0].unit.as_str()), (Some("150.5"), "calls"));
        let canonical = crate::wire::bills::bill(&body, proto::BillForm::Canonical);
        assert_eq!(body_of(&canonical).unwrap(), body);
        let forged = proto::Bill { body_hash: vec![0; 32].into(), ..canonical };
        assert!(body_of(&forged).is_err());
    }
}
