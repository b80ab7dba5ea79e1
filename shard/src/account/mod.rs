//! Who is billed together: the document that a person writes, the tree that the machine keeps, and the directory that
//! finds an account's root.

pub mod directory;
pub mod document;
pub mod transfer;
pub mod tree;
