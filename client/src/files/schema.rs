//! JSON Schema of the documents that people write, for editors and other programs. The shapes and their descriptions are
//! those of the domain's types; what a document means is still checked by `validate`.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use reckoner_shard::account::document::HierarchyDocument;
use reckoner_shard::contract::document::ContractDocument;
use reckoner_shard::pricing::document::CatalogueDocument;

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Catalogue,
    Hierarchy,
    Contract,
}

/// The schema of a kind, JSON Schema 2020-12.
pub fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Catalogue => schema_of::<CatalogueDocument>(),
        Kind::Hierarchy => schema_of::<HierarchyDocument>(),
        Kind::Contract => schema_of::<ContractDocument>(),
    }
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(BareNumbers);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// In files a number may stand where text is expected: its digits are read as they are written, so that `rate: 0.10` and
/// an account's number need no quotes.
#[derive(Clone, Debug)]
struct BareNumbers;

impl Transform for BareNumbers {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let text = schema.get("type").is_some_and(|kind| kind == "string");
        let optional = schema.get("type").is_some_and(|kind| *kind == json!(["string", "null"]));
        let open = ["enum", "const", "pattern", "format"].iter().all(|word| schema.get(*word).is_none());
        if open && (text || optional) {
            let kinds = if text { json!(["string", "number"]) } else { json!(["string", "number", "null"]) };
            schema.insert("type".to_owned(), kinds);
        }
    }
}
