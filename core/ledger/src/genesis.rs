//! Block 0: the numbers a network starts with, and the contracts deployed by running their constructors.
//!
//! Whoever joins a network builds block 0 from the same [`Genesis`] and compares hashes; so every word of it is bound,
//! also those that leave no trace in the state: `extra_data` is the hash of its canonical JSON.

use std::collections::BTreeMap;

use alloy_consensus::{Block, BlockBody, EMPTY_ROOT_HASH, Header, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_sol_types::SolConstructor;
use glean_types::Amount;
use revm::context::TxEnv;
use revm::context_interface::result::ExecutionResult;
use serde::{Deserialize, Serialize};

use crate::contracts::{Channels, Dollar, GLN, Machines};
use crate::evm::{Evm, EvmError, Purpose};
use crate::exec::empty_header;
use crate::overlay::Overlay;
use crate::refusal::revert_text;
use crate::state::{Changes, MemoryState, StateError};
use crate::{dollar, root};

/// Gas for each unsigned transaction of the genesis.
const GAS_MAX: u64 = 30_000_000;

/// What a network starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Unix seconds of block 0.
    pub timestamp: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Base fee of block 0, in 10^-18 GLN per gas; it then moves as on Ethereum.
    pub base_fee_per_gas: u64,
    /// Owner of the contracts: sets mint ceilings and the fee.
    pub owner: Address,
    /// Who gets the protocol fee.
    pub fee_recipient: Address,
    /// The protocol fee, in hundredths of a per cent.
    pub fee_bps: u16,
    /// Seconds between a payer's request to close a channel and its close.
    pub grace_s: u64,
    /// Native coins, in 10^-18 GLN.
    pub gln: BTreeMap<Address, U256>,
    /// gUSD that exists from the start.
    pub dollars: BTreeMap<Address, Amount>,
    /// Who may mint gUSD, and up to which ceiling.
    pub minters: BTreeMap<Address, Amount>,
    /// The gift of a private network to each newcomer.
    pub faucet: Option<Faucet>,
}

/// A gift in credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faucet {
    /// Who gives. It needs native coins, and a mint ceiling or gUSD.
    pub account: Address,
    /// Native coins per gift, in 10^-18 GLN.
    pub gln: U256,
    /// gUSD per gift.
    pub dollars: Amount,
}

/// Where the contracts are. The same on every network: only the order of deployment decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// GLN as an ERC-20.
    pub gln: Address,
    /// gUSD.
    pub dollar: Address,
    /// Machine registry.
    pub machines: Address,
    /// Payment channels.
    pub channels: Address,
}

impl Addresses {
    /// The addresses on every network that starts from a [`Genesis`].
    pub fn standard() -> Addresses {
        let at = |nonce| deployer().create(nonce);
        Addresses { gln: at(0), dollar: at(1), machines: at(2), channels: at(3) }
    }
}

/// Block 0 and all it puts into the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltGenesis {
    /// Block 0.
    pub block: Block<TxEnvelope>,
    /// Rows to write.
    pub changes: Changes,
    /// The contracts.
    pub addresses: Addresses,
}

impl BuiltGenesis {
    /// The hash that names the network.
    pub fn block_hash(&self) -> B256 {
        self.block.header.hash_slow()
    }

    /// All native coins there are.
    pub fn supply(&self) -> U256 {
        self.changes.accounts.values().flatten().map(|account| account.balance).sum()
    }
}

/// Why a genesis makes no block 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A contract refused its arguments.
    #[error("the genesis fails at {step}: {why}\nhint: check owner, fee_recipient and fee_bps (at most 1000)")]
    Step {
        /// What was tried.
        step: &'static str,
        /// In the contract's words.
        why: String,
    },
    /// More than fits.
    #[error("the genesis gives out more {0} than fits\nhint: lower the amounts")]
    TooMuch(&'static str),
    /// Cannot happen on an empty state.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Deploys the contracts. An account without a key: derived from words.
fn deployer() -> Address {
    Address::from_word(keccak256(b"gleaner genesis deployer"))
}

impl Genesis {
    /// Block 0 and its state.
    pub fn build(&self) -> Result<BuiltGenesis, GenesisError> {
        let empty = MemoryState::default();
        let mut header = self.header();
        // The genesis itself runs under no limit and for nothing.
        let free = Header { gas_limit: GAS_MAX, base_fee_per_gas: Some(0), ..header.clone() };
        let mut stage = Stage { evm: Evm::new(self.chain_id, &free, Overlay::new(&empty), Purpose::Question) };
        let addresses = self.deploy(&mut stage)?;
        self.hand_out(&mut stage, &addresses)?;
        let mut overlay = stage.evm.into_state();
        // Nobody signed anything: those the genesis spoke for start with nonce 0.
        overlay.set(deployer(), None);
        overlay.set(self.owner, None);
        self.endow(&mut overlay)?;
        let (state_root, changes) = root::commit(overlay, EMPTY_ROOT_HASH)?;
        header.state_root = state_root;
        let body = BlockBody { transactions: Vec::new(), ommers: Vec::new(), withdrawals: Some(Default::default()) };
        Ok(BuiltGenesis { block: Block { header, body }, changes, addresses })
    }

    fn header(&self) -> Header {
        let json = serde_json::to_vec(self).expect("numbers, addresses and maps with text keys");
        Header {
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            base_fee_per_gas: Some(self.base_fee_per_gas),
            extra_data: Bytes::copy_from_slice(keccak256(json).as_slice()),
            transactions_root: EMPTY_ROOT_HASH,
            receipts_root: EMPTY_ROOT_HASH,
            ..empty_header()
        }
    }

    fn deploy(&self, stage: &mut Stage<'_>) -> Result<Addresses, GenesisError> {
        let dollar = Dollar::constructorCall { owner: self.owner };
        let channels = Channels::constructorCall {
            owner: self.owner,
            feeRecipient_: self.fee_recipient,
            feeBps_: self.fee_bps,
            graceS: self.grace_s,
        };
        stage.create("the GLN contract", 0, &GLN::BYTECODE, &[])?;
        stage.create("the gUSD contract", 1, &Dollar::BYTECODE, &dollar.abi_encode())?;
        stage.create("the machine registry", 2, &Machines::BYTECODE, &[])?;
        stage.create("the Channels contract", 3, &Channels::BYTECODE, &channels.abi_encode())?;
        Ok(Addresses::standard())
    }

    /// Mints the first gUSD and names the minters, in the owner's name.
    fn hand_out(&self, stage: &mut Stage<'_>, addresses: &Addresses) -> Result<(), GenesisError> {
        let total = self.dollars.values().try_fold(Amount::ZERO, |sum, amount| sum.checked_add(*amount));
        let total = total.ok_or(GenesisError::TooMuch("gUSD"))?;
        let mut call = |step, data| stage.call(step, self.owner, addresses.dollar, data);
        if total > Amount::ZERO {
            call("the owner's mint ceiling", dollar::set_ceiling(self.owner, total))?;
            for (holder, amount) in &self.dollars {
                call("a first mint of gUSD", dollar::mint(*holder, *amount))?;
            }
            call("the owner's mint ceiling", dollar::set_ceiling(self.owner, Amount::ZERO))?;
        }
        for (minter, ceiling) in &self.minters {
            call("a mint ceiling", dollar::set_ceiling(*minter, *ceiling))?;
        }
        Ok(())
    }

    fn endow(&self, overlay: &mut Overlay<'_>) -> Result<(), GenesisError> {
        let mut sum = U256::ZERO;
        for (holder, amount) in &self.gln {
            // Far below 2^256, so that no sum of balances can ever overflow.
            sum = sum.checked_add(*amount).filter(|sum| sum.bit_len() <= 128).ok_or(GenesisError::TooMuch("GLN"))?;
            let mut account = overlay.account(*holder)?.unwrap_or_default();
            account.balance = *amount;
            overlay.set(*holder, (!amount.is_zero()).then_some(account));
        }
        Ok(())
    }
}

/// The EVM that the genesis runs on.
struct Stage<'a> {
    evm: Evm<'a>,
}

impl Stage<'_> {
    fn create(&mut self, step: &'static str, nonce: u64, code: &Bytes, args: &[u8]) -> Result<(), GenesisError> {
        let data = [code.as_ref(), args].concat().into();
        self.run(step, TxEnv { caller: deployer(), kind: TxKind::Create, nonce, data, ..TxEnv::default() })
    }

    fn call(&mut self, step: &'static str, from: Address, to: Address, data: Bytes) -> Result<(), GenesisError> {
        self.run(step, TxEnv { caller: from, kind: TxKind::Call(to), data, ..TxEnv::default() })
    }

    fn run(&mut self, step: &'static str, tx: TxEnv) -> Result<(), GenesisError> {
        let tx = TxEnv { gas_limit: GAS_MAX, gas_price: 0, chain_id: None, ..tx };
        let (result, touched) = self.evm.run(tx).map_err(|error| match error {
            EvmError::Refused(refusal) => GenesisError::Step { step, why: refusal.to_string() },
            EvmError::State(error) => error.into(),
        })?;
        match result {
            ExecutionResult::Success { .. } => Ok(self.evm.commit(touched)?),
            ExecutionResult::Revert { output, .. } => Err(GenesisError::Step { step, why: revert_text(&output) }),
            ExecutionResult::Halt { reason, .. } => Err(GenesisError::Step { step, why: reason.to_string() }),
        }
    }
}
