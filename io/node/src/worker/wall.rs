//! The wall around guest code: what a worker gives up before it reads its first order, for good.
//!
//! | layer | what is gone |
//! |---|---|
//! | `no_new_privs`, not dumpable | set-uid programs; being read by other processes of the user |
//! | out-of-memory score | the node being chosen instead |
//! | rlimits | core dumps, more memory than the task was granted, more than a handful of files; for a compile, endless time |
//! | inherited files closed | whatever the node's own parent left open |
//! | landlock | every path of the file system, TCP, signals and abstract sockets outside |
//! | seccomp | every system call but those a running guest needs: no open, socket, fork, exec, ptrace |
//! | nice 19, `SCHED_IDLE` | the owner's and the node's time: a busy worker must not starve QUIC (where the owner waits for it: nice 10) |
//!
//! Each layer holds alone; a kernel without landlock still has the others. `raise` says what it could not do, and
//! `glean doctor` shows it.

use serde::{Deserialize, Serialize};

/// Set in a worker's environment where the machine's owner waits for its work.
pub const AWAITED: &str = "GLEAN_AWAITED";

/// What stands and what does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WallReport {
    /// Layers in force.
    pub on: Vec<String>,
    /// Layers that this system lacks, and why.
    pub off: Vec<String>,
}

impl WallReport {
    fn note(&mut self, layer: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.on.push(layer.to_owned()),
            Err(why) => self.off.push(format!("{layer}: {why}")),
        }
    }
}

/// What a worker may still use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowance {
    /// Memory that can be written, of the whole process.
    pub data_bytes: Option<u64>,
    /// Processor time.
    pub cpu_s: Option<u64>,
}

/// Raises the wall around the calling thread and all that it starts. Irreversible. [`seal`] puts the last stone in.
#[cfg(target_os = "linux")]
pub fn raise(allowance: &Allowance) -> WallReport {
    let mut report = WallReport::default();
    // In this order: what is not dumpable may not look at itself through /proc either.
    report.note("first to go when memory is short", linux::oom_first());
    report.note("no inherited files", linux::close_inherited());
    report.note("no new privileges, not dumpable", linux::prctls());
    report.note("limits on memory, core dumps and open files", linux::rlimits(allowance));
    report.note("lowest priority", linux::priority());
    report.note("landlock: no files, no network", linux::landlock());
    report
}

/// The last layer, for all threads: no thread, process, file or socket can be made after it.
#[cfg(target_os = "linux")]
pub fn seal() -> WallReport {
    let mut report = WallReport::default();
    report.note("seccomp: only the calls a guest needs", linux::seccomp());
    report
}

/// Elsewhere only the process itself separates guest and node.
#[cfg(not(target_os = "linux"))]
pub fn raise(_allowance: &Allowance) -> WallReport {
    let mut report = WallReport::default();
    report.note("separate process", Ok(()));
    report.note("landlock, seccomp, rlimits", Err("only on Linux".into()));
    report
}

/// Elsewhere there is nothing to add.
#[cfg(not(target_os = "linux"))]
pub fn seal() -> WallReport {
    WallReport::default()
}

/// The whole wall, where no further thread is needed.
pub fn raise_and_seal(allowance: &Allowance) -> WallReport {
    let (mut report, last) = (raise(allowance), seal());
    report.on.extend(last.on);
    report.off.extend(last.off);
    report
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use super::Allowance;
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch,
    };

    fn check(result: libc::c_int) -> Result<(), String> {
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
    }

    pub fn prctls() -> Result<(), String> {
        // SAFETY: plain integer arguments; affects only this process.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))
        }
    }

    /// A guest that eats the machine's memory must cost us the worker, not the node.
    pub fn oom_first() -> Result<(), String> {
        std::fs::write("/proc/self/oom_score_adj", "1000").map_err(|e| e.to_string())
    }

    /// Pipes, the engine's memory images and its page map.
    const FILES_MAX: libc::rlim_t = 64;

    pub fn rlimits(allowance: &Allowance) -> Result<(), String> {
        let mut limits = vec![(libc::RLIMIT_CORE, 0), (libc::RLIMIT_NOFILE, FILES_MAX)];
        limits.extend(allowance.data_bytes.map(|bytes| (libc::RLIMIT_DATA, bytes)));
        limits.extend(allowance.cpu_s.map(|seconds| (libc::RLIMIT_CPU, seconds)));
        for (what, limit) in limits {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: `limit` lives through the call.
            check(unsafe { libc::setrlimit(what, &limit) })?;
        }
        Ok(())
    }

    /// Files that whoever started the node left open. Ours, and the engine's, are all marked to be closed on exec, so
    /// what carries no mark came from outside.
    pub fn close_inherited() -> Result<(), String> {
        let listed = std::fs::read_dir("/proc/self/fd").map_err(|e| e.to_string())?;
        let numbers: Vec<i32> = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        for number in numbers.into_iter().filter(|number| *number > libc::STDERR_FILENO) {
            // SAFETY: asks and sets flags of a number; a closed one is an error that is passed over.
            unsafe {
                let flags = libc::fcntl(number, libc::F_GETFD);
                if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
                    libc::close(number);
                }
            }
        }
        Ok(())
    }

    pub fn priority() -> Result<(), String> {
        if std::env::var_os(super::AWAITED).is_some() {
            // SAFETY: affects only this process.
            return unsafe { check(libc::setpriority(libc::PRIO_PROCESS, 0, 10)) };
        }
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: `param` lives through the call; both calls affect only this process.
        unsafe {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, 19))?;
            check(libc::sched_setscheduler(0, libc::SCHED_IDLE, &param))
        }
    }

    pub fn landlock() -> Result<(), String> {
        let abi = ABI::V6;
        let restrict = || -> Result<_, landlock::RulesetError> {
            Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(abi))?
                .handle_access(AccessNet::from_all(abi))?
                .scope(Scope::from_all(abi))?
                .create()?
                .restrict_self()
        };
        match restrict().map_err(|e| e.to_string())?.ruleset {
            RulesetStatus::NotEnforced => Err("this kernel has no landlock".into()),
            _ => Ok(()),
        }
    }

    /// What a guest needs once the engine is up: memory, pipes, time, signals for traps, an end.
    fn allowed() -> Vec<libc::c_long> {
        let calls = [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_close,
            libc::SYS_fstat,
            libc::SYS_lseek,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mprotect,
            libc::SYS_madvise,
            libc::SYS_mremap,
            libc::SYS_brk,
            libc::SYS_memfd_create,
            libc::SYS_ftruncate,
            libc::SYS_fcntl,
            libc::SYS_futex,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_sigaltstack,
            libc::SYS_clock_gettime,
            libc::SYS_getrandom,
            libc::SYS_sched_yield,
            libc::SYS_gettid,
            libc::SYS_getpid,
            libc::SYS_membarrier,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ];
        calls.to_vec()
    }

    /// The one device call: which pages of the guest's memory were touched.
    const PAGEMAP_SCAN: u64 = 0xc060_6610;

    pub fn seccomp() -> Result<(), String> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
        let mut rules: BTreeMap<i64, Vec<_>> = allowed().into_iter().map(|call| (call, Vec::new())).collect();
        let scan = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PAGEMAP_SCAN)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|e| e.to_string())?;
        rules.insert(libc::SYS_ioctl, vec![scan]);
        let denied = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
        let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch).map_err(|e| e.to_string())?;
        let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
        seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())
    }
}

/// Tries what a hostile worker would try; names what got through. Run before the wall it finds all of them open.
#[cfg(target_os = "linux")]
pub fn probe() -> Vec<String> {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    let mut holes = Vec::new();
    let mut attempt = |what: &str, through: bool| {
        if through {
            holes.push(what.to_owned());
        }
    };
    attempt("read a file", std::fs::read("/etc/passwd").is_ok());
    attempt("list a folder", std::fs::read_dir("/").is_ok());
    attempt(
        "write a file",
        std::fs::write(std::env::temp_dir().join(format!("glean-probe-{}", std::process::id())), b"x").is_ok(),
    );
    attempt("listen on a port", TcpListener::bind("127.0.0.1:0").is_ok());
    attempt("open a UDP socket", UdpSocket::bind("127.0.0.1:0").is_ok());
    attempt(
        "connect",
        !matches!(TcpStream::connect("127.0.0.1:1"), Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied),
    );
    // SAFETY: the child, if there is one, leaves at once without running any of our code. It is waited for: the signal of
    // its end would stop us for good once we are traced, below.
    attempt("fork", unsafe {
        match libc::fork() {
            0 => libc::_exit(0),
            child if child > 0 => libc::waitpid(child, std::ptr::null_mut(), 0) == child,
            _ => false,
        }
    });
    // SAFETY: a signal number of 0 only asks whether one could be sent.
    attempt("signal its parent", unsafe { libc::kill(libc::getppid(), 0) } == 0);
    // SAFETY: no pointers are passed.
    attempt("trace", unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == 0);
    holes
}

/// Elsewhere there is nothing to probe.
#[cfg(not(target_os = "linux"))]
pub fn probe() -> Vec<String> {
    Vec::new()
}
