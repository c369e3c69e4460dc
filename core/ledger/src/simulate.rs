//! Blocks that nobody made, one upon another: `eth_simulateV1`. Wallets show with it what a signature would do.
//!
//! The blocks are whole: a client may check their hashes, roots and blooms. Rules, texts and defaults are geth's, down
//! to twelve seconds between blocks. Nothing is kept.
//!
//! What must stay true: all calls together use at most [`CALL_GAS_MAX`], and there are at most [`BLOCKS_MAX`] blocks.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::{
    Block, BlockBody, Header, ReceiptEnvelope, SignableTransaction as _, Transaction as _, TxEnvelope, TxReceipt as _,
    TypedTransaction,
};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_primitives::{Address, B256, Bloom, Bytes, Signature, TxKind, U256};
use alloy_rpc_types_eth::simulate::{SimCallResult, SimulateError as CallFailure};
use alloy_rpc_types_eth::{BlockOverrides, Log, TransactionRequest};
use revm::context_interface::result::ExecutionResult;

use crate::call::{CALL_GAS_MAX, halt_text};
use crate::evm::{Evm, EvmError, Purpose, tx_env};
use crate::exec::{empty_header, tx_receipt_of};
use crate::overlay::Overlay;
use crate::pretend::{Overrides, PretendError, pretend};
use crate::refusal::{Refusal, revert_text};
use crate::rules::Rules;
use crate::state::{Account, Changes, State, StateError};
use crate::transfers::Scribe;
use crate::{beacon, root};

/// Blocks in one simulation, with those that fill gaps.
pub const BLOCKS_MAX: u64 = 256;
/// Between two blocks when nothing else is asked.
const SECONDS_BETWEEN: u64 = 12;

/// A block to be.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// What is not as after its parent.
    pub block: BlockOverrides,
    /// What is pretended about accounts before its first call.
    pub accounts: Overrides,
    /// Transactions without signatures.
    pub calls: Vec<TransactionRequest>,
}

/// A block that might have been.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// It.
    pub block: Block<TxEnvelope>,
    /// Who would have sent each transaction.
    pub senders: Vec<Address>,
    /// What each would have given.
    pub calls: Vec<SimCallResult>,
}

/// Why nothing is simulated. One call that cannot be in its block spoils all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// More than `BLOCKS_MAX`.
    #[error("too many blocks")]
    TooManyBlocks,
    /// Numbers must grow.
    #[error("block numbers must be in order: {number} <= {before}")]
    Number {
        /// Asked for.
        number: u64,
        /// The one before.
        before: u64,
    },
    /// Times must grow.
    #[error("block timestamps must be in order: {time} <= {before}")]
    Time {
        /// Asked for.
        time: u64,
        /// The one before.
        before: u64,
    },
    /// The block cannot hold the call.
    #[error("block gas limit reached: {used} >= {limit}")]
    BlockGas {
        /// By the calls before.
        used: u64,
        /// Of the block.
        limit: u64,
    },
    /// Its fields make no transaction.
    #[error("the transaction cannot be completed: {0}")]
    Incomplete(String),
    /// It cannot be in this block.
    #[error("err: {refusal} (supplied gas {gas})")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// Its gas limit.
        gas: u64,
    },
    /// It pretends what cannot be.
    #[error(transparent)]
    Pretend(#[from] PretendError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a simulation stands on.
pub struct Simulation<'a> {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Of the simulated blocks.
    pub rules: Rules,
    /// After `parent`.
    pub state: &'a dyn State,
    /// The block before the first one.
    pub parent: &'a Header,
    /// Fees and nonces count as in a real block.
    pub validation: bool,
    /// Coins that move show as logs, too.
    pub transfers: bool,
}

impl Simulation<'_> {
    /// Runs all blocks.
    pub fn run(&self, blocks: Vec<Planned>) -> Result<Vec<Simulated>, SimulateError> {
        let mut upon = Upon::new(self.state);
        let mut parent = self.parent.clone();
        let mut gas_left = CALL_GAS_MAX;
        let mut simulated = Vec::new();
        for planned in self.fill_gaps(blocks)? {
            let (done, changes, wiped) = self.run_block(&upon, &parent, planned, &mut gas_left)?;
            parent = done.block.header.clone();
            upon.absorb(changes, wiped, &parent);
            simulated.push(done);
        }
        Ok(simulated)
    }

    /// Every block gets its number and time; numbers that were left out become empty blocks.
    fn fill_gaps(&self, blocks: Vec<Planned>) -> Result<Vec<Planned>, SimulateError> {
        let Header { mut number, timestamp: mut time, .. } = *self.parent;
        let mut filled = Vec::new();
        for mut planned in blocks {
            let wanted: u64 = planned.block.number.map_or(number + 1, |wanted| wanted.saturating_to());
            if wanted <= number {
                return Err(SimulateError::Number { number: wanted, before: number });
            }
            if wanted - self.parent.number > BLOCKS_MAX {
                return Err(SimulateError::TooManyBlocks);
            }
            for gap in number + 1..wanted {
                time = time.saturating_add(SECONDS_BETWEEN);
                filled.push(Planned { block: placed(gap, time, BlockOverrides::default()), ..Planned::default() });
            }
            number = wanted;
            let wanted = planned.block.time.unwrap_or(time.saturating_add(SECONDS_BETWEEN));
            if wanted <= time {
                return Err(SimulateError::Time { time: wanted, before: time });
            }
            time = wanted;
            planned.block = placed(number, time, planned.block);
            filled.push(planned);
        }
        Ok(filled)
    }

    fn header(&self, parent: &Header, planned: &BlockOverrides) -> Header {
        let free = || if self.validation { parent.next_block_base_fee(BaseFeeParams::ethereum()) } else { Some(0) };
        Header {
            parent_hash: parent.hash_slow(),
            number: planned.number.unwrap_or_default().saturating_to(),
            timestamp: planned.time.unwrap_or_default(),
            beneficiary: planned.coinbase.unwrap_or(parent.beneficiary),
            gas_limit: planned.gas_limit.unwrap_or(parent.gas_limit),
            base_fee_per_gas: planned.base_fee.map(|fee| fee.saturating_to()).or_else(free),
            mix_hash: planned.random.unwrap_or_default(),
            parent_beacon_block_root: Some(planned.beacon_root.unwrap_or_default()),
            ..empty_header()
        }
    }

    fn run_block(
        &self,
        upon: &Upon<'_>,
        parent: &Header,
        planned: Planned,
        gas_left: &mut u64,
    ) -> Result<(Simulated, Changes, BTreeSet<Address>), SimulateError> {
        let header = self.header(parent, &planned.block);
        let mut overlay = Overlay::new(upon);
        let moves = pretend(&mut overlay, &planned.accounts)?;
        let purpose = if self.validation { Purpose::Rehearsal } else { Purpose::Question };
        let evm = Evm::under(self.rules, self.chain_id, &header, overlay, purpose);
        let mut evm = evm.watched_by(Scribe::new(self.transfers));
        evm.pretend(moves);
        if let Some(price) = planned.block.blob_base_fee {
            evm.set_blob_price(price.saturating_to());
        }
        let system_error = |error| refused(error, 0);
        beacon::open(&mut evm, self.rules, &header).map_err(system_error)?;
        let mut run = Run { simulation: self, evm, header, gas_left, rows: Rows::default() };
        for call in planned.calls {
            run.call(call)?;
        }
        beacon::close(&mut run.evm, self.rules).map_err(system_error)?;
        run.finish(parent.state_root)
    }
}

/// The overrides with a certain number and time.
fn placed(number: u64, time: u64, overrides: BlockOverrides) -> BlockOverrides {
    BlockOverrides { number: Some(U256::from(number)), time: Some(time), ..overrides }
}

/// A transaction as it is before its sender signs: with a signature of zeros, as geth writes it.
pub fn unsigned(mut request: TransactionRequest) -> Option<TxEnvelope> {
    request.normalize_input();
    let nobody = Signature::new(U256::ZERO, U256::ZERO, false);
    Some(match request.build_consensus_tx().ok()? {
        TypedTransaction::Legacy(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip2930(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip1559(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip4844(tx) => tx.into_signed(nobody).into(),
        TypedTransaction::Eip7702(tx) => tx.into_signed(nobody).into(),
    })
}

fn refused(error: EvmError, gas: u64) -> SimulateError {
    match error {
        EvmError::Refused(refusal) => SimulateError::Refused { refusal, gas },
        EvmError::State(error) => error.into(),
    }
}

/// What a block's calls leave, in their order.
#[derive(Default)]
struct Rows {
    txs: Vec<TxEnvelope>,
    senders: Vec<Address>,
    tx_receipts: Vec<ReceiptEnvelope>,
    calls: Vec<SimCallResult>,
}

/// A simulated block on its way.
struct Run<'a, 'b> {
    simulation: &'b Simulation<'b>,
    evm: Evm<'a, Scribe>,
    header: Header,
    gas_left: &'b mut u64,
    rows: Rows,
}

impl Run<'_, '_> {
    fn call(&mut self, request: TransactionRequest) -> Result<(), SimulateError> {
        let sender = request.from.unwrap_or_default();
        let tx = self.complete(request, sender)?;
        if self.simulation.validation {
            self.check_nonce(&tx, sender)?;
        }
        let pays_nothing = tx.max_fee_per_gas() == 0 && tx.max_priority_fee_per_gas().unwrap_or_default() == 0;
        let free = pays_nothing && !self.simulation.validation;
        self.evm.set_base_fee(if free { 0 } else { self.header.base_fee_per_gas.unwrap_or_default() });
        let done = self.evm.run_watched(tx_env(&tx, sender));
        let (result, touched) = done.map_err(|error| refused(error, tx.gas_limit()))?;
        self.evm.commit(touched)?;
        *self.gas_left = self.gas_left.saturating_sub(result.tx_gas_used());
        self.header.gas_used += result.tx_gas_used();
        let blob_gas = tx.blob_gas_used().unwrap_or_default();
        self.header.blob_gas_used = self.header.blob_gas_used.map(|used| used + blob_gas);
        self.keep(tx, sender, &result);
        Ok(())
    }

    /// Fills in what the caller left open.
    fn complete(&mut self, mut request: TransactionRequest, sender: Address) -> Result<TxEnvelope, SimulateError> {
        let (used, limit) = (self.header.gas_used, self.header.gas_limit);
        let gas = request.gas.unwrap_or(limit - used);
        if used.saturating_add(gas) > limit {
            return Err(SimulateError::BlockGas { used, limit });
        }
        request.gas = Some(gas.min(*self.gas_left));
        if request.nonce.is_none() {
            request.nonce = Some(self.evm.state().account(sender)?.unwrap_or_default().nonce);
        }
        request.chain_id.get_or_insert(self.simulation.chain_id);
        request.to.get_or_insert(TxKind::Create);
        request.value.get_or_insert_default();
        if request.gas_price.is_none() {
            request.max_fee_per_gas.get_or_insert_default();
            request.max_priority_fee_per_gas.get_or_insert_default();
        }
        if request.blob_versioned_hashes.is_some() {
            request.max_fee_per_blob_gas.get_or_insert_default();
        }
        unsigned(request).ok_or_else(|| SimulateError::Incomplete("fields are missing or do not fit".into()))
    }

    /// Before everything else, as geth does: who sends the same again should hear of that and not of fees.
    fn check_nonce(&mut self, tx: &TxEnvelope, sender: Address) -> Result<(), SimulateError> {
        let (have, next) = (tx.nonce(), self.evm.state().account(sender)?.unwrap_or_default().nonce);
        let refusal = match have.cmp(&next) {
            Ordering::Less => Refusal::NonceTooLow { sender, tx: have, state: next },
            Ordering::Greater => Refusal::NonceTooHigh { sender, tx: have, state: next },
            Ordering::Equal if have == u64::MAX => Refusal::NonceMax { sender },
            Ordering::Equal => return Ok(()),
        };
        Err(SimulateError::Refused { refusal, gas: tx.gas_limit() })
    }

    fn keep(&mut self, tx: TxEnvelope, sender: Address, result: &ExecutionResult) {
        let success = result.is_success();
        let shown = self.evm.inspector().take().into_iter();
        let shown: Vec<Log> = shown.map(|(index, log)| self.place(log, *tx.tx_hash(), index)).collect();
        self.rows.calls.push(SimCallResult {
            return_data: result.output().filter(|_| success).cloned().unwrap_or_default(),
            logs: shown,
            gas_used: result.tx_gas_used(),
            max_used_gas: Some(result.gas().total_gas_spent().max(result.gas().floor_gas())),
            status: success,
            error: failure(result),
        });
        // A receipt tells what contracts said; transfers are only shown.
        let said = result.logs().iter().filter(|_| success).cloned().collect();
        self.rows.tx_receipts.push(tx_receipt_of(&tx, success, said, self.header.gas_used));
        self.rows.txs.push(tx);
        self.rows.senders.push(sender);
    }

    /// A log with its place, as far as it is known before the block is whole.
    fn place(&self, inner: alloy_primitives::Log, tx_hash: B256, index: u64) -> Log {
        Log {
            inner,
            block_number: Some(self.header.number),
            block_timestamp: Some(self.header.timestamp),
            transaction_hash: Some(tx_hash),
            transaction_index: Some(self.rows.txs.len() as u64),
            log_index: Some(index),
            ..Log::default()
        }
    }

    fn finish(self, parent_root: B256) -> Result<(Simulated, Changes, BTreeSet<Address>), SimulateError> {
        let Run { evm, mut header, rows, .. } = self;
        let Rows { txs, senders, tx_receipts, mut calls, .. } = rows;
        let overlay = evm.into_state();
        let wiped = overlay.wiped().clone();
        let (state_root, changes) = root::commit(overlay, parent_root)?;
        header.state_root = state_root;
        header.transactions_root = calculate_transaction_root(&txs);
        header.receipts_root = calculate_receipt_root(&tx_receipts);
        header.logs_bloom = tx_receipts.iter().fold(Bloom::ZERO, |bloom, tx_receipt| bloom | tx_receipt.bloom());
        let hash = header.hash_slow();
        calls.iter_mut().flat_map(|call| &mut call.logs).for_each(|log| log.block_hash = Some(hash));
        let body = BlockBody { transactions: txs, ommers: Vec::new(), withdrawals: Some(Default::default()) };
        Ok((Simulated { block: Block { header, body }, senders, calls }, changes, wiped))
    }
}

fn failure(result: &ExecutionResult) -> Option<CallFailure> {
    match result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { output, .. } => Some(CallFailure {
            code: CallFailure::EXECUTION_REVERTED_CODE,
            message: revert_text(output),
            data: Some(output.clone()),
        }),
        ExecutionResult::Halt { reason, .. } => {
            Some(CallFailure { code: CallFailure::VM_EXECUTION_ERROR_CODE, message: halt_text(reason), data: None })
        }
    }
}

/// A state with simulated blocks on top of it.
struct Upon<'a> {
    base: &'a dyn State,
    changes: Changes,
    /// Accounts whose slots in `base` are forgotten.
    wiped: BTreeSet<Address>,
    hashes: BTreeMap<u64, B256>,
}

impl<'a> Upon<'a> {
    fn new(base: &'a dyn State) -> Self {
        Self { base, changes: Changes::default(), wiped: BTreeSet::new(), hashes: BTreeMap::new() }
    }

    fn absorb(&mut self, changes: Changes, wiped: BTreeSet<Address>, header: &Header) {
        self.changes.slots.retain(|(owner, _), _| !wiped.contains(owner));
        self.wiped.extend(wiped);
        self.changes.accounts.extend(changes.accounts);
        self.changes.slots.extend(changes.slots);
        self.changes.code.extend(changes.code);
        self.changes.nodes.extend(changes.nodes);
        self.hashes.insert(header.number, header.hash_slow());
    }
}

impl State for Upon<'_> {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        self.changes.accounts.get(&address).map_or_else(|| self.base.account(address), |account| Ok(*account))
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        match self.changes.slots.get(&(address, slot)) {
            Some(value) => Ok(*value),
            None if self.wiped.contains(&address) => Ok(U256::ZERO),
            None => self.base.slot(address, slot),
        }
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        self.changes.code.get(&hash).map_or_else(|| self.base.code(hash), |code| Ok(code.clone()))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.hashes.get(&number).map_or_else(|| self.base.block_hash(number), |hash| Ok(*hash))
    }

    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.changes.nodes.get(key).map_or_else(|| self.base.node(key), |node| Ok(node.clone()))
    }
}
