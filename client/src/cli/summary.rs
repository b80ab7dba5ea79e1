//! Bills in a row each.

use reckoner_shard::base::time::Timestamp;
use serde::Serialize;

use super::output::Out;
use crate::files::bundle::hex;
use crate::proto;

#[derive(Serialize)]
pub(super) struct SummaryRow {
    number: String,
    root: String,
    payer: String,
    currency: String,
    cycle: String,
    /// anniversary, interim, correction, purchase, shortfall or refund.
    kind: String,
    status: String,
    payable: String,
    lines: u32,
    body_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<String>,
}

pub(super) fn summary(bill: &proto::BillSummary) -> SummaryRow {
    SummaryRow {
        number: bill.number.clone(),
        root: bill.root.clone(),
        payer: bill.payer.clone(),
        currency: bill.currency.clone(),
        cycle: bill.cycle.clone(),
        kind: bill.kind.clone(),
        status: bill.status.clone(),
        payable: bill.payable.clone(),
        lines: bill.lines,
        body_hash: hex(&bill.body_hash),
        issued_at: bill.issued_at_ns.map(|ns| Timestamp(ns).to_string()),
    }
}

pub(super) fn show_summaries(bills: &[proto::BillSummary], out: &Out) {
    let rows = bills.iter().map(|bill| {
        let row = summary(bill);
        vec![
            row.number,
            row.payer,
            row.cycle,
            row.kind,
            row.status,
            row.payable,
            row.currency,
            row.lines.to_string(),
            row.issued_at.unwrap_or_default(),
        ]
    });
    let header = ["number", "payer", "cycle", "kind", "status", "payable", "", "lines", "issued"];
    out.table(&header, &[5, 7], rows.collect());
}
