//! The one test binary: every story, table and rule that spans crates. Each file says on top what it proves.

mod failover;
mod kill9;
mod restart;
mod simulation;
mod folds;
mod histories;
mod tidy;
