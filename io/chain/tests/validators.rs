//! Four validators with real sockets, disks and clocks: any one of them may go and come back.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use glean_chain::{Chain, ChainConfig, CommitteeError, OpenError, RpcHandler, Validator, validator_public_key};
use serde_json::json;
use zeroize::Zeroizing;

const VALIDATORS: u8 = 4;
/// Transactions to measure by.
const TXS: u64 = 60;
/// Longest wait for anything, on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

fn secret(number: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([number + 1; 32])
}

/// Who votes, each on a port that was free a moment ago.
fn validators() -> Vec<Validator> {
    let held: Vec<TcpListener> =
        (0..VALIDATORS).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
    let addrs = held.iter().map(|held| held.local_addr().expect("it is bound"));
    let validator = |(number, addr): (u8, SocketAddr)| {
        let key = validator_public_key(&secret(number)).expect("a scalar");
        Validator { key, addr }
    };
    (0..VALIDATORS).zip(addrs).map(validator).collect()
}

fn open_one(dir: &Path, number: u8, validators: &[Validator]) -> Chain {
    let dir = dir.join(number.to_string());
    let config = ChainConfig { validator_key: Some(secret(number)), validators: validators.to_vec(), ..config(&dir) };
    Chain::open(config).expect("opens")
}

/// Sends a transfer and waits until it is final; how long that took.
async fn send(rpc: &RpcHandler, nonce: u64) -> Duration {
    let start = Instant::now();
    let raw = hex_of(&transfer(&key(1), nonce, key(2).address()));
    result(rpc, "eth_sendRawTransactionSync", json!([raw, "0xea60"])).await;
    start.elapsed()
}

/// Until a validator has this block.
async fn reach(chain: &Chain, height: u64) {
    let mut finals = chain.subscribe();
    let reached = async {
        while chain.head().number() < height {
            // One that fell behind is told so, and looks again.
            let _ = finals.recv().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "still at {} of {height}", chain.head().number());
}

fn percentile(took: &mut [Duration], percent: usize) -> u128 {
    took.sort_unstable();
    took[(took.len() * percent / 100).min(took.len() - 1)].as_millis()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_of_four_may_go_and_come_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let validators = validators();
    let mut chains: Vec<Option<Chain>> =
        (0..VALIDATORS).map(|number| Some(open_one(dir.path(), number, &validators))).collect();
    let rpc = |chains: &[Option<Chain>], number: u8| chains[usize::from(number)].as_ref().expect("it is there").rpc();
    let mut nonce = 0;
    // The first is final when they have found each other.
    let found = send(&rpc(&chains, 0), nonce).await;
    let mut took = Vec::new();
    for _ in 0..TXS {
        nonce += 1;
        took.push(send(&rpc(&chains, (nonce % 4) as u8), nonce).await);
    }
    println!(
        "{TXS} transactions one by one at four validators: final after p50 {} ms, p99 {} ms; the first after {} ms",
        percentile(&mut took, 50),
        percentile(&mut took, 99),
        found.as_millis()
    );
    for gone in 0..VALIDATORS {
        chains[usize::from(gone)].take().expect("it is there").close().await;
        let other = (gone + 1) % VALIDATORS;
        let mut took = Vec::new();
        for _ in 0..8 {
            nonce += 1;
            took.push(send(&rpc(&chains, other), nonce).await);
        }
        let start = Instant::now();
        let back = open_one(dir.path(), gone, &validators);
        let target = chains[usize::from(other)].as_ref().expect("it is there").head().number();
        reach(&back, target).await;
        println!(
            "without validator {gone}: final after p50 {} ms, p99 {} ms; back and level after {} ms",
            percentile(&mut took, 50),
            percentile(&mut took, 99),
            start.elapsed().as_millis()
        );
        chains[usize::from(gone)] = Some(back);
    }
    // Everybody has the same blocks.
    let height = chains.iter().flatten().map(|chain| chain.head().number()).min().expect("four");
    let mut hashes = Vec::new();
    for number in 0..VALIDATORS {
        let block = result(&rpc(&chains, number), "eth_getBlockByNumber", json!([format!("{height:#x}"), false])).await;
        hashes.push(block["hash"].clone());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    for chain in chains.into_iter().flatten() {
        assert_eq!(*chain.failure().borrow(), None);
        chain.close().await;
    }
}

#[test]
fn who_cannot_vote_together_is_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |change: fn(&mut Vec<Validator>)| {
        let mut validators = validators();
        change(&mut validators);
        let config = ChainConfig { validator_key: Some(secret(0)), validators, ..config(dir.path()) };
        match Chain::open(config) {
            Err(OpenError::Validators(why)) => why,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(refused(|all| all[1].key = vec![7; 33]), CommitteeError::Key);
    assert_eq!(refused(|all| all[1].key.truncate(32)), CommitteeError::Key);
    assert_eq!(refused(|all| all[1] = all[2].clone()), CommitteeError::Twice);
    assert_eq!(refused(|all| drop(all.remove(0))), CommitteeError::NotOurs);
    assert_eq!(refused(|all| *all = vec![all[0].clone(); 33]), CommitteeError::TooMany(33));
}
