//! The doors: each file takes one service from the wire, asks, and answers on the wire; nothing else happens here.

// pub mod accounts;
// pub mod bills;
pub mod catalogue;
pub mod cluster;
pub mod internal;
pub mod server;
pub mod status;
pub mod usage;
mod wire;
