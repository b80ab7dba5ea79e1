//! The schemas that `reckoner schema` prints: every example is valid under the schema of its kind, and what `validate`
//! refuses for its shape is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::Validator;
use reckoner_client::files::finding::Source;
use reckoner_client::files::schema::{Kind, schema};
use reckoner_client::files::tree::{Kind as Form, Node, parse};
use serde_json::{Value, json};

/// A YAML node as JSON, plain scalars as YAML reads them.
fn value(node: &Node) -> Value {
    match &node.kind {
        Form::Null => Value::Null,
        Form::Quoted(text) => json!(text),
        Form::Plain(text) => match text.as_str() {
            "true" | "false" => json!(text == "true"),
            _ if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
                serde_json::from_str(text).unwrap_or_else(|_| json!(text))
            }
            _ => json!(text),
        },
        Form::List(items) => items.iter().map(value).collect(),
        Form::Map(entries) => {
            entries.iter().map(|(key, own)| (key.text().unwrap_or_default().to_owned(), value(own))).collect()
        }
    }
}

fn documents(text: String, name: String) -> Vec<Value> {
    let source = Arc::new(Source { name, text });
    parse(&source).unwrap_or_else(|finding| panic!("{finding}")).iter().map(value).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|own| own == "yaml") {
            found.push(path);
        }
    }
}

fn validator(kind: &str) -> Validator {
    let kind = match kind {
        "Catalogue" => Kind::Catalogue,
        "Hierarchy" => Kind::Hierarchy,
        "Contract" => Kind::Contract,
        other => panic!("kind {other}"),
    };
    jsonschema::validator_for(&schema(kind)).unwrap()
}

#[test]
fn every_example_is_valid_under_the_schema_of_its_kind() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), &mut found);
    let mut checked = 0;
    for path in found {
        let name = path.display().to_string();
        for document in documents(std::fs::read_to_string(&path).unwrap(), name.clone()) {
            let validator = validator(document["kind"].as_str().unwrap());
            let errors: Vec<String> =
                validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}");
            checked += 1;
        }
    }
    assert!(checked >= 8, "only {checked} documents found");
}

const CATALOGUE: &str = "kind: Catalogue\nname: demo\ncurrency: USD\neffective: 2024-09\nmeters:\n  - {id: calls, service: api, \
                         usage_type: calls, scale: 0}\nskus:\n  - {id: calls, match: {service: api}, unit: calls, rate: 0.01}\n";
const CONTRACT: &str = "kind: Contract\nroot: acme\neffective: 2024-09\nclauses:\n  - {id: c, mechanism: percent, kind: \
                        service, percent: 12, scope: {service: [api, web]}}\n";
const HIERARCHY: &str =
    "kind: Hierarchy\nroot: 123456789012\ncatalogue: demo\ncycles: {first: 2024-09, close: manual, grace: 5d}\n";

#[test]
fn what_has_the_wrong_shape_is_not_valid() {
    fn check(text: &str, from: &str, to: &str, valid: bool) {
        let changed = text.replacen(from, to, 1);
        assert!(from == to || changed != text, "{from}");
        let document = documents(changed, "d.yaml".to_owned()).remove(0);
        let validator = validator(text.split(['\n', ' ']).nth(1).unwrap());
        let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), valid, "{to}: {errors:?}");
    }
    for text in [CATALOGUE, CONTRACT, HIERARCHY] {
        check(text, "kind", "kind", true);
        check(text, "kind", "knid", false);
        check(text, "2024-09", "2024", false);
    }
    check(CATALOGUE, "USD", "usd", false);
    check(CATALOGUE, "unit: calls, ", "", false);
    check(CATALOGUE, "rate: 0.01", "rate: [1]", false);
    check(CATALOGUE, "scale: 0", "scale: -1", false);
    check(CATALOGUE, "scale: 0", "aggregation: median", false);
    check(CONTRACT, "percent: 12", "percent: '12'", true);
    check(CONTRACT, "mechanism: percent", "mechanism: magic", false);
    check(CONTRACT, "percent: 12", "percent: 12, rats: 1", false);
    check(CONTRACT, "kind: service", "kind: services", false);
    check(HIERARCHY, "5d", "5 days", false);
    check(HIERARCHY, "manual", "Manual", false);
}

#[test]
fn fields_are_described() {
    let described =
        |schema: &Value, path: &str| schema.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let catalogue = schema(Kind::Catalogue);
    assert!(described(&catalogue, "/properties/effective/description").contains("First cycle"), "{catalogue:#}");
    assert!(described(&catalogue, "/$defs/TierDocument/properties/up_to/description").contains("priced units"));
}
