//! A call's view of the program: its memory, bounds-checked, and its world.

use super::Wasi;
use super::abi::{Errno, Fault};

/// Most buffers in one read or write, as on Linux.
const IOVS_MAX: u32 = 1024;

/// The program as a call sees it.
pub(crate) struct Guest<'a> {
    bytes: &'a mut [u8],
    pub(crate) wasi: &'a mut Wasi,
    moved: u64,
}

impl<'a> Guest<'a> {
    pub(crate) fn new(bytes: &'a mut [u8], wasi: &'a mut Wasi) -> Guest<'a> {
        Guest { bytes, wasi, moved: 0 }
    }

    /// Bytes moved by this call so far: what it costs.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Adds work that is not a copy from or to the memory.
    pub(crate) fn charge(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes);
    }

    pub(crate) fn read(&mut self, at: u32, len: u32) -> Result<&[u8], Errno> {
        self.charge(len.into());
        let range = range(at, len);
        self.bytes.get(range).ok_or(Errno::FAULT)
    }

    /// Bytes of the memory together with the world, to write from one to the other.
    pub(crate) fn read_beside(&mut self, at: u32, len: u32) -> Result<(&[u8], &mut Wasi), Errno> {
        self.charge(len.into());
        let bytes = self.bytes.get(range(at, len)).ok_or(Errno::FAULT)?;
        Ok((bytes, self.wasi))
    }

    /// Like [`Guest::read_beside`], to write into the memory.
    pub(crate) fn write_beside(&mut self, at: u32, len: u32) -> Result<(&mut [u8], &mut Wasi), Errno> {
        self.charge(len.into());
        let bytes = self.bytes.get_mut(range(at, len)).ok_or(Errno::FAULT)?;
        Ok((bytes, self.wasi))
    }

    pub(crate) fn write(&mut self, at: u32, data: &[u8]) -> Result<(), Errno> {
        self.charge(data.len() as u64);
        let start = at as usize;
        let place = self.bytes.get_mut(start..start.saturating_add(data.len())).ok_or(Errno::FAULT)?;
        place.copy_from_slice(data);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Result<(), Errno> {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Result<(), Errno> {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn read_array<const N: usize>(&mut self, at: u32) -> Result<[u8; N], Errno> {
        let bytes = self.read(at, N as u32)?;
        bytes.try_into().map_err(|_| Errno::FAULT)
    }

    /// A list of buffers: `(address, length)` each.
    pub(crate) fn iovs(&mut self, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Errno> {
        if count > IOVS_MAX {
            return Err(Errno::INVAL);
        }
        let raw = self.read(at, count * 8)?;
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let list: Vec<(u32, u32)> = raw.chunks_exact(8).map(|iov| (word(iov), word(&iov[4..]))).collect();
        let total: u64 = list.iter().map(|(_, len)| u64::from(*len)).sum();
        if total > u64::from(u32::MAX) { Err(Errno::INVAL) } else { Ok(list) }
    }

    /// A path: UTF-8 without NUL.
    pub(crate) fn path(&mut self, at: u32, len: u32) -> Result<String, Fault> {
        if len > super::fs::PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let bytes = self.read(at, len)?;
        let path = std::str::from_utf8(bytes).map_err(|_| Errno::ILSEQ)?;
        if path.contains('\0') { Err(Errno::INVAL.into()) } else { Ok(path.to_owned()) }
    }
}

fn range(at: u32, len: u32) -> std::ops::Range<usize> {
    let start = at as usize;
    start..start.saturating_add(len as usize)
}
