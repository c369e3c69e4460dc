//! Has no money, makes channels up instead, and floods machines with them.

use glean_protocol::{Identity, Input, Output, WorkMsg};
use glean_types::{Amount, ChannelId, Hash, Paper, encode};

use super::Villain;

/// A requester whose channels are on no ledger.
#[derive(Debug)]
pub struct Flooder {
    each: u64,
    made_up: u64,
}

impl Flooder {
    /// One that opens so many channels with a machine at once.
    pub fn new(each: u64) -> Box<Flooder> {
        Box::new(Flooder { each, made_up: 0 })
    }

    fn channel(&mut self) -> ChannelId {
        self.made_up += 1;
        ChannelId(Hash::of(&encode(&("made up", self.made_up))).0)
    }
}

impl Villain for Flooder {
    fn on_input(&mut self, input: Input) -> Input {
        let Input::ChannelFailed { provider, .. } = input else { return input };
        Input::ChannelReady { provider, channel: self.channel(), deposit: Amount::whole(1) }
    }

    fn on_outputs(&mut self, me: &Identity, mut outputs: Vec<Output>) -> Vec<Output> {
        let mut flood = Vec::new();
        for output in &outputs {
            let Output::Send { to, message: WorkMsg::Open(agreement) } = output else { continue };
            for _ in 0..self.each {
                let mut paper = agreement.paper.clone();
                paper.channel = self.channel();
                flood.push(Output::Send { to: *to, message: WorkMsg::Open(paper.sign(&me.key, &me.domain)) });
            }
        }
        outputs.extend(flood);
        outputs
    }
}
