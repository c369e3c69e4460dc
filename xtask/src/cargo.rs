//! Cargo, as this program calls it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Cargo in the repository. Not as a child of the cargo that runs us: build scripts that see its package's name in the
/// environment would begin anew, and half of the crates with them.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    let of_ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| of_ours(name)) {
        command.env_remove(name);
    }
    command.args(args).current_dir(root());
    command
}

/// Runs cargo; what it printed.
pub fn cargo(args: &[&str]) -> Result<String> {
    let output = command(args).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "cargo {args:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
