//! `cluster init`, `cluster nodes ...`, `cluster leaders ...`: what changes which nodes there are and who leads.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::output::Out;
use super::{Exit, Globals};
use crate::client::{Client, ClientConfig};
use crate::error::Error;
use crate::proto;

/// Between two looks at what is under way.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// `cluster nodes ...`
#[derive(Subcommand, Clone, Debug)]
pub enum NodesCommand {
    /// The nodes of the cluster
    List,
    /// Move a node's replicas to the others; it serves until they are there, and may be removed then
    Drain(Named),
    /// Undo a drain: the node may hold replicas again
    Restore(Named),
    /// Strike a node off that is drained or lost; its id is never used again
    Remove(Named),
    /// Strike a lost node off, for which another one was started
    Replace(Replaced),
}

/// A node, and how far to go.
#[derive(Args, Clone, Debug)]
pub struct Named {
    /// Id or address of the node
    #[arg(value_name = "NODE")]
    pub name: String,
    #[command(flatten)]
    pub wish: Wish,
}

/// A lost node and its successor.
#[derive(Args, Clone, Debug)]
pub struct Replaced {
    /// Id or address of the lost node
    #[arg(value_name = "NODE")]
    pub name: String,
    /// Id or address of the node that joined in its place
    #[arg(long, value_name = "NODE")]
    pub with: String,
    #[command(flatten)]
    pub wish: Wish,
}

/// Whether to tell or to do.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("wish").required(true))]
pub struct Wish {
    /// Tell what would move and what that risks; exit 2 where something would change
    #[arg(long, group = "wish")]
    pub plan: bool,
    /// Do it; safe to interrupt and to run again
    #[arg(long, group = "wish")]
    pub apply: bool,
    /// With --apply: stay until every replica is where it should be
    #[arg(long, requires = "apply")]
    pub watch: bool,
}

/// `cluster leaders ...`
#[derive(Subcommand, Clone, Debug)]
pub enum LeadersCommand {
    /// Give every shard to the node that should lead it, so that each leads as many
    Balance(Wish),
}

#[derive(Serialize)]
struct Founded {
    cluster: String,
    node: u64,
    already: bool,
}

/// Runs `cluster init`.
pub async fn init(shards: u32, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let config = ClientConfig { deadline: Duration::from_secs(globals.timeout), ..ClientConfig::default() };
    let reply = Client::lazy(&globals.endpoint, config)?.init(shards).await?;
    if out.is_json() {
        out.json(&Founded { cluster: reply.cluster, node: reply.node, already: reply.already });
    } else if reply.already {
        out.say(&format!("node {} belongs to cluster {} already; nothing was changed", reply.node, reply.cluster));
    } else {
        out.say(&format!("cluster {} is founded, node {} is its first", reply.cluster, reply.node));
        out.next("reckoner cluster status");
    }
    Ok(Exit::Ok)
}

/// Runs `cluster nodes ...`.
pub async fn run(command: NodesCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let (name, state, replacement, wish) = match command {
        NodesCommand::List => return list(globals, out).await,
        NodesCommand::Drain(named) => (named.name, "draining", String::new(), named.wish),
        NodesCommand::Restore(named) => (named.name, "active", String::new(), named.wish),
        NodesCommand::Remove(named) => (named.name, "removed", String::new(), named.wish),
        NodesCommand::Replace(replaced) => (replaced.name, "removed", replaced.with, replaced.wish),
    };
    let client = globals.connect().await?;
    let request = proto::SetNodeRequest { name, state: state.to_owned(), replacement, plan: wish.plan };
    let reply = client.set_node(request).await?;
    show(&wish, reply, &client, out).await
}

/// Runs `cluster leaders balance`.
pub async fn balance(wish: &Wish, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let client = globals.connect().await?;
    let reply = client.balance_leaders(wish.plan).await?;
    show(wish, reply, &client, out).await
}

async fn list(globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let reply = globals.connect().await?.status().await?;
    let nodes: Vec<_> = reply.nodes.into_iter().map(node_row).collect();
    if out.is_json() {
        out.json(&nodes);
    } else {
        node_table(nodes, out);
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Plan {
    changes: bool,
    applied: bool,
    node: Option<u64>,
    moves: Vec<Move>,
    risks: Vec<String>,
}

#[derive(Serialize)]
struct Move {
    shard: u32,
    from: Vec<u64>,
    to: Vec<u64>,
    /// Of the snapshot that each new replica is sent; absent where the answering node has none.
    bytes: Option<u64>,
}

async fn show(wish: &Wish, reply: proto::PlanReply, client: &Client, out: &Out) -> Result<Exit, Error> {
    let moves =
        reply.moves.into_iter().map(|own| Move { shard: own.shard, from: own.from, to: own.to, bytes: own.bytes });
    let plan = Plan {
        changes: reply.changes,
        applied: wish.apply,
        node: (reply.node != 0).then_some(reply.node),
        moves: moves.collect(),
        risks: reply.risks,
    };
    if out.is_json() {
        out.json(&plan);
    } else {
        let rows = plan.moves.iter().map(|own| {
            let bytes = own.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
            vec![own.shard.to_string(), plain(&own.from), plain(&own.to), bytes]
        });
        if !plan.moves.is_empty() {
            out.table(&["shard", "replicas now", "replicas then", "bytes each"], &[3], rows.collect());
        }
        plan.risks.iter().for_each(|risk| out.warn(risk));
    }
    if wish.plan {
        out.say(if plan.changes { "nothing was changed; --apply does it" } else { "nothing to change" });
        return Ok(if plan.changes { Exit::Differences } else { Exit::Ok });
    }
    if !plan.changes {
        out.say("nothing to change");
    }
    if wish.watch {
        watch(client, out).await?;
    } else if plan.changes {
        out.next("reckoner cluster shards list");
    }
    Ok(Exit::Ok)
}

/// Returns once no replica is on its way; what is left is told as it gets less.
async fn watch(client: &Client, out: &Out) -> Result<(), Error> {
    let (mut most, mut told, mut calm) = (0, usize::MAX, 0);
    let bar = out.progress(0, "shards settled");
    // The plan is followed a moment after it was asked for: one calm look may come too early.
    while calm < 3 {
        let status = client.status().await?;
        let moving = status.shards.iter().filter(|shard| shard.moving).count();
        calm = if moving == 0 { calm + 1 } else { 0 };
        most = most.max(moving);
        bar.set_length(most as u64);
        bar.set_position((most - moving) as u64);
        if bar.is_hidden() && moving != told && (moving > 0 || most > 0) {
            out.say(&format!("{moving} shards have replicas on their way"));
        }
        told = moving;
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
    bar.finish_and_clear();
    out.say("every replica is where it should be");
    Ok(())
}

/// A node as `-o json` shows it.
#[derive(Serialize)]
pub struct NodeRow {
    id: u64,
    address: String,
    reachable: bool,
    version: String,
    clock_offset_ms: i64,
    leads: Vec<u32>,
    state: String,
    replicas: u32,
}

/// The row of a node.
pub fn node_row(node: proto::NodeStatus) -> NodeRow {
    NodeRow {
        id: node.id,
        address: node.address,
        reachable: node.reachable,
        version: node.version,
        clock_offset_ms: node.clock_offset_ms,
        leads: node.leads,
        state: node.state,
        replicas: node.replicas,
    }
}

/// Prints nodes as a table.
pub fn node_table(nodes: Vec<NodeRow>, out: &Out) {
    let nodes = nodes.into_iter().map(|node| {
        let reachable = if node.reachable { "yes" } else { "no" };
        let leads: Vec<String> = node.leads.iter().map(u32::to_string).collect();
        vec![
            node.id.to_string(),
            node.address,
            node.state,
            reachable.to_owned(),
            node.version,
            format!("{} ms", node.clock_offset_ms),
            node.replicas.to_string(),
            leads.join(" "),
        ]
    });
    let header = ["node", "address", "state", "reachable", "version", "clock", "replicas", "leads"];
    out.table(&header, &[5, 6], nodes.collect());
}

/// Ids as words.
pub fn plain(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}
