//! Content hashes. What is hashed, and in which form, is said where it happens.

/// A 256-bit content hash (blake3).
pub type Hash = [u8; 32];

/// A hash as 64 hexadecimal digits.
pub fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
