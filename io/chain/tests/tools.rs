//! What wallets, explorers and debuggers ask of our own chain beyond the first methods: simulations, traces, whole
//! transactions, and what happens when they ask for too much. `conformance` holds the same code against geth's answers.

mod common;

use alloy_primitives::{Address, Bytes, U256, hex};
use common::*;
use glean_chain::{Chain, RpcHandler};
use glean_ledger::dollar;
use glean_types::Amount;
use serde_json::{Value, json};

fn node(dir: &tempfile::TempDir) -> Chain {
    open(dir.path()).expect("opens")
}

async fn code(rpc: &RpcHandler, method: &str, params: Value) -> i64 {
    let answer = ask(rpc, method, params).await;
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method}: {answer}"))
}

fn five_dollars() -> Bytes {
    dollar::transfer(key(9).address(), Amount::from_units(5).expect("fits"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contract_may_ask_like_anybody() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let (rpc, token) = (chain.rpc(), gusd());
    let asked = json!([{ "from": token, "to": token, "data": dollar::balance_of(token) }, "latest"]);
    assert_eq!(result(&rpc, "eth_call", asked.clone()).await, json!(format!("0x{}", "0".repeat(64))));
    assert!(quantity(&result(&rpc, "eth_estimateGas", asked).await) > 21_000);
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_lists_tips_and_authorizations_are_part_of_a_question() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let (rpc, from, to) = (chain.rpc(), key(1).address(), key(9).address());
    let gas = async |extra: Value| {
        let mut request = json!({ "from": from, "to": to, "value": "0x1" });
        request.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        quantity(&result(&rpc, "eth_estimateGas", json!([request])).await)
    };
    assert_eq!(gas(json!({})).await, 21_000);
    assert_eq!(gas(json!({ "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1" })).await, 21_000);
    let listed = json!([{ "address": gusd(), "storageKeys": [raw_hash(0)] }]);
    assert_eq!(gas(json!({ "accessList": listed })).await, 21_000 + 2_400 + 1_900);
    let word = raw_hash(0x11);
    let authorization =
        json!({ "chainId": "0x0", "address": gusd(), "nonce": "0x0", "yParity": "0x0", "r": word, "s": word });
    assert!(gas(json!({ "authorizationList": [authorization] })).await >= 21_000 + 12_500);
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_gets_a_whole_transaction_and_sees_what_it_would_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let (rpc, from, token) = (chain.rpc(), key(1).address(), gusd());
    let request = json!({ "from": from, "to": token, "data": five_dollars() });
    let filled = result(&rpc, "eth_fillTransaction", json!([request])).await;
    assert_eq!((&filled["tx"]["nonce"], &filled["tx"]["type"]), (&json!("0x0"), &json!("0x2")));
    assert!(quantity(&filled["tx"]["gas"]) > 21_000);
    assert!(filled["raw"].as_str().is_some_and(|raw| raw.starts_with("0x02")));
    assert_eq!(code(&rpc, "eth_fillTransaction", json!([{ "to": token }])).await, -32602);

    let simulation = json!([{ "blockStateCalls": [{ "calls": [request] }, {}], "traceTransfers": true }, "latest"]);
    let blocks = result(&rpc, "eth_simulateV1", simulation).await;
    let call = &blocks[0]["calls"][0];
    assert_eq!((&call["status"], &call["logs"][0]["address"]), (&json!("0x1"), &json!(token)));
    assert_eq!(blocks[1]["parentHash"], blocks[0]["hash"]);
    assert_eq!(blocks[1]["stateRoot"], blocks[0]["stateRoot"], "an empty block changes nothing");
    assert_eq!(result(&rpc, "eth_blockNumber", json!([])).await, "0x0", "nothing is kept");
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulations_are_bounded_and_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let rpc = chain.rpc();
    let simulate = |blocks: Value| json!([{ "blockStateCalls": blocks }, "latest"]);
    let at = |number: &str| json!({ "blockOverrides": { "number": number } });
    assert_eq!(code(&rpc, "eth_simulateV1", simulate(json!([]))).await, -32602);
    assert_eq!(code(&rpc, "eth_simulateV1", simulate(json!([at("0x101")]))).await, -38026);
    assert_eq!(code(&rpc, "eth_simulateV1", simulate(json!([at("0xffffffffffffffffff")]))).await, -38026);
    assert_eq!(code(&rpc, "eth_simulateV1", simulate(json!([at("0x2"), at("0x2")]))).await, -38020);
    assert_eq!(code(&rpc, "eth_simulateV1", simulate(json!([{ "blockOverrides": { "time": "0x1" } }]))).await, -38021);
    let most = result(&rpc, "eth_simulateV1", simulate(json!([at("0x100")]))).await;
    assert_eq!(most.as_array().map(Vec::len), Some(256), "the gap is filled");
    // An endless loop: with all the gas that a simulation has, and a second one for which nothing is left.
    let account = Address::repeat_byte(0x77);
    let endless = json!([{
        "stateOverrides": { account.to_string(): { "code": "0x5b600056" } },
        "calls": [{ "to": account, "gas": "0x2faf080" }, { "to": account }],
    }]);
    let narrow = json!({ "blockOverrides": { "gasLimit": "0x5f5e100" } });
    let mut blocks = endless;
    blocks[0]["blockOverrides"] = narrow["blockOverrides"].clone();
    assert_eq!(code(&rpc, "eth_simulateV1", simulate(blocks)).await, -38013);
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pretended_replaces_storage_and_moves_precompiles() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let (rpc, from, token) = (chain.rpc(), key(1).address(), gusd());
    let balance = json!({ "to": token, "data": dollar::balance_of(from) });
    let wiped = json!([balance, "latest", { token.to_string(): { "state": {} } }]);
    assert_eq!(result(&rpc, "eth_call", wiped).await, json!(format!("0x{}", "0".repeat(64))));
    let both = json!([balance, "latest", { token.to_string(): { "state": {}, "stateDiff": {} } }]);
    assert_eq!(code(&rpc, "eth_call", both).await, -32000);

    let (identity, elsewhere) = (Address::with_last_byte(4), Address::repeat_byte(0x55));
    let moved = json!({ identity.to_string(): { "movePrecompileToAddress": elsewhere } });
    let ask_at = |to: Address| json!([{ "to": to, "data": "0x1234" }, "latest", moved]);
    assert_eq!(result(&rpc, "eth_call", ask_at(elsewhere)).await, "0x1234");
    assert_eq!(result(&rpc, "eth_call", ask_at(identity)).await, "0x");
    let stuck = json!([{ "to": token }, "latest", { token.to_string(): { "movePrecompileToAddress": elsewhere } }]);
    assert_eq!(code(&rpc, "eth_call", stuck).await, -32000);
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_traced_and_a_story_too_long_is_not_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let (rpc, from, token) = (chain.rpc(), key(1).address(), gusd());
    let raw = hex_of(&transfer(&key(1), 0, key(9).address()));
    let tx_receipt = result(&rpc, "eth_sendRawTransactionSync", json!([raw])).await;
    let by_calls = json!({ "tracer": "callTracer" });
    let traced = result(&rpc, "debug_traceTransaction", json!([tx_receipt["transactionHash"], by_calls])).await;
    assert_eq!((&traced["type"], &traced["gasUsed"]), (&json!("CALL"), &json!("0x5208")));
    let block = result(&rpc, "debug_traceBlockByNumber", json!([tx_receipt["blockNumber"], by_calls])).await;
    assert_eq!(block[0]["txHash"], tx_receipt["transactionHash"]);
    assert_eq!(code(&rpc, "debug_traceTransaction", json!([raw_hash(1)])).await, -32000);
    assert_eq!(code(&rpc, "debug_traceBlockByNumber", json!(["0x0"])).await, -32000, "nothing is before the genesis");
    let script = json!({ "tracer": "{ fault: function() {} }" });
    assert_eq!(code(&rpc, "debug_traceTransaction", json!([tx_receipt["transactionHash"], script])).await, -32000);

    let call = json!({ "from": from, "to": token, "data": five_dollars() });
    let steps = result(&rpc, "debug_traceCall", json!([call, "latest"])).await;
    assert_eq!(steps["failed"], false);
    assert!(steps["structLogs"].as_array().is_some_and(|steps| steps.len() > 50));

    // A million steps, and then a thousand of them only.
    let account = Address::repeat_byte(0x77);
    let endless = |limit: u64| {
        let code = json!({ account.to_string(): { "code": "0x5b600056" } });
        json!([{ "to": account }, "latest", { "limit": limit, "stateOverrides": code }])
    };
    assert_eq!(code(&rpc, "debug_traceCall", endless(0)).await, -32005);
    let some = result(&rpc, "debug_traceCall", endless(1_000)).await;
    assert_eq!(some["structLogs"].as_array().map(Vec::len), Some(1_000));
    // Four thousand calls, each handing over the same 128 KiB.
    let generous = json!({ account.to_string(): { "code": "0x5b6000600062020000600060045afa50600056" } });
    let options = json!({ "tracer": "callTracer", "stateOverrides": generous });
    assert_eq!(code(&rpc, "debug_traceCall", json!([{ "to": account }, "latest", options])).await, -32005);
    chain.close().await;
}

fn raw_hash(byte: u8) -> String {
    format!("0x{}", hex::encode([byte; 32]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_many_contracts_come_in_one_answer_up_to_a_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = node(&dir);
    let (rpc, token) = (chain.rpc(), gusd());
    let zero = format!("0x{}", "0".repeat(64));
    let nobody = Address::repeat_byte(0x42);
    let found = result(&rpc, "eth_getStorageValues", json!([{ nobody.to_string(): ["0x0", "0x1"] }])).await;
    assert_eq!(found, json!({ format!("{nobody:#x}"): [zero, zero] }));
    let many: Vec<String> = (0..1_025).map(|slot| format!("{:#x}", U256::from(slot))).collect();
    assert_eq!(code(&rpc, "eth_getStorageValues", json!([{ token.to_string(): many }])).await, -32005);
    let capabilities = result(&rpc, "eth_capabilities", json!([])).await;
    assert_eq!(capabilities["state"]["oldestBlock"], "0x0");
    let config = result(&rpc, "eth_config", json!([])).await;
    assert_eq!(config["current"]["precompiles"].as_object().map(serde_json::Map::len), Some(18));
    assert_eq!(code(&rpc, "eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "0x99" }])).await, -32602);
    chain.close().await;
}
