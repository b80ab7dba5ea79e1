//! Accounts that a contract's clauses name as owners and bearers: they must belong to its hierarchy. Those in scopes are
//! patterns and may come later.

use super::document::{ClauseDocument, ContractDocument};
use crate::base::id::AccountId;
use crate::base::problem::{Place, Problem, Problems};

impl ContractDocument {
    /// A problem for each account that is named and not `known` in the hierarchy.
    pub fn check_accounts(&self, known: impl Fn(&AccountId) -> bool) -> Vec<Problem> {
        let mut problems = Problems::default();
        for (index, clause) in self.clauses.iter().enumerate() {
            let (field, account) = match clause {
                ClauseDocument::Credit(own) => ("account", &own.account),
                ClauseDocument::PercentFee(own) => ("account", &own.account),
                ClauseDocument::Fee(own) => ("account", &own.account),
                ClauseDocument::CustomLine(own) => ("account", &own.account),
                ClauseDocument::Commitment(own) => ("payer", &own.payer),
                ClauseDocument::Minimum(own) => ("payer", &own.payer),
                ClauseDocument::Currency(own) => ("payer", &own.payer),
                ClauseDocument::PrivateRate(_)
                | ClauseDocument::Percent(_)
                | ClauseDocument::Waiver(_)
                | ClauseDocument::Volume(_)
                | ClauseDocument::FixedDiscount(_)
                | ClauseDocument::Prepayment(_)
                | ClauseDocument::Maximum(_)
                | ClauseDocument::Tax(_) => continue,
            };
            if let Some(account) = account.as_ref().filter(|account| !known(account)) {
                problems.error(
                    &Place::top().key("clauses").index(index).key(field),
                    format!("clause {}: account '{account}' does not belong to hierarchy '{}'", clause.id(), self.root),
                    "add it to the hierarchy first, or name one that belongs to it",
                );
            }
        }
        for (index, own) in self.pro_forma.iter().enumerate() {
            let place = Place::top().key("pro_forma").index(index);
            let lines = own.lines.iter().enumerate();
            let bearers =
                lines.filter_map(|(index, line)| Some((place.key("lines").index(index), line.account.as_ref()?)));
            for (place, account) in std::iter::once((place.clone(), &own.account)).chain(bearers) {
                if !known(account) {
                    problems.error(
                        &place.key("account"),
                        format!(
                            "group {}: account '{account}' does not belong to hierarchy '{}'",
                            own.group, self.root
                        ),
                        "add it to the hierarchy first, or name one that belongs to it",
                    );
                }
            }
        }
        problems.into_vec()
    }
}
