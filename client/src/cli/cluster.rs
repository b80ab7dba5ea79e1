//! `cluster ...`: how the cluster is. What changes it is in [`super::nodes`].

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use tokio::time::Instant;

use super::nodes::{self, LeadersCommand, NodeRow, NodesCommand, node_row, node_table, plain};
use super::output::Out;
use super::{Exit, Globals};
use crate::error::Error;
use crate::proto;

/// Replicas of a shard where there are nodes enough.
const REPLICAS_MAX: usize = 3;

/// Between two looks at a cluster that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// `cluster ...`
#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Health of nodes and shards; exit 3 where degraded, 4 where unavailable
    Status {
        /// First wait until so many nodes answer and every replica is where it should be; at most --timeout seconds
        #[arg(long, value_name = "NODES")]
        wait: Option<usize>,
    },
    /// Found a cluster on the first --endpoint, a node that was started with --join; the others then join by themselves
    Init {
        /// Shards, 1 to 256; by default what the node was started with, or 8
        #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
        shards: u32,
    },
    /// The nodes: list, drain, remove, replace
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// The shards and where their replicas are
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// Who leads
    #[command(subcommand)]
    Leaders(LeadersCommand),
}

/// `cluster shards ...`
#[derive(Subcommand, Clone, Debug)]
pub enum ShardsCommand {
    /// Every shard: who leads, who holds replicas, who should
    List,
}

/// Runs `cluster ...`.
pub async fn run(command: ClusterCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match command {
        ClusterCommand::Status { wait } => status(wait, globals, out).await,
        ClusterCommand::Init { shards } => nodes::init(shards, globals, out).await,
        ClusterCommand::Nodes(command) => nodes::run(command, globals, out).await,
        ClusterCommand::Shards(ShardsCommand::List) => shards(globals, out).await,
        ClusterCommand::Leaders(LeadersCommand::Balance(wish)) => nodes::balance(&wish, globals, out).await,
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
    wanted: Vec<u64>,
    moving: bool,
}

#[derive(Serialize)]
struct ReplicaRow {
    node: u64,
    role: String,
    matched: u64,
}

async fn status(wait: Option<usize>, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let deadline = Instant::now() + Duration::from_secs(globals.timeout);
    let mut reply = client.status().await?;
    while !wait.is_none_or(|nodes| is_settled(&reply, nodes)) && Instant::now() < deadline {
        tokio::time::sleep(LOOK_INTERVAL).await;
        reply = client.status().await?;
    }
    if let Some(nodes) = wait.filter(|nodes| !is_settled(&reply, *nodes)) {
        out.warn(&format!("not {nodes} nodes with every replica in place within {} s", globals.timeout));
    }
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
    node_table(status.nodes, out);
    out.line("");
    shard_table(status.shards, out);
    out.say(&format!("{}, as node {} sees it", status.health, status.answered_by));
    for reason in &status.reasons {
        out.warn(reason);
    }
    Ok(exit)
}

/// Whether so many nodes are there, all answer, and as many of them as can hold a replica of every shard.
fn is_settled(reply: &proto::StatusReply, nodes: usize) -> bool {
    let in_place = |shard: &proto::ShardStatus| {
        !shard.moving && shard.leader_node != 0 && shard.replicas.len() >= nodes.min(REPLICAS_MAX)
    };
    reply.nodes.len() >= nodes && reply.nodes.iter().all(|node| node.reachable) && reply.shards.iter().all(in_place)
}

async fn shards(globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let status = rows(globals.connect().await?.status().await?);
    if out.is_json() {
        out.json(&status.shards);
    } else {
        shard_table(status.shards, out);
    }
    Ok(Exit::Ok)
}

fn shard_table(shards: Vec<ShardRow>, out: &Out) {
    let shards = shards.into_iter().map(|shard| {
        let leader = if shard.leader_node == 0 { "none".to_owned() } else { shard.leader_node.to_string() };
        let replicas: Vec<String> = shard.replicas.iter().map(|r| format!("{}:{}", r.node, r.role)).collect();
        vec![
            shard.id.to_string(),
            leader,
            match shard.moving {
                true => format!("{} -> {}", replicas.join(" "), plain(&shard.wanted)),
                false => replicas.join(" "),
            },
            shard.committed.to_string(),
            shard.slots.to_string(),
            shard.hierarchies.to_string(),
            shard.counters.to_string(),
            shard.records.to_string(),
        ]
    });
    let header = ["shard", "leader", "replicas", "committed", "slots", "hierarchies", "counters", "records"];
    out.table(&header, &[3, 4, 5, 6, 7], shards.collect());
}

fn rows(reply: proto::StatusReply) -> Status {
    let nodes = reply.nodes.into_iter().map(node_row);
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
        wanted: shard.wanted,
        moving: shard.moving,
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
