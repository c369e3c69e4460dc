//! Promises more than it has paid in.

use glean_protocol::{Identity, Output, WorkMsg};
use glean_types::{Amount, Paper, Voucher};

use super::Villain;

/// A requester whose vouchers are for more than the deposit.
#[derive(Debug)]
pub struct Bluffer;

impl Bluffer {
    /// One of them.
    pub fn new() -> Box<Bluffer> {
        Box::new(Bluffer)
    }
}

impl Villain for Bluffer {
    fn on_outputs(&mut self, me: &Identity, mut outputs: Vec<Output>) -> Vec<Output> {
        for output in &mut outputs {
            if let Output::Send { message: WorkMsg::Pay(signed), .. } = output {
                let cumulative = signed.paper.cumulative.saturating_add(Amount::whole(1_000_000));
                *signed = Voucher { cumulative, ..signed.paper }.sign(&me.key, &me.domain);
            }
        }
        outputs
    }
}
