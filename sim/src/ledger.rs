//! The ledger of a simulated network: the shipped one. Every call is a block of one signed transaction,
//! executed by `glean-ledger` against the real contracts.
//!
//! What must stay true, checked after every call: the Channels contract holds exactly what its channels have
//! not paid out, and no dollar appears or vanishes.

use std::collections::{BTreeMap, BTreeSet};

use alloy_consensus::{Header, SignableTransaction, TxEip1559, TxEnvelope, TxReceipt};
use alloy_primitives::{Bytes, U256};
use glean_ledger::channels::{self, Open};
use glean_ledger::{
    Addresses, CallRequest, Genesis, MemoryState, Overrides, Proposal, State, build_block, call, dollar,
};
use glean_protocol::ChannelView;
use glean_types::{AccountKey, Address, Amount, B256, ChannelId, Domain, NodeId, Signed, Voucher};

const CHAIN_ID: u64 = 1_337;
/// A thousandth of one GLN: gas for a few thousand transactions at the genesis price.
const GAS_MONEY: u64 = 1_000_000_000_000_000;
const GENESIS_S: u64 = 1_700_000_000;
/// The protocol's share of every payout, in hundredths of a per cent.
pub const FEE_BPS: u16 = 500;

/// Why the ledger refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerError {
    /// The payer's balance does not cover it.
    NoFunds,
    /// The contract said no.
    Refused,
}

/// The ledger.
pub struct Ledger {
    state: MemoryState,
    head: Header,
    at: Addresses,
    owner: AccountKey,
    dollars: Amount,
    /// Channels as the contract showed them after the last call about each, and what they have not paid out together.
    channels: BTreeMap<ChannelId, channels::Channel>,
    unpaid: Amount,
    /// The world's clock, Unix seconds.
    now_s: u64,
    /// Everybody who was ever here.
    accounts: BTreeSet<Address>,
}

/// Where papers of a simulated network are valid.
pub(crate) fn domain() -> Domain {
    Domain { chain_id: CHAIN_ID, channels: Addresses::standard().channels }
}

impl Ledger {
    /// A new network whose money all belongs to `requester`.
    pub fn new(requester: &AccountKey, dollars: Amount) -> Ledger {
        let owner = AccountKey::from_bytes(&[1; 32]).expect("one is a valid key");
        let genesis = Genesis {
            chain_id: CHAIN_ID,
            timestamp: GENESIS_S,
            gas_limit: 30_000_000,
            base_fee_per_gas: 1,
            owner: owner.address(),
            fee_recipient: owner.address(),
            fee_bps: FEE_BPS,
            grace_s: 3_600,
            gln: [(owner.address(), U256::from(u64::MAX)), (requester.address(), U256::from(GAS_MONEY))].into(),
            dollars: [(requester.address(), dollars)].into(),
            minters: BTreeMap::new(),
            faucet: None,
        };
        let built = genesis.build().expect("a small genesis builds");
        let mut state = MemoryState::default();
        state.apply(0, built.block_hash(), &built.changes);
        let mut ledger = Ledger {
            state,
            head: built.block.header.clone(),
            at: built.addresses,
            owner,
            dollars,
            channels: BTreeMap::new(),
            unpaid: Amount::ZERO,
            now_s: 0,
            accounts: BTreeSet::from([requester.address()]),
        };
        ledger.accounts.insert(ledger.owner.address());
        assert!(ledger.send(requester, ledger.at.dollar, U256::ZERO, dollar::approve(ledger.at.channels, Amount::MAX)));
        ledger
    }

    /// A newcomer gets gas money.
    pub fn greet(&mut self, account: Address) {
        if !self.accounts.insert(account) {
            return;
        }
        let owner = self.owner.clone();
        assert!(self.send(&owner, account, U256::from(GAS_MONEY), Bytes::new()), "the owner is rich");
    }

    /// Puts one transaction into a block of its own. Whether it succeeded.
    fn send(&mut self, from: &AccountKey, to: Address, value: U256, input: Bytes) -> bool {
        let sender = from.address();
        let account = self.state.account(sender).expect("memory can be read").unwrap_or_default();
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: account.nonce,
            gas_limit: 1_000_000,
            max_fee_per_gas: 1_000_000,
            max_priority_fee_per_gas: 0,
            to: to.into(),
            value,
            access_list: Default::default(),
            input,
        };
        let signature = from.sign(&tx.signature_hash());
        let parity = signature.0[64] == 28;
        let signature = alloy_primitives::Signature::from_bytes_and_parity(&signature.0[..64], parity);
        let tx = TxEnvelope::from(tx.into_signed(signature));
        let timestamp = self.now_s.max(self.head.timestamp + 1);
        let proposal =
            Proposal { chain_id: CHAIN_ID, timestamp, beneficiary: self.owner.address(), bytes_max: 1 << 20 };
        let built = build_block(&self.state, &self.head, &proposal, [(&tx, sender)]).expect("a sound block builds");
        let hash = built.block.header.hash_slow();
        self.state.apply(built.block.header.number, hash, &built.executed.changes);
        self.head = built.block.header;
        built.executed.tx_receipts.first().is_some_and(TxReceipt::status)
    }

    fn ask(&self, to: Address, data: Bytes) -> Bytes {
        let request = CallRequest { to: Some(to), data, ..CallRequest::default() };
        call(&self.state, CHAIN_ID, &self.head, &request, &Overrides::new()).expect("memory can be read").output
    }

    /// Opens a channel that `payer` pays and signs for.
    pub fn open(
        &mut self,
        payer: &AccountKey,
        payee: Address,
        node: NodeId,
        deposit: Amount,
        salt: B256,
    ) -> Result<ChannelId, LedgerError> {
        let open = Open { payee, node, token: self.at.dollar, deposit, signer: payer.address(), salt };
        let id = channels::id(&domain(), payer.address(), &open);
        if self.channel(id).is_some() {
            return Ok(id);
        }
        self.pay_in(payer, deposit, channels::open(&open))?;
        self.check(id);
        Ok(id)
    }

    /// Raises a channel's deposit to `deposit`; gives what it is then.
    pub fn top_up(&mut self, payer: &AccountKey, id: ChannelId, deposit: Amount) -> Result<Amount, LedgerError> {
        let before = self.channel(id).map(|view| view.deposit).ok_or(LedgerError::Refused)?;
        let more = deposit.saturating_sub(before);
        if more > Amount::ZERO {
            self.pay_in(payer, more, channels::top_up(id, more))?;
        }
        self.check(id);
        Ok(before.saturating_add(more))
    }

    fn pay_in(&mut self, payer: &AccountKey, amount: Amount, input: Bytes) -> Result<(), LedgerError> {
        if self.send(payer, self.at.channels, U256::ZERO, input) {
            Ok(())
        } else if self.balance(payer.address()) < amount {
            Err(LedgerError::NoFunds)
        } else {
            Err(LedgerError::Refused)
        }
    }

    /// Cashes a voucher; gives what is settled altogether.
    pub fn settle(&mut self, payee: &AccountKey, voucher: &Signed<Voucher>) -> Result<Amount, LedgerError> {
        let id = voucher.paper.channel;
        let channels = self.at.channels;
        if !self.send(payee, channels, U256::ZERO, channels::settle(std::slice::from_ref(voucher))) {
            return Err(LedgerError::Refused);
        }
        self.check(id);
        self.channel(id).map(|view| view.settled).ok_or(LedgerError::Refused)
    }

    /// The payer's next step towards having the rest of the deposit back; when the step after it is due, if there is one.
    pub fn close(&mut self, payer: &AccountKey, id: ChannelId) -> Option<u64> {
        let at = self.at.channels;
        let channel = self.channels.get(&id)?;
        let step = match channel.close_at_s {
            0 => channels::request_close(id),
            close_at_s if self.now_s < close_at_s => return Some(close_at_s * 1_000),
            _ => channels::close(id),
        };
        assert!(self.send(payer, at, U256::ZERO, step), "a due step of closing fails");
        self.check(id);
        self.channels.get(&id).map(|channel| channel.close_at_s * 1_000)
    }

    /// It is that late, Unix seconds.
    pub fn set_time(&mut self, now_s: u64) {
        self.now_s = now_s;
    }

    fn read(&self, id: ChannelId) -> Option<channels::Channel> {
        let answer = self.ask(self.at.channels, channels::get(id));
        channels::decode(&answer).expect("the contract answers in its own words")
    }

    /// The channel as it stands.
    pub fn channel(&self, id: ChannelId) -> Option<ChannelView> {
        let channel = self.channels.get(&id)?;
        Some(ChannelView {
            payer: channel.payer,
            payee: channel.payee,
            signer: channel.signer,
            deposit: channel.deposit,
            settled: channel.settled,
            closing: channel.closing,
        })
    }

    /// An account's dollars.
    pub fn balance(&self, account: Address) -> Amount {
        let word = self.ask(self.at.dollar, dollar::balance_of(account));
        Amount::from_units(U256::from_be_slice(&word).to()).expect("no balance is above the supply")
    }

    /// After a call about one channel: the contract holds what its channels have not paid out.
    fn check(&mut self, id: ChannelId) {
        let unpaid = |channel: &channels::Channel| channel.deposit.saturating_sub(channel.settled);
        let before = self.channels.remove(&id);
        self.channels.extend(self.read(id).map(|channel| (id, channel)));
        let after = self.channels.get(&id);
        self.unpaid = self.unpaid.saturating_sub(before.as_ref().map_or(Amount::ZERO, unpaid));
        self.unpaid = self.unpaid.saturating_add(after.map_or(Amount::ZERO, unpaid));
        let held = self.balance(self.at.channels);
        assert_eq!(held, self.unpaid, "7: the contract holds more or less than its channels");
    }

    /// Every dollar of the genesis is somewhere.
    pub fn check_sum(&self) {
        let held: Amount = self.accounts.iter().map(|account| self.balance(*account)).sum();
        let sum = held.saturating_add(self.balance(self.at.channels));
        assert_eq!(sum, self.dollars, "7: money appeared or vanished on the ledger");
    }
}
