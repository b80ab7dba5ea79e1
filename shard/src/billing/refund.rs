//! What of a bill is paid back (BILLING.md decision 16): a document of one line that names the bill. It is no part of what a
//! cycle's bills sum to, and changes no balance.

use std::sync::Arc;

use super::bill::{BillBody, Line, Refunded, Source};
use super::codec::{body_hash, encode};
use super::kind::Refund;
use crate::base::money::{Money, checked_sum};
use crate::pricing::order::Stage;

/// The refund of a bill: cut to what the bill's payable leaves after earlier refunds, in its currency. `None` where that
/// is nothing.
pub fn refund(billed: &BillBody, earlier: &[BillBody], asked: &Refund) -> Option<BillBody> {
    let of = body_hash(&encode(billed));
    let of_bill = |own: &&BillBody| own.refund.as_ref().is_some_and(|own| own.body == of && own.number == asked.number);
    // Refunds are below zero.
    let back = checked_sum(earlier.iter().filter(of_bill).map(|own| own.payable))?;
    let left = billed.payable.checked_add(back)?;
    let amount = asked.amount.min(left);
    if amount <= Money::ZERO {
        return None;
    }
    let line = Line {
        id: 1,
        stage: Stage::Rounding,
        item: None,
        source: Source::Refund { number: asked.number },
        quantity: None,
        rate: None,
        amount: -amount,
        pool: None,
        from: Vec::new(),
    };
    let (items, pools, unpriced, balances) = Default::default();
    Some(BillBody {
        difference: None,
        exchange: None,
        refund: Some(Refunded {
            number: asked.number,
            body: of,
            asked: asked.amount,
            left: left.checked_sub(amount)?,
            reason: Arc::from(asked.reason.as_str()),
            reference: Arc::from(asked.reference.as_str()),
        }),
        items,
        pools,
        lines: vec![line],
        unpriced,
        balances,
        total: -amount,
        payable: -amount,
        ..billed.clone()
    })
}
