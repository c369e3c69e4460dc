//! Pays for a slice once and sends it again and again.

use glean_protocol::{Identity, Output, SliceMsg, WorkMsg};
use glean_types::NodeId;

use super::Villain;

/// A requester that wants paid work done again for nothing.
#[derive(Debug, Default)]
pub struct Replayer {
    sent: Vec<(NodeId, SliceMsg)>,
    replayed: usize,
}

/// It would go on for ever.
const REPLAYS_MAX: usize = 20;

impl Replayer {
    /// One of them.
    pub fn new() -> Box<Replayer> {
        Box::default()
    }
}

impl Villain for Replayer {
    fn on_outputs(&mut self, _: &Identity, mut outputs: Vec<Output>) -> Vec<Output> {
        let mut again = Vec::new();
        for output in &outputs {
            match output {
                Output::Send { to, message: WorkMsg::Slice(slice) } => self.sent.push((*to, (**slice).clone())),
                Output::Send { to, message: WorkMsg::Pay(voucher) } => {
                    let of_channel =
                        self.sent.iter().filter(|(node, slice)| node == to && slice.channel == voucher.paper.channel);
                    let old = of_channel
                        .map(|(to, slice)| (*to, slice.clone()))
                        .take(usize::from(self.replayed < REPLAYS_MAX));
                    again.extend(old.map(|(to, slice)| Output::Send { to, message: WorkMsg::Slice(Box::new(slice)) }));
                    self.replayed += 1;
                }
                _ => {}
            }
        }
        outputs.extend(again);
        outputs
    }
}
