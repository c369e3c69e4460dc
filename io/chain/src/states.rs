//! The pure ledger's questions, answered from redb and from unfinalised changes on top of it; and its changes,
//! turned into rows.

use std::sync::Arc;

use alloy_consensus::TrieAccount;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use alloy_rlp::Decodable;
use glean_ledger::{Account, Changes, State, StateError};

use crate::store::{Rows, Snapshot, StoreError};

impl From<StoreError> for StateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { .. } => Self::Damaged(error.to_string()),
            _ => Self::Read(error.to_string()),
        }
    }
}

impl Snapshot {
    /// Hands every account to `visit`.
    pub(crate) fn each_account(&self, mut visit: impl FnMut(Account)) -> Result<(), StateError> {
        let decoded = |mut rlp: &[u8]| TrieAccount::decode(&mut rlp).map(&mut visit).is_ok();
        Ok(self.account_rows(decoded)?)
    }
}

impl State for Snapshot {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        let Some(rlp) = self.account_row(address.as_slice())? else { return Ok(None) };
        let account = TrieAccount::decode(&mut rlp.as_slice());
        account.map(Some).map_err(|_| StateError::Damaged(format!("account {address}")))
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let row = self.slot_row(&slot_key(address, slot))?;
        Ok(row.map_or(U256::ZERO, |value| U256::from_be_slice(&value)))
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytes::new());
        }
        let missing = || StateError::Damaged(format!("no code with hash {hash}"));
        self.code_row(hash.as_slice())?.map(Bytes::from).ok_or_else(missing)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        if number > self.number() {
            return Ok(B256::ZERO);
        }
        let missing = || StateError::Damaged(format!("no block {number}"));
        self.hash_of(number)?.ok_or_else(missing)
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.node_row(key)?)
    }
}

/// The changes of one unfinalised block.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) changes: Arc<Changes>,
}

/// A snapshot with unfinalised blocks on top, the oldest first.
pub(crate) struct Layered {
    pub(crate) base: Arc<Snapshot>,
    pub(crate) layers: Vec<Layer>,
}

impl Layered {
    /// The newest answer any layer has.
    fn newest<T>(&self, find: impl FnMut(&Layer) -> Option<T>) -> Option<T> {
        self.layers.iter().rev().find_map(find)
    }
}

impl State for Layered {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        match self.newest(|layer| layer.changes.accounts.get(&address).copied()) {
            Some(account) => Ok(account),
            None => self.base.account(address),
        }
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        match self.newest(|layer| layer.changes.slots.get(&(address, slot)).copied()) {
            Some(value) => Ok(value),
            None => self.base.slot(address, slot),
        }
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        match self.newest(|layer| layer.changes.code.get(&hash).cloned()) {
            Some(code) => Ok(code),
            None => self.base.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        match self.newest(|layer| (layer.number == number).then_some(layer.hash)) {
            Some(hash) => Ok(hash),
            None => self.base.block_hash(number),
        }
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.newest(|layer| layer.changes.nodes.get(key).cloned()) {
            Some(node) => Ok(node),
            None => self.base.node(key),
        }
    }
}

fn slot_key(address: Address, slot: U256) -> Vec<u8> {
    [address.as_slice(), &slot.to_be_bytes::<32>()].concat()
}

/// The rows a block changes.
pub(crate) fn rows(changes: &Changes) -> Rows {
    let accounts = changes.accounts.iter().map(|(address, account)| (address.to_vec(), account.map(alloy_rlp::encode)));
    let slots = changes.slots.iter().map(|((address, slot), value)| {
        let value = (!value.is_zero()).then(|| value.to_be_bytes_trimmed_vec());
        (slot_key(*address, *slot), value)
    });
    let code = changes.code.iter().map(|(hash, code)| (hash.to_vec(), Some(code.to_vec())));
    let nodes = changes.nodes.iter().map(|(key, node)| (key.clone(), node.clone()));
    Rows { accounts: accounts.collect(), slots: slots.collect(), code: code.collect(), nodes: nodes.collect() }
}
