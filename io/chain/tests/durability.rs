//! Blocks are produced, and what was told final survives anything.

mod common;

use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_consensus::TrieAccount;
use alloy_primitives::U256;
use common::*;
use glean_chain::{Chain, OpenError};
use serde_json::json;
use zeroize::Zeroizing;

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

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("reads").map(|entry| entry.expect("reads")) {
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => std::fs::copy(entry.path(), to).map(drop).expect("copies"),
        }
    }
}

/// A lone validator whose votes are lost could vote again, and otherwise. It stops and says which files, instead of trying for
/// ever. The control: with its own files the same ledger goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_that_are_older_than_the_ledger_stop_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (engine, kept) = (dir.path().join("engine"), tempfile::tempdir().expect("a directory"));
    let mut nonce = 0;
    for blocks in [2, 3] {
        let chain = open(dir.path()).expect("opens");
        for _ in 0..blocks {
            let raw = hex_of(&transfer(&key(1), nonce, key(2).address()));
            result(&chain.rpc(), "eth_sendRawTransactionSync", json!([raw])).await;
            nonce += 1;
        }
        chain.close().await;
        copy_folder(&engine, &kept.path().join(nonce.to_string()));
    }
    let put = |nonce: u64| {
        std::fs::remove_dir_all(&engine).expect("removes");
        copy_folder(&kept.path().join(nonce.to_string()), &engine);
    };
    put(2);
    let chain = open(dir.path()).expect("opens");
    let mut failure = chain.failure();
    let failed = tokio::time::timeout(Duration::from_secs(30), failure.wait_for(Option::is_some)).await;
    let report = failed.expect("is noticed").expect("is told").clone().expect("a reason");
    assert!(report.contains("`engine`") && report.contains("hint:"), "{report}");
    chain.close().await;
    put(5);
    let chain = open(dir.path()).expect("opens");
    let raw = hex_of(&transfer(&key(1), nonce, key(2).address()));
    result(&chain.rpc(), "eth_sendRawTransactionSync", json!([raw])).await;
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
async fn a_directory_belongs_to_one_network_and_one_validator() {
    let dir = tempfile::tempdir().expect("a directory");
    open(dir.path()).expect("opens").close().await;
    let mut other = config(dir.path());
    other.genesis.fee_bps += 1;
    assert!(matches!(Chain::open(other).err(), Some(OpenError::OtherGenesis { .. })));
    let mut other = config(dir.path());
    other.validator_key = Some(Zeroizing::new([3; 32]));
    assert!(matches!(Chain::open(other).err(), Some(OpenError::OtherValidator { .. })));
    let mut bad = config(dir.path());
    bad.validator_key = Some(Zeroizing::new([0; 32]));
    assert!(matches!(Chain::open(bad).err(), Some(OpenError::BadKey("validator"))));
    let mut other = config(dir.path());
    other.faucet_key = Some(Zeroizing::new([3; 32]));
    assert!(matches!(Chain::open(other).err(), Some(OpenError::OtherFaucet { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coins_from_nowhere_stop_the_node() {
    const ACCOUNTS: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("accounts");
    let dir = tempfile::tempdir().expect("a directory");
    open(dir.path()).expect("opens").close().await;
    let db = redb::Database::open(dir.path().join("ledger.redb")).expect("opens");
    let txn = db.begin_write().expect("begins");
    let forged = TrieAccount { balance: U256::from(1), ..TrieAccount::default() };
    let row = alloy_rlp::encode(forged);
    txn.open_table(ACCOUNTS).expect("opens").insert(&[0x55; 20][..], row.as_slice()).expect("inserts");
    txn.commit().expect("commits");
    drop(db);
    let error = open(dir.path()).err().expect("does not add up");
    assert!(
        matches!(&error, OpenError::Supply { found, expected, .. } if *found == expected + U256::from(1)),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_at_once() {
    const SENDERS: u8 = 5;
    const EACH: u64 = 200;
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let rpc = chain.rpc();
    let raws: Vec<Vec<String>> = (1..=SENDERS)
        .map(|seed| (0..EACH).map(|nonce| hex_of(&transfer(&key(seed), nonce, key(9).address()))).collect())
        .collect();
    let start = Instant::now();
    let sending = raws.into_iter().map(|raws| {
        let rpc = rpc.clone();
        tokio::spawn(async move {
            let (last, rest) = raws.split_last().expect("not empty");
            for raw in rest {
                result(&rpc, "eth_sendRawTransaction", json!([raw])).await;
            }
            result(&rpc, "eth_sendRawTransactionSync", json!([last])).await
        })
    });
    for sender in sending.collect::<Vec<_>>() {
        sender.await.expect("all are final");
    }
    let took = start.elapsed();
    let total = u64::from(SENDERS) * EACH;
    let received = result(&rpc, "eth_getBalance", json!([key(9).address(), "latest"])).await;
    assert_eq!(quantity(&received), total);
    println!("{total} transfers in {} blocks and {} ms", chain.head().number(), took.as_millis());
    chain.close().await;
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
