//! The file of a backup: a tar archive whose first member says what all others must be, and a seal behind it.
//!
//! ```text
//! file     = tar seal
//! tar      = manifest.json, then the files that it names, in its order; plain ustar, files only
//! manifest = format, when and by which build it was made, and of each file name, length and blake3
//! seal     = blake3 of all before it (32 bytes, where no tar looks)
//! ```
//!
//! What must stay true of [`read`], for an archive may be anybody's: no name leads out of the folder; links, holes and
//! whatever else tar knows are refused; a member is as long as the manifest says, so no more comes out than the archive is
//! long; and one flipped bit anywhere is an error, which names the file if it is in one.

use std::io::{self, Read, Write};

use glean_types::Hash;
use serde::{Deserialize, Serialize};

/// What this build writes and reads.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const SEAL_BYTES: u64 = 32;
/// A manifest of so many files with names of usual length,
const FILES_MAX: usize = 200_000;
/// and what that is in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// What fits a ustar header.
const NAME_BYTES_MAX: usize = 255;

/// Why an archive is not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else, or of a newer build.
    #[error("{0}")]
    Foreign(String),
    /// Not what was written.
    #[error("{0}")]
    Damaged(String),
    /// Beyond what an archive may hold.
    #[error("{0}")]
    TooMuch(String),
}

/// The first member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT`].
    pub format: u32,
    /// Unix milliseconds.
    pub made_ms: u64,
    /// Of the program that made it.
    pub version: String,
    /// In order of name.
    pub files: Vec<FileLine>,
}

/// A file in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLine {
    /// From the home, with `/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Of its content.
    pub blake3: Hash,
}

impl Manifest {
    /// Of these files.
    pub fn new(made_ms: u64, files: Vec<FileLine>) -> Result<Manifest, ArchiveError> {
        let manifest = Manifest { format: FORMAT, made_ms, version: env!("CARGO_PKG_VERSION").into(), files };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ArchiveError> {
        if self.format != FORMAT {
            return Err(ArchiveError::Foreign(format!("format {}, this build knows {FORMAT}", self.format)));
        }
        if self.files.len() > FILES_MAX {
            return Err(ArchiveError::TooMuch(format!("more than {FILES_MAX} files")));
        }
        if let Some(bad) = self.files.iter().find(|file| !is_below(&file.name)) {
            return Err(ArchiveError::TooMuch(format!("a file named {:?}", bad.name)));
        }
        match self.files.windows(2).all(|pair| pair[0].name < pair[1].name) {
            true => Ok(()),
            false => Err(ArchiveError::Damaged(format!("{MANIFEST}: a name twice, or out of order"))),
        }
    }

    /// Content altogether.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// Whether a name leads down, on every system, and nowhere else.
fn is_below(name: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let is_odd = |c: char| c.is_control() || matches!(c, '\\' | ':');
    name.len() <= NAME_BYTES_MAX && !name.contains(is_odd) && name.split('/').all(is_plain)
}

/// Everything that passes is hashed.
struct Hashed<S> {
    inner: S,
    hasher: blake3::Hasher,
}

impl<S> Hashed<S> {
    fn new(inner: S) -> Hashed<S> {
        Hashed { inner, hasher: blake3::Hasher::new() }
    }
}

impl<S: Read> Read for Hashed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl<S: Write> Write for Hashed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes a content, as it will stand in the manifest.
pub fn line(name: String, mut content: impl Read) -> io::Result<FileLine> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut content, &mut hasher)?;
    Ok(FileLine { name, bytes, blake3: Hash(*hasher.finalize().as_bytes()) })
}

/// Writes an archive. `content` opens a file by name; one that is no longer what its line says ends it.
pub fn write<R: Read>(
    manifest: &Manifest,
    target: impl Write,
    mut content: impl FnMut(&FileLine) -> io::Result<R>,
) -> Result<(), ArchiveError> {
    let mut tar = tar::Builder::new(Hashed::new(target));
    let json = serde_json::to_vec_pretty(manifest).expect("our types serialise");
    if json.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(ArchiveError::TooMuch(format!("a {MANIFEST} of {} bytes", json.len())));
    }
    tar.append(&header(MANIFEST, json.len() as u64)?, json.as_slice())?;
    for file in &manifest.files {
        let mut hashed = Hashed::new(content(file)?.take(file.bytes));
        tar.append(&header(&file.name, file.bytes)?, &mut hashed)?;
        if hashed.hasher.finalize() != file.blake3.0 {
            return Err(ArchiveError::Damaged(format!("{} has changed while it was read", file.name)));
        }
    }
    let Hashed { mut inner, hasher } = tar.into_inner()?;
    inner.write_all(hasher.finalize().as_bytes())?;
    Ok(inner.flush()?)
}

fn header(name: &str, bytes: u64) -> Result<tar::Header, ArchiveError> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(|e| ArchiveError::TooMuch(format!("{name}: {e}")))?;
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Reads an archive of that many bytes and hands each file's content to `place`, which must read it to its end. What was placed
/// is good only once this returns.
pub fn read(
    mut source: impl Read,
    length: u64,
    mut place: impl FnMut(&FileLine, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, ArchiveError> {
    let sealed = length.checked_sub(SEAL_BYTES).ok_or_else(|| ArchiveError::Foreign("it is too short".into()))?;
    let mut hashed = Hashed::new(source.by_ref().take(sealed));
    let manifest = read_tar(&mut hashed, &mut place)?;
    io::copy(&mut hashed, &mut io::sink())?;
    let found = hashed.hasher.finalize();
    let mut seal = [0; SEAL_BYTES as usize];
    source.read_exact(&mut seal).map_err(|_| ArchiveError::Damaged("its end is missing".into()))?;
    match found == seal {
        true => Ok(manifest),
        false => Err(ArchiveError::Damaged("what stands between its files, or its seal".into())),
    }
}

fn read_tar(
    source: &mut impl Read,
    place: &mut impl FnMut(&FileLine, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, ArchiveError> {
    let mut tar = tar::Archive::new(source);
    let mut members = tar.entries()?.raw(true);
    let foreign = |why: &str| ArchiveError::Foreign(why.into());
    let mut first = match members.next() {
        Some(Ok(first)) if first.path_bytes() == MANIFEST.as_bytes() => first,
        _ => return Err(foreign(&format!("it does not begin with {MANIFEST}"))),
    };
    let mut json = Vec::new();
    first.by_ref().take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut json)?;
    if json.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(ArchiveError::TooMuch(format!("a {MANIFEST} of more than {MANIFEST_BYTES_MAX} bytes")));
    }
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|e| ArchiveError::Damaged(format!("{MANIFEST} cannot be read: {e}")))?;
    manifest.check()?;
    for file in &manifest.files {
        let hurt = |why: &str| ArchiveError::Damaged(format!("{}: {why}", file.name));
        let mut member = members.next().ok_or_else(|| hurt("it is missing"))?.map_err(|e| hurt(&e.to_string()))?;
        let is_it = member.path_bytes() == file.name.as_bytes()
            && member.header().entry_type() == tar::EntryType::Regular
            && member.size() == file.bytes;
        if !is_it {
            return Err(hurt("another member stands in its place"));
        }
        let mut content = Hashed::new(&mut member);
        place(file, &mut content)?;
        if content.hasher.finalize() != file.blake3.0 {
            return Err(hurt("its content is not what was saved"));
        }
    }
    match members.next() {
        None => Ok(manifest),
        Some(_) => Err(ArchiveError::Damaged("more in it than its manifest says".into())),
    }
}

/// A small archive, for tests and fuzz targets.
pub fn example() -> Vec<u8> {
    let files = [("keys/node", &b"secret"[..]), ("settings.json", &b"{}"[..])];
    let lines = files.iter().map(|(name, content)| line((*name).into(), *content).expect("memory does not fail"));
    let manifest = Manifest::new(1, lines.collect()).expect("plain names");
    let mut archive = Vec::new();
    let content = |file: &FileLine| Ok(files.iter().find(|(name, _)| *name == file.name).map_or(&b""[..], |f| f.1));
    write(&manifest, &mut archive, content).expect("memory does not fail");
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let mut seen = Vec::new();
        read(bytes, bytes.len() as u64, |file, content| {
            let mut kept = Vec::new();
            content.read_to_end(&mut kept)?;
            seen.push((file.name.clone(), kept));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn what_was_written_is_read_and_no_flipped_bit_or_cut_is() {
        let whole = example();
        let seen = look(&whole).unwrap();
        assert_eq!(seen, [("keys/node".into(), b"secret".to_vec()), ("settings.json".into(), b"{}".to_vec())]);
        let mut named = 0;
        for place in 0..whole.len() {
            let mut hurt = whole.clone();
            hurt[place] ^= 1 << (place % 8);
            let error = look(&hurt).expect_err(&format!("byte {place}"));
            named += u32::from(error.to_string().contains("keys/node") || error.to_string().contains("settings.json"));
        }
        assert!(named > 0, "no damage was traced to its file");
        (0..whole.len()).for_each(|end| assert!(look(&whole[..end]).is_err(), "cut at {end}"));
    }

    /// An archive with a right seal, as a villain would make it.
    fn villains(name: &str, kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
        let line = FileLine { bytes: content.len() as u64, ..line(name.into(), content).unwrap() };
        let manifest = Manifest { format: FORMAT, made_ms: 1, version: "x".into(), files: vec![line] };
        let json = serde_json::to_vec(&manifest).unwrap();
        let mut tar = tar::Builder::new(Hashed::new(Vec::new()));
        tar.append(&header(MANIFEST, json.len() as u64).unwrap(), json.as_slice()).unwrap();
        let mut member = header("x", content.len() as u64).unwrap();
        // What the library would not write.
        let slot = &mut member.as_old_mut().name;
        slot.fill(0);
        slot[..name.len()].copy_from_slice(name.as_bytes());
        member.set_entry_type(kind);
        member.set_cksum();
        tar.append(&member, content).unwrap();
        let Hashed { mut inner, hasher } = tar.into_inner().unwrap();
        inner.extend(hasher.finalize().as_bytes());
        inner
    }

    #[test]
    fn nothing_leads_out_of_the_folder_and_only_files_are_taken() {
        use tar::EntryType as Kind;
        assert!(look(&villains("keys/node", Kind::Regular, b"x")).is_ok(), "the same with a good name is read");
        for name in ["../x", "/x", "a/../x", "a//x", "a/./x", "c:x", "a\\x", "", "a\nb"] {
            assert!(look(&villains(name, Kind::Regular, b"x")).is_err(), "{name:?}");
        }
        for kind in [Kind::Symlink, Kind::Link, Kind::Directory, Kind::Fifo, Kind::GNUSparse, Kind::GNULongName] {
            assert!(look(&villains("x", kind, b"")).is_err(), "{kind:?}");
        }
    }
}
