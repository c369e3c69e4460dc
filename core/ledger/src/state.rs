//! What the ledger reads and what it hands back to be written. It never touches a disk itself.
//!
//! Flat rows (accounts, slots, code) are what execution reads; trie nodes exist only for the state root and for
//! proofs, under opaque keys. Both travel in one [`Changes`], and whoever stores it writes it whole or not at all.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};

/// An account as the state trie holds it: nonce, balance, storage root, code hash.
pub type Account = alloy_trie::TrieAccount;

/// State could not be read. Never an answer about the state itself: a missing account is `None`, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The store failed.
    #[error("the state cannot be read: {0}")]
    Read(String),
    /// The store answered, but not what was once written.
    #[error("the state is damaged: {0}\nhint: restore the ledger's directory from a backup, or sync it again")]
    Damaged(String),
}

impl revm::database_interface::DBErrorMarker for StateError {}

/// One state, at rest: the same question always gets the same answer.
pub trait State: Send + Sync {
    /// An account; `None` when there is none.
    fn account(&self, address: Address) -> Result<Option<Account>, StateError>;
    /// A storage slot; zero when it was never written.
    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError>;
    /// The code with this hash. Asked only for hashes that an account names.
    fn code(&self, hash: B256) -> Result<Bytes, StateError>;
    /// The hash of a block among the last 256.
    fn block_hash(&self, number: u64) -> Result<B256, StateError>;
    /// The trie node under an opaque key.
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
}

impl<S: State + ?Sized> State for &S {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        (**self).account(address)
    }
    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        (**self).slot(address, slot)
    }
    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        (**self).code(hash)
    }
    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        (**self).block_hash(number)
    }
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        (**self).node(key)
    }
}

/// All that a block (or the genesis) changes. Plain rows: what is here replaces what was there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// `None` removes the account.
    pub accounts: BTreeMap<Address, Option<Account>>,
    /// Zero removes the slot.
    pub slots: BTreeMap<(Address, U256), U256>,
    /// New code, by its hash. Never removed.
    pub code: BTreeMap<B256, Bytes>,
    /// Trie nodes under opaque keys; `None` removes the node.
    pub nodes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// A state in memory, for tests and for the simulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    accounts: BTreeMap<Address, Account>,
    slots: BTreeMap<(Address, U256), U256>,
    code: BTreeMap<B256, Bytes>,
    nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    block_hashes: BTreeMap<u64, B256>,
}

impl MemoryState {
    /// Writes a block's changes.
    pub fn apply(&mut self, number: u64, block_hash: B256, changes: &Changes) {
        self.block_hashes.insert(number, block_hash);
        self.code.extend(changes.code.iter().map(|(hash, code)| (*hash, code.clone())));
        for (address, account) in &changes.accounts {
            put(&mut self.accounts, *address, *account);
        }
        for (key, value) in &changes.slots {
            put(&mut self.slots, *key, (!value.is_zero()).then_some(*value));
        }
        for (key, node) in &changes.nodes {
            put(&mut self.nodes, key.clone(), node.clone());
        }
    }

    /// All accounts.
    pub fn accounts(&self) -> &BTreeMap<Address, Account> {
        &self.accounts
    }

    /// All slots that are not zero.
    pub fn slots(&self) -> &BTreeMap<(Address, U256), U256> {
        &self.slots
    }

    /// How many trie nodes are kept.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

fn put<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(rows.insert(key, value)),
        None => drop(rows.remove(&key)),
    }
}

impl State for MemoryState {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        Ok(self.accounts.get(&address).copied())
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(self.slots.get(&(address, slot)).copied().unwrap_or_default())
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        let missing = || StateError::Damaged(format!("no code with hash {hash}"));
        self.code.get(&hash).cloned().ok_or_else(missing)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        Ok(self.block_hashes.get(&number).copied().unwrap_or_default())
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.nodes.get(key).cloned())
    }
}
