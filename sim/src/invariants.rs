//! What must stay true, looked at after every step: the six promises at the head of `glean-protocol`. The
//! seventh, that money is neither made nor lost, is looked at by [`crate::Ledger`] itself.

use std::collections::{BTreeMap, BTreeSet};

use glean_protocol::{Event, Output, Record, WorkMsg};
use glean_types::{Amount, ChannelId, Domain, JobId, NodeId, Paper};

use crate::ledger::Ledger;

/// One provider's channel, as its records tell.
#[derive(Debug, Default)]
struct Sold {
    delivered: BTreeMap<u64, Amount>,
    earned: Amount,
}

/// The watcher. It sees records and messages, never the inside of a node.
#[derive(Debug)]
pub struct Invariants {
    domain: Domain,
    budgets: BTreeMap<JobId, Amount>,
    spent: BTreeMap<JobId, Amount>,
    promised: BTreeMap<ChannelId, Amount>,
    sold: BTreeMap<ChannelId, Sold>,
    /// Who has caught whom, and the receipts that were found wrong.
    caught: BTreeSet<(NodeId, NodeId)>,
    wrong: BTreeSet<(ChannelId, u64)>,
    over: BTreeMap<(JobId, u32), NodeId>,
    written_off: u32,
}

impl Invariants {
    /// A watcher that has seen nothing.
    pub fn new(domain: Domain) -> Invariants {
        Invariants {
            domain,
            budgets: BTreeMap::new(),
            spent: BTreeMap::new(),
            promised: BTreeMap::new(),
            sold: BTreeMap::new(),
            caught: BTreeSet::new(),
            wrong: BTreeSet::new(),
            over: BTreeMap::new(),
            written_off: 0,
        }
    }

    /// Delivered slices that were never paid and are not waited for any longer.
    pub fn written_off(&self) -> u32 {
        self.written_off
    }

    /// Looks at what a node decided in one step.
    pub fn check_step(&mut self, me: NodeId, outputs: &[Output], ledger: &Ledger) {
        for output in outputs {
            match output {
                Output::Record(record) => self.check_record(me, record, outputs, ledger),
                Output::Send { to, message } => {
                    assert!(
                        !(self.caught.contains(&(me, *to)) && matches!(message, WorkMsg::Slice(_) | WorkMsg::Pay(_))),
                        "4: {me} still works with {to}, whom it has caught"
                    );
                }
                _ => {}
            }
        }
    }

    fn check_record(&mut self, me: NodeId, record: &Record, outputs: &[Output], ledger: &Ledger) {
        match record {
            Record::Submitted(submission) => {
                self.budgets.insert(submission.job.paper.id(), submission.job.paper.budget);
            }
            Record::Paid { voucher, slice, job, price } => {
                let (id, total) = (voucher.paper.channel, voucher.paper.cumulative);
                let spent = self.spent.entry(*job).or_default();
                *spent = spent.saturating_add(*price);
                let budget = self.budgets.get(job).copied().unwrap_or_default();
                assert!(*spent <= budget, "1: job {job} costs {spent}, its budget is {budget}");
                let promised = self.promised.entry(id).or_default();
                assert!(total >= *promised, "3: the voucher for {id} shrinks from {promised} to {total}");
                assert_eq!(total, promised.saturating_add(*price), "3: a voucher grows by the price of its slice");
                *promised = total;
                let deposit = ledger.channel(id).map(|view| view.deposit).unwrap_or_default();
                assert!(total <= deposit, "3: the voucher for {id} promises {total} of {deposit}");
                assert!(!self.wrong.contains(&(id, *slice)), "4: a receipt that was found wrong is paid");
            }
            Record::Caught { provider, verdict, receipt } => {
                assert_ne!(verdict.paper.got, verdict.paper.expected, "4: a verdict without a difference");
                assert_eq!(
                    verdict.paper.receipt,
                    receipt.paper.digest(&self.domain),
                    "4: a verdict on another receipt"
                );
                self.caught.insert((me, *provider));
                self.wrong.insert((receipt.paper.channel, receipt.paper.slice));
            }
            Record::Delivered(receipt) => {
                let sold = self.sold.entry(receipt.paper.channel).or_default();
                // After a crash the same slice is delivered once more: the same work at the same price.
                let before: Amount =
                    sold.delivered.iter().filter(|(n, _)| **n != receipt.paper.slice).map(|(_, p)| *p).sum();
                assert!(before <= sold.earned, "2: a second slice is delivered while one is unpaid");
                let again = sold.delivered.insert(receipt.paper.slice, receipt.paper.price);
                assert!(again.is_none_or(|price| price == receipt.paper.price), "6: one slice, two prices");
            }
            Record::WrittenOff { channel, slice } => {
                let sold = self.sold.entry(*channel).or_default();
                sold.delivered.remove(slice);
                self.written_off += 1;
            }
            Record::Earned(voucher) => {
                let sold = self.sold.entry(voucher.paper.channel).or_default();
                assert!(voucher.paper.cumulative > sold.earned, "3: a provider took a voucher that is no more");
                sold.earned = voucher.paper.cumulative;
            }
            Record::Accepted { job, result, provider, .. } => {
                let key = (*job, result.index);
                let corrected = outputs.iter().any(|output| {
                    matches!(output, Output::Report(Event::TaskCorrected { job: j, index, .. }) if (*j, *index) == key)
                });
                let before = self.over.insert(key, *provider);
                assert!(before.is_none() || corrected, "5: task {}/{} ended twice", job.short(), result.index);
            }
            Record::Failed { job, index, .. } => {
                let before = self.over.insert((*job, *index), me);
                assert!(before.is_none(), "5: task {}/{index} ended twice", job.short());
            }
            Record::Reran(job) => self.over.retain(|(j, _), _| j != job),
            _ => {}
        }
    }

    /// What a node knows right after a restart is what its records say.
    pub fn check_restart(&self, node: &glean_protocol::Node) {
        for view in node.jobs() {
            let spent = self.spent.get(&view.job).copied().unwrap_or_default();
            assert_eq!(view.spent, spent, "6: a restart changed what job {} has cost", view.job);
            let over = self.over.range((view.job, 0)..=(view.job, u32::MAX)).count() as u32;
            let ended = view.succeeded + view.failed;
            assert_eq!(ended, over, "6: a restart changed how many tasks of job {} have ended", view.job);
        }
        for money in node.channels() {
            let promised = if money.ours { self.promised.get(&money.channel).copied() } else { None };
            if let Some(promised) = promised {
                assert_eq!(money.promised, promised, "6: a restart changed what is promised in {}", money.channel);
            }
        }
    }
}
