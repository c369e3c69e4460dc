//! Which method is answered where, and those about blocks, transactions and accounts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use glean_ledger::{Account, AccountProof, State as _, prove_account};
use serde_json::{Value, json};

use super::call::Pretence;
use super::error::RpcError;
use super::fees::SUGGESTED_TIP;
use super::filter::Kind;
use super::{Answer, Params, Shared, json, view};
use crate::block::SealedBlock;
use crate::keeper::SubmitError;
use crate::store::{Record, Snapshot};

/// Storage keys in one proof.
const PROOF_KEYS_MAX: usize = 1_024;
/// Slots in one `eth_getStorageValues`.
const STORAGE_VALUES_MAX: usize = 1_024;
/// Longest wait of `eth_sendRawTransactionSync`.
const SYNC_WAIT_MAX_MS: u64 = 60_000;
/// Its wait when the caller names none.
const SYNC_WAIT_MS: u64 = 30_000;

impl Shared {
    /// Dispatches everything that is not `glean_`.
    pub(super) fn eth(&self, method: &str, params: &Params) -> Answer {
        match method {
            "web3_clientVersion" => json(format!("gleaner/v{}", env!("CARGO_PKG_VERSION"))),
            "web3_sha3" => json(keccak256(params.get::<Bytes>(0)?)),
            "net_version" => json(self.keeper.chain_id().to_string()),
            "net_listening" => json(true),
            "net_peerCount" => json(U64::ZERO),
            "eth_chainId" => json(U64::from(self.keeper.chain_id())),
            "eth_syncing" => json(false),
            "eth_accounts" => json(Vec::<Address>::new()),
            "eth_blockNumber" => json(U64::from(self.keeper.head().number())),
            "eth_gasPrice" => json(U64::from(self.keeper.next_base_fee() + SUGGESTED_TIP)),
            "eth_maxPriorityFeePerGas" => json(U64::from(SUGGESTED_TIP)),
            "eth_blobBaseFee" => json(U64::from(1)),
            "eth_baseFee" => json(U64::from(self.keeper.next_base_fee())),
            "eth_feeHistory" => self.fee_history(params),
            "eth_getBalance" => {
                let view = self.view(params.opt(1)?)?;
                json(account(&view, params.address(0)?)?.balance)
            }
            "eth_getTransactionCount" => self.transaction_count(params),
            "eth_getCode" => {
                let view = self.view(params.opt(1)?)?;
                json(code(&view, params.address(0)?)?)
            }
            "eth_getStorageAt" => {
                let view = self.view(params.opt(2)?)?;
                let value = view.slot(params.address(0)?, storage_key(&params.get::<String>(1)?)?)?;
                json(B256::from(value))
            }
            "eth_getStorageValues" => self.storage_values(params),
            "eth_getAccountInfo" => self.account_info(params),
            "eth_getProof" => self.proof(params),
            "eth_call" => self.call(params),
            "eth_simulateV1" => self.simulate(params),
            "eth_fillTransaction" => self.fill_transaction(params),
            "eth_estimateGas" => self.estimate_gas(params),
            "eth_createAccessList" => self.create_access_list(params),
            "eth_sendRawTransaction" => {
                params.at_most(1)?;
                json(self.keeper.submit(&params.get::<Bytes>(0)?)?)
            }
            "eth_getTransactionByHash" => self.transaction_by_hash(params),
            "eth_getTransactionByBlockHashAndIndex" | "eth_getTransactionByBlockNumberAndIndex" => {
                self.transaction_by_index(params)
            }
            "eth_getTransactionReceipt" => json(self.tx_receipt(params.hash(0)?)?),
            "eth_getBlockReceipts" => self.block_receipts(params),
            "eth_getBlockByNumber" | "eth_getBlockByHash" => self.block_view(params),
            "eth_getBlockTransactionCountByHash" | "eth_getBlockTransactionCountByNumber" => {
                let block = self.block_at(block_id(method, params)?)?;
                json(block.map(|block| U64::from(block.body().transactions.len())))
            }
            "eth_getUncleCountByBlockHash" | "eth_getUncleCountByBlockNumber" => {
                let block = self.block_at(block_id(method, params)?)?;
                json(block.map(|_| U64::ZERO))
            }
            "eth_getUncleByBlockHashAndIndex" | "eth_getUncleByBlockNumberAndIndex" => Ok(Value::Null),
            "eth_getLogs" => json(self.logs(&params.get(0)?)?),
            "eth_newFilter" => self.install(Kind::Logs(params.get(0)?)),
            "eth_newBlockFilter" => self.install(Kind::Blocks),
            "eth_newPendingTransactionFilter" => {
                let known = self.keeper.pool().all().iter().map(|tx| tx.hash).collect();
                self.install(Kind::Transactions(known))
            }
            "eth_uninstallFilter" => json(self.filters.uninstall(&params.get(0)?)),
            "eth_getFilterChanges" => self.filter_changes(params),
            "eth_getFilterLogs" => match self.filters.get(&params.get(0)?)?.kind {
                Kind::Logs(filter) => json(self.logs(&filter)?),
                Kind::Blocks | Kind::Transactions(_) => Err(RpcError::refused("filter not found")),
            },
            "txpool_status" => self.pool_status(),
            "txpool_content" => self.pool_content(),
            "txpool_contentFrom" => self.pool_content_from(params),
            "eth_capabilities" => self.capabilities(),
            "eth_config" => self.config(),
            "debug_traceTransaction" => self.trace_transaction(params),
            "debug_traceBlockByNumber" | "debug_traceBlockByHash" => self.trace_block(method, params),
            "debug_traceCall" => self.trace_call(params),
            "debug_getRawHeader" => self.raw(params, |block| alloy_rlp::encode(block.header()).into()),
            "debug_getRawBlock" => self.raw(params, |block| Bytes::from(block.rlp().clone())),
            "debug_getRawTransaction" | "eth_getRawTransactionByHash" => self.raw_transaction(params),
            "debug_getRawReceipts" => self.raw_receipts(params),
            _ => Err(RpcError::unknown_method(method)),
        }
    }

    /// The number a tag means; `None` when it lies ahead.
    pub(super) fn number_of(&self, tag: BlockNumberOrTag) -> Option<u64> {
        let head = self.keeper.head().number();
        match tag {
            BlockNumberOrTag::Number(number) => (number <= head).then_some(number),
            BlockNumberOrTag::Earliest => Some(0),
            // Every block we know is final; what waits in the pool is not a block.
            BlockNumberOrTag::Latest
            | BlockNumberOrTag::Finalized
            | BlockNumberOrTag::Safe
            | BlockNumberOrTag::Pending => Some(head),
        }
    }

    pub(super) fn resolve(&self, id: BlockId) -> Result<Option<u64>, RpcError> {
        match id {
            BlockId::Number(tag) => Ok(self.number_of(tag)),
            BlockId::Hash(hash) => Ok(self.keeper.store().number(&hash.block_hash)?),
        }
    }

    pub(super) fn block_at(&self, id: BlockId) -> Result<Option<Arc<SealedBlock>>, RpcError> {
        match self.resolve(id)? {
            Some(number) => Ok(self.keeper.block(number)?),
            None => Ok(None),
        }
    }

    pub(super) fn record(&self, number: u64) -> Result<Record, RpcError> {
        let record = self.keeper.store().record(number)?;
        record.ok_or_else(|| RpcError::internal(format!("no record of block {number}")))
    }

    /// The state after a block; the latest when none is named.
    pub(super) fn view(&self, id: Option<BlockId>) -> Result<Arc<Snapshot>, RpcError> {
        let id = id.unwrap_or(BlockId::latest());
        let number = self.resolve(id)?.ok_or_else(|| RpcError::refused("header not found"))?;
        self.keeper.snapshot(number).ok_or_else(|| {
            RpcError::refused(format!(
                "historical state of block {number} is not available; only recent states are kept"
            ))
        })
    }

    fn transaction_count(&self, params: &Params) -> Answer {
        let address = params.address(0)?;
        let id: Option<BlockId> = params.opt(1)?;
        let nonce = account(&*self.view(id)?, address)?.nonce;
        let pending = id == Some(BlockId::pending());
        json(U64::from(if pending { self.keeper.pool().next_nonce(address, nonce) } else { nonce }))
    }

    fn account_info(&self, params: &Params) -> Answer {
        let view = self.view(params.opt(1)?)?;
        let address = params.address(0)?;
        let account = account(&view, address)?;
        Ok(json!({
            "balance": account.balance,
            "nonce": U64::from(account.nonce),
            "code": code(&view, address)?,
        }))
    }

    fn storage_values(&self, params: &Params) -> Answer {
        let wanted: BTreeMap<Address, Vec<String>> = params.get(0)?;
        let slots: usize = wanted.values().map(Vec::len).sum();
        if slots == 0 {
            return Err(RpcError::invalid_params("empty request"));
        }
        if slots > STORAGE_VALUES_MAX {
            return Err(RpcError::limit(format!("too many slots: {slots}, limit {STORAGE_VALUES_MAX}")));
        }
        let view = self.view(params.opt(1)?)?;
        let mut found: BTreeMap<Address, Vec<B256>> = BTreeMap::new();
        for (address, keys) in &wanted {
            let value = |key: &String| Ok::<_, RpcError>(B256::from(view.slot(*address, storage_key(key)?)?));
            found.insert(*address, keys.iter().map(value).collect::<Result<_, _>>()?);
        }
        json(found)
    }

    fn proof(&self, params: &Params) -> Answer {
        let keys: Vec<U256> = params.opt(1)?.unwrap_or_default();
        if keys.len() > PROOF_KEYS_MAX {
            return Err(RpcError::invalid_params(format!(
                "too many storage keys: {}, limit {PROOF_KEYS_MAX}",
                keys.len()
            )));
        }
        let view = self.view(params.opt(2)?)?;
        let block = self.keeper.block(view.number())?;
        let block = block.ok_or_else(|| RpcError::refused("header not found"))?;
        let proof = prove_account(&*view, block.header().state_root, params.address(0)?, &keys)?;
        json(proof_view(proof))
    }

    fn call(&self, params: &Params) -> Answer {
        let view = self.view(params.opt(1)?)?;
        let pretence = Pretence { state: params.opt(2)?, block: params.opt(3)? };
        json(self.run_call(&view, params.get(0)?, pretence)?)
    }

    fn estimate_gas(&self, params: &Params) -> Answer {
        let view = self.view(params.opt(1)?)?;
        let pretence = Pretence { state: params.opt(2)?, block: params.opt(3)? };
        json(U64::from(self.run_estimate(&view, params.get(0)?, pretence)?))
    }

    fn create_access_list(&self, params: &Params) -> Answer {
        let view = self.view(params.opt(1)?)?;
        json(self.run_access_list(&view, params.get(0)?)?)
    }

    fn transaction_by_hash(&self, params: &Params) -> Answer {
        let hash = params.hash(0)?;
        if let Some((number, index)) = self.keeper.store().transaction(&hash)? {
            return self.final_transaction(number, index as usize);
        }
        self.keeper.pool().get(&hash).map_or(Ok(Value::Null), |tx| view::pending(&tx))
    }

    fn final_transaction(&self, number: u64, index: usize) -> Answer {
        let Some(block) = self.keeper.block(number)? else { return Ok(Value::Null) };
        let record = self.record(number)?;
        let sender = record.senders.get(index);
        json(sender.and_then(|sender| view::transaction(&block, *sender, index)))
    }

    fn transaction_by_index(&self, params: &Params) -> Answer {
        let index = params.get::<U64>(1)?.saturating_to::<usize>();
        match self.resolve(params.get(0)?)? {
            Some(number) => self.final_transaction(number, index),
            None => Ok(Value::Null),
        }
    }

    /// The tx_receipt of a final transaction.
    pub(super) fn tx_receipt(&self, hash: B256) -> Result<Option<alloy_rpc_types_eth::TransactionReceipt>, RpcError> {
        let Some((number, index)) = self.keeper.store().transaction(&hash)? else {
            return Ok(None);
        };
        let Some(block) = self.keeper.block(number)? else { return Ok(None) };
        let receipts = view::tx_receipts(&block, &self.record(number)?);
        Ok(receipts.into_iter().nth(index as usize))
    }

    fn block_receipts(&self, params: &Params) -> Answer {
        let Some(block) = self.block_at(params.get(0)?)? else { return Ok(Value::Null) };
        json(view::tx_receipts(&block, &self.record(block.number())?))
    }

    fn block_view(&self, params: &Params) -> Answer {
        let full: bool = params.opt(1)?.unwrap_or(false);
        let Some(block) = self.block_at(params.get(0)?)? else { return Ok(Value::Null) };
        if !full {
            return json(view::block(&block, None));
        }
        let record = self.record(block.number())?;
        json(view::block(&block, Some(&record.senders)))
    }

    fn raw(&self, params: &Params, part: impl FnOnce(&SealedBlock) -> Bytes) -> Answer {
        let block = self.block_at(params.get(0)?)?;
        let block = block.ok_or_else(|| RpcError::refused("block not found"))?;
        json(part(&block))
    }

    fn raw_transaction(&self, params: &Params) -> Answer {
        let hash = params.hash(0)?;
        if let Some(tx) = self.keeper.pool().get(&hash) {
            return json(Bytes::from(tx.tx.encoded_2718()));
        }
        let Some((number, index)) = self.keeper.store().transaction(&hash)? else {
            return Ok(Value::Null);
        };
        let block = self.keeper.block(number)?;
        let tx = block.as_ref().and_then(|block| block.body().transactions.get(index as usize));
        json(tx.map(|tx| Bytes::from(tx.encoded_2718())))
    }

    fn raw_receipts(&self, params: &Params) -> Answer {
        let block = self.block_at(params.get(0)?)?;
        let block = block.ok_or_else(|| RpcError::refused("block not found"))?;
        let record = self.record(block.number())?;
        let encoded = record.tx_receipts.iter().map(|receipt| Bytes::from(receipt.encoded_2718()));
        json(encoded.collect::<Vec<_>>())
    }

    /// Sends and waits until the transaction is final.
    pub(super) async fn send_raw_transaction_sync(&self, params: &Params) -> Answer {
        let raw: Bytes = params.get(0)?;
        let wait = params.opt::<U64>(1)?.map_or(SYNC_WAIT_MS, |wait| wait.saturating_to());
        let wait_ms = wait.min(SYNC_WAIT_MAX_MS);
        let mut heads = self.keeper.watch_head();
        let hash = self.keeper.submit(&raw)?;
        let waiting = async {
            loop {
                if let Some(receipt) = self.tx_receipt(hash)? {
                    return json(receipt);
                }
                heads.changed().await.map_err(|_| RpcError::internal("the node is stopping"))?;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_millis(wait_ms), waiting).await;
        outcome.unwrap_or_else(|_| Err(RpcError::not_final_in_time(hash, wait_ms)))
    }
}

impl From<SubmitError> for RpcError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(error) => error.into(),
            SubmitError::State(error) => error.into(),
            SubmitError::Stopped(_) => Self::internal(error),
        }
    }
}

/// The block a method with a hash or a number in its name asks for.
pub(super) fn block_id(method: &str, params: &Params) -> Result<BlockId, RpcError> {
    if method.ends_with("Hash") {
        params.hash(0).map(BlockId::from)
    } else {
        params.get::<BlockNumberOrTag>(0).map(BlockId::from)
    }
}

/// An account; an absent one is empty.
pub(super) fn account(state: &Snapshot, address: Address) -> Result<Account, RpcError> {
    Ok(state.account(address)?.unwrap_or_default())
}

fn code(state: &Snapshot, address: Address) -> Result<Bytes, RpcError> {
    Ok(state.code(account(state, address)?.code_hash)?)
}

/// A slot as geth reads it: hexadecimal, any number of digits up to 64.
fn storage_key(text: &str) -> Result<U256, RpcError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 64 {
        return Err(RpcError::invalid_params(format!("storage key too long (want at most 32 bytes): {text:?}")));
    }
    let key = U256::from_str_radix(digits, 16);
    key.map_err(|_| RpcError::invalid_params(format!("invalid hex in storage key: {text:?}")))
}

/// A proof as EIP-1186 shows it.
fn proof_view(proof: AccountProof) -> EIP1186AccountProofResponse {
    let slots = proof.slots.into_iter().map(|slot| EIP1186StorageProof {
        key: slot.slot.into(),
        value: slot.value,
        proof: slot.proof,
    });
    EIP1186AccountProofResponse {
        address: proof.address,
        balance: proof.account.balance,
        code_hash: proof.account.code_hash,
        nonce: proof.account.nonce,
        storage_hash: proof.account.storage_root,
        account_proof: proof.proof,
        storage_proof: slots.collect(),
    }
}
