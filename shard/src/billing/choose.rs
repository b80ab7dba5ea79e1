//! Purchases out of a fold (BILLING.md section 2.11): what was bought, alone, before the rest of the cycle is billed. What
//! discounts, credits and taxes make of it comes with a later bill of the cycle, which is the difference to this one.

use std::collections::BTreeMap;

use super::bill::{BillBody, Line, Source};
use super::fold::round;
use super::input::{FoldError, FoldInput};
use crate::base::id::ClauseId;
use crate::base::money::{Money, checked_sum};
use crate::base::time::Timestamp;
use crate::contract::terms::{Contract, Mechanism};
use crate::pricing::order::Stage;

/// Of each bill what was bought by then; a payer that bought nothing has none.
pub fn purchases(input: &FoldInput<'_>, bodies: Vec<BillBody>, until: Timestamp) -> Result<Vec<BillBody>, FoldError> {
    let Some(contract) = input.contract.filter(|contract| contract.is_in_force(input.cycle)) else {
        return Ok(Vec::new());
    };
    let mut bought = Vec::new();
    for body in bodies {
        let lines: Vec<&Line> = body.lines.iter().filter(|line| is_bought(line, contract, until)).collect();
        if !lines.is_empty() {
            let overflow = || FoldError::Overflow { what: format!("the purchases of payer {}", body.payer) };
            bought.push(only(input, &body, &lines).ok_or_else(overflow)?);
        }
    }
    Ok(bought)
}

/// Whether a line is a fee that is billed at once and begins by then, or a prepayment.
fn is_bought(line: &Line, contract: &Contract, until: Timestamp) -> bool {
    if line.amount <= Money::ZERO {
        return false;
    }
    match &line.source {
        Source::Fee { subscription, part, .. } => {
            let mut subscriptions = contract.subscriptions.iter();
            part.from <= until && subscriptions.any(|own| own.at_once && own.id == *subscription)
        }
        Source::Clause { clause, .. } => line.stage == Stage::Fees && is_prepayment(contract, clause),
        _ => false,
    }
}

fn is_prepayment(contract: &Contract, id: &ClauseId) -> bool {
    let mut clauses = contract.clauses.iter().filter(|clause| clause.id == *id);
    clauses.any(|clause| matches!(clause.mechanism, Mechanism::Prepayment(_)))
}

/// A bill of these lines of another. `None` on overflow.
fn only(input: &FoldInput<'_>, body: &BillBody, lines: &[&Line]) -> Option<BillBody> {
    let mut items = Vec::new();
    let mut places: BTreeMap<u32, u32> = BTreeMap::new();
    let mut own = Vec::with_capacity(lines.len() + 1);
    for line in lines {
        let item = line.item.map(|item| {
            *places.entry(item).or_insert_with(|| {
                items.push(body.items[item as usize].clone());
                items.len() as u32 - 1
            })
        });
        own.push(Line { id: own.len() as u32 + 1, item, pool: None, from: Vec::new(), ..(*line).clone() });
    }
    let total = checked_sum(own.iter().map(|line| line.amount))?;
    let payable = match &body.exchange {
        Some(exchange) => exchange.payable(total, input.catalogue.rounding.mode)?,
        None => round(total, &input.catalogue.rounding, &mut own)?,
    };
    let (pools, unpriced, balances) = Default::default();
    Some(BillBody { items, lines: own, pools, unpriced, balances, total, payable, ..body.clone() })
}
