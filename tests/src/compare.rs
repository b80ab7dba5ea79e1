//! The engine's bills beside the reference model's: every line as (payer, series, SKU, origin, quantity, amount).

use std::collections::BTreeMap;

use reckoner_shard::base::id::AccountId;
use reckoner_shard::billing::bill::{BillBody, Line as EngineLine, Source};
use reckoner_shard::usage::series::SeriesKey;

use crate::model::bill::{Bills, Line, Series};
use crate::model::exact::{Exact, exact, text, whole};

/// A series as the engine names it.
pub fn key_of(series: &Series) -> SeriesKey {
    let account = AccountId::new(&series.account).expect("drawn names are good");
    let Series { service, usage_type, operation, region, attributes, .. } = series;
    SeriesKey::new(account, service, usage_type, operation, region, attributes.clone())
}

/// A series as the model names it.
pub fn series_of(key: &SeriesKey) -> Series {
    Series {
        account: key.account.to_string(),
        service: key.service.clone(),
        usage_type: key.usage_type.clone(),
        operation: key.operation.clone(),
        region: key.region.clone(),
        attributes: key.attributes.clone(),
    }
}

/// What made a line, in the model's words.
pub fn origin_of(line: &EngineLine) -> String {
    match &line.source {
        Source::FreeUnits { .. } => "free".to_owned(),
        Source::FreePool { pool } => format!("pool:{pool}"),
        Source::Price { tier, .. } => tier.index.to_string(),
        Source::PricePart { part, .. } => part.name().to_owned(),
        Source::Fee { subscription, .. } => format!("fee:{subscription}"),
        Source::Clause { clause, .. } => format!("clause:{clause}"),
        Source::Rounding => "rounding".to_owned(),
    }
}

/// Panics at the first difference, with both sides.
pub fn compare(found: &[BillBody], expected: &Bills) {
    let totals = |bill: &BillBody| (exact(&bill.total.to_string()), exact(&bill.payable.to_string()));
    let found_totals: BTreeMap<String, (Exact, Exact)> =
        found.iter().map(|bill| (bill.payer.to_string(), totals(bill))).collect();
    let mut lines: Vec<Shown> = found.iter().flat_map(lines_of).collect();
    let mut wanted: Vec<Shown> = expected.lines.iter().map(shown).collect();
    lines.sort();
    wanted.sort();
    for (found, wanted) in lines.iter().zip(&wanted) {
        assert_eq!(found, wanted, "the first line that differs; engine left, model right");
    }
    assert_eq!(lines.len(), wanted.len(), "engine {lines:#?}\nmodel {wanted:#?}");
    assert_eq!(show(&found_totals), show(&expected.payers), "totals and payables; engine left, model right");
    let mut unpriced: Vec<(Series, String)> = Vec::new();
    for item in found.iter().flat_map(|bill| &bill.unpriced) {
        unpriced.push((series_of(&item.series), item.counted.to_string()));
    }
    unpriced.sort();
    let mut wanted: Vec<(Series, String)> =
        expected.unpriced.iter().map(|(series, value)| (series.clone(), text(value))).collect();
    wanted.sort();
    assert_eq!(unpriced, wanted, "unpriced usage");
}

/// Payer, series, SKU, origin, quantity, amount.
type Shown = (String, Series, String, String, String, String);

fn shown(line: &Line) -> Shown {
    let Line { payer, series, sku, origin, quantity, amount, .. } = line.clone();
    (payer, series, sku, origin, text(&quantity), text(&amount))
}

fn lines_of(bill: &BillBody) -> Vec<Shown> {
    let usage = bill.lines.iter().filter_map(|line| bill.item(line).map(|item| (line, item)));
    let row = |(line, item): (&EngineLine, &reckoner_shard::billing::bill::Item)| {
        // A clause's quantity is that of the slice it changes; the model leaves it out.
        let is_clause = matches!(line.source, Source::Clause { .. });
        let quantity = line.quantity.filter(|_| !is_clause).map_or(text(&whole(0)), |quantity| quantity.to_string());
        let (series, sku) = (series_of(&item.series), item.sku.to_string());
        (bill.payer.to_string(), series, sku, origin_of(line), quantity, line.amount.to_string())
    };
    // A clause's share that rounds to nothing may be shown or left out.
    usage.map(row).filter(|(.., quantity, amount)| quantity != "0" || amount != "0").collect()
}

fn show(totals: &BTreeMap<String, (Exact, Exact)>) -> Vec<(String, String, String)> {
    totals.iter().map(|(payer, (total, payable))| (payer.clone(), text(total), text(payable))).collect()
}
