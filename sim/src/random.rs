//! Chance that can be repeated: SplitMix64, small and good enough to shake a network with.

/// A stream of numbers that follows from its seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` up to and including `high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        let number = self.next_u64();
        match (high - low).checked_add(1) {
            Some(span) => low + number % span,
            None => number,
        }
    }

    /// True once in `n` times; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.next_u64().is_multiple_of(n)
    }
}

/// The seeds a test runs: those it names, or the one in `GLEAN_SEED`.
pub fn seeds(usual: impl IntoIterator<Item = u64>) -> Vec<u64> {
    match std::env::var("GLEAN_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => usual.into_iter().collect(),
    }
}

/// As many seeds from `first` on as `GLEAN_WORLDS` says, or `usual`; or the one in `GLEAN_SEED`.
pub fn seeds_from(first: u64, usual: u64) -> Vec<u64> {
    let count = std::env::var("GLEAN_WORLDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual);
    seeds(first..first + count)
}
