//! The EVM as this ledger sets it: one fork, one chain id, the state underneath. No other file knows revm's knobs.
//!
//! The fork is a parameter only so that [`crate::replay`] can run the history of other chains through the same code.

use alloy_consensus::{Header, Transaction as _, TxEnvelope};
use alloy_primitives::{Address, Bytes, U256};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::ContextTr;
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::either::Either;
use revm::context_interface::result::{EVMError, ExecResultAndState, ExecutionResult, InvalidTransaction};
use revm::handler::EthFrame;
use revm::handler::instructions::EthInstructions;
use revm::interpreter::interpreter::EthInterpreter;
use revm::state::EvmState;
use revm::{Context, ExecuteEvm, InspectEvm, Inspector, MainBuilder, MainContext, SystemCallEvm};

use crate::overlay::Overlay;
use crate::precompiles::{Moves, Precompiles};
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::state::StateError;

type Inner<'a, I> =
    revm::context::Evm<Ctx<'a>, I, EthInstructions<EthInterpreter, Ctx<'a>>, Precompiles, EthFrame<EthInterpreter>>;

/// What revm runs in.
pub(crate) type Ctx<'a> = revm::handler::MainnetContext<Overlay<'a>>;

/// Why nothing was executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EvmError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a transaction is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be in a block: all rules hold.
    Block,
    /// To answer a question or to make the genesis: the nonce is not checked, the gas has no cap per transaction, and
    /// contracts may ask, too.
    Question,
    /// To see what a block would do: like a question, but the nonce counts.
    Rehearsal,
}

/// An EVM inside one block. `I` watches it step by step, or is nobody.
pub(crate) struct Evm<'a, I = ()> {
    inner: Inner<'a, I>,
    base_fee: u64,
}

impl<'a> Evm<'a> {
    /// An EVM inside the block with this header.
    pub(crate) fn new(chain_id: u64, header: &Header, state: Overlay<'a>, purpose: Purpose) -> Evm<'a> {
        Evm::under(Rules::OURS, chain_id, header, state, purpose)
    }

    /// An EVM inside a block of a chain with these rules.
    pub(crate) fn under(rules: Rules, chain_id: u64, header: &Header, state: Overlay<'a>, purpose: Purpose) -> Evm<'a> {
        let mut cfg = CfgEnv::new_with_spec(rules.spec).with_chain_id(chain_id);
        if purpose != Purpose::Block {
            cfg.disable_nonce_check = purpose == Purpose::Question;
            cfg.disable_eip3607 = true;
            cfg.tx_gas_limit_cap = Some(u64::MAX);
        }
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let inner =
            Context::mainnet().with_db(state).with_block(block_env(header, rules)).with_cfg(cfg).build_mainnet();
        let inner = inner.with_precompiles(Precompiles::new(rules.spec));
        Evm { inner, base_fee }
    }
}

impl<'a, I: Inspector<Ctx<'a>>> Evm<'a, I> {
    /// Runs a transaction before the inspector's eyes. Nothing is kept until [`Evm::commit`].
    pub(crate) fn run_watched(&mut self, tx: TxEnv) -> Result<(ExecutionResult, EvmState), EvmError> {
        let (sender, max_fee) = (tx.caller, tx.gas_price);
        let done = self.inner.inspect_tx(tx);
        self.unfold(done, sender, max_fee)
    }

    pub(crate) fn inspector(&mut self) -> &mut I {
        &mut self.inner.inspector
    }
}

impl<'a, I> Evm<'a, I> {
    /// The same with somebody else who watches.
    pub(crate) fn watched_by<J>(self, inspector: J) -> Evm<'a, J> {
        Evm { inner: self.inner.with_inspector(inspector), base_fee: self.base_fee }
    }

    /// Runs a transaction. Nothing is kept until [`Evm::commit`].
    pub(crate) fn run(&mut self, tx: TxEnv) -> Result<(ExecutionResult, EvmState), EvmError> {
        let (sender, max_fee) = (tx.caller, tx.gas_price);
        let done = self.inner.transact(tx);
        self.unfold(done, sender, max_fee)
    }

    /// Runs a contract in the protocol's own name, for nothing. Nothing is kept until [`Evm::commit`].
    pub(crate) fn run_system(&mut self, contract: Address, data: Bytes) -> Result<EvmState, EvmError> {
        let done = self.inner.system_call(contract, data);
        let (_, touched) = self.unfold(done, Address::ZERO, 0)?;
        Ok(touched)
    }

    fn unfold(
        &self,
        done: Result<ExecResultAndState<ExecutionResult>, EVMError<StateError>>,
        sender: Address,
        max_fee: u128,
    ) -> Result<(ExecutionResult, EvmState), EvmError> {
        match done {
            Ok(done) => Ok((done.result, done.state)),
            Err(EVMError::Transaction(error)) => Err(self.refusal(error, sender, max_fee).into()),
            Err(EVMError::Database(error)) => Err(error.into()),
            Err(EVMError::Header(error)) => Err(Refusal::Other(error.to_string()).into()),
            Err(EVMError::Custom(error)) => Err(Refusal::Other(error).into()),
            Err(EVMError::CustomAny(error)) => Err(Refusal::Other(error.to_string()).into()),
        }
    }

    fn refusal(&self, error: InvalidTransaction, sender: Address, max_fee: u128) -> Refusal {
        Refusal::from_evm(error, sender, max_fee, self.base_fee)
    }

    /// Takes over what a transaction did.
    pub(crate) fn commit(&mut self, touched: EvmState) -> Result<(), StateError> {
        self.state().commit(touched)
    }

    /// Precompiles are elsewhere from now on.
    pub(crate) fn pretend(&mut self, moves: Moves) {
        self.inner.precompiles.pretend(moves);
    }

    /// Gas costs at least this much from now on.
    pub(crate) fn set_base_fee(&mut self, base_fee: u64) {
        self.base_fee = base_fee;
        self.inner.ctx.block.basefee = base_fee;
    }

    /// Blobs cost this much from now on.
    pub(crate) fn set_blob_price(&mut self, price: u128) {
        let pretended = BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: price };
        self.inner.ctx.block.blob_excess_gas_and_price = Some(pretended);
    }

    pub(crate) fn block(&self) -> &BlockEnv {
        &self.inner.ctx.block
    }

    pub(crate) fn state(&mut self) -> &mut Overlay<'a> {
        self.inner.ctx.db_mut()
    }

    /// The state with all that was committed.
    pub(crate) fn into_state(self) -> Overlay<'a> {
        self.inner.ctx.journaled_state.database
    }
}

fn block_env(header: &Header, rules: Rules) -> BlockEnv {
    let mut env = BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: header.difficulty,
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    };
    env.set_blob_excess_gas_and_price(header.excess_blob_gas.unwrap_or_default(), rules.blob_fee_fraction);
    env
}

/// A signed transaction as revm takes it.
pub(crate) fn tx_env(tx: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.tx_type().into(),
        caller: sender,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: tx.blob_versioned_hashes().unwrap_or_default().to_vec(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas().unwrap_or_default(),
        authorization_list: tx.authorization_list().unwrap_or_default().iter().cloned().map(Either::Left).collect(),
    }
}
