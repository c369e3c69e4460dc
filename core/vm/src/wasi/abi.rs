//! The numbers of WASI preview 1, and how a call can end.

/// An error number of WASI preview 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(u16);

impl Errno {
    pub(crate) const BADF: Errno = Errno(8);
    pub(crate) const EXIST: Errno = Errno(20);
    pub(crate) const FAULT: Errno = Errno(21);
    pub(crate) const ILSEQ: Errno = Errno(25);
    pub(crate) const INVAL: Errno = Errno(28);
    pub(crate) const ISDIR: Errno = Errno(31);
    pub(crate) const MFILE: Errno = Errno(33);
    pub(crate) const NAMETOOLONG: Errno = Errno(37);
    pub(crate) const NOENT: Errno = Errno(44);
    pub(crate) const NOSYS: Errno = Errno(52);
    pub(crate) const NOTDIR: Errno = Errno(54);
    pub(crate) const NOTEMPTY: Errno = Errno(55);
    pub(crate) const NOTSUP: Errno = Errno(58);
    pub(crate) const OVERFLOW: Errno = Errno(61);
    pub(crate) const ROFS: Errno = Errno(69);
    pub(crate) const SPIPE: Errno = Errno(70);
    pub(crate) const NOTCAPABLE: Errno = Errno(76);

    pub(crate) fn number(self) -> u32 {
        self.0.into()
    }
}

/// The program ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// It called `proc_exit`.
    #[error("exit {0}")]
    Exit(u32),
    /// It wrote more than it may.
    #[error("output limit")]
    OutputLimit,
}

/// Why a call did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The guest is told.
    Errno(Errno),
    /// The guest is ended.
    Stop(Stop),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault::Errno(errno)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Fault {
        Fault::Stop(stop)
    }
}

/// File types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileType {
    /// Standard streams: programs then neither seek in them nor take them for a terminal.
    Unknown = 0,
    Dir = 3,
    File = 4,
}

pub(crate) const RIGHT_FD_READ: u64 = 1 << 1;
pub(crate) const RIGHT_FD_WRITE: u64 = 1 << 6;
/// All rights of preview 1.
pub(crate) const RIGHTS_ALL: u64 = (1 << 30) - 1;
/// What a stream can do: read, write, set flags, stat, poll.
pub(crate) const RIGHTS_STREAM: u64 = RIGHT_FD_READ | RIGHT_FD_WRITE | 1 << 3 | 1 << 21 | 1 << 27;

pub(crate) const FDFLAG_APPEND: u32 = 1;

pub(crate) const OFLAG_CREAT: u32 = 1;
pub(crate) const OFLAG_DIRECTORY: u32 = 2;
pub(crate) const OFLAG_EXCL: u32 = 4;
pub(crate) const OFLAG_TRUNC: u32 = 8;
