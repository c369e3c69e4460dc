//! A job under way: its tasks, its purse, and how much of it to hand to one machine at a time.
//!
//! What must stay true: a task is in exactly one [`TaskState`], an ended one never becomes anything else
//! (but by [`Job::rerun_failed`]), and no step looks at all tasks of a job.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use glean_types::params::{FUEL_PER_TASK, SLICE_MS_AIM, SLICE_PRICE_MAX, SLICE_TASKS_MAX};
use glean_types::{Amount, B256, ChannelId, Hash, JobId, Signed, TaskResult, TaskSpec, encode};

use crate::io::{Submission, TaskState};
use crate::market::{History, Ix};
use crate::settle::{Purse, SharedReceipt, fuel_for, price_of};

/// A task that so many machines in a row had no answer for is given up.
pub(crate) const TRIES_MAX: u8 = 6;
/// A machine that we know nothing of starts with this many tasks, or with one for each of its slots if it has more,
const FIRST_TASKS: u64 = 2;
const FIRST_TASKS_MAX: u64 = 8;
/// and with slices of up to one hundredth of a gUSD; both double as it proves itself.
const FIRST_VALUE: Amount = match Amount::from_units(10_000_000_000_000_000) {
    Some(amount) => amount,
    None => Amount::ZERO,
};
/// Tasks are handed out in a secret order within blocks of this size: near the user's order, and yet nobody
/// can tell from its number that a task has been handed out before.
const SHUFFLE_BLOCK: usize = 4_096;
/// Answers known for certain that are kept for canaries.
const KNOWN_MAX: usize = 256;

/// One task's standing.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub state: TaskState,
    /// Machines that had no answer so far.
    pub tries: u8,
    /// Slices that carry it for its answer's sake (not as a check).
    pub live: u8,
    /// Too heavy for the price cap of a slice with others: it goes alone.
    pub heavy: bool,
    /// The machine that last failed to answer it.
    pub avoid: Ix,
    /// Whose answer was accepted.
    pub by: Ix,
    /// Who confirmed it.
    pub checked_by: Ix,
    /// The leaf of the answer that was accepted or, if none is yet, confirmed.
    pub leaf: B256,
}

impl Task {
    fn new() -> Task {
        Task {
            state: TaskState::Waiting,
            tries: 0,
            live: 0,
            heavy: false,
            avoid: Ix::NONE,
            by: Ix::NONE,
            checked_by: Ix::NONE,
            leaf: B256::ZERO,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled)
    }

    /// Whether an answer of it stands.
    pub fn is_answered(&self) -> bool {
        self.by != Ix::NONE
    }

    /// Two machines, or our own, say what the answer is. Its slice may still be on its way, and another's be first.
    pub fn confirm(&mut self, by: Ix, leaf: B256) {
        self.checked_by = by;
        if !self.is_answered() {
            self.leaf = leaf;
        }
    }

    /// Whether an answer with this leaf is not what stands or was confirmed.
    pub fn contradicts(&self, leaf: B256) -> bool {
        (self.is_answered() || self.checked_by != Ix::NONE) && self.leaf != leaf
    }
}

/// A slice that was paid: what it would take to accuse its machine later.
#[derive(Debug, Clone)]
pub(crate) struct PaidSlice {
    pub receipt: SharedReceipt,
    pub digest: B256,
    /// Its answers that nobody has compared with another machine's.
    pub unchecked: Vec<u32>,
}

/// A task whose answer is beyond doubt, and who has seen it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub index: u32,
    pub seen: Vec<Ix>,
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Job {
    pub id: JobId,
    pub signed: Signed<glean_types::Job>,
    pub paper: Arc<glean_types::Job>,
    pub specs: Vec<TaskSpec>,
    pub max_fails: Option<u32>,
    pub tasks: Vec<Task>,
    /// How many tasks are in each state, by `TaskState as usize`.
    counts: [u32; 6],
    /// Waiting tasks; entries whose task is no longer waiting are skipped.
    queue: VecDeque<u32>,
    /// Accepted answers of a machine caught later, to be run again.
    pub retro: VecDeque<u32>,
    /// Of these, how many are at machines or in our worker.
    pub retro_open: u32,
    pub purse: Purse,
    pub rechecked: u32,
    /// Measured: answers, their fuel, and the most that one used.
    pub answers: u64,
    fuel_sum: u64,
    fuel_most: u64,
    /// By machine: the highest price cap under which, by its word, not even one task fitted. Its word raises the caps of no
    /// other machine, or one of them could price all of them out of the job.
    over_caps: BTreeMap<Ix, Amount>,
    /// Checks that no machine has been given yet, oldest first.
    pub unplaced: Vec<u32>,
    pub known: VecDeque<Known>,
    pub paid_slices: BTreeMap<Ix, Vec<PaidSlice>>,
    pub ended: bool,
    pub cancelled: bool,
}

/// The order in which tasks are handed out: shuffled block by block, by a secret.
fn secret_order(secret: &[u8; 32], job: JobId, tasks: u32) -> VecDeque<u32> {
    let mut order: Vec<u32> = (0..tasks).collect();
    let mut random = blake3::Hasher::new_keyed(secret).update(b"order").update(job.as_bytes()).finalize_xof();
    for block in order.chunks_mut(SHUFFLE_BLOCK) {
        for last in (1..block.len()).rev() {
            let mut bytes = [0u8; 8];
            random.fill(&mut bytes);
            let at = u64::from_le_bytes(bytes) % (last as u64 + 1);
            block.swap(last, at as usize);
        }
    }
    order.into()
}

impl Job {
    pub fn new(secret: &[u8; 32], submission: Submission) -> Job {
        let paper = Arc::new(submission.job.paper.clone());
        let id = paper.id();
        let count = paper.tasks;
        Job {
            id,
            signed: submission.job,
            specs: submission.specs,
            max_fails: submission.max_fails,
            tasks: vec![Task::new(); count as usize],
            counts: [count, 0, 0, 0, 0, 0],
            queue: secret_order(secret, id, count),
            retro: VecDeque::new(),
            retro_open: 0,
            purse: Purse::new(paper.budget),
            rechecked: 0,
            answers: 0,
            fuel_sum: 0,
            fuel_most: 0,
            over_caps: BTreeMap::new(),
            unplaced: Vec::new(),
            known: VecDeque::new(),
            paid_slices: BTreeMap::new(),
            ended: false,
            cancelled: false,
            paper,
        }
    }

    pub fn count(&self, state: TaskState) -> u32 {
        self.counts[state as usize]
    }

    pub fn set_state(&mut self, index: u32, state: TaskState) {
        let task = &mut self.tasks[index as usize];
        self.counts[task.state as usize] -= 1;
        self.counts[state as usize] += 1;
        task.state = state;
    }

    /// Puts a task back to wait, ahead of the others: it has waited longest.
    pub fn requeue(&mut self, index: u32) {
        self.set_state(index, TaskState::Waiting);
        self.queue.push_front(index);
    }

    /// Takes the next waiting task out of the queue.
    pub fn pop(&mut self) -> Option<u32> {
        while let Some(index) = self.queue.pop_front() {
            if self.tasks[index as usize].state == TaskState::Waiting {
                return Some(index);
            }
        }
        None
    }

    /// Gives back what [`Job::pop`] returned.
    pub fn unpop(&mut self, index: u32) {
        self.queue.push_front(index);
    }

    pub fn waiting(&self) -> u32 {
        self.count(TaskState::Waiting)
    }

    /// Whether any machine could be given something.
    pub fn has_work(&self) -> bool {
        !self.ended && (self.waiting() > 0 || !self.retro.is_empty())
    }

    /// Whether every task has ended and nothing is in doubt any more.
    pub fn is_complete(&self) -> bool {
        let over = self.count(TaskState::Succeeded) + self.count(TaskState::Failed) + self.count(TaskState::Cancelled);
        over == self.paper.tasks && self.retro.is_empty() && self.retro_open == 0
    }

    /// All tasks that have not ended, for the rare moments that concern every one of them.
    pub fn open_tasks(&self) -> Vec<u32> {
        (0..self.paper.tasks).filter(|index| !self.tasks[*index as usize].is_over()).collect()
    }

    /// Failed tasks get another life.
    pub fn rerun_failed(&mut self) -> u32 {
        let failed: Vec<u32> =
            (0..self.paper.tasks).filter(|i| self.tasks[*i as usize].state == TaskState::Failed).collect();
        for index in &failed {
            self.set_state(*index, TaskState::Waiting);
            self.tasks[*index as usize] = Task::new();
            self.queue.push_back(*index);
        }
        self.over_caps.clear();
        if !failed.is_empty() {
            (self.ended, self.cancelled) = (false, false);
        }
        failed.len() as u32
    }

    /// The hash of a task's input: [`glean_types::TaskInput::hash`] without copying the spec.
    pub fn input_hash(&self, index: u32) -> Hash {
        input_hash(self.paper.manifest, &self.specs[index as usize])
    }

    /// Takes a measurement in.
    pub fn measure(&mut self, result: &TaskResult) {
        self.answers += 1;
        self.fuel_sum = self.fuel_sum.saturating_add(result.fuel);
        self.fuel_most = self.fuel_most.max(result.fuel);
    }

    /// Mean fuel of a task, once anything is known.
    pub fn mean_fuel(&self) -> Option<u64> {
        self.fuel_sum.checked_div(self.answers)
    }

    /// A machine found a cap too low for even one task.
    pub fn over_cap(&mut self, machine: Ix, cap: Amount) {
        let known = self.over_caps.entry(machine).or_insert(cap);
        *known = cap.max(*known);
    }

    /// Remembers an answer as beyond doubt, for canaries.
    pub fn learn(&mut self, index: u32, seen: Vec<Ix>) {
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(Known { index, seen });
    }

    /// How large a slice to give to a machine, and its price cap.
    pub fn size(&self, machine: &Size) -> Sizing {
        machine.plan(self, machine.tasks_max(self))
    }

    /// The same for a copy of `tasks` tasks that another machine is late with.
    pub fn size_for(&self, machine: &Size, tasks: u32) -> Sizing {
        machine.plan(self, u64::from(tasks).min(machine.history.answers.saturating_add(FIRST_TASKS)).max(1))
    }
}

/// See [`Job::input_hash`].
pub(crate) fn input_hash(manifest: Hash, spec: &TaskSpec) -> Hash {
    // A tuple is encoded as the struct of the same fields: pinned by a test below.
    Hash::of(&encode(&(manifest, spec)))
}

/// What the size of a slice depends on, besides the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub machine: Ix,
    pub price: Amount,
    pub history: History,
    pub mfuel_per_s: u64,
    pub slots: u32,
    /// Tasks of ours that it is at work on.
    pub in_work: u32,
    pub deposit_free: Amount,
    /// Machines that share the rest of the job, and their speed together.
    pub machines: u32,
    pub speed: u64,
}

/// How large the next slice is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizing {
    Send {
        tasks: u32,
        price_max: Amount,
    },
    /// The channel's deposit does not cover one task: it needs this much more.
    NeedDeposit {
        more: Amount,
    },
    /// The job's budget does not, as long as what is under way is not settled.
    NeedBudget,
}

impl Size {
    fn plan(&self, job: &Job, mut tasks: u64) -> Sizing {
        let (budget, deposit) = (job.purse.free(), self.deposit_free);
        let money = budget.min(deposit);
        while tasks > 1 && self.price_max(job, tasks) > money {
            tasks /= 2;
        }
        // The last money may go out under a tighter cap, as long as a usual task fits.
        let price_max = self.price_max(job, tasks).min(money);
        let least = self.least(job);
        if price_max >= least {
            Sizing::Send { tasks: tasks as u32, price_max }
        } else if budget < least {
            Sizing::NeedBudget
        } else {
            Sizing::NeedDeposit { more: self.price_max(job, 1).min(budget).max(least).saturating_sub(deposit) }
        }
    }

    /// The smallest cap that is worth sending: one usual task, and more than what failed before.
    fn least(&self, job: &Job) -> Amount {
        let one = Amount::from_units(1).unwrap_or(Amount::ZERO);
        let usual = job.mean_fuel().map_or(one, |mean| price_of(self.price, mean, 1));
        let failed = self.over_cap(job).map_or(Amount::ZERO, |cap| cap.saturating_add(one));
        usual.max(failed).min(self.worst(job, 1))
    }

    fn over_cap(&self, job: &Job) -> Option<Amount> {
        job.over_caps.get(&self.machine).copied()
    }

    /// What so many tasks cost if every one burns all that the job allows.
    fn worst(&self, job: &Job, tasks: u64) -> Amount {
        price_of(self.price, job.paper.fuel_max.saturating_mul(tasks), tasks)
    }

    /// Tasks that a slice should have, money aside.
    fn tasks_max(&self, job: &Job) -> u64 {
        let slots = u64::from(self.slots);
        // Half of its share; in the end, one for each idle slot.
        let fair = if self.is_tail(job) { self.idle() } else { (self.share(work(job)) / 2).max(slots) };
        // Slow start: as many again as it has answered so far, so slices double.
        let first = slots.clamp(FIRST_TASKS, FIRST_TASKS_MAX);
        let trusted = self.history.answers.saturating_add(first);
        let Some(mean) = job.mean_fuel() else { return fair.min(first) };
        let billed = mean.saturating_add(FUEL_PER_TASK);
        // One mfuel/s is 1,000 fuel per millisecond.
        let timely = self.mfuel_per_s.saturating_mul(1_000).saturating_mul(SLICE_MS_AIM) / billed;
        let worth = fuel_for(self.price, self.value_max()) / billed;
        // Fewer tasks than slots would leave some of them idle.
        fair.min(trusted).min(timely.min(worth).max(slots)).clamp(1, SLICE_TASKS_MAX as u64)
    }

    /// Whether more tasks would only wait there while other machines run dry.
    pub fn is_enough(&self, job: &Job) -> bool {
        self.idle() == 0 && self.is_tail(job)
    }

    /// Slots that have no task of ours yet.
    fn idle(&self) -> u64 {
        u64::from(self.slots.saturating_sub(self.in_work))
    }

    /// What it would do of so many tasks if all machines ended together.
    fn share(&self, tasks: u64) -> u64 {
        let speed = u128::from(self.speed.max(self.mfuel_per_s).max(1));
        u64::try_from(u128::from(tasks) * u128::from(self.mfuel_per_s) / speed).unwrap_or(tasks)
    }

    /// Whether so little is left that a round of tasks is better kept for a machine with an idle slot than queued here: this
    /// one would be done with it after all the others are.
    fn is_tail(&self, job: &Job) -> bool {
        let left = work(job).saturating_add(job.count(TaskState::Leased).into());
        self.share(left) < u64::from(self.in_work) + u64::from(self.slots)
    }

    /// What a slice at this machine may be worth: doubles with what it was paid, up to the protocol's limit.
    fn value_max(&self) -> Amount {
        self.history.paid.saturating_add(FIRST_VALUE).min(SLICE_PRICE_MAX)
    }

    /// The price cap for so many tasks: twice the mean and once the most seen, or, before anything is known, what a slice
    /// may be worth if every machine is to have a share; doubled after it proved too low, and never more than the worst case.
    fn price_max(&self, job: &Job, tasks: u64) -> Amount {
        let expected = match job.mean_fuel() {
            Some(mean) => {
                let fuel = mean.saturating_mul(2).saturating_mul(tasks).saturating_add(job.fuel_most);
                price_of(self.price, fuel, tasks)
            }
            None => {
                let share = job.purse.free().scale(1, self.machines.max(1).saturating_mul(2));
                share.min(SLICE_PRICE_MAX.scale(u32::try_from(tasks).unwrap_or(1), 1)).max(self.value_max())
            }
        };
        let raised = self.over_cap(job).map_or(Amount::ZERO, |cap| cap.scale(2, 1));
        expected.max(raised).min(self.worst(job, tasks))
    }
}

/// Tasks of a job that a machine could be given.
fn work(job: &Job) -> u64 {
    u64::from(job.waiting()).max(job.retro.len() as u64).max(1)
}

/// Why a task is in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// For its answer.
    Original,
    /// For its answer, although another machine has it too.
    Backup,
    /// To check another machine.
    Copy,
    /// To check this machine: the answer is known.
    Canary,
    /// To check an accepted answer of a machine that was caught.
    Retro,
}

impl Role {
    /// Whether the job still needs the answer.
    pub fn is_for_answer(self) -> bool {
        matches!(self, Role::Original | Role::Backup)
    }
}

/// One task of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub index: u32,
    pub role: Role,
    /// Answered, but nobody could say whether rightly: paid and not used.
    pub void: bool,
}

impl Item {
    pub fn new(index: u32, role: Role) -> Item {
        Item { index, role, void: false }
    }
}

/// A slice at a provider.
#[derive(Debug)]
pub(crate) struct Slice {
    pub job: usize,
    pub machine: Ix,
    pub channel: ChannelId,
    pub number: u64,
    pub items: Vec<Item>,
    pub price_max: Amount,
    pub sent_ms: u64,
    /// Since when its machine may work on it: a machine that we owe for an earlier slice waits for us, not we for it.
    pub clock_ms: u64,
    /// What it should take once it runs.
    pub expected_ms: u64,
    /// How long its lease is once it runs.
    pub lease_ms: u64,
    pub deadline_ms: u64,
    /// Checks that its payment waits for.
    pub pending: u32,
    /// Tasks that its machine was at work on when this was sent.
    pub company: u32,
    /// It was sent again, in another session or after a restart: its answer may have been ready before.
    pub is_resent: bool,
    /// The leaves that its machine is bound to, before it shows the answers.
    pub committed: Vec<(u32, B256)>,
    pub stage: Stage,
}

/// Where a slice stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Sent, no answer yet.
    Out,
    /// Given up: its tasks went elsewhere and its reserve was freed. If its answer still comes, it is paid
    /// while money lasts, since the work was done.
    Lost,
    /// Answered; waits for its checks, then for payment.
    Answered(Box<Answered>),
}

/// A slice's answer. `results` and `leaves` are in the order of the slice's items.
#[derive(Debug)]
pub(crate) struct Answered {
    pub receipt: SharedReceipt,
    pub digest: B256,
    pub results: Vec<Option<TaskResult>>,
    pub leaves: Vec<B256>,
}

impl Slice {
    pub fn is_out(&self) -> bool {
        matches!(self.stage, Stage::Out)
    }

    pub fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Answered(_))
    }

    /// What the whole machine burns in the time that this slice and its company took, if this slice burnt `fuel`: each
    /// task has a slot of its own while there are enough, and each slot does the same.
    pub fn fuel_of_all_slots(&self, fuel: u64, slots: u64) -> u64 {
        let tasks = self.items.len().max(1) as u64;
        let all = tasks.saturating_add(u64::from(self.company));
        let whole = u128::from(fuel) * u128::from(slots) * u128::from(all) / u128::from(tasks * all.min(slots).max(1));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    /// Whether its machine may still be at work on it.
    pub fn is_in_work(&self) -> bool {
        self.is_out() && self.committed.is_empty()
    }

    pub fn answered(&self) -> Option<&Answered> {
        match &self.stage {
            Stage::Answered(answered) => Some(answered),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use glean_types::TaskInput;

    fn size(answers: u64, paid: Amount) -> Size {
        Size {
            machine: Ix(0),
            price: Amount::whole(1).scale(1, 1_000),
            history: History { answers, paid, ..History::default() },
            mfuel_per_s: 4_000,
            slots: 1,
            in_work: 0,
            deposit_free: Amount::whole(1),
            machines: 1,
            speed: 4_000,
        }
    }

    fn job(tasks: u32, budget: Amount, answered: &[u64]) -> Job {
        let mut job = Job::new(&[3; 32], testing::submission(tasks, budget, 10_000_000_000));
        for fuel in answered {
            job.measure(&testing::result(0, *fuel));
        }
        job
    }

    fn sent(sizing: Sizing) -> (u32, Amount) {
        match sizing {
            Sizing::Send { tasks, price_max } => (tasks, price_max),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slices_start_small_and_double() {
        let job = job(100_000, Amount::whole(9), &[1_000_000]);
        let start = |answers| sent(job.size(&size(answers, Amount::whole(1)))).0;
        assert_eq!([start(0), start(2), start(6), start(14), start(10_000)], [2, 4, 8, 16, SLICE_TASKS_MAX as u32]);
    }

    #[test]
    fn a_slice_aims_at_its_time_and_its_worth() {
        let heavy = job(100_000, Amount::whole(9), &[400_000_000]);
        // 4,000 mfuel/s for 2 s is 8 gfuel, and 0.0004 gUSD a task.
        assert_eq!(sent(heavy.size(&size(1_000, Amount::whole(1)))).0, 19);
        let dear = Size { price: Amount::whole(1).scale(1, 10), ..size(1_000, Amount::whole(1)) };
        assert_eq!(sent(heavy.size(&dear)).0, 1, "0.04 of 0.05 gUSD");
    }

    #[test]
    fn the_cap_covers_twice_the_mean_and_never_passes_the_money() {
        let job = job(100, Amount::whole(1), &[1_000_000]);
        let (tasks, price_max) = sent(job.size(&size(1_000, Amount::whole(1))));
        assert_eq!(tasks, 50);
        assert_eq!(price_max, price_of(size(0, Amount::ZERO).price, 101_000_000, 50));
        let poor =
            Size { deposit_free: price_of(size(0, Amount::ZERO).price, 3_000_000, 1), ..size(1_000, Amount::ZERO) };
        assert_eq!(sent(job.size(&poor)).0, 1);
        let broke = Size { deposit_free: Amount::ZERO, ..poor };
        assert!(matches!(job.size(&broke), Sizing::NeedDeposit { more } if more > Amount::ZERO));
    }

    #[test]
    fn a_cap_that_was_too_low_is_doubled() {
        let mut job = job(100, Amount::whole(1), &[]);
        let first = |job: &Job, machines| sent(job.size(&Size { machines, ..size(0, Amount::ZERO) })).1;
        let worst = price_of(size(0, Amount::ZERO).price, 20_000_000_000, 2);
        assert_eq!(first(&job, 1), worst, "two tasks can cost no more");
        assert_eq!(first(&job, 100), FIRST_VALUE);
        job.over_cap(Ix(0), FIRST_VALUE);
        assert_eq!(first(&job, 100), FIRST_VALUE.scale(2, 1));
        job.over_cap(Ix(0), Amount::whole(1));
        let dear = Size { price: Amount::whole(1), ..size(0, Amount::ZERO) };
        assert_eq!(job.size(&dear), Sizing::NeedBudget);
    }

    #[test]
    fn the_order_is_a_secret_permutation() {
        let order = secret_order(&[1; 32], JobId([2; 32]), 5_000);
        assert_ne!(order, secret_order(&[2; 32], JobId([2; 32]), 5_000));
        let mut sorted: Vec<u32> = order.iter().copied().collect();
        assert!(sorted[..SHUFFLE_BLOCK].iter().all(|i| (*i as usize) < SHUFFLE_BLOCK), "near the user's order");
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..5_000));
    }

    #[test]
    fn the_input_hash_is_that_of_the_types_crate() {
        let spec = TaskSpec { index: 7, args: vec!["a".into()], stdin: b"x".to_vec() };
        let input = TaskInput { manifest: Hash([4; 32]), spec: spec.clone() };
        assert_eq!(input_hash(Hash([4; 32]), &spec), input.hash());
    }

    #[test]
    fn states_are_counted_and_stale_queue_entries_skipped() {
        let mut job = job(3, Amount::whole(1), &[]);
        let first = job.pop().unwrap();
        job.set_state(first, TaskState::Leased);
        job.requeue(first);
        job.set_state(first, TaskState::Checking);
        assert_eq!(job.waiting(), 2);
        assert!(job.pop().is_some() && job.pop().is_some() && job.pop().is_none());
    }
}
