//! `cluster ...`: how the cluster is. What changes it is in [`super::nodes`] and [`super::shards`].

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use tokio::time::Instant;

use super::backup::{self, BackupArguments};
use super::nodes::{self, LeadersCommand, NodeRow, NodesCommand, node_row, node_table};
use super::output::Out;
use super::shards::{self, ShardRow, ShardsCommand, shard_row, shard_table};
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
    /// The shards: list, scale, split, merge, move slots
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// Who leads
    #[command(subcommand)]
    Leaders(LeadersCommand),
    /// Copy the whole cluster, bills included, into a directory; 'node restore' makes a new cluster of it
    Backup(BackupArguments),
}

/// Runs `cluster ...`.
pub async fn run(command: ClusterCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    match command {
        ClusterCommand::Status { wait } => status(wait, globals, out).await,
        ClusterCommand::Init { shards } => nodes::init(shards, globals, out).await,
        ClusterCommand::Nodes(command) => nodes::run(command, globals, out).await,
        ClusterCommand::Shards(command) => shards::run(command, globals, out).await,
        ClusterCommand::Leaders(LeadersCommand::Balance(wish)) => nodes::balance(&wish, globals, out).await,
        ClusterCommand::Backup(arguments) => backup::run(arguments, globals, out).await,
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
    slots_to_move: u32,
    slots_moving: u32,
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

fn rows(reply: proto::StatusReply) -> Status {
    let nodes = reply.nodes.into_iter().map(node_row);
    let shards = reply.shards.into_iter().map(shard_row);
    Status {
        health: reply.health,
        reasons: reply.reasons,
        map_epoch: reply.map_epoch,
        answered_by: reply.node,
        nodes: nodes.collect(),
        shards: shards.collect(),
        slots_to_move: reply.slots_to_move,
        slots_moving: reply.slots_moving,
    }
}
