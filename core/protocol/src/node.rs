//! One node: both roles behind one function.

use std::collections::{BTreeMap, BTreeSet};

use glean_types::{ChannelId, NodeId};

use crate::io::{Identity, Input, Output, Record};
use crate::provider::Provider;
use crate::requester::Requester;
use crate::settings::Settings;
use crate::step::Step;
use crate::wire::WorkMsg;

/// Ticks are never wanted closer together than this.
const WAKE_MS_MIN: u64 = 20;

/// The brain of a node. It owns no clock and no socket: see [`Node::step`].
#[derive(Debug)]
pub struct Node {
    pub(crate) me: Identity,
    pub(crate) address: glean_types::Address,
    pub(crate) settings: Settings,
    pub(crate) requester: Requester,
    pub(crate) provider: Provider,
    /// Sessions that are up, and since when.
    sessions: BTreeSet<NodeId>,
    since_ms: BTreeMap<NodeId, u64>,
    next_run: u64,
    pub(crate) now_ms: u64,
    is_restored: bool,
}

/// Gives both halves their surroundings.
macro_rules! step {
    ($node:ident, $out:ident) => {
        Step {
            me: &$node.me,
            address: $node.address,
            settings: &$node.settings,
            now_ms: $node.now_ms,
            out: &mut $out,
            sessions: &$node.sessions,
            next_run: &mut $node.next_run,
        }
    };
}

impl Node {
    /// A node with no history.
    pub fn new(me: Identity, settings: Settings) -> Node {
        Node {
            address: me.key.address(),
            me,
            settings,
            requester: Requester::default(),
            provider: Provider::default(),
            sessions: BTreeSet::new(),
            since_ms: BTreeMap::new(),
            next_run: 0,
            now_ms: 0,
            is_restored: false,
        }
    }

    /// A node as its records left it. What was under way goes on with the first [`Input::Tick`].
    pub fn restore(me: Identity, settings: Settings, records: impl IntoIterator<Item = Record>) -> Node {
        let mut node = Node::new(me, settings);
        let mut out = Vec::new();
        let step = step!(node, out);
        for record in records {
            node.provider.restore(&step, &record);
            node.requester.restore(&step, record);
        }
        node.requester.restore_end(&step);
        node.is_restored = true;
        node
    }

    /// What to do about one input. `now_ms` never goes back: an earlier time counts as the last one seen.
    ///
    /// Records among the outputs must be durable before any other output of the same step is performed.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        self.now_ms = self.now_ms.max(now_ms);
        if std::mem::take(&mut self.is_restored) {
            self.requester.start_clock(self.now_ms);
        }
        let mut out = Vec::new();
        match &input {
            Input::Connected(node) => {
                self.sessions.insert(*node);
                self.since_ms.insert(*node, self.now_ms);
            }
            Input::Disconnected(node) => {
                self.sessions.remove(node);
                self.since_ms.remove(node);
            }
            _ => {}
        }
        let is_tick = matches!(input, Input::Tick);
        let mut step = step!(self, out);
        let (requester, provider) = (&mut self.requester, &mut self.provider);
        match input {
            Input::Tick => {
                provider.on_tick(&mut step);
                requester.on_tick(&mut step);
            }
            Input::Submit(submission) => requester.on_submit(&mut step, *submission),
            Input::Cancel(job) => requester.on_cancel(&mut step, job),
            Input::RerunFailed(job) => requester.on_rerun_failed(&mut step, job),
            Input::Share(terms) => provider.on_share(&mut step, terms),
            Input::Offers(offers) => requester.on_offers(&mut step, offers),
            Input::Connected(node) => {
                provider.on_connected(&mut step, node);
                requester.on_connected(&mut step, node);
            }
            Input::Disconnected(node) => {
                provider.on_disconnected(&mut step, node);
                requester.on_disconnected(&mut step, node);
            }
            Input::Message { from, message } => match message {
                WorkMsg::Offer(offer) => requester.on_own_offer(&mut step, from, *offer),
                WorkMsg::Open(agreement) => provider.on_open(&mut step, from, agreement),
                WorkMsg::Slice(slice) => provider.on_slice(&mut step, from, *slice),
                WorkMsg::Pay(voucher) => provider.on_pay(&mut step, from, voucher),
                WorkMsg::Drop { channel, slice } => provider.on_drop(&mut step, from, channel, slice),
                WorkMsg::Agreed(agreement) => requester.on_agreed(&mut step, from, agreement),
                WorkMsg::Done(done) => requester.on_done(&mut step, from, *done),
                WorkMsg::Commit(commit) => requester.on_commit(&mut step, from, *commit),
                WorkMsg::Refused { channel, slice, refusal } => {
                    requester.on_refused(&mut step, from, channel, slice, refusal)
                }
            },
            Input::ChannelReady { provider, channel, deposit } => {
                requester.on_channel_ready(&mut step, provider, channel, deposit);
            }
            Input::ChannelFailed { provider, why, no_funds } => {
                requester.on_channel_failed(&mut step, provider, why, no_funds);
            }
            Input::ChannelSeen { channel, view } => provider.on_channel_seen(&mut step, channel, view),
            Input::ChannelClosing { channel, again_ms } => requester.on_channel_closing(&mut step, channel, again_ms),
            Input::Claimed { channel, settled } => provider.on_claimed(channel, settled),
            Input::Ran { run, results } => {
                if requester.owns(run) {
                    requester.on_ran(&mut step, run, results);
                } else {
                    provider.on_ran(&mut step, run, results);
                }
            }
        }
        if is_tick {
            self.hang_up_idle(&mut out);
        }
        for output in &out {
            if let Output::Hangup(node) = output {
                self.sessions.remove(node);
                self.since_ms.remove(node);
            }
        }
        out
    }

    /// Ends sessions that neither half needs any more.
    fn hang_up_idle(&mut self, out: &mut Vec<Output>) {
        let idle_ms = self.settings.hangup_idle_ms;
        let is_idle = |node: &NodeId, since_ms: u64| {
            self.now_ms >= since_ms.saturating_add(idle_ms)
                && !self.requester.needs(node, self.now_ms, idle_ms)
                && !self.provider.needs(node, self.now_ms, idle_ms)
        };
        let idle: Vec<NodeId> =
            self.since_ms.iter().filter(|(node, since_ms)| is_idle(node, **since_ms)).map(|(node, _)| *node).collect();
        for node in idle {
            self.requester.let_go(&node);
            out.push(Output::Hangup(node));
        }
    }

    /// Deposits that were asked back and wait out the grace period.
    pub fn coming_home(&self) -> glean_types::Amount {
        self.requester.coming_home()
    }

    /// How many bytes of output an answer from that node to that slice may bring; `None` when no such answer is wanted.
    pub fn awaits(&self, from: &NodeId, channel: ChannelId, slice: u64) -> Option<u64> {
        self.requester.awaits(from, channel, slice)
    }

    /// When this node next wants an [`Input::Tick`], if nothing else happens before.
    pub fn wake_ms(&self) -> Option<u64> {
        let idle_ms = self.settings.hangup_idle_ms;
        let sessions = (!self.sessions.is_empty()).then_some(self.now_ms.saturating_add(idle_ms / 4));
        let parts =
            [self.requester.wake_ms(&self.settings, self.now_ms), self.provider.wake_ms(&self.settings), sessions];
        parts.into_iter().flatten().min().map(|at| at.max(self.now_ms.saturating_add(WAKE_MS_MIN)))
    }
}
