//! Making bills on demand: the close of a cycle of one hierarchy, or of all with progress; interim bills, corrections and
//! refunds. The steps after the first are the cycle clock's; here they are only waited for, so repeating a call is harmless
//! and goes on where the last one was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reckoner_client::proto::{CloseLeft, CloseProgress, CloseReply, Freshness as Wished, RefundRequest};
use reckoner_raft::machine::Position;
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::money::Money;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::cycle::Phase;
use reckoner_shard::billing::kind::{Cause, Kind, Refund};
use reckoner_shard::machine::command::{Command, CommandOutcome, Done};
use reckoner_shard::machine::query::View;
use reckoner_shard::placement::slot_of;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::issued::{self, Issued};
use super::roster::{self, Asked, Standing};
use super::status::{Trouble, refusal_out};
use super::wire;
use crate::context::Context;
use crate::data::reach::{self, Freshness};

/// How often a waiting call looks; a fold of a small hierarchy takes less.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How often a bill run says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Cuts of one entry.
const CUTS_MAX: usize = 256;

/// Hierarchies that are named as left; more would hide the numbers.
const LEFT_MAX: usize = 100;

/// Closes a cycle of one hierarchy and waits for its bills until `deadline`.
pub async fn one(
    context: &Arc<Context>,
    root: &AccountId,
    cycle: CycleId,
    deadline: Instant,
) -> Result<CloseReply, Trouble> {
    let cut = Command::Cut { root: root.clone(), cycle, manual: true };
    made(context, root, cycle, &cut, deadline).await
}

/// Bills what is known of a cycle and has no bill yet, and waits for the bills until `deadline`.
pub async fn extra(
    context: &Arc<Context>,
    root: &AccountId,
    cycle: CycleId,
    deadline: Instant,
) -> Result<CloseReply, Trouble> {
    let claim = Command::Claim { root: root.clone(), cycle, cause: Cause::Asked };
    made(context, root, cycle, &claim, deadline).await
}

/// Pays back of a bill and waits for the document until `deadline`; without one, nothing of the bill is left.
pub async fn refund(context: &Arc<Context>, request: RefundRequest, deadline: Instant) -> Result<CloseReply, Trouble> {
    let root = wire::account_in(&request.root)?;
    let amount = request.amount.parse::<Money>();
    let amount = amount.map_err(|error| Trouble::invalid(format!("amount '{}': {error}", request.amount)))?;
    let slot = slot_of(root.as_str());
    let shard = reach::shard_of(context, slot)?;
    let read = reach::read(context, shard, Some(slot), Freshness::Linearizable).await?;
    let issued = issued::issued(&read.view, &root)?;
    let Some(bill) = issued.iter().find(|bill| issued::number_of(&bill.envelope) == request.number) else {
        let detail = format!("'{root}' has no bill {}; list its bills", request.number);
        return Err(Refusal::new(Reason::NotFound, detail).into());
    };
    if bill.kind == Kind::Refund {
        let detail = format!("{} is a refund, which is not paid back; name the bill", request.number);
        return Err(Refusal::new(Reason::InvalidValue, detail).into());
    }
    let reference = if request.reference.is_empty() { request.reason.clone() } else { request.reference };
    let (payer, number) = (bill.envelope.payer.clone(), bill.envelope.number);
    let cause = Cause::Refund(Refund { payer, number, amount, reason: request.reason, reference });
    let claim = Command::Claim { root: root.clone(), cycle: bill.cycle, cause };
    made(context, &root, bill.cycle, &claim, deadline).await
}

/// Proposes a cut or a claim, and waits for its bills until `deadline`.
async fn made(
    context: &Arc<Context>,
    root: &AccountId,
    cycle: CycleId,
    command: &Command,
    deadline: Instant,
) -> Result<CloseReply, Trouble> {
    let slot = slot_of(root.as_str());
    let mut was_busy = true;
    let (mut read, index, ended_grace) = loop {
        let (shard, outcomes, position) = reach::execute_in(context, slot, std::slice::from_ref(command)).await?;
        let read = read_on(context, root, (shard, position)).await?;
        match outcomes.into_iter().next() {
            Some(CommandOutcome::Done(Done::Cut { index, ended_grace, .. })) => break (read, index, ended_grace),
            Some(CommandOutcome::Refused(refusal)) => {
                // Other bills of the hierarchy are on their way: their turn is a matter of moments, and may just have come.
                let may_wait = refusal.reason == Reason::CloseOldestFirst && Instant::now() < deadline;
                let is_busy = is_busy(&read.2, root);
                if !may_wait || !(is_busy || was_busy) {
                    return Err(refusal.into());
                }
                was_busy = is_busy;
                sleep(LOOK_INTERVAL).await;
            }
            other => return Err(Trouble::unavailable(format!("the shard answered {other:?} to {command:?}"))),
        }
    };
    let claim = matches!(command, Command::Claim { .. }).then_some(index);
    loop {
        let (shard, position, view) = &read;
        let out = |state: &str, bills| CloseReply {
            state: state.to_owned(),
            bills,
            grace_until_ns: grace_end(view, root, cycle).filter(|_| ended_grace),
            position: Some(wire::position_out(*shard, *position, context.meta.state().epoch())),
        };
        let is_made = match claim {
            None => is_issued(view, root, cycle)?,
            Some(index) => view.cycles(root)?.claim.as_ref().is_none_or(|running| running.index != index),
        };
        if is_made {
            let mut summaries = Vec::new();
            let own = |bill: &&Issued| bill.cycle == cycle && bill.claim == claim;
            for bill in issued::issued(view, root)?.iter().filter(own) {
                summaries.push(issued::summary(context, root, bill).await?);
            }
            return Ok(out("issued", summaries));
        }
        if Instant::now() >= deadline {
            return Ok(out("closing", Vec::new()));
        }
        sleep(LOOK_INTERVAL).await;
        read = read_on(context, root, (read.0, read.1)).await?;
    }
}

/// A read of a hierarchy that sees what an earlier one saw, in whatever shard it is by now.
async fn read_on(
    context: &Arc<Context>,
    root: &AccountId,
    (shard, seen): (ShardId, Position),
) -> Result<(ShardId, Position, Arc<View>), Trouble> {
    let at_least = Some(wire::position_out(shard, seen, context.meta.state().epoch()));
    let (now, read) = wire::read_of(context, root, Some(Wished { at_least })).await?;
    let position = if now == shard { read.position.max(seen) } else { read.position };
    Ok((now, position, read.view))
}

/// Whether bills of the hierarchy are on their way, or the counters of a cycle out of memory.
fn is_busy(view: &View, root: &AccountId) -> bool {
    view.is_busy(root).unwrap_or(false)
}

fn is_issued(view: &View, root: &AccountId, cycle: CycleId) -> Result<bool, Refusal> {
    let cycles = view.cycles(root)?;
    Ok(cycles.find(cycle).is_some_and(|cut| matches!(cut.phase, Phase::Issued(_) | Phase::Archived(..))))
}

fn grace_end(view: &View, root: &AccountId, cycle: CycleId) -> Option<i64> {
    let hierarchy = view.hierarchy(root).ok()?;
    Some(cycle.end().0.saturating_add(hierarchy.grace.nanoseconds()))
}

/// Closes a cycle of every hierarchy that had begun by then; a message at the start, while it runs, and at the end.
pub fn all(context: Arc<Context>, cycle: CycleId) -> ReceiverStream<Result<CloseProgress, Trouble>> {
    let (tell, told) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(trouble) = run(&context, cycle, &tell).await {
            // The caller may have gone; the run can be repeated.
            let _ = tell.send(Err(trouble)).await;
        }
    });
    ReceiverStream::new(told)
}

type Tell = mpsc::Sender<Result<CloseProgress, Trouble>>;

async fn run(context: &Arc<Context>, cycle: CycleId, tell: &Tell) -> Result<(), Trouble> {
    let mut refused: BTreeMap<AccountId, Refusal> = BTreeMap::new();
    loop {
        let look = look(context, cycle).await?;
        let open: Vec<&(ShardId, AccountId, bool)> =
            look.open.iter().filter(|(_, root, _)| !refused.contains_key(root)).collect();
        let mut progress = CloseProgress {
            roots: look.roots,
            issued: look.issued,
            bills: look.bills,
            left: Vec::new(),
            done: open.is_empty(),
        };
        for (_, root, _) in look.open.iter().take(LEFT_MAX) {
            let why = refused.get(root).cloned().unwrap_or_else(|| {
                Refusal::new(Reason::CycleNotOpen, format!("the bills of '{root}' are being computed"))
            });
            progress.left.push(CloseLeft { root: root.to_string(), refusal: Some(refusal_out(&why)) });
        }
        let done = progress.done;
        if tell.send(Ok(progress)).await.is_err() || done {
            return Ok(());
        }
        cut(context, cycle, &open, &mut refused).await?;
        sleep(PROGRESS_INTERVAL).await;
    }
}

/// Cuts what is not cut yet, many in one entry a shard.
async fn cut(
    context: &Arc<Context>,
    cycle: CycleId,
    open: &[&(ShardId, AccountId, bool)],
    refused: &mut BTreeMap<AccountId, Refusal>,
) -> Result<(), Trouble> {
    let mut by_shard: BTreeMap<ShardId, Vec<AccountId>> = BTreeMap::new();
    for (shard, root, is_cut) in open {
        if !is_cut {
            by_shard.entry(*shard).or_default().push(root.clone());
        }
    }
    for (shard, roots) in by_shard {
        for part in roots.chunks(CUTS_MAX) {
            let commands: Vec<Command> =
                part.iter().map(|root| Command::Cut { root: root.clone(), cycle, manual: true }).collect();
            let (outcomes, position) = reach::execute(context, shard, &commands).await?;
            let asked = Asked { roots: part.to_vec(), ..Asked::default() };
            let now = roster::of(context, shard, &asked, Freshness::AtLeast(position.index)).await?;
            let busy: BTreeSet<&AccountId> = now.rows.iter().filter(|row| row.is_busy).map(|row| &row.root).collect();
            for (root, outcome) in part.iter().zip(outcomes) {
                // What a retry heals is tried again with the next look.
                if let CommandOutcome::Refused(refusal) = outcome
                    && !refusal.reason.heals()
                    && !busy.contains(root)
                {
                    refused.insert(root.clone(), refusal);
                }
            }
        }
    }
    Ok(())
}

/// How far a bill run is.
struct Look {
    roots: u64,
    issued: u64,
    bills: u64,
    /// Shard, root, and whether the cycle is cut.
    open: Vec<(ShardId, AccountId, bool)>,
}

async fn look(context: &Arc<Context>, cycle: CycleId) -> Result<Look, Trouble> {
    let mut look = Look { roots: 0, issued: 0, bills: 0, open: Vec::new() };
    let asked = Asked { cycle: Some(cycle), ..Asked::default() };
    for part in roster::all(context, &asked, |_| Freshness::Linearizable).await? {
        for row in part.rows {
            look.roots += u64::from(row.standing != Standing::None);
            match row.standing {
                Standing::None => (),
                Standing::Issued(bills) => {
                    look.issued += 1;
                    look.bills += bills;
                }
                Standing::Open | Standing::Cut => {
                    look.open.push((part.shard, row.root, row.standing == Standing::Cut));
                }
            }
        }
    }
    Ok(look)
}
