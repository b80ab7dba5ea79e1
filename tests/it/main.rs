//! The one test binary: every story, table and rule that spans crates. Each file says on top what it proves.

mod account_moves;
mod backup;
mod bills;
mod clocks;
mod equality;
mod examples;
mod exports;
mod extras;
mod failover;
mod folds;
mod histories;
mod identity;
mod kill9;
mod majority;
mod processes;
mod resharding;
mod restart;
mod rolling;
mod scaling;
mod simulation;
mod tidy;
mod versions;
