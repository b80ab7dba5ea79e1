//! Before the first stage: counters sorted and joined to series, and what prices each, or why nothing does. What they
//! cost is up to `usage_stage.rs`.

use std::collections::BTreeMap;
use std::ops::Range;

use super::attribute::netted;
use super::bill::{Counted, Unpriced, UnpricedReason};
use super::input::{Counter, FoldError, FoldInput};
use super::measure::Measured;
use super::usage_stage::{Chooser, Standing, Used};
use crate::base::id::{AccountId, GroupName};
use crate::base::time::{CycleId, HOUR, Timestamp};
use crate::pricing::catalogue::{Catalogue, MeterIndex, SkuIndex};
use crate::pricing::document::Aggregation;
use crate::usage::series::SeriesKey;

pub(super) type UnpricedByPayer<'a> = BTreeMap<&'a AccountId, Vec<Unpriced>>;

/// What a hierarchy's cycle counted.
pub(super) struct Gathered<'a> {
    /// Sorted by account, SKU id, then dimensions.
    pub used: Vec<Used<'a>>,
    pub choosers: Vec<Chooser<'a>>,
    pub unpriced: UnpricedByPayer<'a>,
}

/// Sorts the counters, joins those of a series and finds out what prices it.
pub(super) fn gather<'a>(input: &FoldInput<'a>, counters: &mut [Counter<'a>]) -> Result<Gathered<'a>, FoldError> {
    let FoldInput { hierarchy, cycle, catalogue, .. } = *input;
    // By value too, so that the order in which two counters of one bucket come cannot matter.
    counters.sort_by(|a, b| a.series.cmp(b.series).then(a.bucket.cmp(&b.bucket)).then(a.value.cmp(&b.value)));
    let mut used: Vec<Used<'a>> = Vec::with_capacity(counters.len());
    let mut choosers = Vec::new();
    let mut unpriced = UnpricedByPayer::new();
    let mut known: Option<(&AccountId, &'a AccountId, Option<_>)> = None;
    let mut at = 0;
    while at < counters.len() {
        let first = counters[at];
        let end = at + counters[at..].iter().take_while(|counter| counter.series == first.series).count();
        let account = &first.series.account;
        let (payer, group) = match known {
            Some((last, payer, group)) if last == account => (payer, group),
            _ => {
                let entry = hierarchy.account(account).ok_or_else(|| FoldError::UnknownAccount(account.clone()))?;
                (hierarchy.payer_at(entry, cycle), hierarchy.group_at(entry, cycle))
            }
        };
        known = Some((account, payer, group));
        let mut sum = (0i128, 0u64);
        for counter in &counters[at..end] {
            let value = sum.0.checked_add(counter.value);
            let what = || FoldError::Overflow { what: format!("the usage of account {account}") };
            sum = (value.ok_or_else(what)?, sum.1.saturating_add(counter.records));
        }
        let (sum, records) = sum;
        let meter = catalogue.meter(first.meter);
        let measured = Measured::of(meter, first.meter, cycle, &counters[at..end], (sum, at));
        let (measured, wrong) = match measured {
            Ok(measured) => (measured, None),
            Err((measured, reason)) => (measured, Some(reason)),
        };
        if meter.chooses_tiers && wrong.is_none() {
            choosers.push(Chooser { account: account.as_str(), payer, group, measured: measured.clone() });
        }
        let series = first.series;
        let mut settle = |sku: Option<SkuIndex>, measured: Measured, records: u64| {
            let reason = match sku {
                None => Some(UnpricedReason::NoSku),
                Some(_) => wrong,
            };
            match (reason, sku) {
                (None, Some(sku))
                    if measured.is_used()
                        || records > 0 && catalogue.price(catalogue.sku(sku).price).charges_zero() =>
                {
                    let standing = Standing::Counted;
                    used.push(Used { series, sku, payer, group, measured, records, standing, home: 0 });
                }
                (Some(reason), _) if measured.shown != 0 || wrong.is_some() => {
                    let counted = Counted { value: measured.shown, scale: meter.scale, records };
                    let line = Unpriced { series: series.clone(), meter: meter.id.clone(), counted, reason };
                    unpriced.entry(payer).or_default().push(line);
                }
                // Nothing was used on balance.
                _ => {}
            }
        };
        if meter.names_hours && wrong.is_none() {
            for (sku, part) in by_hours(catalogue, cycle, &mut counters[at..end]) {
                let part = at + part.start..at + part.end;
                let own = &counters[part.clone()];
                // Parts of a whole that was summed.
                let sum = own.iter().map(|counter| counter.value).sum();
                let records = own.iter().fold(0, |sum: u64, counter| sum.saturating_add(counter.records));
                let measured = Measured::of(meter, first.meter, cycle, own, (sum, part.start));
                settle(sku, measured.unwrap_or_else(|(measured, _)| measured), records);
            }
        } else {
            let sku = catalogue.sku_of(first.meter, &series.operation, &series.region, &series.attributes);
            settle(sku, measured, records);
        }
        at = end;
    }
    Ok(Gathered { used, choosers, unpriced })
}

/// Sorts the counters of a series by the SKUs that price their hours, and says which part is whose. Corrections are taken
/// off what they correct before, so that no part is below zero.
fn by_hours(
    catalogue: &Catalogue,
    cycle: CycleId,
    counters: &mut [Counter<'_>],
) -> Vec<(Option<SkuIndex>, Range<usize>)> {
    let Counter { series, meter, .. } = counters[0];
    let skus = catalogue.skus_by_hours(meter, &series.operation, &series.region, &series.attributes);
    if catalogue.meter(meter).aggregation != Aggregation::Maximum {
        let values = netted(&counters.iter().map(|counter| counter.value).collect::<Vec<_>>());
        counters.iter_mut().zip(values).for_each(|(counter, value)| counter.value = value);
    }
    let start = cycle.start().0;
    let holds = |index: &&SkuIndex, hour: u16| {
        let hours = catalogue.sku(**index).matches.hours.as_ref();
        hours.is_none_or(|hours| hours.contains(Timestamp(start + i64::from(hour) * HOUR)))
    };
    let sku_at = |counter: &Counter<'_>| skus.iter().find(|index| holds(index, counter.bucket.unwrap_or(0))).copied();
    // Stable: the hours of each stay in order.
    counters.sort_by_key(sku_at);
    let mut parts: Vec<(Option<SkuIndex>, Range<usize>)> = Vec::new();
    for (place, counter) in counters.iter().enumerate() {
        let sku = sku_at(counter);
        match parts.last_mut().filter(|(own, _)| *own == sku) {
            Some((_, part)) => part.end = place + 1,
            None => parts.push((sku, place..place + 1)),
        }
    }
    parts
}

/// Where each series is: a payer and its billing groups, which stand on its account, are apart.
fn places<'u>(used: &[Used<'u>]) -> BTreeMap<(SeriesKey, SkuIndex, Option<&'u GroupName>), usize> {
    let place = |(index, used): (usize, &Used<'u>)| ((used.series.clone(), used.sku, used.group), index);
    used.iter().enumerate().map(place).collect()
}

/// A series that nothing was counted in, but that something is due for.
pub(super) struct Extra<'a> {
    pub series: SeriesKey,
    pub sku: SkuIndex,
    pub meter: MeterIndex,
    pub payer: &'a AccountId,
    pub group: Option<&'a GroupName>,
    pub standing: Standing,
}

impl<'a> Gathered<'a> {
    /// Series of the payers' own that take what is due for pools of zero, where there are none yet.
    pub fn homes(&self, input: &FoldInput<'a>) -> Vec<Extra<'a>> {
        let FoldInput { hierarchy, cycle, catalogue, .. } = *input;
        let mut homes: BTreeMap<(SeriesKey, SkuIndex), Extra<'a>> = BTreeMap::new();
        for used in self.used.iter().filter(|used| used.can_be_zero(catalogue) && used.series.account != *used.payer) {
            let series = SeriesKey { account: used.payer.clone(), dimensions: used.series.dimensions.clone() };
            let (sku, meter, payer) = (used.sku, used.measured.meter, used.payer);
            // What is the payer's is in the payer's group, not in that of whom it is due for.
            let group = hierarchy.account(payer).and_then(|entry| hierarchy.group_at(entry, cycle));
            homes.entry((series.clone(), sku)).or_insert(Extra {
                series,
                sku,
                meter,
                payer,
                group,
                standing: Standing::Home,
            });
        }
        if !homes.is_empty() {
            self.used.iter().for_each(|used| drop(homes.remove(&(used.series.clone(), used.sku))));
        }
        homes.into_values().collect()
    }

    /// The same with those series added, sorted, each series of zero pointing to its payer's.
    pub fn with_extras<'b>(self, extras: &'b [Extra<'a>], input: &FoldInput<'a>) -> Gathered<'b>
    where
        'a: 'b,
    {
        let FoldInput { hierarchy, cycle, catalogue, .. } = *input;
        let Gathered { used, choosers, unpriced } = self;
        let mut used: Vec<Used<'b>> = used;
        let subscribes = extras.iter().any(|extra| extra.standing == Standing::Subscribed);
        let mut known = if subscribes { places(&used) } else { BTreeMap::new() };
        for Extra { series, sku, meter, payer, group, standing } in extras {
            let (sku, group, standing) = (*sku, *group, *standing);
            if subscribes {
                let index = *known.entry((series.clone(), sku, group)).or_insert(used.len());
                if index < used.len() {
                    used[index].standing = standing;
                    continue;
                }
            }
            let measured = Measured::nothing(*meter);
            used.push(Used { series, sku, payer, group, measured, records: 0, standing, home: 0 });
        }
        used.sort_by(|a, b| {
            let sku = |used: &Used<'b>| &catalogue.sku(used.sku).id;
            let by_account = a.series.account.cmp(&b.series.account);
            let by_sku = by_account.then_with(|| sku(a).cmp(sku(b)));
            by_sku.then_with(|| a.series.dimensions.cmp(&b.series.dimensions)).then_with(|| a.group.cmp(&b.group))
        });
        if used.iter().any(|used| used.can_be_zero(catalogue)) {
            let places = places(&used);
            for (index, own) in used.iter_mut().enumerate() {
                let series = SeriesKey { account: own.payer.clone(), dimensions: own.series.dimensions.clone() };
                let group = hierarchy.account(own.payer).and_then(|entry| hierarchy.group_at(entry, cycle));
                own.home = places.get(&(series, own.sku, group)).copied().unwrap_or(index);
            }
        }
        Gathered { used, choosers, unpriced }
    }
}
