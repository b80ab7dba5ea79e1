//! AWS offer files, JSON, format v1: products and their on-demand terms. A product is a SKU under its service code and
//! usage type; an endless ladder is its price; a zero-rated range with an end and `appliesTo` is a pool. Reserved terms
//! are commitments, not prices, and are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use reckoner_shard::base::id::Currency;
use reckoner_shard::base::money::{Quantity, Rate};
use reckoner_shard::base::time::{CycleId, Timestamp};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::item::{Item, List, Note, Origin, Pick, Pool, Spot, Tier, What, only};
use super::json::{Count, Pairs, read};
use super::ladder::{Range, tiers};
use crate::error::Error;

/// How a range without end is written.
const OPEN: &str = "Inf";

#[derive(Deserialize)]
struct Offer {
    #[serde(rename = "formatVersion")]
    format: String,
    #[serde(rename = "offerCode")]
    code: String,
    version: String,
    #[serde(default)]
    products: Pairs<Product>,
    #[serde(default)]
    terms: Terms,
}

#[derive(Deserialize)]
struct Product {
    sku: String,
    #[serde(default)]
    attributes: Pairs<String>,
}

/// On-demand terms by product; of other kinds only how many products have some.
#[derive(Default)]
struct Terms {
    on_demand: Pairs<Pairs<Term>>,
    left_out: Vec<(String, usize)>,
}

#[derive(Deserialize)]
struct Term {
    #[serde(rename = "effectiveDate")]
    effective: String,
    #[serde(rename = "priceDimensions", default)]
    dimensions: Pairs<Dimension>,
}

#[derive(Deserialize)]
struct Dimension {
    #[serde(rename = "beginRange")]
    begin: String,
    #[serde(rename = "endRange")]
    end: String,
    unit: String,
    #[serde(rename = "pricePerUnit")]
    prices: Pairs<String>,
    #[serde(rename = "appliesTo", default)]
    applies_to: Vec<String>,
}

impl<'de> Deserialize<'de> for Terms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = Terms;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("terms by kind")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Terms, A::Error> {
                let mut terms = Terms::default();
                while let Some(kind) = map.next_key::<String>()? {
                    if kind == "OnDemand" {
                        terms.on_demand.0.extend(map.next_value::<Pairs<Pairs<Term>>>()?.0);
                    } else {
                        terms.left_out.push((kind, map.next_value::<Count>()?.0));
                    }
                }
                Ok(terms)
            }
        }
        deserializer.deserialize_map(Kinds)
    }
}

/// Reads offer files, one service or region each.
pub fn read_offers(files: &[PathBuf], pick: &Pick) -> Result<List, Error> {
    let mut offers = Vec::with_capacity(files.len());
    for path in files {
        let offer: Offer = read(path)?;
        let name = path.display().to_string();
        if !offer.format.starts_with("v1.") {
            return Err(Error::invalid(format!(
                "{name}: its format is '{}', offer files of format v1 are read; fetch the list in that format",
                offer.format
            )));
        }
        offers.push((name, offer));
    }
    let currency = match pick.currency {
        Some(currency) => currency,
        None => only_currency(&offers)?,
    };
    let mut list = List { currency, origins: Vec::new(), items: Vec::new(), pools: Vec::new(), notes: Vec::new() };
    for (file, offer) in &offers {
        list.origins.push(Origin {
            file: file.clone(),
            offer: offer.code.clone(),
            version: offer.version.clone(),
            products: offer.products.0.len(),
        });
        Reader { file, offer, effective: pick.effective, list: &mut list }.run();
    }
    Ok(list)
}

fn only_currency(offers: &[(String, Offer)]) -> Result<Currency, Error> {
    let terms = offers.iter().flat_map(|(_, offer)| &offer.terms.on_demand.0);
    let dimensions = terms.flat_map(|(_, terms)| &terms.0).flat_map(|(_, term)| &term.dimensions.0);
    let codes: BTreeSet<&str> =
        dimensions.flat_map(|(_, dimension)| &dimension.prices.0).map(|(code, _)| code.as_str()).collect();
    only(&codes)
}

struct Reader<'a> {
    file: &'a str,
    offer: &'a Offer,
    effective: CycleId,
    list: &'a mut List,
}

/// What a product's price turned out to be.
enum Priced {
    Ladder { unit: String, tiers: Vec<Tier> },
    Pool { unit: String, units: Quantity, skus: Vec<String> },
}

impl<'a> Reader<'a> {
    fn run(mut self) {
        for (kind, products) in &self.offer.terms.left_out {
            let spot = Spot::new(self.file, format!("terms.{kind}"));
            let message = format!("{kind} terms of {products} products: a catalogue holds on-demand prices");
            self.list.notes.push(Note::new(What::LeftOut, &spot, message));
        }
        let mut terms: BTreeMap<&str, &'a Pairs<Term>> = BTreeMap::new();
        for (sku, own) in &self.offer.terms.on_demand.0 {
            let spot = Spot::new(self.file, format!("terms.OnDemand.{sku}"));
            if terms.insert(sku, own).is_some() {
                self.list
                    .notes
                    .push(Note::refused(&spot, format!("terms of {sku} stand there twice; the last are taken")));
            }
        }
        let mut seen = BTreeSet::new();
        for (key, product) in &self.offer.products.0 {
            let spot = Spot::new(self.file, format!("products.{key}"));
            if !seen.insert(key.as_str()) || product.sku != *key {
                let why = if product.sku == *key { "it stands there twice" } else { "its sku is another" };
                self.list.notes.push(Note::refused(&spot, format!("product {key}: {why} ('{}')", product.sku)));
                terms.remove(key.as_str());
                continue;
            }
            match terms.remove(key.as_str()) {
                Some(terms) => self.product(key, product, terms, &spot),
                None => self.list.notes.push(Note::new(
                    What::LeftOut,
                    &spot,
                    format!("product {key} has no on-demand price"),
                )),
            }
        }
        for sku in terms.keys().filter(|sku| !seen.contains(**sku)) {
            let spot = Spot::new(self.file, format!("terms.OnDemand.{sku}"));
            self.list.notes.push(Note::refused(&spot, format!("a price for {sku}, which is no product of the file")));
        }
    }

    fn product(&mut self, sku: &str, product: &Product, terms: &Pairs<Term>, spot: &Spot) {
        let named = |name: &str| product.attributes.get(name).filter(|value| !value.is_empty()).cloned();
        let Some(usage_type) = named("usagetype") else {
            self.list
                .notes
                .push(Note::refused(spot, format!("product {sku} has no usagetype: no usage could be its own")));
            return;
        };
        let (key, term) = match self.term_in_force(sku, terms) {
            Ok(found) => found,
            Err(why) => return self.list.notes.push(Note::refused(spot, format!("product {sku}: {why}"))),
        };
        let price = Spot::new(self.file, format!("terms.OnDemand.{sku}.{key}"));
        let priced = match self.price(term, &price) {
            Ok(priced) => priced,
            Err(why) => return self.list.notes.push(Note::refused(&price, format!("product {sku}: {why}"))),
        };
        let operation = named("operation");
        let name = Some(operation.as_ref().map_or_else(|| usage_type.clone(), |own| format!("{usage_type} {own}")));
        match priced {
            Priced::Pool { unit, units, skus } => {
                let id = sku.to_owned();
                self.list.pools.push(Pool { spot: price, id, name: Some(usage_type), unit, units, skus });
            }
            Priced::Ladder { unit, tiers } => self.list.items.push(Item {
                spot: spot.clone(),
                sku: sku.to_owned(),
                name,
                service: named("servicecode").unwrap_or_else(|| self.offer.code.clone()),
                usage_type,
                operation,
                region: named("regionCode").or_else(|| named("fromRegionCode")),
                attributes: product.attributes.0.iter().filter(|(name, _)| !is_key(name)).cloned().collect(),
                unit,
                tiers,
            }),
        }
    }

    /// The term that is in force when the cycle begins.
    fn term_in_force<'t>(&mut self, sku: &str, terms: &'t Pairs<Term>) -> Result<(&'t str, &'t Term), String> {
        let (start, end) = (self.effective.start(), self.effective.end());
        let mut dated: Vec<(Timestamp, &str, &Term)> = Vec::with_capacity(terms.0.len());
        for (key, term) in &terms.0 {
            let at = term.effective.parse::<Timestamp>().map_err(|bad| format!("effectiveDate: {bad}"))?;
            dated.push((at, key, term));
        }
        dated.sort_by_key(|(at, key, _)| (*at, *key));
        let split = dated.partition_point(|(at, ..)| *at <= start);
        if let Some((at, key, _)) = dated.get(split).filter(|_| split > 0) {
            let inside = if *at < end { ", which is inside the cycle" } else { "" };
            let spot = Spot::new(self.file, format!("terms.OnDemand.{sku}.{key}"));
            let message = format!("another price of {sku} begins {at}{inside}; import it with a later --effective");
            self.list.notes.push(Note::new(What::LeftOut, &spot, message));
        }
        match &dated[..split] {
            [.., (before, one, _), (at, two, _)] if before == at => {
                Err(format!("two prices, {one} and {two}, begin at the same time, {at}"))
            }
            [.., (_, key, term)] => Ok((key, term)),
            [] => Err(match dated.first() {
                Some((at, ..)) => format!("its price begins {at}, after the beginning of {}", self.effective),
                None => "it has no on-demand price".to_owned(),
            }),
        }
    }

    fn price(&mut self, term: &Term, spot: &Spot) -> Result<Priced, String> {
        let currency = self.list.currency;
        let mut ranges = Vec::with_capacity(term.dimensions.0.len());
        let mut unit: Option<&str> = None;
        for (key, dimension) in &term.dimensions.0 {
            if unit.is_some_and(|unit| unit != dimension.unit) {
                return Err(format!("its ranges are in {} and {}", unit.unwrap_or_default(), dimension.unit));
            }
            unit = Some(&dimension.unit);
            let rate = dimension.prices.get(currency.as_str()).ok_or_else(|| {
                let others: Vec<&str> = dimension.prices.0.iter().map(|(code, _)| code.as_str()).collect();
                format!("range {key} has no price in {currency}, only in {}", others.join(", "))
            })?;
            let rate = rate.parse::<Rate>().map_err(|bad| format!("pricePerUnit of {key}: {bad}"))?;
            let quantity =
                |field: &str, text: &str| text.parse::<Quantity>().map_err(|bad| format!("{field} of {key}: {bad}"));
            let begin = quantity("beginRange", &dimension.begin)?;
            let end = if dimension.end == OPEN { None } else { Some(quantity("endRange", &dimension.end)?) };
            ranges.push(Range { begin, end, rate });
        }
        let unit = unit.ok_or("it has no price dimension")?.to_owned();
        if term.dimensions.0.iter().any(|(_, dimension)| !dimension.applies_to.is_empty()) {
            return match (ranges.as_slice(), term.dimensions.0.as_slice()) {
                ([Range { begin: Quantity::ZERO, end: Some(units), rate: Rate::ZERO }], [(_, dimension)]) => {
                    Ok(Priced::Pool { unit, units: *units, skus: dimension.applies_to.clone() })
                }
                _ => Err("it applies to other products and is not one free range from 0 to an end".to_owned()),
            };
        }
        let (tiers, closed) = tiers(ranges)?;
        self.list.notes.extend(closed.into_iter().map(|message| Note::new(What::Closed, spot, message)));
        Ok(Priced::Ladder { unit, tiers })
    }
}

/// Attributes that are fields of an item already, or say the same as one.
fn is_key(name: &str) -> bool {
    matches!(name, "servicecode" | "servicename" | "usagetype" | "operation" | "regionCode" | "fromRegionCode")
}

#[cfg(test)]
#[path = "aws_test.rs"]
mod tests;
