//! Why a bill is what it is: the bill, the entries of catalogue and contract that its lines name, and what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reckoner_client::proto::{ExplainEntry, ExplainReply, ExplainRequest, UsageBehind, Version};
use reckoner_shard::base::id::AccountId;
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::billing::bill::{BillBody, Line, Source};
use reckoner_shard::billing::kind::Kind;
use serde_json::Value;

use super::issued::{self, Issued};
use super::status::Trouble;
use super::wire;
use crate::context::Context;
use crate::data::reach;
use crate::data::shard::Read;

/// Explains the issued bill where there is one, else the estimate.
pub async fn explain(context: &Arc<Context>, request: ExplainRequest) -> Result<ExplainReply, Trouble> {
    let form = request.form();
    let root = wire::account_in(&request.root)?;
    let cycle = wire::cycle_in(&request.cycle)?;
    let (shard, read) = wire::read_of(context, &root, request.freshness).await?;
    let issued = issued::issued(&read.view, &root)?;
    let wanted = |bill: &Issued| match request.number.as_str() {
        "" => cycle == Some(bill.cycle),
        number => number == issued::number_of(&bill.envelope),
    };
    let mut found: Vec<Issued> = issued.into_iter().filter(wanted).collect();
    if found.is_empty() && !request.number.is_empty() {
        let detail = format!("'{root}' has no bill {}; list its bills", request.number);
        return Err(Refusal::new(Reason::NotFound, detail).into());
    }
    // Of several bills of a payer that of the close, else the latest.
    found.sort_by_key(|bill| {
        let is_refund = bill.kind == Kind::Refund;
        (is_refund, bill.kind != Kind::Anniversary, std::cmp::Reverse(bill.envelope.number))
    });
    let mut payers = BTreeSet::new();
    found.retain(|bill| payers.insert(bill.envelope.payer.clone()));
    let issued = choose(found, &root, &request.payer, |bill: &Issued| bill.envelope.payer.as_str())?;
    let (body, bill) = match issued {
        Some(issued) => {
            let body = issued::body_of(context, &issued).await?;
            let bill = issued::issued_out(&body, &issued, form);
            (body, bill)
        }
        None => {
            let estimates = issued::estimate(context, &read, &root, &request.payer, cycle).await?;
            let bodies: Vec<BillBody> =
                estimates.into_iter().filter(|(kind, _)| *kind != Kind::Shortfall).map(|(_, body)| body).collect();
            let body = choose(bodies, &root, &request.payer, |body: &BillBody| body.payer.as_str())?;
            let body = body.ok_or_else(|| {
                Refusal::new(
                    Reason::NotFound,
                    format!("'{root}' has no usage and no bill there; nothing is to explain"),
                )
            })?;
            let bill = issued::estimate_out(Kind::Anniversary, &body, form);
            (body, bill)
        }
    };
    let lines = lines_of(&body, request.line)?;
    Ok(ExplainReply {
        bill: Some(bill),
        entries: entries(context, &read, &body, &lines).await?,
        counters: counters(&body, &lines),
        position: Some(wire::position_out(shard, read.position, context.meta.state().epoch())),
    })
}

/// The one of a payer; without a payer the only one, or the root's own.
fn choose<T>(
    found: Vec<T>,
    root: &AccountId,
    payer: &str,
    payer_of: impl Fn(&T) -> &str,
) -> Result<Option<T>, Refusal> {
    if found.len() <= 1 && payer.is_empty() {
        return Ok(found.into_iter().next());
    }
    let wanted = if payer.is_empty() { root.as_str() } else { payer };
    let payers: Vec<String> = found.iter().map(|one| payer_of(one).to_owned()).collect();
    let chosen = found.into_iter().find(|one| payer_of(one) == wanted);
    if chosen.is_none() && payer.is_empty() {
        let detail = format!("'{root}' has bills of {}; name a payer", payers.join(", "));
        return Err(Refusal::new(Reason::NotFound, detail));
    }
    Ok(chosen)
}

/// The line that was asked for and all that it was derived from; or all lines.
fn lines_of(body: &BillBody, line: Option<u32>) -> Result<Vec<&Line>, Refusal> {
    let Some(line) = line else { return Ok(body.lines.iter().collect()) };
    let mut wanted = BTreeSet::new();
    let mut next = vec![line];
    while let Some(id) = next.pop() {
        if wanted.insert(id) {
            let found = body.line(id).ok_or_else(|| {
                let detail = format!("the bill has no line {id}, it has {}; show the bill", body.lines.len());
                Refusal::new(Reason::NotFound, detail)
            })?;
            next.extend(&found.from);
        }
    }
    Ok(wanted.into_iter().filter_map(|id| body.line(id)).collect())
}

/// The entries that the lines name, as they were written.
async fn entries(
    context: &Arc<Context>,
    read: &Read,
    body: &BillBody,
    lines: &[&Line],
) -> Result<Vec<ExplainEntry>, Trouble> {
    let mut named: BTreeMap<(&'static str, String), ()> = BTreeMap::new();
    for line in lines {
        match &line.source {
            Source::FreeUnits { price } | Source::Price { price, .. } | Source::PricePart { price, .. } => {
                named.insert(("price", price.to_string()), ());
            }
            Source::FreePool { pool } => {
                named.insert(("price", pool.to_string()), ());
            }
            Source::Fee { fee, subscription, .. } => {
                named.insert(("fee", fee.to_string()), ());
                named.insert(("subscription", subscription.to_string()), ());
            }
            Source::Clause { clause, .. } => {
                named.insert(("clause", clause.to_string()), ());
            }
            Source::Rounding | Source::Refund { .. } => (),
        }
    }
    let hash = body.catalogue.hash;
    let catalogue = reach::blob(context, &hash).await.map_err(Trouble::unavailable)?;
    let known = read.view.catalogues.get(&body.catalogue.name);
    let version = known.and_then(|versions| versions.iter().find(|version| version.hash == hash));
    let catalogue = (
        Version {
            name: body.catalogue.name.to_string(),
            version: version.map_or(0, |version| version.version as u32),
            hash: hash.to_vec().into(),
        },
        parse(&catalogue)?,
    );
    let contract = match &body.contract {
        None => None,
        Some(contract) => {
            let versions = read.view.contracts(&body.root)?;
            let found = versions.iter().find(|version| version.hash == contract.hash);
            found.map(|version| {
                let out = Version {
                    name: body.root.to_string(),
                    version: version.version,
                    hash: version.hash.to_vec().into(),
                };
                parse(&version.document).map(|document| (out, document))
            })
        }
    }
    .transpose()?;
    let mut entries = Vec::with_capacity(named.len());
    for ((kind, id), ()) in named {
        let found = match kind {
            "price" => entry(&catalogue.1, &["prices", "pools", "skus"], &id).map(|json| (json, &catalogue.0)),
            "fee" => entry(&catalogue.1, &["fees"], &id).map(|json| (json, &catalogue.0)),
            _ => {
                let lists = ["clauses", "subscriptions"];
                contract.as_ref().and_then(|(out, document)| Some((entry(document, &lists, &id)?, out)))
            }
        };
        if let Some((json, version)) = found {
            entries.push(ExplainEntry { kind: kind.to_owned(), id, version: Some(version.clone()), json });
        }
    }
    Ok(entries)
}

fn parse(json: &[u8]) -> Result<Value, Trouble> {
    serde_json::from_slice(json)
        .map_err(|error| Trouble::Broken { message: format!("a document cannot be read: {error}") })
}

/// The entry with an id in one of a document's lists.
fn entry(document: &Value, lists: &[&str], id: &str) -> Option<String> {
    let all = lists.iter().filter_map(|list| document.get(list)?.as_array()).flatten();
    all.into_iter().find(|entry| entry.get("id").and_then(Value::as_str) == Some(id)).map(Value::to_string)
}

/// What was counted behind each line.
fn counters(body: &BillBody, lines: &[&Line]) -> Vec<UsageBehind> {
    let behind = |line: &&Line| {
        let item = body.item(line)?;
        let meter = item.meter.as_ref()?;
        Some(UsageBehind {
            line: line.id,
            account: item.series.account.to_string(),
            service: item.series.service.clone(),
            usage_type: item.series.usage_type.clone(),
            operation: item.series.operation.clone(),
            region: item.series.region.clone(),
            meter: meter.to_string(),
            quantity: item.counted.to_string(),
            records: item.counted.records,
        })
    };
    lines.iter().filter_map(behind).collect()
}
