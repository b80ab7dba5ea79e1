//! A journal record as raft-engine stores it: its entries must be protobuf 2 messages, so this is one by hand.
//!
//! Layout: format, kind, crc32c of the rest, term, index, payload. The checksum covers what raft-engine's own does too;
//! it is checked on every read, so that damage is found by whoever reads and named by entry.

use std::any::Any;
use std::io::{self, Read};
use std::sync::OnceLock;

use bytes::{Buf, Bytes};
use protobuf::reflect::MessageDescriptor;
use protobuf::{Clear, CodedInputStream, CodedOutputStream, Message, ProtobufResult, UnknownFields};
use raft_engine::MessageExt;

use crate::store::journal::Record;

const FORMAT: u8 = 1;

/// Format, kind and checksum come before what the checksum covers, together with the kind.
const CHECKSUM_AT: usize = 2;
const COVERED_AT: usize = 6;
const HEADER_BYTES: usize = COVERED_AT + 16;

/// A record in its stored form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredRecord {
    bytes: Bytes,
    /// Set when the record is written: then the payload need not be copied before.
    record: Option<Record>,
    unknown: UnknownFields,
}

impl StoredRecord {
    pub fn new(record: Record) -> Self {
        Self { record: Some(record), ..Self::default() }
    }

    /// The record, if its checksum fits.
    pub fn into_record(self) -> io::Result<Record> {
        if let Some(record) = self.record {
            return Ok(record);
        }
        let damaged = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let mut bytes = self.bytes;
        if bytes.len() < HEADER_BYTES {
            return damaged(format!("{} bytes are too few for an entry", bytes.len()));
        }
        if bytes[0] != FORMAT {
            return damaged(format!("an entry has format {}, this version reads {FORMAT}", bytes[0]));
        }
        let kind = bytes[1];
        let covered = checksum(kind, &bytes[COVERED_AT..]);
        bytes.advance(CHECKSUM_AT);
        let stored = bytes.get_u32_le();
        let term = bytes.get_u64_le();
        let index = bytes.get_u64_le();
        if stored != covered {
            return damaged(format!("entry {index} has checksum {covered:08x}, {stored:08x} was stored"));
        }
        Ok(Record { index, term, kind, payload: bytes })
    }

    fn stored_index(&self) -> u64 {
        match &self.record {
            Some(record) => record.index,
            None => self
                .bytes
                .get(HEADER_BYTES - 8..HEADER_BYTES)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_le_bytes),
        }
    }
}

fn checksum(kind: u8, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), covered)
}

fn header(record: &Record) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = FORMAT;
    header[1] = record.kind;
    header[COVERED_AT..COVERED_AT + 8].copy_from_slice(&record.term.to_le_bytes());
    header[COVERED_AT + 8..].copy_from_slice(&record.index.to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum(record.kind, &header[COVERED_AT..]), &record.payload);
    header[CHECKSUM_AT..COVERED_AT].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Tells raft-engine the index of an entry.
pub(crate) struct Records;

impl MessageExt for Records {
    type Entry = StoredRecord;

    fn index(entry: &StoredRecord) -> u64 {
        entry.stored_index()
    }
}

impl Clear for StoredRecord {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for StoredRecord {
    fn descriptor(&self) -> &'static MessageDescriptor {
        unreachable!("asked for only when a required field is missing, and there are none")
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, input: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        self.bytes = bytes.into();
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, output: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
        match &self.record {
            Some(record) => {
                output.write_raw_bytes(&header(record))?;
                output.write_raw_bytes(&record.payload)
            }
            None => output.write_raw_bytes(&self.bytes),
        }
    }

    fn write_to_vec(&self, vector: &mut Vec<u8>) -> ProtobufResult<()> {
        match &self.record {
            Some(record) => {
                vector.extend_from_slice(&header(record));
                vector.extend_from_slice(&record.payload);
            }
            None => vector.extend_from_slice(&self.bytes),
        }
        Ok(())
    }

    fn compute_size(&self) -> u32 {
        let bytes = match &self.record {
            Some(record) => HEADER_BYTES + record.payload.len(),
            None => self.bytes.len(),
        };
        bytes as u32
    }

    fn get_cached_size(&self) -> u32 {
        self.compute_size()
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new() -> Self {
        Self::default()
    }

    fn default_instance() -> &'static Self {
        static EMPTY: OnceLock<StoredRecord> = OnceLock::new();
        EMPTY.get_or_init(Self::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { index: 7, term: 3, kind: 1, payload: Bytes::from_static(b"payload") }
    }

    fn stored(record: Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        StoredRecord::new(record).write_to_vec(&mut bytes).expect("written");
        bytes
    }

    #[test]
    fn comes_back_as_written() {
        let bytes = stored(record());
        let read = StoredRecord::parse_from_bytes(&bytes).expect("parsed");
        assert_eq!(Records::index(&read), 7);
        assert_eq!(read.into_record().expect("sound"), record());
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let bytes = stored(record());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let read = StoredRecord::parse_from_bytes(&bad).expect("parsed");
            assert!(read.into_record().is_err(), "byte {at}");
        }
        for length in 0..bytes.len() {
            let read = StoredRecord::parse_from_bytes(&bytes[..length]).expect("parsed");
            assert!(read.into_record().is_err(), "cut to {length}");
        }
    }
}
