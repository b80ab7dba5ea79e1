//! A contract ready for use: its clauses with their spans and scopes. It holds no index of a catalogue, since it outlives
//! versions of it. How a document becomes one lives in `compile.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::commitment::{Commitment, YEAR};
use super::credit::{Credit, FixedDiscount};
use super::currency::{Exchange, Invoicing};
use super::document::CreditKey;
use super::document_scope::Per;
use super::fee::{CustomLine, Fee, Limit, PercentFee};
use super::percent::Percent;
use super::prepayment::Prepayment;
use super::private_rate::PrivateRate;
use super::scope::{Scope, Subject};
use super::subscription::Subscription;
use super::tax::Tax;
use super::tiered_rate::TieredRate;
use super::volume::Volume;
use super::waiver::Waiver;
use crate::base::id::{AccountId, ClauseId, GroupName};
use crate::base::time::CycleId;
use crate::pricing::order::Stage;

/// One version of a hierarchy's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    pub root: AccountId,
    pub name: Option<Arc<str>>,
    /// First cycle of this version.
    pub effective: CycleId,
    /// First cycle that it no longer governs.
    pub until: Option<CycleId>,
    /// First cycle of its years, for prices whose pools last one; `None`, of a billing group's terms: each cycle.
    pub starts: Option<CycleId>,
    /// Wins over the catalogue's order.
    pub stages: Option<Vec<Stage>>,
    /// What credits of a stage are sorted by.
    pub credit_order: Vec<CreditKey>,
    /// In file order.
    pub clauses: Vec<Clause>,
    /// In file order.
    pub subscriptions: Vec<Subscription>,
    /// Billing groups with bills of their own beside the real ones, in file order.
    pub pro_forma: Vec<ProForma>,
    /// blake3 of the document's canonical form.
    pub hash: [u8; 32],
}

/// A billing group's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProForma {
    pub group: GroupName,
    /// Stands for the payer on the group's bill.
    pub account: AccountId,
    /// Its rules and lines; nothing else of the real contract applies.
    pub terms: Contract,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    pub id: ClauseId,
    /// What the bill's reader sees; the id where the document says nothing.
    pub text: Arc<str>,
    pub effective: CycleId,
    pub until: Option<CycleId>,
    pub scope: Scope,
    /// What is left out of the scope.
    pub exclude: Vec<Scope>,
    /// Of the clauses of one group the most granular that matches a line applies to it.
    pub exclusive_group: Option<Arc<str>>,
    pub mechanism: Mechanism,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    PrivateRate(PrivateRate),
    TieredRate(TieredRate),
    Percent(Box<Percent>),
    Waiver(Box<Waiver>),
    Volume(Volume),
    FixedDiscount(FixedDiscount),
    Credit(Credit),
    Commitment(Box<Commitment>),
    Prepayment(Prepayment),
    PercentFee(Box<PercentFee>),
    Fee(Fee),
    CustomLine(CustomLine),
    Minimum(Limit),
    Maximum(Limit),
    Tax(Tax),
    Currency(Box<Invoicing>),
}

impl Clause {
    /// The stages that apply it.
    pub fn stages(&self) -> &'static [Stage] {
        const fn one(stage: Stage) -> &'static [Stage] {
            match stage {
                Stage::AttributePercent => &[Stage::AttributePercent],
                Stage::ServicePercent => &[Stage::ServicePercent],
                Stage::CreditsBefore => &[Stage::CreditsBefore],
                Stage::CreditsAfter => &[Stage::CreditsAfter],
                _ => &[Stage::CrossServicePercent],
            }
        }
        match &self.mechanism {
            Mechanism::PrivateRate(_) | Mechanism::TieredRate(_) => &[Stage::PrivateRates],
            Mechanism::Percent(percent) => one(percent.stage),
            Mechanism::Waiver(_) => &[Stage::UsageWaiver],
            Mechanism::Volume(_) => &[Stage::Volume],
            Mechanism::FixedDiscount(fixed) => one(fixed.stage),
            Mechanism::Credit(credit) => one(credit.stage),
            Mechanism::Commitment(_) => &[Stage::CrossServicePercent, Stage::Shortfall],
            // What is bought comes behind everything that could settle it.
            Mechanism::Prepayment(own) if own.purchase.is_some() => &[Stage::Prepayment, Stage::Shortfall],
            Mechanism::Prepayment(_) => &[Stage::Prepayment],
            Mechanism::PercentFee(_) | Mechanism::Fee(_) | Mechanism::CustomLine(_) => &[Stage::Fees],
            Mechanism::Minimum(_) | Mechanism::Maximum(_) => &[Stage::Limits],
            Mechanism::Tax(_) => &[Stage::Tax],
            Mechanism::Currency(_) => &[Stage::Rounding],
        }
    }

    pub fn is_in_force(&self, cycle: CycleId) -> bool {
        self.effective <= cycle && self.until.is_none_or(|until| cycle < until)
    }

    /// In its scope and not excluded.
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        self.scope.matches(subject) && !self.exclude.iter().any(|scope| scope.matches(subject))
    }

    /// Percentages come before fixed amounts, those before lines by agreement.
    fn rank(&self) -> u8 {
        match &self.mechanism {
            Mechanism::CustomLine(_) => 2,
            Mechanism::FixedDiscount(_) | Mechanism::Fee(_) => 1,
            _ => 0,
        }
    }
}

impl Contract {
    /// True where the contract governs that cycle.
    pub fn is_in_force(&self, cycle: CycleId) -> bool {
        self.effective <= cycle && self.until.is_none_or(|until| cycle < until)
    }

    /// The clauses of a stage that are in force, in the order in which they apply.
    pub fn clauses_of(&self, stage: Stage, cycle: CycleId) -> Vec<&Clause> {
        let of_stage = |clause: &&Clause| clause.stages().contains(&stage) && clause.is_in_force(cycle);
        let mut clauses: Vec<&Clause> = self.clauses.iter().filter(of_stage).collect();
        clauses.sort_by_key(|clause| clause.rank());
        // From the last key to the first: each sort keeps what the one before put in order.
        for key in self.credit_order.iter().rev() {
            clauses.sort_by_key(|clause| {
                let Mechanism::Credit(credit) = &clause.mechanism else { return 0 };
                match key {
                    CreditKey::Priority => u64::from(credit.priority),
                    CreditKey::Expiry => clause.until.map_or(u64::MAX, |until| u64::from(until.ordinal())),
                    CreditKey::Services => clause.scope.services().map_or(u64::MAX, |count| count as u64),
                    CreditKey::Age => u64::from(clause.effective.ordinal()),
                }
            });
        }
        clauses
    }

    /// How a payer's bill of a cycle is converted; `None` where it is in the catalogue's currency.
    pub fn exchange(&self, payer: &AccountId, cycle: CycleId) -> Option<Exchange> {
        let own = |clause: &&Clause, named: bool| match &clause.mechanism {
            Mechanism::Currency(own) => own.payer.as_ref() == Some(payer).filter(|_| named),
            _ => false,
        };
        let in_force = || self.clauses.iter().filter(|clause| clause.is_in_force(cycle));
        let clause =
            in_force().find(|clause| own(clause, true)).or_else(|| in_force().find(|clause| own(clause, false)));
        clause.and_then(|clause| match &clause.mechanism {
            Mechanism::Currency(own) => Some(own.exchange(&clause.id, cycle)),
            _ => None,
        })
    }

    /// Whether something of it may be billed as soon as it is bought.
    pub fn has_purchases(&self) -> bool {
        let is_bought = |clause: &Clause| matches!(&clause.mechanism, Mechanism::Prepayment(prepayment) if prepayment.purchase.is_some());
        self.subscriptions.iter().any(|subscription| subscription.at_once) || self.clauses.iter().any(is_bought)
    }

    /// Whether what a contract year is short of is a bill of its own.
    pub fn bills_shortfalls(&self) -> bool {
        let is_own =
            |clause: &Clause| matches!(&clause.mechanism, Mechanism::Commitment(commitment) if commitment.own_bill);
        self.clauses.iter().any(is_own)
    }

    /// Names of the balances that its clauses may use on the bills of these payers.
    pub fn balances(&self, payers: &[AccountId]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for Clause { id, mechanism, until, .. } in &self.clauses {
            match mechanism {
                Mechanism::TieredRate(TieredRate { yearly: Some(yearly), per, .. })
                | Mechanism::Volume(Volume { yearly: Some(yearly), per, .. }) => {
                    names.extend(yearly.balances(id, *per, payers, *until));
                }
                Mechanism::FixedDiscount(fixed) if fixed.lasting && fixed.per == Per::Payer => {
                    names.extend(payers.iter().map(|payer| payer_balance(id, payer)));
                }
                Mechanism::FixedDiscount(FixedDiscount { lasting: true, .. }) | Mechanism::Credit(_) => {
                    names.insert(id.to_string());
                }
                Mechanism::Prepayment(prepayment) => {
                    names.insert(id.to_string());
                    names.extend(prepayment.purchase.as_ref().map(|_| bought_balance(id)));
                }
                Mechanism::Commitment(commitment) => {
                    for year in 0..commitment.years.len() as u32 {
                        let begins = CycleId::from_ordinal(commitment.starts.ordinal() + year * YEAR);
                        let [own, marketplace] = year_balances(id, begins.unwrap_or(commitment.starts));
                        names.insert(own);
                        names.extend(Some(marketplace).filter(|_| commitment.marketplace.is_some()));
                    }
                }
                _ => {}
            }
        }
        names
    }

    /// The clauses of a line's exclusive group that are in force and narrower than `clause`.
    pub fn narrower<'c>(&'c self, clause: &'c Clause, cycle: CycleId) -> impl Iterator<Item = &'c Clause> {
        let rivals = self.clauses.iter().filter(move |other| {
            clause.exclusive_group.is_some()
                && other.exclusive_group == clause.exclusive_group
                && other.is_in_force(cycle)
        });
        rivals.filter(|other| other.scope.granularity() > clause.scope.granularity())
    }
}

/// The balance of a payer's own part of a clause.
pub fn payer_balance(clause: &ClauseId, payer: &AccountId) -> String {
    format!("{clause}/{payer}")
}

/// The balance of what of a prepayment was bought.
pub fn bought_balance(clause: &ClauseId) -> String {
    format!("{clause}/bought")
}

/// The balances of a commitment's contract year: what was retired, and what the marketplace brought.
pub fn year_balances(clause: &ClauseId, begins: CycleId) -> [String; 2] {
    [format!("{clause}/{begins}"), format!("{clause}/{begins}/marketplace")]
}
