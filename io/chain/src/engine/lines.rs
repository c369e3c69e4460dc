//! The lines between validators: one channel for each kind of message, each narrowed to what it carries.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use commonware_consensus::types::Epoch;
use commonware_cryptography::ChaCha20Poly1305;
use commonware_cryptography::secp256r1::standard::PrivateKey;
use commonware_p2p::authenticated::lookup::{self, Oracle};
use commonware_p2p::{Address, AddressableManager, Blocker, Provider, Receiver, Sender};
use commonware_runtime::Quota;
use commonware_runtime::tokio::Context as Runtime;
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::ordered::Map;
use commonware_utils::{NZU32, NZUsize};

use super::committee::{Member, PublicKey};
use super::ground::Ground;
use crate::block::BLOCK_BYTES_MAX;

/// Identities per peer set. It sizes queues, so it is a limit, not a wish.
pub(super) const PEERS_MAX: NonZeroUsize = NZUsize!(32);
/// Messages that wait for one of the engine's actors.
pub(super) const MAILBOX_SIZE: NonZeroUsize = NZUsize!(256);
/// Largest message: a block and the certificate that travels with it.
pub(super) const MESSAGE_BYTES_MAX: u32 = BLOCK_BYTES_MAX as u32 + 64 * 1024;

/// Sending and receiving half of each channel.
pub(super) struct Channels<S, R> {
    pub(super) votes: (S, R),
    pub(super) certificates: (S, R),
    pub(super) resolver: (S, R),
    pub(super) blocks: (S, R),
    pub(super) fetches: (S, R),
    pub(super) transactions: (S, R),
}

/// How the members of an epoch reach each other.
pub(super) trait Lines<E: Ground>: Send + Sync + Sized {
    /// Who is there.
    type Peers: Provider<PublicKey = PublicKey>;
    /// Whom nobody hears any more.
    type Blocker: Blocker<PublicKey = PublicKey>;
    /// A channel's sending half.
    type Sender: Sender<PublicKey = PublicKey>;
    /// A channel's receiving half.
    type Receiver: Receiver<PublicKey = PublicKey>;

    /// Opens all channels for one epoch.
    fn open(&self, context: E, epoch: Epoch, members: &[Member]) -> impl Future<Output = Opened<E, Self>> + Send;
}

/// What is known of the peers, how to block one, and the channels.
pub(super) type Opened<E, L> =
    (<L as Lines<E>>::Peers, <L as Lines<E>>::Blocker, Channels<<L as Lines<E>>::Sender, <L as Lines<E>>::Receiver>);

/// What a validator may send its peers a second, by channel, in the channels' order.
pub(super) fn quota() -> Quota {
    Quota::per_second(NZU32!(128))
}

/// Transactions come one by one.
pub(super) fn transactions_quota() -> Quota {
    Quota::per_second(NZU32!(2_048))
}

/// The real ones: authenticated and encrypted TCP.
pub(super) struct Tcp {
    pub(super) key: PrivateKey,
    pub(super) listen: SocketAddr,
}

impl Tcp {
    /// With a committee of one there are no peers, and the system picks a loopback port.
    pub(super) fn alone(key: PrivateKey) -> Self {
        Self { key, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    }

    fn config(&self) -> lookup::Config<Cups<Sake<PrivateKey>, ChaCha20Poly1305>> {
        let handshake = Cups::new(
            Sake {
                signer: self.key.clone(),
                synchrony_bound: Duration::from_secs(5),
                max_handshake_age: Duration::from_secs(10),
                version: sake::Version::V1,
            },
            cups::Version::V1,
        );
        let mut config = lookup::Config::recommended(
            handshake,
            b"gleaner/validators/1",
            self.listen,
            PEERS_MAX,
            MESSAGE_BYTES_MAX,
            MAILBOX_SIZE,
        );
        config.tracked_peer_sets = NZUsize!(2);
        config.allow_private_ips = true;
        // One who comes back is wanted soon, and several may live behind one address. Who is no member is refused whatever
        // the rate.
        config.peer_connection_cooldown = Duration::from_secs(1);
        config.dial_frequency = Duration::from_millis(200);
        config.ping_frequency = Duration::from_secs(5);
        config.allowed_handshake_rate_per_ip = Quota::per_second(NZU32!(16));
        config
    }
}

impl Lines<Runtime> for Tcp {
    type Peers = Oracle<PublicKey>;
    type Blocker = Oracle<PublicKey>;
    type Sender = lookup::Sender<PublicKey, Runtime>;
    type Receiver = lookup::Receiver<PublicKey>;

    async fn open(&self, context: Runtime, epoch: Epoch, members: &[Member]) -> Opened<Runtime, Self> {
        let (mut network, mut oracle) = lookup::Network::new(context, self.config());
        let peers = members.iter().map(|member| (member.key.clone(), Address::from(member.addr)));
        let peers: Map<PublicKey, Address> =
            peers.collect::<Vec<_>>().try_into().expect("members of an epoch are distinct");
        let _ = oracle.track(epoch.get(), peers);
        let mut next = 0..;
        let mut register = |quota| network.register(next.next().expect("there are few"), quota);
        let channels = Channels {
            votes: register(quota()),
            certificates: register(quota()),
            resolver: register(quota()),
            blocks: register(quota()),
            fetches: register(quota()),
            transactions: register(transactions_quota()),
        };
        network.start();
        (oracle.clone(), oracle, channels)
    }
}
