//! Subscriptions: who takes which fee, or which SKU's minimum, from when to when (BILLING.md decision 2). How they are read
//! lives in `subscribe.rs`, what a fee comes to in `pricing/fee.rs`; the lines are made in `billing/fees.rs`.

use crate::base::id::{AccountId, ClauseId, GroupName, SkuId};
use crate::base::money::Quantity;
use crate::base::time::Period;
use crate::pricing::active::Span;

/// Someone takes something for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub id: ClauseId,
    pub who: Subscriber,
    pub what: Subscribed,
    pub span: Span,
    /// What is due is a bill of its own as soon as it is bought.
    pub at_once: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscriber {
    /// An account, a payer's own among them.
    Account(AccountId),
    /// A billing group; what it pays is on its payer's account.
    Group(AccountId, GroupName),
}

impl Subscriber {
    /// The account that the charges are on.
    pub fn account(&self) -> &AccountId {
        match self {
            Subscriber::Account(account) | Subscriber::Group(account, _) => account,
        }
    }
}

/// By id, since a contract outlives versions of its catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Fee(SkuId, Quantity),
    Sku(SkuId),
}

impl Subscription {
    /// Whether any instant of the period counts.
    pub fn is_active(&self, period: &Period) -> bool {
        self.span.from < period.until && self.span.to.is_none_or(|to| period.from < to)
    }
}
