//! The requester's memory, rebuilt from its records: nothing promised is forgotten, nothing is promised twice.
//!
//! A slice that was sent and not paid is open again, its price held back. When its provider is back it is sent
//! again; the provider answers with what it kept, or runs it once more. Who was to be checked is chosen anew,
//! by the same secret.
//!
//! Records that came back from an archive are history only ([`Record::Restored`]): a life that they know nothing of may have
//! promised more from the same deposits. Whatever is signed next must not be a smaller total than that, and nobody here knows
//! it; so nothing more is signed on those channels, they are closed, and no job of then spends any more.

use std::sync::Arc;

use glean_types::params::SLICE_MS_AIM;
use glean_types::{Agreement, Amount, B256, ChannelId, JobId, NodeId, Paper, Signed, TaskResult, Voucher};

use super::Requester;
use crate::io::{FailReason, Record, Submission, TaskState};
use crate::market::Ix;
use crate::settle::PayChannel;
use crate::step::Step;
use crate::verify::Place;
use crate::work::{Item, PaidSlice, Role, Slice, Stage};

impl Requester {
    /// Takes one record in, in the order of writing.
    pub fn restore(&mut self, step: &Step, record: Record) {
        match record {
            Record::Submitted(submission) => self.restore_job(step, *submission),
            Record::Accepted { job, result, provider, receipt } => {
                self.restore_accepted(step, job, &result, provider, receipt)
            }
            Record::Received { receipt, .. } => {
                let digest = receipt.paper.digest(&step.me.domain);
                self.received.insert(digest, Arc::new(receipt));
            }
            Record::Failed { job, index, reason } => self.restore_failed(job, index, &reason),
            Record::Ended { job, cancelled } => self.restore_ended(job, cancelled),
            Record::Reran(job) => {
                if let Some(slot) = self.by_job.get(&job) {
                    self.jobs[*slot].rerun_failed();
                }
            }
            Record::Agreed { agreement, ours: true } => self.restore_agreed(step, agreement),
            Record::Funded { provider, channel, deposit } => self.restore_funded(step, provider, channel, deposit),
            Record::Opening { provider, payee, deposit, salt } => {
                let ix = self.restore_machine(step, provider, payee);
                self.openings += 1;
                self.rel(ix).opening = Some((salt, deposit));
            }
            Record::Closing(id) => self.restore_closing(id),
            Record::Restored { .. } => self.end_the_past(),
            Record::Closed(id) => {
                self.closing.remove(&id);
            }
            Record::Sent { channel, slice, job, indexes, price_max } => {
                self.restore_sent(step, channel, slice, job, indexes, price_max);
            }
            Record::GivenUp { channel, slice } => {
                let seq = self.by_number.get(&(channel, slice));
                if let Some(slice) = seq.and_then(|seq| self.slices.get_mut(seq)) {
                    slice.stage = Stage::Lost;
                }
            }
            Record::Paid { voucher, slice, job, price } => self.restore_paid(voucher, slice, job, price),
            Record::Caught { provider, receipt, .. } => {
                let ix = self.restore_machine(step, provider, receipt.paper.provider);
                self.market.ban(ix, receipt.paper.provider);
            }
            Record::Clean { provider, count } => {
                let ix = self.restore_machine(step, provider, glean_types::Address::ZERO);
                if let Some(history) = self.market.history_mut(ix) {
                    history.right = history.right.saturating_add(count);
                }
            }
            Record::Agreed { ours: false, .. }
            | Record::Earned(_)
            | Record::Delivered(_)
            | Record::WrittenOff { .. }
            | Record::OfferSeq(_) => {}
        }
    }

    fn restore_closing(&mut self, id: ChannelId) {
        let ix = self.channel_of(id);
        let channel = ix.and_then(|ix| self.rel(ix).channel.as_mut());
        let rest = channel.map_or(Amount::ZERO, |channel| {
            channel.dead = true;
            channel.purse.total.saturating_sub(channel.purse.spent)
        });
        self.closing.insert(id, (0, rest));
    }

    /// See the head of this file.
    fn end_the_past(&mut self) {
        for job in &mut self.jobs {
            if !job.ended {
                job.open_tasks().into_iter().for_each(|index| job.set_state(index, TaskState::Cancelled));
                (job.ended, job.cancelled) = (true, true);
            }
            job.purse.total = job.purse.spent;
        }
        // Their numbers and prices may have been used again.
        self.slices.clear();
        self.by_number.clear();
        let live = self.rels.iter().filter_map(|rel| rel.channel.as_ref()).filter(|channel| !channel.dead);
        for id in live.map(|channel| channel.id).collect::<Vec<_>>() {
            self.restore_closing(id);
        }
        // An opening that was begun may have been finished and used.
        self.rels.iter_mut().for_each(|rel| rel.opening = None);
    }

    fn restore_machine(&mut self, step: &Step, node: NodeId, provider: glean_types::Address) -> Ix {
        let ix = self.market.ensure(node, provider);
        self.grow(step.sessions);
        self.rel(ix).is_recorded = true;
        ix
    }

    fn restore_job(&mut self, step: &Step, submission: Submission) {
        if !self.by_job.contains_key(&submission.job.paper.id()) {
            self.add_job(step, submission);
        }
    }

    fn job_mut(&mut self, id: JobId, index: u32) -> Option<&mut crate::work::Job> {
        let slot = *self.by_job.get(&id)?;
        let job = self.jobs.get_mut(slot)?;
        (index < job.paper.tasks).then_some(job)
    }

    fn restore_accepted(&mut self, step: &Step, id: JobId, result: &TaskResult, provider: NodeId, receipt: B256) {
        let receipt_paper = self.received.get(&receipt).cloned();
        let own = provider == step.me.node;
        let by = if own { Ix::OWN } else { self.restore_machine(step, provider, glean_types::Address::ZERO) };
        let Some(job) = self.job_mut(id, result.index) else { return };
        let leaf = result.leaf(id, job.input_hash(result.index));
        let state = if result.outcome.is_success() { TaskState::Succeeded } else { TaskState::Failed };
        job.set_state(result.index, state);
        let task = &mut job.tasks[result.index as usize];
        (task.by, task.leaf) = (by, leaf);
        job.measure(result);
        if let Some(paper) = receipt_paper {
            // Who was compared with whom is not recorded: should this machine be caught, all is run again.
            let paid = job.paid_slices.entry(by).or_default();
            match paid.last_mut().filter(|last| last.digest == receipt) {
                Some(last) => last.unchecked.push(result.index),
                None => paid.push(PaidSlice { receipt: paper, digest: receipt, unchecked: vec![result.index] }),
            }
        }
        if let Some(history) = self.market.history_mut(by) {
            history.answers += 1;
        }
    }

    fn restore_failed(&mut self, id: JobId, index: u32, _reason: &FailReason) {
        if let Some(job) = self.job_mut(id, index) {
            job.set_state(index, TaskState::Failed);
        }
    }

    fn restore_ended(&mut self, id: JobId, cancelled: bool) {
        let Some(job) = self.job_mut(id, 0) else { return };
        for index in job.open_tasks() {
            job.set_state(index, TaskState::Cancelled);
        }
        (job.ended, job.cancelled) = (true, cancelled);
    }

    fn restore_agreed(&mut self, step: &Step, agreement: Signed<Agreement>) {
        let paper = &agreement.paper;
        let ix = self.restore_machine(step, paper.provider_node, paper.provider);
        self.market.machines[ix.0 as usize].provider = paper.provider;
        if let Some(channel) = self.rel(ix).channel.as_mut().filter(|channel| channel.id == paper.channel) {
            // Signing is deterministic: this is the very paper that was sent.
            channel.is_recorded = true;
            channel.agreement = Some(agreement.paper.sign(&step.me.key, &step.me.domain));
        }
    }

    fn restore_funded(&mut self, step: &Step, provider: NodeId, id: ChannelId, deposit: Amount) {
        let ix = self.restore_machine(step, provider, glean_types::Address::ZERO);
        self.rel(ix).opening = None;
        match &mut self.rel(ix).channel {
            Some(channel) if channel.id == id => channel.purse.total = channel.purse.total.max(deposit),
            other => *other = Some(PayChannel::new(id, deposit)),
        }
    }

    /// The machine whose channel this is.
    fn channel_of(&self, id: ChannelId) -> Option<Ix> {
        let at = self.rels.iter().position(|rel| rel.channel.as_ref().is_some_and(|channel| channel.id == id))?;
        u32::try_from(at).ok().map(Ix)
    }

    fn restore_sent(
        &mut self,
        step: &Step,
        id: ChannelId,
        number: u64,
        job: JobId,
        indexes: Vec<u32>,
        price_max: Amount,
    ) {
        let Some(slot) = self.by_job.get(&job).copied() else { return };
        let Some(ix) = self.channel_of(id) else { return };
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(channel) = &mut self.rel(ix).channel {
            channel.next_slice = channel.next_slice.max(number + 1);
        }
        let tasks = self.jobs[slot].paper.tasks;
        let items = indexes.into_iter().filter(|i| *i < tasks).map(|index| Item::new(index, Role::Original)).collect();
        self.by_number.insert((id, number), seq);
        self.slices.insert(
            seq,
            Slice {
                job: slot,
                machine: ix,
                channel: id,
                number,
                items,
                price_max,
                sent_ms: 0,
                clock_ms: 0,
                expected_ms: SLICE_MS_AIM,
                lease_ms: step.settings.lease_min_ms,
                deadline_ms: u64::MAX,
                pending: 0,
                company: 0,
                is_resent: true,
                committed: Vec::new(),
                stage: Stage::Out,
            },
        );
    }

    fn restore_paid(&mut self, voucher: Signed<Voucher>, number: u64, job: JobId, price: Amount) {
        let Some(ix) = self.channel_of(voucher.paper.channel) else { return };
        if let Some(channel) = &mut self.rel(ix).channel {
            channel.purse.spent = channel.purse.spent.max(voucher.paper.cumulative);
            channel.voucher = Some(voucher);
            channel.next_slice = channel.next_slice.max(number + 1);
        }
        if let Some(seq) = self.by_number.remove(&(voucher.paper.channel, number)) {
            self.slices.remove(&seq);
        }
        if let Some(slot) = self.by_job.get(&job) {
            let purse = &mut self.jobs[*slot].purse;
            purse.spent = purse.spent.saturating_add(price);
        }
        if let Some(history) = self.market.history_mut(ix) {
            history.paid = history.paid.saturating_add(price);
        }
    }

    /// After the last record: slices that were under way are so again.
    pub fn restore_end(&mut self, step: &Step) {
        self.received.clear();
        for ix in (0..self.rels.len() as u32).map(Ix) {
            if self.market.get(ix).is_some_and(|machine| machine.history.faults > 0) {
                self.rel(ix).broken = Some("a wrong answer");
                self.recheck_all_of(ix);
            }
        }
        let sent: Vec<u64> = self.slices.keys().copied().collect();
        for seq in sent {
            let Some(slice) = self.slices.get_mut(&seq).filter(|slice| slice.is_out()) else { continue };
            slice.stage = Stage::Lost;
            let (slot, ix, price_max) = (slice.job, slice.machine, slice.price_max);
            let job = &mut self.jobs[slot];
            let is_wanted = slice.items.iter().any(|item| !job.tasks[item.index as usize].is_over());
            let is_paid_for = job.purse.free() >= price_max
                && self.rels[ix.0 as usize].channel.as_ref().is_some_and(|c| !c.dead && c.purse.free() >= price_max);
            let is_trusted = self.market.get(ix).is_some_and(|machine| machine.history.faults == 0);
            if is_wanted && is_paid_for && is_trusted && !job.ended {
                self.reopen(step, seq);
            }
        }
    }

    /// Holds a restored slice's price back and leases its tasks again.
    fn reopen(&mut self, step: &Step, seq: u64) {
        let Some(slice) = self.slices.get_mut(&seq) else { return };
        let (slot, ix) = (slice.job, slice.machine);
        slice.stage = Stage::Out;
        let is_stranger = self.market.is_stranger(ix);
        let job = &mut self.jobs[slot];
        job.purse.reserve(slice.price_max);
        let (mut wanted, mut copies) = (Vec::new(), 0);
        for item in &mut slice.items {
            // What an earlier slice carries and is to be checked, this one carried as the copy.
            let key = (slot, item.index);
            if let Some(check) = self.checks.get_mut(&key).filter(|check| check.place == Place::Waiting) {
                item.role = Role::Copy;
                copies += check.place_at(seq, is_stranger);
                continue;
            }
            let task = &mut job.tasks[item.index as usize];
            task.live = task.live.saturating_add(1);
            if !task.is_over() {
                job.set_state(item.index, TaskState::Leased);
                wanted.push(*item);
            }
        }
        let rel = &mut self.rels[ix.0 as usize];
        rel.engaged = true;
        rel.open.push(seq);
        if let Some(channel) = &mut rel.channel {
            channel.purse.reserve(slice.price_max);
        }
        let pending = self.choose_checks(step, slot, ix, seq, &mut wanted, false);
        if let Some(slice) = self.slices.get_mut(&seq) {
            slice.pending = pending + copies;
        }
    }

    /// Leases of restored slices start with the first tick: until then nobody knew what time it is.
    ///
    /// How long they may take nobody knows either before its machine has been heard of: see [`Requester::resend`].
    pub fn start_clock(&mut self, now_ms: u64) {
        for slice in self.slices.values_mut().filter(|slice| slice.deadline_ms == u64::MAX) {
            (slice.sent_ms, slice.clock_ms) = (now_ms.saturating_sub(1), now_ms);
            slice.deadline_ms = now_ms.saturating_add(slice.lease_ms);
        }
        for rel in &mut self.rels {
            // A restart is no reason to close a channel: it has been idle since now, as far as anybody knows.
            rel.active_ms = rel.active_ms.max(now_ms);
            if rel.engaged && !rel.up {
                rel.down_since_ms.get_or_insert(now_ms);
            }
        }
    }
}
