//! Foundry's `cast`, ethers and viem work against our JSON-RPC as against any other chain.
//!
//! Needs `cast` on PATH, or all three installed by npm under the folder that GLEAN_PEERS names; skips otherwise.

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy_primitives::hex;
use common::*;
use serde_json::Value;

fn find_cast() -> Option<PathBuf> {
    let installed = std::env::var_os("GLEAN_PEERS").map(|peers| Path::new(&peers).join("node_modules/.bin/cast"));
    let mut candidates = installed.into_iter().chain([PathBuf::from("cast")]);
    candidates.find(|cast| Command::new(cast).arg("--version").output().is_ok_and(|out| out.status.success()))
}

/// Runs cast against `addr`; its standard output.
fn run(cast: &Path, addr: SocketAddr, args: &[&str]) -> String {
    let output =
        Command::new(cast).args(args).args(["--rpc-url", &format!("http://{addr}")]).output().expect("cast starts");
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

/// Sends and reads with ethers (which batches) and with viem (which polls filters).
const SCRIPT: &str = r#"
import { JsonRpcProvider, Wallet, Contract, parseEther } from "ethers";
import { createPublicClient, createWalletClient, http, defineChain, parseAbi } from "viem";
import { privateKeyToAccount } from "viem/accounts";
const [url, key, to, token] = process.argv.slice(-4);
const check = (what, ok) => { if (!ok) { console.error("failed: " + what); process.exit(1); } };

const provider = new JsonRpcProvider(url);
const wallet = new Wallet(key, provider);
const sent = await (await wallet.sendTransaction({ to, value: parseEther("1") })).wait();
check("ethers send", sent.status === 1);
const abi = ["function symbol() view returns (string)", "function approve(address,uint256) returns (bool)", "event Approval(address indexed,address indexed,uint256)"];
const contract = new Contract(token, abi, wallet);
const [symbol, balance] = await Promise.all([contract.symbol(), provider.getBalance(to)]);
check("ethers batch", symbol === "gUSD" && balance === parseEther("1"));
const approved = await (await contract.approve(to, 5n)).wait();
check("ethers logs", (await contract.queryFilter("Approval", approved.blockNumber)).length === 1);
provider.destroy();

const chain = defineChain({ id: 7654, name: "test", nativeCurrency: { name: "GLN", symbol: "GLN", decimals: 18 }, rpcUrls: { default: { http: [url] } } });
const account = privateKeyToAccount(key);
const reader = createPublicClient({ chain, transport: http(), pollingInterval: 50 });
const writer = createWalletClient({ account, chain, transport: http() });
const filter = await reader.createBlockFilter();
const hash = await writer.sendTransaction({ to, value: 7n });
const receipt = await reader.waitForTransactionReceipt({ hash });
check("viem send", receipt.status === "success");
check("viem filter", (await reader.getFilterChanges({ filter })).includes(receipt.blockHash));
const viemAbi = parseAbi(["function transfer(address,uint256) returns (bool)"]);
const refusal = await reader.simulateContract({ account: to, address: token, abi: viemAbi, functionName: "transfer", args: [account.address, 1n] }).catch((error) => error);
check("viem revert", /revert/i.test(String(refusal)));
console.log("both agree");
process.exit(0);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ethers_and_viem_send_and_read() {
    let peers = std::env::var_os("GLEAN_PEERS").map(PathBuf::from);
    let installed =
        |peers: &PathBuf| ["ethers", "viem"].iter().all(|name| peers.join("node_modules").join(name).is_dir());
    let Some(peers) = peers.filter(installed) else {
        println!("SKIPPED: ethers and viem not found under GLEAN_PEERS (npm i ethers viem)");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let server = chain.serve_http("127.0.0.1:0".parse().expect("an address")).await.expect("listens");
    let url = format!("http://{}", server.addr());
    let script = move || {
        Command::new("node")
            .current_dir(peers)
            .args(["--input-type=module", "-e", SCRIPT, "--"])
            .args([url, hex::encode_prefixed([1u8; 32]), key(9).address().to_string(), common::gusd().to_string()])
            .output()
            .expect("node starts")
    };
    let output = tokio::task::spawn_blocking(script).await.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(server);
    chain.close().await;
}
