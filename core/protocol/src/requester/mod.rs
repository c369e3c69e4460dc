//! The requester: jobs in, slices out, answers checked, money promised.
//!
//! - [`give`]: which machine gets how much of which job, and the channels for it.
//! - [`answer`]: what comes back, and paying for it.
//! - [`checks`]: second answers, our own worker's word, and what happens to a liar.
//! - [`restore`]: all of it from the records.

mod answer;
mod checks;
mod give;
mod restore;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use glean_types::{Agreement, Amount, B256, ChannelId, Class, JobId, NodeId, Offer, Paper, Signed};

use crate::io::{Event, FailReason, Output, Record, RunId, Submission, TaskState};
use crate::market::{Ix, Market, Taken, Tie};
use crate::settle::{PayChannel, SharedReceipt};
use crate::step::Step;
use crate::verify::Check;
use crate::wire::{Refusal, WorkMsg};
use crate::work::{Job, Slice, Stage};

/// Between two ticks while anything is under way.
const TICK_MS: u64 = 100;
/// Between two attempts to dial a machine.
const REDIAL_MS: u64 = 2_000;
/// A machine that lost a slice rests this long, twice as long the next time, up to `BACKOFF_MS_MAX`.
const BACKOFF_MS: u64 = 1_000;
const BACKOFF_MS_MAX: u64 = 120_000;
/// How long a machine is left alone when not it but the ledger failed, or when it and we count its slices differently.
const REST_MS: u64 = 500;
/// Two steps of closing a channel are at least so far apart.
const CLOSE_AGAIN_MS_MIN: u64 = 1_000;
/// How long work waits after the ledger said that our balance does not cover a deposit.
const NO_FUNDS_MS: u64 = 5_000;

/// What is between us and one machine.
#[derive(Debug, Default)]
pub(crate) struct Relation {
    pub up: bool,
    pub dialled_ms: Option<u64>,
    /// Since when there has been no session although we want one.
    pub down_since_ms: Option<u64>,
    /// Chosen for work that is under way.
    pub engaged: bool,
    pub backoff_until_ms: u64,
    /// Broke the rules: no further work while this node runs. (A wrong answer also counts as a fault for ever.)
    pub broken: Option<&'static str>,
    pub channel: Option<PayChannel>,
    /// A deposit is on its way: since when, and how much.
    pub funding: Option<(u64, Amount)>,
    /// A channel that may be on the ledger already: it is opened under this salt and with this deposit, or not at all.
    pub opening: Option<(B256, Amount)>,
    /// Slices not yet paid or given up, in order of sending.
    pub open: Vec<u64>,
    pub active_ms: u64,
    /// Re-runs served that count towards this machine's own share of checks.
    pub credit: u32,
    /// Its answers under check now.
    pub pending_checks: u32,
    /// Agreements refused in a row.
    pub refused: u32,
    /// Our records name it.
    pub is_recorded: bool,
}

impl Relation {
    /// A machine that never had a channel of ours is in no slice and no task: its place may become another's.
    fn tie(&self) -> Tie {
        if self.channel.as_ref().is_some_and(|channel| !channel.dead) || self.funding.is_some() {
            Tie::Money
        } else if self.up
            || self.channel.is_some()
            || self.opening.is_some()
            || self.broken.is_some()
            || self.is_recorded
        {
            Tie::Known
        } else {
            Tie::None
        }
    }
}

/// The machines that are at work for us.
#[derive(Debug, Clone, Copy)]
struct AtWork {
    machines: u32,
    /// All together, 10^6 fuel per second.
    speed: u64,
    /// A slot of the machine in the middle, 10^6 fuel per second.
    slot_speed: u64,
}

/// The requester's half of a node.
#[derive(Debug, Default)]
pub(crate) struct Requester {
    pub market: Market,
    pub rels: Vec<Relation>,
    pub jobs: Vec<Job>,
    pub by_job: BTreeMap<JobId, usize>,
    /// Slices by number over all machines, in order of sending.
    pub slices: BTreeMap<u64, Slice>,
    by_number: BTreeMap<(ChannelId, u64), u64>,
    next_seq: u64,
    pub checks: BTreeMap<(usize, u32), Check>,
    /// While restoring: receipts by digest, for the answers accepted on their word.
    received: BTreeMap<B256, SharedReceipt>,
    /// Slices that may have become payable.
    ready: Vec<u64>,
    own_queue: VecDeque<(usize, u32)>,
    own_runs: BTreeMap<RunId, (usize, Vec<u32>)>,
    /// Machines best first, as of the last offers or tick.
    ranked: Vec<Ix>,
    /// When all machines were looked at last, and which may have become free since.
    swept_ms: Option<u64>,
    touched: BTreeSet<Ix>,
    /// None when one has come or gone since.
    at_work: Option<AtWork>,
    asked_ms: Option<u64>,
    /// The last answer of the index nodes named machines that we did not know.
    found_new: bool,
    pub no_funds_until_ms: u64,
    /// Channels on their way home: when the next step is due, and what comes home.
    closing: BTreeMap<ChannelId, (u64, Amount)>,
    /// Openings so far: no two share a salt.
    openings: u64,
}

impl Requester {
    pub fn rel(&mut self, ix: Ix) -> &mut Relation {
        &mut self.rels[ix.0 as usize]
    }

    /// One relation per machine.
    fn grow(&mut self, sessions: &BTreeSet<NodeId>) {
        for machine in &self.market.machines[self.rels.len()..] {
            self.rels.push(Relation { up: sessions.contains(&machine.node), ..Relation::default() });
        }
    }

    /// Jobs that are not over, oldest first.
    fn active(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.jobs.len()).filter(|slot| !self.jobs[*slot].ended)
    }

    pub fn is_active(&self) -> bool {
        self.jobs.iter().any(|job| !job.ended) || self.slices.values().any(|slice| !matches!(slice.stage, Stage::Lost))
    }

    /// Whether a local run is one of our checks.
    pub fn owns(&self, run: RunId) -> bool {
        self.own_runs.contains_key(&run)
    }

    /// Deposits that were asked back and are not home yet.
    pub fn coming_home(&self) -> Amount {
        self.closing.values().map(|(_, rest)| *rest).sum()
    }

    /// How many bytes of output the answer to this slice may bring, if an answer to it is still wanted from that machine.
    pub fn awaits(&self, from: &NodeId, channel: ChannelId, number: u64) -> Option<u64> {
        let slice = self.slices.get(self.by_number.get(&(channel, number))?)?;
        let is_theirs = self.market.node(slice.machine) == Some(*from) && !slice.is_answered();
        let each = self.jobs[slice.job].paper.output_max;
        is_theirs.then(|| each.saturating_mul(slice.items.len() as u64))
    }

    /// A session ends because nobody needs it.
    pub fn let_go(&mut self, node: &NodeId) {
        if let Some(ix) = self.market.find(node) {
            let rel = self.rel(ix);
            (rel.up, rel.engaged, rel.down_since_ms) = (false, false, None);
            self.at_work = None;
        }
    }

    // ---- people ----

    pub fn on_submit(&mut self, step: &mut Step, submission: Submission) {
        let id = submission.job.paper.id();
        if self.by_job.contains_key(&id) {
            return;
        }
        if let Err(why) = check_submission(step, &submission) {
            step.report(Event::JobRefused { job: id, why: why.into() });
            return;
        }
        step.record(Record::Submitted(Box::new(submission.clone())));
        self.add_job(step, submission);
        self.plan(step);
    }

    fn add_job(&mut self, step: &Step, submission: Submission) {
        let job = Job::new(&step.me.secret, submission);
        self.by_job.insert(job.id, self.jobs.len());
        self.jobs.push(job);
    }

    pub fn on_cancel(&mut self, step: &mut Step, id: JobId) {
        let Some(slot) = self.by_job.get(&id).copied().filter(|slot| !self.jobs[*slot].ended) else { return };
        self.end_job(step, slot, true);
        self.plan(step);
    }

    pub fn on_rerun_failed(&mut self, step: &mut Step, id: JobId) {
        let Some(slot) = self.by_job.get(&id).copied() else { return };
        if self.jobs[slot].rerun_failed() > 0 {
            step.record(Record::Reran(id));
            self.plan(step);
        }
    }

    /// Ends a job: what is not over yet is cancelled, what is under way is dropped.
    fn end_job(&mut self, step: &mut Step, slot: usize, cancelled: bool) {
        let job = &mut self.jobs[slot];
        for index in job.open_tasks() {
            job.set_state(index, TaskState::Cancelled);
        }
        job.retro.clear();
        (job.ended, job.cancelled) = (true, cancelled);
        step.record(Record::Ended { job: job.id, cancelled });
        step.report(Event::JobEnded {
            job: job.id,
            cancelled,
            succeeded: job.count(TaskState::Succeeded),
            failed: job.count(TaskState::Failed),
            spent: job.purse.spent,
        });
        let out: Vec<u64> =
            self.slices.iter().filter(|(_, slice)| slice.job == slot && slice.is_out()).map(|(seq, _)| *seq).collect();
        for seq in out {
            self.drop_slice(step, seq);
        }
    }

    /// Ends jobs that have nothing left to do, or nothing left to pay with.
    fn end_jobs(&mut self, step: &mut Step) {
        for slot in self.active().collect::<Vec<_>>() {
            let job = &self.jobs[slot];
            let too_many = job.max_fails.is_some_and(|max| job.count(TaskState::Failed) > max);
            let is_over = job.is_complete() && !self.awaits_own(slot) || too_many;
            if is_over && !self.slices.values().any(|slice| slice.job == slot && slice.is_answered()) {
                self.end_job(step, slot, false);
            }
        }
    }

    fn fail(&mut self, step: &mut Step, slot: usize, index: u32, reason: FailReason) {
        let job = &mut self.jobs[slot];
        job.set_state(index, TaskState::Failed);
        step.record(Record::Failed { job: job.id, index, reason: reason.clone() });
        step.report(Event::TaskFailed { job: job.id, index, reason });
    }

    // ---- offers and sessions ----

    /// Offers that an index node has shown.
    pub fn on_offers(&mut self, step: &mut Step, offers: Vec<Signed<Offer>>) {
        let taken: Vec<Taken> = offers.into_iter().filter_map(|offer| self.take_offer(step, offer)).collect();
        self.found_new = taken.iter().any(|taken| taken.is_new);
        if !taken.is_empty() {
            self.ranked = self.market.ranked(step.now_ms);
            self.plan(step);
        }
    }

    /// A machine that we have a session with tells us its own offer. The next tick ranks it; one that stood in no rank is
    /// made use of at once.
    pub fn on_own_offer(&mut self, step: &mut Step, from: NodeId, offer: Signed<Offer>) {
        let was_ranked = self.market.find(&from).is_some_and(|ix| self.ranked.contains(&ix));
        if offer.paper.node == from && self.take_offer(step, offer).is_some() && !was_ranked {
            self.ranked = self.market.ranked(step.now_ms);
            self.plan(step);
        }
    }

    fn take_offer(&mut self, step: &mut Step, offer: Signed<Offer>) -> Option<Taken> {
        let rels = &self.rels;
        let tie = |ix: Ix| rels.get(ix.0 as usize).map_or(Tie::None, Relation::tie);
        let (us, class, node) = (step.me.node, step.me.class, offer.paper.node);
        let taken = self.market.take(offer, us, class, &step.me.domain, step.now_ms, tie).ok()?;
        self.grow(step.sessions);
        if taken.is_new {
            *self.rel(taken.ix) = Relation { up: step.sessions.contains(&node), ..Relation::default() };
        }
        Some(taken)
    }

    pub fn on_connected(&mut self, step: &mut Step, node: NodeId) {
        let Some(ix) = self.market.find(&node) else { return };
        let now_ms = step.now_ms;
        self.at_work = None;
        let rel = self.rel(ix);
        rel.up = true;
        rel.dialled_ms = None;
        rel.down_since_ms = None;
        rel.active_ms = now_ms;
        if let Some(channel) = &mut rel.channel {
            channel.agreed = false;
        }
        self.open_channel(step, ix);
    }

    pub fn on_disconnected(&mut self, step: &mut Step, node: NodeId) {
        let Some(ix) = self.market.find(&node) else { return };
        let now_ms = step.now_ms;
        let rel = self.rel(ix);
        if rel.up || rel.down_since_ms.is_none() {
            rel.down_since_ms = Some(now_ms);
        }
        rel.up = false;
        if let Some(channel) = &mut rel.channel {
            channel.agreed = false;
        }
        self.at_work = None;
        self.plan(step);
    }

    /// Whether we want a session with that node to stay up.
    pub fn needs(&self, node: &NodeId, now_ms: u64, idle_ms: u64) -> bool {
        let Some(ix) = self.market.find(node) else { return false };
        let rel = &self.rels[ix.0 as usize];
        rel.engaged && (self.is_active() || now_ms < rel.active_ms.saturating_add(idle_ms))
    }

    /// Dials machines that we want and have no session with.
    fn dial(&mut self, step: &mut Step, ix: Ix) {
        let Some(machine) = self.market.get(ix) else { return };
        let Some(offer) = &machine.offer else { return };
        let now_ms = step.now_ms;
        let rel = &mut self.rels[ix.0 as usize];
        let is_due = rel.dialled_ms.is_none_or(|at| at.saturating_add(REDIAL_MS) <= now_ms);
        if !rel.up && is_due && now_ms >= rel.backoff_until_ms {
            rel.dialled_ms = Some(now_ms);
            rel.down_since_ms.get_or_insert(now_ms);
            step.put(Output::Dial { node: machine.node, peer: offer.peer.clone() });
        }
    }

    /// Leaves a machine alone for a moment, without holding anything against it.
    fn rest(&mut self, step: &Step, ix: Ix) {
        let rel = self.rel(ix);
        rel.backoff_until_ms = rel.backoff_until_ms.max(step.now_ms.saturating_add(REST_MS));
    }

    /// Lets a machine rest that has cost us time: twice as long as the last time.
    fn back_off(&mut self, step: &Step, ix: Ix) {
        let lost = self.market.history_mut(ix).map_or(0, |history| {
            history.lost = history.lost.saturating_add(1);
            history.lost
        });
        let rest = BACKOFF_MS.saturating_mul(1 << lost.min(7)).min(BACKOFF_MS_MAX);
        let until = step.now_ms.saturating_add(rest);
        let rel = self.rel(ix);
        rel.backoff_until_ms = rel.backoff_until_ms.max(until);
    }

    // ---- channels ----

    /// Asks the provider to agree, once the channel is on the ledger and a session is up.
    fn open_channel(&mut self, step: &mut Step, ix: Ix) {
        let Some(machine) = self.market.get(ix) else { return };
        let Some(rel) = self.rels.get_mut(ix.0 as usize) else { return };
        let Some(channel) = &mut rel.channel else { return };
        if !rel.up || channel.dead || channel.agreed {
            return;
        }
        let offered = machine.standing(step.now_ms).map(|offer| offer.price_per_gfuel);
        let keep = match (&channel.agreement, offered) {
            (Some(agreement), Some(price)) => agreement.paper.price_per_gfuel == price || !rel.open.is_empty(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !keep {
            let Some(price_per_gfuel) = offered else { return };
            let agreement = Agreement {
                channel: channel.id,
                requester: step.address,
                requester_node: step.me.node,
                provider: machine.provider,
                provider_node: machine.node,
                price_per_gfuel,
                created_ms: step.now_ms,
            };
            channel.agreement = Some(agreement.sign(&step.me.key, &step.me.domain));
            channel.is_recorded = false;
        }
        if let Some(agreement) = channel.agreement.clone() {
            step.send(machine.node, WorkMsg::Open(agreement));
        }
    }

    pub fn on_agreed(&mut self, step: &mut Step, from: NodeId, agreed: Signed<Agreement>) {
        let Some(ix) = self.market.find(&from) else { return };
        let provider = self.market.get(ix).map(|machine| machine.provider).unwrap_or_default();
        let rel = &mut self.rels[ix.0 as usize];
        let Some(channel) = &mut rel.channel else { return };
        let ours = channel.agreement.as_ref().map(|agreement| &agreement.paper);
        if channel.agreed || ours != Some(&agreed.paper) || agreed.check(&step.me.domain, provider).is_err() {
            return;
        }
        channel.agreed = true;
        rel.refused = 0;
        let voucher = channel.voucher;
        if !std::mem::replace(&mut channel.is_recorded, true) {
            step.record(Record::Agreed { agreement: agreed, ours: true });
        }
        // What was on its way when the last session ended may have been lost: both sides know repeats.
        if let Some(voucher) = voucher {
            step.send(from, WorkMsg::Pay(voucher));
        }
        self.resend(step, ix);
        self.drop_lost(step, ix);
        self.plan_for(step, Some(ix));
    }

    /// What was given up is not waited for: a provider that holds it, or was restarted while it was owed for it, goes on.
    fn drop_lost(&self, step: &mut Step, ix: Ix) {
        let Some(node) = self.market.node(ix) else { return };
        let Some(id) = self.rels[ix.0 as usize].channel.as_ref().map(|channel| channel.id) else { return };
        let is_lost = |slice: &&Slice| slice.channel == id && matches!(slice.stage, Stage::Lost);
        for slice in self.slices.values().filter(is_lost) {
            step.send(node, WorkMsg::Drop { channel: id, slice: slice.number });
        }
    }

    pub fn on_channel_ready(&mut self, step: &mut Step, provider: NodeId, id: ChannelId, deposit: Amount) {
        let Some(ix) = self.market.find(&provider) else { return };
        let rel = self.rel(ix);
        rel.funding = None;
        rel.opening = None;
        match &mut rel.channel {
            Some(channel) if channel.id == id => {
                channel.purse.total = channel.purse.total.max(deposit);
                channel.funding_since_ms = None;
            }
            _ => rel.channel = Some(PayChannel::new(id, deposit)),
        }
        step.record(Record::Funded { provider, channel: id, deposit });
        self.open_channel(step, ix);
        self.plan_for(step, Some(ix));
    }

    pub fn on_channel_failed(&mut self, step: &mut Step, provider: NodeId, why: String, no_funds: bool) {
        let Some(ix) = self.market.find(&provider) else { return };
        let rel = self.rel(ix);
        rel.funding = None;
        if let Some(channel) = &mut rel.channel {
            channel.funding_since_ms = None;
        }
        if no_funds {
            self.no_funds_until_ms = step.now_ms.saturating_add(NO_FUNDS_MS);
            step.report(Event::FundsMissing { why });
        } else {
            self.rest(step, ix);
        }
    }

    /// A provider would not agree to the channel.
    fn on_agreement_refused(&mut self, step: &mut Step, ix: Ix, refusal: &Refusal) {
        // The provider may see the ledger a little later than we do, so it gets a few chances.
        match refusal {
            Refusal::BadChannel => self.rest(step, ix),
            _ => self.back_off(step, ix),
        }
        let rel = self.rel(ix);
        rel.refused += 1;
        // What was refused is not offered again; the next offer of terms follows after a rest.
        if let Some(channel) = rel.channel.as_mut().filter(|channel| !channel.agreed) {
            channel.agreement = None;
        }
        if matches!(refusal, Refusal::BadChannel) && rel.refused >= 3 {
            self.close_channel(step, ix);
        }
    }

    /// Takes the rest of a deposit back. Nothing is paid from the channel afterwards.
    fn close_channel(&mut self, step: &mut Step, ix: Ix) {
        let rel = self.rel(ix);
        if let Some(channel) = rel.channel.as_mut().filter(|channel| !channel.dead) {
            channel.dead = true;
            let (id, rest) = (channel.id, channel.purse.total.saturating_sub(channel.purse.spent));
            self.closing.insert(id, (u64::MAX, rest));
            step.record(Record::Closing(id));
            step.put(Output::CloseChannel(id));
        }
    }

    /// The next steps of closing that are due.
    fn go_on_closing(&mut self, step: &mut Step) {
        let now_ms = step.now_ms;
        for (id, (due_ms, _)) in self.closing.iter_mut().filter(|(_, (due_ms, _))| *due_ms <= now_ms) {
            *due_ms = u64::MAX;
            step.put(Output::CloseChannel(*id));
        }
    }

    pub fn on_channel_closing(&mut self, step: &mut Step, id: ChannelId, again_ms: Option<u64>) {
        let Some((due_ms, _)) = self.closing.get_mut(&id) else { return };
        match again_ms {
            Some(again_ms) => *due_ms = again_ms.max(step.now_ms.saturating_add(CLOSE_AGAIN_MS_MIN)),
            None => {
                self.closing.remove(&id);
                step.record(Record::Closed(id));
            }
        }
    }

    /// Ends a relation for good: no further work, no payment for what is not yet paid.
    fn end_relation(&mut self, step: &mut Step, ix: Ix, why: &'static str) {
        if self.rel(ix).broken.is_some() {
            return;
        }
        self.rel(ix).broken = Some(why);
        self.give_up(step, ix, why, false);
        self.close_channel(step, ix);
        self.at_work = None;
        let rel = self.rel(ix);
        rel.engaged = false;
        rel.up = false;
        self.ranked.retain(|ranked| *ranked != ix);
        if let Some(node) = self.market.node(ix) {
            step.put(Output::Hangup(node));
        }
    }

    // ---- time ----

    pub fn on_tick(&mut self, step: &mut Step) {
        self.go_on_closing(step);
        if !self.is_active() {
            self.close_idle(step);
            return;
        }
        self.ranked = self.market.ranked(step.now_ms);
        self.expire_leases(step);
        self.hurry_checks(step);
        self.plan(step);
    }

    /// Channels that nothing needs any more are closed, so that deposits come home.
    fn close_idle(&mut self, step: &mut Step) {
        for ix in (0..self.rels.len() as u32).map(Ix) {
            let rel = &self.rels[ix.0 as usize];
            let is_idle = step.now_ms >= rel.active_ms.saturating_add(step.settings.close_idle_ms);
            if rel.open.is_empty() && is_idle {
                self.close_channel(step, ix);
            }
        }
    }

    /// When this half next wants a tick: ten times a second while anything is under way, which is fine enough
    /// for leases, backups and dialling, and nothing to compute.
    pub fn wake_ms(&self, settings: &crate::settings::Settings, now_ms: u64) -> Option<u64> {
        if self.is_active() {
            return Some(now_ms.saturating_add(TICK_MS));
        }
        let is_open = |rel: &&Relation| rel.channel.as_ref().is_some_and(|channel| !channel.dead);
        let idle = self.rels.iter().filter(is_open).map(|rel| rel.active_ms.saturating_add(settings.close_idle_ms));
        idle.chain(self.closing.values().map(|(due_ms, _)| *due_ms).filter(|due_ms| *due_ms < u64::MAX)).min()
    }
}

/// Whether a person's job hangs together.
fn check_submission(step: &Step, submission: &Submission) -> Result<(), &'static str> {
    let job = &submission.job.paper;
    if job.requester != step.address || job.node != step.me.node {
        return Err("it names another requester: jobs are signed by the account that pays for them");
    }
    if submission.job.check(&step.me.domain, step.address).is_err() {
        return Err("its signature is not this account's");
    }
    if job.class != Class::Exact {
        return Err("only exactly checkable jobs can be run");
    }
    if job.tasks == 0 || job.tasks > glean_types::params::JOB_TASKS_MAX {
        return Err("a job has at least one task and at most a million");
    }
    let in_place = (0..job.tasks).zip(&submission.specs).all(|(index, spec)| spec.index == index);
    if submission.specs.len() != job.tasks as usize || !in_place {
        return Err("its tasks are not the ones it was signed for");
    }
    if !job.has_sane_limits() {
        return Err("its limits of fuel, output or time are beyond what any machine takes");
    }
    Ok(())
}
