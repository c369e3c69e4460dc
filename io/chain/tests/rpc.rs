//! What wallets and strangers send.

mod common;

use std::net::SocketAddr;

use alloy_consensus::{TrieAccount, TxEip1559};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::EIP1186AccountProofResponse;
use alloy_trie::Nibbles;
use alloy_trie::proof::verify_proof;
use common::*;
use glean_chain::{Chain, HttpError};
use glean_ledger::{Addresses, Genesis, channels, dollar};
use glean_types::{Amount, Domain, NodeId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Node {
    chain: Option<Chain>,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let chain = open(dir.path()).expect("opens");
        Self { chain: Some(chain), _dir: dir }
    }

    fn chain(&self) -> &Chain {
        self.chain.as_ref().expect("open")
    }

    async fn raw(&self, body: impl Into<Vec<u8>>) -> Value {
        let answer = self.chain().rpc().handle(body.into().into()).await;
        if answer.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&answer).expect("an answer in JSON")
    }

    async fn error_code(&self, method: &str, params: Value) -> i64 {
        let answer = ask(&self.chain().rpc(), method, params).await;
        answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method}: {answer}"))
    }

    async fn close(mut self) {
        self.chain.take().expect("open").close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envelopes_good_and_bad() {
    let node = Node::new();
    assert_eq!(node.raw("{oops").await["error"]["code"], -32700);
    assert_eq!(node.raw("[]").await["error"]["code"], -32600);
    assert_eq!(node.raw("42").await["error"]["code"], -32600);
    assert_eq!(node.raw(r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#).await["error"]["code"], -32600);
    assert_eq!(
        node.raw(r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{}}"#).await["error"]["code"],
        -32602
    );
    assert_eq!(node.raw(r#"{"jsonrpc":"2.0","method":"eth_chainId"}"#).await, Value::Null, "a notification");
    assert_eq!(node.raw(vec![b' '; (5 << 20) + 1]).await["error"]["code"], -32600);
    let deep = "[".repeat(100_000);
    assert_eq!(node.raw(deep).await["error"]["code"], -32700);
    let text_id = node.raw(r#"{"jsonrpc":"2.0","id":"a","method":"eth_chainId","params":[]}"#).await;
    assert_eq!(text_id, json!({"jsonrpc":"2.0","id":"a","result":"0x1de6"}));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_keep_order_and_have_a_cap() {
    let node = Node::new();
    let one = |id: u64| json!({"jsonrpc":"2.0","id":id,"method":"eth_blockNumber","params":[]});
    let batch: Vec<Value> = (0..100).map(one).collect();
    let answers = node.raw(json!(batch).to_string()).await;
    let ids: Vec<u64> = answers.as_array().expect("a batch").iter().map(|a| a["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    let batch: Vec<Value> = (0..101).map(one).collect();
    assert_eq!(node.raw(json!(batch).to_string()).await["error"]["code"], -32600);
    let mixed = json!([one(1), 7, {"jsonrpc":"2.0","id":2,"method":"nope"}]);
    let answers = node.raw(mixed.to_string()).await;
    assert_eq!(answers[0]["result"], "0x0");
    assert_eq!(answers[1]["error"]["code"], -32600);
    assert_eq!(answers[2]["error"]["code"], -32601);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_methods_and_bad_arguments() {
    let node = Node::new();
    for method in ["eth_mine", "personal_sign", "debug_setHead", "glean_nothing", "x", ""] {
        assert_eq!(node.error_code(method, json!([])).await, -32601, "{method}");
    }
    let answer = ask(&node.chain().rpc(), "eth_mine", json!([])).await;
    assert_eq!(answer["error"]["message"], "the method eth_mine does not exist/is not available");
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!(["0x12"])),
        ("eth_getBlockByNumber", json!(["soon"])),
        ("eth_getLogs", json!([{"fromBlock":"0x2","toBlock":"0x1"}])),
        ("eth_sendRawTransaction", json!(["zz"])),
        ("eth_feeHistory", json!([])),
    ] {
        assert_eq!(node.error_code(method, params).await, -32602, "{method}");
    }
    for (method, params) in [
        ("eth_getBalance", json!([Address::ZERO, "0x99"])),
        ("eth_sendRawTransaction", json!(["0x02c0"])),
        ("eth_getFilterChanges", json!(["0x1"])),
    ] {
        assert_eq!(node.error_code(method, params).await, -32000, "{method}");
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_transaction_as_a_wallet_sees_it() {
    let node = Node::new();
    let rpc = node.chain().rpc();
    let (from, to) = (key(1), key(9).address());
    let block_filter = result(&rpc, "eth_newBlockFilter", json!([])).await;
    let gap = hex_of(&transfer(&from, 1, to));
    let gap_hash = result(&rpc, "eth_sendRawTransaction", json!([gap])).await;
    let waiting = result(&rpc, "eth_getTransactionByHash", json!([gap_hash])).await;
    assert_eq!(waiting["blockNumber"], Value::Null);
    assert_eq!(result(&rpc, "txpool_status", json!([])).await, json!({"pending":"0x0","queued":"0x1"}));
    let first = hex_of(&transfer(&from, 0, to));
    let receipt = result(&rpc, "eth_sendRawTransactionSync", json!([first, "0x7530"])).await;
    assert_eq!((&receipt["status"], &receipt["type"]), (&json!("0x1"), &json!("0x2")));
    assert_eq!(receipt["transactionIndex"], "0x0");
    let again = ask(&rpc, "eth_sendRawTransaction", json!([first])).await;
    assert!(again["error"]["message"].as_str().expect("text").starts_with("nonce too low"), "{again}");

    let block = result(&rpc, "eth_getBlockByHash", json!([receipt["blockHash"], true])).await;
    assert_eq!(block["transactions"][0]["hash"], receipt["transactionHash"]);
    assert_eq!(block["transactions"][0]["from"], json!(from.address()).as_str().expect("text").to_lowercase());
    let by_number = result(&rpc, "eth_getBlockByNumber", json!([receipt["blockNumber"], false])).await;
    assert_eq!(by_number["hash"], block["hash"]);
    assert_eq!(by_number["transactions"][0], receipt["transactionHash"]);
    let by_index =
        result(&rpc, "eth_getTransactionByBlockNumberAndIndex", json!([receipt["blockNumber"], "0x0"])).await;
    assert_eq!(by_index["hash"], receipt["transactionHash"]);
    let changes = result(&rpc, "eth_getFilterChanges", json!([block_filter])).await;
    assert!(changes.as_array().expect("hashes").contains(&block["hash"]));
    assert_eq!(result(&rpc, "eth_uninstallFilter", json!([block_filter])).await, true);
    let history = result(&rpc, "eth_feeHistory", json!(["0x2", "latest", [50.0]])).await;
    assert_eq!(history["reward"][1][0], "0xf4240");
    for tag in ["latest", "safe", "finalized", "pending"] {
        let nonce = result(&rpc, "eth_getTransactionCount", json!([from.address(), tag])).await;
        assert!(quantity(&nonce) >= 1, "{tag}");
    }
    assert_eq!(result(&rpc, "eth_getBalance", json!([to, "earliest"])).await, "0x0");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contracts_are_called_estimated_and_proved() {
    let node = Node::new();
    let rpc = node.chain().rpc();
    let (from, token) = (key(1).address(), gusd());
    let call = |data: Bytes| json!({ "from": from, "to": token, "data": data });
    let balance = result(&rpc, "eth_call", json!([call(dollar::balance_of(from)), "latest"])).await;
    let balance: U256 = serde_json::from_value(balance).expect("a word");
    assert_eq!(balance, U256::from(1_000 * COIN));

    let too_much = dollar::transfer(key(9).address(), Amount::from_units(2_000 * COIN).expect("fits"));
    let refused = ask(&rpc, "eth_call", json!([call(too_much.clone()), "latest"])).await;
    assert_eq!(refused["error"]["code"], 3, "{refused}");
    assert!(refused["error"]["data"].as_str().is_some_and(|data| data.len() > 10), "{refused}");
    let refused = ask(&rpc, "eth_estimateGas", json!([call(too_much)])).await;
    assert_eq!(refused["error"]["code"], 3, "{refused}");

    let transfer = dollar::transfer(key(9).address(), Amount::from_units(5).expect("fits"));
    let gas = quantity(&result(&rpc, "eth_estimateGas", json!([call(transfer.clone())])).await);
    let list = result(&rpc, "eth_createAccessList", json!([call(transfer.clone())])).await;
    assert_eq!(list["accessList"][0]["address"], json!(token), "{list}");
    let raw = signed(
        &key(1),
        TxEip1559 {
            chain_id: CHAIN_ID,
            gas_limit: gas,
            max_fee_per_gas: 10_000_000_000,
            to: TxKind::Call(token),
            input: transfer,
            ..TxEip1559::default()
        },
    );
    let receipt = result(&rpc, "eth_sendRawTransactionSync", json!([hex_of(&raw)])).await;
    assert_eq!(receipt["status"], "0x1", "the estimate was enough");
    let logs = result(&rpc, "eth_getLogs", json!([{ "address": token, "fromBlock": "0x1" }])).await;
    assert_eq!(logs[0]["transactionHash"], receipt["transactionHash"]);

    let held = |tag: &str| json!([call(dollar::balance_of(key(9).address())), tag]);
    let now: U256 = serde_json::from_value(result(&rpc, "eth_call", held("latest")).await).expect("a word");
    let before: U256 = serde_json::from_value(result(&rpc, "eth_call", held("0x0")).await).expect("a word");
    assert_eq!((now, before), (U256::from(5), U256::ZERO), "recent states stay readable");

    let pretended =
        json!([{ "from": from, "to": token }, "latest", { token.to_string(): { "code": "0x60015f5260205ff3" } }]);
    let one: U256 = serde_json::from_value(result(&rpc, "eth_call", pretended).await).expect("a word");
    assert_eq!(one, U256::from(1));

    let proof = result(&rpc, "eth_getProof", json!([token, ["0x0"], "latest"])).await;
    let proof: EIP1186AccountProofResponse = serde_json::from_value(proof).expect("a proof");
    let account = TrieAccount::new(proof.nonce, proof.balance, proof.storage_hash, proof.code_hash);
    let root = node.chain().head().header().state_root;
    let key = Nibbles::unpack(keccak256(token));
    verify_proof(root, key, Some(alloy_rlp::encode(account)), &proof.account_proof).expect("proves");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_faucet_grants_once() {
    let node = Node::new();
    let rpc = node.chain().rpc();
    let newcomer = key(77).address();
    let granted = result(&rpc, "glean_faucet", json!([newcomer])).await;
    assert_eq!(granted["granted"], true);
    let held = async || {
        let data = dollar::balance_of(newcomer);
        let dollars = result(&rpc, "eth_call", json!([{ "to": gusd(), "data": data }, "latest"])).await;
        let coins = result(&rpc, "eth_getBalance", json!([newcomer, "latest"])).await;
        (
            serde_json::from_value::<U256>(dollars).expect("a word"),
            serde_json::from_value::<U256>(coins).expect("a number"),
        )
    };
    let once = (U256::from(1_000 * COIN), U256::from(10 * COIN));
    assert_eq!(held().await, once);
    let again = result(&rpc, "glean_faucet", json!([newcomer])).await;
    assert_eq!(again["granted"], false);
    assert_eq!(held().await, once);
    let two = tokio::join!(
        result(&rpc, "glean_faucet", json!([key(78).address()])),
        result(&rpc, "glean_faucet", json!([key(78).address()]))
    );
    assert_ne!(two.0["granted"], two.1["granted"], "two at once are granted once");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gleaner_methods_tell_the_network() {
    let node = Node::new();
    let rpc = node.chain().rpc();
    let told = result(&rpc, "glean_genesis", json!([])).await;
    let back: Genesis = serde_json::from_value(told["genesis"].clone()).expect("a genesis");
    assert_eq!(back, genesis());
    assert_eq!(told["hash"], json!(back.build().expect("builds").block_hash()));
    assert_eq!(told["addresses"]["dollar"], json!(gusd()));
    let status = result(&rpc, "glean_status", json!([])).await;
    assert_eq!((&status["head"]["number"], &status["failure"]), (&json!("0x0"), &Value::Null));
    let none = result(&rpc, "glean_channel", json!([B256::repeat_byte(3)])).await;
    assert_eq!(none, Value::Null);

    let domain = Domain { chain_id: CHAIN_ID, channels: Addresses::standard().channels };
    let deposit = Amount::from_units(50 * COIN).expect("fits");
    let open = channels::Open {
        payee: key(2).address(),
        node: NodeId([4; 32]),
        token: gusd(),
        deposit,
        signer: key(1).address(),
        salt: B256::ZERO,
    };
    let steps = [(gusd(), dollar::approve(domain.channels, deposit)), (domain.channels, channels::open(&open))];
    for (nonce, (to, input)) in (0..).zip(steps) {
        let raw = signed(
            &key(1),
            TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 400_000,
                max_fee_per_gas: 10_000_000_000,
                to: TxKind::Call(to),
                input,
                ..TxEip1559::default()
            },
        );
        let receipt = result(&rpc, "eth_sendRawTransactionSync", json!([hex_of(&raw)])).await;
        assert_eq!(receipt["status"], "0x1");
    }
    let id = channels::id(&domain, key(1).address(), &open);
    let channel = result(&rpc, "glean_channel", json!([B256::new(id.0)])).await;
    assert_eq!(channel["deposit"], json!(U256::from(deposit.units())));
    assert_eq!((&channel["payer"], &channel["closing"]), (&json!(key(1).address()), &json!(false)));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_serves_this_machine_only() {
    let node = Node::new();
    let anywhere: SocketAddr = "0.0.0.0:0".parse().expect("an address");
    assert!(matches!(node.chain().serve_http(anywhere).await, Err(HttpError::NotLoopback(_))));
    let loopback: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let server = node.chain().serve_http(loopback).await.expect("listens");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}"#;
    let good = http(server.addr(), "localhost", body).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.contains("0x1de6"), "{good}");
    assert!(good.to_lowercase().contains("access-control-allow-origin: *"), "{good}");
    let rebound = http(server.addr(), "evil.example", body).await;
    assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
    let oversized = http(server.addr(), "localhost", &" ".repeat((5 << 20) + 1)).await;
    assert!(oversized.starts_with("HTTP/1.1 413"), "{oversized}");
    drop(server);
    node.close().await;
}

/// One POST by hand; the whole response.
async fn http(addr: SocketAddr, host: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nOrigin: http://a\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("writes");
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}
