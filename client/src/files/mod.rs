//! Files that people write and machines produce: documents in YAML, usage in JSON lines and CSV, price lists; and what is
//! wrong in them, with line and caret.

pub mod bundle;
pub mod compare;
pub mod documents;
pub mod finding;
pub mod import;
pub mod schema;
pub mod tree;
pub mod typed;
pub mod usage;
pub mod zones;
