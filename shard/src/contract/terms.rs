//! A contract compiled for use: its clauses in file order, checked by themselves and against a catalogue. It holds no
//! index of a catalogue, since it outlives versions of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{ClauseDocument, ContractDocument, PercentKind, ScopeDocument, TriggerDocument};
use super::percent::{Percent, Threshold, Trigger};
use super::private_rate::PrivateRate;
use super::scope::Scope;
use super::subscription::Subscription;
use crate::base::id::{AccountId, ClauseId};
use crate::base::money::{BadNumber, Money, Quantity, Rate, parse_scaled};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::time::CycleId;
use crate::pricing::catalogue::{Catalogue, Meter, Sku};
use crate::pricing::ladders::{number, rate, units};
use crate::pricing::limits::CLAUSES_MAX;
use crate::pricing::order::{Stage, check_order};

/// Highest spend that a trigger may ask for: 10^15 currency units, the most that one lot can cost.
const SPEND_MAX: Money = Money(crate::base::wide::power_of_ten(15 + crate::base::money::SCALE));

/// One version of a hierarchy's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    pub root: AccountId,
    pub name: Option<Arc<str>>,
    /// First cycle of this version.
    pub effective: CycleId,
    /// First cycle that it no longer governs.
    pub until: Option<CycleId>,
    /// Wins over the catalogue's order.
    pub stages: Option<Vec<Stage>>,
    /// In file order.
    pub clauses: Vec<Clause>,
    /// In file order.
    pub subscriptions: Vec<Subscription>,
    /// blake3 of the document's canonical form.
    pub hash: [u8; 32],
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
    pub mechanism: Mechanism,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    PrivateRate(PrivateRate),
    Percent(Box<Percent>),
}

impl Clause {
    /// The stage that applies it.
    pub fn stage(&self) -> Stage {
        match &self.mechanism {
            Mechanism::PrivateRate(_) => Stage::PrivateRates,
            Mechanism::Percent(percent) => percent.stage,
        }
    }

    pub fn is_in_force(&self, cycle: CycleId) -> bool {
        self.effective <= cycle && self.until.is_none_or(|until| cycle < until)
    }
}

impl Contract {
    /// Checks a document, against a catalogue where there is one, and makes it ready for use. All problems are told.
    pub fn compile(document: &ContractDocument, catalogue: Option<&Catalogue>) -> Result<Contract, Vec<Problem>> {
        let (contract, problems) = compile(document, catalogue);
        contract.ok_or(problems)
    }

    /// True where the contract governs that cycle.
    pub fn is_in_force(&self, cycle: CycleId) -> bool {
        self.effective <= cycle && self.until.is_none_or(|until| cycle < until)
    }

    /// The clauses of a stage that are in force, in file order.
    pub fn clauses_of(&self, stage: Stage, cycle: CycleId) -> impl Iterator<Item = &Clause> {
        self.clauses.iter().filter(move |clause| clause.stage() == stage && clause.is_in_force(cycle))
    }
}

impl ContractDocument {
    /// Everything that is wrong or doubtful in this document.
    pub fn check(&self, catalogue: Option<&Catalogue>) -> Vec<Problem> {
        compile(self, catalogue).1
    }
}

fn compile(document: &ContractDocument, catalogue: Option<&Catalogue>) -> (Option<Contract>, Vec<Problem>) {
    let mut compiler = Compiler { document, catalogue, problems: Problems::default() };
    let contract = compiler.run();
    let good = !compiler.problems.has_errors();
    (contract.filter(|_| good), compiler.problems.into_vec())
}

/// A document on its way to a contract; its subscriptions are read in `subscribe.rs`.
pub(super) struct Compiler<'a> {
    pub(super) document: &'a ContractDocument,
    pub(super) catalogue: Option<&'a Catalogue>,
    pub(super) problems: Problems,
}

impl Compiler<'_> {
    fn run(&mut self) -> Option<Contract> {
        let (document, top) = (self.document, Place::top());
        self.check_span(document.effective, document.until, "the contract", &top.key("until"));
        if let Some(stages) = &document.stages {
            check_order(stages, &top.key("stages"), &mut self.problems);
        }
        if document.clauses.len() > CLAUSES_MAX {
            let message = format!("{} clauses, at most {CLAUSES_MAX}", document.clauses.len());
            self.problems.error(&top.key("clauses"), message, "merge those of one rate with a wider scope");
        }
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut clauses = Vec::with_capacity(document.clauses.len());
        for (index, clause) in document.clauses.iter().enumerate() {
            let place = top.key("clauses").index(index);
            if let Some(first) = seen.get(clause.id()) {
                self.problems.error(
                    &place.key("id"),
                    format!("clause {} is declared twice, first at clauses[{first}]", clause.id()),
                    "give each its own id",
                );
            }
            seen.entry(clause.id()).or_insert(index);
            clauses.push(self.clause(clause, &place));
        }
        Some(Contract {
            root: document.root.clone(),
            name: document.name.as_deref().map(Arc::from),
            effective: document.effective,
            until: document.until,
            stages: document.stages.clone(),
            clauses: clauses.into_iter().collect::<Option<_>>()?,
            subscriptions: self.subscriptions().into_iter().collect::<Option<_>>()?,
            hash: *blake3::hash(&document.canonical()).as_bytes(),
        })
    }

    fn check_span(&mut self, from: CycleId, until: Option<CycleId>, what: &str, place: &Place) {
        if let Some(until) = until.filter(|until| *until <= from) {
            self.problems.error(
                place,
                format!("{what} is effective from {from} and ends before {until}: it governs no cycle"),
                "until names the first cycle that is no longer governed",
            );
        }
    }

    fn clause(&mut self, clause: &ClauseDocument, place: &Place) -> Option<Clause> {
        let (id, text, effective, until, scope) = match clause {
            ClauseDocument::PrivateRate { id, text, effective, until, scope, .. }
            | ClauseDocument::Percent { id, text, effective, until, scope, .. } => (id, text, effective, until, scope),
        };
        let read_id = ClauseId::new(id).map_err(|error| self.problems.refuse(&place.key("id"), error)).ok();
        let span = (effective.unwrap_or(self.document.effective), until.or(self.document.until));
        self.check_span(span.0, span.1, &format!("clause {id}"), &place.key("until"));
        let scope = self.scope(id, scope, &place.key("scope"));
        let mechanism = match clause {
            ClauseDocument::PrivateRate { rate: text, may_raise, .. } => {
                let place = place.key("rate");
                let rate = PrivateRate { rate: rate(text, &place, &mut self.problems), may_raise: *may_raise };
                if *may_raise {
                    self.check_ceilings(id, &rate, &scope, &place);
                }
                Mechanism::PrivateRate(rate)
            }
            ClauseDocument::Percent { kind, percent, exclude, trigger, .. } => {
                self.check_kind(id, *kind, &scope, place);
                let excluded = exclude.iter().enumerate();
                let exclude =
                    excluded.map(|(index, scope)| self.scope(id, scope, &place.key("exclude").index(index))).collect();
                let trigger = trigger.as_ref().map(|trigger| self.trigger(id, trigger, &place.key("trigger")));
                Mechanism::Percent(Box::new(Percent {
                    stage: kind.stage(),
                    share: self.share(percent, &place.key("percent")),
                    exclude,
                    trigger,
                }))
            }
        };
        let clause = Clause {
            text: text.as_deref().unwrap_or(id).into(),
            id: read_id?,
            effective: span.0,
            until: span.1,
            scope,
            mechanism,
        };
        let (stages, whose) = match &self.document.stages {
            Some(stages) => (Some(stages), "contract"),
            None => (self.catalogue.map(|catalogue| &catalogue.stages), "catalogue"),
        };
        if stages.is_some_and(|stages| !stages.contains(&clause.stage())) {
            self.problems.error(
                place,
                format!("clause {id} belongs to stage {}, which the {whose}'s stages leave out", clause.stage().name()),
                "add the stage to the contract's stages, or drop the clause",
            );
        }
        Some(clause)
    }

    fn scope(&mut self, id: &str, document: &ScopeDocument, place: &Place) -> Scope {
        let scope = Scope::compile(document, place, &mut self.problems);
        if let Some(catalogue) = self.catalogue
            && scope.reach(catalogue).next().is_none()
        {
            self.problems.error(
                place,
                format!("clause {id} can never match: catalogue {} has no sku and meter in this scope", catalogue.name),
                "correct the names, or use * where a part varies",
            );
        }
        scope
    }

    /// Percent to a share of one: at most 16 decimals are kept.
    fn share(&mut self, text: &str, place: &Place) -> Rate {
        const SCALE: u32 = crate::base::money::RATE_SCALE - 2;
        let read: Result<i128, BadNumber> = parse_scaled(text, SCALE);
        match read {
            Err(error) => self.problems.refuse(place, error),
            Ok(share) if share < 0 => {
                let help = "a discount takes off; write 0 to 100";
                self.problems.error(place, format!("percent {text} is below zero"), help);
            }
            Ok(share) if share > Rate::ONE.0 => {
                let help = "write 0 to 100; a discount never takes a line below zero";
                self.problems.error(place, format!("percent {text} is above 100"), help);
            }
            Ok(share) => return Rate(share),
        }
        Rate::ZERO
    }

    fn check_kind(&mut self, id: &str, kind: PercentKind, scope: &Scope, place: &Place) {
        let (wrong, what, help) = match kind {
            PercentKind::Attribute => {
                let help =
                    "name sku, usage_type, operation, region or attributes, or use kind: service or cross_service";
                (!scope.names_attribute(), "attribute", help)
            }
            PercentKind::Service => (!scope.names_service(), "service", "name the service, or use kind: cross_service"),
            PercentKind::CrossService => return,
        };
        if wrong {
            self.problems.error(&place.key("scope"), format!("clause {id} is of kind {what} and names none"), help);
        }
    }

    fn trigger(&mut self, id: &str, document: &TriggerDocument, place: &Place) -> Trigger {
        let scope = self.scope(id, &document.scope, &place.key("scope"));
        let threshold = match (&document.spend, &document.quantity) {
            (Some(text), None) => {
                Threshold::Spend(number(text, "spend", SPEND_MAX, &place.key("spend"), &mut self.problems))
            }
            (None, Some(text)) => {
                self.one_unit(id, &scope, &place.key("quantity"));
                Threshold::Quantity(units(text, "quantity", &place.key("quantity"), &mut self.problems))
            }
            (spend, _) => {
                let what = if spend.is_some() { "both spend and quantity" } else { "neither spend nor quantity" };
                self.problems.error(place, format!("the trigger of clause {id} has {what}"), "state one of them");
                Threshold::Quantity(Quantity::ZERO)
            }
        };
        Trigger { scope, threshold, bound: document.bound, per: document.per }
    }

    /// A quantity over several units has no meaning.
    fn one_unit(&mut self, id: &str, scope: &Scope, place: &Place) {
        let Some(catalogue) = self.catalogue else { return };
        let reach = scope.reach(catalogue);
        let units: BTreeMap<&str, &str> = reach.map(|(_, sku)| (&*sku.unit, sku.id.as_str())).collect();
        if units.len() > 1 {
            let listed: Vec<String> = units.iter().map(|(unit, sku)| format!("{unit} ({sku})")).collect();
            self.problems.error(
                place,
                format!("the trigger of clause {id} adds up different units: {}", listed.join(", ")),
                "narrow its scope to one unit, or use spend",
            );
        }
    }

    /// A rate that may raise can cost more than any public one, so a full counter must still fit.
    fn check_ceilings(&mut self, id: &str, private: &PrivateRate, scope: &Scope, place: &Place) {
        let Some(catalogue) = self.catalogue else { return };
        let over = |(meter, sku): &(&Meter, &Sku)| meter.ceiling_at(&sku.convert, private.rate) < meter.ceiling;
        if let Some((meter, sku)) = scope.reach(catalogue).find(over) {
            self.problems.error(
                place,
                format!(
                    "clause {id} may raise sku {} to {}: a full counter of meter {} would then cost more than a bill holds",
                    sku.id, private.rate, meter.id
                ),
                "lower the rate, or drop may_raise",
            );
        }
    }
}

#[cfg(test)]
#[path = "terms_test.rs"]
mod tests;
