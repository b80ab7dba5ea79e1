//! Every hierarchy of the cluster, shard by shard, from this node's replicas or from nodes that have others: for lists,
//! for bill runs, and for what a client has to know of a root.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use reckoner_client::proto::{Cycle, Hierarchy, Version};
use reckoner_raft::machine::Position;
use reckoner_shard::account::tree::Hierarchy as Tree;
use reckoner_shard::base::id::{AccountId, ShardId, Slot};
use reckoner_shard::base::time::{CycleId, Timestamp};
use reckoner_shard::billing::cycle::{Cycles, Phase, Status as CycleStatus};
use reckoner_shard::machine::query::View;
use reckoner_shard::machine::state::Blobs as _;
use reckoner_shard::placement::{SLOTS, SlotRange, slot_of};
use tokio::time::{Instant, sleep};

use super::status::Trouble;
use super::wire::phase_word;
use crate::context::Context;
use crate::data::reach::{self, Freshness};
use crate::internal::{RootRow, RootsPart, RootsRequest, SlotSpan};
use crate::workers;

/// How long slots on their way may keep a list waiting, and between two attempts.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);

/// What is asked of each hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// These alone; none: all.
    pub roots: Vec<AccountId>,
    /// Where this cycle stands.
    pub cycle: Option<CycleId>,
    /// The hierarchy and its newest catalogue, not only the name.
    pub details: bool,
}

/// Where a cycle of a hierarchy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The hierarchy begins later, or no cycle was asked for.
    None,
    /// It still counts.
    Open,
    /// It is cut, and its bills are not issued.
    Cut,
    /// It has so many bills.
    Issued(u64),
}

/// One hierarchy.
#[derive(Clone, Debug)]
pub struct Row {
    pub root: AccountId,
    pub standing: Standing,
    /// Bills of it are on their way, or counters out of memory.
    pub is_busy: bool,
    pub hierarchy: Option<Hierarchy>,
    /// The newest version of its catalogue in its shard.
    pub catalogue: Option<Version>,
}

/// The hierarchies of one shard.
#[derive(Clone, Debug)]
pub struct Part {
    pub shard: ShardId,
    pub position: Position,
    pub rows: Vec<Row>,
    staying: Vec<SlotRange>,
    leaving: Vec<u16>,
}

/// All shards, which together hold each slot once: of slots on their way only where they are newest.
pub async fn all(
    context: &Arc<Context>,
    asked: &Asked,
    freshness: impl Fn(ShardId) -> Freshness,
) -> Result<Vec<Part>, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let founding = || Trouble::unavailable("the cluster is being founded; try again");
        let map = context.meta.map().ok_or_else(founding)?;
        let mut parts = Vec::new();
        for shard in map.shards() {
            parts.push(of(context, shard, asked, freshness(shard)).await?);
        }
        if hold_each_slot_once(&mut parts) {
            return Ok(parts);
        }
        if Instant::now() + RETRY >= deadline {
            return Err(Trouble::unavailable("slots are on their way between shards; try again"));
        }
        sleep(RETRY).await;
    }
}

/// Takes out hierarchies whose slots have arrived elsewhere; false where a slot is nowhere.
fn hold_each_slot_once(parts: &mut [Part]) -> bool {
    let staying = parts.iter().flat_map(|part| &part.staying).flat_map(|range| range.first..=range.last);
    let staying: BTreeSet<u16> = staying.collect();
    let leaving: BTreeSet<u16> = parts.iter().flat_map(|part| part.leaving.iter().copied()).collect();
    for part in parts.iter_mut() {
        let Part { rows, leaving, .. } = part;
        rows.retain(|row| {
            let slot = slot_of(row.root.as_str()).0;
            !(leaving.contains(&slot) && staying.contains(&slot))
        });
    }
    staying.union(&leaving).count() == usize::from(SLOTS)
}

/// The hierarchies of one shard, from whoever has a replica of it.
pub async fn of(context: &Arc<Context>, shard: ShardId, asked: &Asked, freshness: Freshness) -> Result<Part, Trouble> {
    if context.shards.get(shard).is_some() {
        return here(context, shard, asked, freshness).await;
    }
    let request = RootsRequest {
        shard: shard.0,
        roots: asked.roots.iter().map(ToString::to_string).collect(),
        cycle: asked.cycle.map_or(0, |cycle| cycle.ordinal()),
        details: asked.details,
        at_least: match freshness {
            Freshness::Linearizable => None,
            Freshness::AtLeast(index) => Some(index),
        },
    };
    let part = reach::ask_holder(context, shard, |mut client| {
        let request = request.clone();
        async move { client.roots(request).await }
    });
    part_in(shard, part.await?)
}

/// The hierarchies of a shard that has a replica here.
pub async fn here(
    context: &Arc<Context>,
    shard: ShardId,
    asked: &Asked,
    freshness: Freshness,
) -> Result<Part, Trouble> {
    let read = reach::read(context, shard, None, freshness).await?;
    let (position, view, asked, own) = (read.position, read.view, asked.clone(), context.clone());
    let rows = workers::run(context.workers.as_ref(), move || part(&own, shard, position, &view, &asked));
    rows.await.map_err(|lost| Trouble::unavailable(lost.to_string()))?
}

fn part(context: &Context, shard: ShardId, position: Position, view: &View, asked: &Asked) -> Result<Part, Trouble> {
    let owned: Vec<SlotRange> = view.identity.iter().flat_map(|identity| identity.slots.clone()).collect();
    let (mut staying, mut leaving) = (owned.clone(), Vec::new());
    for slot in owned.iter().flat_map(|range| range.first..=range.last) {
        if view.check_owned(Slot(slot)).is_err() {
            leaving.push(slot);
            staying = SlotRange { first: slot, last: slot }.taken_from(&staying);
        }
    }
    let is_here = |root: &&AccountId| view.cycles(root).is_ok();
    let roots: Vec<AccountId> = match asked.roots.is_empty() {
        true => view.roots().map(|(_, root)| root.clone()).collect(),
        false => asked.roots.iter().filter(is_here).cloned().collect(),
    };
    let rows = roots.into_iter().map(|root| row(context, shard, view, root, asked)).collect::<Result<_, _>>()?;
    Ok(Part { shard, position, rows, staying, leaving })
}

fn row(context: &Context, shard: ShardId, view: &View, root: AccountId, asked: &Asked) -> Result<Row, Trouble> {
    let cycles = view.cycles(&root)?;
    let standing = match asked.cycle {
        Some(cycle) if cycle >= cycles.first => match cycles.find(cycle).map(|cut| &cut.phase) {
            Some(Phase::Issued(bills) | Phase::Archived(bills, _)) => Standing::Issued(bills.len() as u64),
            Some(_) => Standing::Cut,
            None => Standing::Open,
        },
        _ => Standing::None,
    };
    let (hierarchy, catalogue) = match asked.details {
        true => (Some(hierarchy(context, view, &root, shard)?), newest_catalogue(view, &root)),
        false => (None, None),
    };
    Ok(Row { standing, is_busy: view.is_busy(&root).unwrap_or(false), hierarchy, catalogue, root })
}

/// The newest version of a root's catalogue that its shard has activated.
fn newest_catalogue(view: &View, root: &AccountId) -> Option<Version> {
    let hierarchy = view.hierarchy(root).ok()?;
    let newest = view.catalogues.get(&hierarchy.catalogue)?.last()?;
    Some(Version {
        name: hierarchy.catalogue.to_string(),
        version: u32::try_from(newest.version).unwrap_or(u32::MAX),
        hash: newest.hash.to_vec().into(),
    })
}

/// A hierarchy in short.
pub fn hierarchy(context: &Context, view: &View, root: &AccountId, shard: ShardId) -> Result<Hierarchy, Trouble> {
    let tree = view.hierarchy(root)?;
    let cycles = view.cycles(root)?;
    let now = view.stamp.max(context.clock.now());
    let newest = view.catalogues.get(&tree.catalogue).and_then(|versions| versions.last());
    let compiled = newest.and_then(|version| context.catalogues.catalogue(&version.hash));
    let currency = tree.currency.or(compiled.map(|catalogue| catalogue.currency));
    let contract = view.contracts(root)?;
    let in_force = contract
        .iter()
        .rev()
        .find(|version| version.effective <= cycles.open && version.until.is_none_or(|until| cycles.open < until));
    Ok(Hierarchy {
        root: root.to_string(),
        catalogue: tree.catalogue.to_string(),
        currency: currency.map_or_else(String::new, |currency| currency.to_string()),
        payers: tree.payers().len() as u32,
        accounts: tree.accounts().len() as u64,
        slot: u32::from(slot_of(root.as_str()).0),
        shard: shard.0,
        contract: in_force.map(|version| Version {
            name: root.to_string(),
            version: version.version,
            hash: version.hash.to_vec().into(),
        }),
        cycles: cycles_out(&tree, &cycles, now),
    })
}

/// Cycles that are not yet issued, and the last that is; oldest first.
fn cycles_out(tree: &Tree, cycles: &Cycles, now: Timestamp) -> Vec<Cycle> {
    let cut = cycles.cut.last().map(|cut| Cycle {
        cycle: cut.cycle.to_string(),
        state: phase_word(&cut.phase).to_owned(),
        cut_index: Some(cut.index),
        grace_until_ns: None,
    });
    let open = [cycles.open, cycles.open.next()].into_iter().filter_map(|cycle| {
        let state = match cycles.status(cycle, now) {
            CycleStatus::Open if cycle == cycles.open || cycle.start() <= now => "open",
            CycleStatus::Grace => "grace",
            _ => return None,
        };
        let due = cycles.due_at(tree.close, tree.grace).filter(|_| cycle == cycles.open);
        Some(Cycle {
            cycle: cycle.to_string(),
            state: state.to_owned(),
            cut_index: None,
            grace_until_ns: due.map(|due| due.0),
        })
    });
    cut.into_iter().chain(open).collect()
}

/// A part as it travels between nodes.
pub fn part_out(part: Part) -> RootsPart {
    let span = |range: &SlotRange| SlotSpan { first: range.first.into(), last: range.last.into() };
    let row = |row: Row| RootRow {
        root: row.root.to_string(),
        standing: match row.standing {
            Standing::None => 0,
            Standing::Open => 1,
            Standing::Cut => 2,
            Standing::Issued(bills) => bills + 3,
        },
        is_busy: row.is_busy,
        hierarchy: row.hierarchy.map_or_else(bytes::Bytes::new, |own| own.encode_to_vec().into()),
        catalogue: row.catalogue.map_or_else(bytes::Bytes::new, |own| own.encode_to_vec().into()),
    };
    RootsPart {
        index: part.position.index,
        term: part.position.term,
        staying: part.staying.iter().map(span).collect(),
        leaving: part.leaving.iter().map(|slot| u32::from(*slot)).collect(),
        rows: part.rows.into_iter().map(row).collect(),
    }
}

fn part_in(shard: ShardId, part: RootsPart) -> Result<Part, Trouble> {
    let unreadable = |why: String| Trouble::unavailable(format!("another node's answer cannot be read: {why}"));
    let slot = |slot: u32| u16::try_from(slot).map_err(|error| unreadable(error.to_string()));
    let row = |row: RootRow| {
        let some = |bytes: bytes::Bytes| Some(bytes).filter(|bytes| !bytes.is_empty());
        let hierarchy = some(row.hierarchy).map(Hierarchy::decode).transpose();
        let catalogue = some(row.catalogue).map(Version::decode).transpose();
        Ok::<_, Trouble>(Row {
            root: AccountId::new(&row.root).map_err(|error| unreadable(error.to_string()))?,
            standing: match row.standing {
                0 => Standing::None,
                1 => Standing::Open,
                2 => Standing::Cut,
                more => Standing::Issued(more - 3),
            },
            is_busy: row.is_busy,
            hierarchy: hierarchy.map_err(|error| unreadable(error.to_string()))?,
            catalogue: catalogue.map_err(|error| unreadable(error.to_string()))?,
        })
    };
    let span = |span: &SlotSpan| Ok::<_, Trouble>(SlotRange { first: slot(span.first)?, last: slot(span.last)? });
    Ok(Part {
        shard,
        position: Position { index: part.index, term: part.term },
        rows: part.rows.into_iter().map(row).collect::<Result<_, _>>()?,
        staying: part.staying.iter().map(span).collect::<Result<_, _>>()?,
        leaving: part.leaving.into_iter().map(slot).collect::<Result<_, _>>()?,
    })
}
