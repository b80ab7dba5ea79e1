//! A further bill of a cycle that has bills already: the fold over all usage known now, less what the earlier bills
//! booked, line by line (BILLING.md decision 16). The rounding line is taken the same way, so that a cycle's bills sum
//! to the one bill that would have been made at once.

use std::collections::BTreeMap;

use super::bill::{
    BalanceChange, BillBody, CatalogueVersion, ContractVersion, Counted, Difference, FIRST_MACHINE, Item, Line, Source,
    Tier,
};
use super::codec::{body_hash, encode};
use super::input::{FoldError, FoldInput};
use crate::base::id::{AccountId, SkuId};
use crate::base::money::{Money, Quantity, Rate};
use crate::base::time::CycleId;
use crate::contract::currency::Exchange;
use crate::pricing::order::Stage;
use crate::usage::series::SeriesKey;

/// What makes lines of several bills the same charge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Charge {
    stage: Stage,
    item: Option<(SeriesKey, SkuId)>,
    /// With a base of zero: that is one of the things that differ.
    source: Source,
    rate: Option<Rate>,
    /// Of a private rate or a waiver: the slice that it changes.
    slice: Option<Tier>,
}

/// A charge's numbers, those of earlier bills taken off.
#[derive(Clone, Copy, Default)]
struct Numbers {
    base: Money,
    quantity: Option<Quantity>,
    amount: Money,
}

/// The bills of a cycle that has bills already, by payer: what the fold over everything known adds to them. A payer
/// whose bills do not change has one without lines.
pub fn further(
    input: &FoldInput<'_>,
    mut bodies: Vec<BillBody>,
    earlier: &[BillBody],
) -> Result<Vec<BillBody>, FoldError> {
    // Usage that was billed and then taken back altogether leaves no bill, but what was booked has to be taken back.
    for billed in earlier {
        if let Err(place) = bodies.binary_search_by(|body| body.payer.cmp(&billed.payer)) {
            bodies.insert(place, nothing_left(billed, input));
        }
    }
    let of = |body: &BillBody| earlier.iter().filter(|own| own.payer == body.payer).cloned().collect::<Vec<_>>();
    let add = |body: BillBody| match of(&body).as_slice() {
        [] => Ok(body),
        own => difference(&body, own, input.interim),
    };
    bodies.into_iter().map(add).collect()
}

/// How the first bills of a cycle were converted, by payer: later ones are converted alike.
pub fn settled(billed: &[BillBody], cycle: CycleId) -> BTreeMap<AccountId, Option<Exchange>> {
    let of_cycle = billed.iter().rev().filter(|billed| billed.cycle == cycle);
    of_cycle.map(|billed| (billed.payer.clone(), billed.exchange.clone())).collect()
}

/// The bill of a payer that nothing is left to be billed to.
fn nothing_left(billed: &BillBody, input: &FoldInput<'_>) -> BillBody {
    let catalogue = input.catalogue;
    let contract = input.contract.filter(|contract| contract.is_in_force(billed.cycle));
    BillBody {
        root: billed.root.clone(),
        payer: billed.payer.clone(),
        pro_forma: None,
        currency: billed.currency,
        exchange: billed.exchange.clone(),
        cycle: billed.cycle,
        catalogue: CatalogueVersion {
            name: catalogue.name.clone(),
            effective: catalogue.effective,
            hash: catalogue.hash,
        },
        contract: contract.map(|contract| ContractVersion { effective: contract.effective, hash: contract.hash }),
        machine: FIRST_MACHINE,
        stages: contract.and_then(|contract| contract.stages.as_ref()).unwrap_or(&catalogue.stages).clone(),
        difference: None,
        refund: None,
        balances: Vec::new(),
        items: Vec::new(),
        pools: Vec::new(),
        lines: Vec::new(),
        unpriced: Vec::new(),
        total: Money::ZERO,
        payable: Money::ZERO,
    }
}

/// What `now`, the fold over everything known, adds to the earlier bills of the same payer and cycle, oldest first.
/// Charges that did not change have no line. Shared pools are those of the whole cycle and are left out.
pub fn difference(now: &BillBody, earlier: &[BillBody], interim: bool) -> Result<BillBody, FoldError> {
    let overflow = || FoldError::Overflow { what: format!("the difference for payer {}", now.payer) };
    let mut order: Vec<Charge> = Vec::new();
    let mut numbers: BTreeMap<Charge, Numbers> = BTreeMap::new();
    let mut sources: BTreeMap<Charge, Vec<Charge>> = BTreeMap::new();
    let mut items: BTreeMap<(SeriesKey, SkuId), Item> = BTreeMap::new();
    let (mut total, mut payable) = (now.total, now.payable);
    for (index, body) in std::iter::once(now).chain(earlier).enumerate() {
        let add = index == 0;
        let charges: Vec<Charge> = body.lines.iter().map(|line| charge(body, line)).collect();
        for (line, charge) in body.lines.iter().zip(&charges) {
            let sum = numbers.entry(charge.clone()).or_insert_with(|| {
                order.push(charge.clone());
                Numbers::default()
            });
            apply(sum, line, add).ok_or_else(overflow)?;
            let from = line.from.iter().map(|id| charges[*id as usize - 1].clone());
            sources.entry(charge.clone()).or_insert_with(|| from.collect());
        }
        for item in &body.items {
            let key = (item.series.clone(), item.sku.clone());
            let zero = Item {
                counted: Counted { value: 0, records: 0, ..item.counted },
                quantity: Quantity::ZERO,
                ..item.clone()
            };
            let sum = items.entry(key).or_insert(zero);
            apply_item(sum, item, add).ok_or_else(overflow)?;
        }
        if !add {
            total = total.checked_sub(body.total).ok_or_else(overflow)?;
            payable = payable.checked_sub(body.payable).ok_or_else(overflow)?;
            if body.exchange != now.exchange || body.currency != now.currency {
                return Err(FoldError::OtherCurrency { payer: now.payer.clone() });
            }
        }
    }
    // Stable: within a stage the new bill's order, then what only earlier bills had.
    order.sort_by_key(|charge| now.stages.iter().position(|stage| *stage == charge.stage).unwrap_or(usize::MAX));
    order.retain(|charge| {
        let sum = &numbers[charge];
        !sum.amount.is_zero() || sum.quantity.is_some_and(|quantity| !quantity.is_zero())
    });
    let used: Vec<&(SeriesKey, SkuId)> = {
        let mut used: Vec<_> = order.iter().filter_map(|charge| charge.item.as_ref()).collect();
        used.sort_by(|a, b| (&a.0.account, &a.1, &a.0.dimensions).cmp(&(&b.0.account, &b.1, &b.0.dimensions)));
        used.dedup();
        used
    };
    let places: BTreeMap<&(SeriesKey, SkuId), u32> =
        used.iter().enumerate().map(|(at, key)| (*key, at as u32)).collect();
    let ids: BTreeMap<&Charge, u32> = order.iter().enumerate().map(|(at, charge)| (charge, at as u32 + 1)).collect();
    let lines = order.iter().enumerate().map(|(at, charge)| {
        let (id, sum) = (at as u32 + 1, &numbers[charge]);
        let from = sources[charge].iter().filter_map(|source| ids.get(source).copied());
        Line {
            id,
            stage: charge.stage,
            item: charge.item.as_ref().map(|item| places[item]),
            source: match &charge.source {
                Source::Clause { clause, text, tier, drawn, .. } => Source::Clause {
                    clause: clause.clone(),
                    text: text.clone(),
                    base: sum.base,
                    tier: *tier,
                    drawn: *drawn,
                },
                other => other.clone(),
            },
            quantity: sum.quantity,
            rate: charge.rate,
            amount: sum.amount,
            pool: None,
            from: from.filter(|from| *from < id).collect(),
        }
    });
    let mut balances = now.balances.clone();
    for own in earlier.iter().flat_map(|body| &body.balances) {
        let known = balances.iter_mut().find(|balance| balance.name == own.name);
        match known {
            Some(balance) => balance.change = balance.change.checked_sub(own.change).ok_or_else(overflow)?,
            None => {
                let change = Money::ZERO.checked_sub(own.change).ok_or_else(overflow)?;
                balances.push(BalanceChange { change, ..own.clone() });
            }
        }
    }
    balances.retain(|balance| !balance.change.is_zero());
    balances.sort_by(|one, other| one.name.cmp(&other.name));
    let body = BillBody {
        difference: Some(Difference {
            interim,
            earlier: earlier.iter().map(|body| body_hash(&encode(body))).collect(),
        }),
        items: used.iter().map(|key| items[*key].clone()).collect(),
        pools: Vec::new(),
        lines: lines.collect(),
        balances,
        total,
        payable,
        ..now.clone()
    };
    let whole = crate::base::money::checked_sum(body.lines.iter().map(|line| line.amount)).ok_or_else(overflow)?;
    let due = if body.exchange.is_some() { total } else { payable };
    assert!(whole == due, "all lines of a difference sum to its payable, or to what is converted");
    Ok(body)
}

fn charge(body: &BillBody, line: &Line) -> Charge {
    let source = match &line.source {
        Source::Clause { clause, text, tier, drawn, .. } => {
            Source::Clause { clause: clause.clone(), text: text.clone(), base: Money::ZERO, tier: *tier, drawn: *drawn }
        }
        other => other.clone(),
    };
    let slice = match (line.stage, line.from.as_slice()) {
        (Stage::PrivateRates | Stage::UsageWaiver, [from]) => match body.line(*from).map(|line| &line.source) {
            Some(Source::Price { tier, .. }) => Some(*tier),
            _ => None,
        },
        _ => None,
    };
    let item = body.item(line).map(|item| (item.series.clone(), item.sku.clone()));
    Charge { stage: line.stage, item, source, rate: line.rate, slice }
}

fn apply(sum: &mut Numbers, line: &Line, add: bool) -> Option<()> {
    let money = |sum: Money, own: Money| if add { sum.checked_add(own) } else { sum.checked_sub(own) };
    sum.amount = money(sum.amount, line.amount)?;
    if let Source::Clause { base, .. } = line.source {
        sum.base = money(sum.base, base)?;
    }
    if let Some(own) = line.quantity {
        let before = sum.quantity.unwrap_or_default();
        sum.quantity = Some(if add { before.checked_add(own)? } else { before.checked_sub(own)? });
    }
    Some(())
}

fn apply_item(sum: &mut Item, item: &Item, add: bool) -> Option<()> {
    let (counted, own) = (&mut sum.counted, &item.counted);
    if add {
        counted.value = counted.value.checked_add(own.value)?;
        counted.records = counted.records.checked_add(own.records)?;
        sum.quantity = sum.quantity.checked_add(item.quantity)?;
    } else {
        counted.value = counted.value.checked_sub(own.value)?;
        // Records are never taken back; a series that another SKU prices now brings none.
        counted.records = counted.records.saturating_sub(own.records);
        sum.quantity = sum.quantity.checked_sub(item.quantity)?;
    }
    Some(())
}
