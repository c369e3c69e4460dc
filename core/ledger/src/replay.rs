//! Blocks of another Ethereum chain, run through this ledger's executor and tries: for tests, and nobody else.
//!
//! The official JSON-RPC cases ask about a chain whose history crosses every fork from Homestead on. Its blocks hold
//! what ours never do, and only here is it known: rewards for miners, withdrawals, blobs, contracts that the protocol
//! itself calls, and receipts that name a state root. EVM, overlay, tries and receipts are the ones that ship.
//!
//! Not checked, for it says nothing about our code: proof of work, ommers' headers, gas limits, the requests' hash.

use std::collections::BTreeMap;

use alloy_consensus::proofs::calculate_receipt_root;
use alloy_consensus::{
    Block, BlockBody, EMPTY_ROOT_HASH, Eip658Value, Header, ReceiptEnvelope, TxEnvelope, TxReceipt as _,
};
use alloy_primitives::{Address, Bloom, Bytes, KECCAK256_EMPTY, U256, keccak256};
pub use revm::primitives::hardfork::SpecId;

use crate::beacon;
use crate::evm::{Evm, EvmError, Purpose, tx_env};
use crate::exec::tx_receipt;
use crate::overlay::Overlay;
use crate::root;
use crate::rules::Rules;
use crate::state::{Account, Changes, MemoryState, State, StateError};

/// What its first block gives to one account.
#[derive(Debug, Clone, Default)]
pub struct Endowment {
    /// Native coins.
    pub balance: U256,
    /// Transactions sent, so to say.
    pub nonce: u64,
    /// Code; empty for none.
    pub code: Bytes,
    /// Storage.
    pub slots: BTreeMap<U256, U256>,
}

/// What executing a foreign block gave.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// One per transaction, in order.
    pub tx_receipts: Vec<ReceiptEnvelope>,
    /// Rows to write.
    pub changes: Changes,
    /// Rewards and withdrawals.
    pub minted: U256,
    /// Base fees and blob fees.
    pub burnt: U256,
}

/// Why a foreign block was not replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A header field is not what execution gives.
    #[error("header field {field} is {theirs}, not {ours}")]
    Header {
        /// Its name.
        field: &'static str,
        /// What the block says.
        theirs: String,
        /// What execution gives.
        ours: String,
    },
    /// A transaction, or a call of the protocol's own, was refused.
    #[error("{what} is refused: {why}")]
    Refused {
        /// Which.
        what: String,
        /// In the executor's words.
        why: String,
    },
    /// Coins came from nowhere or went without a cause.
    #[error("balances are {found} and should be {expected}")]
    Sum {
        /// Over all changed accounts.
        found: U256,
        /// After what was minted and burnt.
        expected: U256,
    },
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

const GWEI: u64 = 1_000_000_000;
/// Block 0 with this header, and all it puts into the state.
pub fn genesis(
    mut header: Header,
    accounts: &BTreeMap<Address, Endowment>,
) -> Result<(Block<TxEnvelope>, Changes), ReplayError> {
    let empty = MemoryState::default();
    let mut overlay = Overlay::new(&empty);
    for (address, endowment) in accounts {
        let Endowment { balance, nonce, code, slots } = endowment;
        let code_hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(code) };
        overlay.code.insert(code_hash, code.clone());
        overlay.slots.extend(slots.iter().map(|(slot, value)| ((*address, *slot), *value)));
        overlay.set(*address, Some(Account::new(*nonce, *balance, EMPTY_ROOT_HASH, code_hash)));
    }
    let (state_root, changes) = root::commit(overlay, EMPTY_ROOT_HASH)?;
    header.state_root = state_root;
    Ok((Block { header, body: BlockBody::default() }, changes))
}

/// Runs `block` on the state after `parent` and holds it against its own header.
pub fn block(
    rules: Rules,
    chain_id: u64,
    state: &dyn State,
    parent: &Header,
    block: &Block<TxEnvelope>,
    senders: &[Address],
) -> Result<Replayed, ReplayError> {
    let header = &block.header;
    same("parent_hash", &header.parent_hash, &parent.hash_slow())?;
    let mut overlay = Overlay::new(state);
    overlay.keeps_empty = !rules.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
    let evm = Evm::under(rules, chain_id, header, overlay, Purpose::Block);
    let mut run = Run { evm, rules, block, parent, gas_used: 0 };
    beacon::open(&mut run.evm, rules, header).map_err(refused_call)?;
    let tx_receipts = run.transactions(senders)?;
    beacon::close(&mut run.evm, rules).map_err(refused_call)?;
    same("gas_used", &header.gas_used, &run.gas_used)?;
    same("receipts_root", &header.receipts_root, &calculate_receipt_root(&tx_receipts))?;
    let bloom = tx_receipts.iter().fold(Bloom::ZERO, |bloom, tx_receipt| bloom | tx_receipt.bloom());
    same("logs_bloom", &header.logs_bloom, &bloom)?;
    let minted = run.endow()?;
    let (state_root, changes) = root::commit(run.evm.into_state(), parent.state_root)?;
    same("state_root", &header.state_root, &state_root)?;
    let burnt = burnt(rules, header);
    check_sum(state, &changes, minted, burnt)?;
    Ok(Replayed { tx_receipts, changes, minted, burnt })
}

/// A block on its way.
struct Run<'a> {
    evm: Evm<'a>,
    rules: Rules,
    block: &'a Block<TxEnvelope>,
    parent: &'a Header,
    gas_used: u64,
}

impl Run<'_> {
    fn has(&self, fork: SpecId) -> bool {
        self.rules.spec.is_enabled_in(fork)
    }

    fn transactions(&mut self, senders: &[Address]) -> Result<Vec<ReceiptEnvelope>, ReplayError> {
        let mut tx_receipts = Vec::with_capacity(senders.len());
        for (tx, sender) in self.block.body.transactions.iter().zip(senders) {
            let (result, touched) = self
                .evm
                .run(tx_env(tx, *sender))
                .map_err(|error| refused(format!("transaction {}", tx.tx_hash()), error))?;
            self.evm.commit(touched)?;
            self.gas_used += result.tx_gas_used();
            let tx_receipt = tx_receipt(tx, result, self.gas_used);
            tx_receipts.push(if self.has(SpecId::BYZANTIUM) { tx_receipt } else { self.with_root(tx_receipt)? });
        }
        Ok(tx_receipts)
    }

    /// Before EIP-658 a receipt named the state after its transaction, not whether it succeeded.
    fn with_root(&mut self, tx_receipt: ReceiptEnvelope) -> Result<ReceiptEnvelope, ReplayError> {
        let (root, _) = root::commit(self.evm.state().clone(), self.parent.state_root)?;
        let tx_type = tx_receipt.tx_type();
        let mut receipt = tx_receipt.into_receipt();
        receipt.status = Eip658Value::PostState(root);
        Ok(ReceiptEnvelope::from_typed(tx_type, receipt.with_bloom()))
    }

    /// Pays miners and withdrawals; says how much.
    fn endow(&mut self) -> Result<U256, ReplayError> {
        let Block { header, body } = self.block;
        let mut due: Vec<(Address, U256)> = Vec::new();
        let reward = U256::from(self.reward_eth()) * U256::from(GWEI) * U256::from(GWEI);
        if !self.has(SpecId::MERGE) {
            let nephews = reward / U256::from(32) * U256::from(body.ommers.len());
            due.push((header.beneficiary, reward + nephews));
            let ommers = body.ommers.iter();
            due.extend(ommers.map(|ommer| {
                let nearness = 8 - (header.number - ommer.number);
                (ommer.beneficiary, reward * U256::from(nearness) / U256::from(8))
            }));
        }
        let withdrawals = body.withdrawals.iter().flat_map(|withdrawals| withdrawals.iter());
        due.extend(withdrawals.map(|paid| (paid.address, U256::from(paid.amount) * U256::from(GWEI))));
        let mut minted = U256::ZERO;
        for (address, amount) in due {
            let overlay = self.evm.state();
            let mut account = overlay.account(address)?.unwrap_or_default();
            account.balance += amount;
            overlay.set(address, Some(account));
            minted += amount;
        }
        Ok(minted)
    }

    /// EIP-649 and EIP-1234.
    fn reward_eth(&self) -> u64 {
        if self.has(SpecId::PETERSBURG) {
            2
        } else if self.has(SpecId::BYZANTIUM) {
            3
        } else {
            5
        }
    }
}

fn refused_call(error: EvmError) -> ReplayError {
    refused("the protocol's own call".into(), error)
}

fn refused(what: String, error: EvmError) -> ReplayError {
    match error {
        EvmError::Refused(refusal) => ReplayError::Refused { what, why: refusal.to_string() },
        EvmError::State(error) => error.into(),
    }
}

/// What a block's fees destroy.
fn burnt(rules: Rules, header: &Header) -> U256 {
    let base_fees = U256::from(header.gas_used) * U256::from(header.base_fee_per_gas.unwrap_or_default());
    let Some(excess) = header.excess_blob_gas else { return base_fees };
    let price = revm::context_interface::block::BlobExcessGasAndPrice::new(excess, rules.blob_fee_fraction);
    base_fees + U256::from(header.blob_gas_used.unwrap_or_default()) * U256::from(price.blob_gasprice)
}

fn check_sum(base: &dyn State, changes: &Changes, minted: U256, burnt: U256) -> Result<(), ReplayError> {
    let (mut before, mut after) = (U256::ZERO, U256::ZERO);
    for (address, account) in &changes.accounts {
        before += base.account(*address)?.unwrap_or_default().balance;
        after += account.unwrap_or_default().balance;
    }
    let expected = before + minted - burnt;
    if after != expected {
        return Err(ReplayError::Sum { found: after, expected });
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Display>(field: &'static str, theirs: &T, ours: &T) -> Result<(), ReplayError> {
    if ours != theirs {
        return Err(ReplayError::Header { field, theirs: theirs.to_string(), ours: ours.to_string() });
    }
    Ok(())
}
