//! A ledger node without work costs nothing: no blocks, no disk, next to no processor time.
//!
//! Alone in its binary, because it measures the whole process.

mod common;

use std::path::Path;
use std::time::Duration;

use common::*;
use serde_json::json;

fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("metadata");
            if metadata.is_dir() { disk_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

/// Processor time of this process so far, where the system tells.
fn cpu_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // Linux counts in hundredths of a second on every platform we run on.
    Some(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_ledger_rests() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let rpc = chain.rpc();
    let raw = hex_of(&transfer(&key(1), 0, key(2).address()));
    result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
    // What the block still causes (certificates, prunings) is over when a second brings no block.
    let mut blocks = chain.subscribe();
    while tokio::time::timeout(Duration::from_secs(1), blocks.recv()).await.is_ok() {}
    let (head, disk, cpu) = (chain.head().number(), disk_bytes(dir.path()), cpu_ms());
    let seconds = 5;
    let block = tokio::time::timeout(Duration::from_secs(seconds), blocks.recv()).await;
    assert!(block.is_err(), "a block without work");
    let grown = disk_bytes(dir.path()) - disk;
    let used = cpu_ms().zip(cpu).map(|(now, before)| now - before);
    println!("idle for {seconds} s: {grown} bytes, {used:?} ms of processor time, directory {disk} bytes");
    assert_eq!(chain.head().number(), head);
    assert_eq!(grown, 0);
    assert!(used.is_none_or(|used| used <= 20 * seconds), "{used:?} ms");
    chain.close().await;
}
