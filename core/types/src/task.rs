//! What a task is and what came of it: the content that a job's and a receipt's hashes commit to.
//!
//! A job names one [`Manifest`] (what all its tasks share) and a list of [`TaskSpec`]s (what differs).
//! A machine answers each with a [`TaskResult`]. Its [`TaskResult::leaf`] binds the job, the task's
//! input, the fuel and every output byte, so an answer cannot be guessed, moved to another task, or
//! shortened; the leaves of a slice form the Merkle root that the receipt signs.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::ids::{Hash, JobId};
use crate::params::INLINE_OUTPUT_MAX;

/// A file that every task of the job sees, read-only, at `guest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Absolute path inside the guest, normalised: no `.`, `..`, or empty parts.
    pub guest: String,
    /// BLAKE3 of the content.
    pub hash: Hash,
    /// Length in bytes.
    pub len: u64,
}

/// What all tasks of a job share. Stored as a blob; the job's paper holds its hash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// The program's name as the guest sees it (argv\[0\]).
    pub name: String,
    /// Arguments common to all tasks; a task's own follow.
    pub args: Vec<String>,
    /// Environment, in the order given.
    pub env: Vec<(String, String)>,
    /// Input files, sorted by guest path.
    pub files: Vec<FileRef>,
    /// Hash over all task specs in order: the job cannot change its questions afterwards.
    pub tasks_root: Hash,
}

/// What differs from task to task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The task's place in the job.
    pub index: u32,
    /// Arguments after the manifest's.
    pub args: Vec<String>,
    /// Standard input, at most [`crate::params::INLINE_INPUT_MAX`]; larger inputs are files.
    pub stdin: Vec<u8>,
}

/// Everything that decides a task's answer, apart from the program: hashed into the result's leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInput {
    /// The manifest's hash.
    pub manifest: Hash,
    /// The task's own part.
    pub spec: TaskSpec,
}

impl TaskInput {
    /// The hash that a result binds itself to.
    pub fn hash(&self) -> Hash {
        Hash::of(&crate::encode(self))
    }
}

/// How a program ended. All of these are answers: every honest machine gets the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It returned, or called `proc_exit`.
    Exit(u32),
    /// It did something undefined.
    Trap(TrapKind),
    /// It used all the fuel it was given.
    OutOfFuel,
    /// It failed (trap or nonzero exit) after asking for more memory than the job allows and being refused.
    OutOfMemory,
    /// It wrote more output than the job allows.
    OutputLimit,
}

impl Outcome {
    /// Exit code 0.
    pub fn is_success(self) -> bool {
        self == Outcome::Exit(0)
    }

    /// The exit code a shell would show (docker's habits: 137 killed for memory, 124 timeout, 134 abort).
    pub fn exit_code(self) -> i32 {
        match self {
            Outcome::Exit(code) => (code & 0xff) as i32,
            Outcome::Trap(_) => 134,
            Outcome::OutOfFuel => 124,
            Outcome::OutOfMemory => 137,
            Outcome::OutputLimit => 153,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Exit(code) => write!(f, "exit {code}"),
            Outcome::Trap(kind) => write!(f, "trap: {kind}"),
            Outcome::OutOfFuel => f.write_str("out of fuel"),
            Outcome::OutOfMemory => f.write_str("out of memory"),
            Outcome::OutputLimit => f.write_str("too much output"),
        }
    }
}

/// Why a program trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TrapKind {
    /// `unreachable`: an abort or a panic, usually.
    Unreachable,
    /// A memory access outside the memory.
    MemoryOutOfBounds,
    /// A table access outside the table, or a null entry.
    TableOutOfBounds,
    /// An indirect call to a function of another type.
    BadSignature,
    /// Integer overflow in a division or conversion.
    IntegerOverflow,
    /// Division by zero.
    DivisionByZero,
    /// A float that no integer can hold.
    BadConversion,
    /// Any other trap that the WebAssembly specification defines.
    Other,
}

impl std::fmt::Display for TrapKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TrapKind::Unreachable => "unreachable (abort or panic)",
            TrapKind::MemoryOutOfBounds => "memory access out of bounds",
            TrapKind::TableOutOfBounds => "table access out of bounds",
            TrapKind::BadSignature => "indirect call of another type",
            TrapKind::IntegerOverflow => "integer overflow",
            TrapKind::DivisionByZero => "division by zero",
            TrapKind::BadConversion => "float out of integer range",
            TrapKind::Other => "other",
        })
    }
}

/// Bytes that a task wrote: inside the message when small, a blob at the provider when not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// The bytes themselves, at most [`INLINE_OUTPUT_MAX`].
    Inline(Vec<u8>),
    /// Where to get them.
    Blob {
        /// BLAKE3 of the bytes.
        hash: Hash,
        /// Their length.
        len: u64,
    },
}

impl Output {
    /// The hash of the bytes, wherever they are.
    pub fn hash(&self) -> Hash {
        match self {
            Output::Inline(bytes) => Hash::of(bytes),
            Output::Blob { hash, .. } => *hash,
        }
    }

    /// The length of the bytes, wherever they are.
    pub fn len(&self) -> u64 {
        match self {
            Output::Inline(bytes) => bytes.len() as u64,
            Output::Blob { len, .. } => *len,
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What came of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task's place in the job.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel it used, as the virtual machine counted.
    pub fuel: u64,
    /// What it wrote to standard output.
    pub stdout: Output,
    /// What it wrote to standard error.
    pub stderr: Output,
    /// Files it left under `/out`, sorted by path.
    pub files: Vec<(String, Output)>,
}

/// What a leaf commits to, in hashing order.
#[derive(Serialize)]
struct LeafBody<'a> {
    job: JobId,
    input: Hash,
    index: u32,
    outcome: Outcome,
    fuel: u64,
    stdout: (Hash, u64),
    stderr: (Hash, u64),
    files: Vec<(&'a str, Hash, u64)>,
}

impl TaskResult {
    /// All that the task put out: what its job's `output_max` limits.
    pub fn output_bytes(&self) -> u64 {
        let files = self.files.iter().map(|(_, output)| output.len());
        files.chain([self.stdout.len(), self.stderr.len()]).fold(0, u64::saturating_add)
    }

    /// The hash that stands for this result in a receipt. `input` is [`TaskInput::hash`].
    pub fn leaf(&self, job: JobId, input: Hash) -> B256 {
        let body = LeafBody {
            job,
            input,
            index: self.index,
            outcome: self.outcome,
            fuel: self.fuel,
            stdout: (self.stdout.hash(), self.stdout.len()),
            stderr: (self.stderr.hash(), self.stderr.len()),
            files: self.files.iter().map(|(path, out)| (path.as_str(), out.hash(), out.len())).collect(),
        };
        Hash::of(&crate::encode(&body)).into()
    }

    /// Whether every inline output is small enough to have been sent inline.
    pub fn is_well_formed(&self) -> bool {
        let fits = |out: &Output| !matches!(out, Output::Inline(bytes) if bytes.len() > INLINE_OUTPUT_MAX);
        fits(&self.stdout)
            && fits(&self.stderr)
            && self.files.iter().all(|(_, out)| fits(out))
            && self.files.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> TaskResult {
        TaskResult {
            index: 3,
            outcome: Outcome::Exit(0),
            fuel: 1_000,
            stdout: Output::Inline(b"42\n".to_vec()),
            stderr: Output::Inline(vec![]),
            files: vec![],
        }
    }

    #[test]
    fn a_leaf_binds_everything_that_matters() {
        let (job, input) = (JobId([1; 32]), Hash([2; 32]));
        let leaf = result().leaf(job, input);
        let blob = Output::Blob { hash: Hash::of(b"42\n"), len: 3 };
        assert_eq!(TaskResult { stdout: blob, ..result() }.leaf(job, input), leaf, "where the bytes are is no matter");
        let others = [
            result().leaf(JobId([9; 32]), input),
            result().leaf(job, Hash([9; 32])),
            TaskResult { index: 4, ..result() }.leaf(job, input),
            TaskResult { fuel: 1_001, ..result() }.leaf(job, input),
            TaskResult { outcome: Outcome::Exit(1), ..result() }.leaf(job, input),
            TaskResult { stdout: Output::Inline(b"43\n".to_vec()), ..result() }.leaf(job, input),
            TaskResult { stderr: Output::Inline(b"!".to_vec()), ..result() }.leaf(job, input),
            TaskResult { files: vec![("/out/a".into(), Output::Inline(vec![]))], ..result() }.leaf(job, input),
        ];
        assert!(others.iter().all(|other| *other != leaf));
    }

    #[test]
    fn the_leaf_is_pinned() {
        // Changing this hash is a decision: nodes of two versions would call each other liars.
        let leaf = result().leaf(JobId([1; 32]), Hash([2; 32]));
        assert_eq!(leaf.to_string(), "0x9d6c209f8f7921dc6dbf2dd4b205c8cd8afe121c54e9166ac3c440dd8456bef3");
    }
}
