//! The machine: `(state, stamped entry, the blobs it names) -> outcomes`. Entries and outcomes as data and as bytes, the
//! state, its views and snapshots.

pub mod command;
