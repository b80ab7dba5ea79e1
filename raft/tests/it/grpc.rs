//! Groups over raft-engine, sled and gRPC on loopback.
