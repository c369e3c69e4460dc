//! What comes back: answers, refusals, silence; and the voucher for what was delivered.
//!
//! An answer is first checked for its form: signature, count, fuel, price and root must fit together, or the
//! relation ends. Then each task's leaf is compared with whatever other answers there are ([`super::checks`]).
//! When no check of the slice is open any more, its answers are accepted and paid in one step, so that a
//! crash never leaves one without the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use glean_types::params::{FUEL_PER_TASK, RECEIPT_LIFE_MS};
use glean_types::{Amount, B256, NodeId, Paper, Receipt, Signed, TaskResult, merkle};

use super::Requester;
use crate::defence::Defence;
use crate::io::{Event, FailReason, Record, TaskState};
use crate::market::Ix;
use crate::settle::price_of;
use crate::step::Step;
use crate::verify::Place;
use crate::wire::{CommitMsg, NoVerdict, Refusal, SLICE_GAP_MAX, SliceDoneMsg, SliceMsg, WorkMsg};
use crate::work::{Answered, Item, PaidSlice, Role, Slice, Stage, TRIES_MAX};

/// Answers that take less than this say nothing about a machine's speed.
const MEASURE_MS_MIN: u64 = 20;
/// Of one slice's tasks that were too heavy for it, so many go alone from then on.
const HEAVY_MAX: u32 = 2;
/// Paid slices remembered per machine and job, in case it is caught later.
const PAID_SLICES_MAX: usize = 4_096;

impl Requester {
    pub fn on_done(&mut self, step: &mut Step, from: NodeId, done: SliceDoneMsg) {
        let Some(ix) = self.market.find(&from) else { return };
        let receipt = &done.receipt.paper;
        let Some(channel) = self.rels[ix.0 as usize].channel.as_ref().filter(|c| c.id == receipt.channel) else {
            // Asked for by a life of ours that a backup knows nothing of: nobody can judge it any more, and while its provider
            // waits for us, it takes no other channel of ours.
            if self.closing.contains_key(&receipt.channel) {
                step.send(from, WorkMsg::Drop { channel: receipt.channel, slice: receipt.slice });
            }
            return;
        };
        let Some(seq) = self.by_number.get(&(receipt.channel, receipt.slice)).copied() else {
            // Paid already, and the voucher was lost on its way.
            if let Some(voucher) = channel.voucher {
                step.send(from, WorkMsg::Pay(voucher));
            }
            // Or given up so long ago that it cannot be judged any more; what that voucher pays, this does not touch.
            step.send(from, WorkMsg::Drop { channel: receipt.channel, slice: receipt.slice });
            return;
        };
        let Some(slice) = self.slices.get(&seq) else { return };
        if slice.is_answered() {
            return;
        }
        match self.check_form(step, ix, slice, &done) {
            Err(why) => {
                step.report(Event::SliceLost { job: self.jobs[slice.job].id, provider: from, why: why.into() });
                self.end_relation(step, ix, why);
            }
            Ok(leaves) => {
                let (channel, slice) = (receipt.channel, receipt.slice);
                if self.revive(step, seq, receipt.price) {
                    self.take(step, ix, seq, done, leaves);
                    self.plan_for(step, Some(ix));
                } else {
                    step.send(from, WorkMsg::Drop { channel, slice });
                }
            }
        }
    }

    /// A provider has the answers to a slice and is bound to them; it shows them once it has been paid for the one before.
    pub fn on_commit(&mut self, step: &mut Step, from: NodeId, commit: CommitMsg) {
        let Some(ix) = self.market.find(&from) else { return };
        let receipt = &commit.receipt.paper;
        let Some(seq) = self.by_number.get(&(receipt.channel, receipt.slice)).copied() else { return };
        let Some(slice) = self.slices.get(&seq).filter(|slice| slice.machine == ix && slice.is_out()) else { return };
        if !slice.committed.is_empty() {
            return;
        }
        let leaves: Vec<B256> = commit.leaves.iter().map(|(_, leaf)| *leaf).collect();
        let mut items = slice.items.iter();
        let is_asked = commit.leaves.iter().all(|(index, _)| items.any(|item| item.index == *index));
        let fault = if is_asked { None } else { Some("it answered what it was not asked") };
        if let Some(why) = fault.or(self.check_receipt(step, ix, slice, &commit.receipt, &leaves).err()) {
            step.report(Event::SliceLost { job: self.jobs[slice.job].id, provider: from, why: why.into() });
            self.end_relation(step, ix, why);
            return;
        }
        if let Some(slice) = self.slices.get_mut(&seq) {
            slice.committed = commit.leaves;
        }
        self.compare_committed(step, seq, Arc::new(commit.receipt));
        self.plan_for(step, Some(ix));
    }

    /// Whether a receipt is one for this slice over these leaves.
    fn check_receipt(
        &self,
        step: &Step,
        ix: Ix,
        slice: &Slice,
        signed: &Signed<Receipt>,
        leaves: &[B256],
    ) -> Result<(), &'static str> {
        let receipt = &signed.paper;
        let provider = self.market.get(ix).map(|machine| machine.provider).unwrap_or_default();
        let price_per_gfuel = self.rels[ix.0 as usize].channel.as_ref().map_or(Amount::MAX, |channel| channel.price());
        if receipt.provider != provider || receipt.job != self.jobs[slice.job].id {
            return Err("its receipt is for something else");
        }
        // What expires before anybody can dispute it is no evidence.
        if receipt.expiry_ms < receipt.issued_ms.saturating_add(RECEIPT_LIFE_MS) {
            return Err("its receipt expires too soon");
        }
        let tasks = leaves.len() as u64;
        if u64::from(receipt.tasks) != tasks || tasks == 0 {
            return Err("its receipt counts other answers than it sent");
        }
        let starts = tasks.saturating_mul(FUEL_PER_TASK);
        let is_billed = |fuel| receipt.price == price_of(price_per_gfuel, fuel, tasks);
        if step.has(Defence::Bills) && !receipt.fuel.checked_sub(starts).is_some_and(is_billed) {
            return Err("its bill is wrong");
        }
        if receipt.price > slice.price_max {
            return Err("its bill is above the price cap");
        }
        if merkle::root(leaves) != receipt.results_root {
            return Err("its receipt does not cover its answers");
        }
        signed.check(&step.me.domain, provider).map_err(|_| "its receipt is not signed by it")
    }

    /// Whether an answer hangs together; gives its leaves, in the order of the results.
    fn check_form(&self, step: &Step, ix: Ix, slice: &Slice, done: &SliceDoneMsg) -> Result<Vec<B256>, &'static str> {
        let job = &self.jobs[slice.job];
        let mut results = done.results.iter().peekable();
        for item in &slice.items {
            if results.next_if(|result| result.index == item.index).is_none()
                && !done.unanswered.iter().any(|(index, _)| *index == item.index)
            {
                return Err("its answers are not those that were asked for");
            }
        }
        if results.next().is_some() {
            return Err("it answered what it was not asked");
        }
        let is_within = |result: &TaskResult| {
            result.is_well_formed()
                && result.fuel <= job.paper.fuel_max
                && result.output_bytes() <= job.paper.output_max
        };
        if !done.results.iter().all(is_within) {
            return Err("an answer is malformed");
        }
        let billed = |sum: u64, result: &TaskResult| sum.saturating_add(result.fuel).saturating_add(FUEL_PER_TASK);
        if step.has(Defence::Bills) && done.receipt.paper.fuel != done.results.iter().fold(0, billed) {
            return Err("its bill is wrong");
        }
        let leaves: Vec<B256> =
            done.results.iter().map(|result| result.leaf(job.id, job.input_hash(result.index))).collect();
        let bound: BTreeMap<u32, B256> = slice.committed.iter().copied().collect();
        let is_other =
            |(result, leaf): (&TaskResult, &B256)| bound.get(&result.index).is_some_and(|bound| bound != leaf);
        if done.results.iter().zip(&leaves).any(is_other) {
            return Err("an answer is not the one it had committed to");
        }
        self.check_receipt(step, ix, slice, &done.receipt, &leaves)?;
        Ok(leaves)
    }

    /// An answer to a slice that was given up counts while there is money for it.
    fn revive(&mut self, step: &Step, seq: u64, price: Amount) -> bool {
        let Some(slice) = self.slices.get_mut(&seq) else { return false };
        if !matches!(slice.stage, Stage::Lost) {
            return true;
        }
        let (slot, ix) = (slice.job, slice.machine);
        let job = &mut self.jobs[slot];
        let rel = &mut self.rels[ix.0 as usize];
        let Some(channel) = rel.channel.as_mut() else { return false };
        if job.purse.free() < price || channel.purse.free() < price {
            return false;
        }
        job.purse.reserve(price);
        channel.purse.reserve(price);
        rel.open.push(seq);
        slice.price_max = price;
        slice.stage = Stage::Out;
        for item in slice.items.iter().filter(|item| item.role.is_for_answer()) {
            job.tasks[item.index as usize].live += 1;
        }
        // Its rechecks were put back, and stay there; this answer to them is one more that is open.
        job.retro_open += rechecks(&slice.items);
        // Its checks went with it: it is chosen from again, among what is still wanted.
        let is_wanted = |item: &&Item| item.role.is_for_answer() && !job.tasks[item.index as usize].is_over();
        let mut wanted: Vec<Item> = slice.items.iter().filter(is_wanted).copied().collect();
        let pending = self.choose_checks(step, slot, ix, seq, &mut wanted, false);
        let disputed = self.checks.values().filter(|check| check.original != seq && check.holds.contains(&seq)).count();
        let Some(slice) = self.slices.get_mut(&seq) else { return false };
        slice.pending = pending.saturating_add(disputed as u32);
        // What a stranger ran for others is still compared before it is paid.
        let is_stranger = self.market.is_stranger(ix);
        let copies = slice.items.iter().filter(|item| item.role == Role::Copy && is_stranger);
        let copies: Vec<(usize, u32)> = copies.map(|item| (slot, item.index)).collect();
        copies.into_iter().for_each(|key| self.hold(key, seq));
        true
    }

    /// Takes a well-formed answer in, and compares it with others.
    fn take(&mut self, step: &mut Step, ix: Ix, seq: u64, done: SliceDoneMsg, leaves: Vec<B256>) {
        step.record(Record::Received {
            provider: self.market.node(ix).unwrap_or_default(),
            receipt: done.receipt.clone(),
            leaves: done.results.iter().map(|result| result.index).zip(leaves.iter().copied()).collect(),
        });
        self.measure(step, ix, seq, &done);
        let digest = done.receipt.paper.digest(&step.me.domain);
        let Some(slice) = self.slices.get_mut(&seq) else { return };
        let slot = slice.job;
        let mut missing: Vec<Item> = Vec::new();
        if !done.unanswered.is_empty() {
            let answered: std::collections::BTreeSet<u32> = done.results.iter().map(|result| result.index).collect();
            missing = slice.items.extract_if(.., |item| !answered.contains(&item.index)).collect();
        }
        slice.stage = Stage::Answered(Box::new(Answered {
            receipt: Arc::new(done.receipt),
            digest,
            results: done.results.into_iter().map(Some).collect(),
            leaves,
        }));
        let items = slice.items.clone();
        let mut capped = 0;
        for item in missing {
            let why = done.unanswered.iter().find(|(index, _)| *index == item.index).map(|(_, why)| why.clone());
            // Behind the first few that a cap was not enough for, a machine does not even try.
            capped += u32::from(why == Some(NoVerdict::FuelCap));
            if why == Some(NoVerdict::FuelCap) && capped <= HEAVY_MAX {
                self.jobs[slot].tasks[item.index as usize].heavy = true;
            }
            self.on_unanswered(step, seq, item, why.unwrap_or(NoVerdict::Worker(String::new())));
        }
        // Answers that nobody compares need no look of their own: most of a slice.
        for (at, item) in items.iter().enumerate() {
            let job = &mut self.jobs[slot];
            let task = &job.tasks[item.index as usize];
            let is_plain = item.role == Role::Original && !task.is_over() && task.state == TaskState::Leased;
            if is_plain {
                job.set_state(item.index, TaskState::Checking);
            }
            if !is_plain || self.checks.contains_key(&(slot, item.index)) {
                self.compare(step, seq, at);
            }
        }
        self.settle(step, seq);
    }

    fn measure(&mut self, step: &Step, ix: Ix, seq: u64, done: &SliceDoneMsg) {
        let Some(slice) = self.slices.get(&seq) else { return };
        // An answer that was ready before, held back until we paid or until we asked again, says nothing about speed.
        let was_ready = !slice.committed.is_empty() || slice.is_resent;
        let elapsed_ms = step.now_ms.saturating_sub(slice.sent_ms);
        let slots = self.market.get(ix).map_or(1, |machine| u64::from(machine.slots()));
        let fuel = slice.fuel_of_all_slots(done.receipt.paper.fuel, slots);
        self.rels[ix.0 as usize].active_ms = step.now_ms;
        let job = &mut self.jobs[slice.job];
        done.results.iter().for_each(|result| job.measure(result));
        if let Some(history) = self.market.history_mut(ix) {
            history.lost = 0;
            if !was_ready && elapsed_ms >= MEASURE_MS_MIN {
                history.measure(fuel, elapsed_ms);
            }
        }
    }

    /// A task that this machine had no answer for goes elsewhere.
    fn on_unanswered(&mut self, step: &mut Step, seq: u64, item: Item, why: NoVerdict) {
        let Some(slice) = self.slices.get(&seq) else { return };
        let (slot, ix) = (slice.job, slice.machine);
        match why {
            NoVerdict::FuelCap => self.put_back(step, slot, seq, item, Ix::NONE, None),
            _ => self.put_back(step, slot, seq, item, ix, Some(why)),
        }
    }

    /// Takes an item out of a slice that will not answer it. `avoid` is the machine that failed, if one did.
    pub(super) fn put_back(
        &mut self,
        step: &mut Step,
        slot: usize,
        seq: u64,
        item: Item,
        avoid: Ix,
        why: Option<NoVerdict>,
    ) {
        match item.role {
            Role::Original | Role::Backup => {
                let adopted = self.orphan_check(step, slot, seq, item.index);
                let job = &mut self.jobs[slot];
                let task = &mut job.tasks[item.index as usize];
                task.live = task.live.saturating_sub(1);
                if avoid != Ix::NONE {
                    task.avoid = avoid;
                    task.tries = task.tries.saturating_add(u8::from(why.is_some()));
                }
                if task.is_over() || task.live > 0 || adopted {
                    return;
                }
                match why {
                    _ if task.tries < TRIES_MAX => job.requeue(item.index),
                    Some(why) if !step.has(Defence::LastResort) => {
                        self.fail(step, slot, item.index, FailReason::NoVerdict(why));
                    }
                    _ => self.last_resort(slot, item.index),
                }
            }
            Role::Copy => {
                let key = (slot, item.index);
                if self.checks.get(&key).is_some_and(|check| check.place == Place::At(seq)) {
                    self.let_go_of(key, seq);
                }
            }
            Role::Retro => {
                let job = &mut self.jobs[slot];
                job.retro_open = job.retro_open.saturating_sub(1);
                if !job.ended {
                    job.retro.push_back(item.index);
                }
            }
            Role::Canary => {}
        }
    }

    // ---- paying ----

    /// Accepts and pays an answered slice whose checks are all done.
    pub(super) fn settle(&mut self, step: &mut Step, seq: u64) {
        let Some(slice) = self.slices.get(&seq) else { return };
        if slice.pending > 0 || !slice.is_answered() || self.disputes(step, seq) {
            return;
        }
        let Some(mut slice) = self.slices.remove(&seq) else { return };
        let Stage::Answered(answered) = &mut slice.stage else { return };
        let price = answered.receipt.paper.price;
        let (slot, ix) = (slice.job, slice.machine);
        let node = self.market.node(ix).unwrap_or_default();
        let mut accepted = 0;
        let mut unchecked = Vec::new();
        let mut overtaken = Vec::new();
        for (at, item) in slice.items.iter().enumerate() {
            if !item.role.is_for_answer() {
                continue;
            }
            let job = &mut self.jobs[slot];
            let task = &mut job.tasks[item.index as usize];
            task.live = task.live.saturating_sub(1);
            if task.is_over() || item.void {
                continue;
            }
            if task.live > 0 {
                overtaken.push(item.index);
            }
            (task.by, task.leaf) = (ix, answered.leaves[at]);
            if task.checked_by == Ix::NONE {
                unchecked.push(item.index);
            }
            let Some(result) = answered.results[at].take() else { continue };
            accepted += 1;
            accept(step, job, result, node, answered.digest);
        }
        let job = &mut self.jobs[slot];
        let paid = job.paid_slices.entry(ix).or_default();
        if paid.len() == PAID_SLICES_MAX {
            paid.remove(0);
        }
        paid.push(PaidSlice { receipt: answered.receipt.clone(), digest: answered.digest, unchecked });
        self.pay(step, &slice, price, accepted);
        overtaken.into_iter().for_each(|index| self.drop_overtaken(step, slot, index));
    }

    fn pay(&mut self, step: &mut Step, slice: &Slice, price: Amount, accepted: u64) {
        let (slot, ix) = (slice.job, slice.machine);
        let node = self.market.node(ix).unwrap_or_default();
        self.by_number.remove(&(slice.channel, slice.number));
        let rel = &mut self.rels[ix.0 as usize];
        rel.open.retain(|seq| self.slices.contains_key(seq));
        rel.active_ms = step.now_ms;
        let Some(channel) = &mut rel.channel else { return };
        let voucher = channel.pay(price, slice.price_max, &step.me.key, &step.me.domain);
        let job = &mut self.jobs[slot];
        job.purse.pay(price, slice.price_max);
        assert!(job.purse.spent <= job.purse.total, "a job above its budget");
        if let Some(history) = self.market.history_mut(ix) {
            history.paid = history.paid.saturating_add(price);
            history.answers += accepted;
        }
        step.record(Record::Paid { voucher, slice: slice.number, job: job.id, price });
        step.report(Event::SlicePaid { job: job.id, provider: node, price });
        step.send(node, WorkMsg::Pay(voucher));
        self.restart_clocks(step, ix);
    }

    /// A machine that was paid may go on: from now on it is we who wait.
    pub(super) fn restart_clocks(&mut self, step: &Step, ix: Ix) {
        let mut deadline_ms = step.now_ms;
        for seq in &self.rels[ix.0 as usize].open {
            let Some(slice) = self.slices.get_mut(seq).filter(|slice| slice.is_out()) else { continue };
            deadline_ms = deadline_ms.saturating_add(slice.lease_ms);
            slice.clock_ms = step.now_ms;
            slice.deadline_ms = deadline_ms;
        }
    }

    /// Drops slices of other machines all of whose tasks have been answered elsewhere meanwhile.
    fn drop_overtaken(&mut self, step: &mut Step, slot: usize, index: u32) {
        let job = &self.jobs[slot];
        let is_idle = |item: &Item| match item.role {
            Role::Original | Role::Backup => job.tasks[item.index as usize].is_over(),
            Role::Canary => true,
            Role::Copy | Role::Retro => false,
        };
        let overtaken: Vec<u64> = self
            .slices
            .iter()
            .filter(|(_, s)| {
                s.job == slot && s.is_out() && s.items.iter().any(|i| i.index == index) && s.items.iter().all(is_idle)
            })
            .map(|(seq, _)| *seq)
            .collect();
        overtaken.into_iter().for_each(|seq| self.drop_slice(step, seq));
    }

    // ---- silence, refusals, reconnects ----

    /// Tells a provider that a slice is no longer wanted, and gives it up.
    pub(super) fn drop_slice(&mut self, step: &mut Step, seq: u64) {
        let Some(slice) = self.slices.get(&seq) else { return };
        if let Some(node) = self.market.node(slice.machine) {
            step.send(node, WorkMsg::Drop { channel: slice.channel, slice: slice.number });
        }
        self.lose(step, seq, Ix::NONE, None);
    }

    /// Gives an unanswered slice up: its tasks go elsewhere, its reserve is freed.
    pub(super) fn lose(&mut self, step: &mut Step, seq: u64, avoid: Ix, why: Option<NoVerdict>) {
        let Some(slice) = self.slices.get_mut(&seq).filter(|slice| !matches!(slice.stage, Stage::Lost)) else { return };
        let was_answered = slice.is_answered();
        slice.stage = Stage::Lost;
        step.record(Record::GivenUp { channel: slice.channel, slice: slice.number });
        let (slot, ix, price_max) = (slice.job, slice.machine, slice.price_max);
        let items = slice.items.clone();
        self.jobs[slot].purse.release(price_max);
        if was_answered {
            // A liar's word on what another sold: its rechecks, that seemed done, are open again until they are put back.
            self.jobs[slot].retro_open += rechecks(&items);
        }
        let rel = &mut self.rels[ix.0 as usize];
        rel.open.retain(|open| *open != seq);
        if let Some(channel) = &mut rel.channel {
            channel.purse.release(price_max);
        }
        for item in items {
            self.put_back(step, slot, seq, item, avoid, why.clone());
        }
        self.forget_lost(ix);
    }

    /// Keeps the last few lost slices of a machine, for late answers.
    fn forget_lost(&mut self, ix: Ix) {
        let is_lost = |slice: &Slice| slice.machine == ix && matches!(slice.stage, Stage::Lost);
        let lost: Vec<u64> = self.slices.iter().filter(|(_, slice)| is_lost(slice)).map(|(seq, _)| *seq).collect();
        for seq in lost.iter().rev().skip(4) {
            self.forget(*seq);
        }
    }

    /// Forgets a slice altogether.
    fn forget(&mut self, seq: u64) {
        if let Some(slice) = self.slices.remove(&seq) {
            self.by_number.remove(&(slice.channel, slice.number));
        }
    }

    /// Gives up all unanswered slices at a machine (and answered ones too, unless `keep_answered`).
    pub(super) fn give_up(&mut self, step: &mut Step, ix: Ix, why: &str, keep_answered: bool) {
        let node = self.market.node(ix).unwrap_or_default();
        for seq in self.rels[ix.0 as usize].open.clone() {
            let Some(slice) = self.slices.get(&seq) else { continue };
            if keep_answered && slice.is_answered() {
                continue;
            }
            let job = self.jobs[slice.job].id;
            if keep_answered {
                step.report(Event::SliceLost { job, provider: node, why: why.into() });
                step.send(node, WorkMsg::Drop { channel: slice.channel, slice: slice.number });
            }
            self.lose(step, seq, ix, None);
            if !keep_answered {
                self.forget(seq);
            }
        }
    }

    pub(super) fn expire_leases(&mut self, step: &mut Step) {
        if !step.has(Defence::Leases) {
            return;
        }
        for ix in (0..self.rels.len() as u32).map(Ix) {
            let rel = &self.rels[ix.0 as usize];
            let is_late = !self.is_owed(ix)
                && rel.open.iter().any(|seq| {
                    self.slices.get(seq).is_some_and(|slice| slice.is_out() && step.now_ms >= slice.deadline_ms)
                });
            let is_gone = !rel.up
                && rel.open.iter().any(|seq| self.slices.get(seq).is_some_and(Slice::is_out))
                && rel
                    .down_since_ms
                    .is_some_and(|since| step.now_ms >= since.saturating_add(step.settings.reconnect_ms));
            if is_late || is_gone {
                let why = if is_gone { "the machine is gone" } else { "the lease ran out" };
                self.give_up(step, ix, why, true);
                self.back_off(step, ix);
            }
        }
    }

    pub fn on_refused(
        &mut self,
        step: &mut Step,
        from: NodeId,
        channel: glean_types::ChannelId,
        slice: Option<u64>,
        refusal: Refusal,
    ) {
        let Some(ix) = self.market.find(&from) else { return };
        if self.rels[ix.0 as usize].channel.as_ref().is_none_or(|ours| ours.id != channel) {
            return;
        }
        if refusal != Refusal::Dropped {
            step.report(Event::RefusedBy { provider: from, refusal: refusal.clone() });
        }
        let Some(number) = slice else {
            self.on_agreement_refused(step, ix, &refusal);
            return;
        };
        let Some(seq) = self.by_number.get(&(channel, number)).copied() else { return };
        let Some(refused) = self.slices.get(&seq).filter(|slice| !slice.is_answered()) else { return };
        let (slot, price_max) = (refused.job, refused.price_max);
        if matches!(refused.stage, Stage::Lost) && refusal == Refusal::Dropped {
            // As asked.
            self.forget(seq);
            return;
        }
        let (avoid, why) = self.judge_refusal(step, ix, slot, price_max, refusal);
        self.lose(step, seq, avoid, why);
        self.forget(seq);
        // What one machine would not do is not first offered to that machine again.
        self.plan(step);
    }

    /// What a refused slice means for its machine and its tasks.
    fn judge_refusal(
        &mut self,
        step: &mut Step,
        ix: Ix,
        slot: usize,
        price_max: Amount,
        refusal: Refusal,
    ) -> (Ix, Option<NoVerdict>) {
        match refusal {
            Refusal::Dropped => {
                // What we dropped is lost already: this one nobody asked to drop.
                self.back_off(step, ix);
                (Ix::NONE, None)
            }
            Refusal::OutOfOrder { expected } => {
                if let Some(channel) = &mut self.rel(ix).channel
                    && expected <= channel.next_slice.saturating_add(SLICE_GAP_MAX)
                {
                    channel.next_slice = channel.next_slice.max(expected);
                }
                self.rest(step, ix);
                (Ix::NONE, None)
            }
            Refusal::PriceTooLow => {
                // Its price has risen since we agreed: new terms are offered once its new offer is here.
                if let Some(channel) = &mut self.rel(ix).channel {
                    (channel.agreed, channel.agreement) = (false, None);
                }
                self.asked_ms = None;
                self.back_off(step, ix);
                (Ix::NONE, None)
            }
            Refusal::PriceCapTooLow => {
                let all = if step.has(Defence::OwnCaps) { vec![ix] } else { self.ranked.clone() };
                all.into_iter().for_each(|ix| self.jobs[slot].over_cap(ix, price_max));
                (Ix::NONE, None)
            }
            Refusal::NoVerdict(why) => {
                self.back_off(step, ix);
                (ix, Some(NoVerdict::Worker(why)))
            }
            Refusal::Unusable(why) => {
                self.back_off(step, ix);
                (ix, Some(NoVerdict::Unusable(why)))
            }
            _ => {
                self.back_off(step, ix);
                (ix, None)
            }
        }
    }

    /// Sends unanswered slices again after a reconnect, in order.
    pub(super) fn resend(&mut self, step: &mut Step, ix: Ix) {
        let Some(node) = self.market.node(ix) else { return };
        for seq in self.rels[ix.0 as usize].open.clone() {
            let Some((slot, tasks)) = self.slices.get(&seq).map(|slice| (slice.job, slice.items.len())) else {
                continue;
            };
            let holders = self.holders(step, slot, ix);
            let lease = self.lease(step, slot, ix, tasks);
            let Some(slice) = self.slices.get_mut(&seq).filter(|slice| slice.is_out()) else { continue };
            if slice.sent_ms == step.now_ms {
                continue;
            }
            let job = &self.jobs[slice.job];
            let specs = slice.items.iter().map(|item| job.specs[item.index as usize].clone()).collect();
            (slice.expected_ms, slice.lease_ms) = lease;
            // It may have been restarted, and have to begin again.
            slice.committed.clear();
            slice.is_resent = true;
            step.send(
                node,
                WorkMsg::Slice(Box::new(SliceMsg {
                    channel: slice.channel,
                    slice: slice.number,
                    job: job.signed.clone(),
                    price_max: slice.price_max,
                    specs,
                    holders,
                })),
            );
        }
        self.restart_clocks(step, ix);
    }
}

fn rechecks(items: &[Item]) -> u32 {
    items.iter().filter(|item| item.role == Role::Retro).count() as u32
}

/// Accepts an answer for good.
pub(super) fn accept(step: &mut Step, job: &mut crate::work::Job, result: TaskResult, provider: NodeId, receipt: B256) {
    let state = if result.outcome.is_success() { TaskState::Succeeded } else { TaskState::Failed };
    job.set_state(result.index, state);
    step.report(Event::TaskAccepted {
        job: job.id,
        index: result.index,
        outcome: result.outcome,
        fuel: result.fuel,
        provider,
    });
    step.record(Record::Accepted { job: job.id, result, provider, receipt });
}
