//! Counters x catalogue x contract -> bills: one pure function for estimate, close, simulation and verification. It
//! reads no clock and no state; the order in which counters come does not matter.

use std::collections::BTreeMap;

use super::bill::{BillBody, CatalogueVersion, ContractVersion, Counted, FIRST_MACHINE, Item, Line, Source, Unpriced};
use super::climb_year::{year_ends, year_of_fold};
use super::draft::{Charge, Draft, Terms};
use super::fees;
use super::gather::{Gathered, gather};
use super::input::{FoldError, FoldInput};
use super::usage_stage::{Asked, Charged, Used, charge};
use crate::base::id::{AccountId, SkuId};
use crate::base::money::{Money, Quantity, checked_sum};
use crate::contract::terms::Contract;
use crate::pricing::catalogue::RoundingRule;
use crate::pricing::order::Stage;

/// The bills of a hierarchy's cycle, one for each payer with usage, by payer.
pub fn fold(input: &FoldInput<'_>) -> Result<Vec<BillBody>, FoldError> {
    let FoldInput { hierarchy, cycle, catalogue, .. } = *input;
    let contract = input.contract.filter(|contract| contract.is_in_force(cycle));
    let mut counters = input.counters.clone();
    let gathered = gather(input, &mut counters)?;
    let mut extras = gathered.homes(input);
    extras.extend(contract.map_or_else(Vec::new, |contract| fees::extras(input, contract)));
    extras.extend(year_ends(input));
    let Gathered { used, choosers, unpriced } = gathered.with_extras(&extras, input);
    let spans = contract.map_or_else(BTreeMap::new, |contract| fees::spans(input, contract, &used));
    let asked = Asked {
        root: &hierarchy.root,
        cycle,
        interim: input.interim,
        spans: &spans,
        year: year_of_fold(input),
        balances: &input.balances,
    };
    let mut charged = charge(catalogue, &asked, &used, &choosers, &counters)?;
    if let Some(contract) = contract {
        charged.add(fees::fees(input, contract, &used)?);
    }
    let stages = contract.and_then(|contract| contract.stages.as_ref()).unwrap_or(&catalogue.stages);
    let mut unpriced = unpriced;
    for (index, reason) in &charged.dropped {
        let used = &used[*index];
        let meter = catalogue.meter(used.measured.meter);
        let counted = Counted { value: used.measured.shown, scale: meter.scale, records: used.records };
        let (series, meter, reason) = (used.series.clone(), meter.id.clone(), *reason);
        unpriced.entry(used.payer).or_default().push(Unpriced { series, meter, counted, reason });
    }
    let mut drafts = drafts(&used, &charged, unpriced.keys().copied())?;
    if let Some(contract) = contract {
        let terms = Terms {
            hierarchy,
            catalogue,
            contract,
            cycle,
            stages,
            used: &used,
            counters: &counters,
            quantities: &charged.quantities,
            balances: &input.balances,
            drawn_later: &input.drawn_later,
            interim: input.interim,
            own_shortfalls: input.own_shortfalls,
        };
        for stage in stages.iter().filter(|stage| !matches!(stage, Stage::Usage | Stage::Rounding)) {
            terms.apply(*stage, &mut drafts)?;
        }
    }
    let maker = Maker { input, contract, stages, used: &used, charged: &charged };
    drafts.into_iter().map(|draft| maker.body(unpriced.remove(draft.payer).unwrap_or_default(), draft)).collect()
}

/// A draft for each payer, with its usage lines.
fn drafts<'a>(
    used: &[Used<'a>],
    charged: &Charged<'a>,
    others: impl Iterator<Item = &'a AccountId>,
) -> Result<Vec<Draft<'a>>, FoldError> {
    let mut drafts: BTreeMap<&'a AccountId, Draft<'a>> = BTreeMap::new();
    let mut cells = charged.cells.iter().peekable();
    for (index, used) in used.iter().enumerate() {
        let is_idle = (!used.measured.is_used() || charged.dropped.contains_key(&index))
            && cells.peek().is_none_or(|cell| cell.item != index);
        if is_idle {
            continue;
        }
        let draft = drafts.entry(used.payer).or_insert_with(|| Draft::new(used.payer));
        draft.items.push(index);
        draft.net.push(Money::ZERO);
        draft.made.push(Vec::new());
        let item = draft.items.len() - 1;
        while let Some(cell) = cells.next_if(|cell| cell.item == index) {
            let line = Line {
                id: 0,
                stage: Stage::Usage,
                item: None,
                source: cell.source.clone(),
                quantity: cell.quantity.map(Quantity),
                rate: cell.rate,
                amount: Money(cell.amount),
                pool: cell.pool,
                from: Vec::new(),
            };
            draft.add(item, line)?;
        }
    }
    for payer in others {
        drafts.entry(payer).or_insert_with(|| Draft::new(payer));
    }
    for draw in &charged.draws {
        if let Some(draft) = drafts.get_mut(draw.payer) {
            let overflow = || FoldError::Overflow { what: format!("balance {}", draw.balance) };
            draft.draw(&draw.balance, draw.before, draw.amount).ok_or_else(overflow)?;
        }
    }
    Ok(drafts.into_values().collect())
}

/// What all bodies of a hierarchy share.
struct Maker<'a> {
    input: &'a FoldInput<'a>,
    contract: Option<&'a Contract>,
    stages: &'a [Stage],
    used: &'a [Used<'a>],
    charged: &'a Charged<'a>,
}

impl Maker<'_> {
    fn body(&self, unpriced: Vec<Unpriced>, draft: Draft<'_>) -> Result<BillBody, FoldError> {
        let FoldInput { hierarchy, cycle, catalogue, .. } = *self.input;
        let Draft { payer, items, charges, mut lines, net, balances, .. } = draft;
        let overflow = || FoldError::Overflow { what: format!("the bill of payer {payer}") };
        let total = checked_sum(lines.iter().map(|line| line.amount)).ok_or_else(overflow)?;
        let by_item = checked_sum(net).ok_or_else(overflow)?;
        assert!(total == by_item, "lines and items sum to the same total");
        let exchange = match self.input.settled.get(payer) {
            Some(settled) => settled.clone(),
            None => self.contract.and_then(|contract| contract.exchange(payer, cycle)),
        };
        let payable = match &exchange {
            Some(exchange) => exchange.payable(total, catalogue.rounding.mode).ok_or_else(overflow)?,
            None => round(total, &catalogue.rounding, &mut lines).ok_or_else(overflow)?,
        };
        let whole = checked_sum(lines.iter().map(|line| line.amount)).ok_or_else(overflow)?;
        let due = if exchange.is_some() { total } else { payable };
        assert!(whole == due, "all lines sum to the payable, or to what is converted");
        let mut pools = Vec::new();
        let mut places = BTreeMap::new();
        for line in &mut lines {
            line.pool = line.pool.map(|pool| {
                *places.entry(pool).or_insert_with(|| {
                    pools.push(self.charged.pools[pool as usize].clone());
                    pools.len() as u32 - 1
                })
            });
        }
        Ok(BillBody {
            root: hierarchy.root.clone(),
            payer: payer.clone(),
            pro_forma: None,
            currency: exchange.as_ref().map_or(catalogue.currency, |exchange| exchange.to),
            exchange,
            cycle,
            catalogue: CatalogueVersion {
                name: catalogue.name.clone(),
                effective: catalogue.effective,
                hash: catalogue.hash,
            },
            contract: self
                .contract
                .map(|contract| ContractVersion { effective: contract.effective, hash: contract.hash }),
            machine: FIRST_MACHINE,
            stages: self.stages.to_vec(),
            difference: None,
            refund: None,
            items: items.into_iter().map(|index| self.item(index)).chain(charges.into_iter().map(item_of)).collect(),
            pools,
            lines,
            unpriced,
            balances: balances.into_values().collect(),
            total,
            payable,
        })
    }

    fn item(&self, index: usize) -> Item {
        let used = &self.used[index];
        let (meter, sku) = (self.input.catalogue.meter(used.measured.meter), self.input.catalogue.sku(used.sku));
        Item {
            series: used.series.clone(),
            meter: Some(meter.id.clone()),
            sku: sku.id.clone(),
            unit: sku.unit.clone(),
            counted: Counted { value: used.measured.shown, scale: meter.scale, records: used.records },
            quantity: Quantity(self.charged.quantities[index]),
        }
    }
}

/// What a clause charges, as an item.
fn item_of(charge: Charge) -> Item {
    Item {
        series: charge.series,
        meter: None,
        sku: SkuId::new(charge.clause.as_str()).expect("a clause's name is a good name"),
        unit: "".into(),
        counted: Counted::default(),
        quantity: Quantity::ZERO,
    }
}

/// The last stage: from the exact total to the payable, by a line of its own where they differ.
pub(super) fn round(total: Money, rule: &RoundingRule, lines: &mut Vec<Line>) -> Option<Money> {
    let payable = rule.round(total)?;
    let amount = payable.checked_sub(total)?;
    if !amount.is_zero() {
        lines.push(Line {
            id: lines.len() as u32 + 1,
            stage: Stage::Rounding,
            item: None,
            source: Source::Rounding,
            quantity: None,
            rate: None,
            amount,
            pool: None,
            from: Vec::new(),
        });
    }
    Some(payable)
}

#[cfg(test)]
#[path = "fold_test.rs"]
mod tests;
