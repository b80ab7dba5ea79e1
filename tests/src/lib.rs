//! The harness: a slow twin of the product, random documents and usage. The stories that use it are in `it/`.

pub mod draw;
pub mod model;
pub mod table;
