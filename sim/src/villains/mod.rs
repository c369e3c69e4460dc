//! Parties that break the rules, each a file. A villain wraps an honest node and tampers with what goes in
//! or comes out of it; the honest code knows nothing of them.

mod bluffer;
mod copier;
mod flooder;
mod forger;
mod haggler;
mod informed;
mod liar;
mod replayer;
mod shrugger;
mod staller;
mod vanisher;

pub use bluffer::Bluffer;
pub use copier::Copier;
pub use flooder::Flooder;
pub use forger::Forger;
pub use haggler::Haggler;
pub use informed::Informed;
pub use liar::Liar;
pub use replayer::Replayer;
pub use shrugger::Shrugger;
pub use staller::Staller;
pub use vanisher::Vanisher;

use glean_protocol::{Identity, Input, Output};

/// What a villain does to the honest node it wraps.
pub trait Villain {
    /// Changes what happens to the node.
    fn on_input(&mut self, input: Input) -> Input {
        input
    }

    /// Changes what the node does.
    fn on_outputs(&mut self, me: &Identity, outputs: Vec<Output>) -> Vec<Output> {
        let _ = me;
        outputs
    }
}
