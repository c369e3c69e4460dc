//! Which answers are run again, and what two answers prove.
//!
//! Nobody trusts a machine: a secret few of its tasks also go to another machine, hidden in an ordinary slice.
//! Answers are deterministic, so two that differ prove that somebody lied, and our own worker says who.
//!
//! The choice is made when a slice goes out, from a secret that never leaves this node, so a provider cannot
//! tell a checked task from any other. One re-run checks two machines at once: the one that answers for the
//! job and the one that was asked again. Both count it towards their share, which halves the cost of checking
//! and leaves the chance that a given task of a given machine is compared at one in [`one_in`].
//!
//! Why checks never wait in a circle: a slice is paid after its checks, those of its own answers and, as long as it is a
//! stranger, those that it runs for others; and a machine shows its next answers only after that. But it runs the next
//! slices at once and commits to what it found ([`crate::wire::CommitMsg`]), a commitment is enough to compare, and no
//! slice is sent to a machine that would not run it before it is paid ([`crate::settle::AT_RISK_MAX`]): so no check waits
//! for any payment. And every slice takes as many open checks along as it can, so that they never pile up.

use glean_types::params::{CANARY_ONE_IN, CHECK_ALL_FIRST, CHECK_CLEAN_AFTER, CHECK_ONE_IN_CLEAN, CHECK_ONE_IN_NEW};
use glean_types::{B256, JobId, NodeId};

use crate::io::RunId;
use crate::market::Ix;
use crate::settle::SharedReceipt;
use crate::step::Step;

/// Most re-runs that a machine may owe for, so that its own answers are never unchecked for long.
pub(crate) const CREDIT_MAX: u32 = 4;

/// A secret number for this task at this machine: the same on every replay, known to nobody else.
fn roll(secret: &[u8; 32], purpose: u8, job: JobId, index: u32, machine: NodeId) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&[purpose]).update(job.as_bytes()).update(&index.to_le_bytes()).update(machine.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// One in so many tasks of a machine with `right` checked answers is compared.
pub(crate) fn one_in(right: u32) -> u32 {
    match right {
        r if r < CHECK_ALL_FIRST => 1,
        r if r < CHECK_CLEAN_AFTER => CHECK_ONE_IN_NEW,
        _ => CHECK_ONE_IN_CLEAN,
    }
}

/// Whether this task of that machine is to be checked. `right` counts checks under way as passed.
pub(crate) fn is_chosen(secret: &[u8; 32], job: JobId, index: u32, machine: NodeId, right: u32) -> bool {
    roll(secret, b'c', job, index, machine).is_multiple_of(u64::from(one_in(right)))
}

/// Whether the check is a canary: a task whose answer is known already, instead of a second run of this one.
pub(crate) fn is_canary(secret: &[u8; 32], job: JobId, index: u32, machine: NodeId) -> bool {
    roll(secret, b'y', job, index, machine).is_multiple_of(u64::from(CANARY_ONE_IN))
}

/// Whether this machine is the one that runs the copy: a coin, so that the next in line is not always it.
pub(crate) fn is_checker(secret: &[u8; 32], job: JobId, index: u32, machine: NodeId) -> bool {
    roll(secret, b'k', job, index, machine).is_multiple_of(2)
}

/// One machine's answer to a task under check.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub machine: Ix,
    /// Its slice.
    pub slice: u64,
    pub receipt: SharedReceipt,
    pub digest: B256,
    pub leaf: B256,
}

/// Where the second run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In nobody's slice yet.
    Waiting,
    /// In that slice.
    At(u64),
    /// To be run by our own worker.
    OwnQueue,
    /// In our own worker.
    Own(RunId),
}

/// A task that is being checked.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// Whose answer is checked, in which slice.
    pub machine: Ix,
    pub original: u64,
    pub place: Place,
    /// When the original was answered: from then on its payment waits.
    pub answered_ms: Option<u64>,
    /// What has been answered: by the original machine, by others.
    pub answers: Vec<Answer>,
    /// Slices whose payment waits for this check.
    pub holds: Vec<u64>,
    /// Machines that were sent a copy and came back without an answer: none is asked twice, or one could keep a check open, and
    /// its machine unpaid, for ever.
    pub gave_up: Vec<Ix>,
}

impl Check {
    pub fn new(machine: Ix, original: u64) -> Check {
        Check {
            machine,
            original,
            place: Place::Waiting,
            answered_ms: None,
            answers: Vec::new(),
            holds: Vec::new(),
            gave_up: Vec::new(),
        }
    }

    /// The second run is in that slice. If it is a stranger's, its payment waits for this check, too: who is asked to check
    /// others may lie as well. Gives how many more checks it waits for.
    pub fn place_at(&mut self, seq: u64, is_stranger: bool) -> u32 {
        self.place = Place::At(seq);
        let is_new = is_stranger && !self.holds.contains(&seq);
        if is_new {
            self.holds.push(seq);
        }
        u32::from(is_new)
    }

    /// Whether the answer under check has waited for long enough.
    pub fn has_waited(&self, step: &Step) -> bool {
        self.answered_ms.is_some_and(|at| step.now_ms >= at.saturating_add(step.settings.check_wait_ms))
    }

    pub fn has_original(&self) -> bool {
        self.answers.iter().any(|answer| answer.slice == self.original)
    }

    /// What the answers say so far.
    pub fn compare(&self) -> Finding {
        match self.answers.as_slice() {
            [] | [_] => Finding::Open,
            [first, rest @ ..] if rest.iter().all(|answer| answer.leaf == first.leaf) => Finding::Agree,
            _ => Finding::Differ,
        }
    }
}

/// What a set of answers to one task says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Too few answers.
    Open,
    /// All the same.
    Agree,
    /// Somebody lied: our own worker decides.
    Differ,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [9; 32];

    fn share(right: u32) -> usize {
        (0..20_000).filter(|i| is_chosen(&SECRET, JobId([1; 32]), *i, NodeId([2; 32]), right)).count()
    }

    #[test]
    fn the_share_falls_with_a_clean_history() {
        assert_eq!(share(0), 20_000, "all of an unknown machine's");
        assert_eq!(share(CHECK_ALL_FIRST - 1), 20_000);
        assert!((1_800..2_200).contains(&share(CHECK_ALL_FIRST)), "{}", share(CHECK_ALL_FIRST));
        assert!((850..1_150).contains(&share(CHECK_CLEAN_AFTER)), "{}", share(CHECK_CLEAN_AFTER));
    }

    #[test]
    fn the_choice_is_secret_and_differs_from_machine_to_machine() {
        let chosen = |secret: [u8; 32], machine: u8| -> Vec<u32> {
            (0..2_000).filter(|i| is_chosen(&secret, JobId([1; 32]), *i, NodeId([machine; 32]), 50)).collect()
        };
        assert_eq!(chosen(SECRET, 2), chosen(SECRET, 2));
        assert_ne!(chosen(SECRET, 2), chosen(SECRET, 3));
        assert_ne!(chosen(SECRET, 2), chosen([8; 32], 2));
    }
}
