//! What a node keeps beside its log and snapshots: catalogue documents and bills, each behind a trait with a twin in
//! memory.

pub mod attachments;
pub mod bills;
pub mod blobs;
pub mod catalogues;
pub mod content;
pub mod durable;
