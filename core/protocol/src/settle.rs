//! Money between two nodes: promises that only grow, and the one moment they are cashed.
//!
//! A requester pays by signing *vouchers*. A voucher is not a coin: it says "of this channel's deposit,
//! `cumulative` is yours", and each new one replaces the last. Only the final one reaches the ledger.
//!
//! What must stay true:
//!
//! 1. `promised` only grows and `promised + reserved` never passes the deposit: before a slice goes out its
//!    price cap is reserved, and a voucher is signed only out of a reserve.
//! 2. The same holds for a job's budget ([`Purse`]), so no order of messages can overspend it.
//! 3. A provider has at most one delivered slice unpaid ([`Earnings::may_deliver`]), and works on at most two more
//!    ([`AT_RISK_MAX`]).

use std::sync::Arc;

use glean_types::params::FUEL_PER_TASK;
use glean_types::{AccountKey, Agreement, Amount, ChannelId, Domain, Paper, Signed, Voucher};

/// Slices of one requester that may cost a provider work and are not paid: one delivered, two running or held back. What is
/// held back is worth nothing to the requester, and whoever is checked by a slow machine need not idle for so long.
pub(crate) const AT_RISK_MAX: usize = 3;

/// Money that may be spent at most once: a job's budget, or a channel's deposit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Purse {
    /// The limit.
    pub total: Amount,
    /// Promised in vouchers.
    pub spent: Amount,
    /// Held back for slices under way.
    pub reserved: Amount,
}

impl Purse {
    pub fn new(total: Amount) -> Purse {
        Purse { total, ..Purse::default() }
    }

    /// What is neither spent nor held back.
    pub fn free(&self) -> Amount {
        self.total.saturating_sub(self.spent).saturating_sub(self.reserved)
    }

    /// Holds `price_max` back. Whoever calls has looked at [`Purse::free`] first.
    pub fn reserve(&mut self, price_max: Amount) {
        debug_assert!(price_max <= self.free(), "reserve beyond the purse");
        self.reserved = self.reserved.saturating_add(price_max);
    }

    /// Gives a reserve back.
    pub fn release(&mut self, price_max: Amount) {
        self.reserved = self.reserved.saturating_sub(price_max);
    }

    /// Spends out of a reserve of `price_max`.
    pub fn pay(&mut self, price: Amount, price_max: Amount) {
        assert!(price <= price_max, "a price above its reserve was let through");
        self.release(price_max);
        self.spent = self.spent.saturating_add(price);
    }
}

/// The price of `tasks` tasks that used `fuel` altogether: every task is billed its start as well.
pub(crate) fn price_of(price_per_gfuel: Amount, fuel: u64, tasks: u64) -> Amount {
    let billed = fuel.saturating_add(FUEL_PER_TASK.saturating_mul(tasks));
    price_per_gfuel.price_of(billed).unwrap_or(Amount::MAX)
}

/// How much billed fuel `money` buys.
pub(crate) fn fuel_for(price_per_gfuel: Amount, money: Amount) -> u64 {
    let price = price_per_gfuel.units();
    if price == 0 {
        return u64::MAX;
    }
    // money < 2^96 and 10^9 < 2^30: the product fits u128.
    u64::try_from(money.units() * 1_000_000_000 / price).unwrap_or(u64::MAX)
}

/// The requester's side of a channel.
#[derive(Debug, Clone)]
pub(crate) struct PayChannel {
    pub id: ChannelId,
    pub purse: Purse,
    /// The number of the next slice.
    pub next_slice: u64,
    /// The last promise.
    pub voucher: Option<Signed<Voucher>>,
    /// The terms under our signature.
    pub agreement: Option<Signed<Agreement>>,
    /// The provider's signature on them is in the records.
    pub is_recorded: bool,
    /// The provider agreed in the session that is up now.
    pub agreed: bool,
    /// Closing or refused: never used again.
    pub dead: bool,
    /// A top-up is on its way since then.
    pub funding_since_ms: Option<u64>,
}

impl PayChannel {
    pub fn new(id: ChannelId, deposit: Amount) -> PayChannel {
        PayChannel {
            id,
            purse: Purse::new(deposit),
            next_slice: 0,
            voucher: None,
            agreement: None,
            is_recorded: false,
            agreed: false,
            dead: false,
            funding_since_ms: None,
        }
    }

    pub fn price(&self) -> Amount {
        self.agreement.as_ref().map_or(Amount::MAX, |agreement| agreement.paper.price_per_gfuel)
    }

    /// The next promise, covering `price` out of a reserve of `price_max`.
    pub fn pay(&mut self, price: Amount, price_max: Amount, key: &AccountKey, domain: &Domain) -> Signed<Voucher> {
        self.purse.pay(price, price_max);
        assert!(self.purse.spent <= self.purse.total, "a voucher above the deposit");
        let voucher = Voucher { channel: self.id, cumulative: self.purse.spent }.sign(key, domain);
        self.voucher = Some(voucher);
        voucher
    }
}

/// Why a voucher was not taken. Each case is the other side's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadVoucher {
    /// Not the channel's signer.
    Signature,
    /// No more than what is already promised.
    NotMore,
    /// More than the deposit that the ledger showed us.
    OverDeposit,
}

/// The provider's side of a channel's money.
#[derive(Debug, Clone, Default)]
pub(crate) struct Earnings {
    /// The last promise.
    pub voucher: Option<Signed<Voucher>>,
    /// Prices of everything delivered.
    pub delivered: Amount,
    /// Cashed on the ledger.
    pub settled: Amount,
    /// A claim is on its way since then.
    pub claiming_since_ms: Option<u64>,
}

impl Earnings {
    /// The larger of what we remember and what the ledger has paid out: a voucher that was cashed in a life of ours that a
    /// backup knows nothing of buys nothing a second time.
    pub fn promised(&self) -> Amount {
        self.voucher.as_ref().map_or(Amount::ZERO, |voucher| voucher.paper.cumulative).max(self.settled)
    }

    /// Whether everything delivered is paid: only then may the next slice be delivered.
    pub fn may_deliver(&self) -> bool {
        self.promised() >= self.delivered
    }

    /// Gives up what was delivered and not paid.
    pub fn write_off(&mut self) {
        self.delivered = self.promised();
    }

    pub fn unclaimed(&self) -> Amount {
        self.promised().saturating_sub(self.settled)
    }

    /// Takes a voucher, and says how much more it promises.
    pub fn take(
        &mut self,
        voucher: Signed<Voucher>,
        signer: glean_types::Address,
        deposit: Amount,
        domain: &Domain,
    ) -> Result<Amount, BadVoucher> {
        let had = self.promised();
        if voucher.paper.cumulative <= had {
            return Err(BadVoucher::NotMore);
        }
        if voucher.paper.cumulative > deposit {
            return Err(BadVoucher::OverDeposit);
        }
        voucher.check(domain, signer).map_err(|_| BadVoucher::Signature)?;
        self.voucher = Some(voucher);
        Ok(voucher.paper.cumulative.saturating_sub(had))
    }
}

/// A receipt that several parties of the requester's memory point to.
pub(crate) type SharedReceipt = Arc<Signed<glean_types::Receipt>>;

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::Address;
    use proptest::prelude::*;

    fn domain() -> Domain {
        Domain { chain_id: 7, channels: Address::repeat_byte(0xcc) }
    }

    fn key() -> AccountKey {
        AccountKey::from_bytes(&[7; 32]).unwrap()
    }

    fn units(n: u64) -> Amount {
        Amount::from_units(n.into()).unwrap()
    }

    proptest! {
        /// Whatever order slices go out, come back, get lost or get paid in: nothing is ever overspent.
        #[test]
        fn a_purse_is_never_overdrawn(total in 0u64..10_000, steps in prop::collection::vec((0u8..3, 0u64..4_000, 0u64..4_000), 0..60)) {
            let mut channel = PayChannel::new(ChannelId([1; 32]), units(total));
            let mut open: Vec<Amount> = Vec::new();
            let mut last = Amount::ZERO;
            for (kind, a, b) in steps {
                match kind {
                    0 if units(a) <= channel.purse.free() => {
                        channel.purse.reserve(units(a));
                        open.push(units(a));
                    }
                    1 => if let Some(max) = open.pop() {
                        let price = units(b).min(max);
                        let voucher = channel.pay(price, max, &key(), &domain());
                        prop_assert!(voucher.paper.cumulative >= last);
                        last = voucher.paper.cumulative;
                    },
                    2 => if let Some(max) = open.pop() { channel.purse.release(max); },
                    _ => {}
                }
                let held: Amount = open.iter().copied().sum();
                prop_assert_eq!(channel.purse.reserved, held);
                prop_assert!(channel.purse.spent.saturating_add(held) <= units(total));
            }
        }

        #[test]
        fn money_buys_no_more_fuel_than_it_pays(price in 1u64.., money: u64) {
            let fuel = fuel_for(units(price), units(money));
            prop_assert!(units(price).price_of(fuel).unwrap() <= units(money));
        }
    }

    #[test]
    fn a_provider_takes_only_more_and_never_beyond_the_deposit() {
        let mut earnings = Earnings::default();
        let sign = |n| Voucher { channel: ChannelId([1; 32]), cumulative: units(n) }.sign(&key(), &domain());
        let me = key().address();
        assert_eq!(earnings.take(sign(5), me, units(10), &domain()), Ok(units(5)));
        assert_eq!(earnings.take(sign(5), me, units(10), &domain()), Err(BadVoucher::NotMore));
        assert_eq!(earnings.take(sign(11), me, units(10), &domain()), Err(BadVoucher::OverDeposit));
        assert_eq!(earnings.take(sign(6), Address::ZERO, units(10), &domain()), Err(BadVoucher::Signature));
        // Restored from the past: what the ledger has paid out is not promised again.
        let mut restored = Earnings { settled: units(8), ..earnings.clone() };
        assert_eq!(restored.take(sign(8), me, units(10), &domain()), Err(BadVoucher::NotMore));
        assert_eq!(restored.take(sign(9), me, units(10), &domain()), Ok(units(1)));
        earnings.delivered = units(6);
        assert!(!earnings.may_deliver());
        assert_eq!(earnings.take(sign(6), me, units(10), &domain()), Ok(units(1)));
        assert!(earnings.may_deliver());
    }
}
