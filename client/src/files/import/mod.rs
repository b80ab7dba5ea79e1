//! Price lists of providers into catalogue documents. `aws` and `oci` read a list's own form into items; `ladder` makes
//! tiers of ranges; `apart` tells products apart that share a usage type; `build` makes the catalogue.

mod apart;
pub mod aws;
pub mod build;
pub mod item;
mod json;
mod ladder;
pub mod oci;
