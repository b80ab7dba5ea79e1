//! A hierarchy's own terms, one mechanism a file: data and arithmetic over amounts that it is handed. Which lines it is
//! handed, and what lines it makes, is decided in `billing/stage.rs`.

pub mod document;
pub mod percent;
pub mod private_rate;
pub mod scope;
mod subscribe;
pub mod subscription;
pub mod terms;
