//! What the demo proves about its bills, by arithmetic that does not go through the fold.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use ethnum::I256;
use reckoner_client::files::documents::{Document, Placed};
use reckoner_shard::base::money::{RATE_SCALE, Rate, SCALE, parse_scaled, print_scaled};
use reckoner_shard::base::wide::{Rounding, divide, power_of_ten};
use reckoner_shard::billing::bill::{BillBody, LineKind};
use reckoner_shard::usage::record::UsageRecord;

/// Decimals to which the source file rounds each row.
const FILE_SCALE: u32 = 10;

/// A row of the source file.
struct Listed {
    account: String,
    /// At ten decimals.
    list_cost: i128,
}

fn listed(text: &str) -> Result<BTreeMap<String, Listed>> {
    let mut rows = BTreeMap::new();
    for row in csv::Reader::from_reader(text.as_bytes()).deserialize() {
        let (id, account, _sku, cost): (String, String, String, String) = row?;
        rows.insert(id, Listed { account, list_cost: parse_scaled(&cost, FILE_SCALE)? });
    }
    Ok(rows)
}

/// Unit price by usage type.
fn rates(placed: &[Placed]) -> Result<BTreeMap<String, Rate>> {
    let mut rates = BTreeMap::new();
    for placed in placed {
        if let Document::Catalogue(catalogue) = &placed.document {
            for sku in &catalogue.skus {
                let rate = sku.rate.as_deref().context("a price of this example is a plain rate")?;
                rates.insert(sku.matches.usage_type.clone(), rate.parse()?);
            }
        }
    }
    Ok(rates)
}

/// Rows whose quantity times unit price, rounded half up at ten decimals, is exactly the file's list cost; of how many.
pub fn rows_rated_alone(records: &[UsageRecord], placed: &[Placed], expected: &str) -> Result<(usize, usize)> {
    let (listed, rates) = (listed(expected)?, rates(placed)?);
    let mut equal = 0;
    for record in records {
        let rate = rates.get(&record.usage_type).with_context(|| format!("row {} has no price", record.id))?;
        let step = I256::from(power_of_ten(SCALE + RATE_SCALE - FILE_SCALE));
        let cost = divide(I256::from(record.quantity.0) * I256::from(rate.0), step, Rounding::HalfUp);
        equal += usize::from(listed.get(&record.id).is_some_and(|row| I256::from(row.list_cost) == cost));
    }
    Ok((equal, listed.len()))
}

/// Accounts whose charges on the bill differ from the sum of the file's list costs by at most half a step of the file's
/// rounding a row; of how many; and the largest difference.
pub fn accounts_against_file(body: &BillBody, expected: &str) -> Result<(usize, usize, String)> {
    let mut sums: BTreeMap<String, (i128, i128)> = BTreeMap::new();
    for row in listed(expected)?.into_values() {
        let sum = sums.entry(row.account).or_default();
        *sum = (sum.0 + row.list_cost * 100, sum.1 + 1);
    }
    let mut billed: BTreeMap<&str, i128> = BTreeMap::new();
    for line in body.lines.iter().filter(|line| line.kind() == LineKind::Usage) {
        if let Some(item) = body.item(line) {
            *billed.entry(item.series.account.as_str()).or_default() += line.amount.0;
        }
    }
    let (mut within, mut largest) = (0, 0);
    for (account, (cost, rows)) in &sums {
        let difference = (billed.remove(account.as_str()).unwrap_or(0) - cost).abs();
        // 5e-11 a row is 50 steps of 1e-12.
        within += usize::from(difference <= 50 * rows);
        largest = largest.max(difference);
    }
    // A charge for an account that the file does not have would be no match either.
    let strangers = billed.values().filter(|amount| **amount != 0).count();
    Ok((within, sums.len() + strangers, print_scaled(largest, SCALE)))
}
