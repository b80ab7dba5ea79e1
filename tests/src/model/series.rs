//! What the model reads: plain JSON documents, the names of what is counted, and the patterns that choose among them.

use serde_json::Value;

use super::exact::{Exact, exact};

/// What a counter counts for. The order of the fields is the order of ties: account, then the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub account: String,
    pub service: String,
    pub usage_type: String,
    pub operation: String,
    pub region: String,
    pub attributes: Vec<(String, String)>,
}

/// A counter: what one series used in one bucket of the cycle (its first hour, from 0).
#[derive(Clone, Debug)]
pub struct Counter {
    pub series: Series,
    pub bucket: i64,
    pub value: Exact,
    /// How many there were.
    pub records: u64,
}

/// Who pays for an account and which billing group it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub payer: String,
    pub group: String,
}

pub fn list<'a>(document: &'a Value, field: &str) -> &'a [Value] {
    document[field].as_array().map_or(&[], Vec::as_slice)
}

pub fn text<'a>(value: &'a Value, default: &'a str) -> &'a str {
    value.as_str().unwrap_or(default)
}

pub fn number(value: &Value, default: &str) -> Exact {
    exact(text(value, default))
}

/// Meters select by everything but attributes.
pub fn without_attributes(series: &Series) -> Series {
    Series { attributes: Vec::new(), ..series.clone() }
}

/// Whether what was counted in a bucket is all that a meter knows of it.
pub fn is_summed(meter: &Value) -> bool {
    ["sum", "count"].contains(&text(&meter["aggregation"], "sum")) && meter["keep_records"] != true
}

/// `*` stands for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|left| {
            (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| matches(rest, &left[at..]))
        }),
    }
}

/// Whether a selector (missing fields are `*`) holds a series.
pub fn selects(selector: &Value, series: &Series) -> bool {
    let attribute = |name: &str| series.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    matches(text(&selector["service"], "*"), &series.service)
        && matches(text(&selector["usage_type"], "*"), &series.usage_type)
        && matches(text(&selector["operation"], "*"), &series.operation)
        && matches(text(&selector["region"], "*"), &series.region)
        && selector["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, pattern)| attribute(name).is_some_and(|value| matches(text(pattern, "*"), value)))
}

pub fn names(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|name| text(name, "")).collect()
}
