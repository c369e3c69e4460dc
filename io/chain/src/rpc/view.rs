//! Stored things as JSON-RPC shows them.

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{ReceiptEnvelope, ReceiptWithBloom, Sealed, Transaction as _, TxReceipt as _};
use alloy_primitives::{Address, B256, U256};
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Log, Transaction as RpcTransaction, TransactionReceipt};

use serde_json::Value;

use super::error::RpcError;
use super::json;
use crate::block::{SealedBlock, Transaction};
use crate::pool::PooledTx;
use crate::store::Record;

/// A header with hash and size.
pub(crate) fn header(block: &SealedBlock) -> Header {
    let sealed = Sealed::new_unchecked(block.header().clone(), block.hash());
    Header::from_consensus(sealed, None, Some(U256::from(block.rlp().len())))
}

/// A header as subscribers get it: without the size of a body that is not there.
pub(crate) fn head(block: &SealedBlock) -> Header {
    Header { size: None, ..header(block) }
}

/// A block with transaction hashes, or with whole transactions when their senders are given.
pub(crate) fn block(block: &SealedBlock, senders: Option<&[Address]>) -> Block {
    let transactions = match senders {
        None => BlockTransactions::Hashes(block.body().transactions.iter().map(|tx| *tx.tx_hash()).collect()),
        Some(senders) => BlockTransactions::Full(
            (0..).zip(senders).filter_map(|(index, sender)| transaction(block, *sender, index)).collect(),
        ),
    };
    Block { header: header(block), uncles: Vec::new(), transactions, withdrawals: block.body().withdrawals.clone() }
}

/// A final transaction; `None` when the block has no such index.
pub(crate) fn transaction(block: &SealedBlock, sender: Address, index: usize) -> Option<RpcTransaction> {
    let tx = block.body().transactions.get(index)?;
    Some(RpcTransaction {
        effective_gas_price: Some(tx.effective_gas_price(block.header().base_fee_per_gas)),
        inner: Recovered::new_unchecked(tx.clone(), sender),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        transaction_index: Some(index as u64),
        block_timestamp: Some(block.header().timestamp),
    })
}

/// A waiting transaction: what has no answer yet is null, not absent.
pub(crate) fn pending(tx: &PooledTx) -> Result<Value, RpcError> {
    let mut shown = json(RpcTransaction {
        effective_gas_price: Some(tx.tx.max_fee_per_gas()),
        inner: Recovered::new_unchecked(tx.tx.clone(), tx.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        block_timestamp: None,
    })?;
    shown["blockTimestamp"] = Value::Null;
    Ok(shown)
}

/// All tx_receipts of a block, in order.
pub(crate) fn tx_receipts(block: &SealedBlock, record: &Record) -> Vec<TransactionReceipt> {
    let mut logs_before = 0;
    let mut gas_before = 0;
    let rows = block.body().transactions.iter().zip(&record.senders).zip(&record.tx_receipts);
    rows.enumerate()
        .map(|(index, ((tx, sender), envelope))| {
            let gas_used = envelope.cumulative_gas_used() - gas_before;
            let place = Place { block, index, hash: *tx.tx_hash(), logs_before };
            gas_before = envelope.cumulative_gas_used();
            logs_before += envelope.logs().len();
            tx_receipt(&place, tx, *sender, envelope, gas_used)
        })
        .collect()
}

/// Where a transaction stands in its block.
struct Place<'a> {
    block: &'a SealedBlock,
    index: usize,
    hash: B256,
    logs_before: usize,
}

fn tx_receipt(
    place: &Place<'_>,
    tx: &Transaction,
    from: Address,
    envelope: &ReceiptEnvelope,
    gas_used: u64,
) -> TransactionReceipt {
    let created = tx.to().is_none().then(|| from.create(tx.nonce()));
    TransactionReceipt {
        inner: with_places(envelope, place),
        transaction_hash: place.hash,
        transaction_index: Some(place.index as u64),
        block_hash: Some(place.block.hash()),
        block_number: Some(place.block.number()),
        gas_used,
        effective_gas_price: tx.effective_gas_price(place.block.header().base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from,
        to: tx.to(),
        contract_address: created,
    }
}

/// The envelope with each log told where it stands.
fn with_places(envelope: &ReceiptEnvelope, place: &Place<'_>) -> ReceiptEnvelope<Log> {
    let mut index = place.logs_before as u64;
    let mut locate = |log: &alloy_primitives::Log| {
        let located = Log {
            inner: log.clone(),
            block_hash: Some(place.block.hash()),
            block_number: Some(place.block.number()),
            block_timestamp: Some(place.block.header().timestamp),
            transaction_hash: Some(place.hash),
            transaction_index: Some(place.index as u64),
            log_index: Some(index),
            removed: false,
        };
        index += 1;
        located
    };
    let logs = envelope.logs().iter().map(&mut locate).collect();
    let inner = ReceiptWithBloom {
        receipt: alloy_consensus::Receipt {
            status: envelope.status_or_post_state(),
            cumulative_gas_used: envelope.cumulative_gas_used(),
            logs,
        },
        logs_bloom: envelope.bloom(),
    };
    ReceiptEnvelope::from_typed(envelope.tx_type(), inner)
}
