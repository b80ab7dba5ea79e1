//! The doors: each service of the contract has its file, which takes calls from the wire, asks, and answers on the wire;
//! nothing else happens here. What a service needs more than a page for lies beside it.

pub mod accounts;
pub mod backup;
pub mod bills;
pub mod catalogue;
mod close;
pub mod cluster;
mod counters;
mod explain;
mod http;
pub mod internal;
pub mod issued;
pub mod nodes;
pub mod roster;
mod rows;
pub mod server;
mod shards;
pub mod status;
pub mod usage;
mod wire;
