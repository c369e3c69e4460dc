//! What happened inside a transaction, as geth's `debug_trace*` tells it. The tracers are revm-inspectors'.
//!
//! What must stay true: nobody makes us write a longer story than [`STORY_BYTES_MAX`]. A transaction may run millions
//! of steps with a kilobyte of stack each, so every one is weighed before it is told; running it twice costs only time.

use std::collections::BTreeSet;

use alloy_consensus::{Block, Header, TxEnvelope};
use alloy_primitives::{Address, U256};
pub use alloy_rpc_types_trace::geth::GethDebugTracingOptions as TraceOptions;
pub use alloy_rpc_types_trace::geth::TraceResult as Traced;
use alloy_rpc_types_trace::geth::{GethTrace, StructLog};
use revm::Inspector;
use revm::bytecode::opcode;
use revm::context::TxEnv;
use revm::context::result::ResultAndState;
use revm::interpreter::interpreter_types::Jumps as _;
use revm::interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome, Interpreter};
use revm_inspectors::tracing::{DebugInspector, TransactionContext};

use crate::call::{CallError, CallRequest, ask};
use crate::evm::{Ctx, Evm, EvmError, Purpose, tx_env};
use crate::overlay::Overlay;
use crate::pretend::Overrides;
use crate::state::{State, StateError};

/// Bytes of JSON that one answer may take, as far as they can be foreseen.
const STORY_BYTES_MAX: u64 = 16 << 20;
/// What a step says of itself, a word on the stack or in memory, and a slot.
const STEP_BYTES: u64 = 90;
const WORD_BYTES: u64 = 70;
const SLOT_BYTES: u64 = 140;
/// What a call says of itself at each end, without its data.
const CALL_END_BYTES: u64 = 300;

/// Why there is no story.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// There is no such tracer, or not with these settings.
    #[error("{0}")]
    Tracer(String),
    /// It would be too long.
    #[error("the trace is larger than {} MiB: set `limit`, `disableStack` or `disableStorage`", STORY_BYTES_MAX >> 20)]
    TooLong,
    /// It cannot be run.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<EvmError> for TraceError {
    fn from(error: EvmError) -> Self {
        Self::Call(error.into())
    }
}

impl From<StateError> for TraceError {
    fn from(error: StateError) -> Self {
        Self::Call(error.into())
    }
}

/// Tells all transactions of a block, or `only` one, on the state before the block.
pub fn trace_block(
    state: &dyn State,
    chain_id: u64,
    block: &Block<TxEnvelope>,
    senders: &[Address],
    options: &TraceOptions,
    only: Option<usize>,
) -> Result<Vec<Traced>, TraceError> {
    let mut evm = Evm::new(chain_id, &block.header, Overlay::new(state), Purpose::Block);
    let block_hash = block.header.hash_slow();
    let mut teller = Teller::new(options);
    let mut traced = Vec::new();
    for (index, (tx, sender)) in block.body.transactions.iter().zip(senders).enumerate() {
        if only.is_some_and(|only| index > only) {
            break;
        }
        let env = tx_env(tx, *sender);
        if only.is_none_or(|only| index == only) {
            let hash = *tx.tx_hash();
            let place = TransactionContext { block_hash: Some(block_hash), tx_index: Some(index), tx_hash: Some(hash) };
            let story;
            (evm, story) = teller.tell(evm, env.clone(), Some(place))?;
            traced.push(Traced::new_success(story, Some(hash)));
        }
        let (_, touched) = evm.run(env)?;
        evm.commit(touched)?;
    }
    Ok(traced)
}

/// Tells what a question would do on the state after the block with this header.
pub fn trace_call(
    state: &dyn State,
    chain_id: u64,
    header: &Header,
    request: &CallRequest,
    overrides: &Overrides,
    options: &TraceOptions,
) -> Result<GethTrace, TraceError> {
    let (evm, tx) = ask(state, chain_id, header, request, overrides)?;
    let (_, story) = Teller::new(options).tell(evm, tx, None)?;
    Ok(story)
}

/// Tells transactions one after another, until it has said too much.
struct Teller<'o> {
    options: &'o TraceOptions,
    scale: Scale,
}

impl<'o> Teller<'o> {
    fn new(options: &'o TraceOptions) -> Self {
        Self { options, scale: Scale::new(options) }
    }

    /// Runs the transaction twice, first to weigh its story. Nothing of it is kept in the state.
    fn tell<'a>(
        &mut self,
        evm: Evm<'a>,
        tx: TxEnv,
        place: Option<TransactionContext>,
    ) -> Result<(Evm<'a>, GethTrace), TraceError> {
        let mut evm = evm.watched_by(self.scale.clone());
        evm.run_watched(tx.clone())?;
        self.scale = evm.inspector().clone();
        self.scale.rest();
        if self.scale.bytes > STORY_BYTES_MAX {
            return Err(TraceError::TooLong);
        }
        let tracer_error = |error: &dyn std::fmt::Display| TraceError::Tracer(error.to_string());
        let tracer = DebugInspector::new(self.options.clone()).map_err(|error| tracer_error(&error))?;
        let mut evm = evm.watched_by(tracer);
        let (result, state) = evm.run_watched(tx.clone())?;
        let done = ResultAndState { result, state };
        let block = evm.block().clone();
        let mut before = evm.state().clone();
        let story = evm.inspector().get_result(place, &tx, &block, &done, &mut before);
        let mut story = story.map_err(|error| tracer_error(&error))?;
        if let GethTrace::Default(frame) = &mut story {
            frame.struct_logs.iter_mut().for_each(leave_out_nothing);
        }
        Ok((evm.watched_by(()), story))
    }
}

/// geth does not tell a refund of zero, nor return data of no bytes.
fn leave_out_nothing(step: &mut StructLog) {
    step.refund_counter = step.refund_counter.filter(|gas| *gas > 0);
    step.return_data = step.return_data.take().filter(|data| !data.is_empty());
}

/// Weighs what a tracer would write down.
#[derive(Clone)]
struct Scale {
    bytes: u64,
    /// Steps are told one by one, at most so many of each transaction.
    steps_max: Option<u64>,
    steps: u64,
    stack: bool,
    memory: bool,
    storage: bool,
    slots: BTreeSet<(Address, U256)>,
}

impl Scale {
    fn new(options: &TraceOptions) -> Self {
        let by_step = options.tracer.as_ref().is_none_or(|tracer| tracer.as_str().is_empty());
        let config = &options.config;
        let limit = config.limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        Self {
            bytes: 0,
            steps_max: by_step.then_some(limit),
            steps: 0,
            stack: !config.disable_stack.unwrap_or(false),
            memory: config.enable_memory.unwrap_or(false),
            storage: !config.disable_storage.unwrap_or(false),
            slots: BTreeSet::new(),
        }
    }

    /// Forgets what is counted per transaction.
    fn rest(&mut self) {
        self.steps = 0;
        self.slots.clear();
    }

    /// One end of a call, with what it hands over; a story by steps does not tell it.
    fn add_call(&mut self, data: usize) {
        if self.steps_max.is_none() {
            self.add(CALL_END_BYTES + 2 * data as u64);
        }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl<'a> Inspector<Ctx<'a>> for Scale {
    fn step(&mut self, interpreter: &mut Interpreter, _context: &mut Ctx<'a>) {
        if self.steps_max.is_none_or(|most| self.steps >= most) {
            return;
        }
        self.steps += 1;
        self.add(STEP_BYTES);
        if self.stack {
            self.add(WORD_BYTES * interpreter.stack.len() as u64);
        }
        if self.memory {
            self.add(WORD_BYTES * (interpreter.memory.len() as u64).div_ceil(32));
        }
        let touches = matches!(interpreter.bytecode.opcode(), opcode::SLOAD | opcode::SSTORE);
        if let (true, true, Ok(slot)) = (self.storage, touches, interpreter.stack.peek(0)) {
            // Each of these steps shows all slots of the contract up to now.
            let contract = interpreter.input.target_address;
            self.slots.insert((contract, slot));
            let shown = self.slots.range((contract, U256::ZERO)..=(contract, U256::MAX)).count();
            self.add(SLOT_BYTES * shown as u64);
        }
    }

    fn call(&mut self, _context: &mut Ctx<'a>, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.add_call(inputs.input.len());
        None
    }

    fn call_end(&mut self, _context: &mut Ctx<'a>, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.add_call(outcome.result.output.len());
    }

    fn create(&mut self, _context: &mut Ctx<'a>, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.add_call(inputs.init_code().len());
        None
    }

    fn create_end(&mut self, _context: &mut Ctx<'a>, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.add_call(outcome.result.output.len());
    }
}
