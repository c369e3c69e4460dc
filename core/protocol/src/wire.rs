//! What two nodes say to each other in a work session (ALPN `glean-work/1`), one frame per message.
//!
//! ```text
//! requester                                   provider
//!                   <───────────────────────── Offer      as it stands now; again when it is renewed
//!   Open(agreement) ─────────────────────────>            checks the channel on the ledger
//!                   <───────────────────────── Agreed     countersigned
//!   Slice 0, Slice 1 ────────────────────────>            runs 0, may run 1 and 2, holds them back until 0 is paid
//!                   <───────────────────────── Done 0     results and one receipt
//!                   <───────────────────────── Commit 1   its receipt and leaves: bound to answers not yet shown
//!   Pay(voucher)    ─────────────────────────>            after its own checks
//!                   <───────────────────────── Done 1
//! ```
//!
//! A commitment lets the requester compare answers before it has them: no check of one machine ever waits until another
//! machine is paid. It shows hashes only, but of a short answer somebody may guess what it is.
//!
//! Every message may be sent again after a reconnect; both sides treat a repeat as already done.

use glean_types::params::{FRAME_MAX, SLICE_TASKS_MAX};
use glean_types::{
    Agreement, Amount, B256, ChannelId, DecodeError, Job, Offer, Receipt, Signed, TaskResult, TaskSpec, Voucher,
    decode, encode,
};
use serde::{Deserialize, Serialize};

/// Slices may be given up before they are sent, so numbers may jump; but not so far that they run out.
pub const SLICE_GAP_MAX: u64 = 1 << 20;

/// Other machines named in a slice.
pub const HOLDERS_MAX: usize = 3;
/// As in an offer.
const HOLDER_BYTES_MAX: usize = 1024;

/// One message of a work session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkMsg {
    /// Provider: my offer, to whom I have a session with. Who works together does not depend on what an index node happens
    /// to show: among very many machines it shows a sample.
    Offer(Box<Signed<Offer>>),
    /// Requester: the channel is open on the ledger, these are the terms.
    Open(Signed<Agreement>),
    /// Provider: agreed; the same agreement under the provider's signature.
    Agreed(Signed<Agreement>),
    /// Requester: please run these.
    Slice(Box<SliceMsg>),
    /// Provider: the answers.
    Done(Box<SliceDoneMsg>),
    /// Provider: the answers are ready, and held back until an earlier slice is paid.
    Commit(Box<CommitMsg>),
    /// Requester: paid up to here.
    Pay(Signed<Voucher>),
    /// Requester: no longer wanted (cancelled, or done elsewhere). Work already delivered is still paid.
    Drop {
        /// The channel.
        channel: ChannelId,
        /// The slice.
        slice: u64,
    },
    /// Provider: no, and why.
    Refused {
        /// The channel.
        channel: ChannelId,
        /// The slice, or the agreement itself.
        slice: Option<u64>,
        /// Why.
        refusal: Refusal,
    },
}

/// Tasks for one provider, answered by one receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceMsg {
    /// The channel it is paid from.
    pub channel: ChannelId,
    /// Its number within the channel, from 0, rising by less than [`SLICE_GAP_MAX`].
    pub slice: u64,
    /// The job, signed by the requester.
    pub job: Signed<Job>,
    /// The most the requester will pay for it: held back from budget and deposit, so that no voucher can ever
    /// pass either. A provider delivers what fits and lists the rest as unanswered.
    pub price_max: Amount,
    /// What to run.
    pub specs: Vec<TaskSpec>,
    /// Encoded dialling addresses of other machines that have the job's program and inputs, so that not all of it must come
    /// from the requester. At most [`HOLDERS_MAX`].
    pub holders: Vec<Vec<u8>>,
}

/// A provider's answer to one slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceDoneMsg {
    /// The provider's word on the results, one receipt for all.
    pub receipt: Signed<Receipt>,
    /// The results, in the slice's order, without the unanswered.
    pub results: Vec<TaskResult>,
    /// Tasks (by index) for which this machine has no answer; they cost nothing.
    pub unanswered: Vec<(u32, NoVerdict)>,
}

/// A provider's word on answers that it holds back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitMsg {
    /// As it will be delivered.
    pub receipt: Signed<Receipt>,
    /// Task index and leaf, in the slice's order, without the unanswered.
    pub leaves: Vec<(u32, B256)>,
}

/// Why a machine has no answer for a task. Never held against the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoVerdict {
    /// The host ran out of memory.
    #[error("the machine ran out of memory")]
    HostMemory,
    /// The guest's stack met the host's limit, which differs between processors.
    #[error("the guest's call stack is deeper than the machine allows")]
    StackOverflow,
    /// Wall clock passed.
    #[error("the task took longer than its timeout")]
    Deadline,
    /// The program or an input could not be had or was refused.
    #[error("unusable program or input: {0}")]
    Unusable(String),
    /// The worker broke.
    #[error("the worker failed: {0}")]
    Worker(String),
    /// The slice's price cap was reached before this task was done.
    #[error("the price cap of its slice was reached first")]
    FuelCap,
}

/// Why a provider says no. An answer to a peer: it holds nothing private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The owner is using the machine, or it is shutting down.
    #[error("not lending now")]
    NotLending,
    /// All slots and the queue are full.
    #[error("busy")]
    Busy,
    /// The signature is not the requester's.
    #[error("bad signature")]
    BadSignature,
    /// No such channel, or it does not pay this machine.
    #[error("channel not found on the ledger, closing, or for another provider")]
    BadChannel,
    /// The price is not the one offered.
    #[error("price below the offer")]
    PriceTooLow,
    /// The deposit left does not cover the slice.
    #[error("deposit too small for this slice")]
    DepositTooSmall,
    /// Over the machine's limits (memory, class, count of tasks).
    #[error("needs more than this machine offers")]
    TooLarge,
    /// The slice's number is not the next one.
    #[error("slice out of order: expected {expected}")]
    OutOfOrder {
        /// The number it waits for.
        expected: u64,
    },
    /// Program or input could not be fetched or was refused by the virtual machine.
    #[error("program or input unusable: {0}")]
    Unusable(String),
    /// Its worker could not give a verdict (host memory, wall clock).
    #[error("no verdict: {0}")]
    NoVerdict(String),
    /// Not even one task of the slice fits under its price cap.
    #[error("the slice's price cap is below the price of one task")]
    PriceCapTooLow,
    /// The slice was dropped before it was delivered: the answer to [`WorkMsg::Drop`].
    #[error("dropped as asked")]
    Dropped,
}

impl WorkMsg {
    /// The frame to send.
    pub fn to_frame(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a peer's frame. Counts are checked here, meanings by whoever handles the message.
    pub fn from_frame(frame: &[u8]) -> Result<WorkMsg, DecodeError> {
        let message: WorkMsg = decode(frame, FRAME_MAX)?;
        let tasks = match &message {
            WorkMsg::Slice(slice) => slice.specs.len(),
            WorkMsg::Done(done) => done.results.len() + done.unanswered.len(),
            WorkMsg::Commit(commit) => commit.leaves.len(),
            _ => 0,
        };
        let is_bounded = match &message {
            WorkMsg::Slice(slice) => {
                slice.holders.len() <= HOLDERS_MAX && slice.holders.iter().all(|peer| peer.len() <= HOLDER_BYTES_MAX)
            }
            _ => true,
        };
        if tasks > SLICE_TASKS_MAX || !is_bounded { Err(DecodeError::Malformed) } else { Ok(message) }
    }
}
