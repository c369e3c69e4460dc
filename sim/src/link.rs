//! The wires: how long a message takes and what may happen to it on the way.

use crate::random::Random;

/// What a link does to messages. Losing one ends the session, as QUIC would: both ends notice and dial again.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Fastest delivery, microseconds.
    pub latency_us_min: u64,
    /// Slowest delivery. With `is_ordered` a message never overtakes the one before it.
    pub latency_us_max: u64,
    /// One message in so many breaks its session and is lost with it; 0 for none.
    pub break_one_in: u64,
    /// One message in so many arrives twice; 0 for none.
    pub duplicate_one_in: u64,
    /// One message in so many finds its direction deaf for a while: the other way all arrives, this way nothing, until it can
    /// hear again or the silence is noticed; 0 for none.
    pub deaf_one_in: u64,
    /// Messages keep their order.
    pub is_ordered: bool,
}

impl Link {
    /// A quiet local network.
    pub fn lan() -> Link {
        Link {
            latency_us_min: 200,
            latency_us_max: 600,
            break_one_in: 0,
            duplicate_one_in: 0,
            deaf_one_in: 0,
            is_ordered: true,
        }
    }

    /// Everything that can go wrong does.
    pub fn rough() -> Link {
        Link {
            latency_us_min: 5_000,
            latency_us_max: 150_000,
            break_one_in: 150,
            duplicate_one_in: 30,
            deaf_one_in: 2_500,
            is_ordered: false,
        }
    }

    pub(crate) fn latency_us(&self, random: &mut Random) -> u64 {
        random.range(self.latency_us_min, self.latency_us_max)
    }
}
