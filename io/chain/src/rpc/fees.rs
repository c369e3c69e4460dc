//! What to offer for gas, and what others paid.

use alloy_consensus::Transaction as _;
use alloy_primitives::U64;
use alloy_rpc_types_eth::FeeHistory;

use super::error::RpcError;
use super::{Answer, Params, Shared, json};
use crate::block::SealedBlock;
use crate::store::Record;

/// The tip a wallet is told to offer, in wei per gas: enough to be above zero, no auction here.
pub(super) const SUGGESTED_TIP: u64 = 1_000_000;
/// Blocks in one fee history.
const FEE_HISTORY_BLOCKS_MAX: u64 = 1_024;
/// Percentiles in one fee history.
const PERCENTILES_MAX: usize = 100;

impl Shared {
    pub(super) fn fee_history(&self, params: &Params) -> Answer {
        let count = params.get::<U64>(0)?.saturating_to::<u64>().min(FEE_HISTORY_BLOCKS_MAX);
        let newest = self.number_of(params.get(1)?);
        let newest = newest.ok_or_else(|| RpcError::refused("request beyond head block"))?;
        let percentiles: Vec<f64> = params.opt(2)?.unwrap_or_default();
        let rising = percentiles.windows(2).all(|pair| pair[0] <= pair[1]);
        let in_range = percentiles.iter().all(|percent| (0.0..=100.0).contains(percent));
        if percentiles.len() > PERCENTILES_MAX || !rising || !in_range {
            return Err(RpcError::refused("invalid reward percentile"));
        }
        let oldest = (newest + 1).saturating_sub(count);
        let mut history = FeeHistory { oldest_block: oldest, ..FeeHistory::default() };
        let mut rewards = Vec::new();
        for number in oldest..=newest {
            let Some(block) = self.keeper.block(number)? else { break };
            let header = block.header();
            history.base_fee_per_gas.push(header.base_fee_per_gas.unwrap_or(0).into());
            history.gas_used_ratio.push(header.gas_used as f64 / header.gas_limit.max(1) as f64);
            history.base_fee_per_blob_gas.push(1);
            history.blob_gas_used_ratio.push(0.0);
            if number == newest {
                history.base_fee_per_gas.push(self.keeper.base_fee_after(&block).into());
                history.base_fee_per_blob_gas.push(1);
            }
            if !percentiles.is_empty() {
                rewards.push(block_rewards(&block, &self.record(number)?, &percentiles));
            }
        }
        history.reward = (!percentiles.is_empty()).then_some(rewards);
        json(history)
    }
}

/// Effective tips at the given percentiles of a block's gas.
fn block_rewards(block: &SealedBlock, record: &Record, percentiles: &[f64]) -> Vec<u128> {
    let base_fee = block.header().base_fee_per_gas.unwrap_or(0);
    let mut before = 0;
    let mut paid: Vec<(u128, u64)> = block
        .body()
        .transactions
        .iter()
        .zip(&record.tx_receipts)
        .map(|(tx, receipt)| {
            let used = receipt.cumulative_gas_used() - before;
            before = receipt.cumulative_gas_used();
            (tx.effective_tip_per_gas(base_fee).unwrap_or(0), used)
        })
        .collect();
    paid.sort_unstable();
    let total = block.header().gas_used as f64;
    let at = |percent: &f64| {
        let threshold = total * percent / 100.0;
        let mut sum = 0.0;
        let tip = paid.iter().find(|(_, used)| {
            sum += *used as f64;
            sum >= threshold
        });
        tip.or(paid.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(at).collect()
}
