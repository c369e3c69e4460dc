//! Slices: taken if they can be paid for, run one after the other, billed by one receipt, delivered when the one before is paid.

use std::sync::Arc;

use glean_types::params::{FUEL_PER_TASK, INLINE_INPUT_MAX, RECEIPT_LIFE_MS, SLICE_TASKS_MAX};
use glean_types::{Amount, B256, ChannelId, Class, Job, JobId, NodeId, Paper, Receipt, TaskResult, merkle};

use super::{Answer, CAPPED_MAX, Channel, Provider, QUEUE_MAX, Slice, Stage, WRITTEN_OFF_MAX, look_up, refused};
use crate::defence::Defence;
use crate::io::{Event, Output, Record, RunId, RunOrder, ShareTerms};
use crate::settle::{fuel_for, price_of};
use crate::step::Step;
use crate::wire::{CommitMsg, NoVerdict, Refusal, SLICE_GAP_MAX, SliceDoneMsg, SliceMsg, WorkMsg};
use crate::work::input_hash;

impl Provider {
    pub fn on_slice(&mut self, step: &mut Step, from: NodeId, message: SliceMsg) {
        self.take_slice(step, from, message, false);
    }

    /// Takes a slice in or refuses it. Unless this `is_last_word`, a deposit is looked up before it is called
    /// too small.
    pub(super) fn take_slice(&mut self, step: &mut Step, from: NodeId, message: SliceMsg, is_last_word: bool) {
        let (id, number) = (message.channel, message.slice);
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.requester == from) else {
            step.send(from, refused(id, Some(number), Refusal::BadChannel));
            return;
        };
        channel.active_ms = step.now_ms;
        if let Some(slice) = channel.find(number) {
            tell(step, from, slice);
            return;
        }
        match judge_slice(step, self.terms.as_ref(), channel, &message) {
            // Perhaps topped up since we last looked; what comes after one that waits for that waits, too.
            Err(Refusal::DepositTooSmall) | Ok(_)
                if !is_last_word && !channel.early_slices.is_empty() && channel.early_slices.len() < QUEUE_MAX =>
            {
                channel.early_slices.push(message);
            }
            Err(Refusal::DepositTooSmall) if !is_last_word && channel.early_slices.len() < QUEUE_MAX => {
                channel.early_slices.push(message);
                look_up(step, id, channel);
            }
            Err(refusal) => step.send(from, refused(id, Some(number), refusal)),
            Ok((job_id, job)) => {
                channel.next_slice = number + 1;
                let inputs = message.specs.iter().map(|spec| (spec.index, input_hash(job.manifest, spec))).collect();
                channel.last_job = Some((message.job, job_id, job.clone()));
                channel.slices.push_back(Slice {
                    number,
                    job_id,
                    job,
                    price_max: message.price_max,
                    specs: message.specs,
                    holders: message.holders,
                    inputs,
                    stage: Stage::Queued,
                });
                self.start_runs(step);
            }
        }
    }

    /// Starts queued slices while slots are idle: one that is running keeps its successor company, so that
    /// workers never wait for the network.
    pub(super) fn start_runs(&mut self, step: &mut Step) {
        let Some(slots) = self.terms.as_ref().map(|terms| terms.slots) else { return };
        let mut busy = self.busy_tasks();
        while busy < slots.saturating_mul(2) {
            let may_start = |(_, channel): &(&ChannelId, &mut Channel)| channel.may_start(step);
            let longest = self.channels.iter_mut().filter(may_start).min_by_key(|(_, channel)| channel.served);
            let Some((id, channel)) = longest else { return };
            let Some(slice) = channel.slices.iter_mut().find(|slice| matches!(slice.stage, Stage::Queued)) else {
                return;
            };
            let run = step.new_run();
            channel.served = run.0;
            slice.stage = Stage::Running(run);
            busy = busy.saturating_add(u32::try_from(slice.inputs.len()).unwrap_or(u32::MAX));
            self.runs.insert(run, (*id, slice.number));
            step.put(Output::Run(RunOrder {
                run,
                job: slice.job.clone(),
                specs: std::mem::take(&mut slice.specs),
                holders: vec![channel.requester],
                others: std::mem::take(&mut slice.holders),
                fuel_cap: fuel_for(channel.theirs.paper.price_per_gfuel, slice.price_max),
                is_check: false,
            }));
        }
    }

    pub fn on_ran(&mut self, step: &mut Step, run: RunId, results: Vec<Result<TaskResult, NoVerdict>>) {
        let Some((id, number)) = self.runs.remove(&run) else { return };
        if let Some(channel) = self.channels.get_mut(&id) {
            hold(step, id, channel, number, results);
            deliver(step, channel);
            // What could not be delivered yet is vouched for.
            let requester = channel.requester;
            if let Some(slice) = channel.find(number).filter(|slice| matches!(slice.stage, Stage::Held(_))) {
                tell(step, requester, slice);
            }
        }
        self.start_runs(step);
        self.publish(step);
    }

    pub fn on_drop(&mut self, step: &mut Step, from: NodeId, id: ChannelId, number: u64) {
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.requester == from) else { return };
        let Some(at) = channel.slices.iter().position(|slice| slice.number == number) else {
            // Delivered before we were restarted: its answers are gone, and nobody will send it again.
            if channel.owed.take_if(|owed| *owed == number).is_some() {
                channel.money.write_off();
                step.record(Record::WrittenOff { channel: id, slice: number });
                deliver(step, channel);
                self.start_runs(step);
            }
            return;
        };
        if let Stage::Delivered(answer) = &channel.slices[at].stage {
            // Delivered work is paid, wanted or not. One who says twice that it will not, or cannot, is believed a few times:
            // else neither would ever work with the other again.
            let is_insistent = channel.unwanted.replace(number) == Some(number);
            if !is_insistent {
                step.send(from, WorkMsg::Done(answer.done.clone()));
            }
            // Beyond these few it is not answered either: two who repeat themselves to each other would never stop.
            if !is_insistent || channel.written_off >= WRITTEN_OFF_MAX {
                return;
            }
            channel.written_off += 1;
            channel.slices.remove(at);
            channel.money.write_off();
            step.record(Record::WrittenOff { channel: id, slice: number });
            deliver(step, channel);
            self.start_runs(step);
            return;
        }
        if let Some(Slice { stage: Stage::Running(run), .. }) = channel.slices.remove(at) {
            self.runs.remove(&run);
            step.put(Output::StopRun(run));
        }
        step.send(from, refused(id, Some(number), Refusal::Dropped));
        deliver(step, channel);
        self.start_runs(step);
    }
}

/// Whether a slice is one that we can be paid for; gives its job.
fn judge_slice(
    step: &Step,
    terms: Option<&ShareTerms>,
    channel: &Channel,
    message: &SliceMsg,
) -> Result<(JobId, Arc<Job>), Refusal> {
    let Some(terms) = terms else { return Err(Refusal::NotLending) };
    let Some(view) = &channel.view else { return Err(Refusal::BadChannel) };
    if view.closing {
        return Err(Refusal::BadChannel);
    }
    let is_old = message.slice < channel.next_slice && step.has(Defence::SliceNumbers);
    if is_old || message.slice.saturating_sub(channel.next_slice) >= SLICE_GAP_MAX {
        return Err(Refusal::OutOfOrder { expected: channel.next_slice });
    }
    if channel.slices.len() >= QUEUE_MAX || channel.capped >= CAPPED_MAX {
        return Err(Refusal::Busy);
    }
    if channel.price() < terms.price_per_gfuel {
        return Err(Refusal::PriceTooLow);
    }
    let job = match &channel.last_job {
        Some((signed, id, job)) if *signed == message.job => (*id, job.clone()),
        _ => {
            let paper = &message.job.paper;
            if paper.requester != channel.theirs.paper.requester
                || message.job.check(&step.me.domain, paper.requester).is_err()
            {
                return Err(Refusal::BadSignature);
            }
            (paper.id(), Arc::new(paper.clone()))
        }
    };
    let specs = &message.specs;
    let is_sound = specs.windows(2).all(|pair| pair[0].index < pair[1].index)
        && specs.iter().all(|spec| spec.index < job.1.tasks && spec.stdin.len() <= INLINE_INPUT_MAX);
    if specs.is_empty()
        || specs.len() > SLICE_TASKS_MAX
        || !is_sound
        || job.1.mem_max > terms.mem_max
        || !job.1.has_sane_limits()
        || job.1.class != Class::Exact
    {
        return Err(Refusal::TooLarge);
    }
    // Every slice here may still cost its cap, on top of what is promised and delivered.
    let capped: Amount =
        channel.slices.iter().filter(|s| !matches!(s.stage, Stage::Delivered(_))).map(|s| s.price_max).sum();
    let due = channel.money.delivered.max(channel.money.promised());
    if due.saturating_add(capped).saturating_add(message.price_max) > view.deposit {
        return Err(Refusal::DepositTooSmall);
    }
    Ok(job)
}

/// Takes a run's results: signed and held ready, or, if there is nothing to bill, refused at once.
fn hold(
    step: &mut Step,
    id: ChannelId,
    channel: &mut Channel,
    number: u64,
    results: Vec<Result<TaskResult, NoVerdict>>,
) {
    let price_per_gfuel = channel.price();
    let Some(slice) = channel.find(number) else { return };
    match bill(step, id, price_per_gfuel, slice, results) {
        Ok(answer) => {
            slice.stage = Stage::Held(Box::new(answer));
            channel.capped = 0;
        }
        Err(refusal) => {
            channel.capped += u32::from(refusal == Refusal::PriceCapTooLow);
            channel.slices.retain(|slice| slice.number != number);
            step.send(channel.requester, refused(id, Some(number), refusal));
        }
    }
}

/// Tells what there is to tell of a slice: its answer, or, while that is held back, what it will be. May be told twice.
pub(super) fn tell(step: &mut Step, requester: NodeId, slice: &Slice) {
    match &slice.stage {
        Stage::Delivered(answer) => step.send(requester, WorkMsg::Done(answer.done.clone())),
        Stage::Held(answer) => {
            let commit = CommitMsg { receipt: answer.done.receipt.clone(), leaves: answer.leaves.clone() };
            step.send(requester, WorkMsg::Commit(Box::new(commit)));
        }
        Stage::Queued | Stage::Running(_) => {}
    }
}

/// Delivers the next slice if everything delivered before is paid.
pub(super) fn deliver(step: &mut Step, channel: &mut Channel) {
    while let Some(at) = channel.next_held(step) {
        let slice = &mut channel.slices[at];
        let Stage::Held(answer) = std::mem::replace(&mut slice.stage, Stage::Queued) else { return };
        let receipt = &answer.done.receipt;
        // What is delivered again after a restart is already counted as owed.
        let before =
            if channel.owed == Some(slice.number) { channel.money.promised() } else { channel.money.delivered };
        channel.owed = None;
        channel.money.delivered = before.saturating_add(receipt.paper.price);
        step.record(Record::Delivered(receipt.clone()));
        step.report(Event::Delivered {
            requester: channel.requester,
            tasks: receipt.paper.tasks,
            price: receipt.paper.price,
        });
        step.send(channel.requester, WorkMsg::Done(answer.done.clone()));
        slice.stage = Stage::Delivered(answer);
        if channel.money.may_deliver() {
            // A free slice is paid by being free.
            channel.slices.retain(|slice| !matches!(slice.stage, Stage::Delivered(_)));
        }
    }
}

/// Signs a receipt over what fits under the price cap; what does not is listed as unanswered.
fn bill(
    step: &Step,
    channel: ChannelId,
    price_per_gfuel: Amount,
    slice: &Slice,
    results: Vec<Result<TaskResult, NoVerdict>>,
) -> Result<Answer, Refusal> {
    let mut answers = Vec::with_capacity(results.len());
    let mut leaves = Vec::with_capacity(results.len());
    let mut unanswered = Vec::new();
    let mut fuel = 0u64;
    let mut results = results.into_iter();
    for (index, input) in &slice.inputs {
        let result = results.next().unwrap_or(Err(NoVerdict::Worker("no answer".into())));
        match result {
            Ok(result) if result.index != *index || !result.is_well_formed() => {
                unanswered.push((*index, NoVerdict::Worker("malformed answer".into())));
            }
            Ok(result) => {
                let more = fuel.saturating_add(result.fuel);
                if price_of(price_per_gfuel, more, answers.len() as u64 + 1) > slice.price_max {
                    unanswered.push((*index, NoVerdict::FuelCap));
                    continue;
                }
                fuel = more;
                leaves.push((*index, result.leaf(slice.job_id, *input)));
                answers.push(result);
            }
            Err(why) => unanswered.push((*index, why)),
        }
    }
    if answers.is_empty() {
        return Err(match unanswered.pop() {
            Some((_, NoVerdict::FuelCap)) => Refusal::PriceCapTooLow,
            Some((_, NoVerdict::Unusable(why))) => Refusal::Unusable(why),
            Some((_, why)) => Refusal::NoVerdict(why.to_string()),
            None => Refusal::NoVerdict("nothing was asked".into()),
        });
    }
    let receipt = Receipt {
        channel,
        job: slice.job_id,
        slice: slice.number,
        tasks: answers.len() as u32,
        results_root: merkle::root(&leaves.iter().map(|(_, leaf)| *leaf).collect::<Vec<B256>>()),
        fuel: fuel.saturating_add(FUEL_PER_TASK.saturating_mul(answers.len() as u64)),
        price: price_of(price_per_gfuel, fuel, answers.len() as u64),
        provider: step.address,
        issued_ms: step.now_ms,
        expiry_ms: step.now_ms.saturating_add(RECEIPT_LIFE_MS),
    };
    let receipt = receipt.sign(&step.me.key, &step.me.domain);
    Ok(Answer { done: Box::new(SliceDoneMsg { receipt, results: answers, unanswered }), leaves })
}
