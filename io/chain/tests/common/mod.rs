//! A ledger node in a temporary directory, and accounts that sign for it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::Path;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, hex};
use glean_chain::{Chain, ChainConfig, OpenError, RpcHandler};
use glean_ledger::{Addresses, Faucet, Genesis};
use glean_types::{AccountKey, Amount};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub const CHAIN_ID: u64 = 7_654;

/// A key whose account is rich from the first block.
pub fn key(seed: u8) -> AccountKey {
    AccountKey::from_bytes(&[seed; 32]).expect("a scalar")
}

/// The account that grants credits.
pub const FAUCET: u8 = 7;

pub fn genesis() -> Genesis {
    let rich = U256::from(10u64).pow(U256::from(24));
    let faucet = key(FAUCET).address();
    let thousand = Amount::from_units(1_000 * COIN).expect("fits");
    Genesis {
        chain_id: CHAIN_ID,
        timestamp: 1_700_000_000,
        gas_limit: 30_000_000,
        base_fee_per_gas: 1_000_000_000,
        owner: key(8).address(),
        fee_recipient: key(6).address(),
        fee_bps: 500,
        grace_s: 60,
        gln: (1..=8).map(|seed| (key(seed).address(), rich)).collect(),
        dollars: BTreeMap::from([(key(1).address(), thousand)]),
        minters: BTreeMap::from([(faucet, Amount::MAX)]),
        faucet: Some(Faucet { account: faucet, gln: U256::from(10 * COIN), dollars: thousand }),
    }
}

pub const COIN: u128 = 1_000_000_000_000_000_000;

/// The standard address of gUSD.
pub fn gusd() -> Address {
    Addresses::standard().dollar
}

pub fn config(dir: &Path) -> ChainConfig {
    ChainConfig {
        dir: dir.to_path_buf(),
        genesis: genesis(),
        validator_key: None,
        validators: Vec::new(),
        faucet_key: Some(Zeroizing::new([FAUCET; 32])),
    }
}

pub fn open(dir: &Path) -> Result<Chain, OpenError> {
    // RUST_LOG shows the engine's side of a failing test.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    Chain::open(config(dir))
}

/// A signed transfer of one wei.
pub fn transfer(key: &AccountKey, nonce: u64, to: Address) -> Bytes {
    signed(
        key,
        TxEip1559 {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: TxKind::Call(to),
            value: U256::from(1),
            ..TxEip1559::default()
        },
    )
}

pub fn signed(key: &AccountKey, tx: TxEip1559) -> Bytes {
    let raw = key.sign(&tx.signature_hash()).0;
    let signature = Signature::from_raw_array(&raw).expect("65 bytes");
    TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718().into()
}

/// One request; the whole response object.
pub async fn ask(rpc: &RpcHandler, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = rpc.handle(body.to_string().into()).await;
    serde_json::from_slice(&answer).expect("an answer in JSON")
}

/// One request that must succeed; its result.
pub async fn result(rpc: &RpcHandler, method: &str, params: Value) -> Value {
    let mut answer = ask(rpc, method, params).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].take()
}

pub fn quantity(value: &Value) -> u64 {
    let text = value.as_str().expect("a quantity");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
}

pub fn hex_of(bytes: &Bytes) -> String {
    hex::encode_prefixed(bytes)
}
