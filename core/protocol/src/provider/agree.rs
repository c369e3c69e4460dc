//! Agreeing on a channel: nothing runs before the ledger has shown it, paying this account, signed by the requester.

use glean_types::{Address, Agreement, Amount, ChannelId, NodeId, Paper, Signed};

use super::slices::tell;
use super::{CHANNELS_PER_NODE, Channel, LOOKUPS_MAX, Provider, Stage, claim, look_up, refused};
use crate::defence::Defence;
use crate::io::{ChannelView, Output, Record};
use crate::step::Step;
use crate::wire::{Refusal, WorkMsg};

impl Provider {
    pub fn on_open(&mut self, step: &mut Step, from: NodeId, agreement: Signed<Agreement>) {
        let id = agreement.paper.channel;
        let refusal = self.judge_open(step, from, &agreement);
        if !self.channels.contains_key(&id) && matches!(refusal, None | Some(Refusal::Busy)) {
            self.settle_first(step, from);
        }
        if let Some(refusal) = refusal {
            step.send(from, refused(id, None, refusal));
            return;
        }
        match self.channels.get_mut(&id) {
            // Known terms, but the requester may have asked for its deposit since: at most the next slice is at risk.
            Some(channel) if channel.theirs.paper == agreement.paper => {
                look_up(step, id, channel);
            }
            Some(channel) => {
                // New terms for a known channel: nothing is under way in it, see `judge_open`.
                channel.ours = agreement.paper.clone().sign(&step.me.key, &step.me.domain);
                channel.theirs = agreement;
                step.record(Record::Agreed { agreement: channel.theirs.clone(), ours: false });
            }
            None => {
                let ours = agreement.paper.clone().sign(&step.me.key, &step.me.domain);
                self.channels.insert(id, Channel::new(from, agreement, ours, step.now_ms));
            }
        }
        self.agree(step, id);
    }

    /// A requester has one channel with a machine at a time: one that comes with another has lost the first, or has no use for it.
    /// What was not delivered there is not wanted any more; what was is shown again, to be paid or, on insistence, written off.
    fn settle_first(&mut self, step: &mut Step, from: NodeId) {
        for channel in self.channels.values_mut().filter(|channel| channel.requester == from) {
            channel.slices.retain(|slice| {
                if let Stage::Running(run) = slice.stage {
                    self.runs.remove(&run);
                    step.put(Output::StopRun(run));
                }
                matches!(slice.stage, Stage::Delivered(_))
            });
            channel.slices.iter().for_each(|slice| tell(step, from, slice));
        }
    }

    /// Says yes once the ledger has shown the channel, and repeats what was delivered and not paid.
    pub(super) fn agree(&mut self, step: &mut Step, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.view.is_none() && !step.has(Defence::LedgerFirst) {
            channel.view = Some(unseen(&channel.theirs.paper, step.address));
        }
        if channel.view.is_none() {
            look_up(step, id, channel);
            return;
        }
        step.send(channel.requester, WorkMsg::Agreed(channel.ours.clone()));
        channel.slices.iter().for_each(|slice| tell(step, channel.requester, slice));
    }

    fn judge_open(&self, step: &Step, from: NodeId, agreement: &Signed<Agreement>) -> Option<Refusal> {
        let paper = &agreement.paper;
        if paper.provider != step.address || paper.provider_node != step.me.node || paper.requester_node != from {
            return Some(Refusal::BadChannel);
        }
        if agreement.check(&step.me.domain, paper.requester).is_err() {
            return Some(Refusal::BadSignature);
        }
        let known = self.channels.get(&paper.channel);
        if let Some(channel) = known {
            if channel.requester != from || channel.theirs.paper.requester != paper.requester {
                return Some(Refusal::BadChannel);
            }
            if channel.theirs.paper == *paper {
                return None;
            }
            if !channel.slices.is_empty() || paper.created_ms <= channel.theirs.paper.created_ms {
                return Some(Refusal::Busy);
            }
        }
        let Some(terms) = &self.terms else { return Some(Refusal::NotLending) };
        if paper.price_per_gfuel < terms.price_per_gfuel {
            return Some(Refusal::PriceTooLow);
        }
        // Somebody who left a delivered slice unpaid settles that first.
        let owes =
            |channel: &Channel| channel.theirs.paper.requester == paper.requester && !channel.money.may_deliver();
        // Those that are being closed are no longer worked for.
        let is_live = |channel: &&Channel| channel.view.as_ref().is_none_or(|view| !view.closing);
        let of_node = self.channels.values().filter(is_live).filter(|channel| channel.requester == from).count();
        let unseen = self.channels.values().filter(|channel| channel.view.is_none()).count();
        if known.is_none()
            && (of_node >= CHANNELS_PER_NODE || unseen >= LOOKUPS_MAX || self.channels.values().any(owes))
        {
            return Some(Refusal::Busy);
        }
        None
    }

    pub fn on_channel_seen(&mut self, step: &mut Step, id: ChannelId, view: Option<ChannelView>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.looked_up_ms = None;
        channel.seen_ms = step.now_ms;
        let theirs = &channel.theirs.paper;
        let is_new = channel.view.is_none();
        if view.is_none() && !is_new {
            return self.forget_closed(step, id);
        }
        let is_gone = view.is_none();
        let Some(view) = view
            .filter(|view| view.payee == step.address && view.payer == theirs.requester && (!is_new || !view.closing))
        else {
            if is_new {
                step.send(channel.requester, refused(id, None, Refusal::BadChannel));
                if channel.money.voucher.is_none() {
                    self.channels.remove(&id);
                } else if is_gone {
                    self.forget_closed(step, id);
                }
            }
            return;
        };
        channel.money.settled = channel.money.settled.max(view.settled);
        if is_new && !std::mem::replace(&mut channel.is_recorded, true) {
            step.record(Record::Agreed { agreement: channel.theirs.clone(), ours: false });
        }
        let closing = view.closing;
        channel.view = Some(view);
        if closing {
            claim(step, channel);
        }
        if let Some((voucher, was_asked)) = channel.early_voucher.take() {
            let from = channel.requester;
            self.take_voucher(step, from, voucher, was_asked);
        }
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let requester = channel.requester;
        for message in std::mem::take(&mut channel.early_slices) {
            self.take_slice(step, requester, message, true);
        }
        if is_new {
            self.agree(step, id);
        }
        self.start_runs(step);
    }

    /// The ledger has no such channel any more: nothing can be cashed from it, so nothing is worked for.
    fn forget_closed(&mut self, step: &mut Step, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else { return };
        step.record(Record::Closed(id));
        step.send(channel.requester, refused(id, None, Refusal::BadChannel));
        for slice in channel.slices {
            if let Stage::Running(run) = slice.stage {
                self.runs.remove(&run);
                step.put(Output::StopRun(run));
            }
        }
    }
}

/// A channel as the one who claims to have opened it would like it to be seen.
fn unseen(agreement: &Agreement, payee: Address) -> ChannelView {
    ChannelView {
        payer: agreement.requester,
        payee,
        signer: agreement.requester,
        deposit: Amount::MAX,
        settled: Amount::ZERO,
        closing: false,
    }
}
