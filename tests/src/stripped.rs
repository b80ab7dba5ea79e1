//! Snapshots that lack something or say something else: a field of a shard's snapshot is changed in its bytes, and its
//! checksum made right again, as a machine would have written them that is wrong. The format is the product's (`shard/src/machine/snapshot.rs`).

use prost::Message as _;
use reckoner_shard::machine::snapshot::{FORMAT, HEADER_SECTION};
use reckoner_shard::machine::wire_state::SlotPart;

use crate::planted::Planted;

/// What a planted bug takes out of a slot's part, or makes of it.
pub fn stripped_fields(planted: Planted) -> Option<fn(&mut SlotPart)> {
    match planted {
        Planted::MarksNotKept => Some(|part| part.producers.iter_mut().for_each(|own| own.last = None)),
        Planted::IdsNotKept => Some(|part| part.hours.clear()),
        Planted::RefusalsNotKept => Some(|part| {
            for own in &mut part.producers {
                own.refused.clear();
                own.refusals.clear();
            }
        }),
        Planted::LateNotKept => Some(|part| part.late.clear()),
        Planted::TransfersNotKept => Some(|part| part.transfers.clear()),
        Planted::StaleNumbers => Some(|part| {
            if part.rows.len() >= 4 {
                part.rows.swap(0, 2);
                part.rows.swap(1, 3);
            }
        }),
        Planted::CutForgotten => Some(|part| {
            for cycles in part.roots.iter_mut().filter_map(|root| root.cycles.as_mut()) {
                cycles.open -= u32::from(!cycles.cut.is_empty());
            }
        }),
        // Zigzag: one more of what was counted.
        Planted::FlippedCounter => Some(|part| {
            if let Some(lot) = part.lots.iter_mut().chain(&mut part.buckets).next() {
                lot.low = lot.low.wrapping_add(2);
            }
        }),
        _ => None,
    }
}

/// A chunk without what `planted` takes out; chunks of other machines as they are.
pub fn strip(planted: Planted, section: u32, chunk: &[u8]) -> Vec<u8> {
    let Some(take) = stripped_fields(planted).filter(|_| section != HEADER_SECTION) else { return chunk.to_vec() };
    let body = chunk.split_first_chunk::<5>().filter(|(head, _)| head[0] == FORMAT);
    let Some(Ok(mut part)) = body.map(|(_, body)| SlotPart::decode(body)) else { return chunk.to_vec() };
    take(&mut part);
    let mut bytes = vec![FORMAT, 0, 0, 0, 0];
    bytes.extend(part.encode_to_vec());
    let sum = crc32c::crc32c(&bytes[5..]);
    bytes[1..5].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use reckoner_shard::base::id::ShardId;
    use reckoner_shard::base::time::Timestamp;
    use reckoner_shard::machine::codec::encode_commands;
    use reckoner_shard::machine::command::Command;
    use reckoner_shard::machine::state::State;
    use reckoner_shard::placement::{SLOTS, SlotRange};

    use super::*;
    use crate::machine::Store;

    #[test]
    fn a_stripped_snapshot_still_restores() {
        let mut state = State::new(ShardId(1));
        let slots = vec![SlotRange { first: 0, last: SLOTS - 1 }];
        let genesis = Command::Genesis { shard: ShardId(1), slots, epoch: 1, ids_bytes_max: 1 << 20 };
        state.apply(1, &encode_commands(Timestamp(1), 1, &[genesis]), &Store::default()).unwrap();
        let mut parts = Vec::new();
        state.view().write(&mut |section, bytes| parts.push((section, strip(Planted::IdsNotKept, section, bytes))));
        // Nothing was there to be taken out, so it is the same state.
        assert_eq!(State::restore(parts).unwrap().hash(), state.hash());
    }
}
