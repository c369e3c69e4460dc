//! How often a peer may ask: a bucket of tokens that refills with time.
//!
//! Pure: time is passed in. One bucket per peer, and a bounded number of buckets, because a stranger can
//! make as many keys as it likes. Forgetting a full bucket loses nothing, so those go first.

use std::collections::BTreeMap;

use glean_types::NodeId;

/// A refill rate and how much may be saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens added each second.
    pub per_second: u32,
    /// Tokens a bucket holds when full.
    pub burst: u32,
}

/// One peer's tokens, in thousandths, so that slow rates refill exactly.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    milli_tokens: u64,
    updated_ms: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: Rate, now_ms: u64) -> Self {
        Self { milli_tokens: u64::from(rate.burst) * 1000, updated_ms: now_ms }
    }

    /// Takes `cost` tokens, or says no.
    pub fn take(&mut self, rate: Rate, cost: u32, now_ms: u64) -> bool {
        self.refill(rate, now_ms);
        let wanted = u64::from(cost) * 1000;
        match self.milli_tokens.checked_sub(wanted) {
            Some(left) => {
                self.milli_tokens = left;
                true
            }
            None => false,
        }
    }

    /// Takes what is there of `cost` tokens: a fine is not avoided by being poor.
    pub fn fine(&mut self, rate: Rate, cost: u32, now_ms: u64) {
        self.refill(rate, now_ms);
        self.milli_tokens = self.milli_tokens.saturating_sub(u64::from(cost) * 1000);
    }

    fn refill(&mut self, rate: Rate, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.updated_ms);
        let added = passed_ms.saturating_mul(u64::from(rate.per_second));
        self.milli_tokens = self.milli_tokens.saturating_add(added).min(u64::from(rate.burst) * 1000);
        self.updated_ms = self.updated_ms.max(now_ms);
    }

    fn is_full(&self, rate: Rate) -> bool {
        self.milli_tokens >= u64::from(rate.burst) * 1000
    }
}

/// The buckets of many peers.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    peers_max: usize,
    peers: BTreeMap<NodeId, Bucket>,
}

impl Buckets {
    /// Room for `peers_max` peers that are not at rest.
    pub fn new(rate: Rate, peers_max: usize) -> Self {
        Self { rate, peers_max, peers: BTreeMap::new() }
    }

    /// Whether this peer may do something that costs `cost` now. When more peers are active than there
    /// is room for, newcomers are told no: those already served keep their service.
    pub fn take(&mut self, peer: NodeId, cost: u32, now_ms: u64) -> bool {
        if self.peers.len() >= self.peers_max && !self.peers.contains_key(&peer) {
            self.forget_rested(now_ms);
            if self.peers.len() >= self.peers_max {
                return false;
            }
        }
        let rate = self.rate;
        self.peers.entry(peer).or_insert_with(|| Bucket::full(rate, now_ms)).take(rate, cost, now_ms)
    }

    /// Takes what is there of `cost` tokens from a peer that has just been served.
    pub fn fine(&mut self, peer: NodeId, cost: u32, now_ms: u64) {
        let rate = self.rate;
        if let Some(bucket) = self.peers.get_mut(&peer) {
            bucket.fine(rate, cost, now_ms);
        }
    }

    fn forget_rested(&mut self, now_ms: u64) {
        let rate = self.rate;
        self.peers.retain(|_, bucket| {
            bucket.refill(rate, now_ms);
            !bucket.is_full(rate)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::full(RATE, 0);
        assert_eq!((0..9).filter(|_| bucket.take(RATE, 1, 0)).count(), 5);
        assert!(!bucket.take(RATE, 1, 99));
        assert!(bucket.take(RATE, 1, 100));
        assert!(!bucket.take(RATE, 6, 1_000_000), "more than a full bucket is never granted");
        assert!(!Bucket::full(RATE, 500).take(RATE, 6, 0), "a clock that runs backwards grants nothing");
    }

    #[test]
    fn one_peer_cannot_spend_anothers_tokens_nor_all_the_room() {
        let mut buckets = Buckets::new(RATE, 2);
        let (a, b, c) = (NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]));
        assert!((0..5).all(|_| buckets.take(a, 1, 0)));
        assert!(!buckets.take(a, 1, 0));
        assert!(buckets.take(b, 1, 0));
        buckets.fine(b, 100, 0);
        assert!(!buckets.take(b, 1, 0), "a fine takes all there is");
        assert!(!buckets.take(c, 1, 0), "no room while both are active");
        assert!(buckets.take(c, 1, 10_000), "both have rested");
    }
}
