//! Tax tables: which rate a charge falls under (BILLING.md section 5).

use std::sync::Arc;

use super::scope::{Scope, Subject};
use crate::base::money::Rate;

/// Rates by scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tax {
    pub rates: Vec<TaxRate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaxRate {
    /// Name and jurisdiction.
    pub text: Arc<str>,
    pub scope: Scope,
    /// 0 to 1.
    pub share: Rate,
}

impl Tax {
    /// The first rate whose scope matches.
    pub fn rate_of(&self, subject: &Subject<'_>) -> Option<usize> {
        self.rates.iter().position(|rate| rate.scope.matches(subject))
    }
}
