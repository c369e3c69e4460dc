//! Following a job: its event stream folded into what a progress bar shows, with Ctrl-C on the side.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use glean_node::api::types::{EventLine, TaskLine};
use glean_protocol::{Event, TaskState};
use glean_types::{Amount, NodeId};
use hyper::body::Bytes;
use tokio::sync::mpsc;

use crate::client::{Client, Lines};
use crate::text;
use crate::ui::Ui;

/// A machine that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The task it was caught on.
    pub task: u32,
    /// Which machine.
    pub provider: NodeId,
    /// What its slice would have cost.
    pub unpaid: Amount,
    /// Answers of it that were run again elsewhere.
    pub redone: u32,
}

/// How a job stands, as far as its events tell.
#[derive(Debug, Default)]
pub struct Progress {
    /// Tasks that ended with exit code 0.
    pub succeeded: BTreeSet<u32>,
    /// Tasks that ended otherwise.
    pub failed: BTreeSet<u32>,
    /// Paid so far.
    pub spent: Amount,
    /// Checks that agreed.
    pub checked: u32,
    /// Liars.
    pub caught: Vec<Caught>,
    /// Slices that came back without answers.
    pub lost: u32,
    /// Why work waits for money, if it does.
    pub waiting_for: Option<String>,
}

impl Progress {
    /// What the node remembers from before it was last started: its news are not kept, its tasks are.
    pub fn recall(tasks: &[TaskLine]) -> Progress {
        let with = |state| tasks.iter().filter(move |task| task.state == state).map(|task| task.index).collect();
        Progress { succeeded: with(TaskState::Succeeded), failed: with(TaskState::Failed), ..Progress::default() }
    }

    /// Takes in one event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::TaskAccepted { index, outcome, .. } if outcome.is_success() => {
                self.failed.remove(index);
                self.succeeded.insert(*index);
            }
            Event::TaskAccepted { index, .. } | Event::TaskFailed { index, .. } => {
                self.succeeded.remove(index);
                self.failed.insert(*index);
            }
            Event::SlicePaid { price, .. } => {
                self.spent = self.spent.saturating_add(*price);
                self.waiting_for = None;
            }
            Event::CheckPassed { .. } => self.checked += 1,
            Event::LiarCaught { index, provider, unpaid, redone, .. } => {
                let caught = Caught { task: *index, provider: *provider, unpaid: *unpaid, redone: *redone };
                self.caught.push(caught);
            }
            Event::SliceLost { .. } => self.lost += 1,
            Event::FundsMissing { why } => self.waiting_for = Some(why.clone()),
            _ => {}
        }
    }

    /// Tasks that are over.
    pub fn done(&self) -> u64 {
        (self.succeeded.len() + self.failed.len()) as u64
    }

    /// What stands beside the bar.
    pub fn note(&self, ui: &Ui) -> String {
        let mut parts = vec![text!(ui, "note-spent", amount = Ui::money(self.spent))];
        if self.checked > 0 {
            parts.push(text!(ui, "note-checked", n = self.checked));
        }
        if !self.failed.is_empty() {
            parts.push(text!(ui, "note-failed", n = self.failed.len()));
        }
        if !self.caught.is_empty() {
            parts.push(text!(ui, "note-caught", n = self.caught.len()));
        }
        parts.extend(self.waiting_for.clone());
        parts.join(" · ")
    }
}

/// What happens next while a job is followed.
#[derive(Debug)]
pub enum Next {
    /// An event, and its line of JSON as it came.
    Event(EventLine, Bytes),
    /// The stream is over.
    End,
    /// Ctrl-C.
    Interrupt,
    /// Nothing for a while.
    Silence,
}

/// After this long without news, people want to know why.
const SILENCE: Duration = Duration::from_secs(4);

/// A job's events and the user's Ctrl-C, in order of arrival.
#[derive(Debug)]
pub struct Follow {
    lines: Lines,
    interrupts: Option<Interrupts>,
    next_seq: u64,
}

impl Follow {
    /// Follows from the first event; with `live`, until the job is over. Who handles Ctrl-C elsewhere gives none.
    pub async fn start(node: &Client, job: &str, live: bool, interrupts: Option<Interrupts>) -> Result<Follow> {
        let lines = node.lines(&format!("/jobs/{job}/events?from=0&follow={live}")).await?;
        Ok(Follow { lines, interrupts, next_seq: 0 })
    }

    /// Goes on after the last event: a job that was rerun has news after its first end.
    pub async fn resume(&mut self, node: &Client, job: &str) -> Result<()> {
        self.lines = node.lines(&format!("/jobs/{job}/events?from={}&follow=true", self.next_seq)).await?;
        Ok(())
    }

    /// Whether more events are here already.
    pub fn has_next(&self) -> bool {
        self.lines.has_next()
    }

    /// Waits for the next thing.
    pub async fn next(&mut self) -> Result<Next> {
        tokio::select! {
            line = self.lines.next::<EventLine>() => Ok(match line? {
                Some((line, raw)) => {
                    self.next_seq = line.seq + 1;
                    Next::Event(line, raw)
                }
                None => Next::End,
            }),
            () = interrupt(&mut self.interrupts) => Ok(Next::Interrupt),
            () = tokio::time::sleep(SILENCE) => Ok(Next::Silence),
        }
    }

    /// Waits for another Ctrl-C, at most that long.
    pub async fn interrupted_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, interrupt(&mut self.interrupts)).await.is_ok()
    }
}

async fn interrupt(interrupts: &mut Option<Interrupts>) {
    match interrupts {
        Some(interrupts) => interrupts.next().await,
        None => std::future::pending().await,
    }
}

/// Every Ctrl-C, none lost between two waits.
#[derive(Debug)]
pub struct Interrupts(mpsc::UnboundedReceiver<()>);

impl Interrupts {
    /// Takes Ctrl-C away from the system's default of ending us.
    pub fn listen() -> Interrupts {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move { while tokio::signal::ctrl_c().await.is_ok() && sender.send(()).is_ok() {} });
        Interrupts(receiver)
    }

    /// The next one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::{JobId, Outcome};

    const JOB: JobId = JobId([1; 32]);
    const NODE: NodeId = NodeId([2; 32]);

    fn accepted(index: u32, code: u32) -> Event {
        Event::TaskAccepted { job: JOB, index, outcome: Outcome::Exit(code), fuel: 1, provider: NODE }
    }

    #[test]
    fn a_task_that_is_rerun_moves_from_failed_to_succeeded() {
        let mut progress = Progress::default();
        for event in [accepted(0, 0), accepted(1, 3), accepted(1, 0), accepted(1, 0)] {
            progress.apply(&event);
        }
        assert_eq!((progress.done(), progress.failed.len()), (2, 0));
    }

    #[test]
    fn money_and_liars_are_counted() {
        let mut progress = Progress::default();
        let unpaid = Amount::whole(1);
        progress.apply(&Event::FundsMissing { why: "1 missing".into() });
        progress.apply(&Event::SlicePaid { job: JOB, provider: NODE, price: Amount::whole(2) });
        progress.apply(&Event::LiarCaught { job: JOB, index: 4, provider: NODE, unpaid, redone: 7 });
        assert_eq!((progress.spent, progress.waiting_for.is_none()), (Amount::whole(2), true));
        assert_eq!(progress.caught, [Caught { task: 4, provider: NODE, unpaid, redone: 7 }]);
    }
}
