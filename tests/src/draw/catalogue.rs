//! Random catalogues: valid by construction, small enough to shrink by eye, with pools that cross regions and accounts.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::contract::stages;
use super::words::{CLASSES, REGIONS, ROUNDING, SERVICES, chance, decimal, one, quantity, rate};

/// Small whole bounds, so that quantities meet them exactly and pass several.
fn bounds(rng: &mut SmallRng, count: usize) -> Vec<String> {
    let mut bound = 0;
    let mut next = || {
        bound += rng.random_range(1..=6) * 5;
        if chance(rng, 80) { bound.to_string() } else { format!("{bound}.5") }
    };
    (0..count).map(|_| next()).collect()
}

/// A share of amounts of money, at times more than all of them.
fn percent(rng: &mut SmallRng) -> String {
    decimal(rng, 130, 9)
}

fn tier(rng: &mut SmallRng, model: &str, wide: bool) -> Value {
    if model == "stairstep" {
        return json!({ "flat": decimal(rng, 40, 2) });
    }
    let share = model == "graduated_percentage";
    let mut tier = if share { json!({ "percent": percent(rng) }) } else { json!({ "rate": rate(rng) }) };
    if chance(rng, 25) {
        tier["flat"] = json!(decimal(rng, 10, 2));
    }
    if wide && chance(rng, 15) && !share {
        tier["block"] = json!(*one(rng, &["1", "5", "7", "2.5"]));
    }
    if wide && chance(rng, 15) {
        tier["cap"] = json!(decimal(rng, 30, 3));
    }
    tier
}

/// Tiers from zero, the last without end; or such that other meters choose between.
fn tiers(rng: &mut SmallRng, price: &mut Value, meters: &[Value], wide: bool) {
    let count = rng.random_range(1..=4);
    let model = price["model"].as_str().expect("a model").to_owned();
    let mut tiers: Vec<Value> = (0..count).map(|_| tier(rng, &model, wide)).collect();
    if wide && ["volume", "stairstep"].contains(&&*model) && chance(rng, 25) {
        let mut choosers: Vec<&Value> = meters.iter().collect();
        choosers.shuffle(rng);
        choosers.truncate(rng.random_range(1..=2));
        let chooser = |meter: &&Value| json!({ "meter": meter["id"], "up_to": bounds(rng, count - 1) });
        price["reached_by"] = choosers.iter().map(chooser).collect();
    } else {
        for (tier, bound) in tiers.iter_mut().zip(bounds(rng, count - 1)) {
            tier["up_to"] = json!(bound);
        }
    }
    if wide && chance(rng, 30) && !tiers[0]["flat"].is_null() {
        price["flat_when_zero"] = json!(true);
    }
    price["tiers"] = json!(tiers);
}

/// What all meters behind some SKUs have in common.
#[derive(Clone, Copy)]
struct Behind {
    /// They keep hours or days, so that usage can be put in sequence.
    timed: bool,
    /// They keep hours or days of what can be told apart by them: sums, counts and peaks.
    parted: bool,
    /// They keep hours.
    hours: bool,
    /// They keep each record.
    records: bool,
    /// They are levels of one scale.
    levels: bool,
    /// They keep the attribute `class`.
    class: bool,
}

/// The models that any meter of sums can be priced by.
const MODELS: &[&str] = &[
    "per_unit",
    "package",
    "volume",
    "stairstep",
    "graduated",
    "graduated",
    "percentage",
    "graduated_percentage",
    "dynamic",
];
/// Those of histories, which are about what is counted and when.
const PLAIN_MODELS: &[&str] = &["per_unit", "package", "volume", "graduated", "graduated"];

fn price(rng: &mut SmallRng, (id, cycle): (&str, &str), behind: Behind, meters: &[Value], wide: bool) -> Value {
    let mut price = json!({ "id": id });
    let model = *one(rng, if wide { MODELS } else { PLAIN_MODELS });
    price["model"] = json!(model);
    match model {
        "per_unit" => price["rate"] = json!(rate(rng)),
        "package" => {
            price["rate"] = json!(rate(rng));
            let round = *one(rng, &["up", "down"]);
            price["package"] = json!({ "size": *one(rng, &["1", "7", "10", "2.5"]), "round": round });
        }
        "percentage" => price["percent"] = json!(percent(rng)),
        "dynamic" if chance(rng, 50) => price["multiplier"] = json!(rate(rng)),
        "dynamic" => {}
        _ => {
            tiers(rng, &mut price, meters, wide);
            if chance(rng, 30) {
                price["bound"] = json!("lower");
            }
        }
    }
    if chance(rng, 30) {
        price["free_units"] = json!(quantity(rng, 2));
    }
    if chance(rng, 20) {
        price["round_units"] = json!({ "decimals": rng.random_range(-1..=3), "mode": *one(rng, ROUNDING) });
    }
    if chance(rng, 60) {
        price["pool"] = json!({ "split_by": split_by(rng, behind.class) });
    }
    if behind.timed && chance(rng, 50) {
        price["attribution"] = json!("sequence");
    }
    if !wide {
        return price;
    }
    let of_units = ["per_unit", "package", "graduated", "volume", "stairstep"].contains(&model);
    if behind.timed && of_units && price["reached_by"].is_null() && chance(rng, 35) {
        changes(rng, &mut price, cycle);
    } else if behind.parted && chance(rng, 25) {
        let period = if behind.hours && chance(rng, 50) { "hour" } else { "day" };
        price["pool"]["period"] = json!(period);
    }
    if chance(rng, 15) {
        price["per_record"] = json!(decimal(rng, 2, 12));
    }
    if chance(rng, 15) {
        price["minimum"] = json!(decimal(rng, 40, 12));
    }
    if chance(rng, 15) {
        let least = price["minimum"]
            .as_str()
            .map_or(0, |text| text.split('.').next().expect("digits").parse::<u64>().expect("digits") + 1);
        price["maximum"] = json!((least + rng.random_range(0..40)).to_string());
    }
    price
}

/// A ladder that levels walk.
fn walked_by_level(rng: &mut SmallRng, id: &str, behind: Behind) -> Value {
    let mut price = json!({ "id": id, "model": "graduated", "prorate": "ladder" });
    let count = rng.random_range(1..=4);
    let mut tiers: Vec<Value> = (0..count).map(|_| tier(rng, "graduated", false)).collect();
    for (tier, bound) in tiers.iter_mut().zip(bounds(rng, count - 1)) {
        tier["up_to"] = json!(bound);
    }
    if chance(rng, 30) && !tiers[0]["flat"].is_null() {
        price["flat_when_zero"] = json!(true);
    }
    price["tiers"] = json!(tiers);
    if chance(rng, 30) {
        price["bound"] = json!("lower");
    }
    if chance(rng, 20) {
        price["per_record"] = json!(decimal(rng, 2, 12));
    }
    if chance(rng, 20) {
        price["minimum"] = json!(decimal(rng, 40, 12));
    }
    if chance(rng, 20) {
        price["maximum"] = json!((40 + rng.random_range(0..40)).to_string());
    }
    if chance(rng, 60) {
        price["pool"] = json!({ "split_by": split_by(rng, behind.class) });
    }
    price
}

/// Ladders that follow a price's own, each from a day on: before, in and after the cycle.
fn changes(rng: &mut SmallRng, price: &mut Value, cycle: &str) {
    let model = price["model"].as_str().expect("a model").to_owned();
    let (year, month) = cycle.split_once('-').expect("a cycle");
    // Months since year 0, so that the cycle before January is a December.
    let month = year.parse::<u32>().expect("digits") * 12 + month.parse::<u32>().expect("digits") - 1;
    let mut days: Vec<(u32, u32)> = (0..rng.random_range(1..=3)).map(|_| (month, rng.random_range(1..=28))).collect();
    if chance(rng, 20) {
        days.push((month - 1, 15));
    }
    if chance(rng, 20) {
        days.push((month + 1, 1));
    }
    // Days in which much is used.
    if chance(rng, 60) {
        days.push((month, 2));
    }
    days.sort();
    days.dedup();
    let mut changes = Vec::new();
    for (month, day) in days {
        let mut change = json!({ "from": format!("{}-{:02}-{day:02}", month / 12, month % 12 + 1) });
        if price["tiers"].is_array() {
            let count = rng.random_range(1..=4);
            let mut tiers: Vec<Value> = (0..count).map(|_| tier(rng, &model, true)).collect();
            // As often as not the same bounds at other rates.
            let same = chance(rng, 50) && price["tiers"].as_array().map(Vec::len) == Some(count);
            let bounds = bounds(rng, count - 1);
            for (place, (tier, bound)) in tiers.iter_mut().zip(bounds).enumerate() {
                tier["up_to"] = if same { price["tiers"][place]["up_to"].clone() } else { json!(bound) };
            }
            change["tiers"] = json!(tiers);
        } else {
            change["rate"] = json!(rate(rng));
        }
        changes.push(change);
    }
    price["changes"] = json!(changes);
}

/// Hours of the week, and perhaps all others.
fn named_hours(rng: &mut SmallRng) -> Vec<Value> {
    const DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let zone = *one(rng, &["Z", "+02:00", "-05:00", "+14:00", "-12:00"]);
    let spans: Vec<Value> = (0..rng.random_range(1..=2))
        .map(|_| {
            let mut days = DAYS.to_vec();
            days.shuffle(rng);
            days.truncate(rng.random_range(0..=6));
            // Never all of the week.
            let from = rng.random_range(0..20);
            json!({ "days": days, "from": from, "to": from + rng.random_range(1..=4) })
        })
        .collect();
    let mut hours = vec![json!({ "zone": zone, "at": spans })];
    if chance(rng, 60) {
        hours.push(json!({ "zone": zone, "except": spans }));
    }
    hours
}

/// A percentage of each record.
fn by_record(rng: &mut SmallRng, id: &str, behind: Behind) -> Value {
    let mut price = json!({ "id": id, "model": "percentage", "percent": percent(rng), "records": {} });
    if chance(rng, 50) {
        price["records"]["free"] = json!(rng.random_range(0..=4));
    }
    if chance(rng, 50) {
        price["records"]["free_amount"] = json!(quantity(rng, 2));
    }
    if chance(rng, 40) {
        price["records"]["minimum"] = json!(decimal(rng, 5, 3));
    }
    if chance(rng, 40) {
        price["records"]["maximum"] = json!((5 + rng.random_range(0..20)).to_string());
    }
    if chance(rng, 50) {
        price["per_record"] = json!(decimal(rng, 2, 12));
    }
    if chance(rng, 30) {
        price["minimum"] = json!(decimal(rng, 40, 12));
    }
    if chance(rng, 30) {
        price["maximum"] = json!((40 + rng.random_range(0..40)).to_string());
    }
    if chance(rng, 60) {
        price["pool"] = json!({ "split_by": split_by(rng, behind.class) });
    }
    price
}

fn split_by(rng: &mut SmallRng, class: bool) -> Vec<&'static str> {
    let mut keys = vec!["account", "group", "payer", "root", "region", "service", "sku"];
    if class {
        keys.push("attribute:class");
    }
    keys.shuffle(rng);
    keys.truncate(rng.random_range(0..=3));
    keys
}

/// A catalogue of 1 to 5 meters with up to two SKUs each, some unpriced, prices shared or not, and up to two free pools.
/// Its prices are plain, its meters of all kinds but those that count amounts.
pub fn catalogue(rng: &mut SmallRng, effective: &str) -> Value {
    draw(rng, effective, false)
}

/// The same with all that prices can say.
pub fn wide(rng: &mut SmallRng, effective: &str) -> Value {
    draw(rng, effective, true)
}

/// Makes a meter of sums one of another aggregation, or one that keeps its records.
fn aggregate(rng: &mut SmallRng, meter: &mut Value, wide: bool) {
    let aggregation =
        *one(rng, &["maximum", "maximum", "percentile_95", "latest", "unique", "level", "level", "records"]);
    let bucket = match aggregation {
        "maximum" => meter["bucket"].clone(),
        "percentile_95" => json!(if chance(rng, 90) { "hour" } else { "five_minutes" }),
        _ => json!("month"),
    };
    meter["bucket"] = bucket;
    match aggregation {
        "records" => meter["keep_records"] = json!(true),
        _ => meter["aggregation"] = json!(aggregation),
    }
    match aggregation {
        "unique" => {
            meter["of"] = json!("quantity");
            meter.as_object_mut().expect("an object").remove("scale");
        }
        "records" if wide && chance(rng, 30) => {
            meter["of"] = json!("amount");
            meter.as_object_mut().expect("an object").remove("scale");
        }
        "level" => {
            let records = *one(rng, &["level", "change"]);
            let weigh = *one(rng, &["time", "day"]);
            meter["level"] = json!({ "records": records, "weigh": weigh, "carry": chance(rng, 50) });
        }
        _ => {}
    }
}

fn draw(rng: &mut SmallRng, effective: &str, wide: bool) -> Value {
    let mut meters = Vec::new();
    for index in 0..rng.random_range(1..=5) {
        let bucket = *one(rng, &["month", "day", "hour"]);
        let (id, usage_type) = (format!("m{index}"), format!("u{index}"));
        let mut meter = json!({ "id": id, "service": *one(rng, SERVICES), "usage_type": usage_type, "bucket": bucket });
        if chance(rng, 15) {
            meter["aggregation"] = json!("count");
        } else {
            meter["scale"] = json!(*one(rng, &[0, 3, 12]));
            if chance(rng, 25) {
                aggregate(rng, &mut meter, wide);
            }
        }
        if chance(rng, 40) {
            meter["attributes"] = json!(["class"]);
        }
        meters.push(meter);
    }
    let mut document = json!({
        "kind": "Catalogue", "name": "random", "currency": *one(rng, &["USD", "USD", "JPY", "KWD"]), "effective": effective,
        "meters": meters,
    });
    if chance(rng, 40) {
        document["rounding"] = json!({ "at": *one(rng, &["line", "total"]), "mode": *one(rng, ROUNDING) });
        if chance(rng, 60) {
            document["rounding"]["decimals"] = json!(rng.random_range(-1..=4));
        }
    }
    if chance(rng, 12) {
        document["stages"] = stages(rng);
    }
    set_prices(rng, &mut document, wide);
    document
}

/// Draws SKUs, prices and pools anew; the meters stay as they are, as they must in a later version.
pub fn reprice(rng: &mut SmallRng, document: &mut Value) {
    set_prices(rng, document, false);
}

fn set_prices(rng: &mut SmallRng, document: &mut Value, wide: bool) {
    let meters: Vec<Value> = document["meters"].as_array().expect("a list").clone();
    let mut skus = Vec::new();
    let cycle = document["effective"].as_str().expect("a cycle").to_owned();
    let mut prices: Vec<Value> = Vec::new();
    for meter in &meters {
        if chance(rng, 10) {
            continue;
        }
        let usage_type = meter["usage_type"].as_str().expect("text");
        let by_hours = is_of(meter, &["sum", "count", "maximum"]) && meter["bucket"] == "hour";
        let selectors = match rng.random_range(0..4) {
            3 if wide && by_hours => {
                named_hours(rng).into_iter().map(|hours| json!({ "usage_type": usage_type, "hours": hours })).collect()
            }
            0 if !meter["attributes"].is_null() => CLASSES
                .iter()
                .map(|class| json!({ "usage_type": usage_type, "attributes": { "class": class } }))
                .collect(),
            1 => REGIONS.iter().map(|region| json!({ "usage_type": usage_type, "region": region })).collect(),
            _ => vec![json!({ "usage_type": usage_type })],
        };
        for selector in selectors {
            let id = format!("sku{}", skus.len());
            skus.push(json!({ "id": id, "match": selector, "unit": "units", "of": meter["id"] }));
        }
    }
    skus.shuffle(rng);
    let mut left = &mut skus[..];
    while !left.is_empty() {
        // SKUs of one price convert alike, since the pool's total is divided once.
        let count = if chance(rng, 60) { 1 } else { rng.random_range(1..=left.len()) };
        let (together, rest) = left.split_at_mut(count);
        let id = format!("price{}", prices.len());
        let behind = behind(&meters, together.iter());
        let looks_at_records = wide && behind.records && chance(rng, 70);
        let walked = wide && behind.levels && chance(rng, 50);
        let price = match (looks_at_records, walked) {
            (true, _) => by_record(rng, &id, behind),
            (_, true) => walked_by_level(rng, &id, behind),
            _ => price(rng, (&id, &cycle), behind, &meters, wide),
        };
        let convert = (!looks_at_records && chance(rng, 40)).then(|| {
            json!({ "divide": *one(rng, &["1", "2", "3", "7", "1000", "0.5"]), "by_hours_of_cycle": chance(rng, 20) })
        });
        let own = count == 1 && price["model"] == "per_unit" && chance(rng, 50);
        for sku in together {
            if let Some(convert) = &convert {
                sku["convert"] = convert.clone();
            }
            if own { sku["rate"] = price["rate"].clone() } else { sku["price"] = json!(id) }
        }
        if !own {
            prices.push(price);
        }
        left = rest;
    }
    let mut pools = Vec::new();
    // Records and levels are charged as they came, without free pools.
    let is_alone = |own: &Value| own["records"].is_object() || own["prorate"] == "ladder";
    let alone = |sku: &&Value| prices.iter().any(|own| own["id"] == sku["price"] && is_alone(own));
    let pooled: Vec<&Value> = skus.iter().filter(|sku| !alone(sku)).collect();
    for index in 0..if pooled.is_empty() { 0 } else { rng.random_range(0..=2) } {
        let mut members = pooled.clone();
        members.shuffle(rng);
        members.truncate(rng.random_range(1..=members.len()));
        let ids: Vec<&Value> = members.iter().map(|sku| &sku["id"]).collect();
        let behind = behind(&meters, members.iter().copied());
        let mut pool = json!({ "id": format!("pool{index}"), "units": quantity(rng, 2), "skus": ids });
        if chance(rng, 50) {
            pool["split_by"] = json!(split_by(rng, behind.class));
        }
        if behind.timed && chance(rng, 50) {
            pool["share"] = json!("sequence");
        }
        pools.push(pool);
    }
    for sku in &mut skus {
        sku.as_object_mut().expect("an object").remove("of");
    }
    skus.sort_by_key(|sku| sku["id"].to_string());
    document["skus"] = json!(skus);
    document["prices"] = json!(prices);
    document["pools"] = json!(pools);
}

fn is_of(meter: &Value, aggregations: &[&str]) -> bool {
    aggregations.contains(&meter["aggregation"].as_str().unwrap_or("sum"))
}

fn behind<'a>(meters: &[Value], skus: impl Iterator<Item = &'a Value>) -> Behind {
    let of = |sku: &Value| meters.iter().find(|meter| meter["id"] == sku["of"]).expect("a SKU prices a meter");
    let meters: Vec<&Value> = skus.map(of).collect();
    Behind {
        timed: meters.iter().all(|meter| is_of(meter, &["sum", "count"]) && meter["bucket"] != "month"),
        parted: meters.iter().all(|meter| is_of(meter, &["sum", "count", "maximum"]) && meter["bucket"] != "month"),
        records: meters.iter().all(|meter| meter["keep_records"] == true),
        levels: meters.iter().all(|meter| is_of(meter, &["level"]) && meter["scale"] == meters[0]["scale"]),
        hours: meters.iter().all(|meter| meter["bucket"] == "hour"),
        class: meters.iter().all(|meter| !meter["attributes"].is_null()),
    }
}
