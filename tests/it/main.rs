//! The one test binary: every story, table and rule that spans crates. Each file says on top what it proves.

mod account_moves;
mod bills;
mod clocks;
mod equality;
mod examples;
mod exports;
mod extras;
mod failover;
mod folds;
mod histories;
mod kill9;
mod processes;
mod resharding;
mod restart;
mod scaling;
mod simulation;
mod tidy;
mod versions;
