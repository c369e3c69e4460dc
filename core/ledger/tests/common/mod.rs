//! A small network in memory: a genesis, accounts with keys, and a head that grows by whole verified blocks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]
#![allow(dead_code, reason = "each test file uses a part")]

use alloy_consensus::{Block, Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use glean_ledger::{
    Addresses, Built, CallOutcome, CallRequest, Executed, Faucet, Genesis, MemoryState, Overrides, Proposal, Refusal,
    State, build_block, call, recover_senders, verify_block,
};
use glean_types::{AccountKey, Amount, Domain};

/// One GLN in its smallest unit.
pub const GLN: u64 = 1_000_000_000_000_000_000;
pub const CHAIN_ID: u64 = 1_337_001;

pub fn key(who: u8) -> AccountKey {
    AccountKey::from_bytes(&[who; 32]).unwrap()
}

pub fn address(who: u8) -> Address {
    key(who).address()
}

/// The owner of the contracts.
pub const OWNER: u8 = 1;
/// May mint 1000 gUSD.
pub const MINTER: u8 = 2;
/// Gets the tips.
pub const KEEPER: u8 = 9;
/// Gets the protocol fee.
pub const TREASURY: u8 = 8;
/// Start with 100 GLN and 50 gUSD each.
pub const PEOPLE: [u8; 4] = [3, 4, 5, 6];

pub fn genesis() -> Genesis {
    let rich = [OWNER, MINTER].iter().chain(&PEOPLE);
    Genesis {
        chain_id: CHAIN_ID,
        timestamp: 1_700_000_000,
        gas_limit: 30_000_000,
        base_fee_per_gas: 1_000_000_000,
        owner: address(OWNER),
        fee_recipient: address(TREASURY),
        fee_bps: 500,
        grace_s: 3_600,
        gln: rich.map(|who| (address(*who), U256::from(100) * U256::from(GLN))).collect(),
        dollars: PEOPLE.iter().map(|who| (address(*who), Amount::whole(50))).collect(),
        minters: [(address(MINTER), Amount::whole(1_000))].into(),
        faucet: Some(Faucet { account: address(MINTER), gln: U256::from(GLN), dollars: Amount::whole(10) }),
    }
}

pub struct World {
    pub state: MemoryState,
    pub head: Header,
    pub at: Addresses,
    pub now: u64,
    /// Sum of all balances, kept by subtraction only.
    pub supply: U256,
}

impl World {
    pub fn new() -> World {
        World::from(genesis())
    }

    pub fn from(genesis: Genesis) -> World {
        let built = genesis.build().unwrap();
        let mut state = MemoryState::default();
        state.apply(0, built.block_hash(), &built.changes);
        let head = built.block.header.clone();
        World { state, now: head.timestamp, head, at: built.addresses, supply: built.supply() }
    }

    pub fn domain(&self) -> Domain {
        Domain { chain_id: CHAIN_ID, channels: self.at.channels }
    }

    pub fn nonce(&self, who: u8) -> u64 {
        self.state.account(address(who)).unwrap().unwrap_or_default().nonce
    }

    pub fn balance(&self, who: Address) -> U256 {
        self.state.account(who).unwrap().unwrap_or_default().balance
    }

    /// A transaction of `who` with its next nonce plus `ahead`.
    pub fn tx(&self, who: u8, ahead: u64, to: impl Into<TxKind>, value: U256, input: Bytes) -> TxEnvelope {
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.nonce(who) + ahead,
            gas_limit: 3_000_000,
            max_fee_per_gas: 1_000_000_000_000,
            max_priority_fee_per_gas: 1_000,
            to: to.into(),
            value,
            access_list: Default::default(),
            input,
        };
        sign(tx, who)
    }

    pub fn proposal(&self) -> Proposal {
        Proposal { chain_id: CHAIN_ID, timestamp: self.now, beneficiary: address(KEEPER), bytes_max: 1 << 20 }
    }

    pub fn build(&self, txs: &[TxEnvelope]) -> Built {
        let block = Block { header: Header::default(), body: body(txs) };
        let senders = recover_senders(&block).unwrap();
        build_block(&self.state, &self.head, &self.proposal(), txs.iter().zip(senders)).unwrap()
    }

    /// Builds a block, verifies it as another node would, and moves on.
    pub fn push(&mut self, txs: &[TxEnvelope]) -> (Block<TxEnvelope>, Executed, Vec<Refusal>) {
        let Built { block, executed, refused } = self.build(txs);
        let senders = recover_senders(&block).unwrap();
        let verified = verify_block(&self.state, CHAIN_ID, &self.head, &block, &senders).unwrap();
        assert_eq!(verified, executed);
        self.state.apply(block.header.number, block.header.hash_slow(), &executed.changes);
        self.head = block.header.clone();
        self.supply -= executed.coins_gone;
        (block, executed, refused.into_iter().map(|(_, why)| why).collect())
    }

    /// One transaction in its own block; whether it succeeded.
    pub fn send(&mut self, who: u8, to: Address, input: Bytes) -> bool {
        let tx = self.tx(who, 0, to, U256::ZERO, input);
        let (_, executed, refused) = self.push(&[tx]);
        assert_eq!(refused, []);
        alloy_consensus::TxReceipt::status(&executed.tx_receipts[0])
    }

    /// Asks a contract; panics when it says no.
    pub fn ask(&self, to: Address, data: Bytes) -> Bytes {
        let request = CallRequest { to: Some(to), data, ..CallRequest::default() };
        let result = call(&self.state, CHAIN_ID, &self.head, &request, &Overrides::new()).unwrap();
        assert_eq!(result.outcome, CallOutcome::Success);
        result.output
    }

    pub fn dollars(&self, who: Address) -> u128 {
        let word = self.ask(self.at.dollar, glean_ledger::dollar::balance_of(who));
        U256::from_be_slice(&word).to()
    }
}

pub fn body(txs: &[TxEnvelope]) -> alloy_consensus::BlockBody<TxEnvelope> {
    alloy_consensus::BlockBody { transactions: txs.to_vec(), ommers: vec![], withdrawals: Some(Default::default()) }
}

pub fn sign(tx: TxEip1559, who: u8) -> TxEnvelope {
    let signature = key(who).sign(&tx.signature_hash());
    let parity = signature.0[64] == 28;
    let signature = alloy_primitives::Signature::from_bytes_and_parity(&signature.0[..64], parity);
    TxEnvelope::from(tx.into_signed(signature))
}

/// The state root by the book: a trie of all rows, built anew.
pub fn root_by_the_book(state: &MemoryState) -> alloy_primitives::B256 {
    use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
    let with_root = |(address, account): (&Address, &glean_ledger::Account)| {
        let slots = state.slots().range((*address, U256::ZERO)..=(*address, U256::MAX));
        let storage_root = storage_root_unhashed(slots.map(|((_, slot), value)| ((*slot).into(), *value)));
        assert_eq!(account.storage_root, storage_root, "{address}");
        (*address, *account)
    };
    state_root_unhashed(state.accounts().iter().map(with_root))
}

pub fn sum_of_balances(state: &MemoryState) -> U256 {
    state.accounts().values().map(|account| account.balance).sum()
}
