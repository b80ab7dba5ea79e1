//! The client against a cluster that misbehaves: real shard machines behind a loopback gRPC server that loses replies,
//! drops batches, changes leaders and moves slots. Pure parts are tested beside their code.

mod cli;
mod counted_once;
mod fake;
mod price_lists;
mod rows;
mod schemas;
