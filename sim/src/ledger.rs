//! The ledger as the brain sees it: channels, claims, balances.

use std::collections::BTreeMap;

use glean_protocol::ChannelView;
use glean_types::{Address, Amount, ChannelId, Domain, Hash, Signed, Voucher};

/// Why the ledger refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerError {
    /// The payer's balance does not cover it.
    NoFunds,
    /// No such channel, or closed, or not the caller's.
    BadChannel,
    /// The voucher's signature is not the channel's signer's.
    BadSignature,
}

/// What a world needs of a ledger. Amounts never appear or vanish: `supply` is checked after every call.
pub trait Ledger {
    /// Credits from the faucet.
    fn grant(&mut self, account: Address, amount: Amount);
    /// Opens a channel that `payer` pays and signs for.
    fn open(&mut self, payer: Address, payee: Address, deposit: Amount) -> Result<ChannelId, LedgerError>;
    /// Raises a channel's deposit to `deposit`.
    fn top_up(&mut self, payer: Address, id: ChannelId, deposit: Amount) -> Result<Amount, LedgerError>;
    /// Cashes a voucher; gives what is settled altogether.
    fn settle(&mut self, voucher: &Signed<Voucher>) -> Result<Amount, LedgerError>;
    /// The payer asks for the rest of the deposit.
    fn request_close(&mut self, payer: Address, id: ChannelId) -> Result<(), LedgerError>;
    /// The channel as it stands.
    fn channel(&self, id: ChannelId) -> Option<ChannelView>;
    /// An account's balance.
    fn balance(&self, account: Address) -> Amount;
    /// All balances and all money in channels.
    fn held(&self) -> Amount;
    /// Everything ever granted.
    fn supply(&self) -> Amount;
}

/// A model of the Channels contract: the same rules without the EVM.
#[derive(Debug)]
pub struct ModelLedger {
    domain: Domain,
    balances: BTreeMap<Address, Amount>,
    channels: BTreeMap<ChannelId, ChannelView>,
    opened: u64,
    supply: Amount,
}

impl ModelLedger {
    /// An empty ledger.
    pub fn new(domain: Domain) -> ModelLedger {
        let (balances, channels) = (BTreeMap::new(), BTreeMap::new());
        ModelLedger { domain, balances, channels, opened: 0, supply: Amount::ZERO }
    }

    fn take(&mut self, account: Address, amount: Amount) -> Result<(), LedgerError> {
        let balance = self.balances.entry(account).or_default();
        *balance = balance.checked_sub(amount).ok_or(LedgerError::NoFunds)?;
        Ok(())
    }

    fn give(&mut self, account: Address, amount: Amount) {
        let balance = self.balances.entry(account).or_default();
        *balance = balance.checked_add(amount).expect("no balance exceeds the supply");
    }
}

impl Ledger for ModelLedger {
    fn grant(&mut self, account: Address, amount: Amount) {
        self.give(account, amount);
        self.supply = self.supply.checked_add(amount).expect("faucets are small");
    }

    fn open(&mut self, payer: Address, payee: Address, deposit: Amount) -> Result<ChannelId, LedgerError> {
        self.take(payer, deposit)?;
        self.opened += 1;
        let id = ChannelId(Hash::of(&glean_types::encode(&(payer.0.0, payee.0.0, self.opened))).0);
        let view = ChannelView { payer, payee, signer: payer, deposit, settled: Amount::ZERO, closing: false };
        self.channels.insert(id, view);
        Ok(id)
    }

    fn top_up(&mut self, payer: Address, id: ChannelId, deposit: Amount) -> Result<Amount, LedgerError> {
        let view = self.channels.get(&id).filter(|view| view.payer == payer).ok_or(LedgerError::BadChannel)?;
        let more = deposit.saturating_sub(view.deposit);
        self.take(payer, more)?;
        let view = self.channels.get_mut(&id).ok_or(LedgerError::BadChannel)?;
        view.deposit = view.deposit.max(deposit);
        Ok(view.deposit)
    }

    fn settle(&mut self, voucher: &Signed<Voucher>) -> Result<Amount, LedgerError> {
        let view = self.channels.get_mut(&voucher.paper.channel).ok_or(LedgerError::BadChannel)?;
        voucher.check(&self.domain, view.signer).map_err(|_| LedgerError::BadSignature)?;
        let total = voucher.paper.cumulative.min(view.deposit);
        let more = total.saturating_sub(view.settled);
        view.settled = view.settled.max(total);
        let (payee, settled) = (view.payee, view.settled);
        self.give(payee, more);
        Ok(settled)
    }

    fn request_close(&mut self, payer: Address, id: ChannelId) -> Result<(), LedgerError> {
        let view = self.channels.get_mut(&id).filter(|view| view.payer == payer).ok_or(LedgerError::BadChannel)?;
        view.closing = true;
        Ok(())
    }

    fn channel(&self, id: ChannelId) -> Option<ChannelView> {
        self.channels.get(&id).cloned()
    }

    fn balance(&self, account: Address) -> Amount {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    fn held(&self) -> Amount {
        let in_channels = self.channels.values().map(|view| view.deposit.saturating_sub(view.settled));
        self.balances.values().copied().chain(in_channels).sum()
    }

    fn supply(&self) -> Amount {
        self.supply
    }
}
