//! Takes answers and never pays.

use glean_protocol::{Identity, Output, WorkMsg};

use super::Villain;

/// A requester whose vouchers get lost on purpose.
#[derive(Debug)]
pub struct Staller;

impl Staller {
    /// One of them.
    pub fn new() -> Box<Staller> {
        Box::new(Staller)
    }
}

impl Villain for Staller {
    fn on_outputs(&mut self, _: &Identity, outputs: Vec<Output>) -> Vec<Output> {
        let is_payment = |output: &Output| matches!(output, Output::Send { message: WorkMsg::Pay(_), .. });
        outputs.into_iter().filter(|output| !is_payment(output)).collect()
    }
}
