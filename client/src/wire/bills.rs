//! Bills on the wire: as fields for any language, as canonical bytes for this one.

use reckoner_shard::billing::bill::{BillBody, Line, Source, Tier};
use reckoner_shard::billing::codec;

use super::usage::attributes;
use crate::error::Error;
use crate::proto;

/// The body of a bill that was asked for in canonical form. Bytes that do not have the stated hash are an error.
pub fn body_of(bill: &proto::Bill) -> Result<BillBody, Error> {
    let broken =
        |why: String| Error::invalid(format!("bill '{}' cannot be read: {why}; ask another node", bill.number));
    if bill.body_hash[..] != codec::body_hash(&bill.body)[..] {
        return Err(broken("its body has another hash than it states".to_owned()));
    }
    codec::decode(&bill.body).map_err(|error| broken(error.to_string()))
}

/// A bill in the form asked for, with its envelope still empty.
pub fn bill(body: &BillBody, form: proto::BillForm) -> proto::Bill {
    let bytes = codec::encode(body);
    let body_hash = codec::body_hash(&bytes).to_vec().into();
    match form {
        proto::BillForm::Canonical => proto::Bill { body_hash, body: bytes.into(), ..proto::Bill::default() },
        proto::BillForm::Detail => proto::Bill { body_hash, detail: Some(detail(body)), ..proto::Bill::default() },
    }
}

/// A body as fields.
pub fn detail(body: &BillBody) -> proto::BillDetail {
    proto::BillDetail {
        root: body.root.to_string(),
        payer: body.payer.to_string(),
        currency: body.currency.to_string(),
        cycle: body.cycle.to_string(),
        catalogue: Some(proto::Version {
            name: body.catalogue.name.to_string(),
            version: 0,
            hash: body.catalogue.hash.to_vec().into(),
        }),
        contract: body.contract.as_ref().map(|contract| proto::Version {
            name: body.root.to_string(),
            version: 0,
            hash: contract.hash.to_vec().into(),
        }),
        stages: body.stages.iter().map(|stage| stage.name().to_owned()).collect(),
        lines: body.lines.iter().map(|line| wire_line(body, line)).collect(),
        unpriced: body
            .unpriced
            .iter()
            .map(|unpriced| proto::UnpricedUsage {
                account: unpriced.series.account.to_string(),
                meter: unpriced.meter.to_string(),
                service: unpriced.series.service.clone(),
                usage_type: unpriced.series.usage_type.clone(),
                operation: unpriced.series.operation.clone(),
                region: unpriced.series.region.clone(),
                quantity: unpriced.counted.to_string(),
                reason: unpriced.reason.name().to_owned(),
            })
            .collect(),
        total: body.total.to_string(),
        payable: body.payable.to_string(),
        earlier: body
            .difference
            .iter()
            .flat_map(|difference| &difference.earlier)
            .map(|hash| hash.to_vec().into())
            .collect(),
        exchange: body.exchange.as_ref().map(|exchange| proto::BillExchange {
            clause: exchange.clause.to_string(),
            from: exchange.from.to_string(),
            rate: exchange.rate.to_string(),
            since_ns: exchange.since.0,
        }),
        pro_forma: body.pro_forma.as_ref().map(ToString::to_string).unwrap_or_default(),
        refund: body.refund.as_ref().map(|refund| proto::BillRefund {
            number: refund.number,
            body_hash: refund.body.to_vec().into(),
            asked: refund.asked.to_string(),
            left: refund.left.to_string(),
            reason: refund.reason.to_string(),
            reference: refund.reference.to_string(),
        }),
    }
}

fn wire_line(body: &BillBody, line: &Line) -> proto::BillLine {
    let item = body.item(line);
    let series = item.map(|item| &item.series);
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let (tier, made_by) = match &line.source {
        Source::FreeUnits { price } => (None, price.to_string()),
        Source::FreePool { pool } => (None, pool.to_string()),
        Source::Price { price, tier, .. } => (Some(wire_tier(tier)), price.to_string()),
        Source::PricePart { price, part } => (None, format!("{price} {}", part.name())),
        Source::Fee { subscription, .. } => (None, subscription.to_string()),
        Source::Clause { clause, tier, .. } => (tier.as_ref().map(wire_tier), clause.to_string()),
        Source::Rounding => (None, "rounding".to_owned()),
        Source::Refund { number } => (None, format!("refund of {number}")),
    };
    proto::BillLine {
        id: line.id,
        kind: line.kind().name().to_owned(),
        stage: line.stage.name().to_owned(),
        account: series.map(|series| series.account.to_string()).unwrap_or_default(),
        sku: text(item.map(|item| item.sku.as_str())),
        meter: text(item.and_then(|item| item.meter.as_ref()).map(|meter| meter.as_str())),
        service: text(series.map(|series| series.service.as_str())),
        usage_type: text(series.map(|series| series.usage_type.as_str())),
        operation: text(series.map(|series| series.operation.as_str())),
        region: text(series.map(|series| series.region.as_str())),
        attributes: series
            .map(|series| attributes(series.attributes.iter().map(|(name, value)| (name, value))))
            .unwrap_or_default(),
        quantity: line.quantity.map(|quantity| quantity.to_string()),
        unit: text(item.filter(|_| line.quantity.is_some()).map(|item| &*item.unit)),
        rate: line.rate.map(|rate| rate.to_string()),
        amount: line.amount.to_string(),
        tier,
        made_by,
        pool: body.pool(line).map(|pool| pool.id.to_string()).unwrap_or_default(),
        from: line.from.clone(),
    }
}

fn wire_tier(tier: &Tier) -> proto::BillTier {
    proto::BillTier { index: tier.index, begin: tier.begin.to_string(), end: tier.end.map(|end| end.to_string()) }
}
