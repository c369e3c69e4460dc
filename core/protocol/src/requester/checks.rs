//! Second answers: comparing them, asking our own worker, and what happens to a liar.
//!
//! Two answers that agree clear both machines. Two that differ go to our own worker, whose word is final for
//! us. A machine found wrong is never paid for that slice, gets no further work, and everything of its that
//! nobody had compared is run again; what was already accepted is corrected if need be.

use std::collections::BTreeMap;

use glean_types::params::CHECK_ALL_FIRST;
use glean_types::{Address, Amount, B256, Paper, TaskResult, Verdict};

use super::answer::accept;
use super::{Requester, give};
use crate::defence::Defence;
use crate::io::{Event, FailReason, Output, Record, RunId, RunOrder, TaskState};
use crate::market::Ix;
use crate::settle::SharedReceipt;
use crate::step::Step;
use crate::verify::{Answer, CREDIT_MAX, Check, Finding, Place};
use crate::wire::NoVerdict;
use crate::work::{Item, Role, Slice};

/// Tasks of one order to our own worker, if they are short,
const OWN_TASKS: u64 = 8;
/// together no more than this much fuel: about a second,
const OWN_FUEL: u64 = 1_000_000_000;
/// and orders at the same time.
const OWN_RUNS: usize = 2;
/// Accepted answers of a caught machine that are run again, newest first.
const RETRO_MAX: usize = 2_048;

impl Requester {
    // ---- comparing ----

    /// Compares one answer of an answered slice with whatever other answers there are.
    pub(super) fn compare(&mut self, step: &mut Step, seq: u64, at: usize) {
        let Some(slice) = self.slices.get(&seq) else { return };
        let (slot, ix, item) = (slice.job, slice.machine, slice.items[at]);
        let Some(answered) = slice.answered() else { return };
        let answer = Answer {
            machine: ix,
            slice: seq,
            receipt: answered.receipt.clone(),
            digest: answered.digest,
            leaf: answered.leaves[at],
        };
        let leaf = answer.leaf;
        let key = (slot, item.index);
        if item.role == Role::Retro {
            self.jobs[slot].retro_open = self.jobs[slot].retro_open.saturating_sub(1);
        }
        if let Some(check) = self.checks.get_mut(&key) {
            if check.original == seq {
                check.answered_ms = Some(step.now_ms);
            }
            if !check.answers.iter().any(|known| known.machine == ix) {
                check.answers.push(answer);
            }
            if item.role.is_for_answer() && !self.jobs[slot].tasks[item.index as usize].is_over() {
                self.jobs[slot].set_state(item.index, TaskState::Checking);
            }
            self.judge(step, key);
            return;
        }
        let job = &mut self.jobs[slot];
        let task = &job.tasks[item.index as usize];
        let agrees = task.is_answered() && task.leaf == leaf;
        match item.role {
            Role::Original | Role::Backup if !task.is_over() => job.set_state(item.index, TaskState::Checking),
            Role::Copy if !task.is_over() => self.adopt(step, seq, slot, item.index),
            Role::Copy | Role::Canary if agrees => self.credit(step, ix),
            Role::Retro if agrees => {
                let by = task.by;
                job.tasks[item.index as usize].checked_by = ix;
                job.learn(item.index, vec![by, ix]);
                self.credit(step, ix);
            }
            _ => {}
        }
    }

    /// Compares the answers that a machine is bound to and holds back.
    pub(super) fn compare_committed(&mut self, step: &mut Step, seq: u64, receipt: SharedReceipt) {
        let Some(slice) = self.slices.get(&seq) else { return };
        let (slot, ix) = (slice.job, slice.machine);
        let digest = receipt.paper.digest(&step.me.domain);
        let leaves: BTreeMap<u32, B256> = slice.committed.iter().copied().collect();
        for item in slice.items.clone() {
            let key = (slot, item.index);
            let Some(check) = self.checks.get_mut(&key) else { continue };
            let Some(leaf) = leaves.get(&item.index).copied() else {
                if item.role == Role::Copy {
                    self.put_back(step, slot, seq, item, Ix::NONE, None);
                }
                continue;
            };
            if !check.answers.iter().any(|known| known.machine == ix) {
                check.answers.push(Answer { machine: ix, slice: seq, receipt: receipt.clone(), digest, leaf });
                self.judge(step, key);
            }
        }
    }

    /// What the answers to a task under check say now.
    fn judge(&mut self, step: &mut Step, key: (usize, u32)) {
        let Some(check) = self.checks.get_mut(&key) else { return };
        let task = &self.jobs[key.0].tasks[key.1 as usize];
        let is_contradicted = check.answers.iter().any(|answer| task.contradicts(answer.leaf));
        match check.compare() {
            // What both say may still not be what a third machine was believed meanwhile.
            Finding::Agree if check.has_original() && !is_contradicted => self.pass(step, key),
            Finding::Agree if !is_contradicted => {}
            Finding::Differ | Finding::Agree => {
                let slices: Vec<u64> = check.answers.iter().map(|answer| answer.slice).collect();
                slices.into_iter().for_each(|seq| self.hold(key, seq));
                self.ask_own(key);
            }
            Finding::Open => self.hurry(step, key),
        }
    }

    /// The copy of a check comes back without an answer: another machine is to run it, and this one's slice does not wait.
    pub(super) fn let_go_of(&mut self, key: (usize, u32), seq: u64) {
        let Some(check) = self.checks.get_mut(&key) else { return };
        check.place = Place::Waiting;
        check.gave_up.extend(self.slices.get(&seq).map(|slice| slice.machine));
        self.jobs[key.0].unplaced.push(key.1);
        // One that has answered already may be a liar, and waits.
        let has_answered = check.answers.iter().any(|answer| answer.slice == seq);
        let held = check.holds.iter().position(|held| *held == seq && !has_answered);
        if let (Some(at), Some(slice)) = (held, self.slices.get_mut(&seq)) {
            check.holds.swap_remove(at);
            slice.pending = slice.pending.saturating_sub(1);
        }
    }

    /// Makes a slice's payment wait for a check.
    pub(super) fn hold(&mut self, key: (usize, u32), seq: u64) {
        let (Some(check), Some(slice)) = (self.checks.get_mut(&key), self.slices.get_mut(&seq)) else { return };
        if !check.holds.contains(&seq) {
            check.holds.push(seq);
            slice.pending += 1;
        }
    }

    /// Ends a check: those that waited for it may be paid.
    fn close(&mut self, key: (usize, u32)) -> Option<Check> {
        let check = self.checks.remove(&key)?;
        if let Some(rel) = self.rels.get_mut(check.machine.0 as usize) {
            rel.pending_checks = rel.pending_checks.saturating_sub(1);
        }
        for seq in &check.holds {
            if let Some(slice) = self.slices.get_mut(seq) {
                slice.pending = slice.pending.saturating_sub(1);
                self.ready.push(*seq);
            }
        }
        Some(check)
    }

    /// Settles whatever no longer waits.
    pub(super) fn settle_ready(&mut self, step: &mut Step) {
        while let Some(seq) = self.ready.pop() {
            self.touched.extend(self.slices.get(&seq).map(|slice| slice.machine));
            self.settle(step, seq);
        }
    }

    /// All answers agree: every machine that gave one is cleared.
    fn pass(&mut self, step: &mut Step, key: (usize, u32)) {
        let Some(check) = self.close(key) else { return };
        let checker = check.answers.iter().find(|answer| answer.machine != check.machine).map(|answer| answer.machine);
        for answer in &check.answers {
            if answer.machine == check.machine {
                self.clear(step, answer.machine);
            } else {
                self.credit(step, answer.machine);
            }
        }
        let (slot, index) = key;
        let job = &mut self.jobs[slot];
        if let Some(answer) = check.answers.first() {
            job.tasks[index as usize].confirm(checker.unwrap_or(Ix::OWN), answer.leaf);
        }
        job.learn(index, check.answers.iter().map(|answer| answer.machine).collect());
        let (provider, checker) =
            (self.market.node(check.machine).unwrap_or_default(), checker.and_then(|ix| self.market.node(ix)));
        step.report(Event::CheckPassed { job: self.jobs[slot].id, index, provider, checker });
    }

    /// One more right answer of a machine.
    fn clear(&mut self, step: &mut Step, ix: Ix) {
        let Some(provider) = self.market.node(ix) else { return };
        if let Some(history) = self.market.history_mut(ix) {
            history.right = history.right.saturating_add(1);
        }
        step.record(Record::Clean { provider, count: 1 });
    }

    /// A machine was right where it was asked again: that counts towards its own share of checks.
    fn credit(&mut self, step: &mut Step, ix: Ix) {
        self.clear(step, ix);
        let right = self.market.get(ix).map_or(0, |machine| machine.history.right);
        if right > CHECK_ALL_FIRST
            && let Some(rel) = self.rels.get_mut(ix.0 as usize)
        {
            rel.credit = (rel.credit + 1).min(CREDIT_MAX);
        }
    }

    /// A copy becomes the answer itself, since the machine that was to be checked will not give one. Now it may be chosen for
    /// a check like any other answer: a stranger's always is.
    fn adopt(&mut self, step: &mut Step, seq: u64, slot: usize, index: u32) {
        let Some(slice) = self.slices.get_mut(&seq) else { return };
        let (is_answered, ix) = (slice.is_answered(), slice.machine);
        let Some(at) = slice.items.iter().position(|item| item.index == index) else { return };
        slice.items[at].role = Role::Original;
        let mut adopted = vec![slice.items[at]];
        let job = &mut self.jobs[slot];
        job.tasks[index as usize].live += 1;
        job.set_state(index, if is_answered { TaskState::Checking } else { TaskState::Leased });
        let pending = self.choose_checks(step, slot, ix, seq, &mut adopted, false);
        if let Some(slice) = self.slices.get_mut(&seq).filter(|_| pending > 0) {
            slice.pending += pending;
            self.compare(step, seq, at);
        }
    }

    /// The original of a check will not be answered: ends the check. True if a copy took its place.
    pub(super) fn orphan_check(&mut self, step: &mut Step, slot: usize, seq: u64, index: u32) -> bool {
        let key = (slot, index);
        self.jobs[slot].tasks[index as usize].checked_by = Ix::NONE;
        if self.checks.get(&key).is_none_or(|check| check.original != seq) {
            return false;
        }
        let Some(check) = self.close(key) else { return false };
        if self.jobs[slot].tasks[index as usize].is_over() {
            return false;
        }
        let placed = if let Place::At(copy) = check.place { Some(copy) } else { None };
        let answered = check.answers.iter().map(|answer| answer.slice).filter(|slice| *slice != seq);
        let heir = answered.chain(placed).find(|copy| {
            self.slices.get(copy).is_some_and(|slice| {
                (slice.is_answered() || slice.is_out())
                    && slice.items.iter().any(|item| item.index == index && item.role == Role::Copy)
            })
        });
        if let Some(copy) = heir {
            self.adopt(step, copy, slot, index);
        }
        heir.is_some()
    }

    /// Whether an answered slice contradicts what was accepted from others: then its payment waits.
    pub(super) fn disputes(&mut self, step: &mut Step, seq: u64) -> bool {
        let Some(slice) = self.slices.get(&seq) else { return false };
        let Some(answered) = slice.answered() else { return false };
        let (slot, ix) = (slice.job, slice.machine);
        let tasks = &self.jobs[slot].tasks;
        let contradicts = |(item, leaf): (&Item, &B256)| {
            (!item.void && tasks[item.index as usize].contradicts(*leaf)).then_some((item.index, *leaf))
        };
        let found: Vec<(u32, B256)> = slice.items.iter().zip(&answered.leaves).filter_map(contradicts).collect();
        let (receipt, digest) = (answered.receipt.clone(), answered.digest);
        for (index, leaf) in &found {
            let key = (slot, *index);
            let answer = Answer { machine: ix, slice: seq, receipt: receipt.clone(), digest, leaf: *leaf };
            let check = self.checks.entry(key).or_insert_with(|| Check::new(Ix::OWN, u64::MAX));
            if !check.answers.iter().any(|known| known.machine == ix) {
                check.answers.push(answer);
            }
            check.answered_ms.get_or_insert(step.now_ms);
            self.hold(key, seq);
            self.ask_own(key);
        }
        if !found.is_empty() {
            self.start_own_runs(step);
        }
        !found.is_empty()
    }

    // ---- our own worker ----

    /// Checks whose slice has been answered and that no other machine will answer soon go to our own worker.
    pub(super) fn hurry_checks(&mut self, step: &mut Step) {
        let keys: Vec<(usize, u32)> =
            self.checks.iter().filter(|(_, check)| !check.answers.is_empty()).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.hurry(step, key));
    }

    /// A copy that was answered first may hold its machine's payment: if the original is late, our own worker compares.
    fn hurry_copy(&mut self, step: &Step, key: (usize, u32)) {
        let Some(check) = self.checks.get(&key) else { return };
        let is_late = self.slices.get(&check.original).is_some_and(|slice| self.is_late(step, slice));
        let is_held = |seq| self.slices.get(seq).is_some_and(Slice::is_answered);
        if is_late && check.holds.iter().any(is_held) && self.has_own_room(key.0) {
            self.ask_own(key);
        }
    }

    fn hurry(&mut self, step: &mut Step, key: (usize, u32)) {
        let Some(check) = self.checks.get(&key) else { return };
        let Some(answered_ms) = check.answered_ms else { return self.hurry_copy(step, key) };
        // To find a machine may take twice as long as the first one took: long tasks are not run a third time.
        let took_ms = self.slices.get(&check.original).map_or(0, |slice| answered_ms.saturating_sub(slice.sent_ms));
        let is_due = match check.place {
            Place::Waiting => {
                step.now_ms >= answered_ms.saturating_add(step.settings.check_wait_ms).saturating_add(2 * took_ms)
                    || !self.someone_may_check(step, key.0, check)
            }
            Place::At(seq) => {
                check.has_waited(step) && self.slices.get(&seq).is_none_or(|copy| self.is_late(step, copy))
            }
            Place::OwnQueue | Place::Own(_) => false,
        };
        if !is_due {
            return;
        }
        let is_alone = !self.ranked.iter().any(|ix| give::may_check(step, &self.market, check, *ix));
        if is_alone || self.has_own_room(key.0) {
            self.ask_own(key);
        } else if let Place::At(seq) = check.place
            && let Some(check) = self.checks.get_mut(&key)
        {
            check.place = Place::Waiting;
            check.gave_up.extend(self.slices.get(&seq).map(|slice| slice.machine));
            self.jobs[key.0].unplaced.push(key.1);
        }
    }

    /// Whether a machine that will soon be sent a slice may answer this check.
    fn someone_may_check(&self, step: &Step, slot: usize, check: &Check) -> bool {
        (self.jobs[slot].has_work() || self.gives_checks(slot))
            && (0u32..).zip(&self.rels).any(|(i, rel)| {
                rel.engaged
                    && rel.up
                    && rel.broken.is_none()
                    && step.now_ms >= rel.backoff_until_ms
                    && rel.channel.as_ref().is_some_and(|channel| channel.agreed)
                    && give::may_check(step, &self.market, check, Ix(i))
            })
    }

    /// Whether our own worker would come to another check of this job soon.
    pub(super) fn has_own_room(&self, slot: usize) -> bool {
        self.own_runs.len() < OWN_RUNS || self.own_queue.len() < self.own_tasks(slot)
    }

    /// Whether other machines are sent checks of this job that no other work takes along: when our own worker would not come
    /// to them for long, or would be at each of them for long.
    pub(super) fn gives_checks(&self, slot: usize) -> bool {
        !self.has_own_room(slot) || self.jobs[slot].mean_fuel().is_some_and(|mean| mean > OWN_FUEL)
    }

    /// How many of a job's tasks go into one order.
    fn own_tasks(&self, slot: usize) -> usize {
        let mean = self.jobs[slot].mean_fuel().unwrap_or(OWN_FUEL).max(1);
        (OWN_FUEL / mean).clamp(1, OWN_TASKS) as usize
    }

    fn ask_own(&mut self, key: (usize, u32)) {
        if let Some(check) = self.checks.get_mut(&key).filter(|c| !matches!(c.place, Place::OwnQueue | Place::Own(_))) {
            check.place = Place::OwnQueue;
            self.own_queue.push_back(key);
        }
    }

    /// A task that many machines had no answer for: they may all be one owner's, so our own worker has the last word.
    pub(super) fn last_resort(&mut self, slot: usize, index: u32) {
        self.jobs[slot].set_state(index, TaskState::Checking);
        self.checks.entry((slot, index)).or_insert_with(|| Check::new(Ix::OWN, u64::MAX));
        self.ask_own((slot, index));
    }

    pub(super) fn start_own_runs(&mut self, step: &mut Step) {
        while self.own_runs.len() < OWN_RUNS {
            let Some((slot, first)) = self.next_own() else { return };
            let mut indexes = vec![first];
            while indexes.len() < self.own_tasks(slot) && self.own_queue.front().is_some_and(|(next, _)| *next == slot)
            {
                match self.next_own() {
                    Some((same, index)) if same == slot => indexes.push(index),
                    Some(other) => {
                        self.own_queue.push_front(other);
                        break;
                    }
                    None => break,
                }
            }
            let run = step.new_run();
            for index in &indexes {
                if let Some(check) = self.checks.get_mut(&(slot, *index)) {
                    check.place = Place::Own(run);
                }
            }
            let job = &mut self.jobs[slot];
            job.rechecked += indexes.len() as u32;
            step.put(Output::Run(RunOrder {
                run,
                job: job.paper.clone(),
                specs: indexes.iter().map(|index| job.specs[*index as usize].clone()).collect(),
                holders: Vec::new(),
                others: Vec::new(),
                fuel_cap: u64::MAX,
                is_check: true,
            }));
            self.own_runs.insert(run, (slot, indexes));
        }
    }

    /// The next task for our own worker whose check is still open.
    fn next_own(&mut self) -> Option<(usize, u32)> {
        while let Some(key) = self.own_queue.pop_front() {
            if self.checks.get(&key).is_some_and(|check| check.place == Place::OwnQueue) {
                return Some(key);
            }
        }
        None
    }

    /// Our own worker has answered. False when the run is not ours.
    pub fn on_ran(&mut self, step: &mut Step, run: RunId, results: Vec<Result<TaskResult, NoVerdict>>) -> bool {
        let Some((slot, indexes)) = self.own_runs.remove(&run) else { return false };
        let mut results = results.into_iter();
        for index in indexes {
            let result = results.next().unwrap_or(Err(NoVerdict::Worker("no answer".into())));
            let result =
                result.and_then(|r| if r.index == index { Ok(r) } else { Err(NoVerdict::Worker("mixed up".into())) });
            self.decide(step, (slot, index), result);
        }
        self.plan_for(step, None);
        true
    }

    /// Our own worker's word on a check is final.
    fn decide(&mut self, step: &mut Step, key: (usize, u32), result: Result<TaskResult, NoVerdict>) {
        let (slot, index) = key;
        let Some(check) = self.close(key) else { return };
        let result = match result {
            Ok(result) => result,
            Err(why) if check.answers.is_empty() && !self.jobs[slot].tasks[index as usize].is_over() => {
                self.fail(step, slot, index, FailReason::NoVerdict(why));
                return;
            }
            Err(_) => {
                self.void(step, key, &check);
                return;
            }
        };
        let job = &self.jobs[slot];
        let expected = result.leaf(job.id, job.input_hash(index));
        let (right, wrong): (Vec<Answer>, Vec<Answer>) =
            check.answers.into_iter().partition(|answer| answer.leaf == expected);
        right.iter().for_each(|answer| self.clear(step, answer.machine));
        if let Some(first) = right.first() {
            let provider = self.market.node(first.machine).unwrap_or_default();
            step.report(Event::CheckPassed { job: self.jobs[slot].id, index, provider, checker: None });
        }
        let job = &mut self.jobs[slot];
        let task = &mut job.tasks[index as usize];
        if !task.is_answered() || task.leaf == expected {
            task.confirm(Ix::OWN, expected);
        }
        job.learn(index, right.iter().map(|answer| answer.machine).collect());
        let is_corrected = self.correct(step, key, &result, expected);
        let task = &self.jobs[slot].tasks[index as usize];
        let has_right = right.iter().any(|answer| self.carries(answer.slice, index));
        if !is_corrected && !task.is_over() && !has_right {
            self.accept_own(step, slot, result, expected);
        }
        for answer in wrong {
            self.caught(step, key, answer.machine, &answer.receipt, answer.digest, answer.leaf, expected);
        }
    }

    /// Whether a slice will give the job an answer to a task.
    fn carries(&self, seq: u64, index: u32) -> bool {
        self.slices.get(&seq).is_some_and(|slice| {
            slice.items.iter().any(|item| item.index == index && item.role.is_for_answer() && !item.void)
        })
    }

    fn accept_own(&mut self, step: &mut Step, slot: usize, result: TaskResult, leaf: B256) {
        let job = &mut self.jobs[slot];
        let task = &mut job.tasks[result.index as usize];
        (task.by, task.checked_by, task.leaf) = (Ix::OWN, Ix::OWN, leaf);
        accept(step, job, result, step.me.node, B256::ZERO);
    }

    /// Replaces an accepted answer that our own worker contradicts, and accuses whoever gave it.
    fn correct(&mut self, step: &mut Step, key: (usize, u32), result: &TaskResult, expected: B256) -> bool {
        let (slot, index) = key;
        let job = &mut self.jobs[slot];
        let task = &mut job.tasks[index as usize];
        if !task.is_answered() || task.leaf == expected || task.by == Ix::OWN {
            return false;
        }
        let (liar, got) = (task.by, task.leaf);
        (task.by, task.checked_by, task.leaf) = (Ix::OWN, Ix::OWN, expected);
        let state = if result.outcome.is_success() { TaskState::Succeeded } else { TaskState::Failed };
        job.set_state(index, state);
        let provider = self.market.node(liar).unwrap_or_default();
        step.record(Record::Accepted {
            job: job.id,
            result: result.clone(),
            provider: step.me.node,
            receipt: B256::ZERO,
        });
        step.report(Event::TaskCorrected { job: job.id, index, provider });
        let paid = job.paid_slices.get(&liar).and_then(|all| all.iter().find(|paid| paid.unchecked.contains(&index)));
        if let Some((receipt, digest)) = paid.map(|paid| (paid.receipt.clone(), paid.digest)) {
            self.caught(step, key, liar, &receipt, digest, got, expected);
        }
        true
    }

    /// Nobody can say who is right: those involved are paid, and the task is tried elsewhere.
    fn void(&mut self, step: &mut Step, key: (usize, u32), check: &Check) {
        let (slot, index) = key;
        if check.compare() != Finding::Differ && !self.jobs[slot].tasks[index as usize].is_answered() {
            return;
        }
        for answer in &check.answers {
            let Some(slice) = self.slices.get_mut(&answer.slice) else { continue };
            let Some(item) = slice.items.iter_mut().find(|item| item.index == index) else { continue };
            item.void = true;
            let item = *item;
            if item.role.is_for_answer() {
                self.put_back(
                    step,
                    slot,
                    answer.slice,
                    item,
                    answer.machine,
                    Some(NoVerdict::Worker("two machines disagree and ours cannot tell".into())),
                );
                // `put_back` took the slice's hold on the task; settling must not take it again.
                self.jobs[slot].tasks[index as usize].live += 1;
            }
        }
    }

    // ---- liars ----

    /// A machine's receipt is wrong: it is not paid, gets no further work, and its answers are run again.
    #[expect(clippy::too_many_arguments, reason = "a verdict has this many facts")]
    fn caught(
        &mut self,
        step: &mut Step,
        key: (usize, u32),
        ix: Ix,
        receipt: &SharedReceipt,
        digest: B256,
        got: B256,
        expected: B256,
    ) {
        let (slot, index) = key;
        let provider = self.market.node(ix).unwrap_or_default();
        let is_first = self.market.get(ix).is_some_and(|machine| machine.history.faults == 0);
        let owner = if step.has(Defence::OwnerBan) { receipt.paper.provider } else { Address::ZERO };
        self.market.ban(ix, owner);
        let verdict = Verdict { receipt: digest, index, got, expected, issued_ms: step.now_ms };
        let verdict = verdict.sign(&step.me.key, &step.me.domain);
        step.record(Record::Caught { provider, verdict, receipt: (**receipt).clone() });
        if !is_first {
            return;
        }
        let unpaid: Amount = self.unpaid(ix);
        let before: u32 = self.jobs.iter().map(|job| job.waiting()).sum();
        self.end_relation(step, ix, "a wrong answer");
        let after: u32 = self.jobs.iter().map(|job| job.waiting()).sum();
        let redone = after.saturating_sub(before) + self.recheck_all_of(ix);
        let job = self.jobs[slot].id;
        step.report(Event::LiarCaught { job, index, provider, unpaid, redone });
    }

    /// What a machine has delivered and not been paid for.
    fn unpaid(&self, ix: Ix) -> Amount {
        let open = &self.rels[ix.0 as usize].open;
        open.iter()
            .filter_map(|seq| self.slices.get(seq)?.answered())
            .map(|answered| answered.receipt.paper.price)
            .sum()
    }

    /// Queues the accepted answers of a machine that nobody has compared, newest first; and those of others that only it
    /// has confirmed: two liars may say the same.
    pub(super) fn recheck_all_of(&mut self, ix: Ix) -> u32 {
        let mut count = 0;
        for job in self.jobs.iter_mut().filter(|job| !job.ended) {
            for (index, task) in (0u32..).zip(&mut job.tasks) {
                if task.is_answered() && task.checked_by == ix {
                    task.checked_by = Ix::NONE;
                    job.retro.push_back(index);
                    count += 1;
                }
            }
            let Some(paid) = job.paid_slices.get(&ix) else { continue };
            let doubtful = paid.iter().rev().flat_map(|slice| slice.unchecked.iter().copied());
            let doubtful: Vec<u32> = doubtful
                .filter(|index| {
                    job.tasks[*index as usize].by == ix && job.tasks[*index as usize].checked_by == Ix::NONE
                })
                .take(RETRO_MAX)
                .collect();
            count += doubtful.len() as u32;
            job.retro.extend(doubtful);
        }
        count
    }

    /// Rechecks that none of the `usable` machines can be given, because it is their own answer, go to our own worker.
    pub(super) fn recheck_alone(&mut self, slot: usize, usable: &[Ix]) {
        let job = &mut self.jobs[slot];
        let tasks = &job.tasks;
        let (left, alone): (Vec<u32>, Vec<u32>) = std::mem::take(&mut job.retro)
            .into_iter()
            .partition(|index| usable.iter().any(|ix| *ix != tasks[*index as usize].by));
        job.retro.extend(left);
        for index in alone {
            let key = (slot, index);
            self.checks.entry(key).or_insert_with(|| Check::new(Ix::OWN, u64::MAX));
            self.ask_own(key);
        }
    }

    /// Whether our own worker still has to say something about a job. (What payments wait for is known from the slices.)
    pub(super) fn awaits_own(&self, slot: usize) -> bool {
        let mut checks = self.checks.range((slot, 0)..(slot + 1, 0));
        checks.any(|(_, check)| matches!(check.place, Place::OwnQueue | Place::Own(_)))
    }
}
