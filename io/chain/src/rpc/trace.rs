//! `debug_trace*`: what happened inside transactions, as explorers and debuggers ask for it.

use alloy_rpc_types_eth::BlockOverrides;
use alloy_rpc_types_eth::state::StateOverride;
use glean_ledger::{TraceError, TraceOptions, Traced, trace_block, trace_call};
use serde::Deserialize;

use super::call::Pretence;
use super::error::RpcError;
use super::eth::block_id;
use super::{Answer, Params, Shared, json};

/// Options of `debug_traceCall`: those of a trace, and what to pretend.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallOptions {
    #[serde(flatten)]
    trace: TraceOptions,
    state_overrides: Option<StateOverride>,
    block_overrides: Option<BlockOverrides>,
}

impl Shared {
    pub(super) fn trace_transaction(&self, params: &Params) -> Answer {
        let found = self.keeper.store().transaction(&params.hash(0)?)?;
        let (number, index) = found.ok_or_else(|| RpcError::refused("transaction not found"))?;
        let traced = self.traced(number, &params.opt(1)?.unwrap_or_default(), Some(index as usize))?;
        match traced.into_iter().next() {
            Some(Traced::Success { result, .. }) => json(result),
            Some(Traced::Error { error, .. }) => Err(RpcError::refused(error)),
            None => Err(RpcError::refused("transaction not found")),
        }
    }

    pub(super) fn trace_block(&self, method: &str, params: &Params) -> Answer {
        let number = self.resolve(block_id(method, params)?)?;
        let number = number.ok_or_else(|| RpcError::refused("block not found"))?;
        json(self.traced(number, &params.opt(1)?.unwrap_or_default(), None)?)
    }

    /// The stories of a block's transactions, told on the state before it.
    fn traced(&self, number: u64, options: &TraceOptions, only: Option<usize>) -> Result<Vec<Traced>, RpcError> {
        let parent = number.checked_sub(1).ok_or_else(|| RpcError::refused("genesis is not traceable"))?;
        let state = self.view(Some(parent.into()))?;
        let block = self.keeper.block(number)?.ok_or_else(|| RpcError::refused("block not found"))?;
        let senders = self.record(number)?.senders;
        Ok(trace_block(&*state, self.keeper.chain_id(), block.block(), &senders, options, only)?)
    }

    pub(super) fn trace_call(&self, params: &Params) -> Answer {
        let state = self.view(params.opt(1)?)?;
        let CallOptions { trace, state_overrides, block_overrides } = params.opt(2)?.unwrap_or_default();
        let pretence = Pretence { state: state_overrides, block: block_overrides };
        let (header, question, overrides) = self.prepare(&state, params.get(0)?, pretence)?;
        json(trace_call(&*state, self.keeper.chain_id(), &header, &question, &overrides, &trace)?)
    }
}

impl From<TraceError> for RpcError {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Call(error) => error.into(),
            TraceError::TooLong => Self::limit(error.to_string()),
            TraceError::Tracer(_) => Self::refused(error.to_string()),
        }
    }
}
