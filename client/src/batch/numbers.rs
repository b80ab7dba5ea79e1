//! What has been learnt of series: their numbers in their slots' tables, by generation. Written once when a reply
//! arrives, read once a record when a batch is packed, so it is kept small and apart from the names.

use reckoner_shard::machine::command::NO_SERIES;
use reckoner_shard::usage::segment::{Reference, Writer};
use reckoner_shard::usage::series::SeriesKey;

/// Numbers of all series of one batcher.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// 8 bytes a series: with a million of them this is what the packing loop walks over at random.
    known: Vec<Known>,
    names: Vec<(SeriesKey, u8)>,
    /// Where the segment that is being packed has defined a series already.
    defined: Vec<(u32, Reference)>,
    stamp: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// 0: never learnt.
    generation: u32,
    number: u32,
}

impl Numbers {
    /// Takes over a series under the next index.
    pub fn add(&mut self, key: SeriesKey, scale: u8) {
        self.known.push(Known::default());
        self.defined.push((0, Reference::Number(0)));
        self.names.push((key, scale));
    }

    /// What a series is, and the decimals of its quantities.
    pub fn name(&self, index: u32) -> &(SeriesKey, u8) {
        &self.names[index as usize]
    }

    /// Begins a segment: nothing is defined in it.
    pub fn begin(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.defined.fill((0, Reference::Number(0)));
            self.stamp = 1;
        }
    }

    /// How the open segment names a series: by its number where the generation is still that of the slot, else by a
    /// definition, which is added to `definitions` the first time.
    #[inline]
    pub fn reference(
        &mut self,
        index: u32,
        generation: u32,
        writer: &mut Writer,
        definitions: &mut Vec<u32>,
    ) -> Reference {
        let known = self.known[index as usize];
        if known.generation == generation && generation != 0 {
            return Reference::Number(known.number);
        }
        self.define(index, writer, definitions)
    }

    fn define(&mut self, index: u32, writer: &mut Writer, definitions: &mut Vec<u32>) -> Reference {
        let (stamp, reference) = self.defined[index as usize];
        if stamp == self.stamp {
            return reference;
        }
        let (key, scale) = &self.names[index as usize];
        let reference = writer.define(key, u32::from(*scale));
        self.defined[index as usize] = (self.stamp, reference);
        definitions.push(index);
        reference
    }

    /// Takes over the numbers that a reply gave to definitions.
    pub fn learn(&mut self, definitions: &[u32], numbers: &[u32], generation: u32) {
        for (index, number) in definitions.iter().zip(numbers) {
            if *number != NO_SERIES {
                self.known[*index as usize] = Known { generation, number: *number };
            }
        }
    }
}
