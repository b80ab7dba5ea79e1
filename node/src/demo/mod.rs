//! `reckoner demo`: three nodes in one process, two real usage files, a killed leader, a closed cycle, an exact bill, and
//! the checks that show it. Nothing here is special to the demo but the words: it uses the cluster and the client library
//! as anybody would.

mod check;
mod example;
mod screen;
mod story;

pub use story::run;
