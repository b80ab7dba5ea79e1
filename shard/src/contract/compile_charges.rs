//! Clauses that have a balance or charge something, checked: fixed amounts, credits, commitments, prepayments, fees,
//! limits and taxes. The rest of the compiler lives in `compile.rs`.

use super::commitment::Commitment;
use super::compile::{AMOUNT_MAX, Compiler};
use super::credit::{Credit, FixedDiscount};
use super::document_clause::{
    CommitmentDocument, CreditDocument, CreditStage, CustomLineDocument, FeeDocument, FeePer, FixedDiscountDocument,
    MaximumDocument, MinimumDocument, PercentFeeDocument, PrepaymentDocument, TaxDocument,
};
use super::document_scope::Climb;
use super::fee::{Custom, CustomLine, Fee, Limit, PercentFee};
use super::prepayment::{Prepayment, Purchase};
use super::scope::Scope;
use super::steps::Steps;
use super::tax::{Tax, TaxRate};
use super::terms::Mechanism;
use crate::base::id::check_name;
use crate::base::money::{Money, Rate};
use crate::base::problem::Place;
use crate::base::time::{CycleId, Timestamp};
use crate::pricing::active::{Prorating, Span};
use crate::pricing::document::Bound;
use crate::pricing::document_fee::Prorate;
use crate::pricing::ladders::{number, units};
use crate::pricing::order::Stage;

/// Years of a commitment: the longest known have five.
const YEARS_MAX: usize = 20;
/// A clause's first cycle, and the first without it.
pub(super) type ClauseSpan = (CycleId, Option<CycleId>);

/// Rates of one tax table: each line looks for the first that matches.
const TAX_RATES_MAX: usize = 1_000;

impl Compiler<'_> {
    pub(super) fn fixed_discount(
        &mut self,
        id: &str,
        own: &FixedDiscountDocument,
        scope: &Scope,
        place: &Place,
    ) -> Mechanism {
        self.check_kind(id, own.kind, scope, place);
        let amount = self.amount(&own.amount, "amount", place);
        Mechanism::FixedDiscount(FixedDiscount { stage: own.kind.stage(), amount, lasting: own.lasting, per: own.per })
    }

    pub(super) fn credit(&mut self, id: &str, own: &CreditDocument, place: &Place) -> Mechanism {
        if !own.sharing && own.account.is_none() {
            let message = format!("clause {id} is not shared and has no account: nobody could use it");
            self.problems.error(&place.key("sharing"), message, "name its account, or drop sharing");
        }
        Mechanism::Credit(Credit {
            stage: match own.stage {
                CreditStage::Before => Stage::CreditsBefore,
                CreditStage::After => Stage::CreditsAfter,
            },
            amount: self.amount(&own.amount, "amount", place),
            owner: own.account.clone(),
            sharing: own.sharing,
            priority: own.priority,
        })
    }

    pub(super) fn commitment(
        &mut self,
        id: &str,
        own: &CommitmentDocument,
        effective: CycleId,
        place: &Place,
    ) -> Mechanism {
        let starts = own.starts.unwrap_or(effective);
        if starts > effective {
            let message = format!("clause {id} counts years from {starts}, but is effective from {effective} on");
            self.problems.error(&place.key("starts"), message, "let the clause begin with its first contract year");
        }
        let years_place = place.key("years");
        if own.years.is_empty() || own.years.len() > YEARS_MAX {
            let message = format!("clause {id} has {} years", own.years.len());
            self.problems.error(&years_place, message, format!("list the amounts of 1 to {YEARS_MAX} years"));
        }
        let mut years = Vec::with_capacity(own.years.len());
        for (index, text) in own.years.iter().enumerate() {
            years.push(number(text, "year", AMOUNT_MAX, &years_place.index(index), &mut self.problems));
        }
        let marketplace = own.marketplace.as_ref().map(|scope| self.scope(id, scope, &place.key("marketplace")));
        let marketplace_share = number(
            &own.marketplace_share,
            "marketplace_share",
            Rate::ONE,
            &place.key("marketplace_share"),
            &mut self.problems,
        );
        Mechanism::Commitment(Box::new(Commitment {
            share: self.share(&own.percent, &place.key("percent")),
            base: own.base,
            prorate: own.prorate,
            starts,
            years,
            marketplace,
            marketplace_share,
            credits_reduce: own.credits_reduce,
            payer: own.payer.clone(),
            own_bill: own.own_bill,
        }))
    }

    pub(super) fn prepayment(&mut self, id: &str, own: &PrepaymentDocument, place: &Place) -> Mechanism {
        let share = self.share(&own.percent, &place.key("percent"));
        if share == Rate::ONE {
            let help = "write less than 100; nothing would ever be drawn from the balance";
            self.problems.error(&place.key("percent"), "a prepayment at 100 percent settles without end", help);
        }
        let share = if share == Rate::ONE { Rate::ZERO } else { share };
        if own.payer.is_some() && !own.purchase {
            let help = "add purchase: true, or drop payer; what is settled is on every payer's bill";
            self.problems.error(&place.key("payer"), "nothing of the prepayment is charged to a payer", help);
        }
        let amount = self.amount(&own.amount, "amount", place);
        let service = self.service(id, own.service.as_deref(), place);
        let purchase = own.purchase.then(|| Purchase { payer: own.payer.clone(), service });
        Mechanism::Prepayment(Prepayment { amount, share, purchase })
    }

    pub(super) fn percent_fee(
        &mut self,
        id: &str,
        own: &PercentFeeDocument,
        span: ClauseSpan,
        place: &Place,
    ) -> Mechanism {
        let tiered = !own.tiers.is_empty();
        let tiers = match (&own.percent, tiered) {
            (Some(text), false) => {
                if own.model.is_some() {
                    let message = format!("clause {id} has one percentage, which has no model");
                    self.problems.error(&place.key("model"), message, "drop model, or list tiers");
                }
                Steps::one(self.share(text, &place.key("percent")))
            }
            (None, true) => {
                let steps = self.bands(id, "tier", &own.tiers, AMOUNT_MAX.0, &place.key("tiers"));
                Steps { climb: own.model.unwrap_or(Climb::Graduated), bound: Bound::Upper, steps }
            }
            (percent, _) => {
                let what = if percent.is_some() { "both percent and tiers" } else { "neither percent nor tiers" };
                self.problems.error(place, format!("clause {id} has {what}"), "state one of them");
                Steps::one(Rate::ZERO)
            }
        };
        if own.per == FeePer::Account && own.account.is_some() {
            let message = format!("clause {id} is borne by each account and by one");
            self.problems.error(&place.key("account"), message, "drop account, or per: account");
        }
        let minimum = own.minimum.as_ref().map_or(Money::ZERO, |text| self.amount(text, "minimum", place));
        let service = self.service(id, own.service.as_deref(), place);
        let prorating = self.prorating(id, own.prorate, (own.from, own.to), span, place);
        if own.prorate != Prorate::None && own.minimum.is_none() {
            let message = format!("clause {id} prorates its minimum and has none");
            self.problems.error(&place.key("prorate"), message, "state a minimum, or drop prorate");
        }
        let (base, per, account) = (own.base, own.per, own.account.clone());
        Mechanism::PercentFee(Box::new(PercentFee { base, tiers, tiered, minimum, prorating, per, account, service }))
    }

    pub(super) fn fee(&mut self, own: &FeeDocument, place: &Place) -> Mechanism {
        let amount = self.amount(&own.amount, "amount", place);
        let quantity = units(&own.quantity, "quantity", &place.key("quantity"), &mut self.problems);
        if Money::of(quantity, Rate(amount.0 * 1_000_000)).is_none_or(|total| total > AMOUNT_MAX) {
            let message = format!("clause {}: {quantity} at {amount} are more than {AMOUNT_MAX}", own.id);
            self.problems.error(&place.key("quantity"), message, "the limit keeps every bill exact");
        }
        let service = self.service(&own.id, own.service.as_deref(), place);
        Mechanism::Fee(Fee { amount, quantity, once: own.once, account: own.account.clone(), service })
    }

    pub(super) fn custom_line(&mut self, id: &str, own: &CustomLineDocument, place: &Place) -> Mechanism {
        let how = match (&own.amount, &own.percent) {
            (Some(text), None) => {
                let place = place.key("amount");
                let size = text.strip_prefix('-').unwrap_or(text);
                let size = number(size, "amount", AMOUNT_MAX, &place, &mut self.problems);
                if own.itemised {
                    let message = format!("clause {id} is a flat amount, which no item has a part of");
                    self.problems.error(&place, message, "drop itemised, or state percent");
                }
                if own.scope != Default::default() || !own.exclude.is_empty() {
                    let message = format!("clause {id} is a flat amount, which has no scope");
                    self.problems.error(&place, message, "drop scope and exclude, or state percent");
                }
                Custom::Flat(if text.starts_with('-') { -size } else { size })
            }
            (None, Some(text)) => {
                Custom::Share { share: self.signed_share(text, &place.key("percent")), itemised: own.itemised }
            }
            (amount, _) => {
                let what = if amount.is_some() { "both amount and percent" } else { "neither amount nor percent" };
                self.problems.error(place, format!("clause {id} has {what}"), "state one of them");
                Custom::Flat(Money::ZERO)
            }
        };
        let service = self.service(id, own.service.as_deref(), place);
        Mechanism::CustomLine(CustomLine { how, account: own.account.clone(), service })
    }

    pub(super) fn minimum(&mut self, own: &MinimumDocument, span: ClauseSpan, place: &Place) -> Mechanism {
        let amount = self.amount(&own.amount, "amount", place);
        let prorating = self.prorating(&own.id, own.prorate, (own.from, own.to), span, place);
        let service = self.service(&own.id, own.service.as_deref(), place);
        Mechanism::Minimum(Limit { amount, prorating, per: own.per, payer: own.payer.clone(), service })
    }

    pub(super) fn maximum(&mut self, own: &MaximumDocument, span: ClauseSpan, place: &Place) -> Mechanism {
        let amount = self.amount(&own.amount, "amount", place);
        let prorating = self.prorating(&own.id, own.prorate, (own.from, own.to), span, place);
        Mechanism::Maximum(Limit { amount, prorating, per: own.per, payer: None, service: own.id.as_str().into() })
    }

    /// How a limit follows the days of its own within its clause's cycles.
    fn prorating(
        &mut self,
        id: &str,
        prorate: Prorate,
        (from, to): (Option<Timestamp>, Option<Timestamp>),
        (effective, until): ClauseSpan,
        place: &Place,
    ) -> Prorating {
        let begin = from.unwrap_or(effective.start());
        let end = to.or(until.map(CycleId::start));
        if prorate == Prorate::None {
            if from.is_some() || to.is_some() {
                let message = format!("clause {id} has days of its own and is not prorated");
                let help = "state prorate: days or time, or let effective and until say its cycles";
                self.problems.error(&place.key("prorate"), message, help);
            }
            return Prorating { prorate, span: Span::ALWAYS };
        }
        if from.is_none() && to.is_none() {
            let message = format!("clause {id} is prorated and has neither from nor to: all its cycles are whole");
            self.problems.error(&place.key("prorate"), message, "say from when or to when it holds, or drop prorate");
        }
        let last = until.map(CycleId::start).into_iter().chain(to).min();
        let first = begin.max(effective.start());
        if let Some(last) = last.filter(|last| *last <= first) {
            let message = format!("clause {id} would begin to hold at {first} and end before {last}");
            let help = "from is the first day that counts, to the first that no longer does, both within its cycles";
            self.problems.error(place, message, help);
        }
        Prorating { prorate, span: Span { from: begin, to: end } }
    }

    pub(super) fn tax(&mut self, id: &str, own: &TaxDocument, place: &Place) -> Mechanism {
        let place = place.key("rates");
        if own.rates.is_empty() || own.rates.len() > TAX_RATES_MAX {
            let message = format!("clause {id} has {} rates", own.rates.len());
            self.problems.error(&place, message, format!("list 1 to {TAX_RATES_MAX}; the first that matches counts"));
        }
        let mut rates = Vec::with_capacity(own.rates.len());
        for (index, row) in own.rates.iter().enumerate() {
            let place = place.index(index);
            let text = match &row.jurisdiction {
                Some(jurisdiction) => format!("{} ({jurisdiction})", row.name),
                None => row.name.clone(),
            };
            let scope = self.scope(id, &row.scope, &place.key("scope"));
            let share = self.share(&row.percent, &place.key("percent"));
            rates.push(TaxRate { text: text.into(), scope, share });
        }
        Mechanism::Tax(Tax { rates })
    }

    /// The service that a clause's charge is shown under.
    fn service(&mut self, id: &str, service: Option<&str>, place: &Place) -> Box<str> {
        if let Some(Err(error)) = service.map(|service| check_name("service", service)) {
            self.problems.refuse(&place.key("service"), error);
        }
        service.unwrap_or(id).into()
    }
}
