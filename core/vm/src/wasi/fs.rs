//! Files in memory: the task's inputs, shared and read-only, and what the program writes.
//!
//! A path inside is normalised: no leading or doubled slash, no `.` or `..`; the root is the empty path. There are no links,
//! so a path names one thing and resolving it cannot leave the tree. A `..` that would climb above the
//! folder it starts from is refused even where the tree goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::abi::{self, Errno, Fault, FileType, Stop};

/// Longest path.
pub(crate) const PATH_BYTES_MAX: u32 = 4096;
const NAME_BYTES_MAX: usize = 255;
/// Most files and folders that a program may have made at a time, and open files.
const NAMES_MAX: usize = 10_000;
const FDS_MAX: usize = 1024;

/// What is left here at the end is part of the result.
const OUT: &str = "out";
/// What is left here is forgotten.
const TMP: &str = "tmp";

/// A list of input files that cannot be one tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be an input file: paths are absolute and normalised, name one file each, and /out and /tmp are the program's own"
)]
pub struct BadPath(pub String);

/// The input files of a job, shared by all its tasks.
#[derive(Debug, Default)]
pub struct Files {
    /// Sorted by path, implied folders included, the root first.
    entries: Vec<(String, Entry)>,
}

#[derive(Debug)]
enum Entry {
    File(Arc<Vec<u8>>),
    /// Places of the children in `entries`, sorted by name.
    Dir(Vec<usize>),
}

impl Files {
    /// The tree of these files; paths are absolute.
    pub fn new(files: impl IntoIterator<Item = (String, Arc<Vec<u8>>)>) -> Result<Files, BadPath> {
        let mut tree: BTreeMap<String, Option<Arc<Vec<u8>>>> = BTreeMap::new();
        for (path, content) in files {
            let Some(inside) = normalised(&path) else { return Err(BadPath(path)) };
            for (end, _) in inside.match_indices('/') {
                if tree.entry(inside[..end].to_owned()).or_insert(None).is_some() {
                    return Err(BadPath(path));
                }
            }
            if tree.insert(inside.to_owned(), Some(content)).is_some() {
                return Err(BadPath(path));
            }
        }
        Ok(Files::of(tree))
    }

    fn of(mut tree: BTreeMap<String, Option<Arc<Vec<u8>>>>) -> Files {
        if tree.is_empty() {
            return Files::default();
        }
        tree.insert(String::new(), None);
        let mut entries: Vec<(String, Entry)> = tree
            .into_iter()
            .map(|(path, content)| (path, content.map_or_else(|| Entry::Dir(Vec::new()), Entry::File)))
            .collect();
        for place in 1..entries.len() {
            let parent = entries[place].0.rfind('/').map_or("", |slash| &entries[place].0[..slash]);
            let parent = entries.binary_search_by(|(path, _)| path.as_str().cmp(parent)).expect("folders are implied");
            if let Entry::Dir(children) = &mut entries[parent].1 {
                children.push(place);
            }
        }
        Files { entries }
    }

    fn find(&self, path: &str) -> Option<usize> {
        self.entries.binary_search_by(|(known, _)| known.as_str().cmp(path)).ok()
    }
}

/// The path without its leading slash, if it may be an input's.
fn normalised(path: &str) -> Option<&str> {
    let inside = path.strip_prefix('/')?;
    let good = |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= NAME_BYTES_MAX;
    let first = inside.split('/').next()?;
    let ok = inside.split('/').all(good) && !inside.contains('\0') && path.len() <= PATH_BYTES_MAX as usize;
    (ok && first != OUT && first != TMP).then_some(inside)
}

/// A file or folder: an input's place, or the number of something the program made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// The root, which is always there.
    Root,
    Input(usize),
    Own(usize),
}

struct Own {
    /// `None`: a folder.
    data: Option<Vec<u8>>,
    is_named: bool,
    opens: u32,
}

/// What a descriptor stands for.
pub(crate) enum Fd {
    Stdin { pos: usize },
    Stdout,
    Stderr,
    File { node: Node, pos: u64, may_read: bool, may_write: bool, append: bool },
    Dir { path: String, node: Node, listing: Vec<Listed> },
}

/// One name in a folder.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
}

/// What `stat` tells, apart from times.
pub(crate) struct Stat {
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    pub(crate) size: u64,
}

/// What the program has written.
pub(crate) struct Written {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// The files and descriptors of one run.
pub(crate) struct Fs {
    inputs: Arc<Files>,
    stdin: Vec<u8>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    own: Vec<Own>,
    names: BTreeMap<String, usize>,
    fds: Vec<Option<Fd>>,
    /// Bytes held: both streams and every file that the program made.
    held: u64,
    held_max: u64,
}

impl Fs {
    pub(crate) fn new(inputs: Arc<Files>, stdin: Vec<u8>, held_max: u64) -> Fs {
        let folder = || Own { data: None, is_named: true, opens: 0 };
        let root = Fd::Dir { path: String::new(), node: Node::Root, listing: Vec::new() };
        Fs {
            inputs,
            stdin,
            stdout: Vec::new(),
            stderr: Vec::new(),
            own: vec![folder(), folder()],
            names: BTreeMap::from([(OUT.to_owned(), 0), (TMP.to_owned(), 1)]),
            fds: vec![Some(Fd::Stdin { pos: 0 }), Some(Fd::Stdout), Some(Fd::Stderr), Some(root)],
            held: 0,
            held_max,
        }
    }

    /// The end: what the result is made of.
    pub(crate) fn finish(mut self) -> Written {
        let prefix = format!("{OUT}/");
        let mut files = Vec::new();
        for (path, place) in self.names.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            if let Some(data) = self.own[*place].data.take() {
                files.push((format!("/{path}"), data));
            }
        }
        Written { stdout: self.stdout, stderr: self.stderr, files }
    }

    // -- names --------------------------------------------------------------------------------------------

    fn find(&self, path: &str) -> Option<Node> {
        if path.is_empty() {
            return Some(Node::Root);
        }
        let own = self.names.get(path).map(|place| Node::Own(*place));
        own.or_else(|| self.inputs.find(path).map(Node::Input))
    }

    fn lookup(&self, path: &str) -> Result<Node, Errno> {
        self.find(path).ok_or(Errno::NOENT)
    }

    fn is_dir(&self, node: Node) -> bool {
        match node {
            Node::Root => true,
            Node::Input(place) => matches!(self.inputs.entries[place].1, Entry::Dir(_)),
            Node::Own(place) => self.own[place].data.is_none(),
        }
    }

    /// The normalised path that `path` means from folder `base`, and whether it must be a folder.
    fn resolve(&self, base: &str, path: &str) -> Result<(String, bool), Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.starts_with('/') {
            return Err(Errno::NOTCAPABLE);
        }
        let mut at = base.to_owned();
        let mut depth = 0usize;
        for part in path.split('/') {
            if part.len() > NAME_BYTES_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            // Whatever was named so far is walked through, so it must be a folder that exists.
            if !self.is_dir(self.lookup(&at)?) {
                return Err(Errno::NOTDIR);
            }
            match part {
                "" | "." => {}
                ".." => {
                    depth = depth.checked_sub(1).ok_or(Errno::NOTCAPABLE)?;
                    at.truncate(at.rfind('/').unwrap_or(0));
                }
                name => {
                    depth += 1;
                    if !at.is_empty() {
                        at.push('/');
                    }
                    at.push_str(name);
                }
            }
        }
        let must_be_dir = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
        Ok((at, must_be_dir))
    }

    /// Where `path` from descriptor `fd` leads.
    pub(crate) fn place(&self, fd: u32, path: &str) -> Result<(String, bool), Errno> {
        match self.fd(fd)? {
            Fd::Dir { path: base, .. } => self.resolve(base, path),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// The node at a path that exists.
    pub(crate) fn at(&self, fd: u32, path: &str) -> Result<Node, Errno> {
        let (path, must_be_dir) = self.place(fd, path)?;
        let node = self.lookup(&path)?;
        if must_be_dir && !self.is_dir(node) { Err(Errno::NOTDIR) } else { Ok(node) }
    }

    /// Adds a name in a folder of the program's own.
    fn add(&mut self, path: String, data: Option<Vec<u8>>) -> Result<usize, Errno> {
        check_writable(&path)?;
        if self.names.len() >= NAMES_MAX {
            return Err(Errno::MFILE);
        }
        let place = self.own.len();
        self.own.push(Own { data, is_named: true, opens: 0 });
        self.names.insert(path, place);
        Ok(place)
    }

    /// Takes a name away; what nobody has open any more is freed.
    fn remove(&mut self, path: &str) {
        if let Some(place) = self.names.remove(path) {
            self.own[place].is_named = false;
            self.free_if_unused(place);
        }
    }

    fn free_if_unused(&mut self, place: usize) {
        let own = &mut self.own[place];
        if !own.is_named
            && own.opens == 0
            && let Some(data) = &mut own.data
        {
            self.held -= data.len() as u64;
            *data = Vec::new();
        }
    }

    pub(crate) fn create_dir(&mut self, fd: u32, path: &str) -> Result<(), Errno> {
        let (path, _) = self.place(fd, path)?;
        if self.find(&path).is_some() {
            return Err(Errno::EXIST);
        }
        self.add(path, None).map(|_| ())
    }

    pub(crate) fn remove_dir(&mut self, fd: u32, path: &str) -> Result<(), Errno> {
        let (path, _) = self.place(fd, path)?;
        if !self.is_dir(self.lookup(&path)?) {
            return Err(Errno::NOTDIR);
        }
        check_writable(&path)?;
        if self.has_children(&path) {
            return Err(Errno::NOTEMPTY);
        }
        self.remove(&path);
        Ok(())
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.names.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    pub(crate) fn unlink(&mut self, fd: u32, path: &str) -> Result<(), Errno> {
        let (path, must_be_dir) = self.place(fd, path)?;
        let node = self.lookup(&path)?;
        if self.is_dir(node) {
            return Err(Errno::ISDIR);
        }
        if must_be_dir {
            return Err(Errno::NOTDIR);
        }
        check_writable(&path)?;
        self.remove(&path);
        Ok(())
    }

    pub(crate) fn rename(&mut self, old_fd: u32, old: &str, new_fd: u32, new: &str) -> Result<(), Errno> {
        let (old, old_dir) = self.place(old_fd, old)?;
        let (new, new_dir) = self.place(new_fd, new)?;
        let node = self.lookup(&old)?;
        check_writable(&old)?;
        check_writable(&new)?;
        if old == new {
            return Ok(());
        }
        let is_dir = self.is_dir(node);
        if !is_dir && (old_dir || new_dir) {
            return Err(Errno::NOTDIR);
        }
        if new.starts_with(&format!("{old}/")) {
            return Err(Errno::INVAL);
        }
        if let Some(target) = self.find(&new) {
            match (is_dir, self.is_dir(target)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if self.has_children(&new) => return Err(Errno::NOTEMPTY),
                _ => self.remove(&new),
            }
        }
        self.move_names(&old, &new);
        Ok(())
    }

    fn move_names(&mut self, old: &str, new: &str) {
        let prefix = format!("{old}/");
        let inner = self.names.range(prefix.clone()..).map(|(path, _)| path.clone());
        let mut moved: Vec<String> = inner.take_while(|path| path.starts_with(&prefix)).collect();
        moved.push(old.to_owned());
        for path in moved {
            if let Some(place) = self.names.remove(&path) {
                self.names.insert(format!("{new}{}", &path[old.len()..]), place);
            }
        }
    }

    // -- descriptors --------------------------------------------------------------------------------------

    pub(crate) fn fd(&self, fd: u32) -> Result<&Fd, Errno> {
        self.fds.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    pub(crate) fn fd_mut(&mut self, fd: u32) -> Result<&mut Fd, Errno> {
        self.fds.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    fn give_fd(&mut self, fd: Fd) -> Result<u32, Errno> {
        if let Fd::File { node: Node::Own(place), .. } = fd {
            self.own[place].opens += 1;
        }
        if let Some(free) = self.fds.iter().position(Option::is_none) {
            self.fds[free] = Some(fd);
            return Ok(free as u32);
        }
        self.fds.push(Some(fd));
        Ok(self.fds.len() as u32 - 1)
    }

    pub(crate) fn open(&mut self, fd: u32, path: &str, oflags: u32, rights: u64, append: bool) -> Result<u32, Fault> {
        let (path, must_be_dir) = self.place(fd, path)?;
        if self.fds.len() >= FDS_MAX && self.fds.iter().all(Option::is_some) {
            return Err(Errno::MFILE.into());
        }
        let has = |flag: u32| oflags & flag != 0;
        let (may_read, may_write) = (rights & abi::RIGHT_FD_READ != 0, rights & abi::RIGHT_FD_WRITE != 0);
        let node = match self.find(&path) {
            Some(_) if has(abi::OFLAG_CREAT) && has(abi::OFLAG_EXCL) => return Err(Errno::EXIST.into()),
            Some(node) => node,
            None if has(abi::OFLAG_CREAT) && !has(abi::OFLAG_DIRECTORY) && !must_be_dir => {
                Node::Own(self.add(path.clone(), Some(Vec::new()))?)
            }
            None => return Err(Errno::NOENT.into()),
        };
        if self.is_dir(node) {
            // Programs ask for a folder with every right they might want; only these say "as a file".
            if has(abi::OFLAG_CREAT) || has(abi::OFLAG_TRUNC) {
                return Err(Errno::ISDIR.into());
            }
            return Ok(self.give_fd(Fd::Dir { path, node, listing: Vec::new() })?);
        }
        if has(abi::OFLAG_DIRECTORY) || must_be_dir {
            return Err(Errno::NOTDIR.into());
        }
        if may_write || has(abi::OFLAG_TRUNC) {
            check_writable(&path)?;
        }
        if has(abi::OFLAG_TRUNC) {
            self.set_size(node, 0)?;
        }
        Ok(self.give_fd(Fd::File { node, pos: 0, may_read, may_write, append })?)
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        self.fd(fd)?;
        let closed = self.fds[fd as usize].take();
        if let Some(Fd::File { node: Node::Own(place), .. }) = closed {
            self.own[place].opens -= 1;
            self.free_if_unused(place);
        }
        Ok(())
    }

    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.fd(from)?;
        self.fd(to)?;
        if from != to {
            self.close(to)?;
            self.fds[to as usize] = self.fds[from as usize].take();
        }
        Ok(())
    }

    // -- content ------------------------------------------------------------------------------------------

    fn data(&self, node: Node) -> &[u8] {
        match node {
            Node::Root => &[],
            Node::Input(place) => match &self.inputs.entries[place].1 {
                Entry::File(content) => content,
                Entry::Dir(_) => &[],
            },
            Node::Own(place) => self.own[place].data.as_deref().unwrap_or(&[]),
        }
    }

    /// Counts bytes that are about to be held.
    fn hold(&mut self, more: u64) -> Result<(), Stop> {
        let held = self.held.saturating_add(more);
        if held > self.held_max {
            return Err(Stop::OutputLimit);
        }
        self.held = held;
        Ok(())
    }

    /// Cuts or grows a file of the program's own.
    pub(crate) fn set_size(&mut self, node: Node, size: u64) -> Result<(), Fault> {
        let Node::Own(place) = node else { return Err(Errno::ROFS.into()) };
        let len = self.own[place].data.as_ref().ok_or(Errno::ISDIR)?.len() as u64;
        if size > len {
            self.hold(size - len)?;
        } else {
            self.held -= len - size;
        }
        let data = self.own[place].data.as_mut().ok_or(Errno::ISDIR)?;
        data.resize(usize::try_from(size).map_err(|_| Errno::INVAL)?, 0);
        Ok(())
    }

    fn write_at(&mut self, node: Node, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let Node::Own(place) = node else { return Err(Errno::ROFS.into()) };
        let end = at.checked_add(bytes.len() as u64).ok_or(Errno::INVAL)?;
        if !bytes.is_empty() && end > self.data(node).len() as u64 {
            self.set_size(node, end)?;
        }
        if let (Some(data), Ok(at)) = (self.own[place].data.as_mut(), usize::try_from(at))
            && let Some(room) = data.get_mut(at..at + bytes.len())
        {
            room.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// What is written to a stream stays, as far as it is allowed; more than that ends the program.
    fn write_stream(&mut self, is_err: bool, bytes: &[u8]) -> Result<(), Fault> {
        let room = usize::try_from(self.held_max - self.held).unwrap_or(usize::MAX);
        let fits = &bytes[..bytes.len().min(room)];
        let stream = if is_err { &mut self.stderr } else { &mut self.stdout };
        stream.extend_from_slice(fits);
        self.held += fits.len() as u64;
        if fits.len() < bytes.len() { Err(Stop::OutputLimit.into()) } else { Ok(()) }
    }

    /// Writes at the descriptor's place, or at `offset` without moving it.
    pub(crate) fn write(&mut self, fd: u32, bytes: &[u8], offset: Option<u64>) -> Result<(), Fault> {
        let (node, at, moves) = match self.fd(fd)? {
            Fd::Stdout | Fd::Stderr if offset.is_some() => return Err(Errno::SPIPE.into()),
            Fd::Stdout => return self.write_stream(false, bytes),
            Fd::Stderr => return self.write_stream(true, bytes),
            Fd::File { node, pos, may_write: true, append, .. } => match offset {
                Some(offset) => (*node, offset, false),
                None if *append => (*node, self.data(*node).len() as u64, true),
                None => (*node, *pos, true),
            },
            _ => return Err(Errno::BADF.into()),
        };
        self.write_at(node, at, bytes)?;
        if moves && let Fd::File { pos, .. } = self.fd_mut(fd)? {
            *pos = at + bytes.len() as u64;
        }
        Ok(())
    }

    /// Reads from the descriptor's place, or from `offset` without moving it. Returns how much.
    pub(crate) fn read(&mut self, fd: u32, into: &mut [u8], offset: Option<u64>) -> Result<usize, Errno> {
        let (source, at) = match self.fd(fd)? {
            Fd::Stdin { .. } if offset.is_some() => return Err(Errno::SPIPE),
            Fd::Stdin { pos } => (self.stdin.as_slice(), *pos as u64),
            Fd::File { node, pos, may_read: true, .. } => (self.data(*node), offset.unwrap_or(*pos)),
            Fd::Dir { .. } => return Err(Errno::ISDIR),
            _ => return Err(Errno::BADF),
        };
        let rest = usize::try_from(at).ok().and_then(|at| source.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        match self.fd_mut(fd)? {
            Fd::Stdin { pos } => *pos += count,
            Fd::File { pos, .. } if offset.is_none() => *pos += count as u64,
            _ => {}
        }
        Ok(count)
    }

    pub(crate) fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        let (node, pos) = match self.fd(fd)? {
            Fd::File { node, pos, .. } => (*node, *pos),
            Fd::Dir { .. } => return Err(Errno::BADF),
            _ => return Err(Errno::SPIPE),
        };
        let base = match whence {
            0 => 0,
            1 => pos,
            2 => self.data(node).len() as u64,
            _ => return Err(Errno::INVAL),
        };
        let to = base.checked_add_signed(offset).filter(|to| *to <= i64::MAX as u64).ok_or(Errno::INVAL)?;
        if let Fd::File { pos, .. } = self.fd_mut(fd)? {
            *pos = to;
        }
        Ok(to)
    }

    /// The node of an open file that may be written.
    pub(crate) fn writable(&self, fd: u32) -> Result<Node, Errno> {
        match self.fd(fd)? {
            Fd::File { node, may_write: true, .. } => Ok(*node),
            Fd::File { .. } => Err(Errno::INVAL),
            _ => Err(Errno::BADF),
        }
    }

    pub(crate) fn size(&self, node: Node) -> u64 {
        self.data(node).len() as u64
    }

    // -- looking ------------------------------------------------------------------------------------------

    pub(crate) fn stat_fd(&self, fd: u32) -> Result<Stat, Errno> {
        match self.fd(fd)? {
            Fd::File { node, .. } | Fd::Dir { node, .. } => Ok(self.stat(*node)),
            _ => Ok(Stat { inode: 0, kind: FileType::Unknown, size: 0 }),
        }
    }

    pub(crate) fn stat(&self, node: Node) -> Stat {
        let kind = if self.is_dir(node) { FileType::Dir } else { FileType::File };
        Stat { inode: self.inode(node), kind, size: self.size(node) }
    }

    /// The root is 1, then the inputs in order of their paths, then what the program made, in that order.
    fn inode(&self, node: Node) -> u64 {
        match node {
            Node::Root => 1,
            Node::Input(place) => 2 + place as u64,
            Node::Own(place) => 2 + self.inputs.entries.len() as u64 + place as u64,
        }
    }

    /// The names in an open folder from number `from` on. Starting over (`from` 0) looks anew; going on continues
    /// the old look, so that deleting while listing misses nothing.
    pub(crate) fn list(&mut self, fd: u32, from: usize) -> Result<&[Listed], Errno> {
        let Fd::Dir { path, node, .. } = self.fd(fd)? else { return Err(Errno::NOTDIR) };
        let fresh = (from == 0).then(|| self.look(path, *node));
        let Fd::Dir { listing, .. } = self.fd_mut(fd)? else { return Err(Errno::NOTDIR) };
        if let Some(fresh) = fresh {
            *listing = fresh;
        }
        Ok(listing.get(from..).unwrap_or(&[]))
    }

    fn look(&self, path: &str, node: Node) -> Vec<Listed> {
        let listed = |name: &str, node: Node| {
            let stat = self.stat(node);
            Listed { name: name.to_owned(), inode: stat.inode, kind: stat.kind }
        };
        let mut all = vec![listed(".", node), listed("..", node)];
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        for (name, place) in below {
            let name = &name[prefix.len()..];
            if !name.contains('/') {
                all.push(listed(name, Node::Own(*place)));
            }
        }
        let inputs = self.inputs.find(path).map(|place| &self.inputs.entries[place].1);
        if let Some(Entry::Dir(children)) = inputs {
            for child in children {
                all.push(listed(&self.inputs.entries[*child].0[prefix.len()..], Node::Input(*child)));
            }
        }
        all
    }
}

/// Only what lies inside `/out` and `/tmp` is the program's to change.
fn check_writable(path: &str) -> Result<(), Errno> {
    let inside = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    if inside(OUT) || inside(TMP) { Ok(()) } else { Err(Errno::ROFS) }
}
