//! What a question pretends about accounts, as the state overrides of `eth_call` and `eth_simulateV1` do.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, Bytes, U256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;

use crate::overlay::Overlay;
use crate::precompiles::{Moves, is_precompile};
use crate::state::{Account, StateError};

/// What to pretend about accounts.
pub type Overrides = BTreeMap<Address, AccountOverride>;

/// What to pretend about one account; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountOverride {
    /// Another balance.
    pub balance: Option<U256>,
    /// Another nonce.
    pub nonce: Option<u64>,
    /// Other code.
    pub code: Option<Bytes>,
    /// Forget all slots first.
    pub wipes: bool,
    /// Other values of some slots.
    pub slots: BTreeMap<U256, U256>,
    /// The precompile at this address is found at that one instead.
    pub moves_to: Option<Address>,
}

/// Why something cannot be pretended. The texts are geth's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PretendError {
    /// Only precompiles can be moved.
    #[error("account {0} is not a precompile")]
    NotPrecompile(Address),
    /// Something else is pretended about the place it should go to.
    #[error("account {0} is already overridden")]
    Occupied(Address),
    /// Two precompiles, or one and an override, at one place.
    #[error("account {0} has already been overridden by a precompile")]
    Moved(Address),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Writes what is pretended into the overlay; says where precompiles went.
pub(crate) fn pretend(overlay: &mut Overlay<'_>, overrides: &Overrides) -> Result<Moves, PretendError> {
    let mut moves = Moves::new();
    let mut targets = BTreeSet::new();
    for (address, pretended) in overrides {
        if targets.contains(address) {
            return Err(PretendError::Moved(*address));
        }
        if let Some(target) = pretended.moves_to {
            if !is_precompile(address) {
                return Err(PretendError::NotPrecompile(*address));
            }
            if overrides.contains_key(&target) {
                return Err(PretendError::Occupied(target));
            }
            moves.insert(target, Some(*address));
            targets.insert(target);
        }
        if is_precompile(address) {
            moves.insert(*address, None);
        }
        pretend_account(overlay, *address, pretended)?;
    }
    Ok(moves)
}

fn pretend_account(
    overlay: &mut Overlay<'_>,
    address: Address,
    pretended: &AccountOverride,
) -> Result<(), PretendError> {
    let mut account = overlay.account(address)?.unwrap_or_default();
    account.balance = pretended.balance.unwrap_or(account.balance);
    account.nonce = pretended.nonce.unwrap_or(account.nonce);
    if let Some(code) = &pretended.code {
        account.code_hash = keccak256(code);
        overlay.code.insert(account.code_hash, code.clone());
    }
    if pretended.wipes {
        account.storage_root = EMPTY_ROOT_HASH;
        overlay.wipe(address);
    }
    // EIP-161: an empty account is none, also in the state root of a simulated block.
    let is_nothing = account == Account::default() && pretended.slots.is_empty();
    if is_nothing && overlay.account(address)?.is_none() {
        return Ok(());
    }
    overlay.slots.extend(pretended.slots.iter().map(|(slot, value)| ((address, *slot), *value)));
    overlay.set(address, Some(account));
    Ok(())
}
