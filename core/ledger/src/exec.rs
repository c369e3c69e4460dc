//! Blocks: a parent, a list of transactions and a state in; an Ethereum block and its changes out.
//!
//! [`build_block`] and [`verify_block`] share one path, so a block that was built is a block that verifies. Headers are
//! Ethereum's, field by field, so any Ethereum tool can check them; what has no meaning here (proof of work, beacon
//! root, blobs, withdrawals, requests) has the value it has on Ethereum when there is none. Two deliberate limits:
//! a timestamp may equal its parent's (several blocks a second), and `prevrandao` is the parent's hash, which a
//! contract must not take for chance. The system contracts of EIP-2935 and EIP-4788 are not deployed; calls to them
//! would find no code, so leaving them out changes nothing.

use alloy_consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{
    Block, BlockBody, EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, Receipt, ReceiptEnvelope, Transaction as _,
    TxEnvelope, TxReceipt as _,
};
use alloy_eips::eip1559::BaseFeeParams;
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B256, Bloom, Log, U256};
use revm::context_interface::result::ExecutionResult;

use crate::evm::{Evm, EvmError, Purpose, tx_env};
use crate::overlay::Overlay;
use crate::refusal::Refusal;
use crate::root;
use crate::state::{Changes, State, StateError};

/// What a block is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Unix seconds; not before the parent's.
    pub timestamp: u64,
    /// Who gets the tips.
    pub beneficiary: Address,
    /// Encoded transactions, all together, stay below this.
    pub bytes_max: usize,
}

/// What executing a block gave, apart from the block itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// One per transaction, in order.
    pub tx_receipts: Vec<ReceiptEnvelope>,
    /// Who sent each transaction.
    pub senders: Vec<Address>,
    /// Rows to write.
    pub changes: Changes,
    /// Coins that left the world: base fees burnt, and what contracts destroyed with themselves.
    /// The sum of all balances falls by exactly this; [`build_block`] and [`verify_block`] refuse anything else.
    pub coins_gone: U256,
}

/// A new block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The block.
    pub block: Block<TxEnvelope>,
    /// What it does.
    pub executed: Executed,
    /// Transactions that were offered and are not in it, by hash. See [`Refusal::is_final`].
    pub refused: Vec<(B256, Refusal)>,
}

/// No block could be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The clock went backwards.
    #[error("a block at {timestamp} cannot follow one at {parent}")]
    Timestamp {
        /// Proposed.
        timestamp: u64,
        /// The parent's.
        parent: u64,
    },
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Coins came from nowhere or went without a cause.
    #[error(transparent)]
    Sum(#[from] SumError),
}

/// The sum of all balances did not change by what was burnt: a bug, never a transaction's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("balances were {before} and are {after} after {burnt} was burnt: coins {}", if after + burnt > *before { "were minted" } else { "vanished" })]
pub struct SumError {
    /// Sum over all changed accounts before the block.
    pub before: U256,
    /// And after it.
    pub after: U256,
    /// Base fees.
    pub burnt: U256,
}

/// Why a block is not valid here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header field is not what execution gives.
    #[error("header field {0} is wrong")]
    Header(&'static str),
    /// The body holds something this ledger does not know.
    #[error("the body has {0}")]
    Body(&'static str),
    /// There must be one sender per transaction.
    #[error("{senders} senders for {txs} transactions")]
    Senders {
        /// Given.
        senders: usize,
        /// Needed.
        txs: usize,
    },
    /// A transaction cannot be in this block.
    #[error("transaction {index}: {refusal}")]
    Transaction {
        /// Its place.
        index: usize,
        /// Why.
        refusal: Refusal,
    },
    /// It could not be decided.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Who sent each transaction of a block; `None` when a signature is none. The costly part of verifying.
pub fn recover_senders(block: &Block<TxEnvelope>) -> Option<Vec<Address>> {
    block.body.transactions.iter().map(|tx| tx.recover_signer().ok()).collect()
}

/// Builds the block after `parent` from as many of `txs` as fit. `state` is the state after `parent`.
pub fn build_block<'t>(
    state: &dyn State,
    parent: &Header,
    proposal: &Proposal,
    txs: impl IntoIterator<Item = (&'t TxEnvelope, Address)>,
) -> Result<Built, BuildError> {
    let mut run = Run::new(state, parent, proposal)?;
    let mut refused = Vec::new();
    for (tx, sender) in txs {
        match run.push(tx, sender) {
            Ok(()) => {}
            Err(EvmError::Refused(refusal)) => refused.push((*tx.tx_hash(), refusal)),
            Err(EvmError::State(error)) => return Err(error.into()),
        }
    }
    let (block, executed) = run.finish(parent.state_root)?;
    Ok(Built { block, executed, refused })
}

/// Checks that `block` is what its transactions make of the state after `parent`. The senders come from
/// [`recover_senders`], or from whoever recovered them before.
pub fn verify_block(
    state: &dyn State,
    chain_id: u64,
    parent: &Header,
    block: &Block<TxEnvelope>,
    senders: &[Address],
) -> Result<Executed, VerifyError> {
    let body = &block.body;
    if senders.len() != body.transactions.len() {
        return Err(VerifyError::Senders { senders: senders.len(), txs: body.transactions.len() });
    }
    if !body.ommers.is_empty() {
        return Err(VerifyError::Body("ommers"));
    }
    if body.withdrawals.as_ref().is_none_or(|withdrawals| !withdrawals.is_empty()) {
        return Err(VerifyError::Body("other withdrawals than an empty list"));
    }
    let Header { timestamp, beneficiary, .. } = block.header;
    let proposal = Proposal { chain_id, timestamp, beneficiary, bytes_max: usize::MAX };
    let mut run = Run::new(state, parent, &proposal)?;
    // The cheap half of the header first: nobody makes us execute a block that cannot be valid.
    compare(&run.header, &block.header, false)?;
    for (index, (tx, sender)) in body.transactions.iter().zip(senders).enumerate() {
        run.push(tx, *sender).map_err(|error| match error {
            EvmError::Refused(refusal) => VerifyError::Transaction { index, refusal },
            EvmError::State(error) => BuildError::State(error).into(),
        })?;
    }
    let (ours, executed) = run.finish(parent.state_root)?;
    compare(&ours.header, &block.header, true)?;
    Ok(executed)
}

/// Names the first field in which two headers differ.
fn compare(ours: &Header, theirs: &Header, executed: bool) -> Result<(), VerifyError> {
    let fields = [
        ("parent_hash", ours.parent_hash == theirs.parent_hash),
        ("number", ours.number == theirs.number),
        ("gas_limit", ours.gas_limit == theirs.gas_limit),
        ("base_fee_per_gas", ours.base_fee_per_gas == theirs.base_fee_per_gas),
        ("mix_hash", ours.mix_hash == theirs.mix_hash),
        ("extra_data", ours.extra_data == theirs.extra_data),
        ("gas_used", !executed || ours.gas_used == theirs.gas_used),
        ("transactions_root", !executed || ours.transactions_root == theirs.transactions_root),
        ("receipts_root", !executed || ours.receipts_root == theirs.receipts_root),
        ("logs_bloom", !executed || ours.logs_bloom == theirs.logs_bloom),
        ("state_root", !executed || ours.state_root == theirs.state_root),
        ("(one that must be empty)", !executed || ours == theirs),
    ];
    match fields.into_iter().find(|(_, same)| !same) {
        Some((name, _)) => Err(VerifyError::Header(name)),
        None => Ok(()),
    }
}

/// A block in the making.
struct Run<'a> {
    evm: Evm<'a>,
    header: Header,
    txs: Vec<TxEnvelope>,
    senders: Vec<Address>,
    tx_receipts: Vec<ReceiptEnvelope>,
    bytes_left: usize,
}

impl<'a> Run<'a> {
    fn new(state: &'a dyn State, parent: &Header, proposal: &Proposal) -> Result<Run<'a>, BuildError> {
        let Proposal { chain_id, timestamp, beneficiary, bytes_max } = *proposal;
        if timestamp < parent.timestamp {
            return Err(BuildError::Timestamp { timestamp, parent: parent.timestamp });
        }
        let parent_hash = parent.hash_slow();
        let header = Header {
            parent_hash,
            number: parent.number + 1,
            timestamp,
            beneficiary,
            gas_limit: parent.gas_limit,
            base_fee_per_gas: parent.next_block_base_fee(BaseFeeParams::ethereum()),
            mix_hash: parent_hash,
            ..empty_header()
        };
        let evm = Evm::new(chain_id, &header, Overlay::new(state), Purpose::Block);
        Ok(Run { evm, header, txs: Vec::new(), senders: Vec::new(), tx_receipts: Vec::new(), bytes_left: bytes_max })
    }

    fn push(&mut self, tx: &TxEnvelope, sender: Address) -> Result<(), EvmError> {
        if tx.is_eip4844() {
            return Err(Refusal::Blob.into());
        }
        let left = self.header.gas_limit - self.header.gas_used;
        let bytes = tx.encode_2718_len();
        if tx.gas_limit() > left || bytes > self.bytes_left {
            return Err(Refusal::BlockFull { wanted: tx.gas_limit(), left }.into());
        }
        let (result, touched) = self.evm.run(tx_env(tx, sender))?;
        self.evm.commit(touched)?;
        self.bytes_left -= bytes;
        self.header.gas_used += result.tx_gas_used();
        self.tx_receipts.push(tx_receipt(tx, result, self.header.gas_used));
        self.txs.push(tx.clone());
        self.senders.push(sender);
        Ok(())
    }

    fn finish(self, parent_root: B256) -> Result<(Block<TxEnvelope>, Executed), BuildError> {
        let Run { evm, mut header, txs, senders, tx_receipts, .. } = self;
        let overlay = evm.into_state();
        let (base, destroyed) = (overlay.base, !overlay.destroyed.is_empty());
        let (state_root, changes) = root::commit(overlay, parent_root)?;
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let burnt = U256::from(header.gas_used) * U256::from(base_fee);
        let coins_gone = check_sum(base, &changes, burnt, destroyed)?;
        header.state_root = state_root;
        header.transactions_root = calculate_transaction_root(&txs);
        header.receipts_root = calculate_receipt_root(&tx_receipts);
        header.logs_bloom = tx_receipts.iter().fold(Bloom::ZERO, |bloom, r| bloom | r.bloom());
        let body = BlockBody { transactions: txs, ommers: Vec::new(), withdrawals: Some(Default::default()) };
        Ok((Block { header, body }, Executed { tx_receipts, senders, changes, coins_gone }))
    }
}

/// A header with nothing in it: every field that is the same in all our blocks.
pub(crate) fn empty_header() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

pub(crate) fn tx_receipt(tx: &TxEnvelope, result: ExecutionResult, cumulative_gas_used: u64) -> ReceiptEnvelope {
    let status = result.is_success();
    tx_receipt_of(tx, status, result.into_logs(), cumulative_gas_used)
}

pub(crate) fn tx_receipt_of(
    tx: &TxEnvelope,
    success: bool,
    logs: Vec<Log>,
    cumulative_gas_used: u64,
) -> ReceiptEnvelope {
    let receipt = Receipt { status: success.into(), cumulative_gas_used, logs };
    ReceiptEnvelope::from_typed(tx.tx_type(), receipt.with_bloom())
}

/// That the sum of balances fell by what was burnt, and by no more unless a contract destroyed itself.
pub(crate) fn check_sum(base: &dyn State, changes: &Changes, burnt: U256, destroyed: bool) -> Result<U256, BuildError> {
    let (mut before, mut after) = (U256::ZERO, U256::ZERO);
    for (address, account) in &changes.accounts {
        before += base.account(*address)?.unwrap_or_default().balance;
        after += account.unwrap_or_default().balance;
    }
    let explained = if destroyed { after + burnt <= before } else { after + burnt == before };
    if !explained {
        return Err(SumError { before, after, burnt }.into());
    }
    Ok(before - after)
}
