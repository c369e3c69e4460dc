//! Sells answers that it has made up. Its receipts are well formed: only a second run shows the lie.

use glean_protocol::Input;
use glean_types::Output as Bytes;

use super::Villain;
use crate::random::Random;

/// A provider that invents some of its answers.
#[derive(Debug)]
pub struct Liar {
    random: Random,
    one_in: u64,
    /// Honest for so many answers first.
    sleeps: u64,
}

impl Liar {
    /// Lies on one task in `n`.
    pub fn one_in(n: u64) -> Box<Liar> {
        Liar::sleeper(0, n)
    }

    /// Answers `honest` tasks rightly and then lies on one in `n`.
    pub fn sleeper(honest: u64, n: u64) -> Box<Liar> {
        Box::new(Liar { random: Random::new(0x11a5), one_in: n, sleeps: honest })
    }
}

impl Villain for Liar {
    fn on_input(&mut self, input: Input) -> Input {
        let Input::Ran { run, mut results } = input else { return input };
        for result in results.iter_mut().flatten() {
            if self.sleeps > 0 {
                self.sleeps -= 1;
            } else if self.random.one_in(self.one_in) {
                result.stdout = Bytes::Inline(b"made up".to_vec());
            }
        }
        Input::Ran { run, results }
    }
}
