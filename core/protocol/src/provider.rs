//! The provider: offers out, slices in, one receipt per slice, and never more than one of them unpaid.
//!
//! What must stay true:
//!
//! 1. Nothing runs before its channel was seen on the ledger, paying this account, signed by the requester.
//! 2. While a delivered slice is unpaid, at most one more of that requester's runs or is held ready.
//! 3. A repeated message is answered as the first time: with the kept answer, never with a second receipt.
//! 4. A slice is accepted only if what is promised, delivered and capped fits the deposit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use glean_types::params::{FUEL_PER_TASK, INLINE_INPUT_MAX, RECEIPT_LIFE_MS, SLICE_TASKS_MAX};
use glean_types::{
    Address, Agreement, Amount, B256, ChannelId, Class, Hash, Job, JobId, NodeId, Offer, Paper, Receipt, Signed,
    TaskResult, TaskSpec, Voucher, merkle,
};

use crate::defence::Defence;
use crate::io::{ChannelView, Event, Output, Record, RunId, RunOrder, ShareTerms};
use crate::settle::{AT_RISK_MAX, BadVoucher, Earnings, fuel_for, price_of};
use crate::step::Step;
use crate::wire::{CommitMsg, NoVerdict, Refusal, SLICE_GAP_MAX, SliceDoneMsg, SliceMsg, WorkMsg};
use crate::work::input_hash;

/// Slices of one channel that may wait or run.
const QUEUE_MAX: usize = 4;
/// Channels that may be looked up at the same time, over all strangers.
const LOOKUPS_MAX: usize = 1_024;
/// Channels of one node.
const CHANNELS_PER_NODE: usize = 8;
/// Slices in a row for which nothing could be billed because of their price cap.
const CAPPED_MAX: u32 = 24;
/// Delivered slices of one channel that are given up unpaid on insistence, as long as we run.
const WRITTEN_OFF_MAX: u32 = 3;
/// A claim or a look-up that was not answered is repeated after this.
const RETRY_MS: u64 = 60_000;
/// How often the ledger is asked again for channels with unclaimed money: has the payer asked to close?
const WATCH_MS: u64 = 300_000;

/// A slice at this provider.
#[derive(Debug)]
struct Slice {
    number: u64,
    job_id: JobId,
    job: Arc<Job>,
    price_max: Amount,
    /// Taken by the workers when it starts.
    specs: Vec<TaskSpec>,
    holders: Vec<Vec<u8>>,
    /// What each result binds itself to, and where it belongs.
    inputs: Vec<(u32, Hash)>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Queued,
    Running(RunId),
    /// Signed, and held ready until the previous slice is paid.
    Held(Box<Answer>),
    /// Sent, not yet paid.
    Delivered(Box<Answer>),
}

/// What a slice is answered with.
#[derive(Debug)]
struct Answer {
    done: Box<SliceDoneMsg>,
    /// Task index and leaf of each result.
    leaves: Vec<(u32, B256)>,
}

/// A channel that pays us.
#[derive(Debug)]
struct Channel {
    requester: NodeId,
    /// Under the requester's signature, and under ours.
    theirs: Signed<Agreement>,
    ours: Signed<Agreement>,
    /// The agreement is in the records.
    is_recorded: bool,
    /// As the ledger showed it; nothing runs before that.
    view: Option<ChannelView>,
    looked_up_ms: Option<u64>,
    /// When the ledger last showed it.
    seen_ms: u64,
    /// When it last got a run started, in runs of this provider: the longest wait goes first.
    served: u64,
    next_slice: u64,
    slices: VecDeque<Slice>,
    money: Earnings,
    /// The job of the last slice, whose signature need not be checked again.
    last_job: Option<(Signed<Job>, JobId, Arc<Job>)>,
    /// A voucher above the deposit we know of, and whether the ledger was asked about it since: kept until it shows the top-up
    /// or none.
    early_voucher: Option<(Signed<Voucher>, bool)>,
    /// Slices above the deposit we know of, for the same reason.
    early_slices: Vec<SliceMsg>,
    capped: u32,
    /// A slice that was delivered before a restart and is not paid: its answers are gone, its price is due.
    owed: Option<u64>,
    /// The delivered slice that the requester has said it does not want, and how many were given up so far.
    unwanted: Option<u64>,
    written_off: u32,
    active_ms: u64,
}

/// The provider's half of a node.
#[derive(Debug, Default)]
pub(crate) struct Provider {
    terms: Option<ShareTerms>,
    offer_seq: u64,
    published_ms: Option<u64>,
    published_free: u32,
    /// As it was last published.
    offer: Option<Signed<Offer>>,
    channels: BTreeMap<ChannelId, Channel>,
    runs: BTreeMap<RunId, (ChannelId, u64)>,
    up: BTreeSet<NodeId>,
}

impl Channel {
    fn deposit(&self) -> Amount {
        self.view.as_ref().map_or(Amount::ZERO, |view| view.deposit)
    }

    fn price(&self) -> Amount {
        self.theirs.paper.price_per_gfuel
    }

    /// Slices that cost us work and are not paid: delivered, held ready, or running.
    fn at_risk(&self) -> usize {
        let started = self.slices.iter().filter(|slice| !matches!(slice.stage, Stage::Queued)).count();
        let is_apart = self.owed.is_some_and(|number| self.slices.iter().all(|slice| slice.number != number));
        started + usize::from(is_apart)
    }

    /// The next slice to deliver: the one that is owed again, or, when all is paid, the first that is ready.
    fn next_held(&self, step: &Step) -> Option<usize> {
        let at = self.slices.iter().position(|slice| matches!(slice.stage, Stage::Held(_)))?;
        let is_owed = self.owed == Some(self.slices[at].number);
        // In order: an earlier slice that still runs goes first.
        let is_first = !self.slices.iter().take(at).any(|slice| matches!(slice.stage, Stage::Running(_)));
        let is_paid = self.money.may_deliver() || !step.has(Defence::OneUnpaid);
        (is_owed || (is_paid && is_first)).then_some(at)
    }

    /// Whether a slice waits here that may be started now.
    fn may_start(&self, step: &Step) -> bool {
        self.view.is_some()
            && (self.at_risk() < AT_RISK_MAX || !step.has(Defence::OneUnpaid))
            && self.slices.iter().any(|slice| matches!(slice.stage, Stage::Queued))
    }

    fn find(&mut self, number: u64) -> Option<&mut Slice> {
        self.slices.iter_mut().find(|slice| slice.number == number)
    }
}

impl Provider {
    // ---- the owner ----

    pub fn on_share(&mut self, step: &mut Step, terms: Option<ShareTerms>) {
        if self.terms == terms {
            return;
        }
        self.terms = terms;
        self.offer = None;
        self.published_ms = None;
        self.publish(step);
        if self.terms.is_none() {
            self.refuse_queued(step);
        }
        self.start_runs(step);
    }

    /// What has not started when the owner stops lending is handed back; what runs is finished and paid.
    fn refuse_queued(&mut self, step: &mut Step) {
        for (id, channel) in &mut self.channels {
            let queued: Vec<u64> =
                channel.slices.iter().filter(|s| matches!(s.stage, Stage::Queued)).map(|s| s.number).collect();
            channel.slices.retain(|slice| !matches!(slice.stage, Stage::Queued));
            for number in queued {
                step.send(channel.requester, refused(*id, Some(number), Refusal::NotLending));
            }
        }
    }

    fn busy_tasks(&self) -> u32 {
        let running = self.runs.values().filter_map(|(id, number)| {
            self.channels.get(id)?.slices.iter().find(|slice| slice.number == *number).map(|slice| slice.inputs.len())
        });
        u32::try_from(running.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Publishes our offer: every third of its life, and soon after the number of idle slots changed.
    fn publish(&mut self, step: &mut Step) {
        let Some(terms) = &self.terms else { return };
        let free = terms.slots.saturating_sub(self.busy_tasks());
        let age_ms = self.published_ms.map(|at| step.now_ms.saturating_sub(at));
        let is_due = age_ms.is_none_or(|age| age >= u64::from(step.settings.offer_ttl_ms) / 3);
        let has_changed =
            free != self.published_free && age_ms.is_some_and(|age| age >= step.settings.publish_every_ms);
        if !is_due && !has_changed {
            return;
        }
        self.offer_seq += 1;
        self.published_ms = Some(step.now_ms);
        self.published_free = free;
        let offer = Offer {
            node: step.me.node,
            provider: step.address,
            seq: self.offer_seq,
            issued_ms: step.now_ms,
            ttl_ms: step.settings.offer_ttl_ms,
            price_per_gfuel: terms.price_per_gfuel,
            slots: terms.slots,
            slots_free: free,
            mem_max: terms.mem_max,
            mfuel_per_s: terms.mfuel_per_s,
            machine: terms.machine,
            class: step.me.class,
            region: terms.region.clone(),
            peer: terms.peer.clone(),
        };
        step.record(Record::OfferSeq(self.offer_seq));
        let offer = offer.sign(&step.me.key, &step.me.domain);
        step.put(Output::Publish(offer.clone()));
        // Idle slots come and go; who works with us needs to hear only that the terms stand.
        if is_due {
            self.up.iter().for_each(|node| step.send(*node, WorkMsg::Offer(Box::new(offer.clone()))));
        }
        self.offer = Some(offer);
    }

    // ---- agreeing ----

    pub fn on_open(&mut self, step: &mut Step, from: NodeId, agreement: Signed<Agreement>) {
        let id = agreement.paper.channel;
        let refusal = self.judge_open(step, from, &agreement);
        if !self.channels.contains_key(&id) && matches!(refusal, None | Some(Refusal::Busy)) {
            self.settle_first(step, from);
        }
        if let Some(refusal) = refusal {
            step.send(from, refused(id, None, refusal));
            return;
        }
        match self.channels.get_mut(&id) {
            // Known terms, but the requester may have asked for its deposit since: at most the next slice is at risk.
            Some(channel) if channel.theirs.paper == agreement.paper => {
                look_up(step, id, channel);
            }
            Some(channel) => {
                // New terms for a known channel: nothing is under way in it, see `judge_open`.
                channel.ours = agreement.paper.clone().sign(&step.me.key, &step.me.domain);
                channel.theirs = agreement;
                step.record(Record::Agreed { agreement: channel.theirs.clone(), ours: false });
            }
            None => {
                let ours = agreement.paper.clone().sign(&step.me.key, &step.me.domain);
                self.channels.insert(id, Channel::new(from, agreement, ours, step.now_ms));
            }
        }
        self.agree(step, id);
    }

    /// A requester has one channel with a machine at a time: one that comes with another has lost the first, or has no use for it.
    /// What was not delivered there is not wanted any more; what was is shown again, to be paid or, on insistence, written off.
    fn settle_first(&mut self, step: &mut Step, from: NodeId) {
        for channel in self.channels.values_mut().filter(|channel| channel.requester == from) {
            channel.slices.retain(|slice| {
                if let Stage::Running(run) = slice.stage {
                    self.runs.remove(&run);
                    step.put(Output::StopRun(run));
                }
                matches!(slice.stage, Stage::Delivered(_))
            });
            channel.slices.iter().for_each(|slice| tell(step, from, slice));
        }
    }

    /// Says yes once the ledger has shown the channel, and repeats what was delivered and not paid.
    fn agree(&mut self, step: &mut Step, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.view.is_none() && !step.has(Defence::LedgerFirst) {
            channel.view = Some(unseen(&channel.theirs.paper, step.address));
        }
        if channel.view.is_none() {
            look_up(step, id, channel);
            return;
        }
        step.send(channel.requester, WorkMsg::Agreed(channel.ours.clone()));
        channel.slices.iter().for_each(|slice| tell(step, channel.requester, slice));
    }

    fn judge_open(&self, step: &Step, from: NodeId, agreement: &Signed<Agreement>) -> Option<Refusal> {
        let paper = &agreement.paper;
        if paper.provider != step.address || paper.provider_node != step.me.node || paper.requester_node != from {
            return Some(Refusal::BadChannel);
        }
        if agreement.check(&step.me.domain, paper.requester).is_err() {
            return Some(Refusal::BadSignature);
        }
        let known = self.channels.get(&paper.channel);
        if let Some(channel) = known {
            if channel.requester != from || channel.theirs.paper.requester != paper.requester {
                return Some(Refusal::BadChannel);
            }
            if channel.theirs.paper == *paper {
                return None;
            }
            if !channel.slices.is_empty() || paper.created_ms <= channel.theirs.paper.created_ms {
                return Some(Refusal::Busy);
            }
        }
        let Some(terms) = &self.terms else { return Some(Refusal::NotLending) };
        if paper.price_per_gfuel < terms.price_per_gfuel {
            return Some(Refusal::PriceTooLow);
        }
        // Somebody who left a delivered slice unpaid settles that first.
        let owes =
            |channel: &Channel| channel.theirs.paper.requester == paper.requester && !channel.money.may_deliver();
        // Those that are being closed are no longer worked for.
        let is_live = |channel: &&Channel| channel.view.as_ref().is_none_or(|view| !view.closing);
        let of_node = self.channels.values().filter(is_live).filter(|channel| channel.requester == from).count();
        let unseen = self.channels.values().filter(|channel| channel.view.is_none()).count();
        if known.is_none()
            && (of_node >= CHANNELS_PER_NODE || unseen >= LOOKUPS_MAX || self.channels.values().any(owes))
        {
            return Some(Refusal::Busy);
        }
        None
    }

    pub fn on_channel_seen(&mut self, step: &mut Step, id: ChannelId, view: Option<ChannelView>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.looked_up_ms = None;
        channel.seen_ms = step.now_ms;
        let theirs = &channel.theirs.paper;
        let is_new = channel.view.is_none();
        if view.is_none() && !is_new {
            return self.forget_closed(step, id);
        }
        let is_gone = view.is_none();
        let Some(view) = view
            .filter(|view| view.payee == step.address && view.payer == theirs.requester && (!is_new || !view.closing))
        else {
            if is_new {
                step.send(channel.requester, refused(id, None, Refusal::BadChannel));
                if channel.money.voucher.is_none() {
                    self.channels.remove(&id);
                } else if is_gone {
                    self.forget_closed(step, id);
                }
            }
            return;
        };
        channel.money.settled = channel.money.settled.max(view.settled);
        if is_new && !std::mem::replace(&mut channel.is_recorded, true) {
            step.record(Record::Agreed { agreement: channel.theirs.clone(), ours: false });
        }
        let closing = view.closing;
        channel.view = Some(view);
        if closing {
            claim(step, channel);
        }
        if let Some((voucher, was_asked)) = channel.early_voucher.take() {
            let from = channel.requester;
            self.take_voucher(step, from, voucher, was_asked);
        }
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let requester = channel.requester;
        for message in std::mem::take(&mut channel.early_slices) {
            self.take_slice(step, requester, message, true);
        }
        if is_new {
            self.agree(step, id);
        }
        self.start_runs(step);
    }

    /// The ledger has no such channel any more: nothing can be cashed from it, so nothing is worked for.
    fn forget_closed(&mut self, step: &mut Step, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else { return };
        step.record(Record::Closed(id));
        step.send(channel.requester, refused(id, None, Refusal::BadChannel));
        for slice in channel.slices {
            if let Stage::Running(run) = slice.stage {
                self.runs.remove(&run);
                step.put(Output::StopRun(run));
            }
        }
    }

    // ---- slices ----

    pub fn on_slice(&mut self, step: &mut Step, from: NodeId, message: SliceMsg) {
        self.take_slice(step, from, message, false);
    }

    /// Takes a slice in or refuses it. Unless this `is_last_word`, a deposit is looked up before it is called
    /// too small.
    fn take_slice(&mut self, step: &mut Step, from: NodeId, message: SliceMsg, is_last_word: bool) {
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
    fn start_runs(&mut self, step: &mut Step) {
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

    // ---- money ----

    pub fn on_pay(&mut self, step: &mut Step, from: NodeId, voucher: Signed<Voucher>) {
        self.take_voucher(step, from, voucher, false);
    }

    /// Takes a voucher, or not. Unless this `is_last_word`, a deposit is looked up before it is called too small: the answer to
    /// a question of before the voucher came may not know of the top-up yet.
    fn take_voucher(&mut self, step: &mut Step, from: NodeId, voucher: Signed<Voucher>, is_last_word: bool) {
        let id = voucher.paper.channel;
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.requester == from) else { return };
        let Some(view) = &channel.view else { return };
        let (signer, deposit) = (view.signer, view.deposit);
        let deposit = if step.has(Defence::VoucherDeposit) { deposit } else { Amount::MAX };
        match channel.money.take(voucher, signer, deposit, &step.me.domain) {
            Ok(more) => {
                channel.active_ms = step.now_ms;
                step.record(Record::Earned(voucher));
                step.report(Event::Earned { requester: channel.requester, amount: more });
                if channel.money.may_deliver() {
                    channel.owed = None;
                    channel.slices.retain(|slice| !matches!(slice.stage, Stage::Delivered(_)));
                }
                if channel.money.unclaimed() >= step.settings.claim_at {
                    claim(step, channel);
                }
                deliver(step, channel);
                self.start_runs(step);
            }
            Err(BadVoucher::OverDeposit) if !is_last_word => {
                let is_asked = look_up(step, id, channel);
                channel.early_voucher = Some((voucher, is_asked));
            }
            Err(BadVoucher::OverDeposit | BadVoucher::Signature | BadVoucher::NotMore) => {}
        }
    }

    pub fn on_claimed(&mut self, id: ChannelId, settled: Amount) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.money.settled = channel.money.settled.max(settled);
            channel.money.claiming_since_ms = None;
            if let Some(view) = &mut channel.view {
                view.settled = view.settled.max(settled);
            }
        }
    }

    // ---- sessions and time ----

    pub fn on_connected(&mut self, step: &mut Step, node: NodeId) {
        self.up.insert(node);
        if let Some(offer) = &self.offer {
            step.send(node, WorkMsg::Offer(Box::new(offer.clone())));
        }
    }

    pub fn on_disconnected(&mut self, step: &mut Step, node: NodeId) {
        self.up.remove(&node);
        for channel in self.channels.values_mut().filter(|channel| channel.requester == node) {
            if channel.money.unclaimed() > step.settings.claim_min {
                claim(step, channel);
            }
        }
    }

    /// Whether we want a session with that node to stay up.
    pub fn needs(&self, node: &NodeId, now_ms: u64, idle_ms: u64) -> bool {
        self.channels.values().any(|channel| {
            channel.requester == *node
                && (now_ms < channel.active_ms.saturating_add(idle_ms) || !channel.slices.is_empty())
        })
    }

    pub fn on_tick(&mut self, step: &mut Step) {
        self.publish(step);
        for (id, channel) in &mut self.channels {
            let unclaimed = channel.money.unclaimed();
            let idle_ms = step.now_ms.saturating_sub(channel.active_ms);
            if unclaimed > step.settings.claim_min
                && idle_ms >= step.settings.claim_idle_ms
                && channel.slices.is_empty()
            {
                claim(step, channel);
            }
            let is_unseen = channel.view.is_none() && channel.money.voucher.is_some();
            let is_stake = unclaimed > Amount::ZERO || !channel.slices.is_empty();
            if is_unseen || (is_stake && step.now_ms >= channel.seen_ms.saturating_add(WATCH_MS)) {
                look_up(step, *id, channel);
            }
        }
    }

    /// When this half next wants a tick.
    pub fn wake_ms(&self, settings: &crate::settings::Settings) -> Option<u64> {
        let offer = self.terms.as_ref().map(|_| match self.published_ms {
            Some(at) => at.saturating_add(u64::from(settings.offer_ttl_ms) / 3),
            None => 0,
        });
        let due = |channel: &Channel| {
            let is_quiet = channel.slices.is_empty() && channel.money.claiming_since_ms.is_none();
            let is_open = is_quiet && channel.money.unclaimed() > settings.claim_min;
            is_open.then(|| channel.active_ms.saturating_add(settings.claim_idle_ms))
        };
        self.channels.values().filter_map(due).chain(offer).min()
    }

    // ---- restoring ----

    /// Takes one record in, in the order of writing.
    pub fn restore(&mut self, step: &Step, record: &Record) {
        match record {
            Record::Agreed { agreement, ours: false } => {
                let ours = agreement.paper.clone().sign(&step.me.key, &step.me.domain);
                let mut fresh = Channel::new(agreement.paper.requester_node, agreement.clone(), ours, 0);
                fresh.is_recorded = true;
                match self.channels.entry(agreement.paper.channel) {
                    std::collections::btree_map::Entry::Vacant(vacant) => {
                        vacant.insert(fresh);
                    }
                    std::collections::btree_map::Entry::Occupied(mut known) => {
                        (known.get_mut().theirs, known.get_mut().ours) = (fresh.theirs, fresh.ours);
                    }
                }
            }
            Record::Earned(voucher) => {
                if let Some(channel) = self.channels.get_mut(&voucher.paper.channel) {
                    channel.money.voucher = Some(*voucher);
                    // What was delivered before it is paid; a slice that was not is run again, and counted then.
                    channel.money.delivered = channel.money.delivered.max(voucher.paper.cumulative);
                    if channel.money.may_deliver()
                        && let Some(paid) = channel.owed.take()
                    {
                        channel.next_slice = paid + 1;
                    }
                }
            }
            Record::Delivered(receipt) => {
                if let Some(channel) = self.channels.get_mut(&receipt.paper.channel) {
                    // Its answers are gone: if the requester never had them, it sends the slice again under the
                    // same number.
                    channel.next_slice = channel.next_slice.max(receipt.paper.slice);
                    channel.owed = Some(receipt.paper.slice);
                    channel.money.delivered = channel.money.promised().saturating_add(receipt.paper.price);
                }
            }
            Record::WrittenOff { channel, slice } => {
                if let Some(channel) = self.channels.get_mut(channel)
                    && channel.owed.take_if(|owed| owed == slice).is_some()
                {
                    channel.money.write_off();
                    channel.next_slice = channel.next_slice.max(slice + 1);
                }
            }
            Record::OfferSeq(seq) => self.offer_seq = self.offer_seq.max(*seq),
            Record::Restored { at_ms } => self.offer_seq = self.offer_seq.max(*at_ms),
            Record::Closed(id) => {
                self.channels.remove(id);
            }
            _ => {}
        }
    }

    /// Money earned and held, for people.
    pub fn channel_views(&self) -> impl Iterator<Item = (ChannelId, NodeId, Amount, Amount, Amount)> + '_ {
        self.channels.iter().map(|(id, channel)| {
            (*id, channel.requester, channel.deposit(), channel.money.promised(), channel.money.settled)
        })
    }

    /// What is lent, how much of it is busy, and when it was last offered, for people.
    pub fn standing(&self) -> (Option<&ShareTerms>, u32, Option<u64>) {
        (self.terms.as_ref(), self.busy_tasks(), self.published_ms)
    }
}

impl Channel {
    fn new(requester: NodeId, theirs: Signed<Agreement>, ours: Signed<Agreement>, now_ms: u64) -> Channel {
        Channel {
            requester,
            theirs,
            ours,
            is_recorded: false,
            view: None,
            looked_up_ms: None,
            seen_ms: 0,
            served: 0,
            next_slice: 0,
            slices: VecDeque::new(),
            money: Earnings::default(),
            last_job: None,
            early_voucher: None,
            early_slices: Vec::new(),
            capped: 0,
            owed: None,
            unwanted: None,
            written_off: 0,
            active_ms: now_ms,
        }
    }
}

/// A channel as the one who claims to have opened it would like it to be seen.
fn unseen(agreement: &Agreement, payee: Address) -> ChannelView {
    ChannelView {
        payer: agreement.requester,
        payee,
        signer: agreement.requester,
        deposit: Amount::MAX,
        settled: Amount::ZERO,
        closing: false,
    }
}

fn refused(channel: ChannelId, slice: Option<u64>, refusal: Refusal) -> WorkMsg {
    WorkMsg::Refused { channel, slice, refusal }
}

/// Asks the ledger for a channel, unless it is being asked; says whether it was asked now.
fn look_up(step: &mut Step, id: ChannelId, channel: &mut Channel) -> bool {
    let is_due = channel.looked_up_ms.is_none_or(|at| step.now_ms >= at.saturating_add(RETRY_MS));
    if is_due {
        channel.looked_up_ms = Some(step.now_ms);
        step.put(Output::LookUpChannel(id));
    }
    is_due
}

fn claim(step: &mut Step, channel: &mut Channel) {
    let is_due = channel.money.claiming_since_ms.is_none_or(|at| step.now_ms >= at.saturating_add(RETRY_MS));
    if let Some(voucher) = channel.money.voucher.filter(|_| is_due && channel.money.unclaimed() > Amount::ZERO) {
        channel.money.claiming_since_ms = Some(step.now_ms);
        step.put(Output::Claim(voucher));
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
fn tell(step: &mut Step, requester: NodeId, slice: &Slice) {
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
fn deliver(step: &mut Step, channel: &mut Channel) {
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
