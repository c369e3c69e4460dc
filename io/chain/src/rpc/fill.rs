//! `eth_fillTransaction`: everything a wallet would ask for before it signs, in one answer.

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::Bytes;
use alloy_rpc_types_eth::TransactionRequest;
use glean_ledger::unsigned;
use serde_json::json;

use super::call::Pretence;
use super::error::RpcError;
use super::eth::account;
use super::fees::SUGGESTED_TIP;
use super::{Answer, Params, Shared};

/// Headroom for the base fee, as geth leaves it: it doubles in six full blocks.
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
        let tx = unsigned(request).ok_or_else(|| RpcError::invalid_params("the transaction cannot be completed"))?;
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
