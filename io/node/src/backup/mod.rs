//! A home in one file, and back: `glean backup` and `glean restore`.
//!
//! What an old copy can do, and what is done about it:
//!
//! 1. *A requester's journal from the past* knows smaller totals than its providers hold, channels that were used since, jobs
//!    that went on. If it were simply gone on with, vouchers would be signed that pay nothing: answers for nothing, providers
//!    that wait for their money for ever, jobs that spend their cap twice. So a restored home carries a mark, and its first
//!    start closes that past before anything is signed (`past.rs`).
//! 2. *A provider's* knows older vouchers. Requesters send their last one again when they meet it; what was cashed the ledger
//!    knows, and it is not taken for payment a second time. Lost are vouchers of requesters that never come again: what was
//!    not cashed since, which is what losing the disk had cost anyway.
//! 3. *A ledger node's* goes back to its block, and with it every balance. With one validator its copy is the network's truth:
//!    what was acknowledged since is gone, and if the former node still runs somewhere, both sign. Nothing here can mend that;
//!    `restore` says to which block it goes back. (When there are many validators, a restored one must not bring its key.)
//! 4. *Whoever has the file* has the account: keys and password lie in it in clear. It is made 0600 and that is said.
//! 5. *A running node* changes its files while they are read: only a stopped one is copied, and its lock is held meanwhile.
//!
//! Everything is in it but what is made anew at each start (`run/`, `log/`, `cache/`) and `keys/checks`: secrets drawn from it
//! must not be drawn twice. A backup is read back and opened before it is called one.

pub(crate) mod archive;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use glean_chain::Still;
use glean_protocol::{Identity, Node};
use glean_types::{Address, Amount, NodeId};
use serde::Serialize;

use crate::clock::now_ms;
use crate::home::{Home, HomeError, sync_dir};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::network::Network;
use crate::past;
use crate::run::{self, SetupError};
use archive::{ArchiveError, FileLine, Manifest};

/// Made anew at each start. (The port is kept: a join line stays good.)
const NOT_KEPT: [&str; 6] = ["run", "log", "cache", "ledger/LOCK", "keys/checks", past::MARK];
const KEPT_ANYWAY: &str = "run/port.json";
/// Without these a start would make new ones, and the account would be another.
const NEEDED: [&str; 4] = ["network.json", "keys/node", "keys/account.json", "keys/password"];
/// Room for reading and writing.
const BUFFER_BYTES: usize = 1 << 18;

/// Why a backup is not made, read or restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The node of this home runs.
    #[error("{0}")]
    Running(String),
    /// No node was ever here.
    #[error("{0}")]
    NoNode(String),
    /// There is such a file already.
    #[error("{0}")]
    Exists(String),
    /// Something is in that home already.
    #[error("{0}")]
    NotEmpty(String),
    /// It is not a backup, or one of another build.
    #[error("{0}")]
    Foreign(String),
    /// Something in it is not what was saved.
    #[error("{0}")]
    Damaged(String),
    /// It is whole, and no node could start from it.
    #[error("{0}")]
    Unusable(String),
    /// The disk.
    #[error("{0}")]
    Disk(String),
}

impl BackupError {
    /// Names its sentences in the message files.
    pub fn code(&self) -> &'static str {
        match self {
            BackupError::Running(_) => "node_running",
            BackupError::NoNode(_) => "no_network",
            BackupError::Exists(_) => "file_exists",
            BackupError::NotEmpty(_) => "home_not_empty",
            BackupError::Foreign(_) => "not_a_backup",
            BackupError::Damaged(_) => "backup_damaged",
            BackupError::Unusable(_) => "backup_unusable",
            BackupError::Disk(_) => "backup_disk",
        }
    }
}

/// What is in a backup. `--json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupInfo {
    /// Unix milliseconds.
    pub made_ms: u64,
    /// The build that made it.
    pub version: String,
    /// Files,
    pub files: u64,
    /// and what they hold.
    pub bytes: u64,
    /// Of which network.
    pub network: String,
    /// Whose keys.
    pub account: Address,
    /// The machine.
    pub node: NodeId,
    /// Groups of records in the journal,
    pub journal_frames: u64,
    /// jobs in it,
    pub jobs: u64,
    /// of them not over.
    pub jobs_open: u64,
    /// What was left of our deposits, as far as the journal knew.
    pub in_channels: Amount,
    /// What we held in vouchers and had perhaps not cashed.
    pub held: Amount,
    /// On a ledger node.
    pub ledger: Option<LedgerInfo>,
}

/// The ledger in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerInfo {
    /// Its last block.
    pub height: u64,
    /// The account's gUSD after that.
    pub balance: Amount,
}

/// Writes the home of a stopped node into a new file that only its owner can read, and reads it back.
pub fn take(home: &Path, file: &Path) -> Result<BackupInfo, BackupError> {
    if !home.join("network.json").exists() {
        return Err(BackupError::NoNode(home.display().to_string()));
    }
    let home = Home::open(home).map_err(home_error)?;
    let _lock = home.lock().map_err(home_error)?;
    let mut lines = Vec::new();
    gather(home.root(), "", &mut lines)?;
    lines.sort_by(|a: &FileLine, b| a.name.cmp(&b.name));
    let manifest = Manifest::new(now_ms(), lines).map_err(|e| archive_error(file, e))?;
    let target = create(file)?;
    let written = write(&manifest, home.root(), target, file).and_then(|()| check(file));
    if written.is_err() {
        // Half a backup is worse than none; if it cannot be removed either, its missing seal says what it is.
        let _ = fs::remove_file(file);
    }
    written
}

fn write(manifest: &Manifest, home: &Path, target: File, file: &Path) -> Result<(), BackupError> {
    let opened = |line: &FileLine| File::open(home.join(&line.name));
    let buffered = BufWriter::with_capacity(BUFFER_BYTES, &target);
    archive::write(manifest, buffered, opened).map_err(|e| archive_error(file, e))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    target.sync_all().and_then(|()| sync_dir(folder)).map_err(|e| disk(file, &e))
}

/// The files below a folder of the home, hashed.
fn gather(root: &Path, below: &str, lines: &mut Vec<FileLine>) -> Result<(), BackupError> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).map_err(|e| disk(&folder, &e))? {
        let entry = entry.map_err(|e| disk(&folder, &e))?;
        let path = entry.path();
        let odd = |why: &str| BackupError::Unusable(format!("{}: {why}", path.display()));
        let name = entry.file_name().into_string().map_err(|_| odd("its name is not text"))?;
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(|e| disk(&path, &e))?;
        if kind.is_dir() {
            gather(root, &name, lines)?;
        } else if is_kept(&name) && !kind.is_file() {
            return Err(odd("not a plain file"));
        } else if is_kept(&name) {
            let content = File::open(&path).map(|file| BufReader::with_capacity(BUFFER_BYTES, file));
            lines.push(content.and_then(|content| archive::line(name, content)).map_err(|e| disk(&path, &e))?);
        }
    }
    Ok(())
}

fn is_kept(name: &str) -> bool {
    let is_in = |place: &&str| name.strip_prefix(*place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    name == KEPT_ANYWAY || !NOT_KEPT.iter().any(is_in)
}

/// Reads a backup to its end, compares every hash, and opens a copy of it as a start would. Changes nothing.
pub fn check(file: &Path) -> Result<BackupInfo, BackupError> {
    let scratch = tempfile::Builder::new().prefix("glean-check-").tempdir();
    let scratch = scratch.map_err(|e| disk(&std::env::temp_dir(), &e))?;
    let manifest = unpack(file, scratch.path())?;
    open(&manifest, scratch.path())
}

/// Puts a backup into an empty or new folder: whole, or not at all. The first start closes its past (`past.rs`).
pub fn restore(file: &Path, home: &Path) -> Result<BackupInfo, BackupError> {
    let home = std::path::absolute(home).map_err(|e| disk(home, &e))?;
    let is_there = match fs::read_dir(&home).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(BackupError::NotEmpty(home.display().to_string())),
        Ok(false) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(disk(&home, &e)),
    };
    let parent = home.parent().unwrap_or(Path::new("/"));
    let scratch =
        fs::create_dir_all(parent).and_then(|()| tempfile::Builder::new().prefix(".restoring-").tempdir_in(parent));
    let scratch = scratch.map_err(|e| disk(parent, &e))?;
    let manifest = unpack(file, scratch.path())?;
    let info = open(&manifest, scratch.path())?;
    let copy = Home::open(scratch.path()).map_err(home_error)?;
    copy.write_json(past::MARK, &serde_json::json!({ "made_ms": info.made_ms, "restored_ms": now_ms() }))
        .map_err(home_error)?;
    if is_there {
        fs::remove_dir(&home).map_err(|e| disk(&home, &e))?;
    }
    fs::rename(scratch.path(), &home).and_then(|()| sync_dir(parent)).map_err(|e| disk(&home, &e))?;
    // It is somewhere else now: nothing is left to be cleared away.
    let _ = scratch.keep();
    Ok(info)
}

/// Lays an archive's files out in a folder, each on the disk when this returns.
fn unpack(file: &Path, folder: &Path) -> Result<Manifest, BackupError> {
    let source = File::open(file).map_err(|e| disk(file, &e))?;
    let length = source.metadata().map_err(|e| disk(file, &e))?.len();
    let mut folders = BTreeSet::from([folder.to_owned()]);
    let source = BufReader::with_capacity(BUFFER_BYTES, source);
    let placed = archive::read(source, length, |line, content| {
        let path = folder.join(&line.name);
        if let Some(parent) = path.parent().filter(|parent| folders.insert((*parent).to_owned())) {
            fs::create_dir_all(parent)?;
        }
        place(&path, content)
    });
    let manifest = placed.map_err(|e| archive_error(file, e))?;
    folders.iter().try_for_each(|folder| sync_dir(folder)).map_err(|e| disk(folder, &e))?;
    Ok(manifest)
}

fn place(path: &Path, content: &mut dyn Read) -> io::Result<()> {
    let mut file = private_new(path)?;
    io::copy(content, &mut file)?;
    file.sync_all()
}

fn private_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create(file: &Path) -> Result<File, BackupError> {
    private_new(file).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.display().to_string()),
        _ => disk(file, &e),
    })
}

/// Opens the copy as a start would: keys, settings, journal, brain, and on a ledger node every page and balance.
fn open(manifest: &Manifest, folder: &Path) -> Result<BackupInfo, BackupError> {
    if let Some(missing) = NEEDED.iter().find(|name| manifest.files.iter().all(|file| file.name != **name)) {
        return Err(BackupError::Unusable(format!("{missing} is not in it")));
    }
    // What is wrong is told with the names of the copy; people know them by those of the home.
    let of_home = |e: SetupError| BackupError::Unusable(e.to_string().replace(&format!("{}/", folder.display()), ""));
    start(manifest, folder).map_err(of_home)
}

fn start(manifest: &Manifest, folder: &Path) -> Result<BackupInfo, SetupError> {
    let home = Home::open(folder)?;
    let network: Network =
        home.read_json("network.json")?.ok_or_else(|| SetupError::NoNetwork(home.root().to_owned()))?;
    let _: Option<crate::settings::Settings> = home.read_json("settings.json")?;
    let key = run::account(&home)?;
    let id = glean_net::node_id(&*run::node_secret(&home)?);
    let (journal, records) = Journal::open(&home.path("journal.log"))?;
    let identity =
        Identity { node: id, key: key.clone(), domain: network.domain, class: glean_vm::CLASS, secret: [0; 32] };
    let node = Node::restore(identity, glean_protocol::Settings::default(), records);
    let (jobs, channels) = (node.jobs(), node.channels());
    let ours = channels.iter().filter(|channel| channel.ours && !channel.closing);
    Ok(BackupInfo {
        made_ms: manifest.made_ms,
        version: manifest.version.clone(),
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
        account: key.address(),
        node: id,
        journal_frames: journal.reader().frames() as u64,
        jobs: jobs.len() as u64,
        jobs_open: jobs.iter().filter(|job| !job.ended).count() as u64,
        in_channels: ours.map(|channel| channel.deposit.saturating_sub(channel.promised)).sum(),
        held: channels.iter().filter(|channel| !channel.ours).map(|channel| channel.promised).sum(),
        ledger: open_ledger(&home, &network, &key, id)?,
        network: network.name,
    })
}

fn open_ledger(
    home: &Home,
    network: &Network,
    key: &glean_types::AccountKey,
    id: NodeId,
) -> Result<Option<LedgerInfo>, SetupError> {
    let Some(config) = run::chain_config(home, network)? else { return Ok(None) };
    let runtime = run::runtime(1)?;
    let _inside = runtime.enter();
    let still = Still::open(config)?;
    let height = still.head().number();
    let ledger = Ledger::here(still.rpc(), key.clone(), id, network.clone());
    let balance = runtime.block_on(ledger.balance())?;
    Ok(Some(LedgerInfo { height, balance }))
}

fn home_error(error: HomeError) -> BackupError {
    match error {
        HomeError::Busy(home) => BackupError::Running(home),
        HomeError::Io { path, source, .. } => disk(&path, &source),
        other => BackupError::Unusable(other.to_string()),
    }
}

fn archive_error(file: &Path, error: ArchiveError) -> BackupError {
    let file = file.display();
    match error {
        ArchiveError::Io(e) => BackupError::Disk(format!("{file}: {e}")),
        ArchiveError::Foreign(why) => BackupError::Foreign(format!("{file}: {why}")),
        ArchiveError::Damaged(why) => BackupError::Damaged(format!("{file}: {why}")),
        ArchiveError::TooMuch(why) => BackupError::Unusable(format!("{file}: {why}")),
    }
}

fn disk(path: &Path, error: &io::Error) -> BackupError {
    BackupError::Disk(format!("{}: {error}", PathBuf::from(path).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_makes_anew_is_left_out() {
        for name in ["journal.log", "keys/node", "ledger/ledger.redb", "ledger/validator.key", "run/port.json", "runs"]
        {
            assert!(is_kept(name), "{name}");
        }
        for name in
            ["run/lock", "run/api.json", "log/node.log", "cache/x/y", "keys/checks", "restored.json", "ledger/LOCK"]
        {
            assert!(!is_kept(name), "{name}");
        }
    }
}
