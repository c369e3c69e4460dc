//! The world a program sees: WASI preview 1, made of plain data in memory.
//!
//! No call here touches the machine. Arguments, environment and files come from the task; the clock starts where
//! the task says and moves only by being read or slept on; random bytes follow from the task's seed. So two
//! machines that run the same task cannot give it different answers, and a guest can neither look nor reach out.
//!
//! - `/` is the one preopened folder: the task's input files, read-only.
//! - `/out` is writable and empty at the start; what is left there at the end is part of the result.
//! - `/tmp` is writable and forgotten.
//! - There are no links, sockets, processes or signals; the calls for them say so.
//!
//! What must stay true: nothing depends on the host's clock, memory layout or hash order; the work of a call is
//! paid in fuel in proportion ([`CALL_FUEL`], and one per byte moved); whatever the guest passes, the worst
//! answer is an error number. Any change a guest can notice needs a new [`WASI_VERSION`].

mod abi;
mod calls;
mod fs;
mod memory;

use std::sync::Arc;

use wasmparser::{FuncType, ValType};
use wasmtime::{Caller, Extern, Linker, Memory};

use crate::limiter::MemoryLimiter;
pub(crate) use abi::{Errno, Fault, Stop};
pub(crate) use fs::Fs;
pub use fs::{BadPath, Files};
pub(crate) use memory::Guest;

/// Part of the determinism class.
pub(crate) const WASI_VERSION: u32 = 1;
/// The only module that programs may import from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
/// Fuel of any call into the host, besides one per byte that it moves.
pub(crate) const CALL_FUEL: u64 = 500;

/// The type of an offered function: parameters as letters, `i` and `I` for the integer types, and how many results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signature {
    params: &'static [char],
    results: usize,
}

impl Signature {
    pub(crate) fn is(self, ty: &FuncType) -> bool {
        let letter = |ty: &ValType| match ty {
            ValType::I32 => 'i',
            ValType::I64 => 'I',
            _ => '?',
        };
        ty.params().iter().map(letter).eq(self.params.iter().copied())
            && ty.results().iter().all(|ty| *ty == ValType::I32)
            && ty.results().len() == self.results
    }

    #[cfg(test)]
    pub(crate) fn text(self) -> (String, &'static str) {
        let params: Vec<&str> = self.params.iter().map(|letter| if *letter == 'i' { "i32" } else { "i64" }).collect();
        (params.join(" "), if self.results == 1 { "(result i32)" } else { "" })
    }
}

/// One table for both the check at the door and the functions behind it, so they cannot differ.
macro_rules! offer {
    (@letter u32) => { 'i' };
    (@letter u64) => { 'I' };
    (@letter i64) => { 'I' };
    ($($name:ident($($arg:ident: $ty:ident),*);)*) => {
        /// The type of a function that we offer.
        pub(crate) fn signature(name: &str) -> Option<Signature> {
            match name {
                "proc_exit" => Some(Signature { params: &['i'], results: 0 }),
                $(stringify!($name) => Some(Signature { params: &[$(offer!(@letter $ty)),*], results: 1 }),)*
                _ => None,
            }
        }

        /// Everything we offer, by name.
        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &["proc_exit", $(stringify!($name)),*];

        /// Offers everything to programs.
        pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
            linker.func_wrap(MODULE, "proc_exit", |_: Caller<'_, State>, code: u32| -> wasmtime::Result<()> {
                Err(wasmtime::Error::new(Stop::Exit(code)))
            })?;
            $(linker.func_wrap(MODULE, stringify!($name), |mut caller: Caller<'_, State>, $($arg: $ty),*| {
                call(&mut caller, |guest| calls::$name(guest, $($arg),*))
            })?;)*
            Ok(())
        }

        /// The same for programs that another engine runs: what ours is compared with.
        #[cfg(test)]
        pub(crate) fn link_elsewhere(linker: &mut wasmi::Linker<Wasi>) -> Result<(), wasmi::errors::LinkerError> {
            use crate::determinism::elsewhere::call;
            linker.func_wrap(MODULE, "proc_exit", |_: wasmi::Caller<'_, Wasi>, code: u32| -> Result<(), wasmi::Error> {
                Err(wasmi::Error::host(Stop::Exit(code)))
            })?;
            $(linker.func_wrap(MODULE, stringify!($name), |mut caller: wasmi::Caller<'_, Wasi>, $($arg: $ty),*| {
                call(&mut caller, |guest| calls::$name(guest, $($arg),*))
            })?;)*
            Ok(())
        }
    };
}

offer! {
    args_get(argv: u32, buf: u32);
    args_sizes_get(count: u32, size: u32);
    environ_get(environ: u32, buf: u32);
    environ_sizes_get(count: u32, size: u32);
    clock_res_get(id: u32, out: u32);
    clock_time_get(id: u32, precision: u64, out: u32);
    fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
    fd_allocate(fd: u32, offset: u64, len: u64);
    fd_close(fd: u32);
    fd_datasync(fd: u32);
    fd_fdstat_get(fd: u32, out: u32);
    fd_fdstat_set_flags(fd: u32, flags: u32);
    fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
    fd_filestat_get(fd: u32, out: u32);
    fd_filestat_set_size(fd: u32, size: u64);
    fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, set: u32);
    fd_pread(fd: u32, iovs: u32, count: u32, offset: u64, out: u32);
    fd_prestat_get(fd: u32, out: u32);
    fd_prestat_dir_name(fd: u32, path: u32, len: u32);
    fd_pwrite(fd: u32, iovs: u32, count: u32, offset: u64, out: u32);
    fd_read(fd: u32, iovs: u32, count: u32, out: u32);
    fd_readdir(fd: u32, buf: u32, len: u32, cookie: u64, out: u32);
    fd_renumber(from: u32, to: u32);
    fd_seek(fd: u32, offset: i64, whence: u32, out: u32);
    fd_sync(fd: u32);
    fd_tell(fd: u32, out: u32);
    fd_write(fd: u32, iovs: u32, count: u32, out: u32);
    path_create_directory(fd: u32, path: u32, len: u32);
    path_filestat_get(fd: u32, flags: u32, path: u32, len: u32, out: u32);
    path_filestat_set_times(fd: u32, flags: u32, path: u32, len: u32, atim: u64, mtim: u64, set: u32);
    path_link(old_fd: u32, flags: u32, old: u32, old_len: u32, new_fd: u32, new: u32, new_len: u32);
    path_open(fd: u32, dirflags: u32, path: u32, len: u32, oflags: u32, base: u64, inheriting: u64, fdflags: u32, out: u32);
    path_readlink(fd: u32, path: u32, len: u32, buf: u32, buf_len: u32, out: u32);
    path_remove_directory(fd: u32, path: u32, len: u32);
    path_rename(old_fd: u32, old: u32, old_len: u32, new_fd: u32, new: u32, new_len: u32);
    path_symlink(old: u32, old_len: u32, fd: u32, new: u32, new_len: u32);
    path_unlink_file(fd: u32, path: u32, len: u32);
    poll_oneoff(subs: u32, events: u32, count: u32, out: u32);
    proc_raise(signal: u32);
    random_get(buf: u32, len: u32);
    sched_yield();
    sock_accept(fd: u32, flags: u32, out: u32);
    sock_recv(fd: u32, iovs: u32, count: u32, flags: u32, out: u32, out_flags: u32);
    sock_send(fd: u32, iovs: u32, count: u32, flags: u32, out: u32);
    sock_shutdown(fd: u32, how: u32);
}

/// What a program is given.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment, in this order.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Input files, read-only.
    pub files: Arc<Files>,
    /// Where its random bytes come from.
    pub seed: [u8; 32],
    /// Unix nanoseconds at which its clock starts.
    pub clock_ns: u64,
}

/// Everything a program's calls can reach.
pub(crate) struct Wasi {
    pub(crate) args: Vec<String>,
    /// `NAME=value` each.
    pub(crate) env: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) fs: Fs,
}

impl Wasi {
    pub(crate) fn new(task: Invocation, output_max: u64) -> Wasi {
        Wasi {
            args: task.args,
            env: task.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            clock: Clock { start_ns: task.clock_ns, passed_ns: 0 },
            random: Random { seed: task.seed, stream: None },
            fs: Fs::new(task.files, task.stdin, output_max),
        }
    }
}

/// Time that passes by being looked at.
pub(crate) struct Clock {
    pub(crate) start_ns: u64,
    pub(crate) passed_ns: u64,
}

impl Clock {
    /// Each reading is this much later than the one before.
    pub(crate) const STEP_NS: u64 = 1_000;

    /// Nanoseconds since the start, one step later than before.
    pub(crate) fn read(&mut self) -> u64 {
        self.advance(Clock::STEP_NS);
        self.passed_ns
    }

    pub(crate) fn advance(&mut self, ns: u64) {
        self.passed_ns = self.passed_ns.saturating_add(ns);
    }
}

/// The task's random bytes: BLAKE3 as a stream, keyed with the task's seed.
pub(crate) struct Random {
    seed: [u8; 32],
    stream: Option<Box<blake3::OutputReader>>,
}

impl Random {
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        let seed = self.seed;
        let start = || Box::new(blake3::Hasher::new_keyed(&seed).update(b"gleaner random_get 1").finalize_xof());
        self.stream.get_or_insert_with(start).fill(bytes);
    }
}

/// What a store holds besides the instance.
pub(crate) struct State {
    pub(crate) wasi: Wasi,
    pub(crate) limiter: MemoryLimiter,
    /// The program's memory, once known: found once instead of at every call.
    pub(crate) memory: Option<Memory>,
}

/// One call: paid for, done, and its answer turned into an error number or an end of the program.
fn call(
    caller: &mut Caller<'_, State>,
    work: impl FnOnce(&mut Guest<'_>) -> Result<(), Fault>,
) -> wasmtime::Result<u32> {
    pay(caller, CALL_FUEL)?;
    let Some(memory) = memory_of(caller) else { return Ok(Errno::FAULT.number()) };
    let (bytes, state) = memory.data_and_store_mut(&mut *caller);
    let mut guest = Guest::new(bytes, &mut state.wasi);
    let answer = work(&mut guest);
    let moved = guest.moved();
    pay(caller, moved)?;
    match answer {
        Ok(()) => Ok(0),
        Err(Fault::Errno(errno)) => Ok(errno.number()),
        Err(Fault::Stop(stop)) => Err(wasmtime::Error::new(stop)),
    }
}

fn memory_of(caller: &mut Caller<'_, State>) -> Option<Memory> {
    if let Some(memory) = caller.data().memory {
        return Some(memory);
    }
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => {
            caller.data_mut().memory = Some(memory);
            Some(memory)
        }
        _ => None,
    }
}

fn pay(caller: &mut Caller<'_, State>, fuel: u64) -> wasmtime::Result<()> {
    let left = caller.get_fuel()?;
    caller.set_fuel(left.saturating_sub(fuel))?;
    if left < fuel { Err(wasmtime::Trap::OutOfFuel.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
