//! Bills more than it did, and signs the bill.

use glean_protocol::{Identity, Output, WorkMsg};
use glean_types::{Amount, Paper};

use super::Villain;

/// A provider that doubles the price on its receipts.
#[derive(Debug)]
pub struct Forger;

impl Forger {
    /// One of them.
    pub fn new() -> Box<Forger> {
        Box::new(Forger)
    }
}

impl Villain for Forger {
    fn on_outputs(&mut self, me: &Identity, mut outputs: Vec<Output>) -> Vec<Output> {
        for output in &mut outputs {
            if let Output::Send { message: WorkMsg::Done(done), .. } = output {
                let mut receipt = done.receipt.paper.clone();
                receipt.price = receipt.price.saturating_add(Amount::from_units(1).unwrap_or_default());
                done.receipt = receipt.sign(&me.key, &me.domain);
            }
        }
        outputs
    }
}
