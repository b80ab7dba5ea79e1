//! From a price's document to a price: its ladder and those that follow, what holds for each record, what it cannot have
//! together. What prices, SKUs and meters must agree on is checked in `cross.rs`.

use std::sync::Arc;

use super::catalogue::{Price, RecordRule};
use super::compile::{Compiler, unnamed};
use super::document::{Model, PoolPeriod, PriceDocument, PriceProrate, RecordsDocument, TierDocument};
use super::document_fee::Prorate;
use super::ladders::{self, units};
use super::limits::{CAP_MAX, CHANGES_MAX, MINIMUM_MAX, PER_RECORD_MAX};
use super::pool::{SplitBy, SplitKey};
use super::rate::Ladder;
use crate::base::id::PriceId;
use crate::base::money::{Money, Quantity, Rate};
use crate::base::problem::Place;
use crate::base::time::{DAY, Timestamp};

impl Compiler<'_> {
    /// One price without the SKUs that name it.
    pub(super) fn price(&mut self, price: &PriceDocument, place: &Place) -> Price {
        let id = self.read(PriceId::new(&price.id), &place.key("id"));
        let ladder = ladders::compile(price, place, &mut self.problems);
        let free_units = price
            .free_units
            .as_ref()
            .map_or(Quantity::ZERO, |text| units(text, "free_units", &place.key("free_units"), &mut self.problems));
        if let Some(round) = &price.round_units
            && !(-12..=12).contains(&round.decimals)
        {
            self.problems.error(
                &place.key("round_units").key("decimals"),
                format!("rounding units to {} decimals is outside -12 to 12", round.decimals),
                "state -12 to 12",
            );
        }
        let split_by = match &price.pool {
            None => SplitBy::payer_and_sku(),
            Some(pool) => SplitBy::compile(&pool.split_by, &place.key("pool").key("split_by"), &mut self.problems),
        };
        let problems = &mut self.problems;
        let mut money = |text: &Option<String>, field: &str, max: Money| {
            text.as_ref().map(|text| ladders::number(text, field, max, &place.key(field), problems))
        };
        let per_record = money(&price.per_record, "per_record", PER_RECORD_MAX).unwrap_or_default();
        let minimum = money(&price.minimum, "minimum", MINIMUM_MAX).unwrap_or_default();
        let maximum = money(&price.maximum, "maximum", CAP_MAX);
        if let Some(maximum) = maximum.filter(|maximum| *maximum < minimum) {
            let message = format!("price {} has maximum {maximum} below its minimum {minimum}", price.id);
            self.problems.error(&place.key("maximum"), message, "raise it, or lower the minimum");
        }
        self.prorate_limits(price, place);
        let records = price.records.as_ref().map(|records| self.records(price, records, &place.key("records")));
        if price.flat_when_zero && price.tiers.first().is_none_or(|tier| tier.flat.is_none()) {
            self.problems.error(
                &place.key("flat_when_zero"),
                format!("price {} has no flat part in its first tier to be due when nothing is used", price.id),
                "give the first tier a flat part, or use minimum and a subscription",
            );
        }
        self.prorate(price, place);
        self.year(price, &split_by, place);
        let changes = self.changes(price, place);
        Price {
            ladder,
            free_units,
            round_units: price.round_units.as_ref().map(|round| (round.decimals.clamp(-12, 12), round.mode)),
            split_by,
            period: price.pool.as_ref().map_or(PoolPeriod::Cycle, |pool| pool.period),
            attribution: price.attribution,
            per_record,
            minimum,
            maximum,
            prorate_limits: price.prorate_limits,
            flat_when_zero: price.flat_when_zero,
            changes,
            prorates: price.prorate == PriceProrate::Ladder,
            records,
            name: price.name.as_deref().map(Arc::from),
            ..Price::per_unit(id.unwrap_or_else(unnamed), Rate::ZERO)
        }
    }

    /// The ladders that follow a price's first.
    fn changes(&mut self, price: &PriceDocument, place: &Place) -> Vec<(Timestamp, Ladder)> {
        let (id, place) = (&price.id, place.key("changes"));
        if price.changes.is_empty() {
            return Vec::new();
        }
        if price.changes.len() > CHANGES_MAX {
            let message = format!("price {id} changes {} times, at most {CHANGES_MAX}", price.changes.len());
            self.problems.error(&place, message, "leave those to another version of the catalogue");
        }
        if matches!(price.model, Model::Percentage | Model::GraduatedPercentage | Model::Dynamic) {
            let message = format!("price {id} is of money, which changes only with a version of the catalogue");
            self.problems.error(&place, message, "drop changes, or use a model of units");
            return Vec::new();
        }
        let is_whole = price.pool.as_ref().is_none_or(|pool| pool.period == PoolPeriod::Cycle);
        let has = [
            ("prorate", price.prorate != PriceProrate::None),
            ("reached_by", !price.reached_by.is_empty()),
            ("a period", !is_whole),
        ];
        for (what, _) in has.iter().filter(|(_, has)| *has) {
            let message = format!("price {id} changes within a cycle and has {what}");
            self.problems.error(&place, message, format!("drop {what}, or change it with a version of the catalogue"));
        }
        let mut changes: Vec<(Timestamp, Ladder)> = Vec::with_capacity(price.changes.len());
        for (index, change) in price.changes.iter().enumerate() {
            let place = place.index(index);
            let from = change.from;
            if from.0 % DAY != 0 {
                let message = format!("price {id} changes at {from}, within a day");
                self.problems.error(&place.key("from"), message, "name the first day, UTC");
            }
            if let Some((before, _)) = changes.last().filter(|(before, _)| *before >= from) {
                let message = format!("price {id} changes on {}, not after {}", from.date(), before.date());
                self.problems.error(&place.key("from"), message, "sort the changes, oldest first");
            }
            let own = PriceDocument { rate: change.rate.clone(), tiers: change.tiers.clone(), ..price.clone() };
            changes.push((from, ladders::compile(&own, &place, &mut self.problems)));
        }
        changes
    }

    /// What a pool that lasts a contract year cannot have: what is carried from cycle to cycle is a few numbers a payer.
    fn year(&mut self, price: &PriceDocument, split_by: &SplitBy, place: &Place) {
        if price.pool.as_ref().is_none_or(|pool| pool.period != PoolPeriod::ContractYear) {
            return;
        }
        let (id, place) = (&price.id, place.key("pool").key("period"));
        for key in split_by.0.iter().filter(|key| !matches!(key, SplitKey::Payer | SplitKey::Root)) {
            let message = format!("price {id} lasts a contract year and splits its pool by {key}");
            self.problems.error(&place, message, "split it by payer or root, and give each sku a price of its own");
        }
        let has = [
            ("flat_when_zero", price.flat_when_zero),
            ("round_units", price.round_units.is_some()),
            ("reached_by", !price.reached_by.is_empty()),
        ];
        for (what, _) in has.iter().filter(|(_, has)| *has) {
            let message = format!("price {id} lasts a contract year and has {what}");
            self.problems.error(&place, message, format!("drop {what}, or let the pool last the cycle"));
        }
        let is_plain = |tier: &TierDocument| tier.flat.is_none() && tier.block.is_none() && tier.cap.is_none();
        if price.model == Model::Volume && !price.tiers.iter().all(is_plain) {
            let message = format!("price {id} is of volume over a contract year and has flat parts, blocks or caps");
            self.problems.error(&place, message, "use rates alone, or model: graduated or stairstep");
        }
        let flats = price.tiers.iter().map(|tier| tier.flat.as_ref().and_then(|flat| flat.parse::<Money>().ok()));
        let rise = flats.map(Option::unwrap_or_default).is_sorted();
        if price.model == Model::Stairstep && !rise {
            let message = format!("price {id} has stairs over a contract year that go down");
            self.problems.error(
                &place,
                message,
                "a cycle pays what its stair is above the last; let no tier cost less",
            );
        }
    }

    /// What limits that follow a subscription ask for.
    fn prorate_limits(&mut self, price: &PriceDocument, place: &Place) {
        if price.prorate_limits == Prorate::None {
            return;
        }
        let (id, place) = (&price.id, place.key("prorate_limits"));
        if price.minimum.is_none() && price.maximum.is_none() {
            let message = format!("price {id} prorates its limits and has neither minimum nor maximum");
            self.problems.error(&place, message, "state one of them, or drop prorate_limits");
        }
        if price.pool.as_ref().is_some_and(|pool| pool.period != PoolPeriod::Cycle) {
            let message = format!("price {id} prorates its limits and has a period, to which nobody can subscribe");
            self.problems.error(&place, message, "drop prorate_limits, or let the pool last the cycle");
        }
    }

    /// What a ladder that a level walks cannot have.
    fn prorate(&mut self, price: &PriceDocument, place: &Place) {
        if price.prorate == PriceProrate::None {
            return;
        }
        let (id, place) = (&price.id, place.key("prorate"));
        if price.model != Model::Graduated {
            let message = format!("price {id} prorates its ladder and is not graduated");
            self.problems.error(&place, message, "use model: graduated, or drop prorate");
        }
        let is_whole = price.pool.as_ref().is_none_or(|pool| pool.period == PoolPeriod::Cycle);
        let has = [
            ("blocks", price.tiers.iter().any(|tier| tier.block.is_some())),
            ("caps", price.tiers.iter().any(|tier| tier.cap.is_some())),
            ("free_units", price.free_units.is_some()),
            ("round_units", price.round_units.is_some()),
            ("a period", !is_whole),
        ];
        for (what, _) in has.iter().filter(|(_, has)| *has) {
            let message = format!("price {id} prorates its ladder and has {what}");
            self.problems.error(&place, message, format!("drop {what}; a tier of rate 0 is free"));
        }
    }

    fn records(&mut self, price: &PriceDocument, records: &RecordsDocument, place: &Place) -> RecordRule {
        let problems = &mut self.problems;
        let free_amount = records.free_amount.as_ref();
        let free_amount = free_amount.map(|text| units(text, "free_amount", &place.key("free_amount"), problems));
        let mut money = |text: &Option<String>, field: &str, max: Money| {
            text.as_ref().map(|text| ladders::number(text, field, max, &place.key(field), problems))
        };
        let minimum = money(&records.minimum, "minimum", PER_RECORD_MAX).unwrap_or_default();
        let maximum = money(&records.maximum, "maximum", CAP_MAX);
        if let Some(maximum) = maximum.filter(|maximum| *maximum < minimum) {
            let message = format!("price {} has records of at most {maximum}, below their minimum {minimum}", price.id);
            self.problems.error(&place.key("maximum"), message, "raise it, or lower the minimum");
        }
        let is_whole = price.pool.as_ref().is_none_or(|pool| pool.period == PoolPeriod::Cycle);
        if price.free_units.is_some() || price.round_units.is_some() || !is_whole || price.flat_when_zero {
            self.problems.error(
                place,
                format!(
                    "price {} looks at records, and has free_units, round_units, a period or flat_when_zero",
                    price.id
                ),
                "use records: {free, free_amount}, or drop records",
            );
        }
        RecordRule { free: records.free, free_amount, minimum, maximum }
    }
}
