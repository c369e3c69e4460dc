//! A state with uncommitted changes on top: what revm reads while a block or a call runs.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use revm::bytecode::Bytecode;
use revm::database_interface::{Database, DatabaseRef};
use revm::state::{AccountInfo, EvmState};

use crate::state::{Account, Changes, State, StateError};

/// Changes not yet committed, over a state. Storage roots in `accounts` are those of the base until
/// [`crate::root::commit`] has computed the new ones.
#[derive(Clone)]
pub(crate) struct Overlay<'a> {
    pub(crate) base: &'a dyn State,
    pub(crate) accounts: BTreeMap<Address, Option<Account>>,
    pub(crate) slots: BTreeMap<(Address, U256), U256>,
    pub(crate) code: BTreeMap<B256, Bytes>,
    /// Accounts that ran SELFDESTRUCT: the only other way than the base fee in which coins may vanish.
    pub(crate) destroyed: BTreeSet<Address>,
    /// Accounts whose slots below this overlay are forgotten. Only questions pretend that.
    wiped: BTreeSet<Address>,
    /// An empty account is a row like any other, as it was before EIP-161.
    pub(crate) keeps_empty: bool,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(base: &'a dyn State) -> Overlay<'a> {
        Overlay {
            base,
            accounts: BTreeMap::new(),
            slots: BTreeMap::new(),
            code: BTreeMap::new(),
            destroyed: BTreeSet::new(),
            wiped: BTreeSet::new(),
            keeps_empty: false,
        }
    }

    /// The account as it now stands.
    pub(crate) fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        match self.accounts.get(&address) {
            Some(account) => Ok(*account),
            None => self.base.account(address),
        }
    }

    /// The slot as it now stands.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        match self.slots.get(&(address, slot)) {
            Some(value) => Ok(*value),
            None => self.base_slot(address, slot),
        }
    }

    fn base_slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if self.wiped.contains(&address) { Ok(U256::ZERO) } else { self.base.slot(address, slot) }
    }

    /// Forgets all slots of an account.
    pub(crate) fn wipe(&mut self, address: Address) {
        self.slots.retain(|(owner, _), _| *owner != address);
        self.wiped.insert(address);
    }

    /// Whose slots below are forgotten.
    pub(crate) fn wiped(&self) -> &BTreeSet<Address> {
        &self.wiped
    }

    /// Takes over what one transaction did.
    pub(crate) fn commit(&mut self, touched: EvmState) -> Result<(), StateError> {
        for (address, after) in touched {
            if !after.is_touched() {
                continue;
            }
            // Since Cancun only a contract made in the same transaction can go: it leaves no row behind.
            if after.is_selfdestructed() {
                self.destroyed.insert(address);
                self.set(address, None);
                continue;
            }
            for (slot, value) in after.changed_storage_slots() {
                self.slots.insert((address, *slot), value.present_value);
            }
            let before = self.account(address)?.unwrap_or_default();
            if let Some(code) = after.info.code.as_ref().filter(|_| after.info.code_hash != before.code_hash) {
                self.code.insert(after.info.code_hash, code.original_bytes());
            }
            let storage_root = before.storage_root;
            let info = &after.info;
            // EIP-161: an empty account is no account.
            let account = Account::new(info.nonce, info.balance, storage_root, info.code_hash);
            let account = (self.keeps_empty || !after.is_empty()).then_some(account);
            self.set(address, account);
        }
        Ok(())
    }

    pub(crate) fn set(&mut self, address: Address, account: Option<Account>) {
        self.accounts.insert(address, account);
    }

    /// What differs from the base, without rows that ended where they began.
    pub(crate) fn into_changes(self) -> Result<Changes, StateError> {
        let mut changes = Changes { code: self.code.clone(), ..Changes::default() };
        for (&address, &account) in &self.accounts {
            let before = self.base.account(address)?;
            let has_slots = self.slots.range((address, U256::ZERO)..=(address, U256::MAX)).next().is_some();
            if before != account || has_slots {
                changes.accounts.insert(address, account);
            }
        }
        for (&key, &value) in &self.slots {
            if self.base_slot(key.0, key.1)? != value {
                changes.slots.insert(key, value);
            }
        }
        Ok(changes)
    }
}

impl DatabaseRef for Overlay<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let info = |account: Account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            account_id: None,
            code: None,
        };
        Ok(self.account(address)?.map(info))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        let code = match self.code.get(&hash) {
            Some(code) => code.clone(),
            None => self.base.code(hash)?,
        };
        Bytecode::new_raw_checked(code).map_err(|e| StateError::Damaged(format!("code {hash}: {e}")))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.slot(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.base.block_hash(number)
    }
}

/// Reading changes nothing here: there is no cache.
impl Database for Overlay<'_> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.basic_ref(address)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.code_by_hash_ref(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.storage_ref(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.block_hash_ref(number)
    }
}
