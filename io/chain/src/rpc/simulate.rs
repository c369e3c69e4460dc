//! `eth_simulateV1`: from JSON-RPC's request to the pure ledger's question, and back.

use alloy_rpc_types_eth::simulate::{SimBlock, SimulatePayload, SimulatedBlock};
use glean_ledger::{Planned, Refusal, SimulateError, Simulated, Simulation};
use serde_json::Value;

use super::call::overrides;
use super::error::RpcError;
use super::{Answer, Params, Shared, json, view};
use crate::block::SealedBlock;

impl Shared {
    pub(super) fn simulate(&self, params: &Params) -> Answer {
        let payload: SimulatePayload = params.get(0)?;
        if payload.block_state_calls.is_empty() {
            return Err(RpcError::invalid_params("empty input"));
        }
        let state = self.view(params.opt(1)?)?;
        let parent = self.keeper.block(state.number())?.ok_or_else(|| RpcError::refused("header not found"))?;
        let planned: Vec<Planned> = payload.block_state_calls.into_iter().map(plan).collect::<Result<_, _>>()?;
        let simulation = Simulation {
            chain_id: self.keeper.chain_id(),
            rules: self.keeper.rules(),
            state: &*state,
            parent: parent.header(),
            validation: payload.validation,
            transfers: payload.trace_transfers,
        };
        let blocks = simulation.run(planned)?.into_iter();
        let shown = blocks.map(|block| show(block, payload.return_full_transactions));
        shown.collect::<Result<Vec<Value>, RpcError>>().map(Value::Array)
    }
}

fn plan(block: SimBlock) -> Result<Planned, RpcError> {
    Ok(Planned {
        block: block.block_overrides.unwrap_or_default(),
        accounts: overrides(block.state_overrides)?,
        calls: block.calls,
    })
}

fn show(simulated: Simulated, full: bool) -> Answer {
    let Simulated { block, senders, calls } = simulated;
    let sealed = SealedBlock::seal(block);
    json(SimulatedBlock { inner: view::block(&sealed, full.then_some(&senders)), calls })
}

impl From<SimulateError> for RpcError {
    /// The codes of the method's own specification.
    fn from(error: SimulateError) -> Self {
        let code = match &error {
            SimulateError::TooManyBlocks => -38026,
            SimulateError::Number { .. } => -38020,
            SimulateError::Time { .. } => -38021,
            SimulateError::BlockGas { .. } => -38015,
            SimulateError::Incomplete(_) => return Self::invalid_params(error.to_string()),
            SimulateError::Pretend(_) => return Self::refused(error.to_string()),
            SimulateError::State(_) => return Self::internal(error),
            SimulateError::Refused { refusal, .. } => match refusal {
                Refusal::NonceTooLow { .. } => -38010,
                Refusal::NonceTooHigh { .. } => -38011,
                Refusal::FeeTooLow { .. } => -38012,
                Refusal::IntrinsicGas { .. } => -38013,
                Refusal::Funds { .. } => -38014,
                Refusal::BlockFull { .. } => -38015,
                Refusal::NonceMax { .. } | Refusal::Blob | Refusal::Other(_) => return Self::internal(error),
            },
        };
        Self::new(code, error.to_string())
    }
}
