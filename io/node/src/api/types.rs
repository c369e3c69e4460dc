//! The stable JSON of the node's local API: what `--json` prints and what other programs may rely on.
//!
//! Fields are only ever added. Amounts are decimal gUSD strings, ids are hex strings, times are Unix
//! milliseconds. Every error body is an [`ApiError`].

use std::path::PathBuf;

pub use glean_net::NetPath;
use glean_protocol::{Event, TaskState};
use glean_types::{Address, Agreement, Amount, Domain, Hash, Job, JobId, Manifest, NodeId, Receipt, Signed, Verdict};
use serde::{Deserialize, Serialize};

/// Where a running node can be reached by the same user: `<home>/run/api.json`, mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiFile {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Bearer token.
    pub token: String,
    /// The process.
    pub pid: u32,
}

/// Any failure, as the API answers it and as the CLI shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Stable word for programs and for the message files: `insufficient_balance`, `bad_program`, ...
    pub code: String,
    /// What was tried and what went wrong, in English.
    pub message: String,
    /// What to do about it, in English.
    pub hint: Option<String>,
}

/// How many tasks, and how they differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskList {
    /// One run of the program.
    One {
        /// Its standard input (base64 in JSON would be friendlier to shells; this API is for programs).
        stdin: Vec<u8>,
    },
    /// One task per line: the line replaces `{}` among the arguments, or its words follow them.
    Lines {
        /// The lines, in order, without line ends.
        lines: Vec<String>,
    },
    /// One task per number, likewise.
    Range {
        /// First number.
        from: u64,
        /// Last number, included.
        to: u64,
    },
}

/// A job as a person asks for it. The node reads, checks and hashes the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The `.wasm` file on this machine.
    pub program: PathBuf,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// The tasks.
    pub tasks: TaskList,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Host path (file or folder) and guest path.
    pub inputs: Vec<(PathBuf, String)>,
    /// Memory of one task, bytes.
    pub mem_max: u64,
    /// Wall clock of one task, milliseconds.
    pub timeout_ms: u32,
    /// Fuel of one task; `None`: as much as the timeout allows on a fast machine.
    pub fuel_max: Option<u64>,
    /// Output of one task, bytes.
    pub output_max: u64,
    /// Hard cap; `None`: the whole balance.
    pub max: Option<Amount>,
    /// Stop the job after so many failed tasks.
    pub max_fails: Option<u32>,
    /// Client-made id: the same request sent twice is one job.
    pub request_id: String,
}

/// Answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAccepted {
    /// The job's id.
    pub job: JobId,
    /// How many tasks.
    pub tasks: u32,
    /// The cap.
    pub budget: Amount,
    /// The program's id.
    pub program: Hash,
}

/// One job, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// The job's id.
    pub job: JobId,
    /// The program's file name.
    pub name: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// `running`, `succeeded`, `failed`, `cancelled`, `starved` (no money).
    pub state: String,
    /// All tasks.
    pub tasks: u32,
    /// Waiting for a machine.
    pub waiting: u32,
    /// At a machine.
    pub running: u32,
    /// Answered, being checked or paid.
    pub checking: u32,
    /// Exit code 0.
    pub succeeded: u32,
    /// Any other end.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
    /// Tasks run again as secret checks.
    pub rechecked: u32,
    /// Promised so far.
    pub spent: Amount,
    /// The cap.
    pub budget: Amount,
}

/// One line of a job's event stream (NDJSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// Rises by one; ask again with `?from=`.
    pub seq: u64,
    /// Unix microseconds: one task takes less than a millisecond.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// One task, for `jobs`, `logs` and result folders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLine {
    /// Its place.
    pub index: u32,
    /// Where it stands.
    pub state: TaskState,
    /// How it ended, in words; `None` while it runs.
    pub outcome: Option<String>,
    /// The exit code a shell would show.
    pub exit_code: Option<i32>,
    /// Fuel used.
    pub fuel: u64,
    /// Who ran it.
    pub provider: Option<NodeId>,
    /// Bytes on standard output.
    pub stdout_len: u64,
    /// Bytes on standard error.
    pub stderr_len: u64,
    /// Files under `/out`: path and length.
    pub files: Vec<(String, u64)>,
}

/// Tasks whose outputs are sent in one answer: each is at most what fits into a message between nodes.
pub const OUTPUT_LINES_MAX: u32 = 256;

/// What a task wrote, for those who want many at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// Its place.
    pub index: u32,
    /// Standard output in hexadecimal; `None` when it is large and to be had alone.
    pub stdout: Option<String>,
    /// Standard error, likewise.
    pub stderr: Option<String>,
}

/// A measured price before anything is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// All tasks.
    pub tasks: u32,
    /// How many were run just now, on this machine, free.
    pub sampled: u32,
    /// Mean fuel of a sampled task.
    pub fuel_mean: u64,
    /// Largest fuel of a sampled task.
    pub fuel_max: u64,
    /// Mean wall clock of a sampled task here, milliseconds.
    pub ms_mean: u64,
    /// From the cheapest fitting offers, checks included.
    pub price_low: Amount,
    /// If all tasks were like the largest sample, checks included.
    pub price_high: Amount,
    /// Machines whose offers fit.
    pub machines: u32,
    /// Slots of these.
    pub slots: u32,
    /// Estimated duration on these, seconds.
    pub seconds: u64,
    /// What we have.
    pub balance: Amount,
    /// Check overhead assumed, parts per thousand.
    pub check_permille: u32,
}

/// What the node is and has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// Its folder.
    pub home: PathBuf,
    /// The process.
    pub pid: u32,
    /// Its id.
    pub node: NodeId,
    /// Its account.
    pub account: Address,
    /// The network's name.
    pub network: String,
    /// EIP-155.
    pub chain_id: u64,
    /// Whether this node keeps the ledger.
    pub is_ledger: bool,
    /// Ethereum JSON-RPC of the ledger node, if this is one.
    pub rpc_url: Option<String>,
    /// Last final block; `None` when the ledger cannot be reached.
    pub height: Option<u64>,
    /// gUSD in the account, outside channels.
    pub balance: Option<Amount>,
    /// GLN (gas) in the account, in 10^-18.
    pub gas: Option<Amount>,
    /// gUSD deposited in our channels and not yet settled.
    pub in_channels: Amount,
    /// gUSD in channels that are being closed: back after the grace period.
    pub coming_home: Amount,
    /// Lending, if so.
    pub share: Option<ShareStatus>,
    /// Machines offering work now, as far as this node knows.
    pub machines: u32,
    /// Jobs that are not over.
    pub jobs_running: u32,
}

/// What the owner sets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShareRequest {
    /// Tasks at the same time; `None`: half the cores, at least one.
    pub slots: Option<u32>,
    /// Memory of one guest, bytes; `None`: a quarter of the machine's.
    pub mem_max: Option<u64>,
    /// Price of 10^9 fuel; `None`: the default price.
    pub price_per_gfuel: Option<Amount>,
    /// Free text, at most 16 characters.
    pub region: Option<String>,
    /// Demo and tests only: one answer in this many is wrong on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lie_every: Option<u32>,
}

/// How lending goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Tasks at the same time.
    pub slots: u32,
    /// Running now.
    pub running: u32,
    /// Memory of one guest, bytes.
    pub mem_max: u64,
    /// Price of 10^9 fuel.
    pub price_per_gfuel: Amount,
    /// Measured speed of one slot, 10^6 fuel per second; `None` before a second of work.
    pub mfuel_per_s: Option<u64>,
    /// Tasks done since the start of the node.
    pub tasks_done: u64,
    /// Promised in vouchers, not yet claimed.
    pub held: Amount,
    /// Claimed on the ledger, before the fee.
    pub settled: Amount,
    /// Why no work comes, when none does.
    pub why_idle: Option<String>,
}

/// One machine as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineLine {
    /// Its id.
    pub node: NodeId,
    /// Its price of 10^9 fuel; `None` when its offer has run out.
    pub price_per_gfuel: Option<Amount>,
    /// Slots it offers.
    pub slots: u32,
    /// A work session is up.
    pub connected: bool,
    /// How its packets travel, while that session is up.
    pub path: Option<NetPath>,
    /// Answers of it that were checked and right.
    pub clean: u32,
    /// Answers of it that were wrong.
    pub faults: u32,
    /// Measured speed of a slot, 10^6 fuel per second.
    pub mfuel_per_s: u64,
    /// Paid to it by us.
    pub paid: Amount,
    /// Why it gets no work from us, if so.
    pub obstacle: Option<String>,
}

/// Everything needed to check a job again from disk, without this node: `glean receipt JOB --verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptBundle {
    /// Where the papers are valid.
    pub domain: Domain,
    /// The job.
    pub job: Signed<Job>,
    /// What its tasks share.
    pub manifest: Manifest,
    /// Agreements under which receipts were paid.
    pub agreements: Vec<Signed<Agreement>>,
    /// One per slice: the receipt, the results' leaves in its order, and the tasks they belong to.
    pub slices: Vec<SliceProof>,
    /// Findings against machines.
    pub verdicts: Vec<(Signed<Verdict>, Signed<Receipt>)>,
}

/// A receipt and what its root was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceProof {
    /// The provider's word.
    pub receipt: Signed<Receipt>,
    /// Who.
    pub provider: NodeId,
    /// Task index and leaf, in the receipt's order.
    pub leaves: Vec<(u32, Hash)>,
    /// The voucher that paid it, running total.
    pub paid: Option<Amount>,
}

/// A new private network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its name.
    pub name: String,
    /// EIP-155.
    pub chain_id: u64,
    /// What others type: `glean join LINE`.
    pub join_line: String,
    /// Ethereum JSON-RPC.
    pub rpc_url: Option<String>,
}
