//! What a story asks of its world: who answered what, who was paid, what it cost, and how well that went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glean_protocol::{Event, JobView, Node, Record};
use glean_types::{Amount, Hash, JobId, NodeId, TaskResult};

use super::World;

impl World {
    /// The requester's node.
    pub fn requester(&self) -> &Node {
        self.hosts[0].node.as_ref().expect("the requester is up")
    }

    /// A job's standing.
    pub fn view(&self, job: JobId) -> JobView {
        self.requester().job_view(job).expect("the job was submitted")
    }

    /// How many tasks of a job ended with the right answer.
    pub fn right_answers(&self, job: JobId) -> u32 {
        self.answers(job).iter().filter(|(_, right)| *right).count() as u32
    }

    /// How many tasks of a job ended with a wrong answer.
    pub fn wrong_answers(&self, job: JobId) -> u32 {
        self.answers(job).iter().filter(|(_, right)| !right).count() as u32
    }

    /// How many of these are provider `n`'s.
    pub fn wrong_answers_of(&self, job: JobId, n: usize) -> u32 {
        let node = self.provider(n);
        self.answers(job).iter().filter(|(by, right)| !right && *by == node).count() as u32
    }

    /// Who gave the accepted answers of a job, and whether they are right.
    fn answers(&self, job: JobId) -> Vec<(NodeId, bool)> {
        let Some((_, specs)) = self.jobs.iter().find(|(id, _)| *id == job) else { return Vec::new() };
        let mut last = BTreeMap::new();
        let mut paper = None;
        for record in &self.hosts[0].journal {
            match record {
                Record::Accepted { job: id, result, provider, .. } if *id == job => {
                    last.insert(result.index, (*provider, result));
                }
                Record::Submitted(submission) if submission.job.paper.id() == job => {
                    paper = Some(&submission.job.paper)
                }
                _ => {}
            }
        }
        let Some(paper) = paper else { return Vec::new() };
        let judge = |(index, (by, result)): (u32, (NodeId, &TaskResult))| {
            (by, self.guest.run(paper, &specs[index as usize]) == *result)
        };
        last.into_iter().map(judge).collect()
    }

    /// Whether provider `n` was caught before a job had ended.
    pub fn is_caught_before_end(&self, job: JobId, n: usize) -> bool {
        let node = self.provider(n);
        let ended = self.news().position(|event| matches!(event, Event::JobEnded { job: id, .. } if *id == job));
        let caught =
            self.news().position(|event| matches!(event, Event::LiarCaught { provider, .. } if *provider == node));
        matches!((caught, ended), (Some(caught), Some(ended)) if caught < ended)
    }

    /// The node id of provider `n`.
    pub fn provider(&self, n: usize) -> NodeId {
        self.hosts[n + 1].me.node
    }

    /// Whether the requester holds a verdict against provider `n`.
    pub fn is_caught(&self, n: usize) -> bool {
        let node = self.provider(n);
        self.hosts[0]
            .journal
            .iter()
            .any(|record| matches!(record, Record::Caught { provider, .. } if *provider == node))
    }

    /// What provider `n` has in its account.
    pub fn balance(&self, n: usize) -> Amount {
        self.ledger.balance(self.hosts[n + 1].me.key.address())
    }

    /// What the requester has in its account.
    pub fn requester_balance(&self) -> Amount {
        self.ledger.balance(self.hosts[0].me.key.address())
    }

    /// What the requester promised to provider `n` altogether.
    pub fn promised_to(&self, n: usize) -> Amount {
        let node = self.provider(n);
        self.requester().channels().iter().filter(|c| c.ours && c.peer == node).map(|c| c.promised).sum()
    }

    /// News of the requester, in order.
    pub fn news(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|(at, _)| *at == 0).map(|(_, event)| event)
    }

    /// News of provider `n`, in order.
    pub fn news_of(&self, n: usize) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |(at, _)| *at == n + 1).map(|(_, event)| event)
    }

    /// The requester's records.
    pub fn journal(&self) -> &[Record] {
        &self.hosts[0].journal
    }

    /// Virtual milliseconds since the world began.
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    /// Delivered slices, of all machines, that were never paid.
    pub fn written_off(&self) -> u32 {
        self.invariants.written_off()
    }

    /// Crashes so far.
    pub fn crashes(&self) -> u32 {
        self.hosts.iter().map(|host| host.life).sum()
    }

    /// How often a direction between two machines went deaf.
    pub fn deaf_links(&self) -> u32 {
        self.deaf_links
    }

    /// Fuel burnt by all runs of all machines, whatever became of them.
    pub fn fuel_run(&self) -> u64 {
        self.fuel_run
    }

    /// Fuel burnt by provider `n`.
    pub fn fuel_run_by(&self, n: usize) -> u64 {
        self.hosts[n + 1].fuel_run
    }

    /// Fuel of the answers that stand.
    pub fn fuel_accepted(&self) -> u64 {
        let accepted = |record: &Record| if let Record::Accepted { result, .. } = record { result.fuel } else { 0 };
        self.hosts[0].journal.iter().map(accepted).sum()
    }

    /// How long `fuel` would have taken from then on if no machine that was up had ever been idle, virtual milliseconds.
    pub fn ideal_ms(&self, from_ms: u64, fuel: u64) -> u64 {
        let from_us = from_ms * 1_000;
        let (mut left, mut speed, mut now_us) = (u128::from(fuel), 0i128, from_us);
        for (at_us, change) in &self.capacity {
            // Fuel per microsecond is 10^6 fuel per second.
            let burnt = speed.unsigned_abs() * u128::from(at_us.saturating_sub(now_us));
            if burnt >= left {
                break;
            }
            (left, speed, now_us) = (left - burnt, speed + i128::from(*change), now_us.max(*at_us));
        }
        (now_us - from_us + u64::try_from(left / speed.unsigned_abs().max(1)).unwrap_or(u64::MAX)) / 1_000
    }

    /// Fuel burnt for tasks that were stopped at a price cap.
    pub fn unpaid_fuel(&self) -> u64 {
        self.unpaid_fuel
    }

    /// What a villain may learn: the tasks whose answers the requester has accepted, of whatever job.
    pub fn accepted(&self) -> Arc<Mutex<BTreeSet<u32>>> {
        self.accepted.clone()
    }

    /// CPU time that the requester's brain and the index nodes took so far: all that finding machines for tasks costs.
    pub fn matching(&self) -> Duration {
        self.matching
    }

    /// The requester's node, out of its world.
    pub fn into_requester(mut self) -> Node {
        self.hosts[0].node.take().expect("the requester is up")
    }

    /// Offers kept by the index node that keeps the most.
    pub fn shelf_len_max(&self) -> usize {
        self.index.shelf_len_max()
    }

    /// A hash over everything that happened.
    pub fn trace(&self) -> Hash {
        Hash(*self.trace.finalize().as_bytes())
    }
}
