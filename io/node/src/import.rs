//! From a person's request to a signed job: read, check, hash, store.
//!
//! Nothing leaves the machine before all of it was read and checked here. Folders are walked in sorted
//! order and links are refused, so the same folder gives the same manifest on every machine and a link can
//! never smuggle in a file that was not named.

use std::path::{Path, PathBuf};

use glean_net::Blobs;
use glean_protocol::Submission;
use glean_types::{
    AccountKey, Amount, Class, Domain, FileRef, Hash, Job, Manifest, NodeId, Paper, TaskSpec, encode, params,
};

use crate::api::types::{JobRequest, TaskList};

/// Most files of one job.
const FILES_MAX: usize = 50_000;
/// One input file, and all of a job together: what a worker takes in.
const FILE_BYTES_MAX: u64 = 1_000_000_000;
const FILES_BYTES_MAX: u64 = 4 << 30;
/// Arguments and standard input of all tasks together: they are one record of the journal.
const SPECS_BYTES_MAX: u64 = 32 << 20;
/// Longest line of an each-line file, and longest argument.
const ARG_BYTES_MAX: usize = 64 * 1024;

/// Why a request is not a job.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file of the request could not be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program is not one we can run.
    #[error("{path} cannot run on this network: {reject}")]
    Program {
        /// The file.
        path: PathBuf,
        /// Why.
        reject: glean_vm::Reject,
    },
    /// The guest path of an input is not usable.
    #[error(
        "`{0}` is not a path inside the guest: it must be absolute, without `.`, `..` or empty parts, and outside /out and /tmp"
    )]
    GuestPath(String),
    /// An input is a link, socket or device.
    #[error("{0} is not a plain file or folder")]
    NotPlain(PathBuf),
    /// Two inputs have the same guest path.
    #[error("two inputs are both named {0} inside the guest, or one would lie inside the other")]
    Twice(String),
    /// Too much of something.
    #[error("{what}: {got} is over the limit of {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        got: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// Nothing to do.
    #[error("the job has no tasks: the list of lines or numbers is empty")]
    NoTasks,
    /// The store failed.
    #[error("could not store {what}: {why}")]
    Store {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
}

impl ImportError {
    /// Stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            ImportError::Read { .. } => "unreadable_file",
            ImportError::Program { .. } => "bad_program",
            ImportError::GuestPath(_) | ImportError::NotPlain(_) | ImportError::Twice(_) => "bad_input",
            ImportError::TooMuch { .. } => "too_large",
            ImportError::NoTasks => "no_tasks",
            ImportError::Store { .. } => "store_failed",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ImportError::Read { .. } => "check the path and its permissions",
            ImportError::Program { .. } => {
                "programs are WASI preview 1 modules: rustc --target wasm32-wasip1, or zig cc -target wasm32-wasi"
            }
            ImportError::GuestPath(_) => "write --input HOST:GUEST with a guest path like /data/a.csv",
            ImportError::NotPlain(_) => "links are refused so that nothing is sent that was not named: copy the file",
            ImportError::Twice(_) => "give each input its own guest path",
            ImportError::TooMuch { .. } => "split the job into smaller ones",
            ImportError::NoTasks => "check the file given to --each-line, or the numbers given to --array",
            ImportError::Store { .. } => "check free disk space",
        }
    }
}

/// A prepared program: what the network knows it by, and its bytes.
pub fn read_program(path: &Path) -> Result<glean_vm::Program, ImportError> {
    let size = std::fs::metadata(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?.len();
    check("program size in bytes", size, params::PROGRAM_BYTES_MAX as u64)?;
    let wasm = std::fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    glean_vm::prepare(&wasm, &glean_vm::ModuleLimits::default())
        .map_err(|reject| ImportError::Program { path: path.to_owned(), reject })
}

/// Who signs, and with which numbers.
pub struct Signer<'a> {
    /// The account that pays.
    pub key: &'a AccountKey,
    /// The node that asks.
    pub node: NodeId,
    /// The network.
    pub domain: Domain,
    /// Hard cap.
    pub budget: Amount,
    /// Now.
    pub now_ms: u64,
}

/// Fuel that a fast core uses in a millisecond: the default fuel limit is this times the timeout.
const FUEL_PER_MS: u64 = 10_000_000;

/// Reads, checks, stores and signs a request.
pub async fn import(request: &JobRequest, signer: &Signer<'_>, blobs: &Blobs) -> Result<Submission, ImportError> {
    let path = request.program.clone();
    let program =
        tokio::task::spawn_blocking(move || read_program(&path)).await.map_err(|e| store("the program", e))??;
    let id = program.id;
    let stored = blobs.put(program.bytes).await.map_err(|e| store("the program", e))?;
    debug_assert_eq!(stored, id, "a program's id is the hash of its bytes");
    let files = import_files(&request.inputs, blobs).await?;
    let specs = specs(request)?;
    let name = request.program.file_name().map_or_else(|| "program".into(), |n| n.to_string_lossy().into_owned());
    let manifest = Manifest { name, args: Vec::new(), env: request.env.clone(), files, tasks_root: tasks_root(&specs) };
    let manifest_hash = blobs.put(encode(&manifest)).await.map_err(|e| store("the manifest", e))?;
    let job = Job {
        requester: signer.key.address(),
        node: signer.node,
        program: id,
        manifest: manifest_hash,
        tasks: u32::try_from(specs.len()).expect("bounded by JOB_TASKS_MAX"),
        budget: signer.budget,
        fuel_max: request.fuel_max.unwrap_or(u64::from(request.timeout_ms) * FUEL_PER_MS),
        mem_max: request.mem_max,
        output_max: request.output_max,
        timeout_ms: request.timeout_ms,
        class: Class::Exact,
        seed: Hash::of(request.request_id.as_bytes()),
        created_ms: signer.now_ms,
    };
    Ok(Submission { job: job.sign(signer.key, &signer.domain), manifest, specs, max_fails: request.max_fails })
}

/// The hash over all task specs in order.
pub fn tasks_root(specs: &[TaskSpec]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    specs.iter().for_each(|spec| {
        hasher.update(&encode(spec));
    });
    Hash(*hasher.finalize().as_bytes())
}

fn specs(request: &JobRequest) -> Result<Vec<TaskSpec>, ImportError> {
    let items: Vec<String> = match &request.tasks {
        TaskList::One { stdin } => {
            check("standard input in bytes", stdin.len() as u64, params::INLINE_INPUT_MAX as u64)?;
            return Ok(vec![TaskSpec { index: 0, args: request.args.clone(), stdin: stdin.clone() }]);
        }
        TaskList::Lines { lines } => lines.clone(),
        TaskList::Range { from, to } => {
            check("number of tasks", to.saturating_sub(*from), u64::from(params::JOB_TASKS_MAX) - 1)?;
            (*from..=*to).map(|n| n.to_string()).collect()
        }
    };
    if items.is_empty() {
        return Err(ImportError::NoTasks);
    }
    check("number of tasks", items.len() as u64, u64::from(params::JOB_TASKS_MAX))?;
    let specs =
        (0..).zip(&items).map(|(index, item)| TaskSpec { index, args: fill(&request.args, item), stdin: Vec::new() });
    let specs: Vec<TaskSpec> = specs.collect();
    check("size of all arguments in bytes", encode(&specs).len() as u64, SPECS_BYTES_MAX)?;
    let longest = specs.iter().flat_map(|s| &s.args).map(String::len).max().unwrap_or(0);
    check("length of an argument in bytes", longest as u64, ARG_BYTES_MAX as u64)?;
    Ok(specs)
}

/// `{}` in the arguments stands for the item; without any, the item's words follow the arguments.
fn fill(args: &[String], item: &str) -> Vec<String> {
    if args.iter().any(|arg| arg.contains("{}")) {
        args.iter().map(|arg| arg.replace("{}", item)).collect()
    } else {
        args.iter().cloned().chain(item.split_whitespace().map(str::to_owned)).collect()
    }
}

async fn import_files(inputs: &[(PathBuf, String)], blobs: &Blobs) -> Result<Vec<FileRef>, ImportError> {
    let mut found = Vec::new();
    for (host, guest) in inputs {
        check_guest(guest)?;
        walk(host, guest.trim_end_matches('/'), &mut found)?;
    }
    check("number of input files", found.len() as u64, FILES_MAX as u64)?;
    // Sorted by the parts of their paths, a file stands right before what would lie inside it.
    found.sort_by(|a, b| a.1.split('/').cmp(b.1.split('/')));
    let is_inside =
        |file: &str, other: &str| other == file || other.strip_prefix(file).is_some_and(|r| r.starts_with('/'));
    if let Some(pair) = found.windows(2).find(|pair| is_inside(&pair[0].1, &pair[1].1)) {
        return Err(ImportError::Twice(pair[0].1.clone()));
    }
    let longest = found.iter().map(|(_, _, len)| *len).max().unwrap_or(0);
    check("size of an input file in bytes", longest, FILE_BYTES_MAX)?;
    let total = found.iter().fold(0u64, |sum, (_, _, len)| sum.saturating_add(*len));
    check("size of all input files in bytes", total, FILES_BYTES_MAX)?;
    let mut files = Vec::with_capacity(found.len());
    for (host, guest, len) in found {
        let hash = blobs.put_file(&host).await.map_err(|e| store(&host.display().to_string(), e))?;
        files.push(FileRef { guest, hash, len });
    }
    Ok(files)
}

fn check_guest(guest: &str) -> Result<(), ImportError> {
    let Some(inside) = guest.strip_prefix('/') else { return Err(ImportError::GuestPath(guest.to_owned())) };
    let parts: Vec<&str> = inside.trim_end_matches('/').split('/').collect();
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(['\0', '\n', '\r']);
    if parts.iter().any(|part| bad(part)) || ["out", "tmp"].contains(&parts[0]) || guest.len() > 1024 {
        return Err(ImportError::GuestPath(guest.to_owned()));
    }
    Ok(())
}

fn walk(host: &Path, guest: &str, found: &mut Vec<(PathBuf, String, u64)>) -> Result<(), ImportError> {
    let read = |source| ImportError::Read { path: host.to_owned(), source };
    let kind = std::fs::symlink_metadata(host).map_err(read)?;
    if kind.is_file() {
        found.push((host.to_owned(), guest.to_owned(), kind.len()));
        return Ok(());
    }
    if !kind.is_dir() {
        return Err(ImportError::NotPlain(host.to_owned()));
    }
    if found.len() > FILES_MAX {
        return check("number of input files", found.len() as u64, FILES_MAX as u64);
    }
    for entry in std::fs::read_dir(host).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name().into_string().map_err(|_| ImportError::NotPlain(entry.path()))?;
        walk(&entry.path(), &format!("{guest}/{name}"), found)?;
    }
    Ok(())
}

fn check(what: &'static str, got: u64, limit: u64) -> Result<(), ImportError> {
    if got > limit { Err(ImportError::TooMuch { what, got, limit }) } else { Ok(()) }
}

fn store(what: &str, why: impl std::fmt::Display) -> ImportError {
    ImportError::Store { what: what.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_goes_where_the_braces_are_or_after_the_arguments() {
        let args = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(fill(&args(&["--x", "{}", "a={}"]), "3 4"), args(&["--x", "3 4", "a=3 4"]));
        assert_eq!(fill(&args(&["--x"]), "3  4"), args(&["--x", "3", "4"]));
    }

    #[test]
    fn guest_paths_stay_inside() {
        for good in ["/data", "/data/", "/a/b.csv"] {
            assert!(check_guest(good).is_ok(), "{good}");
        }
        for bad in ["data", "/", "", "/../etc", "/a/../b", "/a//b", "/a/./b", "/out", "/out/x", "/tmp/x", "/a\nb"] {
            assert!(check_guest(bad).is_err(), "{bad}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_refused_and_folders_are_sorted_later() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/b"), b"bb").unwrap();
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        let mut found = Vec::new();
        walk(dir.path(), "/in", &mut found).unwrap();
        let mut names: Vec<_> = found.iter().map(|f| (f.1.as_str(), f.2)).collect();
        names.sort();
        assert_eq!(names, [("/in/a", 1), ("/in/sub/b", 2)]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(matches!(walk(dir.path(), "/in", &mut Vec::new()), Err(ImportError::NotPlain(_))));
    }
}
