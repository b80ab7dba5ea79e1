//! A long vector in chunks that can be frozen without copying: a frozen twin shares every chunk, and the first write to a
//! chunk afterwards copies that chunk alone. Between freezes a write costs no more than in a plain vector, for no
//! reference count is touched.

use std::sync::Arc;

/// Items of a chunk: small enough that a write beside a frozen twin copies little, large enough that freezing has few
/// pointers to share.
pub const CHUNK: usize = 256;
const SHIFT: u32 = CHUNK.trailing_zeros();

#[derive(Debug)]
enum Chunk<T> {
    /// Only here.
    Owned(Vec<T>),
    /// Perhaps also in a frozen twin.
    Shared(Arc<Vec<T>>),
}

impl<T: Clone> Chunk<T> {
    fn items(&self) -> &Vec<T> {
        match self {
            Chunk::Owned(items) => items,
            Chunk::Shared(items) => items,
        }
    }

    #[inline]
    fn items_mut(&mut self) -> &mut Vec<T> {
        if let Chunk::Shared(_) = self {
            self.own();
        }
        match self {
            Chunk::Owned(items) => items,
            Chunk::Shared(_) => unreachable!("the chunk was made its own just before"),
        }
    }

    #[cold]
    fn own(&mut self) {
        if let Chunk::Shared(items) = std::mem::replace(self, Chunk::Owned(Vec::new())) {
            *self = Chunk::Owned(Arc::try_unwrap(items).unwrap_or_else(|items| items.to_vec()));
        }
    }

    fn share(&mut self) -> Chunk<T> {
        if let Chunk::Owned(items) = self {
            *self = Chunk::Shared(Arc::new(std::mem::take(items)));
        }
        match self {
            Chunk::Shared(items) => Chunk::Shared(items.clone()),
            Chunk::Owned(_) => unreachable!("the chunk was shared just before"),
        }
    }
}

/// A vector in chunks. Dense where it only ever grows by `push`; sparse where whole chunks are left empty.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Chunk<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks { chunks: Vec::new() }
    }
}

impl<T: Clone> Chunks<T> {
    /// Items of a dense vector.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.items().len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an item to a dense vector.
    pub fn push(&mut self, item: T) {
        match self.chunks.last_mut() {
            Some(last) if last.items().len() < CHUNK => last.items_mut().push(item),
            _ => self.chunks.push(Chunk::Owned(vec![item])),
        }
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index >> SHIFT)?.items().get(index & (CHUNK - 1))
    }

    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index >> SHIFT)?.items_mut().get_mut(index & (CHUNK - 1))
    }

    /// The items of one chunk; empty where it is absent.
    pub fn chunk(&self, chunk: usize) -> &[T] {
        self.chunks.get(chunk).map_or(&[], |chunk| chunk.items())
    }

    /// The items of one chunk, to be filled; chunks before it stay empty where they are absent.
    pub fn chunk_mut(&mut self, chunk: usize) -> &mut Vec<T> {
        while self.chunks.len() <= chunk {
            self.chunks.push(Chunk::Owned(Vec::new()));
        }
        self.chunks[chunk].items_mut()
    }

    /// Forgets the items of one chunk.
    pub fn clear_chunk(&mut self, chunk: usize) {
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            *chunk = Chunk::Owned(Vec::new());
        }
    }

    /// Chunks, empty ones included.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The items of all chunks, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.items())
    }

    /// A twin that stays as it is now.
    pub fn freeze(&mut self) -> Chunks<T> {
        Chunks { chunks: self.chunks.iter_mut().map(Chunk::share).collect() }
    }
}

impl<T: Clone> std::ops::Index<usize> for Chunks<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.chunks[index >> SHIFT].items()[index & (CHUNK - 1)]
    }
}

impl<T: Clone> std::ops::IndexMut<usize> for Chunks<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index >> SHIFT].items_mut()[index & (CHUNK - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_twin_does_not_change() {
        let mut live = Chunks::default();
        for n in 0..1000 {
            live.push(n);
        }
        let frozen = live.freeze();
        live[0] = 7;
        live[999] = 8;
        live.push(1000);
        live.clear_chunk(1);
        assert_eq!((frozen.len(), live.len()), (1000, 1001));
        assert!(frozen.iter().copied().eq(0..1000));
        assert_eq!((live[0], live[999], live.get(300), live.get(1001)), (7, 8, None, None));
        assert_eq!(frozen.chunk(1).len(), CHUNK);
    }
}
