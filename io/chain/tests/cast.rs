//! Foundry's `cast` works against our JSON-RPC as against any other chain.
//!
//! Needs `cast` on PATH, or installed by npm under the folder that GLEAN_PEERS names.

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::hex;
use common::*;
use serde_json::Value;

fn find_cast() -> Option<PathBuf> {
    let installed = std::env::var_os("GLEAN_PEERS")
        .map(|peers| Path::new(&peers).join("node_modules/.bin/cast"));
    let candidates = installed.into_iter().chain([PathBuf::from("cast")]);
    candidates
        .filter(|cast| Command::new(cast).arg("--version").output().is_ok_and(|out| out.status.success()))
        .next()
}

/// Runs cast against `addr`; its standard output.
fn run(cast: &Path, addr: SocketAddr, args: &[&str]) -> String {
    let output = Command::new(cast)
        .args(args)
        .args(["--rpc-url", &format!("http://{addr}")])
        .output()
        .expect("cast starts");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cast {args:?}: {text}\n{errors}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cast_sends_calls_and_reads() {
    let Some(cast) = find_cast() else {
        println!("SKIPPED: cast not found (npm i @foundry-rs/cast)");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let server = chain.serve_http("127.0.0.1:0".parse().expect("an address")).await.expect("listens");
    let addr = server.addr();
    let work = move || {
        let run = |args: &[&str]| run(&cast, addr, args);
        let secret = hex::encode_prefixed([1u8; 32]);
        let (from, to) = (key(1).address().to_string(), key(9).address().to_string());
        let gusd = common::gusd().to_string();

        assert_eq!(run(&["chain-id"]), CHAIN_ID.to_string());
        let sent = run(&["send", &to, "--value", "1ether", "--private-key", &secret, "--json"]);
        let sent: Value = serde_json::from_str(&sent).expect("a receipt");
        assert_eq!(sent["status"], "0x1");
        let hash = sent["transactionHash"].as_str().expect("a hash").to_string();
        assert_eq!(run(&["balance", &to]), "1000000000000000000");
        let receipt: Value = serde_json::from_str(&run(&["receipt", &hash, "--json"])).expect("a receipt");
        assert_eq!(receipt["blockHash"], sent["blockHash"]);
        let block: Value = serde_json::from_str(&run(&["block", "latest", "--json"])).expect("a block");
        assert_eq!(block["hash"], sent["blockHash"]);
        assert_eq!(run(&["nonce", &from]), "1");
        let tx: Value = serde_json::from_str(&run(&["tx", &hash, "--json"])).expect("a transaction");
        assert_eq!(tx["from"].as_str().map(str::to_lowercase), Some(from.to_lowercase()));

        assert_eq!(run(&["call", &gusd, "symbol()(string)"]), "\"gUSD\"");
        assert_ne!(run(&["code", &gusd]), "0x");
        let approved = run(&["send", &gusd, "approve(address,uint256)", &to, "7", "--private-key", &secret, "--json"]);
        let approved: Value = serde_json::from_str(&approved).expect("a receipt");
        assert_eq!(approved["status"], "0x1");
        assert_eq!(run(&["call", &gusd, "allowance(address,address)(uint256)", &from, &to]), "7");
        let logs = run(&["logs", "--address", &gusd, "--from-block", "1", "--json"]);
        let logs: Value = serde_json::from_str(&logs).expect("logs");
        assert_eq!(logs.as_array().map(Vec::len), Some(1), "{logs}");
        let gas = run(&["estimate", &gusd, "approve(address,uint256)", &to, "8", "--from", &from]);
        assert!(gas.parse::<u64>().expect("a number") > 21_000);
        run(&["proof", &gusd, "0x0"]);
        run(&["gas-price"]);
        run(&["storage", &gusd, "0"]);
    };
    tokio::task::spawn_blocking(work).await.expect("cast and the chain agree");
    drop(server);
    chain.close().await;
}
