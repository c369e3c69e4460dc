//! A node: the brain of `glean-protocol` wired to a network, a ledger, a disk and worker processes.
//!
//! ```text
//!   people ── api ──┐                     ┌── sessions, offers (glean-net)
//!                   ├─> inbox ─> brain ─> world ── ledger (glean-chain here, or over QUIC)
//!   peers ─ accept ─┘      │ fsync        └── runner ─> worker processes (glean-vm)
//!                       journal
//! ```
//!
//! What must stay true:
//!
//! 1. Decisions are the brain's: nothing in this crate chooses a machine, a price or a verdict.
//! 2. Nothing is promised to anybody before it is in the journal.
//! 3. Guest code never runs in this process: it runs in worker children that have no keys and no sockets.
//! 4. Starting after a crash is the same path as starting.

pub mod api;
pub mod app;
pub mod backup;
mod brain;
mod clock;
mod core_files;
pub mod decoders;
mod events;
pub mod home;
mod import;
mod journal;
mod ledger;
mod network;
mod offers;
mod past;
#[cfg(feature = "planted")]
mod plant;
mod reach;
mod run;
mod runner;
mod sessions;
pub mod settings;
pub mod wallet;
pub mod worker;
mod world;

pub use clock::now_ms;
pub use core_files::no_core_files;
pub use journal::{Frame, JournalError, inspect as inspect_journal};
pub use network::{JoinError, JoinLine, Network};
pub use run::{NodeOptions, SetupError, join, network_init, run_node};
