//! Files that people write and machines produce: documents in YAML, usage in JSON lines and CSV; and what is wrong in
//! them, with line and caret.

pub mod documents;
pub mod finding;
pub mod tree;
pub mod typed;
pub mod usage;
