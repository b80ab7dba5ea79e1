//! The doors: each file takes one service from the wire, asks, and answers on the wire; nothing else happens here.

pub mod status;
