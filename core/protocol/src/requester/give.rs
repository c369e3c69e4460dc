//! Giving work out: which machines to engage, what to deposit with them, and which tasks go into a slice.
//!
//! Machines are served breadth first, one slice each and then the one queued behind it, so that nobody waits
//! while another has a queue. One that holds answers back until we have checked an earlier slice gets one more instead of
//! idling. What is left in the tail is copied to machines that have nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use glean_types::params::{CHECK_ALL_FIRST, INLINE_SLICE_MAX, SLICE_TASKS_MAX};
use glean_types::{Amount, B256, TaskSpec};

use super::{AtWork, Relation, Requester};
use crate::defence::Defence;
use crate::io::{Event, FailReason, Output, Record, TaskState};
use crate::market::{Ix, Machine};
use crate::settle::AT_RISK_MAX;
use crate::step::Step;
use crate::verify::{self, Check, Place};
use crate::wire::{HOLDERS_MAX, SliceMsg, WorkMsg};
use crate::work::{Item, Role, Size, Sizing, Slice, Stage};

/// All machines are looked at again after a millisecond for so many of them: at once where there are few.
const SWEPT_PER_MS: u64 = 32;
/// Slices that a machine has work with: one that runs and one behind it.
const IN_WORK_MAX: usize = 2;
/// Tasks looked at for one that this machine has not just failed.
const LOOK_MAX: usize = 64;
/// A lease before anything is known of a job's fuel is at most this long.
const LEASE_MS_MAX: u64 = 3_600_000;
/// A slice this much over its expected time is copied to idle machines,
const LATE_MS: u64 = 1_000;
/// but no task to more than so many machines: less if they would only be faster, more if they are late.
const LIVE_MAX: u8 = 2;
const LIVE_MAX_LATE: u8 = 4;

impl Requester {
    /// Does whatever can be done now, with all machines: called after everything that may have made room or work for any.
    pub(super) fn plan(&mut self, step: &mut Step) {
        self.settle_ready(step);
        self.start_own_runs(step);
        let touched = std::mem::take(&mut self.touched);
        self.swept_ms = Some(step.now_ms);
        if self.jobs.iter().any(|job| !job.ended) {
            self.ask_offers(step);
            self.engage(step);
            self.at_work = Some(self.count_at_work());
            for unpaid in 0..IN_WORK_MAX {
                for at in 0..self.ranked.len() {
                    self.serve(step, self.ranked[at], unpaid);
                }
            }
            // Who has come to hold answers back has just said so.
            touched.iter().for_each(|ix| self.serve(step, *ix, AT_RISK_MAX - 1));
            self.back_up(step);
            self.fail_unpayable(step);
        }
        self.end_jobs(step);
    }

    /// The same after news of one machine. Among many, only that one and those that its news concern are looked at, and all
    /// of them a little later: else every answer would cost as much as there are machines.
    pub(super) fn plan_for(&mut self, step: &mut Step, ix: Option<Ix>) {
        self.touched.extend(ix);
        let pause_ms = self.ranked.len() as u64 / SWEPT_PER_MS;
        if self.swept_ms.is_none_or(|at| at.saturating_add(pause_ms) <= step.now_ms) {
            return self.plan(step);
        }
        // A share of the work is a share among all: stale by a moment in speed, but never in number.
        self.at_work = self.at_work.or_else(|| Some(self.count_at_work()));
        self.settle_ready(step);
        self.start_own_runs(step);
        let touched = std::mem::take(&mut self.touched);
        for unpaid in 0..AT_RISK_MAX {
            touched.iter().for_each(|ix| self.serve(step, *ix, unpaid));
        }
        self.end_jobs(step);
    }

    /// Sends a machine what it may take while no more than `unpaid` slices are unpaid there.
    fn serve(&mut self, step: &mut Step, ix: Ix, unpaid: usize) {
        while self.may_take(step, ix, unpaid) && self.give(step, ix) {}
    }

    fn count_at_work(&self) -> AtWork {
        let at_work = self.rels.iter().zip(&self.market.machines).filter(|(rel, _)| rel.engaged && rel.up);
        let (mut speed, mut slots) = (0u64, Vec::with_capacity(self.rels.len()));
        for (_, machine) in at_work {
            speed = speed.saturating_add(machine.mfuel_per_s());
            slots.push(machine.slot_speed());
        }
        let middle = slots.len().saturating_sub(1) / 2;
        let slot_speed = if slots.is_empty() { 0 } else { *slots.select_nth_unstable(middle).1 };
        AtWork { machines: slots.len() as u32, speed, slot_speed }
    }

    fn ask_offers(&mut self, step: &mut Step) {
        let waiting: u64 = self.active().map(|slot| u64::from(self.jobs[slot].waiting())).sum();
        let engaged = (0u32..).map(Ix).zip(&self.rels).filter(|(_, rel)| rel.engaged && rel.up);
        let slots: u64 =
            engaged.filter_map(|(ix, _)| self.market.get(ix)).map(|machine| u64::from(machine.slots())).sum();
        let is_full = self.ranked.len() >= step.settings.machines_max;
        let every_ms = match step.settings.query_every_ms {
            // An answer is a sample: while it brings machines that we need and did not know, there are more.
            every if self.ranked.is_empty() || (self.found_new && slots < waiting && !is_full) => every / 10,
            every if slots >= waiting => every.saturating_mul(4),
            every => every,
        };
        if self.asked_ms.is_none_or(|at| at.saturating_add(every_ms) <= step.now_ms) {
            self.asked_ms = Some(step.now_ms);
            step.put(Output::QueryOffers);
            self.call_friends(step);
        }
    }

    /// Dials machines with which money of ours lies and whose offer has expired: an index node's sample of very many machines
    /// will hardly name them again, but they tell us their offer themselves.
    fn call_friends(&mut self, step: &mut Step) {
        let is_friend = |rel: &Relation| {
            !rel.up && rel.broken.is_none() && rel.channel.as_ref().is_some_and(|channel| !channel.dead)
        };
        for ix in (0..self.rels.len() as u32).map(Ix) {
            let has_expired = self.market.get(ix).is_some_and(|machine| machine.standing(step.now_ms).is_none());
            if has_expired && is_friend(&self.rels[ix.0 as usize]) {
                self.dial(step, ix);
            }
        }
    }

    // ---- machines and deposits ----

    /// Engages the best machines until their slots cover the work, and keeps sessions and channels up.
    fn engage(&mut self, step: &mut Step) {
        let waiting: u64 =
            self.active().map(|slot| u64::from(self.jobs[slot].waiting()) + self.jobs[slot].retro.len() as u64).sum();
        let leased: u64 = self.active().map(|slot| u64::from(self.jobs[slot].count(TaskState::Leased))).sum();
        // When nothing waits, idle machines are wanted for what others are not done with.
        let (wanted, busy) = if waiting > 0 { (waiting, IN_WORK_MAX) } else { (leased, 1) };
        let (mut slots, mut count) = (0u64, 0usize);
        for at in 0..self.ranked.len() {
            let ix = self.ranked[at];
            if self.rels[ix.0 as usize].engaged {
                // One that rests, has enough, has just lost work or is late with it may not be all that a job depends on.
                let is_sound = self.rels[ix.0 as usize].open.len() < busy
                    && self.is_usable(step, ix)
                    && self.market.get(ix).is_some_and(|machine| machine.history.lost == 0)
                    && !self.is_behind(step, ix);
                slots += if is_sound { u64::from(self.market.get(ix).map_or(0, |machine| machine.slots())) } else { 0 };
                count += 1;
                self.prepare(step, ix, count);
            }
        }
        for at in 0..self.ranked.len() {
            let ix = self.ranked[at];
            if slots >= wanted || count >= step.settings.machines_max || wanted == 0 {
                return;
            }
            if !self.is_usable(step, ix) || self.rels[ix.0 as usize].engaged {
                continue;
            }
            slots += u64::from(self.market.get(ix).map_or(0, |machine| machine.slots()));
            count += 1;
            self.rel(ix).engaged = true;
            self.prepare(step, ix, count);
        }
    }

    /// Whether nothing between us and a machine, nor its offer, keeps it from some job under way.
    fn is_usable(&self, step: &Step, ix: Ix) -> bool {
        let rel = &self.rels[ix.0 as usize];
        rel.broken.is_none()
            && step.now_ms >= rel.backoff_until_ms
            && self.active().any(|slot| self.market.obstacle(ix, &self.jobs[slot].paper, step.now_ms).is_none())
    }

    /// Brings up a session and a channel with an engaged machine.
    fn prepare(&mut self, step: &mut Step, ix: Ix, engaged: usize) {
        if !self.is_usable(step, ix) {
            return;
        }
        self.dial(step, ix);
        let rel = &self.rels[ix.0 as usize];
        if rel.up && rel.channel.as_ref().is_some_and(|channel| channel.agreement.is_none()) {
            self.open_channel(step, ix);
        }
        let rel = &self.rels[ix.0 as usize];
        let has_channel = rel.channel.as_ref().is_some_and(|channel| !channel.dead);
        if !has_channel && rel.funding.is_none() && rel.open.is_empty() {
            self.fund(step, ix, engaged, Amount::ZERO);
        }
    }

    /// Opens a channel or tops it up: a few slices ahead, and all channels together not beyond what the jobs
    /// under way may still spend; but by `least` in any case, for the last money must not lie about in pieces
    /// of which none pays for a task.
    fn fund(&mut self, step: &mut Step, ix: Ix, engaged: usize, least: Amount) {
        if step.now_ms < self.no_funds_until_ms || self.rels[ix.0 as usize].funding.is_some() {
            return;
        }
        let budget: Amount = self.active().map(|slot| self.jobs[slot].purse.free()).sum();
        // What lies with machines that are gone or silent comes home one day; until then it must not keep newcomers out.
        // (What is spent is held to the budgets by purses, whatever is deposited.)
        let is_here = |(ix, rel): &(Ix, &Relation)| {
            rel.funding.is_some() || (rel.up && self.market.get(*ix).is_some_and(|machine| machine.history.lost == 0))
        };
        let rels = (0u32..).map(Ix).zip(&self.rels);
        let locked: Amount = rels.filter(is_here).map(|(_, rel)| idle_deposit(rel)).sum();
        let room = budget.saturating_sub(locked);
        // The first machines leave something for the others that the work needs.
        let waiting: u32 = self.active().map(|slot| self.jobs[slot].waiting()).sum();
        let others = self.ranked.len().min(step.settings.machines_max).min(waiting as usize);
        let share = budget.scale(1, u32::try_from(engaged.max(others).max(1)).unwrap_or(u32::MAX));
        let Some(machine) = self.market.get(ix) else { return };
        let (provider, payee) = (machine.node, machine.provider);
        let rel = &mut self.rels[ix.0 as usize];
        // As much again as was paid in before: a long job costs a few transactions, and not one for every few slices.
        let before = rel.channel.as_ref().filter(|channel| !channel.dead).map_or(Amount::ZERO, |c| c.purse.total);
        let mut add = step.settings.deposit_aim.max(before).min(room).min(share).max(least);
        let is_new = rel.channel.as_ref().is_none_or(|channel| channel.dead);
        // One that may be on the ledger already is opened as it was begun.
        let begun = rel.opening.filter(|_| is_new);
        add = begun.map_or(add, |(_, deposit)| deposit);
        if add == Amount::ZERO {
            return;
        }
        let (channel, deposit) = match rel.channel.as_mut().filter(|channel| !channel.dead) {
            Some(channel) if channel.funding_since_ms.is_some() => return,
            Some(channel) => {
                channel.funding_since_ms = Some(step.now_ms);
                (Some(channel.id), channel.purse.total.saturating_add(add))
            }
            None => (None, add),
        };
        rel.funding = Some((step.now_ms, add));
        let salt = match begun {
            Some((salt, _)) => salt,
            None if is_new => {
                self.openings += 1;
                let salt = salt(&step.me.secret, self.openings);
                rel.opening = Some((salt, deposit));
                step.record(Record::Opening { provider, payee, deposit, salt });
                salt
            }
            None => B256::ZERO,
        };
        step.put(Output::FundChannel { provider, payee, channel, deposit, salt });
    }

    // ---- slices ----

    /// Whether a machine may be sent another slice: no more than `unpaid` are unpaid there, and it will soon have nothing to do.
    fn may_take(&self, step: &Step, ix: Ix, unpaid: usize) -> bool {
        let rel = &self.rels[ix.0 as usize];
        let agreed = rel.channel.as_ref().is_some_and(|channel| channel.agreed && !channel.dead);
        rel.engaged
            && rel.up
            && agreed
            && rel.broken.is_none()
            && step.now_ms >= rel.backoff_until_ms
            && rel.open.len() <= unpaid
            && (rel.open.len() < IN_WORK_MAX || self.in_work(ix).count() < IN_WORK_MAX)
    }

    /// Slices that a machine may be at work on now.
    fn in_work(&self, ix: Ix) -> impl Iterator<Item = &Slice> {
        self.rels[ix.0 as usize].open.iter().filter_map(|seq| self.slices.get(seq)).filter(|slice| slice.is_in_work())
    }

    /// What the size of a slice for this machine depends on.
    fn size_of(&self, ix: Ix) -> Option<Size> {
        let machine = self.market.get(ix)?;
        let rel = &self.rels[ix.0 as usize];
        let channel = rel.channel.as_ref()?;
        let AtWork { machines, speed, .. } = self.at_work.unwrap_or_else(|| self.count_at_work());
        Some(Size {
            machine: ix,
            price: channel.price(),
            history: machine.history,
            mfuel_per_s: machine.mfuel_per_s(),
            slots: machine.slots(),
            in_work: self.tasks_in_work(ix),
            deposit_free: channel.purse.free(),
            machines,
            speed,
        })
    }

    /// Tasks that a machine may be at work on now.
    fn tasks_in_work(&self, ix: Ix) -> u32 {
        self.in_work(ix).map(|slice| slice.items.len() as u32).sum()
    }

    /// Sends one slice of the oldest job that has something for this machine.
    fn give(&mut self, step: &mut Step, ix: Ix) -> bool {
        for slot in self.active().collect::<Vec<_>>() {
            let job = &self.jobs[slot];
            let has_checks = !job.unplaced.is_empty() && self.gives_checks(slot);
            if !(job.has_work() || has_checks) || self.market.obstacle(ix, &job.paper, step.now_ms).is_some() {
                continue;
            }
            let Some(size) = self.size_of(ix) else { return false };
            if size.is_enough(job) {
                continue;
            }
            match job.size(&size) {
                Sizing::Send { tasks, price_max } => {
                    let items = self.choose(step, slot, ix, tasks as usize);
                    if !items.is_empty() {
                        self.send_slice(step, slot, ix, items, price_max);
                        self.top_up_early(step, ix, price_max);
                        return true;
                    }
                }
                Sizing::NeedDeposit { more } => self.fund(step, ix, 1, more),
                Sizing::NeedBudget => {}
            }
        }
        false
    }

    /// Tops a channel up before it runs dry, so that its provider never waits for the ledger.
    fn top_up_early(&mut self, step: &mut Step, ix: Ix, price_max: Amount) {
        let free = self.rels[ix.0 as usize].channel.as_ref().map_or(Amount::ZERO, |channel| channel.purse.free());
        if free < price_max.scale(2, 1) && self.active().any(|slot| self.jobs[slot].has_work()) {
            self.fund(step, ix, 1, Amount::ZERO);
        }
    }

    /// Tasks for one slice: checks of other machines first, since payments wait for them.
    fn choose(&mut self, step: &mut Step, slot: usize, ix: Ix, count: usize) -> Vec<Item> {
        let mut items = self.choose_copies(step, slot, ix, count);
        let job = &mut self.jobs[slot];
        let mut bytes: usize = items.iter().map(|item| spec_bytes(&job.specs[item.index as usize])).sum();
        for _ in 0..job.retro.len().min(count.saturating_sub(items.len())) {
            let Some(index) = job.retro.pop_front() else { break };
            if job.tasks[index as usize].by == ix {
                job.retro.push_back(index);
            } else if !items.iter().any(|item| item.index == index) {
                job.retro_open += 1;
                job.rechecked += 1;
                items.push(Item::new(index, Role::Retro));
            }
        }
        let may_avoid = self.ranked.len() > 1;
        let mut aside = Vec::new();
        while items.len() < count && aside.len() < LOOK_MAX {
            let Some(index) = job.pop() else { break };
            // One that was at work over a restart and came back stands in the queue twice.
            if items.iter().any(|item| item.index == index && item.role != Role::Copy) {
                continue;
            }
            let size = spec_bytes(&job.specs[index as usize]);
            let has_it = items.iter().any(|item| item.index == index && item.role == Role::Copy);
            let is_heavy = job.tasks[index as usize].heavy;
            if (may_avoid && job.tasks[index as usize].avoid == ix) || has_it || (is_heavy && !items.is_empty()) {
                aside.push(index);
            } else if is_heavy {
                items.push(Item::new(index, Role::Original));
                break;
            } else if bytes + size > INLINE_SLICE_MAX && !items.is_empty() {
                job.unpop(index);
                break;
            } else {
                bytes += size;
                items.push(Item::new(index, Role::Original));
            }
        }
        aside.into_iter().rev().for_each(|index| job.unpop(index));
        items
    }

    /// Copies of other machines' tasks that this slice may carry. Since those machines wait for the answers, they go to the
    /// faster half of all, or to one that is as fast as the one it checks, and to the others only once an answer has waited.
    /// (Half: a clique of the fastest is asked about itself at most twice as often as by a lot among all.)
    fn choose_copies(&mut self, step: &mut Step, slot: usize, ix: Ix, most: usize) -> Vec<Item> {
        let Some((node, speed)) = self.market.get(ix).map(|machine| (machine.node, machine.slot_speed())) else {
            return Vec::new();
        };
        let usual = self.at_work.map_or(0, |at_work| at_work.slot_speed);
        let job = &mut self.jobs[slot];
        let mut items = Vec::new();
        let (mut left, mut seen) = (Vec::new(), BTreeSet::new());
        for index in std::mem::take(&mut job.unplaced) {
            // A check that ended and was begun anew before its turn came stands here twice.
            if !seen.insert(index) {
                continue;
            }
            let Some(check) = self.checks.get(&(slot, index)).filter(|check| check.place == Place::Waiting) else {
                continue;
            };
            let is_next = check.has_original() || verify::is_checker(&step.me.secret, job.id, index, node);
            let is_fast = speed >= usual.min(self.market.get(check.machine).map_or(0, Machine::slot_speed));
            let is_soon = is_fast || check.has_waited(step);
            let fits = items.len() < most && is_next && is_soon && may_check(step, &self.market, check, ix);
            if fits {
                job.rechecked += 1;
                items.push(Item::new(index, Role::Copy));
            } else {
                left.push(index);
            }
        }
        job.unplaced = left;
        items
    }

    /// Sends a slice: reserves its price, leases its tasks, and chooses secretly what will be checked.
    pub(super) fn send_slice(&mut self, step: &mut Step, slot: usize, ix: Ix, mut items: Vec<Item>, price_max: Amount) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut pending = self.choose_checks(step, slot, ix, seq, &mut items, true);
        let is_stranger = self.market.is_stranger(ix);
        // In order of index, a check looks like any other task.
        items.sort_by_key(|item| item.index);
        let job = &mut self.jobs[slot];
        for item in &items {
            match item.role {
                Role::Original | Role::Backup => {
                    job.tasks[item.index as usize].live += 1;
                    job.set_state(item.index, TaskState::Leased);
                }
                Role::Copy => {
                    if let Some(check) = self.checks.get_mut(&(slot, item.index)) {
                        pending += check.place_at(seq, is_stranger);
                    }
                }
                Role::Canary | Role::Retro => {}
            }
        }
        job.purse.reserve(price_max);
        let specs: Vec<TaskSpec> = items.iter().map(|item| job.specs[item.index as usize].clone()).collect();
        let (job_id, signed) = (job.id, job.signed.clone());
        let holders = self.holders(step, slot, ix);
        let (expected_ms, lease_ms) = self.lease(step, slot, ix, items.len());
        let company = self.tasks_in_work(ix);
        let Some(machine) = self.market.get(ix) else { return };
        let node = machine.node;
        let rel = &mut self.rels[ix.0 as usize];
        let Some(channel) = &mut rel.channel else { return };
        channel.purse.reserve(price_max);
        let number = channel.next_slice;
        channel.next_slice += 1;
        let id = channel.id;
        let ahead_ms: u64 =
            rel.open.iter().filter_map(|seq| self.slices.get(seq)).filter(|s| s.is_out()).map(|s| s.lease_ms).sum();
        rel.open.push(seq);
        rel.active_ms = step.now_ms;
        let shown = items.iter().filter(|item| !item.role.is_for_answer()).count();
        step.record(Record::Sent {
            channel: id,
            slice: number,
            job: job_id,
            indexes: items.iter().map(|item| item.index).collect(),
            price_max,
        });
        step.report(Event::SliceSent {
            job: job_id,
            provider: node,
            slice: number,
            tasks: items.len() as u32,
            checks: shown as u32,
        });
        step.send(
            node,
            WorkMsg::Slice(Box::new(SliceMsg { channel: id, slice: number, job: signed, price_max, specs, holders })),
        );
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
                sent_ms: step.now_ms,
                clock_ms: step.now_ms,
                expected_ms,
                lease_ms,
                deadline_ms: step.now_ms.saturating_add(ahead_ms).saturating_add(lease_ms),
                pending,
                company,
                is_resent: false,
                committed: Vec::new(),
                stage: Stage::Out,
            },
        );
    }

    /// Chooses secretly which of a slice's tasks are checked, and adds canaries if it `may_add` tasks; says for
    /// how many checks its payment waits.
    pub(super) fn choose_checks(
        &mut self,
        step: &Step,
        slot: usize,
        ix: Ix,
        seq: u64,
        items: &mut Vec<Item>,
        may_add: bool,
    ) -> u32 {
        if !step.has(Defence::Checks) {
            return 0;
        }
        let Some(machine) = self.market.get(ix) else { return 0 };
        let (node, right) = (machine.node, machine.history.right);
        // What it runs for others will count for it, too, once it is compared.
        let copies = |items: &[Item]| items.iter().filter(|item| item.role == Role::Copy).count();
        let to_compare = |slice: &Slice| match slice.is_out() {
            true => copies(&slice.items),
            false => {
                let is_open = |item: &&Item| self.checks.contains_key(&(slice.job, item.index));
                slice.items.iter().filter(|item| item.role == Role::Copy).filter(is_open).count()
            }
        };
        let open = self.rels[ix.0 as usize].open.iter().filter_map(|seq| self.slices.get(seq));
        let served = (copies(items) + open.map(to_compare).sum::<usize>()) as u32;
        let right = right.saturating_add(served);
        let job = &mut self.jobs[slot];
        let rel = &mut self.rels[ix.0 as usize];
        let mut holding = 0;
        let mut canaries = Vec::new();
        for item in items.iter().filter(|item| item.role.is_for_answer()) {
            let key = (slot, item.index);
            let right = right.saturating_add(rel.pending_checks);
            let chosen = verify::is_chosen(&step.me.secret, job.id, item.index, node, right)
                && (right < CHECK_ALL_FIRST || step.has(Defence::CheckFloor));
            if !chosen || self.checks.contains_key(&key) {
                continue;
            }
            if rel.credit > 0 {
                rel.credit -= 1;
                continue;
            }
            if may_add
                && step.has(Defence::Canaries)
                && verify::is_canary(&step.me.secret, job.id, item.index, node)
                && items.len() + canaries.len() < SLICE_TASKS_MAX
                && let Some(known) = job.known.iter_mut().find(|known| !known.seen.contains(&ix))
                && !items.iter().chain(&canaries).any(|item| item.index == known.index)
            {
                known.seen.push(ix);
                job.rechecked += 1;
                canaries.push(Item::new(known.index, Role::Canary));
                continue;
            }
            rel.pending_checks += 1;
            holding += 1;
            self.checks.insert(key, Check { holds: vec![seq], ..Check::new(ix, seq) });
            job.unplaced.push(item.index);
        }
        items.extend(canaries);
        holding
    }

    /// Where a machine may fetch a job's inputs from, besides us: from those that have answered for it last.
    pub(super) fn holders(&self, step: &Step, slot: usize, ix: Ix) -> Vec<Vec<u8>> {
        let is_up = |holder: &Ix| self.rels.get(holder.0 as usize).is_some_and(|rel| rel.up);
        let has_them = &self.jobs[slot].paid_slices;
        // Not the same few for everybody: for each machine those that come after it.
        let after = has_them.range(Ix(ix.0.saturating_add(1))..).chain(has_them.range(..ix));
        let up = after.map(|(holder, _)| holder).filter(|holder| is_up(holder));
        let offer = |holder: &Ix| self.market.get(*holder)?.standing(step.now_ms).map(|offer| offer.peer.clone());
        up.filter_map(offer).take(HOLDERS_MAX).collect()
    }

    /// What a slice should take, and how long its lease is.
    pub(super) fn lease(&self, step: &Step, slot: usize, ix: Ix, tasks: usize) -> (u64, u64) {
        let job = &self.jobs[slot];
        let (speed, slots) = self.market.get(ix).map_or((1, 1), |m| (m.mfuel_per_s().max(1), u64::from(m.slots())));
        let tasks = tasks as u64;
        let timeout_ms = u64::from(job.paper.timeout_ms);
        match job.mean_fuel() {
            Some(mean) => {
                // A task runs on one slot: two tasks on four slots take as long as four.
                let places = tasks.div_ceil(slots).saturating_mul(slots);
                let billed = mean.saturating_add(glean_types::params::FUEL_PER_TASK).saturating_mul(places);
                let expected = billed / speed.saturating_mul(1_000);
                // One task may take far longer than the mean, but none longer than its timeout.
                let lease =
                    step.settings.lease_min_ms.saturating_add(expected.saturating_mul(4)).saturating_add(timeout_ms);
                (expected, lease.min(LEASE_MS_MAX))
            }
            None => {
                let rounds = tasks.div_ceil(slots);
                let lease =
                    step.settings.lease_min_ms.saturating_add(timeout_ms.saturating_mul(rounds)).min(LEASE_MS_MAX);
                (lease, lease)
            }
        }
    }

    // ---- the tail ----

    /// Copies tasks of late slices to machines that have nothing else to do.
    fn back_up(&mut self, step: &mut Step) {
        if self.active().any(|slot| self.jobs[slot].has_work()) {
            return;
        }
        let (mut late, mut going): (Vec<Last>, Vec<Last>) =
            self.last_to_come(step).into_iter().partition(|last| last.is_late);
        late.reverse();
        // By slots: the fastest machine that is not fast enough for anything. None that is slower needs to look.
        let mut too_slow: BTreeMap<u32, u64> = BTreeMap::new();
        for at in 0..self.ranked.len() {
            let ix = self.ranked[at];
            if late.is_empty() && going.is_empty() {
                return;
            }
            if !self.may_take(step, ix, 0) {
                continue;
            }
            let (speed, slots) = self.market.get(ix).map_or((0, 1), |machine| (machine.mfuel_per_s(), machine.slots()));
            let is_slow = too_slow.get(&slots).is_some_and(|too_slow| speed <= *too_slow);
            let faster = || going.iter().position(|last| self.is_faster(step, ix, last));
            if let Some(at) = if is_slow { None } else { faster() } {
                if self.copy_tasks(step, going[at].seq, &going[at].tasks, ix) {
                    going.remove(at);
                }
                continue;
            }
            too_slow.entry(slots).and_modify(|known| *known = speed.max(*known)).or_insert(speed);
            if late.last().is_some_and(|last| self.copy_tasks(step, last.seq, &last.tasks, ix)) {
                late.pop();
            }
        }
    }

    /// Whether an idle machine would have the answers to a slice well before they are expected.
    fn is_faster(&self, step: &Step, ix: Ix, last: &Last) -> bool {
        let here_ms = self.lease(step, last.job, ix, last.tasks.len()).0;
        last.left_ms >= here_ms.saturating_mul(2).saturating_add(LATE_MS)
    }

    /// Slices under way whose tasks hardly anybody else has, those that are expected last first.
    fn last_to_come(&self, step: &Step) -> Vec<Last> {
        let mut out = Vec::new();
        for (seq, slice) in self.slices.iter().filter(|(_, slice)| slice.is_out() && !self.jobs[slice.job].ended) {
            let is_late = self.is_late(step, slice);
            let live_max = if is_late { LIVE_MAX_LATE } else { LIVE_MAX };
            let tasks = &self.jobs[slice.job].tasks;
            let is_lone = |item: &&Item| {
                let task = &tasks[item.index as usize];
                item.role.is_for_answer() && task.state == TaskState::Leased && task.live < live_max
            };
            let lone: Vec<u32> = slice.items.iter().filter(is_lone).map(|item| item.index).collect();
            // What is overdue may well take as long again; and one that has just lost work is not waited for.
            let due_ms = slice.clock_ms.saturating_add(self.expected_now(step, slice));
            let is_sound = self.market.get(slice.machine).is_some_and(|machine| machine.history.lost == 0);
            let left_ms = if is_sound { due_ms.abs_diff(step.now_ms) } else { u64::MAX };
            if !lone.is_empty() {
                out.push(Last { seq: *seq, job: slice.job, tasks: lone, left_ms, is_late });
            }
        }
        out.sort_by_key(|last| (std::cmp::Reverse(last.left_ms), last.seq));
        out
    }

    /// Whether a slice has been out for more than twice the time that it should take.
    pub(super) fn is_late(&self, step: &Step, slice: &Slice) -> bool {
        let due = || self.expected_now(step, slice).saturating_mul(2).saturating_add(LATE_MS);
        slice.is_out() && !self.is_owed(slice.machine) && step.now_ms >= slice.clock_ms.saturating_add(due())
    }

    /// Whether a machine is late with anything.
    fn is_behind(&self, step: &Step, ix: Ix) -> bool {
        let mut open = self.rels[ix.0 as usize].open.iter().filter_map(|seq| self.slices.get(seq));
        open.any(|slice| self.is_late(step, slice))
    }

    /// Whether a machine waits for our payment, and may therefore be idle.
    pub(super) fn is_owed(&self, ix: Ix) -> bool {
        self.rels[ix.0 as usize].open.iter().any(|seq| self.slices.get(seq).is_some_and(Slice::is_answered))
    }

    /// What a slice takes from when it may be worked on, with those before it at its machine. One that was sent before
    /// anything was known of the job is judged by what is known now.
    fn expected_now(&self, step: &Step, slice: &Slice) -> u64 {
        let open = &self.rels[slice.machine.0 as usize].open;
        let before = open.iter().filter_map(|seq| self.slices.get(seq)).filter(|other| other.is_out());
        let before = before.take_while(|other| other.number <= slice.number || other.channel != slice.channel);
        before.map(|other| other.expected_ms.min(self.lease(step, other.job, other.machine, other.items.len()).0)).sum()
    }

    /// Sends these tasks of a slice to another machine, too. False if that machine cannot take them now.
    fn copy_tasks(&mut self, step: &mut Step, late: u64, tasks: &[u32], ix: Ix) -> bool {
        let Some(slot) = self.slices.get(&late).map(|slice| slice.job) else { return false };
        let job = &self.jobs[slot];
        let mut items: Vec<Item> = tasks.iter().map(|index| Item::new(*index, Role::Backup)).collect();
        let Some(size) = self.size_of(ix) else { return false };
        if self.market.obstacle(ix, &job.paper, step.now_ms).is_some() {
            return false;
        }
        match job.size_for(&size, items.len() as u32) {
            Sizing::Send { tasks, price_max } => {
                items.truncate(tasks as usize);
                self.send_slice(step, slot, ix, items, price_max);
                true
            }
            Sizing::NeedDeposit { more } => {
                self.fund(step, ix, 1, more);
                false
            }
            Sizing::NeedBudget => false,
        }
    }

    /// Fails what no money is left for, once nothing under way can give any back.
    fn fail_unpayable(&mut self, step: &mut Step) {
        for slot in self.active().collect::<Vec<_>>() {
            if self.jobs[slot].waiting() == 0 {
                let usable: Vec<Ix> =
                    self.ranked.iter().copied().filter(|ix| self.is_usable(step, *ix)).take(2).collect();
                self.recheck_alone(slot, &usable);
            }
            let job = &self.jobs[slot];
            if !job.has_work()
                || job.purse.reserved > Amount::ZERO
                || self.slices.values().any(|s| s.job == slot && !matches!(s.stage, Stage::Lost))
            {
                continue;
            }
            let is_short = |ix: Ix| {
                let size = self.size_of(ix).map(|size| Size { deposit_free: Amount::MAX, ..size });
                size.map(|size| job.size(&size) == Sizing::NeedBudget)
            };
            let mut answers = self.ranked.iter().filter_map(|ix| is_short(*ix)).peekable();
            let is_spent = job.purse.free() == Amount::ZERO || (answers.peek().is_some() && answers.all(|short| short));
            if is_spent {
                while let Some(index) = self.jobs[slot].pop() {
                    self.fail(step, slot, index, FailReason::Budget);
                }
                self.recheck_alone(slot, &[]);
            }
        }
    }
}

/// A slice that a job may have to wait for.
struct Last {
    seq: u64,
    job: usize,
    /// Those of its tasks that few others have.
    tasks: Vec<u32>,
    /// Until its answer is expected.
    left_ms: u64,
    is_late: bool,
}

/// Whether a machine may answer a check: another owner's only, and one that has not come back without an answer.
pub(super) fn may_check(step: &Step, market: &crate::market::Market, check: &Check, ix: Ix) -> bool {
    let owner = |ix| market.get(ix).map(|machine| machine.provider);
    ix != check.machine
        && !check.gave_up.contains(&ix)
        && (owner(ix) != owner(check.machine) || !step.has(Defence::OtherOwner))
}

/// Names the opening of a channel: nobody else's and no other of ours.
fn salt(secret: &[u8; 32], number: u64) -> B256 {
    let mut hasher = blake3::Hasher::new_derive_key("gleaner 2026 channel salt");
    hasher.update(secret).update(&number.to_le_bytes());
    B256::new(*hasher.finalize().as_bytes())
}

/// Deposits that no promise has used up.
fn idle_deposit(rel: &Relation) -> Amount {
    let open =
        rel.channel.as_ref().filter(|channel| !channel.dead).map_or(Amount::ZERO, |channel| channel.purse.free());
    open.saturating_add(rel.funding.map_or(Amount::ZERO, |(_, add)| add))
}

/// What a spec takes up in a frame.
fn spec_bytes(spec: &TaskSpec) -> usize {
    spec.stdin.len() + spec.args.iter().map(|arg| arg.len() + 4).sum::<usize>() + 16
}
