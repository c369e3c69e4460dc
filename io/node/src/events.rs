//! What happened to each job, for progress bars and `logs -f`: a numbered list that can be followed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use glean_protocol::Event;
use glean_types::JobId;
use tokio::sync::watch;

use crate::api::types::EventLine;
use crate::clock::now_us;

/// Lines kept per job; older ones are forgotten (their numbers stay).
const LINES_MAX: usize = 200_000;

struct Log {
    first: u64,
    lines: Vec<EventLine>,
}

/// The event logs of all jobs since the node started.
#[derive(Clone)]
pub struct Events {
    logs: Arc<Mutex<BTreeMap<JobId, Log>>>,
    news: Arc<watch::Sender<u64>>,
}

impl Default for Events {
    fn default() -> Events {
        Events { logs: Arc::default(), news: Arc::new(watch::Sender::new(0)) }
    }
}

impl Events {
    /// Adds an event to its job's log; events without a job are for the log file only.
    pub fn add(&self, event: Event) {
        let Some(job) = job_of(&event) else { return };
        let mut logs = self.logs.lock().expect("no panic while held");
        let log = logs.entry(job).or_insert(Log { first: 0, lines: Vec::new() });
        let seq = log.first + log.lines.len() as u64;
        log.lines.push(EventLine { seq, at_us: now_us(), event });
        if log.lines.len() > LINES_MAX {
            let forgotten = LINES_MAX / 2;
            log.lines.drain(..forgotten);
            log.first += forgotten as u64;
        }
        drop(logs);
        self.news.send_modify(|n| *n += 1);
    }

    /// The lines of a job from number `from` on, at most `most`.
    pub fn since(&self, job: JobId, from: u64, most: usize) -> Vec<EventLine> {
        let logs = self.logs.lock().expect("no panic while held");
        let Some(log) = logs.get(&job) else { return Vec::new() };
        let skip = usize::try_from(from.saturating_sub(log.first)).unwrap_or(usize::MAX);
        log.lines.iter().skip(skip).take(most).cloned().collect()
    }

    /// Changes whenever anything is added.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }
}

fn job_of(event: &Event) -> Option<JobId> {
    match event {
        Event::JobRefused { job, .. }
        | Event::TaskAccepted { job, .. }
        | Event::TaskCorrected { job, .. }
        | Event::TaskFailed { job, .. }
        | Event::SliceSent { job, .. }
        | Event::SlicePaid { job, .. }
        | Event::CheckPassed { job, .. }
        | Event::LiarCaught { job, .. }
        | Event::SliceLost { job, .. }
        | Event::JobEnded { job, .. } => Some(*job),
        Event::RefusedBy { .. } | Event::FundsMissing { .. } | Event::Delivered { .. } | Event::Earned { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::{Amount, NodeId};

    #[test]
    fn a_follower_misses_nothing() {
        let events = Events::default();
        let job = JobId([1; 32]);
        let news = events.news();
        for price in 0..3 {
            let price = Amount::whole(price);
            events.add(Event::SlicePaid { job, provider: NodeId([2; 32]), price });
        }
        assert!(news.has_changed().unwrap());
        assert_eq!(events.since(job, 0, 2).len(), 2);
        let rest = events.since(job, 2, 100);
        assert_eq!((rest.len(), rest[0].seq), (1, 2));
        assert!(events.since(JobId([9; 32]), 0, 9).is_empty());
    }
}
