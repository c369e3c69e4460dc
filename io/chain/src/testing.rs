//! A small ledger for tests: who is rich in it, and what they send.

use std::collections::BTreeMap;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Signature, TxKind, U256};
use glean_ledger::Genesis;
use glean_types::AccountKey;

const CHAIN_ID: u64 = 5;

/// Whom everybody sends to.
pub(crate) const NOBODY: Address = Address::repeat_byte(9);

pub(crate) fn key(number: u8) -> AccountKey {
    AccountKey::from_bytes(&[number + 1; 32]).expect("a scalar")
}

/// The first so many keys are rich from the first block on.
pub(crate) fn genesis(rich: u8) -> Genesis {
    Genesis {
        chain_id: CHAIN_ID,
        timestamp: 0,
        gas_limit: 30_000_000,
        base_fee_per_gas: 1_000,
        owner: Address::repeat_byte(1),
        fee_recipient: Address::repeat_byte(2),
        fee_bps: 0,
        grace_s: 60,
        gln: (0..rich).map(|number| (key(number).address(), U256::from(u64::MAX))).collect(),
        dollars: BTreeMap::new(),
        minters: BTreeMap::new(),
        faucet: None,
    }
}

/// An account's `nonce`th transaction, as it travels: one wei to nobody.
pub(crate) fn transfer(number: u8, nonce: u64) -> Vec<u8> {
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(NOBODY),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let raw = key(number).sign(&tx.signature_hash()).0;
    let signature = Signature::from_raw_array(&raw).expect("65 bytes");
    TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718()
}
