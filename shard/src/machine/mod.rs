//! The machine: `(state, stamped entry, the blobs it names) -> outcomes`. Entries and outcomes as data and as bytes, the
//! state, its views and snapshots.

pub mod apply;
pub mod archive;
pub mod catalogues;
pub mod claims;
pub mod codec;
pub mod command;
pub mod contents;
pub mod cycles;
pub mod digest;
pub mod hierarchies;
pub mod ingest;
pub mod moves;
mod moving;
mod place;
pub mod producers;
pub mod query;
mod record;
pub mod snapshot;
mod snapshot_cycles;
mod snapshot_rows;
mod spread;
pub mod state;
mod transferred;
mod transfers;
pub mod wire;
mod wire_moves;
pub mod wire_state;

#[cfg(test)]
mod books;
#[cfg(test)]
mod claims_test;
#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod history_test;
#[cfg(test)]
mod kept_test;
#[cfg(test)]
mod kinds_test;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod machine_test;
#[cfg(test)]
mod measure_test;
#[cfg(test)]
mod moves_test;
#[cfg(test)]
mod planted_test;
#[cfg(test)]
mod spread_test;
#[cfg(test)]
mod transfers_test;
