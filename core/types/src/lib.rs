//! The words of Gleaner: ids, keys, amounts, and the signed papers that two parties exchange.
//!
//! Everything that is signed, hashed, stored or sent between nodes is defined here and nowhere else,
//! so that Rust, the contracts and the wire agree on one meaning. What must stay true:
//!
//! 1. Money is an integer in the smallest unit and fits the contracts' `uint96` ([`Amount`]).
//! 2. Every paper is EIP-712 typed data in one [`Domain`], so a contract may one day read any of them,
//!    and a signature for one chain or contract means nothing on another.
//! 3. Decoders take limits, consume all bytes, and never panic ([`codec`]).
//!
//! Only signed or stored papers may enter this crate; anything else lives with its behaviour.

pub mod amount;
pub mod codec;
pub mod ids;
pub mod keys;
pub mod merkle;
pub mod papers;
pub mod params;
pub mod task;

pub use alloy_primitives::{Address, B256};
pub use amount::{Amount, ParseAmountError};
pub use codec::{DecodeError, decode, decode_head, encode};
pub use ids::{ChannelId, Hash, JobId, NodeId, ParseIdError, TaskId};
pub use keys::{AccountKey, BadSignature, KeyError, Signature};
pub use papers::{Agreement, Class, Domain, Job, Offer, Paper, Receipt, Signed, Verdict, Voucher};
pub use task::{FileRef, Manifest, Outcome, Output, TaskInput, TaskResult, TaskSpec, TrapKind};
