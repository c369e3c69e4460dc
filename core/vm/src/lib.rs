//! Program + input + fuel -> output + fuel used, the same on every machine.
//!
//! A module becomes a [`Program`] once ([`prepare`]: checked, its NaNs made canonical, named by its hash), is compiled
//! per machine ([`Vm::compile`]), and run per task ([`Vm::run`]). Everything that could differ between two
//! machines is either pinned (`engine.rs` has the table), taken away (no threads, no host files, no host clock),
//! or kept out of the result ([`NoVerdict`]). [`CLASS`] names the set of rules; nodes check each other only within it.
//!
//! Guest code is compiled and run in this very process: the caller must be a process that has nothing to lose.

mod cost;
mod engine;
mod limiter;
mod nan;
mod program;
mod reject;
mod run;
mod wasi;

#[cfg(test)]
mod determinism;
#[cfg(test)]
mod testing;

pub use cost::{CLASS, class};
pub use engine::{CompileError, Compiled, SetupError, Vm, VmConfig};
pub use program::{ModuleLimits, Program, prepare};
pub use reject::Reject;
pub use run::{Execution, Limits, NoVerdict};
pub use wasi::{BadPath, Files, Invocation};
