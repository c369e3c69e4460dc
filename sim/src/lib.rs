//! The whole network in one thread, from one seed: the shipped brain ([`glean_protocol::Node`]) in a world
//! whose clock, links and crashes all follow from a number, on the shipped ledger ([`glean_ledger`]).
//!
//! ```
//! use glean_sim::{Liar, World};
//!
//! let mut world = World::new(1).providers(3).villain(0, Liar::one_in(2));
//! let job = world.submit(40, "1");
//! world.run();
//! assert_eq!(world.right_answers(job), 40);
//! assert!(world.is_caught(0));
//! ```
//!
//! After every step [`Invariants`] looks at what was decided. A broken one panics with the seed;
//! `GLEAN_SEED=<seed> cargo test -p glean-sim <test>` replays it exactly ([`World::trace`] proves that).

mod guest;
mod index;
mod invariants;
mod ledger;
mod link;
mod random;
mod villains;
mod world;

pub use guest::Guest;
pub use invariants::Invariants;
pub use ledger::{FEE_BPS, Ledger, LedgerError};
pub use link::Link;
pub use random::{Random, seeds, seeds_from};
pub use villains::{
    Bluffer, Copier, Flooder, Forger, Haggler, Informed, Liar, Replayer, Shrugger, Staller, Vanisher, Villain,
};
pub use world::World;
