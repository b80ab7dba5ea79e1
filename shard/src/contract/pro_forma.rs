//! Billing groups that are priced by rates of their own, beside the real bills (BILLING.md section 2.10): their rules and
//! lines as terms that a fold can apply. Which usage is a group's, and its bill, lives in `billing/pro_forma.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compile::Compiler;
use super::conflicts::in_force_together;
use super::document::{ContractDocument, ProFormaDocument, ProFormaRuleDocument};
use super::document_clause::CustomLineDocument;
use super::document_scope::PercentBase;
use super::percent::Percent;
use super::scope::Scope;
use super::terms::{Clause, Contract, Mechanism, ProForma};
use crate::base::id::{ClauseId, GroupName};
use crate::base::money::{RATE_SCALE, Rate, parse_scaled};
use crate::base::problem::{Place, Problem, Problems};
use crate::pricing::limits::CLAUSES_MAX;
use crate::pricing::order::Stage;

/// Billing groups with terms of their own in one contract; each is a bill to compute.
const GROUPS_MAX: usize = 1_000;
/// Highest markup: all lots of a hierarchy, 10^25 units at most, still fit 128 bits elevenfold.
const MARKUP_MAX: Rate = Rate(10 * Rate::ONE.0);
/// What a pro forma bill goes through: rules on the public charges, lines by agreement, rounding.
const STAGES: [Stage; 4] = [Stage::Usage, Stage::AttributePercent, Stage::Fees, Stage::Rounding];

impl Compiler<'_> {
    /// The terms of billing groups, under the name, times and hash of the contract that holds them.
    pub(super) fn pro_forma(&mut self, hash: [u8; 32]) -> Option<Vec<ProForma>> {
        let document = self.document;
        let top = Place::top().key("pro_forma");
        if document.pro_forma.len() > GROUPS_MAX {
            let message = format!("{} billing groups, at most {GROUPS_MAX}", document.pro_forma.len());
            self.problems.error(&top, message, "split the hierarchy");
        }
        let mut groups: BTreeMap<&GroupName, usize> = BTreeMap::new();
        let mut made = Vec::with_capacity(document.pro_forma.len());
        for (index, own) in document.pro_forma.iter().enumerate() {
            let place = top.index(index);
            if let Some(first) = groups.insert(&own.group, index) {
                let message = format!("group {} is priced twice, first at pro_forma[{first}]", own.group);
                self.problems.error(&place.key("group"), message, "put all its rules and lines in one place");
            }
            made.push(self.group(own, hash, &place));
        }
        made.into_iter().collect()
    }

    fn group(&mut self, own: &ProFormaDocument, hash: [u8; 32], place: &Place) -> Option<ProForma> {
        let count = own.rules.len() + own.lines.len();
        if count > CLAUSES_MAX {
            let message = format!("{count} rules and lines, at most {CLAUSES_MAX}");
            self.problems.error(place, message, "merge those of one percentage with a wider scope");
        }
        let mut seen: BTreeMap<String, ()> = BTreeMap::new();
        let mut unique = |compiler: &mut Self, id: &str, place: &Place| {
            if seen.insert(id.to_owned(), ()).is_some() {
                let message = format!("{id} is declared twice in group {}", own.group);
                compiler.problems.error(&place.key("id"), message, "give each rule and line its own id");
            }
        };
        let mut clauses = Vec::with_capacity(count);
        for (index, rule) in own.rules.iter().enumerate() {
            let place = place.key("rules").index(index);
            unique(self, &rule.id, &place);
            clauses.push(self.rule(rule, &place));
        }
        let rules = clauses.len();
        for (index, line) in own.lines.iter().enumerate() {
            let place = place.key("lines").index(index);
            unique(self, &line.id, &place);
            clauses.push(self.line(line, &place));
        }
        let clauses: Vec<Clause> = clauses.into_iter().collect::<Option<_>>()?;
        self.check_rules(&own.group, &clauses[..rules], &place.key("rules"));
        Some(ProForma {
            group: own.group.clone(),
            account: own.account.clone(),
            terms: Contract {
                root: self.document.root.clone(),
                name: None,
                effective: self.document.effective,
                until: self.document.until,
                starts: None,
                stages: Some(STAGES.to_vec()),
                credit_order: Vec::new(),
                clauses,
                subscriptions: Vec::new(),
                pro_forma: Vec::new(),
                hash,
            },
        })
    }

    fn rule(&mut self, own: &ProFormaRuleDocument, place: &Place) -> Option<Clause> {
        let id = ClauseId::new(&own.id).map_err(|error| self.problems.refuse(&place.key("id"), error)).ok();
        let share = match (&own.markup, &own.discount) {
            (Some(text), None) => Rate(-self.markup(text, &place.key("markup")).0),
            (None, Some(text)) => self.share(text, &place.key("discount")),
            (markup, _) => {
                let what = if markup.is_some() { "both markup and discount" } else { "neither markup nor discount" };
                self.problems.error(place, format!("rule {} has {what}", own.id), "state one of them, in percent");
                Rate::ZERO
            }
        };
        let scope = self.scope(&own.id, &own.scope, &place.key("scope"));
        Some(Clause {
            text: own.text.as_deref().unwrap_or(&own.id).into(),
            id: id?,
            effective: self.document.effective,
            until: self.document.until,
            scope,
            exclude: Vec::new(),
            exclusive_group: Some(Arc::from("rules")),
            mechanism: Mechanism::Percent(Box::new(Percent {
                stage: Stage::AttributePercent,
                share,
                base: PercentBase::Left,
                trigger: None,
            })),
        })
    }

    /// A percentage to add, as a share of one.
    fn markup(&mut self, text: &str, place: &Place) -> Rate {
        match parse_scaled(text, RATE_SCALE - 2) {
            Err(error) => self.problems.refuse(place, error),
            Ok(share) if !(0..=MARKUP_MAX.0).contains(&share) => {
                let help = "write 10 for 10 percent more than the public price; what lowers it is a discount";
                self.problems.error(place, format!("markup {text} is outside 0 to 1000"), help);
            }
            Ok(share) => return Rate(share),
        }
        Rate::ZERO
    }

    fn line(&mut self, own: &CustomLineDocument, place: &Place) -> Option<Clause> {
        let id = ClauseId::new(&own.id).map_err(|error| self.problems.refuse(&place.key("id"), error)).ok();
        let (effective, until) = (own.effective.unwrap_or(self.document.effective), own.until.or(self.document.until));
        self.check_span(effective, until, &format!("line {}", own.id), &place.key("until"));
        let scope = self.scope(&own.id, &own.scope, &place.key("scope"));
        let exclude = own.exclude.iter().enumerate();
        let exclude: Vec<Scope> =
            exclude.map(|(index, scope)| self.scope(&own.id, scope, &place.key("exclude").index(index))).collect();
        let mechanism = self.custom_line(&own.id, own, place);
        let text = own.text.as_deref().unwrap_or(&own.id).into();
        Some(Clause { text, id: id?, effective, until, scope, exclude, exclusive_group: None, mechanism })
    }

    /// The most granular rule wins, so that two that are equally granular must not meet.
    fn check_rules(&mut self, group: &GroupName, rules: &[Clause], place: &Place) {
        let Some(catalogue) = self.catalogue else { return };
        for (index, rule) in rules.iter().enumerate() {
            let rival = rules[..index].iter().find(|other| {
                other.scope.granularity() == rule.scope.granularity()
                    && in_force_together(rule, other)
                    && rule.scope.can_meet(&other.scope, catalogue)
            });
            if let Some(rival) = rival {
                self.problems.error(
                    &place.index(index).key("scope"),
                    format!(
                        "rules {} and {} of group {group} overlap: both can match a line and neither is narrower",
                        rival.id, rule.id
                    ),
                    "narrow one of them until it names more than the other, or nothing is in both",
                );
            }
        }
    }
}

impl ContractDocument {
    /// A problem for each billing group that is priced and not `known` in the hierarchy.
    pub fn check_groups(&self, known: impl Fn(&GroupName) -> bool) -> Vec<Problem> {
        let mut problems = Problems::default();
        for (index, own) in self.pro_forma.iter().enumerate().filter(|(_, own)| !known(&own.group)) {
            problems.error(
                &Place::top().key("pro_forma").index(index).key("group"),
                format!("hierarchy '{}' has no billing group '{}'", self.root, own.group),
                "declare it under groups of the hierarchy and name it on its accounts",
            );
        }
        problems.into_vec()
    }
}
