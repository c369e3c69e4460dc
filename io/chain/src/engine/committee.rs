//! Who votes, epoch by epoch.
//!
//! A consensus_epoch is a fixed run of blocks with one committee. Today every epoch has the members that the network was
//! started with; growing means that [`Committee::at`] reads them from the staking contract at the epoch's first
//! block, and nothing else in this crate changes.
//!
//! Votes are secp256r1 signatures: attributable, and the EVM verifies them cheaply (P256VERIFY), so a future
//! contract can slash a double vote without a new precompile.

use std::net::SocketAddr;
use std::sync::Arc;

use commonware_codec::{Copying, DecodeExt, Encode};
use commonware_consensus::simplex::scheme::secp256r1;
use commonware_consensus::types::Epoch;
use commonware_cryptography::Signer;
use commonware_cryptography::certificate::{Provider, Scoped};
use commonware_cryptography::secp256r1::standard::PrivateKey;
use commonware_math::algebra::Random;
use commonware_utils::ordered::BiMap;

/// A validator's public key; also its identity on the validators' network.
pub(super) type PublicKey = commonware_cryptography::secp256r1::standard::PublicKey;

/// How votes are signed and certificates checked.
pub(super) type Scheme = secp256r1::Scheme<PublicKey>;

/// Separates our votes from every other use of the key.
const NAMESPACE: &[u8] = b"gleaner/ledger/1";

/// The committees of all epochs, and our own key in them.
#[derive(Clone)]
pub(super) struct Committee {
    key: PrivateKey,
    members: Arc<[Member]>,
}

/// Who votes, and where it listens.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: PublicKey,
    pub(super) addr: SocketAddr,
}

impl Committee {
    /// The committee of these members in the eyes of one of them, or of a bystander.
    pub(super) fn new(key: PrivateKey, members: Vec<Member>) -> Self {
        Self { key, members: members.into() }
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

/// Reads a validator's public key, compressed; `None` when the bytes are not a point of the curve.
pub(super) fn decode_public(key: &[u8]) -> Option<PublicKey> {
    PublicKey::decode(Copying(key)).ok()
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
