//! The one test binary: every story, table and rule that spans crates. Each file says on top what it proves.

mod simulation;
mod folds;
mod histories;
mod tidy;
