//! Has heard what the requester knows already, and lies about nothing else: every answer that it sells is right. Whoever
//! sends it a task whose answer is known does so to test it, so only a canary can catch it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use glean_protocol::Input;
use glean_types::Output as Bytes;

use super::Villain;

/// A provider with an informer.
#[derive(Debug)]
pub struct Informed {
    known: Arc<Mutex<BTreeSet<u32>>>,
}

impl Informed {
    /// One that is told as soon as an answer is accepted: see [`crate::World::accepted`].
    pub fn new(known: Arc<Mutex<BTreeSet<u32>>>) -> Box<Informed> {
        Box::new(Informed { known })
    }
}

impl Villain for Informed {
    fn on_input(&mut self, input: Input) -> Input {
        let Input::Ran { run, mut results } = input else { return input };
        let known = self.known.lock().expect("one thread");
        for result in results.iter_mut().flatten().filter(|result| known.contains(&result.index)) {
            result.stdout = Bytes::Inline(b"made up".to_vec());
        }
        drop(known);
        Input::Ran { run, results }
    }
}
