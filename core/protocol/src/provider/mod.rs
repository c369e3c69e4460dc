//! The provider: offers out, slices in, one receipt per slice, and never more than one of them unpaid.
//!
//! What must stay true:
//!
//! 1. Nothing runs before its channel was seen on the ledger, paying this account, signed by the requester.
//! 2. While a delivered slice is unpaid, at most two more of that requester's run or are held ready.
//! 3. A repeated message is answered as the first time: with the kept answer, never with a second receipt.
//! 4. A slice is accepted only if what is promised, delivered and capped fits the deposit.
//!
//! - [`agree`]: a channel, once the ledger has shown it.
//! - [`slices`]: work and answers.
//!
//! The owner, the money, sessions, and all of it from the records are here.

mod agree;
mod slices;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use glean_types::{
    Agreement, Amount, B256, ChannelId, Hash, Job, JobId, NodeId, Offer, Paper, Signed, TaskSpec, Voucher,
};

use self::slices::deliver;
use crate::defence::Defence;
use crate::io::{ChannelView, Event, Output, Record, RunId, ShareTerms};
use crate::settle::{AT_RISK_MAX, BadVoucher, Earnings};
use crate::step::Step;
use crate::wire::{Refusal, SliceDoneMsg, SliceMsg, WorkMsg};

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
