//! `cluster status`.

use clap::Subcommand;
use serde::Serialize;

use super::output::Out;
use super::{Exit, Globals};
use crate::error::Error;
use crate::proto;

/// `cluster ...`
#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Health of nodes and shards; exit 3 where degraded, 4 where unavailable
    Status,
}

/// Runs `cluster ...`.
pub async fn run(command: ClusterCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match command {
        ClusterCommand::Status => status(globals, out).await,
    }
}

#[derive(Serialize)]
struct Status {
    health: String,
    reasons: Vec<String>,
    map_epoch: u64,
    answered_by: u64,
    nodes: Vec<NodeRow>,
    shards: Vec<ShardRow>,
}

#[derive(Serialize)]
struct NodeRow {
    id: u64,
    address: String,
    reachable: bool,
    version: String,
    clock_offset_ms: i64,
    leads: Vec<u32>,
}

#[derive(Serialize)]
struct ShardRow {
    id: u32,
    leader_node: u64,
    term: u64,
    committed: u64,
    applied: u64,
    replicas: Vec<ReplicaRow>,
    slots: u32,
    hierarchies: u64,
    counters: u64,
    records: u64,
}

#[derive(Serialize)]
struct ReplicaRow {
    node: u64,
    role: String,
    matched: u64,
}

async fn status(globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let reply = client.status().await?;
    let exit = match reply.health.as_str() {
        "healthy" => Exit::Ok,
        "unavailable" => Exit::Unavailable,
        _ => Exit::Degraded,
    };
    let status = rows(reply);
    if out.is_json() {
        out.json(&status);
        return Ok(exit);
    }
    let nodes = status.nodes.into_iter().map(|node| {
        let reachable = if node.reachable { "yes" } else { "no" };
        let leads: Vec<String> = node.leads.iter().map(u32::to_string).collect();
        vec![
            node.id.to_string(),
            node.address,
            reachable.to_owned(),
            node.version,
            format!("{} ms", node.clock_offset_ms),
            leads.join(" "),
        ]
    });
    out.table(&["node", "address", "reachable", "version", "clock", "leads"], &[4], nodes.collect());
    out.line("");
    let shards = status.shards.into_iter().map(|shard| {
        let leader = if shard.leader_node == 0 { "none".to_owned() } else { shard.leader_node.to_string() };
        let replicas: Vec<String> = shard.replicas.iter().map(|r| format!("{}:{}", r.node, r.role)).collect();
        vec![
            shard.id.to_string(),
            leader,
            replicas.join(" "),
            shard.committed.to_string(),
            shard.slots.to_string(),
            shard.hierarchies.to_string(),
            shard.counters.to_string(),
            shard.records.to_string(),
        ]
    });
    let header = ["shard", "leader", "replicas", "committed", "slots", "hierarchies", "counters", "records"];
    out.table(&header, &[3, 4, 5, 6, 7], shards.collect());
    out.say(&format!("{}, as node {} sees it", status.health, status.answered_by));
    for reason in &status.reasons {
        out.warn(reason);
    }
    Ok(exit)
}

fn rows(reply: proto::StatusReply) -> Status {
    let nodes = reply.nodes.into_iter().map(|node| NodeRow {
        id: node.id,
        address: node.address,
        reachable: node.reachable,
        version: node.version,
        clock_offset_ms: node.clock_offset_ms,
        leads: node.leads,
    });
    let shards = reply.shards.into_iter().map(|shard| ShardRow {
        id: shard.id,
        leader_node: shard.leader_node,
        term: shard.term,
        committed: shard.committed,
        applied: shard.applied,
        replicas: shard
            .replicas
            .into_iter()
            .map(|replica| ReplicaRow { node: replica.node, role: replica.role, matched: replica.matched })
            .collect(),
        slots: shard.slots,
        hierarchies: shard.hierarchies,
        counters: shard.counters,
        records: shard.records,
    });
    Status {
        health: reply.health,
        reasons: reply.reasons,
        map_epoch: reply.map_epoch,
        answered_by: reply.node,
        nodes: nodes.collect(),
        shards: shards.collect(),
    }
}
