//! The harness: a slow twin of the product, random documents and usage. The stories that use it are in `it/`.

pub mod compare;
pub mod draw;
pub mod faults;
pub mod machine;
pub mod model;
pub mod pair;
pub mod table;
