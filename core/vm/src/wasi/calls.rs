//! The calls of WASI preview 1, one function each, in the order of the specification.
//!
//! Each takes what the guest passed, checks all of it, and answers with nothing, an error number, or the end of
//! the program. Results go to the guest's memory.

use super::abi::{FDFLAG_APPEND, FileType, RIGHTS_ALL, RIGHTS_STREAM};
use super::fs::{Fd, Stat};
use super::{Errno, Fault, Guest};

type Answer = Result<(), Fault>;

/// Argument and environment blocks, and a listing's names, end here.
const NUL: &[u8] = &[0];

fn strings_sizes(guest: &mut Guest<'_>, list: &[String], count: u32, size: u32) -> Answer {
    let bytes: usize = list.iter().map(|text| text.len() + 1).sum();
    guest.write_u32(count, list.len() as u32)?;
    guest.write_u32(size, u32::try_from(bytes).map_err(|_| Errno::OVERFLOW)?)?;
    Ok(())
}

fn strings(guest: &mut Guest<'_>, list: &[String], table: u32, buf: u32) -> Answer {
    let (mut slot, mut at) = (table, buf);
    for text in list {
        guest.write_u32(slot, at)?;
        guest.write(at, text.as_bytes())?;
        let end = at.checked_add(text.len() as u32).ok_or(Errno::FAULT)?;
        guest.write(end, NUL)?;
        at = end.checked_add(1).ok_or(Errno::FAULT)?;
        slot = slot.checked_add(4).ok_or(Errno::FAULT)?;
    }
    Ok(())
}

pub(super) fn args_get(guest: &mut Guest<'_>, argv: u32, buf: u32) -> Answer {
    let args = std::mem::take(&mut guest.wasi.args);
    let answer = strings(guest, &args, argv, buf);
    guest.wasi.args = args;
    answer
}

pub(super) fn args_sizes_get(guest: &mut Guest<'_>, count: u32, size: u32) -> Answer {
    let args = std::mem::take(&mut guest.wasi.args);
    let answer = strings_sizes(guest, &args, count, size);
    guest.wasi.args = args;
    answer
}

pub(super) fn environ_get(guest: &mut Guest<'_>, environ: u32, buf: u32) -> Answer {
    let env = std::mem::take(&mut guest.wasi.env);
    let answer = strings(guest, &env, environ, buf);
    guest.wasi.env = env;
    answer
}

pub(super) fn environ_sizes_get(guest: &mut Guest<'_>, count: u32, size: u32) -> Answer {
    let env = std::mem::take(&mut guest.wasi.env);
    let answer = strings_sizes(guest, &env, count, size);
    guest.wasi.env = env;
    answer
}

const CLOCK_REALTIME: u32 = 0;
const CLOCK_LAST: u32 = 3;

pub(super) fn clock_res_get(guest: &mut Guest<'_>, id: u32, out: u32) -> Answer {
    if id > CLOCK_LAST {
        return Err(Errno::INVAL.into());
    }
    Ok(guest.write_u64(out, super::Clock::STEP_NS)?)
}

/// The wall clock counts from the task's start time, all others from zero.
pub(super) fn clock_time_get(guest: &mut Guest<'_>, id: u32, _precision: u64, out: u32) -> Answer {
    if id > CLOCK_LAST {
        return Err(Errno::INVAL.into());
    }
    let passed = guest.wasi.clock.read();
    let base = if id == CLOCK_REALTIME { guest.wasi.clock.start_ns } else { 0 };
    Ok(guest.write_u64(out, base.saturating_add(passed))?)
}

pub(super) fn fd_advise(guest: &mut Guest<'_>, fd: u32, _offset: u64, _len: u64, _advice: u32) -> Answer {
    file_of(guest, fd)
}

pub(super) fn fd_allocate(guest: &mut Guest<'_>, fd: u32, offset: u64, len: u64) -> Answer {
    let fs = &mut guest.wasi.fs;
    let node = fs.writable(fd)?;
    let end = offset.checked_add(len).ok_or(Errno::INVAL)?;
    let size = fs.size(node);
    if end > size {
        fs.set_size(node, end)?;
        guest.charge(end - size);
    }
    Ok(())
}

pub(super) fn fd_close(guest: &mut Guest<'_>, fd: u32) -> Answer {
    Ok(guest.wasi.fs.close(fd)?)
}

pub(super) fn fd_datasync(guest: &mut Guest<'_>, fd: u32) -> Answer {
    guest.wasi.fs.fd(fd)?;
    Ok(())
}

pub(super) fn fd_fdstat_get(guest: &mut Guest<'_>, fd: u32, out: u32) -> Answer {
    let kind = guest.wasi.fs.stat_fd(fd)?.kind;
    let (flags, rights) = match guest.wasi.fs.fd(fd)? {
        Fd::File { append, .. } => (u16::from(*append), RIGHTS_ALL),
        Fd::Dir { .. } => (0, RIGHTS_ALL),
        _ => (0, RIGHTS_STREAM),
    };
    let mut stat = [0u8; 24];
    stat[0] = kind as u8;
    stat[2..4].copy_from_slice(&flags.to_le_bytes());
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    stat[16..24].copy_from_slice(&rights.to_le_bytes());
    Ok(guest.write(out, &stat)?)
}

pub(super) fn fd_fdstat_set_flags(guest: &mut Guest<'_>, fd: u32, flags: u32) -> Answer {
    if let Fd::File { append, .. } = guest.wasi.fs.fd_mut(fd)? {
        *append = flags & FDFLAG_APPEND != 0;
    }
    Ok(())
}

pub(super) fn fd_fdstat_set_rights(guest: &mut Guest<'_>, fd: u32, _base: u64, _inheriting: u64) -> Answer {
    guest.wasi.fs.fd(fd)?;
    Ok(())
}

pub(super) fn fd_filestat_get(guest: &mut Guest<'_>, fd: u32, out: u32) -> Answer {
    let stat = guest.wasi.fs.stat_fd(fd)?;
    write_stat(guest, &stat, out)
}

pub(super) fn fd_filestat_set_size(guest: &mut Guest<'_>, fd: u32, size: u64) -> Answer {
    let fs = &mut guest.wasi.fs;
    let node = fs.writable(fd)?;
    let grown = size.saturating_sub(fs.size(node));
    fs.set_size(node, size)?;
    guest.charge(grown);
    Ok(())
}

/// Every file is as old as the task: setting times is allowed and does nothing.
pub(super) fn fd_filestat_set_times(guest: &mut Guest<'_>, fd: u32, _atim: u64, _mtim: u64, _set: u32) -> Answer {
    file_of(guest, fd)
}

pub(super) fn fd_pread(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, offset: u64, out: u32) -> Answer {
    read_all(guest, fd, iovs, count, Some(offset), out)
}

/// The only preopened folder.
const PREOPEN_FD: u32 = 3;
const PREOPEN_NAME: &[u8] = b"/";

pub(super) fn fd_prestat_get(guest: &mut Guest<'_>, fd: u32, out: u32) -> Answer {
    preopened(guest, fd)?;
    guest.write_u32(out, 0)?;
    Ok(guest.write_u32(out.checked_add(4).ok_or(Errno::FAULT)?, PREOPEN_NAME.len() as u32)?)
}

pub(super) fn fd_prestat_dir_name(guest: &mut Guest<'_>, fd: u32, path: u32, len: u32) -> Answer {
    preopened(guest, fd)?;
    if (len as usize) < PREOPEN_NAME.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(guest.write(path, PREOPEN_NAME)?)
}

fn preopened(guest: &Guest<'_>, fd: u32) -> Result<(), Errno> {
    guest.wasi.fs.fd(fd)?;
    if fd == PREOPEN_FD { Ok(()) } else { Err(Errno::BADF) }
}

pub(super) fn fd_pwrite(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, offset: u64, out: u32) -> Answer {
    write_all(guest, fd, iovs, count, Some(offset), out)
}

pub(super) fn fd_read(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, out: u32) -> Answer {
    read_all(guest, fd, iovs, count, None, out)
}

pub(super) fn fd_readdir(guest: &mut Guest<'_>, fd: u32, buf: u32, len: u32, cookie: u64, out: u32) -> Answer {
    let from = usize::try_from(cookie).map_err(|_| Errno::INVAL)?;
    let mut bytes = Vec::new();
    for (listed, next) in guest.wasi.fs.list(fd, from)?.iter().zip(cookie.saturating_add(1)..) {
        if bytes.len() >= len as usize {
            break;
        }
        bytes.extend_from_slice(&next.to_le_bytes());
        bytes.extend_from_slice(&listed.inode.to_le_bytes());
        bytes.extend_from_slice(&(listed.name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(listed.kind as u32).to_le_bytes());
        bytes.extend_from_slice(listed.name.as_bytes());
    }
    // The last entry may be cut: a full buffer tells the guest to come again from that cookie.
    bytes.truncate(len as usize);
    guest.write(buf, &bytes)?;
    Ok(guest.write_u32(out, bytes.len() as u32)?)
}

pub(super) fn fd_renumber(guest: &mut Guest<'_>, from: u32, to: u32) -> Answer {
    Ok(guest.wasi.fs.renumber(from, to)?)
}

pub(super) fn fd_seek(guest: &mut Guest<'_>, fd: u32, offset: i64, whence: u32, out: u32) -> Answer {
    let at = guest.wasi.fs.seek(fd, offset, whence)?;
    Ok(guest.write_u64(out, at)?)
}

pub(super) fn fd_sync(guest: &mut Guest<'_>, fd: u32) -> Answer {
    fd_datasync(guest, fd)
}

pub(super) fn fd_tell(guest: &mut Guest<'_>, fd: u32, out: u32) -> Answer {
    const WHENCE_CURRENT: u32 = 1;
    fd_seek(guest, fd, 0, WHENCE_CURRENT, out)
}

pub(super) fn fd_write(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, out: u32) -> Answer {
    write_all(guest, fd, iovs, count, None, out)
}

pub(super) fn path_create_directory(guest: &mut Guest<'_>, fd: u32, path: u32, len: u32) -> Answer {
    let path = guest.path(path, len)?;
    Ok(guest.wasi.fs.create_dir(fd, &path)?)
}

pub(super) fn path_filestat_get(guest: &mut Guest<'_>, fd: u32, _flags: u32, path: u32, len: u32, out: u32) -> Answer {
    let path = guest.path(path, len)?;
    let stat = guest.wasi.fs.stat(guest.wasi.fs.at(fd, &path)?);
    write_stat(guest, &stat, out)
}

#[expect(clippy::too_many_arguments, reason = "the specification's")]
pub(super) fn path_filestat_set_times(
    guest: &mut Guest<'_>,
    fd: u32,
    _flags: u32,
    path: u32,
    len: u32,
    _atim: u64,
    _mtim: u64,
    _set: u32,
) -> Answer {
    let path = guest.path(path, len)?;
    guest.wasi.fs.at(fd, &path)?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the specification's")]
pub(super) fn path_link(
    _guest: &mut Guest<'_>,
    _old_fd: u32,
    _flags: u32,
    _old: u32,
    _old_len: u32,
    _new_fd: u32,
    _new: u32,
    _new_len: u32,
) -> Answer {
    Err(Errno::NOTSUP.into())
}

#[expect(clippy::too_many_arguments, reason = "the specification's")]
pub(super) fn path_open(
    guest: &mut Guest<'_>,
    fd: u32,
    _dirflags: u32,
    path: u32,
    len: u32,
    oflags: u32,
    base: u64,
    _inheriting: u64,
    fdflags: u32,
    out: u32,
) -> Answer {
    let path = guest.path(path, len)?;
    let opened = guest.wasi.fs.open(fd, &path, oflags, base, fdflags & FDFLAG_APPEND != 0)?;
    Ok(guest.write_u32(out, opened)?)
}

/// There are no links, so nothing that exists is one.
pub(super) fn path_readlink(
    guest: &mut Guest<'_>,
    fd: u32,
    path: u32,
    len: u32,
    _buf: u32,
    _buf_len: u32,
    _out: u32,
) -> Answer {
    let path = guest.path(path, len)?;
    guest.wasi.fs.at(fd, &path)?;
    Err(Errno::INVAL.into())
}

pub(super) fn path_remove_directory(guest: &mut Guest<'_>, fd: u32, path: u32, len: u32) -> Answer {
    let path = guest.path(path, len)?;
    Ok(guest.wasi.fs.remove_dir(fd, &path)?)
}

pub(super) fn path_rename(
    guest: &mut Guest<'_>,
    old_fd: u32,
    old: u32,
    old_len: u32,
    new_fd: u32,
    new: u32,
    new_len: u32,
) -> Answer {
    let (old, new) = (guest.path(old, old_len)?, guest.path(new, new_len)?);
    Ok(guest.wasi.fs.rename(old_fd, &old, new_fd, &new)?)
}

pub(super) fn path_symlink(
    _guest: &mut Guest<'_>,
    _old: u32,
    _old_len: u32,
    _fd: u32,
    _new: u32,
    _new_len: u32,
) -> Answer {
    Err(Errno::NOTSUP.into())
}

pub(super) fn path_unlink_file(guest: &mut Guest<'_>, fd: u32, path: u32, len: u32) -> Answer {
    let path = guest.path(path, len)?;
    Ok(guest.wasi.fs.unlink(fd, &path)?)
}

/// What a guest waits for, as it lies in memory.
struct Subscription {
    userdata: [u8; 8],
    tag: u8,
    /// When a clock's event is due, as time passed since the start.
    due_ns: u64,
}

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
const TAG_CLOCK: u8 = 0;
const TAG_LAST: u8 = 2;

/// Waiting costs no time: descriptors are always ready, and with only clocks to wait for, the earliest is due at once,
/// by moving the clock there.
pub(super) fn poll_oneoff(guest: &mut Guest<'_>, subs: u32, events: u32, count: u32, out: u32) -> Answer {
    if count == 0 {
        return Err(Errno::INVAL.into());
    }
    let mut waits = Vec::new();
    for place in 0..count {
        let at = place.checked_mul(SUBSCRIPTION_BYTES).and_then(|off| subs.checked_add(off)).ok_or(Errno::FAULT)?;
        waits.push(subscription(guest, at)?);
    }
    let is_clock = |wait: &Subscription| wait.tag == TAG_CLOCK;
    let now_ns = guest.wasi.clock.read();
    let until_ns = match waits.iter().all(is_clock) {
        true => waits.iter().map(|wait| wait.due_ns).min().unwrap_or(now_ns).max(now_ns),
        false => now_ns,
    };
    guest.wasi.clock.advance(until_ns - now_ns);
    let mut written = 0u32;
    for wait in waits.iter().filter(|wait| !is_clock(wait) || wait.due_ns <= until_ns) {
        let at = (written * EVENT_BYTES).checked_add(events).ok_or(Errno::FAULT)?;
        let mut event = [0u8; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&wait.userdata);
        event[10] = wait.tag;
        event[16] = u8::from(!is_clock(wait));
        guest.write(at, &event)?;
        written += 1;
    }
    Ok(guest.write_u32(out, written)?)
}

fn subscription(guest: &mut Guest<'_>, at: u32) -> Result<Subscription, Fault> {
    const FLAG_ABSOLUTE: u8 = 1;
    let raw: [u8; SUBSCRIPTION_BYTES as usize] = guest.read_array(at)?;
    let word = |from: usize| u64::from_le_bytes(raw[from..from + 8].try_into().expect("eight bytes"));
    let (tag, id, timeout_ns) = (raw[8], raw[16], word(24));
    if tag > TAG_LAST || (tag == TAG_CLOCK && u32::from(id) > CLOCK_LAST) {
        return Err(Errno::INVAL.into());
    }
    let clock = &guest.wasi.clock;
    let due_ns = match raw[40] & FLAG_ABSOLUTE != 0 {
        true if u32::from(id) == CLOCK_REALTIME => timeout_ns.saturating_sub(clock.start_ns),
        true => timeout_ns,
        false => clock.passed_ns.saturating_add(timeout_ns),
    };
    Ok(Subscription { userdata: raw[..8].try_into().expect("eight bytes"), tag, due_ns })
}

pub(super) fn proc_raise(_guest: &mut Guest<'_>, _signal: u32) -> Answer {
    Err(Errno::NOSYS.into())
}

pub(super) fn random_get(guest: &mut Guest<'_>, buf: u32, len: u32) -> Answer {
    let (bytes, wasi) = guest.write_beside(buf, len)?;
    wasi.random.fill(bytes);
    Ok(())
}

pub(super) fn sched_yield(_guest: &mut Guest<'_>) -> Answer {
    Ok(())
}

pub(super) fn sock_accept(_guest: &mut Guest<'_>, _fd: u32, _flags: u32, _out: u32) -> Answer {
    Err(Errno::NOSYS.into())
}

pub(super) fn sock_recv(
    _guest: &mut Guest<'_>,
    _fd: u32,
    _iovs: u32,
    _count: u32,
    _flags: u32,
    _out: u32,
    _out_flags: u32,
) -> Answer {
    Err(Errno::NOSYS.into())
}

pub(super) fn sock_send(_guest: &mut Guest<'_>, _fd: u32, _iovs: u32, _count: u32, _flags: u32, _out: u32) -> Answer {
    Err(Errno::NOSYS.into())
}

pub(super) fn sock_shutdown(_guest: &mut Guest<'_>, _fd: u32, _how: u32) -> Answer {
    Err(Errno::NOSYS.into())
}

fn file_of(guest: &Guest<'_>, fd: u32) -> Answer {
    match guest.wasi.fs.fd(fd)? {
        Fd::File { .. } | Fd::Dir { .. } => Ok(()),
        _ => Err(Errno::SPIPE.into()),
    }
}

fn write_stat(guest: &mut Guest<'_>, stat: &Stat, out: u32) -> Answer {
    let mut raw = [0u8; 64];
    raw[8..16].copy_from_slice(&stat.inode.to_le_bytes());
    raw[16] = stat.kind as u8;
    raw[24..32].copy_from_slice(&1u64.to_le_bytes());
    raw[32..40].copy_from_slice(&stat.size.to_le_bytes());
    if stat.kind != FileType::Unknown {
        let time = guest.wasi.clock.start_ns.to_le_bytes();
        for at in [40, 48, 56] {
            raw[at..at + 8].copy_from_slice(&time);
        }
    }
    Ok(guest.write(out, &raw)?)
}

fn read_all(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, offset: Option<u64>, out: u32) -> Answer {
    guest.wasi.fs.fd(fd)?;
    let mut total = 0u32;
    for (at, len) in guest.iovs(iovs, count)? {
        let from = match offset {
            Some(offset) => Some(offset.checked_add(total.into()).ok_or(Errno::INVAL)?),
            None => None,
        };
        let (bytes, wasi) = guest.write_beside(at, len)?;
        let read = wasi.fs.read(fd, bytes, from)?;
        total += read as u32;
        if read < len as usize {
            break;
        }
    }
    Ok(guest.write_u32(out, total)?)
}

fn write_all(guest: &mut Guest<'_>, fd: u32, iovs: u32, count: u32, offset: Option<u64>, out: u32) -> Answer {
    guest.wasi.fs.fd(fd)?;
    let mut total = 0u32;
    for (at, len) in guest.iovs(iovs, count)? {
        let to = match offset {
            Some(offset) => Some(offset.checked_add(total.into()).ok_or(Errno::INVAL)?),
            None => None,
        };
        let (bytes, wasi) = guest.read_beside(at, len)?;
        wasi.fs.write(fd, bytes, to)?;
        total += len;
    }
    Ok(guest.write_u32(out, total)?)
}
