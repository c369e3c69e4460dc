//! Takes work and never answers.

use glean_protocol::{Identity, Output, WorkMsg};

use super::Villain;

/// A provider whose answers get lost on purpose.
#[derive(Debug)]
pub struct Vanisher;

impl Vanisher {
    /// One of them.
    pub fn new() -> Box<Vanisher> {
        Box::new(Vanisher)
    }
}

impl Villain for Vanisher {
    fn on_outputs(&mut self, _: &Identity, outputs: Vec<Output>) -> Vec<Output> {
        let is_answer =
            |output: &Output| matches!(output, Output::Send { message: WorkMsg::Done(_) | WorkMsg::Commit(_), .. });
        outputs.into_iter().filter(|output| !is_answer(output)).collect()
    }
}
