//! What people may ask a node: where a job stands, why a task waits, who checked what, why no work comes.

use glean_types::{Amount, ChannelId, JobId, NodeId, TaskId};
use serde::{Deserialize, Serialize};

use crate::io::{JobView, TaskState};
use crate::market::{History, Ix, ScoreCard};
use crate::node::Node;
use crate::verify::Place;
use crate::work::{Job, Role};

/// Why a task is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The task.
    pub task: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// The machine whose answer was accepted, or that has it now; our own node if our own worker answered.
    pub provider: Option<NodeId>,
    /// Who confirmed the answer; our own node for our own worker.
    pub checked_by: Option<NodeId>,
    /// Machines that had no answer.
    pub tries: u8,
    /// The same in sentences, and what it waits for.
    pub text: Vec<String>,
}

/// What this node knows of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineView {
    /// Its node.
    pub node: NodeId,
    /// Its price, if its offer stands.
    pub price_per_gfuel: Option<Amount>,
    /// Slots it offers.
    pub slots: u32,
    /// What we remember of it.
    pub history: History,
    /// Its points now.
    pub score: ScoreCard,
    /// A work session is up.
    pub connected: bool,
    /// Why it gets no work, if so.
    pub obstacle: Option<String>,
}

/// One channel, seen from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyView {
    /// The channel.
    pub channel: ChannelId,
    /// The machine or requester at its other end.
    pub peer: NodeId,
    /// We pay.
    pub ours: bool,
    /// Its deposit.
    pub deposit: Amount,
    /// Promised in vouchers.
    pub promised: Amount,
    /// Held back for slices under way (ours), or not cashed yet (theirs).
    pub open: Amount,
    /// The rest of the deposit was asked back (ours): not used again.
    pub closing: bool,
}

/// Why a lender has work or has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferExplanation {
    /// Lending.
    pub lending: bool,
    /// Tasks running.
    pub busy: u32,
    /// Requesters with a channel to us.
    pub channels: u32,
    /// In sentences.
    pub text: Vec<String>,
}

impl Node {
    /// A job's standing.
    pub fn job_view(&self, job: JobId) -> Option<JobView> {
        self.requester.by_job.get(&job).map(|slot| view(&self.requester.jobs[*slot]))
    }

    /// All jobs, oldest first.
    pub fn jobs(&self) -> Vec<JobView> {
        self.requester.jobs.iter().map(view).collect()
    }

    /// Where each task of a job stands.
    pub fn task_states(&self, job: JobId) -> Option<Vec<TaskState>> {
        let slot = *self.requester.by_job.get(&job)?;
        Some(self.requester.jobs[slot].tasks.iter().map(|task| task.state).collect())
    }

    /// Where a task is, who answered it, who checked it, or what it waits for.
    pub fn explain_task(&self, job: JobId, index: u32) -> Option<Explanation> {
        let slot = *self.requester.by_job.get(&job)?;
        let task = self.requester.jobs[slot].tasks.get(index as usize)?;
        let mut text = Vec::new();
        let mut provider = self.name(task.by);
        let has = |item: &crate::work::Item| item.index == index && item.role.is_for_answer();
        for slice in self.requester.slices.values().filter(|s| s.job == slot && s.items.iter().any(has)) {
            let Some(node) = self.name(slice.machine) else { continue };
            provider = provider.or(Some(node));
            let spare = slice.items.iter().any(|item| has(item) && item.role == Role::Backup);
            text.push(format!(
                "slice {} at machine {}: {}{}",
                slice.number,
                node.short(),
                if slice.is_answered() { "answered, waits for its checks" } else { "sent, no answer yet" },
                if spare { " (a backup copy, since another machine is late)" } else { "" },
            ));
        }
        if let Some(check) = self.requester.checks.get(&(slot, index)) {
            text.push(match check.place {
                Place::Waiting => "is to be checked: waits for another machine to run it again".into(),
                Place::At(_) => "is being run again by another machine, as a check".into(),
                Place::OwnQueue | Place::Own(_) => "our own worker runs it again, and its word is final".into(),
            });
        }
        let checked_by = self.name(task.checked_by);
        match task.state {
            TaskState::Waiting => text.extend(self.why_waiting(slot)),
            TaskState::Succeeded | TaskState::Failed if task.by == Ix::OWN => {
                text.push("answered by our own worker".into());
            }
            TaskState::Succeeded | TaskState::Failed => {
                let by = provider.map_or("nobody".into(), |node| format!("machine {}", node.short()));
                text.push(match checked_by {
                    Some(node) if node == self.me.node => format!("answered by {by}, confirmed by our own worker"),
                    Some(node) => format!("answered by {by}, confirmed by machine {}", node.short()),
                    None => format!("answered by {by}; not one of those chosen for a check"),
                });
            }
            TaskState::Cancelled => text.push("cancelled".into()),
            TaskState::Leased | TaskState::Checking => {}
        }
        if task.tries > 0 {
            text.push(format!("{} machines had no answer for it so far", task.tries));
        }
        let task_id = TaskId { job, index };
        Some(Explanation { task: task_id, state: task.state, provider, checked_by, tries: task.tries, text })
    }

    fn name(&self, ix: Ix) -> Option<NodeId> {
        if ix == Ix::OWN { Some(self.me.node) } else { self.requester.market.node(ix) }
    }

    /// Why a task of this job has not been given to anybody.
    fn why_waiting(&self, slot: usize) -> Vec<String> {
        let job = &self.requester.jobs[slot];
        let machines = self.machines();
        if self.now_ms < self.requester.no_funds_until_ms {
            return vec!["waits for money: this account's balance does not cover a deposit".into()];
        }
        if machines.is_empty() {
            return vec!["no machine offers its time yet".into()];
        }
        let able = |ix: u32| self.requester.market.obstacle(Ix(ix), &job.paper, self.now_ms).is_none();
        let count = (0..machines.len() as u32).filter(|ix| able(*ix)).count();
        if count == 0 {
            let why = machines.iter().find_map(|machine| machine.obstacle.clone());
            let why = why.unwrap_or_else(|| "none fits this job".into());
            return vec![format!("{} machines are known, but none can do it; for instance: {why}", machines.len())];
        }
        if job.purse.free() == Amount::ZERO {
            return vec![
                "waits until what is under way is settled: the whole budget is spent or held back for it".into(),
            ];
        }
        vec![format!("{count} machines can do it; {} tasks wait for a free place in their queues", job.waiting())]
    }

    /// Every machine known, and what this node thinks of it.
    pub fn machines(&self) -> Vec<MachineView> {
        let market = &self.requester.market;
        let yardstick = market.yardstick(self.now_ms);
        (0u32..)
            .map(Ix)
            .zip(market.machines.iter().zip(&self.requester.rels))
            .map(|(ix, (machine, rel))| {
                let standing = machine.standing(self.now_ms);
                let obstacle = match (rel.broken, standing) {
                    (Some(why), _) => Some(format!("the relation was ended: {why}")),
                    (None, _) if machine.history.faults > 0 => Some("caught with a wrong answer".into()),
                    (None, None) => Some("its offer has expired".into()),
                    (None, Some(_)) if self.now_ms < rel.backoff_until_ms => {
                        let rest_ms = rel.backoff_until_ms - self.now_ms;
                        Some(format!("rests for {} s after it lost or refused work", rest_ms.div_ceil(1_000)))
                    }
                    (None, Some(_)) => None,
                };
                MachineView {
                    node: machine.node,
                    price_per_gfuel: standing.map(|offer| offer.price_per_gfuel),
                    slots: machine.slots(),
                    history: machine.history,
                    score: market.score(ix, &yardstick),
                    connected: rel.up,
                    obstacle,
                }
            })
            .collect()
    }

    /// All channels, those we pay from first.
    pub fn channels(&self) -> Vec<MoneyView> {
        let machines = self.requester.market.machines.iter().zip(&self.requester.rels);
        let ours = machines.filter_map(|(machine, rel)| {
            let channel = rel.channel.as_ref()?;
            Some(MoneyView {
                channel: channel.id,
                peer: machine.node,
                ours: true,
                deposit: channel.purse.total,
                promised: channel.purse.spent,
                open: channel.purse.reserved,
                closing: channel.dead,
            })
        });
        let theirs = self.provider.channel_views().map(|(channel, peer, deposit, promised, settled)| MoneyView {
            channel,
            peer,
            ours: false,
            deposit,
            promised,
            open: promised.saturating_sub(settled),
            closing: false,
        });
        ours.chain(theirs).collect()
    }

    /// Why this machine has work or has not.
    pub fn explain_offer(&self) -> OfferExplanation {
        let (terms, busy, published_ms) = self.provider.standing();
        let channels = self.provider.channel_views().count() as u32;
        let mut text = Vec::new();
        match (terms, published_ms) {
            (None, _) => text.push("this machine is not lent now".into()),
            (Some(_), None) => text.push("the offer has not been published yet".into()),
            (Some(terms), Some(at)) => {
                let age_s = self.now_ms.saturating_sub(at) / 1_000;
                text.push(format!(
                    "offered {age_s} s ago: {} slots at {} gUSD per gfuel",
                    terms.slots, terms.price_per_gfuel
                ));
                text.push(match (channels, busy) {
                    (0, _) => "no requester has opened a channel to it yet: cheaper, faster and proven machines are asked first".into(),
                    (n, 0) => format!("{n} requesters have a channel to it, none has sent work just now"),
                    (n, busy) => format!("{busy} tasks are running for {n} requesters"),
                });
            }
        }
        OfferExplanation { lending: terms.is_some(), busy, channels, text }
    }
}

fn view(job: &Job) -> JobView {
    JobView {
        job: job.id,
        tasks: job.paper.tasks,
        waiting: job.count(TaskState::Waiting),
        leased: job.count(TaskState::Leased),
        checking: job.count(TaskState::Checking),
        succeeded: job.count(TaskState::Succeeded),
        failed: job.count(TaskState::Failed),
        cancelled: job.count(TaskState::Cancelled),
        spent: job.purse.spent,
        budget: job.purse.total,
        rechecked: job.rechecked,
        ended: job.ended,
    }
}
