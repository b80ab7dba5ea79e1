//! A whole cluster in a directory: how the files are laid out, how they are taken from a running cluster, and how they are
//! checked without one. Making a cluster of them again is the node's matter.

pub mod check;
pub mod layout;
pub mod take;
