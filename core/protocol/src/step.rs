//! What one step may touch: who we are, what time it is, and the outputs it has decided on so far.

use std::collections::BTreeSet;

use glean_types::{Address, NodeId};

use crate::defence::Defence;
use crate::io::{Event, Identity, Output, Record, RunId};
use crate::settings::Settings;
use crate::wire::WorkMsg;

/// The surroundings of one step.
pub(crate) struct Step<'a> {
    pub me: &'a Identity,
    /// Address of `me.key`.
    pub address: Address,
    pub settings: &'a Settings,
    pub now_ms: u64,
    pub out: &'a mut Vec<Output>,
    /// Nodes with a session up now.
    pub sessions: &'a BTreeSet<NodeId>,
    /// Numbers of local runs, shared by both roles.
    pub next_run: &'a mut u64,
}

impl Step<'_> {
    pub fn put(&mut self, output: Output) {
        self.out.push(output);
    }

    pub fn record(&mut self, record: Record) {
        self.out.push(Output::Record(record));
    }

    pub fn report(&mut self, event: Event) {
        self.out.push(Output::Report(event));
    }

    pub fn send(&mut self, to: NodeId, message: WorkMsg) {
        self.out.push(Output::Send { to, message });
    }

    /// Whether we have a defence: always, but in tests of what it is for.
    pub fn has(&self, defence: Defence) -> bool {
        self.settings.without != Some(defence)
    }

    pub fn new_run(&mut self) -> RunId {
        *self.next_run += 1;
        RunId(*self.next_run)
    }
}
