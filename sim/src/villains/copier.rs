//! Two machines that tell each other what to say: the first makes an answer up, the second says the same.

use glean_protocol::Input;
use glean_types::Output as Bytes;

use super::Villain;

/// A provider whose lies are the same as its accomplice's.
#[derive(Debug)]
pub struct Copier {
    one_in: u32,
}

impl Copier {
    /// Lies about one task in `n`, the same ones as every other of its kind.
    pub fn one_in(n: u32) -> Box<Copier> {
        Box::new(Copier { one_in: n })
    }
}

impl Villain for Copier {
    fn on_input(&mut self, input: Input) -> Input {
        let Input::Ran { run, mut results } = input else { return input };
        for result in results.iter_mut().flatten().filter(|result| result.index.is_multiple_of(self.one_in)) {
            result.stdout = Bytes::Inline(format!("made up for {}", result.index).into_bytes());
        }
        Input::Ran { run, results }
    }
}
