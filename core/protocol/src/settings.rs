//! What one machine may choose for itself: patience, breadth and thrift. None of it changes an answer.

use glean_types::Amount;

use crate::defence::Defence;

/// A node's own choices. The defaults suit a network of strangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Most machines one requester works with at the same time.
    pub machines_max: usize,
    /// A defence that is missing: only in tests, to show what it is for.
    pub without: Option<Defence>,
    /// The deposit aimed at per channel, doubled whenever it runs dry; the budget may allow less.
    pub deposit_aim: Amount,
    /// How often to ask the index nodes while work is under way.
    pub query_every_ms: u64,
    /// A lease is never shorter than this: blobs may have to be fetched first.
    pub lease_min_ms: u64,
    /// After so long without a session, a provider's slices go elsewhere.
    pub reconnect_ms: u64,
    /// How long an answered slice waits for another machine's check before our own worker decides.
    pub check_wait_ms: u64,
    /// Sessions end after so long without work.
    pub hangup_idle_ms: u64,
    /// Channels are closed after so long without work.
    pub close_idle_ms: u64,
    /// Life of our offers.
    pub offer_ttl_ms: u32,
    /// Changes of free slots are told at most this often.
    pub publish_every_ms: u64,
    /// Provider: cash a voucher once this much is unclaimed,
    pub claim_at: Amount,
    /// or, when the requester has been silent for `claim_idle_ms`, at least this much.
    pub claim_min: Amount,
    /// Silence after which earnings are cashed.
    pub claim_idle_ms: u64,
}

/// 10^15 units: a thousandth of one gUSD.
const MILLI: u128 = 1_000_000_000_000_000;

const fn milli(n: u128) -> Amount {
    match Amount::from_units(n * MILLI) {
        Some(amount) => amount,
        None => Amount::MAX,
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            machines_max: 1_024,
            without: None,
            deposit_aim: milli(200),
            query_every_ms: 5_000,
            lease_min_ms: 15_000,
            reconnect_ms: 6_000,
            check_wait_ms: 4_000,
            hangup_idle_ms: 10_000,
            close_idle_ms: 600_000,
            offer_ttl_ms: 180_000,
            publish_every_ms: 5_000,
            claim_at: milli(1_000),
            claim_min: milli(0),
            claim_idle_ms: 3_000,
        }
    }
}
