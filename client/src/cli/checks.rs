//! `cluster shards check`: whether the replicas of shards are equal.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::nodes::plain;
use super::output::Out;
use super::{Exit, Globals};
use crate::client::Client;
use crate::error::Error;
use crate::proto;

/// Between two looks at checks that are under way.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Which shards, and how far to go.
#[derive(Args, Clone, Debug)]
pub struct CheckShards {
    /// Ids of shards; all unless named
    #[arg(value_name = "SHARD")]
    pub shards: Vec<u32>,
    /// Stay until every check has ended, at most --timeout seconds; exit 2 where replicas differ
    #[arg(long)]
    pub watch: bool,
}

/// A check as `-o json` shows it.
#[derive(Serialize)]
pub struct CheckRow {
    index: u64,
    result: String,
    equal: Vec<u64>,
    differ: Vec<DifferRow>,
    silent: Vec<u64>,
    trouble: String,
}

#[derive(Serialize)]
struct DifferRow {
    node: u64,
    slots: Vec<u32>,
    rest: bool,
}

/// The row of a check.
pub fn check_row(check: proto::ShardCheck) -> CheckRow {
    let differ = |own: proto::CheckDifference| DifferRow { node: own.node, slots: own.slots, rest: own.rest };
    CheckRow {
        index: check.index,
        result: check.result,
        equal: check.equal,
        differ: check.differ.into_iter().map(differ).collect(),
        silent: check.silent,
        trouble: check.trouble,
    }
}

#[derive(Serialize)]
struct Checked {
    shard: u32,
    #[serde(flatten)]
    check: CheckRow,
}

#[derive(Serialize)]
struct Begun {
    shard: u32,
    index: u64,
    /// Why it did not begin; empty where it did.
    trouble: String,
}

/// Runs `cluster shards check`.
pub async fn run(wish: CheckShards, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let begun = client.check_shards(&wish.shards).await?.shards;
    let mut exit = Exit::Ok;
    for shard in begun.iter().filter(|shard| !shard.trouble.is_empty()) {
        out.warn(&format!("shard {} is not checked: {}", shard.shard, shard.trouble));
        exit = Exit::Failed;
    }
    if wish.watch {
        let watched = watch(&client, &begun, globals, out).await?;
        return Ok(if watched == Exit::Ok { exit } else { watched });
    }
    let begun = begun.into_iter().map(|own| Begun { shard: own.shard, index: own.index, trouble: own.trouble });
    let begun: Vec<Begun> = begun.collect();
    if out.is_json() {
        out.json(&begun);
    } else {
        let rows = begun.iter().filter(|own| own.trouble.is_empty());
        let rows = rows.map(|own| vec![own.shard.to_string(), own.index.to_string()]);
        out.table(&["shard", "entry"], &[0, 1], rows.collect());
        out.next("reckoner cluster status");
    }
    Ok(exit)
}

/// Returns once every check that began has ended, or a later one of its shard.
async fn watch(client: &Client, begun: &[proto::ShardChecking], globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let deadline = Instant::now() + Duration::from_secs(globals.timeout);
    let wanted: BTreeMap<u32, u64> =
        begun.iter().filter(|own| own.index > 0).map(|own| (own.shard, own.index)).collect();
    let mut checked: BTreeMap<u32, CheckRow> = BTreeMap::new();
    while checked.len() < wanted.len() && Instant::now() < deadline {
        for shard in client.status().await?.shards {
            let Some((index, check)) = wanted.get(&shard.id).zip(shard.check) else { continue };
            // A replica that was found wrong is compared again once it is rebuilt: what was found then is kept.
            if check.index >= *index && check.result != "running" {
                checked.entry(shard.id).or_insert_with(|| check_row(check));
            }
        }
        if checked.len() < wanted.len() {
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
    let missing: Vec<u64> =
        wanted.keys().filter(|shard| !checked.contains_key(shard)).map(|shard| (*shard).into()).collect();
    let differ = checked.values().any(|check| !check.trouble.is_empty());
    let untold: Vec<u64> =
        checked.iter().filter(|(_, check)| check.result == "untold").map(|(shard, _)| (*shard).into()).collect();
    for check in checked.values().filter(|check| !check.trouble.is_empty()) {
        out.warn(&check.trouble);
    }
    let rows: Vec<Checked> = checked.into_iter().map(|(shard, check)| Checked { shard, check }).collect();
    if out.is_json() {
        out.json(&rows);
    } else {
        let rows = rows.iter().map(|own| {
            let differ: Vec<u64> = own.check.differ.iter().map(|own| own.node).collect();
            let (shard, index) = (own.shard.to_string(), own.check.index.to_string());
            vec![
                shard,
                index,
                own.check.result.clone(),
                plain(&own.check.equal),
                plain(&differ),
                plain(&own.check.silent),
            ]
        });
        out.table(&["shard", "entry", "replicas are", "equal on", "different on", "silent"], &[0, 1], rows.collect());
    }
    for (shards, what) in
        [(&missing, "have not ended"), (&untold, "had too few answers: start the nodes that are missing")]
    {
        if !shards.is_empty() {
            out.warn(&format!("the checks of shards {} {what}", plain(shards)));
        }
    }
    Ok(match (differ, missing.is_empty() && untold.is_empty()) {
        (true, _) => Exit::Differences,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Failed,
    })
}
