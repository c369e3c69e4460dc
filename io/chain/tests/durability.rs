//! Blocks are produced, and what was told final survives anything.

mod common;

use std::num::NonZeroU64;
use std::time::Instant;

use common::*;
use glean_chain::{Chain, OpenError};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sent_transaction_is_final_and_survives_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let to = key(9).address();
    let (hash, root) = {
        let chain = open(dir.path()).expect("opens");
        let rpc = chain.rpc();
        for nonce in 0..5 {
            let raw = hex_of(&transfer(&key(1), nonce, to));
            let receipt = result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
            assert_eq!(receipt["status"], "0x1");
        }
        let head = chain.head();
        let found = (head.hash(), head.header().state_root);
        chain.close().await;
        found
    };
    let chain = open(dir.path()).expect("opens again");
    assert_eq!(chain.head().hash(), hash);
    assert_eq!(chain.head().header().state_root, root);
    let rpc = chain.rpc();
    assert_eq!(result(&rpc, "eth_getBalance", json!([to, "latest"])).await, "0x5");
    let raw = hex_of(&transfer(&key(1), 5, to));
    let receipt = result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
    assert_eq!(quantity(&receipt["blockNumber"]), chain.head().number());
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_follow_one_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let four = NonZeroU64::new(4).expect("not zero");
    let chain = Chain::open_with_epochs(config(dir.path()), four).expect("opens");
    let rpc = chain.rpc();
    for nonce in 0..10 {
        let raw = hex_of(&transfer(&key(1), nonce, key(2).address()));
        result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
    }
    assert!(chain.head().number() >= 10, "two epoch ends were passed");
    assert_eq!(*chain.failure().borrow(), None);
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let error = open(dir.path()).err().expect("locked");
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains("hint:"));
    chain.close().await;
    open(dir.path()).expect("free again").close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_of_one_transaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let rpc = chain.rpc();
    let mut took_us = Vec::new();
    for nonce in 0..100 {
        let raw = hex_of(&transfer(&key(1), nonce, key(2).address()));
        let start = Instant::now();
        result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
        took_us.push(start.elapsed().as_micros());
    }
    took_us.sort_unstable();
    println!("sendRawTransactionSync: p50 {} us, p99 {} us", took_us[50], took_us[98]);
    chain.close().await;
}
