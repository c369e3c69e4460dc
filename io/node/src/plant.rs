//! Faults that are planted on purpose, one per process, named by `GLEAN_PLANT`: the audits of the end-to-end stories must catch
//! each of them (`app/cli/tests/planted.rs`).
//!
//! Only the feature `planted` brings this in, and nobody ships it: in the program that is shipped not even the variable's name
//! can be found.

use glean_protocol::{Defence, Identity, Output, Settings, SliceMsg, WorkMsg};
use glean_types::{Amount, NodeId, Paper, Voucher};

use crate::brain::World;

/// What is wrong with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// A request that was seen before is taken for a new one.
    Requests,
    /// The brain lacks a defence.
    Without(Defence),
    /// A requester that signs for money which it has not paid in.
    Bluffer,
    /// A requester that sends paid slices again.
    Replayer,
}

fn planted() -> Option<Plant> {
    let name = std::env::var("GLEAN_PLANT").ok()?;
    Some(match name.as_str() {
        "requests" => Plant::Requests,
        "voucher-deposit" => Plant::Without(Defence::VoucherDeposit),
        "slice-numbers" => Plant::Without(Defence::SliceNumbers),
        "bluffer" => Plant::Bluffer,
        "replayer" => Plant::Replayer,
        // A control with a fault that is not there would prove nothing.
        other => panic!("no fault is called {other}"),
    })
}

/// Whether the ids of requests are forgotten.
pub fn forgets_requests() -> bool {
    planted() == Some(Plant::Requests)
}

/// The brain's settings, perhaps without one of its defences.
pub fn settings(settings: Settings) -> Settings {
    match planted() {
        Some(Plant::Without(defence)) => Settings { without: Some(defence), ..settings },
        _ => settings,
    }
}

/// A world in which what goes to peers passes through a villain.
pub struct Villain<W> {
    world: W,
    me: Identity,
    /// Slices that were sent.
    sent: Vec<(NodeId, Box<SliceMsg>)>,
}

impl<W> Villain<W> {
    /// With that identity it signs.
    pub fn new(world: W, me: Identity) -> Villain<W> {
        Villain { world, me, sent: Vec::new() }
    }
}

impl<W: World> World for Villain<W> {
    fn perform(&mut self, output: Output) {
        match (planted(), output) {
            (Some(Plant::Bluffer), Output::Send { to, message: WorkMsg::Pay(honest) }) => {
                let cumulative = honest.paper.cumulative.saturating_add(Amount::whole(1_000_000));
                let bluff = Voucher { cumulative, ..honest.paper }.sign(&self.me.key, &self.me.domain);
                self.world.perform(Output::Send { to, message: WorkMsg::Pay(bluff) });
            }
            (Some(Plant::Replayer), Output::Send { to, message: WorkMsg::Slice(slice) }) => {
                self.sent.push((to, slice.clone()));
                self.world.perform(Output::Send { to, message: WorkMsg::Slice(slice) });
            }
            (Some(Plant::Replayer), Output::Send { to, message: WorkMsg::Pay(voucher) }) => {
                self.world.perform(Output::Send { to, message: WorkMsg::Pay(voucher) });
                // Each once: it would go on for ever.
                for (to, slice) in self.sent.drain(..) {
                    self.world.perform(Output::Send { to, message: WorkMsg::Slice(slice) });
                }
            }
            (_, output) => self.world.perform(output),
        }
    }
}
