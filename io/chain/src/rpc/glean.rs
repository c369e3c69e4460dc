//! The `glean_` methods: what a Gleaner node needs and Ethereum has no word for.
//!
//! The faucet of a private network grants each account once. Whether it did is read from the chain itself: an
//! account that was ever granted, or ever paid, has coins or a nonce. So a repeated request, even after a crash
//! between the two transactions, ends in the same state and is told so.

use std::time::Duration;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U64, U256};
use alloy_rpc_types_eth::TransactionRequest;
use glean_ledger::{Addresses, Faucet as Terms, State as _, channels, dollar};
use glean_types::{AccountKey, Amount, ChannelId};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::call::Pretence;
use super::error::RpcError;
use super::{Answer, Params, Shared, json};
use crate::OpenError;

/// Gas for a mint, with room.
const MINT_GAS: u64 = 200_000;
/// What the faucet offers above the base fee.
const TIP: u128 = 1_000_000;
/// Longest wait for both transactions of a grant.
const GRANT_WAIT: Duration = Duration::from_secs(30);

/// The account that grants, one grant at a time so that its nonces have no gaps.
pub(super) struct Faucet {
    key: AccountKey,
    terms: Terms,
    turn: Mutex<()>,
}

impl Faucet {
    /// The faucet that the genesis promises; `secret` must be its account's.
    pub(super) fn new(secret: &[u8; 32], terms: Terms) -> Result<Self, OpenError> {
        let key = AccountKey::from_bytes(secret).map_err(|_| OpenError::BadKey("faucet"))?;
        if key.address() != terms.account {
            return Err(OpenError::OtherFaucet { found: key.address(), expected: terms.account });
        }
        Ok(Self { key, terms, turn: Mutex::new(()) })
    }

    fn sign(&self, tx: TxEip1559) -> Bytes {
        let raw = self.key.sign(&tx.signature_hash()).0;
        let (scalars, v) = raw.split_at(64);
        let signature = Signature::from_bytes_and_parity(scalars, v == [28]);
        TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718().into()
    }
}

impl Shared {
    /// Dispatches the methods that need no waiting.
    pub(super) fn glean(&self, method: &str, params: &Params) -> Answer {
        match method {
            "glean_genesis" => self.genesis_view(),
            "glean_channel" => self.channel(params),
            "glean_status" => self.status(),
            _ => Err(RpcError::unknown_method(method)),
        }
    }

    fn genesis_view(&self) -> Answer {
        let genesis = self.keeper.genesis();
        Ok(json!({
            "genesis": json(genesis)?,
            "hash": self.keeper.genesis_block().hash(),
            "chainId": U64::from(self.keeper.chain_id()),
            "addresses": json(Addresses::standard())?,
        }))
    }

    fn status(&self) -> Answer {
        let head = self.keeper.head();
        Ok(json!({
            "chainId": U64::from(self.keeper.chain_id()),
            "genesis": self.keeper.genesis_block().hash(),
            "head": { "number": U64::from(head.number()), "hash": head.hash(), "timestamp": U64::from(head.header().timestamp) },
            "pool": U64::from(self.keeper.pool().len()),
            "validators": U64::from(1),
            "faucet": self.faucet.as_ref().map(|faucet| faucet.key.address()),
            "failure": *self.keeper.failure().borrow(),
        }))
    }

    /// All fields of a channel; null when there is none.
    fn channel(&self, params: &Params) -> Answer {
        let id = ChannelId(params.get::<B256>(0)?.0);
        let contract = Addresses::standard().channels;
        let request = TransactionRequest::default().to(contract).input(channels::get(id).into());
        let answer = self.run_call(&self.keeper.latest(), request, Pretence::default())?;
        let channel = channels::decode(&answer).map_err(RpcError::internal)?;
        Ok(channel.map_or(Value::Null, |channel| {
            json!({
                "id": B256::new(id.0),
                "payer": channel.payer,
                "payee": channel.payee,
                "signer": channel.signer,
                "token": channel.token,
                "deposit": U256::from(channel.deposit.units()),
                "settled": U256::from(channel.settled.units()),
                "closing": channel.closing,
                "closeAt": U64::from(channel.close_at_s),
                "feeBps": U64::from(channel.fee_bps),
            })
        }))
    }

    /// Grants coins and gUSD to an account that never had any, and waits until both are final.
    pub(super) async fn grant(&self, params: &Params) -> Answer {
        params.at_most(1)?;
        let account = params.address(0)?;
        let Some(faucet) = &self.faucet else {
            return Err(RpcError::refused("this network has no faucet"));
        };
        let _turn = faucet.turn.lock().await;
        let current = self.keeper.latest().account(account).map_err(RpcError::internal)?;
        if current.is_some_and(|current| current.nonce > 0 || !current.balance.is_zero()) {
            return Ok(json!({ "granted": false, "transactions": [] }));
        }
        // Dollars first: the coins mark the grant as done, so a crash in between is made good by asking again.
        let hashes = [self.grant_dollars(faucet, account)?, self.grant_coins(faucet, account)?];
        let waiting = async {
            for hash in hashes {
                self.wait_until_final(hash).await?;
            }
            Ok::<_, RpcError>(())
        };
        tokio::time::timeout(GRANT_WAIT, waiting)
            .await
            .map_err(|_| RpcError::refused("the grant was sent but is not final yet"))??;
        Ok(json!({
            "granted": true,
            "gln": faucet.terms.gln,
            "gusd": U256::from(faucet.terms.dollars.units()),
            "transactions": hashes,
        }))
    }

    fn grant_dollars(&self, faucet: &Faucet, account: Address) -> Result<B256, RpcError> {
        let held = self.dollars_of(account)?;
        let amount = faucet.terms.dollars.saturating_sub(held);
        let token = Addresses::standard().dollar;
        self.send_from(faucet, token, U256::ZERO, MINT_GAS, dollar::mint(account, amount))
    }

    fn grant_coins(&self, faucet: &Faucet, account: Address) -> Result<B256, RpcError> {
        self.send_from(faucet, account, faucet.terms.gln, 21_000, Bytes::new())
    }

    /// gUSD an account holds.
    fn dollars_of(&self, account: Address) -> Result<Amount, RpcError> {
        let token = Addresses::standard().dollar;
        let request = TransactionRequest::default().to(token).input(dollar::balance_of(account).into());
        let answer = self.run_call(&self.keeper.latest(), request, Pretence::default())?;
        let units = U256::try_from_be_slice(&answer).unwrap_or_default();
        Ok(Amount::from_units(units.saturating_to()).unwrap_or(Amount::MAX))
    }

    fn send_from(
        &self,
        faucet: &Faucet,
        to: Address,
        value: U256,
        gas_limit: u64,
        input: Bytes,
    ) -> Result<B256, RpcError> {
        let sender = faucet.key.address();
        let account = self.keeper.latest().account(sender).map_err(RpcError::internal)?;
        let nonce = account.map_or(0, |account| account.nonce);
        let tx = TxEip1559 {
            chain_id: self.keeper.chain_id(),
            nonce: self.keeper.pool().next_nonce(sender, nonce),
            gas_limit,
            max_fee_per_gas: u128::from(self.keeper.next_base_fee()) * 2 + TIP,
            max_priority_fee_per_gas: TIP,
            to: TxKind::Call(to),
            value,
            input,
            ..TxEip1559::default()
        };
        Ok(self.keeper.submit(&faucet.sign(tx))?)
    }

    /// Waits for a transaction's block; an error when it failed there.
    async fn wait_until_final(&self, hash: B256) -> Result<(), RpcError> {
        let mut heads = self.keeper.watch_head();
        loop {
            if let Some(receipt) = self.tx_receipt(hash)? {
                let done = receipt.inner.is_success();
                return if done { Ok(()) } else { Err(RpcError::refused("the grant was reverted")) };
            }
            heads.changed().await.map_err(|_| RpcError::internal("the node is stopping"))?;
        }
    }
}
