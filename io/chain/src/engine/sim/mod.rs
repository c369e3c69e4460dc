//! Validators under one seed: clock, disk, chance and network are simulated; engine, blocks and ledger are those that ship.
//!
//! ```text
//!   client ── submit, ask again elsewhere ──> keeper ── gossip, proposals, votes ── keeper      4 validators
//!                                               │        links: 25 ms, loss, cuts      │
//!                                          redb in memory                         redb in memory
//! ```
//!
//! A crash ends all tasks of a validator at once; its disk keeps what was written. What real disks forget is the concern of
//! `tests/durability.rs` and of the real processes in `app/cli/tests`.

mod evil;
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use commonware_codec::Encode as _;
use commonware_consensus::types::Epoch;
use commonware_cryptography::Signer as _;
use commonware_cryptography::secp256r1::standard::PrivateKey;
use commonware_p2p::simulated::{self, Link, Network, Oracle};
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Clock as _, Handle, Quota, Spawner as _, Supervisor as _};
use commonware_utils::{NZUsize, Probability};
use glean_ledger::State as _;
use rand_core::Rng as _;
use tokio::sync::{mpsc, watch};

use super::app::write_finals;
use super::committee::{Committee, Member, PEERS_MAX, PublicKey, Validator, decode_key};
use super::ground::Pace;
use super::lines::{CHANNELS, Channels, Lines, MESSAGE_BYTES_MAX, Opened};
use super::session::{End, Session};
use crate::keeper::Keeper;
use crate::store::Store;
use crate::testing::{genesis, key, transfer};

/// Validators of the networks here.
const VALIDATORS: usize = 4;
/// Accounts that send, each one transaction after the other.
const CLIENTS: u8 = 4;
/// After so long without a receipt a client asks another validator.
const CLIENT_PATIENCE: Duration = Duration::from_secs(3);
/// What the network is made to carry.
const LATENCY: Duration = Duration::from_millis(25);
const JITTER: Duration = Duration::from_millis(5);

/// Lines of the simulated network.
#[derive(Clone)]
struct Simulated {
    oracle: Oracle<PublicKey, Context>,
    me: PublicKey,
}

impl Simulated {
    async fn channels(&self) -> Channels<simulated::Sender<PublicKey, Context>, simulated::Receiver<PublicKey>> {
        let control = self.oracle.control(self.me.clone());
        let mut channels = Vec::with_capacity(CHANNELS.len());
        for (number, rate) in (0..).zip(CHANNELS) {
            channels.push(control.register(number, Quota::per_second(rate)).await.expect("the network lives"));
        }
        channels.try_into().unwrap_or_else(|_| unreachable!("as many as there are"))
    }
}

impl Lines<Context> for Simulated {
    type Peers = simulated::Manager<PublicKey, Context>;
    type Blocker = simulated::Control<PublicKey, Context>;
    type Sender = simulated::Sender<PublicKey, Context>;
    type Receiver = simulated::Receiver<PublicKey>;

    async fn open(&self, _: Context, _: Epoch, _: &[Member]) -> Opened<Context, Self> {
        (self.oracle.manager(), self.oracle.control(self.me.clone()), self.channels().await)
    }
}

/// A validator: its ledger, which outlives crashes, and its life, if it has one.
struct Node {
    keeper: Arc<Keeper>,
    life: Option<Handle<()>>,
}

/// How the world is laid.
#[derive(Clone, Copy, Debug)]
struct Ground {
    epoch_blocks: NonZeroU64,
    /// Messages that arrive, of 100.
    arrive_percent: u64,
}

/// See the head of this file.
struct World {
    context: Context,
    oracle: Oracle<PublicKey, Context>,
    ground: Ground,
    keys: Vec<PrivateKey>,
    nodes: Vec<Node>,
}

impl World {
    /// Lays a network of validators, none of which lives yet.
    async fn lay(context: Context, ground: Ground) -> Self {
        let keys: Vec<PrivateKey> = (1..=VALIDATORS as u8).map(|n| decode_key(&[n; 32]).expect("a scalar")).collect();
        let config = simulated::Config {
            max_size: MESSAGE_BYTES_MAX,
            max_peers_per_set: PEERS_MAX,
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(2),
        };
        let peers = keys.iter().map(PrivateKey::public_key);
        let (network, oracle) = Network::new_with_peers(context.child("network"), config, peers).await;
        network.start();
        let nodes = (0..keys.len()).map(|n| Node { keeper: keeper(&keys[n]), life: None }).collect();
        let world = Self { context, oracle, ground, keys, nodes };
        world.join_all().await;
        world
    }

    /// Lets messages pass between all validators.
    async fn join_all(&self) {
        for from in 0..self.keys.len() {
            for to in 0..self.keys.len() {
                self.join(from, to).await;
            }
        }
    }

    fn public(&self, node: usize) -> PublicKey {
        self.keys[node].public_key()
    }

    fn committee(&self, node: usize) -> Committee {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let validator = |key: &PrivateKey| Validator { key: key.public_key().encode().to_vec(), addr };
        let validators: Vec<_> = self.keys.iter().map(validator).collect();
        Committee::new(self.keys[node].clone(), &validators).expect("four keys")
    }

    fn lines(&self, node: usize) -> Simulated {
        Simulated { oracle: self.oracle.clone(), me: self.public(node) }
    }

    /// A number below `below`, from the world's seed.
    fn chance(&mut self, below: usize) -> usize {
        (self.context.next_u64() % below as u64) as usize
    }

    /// Lets messages pass from one validator to another.
    async fn join(&self, from: usize, to: usize) {
        if from != to {
            let success_rate = Probability::new(self.ground.arrive_percent, 100).expect("a share");
            let link = Link { latency: LATENCY, jitter: JITTER, success_rate };
            // One that is there already stays.
            let _ = self.oracle.add_link(self.public(from), self.public(to), link).await;
        }
    }

    /// Lets none pass.
    async fn cut(&self, from: usize, to: usize) {
        // One that was never there is as good.
        let _ = self.oracle.remove_link(self.public(from), self.public(to)).await;
    }

    /// Starts a validator on what its disk holds.
    fn start(&mut self, node: usize) {
        let lines = self.lines(node);
        let context = self.context.child("validator").with_attribute("number", node);
        self.nodes[node].life =
            Some(self.live(context, node, self.nodes[node].keeper.clone(), lines, format!("{node}-")));
    }

    /// A validator's life: epoch after epoch until it is ended.
    fn live<L: Lines<Context> + 'static>(
        &self,
        context: Context,
        node: usize,
        keeper: Arc<Keeper>,
        lines: L,
        prefix: String,
    ) -> Handle<()> {
        let (committee, epoch_blocks) = (self.committee(node), self.ground.epoch_blocks);
        let lines = Arc::new(lines);
        context.spawn(move |context| async move {
            let (finals, queue) = mpsc::unbounded_channel();
            let (height, seen) = watch::channel(keeper.head_number());
            let (_stop, stopped) = watch::channel(false);
            context.child("writer").spawn({
                let keeper = keeper.clone();
                move |_| write_finals(keeper, queue, height)
            });
            loop {
                let session = Session {
                    keeper: keeper.clone(),
                    committee: committee.clone(),
                    epoch_blocks,
                    pace: Pace::Company,
                    patience: Duration::from_secs(1),
                    finals: finals.clone(),
                    height: seen.clone(),
                    prefix: prefix.clone(),
                };
                let (lines, mut stopped) = (lines.clone(), stopped.clone());
                // Its end ends all that it started.
                let epoch = context.child("epoch");
                let epoch =
                    epoch.spawn(move |context| async move { session.drive(&context, &*lines, &mut stopped).await });
                match epoch.await {
                    Ok(End::EpochOver) => keeper.forget_unfinalised(),
                    end => {
                        keeper.fail(format!("{end:?}"));
                        return;
                    }
                }
            }
        })
    }

    /// Ends a validator without a word.
    fn crash(&mut self, node: usize) {
        if let Some(life) = self.nodes[node].life.take() {
            life.abort();
            self.nodes[node].keeper.forget_unfinalised();
        }
    }

    /// Somebody who sends one transaction after the other, each to a validator that lives, and asks another one when no
    /// receipt comes. Says how long each took, ms.
    fn client(&self, number: u8, keepers: Vec<Arc<Keeper>>) -> mpsc::UnboundedReceiver<u64> {
        let (told, receipts) = mpsc::unbounded_channel();
        let context = self.context.child("client").with_attribute("number", number);
        context.spawn(move |mut context| async move {
            for nonce in 0.. {
                let (raw, start) = (transfer(number, nonce), context.current());
                while !is_final(&keepers, number, nonce) {
                    let keeper = &keepers[context.next_u64() as usize % keepers.len()];
                    // Known already, or its nonce is used: both are what we want.
                    let _ = keeper.submit(&raw);
                    let asked = context.current();
                    while !is_final(&keepers, number, nonce)
                        && context.current().duration_since(asked).is_ok_and(|waited| waited < CLIENT_PATIENCE)
                    {
                        context.sleep(Duration::from_millis(5)).await;
                    }
                }
                let took = context.current().duration_since(start).unwrap_or_default();
                if told.send(took.as_millis() as u64).is_err() {
                    return;
                }
            }
        });
        receipts
    }
}

/// Heights at which two of these ledgers hold different final blocks.
fn forks(keepers: &[&Keeper]) -> Vec<u64> {
    let most = keepers.iter().map(|keeper| keeper.head_number()).max().unwrap_or(0);
    let differ = |height: &u64| {
        let mut hashes: Vec<B256> = keepers.iter().filter_map(|keeper| keeper.block_hash(*height)).collect();
        hashes.dedup();
        hashes.len() > 1
    };
    (0..=most).filter(differ).collect()
}

fn keeper(key: &PrivateKey) -> Arc<Keeper> {
    let name = key.public_key().to_string();
    Arc::new(Keeper::open(Store::in_memory(), genesis(CLIENTS), name.as_bytes()).expect("an empty store opens"))
}

/// Whether any of these has the transaction in a final block.
fn is_final(keepers: &[Arc<Keeper>], client: u8, nonce: u64) -> bool {
    let account = key(client).address();
    keepers.iter().any(|keeper| {
        let account = keeper.latest().account(account).expect("memory is no disk");
        account.is_some_and(|account| account.nonce > nonce)
    })
}
