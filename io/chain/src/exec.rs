//! TEMPORARY double of glean-ledger: native transfers only.
use std::collections::BTreeMap;
use std::sync::Arc;
use alloy_consensus::{Block, BlockBody, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _};
use alloy_consensus::proofs::{calculate_transaction_root, calculate_receipt_root};
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_primitives::{Address, B256, Bytes, U256, KECCAK256_EMPTY};
use crate::block::{SealedBlock, Transaction};
use crate::pool::PooledTx;
use crate::store::{Record, Rows, Snapshot, StoreError};

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Genesis { pub chain_id: u64, pub alloc: BTreeMap<Address, U256> }

#[derive(Clone, Debug, PartialEq, Eq, alloy_rlp::RlpEncodable, alloy_rlp::RlpDecodable)]
pub(crate) struct Account { pub(crate) nonce: u64, pub(crate) balance: U256, pub(crate) code_hash: B256 }
impl Default for Account { fn default() -> Self { Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY } } }

#[derive(Clone, Debug, Default)]
pub(crate) struct Changes { pub(crate) accounts: BTreeMap<Address, Account> }
impl Changes {
    pub(crate) fn rows(&self) -> Rows {
        Rows { accounts: self.accounts.iter().map(|(k, v)| (k.to_vec(), Some(alloy_rlp::encode(v)))).collect(), ..Rows::default() }
    }
    pub(crate) fn nonces(&self) -> BTreeMap<Address, u64> { self.accounts.iter().map(|(a, v)| (*a, v.nonce)).collect() }
}
impl Snapshot {
    pub(crate) fn account_of(&self, a: Address) -> Result<Account, StoreError> {
        Ok(self.account(a.as_slice())?.map(|r| <Account as alloy_rlp::Decodable>::decode(&mut r.as_slice()).expect("own")).unwrap_or_default())
    }
    pub(crate) fn code_of(&self, _a: Address) -> Result<Bytes, StoreError> { Ok(Bytes::new()) }
    pub(crate) fn slot_of(&self, _a: Address, _k: U256) -> Result<U256, StoreError> { Ok(U256::ZERO) }
}
pub(crate) struct State { pub(crate) base: Arc<Snapshot>, pub(crate) layers: Vec<Arc<Changes>> }
impl State {
    pub(crate) fn account(&self, a: Address) -> Result<Account, StoreError> {
        for l in self.layers.iter().rev() { if let Some(x) = l.accounts.get(&a) { return Ok(x.clone()) } }
        self.base.account_of(a)
    }
}
pub(crate) fn genesis(g: &Genesis) -> (SealedBlock, Changes) {
    let body = BlockBody::<Transaction>::default();
    let header = Header { transactions_root: calculate_transaction_root(&body.transactions), gas_limit: 30_000_000, base_fee_per_gas: Some(7), number: 0, ommers_hash: body.calculate_ommers_root(), ..Default::default() };
    let accounts = g.alloc.iter().map(|(a, b)| (*a, Account { balance: *b, ..Account::default() })).collect();
    (SealedBlock::seal(Block { header, body }), Changes { accounts })
}
pub(crate) struct Built { pub(crate) block: SealedBlock, pub(crate) record: Record, pub(crate) changes: Changes, pub(crate) refused: Vec<B256> }
pub(crate) fn build(state: &State, parent: &SealedBlock, timestamp: u64, txs: &[Arc<PooledTx>]) -> Result<Built, String> {
    let mut changes = Changes::default(); let mut record = Record::default(); let mut out = Vec::new(); let mut gas = 0;
    for tx in txs {
        let get = |c: &Changes, a| c.accounts.get(&a).cloned().map(Ok).unwrap_or_else(|| state.account(a)).map_err(|e| e.to_string());
        let mut from = get(&changes, tx.sender)?;
        if from.nonce != tx.tx.nonce() { continue }
        from.nonce += 1; from.balance -= tx.tx.value();
        changes.accounts.insert(tx.sender, from);
        if let Some(to) = tx.tx.to() { let mut t = get(&changes, to)?; t.balance += tx.tx.value(); changes.accounts.insert(to, t); }
        gas += 21_000;
        record.senders.push(tx.sender);
        let r = ReceiptWithBloom { receipt: Receipt { status: true.into(), cumulative_gas_used: gas, logs: vec![] }, logs_bloom: Default::default() };
        record.tx_receipts.push(ReceiptEnvelope::from_typed(tx.tx.tx_type(), r));
        out.push(tx.tx.clone());
    }
    let body = BlockBody { transactions: out, ommers: vec![], withdrawals: None };
    let header = Header { parent_hash: parent.hash(), number: parent.number() + 1, timestamp, gas_used: gas, gas_limit: 30_000_000, base_fee_per_gas: Some(7), transactions_root: calculate_transaction_root(&body.transactions), receipts_root: calculate_receipt_root(&record.tx_receipts), ommers_hash: body.calculate_ommers_root(), ..Default::default() };
    Ok(Built { block: SealedBlock::seal(Block { header, body }), record, changes, refused: vec![] })
}
pub(crate) fn execute(state: &State, parent: &SealedBlock, block: &SealedBlock) -> Result<(Record, Changes), String> {
    let txs: Vec<_> = block.body().transactions.iter().map(|tx| { let raw = alloy_eips::eip2718::Encodable2718::encoded_2718(tx); Arc::new(PooledTx::decode(&raw, tx.chain_id().unwrap_or(0)).expect("t")) }).collect();
    let b = build(state, parent, block.header().timestamp, &txs)?;
    if b.block.hash() != block.hash() { return Err("mismatch".into()) }
    Ok((b.record, b.changes))
}
