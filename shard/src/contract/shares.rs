//! What percentages charge together, fees, lines by agreement and taxes of one line: a bill must have room for it. A clause by
//! itself is checked in `compile_charges.rs`.

use super::compile::Compiler;
use super::conflicts::in_force_together;
use super::fee::Custom;
use super::scope::Scope;
use super::terms::{Clause, Mechanism};
use crate::base::money::Rate;
use crate::base::problem::Place;
use crate::base::wide::{Rounding, multiply_divide};

/// How many times what was used a bill may come to by percentages: lots of 10^25 units are 10^37 in steps of 10^-12, while
/// 128 bits hold 1.7 * 10^38.
const TIMES_MAX: i128 = 15;
/// Shares that are compared in pairs, each with each; more of them count as if all were of one line.
const PAIRED_MAX: usize = 1_000;

/// What a clause charges of the lines in a scope.
struct Share<'a> {
    clause: usize,
    scope: &'a Scope,
    share: Rate,
}

impl Compiler<'_> {
    /// Refuses percentages that could come to more than a bill can hold.
    pub(super) fn check_shares(&mut self, clauses: &[Clause]) {
        let (mut fees, mut taxes) = (Vec::new(), Vec::new());
        for (index, clause) in clauses.iter().enumerate() {
            let own = |scope, share| Share { clause: index, scope, share };
            match &clause.mechanism {
                Mechanism::PercentFee(fee) => {
                    let highest = fee.tiers.steps.iter().map(|step| step.rate).max();
                    fees.extend(highest.map(|share| own(&clause.scope, share)));
                }
                Mechanism::CustomLine(line) => {
                    if let Custom::Share { share, .. } = line.how {
                        fees.push(own(&clause.scope, share.max(Rate::ZERO)));
                    }
                }
                Mechanism::Tax(tax) => taxes.extend(tax.rates.iter().map(|rate| own(&rate.scope, rate.share))),
                _ => {}
            }
        }
        // Taxes are on fees too.
        let times = |fees: Rate, taxes: Rate| {
            let more = |share: Rate| Rate::ONE.0.saturating_add(share.0);
            multiply_divide(more(fees), more(taxes), Rate::ONE.0, Rounding::Up).unwrap_or(i128::MAX)
        };
        let most = TIMES_MAX * Rate::ONE.0;
        let all = |_: &Share<'_>, _: &Share<'_>| true;
        if times(together(&fees[..fees.len().min(1)], &fees, all), together(&taxes[..taxes.len().min(1)], &taxes, all))
            <= most
        {
            return;
        }
        let meet = |one: &Share<'_>, other: &Share<'_>| {
            let few = fees.len().max(taxes.len()) <= PAIRED_MAX;
            !few || in_force_together(&clauses[one.clause], &clauses[other.clause])
                && one.scope.can_overlap(other.scope)
        };
        let of_line = |shares: &[Share<'_>]| match shares.len() {
            ..=PAIRED_MAX => together(shares, shares, meet),
            _ => together(&shares[..1], shares, meet),
        };
        if times(of_line(&fees), of_line(&taxes)) > most {
            let message = format!(
                "the percentages of fees, lines and taxes may come to more than {TIMES_MAX} times what was used, which no \
                 bill can hold"
            );
            let help =
                "let rates of one tax clause, or tiers of one fee, take each other's place, or narrow their scopes";
            self.problems.error(&Place::top().key("clauses"), message, help);
        }
    }
}

/// The highest sum of what clauses charge beside one of some shares: of each clause that meets it its highest.
fn together(of: &[Share<'_>], all: &[Share<'_>], meet: impl Fn(&Share<'_>, &Share<'_>) -> bool) -> Rate {
    let sum = |one: &Share<'_>| {
        let by_clause = all.chunk_by(|a, b| a.clause == b.clause);
        let highest =
            by_clause.filter_map(|own| own.iter().filter(|other| meet(one, other)).map(|own| own.share.0).max());
        // At most as many as there are clauses, each at most 1.
        Rate(highest.sum())
    };
    of.iter().map(sum).max().unwrap_or(Rate::ZERO)
}
