//! `eth_call` and its kin: from JSON-RPC's request to the pure ledger's question, and back.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::Header;
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::state::{AccountOverride as RpcOverride, StateOverride};
use alloy_rpc_types_eth::{AccessListResult, BlockOverrides, TransactionRequest};
use glean_ledger::{
    AccountOverride, CallError, CallOutcome, CallRequest, CallResult, EstimateError, Overrides, call, estimate_gas,
    is_precompile,
};

use super::Shared;
use super::error::RpcError;
use crate::store::Snapshot;

/// What a question pretends about the world.
#[derive(Default)]
pub(super) struct Pretence {
    pub(super) state: Option<StateOverride>,
    pub(super) block: Option<BlockOverrides>,
}

impl Shared {
    /// Executes a request on a state and returns its output.
    pub(super) fn run_call(
        &self,
        state: &Snapshot,
        request: TransactionRequest,
        pretence: Pretence,
    ) -> Result<Bytes, RpcError> {
        let result = self.execute(state, &question(request)?, pretence)?;
        match result.outcome {
            CallOutcome::Success => Ok(result.output),
            CallOutcome::Revert => Err(RpcError::reverted(&result.output)),
            CallOutcome::Halt(reason) => Err(RpcError::refused(reason)),
        }
    }

    pub(super) fn run_estimate(
        &self,
        state: &Snapshot,
        request: TransactionRequest,
        pretence: Pretence,
    ) -> Result<u64, RpcError> {
        let header = self.header_of(state, pretence.block)?;
        let overrides = overrides(pretence.state)?;
        let request = question(request)?;
        estimate_gas(state, self.keeper.chain_id(), &header, &request, &overrides).map_err(|error| match error {
            EstimateError::Reverted(output) => RpcError::reverted(&output),
            EstimateError::Halted { reason, gas } if reason == "out of gas" => {
                RpcError::refused(format!("gas required exceeds allowance ({gas})"))
            }
            EstimateError::Halted { reason, .. } => RpcError::refused(reason),
            EstimateError::Call(error) => error.into(),
        })
    }

    pub(super) fn run_access_list(
        &self,
        state: &Snapshot,
        request: TransactionRequest,
    ) -> Result<AccessListResult, RpcError> {
        let question = question(request)?;
        let beneficiary = self.header_of(state, None)?.beneficiary;
        let result = self.execute(state, &question, Pretence::default())?;
        let error = match &result.outcome {
            CallOutcome::Success => None,
            CallOutcome::Revert => Some("execution reverted".to_string()),
            CallOutcome::Halt(reason) => Some(reason.clone()),
        };
        Ok(AccessListResult {
            access_list: worthwhile(&question, beneficiary, &result.touched),
            gas_used: U256::from(result.gas_used),
            error,
        })
    }

    /// The three things a question needs: under which header, what, and what is pretended.
    pub(super) fn prepare(
        &self,
        state: &Snapshot,
        request: TransactionRequest,
        pretence: Pretence,
    ) -> Result<(Header, CallRequest, Overrides), RpcError> {
        Ok((self.header_of(state, pretence.block)?, question(request)?, overrides(pretence.state)?))
    }

    fn execute(&self, state: &Snapshot, question: &CallRequest, pretence: Pretence) -> Result<CallResult, RpcError> {
        let header = self.header_of(state, pretence.block)?;
        let overrides = overrides(pretence.state)?;
        Ok(call(state, self.keeper.chain_id(), &header, question, &overrides)?)
    }

    /// The header a question runs under: that of the state's block, with what the caller pretends.
    fn header_of(&self, state: &Snapshot, pretended: Option<BlockOverrides>) -> Result<Header, RpcError> {
        let block = self.keeper.block(state.number())?;
        let block = block.ok_or_else(|| RpcError::refused("header not found"))?;
        let mut header = block.header().clone();
        let Some(pretended) = pretended else { return Ok(header) };
        header.number = pretended.number.map_or(header.number, |number| number.saturating_to());
        header.timestamp = pretended.time.unwrap_or(header.timestamp);
        header.gas_limit = pretended.gas_limit.unwrap_or(header.gas_limit);
        header.beneficiary = pretended.coinbase.unwrap_or(header.beneficiary);
        header.mix_hash = pretended.random.unwrap_or(header.mix_hash);
        let base_fee = pretended.base_fee.map(|fee| fee.saturating_to());
        header.base_fee_per_gas = base_fee.or(header.base_fee_per_gas);
        Ok(header)
    }
}

impl From<CallError> for RpcError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::refused(refusal.to_string()),
            CallError::Pretend(error) => Self::refused(error.to_string()),
            CallError::State(error) => error.into(),
        }
    }
}

fn question(request: TransactionRequest) -> Result<CallRequest, RpcError> {
    if request.max_fee_per_gas.is_some() && request.gas_price.is_some() {
        return Err(RpcError::invalid_params("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    let data = request.input.into_input();
    Ok(CallRequest {
        from: request.from.unwrap_or_default(),
        to: match request.to {
            Some(TxKind::Call(to)) => Some(to),
            Some(TxKind::Create) | None => None,
        },
        value: request.value.unwrap_or_default(),
        data: data.unwrap_or_default(),
        gas: request.gas,
        gas_price: request.gas_price.or(request.max_fee_per_gas).unwrap_or(0),
        tip: request.max_priority_fee_per_gas.or(request.max_fee_per_gas.map(|_| 0)),
        access_list: request.access_list.unwrap_or_default(),
        authorizations: request.authorization_list.unwrap_or_default(),
    })
}

pub(super) fn overrides(state: Option<StateOverride>) -> Result<Overrides, RpcError> {
    let accounts = state.unwrap_or_default().into_iter();
    accounts.map(|(address, account)| Ok((address, account_override(address, account)?))).collect()
}

fn account_override(address: Address, account: RpcOverride) -> Result<AccountOverride, RpcError> {
    if account.state.is_some() && account.state_diff.is_some() {
        return Err(RpcError::refused(format!("account {address} has both 'state' and 'stateDiff'")));
    }
    let wipes = account.state.is_some();
    let slots = account.state.or(account.state_diff).unwrap_or_default().into_iter();
    Ok(AccountOverride {
        balance: account.balance,
        nonce: account.nonce,
        code: account.code,
        wipes,
        slots: slots.map(|(slot, value)| (slot.into(), value.into())).collect::<BTreeMap<U256, U256>>(),
        moves_to: account.move_precompile_to,
    })
}

/// The touched accounts and slots that are not warm anyway.
fn worthwhile(question: &CallRequest, beneficiary: Address, touched: &BTreeMap<Address, BTreeSet<B256>>) -> AccessList {
    let warm = |address: &Address| {
        [Some(question.from), question.to, Some(beneficiary)].contains(&Some(*address)) || is_precompile(address)
    };
    let items = touched
        .iter()
        .filter(|(address, slots)| !slots.is_empty() || !warm(address))
        .map(|(address, slots)| AccessListItem { address: *address, storage_keys: slots.iter().copied().collect() });
    AccessList(items.collect())
}
