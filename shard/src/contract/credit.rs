//! Fixed amounts off, those with a balance, and the order in which credits are used (BILLING.md decision 17 and section
//! 1.6). Which charges they meet is the caller's.

use std::cmp::Reverse;

use super::document_scope::Per;
use crate::base::id::AccountId;
use crate::base::money::Money;
use crate::pricing::order::Stage;

/// An amount off a scope, pro rata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedDiscount {
    pub stage: Stage,
    /// Off each cycle, or in all.
    pub amount: Money,
    /// What one bill leaves is kept for the next.
    pub lasting: bool,
    pub per: Per,
}

/// An amount with a balance, used up charge by charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    pub stage: Stage,
    /// In all.
    pub amount: Money,
    pub owner: Option<AccountId>,
    /// Whether others than the owner may use it.
    pub sharing: bool,
    /// Lower first.
    pub priority: u32,
}

/// A charge that a credit may meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eligible<'a> {
    pub account: &'a AccountId,
    pub service: &'a str,
    /// Above zero.
    pub net: Money,
}

impl Credit {
    /// The order in which charges are met, as indexes: the owner's, then those of the account with the highest net;
    /// within an account the largest service, within a service the largest charge. `None` on overflow.
    pub fn order(&self, eligible: &[Eligible<'_>]) -> Option<Vec<usize>> {
        use std::collections::BTreeMap;
        let mut accounts: BTreeMap<&AccountId, Money> = BTreeMap::new();
        let mut services: BTreeMap<(&AccountId, &str), Money> = BTreeMap::new();
        for own in eligible {
            let account = accounts.entry(own.account).or_default();
            *account = account.checked_add(own.net)?;
            let service = services.entry((own.account, own.service)).or_default();
            *service = service.checked_add(own.net)?;
        }
        let mut order: Vec<usize> = (0..eligible.len()).collect();
        order.sort_by_key(|index| {
            let Eligible { account, service, net } = eligible[*index];
            let is_other = self.owner.as_ref() != Some(account);
            let by_account = (is_other, Reverse(accounts[account]), account);
            (by_account, Reverse(services[&(account, service)]), service, Reverse(net), *index)
        });
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_then_spend_then_service_then_charge() {
        fn check(owner: Option<&str>, rows: &[(&str, &str, &str)], expected: &[usize]) {
            let accounts: Vec<AccountId> = rows.iter().map(|row| AccountId::new(row.0).unwrap()).collect();
            let eligible: Vec<Eligible<'_>> = rows
                .iter()
                .zip(&accounts)
                .map(|((_, service, net), account)| Eligible { account, service, net: net.parse().unwrap() })
                .collect();
            let owner = owner.map(|id| AccountId::new(id).unwrap());
            let credit = Credit { stage: Stage::CreditsBefore, amount: Money::ONE, owner, sharing: true, priority: 0 };
            assert_eq!(credit.order(&eligible).unwrap(), expected, "{rows:?}");
        }
        // Jorge: EC2 100 before S3 50.
        check(None, &[("jorge", "ec2", "100"), ("jorge", "s3", "50")], &[0, 1]);
        check(None, &[("a", "s", "3"), ("b", "s", "9")], &[1, 0]);
        check(Some("a"), &[("a", "s", "3"), ("b", "s", "9")], &[0, 1]);
        check(None, &[("b", "s", "9"), ("a", "s", "9")], &[1, 0]);
        // The service's sum counts before the single charge.
        check(None, &[("a", "x", "5"), ("a", "y", "4"), ("a", "y", "3")], &[1, 2, 0]);
        check(None, &[("a", "y", "5"), ("a", "x", "5"), ("a", "x", "0.000000000001")], &[1, 2, 0]);
    }
}
