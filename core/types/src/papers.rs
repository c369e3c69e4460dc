//! The signed papers, from a machine's offer to the requester's verdict.
//!
//! ```text
//! provider  Offer ──────────────┐                       what I sell, for how much, until when
//! requester Job ────────────────┤                       what I want done, and my hard cap
//! both      Agreement ──────────┴─ one channel          the price for all slices in this channel
//! provider  Receipt  ── slice 0, 1, 2 ..                these are my answers, and what they cost
//! requester Voucher  ── running total ──> ledger        of the channel's deposit, this much is yours
//! requester Verdict                                     a task of that receipt was wrong: evidence
//! ```
//!
//! All are EIP-712 typed data in one [`Domain`]; field names here and in the contracts are the same.
//! Each type's hash is pinned by a golden test: changing one is a decision, in its own commit.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

use crate::ids::{ChannelId, Hash, JobId, NodeId};
use crate::keys::{AccountKey, BadSignature, Signature};
use crate::{Amount, params};

/// Where papers are valid: one chain, one Channels contract. Replayed anywhere else they mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The Channels contract.
    pub channels: Address,
}

impl Domain {
    fn eip712(&self) -> Eip712Domain {
        Eip712Domain {
            name: Some("Gleaner".into()),
            version: Some("1".into()),
            chain_id: Some(U256::from(self.chain_id)),
            verifying_contract: Some(self.channels),
            salt: None,
        }
    }
}

/// A paper that can be signed.
pub trait Paper: Sized {
    /// The same fields in Solidity's types.
    type Sol: SolStruct;

    /// The paper as the contracts would see it.
    fn to_sol(&self) -> Self::Sol;

    /// The EIP-712 digest that is signed.
    fn digest(&self, domain: &Domain) -> B256 {
        self.to_sol().eip712_signing_hash(&domain.eip712())
    }

    /// Signs the paper.
    fn sign(self, key: &AccountKey, domain: &Domain) -> Signed<Self> {
        let signature = key.sign(&self.digest(domain));
        Signed { paper: self, signature }
    }
}

/// A paper with its signature. Whose it is must be asked: nothing is checked on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<P> {
    /// What was signed.
    pub paper: P,
    /// By whom, see [`Signed::signer`].
    pub signature: Signature,
}

impl<P: Paper> Signed<P> {
    /// Whoever signed.
    pub fn signer(&self, domain: &Domain) -> Result<Address, BadSignature> {
        self.signature.signer(&self.paper.digest(domain))
    }

    /// That `expected` signed.
    pub fn check(&self, domain: &Domain, expected: Address) -> Result<(), BadSignature> {
        self.signature.check(&self.paper.digest(domain), expected)
    }
}

/// The same papers in Solidity's types: their names and order are what EIP-712 hashes.
mod sol {
    alloy_sol_types::sol! {
        struct Offer {
            bytes32 node; address provider; uint64 seq; uint64 issuedMs; uint32 ttlMs;
            uint96 pricePerGfuel; uint32 slots; uint32 slotsFree; uint64 memMax; uint64 mfuelPerS;
            uint64 machine; bytes32 class; string region; bytes32 peer;
        }
        struct Job {
            address requester; bytes32 node; bytes32 program; bytes32 manifest; uint32 tasks;
            uint96 budget; uint64 fuelMax; uint64 memMax; uint64 outputMax; uint32 timeoutMs;
            uint8 class; bytes32 seed; uint64 createdMs;
        }
        struct Agreement {
            bytes32 channel; address requester; bytes32 requesterNode; address provider;
            bytes32 providerNode; uint96 pricePerGfuel; uint64 createdMs;
        }
        struct Receipt {
            bytes32 channel; bytes32 job; uint64 slice; uint32 tasks; bytes32 resultsRoot;
            uint64 fuel; uint96 price; address provider; uint64 issuedMs; uint64 expiryMs;
        }
        struct Voucher { bytes32 channel; uint96 cumulative; }
        struct Verdict {
            bytes32 receipt; uint32 index; bytes32 got; bytes32 expected; uint64 issuedMs;
        }
    }
}

fn uint96(amount: Amount) -> alloy_primitives::aliases::U96 {
    alloy_primitives::aliases::U96::from(amount.units())
}

/// What a machine sells. Kept by index nodes until it expires; a higher `seq` replaces a lower one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Whom to dial.
    pub node: NodeId,
    /// Whom to pay; signs receipts.
    pub provider: Address,
    /// Rises with each offer of this node.
    pub seq: u64,
    /// When it was signed, Unix milliseconds.
    pub issued_ms: u64,
    /// How long it stands, at most [`params::OFFER_TTL_MS_MAX`].
    pub ttl_ms: u32,
    /// gUSD for 10^9 fuel.
    pub price_per_gfuel: Amount,
    /// Tasks it runs at the same time.
    pub slots: u32,
    /// Of these, how many are idle.
    pub slots_free: u32,
    /// Largest guest memory it accepts, bytes.
    pub mem_max: u64,
    /// Its own word on its speed, 10^6 fuel per second and slot. Only a first guess: requesters measure.
    pub mfuel_per_s: u64,
    /// Its machine NFT, 0 for none.
    pub machine: u64,
    /// Determinism class of its engine: machines of one class give the same answers and the same fuel.
    pub class: Hash,
    /// Free text of the owner, at most 32 bytes.
    pub region: String,
    /// Encoded dialling address, at most 1 KiB. Opaque here.
    pub peer: Vec<u8>,
}

impl Offer {
    /// Unix milliseconds, by its owner's clock, at which it stops standing.
    pub fn expires_ms(&self) -> u64 {
        self.issued_ms.saturating_add(u64::from(self.ttl_ms))
    }

    /// Whether it may stand, as far as a clock can tell that need not agree with its owner's: see
    /// [`params::CLOCK_SKEW_MS`]. Whoever hears a new offer lets it stand for its `ttl_ms` from then on.
    pub fn is_current(&self, now_ms: u64) -> bool {
        self.issued_ms <= now_ms.saturating_add(params::CLOCK_SKEW_MS)
            && self.expires_ms().saturating_add(params::CLOCK_SKEW_MS) > now_ms
    }

    /// Whether sizes and times are within what an honest machine would sign.
    pub fn is_sane(&self) -> bool {
        self.ttl_ms <= params::OFFER_TTL_MS_MAX
            && self.region.len() <= 32
            && self.peer.len() <= 1024
            && self.slots_free <= self.slots
            && self.slots <= 4096
    }
}

impl Paper for Offer {
    type Sol = sol::Offer;

    fn to_sol(&self) -> sol::Offer {
        sol::Offer {
            node: self.node.into(),
            provider: self.provider,
            seq: self.seq,
            issuedMs: self.issued_ms,
            ttlMs: self.ttl_ms,
            pricePerGfuel: uint96(self.price_per_gfuel),
            slots: self.slots,
            slotsFree: self.slots_free,
            memMax: self.mem_max,
            mfuelPerS: self.mfuel_per_s,
            machine: self.machine,
            class: self.class.into(),
            region: self.region.clone(),
            peer: Hash::of(&self.peer).into(),
        }
    }
}

/// How far a job's answers can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Class {
    /// Deterministic WebAssembly: exact, arbitrable.
    Exact = 0,
    /// Compared with a tolerance.
    Tolerant = 1,
    /// Not disputable.
    Undisputable = 2,
}

/// What a requester wants done. Its id is its EIP-712 struct hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Who pays.
    pub requester: Address,
    /// Who asks.
    pub node: NodeId,
    /// The instrumented module.
    pub program: Hash,
    /// The [`crate::Manifest`].
    pub manifest: Hash,
    /// How many tasks.
    pub tasks: u32,
    /// Never spend more than this on the job, checks included.
    pub budget: Amount,
    /// Fuel limit of one task.
    pub fuel_max: u64,
    /// Memory limit of one task, bytes.
    pub mem_max: u64,
    /// Output limit of one task, bytes.
    pub output_max: u64,
    /// Wall-clock limit of one task; passing it is no verdict.
    pub timeout_ms: u32,
    /// How far answers can be checked.
    pub class: Class,
    /// Seed of the guests' randomness. Not the seed of the checks: that one stays secret.
    pub seed: Hash,
    /// When it was signed, Unix milliseconds.
    pub created_ms: u64,
}

impl Job {
    /// The job's id.
    pub fn id(&self) -> JobId {
        JobId(self.to_sol().eip712_hash_struct().0)
    }

    /// Whether the limits of its tasks are some that a machine can take on: sums of a slice's stay far from overflow.
    pub fn has_sane_limits(&self) -> bool {
        self.fuel_max <= params::TASK_FUEL_MAX
            && self.output_max <= params::TASK_OUTPUT_MAX
            && self.timeout_ms <= params::TASK_TIMEOUT_MS_MAX
    }
}

impl Paper for Job {
    type Sol = sol::Job;

    fn to_sol(&self) -> sol::Job {
        sol::Job {
            requester: self.requester,
            node: self.node.into(),
            program: self.program.into(),
            manifest: self.manifest.into(),
            tasks: self.tasks,
            budget: uint96(self.budget),
            fuelMax: self.fuel_max,
            memMax: self.mem_max,
            outputMax: self.output_max,
            timeoutMs: self.timeout_ms,
            class: self.class as u8,
            seed: self.seed.into(),
            createdMs: self.created_ms,
        }
    }
}

/// The terms of one channel, signed by both sides when it is first used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The channel, open on the ledger.
    pub channel: ChannelId,
    /// Who pays.
    pub requester: Address,
    /// From where.
    pub requester_node: NodeId,
    /// Who is paid.
    pub provider: Address,
    /// At which machine.
    pub provider_node: NodeId,
    /// The price of every slice in this channel.
    pub price_per_gfuel: Amount,
    /// When it was signed, Unix milliseconds.
    pub created_ms: u64,
}

impl Paper for Agreement {
    type Sol = sol::Agreement;

    fn to_sol(&self) -> sol::Agreement {
        sol::Agreement {
            channel: self.channel.into(),
            requester: self.requester,
            requesterNode: self.requester_node.into(),
            provider: self.provider,
            providerNode: self.provider_node.into(),
            pricePerGfuel: uint96(self.price_per_gfuel),
            createdMs: self.created_ms,
        }
    }
}

/// A provider's word on one slice: these answers, this fuel, this price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The channel it is to be paid from.
    pub channel: ChannelId,
    /// The job.
    pub job: JobId,
    /// Number of the slice within the channel, from 0, without gaps.
    pub slice: u64,
    /// How many tasks it answers.
    pub tasks: u32,
    /// [`crate::merkle::root`] over the tasks' leaves, in the slice's order.
    pub results_root: B256,
    /// Billed fuel: what the tasks used plus [`params::FUEL_PER_TASK`] each.
    pub fuel: u64,
    /// That fuel at the agreement's price.
    pub price: Amount,
    /// Who signs and is paid.
    pub provider: Address,
    /// When it was signed, Unix milliseconds.
    pub issued_ms: u64,
    /// Until when it may be disputed.
    pub expiry_ms: u64,
}

impl Paper for Receipt {
    type Sol = sol::Receipt;

    fn to_sol(&self) -> sol::Receipt {
        sol::Receipt {
            channel: self.channel.into(),
            job: self.job.into(),
            slice: self.slice,
            tasks: self.tasks,
            resultsRoot: self.results_root,
            fuel: self.fuel,
            price: uint96(self.price),
            provider: self.provider,
            issuedMs: self.issued_ms,
            expiryMs: self.expiry_ms,
        }
    }
}

/// "Of this channel's deposit, `cumulative` is yours." Each replaces the last; only the final one is cashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The channel.
    pub channel: ChannelId,
    /// The running total.
    pub cumulative: Amount,
}

impl Paper for Voucher {
    type Sol = sol::Voucher;

    fn to_sol(&self) -> sol::Voucher {
        sol::Voucher { channel: self.channel.into(), cumulative: uint96(self.cumulative) }
    }
}

/// A task of a receipt was found wrong by re-execution. Kept with the receipt as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Digest of the receipt it judges.
    pub receipt: B256,
    /// The task, by its index in the job.
    pub index: u32,
    /// The leaf that the receipt committed to.
    pub got: B256,
    /// The leaf that re-execution gave.
    pub expected: B256,
    /// When it was found, Unix milliseconds.
    pub issued_ms: u64,
}

impl Paper for Verdict {
    type Sol = sol::Verdict;

    fn to_sol(&self) -> sol::Verdict {
        sol::Verdict {
            receipt: self.receipt,
            index: self.index,
            got: self.got,
            expected: self.expected,
            issuedMs: self.issued_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        Domain { chain_id: 1337, channels: Address::repeat_byte(0xcc) }
    }

    fn voucher() -> Voucher {
        Voucher { channel: ChannelId([1; 32]), cumulative: Amount::whole(3) }
    }

    fn receipt() -> Receipt {
        Receipt {
            channel: ChannelId([1; 32]),
            job: JobId([2; 32]),
            slice: 3,
            tasks: 4,
            results_root: B256::repeat_byte(5),
            fuel: 6,
            price: Amount::whole(7),
            provider: Address::repeat_byte(8),
            issued_ms: 9,
            expiry_ms: 10,
        }
    }

    fn offer() -> Offer {
        Offer {
            node: NodeId([1; 32]),
            provider: Address::repeat_byte(2),
            seq: 3,
            issued_ms: 4,
            ttl_ms: 5,
            price_per_gfuel: Amount::whole(6),
            slots: 7,
            slots_free: 7,
            mem_max: 9,
            mfuel_per_s: 10,
            machine: 11,
            class: Hash([12; 32]),
            region: "eu".into(),
            peer: vec![13],
        }
    }

    fn job() -> Job {
        Job {
            requester: Address::repeat_byte(1),
            node: NodeId([2; 32]),
            program: Hash([3; 32]),
            manifest: Hash([4; 32]),
            tasks: 5,
            budget: Amount::whole(6),
            fuel_max: 7,
            mem_max: 8,
            output_max: 9,
            timeout_ms: 10,
            class: Class::Exact,
            seed: Hash([11; 32]),
            created_ms: 12,
        }
    }

    fn agreement() -> Agreement {
        Agreement {
            channel: ChannelId([1; 32]),
            requester: Address::repeat_byte(2),
            requester_node: NodeId([3; 32]),
            provider: Address::repeat_byte(4),
            provider_node: NodeId([5; 32]),
            price_per_gfuel: Amount::whole(6),
            created_ms: 7,
        }
    }

    fn verdict() -> Verdict {
        Verdict {
            receipt: B256::repeat_byte(1),
            index: 2,
            got: B256::repeat_byte(3),
            expected: B256::repeat_byte(4),
            issued_ms: 5,
        }
    }

    /// One golden hash per paper: a change here breaks every signature in the field.
    #[test]
    fn digests_are_pinned() {
        let d = domain();
        let pins = [
            ("offer", offer().digest(&d), "0xeb106f43f92b54b2847987cc1d0015fdd92a2340cc75fb5c5bc577507ef5b068"),
            ("job", job().digest(&d), "0xb542e0e517ea86c02770e2f7cf8f086bdba087cf345c817a60483990549d5fd7"),
            ("agreement", agreement().digest(&d), "0x9200dc6e217195c3cf80f6fb5342544d6c5009a1db9cf3124cc55db78b943c18"),
            ("receipt", receipt().digest(&d), "0x5b7da8dda676f1ed8998d36c720ab2ebeb78652ef12087947095e1a66f326e32"),
            ("voucher", voucher().digest(&d), "0xa61746014a3c9cf91ef56034ebf4c9a56ebe80b01eea303c507a2c520d21891c"),
            ("verdict", verdict().digest(&d), "0x78a8b5da70e9b4d15523c5a8d84d1ee2fc2f0ce5861ef37db925835f9ce00d07"),
        ];
        for (name, got, pin) in pins {
            assert_eq!(got.to_string(), pin, "{name}");
        }
    }

    #[test]
    fn a_signature_is_worth_nothing_elsewhere() {
        let key = AccountKey::from_bytes(&[7; 32]).unwrap();
        let signed = voucher().sign(&key, &domain());
        assert_eq!(signed.check(&domain(), key.address()), Ok(()));
        let elsewhere = [Domain { chain_id: 1, ..domain() }, Domain { channels: Address::ZERO, ..domain() }];
        for other in elsewhere {
            assert!(signed.check(&other, key.address()).is_err());
        }
        let raised = Signed { paper: Voucher { cumulative: Amount::whole(4), ..signed.paper }, ..signed };
        assert!(raised.check(&domain(), key.address()).is_err());
    }

    #[test]
    fn signed_papers_survive_the_wire_and_json() {
        let key = AccountKey::from_bytes(&[7; 32]).unwrap();
        let signed = receipt().sign(&key, &domain());
        assert_eq!(crate::decode::<Signed<Receipt>>(&crate::encode(&signed), 4096).unwrap(), signed);
        let json = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<Signed<Receipt>>(&json).unwrap(), signed);
    }

    #[test]
    fn insane_offers_are_seen() {
        assert!(offer().is_sane());
        assert!(!Offer { slots_free: 8, ..offer() }.is_sane());
        assert!(!Offer { ttl_ms: params::OFFER_TTL_MS_MAX + 1, ..offer() }.is_sane());
        assert!(!Offer { peer: vec![0; 1025], ..offer() }.is_sane());
    }
}
