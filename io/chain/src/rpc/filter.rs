//! Polling filters: what is new since the last question, per filter id.
//!
//! What must stay true: ids cannot be guessed into someone else's filter by accident (they are random), a
//! forgotten filter dies after five minutes, and there are never more than [`FILTERS_MAX`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::Filter;

use super::error::RpcError;

const FILTERS_MAX: usize = 1_024;
const IDLE_MAX: Duration = Duration::from_secs(300);

/// What a filter looks for.
#[derive(Clone)]
pub(crate) enum Kind {
    Blocks,
    Logs(Box<Filter>),
    /// Waiting transactions, with those already told.
    Transactions(std::collections::BTreeSet<B256>),
}

/// One installed filter.
#[derive(Clone)]
pub(crate) struct Installed {
    pub(crate) kind: Kind,
    /// The first block not yet told.
    pub(crate) next_block: u64,
    asked_at: Instant,
}

/// All installed filters.
pub(crate) struct Filters {
    installed: Mutex<BTreeMap<U256, Installed>>,
}

impl Filters {
    pub(crate) fn new() -> Self {
        Self { installed: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<U256, Installed>> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Installs a filter that starts after block `head`.
    pub(crate) fn install(&self, kind: Kind, head: u64) -> Result<U256, RpcError> {
        let mut installed = self.lock();
        installed.retain(|_, filter| filter.asked_at.elapsed() < IDLE_MAX);
        if installed.len() >= FILTERS_MAX {
            return Err(RpcError::limit("too many filters"));
        }
        let id = U256::from_be_bytes(random_id());
        let filter = Installed { kind, next_block: head + 1, asked_at: Instant::now() };
        installed.insert(id, filter);
        Ok(id)
    }

    pub(crate) fn uninstall(&self, id: &U256) -> bool {
        self.lock().remove(id).is_some()
    }

    /// The filter as it stands.
    pub(crate) fn get(&self, id: &U256) -> Result<Installed, RpcError> {
        let installed = self.lock();
        installed.get(id).cloned().ok_or_else(|| RpcError::refused("filter not found"))
    }

    /// The filter as it stands; `update` then moves it past what is told now.
    pub(crate) fn take_turn(&self, id: &U256, update: impl FnOnce(&mut Installed)) -> Result<Installed, RpcError> {
        let mut installed = self.lock();
        let filter = installed.get_mut(id).ok_or_else(|| RpcError::refused("filter not found"))?;
        filter.asked_at = Instant::now();
        let before = filter.clone();
        update(filter);
        Ok(before)
    }
}

/// 128 random bits in 32 bytes.
pub(super) fn random_id() -> [u8; 32] {
    let mut id = [0u8; 32];
    rand_core::Rng::fill_bytes(&mut commonware_utils::sys_rng(), &mut id[16..]);
    id
}
