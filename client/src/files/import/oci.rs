//! Oracle's price list, JSON: items with a part number, a metric and prices per currency, `rangeMin` and `rangeMax` in
//! any order, an open end written as a row of nines. A part is a SKU whose usage type is its number. The list names no
//! version, so its digest stands for one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use reckoner_shard::base::money::{Quantity, Rate};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::item::{Item, List, Note, Origin, Pick, Spot, Tier, What, only};
use super::json::{decimal, read};
use super::ladder::{Range, tiers};
use crate::error::Error;
use crate::files::usage::digest;

/// The model that on-demand prices stand under.
const MODEL: &str = "PAY_AS_YOU_GO";
/// What the list is called among the sources of a catalogue.
const OFFER: &str = "oci-price-list";
/// Nines of the shortest open end that the list has.
const NINES_MIN: usize = 9;

#[derive(Deserialize)]
struct Prices {
    items: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "partNumber")]
    number: String,
    #[serde(rename = "displayName", default)]
    name: Option<String>,
    #[serde(rename = "metricName")]
    metric: String,
    #[serde(rename = "serviceCategory")]
    category: String,
    #[serde(rename = "currencyCodeLocalizations", default)]
    localizations: Vec<Localization>,
}

#[derive(Deserialize)]
struct Localization {
    #[serde(rename = "currencyCode")]
    currency: String,
    #[serde(default)]
    prices: Vec<Price>,
}

/// Numbers as they are written: a price must not pass through binary floating point.
#[derive(Deserialize)]
struct Price {
    model: String,
    value: Box<RawValue>,
    #[serde(rename = "rangeMin", default)]
    begin: Option<Box<RawValue>>,
    #[serde(rename = "rangeMax", default)]
    end: Option<Box<RawValue>>,
}

/// Reads price lists.
pub fn read_lists(files: &[PathBuf], pick: &Pick) -> Result<List, Error> {
    let mut read_in: Vec<(String, String, Prices)> = Vec::with_capacity(files.len());
    for path in files {
        read_in.push((path.display().to_string(), version_of(path)?, read(path)?));
    }
    let currency = match pick.currency {
        Some(currency) => currency,
        None => {
            let parts = read_in.iter().flat_map(|(.., list)| &list.items);
            let codes: BTreeSet<&str> =
                parts.flat_map(|part| &part.localizations).map(|own| own.currency.as_str()).collect();
            only(&codes)?
        }
    };
    let mut list = List { currency, origins: Vec::new(), items: Vec::new(), pools: Vec::new(), notes: Vec::new() };
    for (file, version, prices) in read_in {
        let products = prices.items.len();
        list.origins.push(Origin { file: file.clone(), offer: OFFER.to_owned(), version, products });
        for (index, part) in prices.items.into_iter().enumerate() {
            let spot = Spot::new(&file, format!("items[{index}]"));
            match ladder(&part, &spot, &mut list) {
                Ok(tiers) => list.items.push(Item {
                    spot,
                    sku: part.number.clone(),
                    name: part.name,
                    service: part.category,
                    usage_type: part.number,
                    operation: None,
                    region: None,
                    attributes: Default::default(),
                    unit: part.metric,
                    tiers,
                }),
                Err(why) => list.notes.push(Note::refused(&spot, format!("part {}: {why}", part.number))),
            }
        }
    }
    Ok(list)
}

fn version_of(path: &Path) -> Result<String, Error> {
    Ok(digest(path)?.to_hex()[..16].to_owned())
}

fn ladder(part: &Part, spot: &Spot, list: &mut List) -> Result<Vec<Tier>, String> {
    let code = list.currency.as_str().to_owned();
    let mut own = part.localizations.iter().filter(|localization| localization.currency == code);
    let (Some(localization), None) = (own.next(), own.next()) else {
        let codes: Vec<&str> = part.localizations.iter().map(|own| own.currency.as_str()).collect();
        return Err(format!("it has not one price in {code}; its prices are in {}", codes.join(", ")));
    };
    let mut ranges = Vec::with_capacity(localization.prices.len());
    let mut others = BTreeSet::new();
    for price in &localization.prices {
        if price.model != MODEL {
            others.insert(price.model.as_str());
            continue;
        }
        let rate = decimal(price.value.get());
        let rate = rate.parse::<Rate>().map_err(|bad| format!("value: {bad}"))?;
        let quantity = |field: &str, raw: &RawValue| {
            decimal(raw.get()).parse::<Quantity>().map_err(|bad| format!("{field}: {bad}"))
        };
        let begin = price.begin.as_ref().map_or(Ok(Quantity::ZERO), |raw| quantity("rangeMin", raw))?;
        let end = match &price.end {
            Some(raw) if !is_open(&decimal(raw.get())) => Some(quantity("rangeMax", raw)?),
            _ => None,
        };
        ranges.push(Range { begin, end, rate });
    }
    if !others.is_empty() {
        let models: Vec<&str> = others.into_iter().collect();
        let message = format!("prices of part {} under {}: a catalogue holds {MODEL}", part.number, models.join(", "));
        list.notes.push(Note::new(What::LeftOut, spot, message));
    }
    let (tiers, closed) = tiers(ranges)?;
    list.notes.extend(closed.into_iter().map(|message| Note::new(What::Closed, spot, message)));
    Ok(tiers)
}

/// An end of nothing but nines is no bound of a price.
fn is_open(end: &str) -> bool {
    end.len() >= NINES_MIN && end.bytes().all(|digit| digit == b'9')
}
