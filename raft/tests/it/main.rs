//! The tests of replication from outside: groups over the twins in memory, and over raft-engine, sled and gRPC.

mod grpc;
mod harness;
mod memory;
mod offline;
mod pledge;
