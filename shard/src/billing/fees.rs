//! What is due without usage: the fees that a contract subscribes to, as lines of their own, and the series that stand
//! for a subscriber in a pool. How much of a fee is due lives in `pricing/fee.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::bill::Source;
use super::gather::Extra;
use super::input::{FoldError, FoldInput};
use super::usage_stage::{Cell, Standing, Used};
use crate::base::id::{AccountId, GroupName};
use crate::base::money::{Money, Quantity, RATE_SCALE, Rate, SCALE};
use crate::base::wide::power_of_ten;
use crate::contract::subscription::{Subscribed, Subscriber, Subscription};
use crate::contract::terms::Contract;
use crate::pricing::active::Span;
use crate::pricing::catalogue::{MeterIndex, SkuIndex};
use crate::pricing::document::RoundingAt;
use crate::pricing::document_fee::Prorate;
use crate::usage::series::SeriesKey;

/// Who a subscriber is in this cycle: account, payer and group. `None` where the hierarchy does not have it.
fn who<'a>(
    input: &FoldInput<'a>,
    subscription: &'a Subscription,
) -> Option<(&'a AccountId, &'a AccountId, Option<&'a GroupName>)> {
    let entry = input.hierarchy.account(subscription.who.account())?;
    let payer = input.hierarchy.payer_at(entry, input.cycle);
    let group = match &subscription.who {
        Subscriber::Account(_) => input.hierarchy.group_at(entry, input.cycle),
        Subscriber::Group(_, group) => Some(group),
    };
    Some((&entry.id, payer, group))
}

/// A series for each account and fee, and each account and SKU, that is subscribed to in the cycle.
pub(super) fn extras<'a>(input: &FoldInput<'a>, contract: &'a Contract) -> Vec<Extra<'a>> {
    let catalogue = input.catalogue;
    let mut extras: Vec<Extra<'a>> = Vec::new();
    let mut known: BTreeSet<(SkuIndex, &AccountId, Option<&GroupName>)> = BTreeSet::new();
    // Where a SKU's series are is looked for once.
    let mut places: BTreeMap<SkuIndex, Option<(MeterIndex, SeriesKey)>> = BTreeMap::new();
    for subscription in &contract.subscriptions {
        let Some((account, payer, group)) = who(input, subscription) else { continue };
        let (sku, standing) = match &subscription.what {
            Subscribed::Fee(fee, _) => (catalogue.fee_by_id(fee.as_str()).map(|fee| fee.sku), Standing::Fee),
            Subscribed::Sku(_) if !subscription.is_active(&input.cycle.period()) => continue,
            Subscribed::Sku(sku) => (catalogue.sku_by_id(sku.as_str()), Standing::Subscribed),
        };
        // A later catalogue may have dropped what an earlier one had; then nothing is due.
        let Some(sku) = sku else { continue };
        let Some((meter, place)) = places.entry(sku).or_insert_with(|| catalogue.series_of(sku, account)) else {
            continue;
        };
        if known.insert((sku, account, group)) {
            let series = SeriesKey { account: account.clone(), dimensions: place.dimensions.clone() };
            extras.push(Extra { series, sku, meter: *meter, payer, group, standing });
        }
    }
    extras
}

/// When the series of prices whose limits are prorated are subscribed to, by their places.
pub(super) fn spans(input: &FoldInput<'_>, contract: &Contract, used: &[Used<'_>]) -> BTreeMap<usize, Vec<Span>> {
    let catalogue = input.catalogue;
    let prorates = |sku: SkuIndex| catalogue.price(catalogue.sku(sku).price).prorate_limits != Prorate::None;
    let mut known: BTreeMap<(SkuIndex, &AccountId, Option<&GroupName>), Vec<Span>> = BTreeMap::new();
    for subscription in &contract.subscriptions {
        let Subscribed::Sku(id) = &subscription.what else { continue };
        let Some(sku) = catalogue.sku_by_id(id.as_str()).filter(|sku| prorates(*sku)) else { continue };
        let Some((account, _, group)) = who(input, subscription) else { continue };
        known.entry((sku, account, group)).or_default().push(subscription.span);
    }
    let subscribed = used.iter().enumerate().filter(|(_, used)| used.standing == Standing::Subscribed);
    let spans = |used: &Used<'_>| known.get(&(used.sku, &used.series.account, used.group)).cloned();
    subscribed.filter_map(|(index, used)| Some((index, spans(used)?))).collect()
}

/// The lines of fees that are due in the cycle, for the series that stand for them.
pub(super) fn fees<'a>(
    input: &FoldInput<'a>,
    contract: &'a Contract,
    used: &[Used<'_>],
) -> Result<Vec<Cell>, FoldError> {
    let catalogue = input.catalogue;
    let mut cells = Vec::new();
    let stand = used.iter().enumerate().filter(|(_, used)| used.standing == Standing::Fee);
    let stand: BTreeMap<_, usize> =
        stand.map(|(index, used)| ((used.sku, &used.series.account, used.group), index)).collect();
    for subscription in &contract.subscriptions {
        let overflow = || FoldError::Overflow { what: format!("the fee of subscription {}", subscription.id) };
        let Subscribed::Fee(id, quantity) = &subscription.what else { continue };
        let (Some(fee), Some((account, _, group))) = (catalogue.fee_by_id(id.as_str()), who(input, subscription))
        else {
            continue;
        };
        let Some(item) = stand.get(&(fee.sku, account, group)).copied() else { continue };
        let span = &subscription.span;
        let due = fee.due_in(input.cycle, *quantity, span.from, span.to).ok_or_else(overflow)?;
        for part in due {
            let amount = match catalogue.rounding.at {
                RoundingAt::Line => catalogue.rounding.round(part.amount).ok_or_else(overflow)?,
                RoundingAt::Total => part.amount,
            };
            let source =
                Source::Fee { fee: id.clone(), subscription: subscription.id.clone(), of: part.of, part: part.part };
            let quantity = if part.amount < Money::ZERO { Quantity(-quantity.0) } else { *quantity };
            // At most 10^21 in steps of 10^-12.
            let rate = Rate(fee.amount.0 * power_of_ten(RATE_SCALE - SCALE));
            let (quantity, rate) = (Some(quantity.0), Some(rate));
            cells.push(Cell { item, source, quantity, rate, amount: amount.0, pool: None });
        }
    }
    Ok(cells)
}
