//! Two documents compared field by field: what is missing, added or different, each with the way to it. Entries of lists
//! are matched by their `id` where all have one of their own, else by their place. Used for documents and bills alike.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `skus[s3-standard].rate`; `tiers[1]` where entries have no id.
    pub path: String,
    /// Absent: added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Absent: removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// All that differs, in the order of the fields before, then of those that were added.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    walk(String::new(), before, after, &mut found);
    found
}

/// A change in a line: `~ path: before -> after`, `+ path: after`, `- path: before`.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "~ {}: {} -> {}", self.path, plain(before), plain(after)),
            (None, Some(after)) => write!(f, "+ {}: {}", self.path, plain(after)),
            (Some(before), None) => write!(f, "- {}: {}", self.path, plain(before)),
            (None, None) => write!(f, "  {}", self.path),
        }
    }
}

/// A value as a person reads it: text without quotes, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn walk(path: String, before: &Value, after: &Value, found: &mut Vec<Change>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            for (key, old) in before {
                either(join(&path, key), Some(old), after.get(key), found);
            }
            for (key, new) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
                either(join(&path, key), None, Some(new), found);
            }
        }
        (Value::Array(before), Value::Array(after)) => lists(&path, before, after, found),
        _ => either_changed(path, Some(before), Some(after), found),
    }
}

fn either(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(before), Some(after)) => walk(path, before, after, found),
        _ => either_changed(path, before, after, found),
    }
}

fn either_changed(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    found.push(Change { path, before: before.cloned(), after: after.cloned() });
}

fn lists(path: &str, before: &[Value], after: &[Value], found: &mut Vec<Change>) {
    if let (Some(old), Some(new)) = (by_id(before), by_id(after)) {
        for (id, place) in &old {
            either(format!("{path}[{id}]"), Some(&before[*place]), new.get(id).map(|place| &after[*place]), found);
        }
        for (id, place) in new.iter().filter(|(id, _)| !old.contains_key(*id)) {
            either(format!("{path}[{id}]"), None, Some(&after[*place]), found);
        }
        let order = |list: &[Value], other: &BTreeMap<String, usize>| -> Vec<Value> {
            list.iter().filter_map(id_of).filter(|id| other.contains_key(id)).map(Value::String).collect()
        };
        let (old, new) = (order(before, &new), order(after, &old));
        if old != new {
            either_changed(format!("{path} (order)"), Some(&old.into()), Some(&new.into()), found);
        }
        return;
    }
    let (old, new) = (words(before), words(after));
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        for gone in before.iter().filter(|word| !new.contains(&word.to_string())) {
            either_changed(path.to_owned(), Some(gone), None, found);
        }
        for added in after.iter().filter(|word| !old.contains(&word.to_string())) {
            either_changed(path.to_owned(), None, Some(added), found);
        }
        return;
    }
    for place in 0..before.len().max(after.len()) {
        either(format!("{path}[{place}]"), before.get(place), after.get(place), found);
    }
}

/// Places by id, where every entry has one of its own.
fn by_id(list: &[Value]) -> Option<BTreeMap<String, usize>> {
    let mut places = BTreeMap::new();
    for (place, entry) in list.iter().enumerate() {
        if places.insert(id_of(entry)?, place).is_some() {
            return None;
        }
    }
    Some(places)
}

fn id_of(entry: &Value) -> Option<String> {
    entry.as_object().and_then(|entry: &Map<String, Value>| entry.get("id")).map(plain)
}

/// The entries of a list of plain values that are all different.
fn words(list: &[Value]) -> Option<BTreeSet<String>> {
    let plain = list.iter().all(|entry| !entry.is_object() && !entry.is_array());
    let words: BTreeSet<String> = list.iter().map(Value::to_string).collect();
    (plain && words.len() == list.len()).then_some(words)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_named_by_the_way_to_them() {
        fn check(before: Value, after: Value, expected: &[&str]) {
            let found: Vec<String> = changes(&before, &after).iter().map(Change::to_string).collect();
            assert_eq!(found, expected);
        }
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(json!({"a": "x", "b": 1}), json!({"a": "y", "c": [2]}), &["~ a: x -> y", "- b: 1", "+ c: [2]"]);
        check(
            json!({"skus": [{"id": "s", "rate": "1"}, {"id": "t"}]}),
            json!({"skus": [{"id": "u"}, {"id": "s", "rate": "2"}]}),
            &["~ skus[s].rate: 1 -> 2", "- skus[t]: {\"id\":\"t\"}", "+ skus[u]: {\"id\":\"u\"}"],
        );
        check(
            json!({"c": [{"id": "a"}, {"id": "b"}]}),
            json!({"c": [{"id": "b"}, {"id": "a"}]}),
            &["~ c (order): [\"a\",\"b\"] -> [\"b\",\"a\"]"],
        );
        // Ids that stand there twice say nothing.
        check(
            json!([{"id": "a", "n": 1}, {"id": "a", "n": 2}]),
            json!([{"id": "a", "n": 1}, {"id": "a", "n": 3}]),
            &["~ [1].n: 2 -> 3"],
        );
        check(json!({"p": ["x", "y"]}), json!({"p": ["y", "z"]}), &["- p: x", "+ p: z"]);
        check(json!({"p": ["x", "y"]}), json!({"p": ["y", "x"]}), &["~ p[0]: x -> y", "~ p[1]: y -> x"]);
        check(
            json!({"t": [{"up_to": "1"}]}),
            json!({"t": [{"up_to": "2"}, {}]}),
            &["~ t[0].up_to: 1 -> 2", "+ t[1]: {}"],
        );
        check(json!({"t": [1]}), json!({"t": {"a": 1}}), &["~ t: [1] -> {\"a\":1}"]);
    }
}
