//! Who votes, epoch by epoch.
//!
//! A consensus_epoch is a fixed run of blocks with one committee. Today every epoch has the members that the network was
//! started with; growing means that [`Committee::at`] reads them from the staking contract at the epoch's first
//! block, and nothing else in this crate changes.
//!
//! Votes are secp256r1 signatures: attributable, and the EVM verifies them cheaply (P256VERIFY), so a future
//! contract can slash a double vote without a new precompile.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use commonware_codec::{Copying, DecodeExt, Encode};
use commonware_consensus::simplex::scheme::secp256r1;
use commonware_consensus::types::Epoch;
use commonware_cryptography::Signer;
use commonware_cryptography::certificate::{Provider, Scoped};
use commonware_cryptography::secp256r1::standard::PrivateKey;
use commonware_math::algebra::Random;
use commonware_utils::NZUsize;
use commonware_utils::ordered::BiMap;

/// A validator's public key; also its identity on the validators' network.
pub(super) type PublicKey = commonware_cryptography::secp256r1::standard::PublicKey;

/// How votes are signed and certificates checked.
pub(super) type Scheme = secp256r1::Scheme<PublicKey>;

/// Validators of one epoch. It sizes queues, so it is a limit, not a wish.
pub(super) const PEERS_MAX: NonZeroUsize = NZUsize!(32);
/// Separates our votes from every other use of the key.
const NAMESPACE: &[u8] = b"gleaner/ledger/1";

/// The committees of all epochs, and our own key in them.
#[derive(Clone)]
pub(crate) struct Committee {
    key: PrivateKey,
    members: Arc<[Member]>,
}

/// One who votes on blocks, as whoever starts a network names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Its secp256r1 public key, compressed: 33 bytes. See [`validator_public_key`](crate::validator_public_key).
    pub key: Vec<u8>,
    /// Where it listens for the others.
    pub addr: SocketAddr,
}

/// The same, understood.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: PublicKey,
    pub(super) addr: SocketAddr,
}

/// Why nobody can vote together like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// A key is none.
    #[error("a validator's key is not a point of secp256r1, compressed to 33 bytes")]
    Key,
    /// One is named twice.
    #[error("a validator's key is named twice")]
    Twice,
    /// This node is not named.
    #[error("this node's own key is not among them")]
    NotOurs,
    /// More than messages can be kept for.
    #[error("there are {0} validators, at most {PEERS_MAX} are possible")]
    TooMany(usize),
}

impl Committee {
    /// The committee of these validators in the eyes of the one whose key this is; of none: of that one alone.
    pub(super) fn new(key: PrivateKey, validators: &[Validator]) -> Result<Self, CommitteeError> {
        let me = Member { key: key.public_key(), addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        if validators.is_empty() {
            return Ok(Self { key, members: [me].into() });
        }
        if validators.len() > PEERS_MAX.get() {
            return Err(CommitteeError::TooMany(validators.len()));
        }
        let mut members: Vec<Member> = Vec::with_capacity(validators.len());
        for Validator { key, addr } in validators {
            let key = PublicKey::decode(Copying(&key[..])).map_err(|_| CommitteeError::Key)?;
            if members.iter().any(|member| member.key == key) {
                return Err(CommitteeError::Twice);
            }
            members.push(Member { key, addr: *addr });
        }
        match members.iter().any(|member| member.key == me.key) {
            true => Ok(Self { key, members: members.into() }),
            false => Err(CommitteeError::NotOurs),
        }
    }

    /// Where we listen; port 0 where nobody else votes: the system picks.
    pub(super) fn listen(&self) -> SocketAddr {
        let me = self.me();
        let ours = self.members.iter().find(|member| member.key == me);
        ours.expect("we are a member").addr
    }

    /// Our signing key.
    pub(super) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Our identity.
    pub(super) fn me(&self) -> PublicKey {
        self.key.public_key()
    }

    /// The members of an epoch.
    pub(super) fn at(&self, _epoch: Epoch) -> &[Member] {
        &self.members
    }

    /// The signing scheme of an epoch: a signer where we are a member, else a verifier.
    pub(super) fn scheme(&self, epoch: Epoch) -> Scheme {
        let members: BiMap<PublicKey, PublicKey> = self
            .at(epoch)
            .iter()
            .map(|member| (member.key.clone(), member.key.clone()))
            .collect::<Vec<_>>()
            .try_into()
            .expect("members of an epoch are distinct");
        Scheme::signer(NAMESPACE, members.clone(), self.key.clone())
            .unwrap_or_else(|| Scheme::verifier(NAMESPACE, members))
    }
}

impl Provider for Committee {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        Some(Scoped::scheme(Arc::new(self.scheme(epoch))))
    }
}

/// Reads a validator's secret; `None` when the bytes are not a scalar of the curve.
pub(super) fn decode_key(secret: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::decode(Copying(&secret[..])).ok()
}

/// The public half of a validator's secret, compressed.
pub(crate) fn public_key(secret: &[u8; 32]) -> Option<Vec<u8>> {
    decode_key(secret).map(|key| key.public_key().encode().to_vec())
}

/// A new validator secret from the system's randomness.
pub(crate) fn new_secret() -> [u8; 32] {
    let key = PrivateKey::random(commonware_utils::sys_rng());
    let mut secret = [0u8; 32];
    secret.copy_from_slice(&key.encode());
    secret
}
