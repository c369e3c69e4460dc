//! Finds the price cap of every slice too low, whatever it is.

use glean_protocol::{Identity, Output, Refusal, WorkMsg};

use super::Villain;

/// A provider that wants to be offered more.
#[derive(Debug)]
pub struct Haggler;

impl Haggler {
    /// One of them.
    pub fn new() -> Box<Haggler> {
        Box::new(Haggler)
    }
}

impl Villain for Haggler {
    fn on_outputs(&mut self, _: &Identity, mut outputs: Vec<Output>) -> Vec<Output> {
        for output in &mut outputs {
            if let Output::Send { message, .. } = output
                && let WorkMsg::Done(done) = &*message
            {
                let receipt = &done.receipt.paper;
                let (channel, slice) = (receipt.channel, Some(receipt.slice));
                *message = WorkMsg::Refused { channel, slice, refusal: Refusal::PriceCapTooLow };
            }
        }
        outputs
    }
}
