//! Which lines a clause speaks of: a predicate over what was used, where and by whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document_scope::ScopeDocument;
use crate::base::id::check_name;
use crate::base::problem::{Place, Problems};
use crate::pricing::catalogue::{Catalogue, Meter, Sku};
use crate::pricing::limits::PATTERNS_MAX;
use crate::pricing::selector::{Pattern, PatternTexts, can_match_together};
use crate::usage::series::Dimensions;

/// A compiled scope. A list without patterns matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    sku: Vec<Pattern>,
    service: Vec<Pattern>,
    usage_type: Vec<Pattern>,
    operation: Vec<Pattern>,
    region: Vec<Pattern>,
    attributes: BTreeMap<Arc<str>, Vec<Pattern>>,
    account: Vec<Pattern>,
    group: Vec<Pattern>,
    payer: Vec<Pattern>,
}

/// What a scope looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub sku: &'a str,
    pub dimensions: &'a Dimensions,
    pub account: &'a str,
    /// Empty for none.
    pub group: &'a str,
    pub payer: &'a str,
}

impl Scope {
    /// Reads a scope; problems are reported under `place`.
    pub fn compile(document: &ScopeDocument, place: &Place, problems: &mut Problems) -> Scope {
        let mut list = |field: &'static str, texts: &PatternTexts| {
            let place = place.key(field);
            if texts.0.len() > PATTERNS_MAX {
                let message = format!("{} patterns for {field}, at most {PATTERNS_MAX}", texts.0.len());
                problems.error(&place, message, "use * to say the same with fewer");
            }
            let mut patterns = Vec::with_capacity(texts.0.len());
            for (index, text) in texts.0.iter().enumerate() {
                match Pattern::new(field, text) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(error) if texts.0.len() == 1 => problems.refuse(&place, error),
                    Err(error) => problems.refuse(&place.index(index), error),
                }
            }
            patterns
        };
        let mut scope = Scope {
            sku: list("sku", &document.sku),
            service: list("service", &document.service),
            usage_type: list("usage_type", &document.usage_type),
            operation: list("operation", &document.operation),
            region: list("region", &document.region),
            attributes: BTreeMap::new(),
            account: list("account", &document.account),
            group: list("group", &document.group),
            payer: list("payer", &document.payer),
        };
        for (name, texts) in &document.attributes {
            let patterns = list("attributes", texts);
            scope.attributes.insert(name.as_str().into(), patterns);
        }
        for name in document.attributes.keys() {
            if let Err(error) = check_name("attribute", name) {
                problems.refuse(&place.key("attributes"), error);
            }
        }
        scope
    }

    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let one_of = |patterns: &[Pattern], value: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(value))
        };
        let used = subject.dimensions;
        one_of(&self.service, &used.service)
            && one_of(&self.sku, subject.sku)
            && one_of(&self.usage_type, &used.usage_type)
            && one_of(&self.region, &used.region)
            && one_of(&self.operation, &used.operation)
            && one_of(&self.account, subject.account)
            && one_of(&self.payer, subject.payer)
            && one_of(&self.group, subject.group)
            && self.attributes.iter().all(|(name, patterns)| {
                used.attributes.iter().any(|(own, value)| **own == **name && one_of(patterns, value))
            })
    }

    /// True where it names a service.
    pub fn names_service(&self) -> bool {
        !self.service.is_empty()
    }

    /// True where it names anything but services and whose usage it is.
    pub fn names_attribute(&self) -> bool {
        let lists = [&self.sku, &self.usage_type, &self.operation, &self.region];
        lists.iter().any(|list| !list.is_empty()) || !self.attributes.is_empty()
    }

    /// How narrow it is, the greater the narrower: names a sku; names how many of usage type, operation, region and
    /// attributes; names a service; names how many of account, group and payer.
    pub fn granularity(&self) -> (bool, usize, bool, usize) {
        let count = |lists: &[&Vec<Pattern>]| lists.iter().filter(|list| !list.is_empty()).count();
        let used = count(&[&self.usage_type, &self.operation, &self.region]) + self.attributes.len();
        let who = count(&[&self.account, &self.group, &self.payer]);
        (!self.sku.is_empty(), used, !self.service.is_empty(), who)
    }

    /// Patterns under `service`; none stands for every service.
    pub fn services(&self) -> Option<usize> {
        Some(self.service.len()).filter(|count| *count > 0)
    }

    /// Whether the same usage, of the same account, can be in both, as far as a catalogue tells.
    pub fn can_meet(&self, other: &Scope, catalogue: &Catalogue) -> bool {
        self.can_overlap(other) && self.reach(catalogue).any(|(meter, sku)| other.can_match(meter, sku))
    }

    /// Whether one line can be in both, whatever is sold.
    pub fn can_overlap(&self, other: &Scope) -> bool {
        let together = |own: &[Pattern], others: &[Pattern]| {
            own.is_empty()
                || others.is_empty()
                || own.iter().any(|one| others.iter().any(|two| can_match_together(&[one, two])))
        };
        let attributes = |(name, own): (&Arc<str>, &Vec<Pattern>)| {
            other.attributes.get(name).is_none_or(|others| together(own, others))
        };
        together(&self.service, &other.service)
            && together(&self.sku, &other.sku)
            && together(&self.usage_type, &other.usage_type)
            && together(&self.operation, &other.operation)
            && together(&self.region, &other.region)
            && together(&self.account, &other.account)
            && together(&self.group, &other.group)
            && together(&self.payer, &other.payer)
            && self.attributes.iter().all(attributes)
    }

    /// Whether usage of `meter` that `sku` prices can be in this scope, whoever used it.
    pub fn can_match(&self, meter: &Meter, sku: &Sku) -> bool {
        let one_of = |patterns: &[Pattern], others: &[&Pattern]| {
            patterns.is_empty()
                || patterns.iter().any(|pattern| {
                    let mut all = others.to_vec();
                    all.push(pattern);
                    can_match_together(&all)
                })
        };
        let fixed = |patterns: &[Pattern], value: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(value))
        };
        fixed(&self.sku, sku.id.as_str())
            && fixed(&self.service, &meter.service)
            && fixed(&self.usage_type, &meter.usage_type)
            && one_of(&self.operation, &[&meter.operation, &sku.matches.operation])
            && one_of(&self.region, &[&meter.region, &sku.matches.region])
            && self.attributes.iter().all(|(name, patterns)| {
                let own: Vec<&Pattern> = sku.matches.attributes.get(name).into_iter().collect();
                meter.attributes.contains(name) && one_of(patterns, &own)
            })
    }

    /// Whether what a clause charges under a service can be in this scope, whoever bears it.
    pub fn can_match_charge(&self, service: &str, clause: &str) -> bool {
        let one_of = |patterns: &[Pattern], value: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(value))
        };
        one_of(&self.service, service)
            && one_of(&self.sku, clause)
            && one_of(&self.usage_type, clause)
            && one_of(&self.operation, "")
            && one_of(&self.region, "")
            && self.attributes.is_empty()
    }

    /// The priced series kinds of a catalogue that can be in this scope.
    pub fn reach<'c>(&self, catalogue: &'c Catalogue) -> impl Iterator<Item = (&'c Meter, &'c Sku)> {
        let pairs = catalogue.meters_and_fees().iter().enumerate().flat_map(move |(index, meter)| {
            let index = crate::pricing::catalogue::MeterIndex(index as u32);
            catalogue.skus_of(index).iter().map(move |sku| (meter, catalogue.sku(*sku)))
        });
        pairs.filter(|(meter, sku)| self.can_match(meter, sku))
    }
}
