//! `--out DIR`: one file per task, and `manifest.json` with every file's hash.
//!
//! ```text
//! DIR/0007.out        standard output of task 7 (from 0)
//!     0007.err        standard error, when it is not empty
//!     0007/a/b.txt    what the guest wrote as /out/a/b.txt
//!     manifest.json   for each task: how it ended, who ran it, and name, length and BLAKE3 hash of each file
//! ```
//!
//! Names inside a guest are a stranger's: they are made harmless first and can never leave DIR.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use glean_node::api::types::TaskLine;
use glean_types::{Hash, JobId, NodeId};
use serde::{Deserialize, Serialize};

/// Longest part of a file name, bytes: what every common file system takes, with room for a suffix.
const NAME_BYTES_MAX: usize = 200;

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLine {
    /// Its name below the folder.
    pub file: String,
    /// Its length.
    pub len: u64,
    /// Its BLAKE3 hash.
    pub blake3: Hash,
}

/// One task of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestTask {
    /// Its place.
    pub index: u32,
    /// How it ended, in words.
    pub outcome: Option<String>,
    /// What a shell would show.
    pub exit_code: Option<i32>,
    /// Fuel used.
    pub fuel: u64,
    /// Who ran it.
    pub provider: Option<NodeId>,
    /// Its files.
    pub files: Vec<FileLine>,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutManifest {
    /// The job.
    pub job: JobId,
    /// Its tasks.
    pub tasks: Vec<ManifestTask>,
}

/// A folder that a job's outputs are written into.
#[derive(Debug)]
pub struct OutDir {
    root: PathBuf,
    digits: usize,
}

impl OutDir {
    /// Makes the folder, before any money is spent.
    pub fn create(root: &Path) -> Result<OutDir> {
        fs::create_dir_all(root).with_context(|| format!("could not make the folder {}", root.display()))?;
        Ok(OutDir { root: root.to_owned(), digits: 4 })
    }

    /// Pads numbers so that names sort like tasks.
    pub fn for_tasks(mut self, tasks: u32) -> OutDir {
        self.digits = tasks.saturating_sub(1).to_string().len().max(4);
        self
    }

    /// Where standard output of a task goes.
    pub fn stdout(&self, index: u32) -> PathBuf {
        format!("{}.out", self.number(index)).into()
    }

    /// Where standard error of a task goes.
    pub fn stderr(&self, index: u32) -> PathBuf {
        format!("{}.err", self.number(index)).into()
    }

    /// Where files of a task go: one name for each guest path, none twice, none outside.
    pub fn files(&self, index: u32, guest: &[String]) -> Vec<PathBuf> {
        let folder = PathBuf::from(self.number(index));
        let mut taken = BTreeSet::new();
        guest.iter().map(|path| folder.join(unique(&harmless(path), &mut taken))).collect()
    }

    /// Writes one file below the folder.
    pub fn write(&self, name: &Path, bytes: &[u8]) -> Result<FileLine> {
        let path = self.root.join(name);
        let tried = || format!("could not write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(tried)?;
        }
        fs::write(&path, bytes).with_context(tried)?;
        let file = name.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        Ok(FileLine { file, len: bytes.len() as u64, blake3: Hash::of(bytes) })
    }

    /// Writes `manifest.json`.
    pub fn finish(&self, manifest: &OutManifest) -> Result<()> {
        self.write(Path::new("manifest.json"), &serde_json::to_vec_pretty(manifest)?).map(|_| ())
    }

    fn number(&self, index: u32) -> String {
        format!("{index:0width$}", width = self.digits)
    }
}

impl ManifestTask {
    /// A task's line with the files written for it.
    pub fn new(line: &TaskLine, files: Vec<FileLine>) -> ManifestTask {
        ManifestTask {
            index: line.index,
            outcome: line.outcome.clone(),
            exit_code: line.exit_code,
            fuel: line.fuel,
            provider: line.provider,
            files,
        }
    }
}

/// A guest path as a harmless relative one: no root, no `..`, no separators or control characters in a part.
fn harmless(guest: &str) -> String {
    let below = guest.trim_start_matches('/').strip_prefix("out/").unwrap_or(guest);
    let parts: Vec<String> = below.split('/').filter(|part| !part.is_empty()).map(harmless_part).collect();
    if parts.is_empty() { "_".into() } else { parts.join("/") }
}

fn harmless_part(part: &str) -> String {
    if part == "." || part == ".." {
        return "_".into();
    }
    let keep = |c: char| if c.is_alphanumeric() || "._-+ ".contains(c) { c } else { '_' };
    let mut name: String = part.chars().map(keep).collect();
    let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or(0));
    // Windows drops dots and blanks at the end, which would make two names one.
    match name.trim_end_matches(['.', ' ']) {
        "" => "_".into(),
        trimmed => trimmed.to_owned(),
    }
}

/// The name, or the name with the first free suffix. Compared without case, as some file systems do.
fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let candidates = std::iter::once(name.to_owned()).chain((2..).map(|n: u32| format!("{name}~{n}")));
    let mut free = candidates.skip_while(|candidate| !taken.insert(candidate.to_lowercase()));
    free.next().expect("there are more suffixes than files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_guest_name_leaves_the_folder() {
        let nasty =
            ["/out/../../etc/passwd", "../x", "/", "", "..", "/out/", "C:\\x", "a\0b", "/out/a/../../b", "\u{1b}[2J"];
        for name in nasty {
            let safe = harmless(name);
            let path = Path::new(&safe);
            let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            assert!(plain && !safe.contains(['\\', ':', '\0', '\u{1b}']), "{name:?} -> {safe:?}");
        }
        assert_eq!(harmless("/out/a/b.txt"), "a/b.txt");
        assert_eq!(harmless("/out/结果.csv"), "结果.csv");
        assert!(harmless(&"字".repeat(500)).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn two_guest_files_never_become_one() {
        let dir = OutDir { root: "x".into(), digits: 4 };
        let files = dir.files(7, &["/out/a?".into(), "/out/a*".into(), "/out/A_".into()]);
        let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["0007/a_", "0007/a_~2", "0007/A_~3"]);
    }

    #[test]
    fn writes_files_and_says_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let dir = OutDir::create(&folder.path().join("a/b")).unwrap().for_tasks(20_000);
        let line = dir.write(&dir.stdout(7), b"42\n").unwrap();
        assert_eq!((line.file.as_str(), line.len, line.blake3), ("00007.out", 3, Hash::of(b"42\n")));
        assert_eq!(fs::read(folder.path().join("a/b/00007.out")).unwrap(), b"42\n");
    }
}
