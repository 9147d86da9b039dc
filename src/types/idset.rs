//! Set of CPUs, nodes or vCPUs, as a bitmap.

use std::fmt;
use std::marker::PhantomData;

use smallvec::SmallVec;

use crate::types::ids::{CellId, HostCpu, Id, NodeId, VcpuId};

/// Set of host CPUs.
pub type CpuSet = IdSet<HostCpu>;
/// Set of the host's NUMA nodes.
pub type NodeSet = IdSet<NodeId>;
/// Set of vCPUs of one guest.
pub type VcpuSet = IdSet<VcpuId>;
/// Guest cells.
pub type CellSet = IdSet<CellId>;

/// Words of a bitmap. Two words take no more room than a vector's pointer, length and capacity, and
/// suffice for hosts of up to 128 CPUs.
type Words = SmallVec<[u64; 2]>;

/// Set of ids of one kind, printed as a cpulist: `0-3,16`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdSet<T> {
    /// Bitmap: bit `n % 64` of word `n / 64` is id `n`. The last word is never zero, so equal sets
    /// are equal vectors.
    words: Words,
    kind: PhantomData<T>,
}

impl<T> Default for IdSet<T> {
    fn default() -> Self {
        Self {
            words: Words::new(),
            kind: PhantomData,
        }
    }
}

impl<T: Id> IdSet<T> {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a set of one id.
    pub fn one(id: T) -> Self {
        let mut set = Self::new();
        set.insert(id);
        set
    }

    /// Makes the set of the ids `0..count`.
    pub fn first_n(count: u32) -> Self {
        let mut set = Self::new();
        if let Some(last) = count.checked_sub(1) {
            set.insert_range(0, last);
        }
        set
    }

    /// Adds all ids from `first` to `last`, word by word: a list of a few bytes may name thousands
    /// of ids.
    pub(crate) fn insert_range(&mut self, first: u32, last: u32) {
        if first > last {
            return;
        }
        let (from, to) = ((first / 64) as usize, (last / 64) as usize);
        if to >= self.words.len() {
            self.words.resize(to + 1, 0);
        }
        for word in from..=to {
            let mut bits = u64::MAX;
            if word == from {
                bits &= u64::MAX << (first % 64);
            }
            if word == to {
                bits &= u64::MAX >> (63 - last % 64);
            }
            self.words[word] |= bits;
        }
    }

    /// Adds an id and returns true if it was missing.
    pub fn insert(&mut self, id: T) -> bool {
        let (word, bit) = split(id);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        fresh
    }

    /// Removes an id and returns true if it was there.
    pub(crate) fn remove(&mut self, id: T) -> bool {
        let (word, bit) = split(id);
        let Some(slot) = self.words.get_mut(word) else {
            return false;
        };
        let was = *slot & bit != 0;
        *slot &= !bit;
        self.trim();
        was
    }

    /// Returns true if the id is in the set.
    pub fn contains(&self, id: T) -> bool {
        let (word, bit) = split(id);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    /// Counts the ids.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Returns true if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns the smallest id.
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }

    /// Returns the largest id.
    pub(crate) fn last(&self) -> Option<T> {
        let word = self.words.last()?;
        Some(T::new((self.words.len() as u32) * 64 - 1 - word.leading_zeros()))
    }

    /// Iterates over the ids in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                Some(T::new(i as u32 * 64 + bit))
            })
        })
    }

    /// Returns the ids in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.extend_from(other);
        out
    }

    /// Adds all ids of `other`.
    pub fn extend_from(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    /// Returns the ids in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect();
        Self::trimmed(words)
    }

    /// Returns the ids of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut words = self.words.clone();
        for (mine, theirs) in words.iter_mut().zip(&other.words) {
            *mine &= !theirs;
        }
        Self::trimmed(words)
    }

    /// Counts the ids in both sets.
    pub fn overlap(&self, other: &Self) -> usize {
        self.words
            .iter()
            .zip(&other.words)
            .map(|(a, b)| (a & b).count_ones() as usize)
            .sum()
    }

    /// Returns true if the sets have no id in common.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).all(|(a, b)| a & b == 0)
    }

    /// Returns true if all ids of this set are in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.words.len() <= other.words.len() && self.words.iter().zip(&other.words).all(|(a, b)| a & !b == 0)
    }

    fn trimmed(words: Words) -> Self {
        let mut set = Self {
            words,
            kind: PhantomData,
        };
        set.trim();
        set
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

fn split<T: Id>(id: T) -> (usize, u64) {
    let raw = id.get();
    ((raw / 64) as usize, 1u64 << (raw % 64))
}

impl<T: Id> FromIterator<T> for IdSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(ids: I) -> Self {
        let mut set = Self::new();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

impl<T: Id> Extend<T> for IdSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl<T: Id> fmt::Display for IdSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids = self.iter().map(Id::get).peekable();
        let mut separator = "";
        while let Some(start) = ids.next() {
            let mut end = start;
            while ids.peek() == Some(&(end + 1)) {
                end += 1;
                ids.next();
            }
            match end - start {
                0 => write!(f, "{separator}{start}")?,
                _ => write!(f, "{separator}{start}-{end}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl<T: Id> fmt::Debug for IdSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl<T: Id> serde::Serialize for IdSet<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Id::get))
    }
}

impl<'de, T: Id> serde::Deserialize<'de> for IdSet<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ids = Vec::<u32>::deserialize(deserializer)?;
        if let Some(id) = ids.iter().find(|id| **id > crate::types::cpulist::MAX_ID) {
            return Err(serde::de::Error::custom(format!("{} {id} is too large", T::NOUN)));
        }
        Ok(ids.into_iter().map(T::new).collect())
    }
}
