//! `cluster shards ...`: which shards there are and which slots they have.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use tokio::time::Instant;

use super::checks::{self, CheckRow, CheckShards, check_row};
use super::nodes::{Wish, plain};
use super::output::Out;
use super::{Exit, Globals};
use crate::client::Client;
use crate::error::Error;
use crate::proto;
use crate::proto::set_layout_request::Wish as Asked;

/// Between two looks at what is under way.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// `cluster shards ...`
#[derive(Subcommand, Clone, Debug)]
pub enum ShardsCommand {
    /// Every shard: who leads, who holds replicas, who should
    List,
    /// Have so many shards, with as many slots each
    Scale(Scale),
    /// Give half of a shard's slots to a new shard
    Split(Split),
    /// Give all slots of a shard to another one, and the shard up
    Merge(Merge),
    /// Give slots to a shard
    Move(MoveSlots),
    /// Leave slots where they are; those that are being carried arrive
    Stop(Wish),
    /// Compare the replicas of shards: all are to be the same, byte for byte
    Check(CheckShards),
}

/// How many.
#[derive(Args, Clone, Debug)]
pub struct Scale {
    /// Shards, 1 to 256
    #[arg(value_name = "N")]
    pub count: u32,
    #[command(flatten)]
    pub wish: Wish,
}

/// Which one.
#[derive(Args, Clone, Debug)]
pub struct Split {
    /// Id of the shard
    #[arg(value_name = "SHARD")]
    pub shard: u32,
    #[command(flatten)]
    pub wish: Wish,
}

/// Which one into which other.
#[derive(Args, Clone, Debug)]
pub struct Merge {
    /// Id of the shard that is given up
    #[arg(value_name = "SHARD")]
    pub shard: u32,
    /// Id of the shard that takes its slots
    #[arg(long, value_name = "SHARD")]
    pub into: u32,
    #[command(flatten)]
    pub wish: Wish,
}

/// Which slots, and where they go.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct MoveSlots {
    /// Slots, 0 to 4095: one, or FIRST-LAST
    #[arg(long, value_name = "SLOTS", value_parser = slots, group = "which")]
    pub slots: Option<(u32, u32)>,
    /// The slot of this hierarchy
    #[arg(long, value_name = "ROOT", group = "which")]
    pub root: Option<String>,
    /// Id of the shard that takes them
    #[arg(long, value_name = "SHARD")]
    pub to: u32,
    #[command(flatten)]
    pub wish: Wish,
}

fn slots(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last < 4096 => Ok((first, last)),
        _ => Err(format!("'{text}' are no slots; write 17 or 17-42, they go from 0 to 4095")),
    }
}

/// Runs `cluster shards ...`.
pub async fn run(command: ShardsCommand, globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let (asked, wish) = match command {
        ShardsCommand::List => return list(globals, out).await,
        ShardsCommand::Check(check) => return checks::run(check, globals, out).await,
        ShardsCommand::Scale(scale) => (Asked::Scale(scale.count), scale.wish),
        ShardsCommand::Split(split) => (Asked::Split(split.shard), split.wish),
        ShardsCommand::Merge(merge) => {
            (Asked::Merge(proto::MergeShards { from: merge.shard, into: merge.into }), merge.wish)
        }
        ShardsCommand::Move(own) => {
            let of_root = own.root.as_deref().map(|root| u32::from(reckoner_shard::placement::slot_of(root).0));
            let (first, last) = own.slots.or(of_root.map(|slot| (slot, slot))).unwrap_or_default();
            (Asked::Move(proto::MoveSlots { first, last, to: own.to }), own.wish)
        }
        ShardsCommand::Stop(wish) => (Asked::Stop(proto::StopMoves {}), wish),
    };
    let client = globals.connect().await?;
    let reply =
        client.set_layout(proto::SetLayoutRequest { wish: Some(asked), plan: wish.plan, id: String::new() }).await?;
    show(&wish, reply, &client, out).await
}

async fn list(globals: &Globals, out: &Out) -> Result<Exit, Error> {
    let status = globals.connect().await?.status().await?;
    let (moving, left, halted) = (status.slots_moving, status.slots_to_move, status.halted);
    let shards: Vec<ShardRow> = status.shards.into_iter().map(shard_row).collect();
    if out.is_json() {
        out.json(&shards);
        return Ok(Exit::Ok);
    }
    shard_table(shards, out);
    if left > 0 {
        out.say(&format!("{left} slots are to go to other shards, {moving} of them are being carried"));
    }
    if !halted.is_empty() {
        out.warn(&format!("slots stay where they should not be: {halted}"));
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Layout {
    changes: bool,
    applied: bool,
    created: Vec<u32>,
    retired: Vec<u32>,
    moves: Vec<Moved>,
    risks: Vec<String>,
}

#[derive(Serialize)]
struct Moved {
    first: u32,
    last: u32,
    from: u32,
    to: u32,
    /// Their share of the shard's snapshot; absent where the answering node has none.
    bytes: Option<u64>,
}

async fn show(wish: &Wish, reply: proto::LayoutReply, client: &Client, out: &Out) -> Result<Exit, Error> {
    let moved = |own: proto::PlannedSlots| Moved {
        first: own.first,
        last: own.last,
        from: own.from,
        to: own.to,
        bytes: own.bytes,
    };
    let layout = Layout {
        changes: reply.changes,
        applied: wish.apply,
        created: reply.created,
        retired: reply.retired,
        moves: reply.moves.into_iter().map(moved).collect(),
        risks: reply.risks,
    };
    if out.is_json() {
        out.json(&layout);
    } else {
        let rows = layout.moves.iter().map(|own| {
            let bytes = own.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
            let slots = match own.first == own.last {
                true => own.first.to_string(),
                false => format!("{}-{}", own.first, own.last),
            };
            vec![slots, (own.last - own.first + 1).to_string(), own.from.to_string(), own.to.to_string(), bytes]
        });
        if !layout.moves.is_empty() {
            out.table(&["slots", "count", "from shard", "to shard", "bytes"], &[1, 2, 3, 4], rows.collect());
        }
        for (shards, what) in [(&layout.created, "new shards"), (&layout.retired, "shards that are given up")] {
            if !shards.is_empty() {
                let ids: Vec<u64> = shards.iter().map(|shard| u64::from(*shard)).collect();
                out.say(&format!("{what}: {}", plain(&ids)));
            }
        }
        layout.risks.iter().for_each(|risk| out.warn(risk));
    }
    if wish.plan {
        out.say(if layout.changes { "nothing was changed; --apply does it" } else { "nothing to change" });
        return Ok(if layout.changes { Exit::Differences } else { Exit::Ok });
    }
    if !layout.changes {
        out.say("nothing to change");
    }
    if wish.watch {
        return watch(client, out).await;
    }
    if layout.changes {
        out.next("reckoner cluster shards list");
    }
    Ok(Exit::Ok)
}

/// Returns once every slot is where it should be and shards without slots are gone.
async fn watch(client: &Client, out: &Out) -> Result<Exit, Error> {
    let (begun, mut most, mut told) = (Instant::now(), 0, u32::MAX);
    let bar = out.progress(0, "slots moved");
    loop {
        let status = client.status().await?;
        if !status.halted.is_empty() {
            bar.finish_and_clear();
            out.warn(&format!("slots stay where they should not be: {}", status.halted));
            return Ok(Exit::Failed);
        }
        let left = status.slots_to_move.max(status.slots_moving);
        let empty = status.shards.iter().any(|shard| shard.slots == 0);
        most = most.max(left);
        bar.set_length(most.into());
        bar.set_position((most - left).into());
        if bar.is_hidden() && left != told && left > 0 {
            let done = most - left;
            let time = match done {
                0 => String::new(),
                done => format!(", about {} s", begun.elapsed().as_secs() * u64::from(left) / u64::from(done) + 1),
            };
            out.say(&format!("{left} slots left{time}"));
        }
        told = left;
        if left == 0 && !empty {
            break;
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
    bar.finish_and_clear();
    out.say("every slot is where it should be");
    Ok(Exit::Ok)
}

/// A shard as `-o json` shows it.
#[derive(Serialize)]
pub struct ShardRow {
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
    /// The last comparison of its replicas.
    check: Option<CheckRow>,
}

#[derive(Serialize)]
struct ReplicaRow {
    node: u64,
    role: String,
    matched: u64,
}

/// The row of a shard.
pub fn shard_row(shard: proto::ShardStatus) -> ShardRow {
    let replica = |own: proto::ReplicaStatus| ReplicaRow { node: own.node, role: own.role, matched: own.matched };
    ShardRow {
        id: shard.id,
        leader_node: shard.leader_node,
        term: shard.term,
        committed: shard.committed,
        applied: shard.applied,
        replicas: shard.replicas.into_iter().map(replica).collect(),
        slots: shard.slots,
        hierarchies: shard.hierarchies,
        counters: shard.counters,
        records: shard.records,
        wanted: shard.wanted,
        moving: shard.moving,
        check: shard.check.map(check_row),
    }
}

/// Prints shards as a table.
pub fn shard_table(shards: Vec<ShardRow>, out: &Out) {
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
