//! The bills service: estimates, closing, issued bills and why they are what they are.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use reckoner_client::proto::bills_server::Bills;
use reckoner_client::proto::{
    Bill, BillsReply, CloseAllRequest, CloseProgress, CloseReply, CloseRequest, EstimateRequest, ExplainReply,
    ExplainRequest, ListBillsReply, ListBillsRequest, RefundRequest, ShowBillsRequest,
};
use reckoner_shard::base::id::{AccountId, ShardId};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::billing::cycle;
use reckoner_shard::billing::kind::Kind;
use reckoner_shard::machine::query::View;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, async_trait};

use super::close;
use super::explain;
use super::issued::{Issued, body_of, estimate, estimate_out, issued, issued_out, number_of, pro_forma, summary};
use super::status::Trouble;
use super::wire;
use crate::context::Context;
use crate::data::shard::Read;

/// The longest that a close waits for its bills in one call.
const CLOSE_WAIT: Duration = Duration::from_secs(50);

/// What is left of a caller's deadline for the way back.
const ANSWER_TIME: Duration = Duration::from_millis(300);

/// The door.
pub struct Door(pub Arc<Context>);

impl Door {
    fn reply(&self, shard: ShardId, read: &Read, bills: Vec<Bill>) -> BillsReply {
        let position = wire::position_out(shard, read.position, self.0.meta.state().epoch());
        BillsReply { bills, position: Some(position) }
    }
}

/// When a call must be answered: the caller's own deadline less the way back, or the longest wait.
fn deadline_of(metadata: &MetadataMap) -> Instant {
    let stated = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout_in);
    let wait = stated.map_or(CLOSE_WAIT, |stated| stated.saturating_sub(ANSWER_TIME).min(CLOSE_WAIT));
    Instant::now() + wait
}

/// Reads gRPC's own form of a timeout: digits and a unit.
fn timeout_in(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.checked_mul(3_600)?),
        "M" => Duration::from_secs(count.checked_mul(60)?),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[async_trait]
impl Bills for Door {
    async fn estimate(&self, request: Request<EstimateRequest>) -> Result<Response<BillsReply>, Status> {
        let request = request.into_inner();
        let form = request.form();
        let root = wire::account_in(&request.root)?;
        let cycle = wire::cycle_in(&request.cycle)?;
        let (shard, read) = wire::read_of(&self.0, &root, request.freshness).await?;
        let bodies = if request.pro_forma.is_empty() {
            estimate(&self.0, &read, &root, &request.payer, cycle).await?
        } else {
            let bodies = pro_forma(&self.0, &read, &root, &wire::group_in(&request.pro_forma)?, cycle).await?;
            bodies.into_iter().map(|body| (Kind::Anniversary, body)).collect()
        };
        let bills = bodies.iter().map(|(kind, body)| estimate_out(*kind, body, form)).collect();
        Ok(Response::new(self.reply(shard, &read, bills)))
    }

    async fn close(&self, request: Request<CloseRequest>) -> Result<Response<CloseReply>, Status> {
        let deadline = deadline_of(request.metadata());
        let request = request.into_inner();
        let root = wire::account_in(&request.root)?;
        let cycle = wire::cycle_named(&request.cycle)?;
        Ok(Response::new(close::one(&self.0, &root, cycle, deadline).await?))
    }

    async fn issue(&self, request: Request<CloseRequest>) -> Result<Response<CloseReply>, Status> {
        let deadline = deadline_of(request.metadata());
        let request = request.into_inner();
        let root = wire::account_in(&request.root)?;
        let cycle = wire::cycle_named(&request.cycle)?;
        Ok(Response::new(close::extra(&self.0, &root, cycle, deadline).await?))
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<CloseReply>, Status> {
        let deadline = deadline_of(request.metadata());
        Ok(Response::new(close::refund(&self.0, request.into_inner(), deadline).await?))
    }

    type CloseAllStream = BoxStream<'static, Result<CloseProgress, Status>>;

    async fn close_all(&self, request: Request<CloseAllRequest>) -> Result<Response<Self::CloseAllStream>, Status> {
        let cycle = wire::cycle_named(&request.into_inner().cycle)?;
        let progress = close::all(self.0.clone(), cycle);
        let stream = progress.map(|step| step.map_err(Status::from));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn show(&self, request: Request<ShowBillsRequest>) -> Result<Response<BillsReply>, Status> {
        let request = request.into_inner();
        let form = request.form();
        let root = wire::account_in(&request.root)?;
        let cycle = wire::cycle_in(&request.cycle)?;
        if cycle.is_none() && request.number.is_empty() {
            return Err(Trouble::invalid("name a cycle or a bill's number").into());
        }
        let (shard, read) = wire::read_of(&self.0, &root, request.freshness).await?;
        let wanted = |bill: &Issued| {
            cycle.is_none_or(|cycle| bill.cycle == cycle)
                && (request.payer.is_empty() || bill.envelope.payer.as_str() == request.payer)
                && (request.number.is_empty() || number_of(&bill.envelope) == request.number)
        };
        let found: Vec<Issued> = issued(&read.view, &root).map_err(Trouble::from)?.into_iter().filter(wanted).collect();
        let issued_without = cycle.is_some_and(|asked| {
            let status = read.view.cycle_status(&root, asked);
            matches!(status, Ok(cycle::Status::Issued | cycle::Status::Archived)) && request.number.is_empty()
        });
        // A cycle that was closed without usage in time has no bill, and that is an answer.
        if found.is_empty() && !issued_without {
            return Err(Trouble::Refused(nothing_issued(&read.view, &root, cycle, &request.number)).into());
        }
        let mut bills = Vec::with_capacity(found.len());
        for bill in &found {
            bills.push(issued_out(&body_of(&self.0, bill).await?, bill, form));
        }
        Ok(Response::new(self.reply(shard, &read, bills)))
    }

    async fn list(&self, request: Request<ListBillsRequest>) -> Result<Response<ListBillsReply>, Status> {
        let request = request.into_inner();
        let root = wire::account_in(&request.root)?;
        let cycle = wire::cycle_in(&request.cycle)?;
        let (shard, read) = wire::read_of(&self.0, &root, request.freshness).await?;
        let mut found = issued(&read.view, &root).map_err(Trouble::from)?;
        found.retain(|bill| {
            cycle.is_none_or(|cycle| bill.cycle == cycle)
                && (request.payer.is_empty() || bill.envelope.payer.as_str() == request.payer)
        });
        // Stable, so that payers keep their order within a cycle.
        found.sort_by_key(|bill| std::cmp::Reverse(bill.cycle));
        let mut bills = Vec::with_capacity(found.len());
        for bill in &found {
            bills.push(summary(&self.0, &root, bill).await?);
        }
        let position = wire::position_out(shard, read.position, self.0.meta.state().epoch());
        Ok(Response::new(ListBillsReply { bills, position: Some(position) }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainReply>, Status> {
        Ok(Response::new(explain::explain(&self.0, request.into_inner()).await?))
    }
}

/// Why no bill was found, and what to do.
fn nothing_issued(view: &View, root: &AccountId, cycle: Option<CycleId>, number: &str) -> Refusal {
    let Some(cycle) = cycle else {
        return Refusal::new(Reason::NotFound, format!("'{root}' has no bill {number}; list its bills"));
    };
    let state = view.cycle_status(root, cycle).map_or_else(|refusal| refusal.detail, |status| format!("{status:?}"));
    let state = state.to_lowercase();
    let detail =
        format!("'{root}' has no such bill of {cycle}, which is {state}; estimate it, or close the cycle first");
    Refusal::new(Reason::NotFound, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        fn check(value: &str, expected: Option<Duration>) {
            assert_eq!(timeout_in(value), expected, "{value}");
        }
        check("10S", Some(Duration::from_secs(10)));
        check("1500m", Some(Duration::from_millis(1500)));
        check("2M", Some(Duration::from_secs(120)));
        check("7u", Some(Duration::from_micros(7)));
        check("S", None);
        check("", None);
        check("10x", None);
    }
}
