//! Disks that fail on command, one under each home: `disk.c` is built and preloaded into a node's processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::load::Chance;
use super::{Network, files};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// The shim, built once by the C compiler that the build of the program needs anyway.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/disk.c");
        let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let done =
            Command::new(&cc).args(["-O2", "-shared", "-fPIC", "-o"]).args([&built, &source]).arg("-ldl").status();
        assert!(done.is_ok_and(|status| status.success()), "{cc} does not build {}", source.display());
        built
    })
}

/// The folder in which each disk's durable contents are.
fn shadow(network: &Network, node: &str) -> PathBuf {
    network.folder.path().join(format!("{node}.durable"))
}

/// Puts a disk under a home. Its processes must not run yet, or be started again.
pub fn insert(network: &mut Network, node: &'static str) {
    let (home, shadow) = (network.home(node), shadow(network, node));
    for folder in [&home, &shadow] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    set(network, node, "LD_PRELOAD", text(shim()));
    set(network, node, "DISK_HOME", text(&home));
    set(network, node, "DISK_SHADOW", text(&shadow));
}

/// Tells a disk something, for the processes that start from now on.
pub fn set(network: &mut Network, node: &'static str, name: &'static str, value: String) {
    unset(network, node, name);
    network.env.push((node, name, value));
}

/// Takes it back.
pub fn unset(network: &mut Network, node: &str, name: &str) {
    network.env.retain(|(of, known, _)| (*of, *known) != (node, name));
}

/// How much of what was not synced a power cut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    All,
    /// For each file, all of it, nothing, or this sector and not that one, as the chance has it.
    Some,
}

/// Lays a home out as the power cut left it. Says how many files changed.
pub fn cut_power(network: &Network, node: &str, loss: Loss, chance: &mut Chance) -> usize {
    let (home, shadow) = (network.home(node), shadow(network, node));
    let names: BTreeSet<String> = [&home, &shadow].into_iter().flat_map(|folder| files(folder)).collect();
    let mut changed = 0;
    for name in names.iter().filter(|name| !name.ends_with(".part")) {
        let (seen, kept) = (std::fs::read(home.join(name)).ok(), std::fs::read(shadow.join(name)).ok());
        let left = match (loss, chance.below(4)) {
            (Loss::All, _) | (Loss::Some, 0 | 1) => kept.clone(),
            (Loss::Some, 2) => seen.clone(),
            _ => Some(mixed(seen.as_deref().unwrap_or_default(), kept.as_deref().unwrap_or_default(), chance)),
        };
        changed += usize::from(left != seen);
        lay(&home.join(name), left.as_deref(), seen.as_deref());
        // After the cut, what is there is on the disk.
        lay(&shadow.join(name), left.as_deref(), kept.as_deref());
    }
    changed
}

fn lay(path: &Path, wanted: Option<&[u8]>, there: Option<&[u8]>) {
    match wanted {
        Some(bytes) if there != Some(bytes) => {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        None if there.is_some() => std::fs::remove_file(path).unwrap(),
        _ => {}
    }
}

/// Each sector from the one or the other.
fn mixed(seen: &[u8], kept: &[u8], chance: &mut Chance) -> Vec<u8> {
    let length = if chance.below(2) == 0 { seen.len() } else { kept.len() };
    let mut left = vec![0; length];
    for (number, sector) in left.chunks_mut(SECTOR).enumerate() {
        let from = if chance.below(2) == 0 { seen } else { kept };
        let from = from.get(number * SECTOR..).unwrap_or_default();
        let whole = sector.len().min(from.len());
        sector[..whole].copy_from_slice(&from[..whole]);
    }
    left
}
