//! Processes are killed at the worst moments; whatever was acknowledged must be there afterwards, and the chain
//! must go on.
//!
//! The test runs itself as a child process (`GLEAN_CRASH_DIR` set) and kills it.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use serde_json::json;

const DIR: &str = "GLEAN_CRASH_DIR";
const MOMENT: &str = "GLEAN_CRASH_MOMENT";

/// The child: sends transactions for ever and says which are final. Without the variables it is no test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let chain = open(Path::new(&dir)).expect("opens");
    if std::env::var(MOMENT).is_ok_and(|moment| moment == "between commit and ack") {
        // Subscribers hear of a block after its redb transaction and before the engine is answered. The answer
        // needs another fsync before it counts, so the process dies in between.
        let mut finals = chain.subscribe();
        std::thread::spawn(move || {
            for _ in 0..3 {
                finals.blocking_recv().expect("blocks come");
            }
            std::process::abort();
        });
    }
    let rpc = chain.rpc();
    let sender = key(1);
    let nonce = result(&rpc, "eth_getTransactionCount", json!([sender.address(), "latest"])).await;
    for nonce in quantity(&nonce).. {
        let raw = hex_of(&transfer(&sender, nonce, key(2).address()));
        result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
        println!("final {nonce}");
    }
}

fn start_child(dir: &Path, moment: &str) -> Child {
    Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .env(MOMENT, moment)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// The nonces that a child acknowledged until it died.
fn acknowledged(child: &mut Child, mut at_each: impl FnMut(u64, &mut Child)) -> Option<u64> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut last = None;
    for line in lines.map_while(Result::ok) {
        if let Some((_, nonce)) = line.split_once("final ") {
            let nonce = nonce.trim().parse().expect("a number");
            last = Some(nonce);
            at_each(nonce, child);
        }
    }
    child.wait().expect("is dead");
    last
}

/// Opens what a dead child left, checks its promises, and makes one more block. Returns the time to that block.
async fn check(dir: &Path, acknowledged: Option<u64>) -> Duration {
    let start = Instant::now();
    let chain = open(dir).expect("recovers");
    let rpc = chain.rpc();
    let sender = key(1);
    let nonce = result(&rpc, "eth_getTransactionCount", json!([sender.address(), "latest"])).await;
    let nonce = quantity(&nonce);
    assert!(nonce > acknowledged.unwrap_or(0) || acknowledged.is_none(), "{nonce} {acknowledged:?}");
    let received = result(&rpc, "eth_getBalance", json!([key(2).address(), "latest"])).await;
    let start_balance = u128::pow(10, 24);
    let received = u128::from_str_radix(received.as_str().expect("text").trim_start_matches("0x"), 16);
    assert_eq!(received.expect("a number") - start_balance, u128::from(nonce));
    let raw = hex_of(&transfer(&sender, nonce, key(2).address()));
    result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
    let took = start.elapsed();
    assert_eq!(*chain.failure().borrow(), None);
    chain.close().await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_between_commit_and_ack_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..3 {
        let mut child = start_child(dir.path(), "between commit and ack");
        let last = acknowledged(&mut child, |_, _| {});
        check(dir.path(), last).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_any_moment_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut recoveries_ms = Vec::new();
    for round in 0..8u64 {
        let mut child = start_child(dir.path(), "any");
        let mut heard = 0;
        let last = acknowledged(&mut child, |_, child| {
            heard += 1;
            if heard == 3 {
                // Between two acknowledgements lie several journal writes; walk through them.
                let moment = Instant::now() + Duration::from_micros(round * 700);
                while Instant::now() < moment {
                    std::hint::spin_loop();
                }
                child.kill().expect("dies");
            }
        });
        recoveries_ms.push(check(dir.path(), last).await.as_millis());
    }
    println!("open to first new final block after kill -9: {recoveries_ms:?} ms");
}
