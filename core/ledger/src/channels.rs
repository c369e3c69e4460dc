//! Calldata for the Channels contract, its ids, and what its answers mean.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue};
use glean_types::{Amount, ChannelId, Domain, NodeId, Signed, Voucher};

use crate::contracts::Channels as sol;
use crate::dollar::uint96;

/// A channel as the contract holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Whose deposit it is and who gets the rest back.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// Whose vouchers count.
    pub signer: Address,
    /// All that was ever put in.
    pub deposit: Amount,
    /// Of it, paid out so far, the fee included.
    pub settled: Amount,
    /// Whether the payer asked to close it.
    pub closing: bool,
    /// When anyone may close it, Unix seconds; 0 while nobody asked.
    pub close_at_s: u64,
    /// The token it pays in.
    pub token: Address,
    /// The fee that every payout loses, in hundredths of a per cent.
    pub fee_bps: u16,
}

/// What a channel is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Who is paid.
    pub payee: Address,
    /// The machine that works for it.
    pub node: NodeId,
    /// The token.
    pub token: Address,
    /// The deposit.
    pub deposit: Amount,
    /// Whose vouchers count.
    pub signer: Address,
    /// Anything: makes the id unique.
    pub salt: B256,
}

impl Open {
    fn to_sol(self) -> sol::Opening {
        sol::Opening {
            payee: self.payee,
            node: self.node.into(),
            token: self.token,
            deposit: uint96(self.deposit),
            signer: self.signer,
            salt: self.salt,
        }
    }
}

/// The answer to [`get`] is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Channels contract answered something else than a channel: {0}")]
pub struct NotAChannel(String);

/// Asks for a channel; [`decode`] reads the answer.
pub fn get(id: ChannelId) -> Bytes {
    sol::getCall { channel: id.into() }.abi_encode().into()
}

/// The answer to [`get`]: `None` when there is no such channel, or no more.
pub fn decode(answer: &[u8]) -> Result<Option<Channel>, NotAChannel> {
    let c = sol::getCall::abi_decode_returns_validate(answer).map_err(|e| NotAChannel(e.to_string()))?;
    let amount = |units: alloy_primitives::aliases::U96| {
        Amount::from_units(units.to::<u128>()).ok_or_else(|| NotAChannel("amount above 2^96".into()))
    };
    if c.payer.is_zero() {
        return Ok(None);
    }
    Ok(Some(Channel {
        payer: c.payer,
        payee: c.payee,
        signer: c.signer,
        deposit: amount(c.deposit)?,
        settled: amount(c.settled)?,
        closing: c.closeAt != 0,
        close_at_s: c.closeAt,
        token: c.token,
        fee_bps: c.feeBps,
    }))
}

/// What to look for in the logs of the Channels contract: all that `payer` has ever opened; [`decode_opened`] reads each.
pub fn opened_by(payer: Address) -> [Option<B256>; 3] {
    [Some(sol::Opened::SIGNATURE_HASH), None, Some(payer.into_word())]
}

/// A log of an opening: the channel, and the machine it was opened for.
pub fn decode_opened(topics: &[B256], data: &[u8]) -> Option<(ChannelId, NodeId)> {
    let opened = sol::Opened::decode_raw_log_validate(topics.iter().copied(), data).ok()?;
    Some((ChannelId(opened.channel.0), NodeId(opened.node.0)))
}

/// The id that `payer` gets by opening this: bound to the chain, the contract, the payer and every argument.
pub fn id(domain: &Domain, payer: Address, open: &Open) -> ChannelId {
    let bound = (
        U256::from(domain.chain_id),
        domain.channels,
        payer,
        open.payee,
        B256::from(open.node),
        open.token,
        U256::from(open.deposit.units()),
        open.signer,
        open.salt,
    );
    ChannelId(keccak256(bound.abi_encode()).0)
}

/// Opens a channel.
pub fn open(open: &Open) -> Bytes {
    sol::openCall { opening: open.to_sol() }.abi_encode().into()
}

/// Opens several at once.
pub fn open_many(opens: &[Open]) -> Bytes {
    sol::openManyCall { openings: opens.iter().map(|o| o.to_sol()).collect() }.abi_encode().into()
}

/// Adds to a deposit.
pub fn top_up(id: ChannelId, amount: Amount) -> Bytes {
    sol::topUpCall { channel: id.into(), amount: uint96(amount) }.abi_encode().into()
}

/// Cashes vouchers. Cheapest when claims of one payee in one token are neighbours.
pub fn settle(vouchers: &[Signed<Voucher>]) -> Bytes {
    let claims = vouchers.iter().map(|signed| sol::Claim {
        channel: signed.paper.channel.into(),
        cumulative: uint96(signed.paper.cumulative),
        signature: Bytes::copy_from_slice(&signed.signature.0),
    });
    sol::settleCall { claims: claims.collect() }.abi_encode().into()
}

/// Asks to close; for the payer.
pub fn request_close(id: ChannelId) -> Bytes {
    sol::requestCloseCall { channel: id.into() }.abi_encode().into()
}

/// Closes; for the payee at any time, for anyone once the grace is over.
pub fn close(id: ChannelId) -> Bytes {
    sol::closeCall { channel: id.into() }.abi_encode().into()
}
