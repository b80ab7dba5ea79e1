//! Bodies and envelopes of bills as the doors hand them out: estimates folded now, issued bills from this node's disk.

use std::sync::Arc;

use reckoner_client::proto::{Bill, BillForm, BillSummary};
use reckoner_client::wire::bills as out;
use reckoner_shard::base::id::{AccountId, GroupName};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::bill::BillBody;
use reckoner_shard::billing::codec;
use reckoner_shard::billing::cycle::{Claim, IssuedBill};
use reckoner_shard::billing::kind::Kind;
use reckoner_shard::billing::pro_forma::{of_group, terms_of};
use reckoner_shard::machine::query::{FoldSource, NoSource, View};

use super::status::Trouble;
use crate::context::Context;
use crate::data::billing::{self, Wanted};
use crate::data::shard::Read;
use crate::workers;

/// A bill that has its number.
pub struct Issued {
    pub cycle: CycleId,
    pub kind: Kind,
    /// The entry of its claim; `None` where the close made it.
    pub claim: Option<u64>,
    pub envelope: IssuedBill,
}

/// The number of a bill as people write it: the payer and a count.
pub fn number_of(bill: &IssuedBill) -> String {
    format!("{}-{:04}", bill.payer, bill.number)
}

/// The issued bills of a hierarchy, oldest cycle first, in a cycle those before its close first, those after it last, its
/// refunds behind them, then by payer and currency.
pub fn issued(view: &View, root: &AccountId) -> Result<Vec<Issued>, Refusal> {
    let cycles = view.cycles(root)?;
    // What is bought in the running cycle may be billed before the one before is closed.
    let all = cycles.cut.iter().map(|cut| cut.cycle).chain([cycles.open, cycles.open.next()]);
    let of = |cycle: CycleId| {
        let bills = cycles.bills_of(cycle).chain(cycles.refunds_of(cycle));
        bills.map(move |(claim, bill)| (cycle, claim, bill))
    };
    let issued = all.flat_map(of).map(|(cycle, claim, bill)| {
        let kind = claim.map_or(Kind::Anniversary, Claim::kind);
        Issued { cycle, kind, claim: claim.map(|claim| claim.index), envelope: bill.clone() }
    });
    Ok(issued.collect())
}

/// The pro forma bill of a billing group as of now.
pub async fn pro_forma(
    context: &Arc<Context>,
    read: &Read,
    root: &AccountId,
    group: &GroupName,
    cycle: Option<CycleId>,
) -> Result<Vec<BillBody>, Trouble> {
    let source = source_of(context, read, root, cycle).await?;
    let (cycle, group) = (source.cycle, group.clone());
    let name = group.clone();
    let folded = workers::run(context.workers.as_ref(), move || {
        let input = source.input();
        terms_of(&input, &name).map(|terms| of_group(&input, terms))
    });
    let folded = folded.await.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
    let Some(body) = folded else {
        let detail =
            format!("the contract of '{root}' does not price group '{group}' in {cycle}; list it under pro_forma");
        return Err(Refusal::new(Reason::NotFound, detail).into());
    };
    let body = body.map_err(|error| Trouble::Broken { message: error.to_string() })?;
    Ok(body.into_iter().collect())
}

/// The bodies that would be issued next, with their kinds, of one payer or of all.
pub async fn estimate(
    context: &Arc<Context>,
    read: &Read,
    root: &AccountId,
    payer: &str,
    cycle: Option<CycleId>,
) -> Result<Vec<(Kind, BillBody)>, Trouble> {
    let source = source_of(context, read, root, cycle).await?;
    let bills = context.bills.clone();
    let folded = workers::run(context.workers.as_ref(), move || billing::estimates(source, bills.as_ref())).await;
    let folded = folded.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
    let bodies = folded.map_err(|message| Trouble::Broken { message })?;
    Ok(bodies.into_iter().filter(|(_, body)| payer.is_empty() || body.payer.as_str() == payer).collect())
}

/// What the bills of a cycle are folded from; without one, of the oldest that still counts.
async fn source_of(
    context: &Arc<Context>,
    read: &Read,
    root: &AccountId,
    cycle: Option<CycleId>,
) -> Result<FoldSource, Trouble> {
    let cycle = match cycle {
        Some(cycle) => cycle,
        None => read.view.cycles(root)?.open,
    };
    billing::source(context, &read.view, root, cycle, Wanted::Now).await.map_err(|why| match why {
        NoSource::Refused(refusal) => Trouble::Refused(refusal),
        NoSource::BlobMissing(_) => Trouble::unavailable(why.to_string()),
    })
}

/// The body of an issued bill from this node's disk.
pub async fn body_of(context: &Arc<Context>, bill: &Issued) -> Result<BillBody, Trouble> {
    let (bills, cycle, hash) = (context.bills.clone(), bill.cycle, bill.envelope.body_hash);
    let number = number_of(&bill.envelope);
    let read = workers::run(context.workers.as_ref(), move || bills.get(Some(cycle), &hash)).await;
    let read = read.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
    let bytes = read
        .map_err(|error| Trouble::Broken { message: format!("bill {number}: {error}") })?
        .ok_or_else(|| Trouble::unavailable(format!("bill {number} is not on this node yet; try again")))?;
    codec::decode(&bytes).map_err(|error| Trouble::Broken { message: format!("bill {number}: {error}") })
}

/// A bill with its envelope.
pub fn issued_out(body: &BillBody, bill: &Issued, form: BillForm) -> Bill {
    let envelope = &bill.envelope;
    let first = envelope.previous == [0; 32];
    Bill {
        number: number_of(envelope),
        status: "issued".to_owned(),
        kind: bill.kind.name().to_owned(),
        issued_at_ns: Some(envelope.issued_at.0),
        previous_hash: if first { bytes::Bytes::new() } else { envelope.previous.to_vec().into() },
        ..out::bill(body, form)
    }
}

/// A bill without an envelope. Its kind is told where it is not the bill that goes without saying.
pub fn estimate_out(kind: Kind, body: &BillBody, form: BillForm) -> Bill {
    let kind = if kind == Kind::Shortfall { kind.name().to_owned() } else { String::new() };
    Bill { status: "estimate".to_owned(), kind, ..out::bill(body, form) }
}

/// An issued bill in one row.
pub async fn summary(context: &Arc<Context>, root: &AccountId, bill: &Issued) -> Result<BillSummary, Trouble> {
    let body = body_of(context, bill).await?;
    Ok(BillSummary {
        number: number_of(&bill.envelope),
        root: root.to_string(),
        payer: bill.envelope.payer.to_string(),
        currency: bill.envelope.currency.to_string(),
        cycle: bill.cycle.to_string(),
        kind: bill.kind.name().to_owned(),
        status: "issued".to_owned(),
        payable: body.payable.to_string(),
        lines: body.lines.len() as u32,
        body_hash: bill.envelope.body_hash.to_vec().into(),
        issued_at_ns: Some(bill.envelope.issued_at.0),
    })
}
