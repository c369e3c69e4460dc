//! A node's folder: what lies where, and the lock that keeps a second process out.
//!
//! ```text
//! <home>/network.json      which network this is: domain, genesis hash, whom to ask
//!        genesis.json      on the ledger node
//!        settings.json     what the owner lends
//!        keys/             0700: node (transport key), account.json (keystore v3), password (0600)
//!        journal.log       every record; recovery is reading it
//!        blobs/ cache/     content; compiled programs
//!        ledger/           chain state, on the ledger node
//!        run/              lock, api.json
//!        log/node.log
//!        restored.json     until the first start of a home that came back from a backup
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Serialize, de::DeserializeOwned};

/// A look takes microseconds.
const LOCK_PATIENCE: Duration = Duration::from_millis(50);

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another node runs here.
    #[error(
        "another glean node is using {0}\nhint: stop it with `glean --home {0} node --stop`, or choose another folder with --home"
    )]
    Busy(String),
    /// Its journal has a format that is no longer read.
    #[error(
        "{0} was made by an earlier build of glean, whose journal this one does not read\nhint: move that folder away, or choose another with --home"
    )]
    OtherBuild(String),
    /// A file or folder could not be read or written.
    #[error("could not {what} {path}: {source}\nhint: check that the folder exists, is yours and the disk is not full")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of ours does not parse.
    #[error("{path} is damaged: {source}\nhint: restore it from a backup, or move it away to start over")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        source: serde_json::Error,
    },
}

/// Held while a node runs in a home; the operating system lets go of it however the process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// A node's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The folder, made if it is missing (0700: it holds keys).
    pub fn open(root: &Path) -> Result<Home, HomeError> {
        let root = std::path::absolute(root).map_err(|e| io("find", root, e))?;
        let home = Home { root };
        if home.path("journal.redb").exists() {
            return Err(HomeError::OtherBuild(home.root.display().to_string()));
        }
        for dir in [home.root.clone(), home.path("keys"), home.path("run"), home.path("log"), home.path("cache")] {
            private_dir(&dir)?;
        }
        Ok(home)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Something inside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Keeps every other process out until dropped. Waits a moment for one that only looks whether the home is free.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.path("run/lock");
        let file = File::create(&path).map_err(|e| io("create", &path, e))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(HomeLock { _file: file }),
                Err(fs::TryLockError::WouldBlock) if start.elapsed() < LOCK_PATIENCE => std::thread::yield_now(),
                Err(fs::TryLockError::WouldBlock) => return Err(HomeError::Busy(self.root.display().to_string())),
                Err(fs::TryLockError::Error(e)) => return Err(io("lock", &path, e)),
            }
        }
    }

    /// Reads a JSON file of ours; `None` when there is none.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, HomeError> {
        let path = self.path(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io("read", &path, e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| HomeError::Damaged { path, source })
    }

    /// Writes a JSON file of ours so that a crash leaves the old or the new one, never half of either.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), HomeError> {
        let bytes = serde_json::to_vec_pretty(value).expect("our types serialise");
        self.write_private(name, &bytes)
    }

    /// Writes a file that only its owner can read, durably and at once.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.path(name);
        let scratch = path.with_extension("new");
        write_synced(&scratch, bytes).map_err(|e| io("write", &scratch, e))?;
        fs::rename(&scratch, &path).map_err(|e| io("replace", &path, e))?;
        if let Some(parent) = path.parent() {
            sync_dir(parent).map_err(|e| io("sync", parent, e))?;
        }
        Ok(())
    }
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> HomeError {
    HomeError::Io { what, path: path.to_owned(), source }
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
pub(crate) fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_dir(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

fn private_dir(path: &Path) -> Result<(), HomeError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| io("create", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let lock = home.lock().unwrap();
        let error = home.lock().unwrap_err().to_string();
        assert!(error.contains("another glean node") && error.contains("hint:"), "{error}");
        drop(lock);
        home.lock().unwrap();
    }

    #[test]
    fn files_are_private_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        home.write_json("settings.json", &[1, 2]).unwrap();
        assert_eq!(home.read_json::<Vec<u8>>("settings.json").unwrap(), Some(vec![1, 2]));
        assert_eq!(home.read_json::<Vec<u8>>("nothing.json").unwrap(), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(home.path("settings.json")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(home.path("settings.json"), b"[1,").unwrap();
        let error = home.read_json::<Vec<u8>>("settings.json").unwrap_err().to_string();
        assert!(error.contains("settings.json is damaged"), "{error}");
    }
}
