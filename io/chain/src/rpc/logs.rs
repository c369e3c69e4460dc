//! `eth_getLogs` and the filters that are asked again and again.

use alloy_eips::{BlockNumHash, BlockNumberOrTag};
use alloy_primitives::B256;
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};

use super::error::RpcError;
use super::filter::Kind;
use super::{Answer, Params, Shared, json};

/// Blocks one `eth_getLogs` may span.
const LOG_BLOCKS_MAX: u64 = 10_000;
/// Logs in one answer.
const LOGS_MAX: usize = 10_000;
/// Values per position of a log filter.
const FILTER_VALUES_MAX: usize = 1_000;

impl Shared {
    /// Logs that a filter matches, within the limits above.
    pub(super) fn logs(&self, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        check_filter(filter)?;
        let head = self.keeper.head().number();
        let (from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let number = self.keeper.store().number(&hash)?;
                let number = number.ok_or_else(|| RpcError::refused("unknown block"))?;
                (number, number)
            }
            FilterBlockOption::Range { from_block, to_block } => {
                let number = |tag: Option<BlockNumberOrTag>| match tag {
                    Some(BlockNumberOrTag::Number(number)) => number,
                    Some(BlockNumberOrTag::Earliest) => 0,
                    _ => head,
                };
                (number(from_block), number(to_block))
            }
        };
        if from > to {
            return Err(RpcError::invalid_params("invalid block range params"));
        }
        if to > head {
            return Err(RpcError::invalid_params("block range extends beyond current head block"));
        }
        self.logs_between(filter, from, to)
    }

    pub(super) fn logs_between(&self, filter: &Filter, from: u64, to: u64) -> Result<Vec<Log>, RpcError> {
        if to.saturating_sub(from) >= LOG_BLOCKS_MAX {
            return Err(RpcError::limit(format!("block range too large, limit {LOG_BLOCKS_MAX}")));
        }
        let mut logs = Vec::new();
        for number in from..=to {
            let Some(block) = self.keeper.block(number)? else { break };
            if !filter.matches_bloom(block.header().logs_bloom) {
                continue;
            }
            let record = self.record(number)?;
            let hashes = block.body().transactions.iter().map(|tx| *tx.tx_hash());
            filter.append_matching_block_logs(
                &mut logs,
                BlockNumHash::new(number, block.hash()),
                block.header().timestamp,
                hashes.zip(&record.tx_receipts),
                false,
            );
            if logs.len() > LOGS_MAX {
                return Err(RpcError::limit(format!("query returned more than {LOGS_MAX} results")));
            }
        }
        Ok(logs)
    }

    pub(super) fn install(&self, kind: Kind) -> Answer {
        if let Kind::Logs(filter) = &kind {
            check_filter(filter)?;
        }
        json(self.filters.install(kind, self.keeper.head().number())?)
    }

    pub(super) fn filter_changes(&self, params: &Params) -> Answer {
        let id = params.get(0)?;
        let head = self.keeper.head().number();
        let waiting = self.keeper.pool().all();
        let before = self.filters.take_turn(&id, |filter| {
            filter.next_block = head + 1;
            if let Kind::Transactions(known) = &mut filter.kind {
                *known = waiting.iter().map(|tx| tx.hash).collect();
            }
        })?;
        let from = before.next_block.max(head.saturating_sub(LOG_BLOCKS_MAX - 1));
        match before.kind {
            Kind::Transactions(known) => {
                let new = waiting.iter().map(|tx| tx.hash).filter(|hash| !known.contains(hash));
                json(new.collect::<Vec<_>>())
            }
            Kind::Blocks => {
                let hashes: Result<Vec<B256>, RpcError> = (from..=head)
                    .map(|number| {
                        let hash = self.keeper.block_hash(number);
                        hash.ok_or_else(|| RpcError::internal(format!("no block {number}")))
                    })
                    .collect();
                json(hashes?)
            }
            Kind::Logs(filter) => {
                let wanted = filter.block_option.get_from_block().and_then(|tag| tag.as_number());
                json(self.logs_between(&filter, from.max(wanted.unwrap_or(0)), head)?)
            }
        }
    }
}

pub(super) fn check_filter(filter: &Filter) -> Result<(), RpcError> {
    let values = filter.topics.iter().map(|topic| topic.len()).max().unwrap_or(0);
    if values.max(filter.address.len()) > FILTER_VALUES_MAX {
        return Err(RpcError::invalid_params("too many addresses or topics in one filter"));
    }
    filter.block_option.ensure_valid_block_range().map_err(|_| RpcError::invalid_params("invalid block range params"))
}
