//! What an honest party does next: input in, outputs out, no IO.
//!
//! A [`Node`] plays requester and provider at once. Its one function, [`Node::step`], is the loop body of
//! both the shipped node (`io/node`) and the simulator (`sim`): they differ only in who answers the outputs.
//!
//! ```text
//!   offers ─> market ──┐ score, choose, explain
//!   job ────> schedule ┴─> slices ──> provider runs ──> results + receipt ──> verify ──> settle ──> voucher
//!                            ^  leases, backups, retries                        │ secret re-runs, canaries
//!                            └──────────────────────────────────────────────────┘
//! ```
//!
//! - `market`: who could do the work, and whom to prefer. `work`: a job, and how much of it goes into a slice.
//! - `requester`: gives work out, takes answers in, checks, pays. `provider`: the other side of each.
//! - `verify`: which answers are run again, and what two answers prove. `settle`: promises that only grow.
//! - [`io`] and [`wire`]: the edge. [`views`]: what people may ask.
//!
//! What must stay true (`sim/src/invariants.rs` checks each after every step):
//!
//! 1. A job never costs more than its budget, checks and promises included.
//! 2. At most one delivered slice is unpaid per channel: all that either side can lose to the other.
//! 3. A voucher's total only grows and never passes the deposit.
//! 4. A wrong receipt that was found is never paid, and its machine gets no further work.
//! 5. Every task ends exactly once, as accepted, failed or cancelled.
//! 6. Records of a step are durable before any other output of that step is performed, so a restart from
//!    the records never promises less, pays twice, or forgets an accepted result.

mod defence;
pub mod io;
mod market;
mod node;
mod provider;
mod requester;
pub mod settings;
mod settle;
mod step;
#[cfg(test)]
mod testing;
mod verify;
pub mod views;
pub mod wire;
mod work;

pub use defence::Defence;
pub use io::{
    ChannelView, Event, FailReason, Identity, Input, JobView, Output, Record, RunId, RunOrder, ShareTerms, Submission,
    TaskState,
};
pub use market::{History, ScoreCard};
pub use node::Node;
pub use settings::Settings;
pub use views::{Explanation, MachineView, MoneyView, OfferExplanation};
pub use wire::{CommitMsg, NoVerdict, Refusal, SliceDoneMsg, SliceMsg, WorkMsg};
