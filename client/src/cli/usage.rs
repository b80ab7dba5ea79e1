//! `usage push` and `usage get`: arguments and output. How a file is pushed lives in `push`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reckoner_shard::base::id::{AccountId, ProducerId};
use reckoner_shard::base::time::{CycleId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::output::Out;
use super::{Exit, Globals, push};
use crate::error::Error;
use crate::proto;

/// Counters of one answer.
const PAGE: u32 = 5_000;

/// `usage ...`
#[derive(Subcommand, Clone, Debug)]
pub enum UsageCommand {
    /// Push a file of usage records (JSON lines, or CSV with a header); each line counts once, however often it is pushed
    Push(PushArguments),
    /// Read the counters of a hierarchy
    Get(GetArguments),
}

/// Arguments of `usage push`.
#[derive(Args, Clone, Debug)]
pub struct PushArguments {
    /// The file; *.csv is CSV, everything else JSON lines
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: PathBuf,
    /// For a file that only grows: recognise its lines under this name. Without a name the file is recognised by its
    /// digest, so an edited file is a new one and counts again
    #[arg(long, value_name = "NAME")]
    pub producer: Option<ProducerId>,
}

/// Arguments of `usage get`.
#[derive(Args, Clone, Debug)]
pub struct GetArguments {
    /// Root of the hierarchy
    #[arg(long, value_name = "ACCOUNT")]
    pub root: AccountId,
    /// Cycle, like 2024-09; without it the oldest that still counts
    #[arg(long)]
    pub cycle: Option<CycleId>,
    /// Only this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<AccountId>,
}

/// Runs `usage ...`.
pub async fn run(command: UsageCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match command {
        UsageCommand::Push(arguments) => push::push(&arguments, globals, out).await,
        UsageCommand::Get(arguments) => get(&arguments, globals, out).await,
    }
}

#[derive(Serialize)]
struct Counters {
    root: String,
    cycle: String,
    counters: Vec<CounterRow>,
}

#[derive(Serialize)]
struct CounterRow {
    account: String,
    service: String,
    usage_type: String,
    operation: String,
    region: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    attributes: Map<String, Value>,
    meter: String,
    bucket: String,
    quantity: String,
    records: u64,
    late: bool,
}

async fn get(arguments: &GetArguments, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let mut request = proto::GetUsageRequest {
        root: arguments.root.to_string(),
        cycle: arguments.cycle.map(|cycle| cycle.to_string()).unwrap_or_default(),
        account: arguments.account.as_ref().map(ToString::to_string).unwrap_or_default(),
        page_size: PAGE,
        page_token: String::new(),
        freshness: None,
    };
    let (mut rows, mut cycle) = (Vec::new(), String::new());
    loop {
        let reply = client.usage(request.clone()).await?;
        cycle.clone_from(&reply.cycle);
        // The pages after the first are of the same cycle, whatever closes meanwhile.
        request.cycle.clone_from(&reply.cycle);
        rows.extend(reply.counters.into_iter().map(row));
        if reply.next_page_token.is_empty() {
            break;
        }
        request.page_token = reply.next_page_token;
    }
    if out.is_json() {
        out.json(&Counters { root: arguments.root.to_string(), cycle, counters: rows });
        return Ok(Exit::Ok);
    }
    let count = rows.len();
    let rows = rows.into_iter().map(|row| {
        let attributes: Vec<String> = row
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        let late = if row.late { "late" } else { "" };
        vec![
            row.account,
            row.service,
            row.usage_type,
            row.operation,
            row.region,
            attributes.join(" "),
            row.bucket,
            row.quantity,
            row.records.to_string(),
            late.to_owned(),
        ]
    });
    let header =
        ["account", "service", "usage type", "operation", "region", "attributes", "bucket", "quantity", "records", ""];
    out.table(&header, &[7, 8], rows.collect());
    out.say(&format!("{count} counters of {} in {cycle}", arguments.root));
    out.next(&format!("reckoner bills estimate --root {} --cycle {cycle}", arguments.root));
    Ok(Exit::Ok)
}

fn row(counter: proto::UsageCounter) -> CounterRow {
    CounterRow {
        account: counter.account,
        service: counter.service,
        usage_type: counter.usage_type,
        operation: counter.operation,
        region: counter.region,
        attributes: counter.attributes.into_iter().map(|a| (a.name, Value::String(a.value))).collect(),
        meter: counter.meter,
        bucket: Timestamp(counter.bucket_start_ns).to_string(),
        quantity: counter.quantity,
        records: counter.records,
        late: counter.late,
    }
}
