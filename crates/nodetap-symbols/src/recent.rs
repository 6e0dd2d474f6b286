//! What was used not long ago.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A map that forgets what has not been asked for since many others were put in.
///
/// Most of what is kept here is kept under addresses, which the target's collector gives
/// to other objects and code again and again: without a bound it would grow for as long
/// as the target runs.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    /// At most `LIMIT`.
    young: FxHashMap<K, V>,
    /// What was the young ones before. An entry of the same key among those goes before.
    old: FxHashMap<K, V>,
    limit: usize,
}

/// How many are remembered at least; at most it is twice as many.
const LIMIT: usize = 1 << 15;

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            limit: LIMIT,
        }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// What is kept for `key`, and will be for longer now.
    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        // Mostly there are none.
        if !self.old.is_empty()
            && !self.young.contains_key(key)
            && let Some((key, value)) = self.old.remove_entry(key)
        {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// What is kept for `key`.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// All keys; some may come twice.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.young.keys().chain(self.old.keys())
    }

    /// Keeps `value` for `key`.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.limit && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limit: usize) -> Recent<u32, u32> {
        Recent {
            limit,
            ..Recent::default()
        }
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut recent = limited(10);
        for key in 0..1000 {
            recent.insert(key, 2 * key);
            assert_eq!(recent.get(&0), Some(&0), "{key}");
            assert_eq!(recent.get(&key), Some(&(2 * key)));
            assert!(recent.young.len() <= 10 && recent.old.len() <= 10);
        }
        assert_eq!(recent.get(&500), None);
        assert!((991..1000).all(|key| recent.peek(&key) == Some(&(2 * key))));
    }

    #[test]
    fn the_last_value_is_the_one() {
        let mut recent = limited(4);
        for round in 0..100 {
            for key in 0..3 {
                recent.insert(key, round);
                recent.insert(100 + 3 * round + key, 0);
                assert_eq!(recent.peek(&key), Some(&round));
                assert_eq!(recent.get(&key), Some(&round));
            }
        }
    }
}
