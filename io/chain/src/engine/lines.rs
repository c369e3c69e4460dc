//! The lines between validators: one channel for each kind of message, each narrowed to what it carries.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
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

use super::committee::{Committee, Member, PEERS_MAX, PublicKey};
use super::ground::Ground;
use crate::block::BLOCK_BYTES_MAX;

/// Messages that wait for one of the engine's actors.
pub(super) const MAILBOX_SIZE: NonZeroUsize = NZUsize!(256);
/// Largest message: a block and the certificate that travels with it.
pub(super) const MESSAGE_BYTES_MAX: u32 = BLOCK_BYTES_MAX as u32 + 64 * 1024;

/// Sending and receiving half of each channel, by its number on the wire: see [`CHANNELS`].
pub(super) type Channels<S, R> = [(S, R); CHANNELS.len()];

/// What a validator may send its peers a second, by channel: votes, certificates, questions for certificates, blocks,
/// questions for blocks, and transactions, which come one by one.
pub(super) const CHANNELS: [NonZeroU32; 6] =
    [NZU32!(128), NZU32!(128), NZU32!(128), NZU32!(128), NZU32!(128), NZU32!(2_048)];

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

/// The real ones: authenticated and encrypted TCP.
pub(super) struct Tcp {
    key: PrivateKey,
    listen: SocketAddr,
}

impl Tcp {
    /// Those of the committee's member that we are.
    pub(super) fn of(committee: &Committee) -> Self {
        Self { key: committee.key().clone(), listen: committee.listen() }
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
        let mut number = 0..;
        let channels = CHANNELS.map(|rate| {
            let number = number.next().expect("there are few");
            network.register(number, Quota::per_second(rate))
        });
        network.start();
        (oracle.clone(), oracle, channels)
    }
}
