//! No crash of a process that holds keys leaves its memory in a file.
//!
//! A limit of zero keeps the kernel from writing core files, but not from piping them to a program that collects them
//! (core(5)); what is not dumpable goes to neither, and its memory is closed to other processes of the same user, too.
//! Such a process cannot be looked at by a debugger that is not root's.

/// Turns core files off for this process, for good. What it starts may not write any either.
#[cfg(unix)]
pub fn no_core_files() -> std::io::Result<()> {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Elsewhere there are none.
#[cfg(not(unix))]
pub fn no_core_files() -> std::io::Result<()> {
    Ok(())
}
