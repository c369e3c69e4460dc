//! The node's side of the ledger: read it, pay through it. Speaks Ethereum JSON-RPC to whoever keeps it.
//!
//! The ledger node asks its own handler; every other node sends the same bytes over QUIC (`glean-rpc/1`). Transactions
//! are signed here and sent one after the other, so nonces never have gaps.

use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use bytes::Bytes as Body;
use glean_chain::RpcHandler;
use glean_ledger::{Genesis, channels, dollar};
use glean_net::{Alpn, Net};
use glean_protocol::ChannelView;
use glean_types::{AccountKey, Amount, ChannelId, NodeId, Signed, Voucher};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::clock::now_ms;
use crate::network::Network;

/// Blocks asked for openings at once: far fewer logs than an answer may hold.
const LOG_BLOCKS: u64 = 1_000;
/// A reply of the ledger is never larger than this.
const REPLY_BYTES_MAX: usize = 8 << 20;
/// One question, one answer, the block included.
const PATIENCE: Duration = Duration::from_secs(20);
/// GLN (gas) that our transactions may use at the most; unused gas costs nothing.
const GAS_MAX: u64 = 3_000_000;

/// The ledger could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The node that keeps it does not answer.
    #[error("the ledger cannot be reached: {0}\nhint: is the host that ran `glean network init` up and reachable?")]
    Unreachable(String),
    /// It answered with an error.
    #[error("the ledger refused {method}: {message}")]
    Refused {
        /// What was asked.
        method: String,
        /// JSON-RPC code.
        code: i64,
        /// In its words.
        message: String,
    },
    /// It answered something we cannot read.
    #[error("the ledger's answer to {method} makes no sense: {why}")]
    Garbage {
        /// What was asked.
        method: String,
        /// What is wrong.
        why: String,
    },
    /// The transaction is in a block and failed there.
    #[error("the ledger executed {what} and reverted it (transaction {tx})")]
    Reverted {
        /// What was tried.
        what: &'static str,
        /// Its hash.
        tx: B256,
    },
}

/// Why a channel has no money.
#[derive(Debug, thiserror::Error)]
pub enum FundError {
    /// Not enough gUSD.
    #[error("the account holds {have} gUSD and the deposit needs {missing} more")]
    NoFunds {
        /// Its balance.
        have: Amount,
        /// What is missing.
        missing: Amount,
    },
    /// Anything else.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

#[derive(Clone)]
enum Source {
    Here(RpcHandler),
    There { net: Net, node: NodeId },
}

/// A node's access to the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    source: Source,
    key: AccountKey,
    node: NodeId,
    network: Network,
    /// Held while a transaction is under way.
    sending: Arc<Mutex<()>>,
}

#[derive(Deserialize)]
struct Reply {
    result: Option<Value>,
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TxReceipt {
    status: U256,
    transaction_hash: B256,
}

#[derive(Deserialize)]
struct Log {
    topics: Vec<B256>,
    data: Bytes,
}

impl Ledger {
    /// The ledger that this very process keeps.
    pub fn here(handler: RpcHandler, key: AccountKey, node: NodeId, network: Network) -> Ledger {
        Ledger { source: Source::Here(handler), key, node, network, sending: Arc::default() }
    }

    /// The ledger that another node keeps.
    pub fn there(net: Net, keeper: NodeId, key: AccountKey, network: Network) -> Ledger {
        let node = net.id();
        Ledger { source: Source::There { net, node: keeper }, key, node, network, sending: Arc::default() }
    }

    /// Our account.
    pub fn account(&self) -> Address {
        self.key.address()
    }

    /// Last final block.
    pub async fn height(&self) -> Result<u64, LedgerError> {
        self.call::<U256>("eth_blockNumber", json!([])).await.map(|n| n.saturating_to())
    }

    /// gUSD in our account.
    pub async fn balance(&self) -> Result<Amount, LedgerError> {
        let data = dollar::balance_of(self.account());
        let word = self.eth_call(self.network.dollar, data).await?;
        Ok(amount(U256::try_from_be_slice(&word).unwrap_or_default()))
    }

    /// GLN in our account.
    pub async fn gas(&self) -> Result<Amount, LedgerError> {
        self.call::<U256>("eth_getBalance", json!([self.account(), "latest"])).await.map(amount)
    }

    /// A private network's gift, once per account.
    pub async fn faucet(&self) -> Result<(), LedgerError> {
        self.call::<Value>("glean_faucet", json!([self.account()])).await.map(drop)
    }

    /// A channel as it stands; `None` when there is none.
    pub async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, LedgerError> {
        Ok(self.raw_channel(id).await?.map(|channel| ChannelView {
            payer: channel.payer,
            payee: channel.payee,
            signer: channel.signer,
            deposit: channel.deposit,
            settled: channel.settled,
            closing: channel.closing,
        }))
    }

    async fn raw_channel(&self, id: ChannelId) -> Result<Option<channels::Channel>, LedgerError> {
        let data = self.eth_call(self.network.domain.channels, channels::get(id)).await?;
        let garbage = |why: String| LedgerError::Garbage { method: "channel".into(), why };
        channels::decode(&data).map_err(|e| garbage(e.to_string()))
    }

    /// Every channel that this account has opened and that is not closed, with its machine and what is left of its deposit: the
    /// ledger's word, whatever a journal remembers.
    pub async fn open_channels(&self) -> Result<Vec<(ChannelId, NodeId, Amount)>, LedgerError> {
        let (head, mut open) = (self.height().await?, Vec::new());
        for from in (0..=head).step_by(LOG_BLOCKS as usize) {
            let to = head.min(from + LOG_BLOCKS - 1);
            let filter = json!({
                "address": self.network.domain.channels, "topics": channels::opened_by(self.account()),
                "fromBlock": format!("{from:#x}"), "toBlock": format!("{to:#x}"),
            });
            for log in self.call::<Vec<Log>>("eth_getLogs", json!([filter])).await? {
                let garbage = || LedgerError::Garbage { method: "eth_getLogs".into(), why: "no opening".into() };
                let (id, node) = channels::decode_opened(&log.topics, &log.data).ok_or_else(garbage)?;
                if let Some(channel) = self.raw_channel(id).await? {
                    open.push((id, node, channel.deposit.saturating_sub(channel.settled)));
                }
            }
        }
        Ok(open)
    }

    /// Opens a channel to a machine and waits until it is final. Sent again with the same salt and deposit it finds the one
    /// that is open.
    pub async fn open_channel(
        &self,
        payee: Address,
        node: NodeId,
        deposit: Amount,
        salt: B256,
    ) -> Result<(ChannelId, Amount), FundError> {
        let open = channels::Open { payee, node, token: self.network.dollar, deposit, signer: self.account(), salt };
        let id = channels::id(&self.network.domain, self.account(), &open);
        if let Some(channel) = self.channel(id).await? {
            return Ok((id, channel.deposit));
        }
        self.approve(deposit).await?;
        self.send("the opening of a channel", self.network.domain.channels, channels::open(&open)).await?;
        Ok((id, deposit))
    }

    /// Raises a channel's deposit to `deposit` altogether.
    pub async fn top_up(&self, channel: ChannelId, deposit: Amount) -> Result<(ChannelId, Amount), FundError> {
        let now = self.channel(channel).await?.map_or(Amount::ZERO, |view| view.deposit);
        let more = deposit.saturating_sub(now);
        if more > Amount::ZERO {
            self.approve(more).await?;
            self.send("a deposit", self.network.domain.channels, channels::top_up(channel, more)).await?;
        }
        Ok((channel, deposit.max(now)))
    }

    /// Cashes a voucher; what its channel has settled afterwards, `None` if there is no such channel any more.
    pub async fn claim(&self, voucher: Signed<Voucher>) -> Result<Option<Amount>, LedgerError> {
        let channel = voucher.paper.channel;
        self.send("a claim", self.network.domain.channels, channels::settle(&[voucher])).await?;
        Ok(self.channel(channel).await?.map(|view| view.settled))
    }

    /// The next step towards having the rest of a deposit back: ask for it, or, when the grace period is over, take it. When
    /// the step after it is due, Unix milliseconds; `None` once the channel is closed. Whatever was sent before, and
    /// however often, the ledger says where it stands.
    pub async fn close_channel(&self, channel: ChannelId) -> Result<Option<u64>, LedgerError> {
        let contract = self.network.domain.channels;
        let due_ms = |found: channels::Channel| found.close_at_s.saturating_mul(1_000);
        let Some(found) = self.raw_channel(channel).await? else { return Ok(None) };
        if found.closing && now_ms() < due_ms(found) {
            return Ok(Some(due_ms(found)));
        }
        let step = if found.closing { channels::close(channel) } else { channels::request_close(channel) };
        self.send("the closing of a channel", contract, step).await?;
        Ok(self.raw_channel(channel).await?.map(due_ms))
    }

    /// The network's first block and rules, to be checked by whoever joins.
    pub async fn genesis(net: &Net, keeper: NodeId) -> Result<Genesis, LedgerError> {
        let source = Source::There { net: net.clone(), node: keeper };
        let reply: Value = ask(&source, "glean_genesis", json!([])).await?;
        let garbage = |why: String| LedgerError::Garbage { method: "glean_genesis".into(), why };
        let genesis = reply.get("genesis").cloned().unwrap_or(reply);
        serde_json::from_value(genesis).map_err(|e| garbage(e.to_string()))
    }

    async fn approve(&self, deposit: Amount) -> Result<(), FundError> {
        let have = self.balance().await?;
        if have < deposit {
            return Err(FundError::NoFunds { have, missing: deposit.saturating_sub(have) });
        }
        let data = dollar::allowance(self.account(), self.network.domain.channels);
        let word = self.eth_call(self.network.dollar, data).await?;
        if amount(U256::try_from_be_slice(&word).unwrap_or_default()) < deposit {
            let all = dollar::approve(self.network.domain.channels, Amount::MAX);
            self.send("an allowance", self.network.dollar, all).await?;
        }
        Ok(())
    }

    async fn eth_call(&self, to: Address, data: Bytes) -> Result<Bytes, LedgerError> {
        self.call("eth_call", json!([{ "to": to, "data": data }, "latest"])).await
    }

    async fn send(&self, what: &'static str, to: Address, input: Bytes) -> Result<(), LedgerError> {
        let _one_at_a_time = self.sending.lock().await;
        let nonce: U256 = self.call("eth_getTransactionCount", json!([self.account(), "pending"])).await?;
        let price: U256 = self.call("eth_gasPrice", json!([])).await?;
        let tx = TxEip1559 {
            chain_id: self.network.domain.chain_id,
            nonce: nonce.saturating_to(),
            gas_limit: GAS_MAX,
            // Twice the price now: the base fee can rise by an eighth per block while we wait.
            max_fee_per_gas: price.saturating_to::<u128>().saturating_mul(2),
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let receipt: TxReceipt = self.call("eth_sendRawTransactionSync", json!([self.sign(tx)])).await?;
        if receipt.status.is_zero() {
            return Err(LedgerError::Reverted { what, tx: receipt.transaction_hash });
        }
        Ok(())
    }

    fn sign(&self, tx: TxEip1559) -> Bytes {
        let signature = self.key.sign(&tx.signature_hash());
        let parity = signature.0[64] == 28;
        let signature = alloy_primitives::Signature::from_bytes_and_parity(&signature.0[..64], parity);
        Bytes::from(TxEnvelope::from(tx.into_signed(signature)).encoded_2718())
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, LedgerError> {
        ask(&self.source, method, params).await
    }

    /// Our own id, bound into channels that pay us.
    pub fn node(&self) -> NodeId {
        self.node
    }
}

async fn ask<T: DeserializeOwned>(source: &Source, method: &str, params: Value) -> Result<T, LedgerError> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let reply = match source {
        Source::Here(handler) => handler.handle(Body::from(body)).await,
        Source::There { net, node } => net
            .request(*node, Alpn::Rpc, body.as_bytes(), REPLY_BYTES_MAX, PATIENCE)
            .await
            .map_err(|e| LedgerError::Unreachable(e.to_string()))?,
    };
    let garbage = |why: String| LedgerError::Garbage { method: method.to_owned(), why };
    let reply: Reply = serde_json::from_slice(&reply).map_err(|e| garbage(e.to_string()))?;
    if let Some(ReplyError { code, message }) = reply.error {
        return Err(LedgerError::Refused { method: method.to_owned(), code, message });
    }
    serde_json::from_value(reply.result.unwrap_or(Value::Null)).map_err(|e| garbage(e.to_string()))
}

/// Whether some bytes are an answer of a ledger node.
pub(crate) fn is_reply(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Reply>(bytes).is_ok()
}

fn amount(units: U256) -> Amount {
    u128::try_from(units).ok().and_then(Amount::from_units).unwrap_or(Amount::MAX)
}
