//! `bills close`, `bills issue` and `bills refund`: what makes bills, and what came of it.

use clap::{ArgGroup, Args};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::money::Money;
use reckoner_shard::base::time::{CycleId, Timestamp};
use serde::Serialize;

use super::Exit;
use super::output::Out;
use super::summary::{SummaryRow, show_summaries, summary};
use crate::client::Client;
use crate::error::Error;
use crate::proto;

/// Arguments of `bills close`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("whose").required(true))]
pub struct CloseArguments {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT", group = "whose")]
    pub root: Option<AccountId>,
    /// All hierarchies; safe to repeat, goes on where it stopped
    #[arg(long, group = "whose")]
    pub all: bool,
    /// Cycle, like 2024-09
    #[arg(long)]
    pub cycle: CycleId,
}

/// Arguments of `bills issue`.
#[derive(Args, Clone, Debug)]
pub struct IssueArguments {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT")]
    pub root: AccountId,
    /// Cycle, like 2024-09: the one that is open, or a closed one with late usage
    #[arg(long)]
    pub cycle: CycleId,
}

/// Arguments of `bills refund`.
#[derive(Args, Clone, Debug)]
pub struct RefundArguments {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT")]
    pub root: AccountId,
    /// Number of the bill, like acme-0001
    #[arg(long, value_name = "NUMBER")]
    pub bill: String,
    /// What to pay back, in the bill's currency; what the bill does not leave is not paid back
    #[arg(long, value_name = "DECIMAL")]
    pub amount: Money,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Names the refund: the same again pays nothing twice; default: the reason
    #[arg(long, value_name = "NAME", default_value = "")]
    pub reference: String,
}

#[derive(Serialize)]
struct Refunded {
    root: String,
    bill: String,
    state: String,
    /// The document; none where nothing of the bill is left.
    bills: Vec<SummaryRow>,
}

#[derive(Serialize)]
struct Closed {
    root: String,
    cycle: CycleId,
    state: String,
    bills: Vec<SummaryRow>,
    /// End of the grace that this close cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_grace: Option<String>,
}

pub async fn close(root: &AccountId, cycle: CycleId, client: &Client, out: &Out) -> Result<Exit, Error> {
    let reply = client.close(root, cycle).await?;
    let ended_grace = reply.grace_until_ns.map(|ns| Timestamp(ns).to_string());
    if out.is_json() {
        let bills = reply.bills.iter().map(summary).collect();
        out.json(&Closed { root: root.to_string(), cycle, state: reply.state.clone(), bills, ended_grace });
    } else {
        show_summaries(&reply.bills, out);
        if let Some(until) = ended_grace {
            out.say(&format!(
                "grace until {until} was ended by this close; later usage of {cycle} becomes corrections"
            ));
        }
    }
    if reply.state == "issued" {
        out.next(&format!("reckoner bills show --root {root} --cycle {cycle}"));
        return Ok(Exit::Ok);
    }
    out.say(&format!("the cycle is {}: its bills are being computed", reply.state));
    out.next("give the same command again; it goes on and changes nothing that is done");
    Ok(Exit::Unavailable)
}

pub async fn issue(arguments: &IssueArguments, client: &Client, out: &Out) -> Result<Exit, Error> {
    let IssueArguments { root, cycle } = arguments;
    let reply = client.issue(root, *cycle).await?;
    if out.is_json() {
        let bills = reply.bills.iter().map(summary).collect();
        let (root, state) = (root.to_string(), reply.state.clone());
        out.json(&Closed { root, cycle: *cycle, state, bills, ended_grace: None });
    } else if !reply.bills.is_empty() {
        show_summaries(&reply.bills, out);
    }
    match (reply.state.as_str(), reply.bills.first()) {
        ("issued", Some(bill)) => {
            out.next(&format!("reckoner bills explain --root {root} --cycle {cycle} --number {}", bill.number));
            Ok(Exit::Ok)
        }
        ("issued", None) => {
            out.say(&format!("everything that {root} used in {cycle} is billed already"));
            Ok(Exit::Ok)
        }
        (state, _) => {
            out.say(&format!("the bills are {state}: they are being computed"));
            out.next("give the same command again; it goes on and bills nothing twice");
            Ok(Exit::Unavailable)
        }
    }
}

pub async fn refund(arguments: &RefundArguments, client: &Client, out: &Out) -> Result<Exit, Error> {
    let RefundArguments { root, bill, amount, reason, reference } = arguments;
    let request = proto::RefundRequest {
        root: root.to_string(),
        number: bill.clone(),
        amount: amount.to_string(),
        reason: reason.clone(),
        reference: reference.clone(),
    };
    let reply = client.refund(root, request).await?;
    if out.is_json() {
        let bills = reply.bills.iter().map(summary).collect();
        out.json(&Refunded { root: root.to_string(), bill: bill.clone(), state: reply.state.clone(), bills });
    } else if !reply.bills.is_empty() {
        show_summaries(&reply.bills, out);
    }
    match (reply.state.as_str(), reply.bills.first()) {
        ("issued", Some(made)) => {
            let (cycle, number) = (&made.cycle, &made.number);
            out.next(&format!("reckoner bills explain --root {root} --cycle {cycle} --number {number}"));
            Ok(Exit::Ok)
        }
        ("issued", None) => {
            out.say(&format!("nothing of {bill} is left to be paid back"));
            Ok(Exit::Failed)
        }
        _ => {
            out.say("the refund is being made");
            out.next("give the same command again; it goes on and pays nothing twice");
            Ok(Exit::Unavailable)
        }
    }
}

#[derive(Serialize)]
struct ClosedAll {
    cycle: CycleId,
    roots: u64,
    issued: u64,
    bills: u64,
    left: Vec<LeftRow>,
    done: bool,
}

#[derive(Serialize)]
struct LeftRow {
    root: String,
    reason: String,
    detail: String,
}

pub async fn close_all(cycle: CycleId, client: &Client, out: &Out) -> Result<Exit, Error> {
    let mut progress = client.close_all(cycle).await?;
    let bar = out.progress(0, "hierarchies");
    let mut last = proto::CloseProgress::default();
    let mut broken = None;
    while !last.done {
        match progress.message().await {
            Ok(Some(message)) => {
                bar.set_length(message.roots);
                bar.set_position(message.issued);
                last = message;
            }
            Ok(None) => break,
            Err(status) => {
                broken = Some(Error::from_status(&status));
                break;
            }
        }
    }
    bar.finish_and_clear();
    let left = last.left.iter().map(|left| {
        let (reason, detail) = match &left.refusal {
            Some(refusal) => (refusal.reason.clone(), refusal.detail.clone()),
            None => Default::default(),
        };
        LeftRow { root: left.root.clone(), reason, detail }
    });
    let left: Vec<LeftRow> = left.collect();
    for row in &left {
        out.warn(&format!("{}: {}: {}", row.root, row.reason, row.detail));
    }
    let (roots, issued, bills, done) = (last.roots, last.issued, last.bills, last.done);
    if out.is_json() {
        out.json(&ClosedAll { cycle, roots, issued, bills, left, done });
    } else {
        out.line(&format!("{cycle}: {issued} of {roots} hierarchies issued, {bills} bills"));
    }
    match broken {
        Some(error) => {
            out.next("give the same command again; it goes on where it stopped");
            Err(error)
        }
        None if issued == roots && done => Ok(Exit::Ok),
        None => {
            out.next("give the same command again once what is named above is settled");
            Ok(Exit::Failed)
        }
    }
}
