//! `eth_fillTransaction`: everything a wallet would ask for before it signs, in one answer.

use alloy_consensus::{SignableTransaction as _, TxEnvelope, TypedTransaction};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Bytes, Signature, U256};
use alloy_rpc_types_eth::TransactionRequest;
use serde_json::json;

use super::call::Pretence;
use super::error::RpcError;
use super::eth::account;
use super::fees::SUGGESTED_TIP;
use super::{Answer, Params, Shared};

/// Headroom for the base fee, as geth leaves it: six full blocks in a row.
const BASE_FEES: u64 = 2;

impl Shared {
    pub(super) fn fill_transaction(&self, params: &Params) -> Answer {
        let mut request: TransactionRequest = params.get(0)?;
        let from = request.from.ok_or_else(|| RpcError::invalid_params("missing from address"))?;
        let view = self.view(None)?;
        let chain_id = self.keeper.chain_id();
        if request.chain_id.is_some_and(|asked| asked != chain_id) {
            return Err(RpcError::refused(format!("chainId does not match node's (have={chain_id})")));
        }
        request.chain_id = Some(chain_id);
        if request.nonce.is_none() {
            let nonce = account(&view, from)?.nonce;
            request.nonce = Some(self.keeper.pool().next_nonce(from, nonce));
        }
        self.fill_fees(&mut request);
        if request.gas.is_none() {
            request.gas = Some(self.run_estimate(&view, request.clone(), Pretence::default())?);
        }
        request.value.get_or_insert_default();
        let tx = unsigned(request)?;
        Ok(json!({ "raw": Bytes::from(tx.encoded_2718()), "tx": super::json(&tx)? }))
    }

    fn fill_fees(&self, request: &mut TransactionRequest) {
        if request.gas_price.is_some() {
            return;
        }
        let tip = *request.max_priority_fee_per_gas.get_or_insert(SUGGESTED_TIP.into());
        let base_fees = self.keeper.next_base_fee().saturating_mul(BASE_FEES);
        request.max_fee_per_gas.get_or_insert(tip.saturating_add(base_fees.into()));
    }
}

/// A transaction as it is before its sender signs: with a signature of zeros, as geth writes it.
fn unsigned(mut request: TransactionRequest) -> Result<TxEnvelope, RpcError> {
    request.normalize_input();
    let incomplete = |_| RpcError::invalid_params("the transaction cannot be completed");
    let tx: TypedTransaction = request.build_typed_tx().map_err(incomplete)?;
    let nobody = Signature::new(U256::ZERO, U256::ZERO, false);
    Ok(match tx {
        TypedTransaction::Legacy(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip2930(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip1559(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip7702(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip4844(_) => return Err(RpcError::refused("transaction type not supported")),
    })
}
