//! The edge of the brain: everything that can happen to a node, and everything it can ask for.

use std::sync::Arc;

use glean_types::{
    AccountKey, Address, Agreement, Amount, B256, ChannelId, Domain, Hash, Job, JobId, Manifest, NodeId, Offer,
    Outcome, Receipt, Signed, TaskResult, TaskSpec, Verdict, Voucher,
};
use serde::{Deserialize, Serialize};

use crate::wire::{NoVerdict, Refusal, WorkMsg};

/// Who this node is. `secret` seeds the choice of checks and must never leave the machine.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its transport key's public half.
    pub node: NodeId,
    /// Its account.
    pub key: AccountKey,
    /// The network's papers.
    pub domain: Domain,
    /// Determinism class of its engine.
    pub class: Hash,
    /// Seeds secret decisions.
    pub secret: [u8; 32],
}

/// What the owner lends, as settings say. `None` anywhere in the node means: not lending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareTerms {
    /// Price of 10^9 fuel.
    pub price_per_gfuel: Amount,
    /// Tasks at the same time.
    pub slots: u32,
    /// Largest guest memory, bytes.
    pub mem_max: u64,
    /// Measured speed of one slot, 10^6 fuel per second.
    pub mfuel_per_s: u64,
    /// Free text.
    pub region: String,
    /// Machine NFT, 0 for none.
    pub machine: u64,
    /// Encoded dialling address.
    pub peer: Vec<u8>,
}

/// A job ready to be scheduled: signed, its blobs stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The job.
    pub job: Signed<Job>,
    /// What its tasks share.
    pub manifest: Manifest,
    /// Its tasks, index = place.
    pub specs: Vec<TaskSpec>,
    /// Give up after so many tasks that failed by their own fault; `None` never.
    pub max_fails: Option<u32>,
}

/// A run of some tasks in the local workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// What the local workers are asked to run.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// Names the run in [`Input::Ran`].
    pub run: RunId,
    /// The job, for its limits, program and manifest.
    pub job: Arc<Job>,
    /// The tasks.
    pub specs: Vec<TaskSpec>,
    /// From whom the blobs can be fetched, besides the local store,
    pub holders: Vec<NodeId>,
    /// and who may have them, too: encoded dialling addresses, on the requester's word.
    pub others: Vec<Vec<u8>>,
    /// All that these tasks together may burn, [`glean_types::params::FUEL_PER_TASK`] each included. Workers
    /// may stop there and answer [`NoVerdict::FuelCap`] for the rest: beyond it nobody pays.
    pub fuel_cap: u64,
    /// A check of somebody else's answer (runs first) or work of our own.
    pub is_check: bool,
}

/// A channel as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// Whose signature its vouchers carry.
    pub signer: Address,
    /// Paid in.
    pub deposit: Amount,
    /// Paid out already.
    pub settled: Amount,
    /// Whether the payer has asked to close, or it is closed.
    pub closing: bool,
}

/// Everything that can happen to a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed (at least every 100 ms while anything is under way).
    Tick,
    /// A person hands in a job.
    Submit(Box<Submission>),
    /// A person cancels a job.
    Cancel(JobId),
    /// A person wants failed tasks tried again.
    RerunFailed(JobId),
    /// The owner starts, changes or stops lending.
    Share(Option<ShareTerms>),
    /// Offers found at the index nodes: not yet checked.
    Offers(Vec<Signed<Offer>>),
    /// A work session with that node is up, whoever dialled.
    Connected(NodeId),
    /// It is gone, or could not be set up.
    Disconnected(NodeId),
    /// A message arrived.
    Message {
        /// From whom: proven by the transport.
        from: NodeId,
        /// What.
        message: WorkMsg,
    },
    /// Our channel to that provider is on the ledger, with its whole deposit so far.
    ChannelReady {
        /// The machine it is for.
        provider: NodeId,
        /// Its id.
        channel: ChannelId,
        /// Paid in altogether.
        deposit: Amount,
    },
    /// It could not be opened or topped up.
    ChannelFailed {
        /// The machine it was for.
        provider: NodeId,
        /// In words, for people.
        why: String,
        /// Whether our own balance is the reason: then all work waits.
        no_funds: bool,
    },
    /// The answer to [`Output::LookUpChannel`]; `None` when the ledger has no such channel.
    ChannelSeen {
        /// Its id.
        channel: ChannelId,
        /// As it stands.
        view: Option<ChannelView>,
    },
    /// How far [`Output::CloseChannel`] got: to be asked again then, Unix milliseconds; `None` when the channel is closed and
    /// the rest of its deposit is home.
    ChannelClosing {
        /// The channel.
        channel: ChannelId,
        /// When to go on.
        again_ms: Option<u64>,
    },
    /// The last voucher of a channel was cashed up to this total.
    Claimed {
        /// The channel.
        channel: ChannelId,
        /// Settled on the ledger.
        settled: Amount,
    },
    /// The local workers finished a run, results in the order's order.
    Ran {
        /// Which.
        run: RunId,
        /// One per spec.
        results: Vec<Result<TaskResult, NoVerdict>>,
    },
}

/// Everything a node can ask of the world.
#[derive(Debug, Clone)]
pub enum Output {
    /// Append to the journal. Durable before any other output of the same step is performed.
    Record(Record),
    /// Ask the index nodes for offers of this class.
    QueryOffers,
    /// Send this offer to the index nodes.
    Publish(Signed<Offer>),
    /// Bring up a work session.
    Dial {
        /// Whom.
        node: NodeId,
        /// How: the `peer` field of its offer.
        peer: Vec<u8>,
    },
    /// End the session.
    Hangup(NodeId),
    /// Send a message in the session; dropped if there is none (then [`Input::Disconnected`] follows).
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: WorkMsg,
    },
    /// Open a channel to a machine, or top the open one up, so that its whole deposit is `deposit`.
    FundChannel {
        /// The machine.
        provider: NodeId,
        /// Its account.
        payee: Address,
        /// The channel to top up; `None` opens one.
        channel: Option<ChannelId>,
        /// Deposit wanted altogether.
        deposit: Amount,
        /// Names the opening: the same salt and deposit open the same channel, however often they are sent.
        salt: B256,
    },
    /// Ask the ledger for a channel.
    LookUpChannel(ChannelId),
    /// Cash this voucher (provider).
    Claim(Signed<Voucher>),
    /// Take the next step towards having the rest of the deposit back (requester): ask for it, wait for the grace period,
    /// close. Answered by [`Input::ChannelClosing`].
    CloseChannel(ChannelId),
    /// Run in the local workers.
    Run(RunOrder),
    /// Stop a run that is no longer wanted.
    StopRun(RunId),
    /// Tell people.
    Report(Event),
}

/// What survives a crash. Replayed in order by [`crate::Node::restore`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A job was taken on.
    Submitted(Box<Submission>),
    /// A task's answer was accepted, with the receipt (by digest) that carries it.
    Accepted {
        /// Its job.
        job: JobId,
        /// The answer.
        result: TaskResult,
        /// Whose.
        provider: NodeId,
        /// Digest of the receipt; zero when it was run in our own worker.
        receipt: B256,
    },
    /// A slice is going out (requester): its price is held back from the budget and the deposit.
    Sent {
        /// The channel it is paid from.
        channel: ChannelId,
        /// Its number there.
        slice: u64,
        /// Its job.
        job: JobId,
        /// Its tasks.
        indexes: Vec<u32>,
        /// The most it may cost.
        price_max: Amount,
    },
    /// A slice was given up unanswered (requester): its money is free again, its tasks went elsewhere.
    GivenUp {
        /// The channel.
        channel: ChannelId,
        /// Its number there.
        slice: u64,
    },
    /// A receipt arrived and its slice is to be checked and paid. The leaves are kept so that its root can
    /// be computed again from disk.
    Received {
        /// Whose.
        provider: NodeId,
        /// The provider's word.
        receipt: Signed<Receipt>,
        /// Task index and leaf, in the slice's order.
        leaves: Vec<(u32, B256)>,
    },
    /// A task failed for good.
    Failed {
        /// Its job.
        job: JobId,
        /// Its place.
        index: u32,
        /// Why.
        reason: FailReason,
    },
    /// The job is over.
    Ended {
        /// Which.
        job: JobId,
        /// Cancelled by a person.
        cancelled: bool,
    },
    /// Tasks that failed are to be tried again.
    Reran(JobId),
    /// Both signatures are on an agreement. `ours` tells whether we are the requester.
    Agreed {
        /// The terms.
        agreement: Signed<Agreement>,
        /// We pay.
        ours: bool,
    },
    /// Our channel's deposit on the ledger.
    Funded {
        /// The machine.
        provider: NodeId,
        /// The channel.
        channel: ChannelId,
        /// Deposit altogether.
        deposit: Amount,
    },
    /// A channel is being opened (requester): what names it, so that a crash in between finds it again.
    Opening {
        /// The machine.
        provider: NodeId,
        /// Its account.
        payee: Address,
        /// Deposit.
        deposit: Amount,
        /// See [`Output::FundChannel`].
        salt: B256,
    },
    /// We asked for the rest of a deposit (requester): the channel is not used again.
    Closing(ChannelId),
    /// A channel is closed on the ledger: forgotten.
    Closed(ChannelId),
    /// We promised this much (requester), for this slice of this job.
    Paid {
        /// The promise.
        voucher: Signed<Voucher>,
        /// The slice it pays.
        slice: u64,
        /// The job it is booked on.
        job: JobId,
        /// What this slice cost.
        price: Amount,
    },
    /// We were promised this much (provider).
    Earned(Signed<Voucher>),
    /// We delivered a slice under this receipt (provider).
    Delivered(Signed<Receipt>),
    /// We do not wait any longer to be paid for a delivered slice (provider).
    WrittenOff {
        /// The channel.
        channel: ChannelId,
        /// Its number there.
        slice: u64,
    },
    /// A machine was caught: the evidence.
    Caught {
        /// Which machine.
        provider: NodeId,
        /// Our signed finding.
        verdict: Signed<Verdict>,
        /// The receipt it judges.
        receipt: Signed<Receipt>,
    },
    /// Checked and right: its clean history.
    Clean {
        /// Which machine.
        provider: NodeId,
        /// How many more right answers.
        count: u32,
    },
    /// The highest offer number used.
    OfferSeq(u64),
    /// All before this came back from an archive, and what was signed after that was made is forgotten: no promise of before is
    /// built upon any more. (Written once, by the first start after a restore.)
    Restored {
        /// Now, Unix milliseconds: more offers than milliseconds were never made.
        at_ms: u64,
    },
}

/// Why a task failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailReason {
    /// Its own outcome, confirmed like any result. The result is kept.
    Outcome(Outcome),
    /// No machine could give a verdict after several tries.
    NoVerdict(NoVerdict),
    /// The budget is used up.
    Budget,
}

/// News for people: what progress bars, logs and `explain` are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A job was not taken on.
    JobRefused {
        /// Which.
        job: JobId,
        /// In words.
        why: String,
    },
    /// A task's answer was accepted (any outcome).
    TaskAccepted {
        /// Its job.
        job: JobId,
        /// Its place.
        index: u32,
        /// How it ended.
        outcome: Outcome,
        /// Fuel used.
        fuel: u64,
        /// Who ran it.
        provider: NodeId,
    },
    /// A task failed for good.
    TaskFailed {
        /// Its job.
        job: JobId,
        /// Its place.
        index: u32,
        /// Why.
        reason: FailReason,
    },
    /// A slice went out.
    SliceSent {
        /// Its job.
        job: JobId,
        /// To whom.
        provider: NodeId,
        /// Its number.
        slice: u64,
        /// How many tasks.
        tasks: u32,
        /// Of these, secret checks.
        checks: u32,
    },
    /// A slice was paid.
    SlicePaid {
        /// Its job.
        job: JobId,
        /// Whom.
        provider: NodeId,
        /// How much.
        price: Amount,
    },
    /// A secret check agreed.
    CheckPassed {
        /// Its job.
        job: JobId,
        /// Its place.
        index: u32,
        /// Who was checked.
        provider: NodeId,
        /// By whom; `None` for our own worker.
        checker: Option<NodeId>,
    },
    /// A machine was caught with a wrong answer: not paid, no further work.
    LiarCaught {
        /// Its job.
        job: JobId,
        /// The task it was caught on.
        index: u32,
        /// Which machine.
        provider: NodeId,
        /// What its slice would have cost.
        unpaid: Amount,
        /// How many of its unpaid or unchecked answers are run again elsewhere.
        redone: u32,
    },
    /// An accepted answer of a machine caught later was run again and found wrong: this one replaces it.
    TaskCorrected {
        /// Its job.
        job: JobId,
        /// Its place.
        index: u32,
        /// Whose answer was wrong.
        provider: NodeId,
    },
    /// A slice came back without answers and goes elsewhere.
    SliceLost {
        /// Its job.
        job: JobId,
        /// Who had it.
        provider: NodeId,
        /// In words.
        why: String,
    },
    /// A provider refused.
    RefusedBy {
        /// Who.
        provider: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The job is over.
    JobEnded {
        /// Which.
        job: JobId,
        /// Cancelled by a person.
        cancelled: bool,
        /// Tasks accepted with exit code 0.
        succeeded: u32,
        /// Tasks that ended otherwise or failed for good.
        failed: u32,
        /// Spent altogether.
        spent: Amount,
    },
    /// Work waits for money.
    FundsMissing {
        /// In words, with the amount missing.
        why: String,
    },
    /// Provider side: a slice was delivered.
    Delivered {
        /// For whom.
        requester: NodeId,
        /// How many tasks.
        tasks: u32,
        /// For how much.
        price: Amount,
    },
    /// Provider side: a slice was paid.
    Earned {
        /// By whom.
        requester: NodeId,
        /// How much more.
        amount: Amount,
    },
}

/// Where a task stands, for `jobs` and `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Not given to anybody.
    Waiting,
    /// At a machine.
    Leased,
    /// Answered, the check or the payment under way.
    Checking,
    /// Accepted with exit code 0.
    Succeeded,
    /// Accepted with another outcome, or failed for good.
    Failed,
    /// Cancelled.
    Cancelled,
}

/// A job's standing, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub job: JobId,
    /// All its tasks.
    pub tasks: u32,
    /// By state: waiting, leased, checking, succeeded, failed, cancelled.
    pub waiting: u32,
    /// At machines.
    pub leased: u32,
    /// Answered, being checked.
    pub checking: u32,
    /// Exit code 0.
    pub succeeded: u32,
    /// Any other end.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
    /// Promised in vouchers so far.
    pub spent: Amount,
    /// Its cap.
    pub budget: Amount,
    /// Tasks run again as checks so far.
    pub rechecked: u32,
    /// Over.
    pub ended: bool,
}
