//! From a list to a catalogue document that prices usage at once: a meter for each service and usage type, a SKU for each
//! product, sorted by id, so that the same list always makes the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use reckoner_shard::base::id::{CatalogueName, MeterId, check_name};
use reckoner_shard::base::money::Quantity;
use reckoner_shard::base::problem::Problem;
use reckoner_shard::base::time::CycleId;
use reckoner_shard::pricing::document::{
    Aggregation, Attribution, Bound, Bucket, CatalogueDocument, CatalogueKind, FreePoolDocument, LevelDocument,
    MatchDocument, MeterDocument, Model, PriceDocument, PriceProrate, RoundingDocument, SkuDocument, Spread,
    TierDocument,
};
use reckoner_shard::pricing::document_fee::Prorate;
use reckoner_shard::pricing::limits::BOUND_MAX;

use super::apart::tell_apart;
use super::item::{Item, List, Note, Origin, Pool, Spot, What};
use crate::error::Error;

/// What the catalogue is to be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub name: CatalogueName,
    pub effective: CycleId,
    /// The version before: its meters stay, since a catalogue never drops or changes one.
    pub after: Option<&'a CatalogueDocument>,
}

/// A catalogue made of a list, and all there is to know about it.
#[derive(Clone, Debug)]
pub struct Built {
    /// Without any SKU where nothing of the list can be priced.
    pub document: CatalogueDocument,
    pub origins: Vec<Origin>,
    /// By kind, then by place; those refused first.
    pub notes: Vec<Note>,
}

impl Built {
    /// How many things of a list were treated so.
    pub fn count(&self, what: What) -> usize {
        self.notes.iter().filter(|note| note.what == what).count()
    }

    /// The document as a file: a head that says where it is from, then YAML.
    pub fn yaml(&self) -> Result<String, Error> {
        let mut text = String::from("# Made by 'reckoner catalogue import'; import again rather than edit.\n");
        let yaml = serde_saphyr::to_string(&self.document);
        text.push_str(&yaml.map_err(|error| Error::invalid(format!("the catalogue cannot be written: {error}")))?);
        Ok(text)
    }
}

/// Makes the catalogue; what cannot be in it is among the notes.
pub fn build(list: List, wanted: &Wanted<'_>) -> Result<Built, Error> {
    let List { currency, origins, items, pools, mut notes } = list;
    let items = distinct(items, &mut notes);
    // From products that are left out as repeats to those that stand for them.
    let mut alias = BTreeMap::new();
    let mut meters = Meters::of(wanted.after);
    let skus = meters.add(items, &mut alias, &mut notes);
    let pools = pools_of(pools, &skus, &alias, &mut notes);
    let mut source: Vec<String> = origins.iter().map(|origin| format!("{} {}", origin.offer, origin.version)).collect();
    source.sort();
    source.dedup();
    notes.sort();
    let prices = skus.values().filter(|entry| entry.item.tiers.len() > 1);
    let document = CatalogueDocument {
        kind: CatalogueKind::Catalogue,
        name: wanted.name.clone(),
        currency,
        effective: wanted.effective,
        source,
        rounding: RoundingDocument::default(),
        stages: None,
        meters: meters.documents.into_values().collect(),
        zones: Vec::new(),
        prices: prices.map(|entry| price(&entry.item)).collect(),
        skus: skus.values().map(Entry::document).collect(),
        pools,
        fees: Vec::new(),
    };
    // A list of which nothing is left makes no catalogue; the notes say why.
    let problems = if document.skus.is_empty() { Vec::new() } else { document.check() };
    let errors: Vec<String> = problems.iter().filter(|problem| problem.is_error()).map(Problem::to_string).collect();
    match errors.first() {
        None => Ok(Built { document, origins, notes }),
        Some(first) => Err(Error::invalid(format!(
            "the list makes no valid catalogue, {} problems, the first: {first}",
            errors.len()
        ))),
    }
}

/// Items by id. Of two with one id the first stays, which comes from the file that was named first; where they differ,
/// the second is refused.
fn distinct(items: Vec<Item>, notes: &mut Vec<Note>) -> BTreeMap<String, Item> {
    let mut known: BTreeMap<String, Item> = BTreeMap::new();
    for item in items {
        if let Err(why) = check(&item) {
            notes.push(Note::refused(&item.spot, format!("product {}: {why}", item.sku)));
            continue;
        }
        let Some(first) = known.get(&item.sku) else {
            known.insert(item.sku.clone(), item);
            continue;
        };
        let same = Item { spot: first.spot.clone(), ..item.clone() } == *first;
        let (what, word) = if same { (What::Repeated, "alike") } else { (What::Refused, "differently") };
        let message = format!("product {} stands {word} at {} of {}", item.sku, first.spot.place, first.spot.file);
        notes.push(Note::new(what, &item.spot, message));
    }
    known
}

/// What a catalogue's names must be.
fn check(item: &Item) -> Result<(), String> {
    let plain = |kind: &'static str, text: &str| {
        check_name(kind, text).map_err(|bad| bad.to_string())?;
        if text.contains('*') {
            Err(format!("{kind} '{text}' holds *, which stands for any run of characters"))
        } else {
            Ok(())
        }
    };
    plain("sku", &item.sku)?;
    plain("service", &item.service)?;
    plain("usage_type", &item.usage_type)?;
    check_name("unit", &item.unit).map_err(|bad| bad.to_string())?;
    MeterId::new(&meter_id(item)).map_err(|bad| bad.to_string())?;
    item.operation.as_deref().map_or(Ok(()), |operation| plain("operation", operation))?;
    item.region.as_deref().map_or(Ok(()), |region| plain("region", region))
}

fn meter_id(item: &Item) -> String {
    format!("{}/{}", item.service, item.usage_type)
}

/// A product that is in the catalogue.
struct Entry {
    item: Item,
    /// What usage has to name beside operation and region.
    attributes: BTreeMap<String, String>,
}

impl Entry {
    fn document(&self) -> SkuDocument {
        let item = &self.item;
        let any = || "*".to_owned();
        let single = item.tiers.len() == 1;
        SkuDocument {
            id: item.sku.clone(),
            name: item.name.clone().filter(|name| *name != item.sku),
            matches: MatchDocument {
                hours: None,
                service: item.service.clone(),
                usage_type: item.usage_type.clone(),
                operation: item.operation.clone().unwrap_or_else(any),
                region: item.region.clone().unwrap_or_else(any),
                attributes: self.attributes.clone(),
            },
            unit: item.unit.clone(),
            convert: None,
            price: (!single).then(|| item.sku.clone()),
            rate: single.then(|| item.tiers[0].rate.to_string()),
        }
    }
}

fn price(item: &Item) -> PriceDocument {
    let tiers = item.tiers.iter().map(|tier| TierDocument {
        up_to: tier.up_to.map(|end| end.to_string()),
        rate: Some(tier.rate.to_string()),
        percent: None,
        flat: None,
        block: None,
        cap: None,
    });
    PriceDocument {
        id: item.sku.clone(),
        name: None,
        model: Model::Graduated,
        rate: None,
        tiers: tiers.collect(),
        percent: None,
        multiplier: None,
        records: None,
        package: None,
        free_units: None,
        bound: Bound::Upper,
        round_units: None,
        pool: None,
        attribution: Attribution::Prorata,
        per_record: None,
        minimum: None,
        maximum: None,
        prorate_limits: Prorate::None,
        flat_when_zero: false,
        changes: Vec::new(),
        prorate: PriceProrate::None,
        reached_by: Vec::new(),
    }
}

/// The meters of a catalogue as they come together.
struct Meters {
    /// Those of the version before.
    fixed: BTreeSet<String>,
    documents: BTreeMap<String, MeterDocument>,
}

impl Meters {
    fn of(after: Option<&CatalogueDocument>) -> Meters {
        let before = after.map_or(&[][..], |document| &document.meters);
        Meters {
            fixed: before.iter().map(|meter| meter.id.clone()).collect(),
            documents: before.iter().map(|meter| (meter.id.clone(), meter.clone())).collect(),
        }
    }

    /// Adds the meters that the items need; answers the items that they can tell apart, by id.
    fn add(
        &mut self,
        items: BTreeMap<String, Item>,
        alias: &mut BTreeMap<String, String>,
        notes: &mut Vec<Note>,
    ) -> BTreeMap<String, Entry> {
        let mut by_usage: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for item in items.into_values() {
            by_usage.entry(meter_id(&item)).or_default().push(item);
        }
        let mut entries = BTreeMap::new();
        for (id, items) in by_usage {
            let apart = tell_apart(&items.iter().collect::<Vec<_>>());
            let out = settle(&items, &apart.clashes, alias, notes);
            if out.len() == items.len() {
                continue;
            }
            let kept = self.keep(&id, &items[0], &apart.attributes);
            for (place, item) in items.into_iter().enumerate().filter(|(place, _)| !out.contains(place)) {
                let asked = if apart.by_attributes.contains(&place) { &apart.attributes[..] } else { &[] };
                match &kept {
                    Err(why) => notes.push(Note::refused(&item.spot, format!("product {}: {why}", item.sku))),
                    Ok(()) => {
                        let value = |name: &String| Some((name.clone(), item.attributes.get(name)?.clone()));
                        let attributes = asked.iter().filter_map(value).collect();
                        entries.insert(item.sku.clone(), Entry { item, attributes });
                    }
                }
            }
        }
        entries
    }

    /// Sees to it that a meter is there and keeps those attributes.
    fn keep(&mut self, id: &str, item: &Item, attributes: &[String]) -> Result<(), String> {
        if !self.fixed.contains(id) {
            let meter = MeterDocument {
                id: id.to_owned(),
                service: item.service.clone(),
                usage_type: item.usage_type.clone(),
                operation: "*".to_owned(),
                region: "*".to_owned(),
                aggregation: Aggregation::Sum,
                scale: None,
                bucket: Bucket::Month,
                attributes: attributes.to_vec(),
                of: None,
                keep_records: false,
                level: LevelDocument::default(),
                spread: Spread::None,
            };
            self.documents.insert(id.to_owned(), meter);
            return Ok(());
        }
        let before = &self.documents[id];
        let own =
            (before.service.as_str(), before.usage_type.as_str()) == (item.service.as_str(), item.usage_type.as_str());
        if !own || before.aggregation != Aggregation::Sum {
            return Err(format!("meter {id} of the version before measures something else"));
        }
        match attributes.iter().find(|name| !before.attributes.contains(name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "it is told from others by attribute {name}, which meter {id} of the version before does not keep, and a meter never changes"
            )),
        }
    }
}

/// What is left out of items that cannot be told apart: the later of two alike, both of two that differ in price.
fn settle(
    items: &[Item],
    clashes: &[(usize, usize)],
    alias: &mut BTreeMap<String, String>,
    notes: &mut Vec<Note>,
) -> BTreeSet<usize> {
    let mut out = BTreeSet::new();
    let alike = |one: &Item, other: &Item| {
        (&one.operation, &one.region, &one.unit, &one.tiers)
            == (&other.operation, &other.region, &other.unit, &other.tiers)
    };
    for (first, second) in clashes {
        let (one, other) = (&items[*first], &items[*second]);
        if alike(one, other) {
            if out.insert(*second) {
                let message = format!("product {} has usage, price and unit of {}", other.sku, one.sku);
                notes.push(Note::new(What::Repeated, &other.spot, message));
                alias.insert(other.sku.clone(), one.sku.clone());
            }
            continue;
        }
        for (place, own, rival) in [(first, one, other), (second, other, one)] {
            if out.insert(*place) {
                notes.push(Note::refused(&own.spot, clash(own, rival)));
            }
        }
    }
    out
}

fn clash(own: &Item, rival: &Item) -> String {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "any".to_owned());
    format!(
        "product {} cannot be told from {}: both price {} of {} (operation {}, region {}), and no attribute differs",
        own.sku,
        rival.sku,
        own.usage_type,
        own.service,
        word(&own.operation),
        word(&own.region)
    )
}

/// The pools whose products are there.
fn pools_of(
    mut pools: Vec<Pool>,
    skus: &BTreeMap<String, Entry>,
    alias: &BTreeMap<String, String>,
    notes: &mut Vec<Note>,
) -> Vec<FreePoolDocument> {
    pools.sort_by(|one, other| (&one.id, &one.spot).cmp(&(&other.id, &other.spot)));
    let mut documents: Vec<FreePoolDocument> = Vec::with_capacity(pools.len());
    for pool in pools {
        let mut members = BTreeSet::new();
        let mut missing = Vec::new();
        for sku in &pool.skus {
            let sku = alias.get(sku).unwrap_or(sku);
            match skus.get(sku) {
                Some(entry) => {
                    members.insert((&entry.item.unit, sku.clone()));
                }
                None => missing.push(sku.as_str()),
            }
        }
        let units: BTreeSet<&str> = members.iter().map(|(unit, _)| unit.as_str()).collect();
        let refusal = match units.iter().copied().collect::<Vec<_>>().as_slice() {
            _ if documents.last().is_some_and(|last| last.id == pool.id) => Some("it stands there twice".to_owned()),
            _ if pool.units > BOUND_MAX || pool.units == Quantity::ZERO => Some(format!("it has {} units", pool.units)),
            _ if check_name("pool", &pool.id).is_err() => Some("its id is no name".to_owned()),
            [] => Some("none of the products that it applies to is in the catalogue".to_owned()),
            [_] => None,
            several => Some(format!("its products are in units that differ: {}", several.join(", "))),
        };
        if let Some(why) = refusal {
            notes.push(Note::refused(&pool.spot, format!("pool {}: {why}", pool.id)));
            continue;
        }
        told(&pool, &units, &missing, notes);
        documents.push(FreePoolDocument {
            id: pool.id,
            name: pool.name,
            units: pool.units.to_string(),
            skus: members.into_iter().map(|(_, sku)| sku).collect(),
            split_by: Vec::new(),
            share: Attribution::Prorata,
        });
    }
    documents
}

/// What is worth knowing of a pool that is taken.
fn told(pool: &Pool, units: &BTreeSet<&str>, missing: &[&str], notes: &mut Vec<Note>) {
    let spot: &Spot = &pool.spot;
    if let Some(unit) = units.iter().find(|unit| **unit != pool.unit) {
        let message =
            format!("pool {} is in {}, its products in {unit}: taken as {} {unit}", pool.id, pool.unit, pool.units);
        notes.push(Note::new(What::Taken, spot, message));
    }
    if !missing.is_empty() {
        let message =
            format!("pool {} applies to products that are not in the catalogue: {}", pool.id, missing.join(", "));
        notes.push(Note::new(What::Taken, spot, message));
    }
}
