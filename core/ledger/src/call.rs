//! Questions to a state: `eth_call` and `eth_estimateGas`. Nothing is changed by asking.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::{Header, TxType};
use alloy_eips::eip2930::AccessList;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256};
use revm::context::TxEnv;
use revm::context_interface::either::Either;
use revm::context_interface::result::{ExecutionResult, HaltReason};
use revm::primitives::eip7825::TX_GAS_LIMIT_CAP;
use revm::state::EvmState;

use crate::evm::{Evm, EvmError, Purpose};
use crate::overlay::Overlay;
use crate::pretend::{Overrides, PretendError, pretend};
use crate::refusal::{Refusal, revert_text};
use crate::state::{State, StateError};

/// Most gas a question may use, whatever it asks for.
pub const CALL_GAS_MAX: u64 = 50_000_000;

/// A halt that more gas may cure.
const OUT_OF_GAS: &str = "out of gas";

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallRequest {
    /// In whose name.
    pub from: Address,
    /// `None` to create a contract.
    pub to: Option<Address>,
    /// Native coins sent along.
    pub value: U256,
    /// Calldata.
    pub data: Bytes,
    /// At most this much gas; [`CALL_GAS_MAX`] when `None` or above it.
    pub gas: Option<u64>,
    /// What to pay per gas at most; nothing when zero, and then the base fee is zero too.
    pub gas_price: u128,
    /// What of it goes to the proposer, above the base fee; `None` to pay the whole price as the oldest transactions do.
    pub tip: Option<u128>,
    /// Declared accesses.
    pub access_list: AccessList,
    /// Accounts that let code act for them (EIP-7702).
    pub authorizations: Vec<SignedAuthorization>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// As hoped.
    Success,
    /// The contract said no; [`CallResult::output`] holds its words.
    Revert,
    /// It could not go on: out of gas, a bad jump and the like.
    Halt(String),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// How it ended.
    pub outcome: CallOutcome,
    /// Returned or reverted with.
    pub output: Bytes,
    /// Gas used.
    pub gas_used: u64,
    /// Events.
    pub logs: Vec<Log>,
    /// Accounts and slots it looked at, for `eth_createAccessList`.
    pub touched: BTreeMap<Address, BTreeSet<B256>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It cannot be asked like this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It pretends what cannot be.
    #[error(transparent)]
    Pretend(PretendError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why no gas limit is enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstimateError {
    /// The contract says no.
    #[error("{}", revert_text(.0))]
    Reverted(Bytes),
    /// It cannot be done with the gas that it may ask for and can pay.
    #[error("{reason} (gas limit {gas})")]
    Halted {
        /// Why; `out of gas` when more might do.
        reason: String,
        /// Tried with.
        gas: u64,
    },
    /// It could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<PretendError> for CallError {
    fn from(error: PretendError) -> CallError {
        match error {
            PretendError::State(error) => error.into(),
            error => CallError::Pretend(error),
        }
    }
}

impl From<EvmError> for CallError {
    fn from(error: EvmError) -> CallError {
        match error {
            EvmError::Refused(refusal) => refusal.into(),
            EvmError::State(error) => error.into(),
        }
    }
}

/// Asks the state after the block with this header.
pub fn call(
    state: &dyn State,
    chain_id: u64,
    header: &Header,
    request: &CallRequest,
    overrides: &Overrides,
) -> Result<CallResult, CallError> {
    let (mut evm, tx) = ask(state, chain_id, header, request, overrides)?;
    let (result, touched) = evm.run(tx)?;
    Ok(answer(result, &touched))
}

/// An EVM that holds what is pretended, and the question as a transaction.
pub(crate) fn ask<'a>(
    state: &'a dyn State,
    chain_id: u64,
    header: &Header,
    request: &CallRequest,
    overrides: &Overrides,
) -> Result<(Evm<'a>, TxEnv), CallError> {
    let mut header = header.clone();
    header.gas_limit = header.gas_limit.max(CALL_GAS_MAX);
    if request.gas_price == 0 {
        header.base_fee_per_gas = Some(0);
    }
    let mut overlay = Overlay::new(state);
    let moves = pretend(&mut overlay, overrides)?;
    let nonce = overlay.account(request.from)?.unwrap_or_default().nonce;
    let mut evm = Evm::new(chain_id, &header, overlay, Purpose::Question);
    evm.pretend(moves);
    Ok((evm, tx_env(request, chain_id, nonce)))
}

fn tx_env(request: &CallRequest, chain_id: u64, nonce: u64) -> TxEnv {
    TxEnv {
        tx_type: tx_type(request).into(),
        caller: request.from,
        gas_limit: request.gas.unwrap_or(CALL_GAS_MAX).min(CALL_GAS_MAX),
        gas_price: request.gas_price,
        gas_priority_fee: request.tip,
        kind: request.to.map_or(TxKind::Create, TxKind::Call),
        value: request.value,
        data: request.data.clone(),
        nonce,
        chain_id: Some(chain_id),
        access_list: request.access_list.clone(),
        authorization_list: request.authorizations.iter().cloned().map(Either::Left).collect(),
        ..TxEnv::default()
    }
}

/// The oldest type that has everything asked for.
fn tx_type(request: &CallRequest) -> TxType {
    if !request.authorizations.is_empty() {
        TxType::Eip7702
    } else if request.tip.is_some() {
        TxType::Eip1559
    } else if !request.access_list.0.is_empty() {
        TxType::Eip2930
    } else {
        TxType::Legacy
    }
}

fn answer(result: ExecutionResult<HaltReason>, touched: &EvmState) -> CallResult {
    let outcome = match &result {
        ExecutionResult::Success { .. } => CallOutcome::Success,
        ExecutionResult::Revert { .. } => CallOutcome::Revert,
        ExecutionResult::Halt { reason, .. } => CallOutcome::Halt(halt_text(reason)),
    };
    let slots = |slots: &revm::state::EvmStorage| slots.keys().map(|slot| B256::from(*slot)).collect();
    CallResult {
        outcome,
        output: result.output().cloned().unwrap_or_default(),
        gas_used: result.tx_gas_used(),
        touched: touched.iter().map(|(address, account)| (*address, slots(&account.storage))).collect(),
        logs: result.into_logs(),
    }
}

/// A halt in geth's words where tools look for them.
pub(crate) fn halt_text(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => OUT_OF_GAS.into(),
        HaltReason::OpcodeNotFound | HaltReason::InvalidFEOpcode => "invalid opcode".into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        other => other.to_string(),
    }
}

/// A gas limit with which the request succeeds, at most a sixty-fourth above the least.
pub fn estimate_gas(
    state: &dyn State,
    chain_id: u64,
    header: &Header,
    request: &CallRequest,
    overrides: &Overrides,
) -> Result<u64, EstimateError> {
    let attempt = |gas: u64| {
        let request = CallRequest { gas: Some(gas), ..request.clone() };
        call(state, chain_id, header, &request, overrides)
    };
    let mut high = allowance(state, header, request, overrides)?;
    let first = match attempt(high) {
        Err(CallError::Refused(Refusal::IntrinsicGas { .. })) => {
            return Err(EstimateError::Halted { reason: OUT_OF_GAS.into(), gas: high });
        }
        answer => answer?,
    };
    match first.outcome {
        CallOutcome::Success => {}
        CallOutcome::Revert => return Err(EstimateError::Reverted(first.output)),
        CallOutcome::Halt(reason) => return Err(EstimateError::Halted { reason, gas: high }),
    }
    if succeeds(attempt(first.gas_used))? {
        return Ok(first.gas_used);
    }
    // It needs more than it uses: refunds come at the end, and a caller keeps a 64th from its callee.
    let mut low = first.gas_used;
    let guess = first.gas_used + first.gas_used / 63 + 2_300;
    if guess < high {
        match succeeds(attempt(guess))? {
            true => high = guess,
            false => low = guess,
        }
    }
    while low + 1 < high && high - low > high / 64 {
        let middle = low + (high - low) / 2;
        match succeeds(attempt(middle))? {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(high)
}

/// The most gas that this request may ask for: by its own word, by the rules for transactions, by what it can pay.
fn allowance(
    state: &dyn State,
    header: &Header,
    request: &CallRequest,
    overrides: &Overrides,
) -> Result<u64, CallError> {
    let by_rule = header.gas_limit.min(TX_GAS_LIMIT_CAP);
    let gas = request.gas.unwrap_or(by_rule).min(by_rule);
    if request.gas_price == 0 {
        return Ok(gas);
    }
    let pretended = overrides.get(&request.from).and_then(|account| account.balance);
    let balance = match pretended {
        Some(balance) => balance,
        None => state.account(request.from)?.unwrap_or_default().balance,
    };
    let payable = balance.saturating_sub(request.value) / U256::from(request.gas_price);
    Ok(gas.min(payable.saturating_to()))
}

/// Too little gas shows as a refusal, a halt or a revert, depending on where it ran out.
fn succeeds(answer: Result<CallResult, CallError>) -> Result<bool, CallError> {
    match answer {
        Ok(result) => Ok(result.outcome == CallOutcome::Success),
        Err(CallError::Refused(Refusal::IntrinsicGas { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}
