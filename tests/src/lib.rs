//! The harness: a slow twin of the product, random documents and usage, whole nodes under faults in virtual time. The
//! stories that use it are in `it/`.

pub mod cli;
pub mod cluster;
pub mod compare;
pub mod crash;
pub mod draw;
pub mod faults;
pub mod fold;
pub mod groups;
pub mod history;
pub mod judge;
pub mod layouts;
pub mod machine;
pub mod members;
pub mod model;
pub mod oracle;
pub mod outside;
pub mod pair;
pub mod places;
pub mod planted;
pub mod processes;
pub mod producing;
pub mod push;
pub mod replicas;
pub mod report;
pub mod seams;
pub mod serve;
pub mod simulation;
pub mod soak;
pub mod soak_log;
pub mod soaking;
pub mod stripped;
pub mod table;
pub mod twisted;
pub mod world;
