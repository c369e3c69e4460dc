//! From changed rows to the state root: each changed account's slots first, then the accounts.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

use crate::overlay::Overlay;
use crate::state::{Account, Changes, State, StateError};
use crate::trie::{Space, Trie, prove};

/// The overlay's changes with their trie nodes, and the new state root.
pub(crate) fn commit(overlay: Overlay<'_>, root: B256) -> Result<(B256, Changes), StateError> {
    let base = overlay.base;
    let mut changes = overlay.into_changes()?;
    commit_slots(base, &mut changes)?;
    let mut trie = Trie::open(base, Space::Accounts, root);
    for (address, account) in &changes.accounts {
        trie.set(keccak256(address), account.map(alloy_rlp::encode))?;
    }
    let (root, nodes) = trie.seal();
    changes.nodes.extend(nodes);
    Ok((root, changes))
}

/// Puts the new storage roots into the changed accounts.
fn commit_slots(base: &dyn State, changes: &mut Changes) -> Result<(), StateError> {
    let mut by_account: BTreeMap<Address, Vec<(U256, U256)>> = BTreeMap::new();
    for ((address, slot), value) in &changes.slots {
        by_account.entry(*address).or_default().push((*slot, *value));
    }
    for (address, slots) in by_account {
        let Some(Some(account)) = changes.accounts.get_mut(&address) else {
            return Err(StateError::Damaged(format!("{address} has storage but no account")));
        };
        let mut trie = Trie::open(base, Space::Slots(keccak256(address)), account.storage_root);
        for (slot, value) in slots {
            let value = (!value.is_zero()).then(|| alloy_rlp::encode(value));
            trie.set(keccak256(slot.to_be_bytes::<32>()), value)?;
        }
        let (root, nodes) = trie.seal();
        account.storage_root = root;
        changes.nodes.extend(nodes);
    }
    Ok(())
}

/// What `eth_getProof` answers (EIP-1186).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountProof {
    /// The account asked for.
    pub address: Address,
    /// All zero and empty when there is none.
    pub account: Account,
    /// From the state root.
    pub proof: Vec<Bytes>,
    /// One for each slot asked for.
    pub slots: Vec<SlotProof>,
}

/// The proof of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotProof {
    /// The slot asked for.
    pub slot: U256,
    /// Its value.
    pub value: U256,
    /// From the account's storage root.
    pub proof: Vec<Bytes>,
}

/// Proves an account and some of its slots against `root`, the state root of the block that `state` is after.
pub fn prove_account(
    state: &dyn State,
    root: B256,
    address: Address,
    slots: &[U256],
) -> Result<AccountProof, StateError> {
    let hash = keccak256(address);
    let account = state.account(address)?.unwrap_or_default();
    let prove_slot = |slot: &U256| -> Result<SlotProof, StateError> {
        let key = keccak256(slot.to_be_bytes::<32>());
        let proof = prove(state, Space::Slots(hash), account.storage_root, key)?;
        Ok(SlotProof { slot: *slot, value: state.slot(address, *slot)?, proof })
    };
    Ok(AccountProof {
        address,
        account,
        proof: prove(state, Space::Accounts, root, hash)?,
        slots: slots.iter().map(prove_slot).collect::<Result<_, _>>()?,
    })
}
