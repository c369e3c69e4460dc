//! Cargo, as this program calls it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The repository. Asked for when run, not when built: a path in the program would differ from place to place (`reproduce`).
pub fn root() -> PathBuf {
    let ours = std::env::var_os("CARGO_MANIFEST_DIR").expect("`cargo xtask` runs this, and cargo sets it");
    Path::new(&ours).join("..")
}

/// Cargo, in the repository. Not as a child of the cargo that runs us: build scripts that see its package's name in the
/// environment would begin anew, and half of the crates with them.
pub fn alone() -> Command {
    let mut command = Command::new("cargo");
    let of_ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| of_ours(name)) {
        command.env_remove(name);
    }
    command.current_dir(root());
    command
}

/// Runs cargo in the repository; what it printed.
pub fn cargo(args: &[&str]) -> Result<String> {
    run(alone().args(args))
}

/// Runs a command to its end; what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
