//! What an engine stands on, the system or a simulation of it, and the pace at which it goes there.

use std::time::Duration;

use commonware_runtime::{Clock, Metrics, Spawner, Storage};
use rand_core::CryptoRng;

/// What an engine stands on: clock, disk, tasks and chance, the system's or simulated ones.
pub(super) trait Ground: Clock + CryptoRng + Spawner + Storage + Metrics {}
impl<E: Clock + CryptoRng + Spawner + Storage + Metrics> Ground for E {}

/// How a session's views time out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Alone and waiting for work: never.
    Patient,
    /// Alone and recovering from a crash between two votes: at once.
    Hurried,
    /// With other validators: after a second, and with heartbeats.
    Company,
}

impl Pace {
    pub(super) fn leader_timeout(self) -> Duration {
        match self {
            Self::Patient => Duration::from_secs(365 * 24 * 3600),
            Self::Hurried => Duration::from_millis(250),
            Self::Company => Duration::from_millis(1_500),
        }
    }

    pub(super) fn certification_timeout(self) -> Duration {
        self.leader_timeout() * 2
    }

    pub(super) fn retry(self) -> Duration {
        match self {
            Self::Hurried => Duration::from_millis(250),
            Self::Company => Duration::from_secs(1),
            Self::Patient => Duration::from_secs(2),
        }
    }
}
