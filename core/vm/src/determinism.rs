//! The same answer from engines that have nothing in common but the rules.
//!
//! Programs that people wrote (`kernels`), modules that nobody wrote (`generated`) and code that lets the bits of NaNs out
//! (`torture`) run optimised, plain, with every NaN made canonical by the engine, two at a time, and by an interpreter of
//! another house (`elsewhere`). What comes of it must not differ by a bit, nor what it costs by one fuel.
//!
//! Machines cannot meet in one test. So what was once measured is kept in `determinism/golden.txt`, and every build on every
//! machine is held to it (`golden`): release and debug, x86-64 and aarch64. `cargo xtask determinism` runs them all.

pub(crate) mod elsewhere;
mod generated;
mod golden;
mod kernels;
mod torture;

/// Stack of a guest that no test here reaches the end of: where a stack ends is the machine's business, and what a machine
/// decides cannot be in a table for all.
const STACK_BYTES: usize = 128 << 20;

/// Runs work on a thread with room for such a guest, and for whatever the engines and the generator need besides.
fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES + (64 << 20)).spawn_scoped(scope, work);
        thread.expect("a thread begins").join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The engine as workers have it, but for the pool and that stack.
fn quiet() -> crate::VmConfig {
    crate::VmConfig { pooling: false, stack_bytes: STACK_BYTES, ..crate::VmConfig::default() }
}
