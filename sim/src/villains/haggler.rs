//! Finds the price cap of every slice too low, whatever it is.

use glean_protocol::{Input, NoVerdict};

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
    fn on_input(&mut self, input: Input) -> Input {
        let Input::Ran { run, results } = input else { return input };
        Input::Ran { run, results: results.into_iter().map(|_| Err(NoVerdict::FuelCap)).collect() }
    }
}
