//! The public contract (`proto`), a library over it, and the command line's verbs. Knows the domain (`reckoner-shard`),
//! nothing of replication.

pub mod proto;
