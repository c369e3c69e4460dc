//! What the owner chose for this machine. Changes nothing for anybody else; never part of a hash.

use glean_types::Amount;
use serde::{Deserialize, Serialize};

use crate::api::types::ShareRequest;

/// `<home>/settings.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Lending, and how. Kept across restarts.
    pub share: Option<Share>,
    /// Address and port of the QUIC socket; `None`: all interfaces, a free port chosen once.
    pub bind: Option<std::net::SocketAddr>,
    /// URL of this ledger node's relay, where it is not the address that others see; `None`: that address.
    pub relay_url: Option<String>,
    /// Whoever owns this machine waits for this work: workers give way to the rest, but do not stand still while the machine
    /// is busy otherwise. The demo's homes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_awaited: bool,
    /// Port of the local API, 0: a free one.
    pub api_port: u16,
    /// Port of the Ethereum JSON-RPC on a ledger node, 0: a free one.
    pub rpc_port: u16,
}

/// What is lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Tasks at the same time.
    pub slots: u32,
    /// Memory of one guest, bytes.
    pub mem_max: u64,
    /// Price of 10^9 fuel.
    pub price_per_gfuel: Amount,
    /// Free text.
    pub region: String,
    /// Demo and tests only: one answer in this many is wrong on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lie_every: Option<u32>,
}

/// About 0.10 gUSD for a core hour of a machine that does 3 gfuel a second.
pub const PRICE_DEFAULT: u128 = 10_000_000_000_000;

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: u32,
    /// Memory, bytes.
    pub mem: u64,
}

impl Machine {
    /// Looks.
    pub fn probe() -> Machine {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        Machine { cores, mem: memory_bytes().unwrap_or(2 << 30) }
    }
}

impl Share {
    /// A request's choices over the defaults: half the cores, a quarter of the memory, the default price.
    pub fn from_request(request: &ShareRequest, machine: Machine) -> Share {
        let region: String = request.region.clone().unwrap_or_default().chars().take(16).collect();
        Share {
            slots: request.slots.unwrap_or(machine.cores / 2).clamp(1, 1024),
            mem_max: request.mem_max.unwrap_or(machine.mem / 4).clamp(1 << 20, 4 << 30),
            price_per_gfuel: request
                .price_per_gfuel
                .unwrap_or(Amount::from_units(PRICE_DEFAULT).expect("below the maximum")),
            region,
            lie_every: request.lie_every,
        }
    }
}

/// Linux tells; elsewhere the default is modest.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_machine_still_lends_something_sane() {
        let machine = Machine { cores: 1, mem: 1 << 30 };
        let share = Share::from_request(&ShareRequest::default(), machine);
        assert_eq!((share.slots, share.mem_max), (1, 256 << 20));
        let greedy = ShareRequest { slots: Some(0), mem_max: Some(u64::MAX), ..ShareRequest::default() };
        let share = Share::from_request(&greedy, machine);
        assert_eq!((share.slots, share.mem_max), (1, 4 << 30));
    }
}
