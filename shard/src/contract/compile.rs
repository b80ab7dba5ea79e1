//! From a contract's document to a contract: every clause checked by itself and against a catalogue. Discounts are here,
//! what charges and what has a balance in `compile_charges.rs`, what clauses are to each other in `conflicts.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{ClauseDocument, ContractDocument, CreditKey};
use super::document_clause::{
    Measure, PercentDocument, PercentKind, PrivateRateDocument, VolumeDocument, WaiverDocument, WaiverPeriod,
};
use super::document_scope::{BandDocument, Climb, LadderPeriod, ScopeDocument, TriggerDocument};
use super::percent::{Percent, Threshold, Trigger};
use super::private_rate::PrivateRate;
use super::scope::Scope;
use super::steps::{Step, Steps};
use super::terms::{Clause, Contract, Mechanism};
use super::tiered_rate::TieredRate;
use super::volume::Volume;
use super::waiver::Waiver;
use super::year::{Climbed, POOL_BALANCES, YEARS_MAX, Yearly};
use crate::base::id::ClauseId;
use crate::base::money::{BadNumber, Money, Quantity, RATE_SCALE, Rate, SCALE, parse_scaled};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::time::CycleId;
use crate::base::wide::power_of_ten;
use crate::pricing::catalogue::{Catalogue, Meter, Sku};
use crate::pricing::document::{Aggregation, Bucket};
use crate::pricing::ladders::{number, rate, units};
use crate::pricing::limits::{BOUND_MAX, CLAUSES_MAX, TIERS_MAX};
use crate::pricing::order::check_order;

/// Highest amount in a contract: 10^15 currency units, the most that one lot can cost. All clauses together stay below
/// 10^19 units, 10^31 in steps of 10^-12.
pub(super) const AMOUNT_MAX: Money = Money(power_of_ten(15 + SCALE));

impl Contract {
    /// Checks a document, against a catalogue where there is one, and makes it ready for use; the same with and without a
    /// catalogue. All problems are told.
    pub fn compile(document: &ContractDocument, catalogue: Option<&Catalogue>) -> Result<Contract, Vec<Problem>> {
        let (contract, problems) = compile(document, catalogue);
        contract.ok_or(problems)
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

pub(super) struct Compiler<'a> {
    pub(super) document: &'a ContractDocument,
    pub(super) catalogue: Option<&'a Catalogue>,
    pub(super) problems: Problems,
}

impl Compiler<'_> {
    fn run(&mut self) -> Option<Contract> {
        let (document, top) = (self.document, Place::top());
        self.check_span(document.effective, document.until, "the contract", &top.key("until"));
        if let Some(starts) = document.starts.filter(|starts| *starts > document.effective) {
            let message =
                format!("the contract counts years from {starts}, but is effective from {}", document.effective);
            self.problems.error(&top.key("starts"), message, "let it begin with its first year, or in one");
        }
        if let Some(stages) = &document.stages {
            check_order(stages, &top.key("stages"), &mut self.problems);
        }
        let credit_order = self.credit_order(&top.key("credit_order"));
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
            if clause.id().starts_with(POOL_BALANCES) {
                let message = format!("clause {} has an id that begins with {POOL_BALANCES}", clause.id());
                self.problems.error(&place.key("id"), message, "give it another; balances of pools begin like that");
            }
            seen.entry(clause.id()).or_insert(index);
            clauses.push(self.clause(clause, &place));
        }
        let clauses: Vec<Clause> = clauses.into_iter().collect::<Option<_>>()?;
        self.check_conflicts(&clauses);
        self.check_currencies(&clauses);
        self.check_shares(&clauses);
        let hash = *blake3::hash(&document.canonical()).as_bytes();
        Some(Contract {
            root: document.root.clone(),
            name: document.name.as_deref().map(Arc::from),
            effective: document.effective,
            until: document.until,
            starts: Some(document.starts.unwrap_or(document.effective)),
            stages: document.stages.clone(),
            credit_order,
            clauses,
            subscriptions: self.subscriptions().into_iter().collect::<Option<_>>()?,
            pro_forma: self.pro_forma(hash)?,
            hash,
        })
    }

    fn credit_order(&mut self, place: &Place) -> Vec<CreditKey> {
        let Some(order) = &self.document.credit_order else {
            return vec![CreditKey::Priority, CreditKey::Expiry, CreditKey::Services, CreditKey::Age];
        };
        for (index, key) in order.iter().enumerate() {
            if order[..index].contains(key) {
                self.problems.error(&place.index(index), "a key of the order is listed twice", "list each once");
            }
        }
        order.clone()
    }

    pub(super) fn check_span(&mut self, from: CycleId, until: Option<CycleId>, what: &str, place: &Place) {
        if let Some(until) = until.filter(|until| *until <= from) {
            self.problems.error(
                place,
                format!("{what} is effective from {from} and ends before {until}: it governs no cycle"),
                "until names the first cycle that is no longer governed",
            );
        }
    }

    fn clause(&mut self, document: &ClauseDocument, place: &Place) -> Option<Clause> {
        let heading = document.heading();
        let id = heading.id;
        let read_id = ClauseId::new(id).map_err(|error| self.problems.refuse(&place.key("id"), error)).ok();
        let (effective, until) =
            (heading.effective.unwrap_or(self.document.effective), heading.until.or(self.document.until));
        self.check_span(effective, until, &format!("clause {id}"), &place.key("until"));
        let (scope, excluded, group) = match document {
            ClauseDocument::PrivateRate(own) => (Some(&own.scope), &[][..], &own.exclusive_group),
            ClauseDocument::Percent(own) => (Some(&own.scope), &own.exclude[..], &own.exclusive_group),
            ClauseDocument::Waiver(own) => (Some(&own.target), &[][..], &None),
            ClauseDocument::Volume(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::FixedDiscount(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::Credit(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::Commitment(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::Prepayment(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::PercentFee(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::Minimum(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::Maximum(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::CustomLine(own) => (Some(&own.scope), &own.exclude[..], &None),
            ClauseDocument::Fee(_) | ClauseDocument::Tax(_) | ClauseDocument::Currency(_) => (None, &[][..], &None),
        };
        let field = if matches!(document, ClauseDocument::Waiver(_)) { "target" } else { "scope" };
        let scope = scope.map_or_else(Scope::default, |scope| self.scope(id, scope, &place.key(field)));
        let exclude = excluded.iter().enumerate();
        let exclude = exclude.map(|(index, scope)| self.scope(id, scope, &place.key("exclude").index(index))).collect();
        let mechanism = match document {
            ClauseDocument::PrivateRate(own) => self.private_rate(id, own, &scope, effective, place),
            ClauseDocument::Percent(own) => self.percent(id, own, &scope, place),
            ClauseDocument::Waiver(own) => self.waiver(id, own, &scope, place),
            ClauseDocument::Volume(own) => self.volume(id, own, &scope, effective, place),
            ClauseDocument::FixedDiscount(own) => self.fixed_discount(id, own, &scope, place),
            ClauseDocument::Credit(own) => self.credit(id, own, place),
            ClauseDocument::Commitment(own) => self.commitment(id, own, effective, place),
            ClauseDocument::Prepayment(own) => self.prepayment(id, own, place),
            ClauseDocument::PercentFee(own) => self.percent_fee(id, own, (effective, until), place),
            ClauseDocument::Fee(own) => self.fee(own, place),
            ClauseDocument::CustomLine(own) => self.custom_line(id, own, place),
            ClauseDocument::Minimum(own) => self.minimum(own, (effective, until), place),
            ClauseDocument::Maximum(own) => self.maximum(own, (effective, until), place),
            ClauseDocument::Tax(own) => self.tax(id, own, place),
            ClauseDocument::Currency(own) => self.currency(own, effective, place),
        };
        let until = self.last_year(id, &mechanism, until, place);
        let (text, exclusive_group) = (heading.text.unwrap_or(id).into(), group.as_deref().map(Arc::from));
        let clause = Clause { text, id: read_id?, effective, until, scope, exclude, exclusive_group, mechanism };
        self.check_stages(&clause, place);
        Some(clause)
    }

    /// A ladder by contract year ends with its last year.
    fn last_year(&mut self, id: &str, mechanism: &Mechanism, until: Option<CycleId>, place: &Place) -> Option<CycleId> {
        let yearly = match mechanism {
            Mechanism::TieredRate(rate) => rate.yearly,
            Mechanism::Volume(volume) => volume.yearly,
            _ => None,
        };
        let Some(end) = yearly.and_then(|yearly| yearly.end()) else { return until };
        if let Some(until) = until.filter(|until| *until > end) {
            self.problems.error(
                &place.key("until"),
                format!(
                    "clause {id} has more than {YEARS_MAX} contract years: the last ends before {end}, not {until}"
                ),
                "end it by then; a later version of the contract may begin years of its own",
            );
        }
        Some(until.map_or(end, |until| until.min(end)))
    }

    /// The years of a ladder that goes on over them.
    fn yearly(
        &mut self,
        id: &str,
        period: LadderPeriod,
        starts: Option<CycleId>,
        of: Climbed,
        effective: CycleId,
        place: &Place,
    ) -> Option<Yearly> {
        if let Some(starts) = starts {
            let place = place.key("starts");
            if period == LadderPeriod::Cycle {
                let message = format!("clause {id} says where its years start, but its ladder is of the cycle");
                self.problems.error(&place, message, "state period: contract_year, or drop starts");
            } else if starts > effective {
                let message = format!("clause {id} counts years from {starts}, but is effective from {effective} on");
                self.problems.error(&place, message, "let the clause begin with its first contract year");
            }
        }
        (period == LadderPeriod::ContractYear).then(|| Yearly { starts: starts.unwrap_or(effective), of })
    }

    fn check_stages(&mut self, clause: &Clause, place: &Place) {
        let (stages, whose) = match &self.document.stages {
            Some(stages) => (Some(stages), "contract"),
            None => (self.catalogue.map(|catalogue| &catalogue.stages), "catalogue"),
        };
        let missing = |own: &&crate::pricing::order::Stage| stages.is_some_and(|stages| !stages.contains(own));
        for stage in clause.stages().iter().filter(missing) {
            let (id, stage) = (&clause.id, stage.name());
            self.problems.error(
                place,
                format!("clause {id} belongs to stage {stage}, which the {whose}'s stages leave out"),
                "add the stage to the contract's stages, or drop the clause",
            );
        }
    }

    pub(super) fn scope(&mut self, id: &str, document: &ScopeDocument, place: &Place) -> Scope {
        let scope = Scope::compile(document, place, &mut self.problems);
        if let Some(catalogue) = self.catalogue
            && scope.reach(catalogue).next().is_none()
            && !self.document.clauses.iter().any(|clause| charges_in(clause, &scope))
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
    pub(super) fn share(&mut self, text: &str, place: &Place) -> Rate {
        let share = self.signed_share(text, place);
        if share < Rate::ZERO {
            let help = "a discount takes off; write 0 to 100";
            self.problems.error(place, format!("percent {text} is below zero"), help);
            return Rate::ZERO;
        }
        share
    }

    /// The same from -100 on.
    pub(super) fn signed_share(&mut self, text: &str, place: &Place) -> Rate {
        let read: Result<i128, BadNumber> = parse_scaled(text, RATE_SCALE - 2);
        match read {
            Err(error) => self.problems.refuse(place, error),
            Ok(share) if share > Rate::ONE.0 => {
                let help = "write 0 to 100; a discount never takes a line below zero";
                self.problems.error(place, format!("percent {text} is above 100"), help);
            }
            Ok(share) if share < -Rate::ONE.0 => {
                self.problems.error(place, format!("percent {text} is below -100"), "write -100 to 100");
            }
            Ok(share) => return Rate(share),
        }
        Rate::ZERO
    }

    pub(super) fn amount(&mut self, text: &str, field: &'static str, place: &Place) -> Money {
        number(text, field, AMOUNT_MAX, &place.key(field), &mut self.problems)
    }

    fn private_rate(
        &mut self,
        id: &str,
        own: &PrivateRateDocument,
        scope: &Scope,
        effective: CycleId,
        place: &Place,
    ) -> Mechanism {
        let may_raise = own.may_raise;
        match (&own.rate, own.tiers.is_empty()) {
            (Some(text), true) => {
                for (field, given) in [
                    ("model", own.model.is_some()),
                    ("bound", own.bound.is_some()),
                    ("per", own.per.is_some()),
                    ("period", own.period.is_some()),
                    ("starts", own.starts.is_some()),
                ] {
                    if given {
                        let message = format!("clause {id} has one rate, which has no {field}");
                        self.problems.error(&place.key(field), message, format!("drop {field}, or list tiers"));
                    }
                }
                let place = place.key("rate");
                let rate = rate(text, &place, &mut self.problems);
                self.check_ceilings(id, rate, may_raise, scope, &place);
                Mechanism::PrivateRate(PrivateRate { rate, may_raise })
            }
            (None, false) => {
                let (place_of_clause, place) = (place, place.key("tiers"));
                self.one_unit(id, scope, &place);
                let mut rows = Vec::with_capacity(own.tiers.len());
                for (index, tier) in own.tiers.iter().enumerate() {
                    let place = place.index(index);
                    let end = tier.up_to.as_ref();
                    let end = end.map(|text| units(text, "up_to", &place.key("up_to"), &mut self.problems).0);
                    rows.push((end, rate(&tier.rate, &place.key("rate"), &mut self.problems)));
                }
                let steps = self.steps(id, "tier", rows, &place);
                let highest = steps.iter().map(|step| step.rate).max().unwrap_or_default();
                self.check_ceilings(id, highest, may_raise, scope, &place);
                let (climb, bound) = (own.model.unwrap_or(Climb::Graduated), own.bound.unwrap_or_default());
                let (tiers, period) = (Steps { climb, bound, steps }, own.period.unwrap_or_default());
                let yearly = self.yearly(id, period, own.starts, Climbed::Units, effective, place_of_clause);
                Mechanism::TieredRate(TieredRate { tiers, per: own.per.unwrap_or_default(), yearly, may_raise })
            }
            (rate, _) => {
                let what = if rate.is_some() { "both rate and tiers" } else { "neither rate nor tiers" };
                self.problems.error(place, format!("clause {id} has {what}"), "state one of them");
                Mechanism::PrivateRate(PrivateRate { rate: Rate::ZERO, may_raise })
            }
        }
    }

    /// Tiers or bands from the ends and rates of their rows.
    pub(super) fn steps(&mut self, id: &str, what: &str, rows: Vec<(Option<i128>, Rate)>, place: &Place) -> Vec<Step> {
        let count = rows.len();
        if count == 0 || count > TIERS_MAX {
            let help = format!("list 1 to {TIERS_MAX}, lowest first; the last without up_to");
            self.problems.error(place, format!("clause {id} has {count} {what}s"), help);
            return Steps::one(Rate::ZERO).steps;
        }
        let (mut begin, mut steps) = (0, Vec::with_capacity(count));
        for (index, (end, rate)) in rows.into_iter().enumerate() {
            let (last, place) = (index + 1 == count, place.index(index).key("up_to"));
            match end {
                Some(_) if last => self.problems.error(
                    &place,
                    format!("the last {what} of clause {id} ends: what lies beyond would have none"),
                    format!("drop up_to from the last {what}"),
                ),
                None if !last => self.problems.error(
                    &place,
                    format!("{what} {} of clause {id} has no up_to, but more follow", index + 1),
                    format!("state where it ends; only the last {what} is open"),
                ),
                Some(end) if end <= begin => {
                    let (end, begin) = (Quantity(end), Quantity(begin));
                    self.problems.error(
                        &place,
                        format!("{what} {} of clause {id} ends at {end}, not above {begin} where it begins", index + 1),
                        format!("sort the {what}s, lowest first; each begins where the one before ends"),
                    );
                }
                _ => {}
            }
            let end = if last { None } else { Some(end.unwrap_or(begin)) };
            steps.push(Step { begin, end, rate });
            begin = end.unwrap_or(begin);
        }
        steps
    }

    /// Bands of percentages over amounts or quantities.
    pub(super) fn bands(
        &mut self,
        id: &str,
        what: &str,
        bands: &[BandDocument],
        max: i128,
        place: &Place,
    ) -> Vec<Step> {
        let mut rows = Vec::with_capacity(bands.len());
        for (index, band) in bands.iter().enumerate() {
            let place = place.index(index);
            let end = band.up_to.as_ref();
            let end = end.map(|text| number(text, "up_to", Quantity(max), &place.key("up_to"), &mut self.problems).0);
            rows.push((end, self.share(&band.percent, &place.key("percent"))));
        }
        self.steps(id, what, rows, place)
    }

    fn percent(&mut self, id: &str, own: &PercentDocument, scope: &Scope, place: &Place) -> Mechanism {
        self.check_kind(id, own.kind, scope, place);
        let trigger = own.trigger.as_ref().map(|trigger| self.trigger(id, trigger, &place.key("trigger")));
        let share = self.share(&own.percent, &place.key("percent"));
        Mechanism::Percent(Box::new(Percent { stage: own.kind.stage(), share, base: own.base, trigger }))
    }

    fn waiver(&mut self, id: &str, own: &WaiverDocument, target: &Scope, place: &Place) -> Mechanism {
        let source = self.scope(id, &own.source, &place.key("source"));
        self.one_unit(id, &source, &place.key("source"));
        self.one_unit(id, target, &place.key("target"));
        if let Some(catalogue) = self.catalogue
            && source.can_meet(target, catalogue)
        {
            self.problems.error(
                &place.key("target"),
                format!("clause {id} waives itself: the same usage can be its source and its target"),
                "narrow the scopes until nothing is in both",
            );
        }
        let mut positive = |text: &str, field: &'static str| {
            let place = place.key(field);
            let read = units(text, field, &place, &mut self.problems);
            if read.is_zero() && !self.problems.has_errors() {
                self.problems.error(&place, format!("clause {id} has {field} of zero"), "write more than zero");
            }
            read.max(Quantity(1))
        };
        let source_units = positive(&own.source_units, "source_units");
        let target_units = positive(&own.target_units, "target_units");
        let share = self.share(&own.percent, &place.key("percent"));
        let hourly = own.period == WaiverPeriod::Hour;
        if hourly {
            self.keeps_hours(id, &source, &place.key("source"));
            self.keeps_hours(id, target, &place.key("target"));
        }
        Mechanism::Waiver(Box::new(Waiver { source, source_units, target_units, share, per: own.per, hourly }))
    }

    fn volume(
        &mut self,
        id: &str,
        own: &VolumeDocument,
        scope: &Scope,
        effective: CycleId,
        place: &Place,
    ) -> Mechanism {
        let max = match own.measure {
            Measure::Spend => AMOUNT_MAX.0,
            Measure::Quantity => {
                self.one_unit(id, scope, &place.key("scope"));
                BOUND_MAX.0
            }
        };
        let steps = self.bands(id, "band", &own.bands, max, &place.key("bands"));
        let bands = Steps { climb: own.model, bound: own.bound, steps };
        let of = match own.measure {
            Measure::Spend => Climbed::Spend,
            Measure::Quantity => Climbed::Units,
        };
        let yearly = self.yearly(id, own.period, own.starts, of, effective, place);
        Mechanism::Volume(Volume { measure: own.measure, bands, per: own.per, yearly })
    }

    pub(super) fn check_kind(&mut self, id: &str, kind: PercentKind, scope: &Scope, place: &Place) {
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
            (Some(text), None) => Threshold::Spend(self.amount(text, "spend", place)),
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

    /// What is used hour by hour must be counted so.
    fn keeps_hours(&mut self, id: &str, scope: &Scope, place: &Place) {
        let Some(catalogue) = self.catalogue else { return };
        let is_coarse = |meter: &Meter| {
            let sums = matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count);
            !sums || !matches!(meter.bucket, Bucket::Hour | Bucket::FiveMinutes)
        };
        if let Some((meter, _)) = scope.reach(catalogue).find(|(meter, _)| is_coarse(meter)) {
            self.problems.error(
                place,
                format!("clause {id} is used hour by hour, but meter {} does not count a sum by the hour", meter.id),
                "let the meter keep hours, narrow the scope, or drop period",
            );
        }
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
                format!("clause {id} adds up different units here: {}", listed.join(", ")),
                "narrow the scope to one unit",
            );
        }
    }

    /// A rate that may raise can cost more than any public one, so a full counter must still fit.
    fn check_ceilings(&mut self, id: &str, private: Rate, may_raise: bool, scope: &Scope, place: &Place) {
        let Some(catalogue) = self.catalogue.filter(|_| may_raise) else { return };
        let over = |(meter, sku): &(&Meter, &Sku)| meter.ceiling_at(&sku.convert, private) < meter.ceiling;
        if let Some((meter, sku)) = scope.reach(catalogue).find(over) {
            self.problems.error(
                place,
                format!(
                    "clause {id} may raise sku {} to {private}: a full counter of meter {} would then cost more than a bill holds",
                    sku.id, meter.id
                ),
                "lower the rate, or drop may_raise",
            );
        }
    }
}

/// Whether what a clause itself charges can be in a scope.
fn charges_in(clause: &ClauseDocument, scope: &Scope) -> bool {
    let service = match clause {
        ClauseDocument::PercentFee(own) => &own.service,
        ClauseDocument::Fee(own) => &own.service,
        ClauseDocument::CustomLine(own) => &own.service,
        ClauseDocument::Minimum(own) => &own.service,
        ClauseDocument::Commitment(_) => &None,
        _ => return false,
    };
    scope.can_match_charge(service.as_deref().unwrap_or(clause.id()), clause.id())
}

#[cfg(test)]
#[path = "terms_test.rs"]
mod tests;
